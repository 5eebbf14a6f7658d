"""Each of our awaitables behaves, in every way, like a coroutine of asyncio's."""

import asyncio
import gc
import inspect
import io
import os
import sys
import types
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import LOOPS

import aiopoll

from .awaitable_scenes import (
    COROUTINES,
    FUTURES,
    SCENES,
    WAITING,
    Make,
    Stage,
)

SECONDS_MAX = 10


@pytest.fixture(params=["aio", "epoll", "asyncio"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def loop(loop_kind: str) -> Iterator[Any]:
    loop = LOOPS[loop_kind]()
    yield loop
    loop.run_until_complete(
        loop.shutdown_asyncgens()
    )  # where files that are under way are waited for
    loop.close()


# Ways to await

FOR_COROUTINES = {"send", "create_task", "task_group", "run_coroutine_threadsafe", "eager_task"}
Way = Callable[[Make], Coroutine[Any, Any, Any]]
WAYS: dict[str, Way] = {}


def way(function: Way) -> Way:
    WAYS[function.__name__] = function
    return function


@way
async def plain_await(make: Make) -> Any:
    return await make()


class Delegating:
    """An awaitable on the awaitable's own __await__(), by `yield from`."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self.awaitable.__await__())


@way
async def yield_from_its_await(make: Make) -> Any:
    return await Delegating(make())


@way
async def yield_from_in_a_types_coroutine(make: Make) -> Any:
    @types.coroutine
    def old() -> Generator[Any, Any, Any]:
        return (yield from make())  # type: ignore[misc]

    return await old()


class Sending:
    """An awaitable that calls send() of the iterator of another, or next()."""

    def __init__(self, iterator: Any, step: Callable[[Any], Any]) -> None:
        self.iterator, self.step = iterator, step

    def __await__(self) -> Generator[Any, Any, Any]:
        while True:
            try:
                future = self.step(self.iterator)
            except StopIteration as end:
                return end.value
            yield future


@way
async def send_to_its_await(make: Make) -> Any:
    return await Sending(make().__await__(), lambda iterator: iterator.send(None))


@way
async def next_of_its_await(make: Make) -> Any:
    return await Sending(make().__await__(), next)


@way
async def next_of_its_iter(make: Make) -> Any:
    return await Sending(iter(make().__await__()), next)


@way
async def send(make: Make) -> Any:
    coroutine: Any = make()
    return await Sending(coroutine, lambda iterator: iterator.send(None))


@way
async def ensure_future(make: Make) -> Any:
    return await asyncio.ensure_future(make())


@way
async def create_task(make: Make) -> Any:
    awaitable = make()
    assert asyncio.iscoroutine(awaitable)
    task = asyncio.create_task(awaitable)
    assert task.get_coro() is awaitable
    if type(awaitable).__name__ != "iterable_coroutine":  # docs/limitations.toml: frames
        task.print_stack(file=io.StringIO())
    assert repr(task)
    return await task


@way
async def task_group(make: Make) -> Any:
    awaitable = make()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(awaitable)  # type: ignore[arg-type]
    return task.result()


@way
async def gather(make: Make) -> Any:
    return (await asyncio.gather(make(), asyncio.sleep(0)))[0]


@way
async def wait_for(make: Make) -> Any:
    return await asyncio.wait_for(make(), SECONDS_MAX)


@way
async def timeout(make: Make) -> Any:
    async with asyncio.timeout(SECONDS_MAX):
        return await make()


@way
async def shield(make: Make) -> Any:
    return await asyncio.shield(make())


@way
async def as_completed(make: Make) -> Any:
    [first] = asyncio.as_completed([make()])
    return await first


@way
async def wait(make: Make) -> Any:
    done, _ = await asyncio.wait({asyncio.ensure_future(make())})
    return done.pop().result()


@way
async def run_coroutine_threadsafe(make: Make) -> Any:
    loop = asyncio.get_running_loop()
    awaitable: Any = make()
    submit = asyncio.run_coroutine_threadsafe
    return await loop.run_in_executor(None, lambda: submit(awaitable, loop).result(SECONDS_MAX))


@way
async def async_generator(make: Make) -> Any:
    async def generate() -> AsyncIterator[Any]:
        yield await make()

    [answer] = [each async for each in generate()]
    return answer


if sys.version_info >= (3, 12):

    @way
    async def eager_task(make: Make) -> Any:
        awaitable: Any = make()
        return await asyncio.eager_task_factory(asyncio.get_running_loop(), awaitable)  # type: ignore[attr-defined,unused-ignore]


Perform = Callable[[Callable[[Make, Any], Coroutine[Any, Any, None]], str], None]


@pytest.fixture
def perform(loop: Any, loop_kind: str, tmp_path: Path) -> Perform:
    """Sets a scene up, and tests its awaitable and the result."""

    def act(test: Callable[[Make, Any], Coroutine[Any, Any, None]], name: str) -> None:
        async def main() -> None:
            stage = Stage(asyncio if loop_kind == "asyncio" else aiopoll, tmp_path)
            try:
                make, want = await SCENES[name](stage)
                await test(make, want)
            finally:
                await stage.close()

        loop.run_until_complete(asyncio.wait_for(main(), SECONDS_MAX))

    return act


@pytest.mark.parametrize("scene", SCENES)
def test_each_awaitable_can_be_awaited_in_each_way(perform: Perform, scene: str) -> None:
    for name, way in WAYS.items():
        if scene not in FUTURES or name not in FOR_COROUTINES:

            async def test(make: Make, want: Any, way: Way = way) -> None:
                assert want == await way(make)

            perform(test, scene)


@pytest.mark.parametrize("scene", FUTURES)
def test_method_that_returns_a_future_starts_at_once(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        future = make()
        assert asyncio.isfuture(future)
        assert inspect.isawaitable(future)
        assert want == await future

    perform(test, scene)


@pytest.mark.parametrize("scene", COROUTINES)
def test_coroutine_closed_before_its_start_does_nothing(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        coroutine: Any = make()
        coroutine.close()
        coroutine.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coroutine

    perform(test, scene)


@pytest.mark.parametrize("scene", COROUTINES)
def test_exception_thrown_in_before_the_start_is_raised(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        coroutine: Any = make()
        with pytest.raises(ZeroDivisionError):
            coroutine.throw(ZeroDivisionError())
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coroutine.send(None)

    perform(test, scene)


@pytest.mark.parametrize("scene", sorted(WAITING))
def test_waiting_coroutine_can_be_ended_in_each_way(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        begun: Any = make()
        assert asyncio.isfuture(begun.send(None))
        assert begun.cr_frame is not None
        begun.close()
        assert begun.cr_frame is None
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            begun.send(None)

    perform(test, scene)

    async def thrown(make: Make, want: Any) -> None:
        begun: Any = make()
        begun.send(None)
        with pytest.raises(ZeroDivisionError):
            begun.throw(ZeroDivisionError())
        assert begun.cr_frame is None

    perform(thrown, scene)

    async def cancelled(make: Make, want: Any) -> None:
        task = asyncio.ensure_future(make())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    perform(cancelled, scene)


@pytest.mark.parametrize("scene", COROUTINES)
def test_awaitable_looks_like_a_coroutine(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        coroutine: Any = make()
        assert inspect.isawaitable(coroutine)
        assert isinstance(coroutine, Awaitable)
        assert asyncio.iscoroutine(coroutine)
        assert isinstance(coroutine, Coroutine)
        assert coroutine.cr_frame is not None
        assert isinstance(coroutine.cr_code, types.CodeType)
        assert coroutine.cr_frame.f_code is coroutine.cr_code
        assert coroutine.cr_running is False
        assert coroutine.cr_await is None
        assert want == await coroutine
        assert coroutine.cr_frame is None
        assert coroutine.cr_await is None
        assert coroutine.cr_running is False

    perform(test, scene)


@pytest.mark.parametrize("scene", COROUTINES)
def test_coroutine_that_is_never_awaited_is_reported(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            coroutine: Any = make()
            del coroutine
            gc.collect()
        assert [str(each.message).endswith("was never awaited") for each in told] == [True]

    perform(test, scene)


@pytest.mark.parametrize("kind", ["readline", "readline-waits", "drain", "drain-waits", "open-r"])
def test_its_state_is_a_coroutines(perform: Perform, kind: str) -> None:
    async def test(make: Make, want: Any) -> None:
        coroutine: Any = make()
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        else:
            assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
            coroutine.close()
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    perform(test, kind)


METHODS = ["read", "readline", "readexactly", "readuntil", "drain", "sock_recv", "sock_sendall"]


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_are_known_as_coroutine_functions(loop: Any, method: str) -> None:
    owner = loop if method.startswith("sock_") else aiopoll.StreamReader
    if method == "drain":
        owner = aiopoll.StreamWriter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert asyncio.iscoroutinefunction(getattr(owner, method))
    if sys.version_info >= (3, 12) or method.startswith("sock_"):
        assert inspect.iscoroutinefunction(getattr(owner, method))


def test_a_stack_shows_the_function_that_was_called(loop: Any) -> None:
    async def main() -> None:
        reader = aiopoll.StreamReader(loop=loop)
        task = asyncio.create_task(reader.readexactly(5))  # type: ignore[arg-type,unused-ignore]
        await asyncio.sleep(0)
        [frame] = task.get_stack()
        assert frame.f_code is asyncio.StreamReader.readexactly.__code__
        printed = io.StringIO()
        task.print_stack(file=printed)
        assert "in readexactly" in printed.getvalue()
        assert os.path.basename(frame.f_code.co_filename) == "streams.py"
        assert "readexactly" in repr(task)
        reader.feed_data(b"12345")
        assert await task == b"12345"

    loop.run_until_complete(main())
