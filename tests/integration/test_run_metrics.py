"""`aiopoll run --metrics`: which processes serve their loops' numbers, and where."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from .children import LIMIT_S, Child, start_on_free_port

pytestmark = pytest.mark.subprocess

RUN = [sys.executable, "-W", "error", "-m", "aiopoll", "run"]
FETCH = """
import asyncio, os, sys, urllib.request

def fetch(port):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()

def series(port):
    return sorted(line for line in fetch(port).splitlines() if line.startswith("aiopoll_tasks{"))

async def show(port):
    print(*await asyncio.to_thread(series, port), flush=True)
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found: int = listener.getsockname()[1]
    return found


def run(
    program: str, tmp_path: Path, *options: str, **env: str
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "fetch.py").write_text(FETCH, encoding="utf-8")
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    return subprocess.run(
        [*RUN, *options, "program.py"],
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def fetched(port: int) -> str:
    """What is served at the port, once it is."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
                return str(reply.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


SHOW = "from fetch import *\nasyncio.run(show({port}))\n"
ONE = 'aiopoll_tasks{loop="main"} 1.0\n'


def test_each_loop_of_a_program_is_served(port: int, tmp_path: Path) -> None:
    program = f"""from fetch import *
import aiopoll, threading
asyncio.run(show({port}))
aiopoll.run(show({port}))

async def both():
    other = threading.Thread(target=lambda: asyncio.run(show({port})), name="other")
    other.start()
    await asyncio.to_thread(other.join)

asyncio.run(both())
raise SystemExit(3)
"""
    done = run(program, tmp_path, "--metrics", str(port))
    two = 'aiopoll_tasks{loop="main"} 1.0 aiopoll_tasks{loop="other"} 1.0\n'
    assert (done.stdout, done.stderr, done.returncode) == (ONE + ONE + two, "", 3)


def test_the_environment_can_give_the_address(port: int, tmp_path: Path) -> None:
    address = f"localhost:{port}"
    done = run(SHOW.format(port=port), tmp_path, AIOPOLL_METRICS_PORT=address)
    assert (done.stdout, done.stderr) == (ONE, "")


def test_ipv6_has_brackets(port: int, tmp_path: Path) -> None:
    done = run(SHOW.format(port=port), tmp_path, "--metrics", f"[::]:{port}")
    if "family not supported" not in done.stderr:  # a machine without IPv6
        assert (done.stdout, done.stderr) == (ONE, "")


def test_without_it_nothing_is_loaded(tmp_path: Path) -> None:
    program = """
import asyncio, sys, threading
asyncio.run(asyncio.sleep(0))
print([name for name in ("prometheus_client", "http.server", "aiopoll.cli.metrics")
       if name in sys.modules], threading.active_count())
"""
    assert run(program, tmp_path, AIOPOLL_METRICS_PORT="").stdout == "[] 1\n"


CHILDREN = {
    "subprocess": """
        import subprocess
        subprocess.run([sys.executable, "child.py"], check=True)
    """,
    "fork": """
        child = os.fork()
        if not child:
            import child
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """,
    "spawn": """
        import child, multiprocessing
        process = multiprocessing.get_context("spawn").Process(target=child.main)
        process.start()
        process.join()
        assert process.exitcode == 0
    """,
}
CHILD = """
from fetch import *

def main():
    loop = asyncio.new_event_loop()  # the line comes as it is made
    loop.run_until_complete(show(sys.argv[1] if "PORT" not in os.environ else os.environ["PORT"]))
    loop.close()

if __name__ != "__mp_main__" and os.environ.get("PARENT") != "spawn":
    main()
"""


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_serves_at_the_next_port(kind: str, port: int, tmp_path: Path) -> None:
    start = re.sub(r"^        ", "", CHILDREN[kind], flags=re.MULTILINE)
    body = start.replace("\n", "\n    ")
    program = f"""import warnings
from fetch import *
if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of a fork beside a thread
    asyncio.run(show({port}))
    {body}
"""
    (tmp_path / "child.py").write_text(CHILD, encoding="utf-8")
    env = {"PORT": str(port + 1), "PARENT": kind}
    done = run(program, tmp_path, "--metrics", str(port), **env)
    assert re.fullmatch(
        rf"aiopoll run: process \d+ serves its metrics at port {port + 1}\n", done.stderr
    ), done.stderr
    assert done.stdout == ONE * 2


def test_a_forked_child_does_not_keep_the_port(port: int, tmp_path: Path) -> None:
    program = """if True:
        import asyncio, os, signal, warnings
        warnings.simplefilter("ignore")
        asyncio.run(asyncio.sleep(0))
        print(os.getpid(), flush=True)
        if os.fork():
            os._exit(0)
        os.closerange(0, 3)
        signal.pause()
    """
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    child = Child([*RUN, "--metrics", str(port), "program.py"], cwd=tmp_path)
    try:
        assert child.process.wait(LIMIT_S) == 0
        os.killpg(child.process.pid, 0)  # the grandchild is there
        socket.create_server(("127.0.0.1", port)).close()  # EADDRINUSE if it has the socket
    finally:
        child.kill()


def test_a_process_without_a_loop_serves_nothing(port: int, tmp_path: Path) -> None:
    """As gunicorn's parent: its first worker has the port."""
    program = f"""import subprocess, sys
import asyncio
subprocess.run([sys.executable, "-c", {SHOW.format(port=port)!r}])
"""
    done = run(program, tmp_path, "--metrics", str(port))
    assert (done.stdout, done.stderr) == (ONE, "")


SERVERS = {
    "uvicorn": ["uvicorn", "asgi_app:app", "--workers", "2", "--port"],
    "gunicorn": ["gunicorn", "asgi_app:app", "-k", "uvicorn_worker.UvicornWorker", "-w", "2", "-b"],
}


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_workers_have_the_ports_in_a_row(server: str, port: int) -> None:
    def command(http: int) -> list[str]:
        at = f"127.0.0.1:{http}" if server == "gunicorn" else str(http)
        return [*RUN[:1], *RUN[3:], "--metrics", str(port), "-m", *SERVERS[server], at]

    child, _ = start_on_free_port(command, "lifespan starts", cwd=Path(__file__).parent)
    try:
        child.wait_for("lifespan starts", count=2)
        lines = 2 if server == "gunicorn" else 1  # its control socket has a loop, too
        said = [child.wait_for("aiopoll run: process", count=n + 1) for n in range(lines)]
        # Those in a row, but for what others have meanwhile.
        further = [int(line.rpartition(" ")[2]) for line in said]
        assert port < min(further)
        served = [fetched(number) for number in [port, *further]]
        assert len([text for text in served if 'aiopoll_tasks{loop="main"}' in text]) == 2
        assert child.finish(signal.SIGTERM) == 0
        child.check_quiet()
    finally:
        child.kill()


@pytest.mark.parametrize("address", ["", "x", "host:", ":80", "1:70000", "9.5"])
def test_what_is_no_address_is_refused(address: str, tmp_path: Path) -> None:
    done = run("print('ran')", tmp_path, f"--metrics={address}")
    if not address:  # none
        assert (done.stdout, done.stderr) == ("ran\n", "")
        return
    line = f"aiopoll run --metrics: {address!r} is not [HOST:]PORT: as 9000, 0.0.0.0:9000 or"
    assert done.stderr == f"{line} [::1]:9000\n"
    assert (done.stdout, done.returncode) == ("", 2)


def test_without_the_library_the_fix_is_named(port: int, tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ModuleNotFoundError('none here')")
    done = run("print('ran')", tmp_path, "--metrics", str(port), PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("aiopoll run --metrics: aiopoll.prometheus needs")
    assert done.stderr.endswith("pip install 'aiopoll[prometheus]'\n")


CANNOT_SERVE: dict[str, tuple[str, Callable[[int], str]]] = {
    "no library in a child": (
        "import sys; sys.modules['prometheus_client'] = None",
        lambda port: r"no metrics of process \d+: aiopoll\.prometheus needs .*",
    ),
    "another machine's address": (
        "import os; os.environ['AIOPOLL_METRICS_PORT'] = '192.0.2.1:9000'",
        lambda port: r"no metrics of process \d+: .*Cannot assign .*: 192\.0\.2\.1 port 9000",
    ),
}


@pytest.mark.parametrize("why", CANNOT_SERVE)
def test_the_program_runs_where_none_can_be_served(why: str, port: int, tmp_path: Path) -> None:
    prepare, expected = CANNOT_SERVE[why]
    child = "import asyncio; [asyncio.run(asyncio.sleep(0, 1)) for _ in range(3)]; print('ran')"
    command = f"[sys.executable, '-c', {prepare + '; ' + child!r}]"
    program = f"import subprocess, sys; subprocess.run({command})"
    done = run(program, tmp_path, "--metrics", str(port))
    assert done.stdout == "ran\n"
    assert re.fullmatch(rf"aiopoll run: {expected(port)}\n", done.stderr), done.stderr


def test_ports_end_at_the_last_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 65535)):
        done = run(SHOW.format(port=1).replace("show", "print"), tmp_path, "--metrics", "65535")
    assert "Address already in use: 127.0.0.1 port 65535\n" in done.stderr
