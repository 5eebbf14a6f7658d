"""fs/eventpoll.c: epoll on the poll API.

Facts: an item watches one (file, descriptor) pair and hangs on the file's queue for as long as
it exists; its wake-up puts it on the ready list. `epoll_wait` polls each ready item again, so a
stale wake-up reports nothing. A level-triggered item goes back to the end of the list while it
stays ready; an edge-triggered one leaves it; EPOLLONESHOT disarms until EPOLL_CTL_MOD. The set
is itself a file: it can be polled and nested, five deep, never in a circle. Items are removed when
the file is released, not when a descriptor is closed.

Rule: an item that is put on the ready list wakes the tasks that wait on the set and those that
poll it. The order is always the same: list first, queues second.

Left out: EPOLLWAKEUP (accepted, without effect), busy polling, per-user watch limits, the
overflow list (a set is transferred in one step here).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from .file import File, FileOperations, noop_llseek
from .select import PollTable, file_can_poll, vfs_poll
from .syscall import SyscallTable, syscall
from .uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLHUP,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLRDNORM,
    EPOLLWAKEUP,
    BadAddress,
    error,
)
from .wait import WaitQueueEntry, WaitQueueHead, wait_event_interruptible

EP_MAX_NESTS = 4
EP_PRIVATE_BITS = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE
EPOLLEXCLUSIVE_OK_BITS = (
    EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE
)


class EpItem:
    """struct epitem: one watched file."""

    __slots__ = ("data", "ep", "events", "fd", "file", "hooks")

    def __init__(self, ep: EventPoll, file: File, fd: int, events: int, data: int) -> None:
        self.ep: EventPoll = ep
        self.file: File = file
        self.fd: int = fd
        self.events: int = events
        self.data: int = data
        self.hooks: list[tuple[WaitQueueHead, WaitQueueEntry]] = []

    def poll(self, pt: PollTable) -> int:
        """ep_item_poll: the events, of those requested, for which the file is ready."""
        pt.key = self.events & 0xFFFF
        return vfs_poll(self.file, pt) & self.events

    def queue_proc(self, file: File, head: WaitQueueHead, pt: PollTable) -> None:
        entry = WaitQueueEntry(self.poll_callback)
        self.hooks.append((head, entry))
        if self.events & EPOLLEXCLUSIVE:
            head.add_wait_queue_exclusive(entry)
        else:
            head.add_wait_queue(entry)

    def poll_callback(self, entry: WaitQueueEntry, key: int) -> int:
        """ep_poll_callback: runs under the lock of the watched queue."""
        if not self.events & ~EP_PRIVATE_BITS:
            return 0
        if key and not key & self.events:
            return 0
        ep = self.ep
        if self not in ep.rdllist:
            ep.rdllist[self] = None
        somebody_waits = bool(ep.wq.entries)
        ep.wq.wake_up(EPOLLIN)
        if ep.poll_wait.entries:
            ep.poll_wait.wake_up(EPOLLIN | EPOLLRDNORM)
        if not self.events & EPOLLEXCLUSIVE:
            return 1
        # An exclusive item uses up the wake-up only if a waiter is there to take this event.
        direction = key & (EPOLLIN | EPOLLOUT)
        takes = direction == 0 or direction in (self.events & EPOLLIN, self.events & EPOLLOUT)
        return int(somebody_waits and takes)


class EventPoll:
    """struct eventpoll: a set of watched files and the list of those that may be ready."""

    file: File

    def __init__(self, kernel: SyscallTable) -> None:
        self.wq: WaitQueueHead = WaitQueueHead(kernel.sched, "ep->wq")
        self.poll_wait: WaitQueueHead = WaitQueueHead(kernel.sched, "ep->poll_wait")
        self.items: dict[tuple[int, int], EpItem] = {}
        # A dict for its order, and to find an item in it at once.
        self.rdllist: dict[EpItem, None] = {}

    def insert(self, item: EpItem) -> None:
        self.items[id(item.file), item.fd] = item
        item.file.ep_items.append(item)
        self._rearm(item, item.poll(PollTable(item.queue_proc)))

    def modify(self, item: EpItem, events: int, data: int) -> None:
        # The mask changes before the file is polled: a wake-up in between finds the new one.
        item.events = events
        item.data = data
        self._rearm(item, item.poll(PollTable(None)))

    def _rearm(self, item: EpItem, ready: int) -> None:
        if ready and item not in self.rdllist:
            self.rdllist[item] = None
            self.wq.wake_up(EPOLLIN)
            self.poll_wait.wake_up(EPOLLIN | EPOLLRDNORM)

    def remove_item(self, item: EpItem) -> None:
        for head, entry in item.hooks:
            head.remove_wait_queue(entry)
        item.hooks.clear()
        item.file.ep_items.remove(item)
        self.rdllist.pop(item, None)
        del self.items[id(item.file), item.fd]

    def send_events(self, maxevents: int) -> list[tuple[int, int]]:
        """Poll the ready items again and report those that still are, oldest first."""
        if not self.rdllist:
            return []
        events: list[tuple[int, int]] = []
        batch, self.rdllist = list(self.rdllist), {}
        pt = PollTable(None)
        for index, item in enumerate(batch):
            if len(events) == maxevents:
                left = [item for item in batch[index:] if item not in self.rdllist]
                self.rdllist = dict.fromkeys([*left, *self.rdllist])
                break
            revents = item.poll(pt)
            if not revents:
                continue
            events.append((item.data, revents))
            if item.events & EPOLLONESHOT:
                item.events &= EP_PRIVATE_BITS
            elif not item.events & EPOLLET and item not in self.rdllist:
                self.rdllist[item] = None
        return events

    def depth(self) -> int:
        """Return how many sets deep the watched files are nested below this one."""
        inner = [ep for item in self.items.values() if (ep := as_eventpoll(item.file))]
        return 1 + max((ep.depth() for ep in inner), default=-1)

    def reaches(self, other: EventPoll) -> bool:
        return self is other or any(
            ep.reaches(other)
            for item in self.items.values()
            if (ep := as_eventpoll(item.file)) is not None
        )

    def height(self) -> int:
        """Return how many sets deep this one is watched by others."""
        return max((1 + item.ep.height() for item in self.file.ep_items), default=0)


def as_eventpoll(file: File) -> EventPoll | None:
    """is_file_epoll: the set behind `file`, if it is one."""
    return file.private_data if file.f_op is eventpoll_fops else None


def ep_eventpoll_get_poll_head(file: File, events: int) -> WaitQueueHead:
    ep: EventPoll = file.private_data
    return ep.poll_wait


def ep_eventpoll_poll_mask(file: File, events: int) -> int:
    """Report readiness when an item really is ready; the items that are not leave the list."""
    ep: EventPoll = file.private_data
    pt = PollTable(None)
    while ep.rdllist:
        first = next(iter(ep.rdllist))
        if first.poll(pt):
            return EPOLLIN | EPOLLRDNORM
        ep.rdllist.pop(first, None)
    return 0


def ep_eventpoll_release(file: File) -> None:
    ep: EventPoll = file.private_data
    for item in list(ep.items.values()):
        ep.remove_item(item)


eventpoll_fops: FileOperations = FileOperations(
    get_poll_head=ep_eventpoll_get_poll_head,
    poll_mask=ep_eventpoll_poll_mask,
    release=ep_eventpoll_release,
    llseek=noop_llseek,
)


class EventPollSyscalls(SyscallTable):
    """epoll_create1, epoll_ctl, epoll_wait (with the mask and nanoseconds of epoll_pwait2)."""

    @syscall
    def epoll_create1(self, flags: int = 0) -> int:
        """Return a descriptor of an empty set. EINVAL for flags other than EPOLL_CLOEXEC."""
        if flags & ~os.O_CLOEXEC:
            raise error(errno.EINVAL)
        ep = EventPoll(self)
        file = File(self.sched, eventpoll_fops, os.O_RDWR, ep)
        ep.file = file
        return self.files.install(file)

    @syscall
    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int = 0, data: int = -1) -> None:
        """Add, change or remove the watch on `fd`; epoll_wait returns `data` (default: the fd).

        EBADF, EPERM (file cannot be polled), EINVAL (not a set, itself, bad EPOLLEXCLUSIVE),
        ELOOP (circle or more than five deep), EEXIST, ENOENT: in this order. See epoll_ctl(2).
        """
        epfile = self.fget(epfd)
        file = self.fget(fd)
        if not file_can_poll(file):
            raise error(errno.EPERM)
        ep = as_eventpoll(epfile)
        inner = as_eventpoll(file)
        if ep is None or file is epfile:
            raise error(errno.EINVAL)
        if op != EPOLL_CTL_DEL and events & EPOLLEXCLUSIVE:
            if op == EPOLL_CTL_MOD:
                raise error(errno.EINVAL)
            if op == EPOLL_CTL_ADD and (inner is not None or events & ~EPOLLEXCLUSIVE_OK_BITS):
                raise error(errno.EINVAL)
        if (
            op == EPOLL_CTL_ADD
            and inner is not None
            and (inner.reaches(ep) or inner.depth() + ep.height() + 1 > EP_MAX_NESTS)
        ):
            raise error(errno.ELOOP)
        item = ep.items.get((id(file), fd))
        wanted = (events & 0xFFFFFFFF) | EPOLLERR | EPOLLHUP
        if op == EPOLL_CTL_ADD:
            if item is not None:
                raise error(errno.EEXIST)
            ep.insert(EpItem(ep, file, fd, wanted, fd if data == -1 else data))
        elif op == EPOLL_CTL_DEL:
            if item is None:
                raise error(errno.ENOENT)
            ep.remove_item(item)
        elif op == EPOLL_CTL_MOD:
            if item is None:
                raise error(errno.ENOENT)
            if item.events & EPOLLEXCLUSIVE:
                raise error(errno.EINVAL)
            ep.modify(item, wanted, fd if data == -1 else data)
        else:
            raise error(errno.EINVAL)

    @syscall
    def epoll_wait(
        self,
        epfd: int,
        maxevents: int,
        timeout_ns: int | None = None,
        sigmask: Iterable[int] | BadAddress | None = None,
    ) -> list[tuple[int, int]]:
        """Return up to `maxevents` pairs (data, events); after `timeout_ns` an empty list.

        EFAULT (sigmask), EBADF, EINVAL (maxevents, not a set), EINTR. See epoll_pwait2(2).
        """
        if isinstance(sigmask, BadAddress):
            raise error(errno.EFAULT)
        with self.signals.user_sigmask(sigmask):
            ep = as_eventpoll(self.fget(epfd))
            if maxevents <= 0 or ep is None:
                raise error(errno.EINVAL)
            return self._ep_poll(ep, maxevents, timeout_ns)

    def _ep_poll(
        self, ep: EventPoll, maxevents: int, timeout_ns: int | None
    ) -> list[tuple[int, int]]:
        if timeout_ns is not None and timeout_ns <= 0:
            found = ep.send_events(maxevents)
            if not found:
                self.sched.found_nothing()
            return found
        expires_ns = None if timeout_ns is None else self.sched.clock.now_ns + timeout_ns
        while True:
            # A ready item may turn out stale: then the wait goes on for the rest of its time.
            if not wait_event_interruptible(
                ep.wq, lambda: bool(ep.rdllist), exclusive=True, expires_ns=expires_ns
            ):
                return []
            events = ep.send_events(maxevents)
            if events:
                return events
