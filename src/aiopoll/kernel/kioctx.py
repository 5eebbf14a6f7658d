"""fs/aio.c, the part below the requests: contexts, their slots and their ring of events.

Facts: a ring has more places than were requested, since its size is rounded up to pages and
every possible CPU is counted. Slots move between the context and the submitting CPU in batches,
so the usable number is a multiple of a batch. A slot is taken by a request in flight and by an
event that was not reaped yet; slots of reaped events are found lazily, from the ring's head.

Rule: only `aio_complete` writes an event, and the file is released after the event.
Left out: caches of CPUs other than the submitting one, migration of the ring's pages.
"""

from __future__ import annotations

from typing import Any

from .aio_abi import AIO_RING_MAGIC, Iocb, IoEvent
from .eventfd import EventFd
from .file import File
from .sched import Scheduler, SpinLock
from .uapi import PAGE_SIZE
from .wait import WaitQueueEntry, WaitQueueHead

RING_HEADER_SIZE = 32
IO_EVENT_SIZE = 32


class AioRing:
    """struct aio_ring: the events, between `head` (the user's) and `tail` (the kernel's)."""

    def __init__(self, pages: int) -> None:
        self.magic = AIO_RING_MAGIC
        self.size: int = pages * PAGE_SIZE
        self.nr: int = (self.size - RING_HEADER_SIZE) // IO_EVENT_SIZE
        self.head: int = 0
        self.tail = 0
        self.events: list[IoEvent | None] = [None] * self.nr

    def reap(self, nr: int) -> list[IoEvent]:
        """Take up to `nr` events without a system call, as a user of the mapped ring does."""
        events: list[IoEvent] = []
        while self.head != self.tail and len(events) < nr:
            event = self.events[self.head]
            assert event is not None
            self.events[self.head] = None
            events.append(event)
            self.head = (self.head + 1) % self.nr
        return events


class AioKiocb:
    """struct aio_kiocb: one request in flight."""

    def __init__(self, ctx: KioContext, iocb: Iocb, file: File) -> None:
        self.ctx = ctx
        self.user_iocb = iocb
        self.user_data: Any = iocb.aio_data
        self.file = file
        self.eventfd: EventFd | None = None
        self.flags = 0
        self.refs: int = 1
        self.events = 0
        self.head: WaitQueueHead | None = None
        self.wait: WaitQueueEntry | None = None

    def get(self) -> None:
        assert self.refs > 0, "request used after it was freed"
        self.refs += 1

    def put(self) -> None:
        assert self.refs > 0, "request freed twice"
        self.refs -= 1
        if self.refs == 0:
            self.file.put_deferred()


class KioContext:
    """struct kioctx: an io_context."""

    def __init__(self, sched: Scheduler, ctx_id: int, nr_events: int, nr_cpus: int) -> None:
        self.sched = sched
        self.id = ctx_id
        self.max_reqs = nr_events
        wanted = max(nr_events, nr_cpus * 4) * 2 + 2
        size = RING_HEADER_SIZE + IO_EVENT_SIZE * wanted
        pages = -(-size // PAGE_SIZE)
        self.ring: AioRing = AioRing(pages)
        # Slots move between the shared count and the submitting CPU in batches.
        self.reqs_available: int = self.ring.nr - 1
        self.req_batch: int = max((self.ring.nr - 1) // (nr_cpus * 4), 1)
        self.cpu_reqs: int = 0
        self.completed_events: int = 0
        self.ctx_lock: SpinLock = SpinLock(sched, "ctx_lock")
        self.completion_lock: SpinLock = SpinLock(sched, "completion_lock")
        self.wait: WaitQueueHead = WaitQueueHead(sched, "ctx->wait")
        self.active_reqs: list[AioKiocb] = []
        self.in_flight: int = 0
        # One for io_setup, and one for each call that is in the context.
        self.users = 1
        self.dead = False
        self.drained: WaitQueueHead = WaitQueueHead(sched, "ctx->drained")

    # Slots: in flight plus not reaped yet.

    def get_reqs_available(self) -> bool:
        if self._take_slot():
            return True
        self.user_refill_reqs_available()
        return self._take_slot()

    def _take_slot(self) -> bool:
        if not self.cpu_reqs:
            if self.reqs_available < self.req_batch:
                return False
            self.reqs_available -= self.req_batch
            self.cpu_reqs = self.req_batch
        self.cpu_reqs -= 1
        return True

    def put_reqs_available(self, count: int) -> None:
        self.cpu_reqs += count
        while self.cpu_reqs >= self.req_batch * 2:
            self.cpu_reqs -= self.req_batch
            self.reqs_available += self.req_batch

    def refill_reqs_available(self, head: int, tail: int) -> None:
        """Give back the slots of reaped events: completed and no longer in the ring."""
        in_ring = (tail - head) % self.ring.nr
        reaped = min(self.completed_events, max(self.completed_events - in_ring, 0))
        if reaped:
            self.completed_events -= reaped
            self.put_reqs_available(reaped)

    def user_refill_reqs_available(self) -> None:
        with self.completion_lock:
            if self.completed_events:
                self.refill_reqs_available(self.ring.head % self.ring.nr, self.ring.tail)

    # Events

    def aio_complete(self, req: AioKiocb, res: int, res2: int = 0) -> None:
        """Put the one event of `req` into the ring, wake the waiters, drop the last reference.

        The file is released after the event can be seen, never before.
        """
        ring = self.ring
        with self.completion_lock:
            ring.events[ring.tail] = IoEvent(req.user_data, req.user_iocb, res, res2)
            ring.tail = (ring.tail + 1) % ring.nr
            assert ring.tail != ring.head, "the ring overflowed: slots were miscounted"
            self.completed_events += 1
            if self.completed_events > 1:
                self.refill_reqs_available(ring.head, ring.tail)
        if req.eventfd is not None:
            req.eventfd.signal(1)
        if self.wait.active:
            self.wait.wake_up(0, 0)
        req.put()
        self.in_flight -= 1
        if self.dead and self.in_flight == 0:
            self.drained.wake_up(0, 0)

    def remove_active(self, req: AioKiocb) -> None:
        if req in self.active_reqs:
            self.active_reqs.remove(req)
