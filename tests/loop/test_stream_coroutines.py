"""A stream's method returns what behaves as a coroutine in every use by asyncio and programs."""

import asyncio
import gc
import re
import warnings
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.support.streams import Link, run, streams_over

import aiopoll


@pytest.fixture(params=["aio", "epoll", "asyncio"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_nothing_happens_before_the_await(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        reader = aiopoll.StreamReader()
        reader.feed_data(b"ab")
        second, first = reader.read(1), reader.read(1)
        assert isinstance(first, Coroutine)
        assert asyncio.iscoroutine(first)
        assert (await first, await second) == (b"a", b"b")
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await first

    run(loop, scenario())


def test_coroutine_that_is_never_awaited_is_reported(loop: asyncio.AbstractEventLoop) -> None:
    _, reader, writer = streams_over(Link(), loop)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("StreamReader.read", lambda: reader.read(1)),
        ("StreamReader.readline", reader.readline),
        ("StreamWriter.drain", writer.drain),
    ]
    for name, call in calls:
        for _ in range(2):
            with pytest.warns(RuntimeWarning, match=f"coroutine '{name}' was never awaited"):
                call()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader.read(1).close()
    writer.close()


def test_tasks_timeouts_and_cancellation(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        reader: Any = aiopoll.StreamReader()
        reading = reader.read(0)
        assert re.fullmatch(r"<coroutine StreamReader\.read at 0x[0-9a-f]+>", repr(reading))
        assert await reading == b""
        task = loop.create_task(reader.readexactly(3), name="three")
        assert "StreamReader.readexactly" in repr(task)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.readline(), 0)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"^read\(\) called while another coroutine"):
            await reader.read(1)
        with pytest.raises(RuntimeError, match=r"^readuntil\(\) called while another"):
            await reader.readline()
        reader.feed_data(b"ab")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert reader._waiter is None
        assert await asyncio.wait_for(reader.read(9), 10) == b"ab"
        waiting = asyncio.ensure_future(reader.read(9))
        await asyncio.sleep(0)
        waiting.cancel()
        reader.feed_data(b"late")  # after the cancel, before the task knows
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await reader.read(9) == b"late"

    run(loop, scenario())


def test_a_task_that_has_ended_keeps_no_stream(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        link = Link()
        protocol, reader, writer = streams_over(link, loop)
        protocol.data_received(b"x")
        protocol.eof_received()
        ended = [asyncio.ensure_future(call) for call in (reader.read(), writer.drain())]
        await asyncio.wait(ended)
        link.closing = True
        kept = [weakref.ref(reader), weakref.ref(writer)]
        del reader, writer
        gc.collect()
        assert [reference() for reference in kept] == [None, None]

    run(loop, scenario())


def test_a_read_that_wakes_leaves_another_that_waits(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        reader: Any = aiopoll.StreamReader()
        first = asyncio.ensure_future(reader.readexactly(1))
        await asyncio.sleep(0)
        reader.feed_data(b"a")
        second = reader.readexactly(2)
        waiter = second.send(None)  # begins before `first` goes on
        assert await first == b"a"
        assert reader._waiter is waiter
        second.close()

    run(loop, scenario())


def test_the_coroutine_methods(loop: asyncio.AbstractEventLoop) -> None:
    reader: Any = aiopoll.StreamReader(loop=loop)
    reading = reader.read(5)
    with pytest.raises(TypeError, match="just-started"):
        reading.send(1)
    waiter = reading.send(None)
    assert reading.cr_await is waiter is reader._waiter
    with pytest.raises(ZeroDivisionError, match="thrown"):
        reading.throw(ZeroDivisionError("thrown"))
    assert reader._waiter is None
    for argument in (ZeroDivisionError, ZeroDivisionError("thrown")):
        reading = reader.read(5)
        with pytest.raises(ZeroDivisionError):
            reading.throw(argument)
        with pytest.raises(RuntimeError, match="cannot reuse"):
            reading.send(None)
    reading = reader.read(5)
    reading.send(None)
    reading.close()
    reading.close()
    assert reader._waiter is None
    reading = reader.read(5)
    reading.send(None)
    del reading  # as the garbage collector does with an abandoned task
    assert reader._waiter is None
    reading = reader.read(5)
    reading.send(None)
    reader.feed_data(b"data")
    with pytest.raises(StopIteration) as stop:
        reading.send(None)
    assert stop.value.value == b"data"


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="Python 3.12 has them")
def test_eager_task_reads_available_data_at_once(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        loop.set_task_factory(asyncio.eager_task_factory)
        reader = aiopoll.StreamReader()
        reader.feed_data(b"x")
        assert loop.create_task(reader.read(1)).done()
        later = loop.create_task(reader.read(1))
        reader.feed_data(b"y")
        assert await later == b"y"

    run(loop, scenario())
