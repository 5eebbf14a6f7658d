"""Misuse of Context: a clear exception each, never a crash, a hang or a leaked slot."""

import copy
import gc
import math
import os
import pickle
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.descriptors import rings

from aiopoll import Context, Iocb

CALLS: dict[str, Callable[[Context], object]] = {
    "submit": lambda context: context.submit([Iocb.poll(0, select.POLLIN)]),
    "submit nothing": lambda context: context.submit([]),
    "reap": lambda context: context.reap(0),
    "getevents": lambda context: context.getevents(0, 1),
    "cancel": lambda context: context.cancel(Iocb.poll(0, select.POLLIN)),
    "events_pending": lambda context: context.events_pending(),
    "enter": lambda context: context.__enter__(),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture(scope="module", autouse=True)
def no_ring_is_left() -> Iterator[None]:
    before = rings()
    yield
    gc.collect()
    assert rings() <= before


@pytest.fixture
def handler() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Runs a function in a signal handler a moment from now, again and again, never in itself."""
    previous = signal.getsignal(signal.SIGALRM)
    idle = [True]

    def arm(function: Callable[[], object]) -> None:
        def handle(signum: int, frame: object) -> None:
            try:
                idle.pop()
            except IndexError:
                return  # a slow machine's next signal has come before the call has ended
            try:
                function()
            finally:
                idle.append(True)

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.05)

    yield arm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


def in_thread(function: Callable[[], object]) -> BaseException | None:
    """The exception that `function` raises in another thread."""
    errors: list[BaseException | None] = []

    def run() -> None:
        try:
            function()
            errors.append(None)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "the call hangs"
    return errors[0]


# -- making one


@pytest.mark.parametrize("nr_events", [0, -1, 0x400001, 2**31, 2**64])
def test_numbers_of_events_out_of_range_are_refused(nr_events):
    with pytest.raises(ValueError, match="nr_events must be from 1 to"):
        Context(nr_events)


@pytest.mark.parametrize("nr_events", ["64", 64.0, None, True, [64]])
def test_numbers_of_events_that_are_no_ints_are_refused(nr_events):
    with pytest.raises(TypeError, match="nr_events must be an int"):
        Context(nr_events)


def test_more_events_than_the_machine_has_names_the_sysctl():
    max_nr = int(Path("/proc/sys/fs/aio-max-nr").read_text(encoding="ascii"))
    if max_nr >= 0x400000:
        with pytest.raises(ValueError, match="nr_events"):
            Context(0x400001)
        return
    with pytest.raises(OSError, match=r"sysctl -w fs\.aio-max-nr="):
        Context(max_nr + 1)


def test_a_context_is_initialised_once(context):
    with pytest.raises(RuntimeError, match="once"):
        context.__init__(4)
    context.close()
    with pytest.raises(RuntimeError, match="once"):
        context.__init__(4)


def test_a_failed_initialisation_can_be_tried_again():
    context = Context.__new__(Context)
    with pytest.raises(ValueError, match="nr_events"):
        context.__init__(0)
    context.__init__(4)
    context.close()


@every_call
def test_a_context_never_initialised_is_a_closed_one(call):
    context = Context.__new__(Context)
    with pytest.raises(ValueError, match="closed"):
        call(context)
    assert context.closed
    assert not context.user_ring
    assert context.statistics().in_flight == 0
    assert repr(context) == "<Context closed>"
    context.close()


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_context_cannot_be_copied_or_pickled(context, copier):
    with pytest.raises(TypeError):
        copier(context)


# -- arguments


@pytest.mark.parametrize("batch", [None, 3, Iocb.poll(0, 1)], ids=["None", "int", "Iocb"])
def test_submit_of_no_sequence_is_refused(context, batch):
    with pytest.raises(TypeError):
        context.submit(batch)


@pytest.mark.parametrize("item", [None, 3, "iocb", [Iocb.poll(0, 1)], Iocb])
def test_one_item_that_is_no_iocb_stops_the_whole_batch(context, pipe, item):
    with pytest.raises(TypeError, match="Iocb objects"):
        context.submit([Iocb.poll(pipe[1], select.POLLOUT), item])
    assert context.statistics().submit_calls == 0


def test_an_iterator_that_raises_submits_nothing(context, pipe):
    def batch() -> Iterator[Iocb]:
        yield Iocb.poll(pipe[0], select.POLLIN)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        context.submit(batch())
    assert context.statistics().submitted == 0


def test_submit_whose_iterator_closes_the_context_raises(context, pipe):
    def batch() -> Iterator[Iocb]:
        yield Iocb.poll(pipe[0], select.POLLIN)
        context.close()

    with pytest.raises(ValueError, match="closed"):
        context.submit(batch())


def test_submit_whose_iterator_submits_and_reaps_works(context, pipe):
    ready = Iocb.poll(pipe[1], select.POLLOUT)

    def batch() -> Iterator[Iocb]:
        for _ in range(3):
            context.submit([ready])
            context.reap()
            yield ready

    assert context.submit(batch()) == 3
    assert len(context.reap(3)) == 3


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"min_nr": -1}, "min_nr"),
        ({"min_nr": 2**63}, "min_nr"),
        ({"max_nr": 0}, "max_nr"),
        ({"max_nr": -5}, "max_nr"),
        ({"max_nr": 2**63}, "max_nr"),
        ({"min_nr": 3, "max_nr": 2}, "max_nr"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": -1e-9}, "timeout"),
        ({"timeout": math.nan}, "timeout"),
        ({"timeout": -math.inf}, "timeout"),
        ({"sigmask": [0]}, "signal number"),
        ({"sigmask": [65]}, "signal number"),
        ({"sigmask": [-1]}, "signal number"),
    ],
)
def test_reap_refuses_values_out_of_range(context, arguments, name):
    with pytest.raises(ValueError, match=name):
        context.reap(**{"min_nr": 0, **arguments})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"min_nr": "1"}, "min_nr"),
        ({"min_nr": 1.0}, "min_nr"),
        ({"min_nr": None}, "min_nr"),
        ({"min_nr": True}, "min_nr"),
        ({"max_nr": "1"}, "max_nr"),
        ({"max_nr": True}, "max_nr"),
        ({"timeout": "1"}, "timeout"),
        ({"timeout": []}, "timeout"),
        ({"timeout": 1j}, "timeout"),
        ({"sigmask": 14}, "iterable"),
        ({"sigmask": "14"}, "signal number"),
        ({"sigmask": [1.0]}, "signal number"),
        ({"sigmask": [None]}, "signal number"),
    ],
)
def test_reap_refuses_wrong_types(context, arguments, text):
    with pytest.raises(TypeError, match=text):
        context.reap(**{"min_nr": 0, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ((-1, 1), ValueError, "min_nr"),
        ((2, 1), ValueError, "min_nr"),
        ((0, -1), ValueError, "nr"),
        ((0, 2**62), ValueError, "nr"),
        ((0, 1, -1), ValueError, "timeout_ns"),
        ((0, 1, 2**63), ValueError, "timeout_ns"),
        (("0", 1), TypeError, "min_nr"),
        ((0, True), TypeError, "nr"),
        ((0, 1, 0.5), TypeError, "timeout_ns"),
        ((0, 1, 0, [0]), ValueError, "signal number"),
        ((0, 1, 0, 14), TypeError, "iterable"),
    ],
)
def test_getevents_refuses_bad_arguments(context, arguments, error, name):
    with pytest.raises(error, match=name):
        context.getevents(*arguments)


def test_a_timeout_too_large_for_a_float_is_refused(context):
    with pytest.raises(OverflowError):
        context.reap(0, timeout=10**400)


def test_int_with_false_comparisons_is_still_out_of_range(context):
    class Liar(int):
        def __le__(self, other: object) -> bool:
            return True

        __ge__ = __lt__ = __gt__ = __le__

    with pytest.raises(ValueError, match="min_nr"):
        context.reap(Liar(2**62), timeout=0)


@pytest.mark.parametrize("min_nr", [1, 2, 0x400000])
def test_a_wait_that_could_never_end_is_refused(context, min_nr):
    with pytest.raises(ValueError, match=r"would wait for ever: 0 requests in flight"):
        context.reap(min_nr)


def test_call_whose_argument_closes_the_context_raises(user_ring):
    class Closes:
        def __init__(self, context: Context) -> None:
            self.context = context

        def __float__(self) -> float:
            self.context.close()
            return 1.0

        def __iter__(self) -> Iterator[int]:
            self.context.close()
            return iter([signal.SIGALRM])

    for name in ("timeout", "sigmask"):
        context = Context(4, user_ring=user_ring)
        with pytest.raises(ValueError, match="closed"):
            context.reap(0, **{name: Closes(context)})


@every_call
def test_a_closed_context_is_refused(context, call):
    context.close()
    with pytest.raises(ValueError, match="closed"):
        call(context)


# -- buffers that change or misbehave after the Iocb was made


def test_an_unusable_buffer_stops_the_batch(context, plain_file):
    view = memoryview(bytearray(4))
    held = bytearray(4)
    batch = [Iocb.pread(plain_file, held), Iocb.preadv(plain_file, [held, view])]
    view.release()
    with pytest.raises(ValueError, match="released"):
        context.submit(batch)
    statistics = context.statistics()
    assert (statistics.in_flight, statistics.submit_calls) == (0, 0)
    held.clear()  # the pinned buffer is released
    context.submit([Iocb.pwrite(plain_file, b"x")])
    assert [event.res for event in context.reap()] == [1]


def test_buffer_resized_before_submit_has_its_new_length(context, plain_file):
    buffer = bytearray(2)
    iocb = Iocb.pread(plain_file, buffer)
    buffer.extend(b"\0" * 4)
    context.submit([iocb])
    assert [event.res for event in context.reap()] == [6]
    assert buffer == b"012345"


class PythonBuffer:
    """A buffer made in Python, with a callback for its export and its release."""

    def __init__(self, on_get: Callable[[], object], on_release: Callable[[], object]) -> None:
        self.on_get, self.on_release = on_get, on_release
        self.armed = False
        self.errors: list[str] = []

    def act(self, action: Callable[[], object]) -> None:
        if self.armed:
            try:
                action()
            except RuntimeError as error:
                self.errors.append(str(error))

    def __buffer__(self, flags: int) -> memoryview:
        self.act(self.on_get)
        return memoryview(bytearray(4))

    def __release_buffer__(self, view: memoryview) -> None:
        self.act(self.on_release)


python_buffers = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="skips.toml: buffers made in Python"
)


@python_buffers
@pytest.mark.parametrize("name", ["submit nothing", "reap", "events_pending", "enter"])
@pytest.mark.parametrize("refused", [False, True])
def test_a_buffer_that_comes_back_in_is_refused(context, plain_file, name, refused):
    call = CALLS[name]
    buffer = PythonBuffer(lambda: call(context), lambda: call(context))
    batch = [Iocb.pread(plain_file, buffer)] * 2
    if refused:
        batch.append(Iocb.pread(2**31 - 1, buffer))
    buffer.armed = True
    if refused:
        with pytest.raises(OSError, match="index 2"):
            context.submit(batch)
    else:
        context.submit(batch)
    assert len(context.reap(2)) == 2
    assert len(buffer.errors) == 2 * len(batch)
    assert all("in use" in error for error in buffer.errors)
    assert context.statistics().in_flight == 0


@python_buffers
def test_a_buffer_that_closes_the_context_is_refused(context, plain_file):
    buffer = PythonBuffer(context.close, context.close)
    iocb = Iocb.pread(plain_file, buffer)
    buffer.armed = True
    context.submit([iocb])
    assert [event.res for event in context.reap()] == [4]
    assert len(buffer.errors) == 2
    assert not context.closed


@python_buffers
def test_buffer_that_raises_stops_the_batch_at_submit(context, plain_file):
    def fail() -> None:
        raise ZeroDivisionError

    buffer = PythonBuffer(fail, lambda: None)
    held = bytearray(4)
    batch = [Iocb.pread(plain_file, held), Iocb.preadv(plain_file, [held, buffer])]
    buffer.armed = True
    with pytest.raises(ZeroDivisionError):
        context.submit(batch)
    assert context.statistics().in_flight == 0
    held.clear()


def test_a_fileno_that_closes_the_context_is_no_harm(context, pipe):
    class Closes:
        def fileno(self) -> int:
            context.close()
            return pipe[0]

    with pytest.raises(ValueError, match="closed"):
        context.submit([Iocb.poll(Closes(), select.POLLIN)])


# -- signal handlers that come in while reap waits


def test_reap_ends_when_a_signal_handler_reaps_the_event(context, pipe, handler):
    taken: list[Any] = []
    waiting: list[bool] = []

    def reap() -> None:
        if waiting and not taken:
            os.write(pipe[1], b"x")
            taken.extend(context.reap())

    handler(reap)
    while True:
        context.submit([Iocb.poll(pipe[0], select.POLLIN)])
        waiting.append(True)  # a signal that came sooner is too early: the timer repeats
        try:
            events = context.reap()
        except ValueError:
            if not taken:
                raise
            # The signal came in between: reap() has seen that there is nothing to wait for.
            os.read(pipe[0], 1)
            waiting.clear()
            taken.clear()
            continue
        break
    assert events == []
    assert [event.res for event in taken] == [select.POLLIN]


def test_a_handler_that_closes_ends_the_wait(context, pipe, handler):
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    handler(context.close)
    with pytest.raises(ValueError, match="closed"):
        context.reap()


def test_a_handler_that_submits_gives_the_wait_its_event(context, pipe, handler):
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    submitted: list[int] = []

    def submit_once() -> None:
        if not submitted:
            submitted.append(context.submit([Iocb.poll(pipe[1], select.POLLOUT)] * 50))

    handler(submit_once)
    assert context.reap()[0].res == select.POLLOUT
    assert submitted == [50]


def test_a_handler_that_cancels_gives_the_wait_its_event(context, pipe, handler):
    iocb = Iocb.poll(pipe[0], select.POLLIN)
    context.submit([iocb])
    cancelled: list[bool] = []

    def cancel_once() -> None:
        if not cancelled:
            cancelled.append(True)
            context.cancel(iocb)

    handler(cancel_once)
    assert [event.res for event in context.reap()] == [0]


# -- other threads


@every_call
def test_another_thread_is_refused(context, call):
    error = in_thread(lambda: call(context))
    assert isinstance(error, RuntimeError)
    assert "belongs to another thread: call adopt()" in str(error)


def test_adopt_hands_the_context_over(context, pipe):
    context.submit([Iocb.poll(pipe[1], select.POLLOUT)])

    def take_over() -> None:
        context.adopt()
        assert len(context.reap()) == 1

    assert in_thread(take_over) is None
    with pytest.raises(RuntimeError, match="another thread"):
        context.reap(0)
    context.adopt()
    assert context.reap(0) == []


@pytest.mark.parametrize("name", [*CALLS, "adopt", "close"])
def test_call_while_a_thread_waits_is_refused(context, pipe, waiter, name):
    call = CALLS.get(name) or (lambda context: getattr(context, name)())
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    thread = waiter(context, context.reap)
    with pytest.raises(RuntimeError, match="in use by another call"):
        call(context)
    os.write(pipe[1], b"x")
    assert len(thread.finish()) == 1
    assert not context.closed


def test_adopt_refused_leaves_the_owner_alone(context, pipe, waiter):
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])

    def wait_twice() -> int:
        return len(context.reap()) + len(context.reap(0))

    thread = waiter(context, wait_twice)
    with pytest.raises(RuntimeError, match="in use"):
        context.adopt()
    os.write(pipe[1], b"x")
    assert thread.finish() == 1


def test_adopting_a_closed_context_is_refused(context):
    context.close()
    with pytest.raises(ValueError, match="closed"):
        context.adopt()


# -- after fork


@pytest.mark.subprocess
@every_call
def test_a_child_is_refused(context, in_child, call):
    answer = in_child(lambda: call(context))
    assert answer.startswith("RuntimeError: this Context belongs to the parent process")


@pytest.mark.subprocess
def test_a_child_cannot_adopt(context, in_child):
    assert in_child(context.adopt).startswith("RuntimeError: this Context belongs to the parent")


@pytest.mark.subprocess
def test_a_child_does_not_take_the_parents_events(context, eventfd, in_child):
    context.submit([Iocb.poll(eventfd, select.POLLOUT)] * 3)
    assert "RuntimeError" in in_child(lambda: context.reap(0))
    assert len(context.reap(3)) == 3


@pytest.mark.subprocess
def test_a_child_may_close_and_drop_without_harm(context, pipe, in_child):
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    assert in_child(lambda: (context.close(), context.closed)) == "(None, True)"
    os.write(pipe[1], b"x")
    assert [event.res for event in context.reap()] == [select.POLLIN]


@pytest.mark.subprocess
def test_a_child_may_read_the_counters(context, eventfd, in_child):
    context.submit([Iocb.poll(eventfd, select.POLLOUT)])
    assert in_child(context.statistics) == repr(context.statistics())


@pytest.mark.subprocess
def test_a_child_may_make_its_own(context, eventfd, in_child):
    def use() -> int:
        with Context(4) as own:
            own.submit([Iocb.poll(eventfd, select.POLLOUT)])
            return len(own.reap())

    assert in_child(use) == "1"


@pytest.mark.subprocess
def test_a_grandchild_is_refused_the_childs(in_child):
    def use() -> str:
        with Context(4) as own:
            return in_child(lambda: own.reap(0))

    assert "belongs to the parent process" in in_child(use)


@pytest.mark.subprocess
def test_a_child_forked_while_a_thread_waits_may_close(context, pipe, waiter, in_child):
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    thread = waiter(context, context.reap)
    assert in_child(context.close) == "None"
    os.write(pipe[1], b"x")
    assert len(thread.finish()) == 1
