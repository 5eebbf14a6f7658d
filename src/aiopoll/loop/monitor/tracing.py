"""Which loops are traced, and when a trace becomes a file: at an end, at exit, at a signal.

Rule.  A Trace is what goes into one file: a Tracer for each thread that runs a loop of it.  There
is one of the process, which AIOPOLL_TRACE asks for, and one for each start_trace().  A loop gets
its thread's tracer as it starts to run.  At exit the traces that have a path are written, before
that at stop_trace() and close().  A child of a fork forgets its parent's records, and writes a file
of its own; so does a Python that the program starts.

Cost.  A buffer for each thread; of a process, as many as run at once, and at least BUFFERS_MAX.
"""

from __future__ import annotations

import _thread
import asyncio
import atexit
import errno
import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiopoll.loop.monitor.stderr import say
from aiopoll.loop.monitor.trace_file import is_replaced, take, write
from aiopoll.loop.monitor.tracer import CollectionCallback, Tracer

if TYPE_CHECKING:
    from aiopoll.loop.core import LoopCore
    from aiopoll.loop.event_loop import EventLoop

StrPath = str | os.PathLike[str]

SIZE = 1 << 19
"""Records of a thread, unless the program says otherwise: 20 MiB."""
LAST_S = 10.0
"""Seconds that a signal writes, unless the program says otherwise."""
BUFFERS_MAX = 8
"""Threads whose records a trace keeps once their loops have ended."""
WRITE_S = 60.0
"""How long the exit waits for a file that a signal has begun."""

VARIABLE, OWNER = "AIOPOLL_TRACE", "AIOPOLL_TRACE_OWNER"
SIGNAL, LAST, RECORDS = "AIOPOLL_TRACE_SIGNAL", "AIOPOLL_TRACE_LAST", "AIOPOLL_TRACE_SIZE"
DEFAULT_PATH = "aiopoll-%p.trace.json"


class Trace:
    """What goes into one file, with a track for each thread.

    path: where write() and the exit write it; None for nowhere of itself.
    Raises OSError if no file can be made there, TypeError and ValueError for a wrong size.
    """

    def __init__(self, path: StrPath | None = None, *, size: int = SIZE) -> None:
        self.path: Path | None = None if path is None else Path(os.path.abspath(path))
        self.size = size
        self.tracers: list[Tracer] = []
        self.threads_lost: int = 0
        self.made_in: int = os.getpid()
        self.at_exit: bool = True
        self.written: int = 0  # files of signals
        if self.path is not None:
            check_folder(expand(self.path))
        Tracer(size)  # raises for a wrong size; its memory is not touched
        _open.add(self)
        _watch_collections()

    def tracer(self) -> Tracer:
        """The tracer of the calling thread."""
        thread = threading.get_native_id()
        for tracer in self.tracers:
            if tracer.thread == thread:
                return tracer
        idle = [tracer for tracer in self.tracers if not tracer.running]
        if len(self.tracers) >= BUFFERS_MAX and idle:
            self.tracers.remove(idle[0])
            self.threads_lost += 1
        tracer = Tracer(self.size)
        tracer.enter_thread()
        self.tracers.append(tracer)
        return tracer

    def begin_run(self, loop: LoopCore) -> None:
        """The calling thread runs the loop from now on."""
        self.use(loop)
        assert loop._tracer is not None
        loop._tracer.running = True

    def use(self, loop: LoopCore) -> None:
        """Has the loop record into the calling thread's tracer."""
        tracer = self.tracer()
        tracer.backend = loop.backend
        if loop._tracer is not tracer:
            loop._use_tracer(tracer)

    def write(self, path: StrPath | None = None, *, last: float | None = None) -> Path:
        """Writes what there is, and goes on; any thread may.  Returns the path.

        path: instead of the trace's own; %p is the process.  last: seconds, None for all.
        Raises OSError, ValueError for a wrong `last` or without a path.
        """
        target = self.path if path is None else path
        if target is None:
            raise ValueError("this trace has no path: give one")
        now_ns = time.monotonic_ns()
        if last is not None and not last >= 0:
            raise ValueError(f"last must be 0 or more seconds, not {last!r}")
        if last == float("inf"):
            last = None
        since_ns = 0 if last is None else now_ns - round(min(last * 1e9, now_ns))
        snapshots = [take(tracer, now_ns) for tracer in list(self.tracers)]
        more = {"seconds": last, "threads_lost": self.threads_lost}
        return write(expand(target), snapshots, since_ns, **more)

    def close(self, loop: EventLoop) -> None:
        """The loop is about to close; see close() below."""
        close(loop)

    def end(self) -> None:
        """Forgets the records; a loop that still uses one goes on in vain."""
        _open.discard(self)
        self.tracers = []
        _watch_collections()


_open: set[Trace] = set()
"""The traces that record: the process's, and those of loops that are not closed."""
_of_process: Trace | None = None
_failed: str | None = None
"""What kept the process from being traced, once it was said."""
_writing = threading.Lock()
"""Held while a signal's file is written."""
_waiting: list[Trace] = []
"""The files of signals that are not written yet."""
_is_child = False
"""Whether another process of the program is the first."""
_finalized_in = 0
_on_collection = CollectionCallback(_open)


def expand(path: StrPath) -> Path:
    """Returns the path with the process in the place of %p."""
    return Path(os.path.abspath(os.fspath(path).replace("%p", str(os.getpid()))))


def check_folder(path: Path) -> None:
    """Raises OSError unless a file can be made in the path's folder, or a device written to."""
    if not is_replaced(path):
        if os.path.exists(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(13, os.strerror(13), os.fspath(path))
            return
        path = Path(os.path.realpath(path))  # a link's
    folder = path.parent
    os.stat(folder)
    if not folder.is_dir():
        raise NotADirectoryError(20, os.strerror(20), os.fspath(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(13, os.strerror(13), os.fspath(folder))


# The process


def trace_of_process() -> Trace | None:
    """The trace that AIOPOLL_TRACE asks for, or AIOPOLL_TRACE_SIGNAL; None where neither does.

    What is wrong with them is one line on stderr, once; the program runs on without a trace.
    """
    global _failed
    try:
        return require_trace_of_process()
    except (OSError, ValueError) as error:
        _failed = f"no trace: {error}"
        say(_failed)
        return None


def require_trace_of_process() -> Trace | None:
    """trace_of_process(), which raises OSError or ValueError for what is wrong."""
    global _of_process
    path, number = os.environ.get(VARIABLE), os.environ.get(SIGNAL)
    if _of_process is None and _failed is None and (path or number):
        _of_process = _make(path, number)
    if _of_process is not None:
        _finalize_with_multiprocessing()
    return _of_process


def _finalize_with_multiprocessing() -> None:
    """Its processes end by os._exit(), after finalizers of its own."""
    global _finalized_in
    process: Any = sys.modules.get("multiprocessing.process")
    if _finalized_in == os.getpid() or process is None or process.parent_process() is None:
        return
    _finalized_in = os.getpid()
    from multiprocessing.util import Finalize

    Finalize(None, _write_at_exit, exitpriority=-100)


def _make(path: str | None, number: str | None) -> Trace:
    global _is_child
    size = _variable(RECORDS, int, SIZE)
    last = _variable(LAST, float, LAST_S)
    given = os.path.abspath(path or DEFAULT_PATH)
    _is_child = os.environ.setdefault(OWNER, str(os.getpid())) != str(os.getpid())
    mine = own_path(given) if _is_child else given
    caught = None if not number else signal_number(number)
    try:
        trace = Trace(mine, size=size)
    except MemoryError as error:
        raise OSError(errno.ENOMEM, str(error)) from None
    if caught is not None:
        try:
            signal.signal(caught, lambda *_: _begin_write(trace, last))
        except ValueError:
            say(f"{SIGNAL}: not in effect: the first loop was made outside the main thread")
        except OSError as error:
            trace.end()
            raise ValueError(f"{SIGNAL}: {caught.name}: {error.strerror}") from None
    trace.at_exit = bool(path)
    # Where a program changes its folder, its children write to the same one.
    if path:
        os.environ[VARIABLE] = given
    return trace


def own_path(path: str) -> str:
    """Returns the path of a child's file: with %p in it, if it has none and is no device."""
    if "%p" in path or not is_replaced(Path(path)):
        return path
    stem, suffix = os.path.splitext(path)
    return f"{stem}.%p{suffix}"


def _variable(name: str, kind: Any, default: Any) -> Any:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not value > 0:
        raise ValueError(f"{name} must be a number above 0, not {text!r}")
    return value


def signal_number(name: str) -> signal.Signals:
    """Returns the signal of a name, as USR2 or SIGUSR2, or a number.  ValueError for others."""
    try:
        if name.isdecimal():
            return signal.Signals(int(name))
        return signal.Signals["SIG" + name.upper().removeprefix("SIG")]
    except (KeyError, ValueError):
        raise ValueError(f"{SIGNAL}: there is no signal {name!r}") from None


def _begin_write(trace: Trace, last: float) -> None:
    """Has a thread write a file, in a signal's handler: no lock may be waited for here."""
    if len(_waiting) > 1:
        return  # the file that waits will have all
    _waiting.append(trace)
    try:
        _thread.start_new_thread(_write_numbered, (trace, last))
    except RuntimeError as error:
        _waiting.pop()
        say(f"cannot write the trace: {error}")


def _write_numbered(trace: Trace, last: float) -> None:
    with _writing:
        try:
            trace.written += 1
            assert trace.path is not None
            path = trace.path
            numbered = path.with_name(f"{path.stem}.{trace.written}{path.suffix}")
            trace.write(numbered, last=last)
        except Exception as error:
            say(str(error))
        finally:
            _waiting.pop()


def _write_at_exit() -> None:
    # A file that a signal has begun is written first: its thread would be stopped half way.
    end = time.monotonic() + WRITE_S
    while _waiting and time.monotonic() < end:
        time.sleep(0.005)
    for trace in list(_open):
        if trace.path is None or not trace.at_exit or trace.made_in != os.getpid():
            continue
        if trace is _of_process and _is_child and not trace.tracers:
            continue  # it had no loop
        try:
            trace.write()
        except Exception as error:
            say(str(error))


def _forget_parent() -> None:
    """In the child of a fork: the records are the parent's, and so is its file."""
    global _writing, _failed, _is_child
    _is_child = True
    _writing = threading.Lock()
    _waiting.clear()
    _failed = None
    _on_collection.forget()
    for trace in list(_open):
        trace.tracers = []
        if trace is not _of_process:
            _open.discard(trace)
    if _of_process is not None:
        _of_process.made_in = os.getpid()
        _of_process.written = 0
        assert _of_process.path is not None
        _of_process.path = Path(own_path(os.fspath(_of_process.path)))
    _watch_collections()


atexit.register(_write_at_exit)
os.register_at_fork(after_in_child=_forget_parent)


# A loop's own


def start(loop: EventLoop, path: StrPath | None, size: int) -> None:
    """Traces a loop from now on; of the process's trace it is no part meanwhile."""
    _check_here(loop)
    if loop._trace is not None and loop._trace is not _of_process:
        raise RuntimeError("this loop is traced already: call stop_trace() first")
    trace = Trace(path, size=size)
    try:
        trace.use(loop)
        trace.tracers[0].running = loop.is_running()
    except BaseException:
        trace.end()
        raise
    loop._trace = trace  # as the last: until then a stop in a signal's handler does nothing


def stop(loop: EventLoop) -> Path | None:
    """Ends what start() has begun, and writes it if it has a path; returns that."""
    if loop._trace is None or loop._trace is _of_process:
        return None
    _check_here(loop)
    return _leave(loop, _of_process)


def close(loop: EventLoop) -> None:
    """stop() of a loop that is about to close: what fails is one line on stderr."""
    try:
        _leave(loop, None)
    except Exception as error:
        say(str(error))


def _leave(loop: EventLoop, trace: Trace | None) -> Path | None:
    """Has the loop record into another trace, and writes the one before if it was its own."""
    left, loop._trace = loop._trace, trace
    if trace is None:
        loop._use_tracer(None)
    else:
        trace.use(loop)
    if left is None or left is _of_process:
        return None
    try:
        return None if left.path is None or left.made_in != os.getpid() else left.write()
    finally:
        left.end()


def _check_here(loop: EventLoop) -> None:
    if loop._thread_id not in (None, threading.get_ident()):
        raise RuntimeError("another thread runs this loop: use call_soon_threadsafe()")


# Collections


def _watch_collections() -> None:
    watched = _on_collection in gc.callbacks
    if _open and not watched:
        gc.callbacks.append(_on_collection)
    elif watched and not _open:
        gc.callbacks.remove(_on_collection)


# Spans


class trace_span:
    """A slice of the program's own in the trace of the running loop, if it is traced.

    with trace_span("parse", size=100): ...  args: what json can write; repr() of all else.
    Raises TypeError for a name that is no str.
    """

    def __init__(self, name: str, /, **args: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a span must be a str, not {name!r}")
        self.name: str = str(name)
        self.args = args
        self.begun_ns: int = 0

    def __enter__(self) -> None:
        self.begun_ns = time.monotonic_ns()

    def __exit__(self, *error: object) -> None:
        tracer = getattr(asyncio._get_running_loop(), "_tracer", None)
        if tracer is not None:
            tracer.span(self.name, self.begun_ns, self.args)
