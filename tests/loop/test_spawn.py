"""A child born with a pidfd equals the stock Popen's, and its status is never lost.

A child stops itself once it runs, and is looked at through /proc.
"""

import errno
import fcntl
import gc
import itertools
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import IS_3_11_2

from aiopoll.loop.popen import start_popen

PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL
STOPS = "kill -STOP $$"
SECONDS_MAX = 30  # more is a hang
HERE = Path(__file__).parents[1]
STATUS = ["Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt"]

Start = Callable[..., "subprocess.Popen[bytes]"]


def start_ours(*args: Any, **options: Any) -> "subprocess.Popen[bytes]":
    """Starts it as the loop does; the child must have a pidfd that no program inherits."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    popen, pidfd = start_popen(*args, **options)
    try:
        assert signal.pthread_sigmask(signal.SIG_SETMASK, mask) == mask
        assert pidfd >= 0
        assert fcntl.fcntl(pidfd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        pid = Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii").split("Pid:")[1]
        assert int(pid.split()[0]) == popen.pid
    finally:
        os.close(pidfd)
    assert "_execute_child" not in vars(popen)
    return popen


def open_files(pid: int | str = "self") -> dict[int, tuple[object, ...]]:
    """Descriptor: its file, anonymous ones by their first descriptor, and its flags."""
    names: dict[str, int] = {}
    found: dict[int, tuple[object, ...]] = {}
    for fd in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
        try:
            name = os.readlink(f"/proc/{pid}/fd/{fd}")
            info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text(encoding="ascii")
        except FileNotFoundError:
            continue  # the directory that is being read
        first = names.setdefault(name, fd)
        found[fd] = (name.partition(":[")[0], first, info.split("flags:")[1].split()[0])
    return found


def state_of(pid: int) -> dict[str, object]:
    """All that a child inherits or receives."""
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text("ascii").splitlines())
    same = {os.getpgid(0): "its parent's", pid: "its own"}
    return {
        "files": open_files(pid),
        "arguments": (proc / "cmdline").read_bytes(),
        "environment": sorted((proc / "environ").read_bytes().split(b"\0")),
        "directory": os.readlink(proc / "cwd"),
        "program": os.readlink(proc / "exe"),
        "group": same.get(os.getpgid(pid), "another"),
        "session": "its own" if os.getsid(pid) == pid else os.getsid(pid) == os.getsid(0),
        "parent": status["PPid"].strip() == str(os.getpid()),
        **{name: status[name] for name in STATUS},
        # glibc's posix_spawn leaves its own two signals ignored.
        "SigIgn": f"{int(status['SigIgn'], 16) & ~(3 << 31):x}",
    }


def observe(start: Start, *args: Any, **options: Any) -> dict[str, object]:
    """The state of the child that start() starts."""
    with start(*args, **options) as popen:
        os.waitid(os.P_PID, popen.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            state = state_of(popen.pid)
            ends = [popen.stdin, popen.stdout, popen.stderr]
            state["ends"] = [
                end and (end.fileno(), fcntl.fcntl(end.fileno(), fcntl.F_GETPIPE_SZ))
                for end in ends
            ]
        finally:
            popen.kill()
    assert popen.returncode == -signal.SIGKILL
    return state


def failure(start: Start, *args: Any, **options: Any) -> tuple[object, ...]:
    """The exception of start(), and how many files are left open: Python 3.11.2 forgets some."""
    before = open_files()
    try:
        start(*args, **options)
    except Exception as error:
        answer = type(error), str(error), error.args, getattr(error, "filename", None)
    else:
        raise AssertionError("it does not fail")
    gc.collect()
    left = open_files().keys() - before.keys()
    for number in left:
        os.close(number)
    assert open_files() == before
    assert IS_3_11_2 or not left
    return *answer, len(left)


def same(*args: Any, **options: Any) -> dict[str, object]:
    """The child's state, which must be the same as the stock Popen's child's."""
    stock = observe(subprocess.Popen, *args, **options)
    assert observe(start_ours, *args, **options) == stock
    return stock


OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "cwd": {"cwd": "/usr/bin"},
    "env": {"env": {"PATH": "/bin", "A": "b=c", "é": "ü"}},
    "env of nothing": {"env": {}},
    "executable": {"args": ["another name", "-c", STOPS], "executable": "/bin/sh"},
    "found in PATH": {"args": ["sh", "-c", STOPS], "env": {"PATH": "/none:/etc/passwd:/bin"}},
    "bytes": {"args": [b"/bin/sh", b"-c", STOPS.encode() + b" # \xff"]},
    "path": {"args": [Path("/bin/sh"), "-c", STOPS]},
    "shell": {"args": STOPS, "shell": True},
    "umask": {"umask": 0o27},
    "umask 0": {"umask": 0},
    "session": {"start_new_session": True},
    "group": {"process_group": 0},
    "signals not restored": {"restore_signals": False},
    "descriptors not closed": {"close_fds": False},
    "by a path, descriptors not closed": {
        "args": ["/bin/sh", "-c", STOPS],
        "close_fds": False,
        "env": {"PATH": "/bin"},  # posix_spawn takes os.environ else, the others C's environment
    },
    "pipes": {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE},
    "small pipes": {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, "pipesize": 4096},
    "one pipe for both": {"stdout": PIPE, "stderr": STDOUT},
    "null": {"stdin": DEVNULL, "stdout": DEVNULL, "stderr": DEVNULL},
    "exchanged": {"stdin": 2, "stdout": 0, "stderr": 1},
    "all from 0": {"stdin": 0, "stdout": 0, "stderr": 0},
    "user": {"user": os.getuid()},
    "ids": {"user": os.getuid(), "group": os.getgid()},
    "another user": {"user": 65534, "group": 65534, "extra_groups": [65533, 5]},
    "no groups": {"extra_groups": []},
    "preexec_fn": {"preexec_fn": lambda: os.umask(0o11)},
}
NEEDS_ROOT = {"another user", "no groups"}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_child_is_as_the_stock_child(name: str) -> None:
    options = {"args": ["sh", "-c", STOPS, "argument"], **OPTIONS[name]}
    if name in NEEDS_ROOT and os.geteuid() != 0:
        assert failure(start_ours, **options) == failure(subprocess.Popen, **options)
        return
    state = same(**options)
    # The effects of the options, so that both cannot be wrong alike.
    if name == "session":
        assert (state["group"], state["session"]) == ("its own", "its own")
    if name == "another user":
        assert str(state["Uid"]).split() == ["65534"] * 4
        assert str(state["Groups"]).split() == ["5", "65533"]
    if name.startswith("preexec_fn"):
        assert str(state["Umask"]).strip() == "0011"


@pytest.mark.parametrize("may_vfork", [True, False])
def test_descriptors_are_passed_closed_as_by_stock_popen(
    monkeypatch: pytest.MonkeyPatch, may_vfork: bool
) -> None:
    monkeypatch.setattr(subprocess, "_USE_VFORK", may_vfork, raising=False)
    opened = [os.open("/dev/zero", os.O_RDONLY) for _ in range(9)]
    try:
        os.set_inheritable(opened[0], True)
        passed = [opened[8], opened[2], opened[3], opened[6]]
        args = ["sh", "-c", STOPS]
        state = same(args, pass_fds=passed, stdin=PIPE, stderr=PIPE)
        assert set(state["files"]) == {0, 1, 2, *passed}  # type: ignore[call-overload]
        assert same(args, pass_fds=[1, opened[4]], stdout=PIPE)["files"]
        state = same(args, close_fds=False)
        assert opened[0] in state["files"]  # type: ignore[operator]
        assert opened[1] not in state["files"]  # type: ignore[operator]
        os.dup2(opened[0], 300, inheritable=True)
        opened.append(300)
        assert 300 not in same(args)["files"]  # type: ignore[operator]
        assert 300 in same(args, pass_fds=[300, 2])["files"]  # type: ignore[operator]
    finally:
        for fd in opened:
            os.close(fd)


@pytest.mark.parametrize("closed", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 2}], ids=str)
def test_a_parent_without_standard_files(
    in_child: Callable[[Callable[[], object]], str], closed: set[int]
) -> None:
    """Pipes get the numbers 0, 1 and 2 then, and must change places."""

    def compare() -> int:
        for fd in closed:
            os.close(fd)
        count = 0
        for stdin, stdout, stderr in itertools.product(
            [None, PIPE], [None, PIPE, DEVNULL], [None, PIPE, STDOUT]
        ):
            given = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
            stock = failure_or_state(subprocess.Popen, **given)
            ours = failure_or_state(start_ours, **given)
            assert ours == stock, (given, ours, stock)
            count += 1
        return count

    assert in_child(compare) == "18"


def failure_or_state(start: Start, **options: Any) -> object:
    try:
        return observe(start, ["sh", "-c", STOPS], **options)
    except OSError as error:
        return repr(error)


@contextmanager
def signals_of_many_kinds() -> Iterator[None]:
    """One ignored, one caught, one blocked, one caught and blocked."""
    caught = [signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN]
    blocked = {signal.SIGTERM, signal.SIGUSR2, signal.SIGRTMAX}
    before = {number: signal.signal(number, lambda *_: None) for number in caught}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("restore", [True, False])
@pytest.mark.parametrize("may_vfork", [True, False])
def test_signals(monkeypatch: pytest.MonkeyPatch, may_vfork: bool, restore: bool) -> None:
    monkeypatch.setattr(subprocess, "_USE_VFORK", may_vfork, raising=False)
    with signals_of_many_kinds():
        state = same(["sh", "-c", STOPS], restore_signals=restore)
    ignored, blocked = int(str(state["SigIgn"]), 16), int(str(state["SigBlk"]), 16)
    assert ignored >> (signal.SIGHUP - 1) & 1
    assert ignored >> (signal.SIGPIPE - 1) & 1 == (not restore)
    assert blocked >> (signal.SIGUSR2 - 1) & 1


class Unlucky:
    def __fspath__(self) -> str:
        raise RuntimeError("no path today")


FAILURES: dict[str, dict[str, Any]] = {
    "no such program": {"args": ["/no/such/program"]},
    "none in PATH": {"args": ["no-such-program"]},
    "no program": {"args": ["/"]},
    "may not be executed": {"args": ["not-executable"], "env": {"PATH": "/none:{tmp}:/bin"}},
    "of no format": {"args": ["{tmp}/no-format"]},
    "no such interpreter": {"args": ["{tmp}/no-interpreter"]},
    "too much": {"args": ["true", "x" * (1 << 18)]},
    "no such directory": {"args": ["true"], "cwd": "/no/such/directory"},
    "no directory": {"args": ["true"], "cwd": "/etc/passwd"},
    "no such group of processes": {"args": ["true"], "process_group": 2**30},
    "a group of processes, a user": {"args": ["true"], "process_group": 2**30, "user": 0},
    "closed descriptor": {"args": ["true"], "pass_fds": [1000]},
    "negative descriptor": {"args": ["true"], "pass_fds": [-1]},
    "large descriptor": {"args": ["true"], "pass_fds": [2**40]},
    "stdout is closed": {"args": ["true"], "stdout": 1000},
    "null byte": {"args": ["tr\0ue"]},
    "null byte in an argument": {"args": ["true", "\0"]},
    "null byte in env": {"args": ["true"], "env": {"A": "\0"}},
    "null byte in cwd": {"args": ["true"], "cwd": "\0"},
    "equals sign in env": {"args": ["true"], "env": {"A=B": ""}},
    "argument of another type": {"args": ["true", 1]},
    "env of another type": {"args": ["true"], "env": {"A": 1}},
    "cwd of another type": {"args": ["true"], "cwd": 1.5},
    "argument that raises": {"args": ["true", Unlucky()]},
    "no arguments": {"args": []},
    "user too large": {"args": ["true"], "user": 2**32},
    "negative group": {"args": ["true"], "group": -5},
    "no such user": {"args": ["true"], "user": "no such user"},
    "groups too large": {"args": ["true"], "extra_groups": [2**40]},
    "too many groups": {"args": ["true"], "extra_groups": list(range(70000))},
    "umask too large": {"args": ["true"], "umask": 2**40},
    "group of processes too large": {"args": ["true"], "process_group": 2**70},
    "preexec_fn that raises": {"args": ["true"], "preexec_fn": lambda: 1 / 0},
    "no such program after preexec_fn": {"args": ["/none"], "preexec_fn": lambda: None},
    "no such directory before preexec_fn": {
        "args": ["true"],
        "cwd": "/none",
        "preexec_fn": lambda: None,
    },
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_equals_that_of_the_stock_popen(name: str, tmp_path: Path) -> None:
    for program, text in (
        ("not-executable", "#!/bin/sh\n"),
        ("no-format", "\0\n"),
        ("no-interpreter", "#!/none\n"),
    ):
        path = tmp_path / program
        path.write_text(text, encoding="ascii")
        if program != "not-executable":
            path.chmod(0o755)
    options = dict(FAILURES[name])
    options["args"] = [
        text.replace("{tmp}", str(tmp_path)) if isinstance(text, str) else text
        for text in options["args"]
    ]
    if "PATH" in options.get("env", {}):
        options["env"] = {"PATH": options["env"]["PATH"].replace("{tmp}", str(tmp_path))}
    pipes = {"stdin": PIPE, "stderr": PIPE}
    assert failure(start_popen, **pipes, **options) == failure(subprocess.Popen, **pipes, **options)


@pytest.mark.slow
def test_without_close_range() -> None:
    check_confined("close_range=ENOSYS", "descriptors_are_passed", __file__)


NO_VFORK = f"clone:0:EQ:{0x4000 | 0x1000 | 0x100 | signal.SIGCHLD}=EINVAL"  # VFORK, PIDFD, VM
NO_PIDFD = f"{NO_VFORK},clone:0:EQ:{0x1000 | signal.SIGCHLD}=EPERM"


@pytest.mark.slow
def test_where_the_kernel_refuses_vfork() -> None:
    statuses = str(Path(__file__).with_name("test_spawn_statuses.py"))
    check_confined(NO_VFORK, "is_as_the_stock_child or (lost and aio)", __file__, statuses)


@pytest.mark.slow
def test_where_no_child_is_born_with_a_pidfd() -> None:
    """All other properties of subprocesses hold."""
    name = str(Path(__file__).with_name("test_loop_subprocess.py"))
    check_confined(NO_PIDFD, "aio", name)


def check_confined(refused: str, expression: str, *files: str) -> None:
    confine = [sys.executable, str(HERE / "seccomp" / "confine.py"), refused]
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *files,
        "-k",
        expression,
    ]
    done = subprocess.run(
        [*confine, *tests], capture_output=True, text=True, timeout=300, cwd=HERE.parent
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_preexec_fn_is_not_called_before_the_pidfd_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, tells = os.pipe()
    parent = os.getpid()
    read, pidfd_open = os.read, os.pidfd_open
    first: list[bytes] = []

    def read_telling(fd: int, size: int) -> bytes:
        if os.getpid() != parent:
            os.write(tells, b"waits")
        return read(fd, size)

    def open_when_told(pid: int) -> int:
        first.append(read(told, 100))
        return pidfd_open(pid)

    monkeypatch.setattr(os, "read", read_telling)
    monkeypatch.setattr(os, "pidfd_open", open_when_told)
    with start_ours(["true"], preexec_fn=lambda: os.write(tells, b"called")):
        pass
    assert first == [b"waits"]
    assert read(told, 100) == b"called"
    os.close(told)
    os.close(tells)


# Uses of subprocess by programs


def test_the_module_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    real = os.fsencode

    def spy(value: Any) -> bytes:
        seen.append((dict(vars(subprocess)), vars(subprocess.Popen)["_execute_child"]))
        return real(value)

    before = (dict(vars(subprocess)), vars(subprocess.Popen)["_execute_child"])
    monkeypatch.setattr(os, "fsencode", spy)
    with start_ours(["true"]) as popen:
        assert type(popen) is subprocess.Popen
    assert seen
    assert all(found == before for found in seen)


def test_globals_that_a_program_has_replaced_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    class Os(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            looked_up.append(name)
            return getattr(os, name)

    monkeypatch.setattr(subprocess, "os", Os("os"))
    with start_ours(["true"]):
        pass
    assert "get_exec_path" in looked_up


def test_a_fork_exec_that_a_program_has_replaced_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    fork_exec: Any = vars(subprocess)["_fork_exec"]
    called: list[object] = []

    def follow(*arguments: Any) -> Any:
        called.append(arguments[0])
        return fork_exec(*arguments)

    monkeypatch.setattr(subprocess, "_fork_exec", follow)
    popen, pidfd = start_popen(["true"])
    assert (called, pidfd, popen.wait()) == ([["true"]], -1, 0)


def test_a_popen_of_another_kind_is_made_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sub(subprocess.Popen):  # type: ignore[type-arg]
        pass

    class Own(subprocess.Popen):  # type: ignore[type-arg]
        def _execute_child(self, *args: Any) -> None:
            super()._execute_child(*args)  # type: ignore[misc]

    monkeypatch.setattr(subprocess, "Popen", Sub)
    with start_ours(["true"]) as popen:
        assert type(popen) is Sub
    monkeypatch.setattr(subprocess, "Popen", Own)
    popen, pidfd = start_popen(["true"])
    assert (type(popen), pidfd, popen.wait()) == (Own, -1, 0)
    answer = object()
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: answer)
    assert start_popen(["true"]) == (answer, -1)


def test_child_with_a_preexec_fn_has_no_descriptor_of_ours() -> None:
    # An interpreter of its own: what other tests left may be collected, and closed, meanwhile.
    program = """
import os
from aiopoll.loop.popen import start_popen

def open_pipes():
    fds = os.listdir("/proc/self/fd")
    names = [os.readlink(f"/proc/self/fd/{fd}") for fd in fds if os.path.exists(f"/dev/fd/{fd}")]
    return {name for name in names if name.startswith("pipe:")}

reader, writer = os.pipe()
expected = open_pipes()
popen, pidfd = start_popen(
    ["true"], preexec_fn=lambda: os.write(writer, repr(open_pipes()).encode())
)
os.close(writer)
assert popen.wait() == 0
with open(reader, "rb") as file:
    found = eval(file.read())
assert len(found - expected) == 1, (found, expected)  # the pipe that errors come through
os.close(pidfd)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_calls_that_fail_leave_nothing_behind() -> None:
    """A thread was started: from then on a free-threaded Python 3.13 frees no function."""
    program = """
import gc, os, threading
from aiopoll.loop.popen import start_popen
from aiopoll.loop.spawn import Spawner

def fail():
    try:
        start_popen(["/nonexistent"])
    except FileNotFoundError:
        pass

threading.Thread(target=fail).start()
for _ in range(20):
    fail()
    popen, pidfd = start_popen(["true"])
    popen.wait()
    os.close(pidfd)
gc.collect()
assert not [found for found in gc.get_objects() if type(found) is Spawner]
assert len(os.listdir("/proc/self/fd")) == 4  # with that of this list
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_audit_events_are_subprocesss_own() -> None:
    program = """
import sys
from aiopoll.loop.popen import start_popen
seen = []
sys.addaudithook(lambda name, args: seen.append((name, args)) if "Popen" in name else None)
start_popen(["true", "x"], cwd="/", env={"A": "b", "PATH": "/bin"})[0].wait()
expected = ("true", ["true", "x"], "/", {"A": "b", "PATH": "/bin"})
assert seen == [("subprocess.Popen", expected)], seen
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_no_descriptor_is_left_for_a_pidfd(in_child: Callable[[Callable[[], object]], str]) -> None:
    """The stock function starts the child then, which needs none."""

    def scenario() -> tuple[int, int]:
        import resource

        null = os.open("/dev/null", os.O_RDWR)
        popen_needs = 2  # the pipe that errors come through
        limit = max(open_files()) + 1
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit + popen_needs, limit + popen_needs))
        try:
            while True:
                taken.append(os.dup(null))
        except OSError:
            for fd in taken[-popen_needs:]:
                os.close(fd)
        popen, pidfd = start_popen(["true"], stdin=null)
        return pidfd, popen.wait()

    assert in_child(scenario) == "(-1, 0)"


def test_stacks_are_given_back() -> None:
    def mapped_kib() -> int:
        text = Path("/proc/self/status").read_text(encoding="ascii")
        return int(text.split("VmSize:")[1].split()[0])

    def spawn(count: int) -> None:
        for _ in range(count):
            with start_ours(["true"]):
                pass

    spawn(5)
    before = mapped_kib()
    spawn(100)
    assert mapped_kib() - before < 100 * 128 / 2


@pytest.mark.parametrize("name", ["pipe", "pidfd_open"])
def test_preexec_fn_works_where_the_child_cannot_be_held(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real: Any = getattr(os, name)
    calls: list[object] = []

    def refuse(*args: Any) -> Any:
        calls.append(args)
        if name == "pipe" and len(calls) == 1:
            return real()  # Popen's own
        raise OSError(errno.EMFILE, "Too many open files")

    before = open_files()
    monkeypatch.setattr(os, name, refuse)
    popen, pidfd = start_popen(["true"], preexec_fn=lambda: None)
    assert (pidfd, popen.wait()) == (-1, 0)
    assert calls
    assert open_files() == before
