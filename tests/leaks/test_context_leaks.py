"""Nothing grows: slots, rings, descriptors, memory and references, errors included."""

import gc
import os
import select
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.descriptors import open_count

from aiopoll import Context, Iocb

from .counts import MANY_SLOTS, rings

EVENT_SIZE = 32  # struct io_event


def close(context: Context) -> None:
    context.close()


def close_with_requests_parked(context: Context) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    context.submit([Iocb.poll(reader, select.POLLIN)] * 10)
    context.close()
    os.close(reader)
    os.close(writer)


def lose(context: Context) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    context.submit([Iocb.poll(reader, select.POLLIN, data=[context])])
    os.close(reader)
    os.close(writer)


def fail_inside_with(context: Context) -> None:
    with pytest.raises(ZeroDivisionError), context:
        raise ZeroDivisionError


@pytest.mark.parametrize("end", [close, close_with_requests_parked, lose, fail_inside_with])
def test_slots_rings_and_descriptors_come_back(user_ring, end: Callable[[Context], None]):
    gc.collect()
    before = rings(), open_count()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(3):
            context = Context(MANY_SLOTS, user_ring=user_ring)
            assert sum(rings()) >= sum(before[0]) + MANY_SLOTS * EVENT_SIZE
            end(context)
            del context
            gc.collect()
    assert (rings(), open_count()) == before


def test_a_refused_context_takes_nothing():
    before = rings(), open_count()
    max_nr = int(Path("/proc/sys/fs/aio-max-nr").read_text(encoding="ascii"))
    for _ in range(10):
        with pytest.raises((OSError, ValueError)):
            Context(max_nr + 1)
    assert (rings(), open_count()) == before


def refuse(call: Callable[[], object]) -> None:
    try:
        call()
    except (OSError, TypeError, ValueError, RuntimeError, BufferError):
        return
    pytest.fail("it was not refused")


class Work:
    """One round of everything, errors included, on one Context."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK)
        self.file = os.memfd_create("leaks")
        os.write(self.file, bytes(4096))
        self.buffer = bytearray(64)
        self.data = object()
        self.parked = Iocb.poll(self.reader, select.POLLIN, data=self.data)
        released = memoryview(bytearray(4))
        self.unusable = Iocb.preadv(self.file, [self.buffer, released], data=self.data)
        released.release()

    def finish(self) -> None:
        for fd in (self.reader, self.writer, self.file):
            os.close(fd)

    def polls(self) -> None:
        ready = Iocb.poll(self.writer, select.POLLOUT, data=self.data)
        self.context.submit([ready, self.parked, ready])
        self.context.cancel(self.parked)
        assert len(self.context.reap(3)) == 3

    def reads_and_writes(self) -> None:
        self.context.submit(
            [
                Iocb.pread(self.file, self.buffer, data=self.data),
                Iocb.preadv(self.file, [self.buffer] * 3, data=self.data),
                Iocb.pwrite(self.file, self.buffer, data=self.data),
                Iocb.pwritev(self.file, [self.buffer] * 3, data=self.data),
                Iocb.fsync(self.file, data=self.data),
            ]
        )
        assert len(self.context.reap(5)) == 5

    def refusals(self) -> None:
        bad = Iocb.pread(2**31 - 1, self.buffer, data=self.data)
        refuse(lambda: self.context.submit([self.parked, bad, self.parked]))
        self.context.cancel(self.parked)
        refuse(lambda: self.context.cancel(self.parked))
        assert len(self.context.reap(1)) == 1
        refuse(lambda: self.context.cancel(self.parked))
        refuse(lambda: self.context.submit([self.parked, self.unusable]))
        refuse(lambda: self.context.submit([self.parked, None]))  # type: ignore[list-item]
        refuse(lambda: self.context.reap(1))
        refuse(lambda: self.context.reap(0, timeout=-1))
        refuse(lambda: self.context.reap(0, sigmask=[99]))
        refuse(lambda: Context(0))
        refuse(lambda: self.context.__init__(4))
        refuse(lambda: Iocb.pread(self.file, b"read-only", data=self.data))
        refuse(lambda: Iocb.preadv(self.file, [self.buffer, None], data=self.data))
        self.context.submit([Iocb.pread(self.reader, self.buffer)])
        (event,) = self.context.reap()
        refuse(event.result)

    def round(self) -> None:
        self.polls()
        self.reads_and_writes()
        self.refusals()
        self.context.reap(0, timeout=0.0, sigmask=[14])
        self.context.statistics()


def test_many_rounds_keep_no_memory_and_no_references(context):
    work = Work(context)
    held = (work.data, work.buffer, work.parked, work.unusable)
    for _ in range(50):  # growth that comes once: records, the array of events, caches
        work.round()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in held]
    open_before = open_count()
    tracemalloc.start()
    try:
        for _ in range(50):
            work.round()
        gc.collect()
        size_before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            work.round()
        gc.collect()
        size_after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [sys.getrefcount(thing) for thing in held] == before
    assert size_after - size_before < 10_000  # ten bytes a round would be a leak
    assert open_count() == open_before
    assert context.statistics().in_flight == 0
    work.buffer.clear()
    work.finish()


def test_making_and_closing_keeps_no_memory(user_ring):
    def live_and_die() -> None:
        with Context(8, user_ring=user_ring) as context:
            work = Work(context)
            work.polls()
            context.submit([work.parked])
            work.finish()

    live_and_die()
    gc.collect()
    objects = len(gc.get_objects())
    rings_before, open_before = rings(), open_count()
    for _ in range(30):
        live_and_die()
    gc.collect()
    assert len(gc.get_objects()) < objects + 30
    assert (rings(), open_count()) == (rings_before, open_before)
