"""threading, queue and executors: a thread of a program is a kernel task of its host.

Facts: `threading` keeps its threads by identity in a table of the process. asyncio, uvicorn and
logging ask whether they are in the main thread. Until 3.12 the end of a thread is a lock that C
releases; since 3.13 a handle of C has join.

Rule: a task with a stack is a thread; the loop of a host's program and what it calls are its main
thread. Threads are cooperative: others run while one waits, and where, the tape decides. What the
process keeps for threads (names, tables, exit hooks) is put back after the run.
Left out: preemption between two instructions, stack_size, settrace in threads of C.
"""

from __future__ import annotations

import _thread
import concurrent.futures.thread
import contextlib
import itertools
import queue
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ...kernel.sched import TaskExit
from ...kernel.signal import Killed
from .dispatch import Replacement, Value, function, functions, lookalike, method
from .locks import Local, Lock, RLock, SharedLocal, SharedLock, let_go, real_local

if TYPE_CHECKING:
    from ...kernel.sched import Task
    from ..host import Host

# Identities of threads: below any address, which real ones are, and above any index.
FIRST_MAIN = 0x10_000
FIRST_IDENT = 0x1000_000
REAL: dict[type, Callable[[], Any]] = {
    Lock: _thread.allocate_lock,
    RLock: _thread.RLock,
    Local: real_local,
}


class HostMainThread(threading.Thread):
    """threading's object for the main thread of a host."""

    def __init__(self, ident: int) -> None:
        super().__init__(name="MainThread", daemon=False)
        self._ident = ident
        self._started: threading.Event
        self._started.set()

    def is_alive(self) -> bool:
        return True

    def join(self, timeout: float | None = None) -> None:
        raise RuntimeError("cannot join current thread")


class Threads:
    """The threads of the hosts of one world."""

    def __init__(self) -> None:
        self._idents = itertools.count(FIRST_IDENT)
        self._by_task: dict[Task, int] = {}
        self._mains: dict[Any, HostMainThread] = {}
        # The lock that C would release at the end of a thread (before 3.13).
        self.sentinels: dict[Task, Lock] = {}

    def ident(self, host: Host) -> int:
        """Return the identity of the current thread of `host`."""
        task = host.world.sched.current
        process = task.process
        if task is process.main:
            return int(self.main(process).ident or 0)
        ident = self._by_task.get(task)
        if ident is None:
            owner = next(self._mains_of(task), None)
            ident = self._by_task[task] = next(self._idents) if owner is None else owner
        return ident

    def _mains_of(self, task: Task) -> Iterator[int]:
        """Yield the identity of the thread that runs the loop whose steps are `task`."""
        step: Any = getattr(task, "step", None)
        sleeper = getattr(getattr(step, "__self__", None), "_sleeper", None)
        if sleeper is not None:
            if sleeper is sleeper.process.main:
                yield int(self.main(sleeper.process).ident or 0)
            elif sleeper in self._by_task:
                yield self._by_task[sleeper]

    def main(self, process: Any) -> HostMainThread:
        """Return the main thread of `process`, which is another after a restart."""
        key = process, process.machine.starts
        found = self._mains.get(key)
        if found is None:
            # Apart from the others: a first run imports, and import locks ask for identities.
            ident = FIRST_MAIN + len(self._mains)
            found = self._mains[key] = HostMainThread(ident)
            threading._active[ident] = found  # type: ignore[attr-defined]
        return found

    def start(
        self, host: Host, function: Callable[..., Any], ended: Callable[[], Any], name: str
    ) -> int:
        """Start a thread of `host` that calls `function`; returns its identity."""
        ident = next(self._idents)

        def body() -> None:
            task = host.world.sched.current
            try:
                function()
            except SystemExit:
                pass
            except TaskExit:
                raise
            except Exception as exc:
                sys.unraisablehook(
                    SimpleNamespace(
                        exc_type=type(exc),
                        exc_value=exc,
                        exc_traceback=exc.__traceback__,
                        err_msg="Exception ignored in thread started by",
                        object=function,
                    )
                )
            finally:
                self._by_task.pop(task, None)
                sentinel = self.sentinels.pop(task, None)
                if sentinel is not None and sentinel.locked():
                    sentinel.release()
                ended()

        task = host.kernel.spawn(body, name=f"{host.name} {name}")
        self._by_task[task] = ident
        return ident

    def of_host(self, host: Host) -> list[threading.Thread]:
        """Return the threads of `host` that run, the main one first."""
        process = host.world.sched.current.process
        found: list[threading.Thread] = [self.main(process)]
        active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
        for task, ident in self._by_task.items():
            if task.process is process and ident in active and active[ident] not in found:
                found.append(active[ident])
        return found

    def of_ident(self, host: Host, ident: int) -> threading.Thread | None:
        """Return the thread of `host` with that identity, if it runs."""
        return next((one for one in self.of_host(host) if one.ident == ident), None)

    def forget(self) -> None:
        """Take the world's threads out of the tables of the process."""
        active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
        end = next(self._idents)
        for ident in [ident for ident in active if FIRST_MAIN <= ident < end]:
            del active[ident]
        locks: set[Any] = getattr(threading, "_shutdown_locks", set())
        locks -= {lock for lock in locks if isinstance(lock, Lock)}


threads: Threads = Threads()


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Number threads anew, and take them out of the tables of the process afterwards."""
    global threads
    threads = Threads()
    try:
        yield
    finally:
        threads.forget()
        threads = Threads()
        let_go()


def shared(value: Any) -> Any:
    """Return the stand-in for a lock or a local in the globals of a module."""
    return SharedLocal(value) if type(value) is real_local else SharedLock(value)


_real: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def real(value: Any) -> Any:
    """Return the real lock or local for one that a module made inside, None for what is none."""
    make = REAL.get(type(value))
    if make is None:
        return None
    found = _real.get(value)
    if found is None:
        found = _real[value] = make()
    return found


def get_ident(host: Host) -> int:
    return threads.ident(host)


def start_new_thread(
    host: Host,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    /,
) -> int:
    if not callable(function):
        raise TypeError("first arg must be callable")
    return threads.start(
        host, lambda: function(*args, **(kwargs or {})), lambda: None, name_of(function)
    )


def name_of(function: Any) -> str:
    """Return the name of the Thread whose start calls `function`, or that of the function."""
    thread = getattr(function, "__self__", None)
    if isinstance(thread, threading.Thread):
        return thread.name
    return str(getattr(function, "__name__", "thread"))


def set_sentinel(host: Host) -> Lock:
    task = host.world.sched.current
    lock = Lock(f"the end of {task.name}")
    threads.sentinels[task] = lock
    return lock


class ThreadHandle:
    """What a Thread has of the system's one since 3.13, as `_thread._ThreadHandle`."""

    def __init__(self) -> None:
        self.ident: int | None = None
        self._done = Lock()

    def begin(self) -> None:
        self._done.acquire()

    def named(self, purpose: str) -> None:
        self._done._purpose = purpose

    def _set_done(self) -> None:
        if self._done.locked():
            self._done.release()

    def is_done(self) -> bool:
        return self.ident is not None and not self._done.locked()

    def join(self, timeout: float | None = None) -> None:
        if self._done.acquire(True, -1 if timeout is None or timeout < 0 else timeout):
            self._done.release()


def start_joinable_thread(
    host: Host,
    function: Callable[[], Any],
    handle: ThreadHandle | None = None,
    daemon: bool = True,
) -> ThreadHandle:
    handle = handle or ThreadHandle()
    handle.begin()
    name = name_of(function)
    handle.ident = threads.start(host, function, handle._set_done, name)
    handle.named(f"the end of {host.name} {name}")
    return handle


def main_thread(host: Host) -> threading.Thread:
    return threads.main(host.world.sched.current.process)


def current_thread(host: Host) -> threading.Thread:
    ident = threads.ident(host)
    active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
    found = active.get(ident)
    if found is None:
        found = threading._DummyThread()
    return found


def enumerate_threads(host: Host) -> list[threading.Thread]:
    return threads.of_host(host)


def active_count(host: Host) -> int:
    return len(threads.of_host(host))


def _make_invoke_excepthook(original: Any) -> Any:
    """A thread that ends with its host or its world has not failed: no hook is called."""

    def make() -> Any:
        invoke = original()

        def invoke_excepthook(thread: threading.Thread) -> None:
            if not isinstance(sys.exc_info()[1], (TaskExit, Killed)):
                invoke(thread)

        return invoke_excepthook

    return make


def _submit(host: Host, original: Any, self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    """ThreadPoolExecutor.submit: an executor made outside has threads and queues of the machine."""
    if not isinstance(self._work_queue, queue._PySimpleQueue):  # type: ignore[attr-defined]
        from .escape import escaped

        raise escaped("a ThreadPoolExecutor made before the run", "make it inside the run")
    return original(self, fn, *args, **kwargs)


def interrupt_main(host: Host, signum: int = signal.SIGINT, /) -> None:
    signal.raise_signal(signum)


def _make_lock(original: Any) -> Any:
    if isinstance(original, type):
        return lookalike(original, lambda host: Lock(), Lock)
    return function(lambda host: Lock())(original)


def _make_rlock(original: Any) -> Any:
    if isinstance(original, type):
        return lookalike(original, lambda host: RLock(), RLock)
    return function(lambda host: RLock())(original)


def _make_handle(original: Any) -> Any:
    return lookalike(original, lambda host: ThreadHandle(), ThreadHandle)


def _make_queue(original: Any) -> Any:
    kind: Any = queue._PySimpleQueue  # type: ignore[attr-defined]
    return lookalike(original, lambda host: kind(), kind)


def _make_local(original: Any) -> Any:
    return Local


def replacements() -> Iterable[Replacement]:
    for name in ("allocate_lock", "allocate", "lock"):
        if hasattr(_thread, name):
            yield _thread, name, _make_lock
    yield _thread, "RLock", _make_rlock
    yield threading, "RLock", _make_rlock
    yield threading, "Lock", _make_lock
    if hasattr(_thread, "_ThreadHandle"):
        yield _thread, "_ThreadHandle", _make_handle
    yield _thread, "_local", _make_local
    yield queue, "SimpleQueue", _make_queue
    yield from functions(
        _thread,
        {
            "get_ident": get_ident,
            "get_native_id": get_ident,
            "start_new_thread": start_new_thread,
            "start_new": start_new_thread,
            "start_joinable_thread": start_joinable_thread,
            "_set_sentinel": set_sentinel,
            "interrupt_main": interrupt_main,
        },
    )
    yield from functions(
        threading,
        {
            "main_thread": main_thread,
            "current_thread": current_thread,
            "enumerate": enumerate_threads,
            "active_count": active_count,
        },
    )
    yield threading, "_make_invoke_excepthook", _make_invoke_excepthook
    yield concurrent.futures.thread.ThreadPoolExecutor, "submit", method(_submit)


def values() -> Iterable[Value]:
    executor = concurrent.futures.thread
    yield executor, "_threads_queues", weakref.WeakKeyDictionary
    yield executor.ThreadPoolExecutor, "_counter", lambda: staticmethod(itertools.count().__next__)
