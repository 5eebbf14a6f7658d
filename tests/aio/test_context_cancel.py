"""Context.cancel: exactly one event, whichever was first."""

import errno
import os
import select

import pytest

from aiopoll import Context, Iocb
from aiopoll.libaio import IO_CMD_POLL


def test_a_cancelled_poll_has_one_event_with_zero(context, pipe):
    iocb = Iocb.poll(pipe[0], select.POLLIN, data="mine")
    context.submit([iocb])
    assert context.cancel(iocb) is None
    (event,) = context.reap()
    assert (event.obj, event.data, event.res) == (iocb, "mine", 0)
    os.write(pipe[1], b"x")
    assert context.reap(0) == []


def test_a_cancelled_poll_holds_its_slot_until_reaped(context, pipe):
    iocb = Iocb.poll(pipe[0], select.POLLIN)
    context.submit([iocb])
    context.cancel(iocb)
    assert context.statistics().in_flight == 1
    context.reap()
    assert context.statistics().in_flight == 0


def test_data_that_comes_after_the_cancel_changes_nothing(context, pipe):
    iocb = Iocb.poll(pipe[0], select.POLLIN)
    context.submit([iocb])
    context.cancel(iocb)
    os.write(pipe[1], b"x")
    assert [event.res for event in context.reap()] == [0]


def test_cancel_of_a_completed_request_is_einval(context, pipe):
    iocb = Iocb.poll(pipe[0], select.POLLIN)
    context.submit([iocb])
    os.write(pipe[1], b"x")
    with pytest.raises(OSError, match="it has completed") as caught:
        context.cancel(iocb)
    assert caught.value.errno == errno.EINVAL
    assert [event.res for event in context.reap()] == [select.POLLIN]
    assert context.statistics().cancelled == 0


def test_cancelling_twice_is_einval_and_one_event(context, pipe):
    iocb = Iocb.poll(pipe[0], select.POLLIN)
    context.submit([iocb])
    context.cancel(iocb)
    with pytest.raises(OSError, match="cancelled before") as caught:
        context.cancel(iocb)
    assert caught.value.errno == errno.EINVAL
    assert len(context.reap()) == 1
    assert context.statistics().cancelled == 1


def test_cancel_of_a_reaped_iocb_is_a_value_error(context, pipe):
    iocb = Iocb.poll(pipe[1], select.POLLOUT)
    context.submit([iocb])
    context.reap()
    with pytest.raises(ValueError, match="not in flight"):
        context.cancel(iocb)


def test_cancel_of_an_unsubmitted_iocb_is_a_value_error(context, pipe):
    with pytest.raises(ValueError, match="not in flight"):
        context.cancel(Iocb.poll(pipe[0], select.POLLIN))


def test_cancel_of_a_refused_iocb_is_a_value_error(context):
    iocb = Iocb.poll(2**31 - 1, select.POLLIN)
    with pytest.raises(OSError, match="not open"):
        context.submit([iocb])
    with pytest.raises(ValueError, match="not in flight"):
        context.cancel(iocb)


def test_cancelling_in_another_context_is_a_value_error(context, pipe):
    iocb = Iocb.poll(pipe[0], select.POLLIN)
    context.submit([iocb])
    with Context(1) as other, pytest.raises(ValueError, match="not in flight"):
        other.cancel(iocb)


def test_an_equal_iocb_is_not_the_same_request(context, pipe):
    context.submit([Iocb.poll(pipe[0], select.POLLIN)])
    with pytest.raises(ValueError, match="not in flight"):
        context.cancel(Iocb.poll(pipe[0], select.POLLIN))


def test_cancel_of_an_iocb_in_flight_twice_ends_one_request(context, pipe):
    iocb = Iocb.poll(pipe[0], select.POLLIN)
    context.submit([iocb, iocb])
    context.cancel(iocb)
    assert [event.res for event in context.reap()] == [0]
    context.cancel(iocb)
    assert [event.res for event in context.reap()] == [0]
    with pytest.raises(ValueError, match="not in flight"):
        context.cancel(iocb)


def test_an_iocb_in_flight_twice_is_cancelled_twice(context, pipe):
    iocb = Iocb.poll(pipe[0], select.POLLIN)
    context.submit([iocb, iocb])
    context.cancel(iocb)
    context.cancel(iocb)
    with pytest.raises(OSError, match="cancelled before"):
        context.cancel(iocb)
    assert [event.res for event in context.reap(2)] == [0, 0]


def test_cancelled_iocb_can_be_resubmitted_before_its_event(context, pipe):
    iocb = Iocb.poll(pipe[0], select.POLLIN)
    context.submit([iocb])
    context.cancel(iocb)
    context.submit([iocb])
    os.write(pipe[1], b"x")
    assert sorted(event.res for event in context.reap(2)) == [0, select.POLLIN]


def test_a_read_cannot_be_cancelled(context, plain_file):
    iocb = Iocb.pread(plain_file, bytearray(4))
    context.submit([iocb])
    with pytest.raises(OSError, match="read or write") as caught:
        context.cancel(iocb)
    assert caught.value.errno == errno.EINVAL
    assert context.reap()[0].res == 4


def test_cancel_releases_the_file_that_was_closed_meanwhile(context):
    reader, writer = os.pipe2(os.O_NONBLOCK)
    iocb = Iocb.poll(reader, select.POLLIN)
    context.submit([iocb])
    os.close(reader)
    context.cancel(iocb)
    assert [event.res for event in context.reap()] == [0]
    poller = select.poll()
    poller.register(writer, 0)
    assert poller.poll(10_000), "the request still holds the reading end"
    os.close(writer)


@pytest.mark.parametrize("what", [None, 3, [], "iocb"])
def test_cancel_of_another_type_is_refused(context, what):
    with pytest.raises(TypeError, match="takes an Iocb"):
        context.cancel(what)


def test_a_raw_poll_is_cancelled_like_any_other(context, pipe):
    iocb = Iocb(IO_CMD_POLL, pipe[0], select.POLLIN)
    context.submit([iocb])
    context.cancel(iocb)
    assert [event.res for event in context.reap()] == [0]
