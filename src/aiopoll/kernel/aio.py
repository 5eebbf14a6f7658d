"""fs/aio.c: the AIO system calls, with IOCB_CMD_POLL and IOCB_CMD_FSYNC as the series adds them.

Facts: a request in flight is on `active_reqs` if it can be cancelled. It holds a reference to its
file, and has exactly one event. A poll is one-shot. Its check and its enqueueing happen under the
lock of the file's queue, in one step: an event comes before the check, or wakes the entry.

The order of locks: ctx_lock, then head->lock, when a poll is submitted. The wake-up runs with
head->lock held and must not wait for ctx_lock: where a trylock fails, a work item completes.

Completion by trylock or work item is that of v12, fput after the event that of v13.

Cancellation, as reworked in V7 and V8:
- delayed: `ki_cancel` runs after ctx_lock was dropped, so that it may take head->lock alone;
- safe: the canceller holds a reference, so a completion that overtakes it frees no memory in use;
  the code that takes the wait entry off its queue, under head->lock, is the one that completes;
- unconditional: a request that io_cancel found is marked, and a wake-up leaves it alone. So its
  event has res 0 unless the wake-up came first. io_cancel always returns -EINPROGRESS.
V8's own text was not at hand: these three rules are inferred from its interface and its changelog,
and race.py searches them for a hole.

Left out: AIO on block devices (rw requests finish inside io_submit, except by sleeping there),
IOCB_FLAG_IOPRIO's effect, compat calls, per-CPU slot caches other than the submitting CPU's.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .aio_abi import (
    IOCB_CMD_FDSYNC,
    IOCB_CMD_FSYNC,
    IOCB_CMD_POLL,
    IOCB_CMD_PREAD,
    IOCB_CMD_PREADV,
    IOCB_CMD_PWRITE,
    IOCB_CMD_PWRITEV,
    IOCB_FLAG_RESFD,
    RWF_APPEND,
    RWF_DSYNC,
    RWF_NOWAIT,
    RWF_SUPPORTED,
    RWF_SYNC,
    Iocb,
    IoEvent,
)
from .eventfd import EventFd, eventfd_fops
from .file import vfs_read, vfs_write
from .kioctx import IO_EVENT_SIZE, AioKiocb, KioContext
from .mmap import Mapping
from .ramfs import generic_write_sync
from .sched import TASK_RUNNING, TASK_UNINTERRUPTIBLE, Scheduler
from .select import file_has_poll_mask, vfs_get_poll_head, vfs_poll_mask
from .syscall import SyscallTable, syscall
from .uapi import (
    EPOLLERR,
    EPOLLHUP,
    LONG_MAX,
    PAGE_SIZE,
    BadAddress,
    error,
)
from .wait import WaitQueueEntry, WaitQueueHead, wait_event_interruptible

AIO_MAX_NR = 0x10000

AIO_IOCB_CANCELLED = 1


class Aio:
    """The subsystem: the work of a request. Tests replace single methods with broken ones."""

    def __init__(self, sched: Scheduler) -> None:
        self.sched = sched

    def check_fields(self, iocb: Iocb) -> None:
        """Raise EINVAL for an unknown opcode, or a field that a poll or fsync must not use."""
        opcode = iocb.aio_lio_opcode
        if opcode in (IOCB_CMD_PREAD, IOCB_CMD_PWRITE, IOCB_CMD_PREADV, IOCB_CMD_PWRITEV):
            return
        unused = iocb.aio_offset or iocb.aio_nbytes or iocb.aio_rw_flags
        if opcode == IOCB_CMD_POLL:
            unused = unused or iocb.aio_buf & 0xFFFF != iocb.aio_buf
        elif opcode in (IOCB_CMD_FSYNC, IOCB_CMD_FDSYNC):
            unused = unused or iocb.aio_buf
        else:
            raise error(errno.EINVAL)
        if unused:
            raise error(errno.EINVAL)

    # IOCB_CMD_POLL

    def aio_poll(self, req: AioKiocb) -> None:
        """Arm a poll, or complete it at once if the file is ready."""
        if not file_has_poll_mask(req.file):
            raise error(errno.EINVAL)
        req.events = req.user_iocb.aio_buf | EPOLLERR | EPOLLHUP
        head = vfs_get_poll_head(req.file, req.events)
        if head is None:
            raise error(errno.EINVAL)
        if isinstance(head, OSError):
            self.complete_poll(req, EPOLLERR)
            return
        if isinstance(head, int):
            self.complete_poll(req, head & req.events)
            return
        req.head = head
        req.wait = WaitQueueEntry(lambda entry, key: self.aio_poll_wake(req, entry, key))
        mask = self.arm(req, head, req.wait)
        if mask:
            self.complete_poll(req, mask)

    def arm(self, req: AioKiocb, head: WaitQueueHead, entry: WaitQueueEntry) -> int:
        """Check and enqueue under head->lock; if ready, return the mask and do not enqueue."""
        with req.ctx.ctx_lock, head.lock:
            mask = vfs_poll_mask(req.file, req.events) & req.events
            if not mask:
                head.add_wait_queue_locked(entry)
                req.ctx.active_reqs.append(req)
        return mask

    def aio_poll_wake(self, req: AioKiocb, entry: WaitQueueEntry, key: int) -> int:
        """The wake-up: head->lock is held. A keyed wake-up is only a hint."""
        if key and not key & req.events:
            return 0
        if req.flags & AIO_IOCB_CANCELLED:
            # The canceller has claimed it and is about to take the entry off.
            return 0
        mask = vfs_poll_mask(req.file, req.events) & req.events
        if not mask:
            return 0
        assert entry.head is not None
        ctx = req.ctx
        if ctx.ctx_lock.trylock():
            # No task can be between finding the request and marking it: that takes ctx_lock.
            if req.flags & AIO_IOCB_CANCELLED:
                ctx.ctx_lock.unlock()
                return 0
            entry.head.remove_wait_queue_locked(entry)
            ctx.remove_active(req)
            ctx.ctx_lock.unlock()
            if req.eventfd is not None and req.eventfd.wqh.lock.owner is self.sched.current:
                # This very eventfd woke the poll, and its lock is held: it is signalled later.
                self.sched.queue_work(lambda: self.complete_poll(req, mask))
            else:
                self.complete_poll(req, mask)
        else:
            entry.head.remove_wait_queue_locked(entry)
            self.sched.queue_work(lambda: self.aio_poll_complete_work(req, mask))
        return 1

    def aio_poll_complete_work(self, req: AioKiocb, mask: int) -> None:
        with req.ctx.ctx_lock:
            req.ctx.remove_active(req)
        self.complete_poll(req, mask)

    def aio_poll_cancel(self, req: AioKiocb) -> None:
        """ki_cancel of a poll: called without ctx_lock, with a reference held."""
        head, entry = req.head, req.wait
        assert head is not None
        assert entry is not None
        with head.lock:
            assert req.refs > 0, "request used after it was freed"
            mine = entry.queued
            if mine:
                head.remove_wait_queue_locked(entry)
        if mine:
            # From a work item: the event must not complete under the locks that io_cancel's
            # caller holds.
            self.sched.queue_work(lambda: self.complete_poll(req, 0))

    def complete_poll(self, req: AioKiocb, mask: int) -> None:
        req.ctx.aio_complete(req, mask)

    # Cancellation

    def claim(self, req: AioKiocb) -> None:
        """ctx_lock is held: mark the request, keep it alive, take it off the list."""
        req.flags |= AIO_IOCB_CANCELLED
        req.get()
        req.ctx.remove_active(req)

    def cancel(self, ctx: KioContext, iocb: Iocb) -> None:
        """Cancel the oldest request of `iocb`; EINVAL if there is none."""
        with ctx.ctx_lock:
            found = next((req for req in ctx.active_reqs if req.user_iocb is iocb), None)
            if found is None:
                raise error(errno.EINVAL)
            self.claim(found)
        self.aio_poll_cancel(found)
        found.put()

    def cancel_all(self, ctx: KioContext) -> None:
        """free_ioctx_users: cancel the requests in flight, for io_destroy."""
        with ctx.ctx_lock:
            claimed = list(ctx.active_reqs)
            for req in claimed:
                self.claim(req)
        for req in claimed:
            self.aio_poll_cancel(req)
            req.put()

    # IOCB_CMD_FSYNC and IOCB_CMD_FDSYNC

    def aio_fsync(self, req: AioKiocb, iocb: Iocb, datasync: bool) -> None:
        """A work item does the fsync; it cannot be cancelled."""
        fsync = req.file.f_op.fsync
        if fsync is None:
            raise error(errno.EINVAL)

        def work() -> None:
            try:
                fsync(req.file, datasync)
                res = 0
            except OSError as exc:
                res = -(exc.errno or errno.EIO)
            req.ctx.aio_complete(req, res)

        self.sched.queue_work(work)

    # IOCB_CMD_PREAD, PWRITE, PREADV, PWRITEV: they finish inside io_submit.

    def aio_rw(self, req: AioKiocb, iocb: Iocb) -> None:
        file = req.file
        reading = iocb.aio_lio_opcode in (IOCB_CMD_PREAD, IOCB_CMD_PREADV)
        if iocb.aio_rw_flags & ~RWF_SUPPORTED:
            raise error(errno.EOPNOTSUPP)
        if iocb.aio_rw_flags & RWF_NOWAIT and not file.f_op.nowait:
            raise error(errno.EOPNOTSUPP)
        if not (file.readable if reading else file.writable):
            raise error(errno.EBADF)
        if not (file.f_op.read if reading else file.f_op.write and file.f_op.write_iter):
            raise error(errno.EINVAL)
        parts = import_iovec(iocb, reading)
        # rw_verify_area, also for files without a position.
        if iocb.aio_offset < 0:
            raise error(errno.EINVAL)
        nowait = bool(iocb.aio_rw_flags & RWF_NOWAIT)
        pos = iocb.aio_offset
        try:
            if reading:
                data = vfs_read(file, sum(size for _, size in parts), pos, nowait=nowait)
                copy_to_user(data, parts)
                res = len(data)
            else:
                append = bool(iocb.aio_rw_flags & RWF_APPEND)
                res = vfs_write(file, copy_from_user(parts), pos, nowait=nowait, append=append)
                if res and iocb.aio_rw_flags & (RWF_DSYNC | RWF_SYNC):
                    generic_write_sync(file, not iocb.aio_rw_flags & RWF_SYNC)
        except OSError as exc:
            res = -(exc.errno or errno.EIO)
        req.ctx.aio_complete(req, res)


def import_iovec(iocb: Iocb, reading: bool) -> list[tuple[Any, int]]:
    """Return the user memory of a read or write, with its sizes. EFAULT, EINVAL for lengths."""
    vectored = iocb.aio_lio_opcode in (IOCB_CMD_PREADV, IOCB_CMD_PWRITEV)
    memory: Any = iocb.memory
    if vectored:
        if iocb.aio_nbytes > 1024:
            raise error(errno.EINVAL)
        memory = [] if memory is None else list(memory)[: iocb.aio_nbytes]
    elif iocb.aio_nbytes == 0:
        memory = []
    else:
        memory = [memory]
    parts: list[tuple[Any, int]] = []
    for part in memory:
        if part is None or isinstance(part, BadAddress):
            raise error(errno.EFAULT)
        size = len(part) if isinstance(part, Mapping) else memoryview(part).nbytes
        if reading and not isinstance(part, Mapping) and memoryview(part).readonly:
            raise error(errno.EFAULT)
        parts.append((part, size if vectored else min(size, iocb.aio_nbytes)))
    return parts


def copy_from_user(parts: Sequence[tuple[Any, int]]) -> bytes:
    return b"".join(
        part.load(size) if isinstance(part, Mapping) else memoryview(part).cast("B")[:size]
        for part, size in parts
    )


def copy_to_user(data: bytes, parts: Sequence[tuple[Any, int]]) -> None:
    done = 0
    for part, size in parts:
        chunk = data[done : done + size]
        if isinstance(part, Mapping):
            part.store(chunk)
        else:
            memoryview(part).cast("B")[: len(chunk)] = chunk
        done += len(chunk)


class AioSyscalls(SyscallTable):
    """io_setup, io_submit, io_cancel, io_getevents, io_pgetevents, io_destroy; mremap of a ring.

    Times are in nanoseconds. None stands for a NULL pointer, BADPTR for one that faults.
    """

    aio: Aio
    nr_cpus: int
    aio_max_nr: int
    aio_nr: int
    _next_ctx_id: int

    @property
    def contexts(self) -> dict[int, KioContext]:
        """The contexts of the current process, by id."""
        return self.sched.current.process.contexts

    def lookup_ioctx(self, ctx_id: int) -> KioContext:
        ctx = self.contexts.get(ctx_id)
        if ctx is None:
            raise error(errno.EINVAL)
        return ctx

    @contextlib.contextmanager
    def ioctx(self, ctx_id: int) -> Iterator[KioContext]:
        """Yield the context, kept for the length of a call; io_destroy cancels after that."""
        ctx = self.lookup_ioctx(ctx_id)
        ctx.users += 1
        try:
            yield ctx
        finally:
            self.put_ioctx(ctx)

    def put_ioctx(self, ctx: KioContext) -> None:
        ctx.users -= 1
        if not ctx.users:
            # free_ioctx_users: no call can add a request any more.
            self.aio.cancel_all(ctx)
            ctx.drained.wake_up(0, 0)

    @syscall
    def io_setup(self, nr_events: int, ctxp: int | BadAddress | None = 0) -> int:
        """Create a context with room for `nr_events`; returns its id. `ctxp` is *ctxp's value.

        EFAULT (ctxp), EINVAL (*ctxp not zero, no or far too many events), EAGAIN (aio-max-nr).
        """
        if ctxp is None or isinstance(ctxp, BadAddress):
            raise error(errno.EFAULT)
        nr_events &= 0xFFFFFFFF
        if ctxp or not nr_events:
            raise error(errno.EINVAL)
        # An unsigned int in Linux: twice 2**31 events, or one more, overflows to a small number.
        doubled = max(nr_events, self.nr_cpus * 4) * 2 & 0xFFFFFFFF
        if doubled > 0x10000000 // IO_EVENT_SIZE:
            raise error(errno.EINVAL)
        if nr_events > self.aio_max_nr or self.aio_nr + nr_events > self.aio_max_nr:
            raise error(errno.EAGAIN)
        ctx = KioContext(self.sched, self._ring_address(), nr_events, self.nr_cpus)
        self.contexts[ctx.id] = ctx
        self.aio_nr += nr_events
        return ctx.id

    @syscall
    def io_destroy(self, ctx_id: int) -> None:
        """Cancel all polls, wait for every request, discard all events. EINVAL.

        A task that waits for events of the context gets EINVAL.
        """
        self.kill_ioctx(self.contexts, self.lookup_ioctx(ctx_id))

    def kill_ioctx(self, contexts: dict[int, KioContext], ctx: KioContext) -> None:
        """Destroy one context: the work of io_destroy, and of exit_aio for each of them."""
        ctx.dead = True
        del contexts[ctx.id]
        self.aio_nr -= ctx.max_reqs
        ctx.wait.wake_up_all()
        self.put_ioctx(ctx)
        current = self.sched.current
        while ctx.users or ctx.in_flight:
            current.state = TASK_UNINTERRUPTIBLE
            entry = WaitQueueEntry(lambda *_: self.sched.wake_up_process(current), current)
            ctx.drained.add_wait_queue(entry)
            if ctx.users or ctx.in_flight:
                self.sched.schedule()
            current.state = TASK_RUNNING
            ctx.drained.remove_wait_queue(entry)

    @syscall
    def mremap(self, ctx_id: int, old_size: int, new_size: int) -> int:
        """Move the ring of a context, which is its id; returns the new id.

        EFAULT (no ring there, or growing it: VM_DONTEXPAND), EINVAL (a part of it).
        """
        ctx = self.contexts.get(ctx_id)
        if ctx is None or new_size > old_size:
            raise error(errno.EFAULT)
        if not old_size == new_size == ctx.ring.size:
            raise error(errno.EINVAL)
        del self.contexts[ctx_id]
        ctx.id = self._ring_address()
        self.contexts[ctx.id] = ctx
        return ctx.id

    def _ring_address(self) -> int:
        address = self._next_ctx_id
        self._next_ctx_id += PAGE_SIZE * 1024
        return address

    @syscall
    def io_submit(
        self, ctx_id: int, nr: int, iocbpp: Sequence[Iocb | BadAddress | None] | BadAddress | None
    ) -> int:
        """Submit `nr` requests; returns how many were submitted.

        The first bad one ends the call. If it is the first of all, its error is raised; otherwise
        that is lost, and the count shows the place. EINVAL, EFAULT, EAGAIN (no slot), EBADF,
        EOPNOTSUPP.
        """
        if nr < 0:
            raise error(errno.EINVAL)
        if isinstance(iocbpp, BadAddress):
            # access_ok came before the context in 2018.
            raise error(errno.EFAULT)
        with self.ioctx(ctx_id) as ctx:
            nr = min(nr, LONG_MAX // 8)
            for index in range(nr):
                try:
                    if iocbpp is None:
                        raise error(errno.EFAULT)
                    iocb = iocbpp[index] if index < len(iocbpp) else None
                    if iocb is None or isinstance(iocb, BadAddress):
                        raise error(errno.EFAULT)
                    self._io_submit_one(ctx, iocb)
                except OSError:
                    if index:
                        return index
                    raise
            return nr

    def _io_submit_one(self, ctx: KioContext, iocb: Iocb) -> None:
        if iocb.aio_reserved2:
            raise error(errno.EINVAL)
        if not 0 <= iocb.aio_nbytes <= LONG_MAX:
            raise error(errno.EINVAL)
        if not ctx.get_reqs_available():
            raise error(errno.EAGAIN)
        req: AioKiocb | None = None
        try:
            eventfd: EventFd | None = None
            if iocb.aio_flags & IOCB_FLAG_RESFD:
                resfd = self.fget(iocb.aio_resfd)
                if resfd.f_op is not eventfd_fops:
                    raise error(errno.EINVAL)
                eventfd = resfd.private_data
            # KIOCB_KEY, which is written although the request may still be refused.
            iocb.aio_key = 0
            # As in 2018: the checks of the opcode come before those of the descriptor.
            self.aio.check_fields(iocb)
            req = AioKiocb(ctx, iocb, self.fget(iocb.aio_fildes).get())
            req.eventfd = eventfd
            ctx.in_flight += 1
            try:
                self._dispatch(req, iocb)
            except OSError:
                ctx.in_flight -= 1
                raise
        except OSError:
            ctx.put_reqs_available(1)
            if req is not None:
                req.put()
            raise

    def _dispatch(self, req: AioKiocb, iocb: Iocb) -> None:
        opcode = iocb.aio_lio_opcode
        if opcode in (IOCB_CMD_PREAD, IOCB_CMD_PWRITE, IOCB_CMD_PREADV, IOCB_CMD_PWRITEV):
            self.aio.aio_rw(req, iocb)
        elif opcode in (IOCB_CMD_FSYNC, IOCB_CMD_FDSYNC):
            self.aio.aio_fsync(req, iocb, opcode == IOCB_CMD_FDSYNC)
        else:
            self.aio.aio_poll(req)

    @syscall
    def io_cancel(self, ctx_id: int, iocb: Iocb | BadAddress | None) -> int:
        """Cancel the request of `iocb`: returns -EINPROGRESS; its event comes through the ring.

        EFAULT (iocb), EINVAL (its key, the context, or no such request that can be cancelled).
        """
        if iocb is None or isinstance(iocb, BadAddress):
            raise error(errno.EFAULT)
        if iocb.aio_key:
            raise error(errno.EINVAL)
        with self.ioctx(ctx_id) as ctx:
            self.aio.cancel(ctx, iocb)
        return -errno.EINPROGRESS

    @syscall
    def io_getevents(
        self,
        ctx_id: int,
        min_nr: int,
        nr: int,
        timeout_ns: int | BadAddress | None = None,
        events: BadAddress | None = None,
    ) -> list[IoEvent]:
        """Return `min_nr` to `nr` events; fewer if the time runs out. A negative time is for ever.

        EFAULT (timeout; `events` is BADPTR and there is one), EINVAL (context, also when it is
        destroyed meanwhile; min_nr, nr), EINTR when a signal comes before any event.
        """
        if isinstance(timeout_ns, BadAddress):
            raise error(errno.EFAULT)
        return self._getevents(ctx_id, min_nr, nr, timeout_ns, events)

    @syscall
    def io_pgetevents(
        self,
        ctx_id: int,
        min_nr: int,
        nr: int,
        timeout_ns: int | BadAddress | None = None,
        sigmask: Iterable[int] | BadAddress | None = None,
        sigsetsize: int = 8,
        events: BadAddress | None = None,
    ) -> list[IoEvent]:
        """io_getevents with the signal mask `sigmask` during the wait, swapped atomically.

        EFAULT (timeout), EINVAL (sigsetsize not 8), EFAULT (sigmask), then as io_getevents.
        """
        if isinstance(timeout_ns, BadAddress):
            raise error(errno.EFAULT)
        if sigmask is not None:
            if sigsetsize != struct.calcsize("Q"):
                raise error(errno.EINVAL)
            if isinstance(sigmask, BadAddress):
                raise error(errno.EFAULT)
        # A signal that comes together with events is delivered under the temporary mask too.
        with self.signals.user_sigmask(sigmask, unless_pending=True):
            return self._getevents(ctx_id, min_nr, nr, timeout_ns, events)

    def _getevents(
        self,
        ctx_id: int,
        min_nr: int,
        nr: int,
        timeout_ns: int | None,
        memory: BadAddress | None,
    ) -> list[IoEvent]:
        with self.ioctx(ctx_id) as ctx:
            if not 0 <= min_nr <= nr:
                raise error(errno.EINVAL)
            return self._read_events(ctx, min_nr, nr, timeout_ns, memory)

    def _read_events(
        self,
        ctx: KioContext,
        min_nr: int,
        nr: int,
        timeout_ns: int | None,
        memory: BadAddress | None,
    ) -> list[IoEvent]:
        events: list[IoEvent] = []

        def read_events() -> bool:
            """aio_read_events: take the events that are there; True ends the wait."""
            if ctx.ring.head != ctx.ring.tail and nr > len(events) and memory is not None:
                raise error(errno.EFAULT)
            events.extend(ctx.ring.reap(nr - len(events)))
            return len(events) >= min_nr or ctx.dead

        if read_events() or timeout_ns == 0:
            pass
        else:
            forever = timeout_ns is None or timeout_ns < 0
            expires = None if forever else self.sched.clock.now_ns + (timeout_ns or 0)
            try:
                wait_event_interruptible(ctx.wait, read_events, expires_ns=expires)
            except OSError as exc:
                if exc.errno != errno.EINTR or not events:
                    raise
        if ctx.dead and not events:
            raise error(errno.EINVAL)
        return events
