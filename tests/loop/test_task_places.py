"""Where tasks were made: the program's line, whichever way the task was made."""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import aiopoll

Maker = Callable[[], Awaitable[asyncio.Task[Any]]]


async def nothing() -> None:
    await asyncio.sleep(0)


async def by_create_task() -> asyncio.Task[Any]:
    return asyncio.create_task(nothing())  # here


async def by_the_loop() -> asyncio.Task[Any]:
    loop = asyncio.get_running_loop()
    return loop.create_task(nothing(), name="named")  # here


async def by_ensure_future() -> asyncio.Task[Any]:
    return asyncio.ensure_future(nothing())  # here


async def by_gather() -> asyncio.Task[Any]:
    before = asyncio.all_tasks()
    gathered = asyncio.gather(nothing())  # here
    (task,) = asyncio.all_tasks() - before
    await gathered
    return task


async def by_a_group() -> asyncio.Task[Any]:
    async with asyncio.TaskGroup() as group:
        return group.create_task(nothing())  # here


MAKERS = [by_create_task, by_the_loop, by_ensure_future, by_gather, by_a_group]


def line_of(maker: Maker) -> int:
    code = maker.__code__  # type: ignore[attr-defined]
    with open(code.co_filename, encoding="utf-8") as file:
        lines = file.read().splitlines()
    return next(
        at for at in range(code.co_firstlineno, len(lines) + 1) if "# here" in lines[at - 1]
    )


def run(maker: Maker, loop: Any) -> Any:
    async def main() -> Any:
        task = await maker()
        place = loop._task_place(task)
        await task
        return place

    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def check(place: Any, maker: Maker) -> None:
    assert place == (__file__, line_of(maker), maker.__name__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("maker", MAKERS)
def test_the_place_is_the_programs(maker: Maker, loop_options: dict[str, Any]) -> None:
    check(run(maker, aiopoll.new_event_loop(watch_stalls=60, **loop_options)), maker)


@pytest.mark.parametrize("maker", MAKERS)
def test_no_place_is_noted_unasked(maker: Maker) -> None:
    assert run(maker, aiopoll.new_event_loop()) is None


@pytest.mark.parametrize("maker", MAKERS)
def test_debug_mode_knows_the_place(maker: Maker) -> None:
    loop = aiopoll.new_event_loop()
    loop.set_debug(True)
    check(run(maker, loop), maker)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_task_factory_goes_on_working(maker: Maker) -> None:
    made = []

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    loop = aiopoll.new_event_loop(watch_stalls=60)
    loop.set_task_factory(factory)
    check(run(maker, loop), maker)
    assert len(made) == 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="skips.toml: eager tasks")
def test_eager_tasks_go_on_working() -> None:
    loop = aiopoll.new_event_loop(watch_stalls=60)
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    check(run(by_create_task, loop), by_create_task)


class Odd:
    """What a factory may return in place of a task; it takes no weak references."""

    __slots__ = ()

    def set_name(self, name: object) -> None:
        pass


def test_what_a_factory_returns_may_be_anything() -> None:
    odd = Odd()
    loop: Any = aiopoll.new_event_loop(watch_stalls=60)
    loop.set_task_factory(lambda loop, coro, **options: (coro.close(), odd)[1])
    assert loop.create_task(nothing()) is odd
    assert loop._task_place(odd) is None
    loop.close()


def test_the_watch_ends_and_tasks_are_as_before() -> None:
    loop = aiopoll.new_event_loop(watch_stalls=60)
    loop.watch_stalls(None)
    assert loop._task_places is None
    assert run(by_create_task, loop) is None


def test_places_go_with_their_tasks() -> None:
    loop = aiopoll.new_event_loop(watch_stalls=60)
    assert loop._task_places is not None

    async def main() -> None:
        await asyncio.gather(*[nothing() for _ in range(100)])

    loop.run_until_complete(main())
    gc.collect()
    assert len(loop._task_places._places) == 0
    loop.close()


def test_a_closed_loop_makes_no_task() -> None:
    loop = aiopoll.new_event_loop(watch_stalls=60)
    loop.close()
    coroutine = nothing()
    with pytest.raises(RuntimeError, match="closed"):
        loop.create_task(coroutine)
    coroutine.close()
