"""`aiopoll run` behaves as `python` does, on loops of ours."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

PROBE = """
import sys, os
print(__name__, __file__, sys.argv, sys.path[0], sys.modules["__main__"].__dict__ is globals())
"""


def run(
    *command: str, cwd: Path | None = None, aio: bool = True
) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-W", "error", *(["-m", "aiopoll", "run"] if aio else [])]
    return subprocess.run(
        [*launcher, *command], cwd=cwd, timeout=60, capture_output=True, text=True
    )


@pytest.mark.parametrize("relative", [False, True])
def test_argv_name_file_and_path_are_pythons(tmp_path: Path, relative: bool) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "program.py").write_text(PROBE)
    program = "sub/program.py" if relative else str(tmp_path / "sub" / "program.py")
    ours = run(program, "-m", "--flag", "value", cwd=tmp_path)
    assert ours.stdout == run(program, "-m", "--flag", "value", cwd=tmp_path, aio=False).stdout
    assert ours.returncode == 0, ours.stderr


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "raise SystemExit(7)",
        "import sys; sys.exit('bye')",
        "1 / 0",
        "x = (",
        "raise SystemExit",
    ],
)
def test_the_exit_status_is_pythons(tmp_path: Path, ending: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(ending)
    ours, theirs = run(str(program)), run(str(program), aio=False)
    assert ours.returncode == theirs.returncode
    assert ours.stderr.splitlines()[-1:] == theirs.stderr.splitlines()[-1:]


def test_a_program_that_is_not_there_is_named() -> None:
    done = run("no-such-program.py")
    assert done.returncode == 2
    assert "no-such-program.py" in done.stderr


@pytest.mark.slow
def test_modules_directories_and_zips_run_too(tmp_path: Path) -> None:
    source = "import sys\nprint('here', sys.argv[1:])\n"
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(source)
    (tmp_path / "module.py").write_text(source)
    with zipfile.ZipFile(tmp_path / "program.pyz", "w") as archive:
        archive.writestr("__main__.py", source)
    for command in (["-m", "module"], ["-m", "package"], ["package"], ["program.pyz"]):
        done = run(*command, "a", cwd=tmp_path)
        assert done.stdout == "here ['a']\n", done.stderr


def test_every_loop_is_ours(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, unittest, threading\n"
        "from aiopoll import AioSelector, EventLoop\n"
        "def check(loop):\n"
        "    assert isinstance(loop, EventLoop) or isinstance(loop._selector, AioSelector), loop\n"
        "    loop.close()\n"
        "async def main():\n"
        "    assert asyncio.get_running_loop().backend == 'aio'\n"
        "asyncio.run(main())\n"
        "with asyncio.Runner() as runner:\n"
        "    runner.run(main())\n"
        "check(asyncio.new_event_loop())\n"
        "check(asyncio.SelectorEventLoop())\n"
        "class Test(unittest.IsolatedAsyncioTestCase):\n"
        "    async def test(self):\n"
        "        await main()\n"
        "result = unittest.main(exit=False).result\n"
        "thread = threading.Thread(target=lambda: asyncio.run(main()))\n"
        "thread.start(); thread.join()\n"
        "assert result.wasSuccessful() and result.testsRun == 1\n"
        "print('all ours')\n"
    )
    done = run(str(program))
    assert done.stdout == "all ours\n", done.stderr


def test_a_process_that_the_program_starts_has_our_loop(tmp_path: Path) -> None:
    """tests/cli/test_run_children.py has the many ways to start one."""
    program = tmp_path / "program.py"
    child = "import asyncio; print(type(asyncio.new_event_loop()).__module__)"
    program.write_text(
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-W', 'ignore', '-c', {child!r}])"
    )
    done = run(str(program))
    assert (done.stdout, done.stderr) == ("aiopoll.loop.event_loop\n", "")


def test_the_program_outlives_its_last_line(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit, pickle\n"
        "class Thing: pass\n"
        "atexit.register(lambda: print(type(pickle.loads(pickle.dumps(Thing()))).__name__))\n"
    )
    done = run(str(program))
    assert (done.returncode, done.stdout) == (0, "Thing\n"), done.stderr


def test_ctrl_c_ends_it_as_it_ends_python(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "async def main():\n"
        "    print('ready', flush=True)\n"
        "    try:\n"
        "        await asyncio.Event().wait()\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
        "asyncio.run(main())\n"
    )
    statuses = []
    for launcher in (["-m", "aiopoll", "run"], []):
        with subprocess.Popen(
            [sys.executable, *launcher, str(program)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert out == "cleaned up\n"
        assert err.splitlines()[-1] == "KeyboardInterrupt"
        statuses.append(process.returncode)
    assert statuses[0] == statuses[1] == -signal.SIGINT


NO_PAGES = [
    "/docs/none.md",
    "/docs/how-to",
    "/docs/index.md/",
    "/docs/index.md/x",
    "/docs/..%2fREADME.md",
    "/docs/%2e%2e/README.md",
    "/docs//etc/passwd",
    "/docs/%2fetc%2fpasswd",
    "/docs/%00",
    "/docs/index.md%00",
    "/docs/%ff",
    "/docs/%ed%b2%80",
    "/docs/%0a",
    "/docs/" + 300 * "n",
    "/docs/" + 2000 * "n/",
]
"""Paths that all get 404, the strangest included."""


def status_of(url: str, path: str) -> int:
    """The status of a request for the path as it stands, unchanged by the client."""
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.slow
def test_example_site_serves_its_pages_and_stops_on_ctrl_c() -> None:
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "aiopoll", "run", str(root / "examples" / "site.py"), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            match = None
            while match is None:
                line = process.stdout.readline()
                assert line, process.stderr.read() if process.stderr else ""
                match = re.search(r"http://[\d.]+:\d+", line)
            url = match[0]
            with urllib.request.urlopen(f"{url}/docs/", timeout=60) as answer:
                assert b"docs/index.md" in answer.read()
            with urllib.request.urlopen(f"{url}/docs/index.md", timeout=60) as answer:
                assert answer.read() == (root / "docs" / "index.md").read_bytes()
            statuses = {path: status_of(url, path) for path in NO_PAGES}
            assert statuses == dict.fromkeys(NO_PAGES, 404)
            with urllib.request.urlopen(f"{url}/stats", timeout=60) as answer:
                text = answer.read().decode()
            assert int(re.findall(r'"submitted": (\d+)', text)[0]) > 0
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")


def pid_of(url: str) -> int:
    """The worker that serves a new connection."""
    with urllib.request.urlopen(f"{url}/stats", timeout=60) as answer:
        return int(json.load(answer)["pid"])


@pytest.mark.slow
@pytest.mark.parametrize("ended", ["the first", "another"])
def test_workers_of_the_example_share_a_port(ended: str) -> None:
    """Each gets connections; the end of one is that of all, and frees the port."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "aiopoll", "run", str(root / "examples" / "site.py")]
    with subprocess.Popen(
        [*command, "--port", "0", "--workers", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        process_group=0,
    ) as process:
        try:
            assert process.stdout is not None
            urls: list[str] = []
            while len(urls) < 3:
                line = process.stdout.readline()
                assert line, process.stderr.read() if process.stderr else ""
                urls += re.findall(r"http://[\d.]+:\d+", line)
            assert len(set(urls)) == 1
            served = {pid_of(urls[0])}
            while len(served) < 3:  # the kernel chooses by the client's port
                served.add(pid_of(urls[0]))
            assert process.pid in served
            if ended == "the first":
                process.send_signal(signal.SIGTERM)
            else:
                os.kill((served - {process.pid}).pop(), signal.SIGKILL)
            _, err = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    expected = "" if ended == "the first" else "site: a worker has ended\n"
    assert (process.returncode, err) == (0, expected)
    host, port = urls[0].removeprefix("http://").split(":")
    with socket.create_server((host, int(port))):
        pass
