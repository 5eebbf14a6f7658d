"""What leaves the world: refused with the line that asked, by name or by an audit hook.

Facts: CPython raises an audit event before it opens a file, makes a socket, starts a process or a
thread, or loads a library, whichever name the call came by. A hook stays for the life of the
process, and an exception of it stops the call.

Rule: what is neither simulated nor listed as without effect raises Escaped inside a world. It
names the thing, the line and the way out. Reading real files is allowed: imports, templates and
certificates are read. Writing is not, apart from the byte code that imports keep.
Left out: C code that raises no audit event (numpy's generators, getaddrinfo of a C library).
"""

from __future__ import annotations

import asyncio
import concurrent.futures.process
import contextlib
import multiprocessing.connection
import multiprocessing.process
import multiprocessing.synchronize
import os
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from .. import inside
from ..inside import Escaped
from .dispatch import Replacement, function, functions, method

if TYPE_CHECKING:
    from ..host import Host

OWN = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = (sysconfig.get_path("stdlib") + os.sep, "<frozen ")
PACKAGES = os.sep + "site-packages" + os.sep
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

CHILD = "give the other program a host of its own: world.host(name, main)"
FILES = "use open() and os.* by their names: they are the host's disk"
SOCKETS = "make sockets inside the run, by socket.socket"
THREADS = "start threads inside the run, by threading"
LIBRARIES = "load it before the run"
MACHINE = "leave the real process as it is"
# What changes the real process, for all hosts at once.
OF_THE_PROCESS = (
    *("nice", "setpriority", "setpgid", "setpgrp", "setsid", "setuid", "setgid", "seteuid"),
    *("setegid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "initgroups"),
    *("sched_setaffinity", "sched_setparam", "sched_setscheduler", "chroot", "setns", "unshare"),
    *("openpty", "login_tty", "posix_openpt", "tcsetpgrp"),
)

# Audit events, with what they mean and the way out.
REFUSED: dict[str, tuple[str, str]] = {
    "subprocess.Popen": ("a subprocess", CHILD),
    "os.fork": ("os.fork", CHILD),
    "os.forkpty": ("os.forkpty", CHILD),
    "os.exec": ("os.exec", CHILD),
    "os.posix_spawn": ("os.posix_spawn", CHILD),
    "os.system": ("os.system", CHILD),
    "os.spawn": ("os.spawn", CHILD),
    "pty.spawn": ("pty.spawn", CHILD),
    "os.kill": ("a signal to a real process", "use os.kill by its name: pids are the host's"),
    "os.killpg": ("a signal to real processes", "use os.kill with a pid of the host"),
    "signal.pthread_kill": ("a signal to a real thread", "use signal.raise_signal"),
    "socket.__new__": ("a socket of the machine", SOCKETS),
    "socket.bind": ("a socket of the machine", SOCKETS),
    "socket.connect": ("a socket of the machine", SOCKETS),
    "socket.sendto": ("a socket of the machine", SOCKETS),
    "socket.sendmsg": ("a socket of the machine", SOCKETS),
    "socket.getaddrinfo": ("a look-up in the machine's resolver", SOCKETS),
    "socket.gethostbyname": ("a look-up in the machine's resolver", SOCKETS),
    "socket.gethostbyaddr": ("a look-up in the machine's resolver", SOCKETS),
    "socket.getnameinfo": ("a look-up in the machine's resolver", SOCKETS),
    "socket.getservbyname": ("a look-up in the machine's services", "give the port as a number"),
    "socket.getservbyport": ("a look-up in the machine's services", "give the port as a number"),
    "socket.gethostname": ("the machine's name", SOCKETS),
    "socket.sethostname": ("the machine's name", "name the host by world.host(name, main)"),
    "_thread.start_new_thread": ("a thread of the machine", THREADS),
    "_thread.start_joinable_thread": ("a thread of the machine", THREADS),
    "ctypes.dlopen": ("a C library", LIBRARIES),
    "ctypes.dlsym": ("a function of a C library", LIBRARIES),
    "fcntl.fcntl": ("fcntl on a real file", FILES),
    "fcntl.flock": ("a lock of a real file", FILES),
    "fcntl.lockf": ("a lock of a real file", FILES),
    "fcntl.ioctl": ("ioctl on a real file", FILES),
    "os.chmod": ("a change of a real file", FILES),
    "os.chown": ("a change of a real file", FILES),
    "os.link": ("a change of a real directory", FILES),
    "os.mkdir": ("a change of a real directory", FILES),
    "os.remove": ("a change of a real directory", FILES),
    "os.rename": ("a change of a real directory", FILES),
    "os.rmdir": ("a change of a real directory", FILES),
    "os.symlink": ("a change of a real directory", FILES),
    "os.truncate": ("a change of a real file", FILES),
    "os.utime": ("a change of a real file", FILES),
    "os.setxattr": ("a change of a real file", FILES),
    "os.removexattr": ("a change of a real file", FILES),
    "os.listdir": ("a real directory", FILES),
    "os.scandir": ("a real directory", FILES),
    "os.chdir": ("the working directory of the machine", FILES),
    "sqlite3.connect": (
        "a database of C, which writes real files",
        "use one in memory, made before",
    ),
    "resource.setrlimit": ("a limit of the real process", "leave limits to the machine"),
    "resource.prlimit": ("a limit of a real process", "leave limits to the machine"),
    "syslog.openlog": ("the machine's log", "log to a file or to stderr"),
    "syslog.syslog": ("the machine's log", "log to a file or to stderr"),
    "webbrowser.open": ("a browser", "leave it out in a world"),
}


def caller() -> str:
    """Return "file:line" of the program's code that asks: not ours and not the library's."""
    frame: FrameType | None = sys._getframe(1)
    first: FrameType | None = None
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(OWN):
            if not name.startswith(LIBRARY):
                return f"{name}:{frame.f_lineno}"
            if PACKAGES in name:
                return f"{name}:{frame.f_lineno}"
            first = first or frame
        frame = frame.f_back
    return "a line unknown" if first is None else f"{first.f_code.co_filename}:{first.f_lineno}"


def escaped(what: str, way_out: str) -> Escaped:
    """Return the error for `what`, with the line that asked for it."""
    return Escaped(f"{what} is outside of the simulated world, at {caller()}: {way_out}")


def refuse(what: str, way_out: str) -> Callable[..., Any]:
    """Return a simulated call that raises Escaped."""

    def refused(host: Host, *args: Any, **kwargs: Any) -> Any:
        raise escaped(what, way_out)

    return refused


class _Watch:
    """Whether a world runs: else the hook returns at once."""

    __slots__ = ("active", "installed", "own")

    def __init__(self) -> None:
        self.active = False
        self.installed = False
        # Threads that run the simulator's own code, for what it must ask of the machine.
        self.own: set[int] = set()


_watch = _Watch()


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _watch.active:
        return
    if event == "open":
        _opened(args)
    elif event in REFUSED and inside.host() is not None and not _is_own():
        what, way_out = REFUSED[event]
        if event == "ctypes.dlopen" and args and args[0] is None:
            return
        if event == "sqlite3.connect" and args and str(args[0]) == ":memory:":
            return
        if event.startswith(("fcntl.", "os.")) and _imports():
            return
        raise escaped(what, way_out)


def _opened(args: tuple[Any, ...]) -> None:
    path, mode, flags = (*args, None, None)[:3]
    writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
    if mode is None and isinstance(flags, int):
        writes = bool(flags & WRITES)
    if writes and inside.host() is not None and not _is_own() and not _imports():
        if path in (os.devnull, os.fsencode(os.devnull)):
            return
        raise escaped(f"writing the real file {path!r}", FILES)


def _is_own() -> bool:
    """Return whether the simulator itself starts the thread or asks the machine."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename in OWN_CALLERS


def _imports() -> bool:
    """Return whether an import asks: it looks into directories, and writes byte code."""
    frame: FrameType | None = sys._getframe(2)
    depth = 0
    while frame is not None and depth < 12:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
        depth += 1
    return False


OWN_CALLERS = {
    os.path.join(OWN, *parts)
    for parts in (("kernel", "sched.py"), ("sim", "sched.py"), ("sim", "names", "paths.py"))
}


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Refuse what leaves the world while entered. The hook itself stays, and does nothing."""
    if not _watch.installed:
        sys.addaudithook(_hook)
        _watch.installed = True
    _watch.active = True
    try:
        yield
    finally:
        _watch.active = False


def replacements() -> Iterable[Replacement]:
    processes = {
        name: refuse(f"os.{name}", CHILD)
        for name in (
            *("fork", "forkpty", "system", "popen", "posix_spawn", "posix_spawnp"),
            *("execv", "execve", "wait", "waitpid", "wait3", "wait4", "waitid", "pidfd_open"),
        )
    }
    yield from functions(os, processes)
    yield from functions(os, {name: refuse(f"os.{name}", MACHINE) for name in OF_THE_PROCESS})
    # A loop of 3.14 asks when it is made, for subprocesses that it might start.
    if hasattr(asyncio.unix_events, "can_use_pidfd"):
        yield asyncio.unix_events, "can_use_pidfd", function(lambda host: False)
    # Its objects hold the machine's os.close as a default, and would close a real descriptor.
    pipes = {
        name: refuse(f"multiprocessing's {name}", "use a queue of threading, or a socket")
        for name in ("Pipe", "Client", "SocketClient")
    }
    yield from functions(multiprocessing.connection, pipes)
    yield (
        multiprocessing.connection.Listener,
        "__init__",
        _refused_method("multiprocessing's Listener", "use a socket"),
    )
    yield ssl.SSLContext, "wrap_socket", method(_wrap_socket)
    yield (
        multiprocessing.synchronize.SemLock,
        "__init__",
        _refused_method("a lock of multiprocessing", "use a lock of threading"),
    )
    # It has the real os.close in a default argument, for numbers that are a host's.
    yield (
        multiprocessing.connection._ConnectionBase,
        "__init__",
        _refused_method("a connection of multiprocessing", "use a socket"),
    )
    yield (
        multiprocessing.process.BaseProcess,
        "start",
        _refused_method("a process of multiprocessing", CHILD),
    )
    yield (
        concurrent.futures.process.ProcessPoolExecutor,
        "__init__",
        _refused_method("a ProcessPoolExecutor", "use a ThreadPoolExecutor: its threads are tasks"),
    )
    yield subprocess.Popen, "__init__", _refused_method("a subprocess", CHILD)


def _wrap_socket(
    host: Host, original: Any, self: ssl.SSLContext, sock: Any, *args: Any, **kwargs: Any
) -> Any:
    raise escaped("TLS on a blocking socket", "use asyncio's streams with ssl=, or wrap_bio")


def _refused_method(what: str, way_out: str) -> Callable[[Any], Any]:
    def refused(host: Host, original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        raise escaped(what, way_out)

    return method(refused)
