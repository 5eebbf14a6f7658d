"""Locks of a world: the primitives of `_thread` on the scheduler of the kernel.

Facts: threading's Condition, Event, Semaphore, Barrier and Timer, queue.Queue and the executors
are Python, and stand on three things: `allocate_lock`, `RLock`, and the start of a thread. With
those three from the kernel the rest works unchanged.

Rule: to wait for a lock is to sleep in the scheduler; a thread of the host never waits for a real
one. Waiters are woken one at a time, in the order in which they came. Taking and releasing a
lock are where other threads may run, by the tape. A signal's handler runs in the wait, and the
wait goes on. Which lock a task sleeps on is in its `waits_for`.
Left out: locks made before the run, other than those in the globals of modules (SharedLock).
"""

from __future__ import annotations

import _thread
import sys
import weakref
from typing import TYPE_CHECKING, Any

from ...kernel.wait import WaitQueueHead, wait_event_interruptible
from .. import inside

if TYPE_CHECKING:
    from ..host import Host

NSEC_PER_SEC = 1_000_000_000
TIMEOUT_MAX = _thread.TIMEOUT_MAX
SWITCH_PROBABILITY = 0.25
real_allocate_lock: Any = _thread.allocate_lock
real_local = _thread._local
real_lock = _thread.LockType


def maker() -> str:
    """Return "file:line" of the code that makes a lock: not threading's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if not name.endswith(("/threading.py", "/queue.py")) and "/sim/names/" not in name:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def timeout_ns(blocking: bool, timeout: float) -> int | None:
    """Return how long acquire may wait, None for ever. ValueError, OverflowError."""
    if not blocking:
        if timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return 0
    if timeout == -1:
        return None
    if timeout < 0:
        raise ValueError("timeout value must be a non-negative number")
    if timeout > TIMEOUT_MAX:
        raise OverflowError("timeout value is too large")
    return round(timeout * NSEC_PER_SEC)


# How many worlds are over: a lock that was taken in one of them is free.
worlds_ended: int = 0


class Lock:
    """A lock of a world, as `_thread.lock`: any thread may release it."""

    __slots__ = (
        "__weakref__",
        "_head",
        "_is_quiet",
        "_locked",
        "_maker",
        "_owner",
        "_purpose",
        "_waiters",
        "_world",
    )

    def __init__(self, purpose: str | None = None, *, is_quiet: bool = False) -> None:
        self._purpose = purpose
        self._head: WaitQueueHead | None = None
        self._waiters = 0
        self._locked = False
        # A name: neither the owner nor the world must live as long as the lock.
        self._owner = ""
        self._world = worlds_ended
        self._maker = maker() if purpose is None else "threading"
        # What a process does once, to import or to fill a cache, must not draw from the tape.
        self._is_quiet = is_quiet or self._maker.startswith("<frozen importlib")

    def __repr__(self) -> str:
        state = "locked" if self._locked else "unlocked"
        return f"<{state} lock of a simulated world made at {self._maker}>"

    def _begin_anew(self) -> None:
        """Be free: the world in which the lock was taken last is over, and its owner is gone."""
        self._head, self._locked, self._owner, self._world = None, False, "", worlds_ended
        self._waiters = 0

    def _take(self) -> bool:
        if self._locked:
            return False
        self._locked = True
        return True

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        wait_ns = timeout_ns(bool(blocking), timeout)
        host = inside.host()
        if host is None:
            if self._take():
                return True
            if wait_ns == 0:
                return False
            raise RuntimeError(f"{self!r} is waited for outside of it")
        if self._world != worlds_ended:
            self._begin_anew()
        if not self._is_quiet:
            switch_point(host)
        if not self._take() and (wait_ns == 0 or not self._wait(host, wait_ns)):
            if wait_ns == 0:
                host.world.sched.found_nothing()
            return False
        # One that is taken again and again guards what a loop may ask for.
        host.world.sched.spins(10)
        self._owner = host.world.sched.current.name
        return True

    def _wait(self, host: Host, wait_ns: int | None) -> bool:
        """Sleep until the lock is ours; False if `wait_ns` passed first."""
        sched = host.world.sched
        if self._head is None:
            self._head = WaitQueueHead(sched, "lock")
        head = self._head
        expires_ns = None if wait_ns is None else sched.clock.now_ns + wait_ns
        self._waiters += 1
        try:
            return sleep_on(host, head, self._take, expires_ns, self._describe)
        finally:
            # One that was woken, and has not run yet, is on no queue and may go back to this one.
            self._waiters -= 1
            if not self._waiters:
                self._head = None

    def _describe(self) -> str:
        if self._purpose is not None:
            return self._purpose
        held = f", held by {self._owner}" if self._owner else ""
        return f"lock made at {self._maker}{held}"

    def release(self) -> None:
        if not self._locked:
            raise RuntimeError("release unlocked lock")
        self._locked, self._owner = False, ""
        if self._head is not None and self._head.active:
            self._head.wake_up()
            host = inside.host()
            if host is not None and not self._is_quiet:
                switch_point(host)

    def locked(self) -> bool:
        host = inside.host() if self._locked else None
        if host is not None:
            # A loop may wait for it so, as for the end of a thread since 3.13.
            host.world.sched.found_nothing()
        return self._locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()

    # As `_thread.lock` has them.
    acquire_lock: Any = acquire
    release_lock: Any = release
    locked_lock: Any = locked

    def _at_fork_reinit(self) -> None:
        self._begin_anew()


def switch_point(host: Host) -> None:
    """Let another thread of the process run here, if one is ready and the tape says so.

    Without that a thread which releases a lock and takes it again would always get it.
    """
    sched = host.world.sched
    me = sched.current
    for task in sched.ready:
        if task.process is me.process and task is not me:
            break
    else:
        return
    if host.running and sched.tape.chance(f"{host.name} threads", SWITCH_PROBABILITY):
        sched.yield_to_others()


def sleep_on(
    host: Host, head: WaitQueueHead, condition: Any, expires_ns: int | None, describe: Any
) -> bool:
    """Sleep until `condition()`; returns False if `expires_ns` passed first."""
    task: Any = head.sched.current
    task.waits_for = describe
    try:
        while True:
            try:
                return wait_event_interruptible(
                    head, condition, exclusive=True, expires_ns=expires_ns
                )
            except InterruptedError:
                # PEP 475: a handler that raises nothing does not end the wait.
                host.kernel.signals.deliver()
    finally:
        task.waits_for = None


class RLock:
    """A reentrant lock of a world, as `_thread.RLock`."""

    __slots__ = ("__weakref__", "_block", "_count", "_owner")

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._block: Lock = Lock(is_quiet=is_quiet)
        self._owner: int | None = None
        self._count = 0

    def __repr__(self) -> str:
        return f"<reentrant {self._block!r} owner={self._owner} count={self._count}>"

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = _thread.get_ident()
        if self._owner == me:
            self._count += 1
            return True
        taken = self._block.acquire(blocking, timeout)
        if taken:
            self._owner, self._count = me, 1
        return taken

    def release(self) -> None:
        if self._owner != _thread.get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = None
            self._block.release()

    def locked(self) -> bool:
        return self._block.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()

    # What threading.Condition asks a lock for.

    def _acquire_restore(self, state: tuple[int, int | None]) -> None:
        self._block.acquire()
        self._count, self._owner = state

    def _release_save(self) -> tuple[int, int | None]:
        if not self._count:
            raise RuntimeError("cannot release un-acquired lock")
        state = self._count, self._owner
        self._count, self._owner = 0, None
        self._block.release()
        return state

    def _is_owned(self) -> bool:
        return self._owner == _thread.get_ident()

    def _recursion_count(self) -> int:
        return self._count if self._owner == _thread.get_ident() else 0

    def _at_fork_reinit(self) -> None:
        self._block._at_fork_reinit()
        self._owner, self._count = None, 0


# The stand-ins that hold something of the world that runs.
used: list[Any] = []


def let_go() -> None:
    """Let the world go whose locks and locals the stand-ins hold: it is over."""
    global worlds_ended
    worlds_ended += 1
    for shared in used:
        object.__setattr__(shared, "_worlds", (None, None))
    used.clear()


class SharedLock:
    """What stands for a real lock in a module's globals: hosts have one of their own for it."""

    __slots__ = ("__weakref__", "_make", "_real", "_worlds")

    def __init__(self, real: Any) -> None:
        self._real = real
        self._make: Any = Lock if isinstance(real, real_lock) else RLock
        self._worlds: tuple[Any, Any] = (None, None)

    def _lock(self) -> Any:
        host = inside.host()
        if host is None:
            return self._real
        sched, lock = self._worlds
        if sched is not host.world.sched:
            lock = self._make(is_quiet=True)
            self._worlds = (host.world.sched, lock)
            used.append(self)
        return lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        taken: bool = self._lock().acquire(blocking, timeout)
        return taken

    def release(self) -> None:
        self._lock().release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock(), name)


class Local:
    """threading.local by tasks: a host's thread sees what it has set itself.

    `real`, if given, is the object that stands here outside of worlds.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if inside.host() is None and cls is Local:
            return real_local(*args, **kwargs)
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError("Initialization arguments are not supported")
        self = object.__new__(cls)
        object.__setattr__(self, "_local__args", (args, kwargs))
        # By task, or by identity outside of worlds; a task takes its attributes with it.
        object.__setattr__(self, "_local__dicts", (weakref.WeakKeyDictionary(), {}))
        space(self)
        return self

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__":
            return space(self)
        values = space(self)
        if name in values:
            return values[name]
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "__dict__":
            raise AttributeError(
                f"{type(self).__name__!r} object attribute '__dict__' is read-only"
            )
        space(self)[name] = value

    def __delattr__(self, name: str) -> None:
        values = space(self)
        if name not in values:
            raise AttributeError(name)
        del values[name]


def space(local: Local) -> dict[str, Any]:
    """Return the attributes that `local` has in the current thread."""
    by_task, by_ident = object.__getattribute__(local, "_local__dicts")
    host = inside.host()
    key: Any = _thread.get_ident() if host is None else host.world.sched.current
    dicts: Any = by_ident if host is None else by_task
    values: dict[str, Any] | None = dicts.get(key)
    if values is None:
        values = dicts[key] = {}
        args, kwargs = object.__getattribute__(local, "_local__args")
        kind = type(local)
        if kind.__init__ is not object.__init__ and len(by_task) + len(by_ident) > 1:
            # As of threading.local: a subclass initializes itself in each thread.
            local.__init__(*args, **kwargs)  # type: ignore[misc]
    return values


class SharedLocal:
    """What stands for a threading.local in a module's globals: hosts have one of their own."""

    __slots__ = ("_real", "_worlds")

    def __init__(self, real: Any) -> None:
        object.__setattr__(self, "_real", real)
        object.__setattr__(self, "_worlds", (None, None))

    def __getattribute__(self, name: str) -> Any:
        return getattr(here(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(here(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(here(self), name)


def here(shared: SharedLocal) -> Any:
    """Return the object that `shared` stands for in the current thread."""
    host = inside.host()
    if host is None:
        return object.__getattribute__(shared, "_real")
    sched, local = object.__getattribute__(shared, "_worlds")
    if sched is not host.world.sched:
        local = Local()
        object.__setattr__(shared, "_worlds", (host.world.sched, local))
        used.append(shared)
    return local
