"""aiopoll top: another process's loops, while they run, sleep, are stuck, or keep the GIL."""

import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import CHILD_SECONDS_MAX

from aiopoll.cli import top_ask, top_lines
from aiopoll.loop.monitor import sockets

pytestmark = pytest.mark.subprocess

PROGRAM = """
import asyncio, os, re, sys, time, aiopoll

async def sleeper(): await asyncio.sleep(1000)

async def main():
    tasks = [asyncio.create_task(sleeper(), name=f"sleeper-{i}") for i in range(30)]
    lock = asyncio.Lock()
    await lock.acquire()
    tasks.append(asyncio.create_task(lock.acquire(), name="wants the lock"))
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    await asyncio.sleep(0.1)
    print("ready", flush=True)
    if sys.argv[1] == "stuck":
        time.sleep(1000)
    if sys.argv[1] == "gil":
        re.match("(a+)+$", "a" * 50 + "b")
    await asyncio.sleep(1000)

aiopoll.run(main(), monitor=True)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the sockets of this test are."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "aiopoll"


@contextmanager
def program(what: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, what], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def top(*arguments: str | int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aiopoll", "top", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=CHILD_SECONDS_MAX,
    )


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + CHILD_SECONDS_MAX
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def test_a_sleeping_loop_is_shown_once_without_a_terminal() -> None:
    with program("asleep") as child:
        shown = top(child.pid)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"process {child.pid}")
    assert "MainThread" in shown.stdout
    assert "asleep" in shown.stdout
    assert "30 tasks" in shown.stdout
    assert "wants the lock" in shown.stdout
    assert "Lock.acquire() of Lock" in shown.stdout
    assert "TCP listener" in shown.stdout


def test_json_has_the_dump_and_rates() -> None:
    with program("asleep") as child:
        reply = json.loads(top(child.pid, "--json", "--limit", 5).stdout)
    assert (reply["version"], reply["pid"], reply["responds"]) == (1, child.pid, True)
    [loop] = reply["loops"]
    assert loop["nr_tasks"] == 32
    assert len(loop["tasks"]) == 5
    assert loop["rates"]["callbacks"] >= 0


def test_a_stuck_loop_is_shown_with_its_line() -> None:
    with program("stuck") as child:
        shown = until(lambda: "STUCK" in (found := top(child.pid, "--once").stdout) and found)
    line = 1 + PROGRAM.splitlines().index("        time.sleep(1000)")
    assert f"in main (<string>:{line})" in shown
    assert "30 tasks" in shown


def test_a_process_that_keeps_the_gil_has_its_threads() -> None:
    with program("gil") as child:
        began = time.monotonic()
        shown = until(lambda: (found := top(child.pid, "--once")).returncode == 1 and found)
        assert time.monotonic() - began < CHILD_SECONDS_MAX
        listed = top().stdout
        reply = json.loads(top(child.pid, "--json").stdout)
    assert "does not respond: it keeps the GIL" in shown.stdout
    assert f"\n{child.pid} " in shown.stdout
    assert "runs" in shown.stdout
    assert "no response" in listed
    assert reply["responds"] is False
    assert "R" in {each["state"] for each in reply["threads"]}


def test_a_stopped_process_is_named_so() -> None:
    with program("asleep") as child:
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        shown = top(child.pid)
    assert shown.returncode == 1
    assert "it is stopped" in shown.stdout


@pytest.mark.parametrize("how", ["--once", "--json"])
def test_a_process_without_a_monitor_is_explained(how: str) -> None:
    shown = top(os.getpid(), how)
    assert shown.returncode == 2
    assert "AIOPOLL_MONITOR=1" in shown.stderr + shown.stdout


def test_a_process_that_is_gone_is_named_so() -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    shown = top(child.pid)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert f"there is no process {child.pid}" in shown.stderr


def test_processes_are_listed_and_stale_sockets_removed(folder: Path) -> None:
    assert "no process has a monitor" in top().stderr
    with program("asleep") as child:
        path = folder / f"{child.pid}.sock"
        assert path.is_socket()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        listed = top()
        assert listed.returncode == 0
        assert listed.stdout.splitlines()[1].split()[:3] == [str(child.pid), "asleep", "32"]
    assert path.exists()  # it was killed
    assert top().returncode == 2
    assert not path.exists()


def test_a_socket_that_is_served_is_no_stale_one(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    path = folder / "99999999.sock"  # of no process: that of another container
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(1)
        assert list(sockets.sockets_of(os.geteuid())) == []
        assert path.exists()
    assert list(sockets.sockets_of(os.geteuid())) == []
    assert not path.exists()


def test_the_socket_of_another_namespace_is_left_alone(folder: Path) -> None:
    code = """
import os, socket, sys, aiopoll
from aiopoll.loop.monitor import sockets
path = os.path.join(sockets.make_folder(), f"{os.getpid()}.sock")
with socket.socket(socket.AF_UNIX) as other:
    other.bind(path)
    other.listen(1)
    aiopoll.EventLoop(monitor=True).close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "no monitor" in done.stderr
    assert "another PID namespace" in done.stderr


def test_the_umask_keeps_no_user_from_the_own_socket(folder: Path) -> None:
    code = """
import os, sys, aiopoll
os.umask(0o777)
aiopoll.EventLoop(monitor=True)
for path in sys.argv[1], os.path.join(sys.argv[1], f"{os.getpid()}.sock"):
    print(oct(os.stat(path).st_mode & 0o777))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "0o700\n0o600\n", done.stderr


def test_the_socket_goes_when_the_process_ends(folder: Path) -> None:
    program = "import asyncio, aiopoll; aiopoll.run(asyncio.sleep(0), monitor=True)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("way", ["environment", "run"])
def test_a_monitor_can_be_asked_for_from_outside(
    tmp_path: Path, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.replace("monitor=True", ""))
    command = [sys.executable, "-m", "aiopoll", "run", "--monitor", str(path), "asleep"]
    if way == "environment":
        monkeypatch.setenv("AIOPOLL_MONITOR", "1")
        command = [sys.executable, str(path), "asleep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            assert top(child.pid).returncode == 0
        finally:
            child.kill()


def test_a_forked_child_has_a_socket_of_its_own(folder: Path) -> None:
    program = """if True:
        import asyncio, os, sys, aiopoll
        aiopoll.run(asyncio.sleep(0), monitor=True)
        assert f"{os.getpid()}.sock" in os.listdir(sys.argv[1])
        if child := os.fork():
            assert os.waitpid(child, 0)[1] == 0
        else:
            aiopoll.run(asyncio.sleep(0), monitor=True)
            assert len(os.listdir(sys.argv[1])) == 2
    """
    # From 3.12 on Python warns of a fork beside the monitor's thread.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("fault", ["open", "link", "file"])
def test_a_folder_that_is_not_the_users_is_refused(folder: Path, fault: str) -> None:
    if fault == "open":
        folder.mkdir()
        folder.chmod(0o755)
    elif fault == "link":
        folder.symlink_to("/tmp")
    else:
        folder.touch()
    program = "import asyncio, aiopoll; aiopoll.run(asyncio.sleep(0), monitor=True); print('ran')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "ran\n"
    assert "aiopoll: no monitor: " in done.stderr
    assert "cannot be there" in done.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_cannot_write_to_the_terminal(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import asyncio, aiopoll

async def main():
    task = asyncio.create_task(asyncio.Event().wait(), name="\\x1b[31m\\nred \\ud800 \\xe9")
    await asyncio.sleep(0)
    print(str(asyncio.get_running_loop().dump()).count("\\\\x1b"), flush=True)
    await asyncio.sleep(1000)

aiopoll.run(main(), monitor=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "1\n"
            monkeypatch.setenv("PYTHONIOENCODING", encoding)
            shown = top("--once", child.pid)
        finally:
            child.kill()
    assert "\x1b" not in shown.stdout
    name = "\\x1b[31m\\nred \\ud800 " + ("é" if encoding == "utf-8" else "\\xe9")
    assert name in shown.stdout


@pytest.mark.parametrize("runtime", ["x" * 100, "relative"])
def test_a_runtime_folder_that_cannot_be_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made = tmp_path / runtime
    made.mkdir()
    given = runtime if runtime == "relative" else str(made)
    monkeypatch.setenv("XDG_RUNTIME_DIR", given)
    assert sockets.folders_of(os.geteuid()) == [f"/tmp/aiopoll-{os.geteuid()}"]


def test_another_process_behind_a_name_is_not_believed(folder: Path) -> None:
    sockets.make_folder()
    with program("asleep") as child, socket.socket(socket.AF_UNIX) as listener:
        (folder / f"{child.pid}.sock").unlink()
        listener.bind(str(folder / f"{child.pid}.sock"))
        listener.listen()
        with pytest.raises(top_ask.NoReply, match="has no monitor"):
            top_ask.ask(child.pid, 1)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"{}\n", b'"loops"'),
        (b"nothing\n", b'"error"'),
        (b'{"limit": "many"}\n', b'"error"'),
        (b'{"limit": 1e999}\n', b'"error"'),
        (b"[1]\n", b'"error"'),
        (b"x" * 9000, b""),
        (b"", b""),
    ],
)
def test_no_client_harms_the_monitor(folder: Path, line: bytes, reply: bytes) -> None:
    with program("asleep") as child:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(folder / f"{child.pid}.sock"))
            client.settimeout(CHILD_SECONDS_MAX)
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
            received = b""
            try:
                while more := client.recv(1 << 16):
                    received += more
            except ConnectionResetError:
                pass
        assert reply in received
        assert top_ask.ask(child.pid, 1)["pid"] == child.pid


def test_the_screen_is_shown_and_left_by_q() -> None:
    pytest.importorskip("rich")
    with program("stuck") as child:
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm", COLUMNS="80", LINES="24")
            os.execv(sys.executable, [sys.executable, "-m", "aiopoll", "top", str(child.pid)])
        shown = b""
        deadline = time.monotonic() + CHILD_SECONDS_MAX
        while not re.search(rb"STUCK.*30.tasks", shown, re.DOTALL) and time.monotonic() < deadline:
            shown += os.read(terminal, 1 << 16)
        os.write(terminal, b"q")
        try:
            while os.read(terminal, 1 << 16):
                pass
        except OSError:
            pass
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os.close(terminal)
    assert b"STUCK" in shown
    assert b"30 tasks" in shown


def test_a_missing_rich_is_named(tmp_path: Path) -> None:
    program = """if True:
        import sys
        sys.modules["rich"] = sys.modules["rich.console"] = None
        from aiopoll.cli import top
        sys.exit(top._watch(1, 1, 1.0))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'aiopoll[top]'" in done.stderr


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (3.25, "3.2"), (9999, "9999"), (12345, "12k"), (2_500_000, "2500k")],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert top_lines.number(value) == text


def test_how_long_tasks_have_waited_is_counted() -> None:
    def reply(at: float, line: int) -> dict[str, Any]:
        stack = [{"file": "a.py", "line": line, "function": "f"}]
        task = {"ident": 1, "state": "waiting", "awaits": None, "stack": stack}
        loop = {"ident": 7, "iterations": at, "callbacks": 2 * at, "statistics": {}}
        return {"at": at, "loops": [{**loop, "tasks": [task]}]}

    history = top_ask.History()
    waited = []
    for at, line in ((10.0, 3), (12.0, 3), (13.0, 4), (15.0, 4)):
        one = reply(at, line)
        history.take(one)
        [loop] = one["loops"]
        [task] = loop["tasks"]
        waited.append((task["waited"], task["waited_before"]))
    assert waited == [(0.0, True), (2.0, True), (0.0, False), (2.0, False)]
    assert loop["rates"]["callbacks"] == 2.0
