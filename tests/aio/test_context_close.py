"""The end of a Context: close, being dropped, the collector, and the references released."""

import gc
import os
import select
import threading
import warnings
import weakref

import pytest
from tests.support.descriptors import rings

from aiopoll import Context, Iocb


class Data:
    """An object that can be referred to weakly."""


def test_close_gives_the_ring_back(user_ring):
    before = rings()
    context = Context(4, user_ring=user_ring)
    assert rings() == before + 1
    context.close()
    assert context.closed
    assert rings() == before


def test_close_twice_does_nothing(context):
    context.close()
    context.close()


def test_leaving_the_with_block_closes(user_ring):
    with Context(4, user_ring=user_ring) as context:
        assert not context.closed
    assert context.closed


def test_leaving_the_with_block_by_an_exception_closes(user_ring):
    with pytest.raises(ZeroDivisionError), Context(4, user_ring=user_ring) as context:
        raise ZeroDivisionError
    assert context.closed


def test_a_closed_context_keeps_its_counters(context, eventfd):
    context.submit([Iocb.poll(eventfd, select.POLLOUT)])
    context.close()
    statistics = context.statistics()
    assert (statistics.submitted, statistics.in_flight, statistics.nr_events) == (1, 0, 64)
    assert repr(context) == "<Context closed>"
    assert not context.user_ring


def test_close_discards_events_and_lets_go_of_all(context, pipe, plain_file):
    data, buffer = Data(), bytearray(4)
    alive = weakref.ref(data)
    parked = Iocb.poll(pipe[0], select.POLLIN, data=data)
    context.submit(
        [parked, parked, Iocb.pread(plain_file, buffer), Iocb.preadv(plain_file, [buffer])]
    )
    context.cancel(parked)
    del parked, data
    assert alive() is not None
    context.close()
    assert alive() is None
    buffer.clear()


def test_close_releases_the_files_of_parked_polls(context):
    reader, writer = os.pipe2(os.O_NONBLOCK)
    context.submit([Iocb.poll(reader, select.POLLIN)])
    os.close(reader)
    context.close()
    poller = select.poll()
    poller.register(writer, 0)
    assert poller.poll(10_000), "the request still holds the reading end"
    os.close(writer)


def test_another_thread_may_close(context):
    thread = threading.Thread(target=context.close)
    thread.start()
    thread.join()
    assert context.closed


def test_an_unclosed_context_warns_and_is_closed(user_ring):
    before = rings()
    context = Context(4, user_ring=user_ring)
    with pytest.warns(ResourceWarning, match="unclosed <Context nr_events=4"):
        del context
    assert rings() == before


def test_a_context_closed_in_time_does_not_warn(user_ring):
    context = Context(4, user_ring=user_ring)
    context.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del context
        gc.collect()


def test_a_lost_context_is_closed_though_warnings_raise(user_ring, monkeypatch):
    unraisable = []
    monkeypatch.setattr("sys.unraisablehook", lambda hook: unraisable.append(hook.exc_type))
    before = rings()
    context = Context(4, user_ring=user_ring)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del context
    assert unraisable == [ResourceWarning]
    assert rings() == before


@pytest.mark.parametrize("link", ["data", "buffer"])
def test_a_cycle_through_requests_in_flight_is_collected(user_ring, pipe, plain_file, link):
    class Buffer(bytearray):
        pass

    before = rings()
    context = Context(4, user_ring=user_ring)
    buffer = Buffer(4)
    alive = weakref.ref(context)
    if link == "data":
        context.submit([Iocb.poll(pipe[0], select.POLLIN, data=[context])])
    else:
        buffer.context = context
        context.submit([Iocb.pread(plain_file, buffer)])
    del context, buffer
    with pytest.warns(ResourceWarning, match="unclosed"):
        gc.collect()
    assert alive() is None
    assert rings() == before


def test_a_buffer_outlives_a_collected_context_unharmed(user_ring, plain_file):
    buffer = bytearray(4)
    context = Context(4, user_ring=user_ring)
    context.submit([Iocb.pread(plain_file, buffer, data=[context])])
    del context
    with pytest.warns(ResourceWarning, match="in_flight=1"):
        gc.collect()
    buffer.clear()  # no hold is left on it


def test_finalizers_run_by_close_see_a_closed_context(user_ring, pipe):
    seen = []

    class Reenters:
        def __del__(self) -> None:
            try:
                context.reap(0)
            except ValueError as error:
                seen.append(str(error))
            context.close()

    context = Context(4, user_ring=user_ring)
    context.submit([Iocb.poll(pipe[0], select.POLLIN, data=Reenters())])
    context.close()
    assert seen == ["this Context is closed"]
