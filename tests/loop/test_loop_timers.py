"""Timers and callbacks: order, cancellation by the million, debug mode, handles."""

import asyncio
import contextvars
import gc
import logging
import math
import time
import weakref
from typing import Any

import pytest

import aiopoll


def run_until_stopped(loop: aiopoll.EventLoop) -> None:
    loop.run_forever()


def test_timers_run_in_order_of_deadline_then_creation(
    loop: aiopoll.EventLoop,
) -> None:
    ran: list[int] = []
    now = loop.time()
    for number, when in enumerate([3, 1, 2, 1, 3, 1]):
        loop.call_at(now + when * 1e-6, ran.append, number)
    loop.call_at(now + 4e-6, loop.stop)
    run_until_stopped(loop)
    assert ran == [1, 3, 5, 2, 0, 4]


@pytest.mark.parametrize("count", [3, 8, 100, 3000])
def test_timers_of_one_deadline_run_in_order_of_creation(
    loop: aiopoll.EventLoop, count: int
) -> None:
    """Cancelled timers, and others before and after, do not change the order."""
    ran: list[int] = []
    when = loop.time()
    handles = [loop.call_at(when, ran.append, number) for number in range(count)]
    for number in range(count):
        loop.call_at(when - 1 - number % 7, list)
        loop.call_at(when + 100 + number % 7, ran.append, -1)
    for handle in handles[::3]:
        handle.cancel()
    loop.call_at(when, loop.stop)
    run_until_stopped(loop)
    assert ran == [number for number in range(count) if number % 3]


def test_a_timer_never_runs_early(loop: aiopoll.EventLoop) -> None:
    late: list[float] = []
    for delay in (0.0001, 0.00037, 0.0021, 0.003):
        when = loop.time() + delay
        loop.call_at(when, lambda when=when: late.append(loop.time() - when))
    loop.call_later(0.004, loop.stop)
    run_until_stopped(loop)
    assert len(late) == 4
    assert min(late) >= -loop._clock_resolution


def test_a_million_cancelled_timers_are_forgotten(loop: aiopoll.EventLoop) -> None:
    class Payload:
        pass

    payload = Payload()
    seen = weakref.ref(payload)
    keep = loop.call_later(1000, print)
    for _ in range(1_000_000):
        loop.call_later(1000, print, payload).cancel()
    del payload
    gc.collect()
    assert seen() is None
    assert not keep.cancelled()
    ran: list[str] = []
    loop.call_later(0, ran.append, "after")
    loop.call_later(0.001, loop.stop)
    run_until_stopped(loop)
    assert ran == ["after"]


def test_a_cancelled_timer_does_not_run(loop: aiopoll.EventLoop) -> None:
    ran: list[str] = []
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reported.append(context))
    cancelled = loop.call_later(0, ran.append, "cancelled")
    cancelled.cancel()
    assert cancelled.cancelled()
    also_cancelled = loop.call_soon(ran.append, "cancelled")
    also_cancelled.cancel()
    assert also_cancelled.cancelled()
    loop.call_later(0, ran.append, "ran")
    loop.call_later(0.001, loop.stop)
    run_until_stopped(loop)
    assert ran == ["ran"]
    assert reported == []


def test_handles_are_asyncios_own(loop: aiopoll.EventLoop) -> None:
    handle = loop.call_soon(print, 1)
    timer = loop.call_at(5.0, print, 2)
    assert type(handle) is asyncio.Handle
    assert isinstance(timer, asyncio.TimerHandle)
    assert timer == asyncio.TimerHandle(5.0, print, (2,), loop)
    assert not hasattr(timer, "__dict__")
    assert timer.when() == 5.0
    assert "print" in repr(handle)
    assert repr(timer).startswith("<TimerHandle when=5.0")
    assert not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()
    timer.cancel()
    assert timer < loop.call_at(6.0, print)


def test_cancel_of_a_timer_behaves_as_in_asyncio(loop: aiopoll.EventLoop) -> None:
    class Payload:
        pass

    payload = Payload()
    seen = weakref.ref(payload)
    timer = loop.call_later(60, print, payload)
    del payload
    timer.cancel()
    assert seen() is None
    assert timer._callback is None  # type: ignore[attr-defined]
    assert timer._args is None  # type: ignore[attr-defined]
    loop.set_debug(True)
    timer.cancel()
    assert "print" not in repr(timer)  # the second time does nothing
    loop.set_debug(False)
    timer = loop.call_later(60, print, "shown")
    loop.set_debug(True)
    timer.cancel()
    loop.set_debug(False)
    assert "print('shown')" in repr(timer)


def test_a_timer_of_ours_may_be_made_for_another_loop(loop: aiopoll.EventLoop) -> None:
    kind: Any = type(loop.call_later(60, print))
    other = asyncio.new_event_loop()
    try:
        timer = kind(other.time() + 60, print, (), other)
        timer.cancel()
        assert timer.cancelled()
        derived = type("Derived", (kind,), {})(5.0, print, (), loop)
        derived.cancel()
        assert derived.cancelled()
        with pytest.raises(AttributeError):
            kind.__new__(kind).cancel()
        with pytest.raises(AttributeError):
            kind.cancel(loop)
    finally:
        other.close()


def test_loop_time_may_be_replaced(loop: aiopoll.EventLoop) -> None:
    loop.time = lambda: 1000.0  # type: ignore[method-assign]
    assert loop.call_later(5, print).when() == 1005.0


def test_an_exception_in_a_callback_goes_to_the_handler(loop: aiopoll.EventLoop) -> None:
    contexts: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))

    def fail() -> None:
        raise ZeroDivisionError("expected")

    handle = loop.call_soon(fail)
    loop.call_soon(loop.stop)
    run_until_stopped(loop)
    assert isinstance(contexts[0]["exception"], ZeroDivisionError)
    assert contexts[0]["handle"] is handle
    assert str(contexts[0]["message"]).startswith("Exception in callback")


def test_keyboard_interrupt_in_a_callback_loses_no_other(loop: aiopoll.EventLoop) -> None:
    ran: list[str] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    loop.call_soon(ran.append, "before")
    loop.call_soon(interrupt)
    loop.call_soon(ran.append, "after")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["before", "after"]


def test_debug_mode_logs_slow_callbacks_and_sources(
    loop: aiopoll.EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0

    def slow() -> None:
        time.monotonic()

    handle = loop.call_soon(slow)
    assert handle._source_traceback is not None
    loop.call_soon(loop.stop)
    with caplog.at_level(logging.WARNING, logger="asyncio"):
        loop.run_forever()
    assert any("slow" in record.getMessage() for record in caplog.records)
    with pytest.raises(TypeError, match="callable"):
        loop.call_soon("not callable")  # type: ignore[arg-type]


def test_closed_loop_raises_that_it_is_closed() -> None:
    loop = aiopoll.new_event_loop()
    loop.call_later(1000, print)
    loop.close()
    loop.close()
    for call in (loop.call_soon, lambda f: loop.call_later(1, f), loop.call_soon_threadsafe):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call(print)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_forever()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.statistics()


def test_a_loop_that_was_dropped_is_collected_and_warned_of() -> None:
    loop = aiopoll.new_event_loop()
    loop.call_later(1000, print)
    loop.call_soon(print)
    seen = weakref.ref(loop)
    del loop
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert seen() is None


def test_timers_that_outlive_many_others_keep_their_order(loop: aiopoll.EventLoop) -> None:
    ran: list[int] = []
    now = loop.time()
    kept = [loop.call_at(now + 0.01 + i * 1e-5, ran.append, i) for i in range(300)]
    crowd = [loop.call_at(now + i % 3600, ran.append, -1) for i in range(1, 20_000)]
    for handle in crowd:
        handle.cancel()
    for handle in kept[::3]:
        handle.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()  # here the crowd's memory is given back
    more = [loop.call_at(now + 0.02 + i * 1e-5, ran.append, 300 + i) for i in range(3000)]
    more[-1].cancel()
    loop.call_at(now + 0.06, loop.stop)
    loop.run_forever()
    assert ran == [i for i in range(300) if i % 3] + list(range(300, 3299))


def test_timers_that_wait_while_memory_is_given_back_remain(
    loop: aiopoll.EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    now = loop.time()
    for number in range(100):
        loop.call_at(now + 1000 + number, ran.append, number)
    for handle in [loop.call_at(now + 9999, ran.append, -1) for _ in range(20_000)]:
        handle.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    for number in range(100, 400):
        loop.call_at(now + 1000 + number, ran.append, number)
    monkeypatch.setattr(loop, "time", lambda: now + 2000)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == list(range(400))


def test_deadline_of_nan_is_due_at_once_and_stops_no_other(loop: aiopoll.EventLoop) -> None:
    ran: list[str] = []
    loop.call_later(0.001, ran.append, "later")
    assert math.isnan(loop.call_later(math.nan, ran.append, "nan").when())
    loop.call_at(math.nan, ran.append, "nan")
    loop.call_later(0.002, loop.stop)
    run_until_stopped(loop)
    assert ran == ["nan", "nan", "later"]


def test_a_callback_whose_context_is_in_use_is_reported(loop: aiopoll.EventLoop) -> None:
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, failure: reported.append(failure))
    context = contextvars.copy_context()
    loop.call_soon(print, context=context)
    loop.call_later(0, print, context=context)
    loop.call_later(0.001, loop.stop)
    context.run(run_until_stopped, loop)
    assert [str(failure["exception"])[:20] for failure in reported] == ["cannot enter context"] * 2
