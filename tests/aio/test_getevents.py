"""Context.getevents: one wait, with the kernel's own results."""

import os
import select
import signal

import pytest

from aiopoll import Context, Iocb


def test_events_come_oldest_first_and_no_more_than_asked(
    context: Context, pipe: tuple[int, int]
) -> None:
    os.write(pipe[1], b"x")
    context.submit([Iocb.poll(pipe[0], select.POLLIN, data=i) for i in range(3)])
    assert [event.data for event in context.getevents(1, 2)] == [0, 1]
    assert context.getevents(0, 0) == []
    assert [event.data for event in context.getevents(0, 2)] == [2]
    assert context.getevents(0, 2) == []


def test_enough_in_the_ring_needs_no_system_call(context: Context, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    assert len(context.getevents(1, 1)) == 1
    assert context.statistics().getevents_calls == (0 if context.user_ring else 1)


def test_timeout_in_nanoseconds(context: Context) -> None:
    assert context.getevents(1, 1, 1) == []
    assert context.getevents(1, 1, 1, ()) == []


@pytest.mark.parametrize("sigmask", [None, ()])
def test_signal_ends_a_wait_without_events(
    context: Context, sigmask: tuple[int, ...] | None
) -> None:
    calls = []
    previous = signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
    try:
        # Again and again, for the first one may come before the wait has begun.
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        with pytest.raises(InterruptedError):
            context.getevents(1, 1, None, sigmask)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert calls


def test_bad_arguments(context: Context) -> None:
    for min_nr, nr in ((-1, 1), (2, 1), (0, -1)):
        with pytest.raises(ValueError, match="nr"):
            context.getevents(min_nr, nr)
    with pytest.raises(ValueError, match="timeout_ns"):
        context.getevents(0, 1, -1)
    with pytest.raises(TypeError, match="timeout_ns"):
        context.getevents(0, 1, 0.5)  # type: ignore[arg-type]
    context.close()
    with pytest.raises(ValueError, match="closed"):
        context.getevents(0, 1)
