"""Context.reap: waiting, signals, timeouts, and the release of buffers."""

import errno
import gc
import os
import select
import signal
import socket
import sys
import time
import weakref
from collections.abc import Iterator

import pytest

from aiopoll import Context, Iocb


class Data:
    """An object that can be referred to weakly."""


@pytest.fixture
def alarm() -> Iterator[list[int]]:
    """SIGALRM with a handler that appends to the list."""
    calls: list[int] = []
    previous = signal.signal(signal.SIGALRM, lambda signum, frame: calls.append(signum))
    yield calls
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


def writable(fd: int, count: int = 1) -> list[Iocb]:
    """POLLOUT requests for a file that is ready, so that they complete in submit."""
    return [Iocb.poll(fd, select.POLLOUT, data=number) for number in range(count)]


def test_zero_does_not_wait(context, pipe):
    assert context.reap(0) == []
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    assert context.reap(0) == []


def test_events_come_oldest_first(context, eventfd):
    context.submit(writable(eventfd, 20))
    assert [event.data for event in context.reap(20)] == list(range(20))


def test_all_that_is_there_comes_at_once(context, eventfd):
    context.submit(writable(eventfd, 20))
    assert len(context.reap(1)) == 20


def test_max_nr_leaves_the_rest_for_later(context, eventfd):
    context.submit(writable(eventfd, 5))
    assert [event.data for event in context.reap(1, 2)] == [0, 1]
    assert [event.data for event in context.reap(0, 2)] == [2, 3]
    assert [event.data for event in context.reap(0, 2, timeout=0)] == [4]


def test_an_enormous_max_nr_is_all_that_is_there(context, eventfd):
    context.submit(writable(eventfd))
    assert len(context.reap(1, 2**62)) == 1


def test_the_ring_wraps_around_without_losing_an_event(user_ring, eventfd):
    with Context(1, user_ring=user_ring) as context:
        batch = writable(eventfd, 50)
        for _ in range(50):  # 2,500 events through a ring of some hundred
            context.submit(batch)
            assert [event.data for event in context.reap(50)] == list(range(50))


def test_reap_ends_when_another_thread_makes_the_file_ready(context, pipe, waiter):
    context.submit([Iocb.poll(pipe[0], select.POLLIN, data="there")])
    thread = waiter(context, context.reap)
    os.write(pipe[1], b"x")
    assert [event.data for event in thread.finish()] == ["there"]


def test_reap_after_its_timeout_returns_the_events_so_far(context, eventfd, pipe):
    context.submit([*writable(eventfd), Iocb.poll(pipe[0], select.POLLIN)])
    assert [event.data for event in context.reap(2, timeout=0.001)] == [0]
    assert context.reap(1, timeout=0.001) == []


def test_a_timeout_is_never_cut_short(context, pipe):
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    start = time.monotonic()
    assert context.reap(1, timeout=0.01) == []
    assert time.monotonic() - start >= 0.01


@pytest.mark.parametrize("timeout", [1e300, float("inf"), 10**9, 9e9, 1])
def test_long_timeouts_wait_for_the_event(context, pipe, timeout):
    os.write(pipe[1], b"x")
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    assert len(context.reap(1, timeout=timeout)) == 1


def test_reap_with_a_timeout_may_want_more_than_in_flight(context):
    assert context.reap(1, timeout=0) == []
    assert context.reap(5, timeout=0.001) == []


def test_ring_reap_makes_no_system_call(context, eventfd):
    context.submit(writable(eventfd))
    context.reap()
    statistics = context.statistics()
    if context.user_ring:
        assert (statistics.getevents_calls, statistics.ring_reaps) == (0, 1)
        assert statistics.ring_nr >= statistics.nr_events
    else:
        assert (statistics.getevents_calls, statistics.ring_reaps) == (1, 0)
        assert statistics.ring_nr == 0


def test_forced_system_call_reap_has_no_ring(monkeypatch):
    with Context(1, user_ring=False) as context:
        assert not context.user_ring
    monkeypatch.setenv("AIOPOLL_USER_RING", "0")
    with Context(1) as context:
        assert not context.user_ring


def test_events_pending_looks_without_taking(context, eventfd):
    assert not context.events_pending()
    context.submit(writable(eventfd))
    assert context.events_pending() == context.user_ring
    assert len(context.reap()) == 1
    assert not context.events_pending()


def test_events_pending_sees_an_event_at_every_place(user_ring, eventfd):
    with Context(1, user_ring=user_ring) as context:
        batch = writable(eventfd)
        for _ in range(1000):  # a ring of one page has some hundred places
            context.submit(batch)
            assert context.events_pending() == context.user_ring
            assert len(context.reap(1)) == 1
            assert not context.events_pending()


def test_counters_add_up(context, eventfd, pipe):
    parked = Iocb.poll(pipe[0], select.POLLIN)
    context.submit([*writable(eventfd, 3), parked])
    context.reap(3)
    statistics = context.statistics()
    assert (statistics.submitted, statistics.completed, statistics.in_flight) == (4, 3, 1)
    context.cancel(parked)
    context.reap()
    statistics = context.statistics()
    assert (statistics.completed, statistics.cancelled, statistics.in_flight) == (4, 1, 0)


def test_a_signal_does_not_end_the_wait(context, pipe, alarm):
    # PEP 475: the handler runs, then the wait goes on.
    signal.signal(signal.SIGALRM, lambda *_: (alarm.append(1), os.write(pipe[1], b"x")))
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    signal.setitimer(signal.ITIMER_REAL, 0.005)
    assert [event.res for event in context.reap()] == [select.POLLIN]
    assert alarm == [1]


def test_a_signal_does_not_lengthen_the_timeout(context, pipe, alarm):
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    assert context.reap(1, timeout=0.02) == []
    assert alarm


def test_signal_handler_that_raises_in_reap_loses_no_event(context, pipe, alarm):
    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])

    def reap_until_the_alarm() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        context.reap()

    with pytest.raises(KeyboardInterrupt):
        reap_until_the_alarm()
    os.write(pipe[1], b"x")
    assert [event.res for event in context.reap()] == [select.POLLIN]


def test_a_sigmask_keeps_signals_out_of_the_wait(context, pipe, alarm):
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    try:
        signal.raise_signal(signal.SIGALRM)  # pending from here on
        assert context.reap(1, timeout=0.005, sigmask=[signal.SIGALRM]) == []
        assert alarm == []
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])


def test_sigmask_unblocks_a_signal_during_the_wait_only(context, pipe, alarm):
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    try:
        signal.raise_signal(signal.SIGALRM)
        with pytest.raises(InterruptedError):
            context.reap(sigmask=[])
        assert alarm == [signal.SIGALRM]
        assert signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    assert context.statistics().in_flight == 1


def test_events_come_before_a_pending_signal(context, eventfd, alarm):
    context.submit(writable(eventfd))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    try:
        signal.raise_signal(signal.SIGALRM)
        assert len(context.reap(sigmask=set())) == 1
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])


def test_a_sigmask_allows_to_wait_for_a_signal_alone(context, alarm):
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    with pytest.raises(InterruptedError):
        context.reap(sigmask=[])
    assert alarm


def test_a_buffer_is_held_until_its_event_is_reaped(context, plain_file):
    buffer = bytearray(4)
    context.submit([Iocb.pread(plain_file, buffer)])
    # It has completed in the kernel; a caller that has not reaped cannot know.
    with pytest.raises(BufferError):
        buffer.extend(b"x")
    context.reap()
    buffer.extend(b"x")
    assert buffer == b"0123x"


def test_each_buffer_of_a_vector_is_held(context, plain_file):
    buffers = [bytearray(2) for _ in range(3)]
    context.submit([Iocb.preadv(plain_file, buffers)])
    for buffer in buffers:
        with pytest.raises(BufferError):
            buffer.clear()
    context.reap()
    for buffer in buffers:
        buffer.clear()


def test_a_buffer_in_two_requests_is_held_for_both(context, plain_file):
    buffer = bytearray(4)
    context.submit([Iocb.pread(plain_file, buffer)] * 2)
    context.reap(1, 1)
    with pytest.raises(BufferError):
        buffer.clear()
    context.reap(1, 1)
    buffer.clear()


def test_data_and_request_are_let_go_with_the_event(context, pipe):
    data = Data()
    alive = weakref.ref(data)
    held = [Iocb.poll(pipe[0], select.POLLIN, data=data)]
    context.submit(held)
    del data
    # In a list, and not in an assert: a reference from a local may be borrowed, from 3.14 on.
    references = sys.getrefcount(held[0])
    os.write(pipe[1], b"x")
    events = context.reap()
    assert alive() is events[0].data
    del events
    left = sys.getrefcount(held[0])
    assert left == references - 1
    held.clear()
    assert alive() is None


def test_a_refused_request_is_let_go_at_once(context):
    data, buffer = Data(), bytearray(4)
    alive = weakref.ref(data)
    iocb = Iocb.pread(2**31 - 1, buffer, data=data)
    with pytest.raises(OSError, match="not open"):
        context.submit([iocb])
    buffer.clear()
    del data, iocb
    gc.collect()
    assert alive() is None


def test_a_finalizer_that_runs_within_reap_may_not_come_in(context, eventfd):
    refusals: list[str] = []

    class Reenters:
        def __del__(self) -> None:
            try:
                context.reap(0)
            except RuntimeError as error:
                refusals.append(str(error))

    context.submit(writable(eventfd, 60))
    cycle = Reenters()
    cycle.me = cycle  # type: ignore[attr-defined]
    del cycle
    thresholds = gc.get_threshold()
    gc.set_threshold(1)  # the events that reap makes set the collector off
    try:
        events = context.reap(60)
    finally:
        gc.set_threshold(*thresholds)
    assert [event.data for event in events] == list(range(60))
    gc.collect()
    assert all("in use" in text for text in refusals)


def test_stale_readiness_is_reported_and_its_read_blocks(context, pipe):
    # Written, then read before the reap: the event stands, so its receiver must be non-blocking.
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    os.write(pipe[1], b"x")
    os.read(pipe[0], 1)
    assert [event.res for event in context.reap()] == [select.POLLIN]
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 1)


def test_a_record_used_again_does_not_mix_up_requests(context, pipe, eventfd):
    for round_nr in range(20):
        first = Iocb.poll(pipe[0], select.POLLIN, data=("pipe", round_nr))
        context.submit([first])
        context.cancel(first)
        context.submit([Iocb.poll(eventfd, select.POLLOUT, data=("eventfd", round_nr))])
        events = {event.data: event.res for event in context.reap(2)}
        assert events == {("pipe", round_nr): 0, ("eventfd", round_nr): select.POLLOUT}


def test_errors_come_as_negative_errno(context):
    left, right = socket.socketpair()
    left.setblocking(False)
    with left, right:
        context.submit([Iocb.pread(left, bytearray(1))])
        assert [event.res for event in context.reap()] == [-errno.EAGAIN]


def test_getevents_of_none_takes_nothing(context, eventfd):
    assert context.getevents(0, 0) == []
    context.submit(writable(eventfd))
    assert context.getevents(0, 0) == []
    assert len(context.getevents(1, 1)) == 1


def test_getevents_takes_no_more_than_asked(context, eventfd):
    context.submit(writable(eventfd, 3))
    assert [event.data for event in context.getevents(1, 2)] == [0, 1]
    assert [event.data for event in context.getevents(0, 64)] == [2]


def test_getevents_waits_its_timeout_with_none_in_flight(context):
    start = time.monotonic_ns()
    assert context.getevents(1, 1, 2_000_000) == []
    assert time.monotonic_ns() - start >= 2_000_000


def test_getevents_ends_at_a_signal(context, pipe, alarm):
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.05)
    with pytest.raises(InterruptedError):
        context.getevents(1, 1)
    assert alarm
    assert context.statistics().in_flight == 1
