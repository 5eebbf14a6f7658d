"""The compiled reader and asyncio's do the same: results, errors, buffers, pauses, wakes."""

import asyncio
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aiopoll

READERS = (asyncio.StreamReader, aiopoll.StreamReader)


class Transport(asyncio.Transport):
    """Records the calls to pause and to resume."""

    def __init__(self, pausable: bool) -> None:
        super().__init__()
        self.pausable = pausable
        self.told: list[str] = []

    def pause_reading(self) -> None:
        if not self.pausable:
            raise NotImplementedError
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")


Step = tuple[str, Any]
ERRORS = [ZeroDivisionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError]

# Few letters and short separators, so that they are found, cut in two, and found too late.
DATA = st.text("ab\n", max_size=12).map(str.encode)
SEPARATORS = st.text("ab\n", max_size=3).map(str.encode)
if sys.version_info >= (3, 13):
    SEPARATORS |= st.lists(st.text("ab\n", max_size=3).map(str.encode), max_size=3).map(tuple)

STEPS = st.one_of(
    st.tuples(st.just("feed_data"), DATA | DATA.map(bytearray) | DATA.map(memoryview)),
    st.tuples(st.just("feed_eof"), st.none()),
    st.tuples(st.just("set_exception"), st.sampled_from(ERRORS)),
    st.tuples(st.just("read"), st.integers(-1, 9)),
    st.tuples(st.just("readexactly"), st.integers(-1, 20)),
    st.tuples(st.just("readline"), st.none()),
    st.tuples(st.just("__anext__"), st.none()),
    st.tuples(st.just("readuntil"), SEPARATORS),
    st.tuples(st.just("cancel"), st.none()),
    st.tuples(st.just("turn"), st.none()),
    st.tuples(st.just("set_limit"), st.integers(1, 20)),
    st.tuples(st.just("look"), st.none()),
    st.tuples(st.just("clear"), st.none()),
)


def turning(steps: list[Step]) -> list[Step]:
    return steps_of(*steps)


def told(error: BaseException) -> tuple[Any, ...]:
    fields = tuple(getattr(error, name, None) for name in ("partial", "expected", "consumed"))
    return (type(error), str(error), *fields, type(error.__context__))


def outcome(task: asyncio.Task[Any]) -> Any:
    if task.cancelled():
        return "cancelled"
    if not task.done():
        return "pending"
    error = task.exception()
    return task.result() if error is None else told(error)


def made(error: type[Exception]) -> Exception:
    if error is asyncio.IncompleteReadError:
        return error(b"ab", 5)
    if error is asyncio.LimitOverrunError:
        return error("told", 1)
    return error("told")


async def history(
    reader_type: type[asyncio.StreamReader], limit: int, pausable: bool, steps: list[Step]
) -> list[Any]:
    """The observable state after each step."""
    reader: Any = reader_type(limit=limit)
    assert type(reader) is reader_type
    transport = Transport(pausable)
    reader.set_transport(transport)
    task: asyncio.Task[Any] | None = None
    seen: list[Any] = []
    for name, argument in steps:
        if name in ("read", "readexactly", "readuntil", "readline", "__anext__"):
            arguments = () if argument is None else (argument,)
            if task is None or task.done():
                task = asyncio.ensure_future(getattr(reader, name)(*arguments))
                await asyncio.sleep(0)
            elif reader._waiter is not None:  # a second one is refused
                second = asyncio.ensure_future(getattr(reader, name)(*arguments))
                await asyncio.sleep(0)
                seen.append(outcome(second))
                second.cancel()
                await asyncio.wait([second])
                if not task.done() and reader._waiter is None:
                    break  # it got the data of the first
        elif name == "cancel":
            if task is not None:
                task.cancel()
        elif name == "turn":
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        elif name == "set_limit":
            reader._limit = argument
        elif name == "look":
            seen.append(bytes(reader._buffer))
        elif name == "clear":
            reader._buffer.clear()
        else:
            try:
                if name == "set_exception":
                    reader.set_exception(made(argument))
                elif name == "feed_data":
                    reader.feed_data(argument)
                else:
                    reader.feed_eof()
            except AssertionError as error:
                seen.append(told(error))
        seen.append((name, None if task is None else outcome(task)))
        seen.append((reader.at_eof(), reader._eof, reader._paused, reader._waiter is None))
        seen.append((list(transport.told), reader._transport is None))
        if task is None or task.done():
            seen.append(repr(reader).partition(" transport=")[0])
    await asyncio.sleep(0)
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
        seen.append(outcome(task))
    seen.append((bytes(reader._buffer), told(reader.exception()) if reader.exception() else None))
    return seen


def steps_of(*steps: Step) -> list[Step]:
    """The steps, with an iteration of the loop after each."""
    return [part for step in steps for part in (step, ("turn", None))]


@pytest.mark.slow
def test_compiled_reader_behaves_as_asyncios() -> None:
    @settings(max_examples=500, deadline=None)
    @given(
        limit=st.integers(1, 6),
        pausable=st.sampled_from([True, True, False]),
        steps=st.lists(STEPS, max_size=20) | st.lists(STEPS, max_size=20).map(turning),
    )
    # Pauses above twice the limit, goes on at the limit.
    @example(limit=2, pausable=True, steps=[("feed_data", b"aaaaa"), ("read", 2), ("read", 1)])
    @example(limit=2, pausable=True, steps=[("feed_data", b"aaaa"), ("feed_data", b"a")])
    @example(limit=3, pausable=True, steps=[("feed_data", b"aaaaaaa"), ("readexactly", 9)])
    # Lines of the limit, and longer by one; with the newline, and without.
    @example(limit=3, pausable=True, steps=[("feed_data", b"aaa\nb"), ("readline", None)])
    @example(limit=3, pausable=True, steps=[("feed_data", b"aaaa\nb"), ("readline", None)])
    @example(limit=3, pausable=True, steps=[("feed_data", b"aaa"), ("readline", None)])
    @example(limit=3, pausable=True, steps=[("feed_data", b"aaaa"), ("readline", None)])
    @example(limit=3, pausable=True, steps=[("readline", None), ("feed_data", b"aaaa\nb")])
    # A separator that comes in two parts, and in a part of a chunk that was read from.
    @example(
        limit=9,
        pausable=True,
        steps=steps_of(("readuntil", b"ab"), ("feed_data", b"ba"), ("feed_data", b"b")),
    )
    @example(
        limit=9,
        pausable=True,
        steps=steps_of(("feed_data", b"abaab"), ("read", 1), ("read", 1), ("readuntil", b"ab")),
    )
    # A limit set while read(-1) waits; errors that readline() turns into others.
    @example(limit=2, pausable=True, steps=[("read", -1), ("feed_data", b"aa"), ("set_limit", 1)])
    @example(
        limit=9,
        pausable=True,
        steps=steps_of(("readline", None), ("set_exception", asyncio.IncompleteReadError)),
    )
    @example(
        limit=9,
        pausable=True,
        steps=steps_of(
            ("readline", None),
            ("feed_data", b"a"),
            ("set_exception", asyncio.LimitOverrunError),
        ),
    )
    def compare(limit: int, pausable: bool, steps: list[Step]) -> None:
        expected, found = (
            runner.run(history(reader, limit, pausable, steps)) for reader in READERS
        )
        assert found == expected

    def new_loop() -> asyncio.AbstractEventLoop:
        return aiopoll.new_event_loop(backend="epoll", compiled_streams=False)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        compare()
