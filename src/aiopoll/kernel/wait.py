"""kernel/sched/wait.c and include/linux/wait.h: wait queues.

Facts: a head is a list of entries under a lock. `add_wait_queue` puts an entry at the front,
`add_wait_queue_exclusive` at the back. So a wake-up meets the shared waiters first, newest first,
and then the exclusive ones, oldest first. `wake_up` calls each entry's function with the lock
held. A true result of an exclusive entry uses up one of `nr_exclusive`; a negative result ends the
walk. `key` carries the poll bits that changed, 0 meaning "unknown: check".

Rule: code that checks a condition and then sleeps checks and enqueues under the head's lock, or
enqueues first and checks afterwards. poll and aio differ in exactly this: see select.py, aio.py.

Left out: bookmarks for very long queues, wait-bit tables, the WQ_FLAG_PRIORITY entries of KVM.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from .hrtimer import HrTimer
from .sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Scheduler, SpinLock, Task
from .uapi import error

WQ_FLAG_EXCLUSIVE = 0x01

WaitFunction = Callable[["WaitQueueEntry", int], int]


class WaitQueueEntry:
    """wait_queue_entry_t: `func(entry, key)` is called under the lock of the head it is on."""

    __slots__ = ("flags", "func", "head", "private")

    def __init__(self, func: WaitFunction, private: Any = None, flags: int = 0) -> None:
        self.func: WaitFunction = func
        self.private: Any = private
        self.flags: int = flags
        self.head: WaitQueueHead | None = None

    @property
    def queued(self) -> bool:
        """Return whether the entry is on a queue: !list_empty(&entry->entry)."""
        return self.head is not None


class WaitQueueHead:
    """wait_queue_head_t. Names with two leading underscores in Linux are `*_locked` here."""

    __slots__ = ("entries", "lock", "sched")

    def __init__(self, sched: Scheduler, name: str = "wait") -> None:
        self.sched: Scheduler = sched
        self.lock: SpinLock = SpinLock(sched, f"{name}->lock")
        self.entries: list[WaitQueueEntry] = []

    @property
    def active(self) -> bool:
        """waitqueue_active: return whether any entry waits."""
        return bool(self.entries)

    def add_wait_queue(self, entry: WaitQueueEntry) -> None:
        with self.lock:
            self.add_wait_queue_locked(entry)

    def add_wait_queue_locked(self, entry: WaitQueueEntry) -> None:
        """Shared waiters go to the front: the last to come is the first to be woken."""
        assert entry.head is None, "entry is already on a queue"
        entry.flags &= ~WQ_FLAG_EXCLUSIVE
        entry.head = self
        self.entries.insert(0, entry)

    def add_wait_queue_exclusive(self, entry: WaitQueueEntry) -> None:
        with self.lock:
            self.add_wait_queue_exclusive_locked(entry)

    def add_wait_queue_exclusive_locked(self, entry: WaitQueueEntry) -> None:
        """Exclusive waiters go to the back and are woken in order."""
        assert entry.head is None, "entry is already on a queue"
        entry.flags |= WQ_FLAG_EXCLUSIVE
        entry.head = self
        self.entries.append(entry)

    def remove_wait_queue(self, entry: WaitQueueEntry) -> None:
        """Take `entry` off if it is on; an entry that a wake-up removed is no error."""
        with self.lock:
            if entry.head is self:
                self.remove_wait_queue_locked(entry)

    def remove_wait_queue_locked(self, entry: WaitQueueEntry) -> None:
        self.entries.remove(entry)
        entry.head = None

    def wake_up(self, key: int = 0, nr_exclusive: int = 1) -> int:
        """Wake all shared waiters and `nr_exclusive` exclusive ones (0: all of them)."""
        lock = self.lock
        if lock.sched.preemptive or lock.owner is not None:
            with lock:
                return self.wake_up_locked(key, nr_exclusive)
        # With one task there is none to race with: as waitqueue_active() before a wake-up, and
        # the lock without its places to be interrupted.
        if not self.entries:
            return 0
        lock.owner = lock.sched.current
        try:
            return self.wake_up_locked(key, nr_exclusive)
        finally:
            lock.owner = None

    def wake_up_all(self, key: int = 0) -> int:
        return self.wake_up(key, 0)

    def wake_up_locked(self, key: int = 0, nr_exclusive: int = 1) -> int:
        """__wake_up_common: returns how many entries reported that they woke a task."""
        assert self.lock.owner is not None, "wake-up without the queue lock"
        woken = 0
        for entry in list(self.entries):
            if entry.head is not self:
                continue
            exclusive = entry.flags & WQ_FLAG_EXCLUSIVE
            answer = entry.func(entry, key)
            if answer < 0:
                break
            if answer:
                woken += 1
                if exclusive:
                    nr_exclusive -= 1
                    if nr_exclusive == 0:
                        break
        return woken


def default_wake_function(entry: WaitQueueEntry, key: int) -> int:
    """Make the task in `entry.private` runnable; the entry stays on the queue."""
    task: Task = entry.private
    assert entry.head is not None
    return int(entry.head.sched.wake_up_process(task))


def autoremove_wake_function(entry: WaitQueueEntry, key: int) -> int:
    """As the default, and the entry leaves the queue once its task was woken."""
    head = entry.head
    assert head is not None
    woken = default_wake_function(entry, key)
    if woken:
        head.remove_wait_queue_locked(entry)
    return woken


def signal_pending(sched: Scheduler) -> bool:
    """Return whether the current task has a signal to deliver."""
    current = sched.current
    return any(signo not in current.blocked for signo in current.pending)


def schedule_hrtimeout(sched: Scheduler, expires_ns: int | None) -> bool:
    """Sleep until a wake-up or the absolute time `expires_ns`; returns False if that passed."""
    current = sched.current
    if expires_ns is None:
        sched.schedule()
        return True
    if expires_ns <= sched.clock.now_ns:
        current.state = TASK_RUNNING
        return False
    timer = HrTimer(lambda: sched.wake_up_process(current))
    sched.clock.start(timer, expires_ns)
    try:
        sched.schedule()
    finally:
        still_armed = sched.clock.cancel(timer)
    return still_armed


def wait_event_interruptible(
    head: WaitQueueHead,
    condition: Callable[[], bool],
    *,
    exclusive: bool = False,
    expires_ns: int | None = None,
) -> bool:
    """Sleep on `head` until `condition()`; returns False when `expires_ns` passed first.

    Raises OSError(EINTR) when a signal is pending and the condition does not hold.
    """
    sched = head.sched
    entry = WaitQueueEntry(autoremove_wake_function, sched.current)
    in_time = True
    try:
        while True:
            # The state changes before the check: a wake-up between the two is not lost.
            with head.lock:
                if not entry.queued:
                    if exclusive:
                        head.add_wait_queue_exclusive_locked(entry)
                    else:
                        head.add_wait_queue_locked(entry)
                sched.current.state = TASK_INTERRUPTIBLE
            if condition():
                return True
            if signal_pending(sched):
                raise error(errno.EINTR)
            if not in_time:
                return False
            in_time = schedule_hrtimeout(sched, expires_ns)
    finally:
        sched.current.state = TASK_RUNNING
        head.remove_wait_queue(entry)
