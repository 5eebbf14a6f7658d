"""create_task(): the tasks that asyncio's own makes, on our loop and on asyncio's."""

import asyncio
import contextvars
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

import aiopoll

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


@pytest.fixture(params=["aiopoll", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    loop = aiopoll.new_event_loop() if request.param == "aiopoll" else asyncio.SelectorEventLoop()
    yield loop
    loop.close()


async def value() -> str:
    return variable.get()


def test_it_is_a_task_of_this_loop(loop: asyncio.AbstractEventLoop) -> None:
    task = loop.create_task(value())
    assert type(task) is asyncio.Task
    assert task.get_loop() is loop
    assert task in asyncio.all_tasks(loop)
    assert loop.run_until_complete(task) == "none"
    assert not asyncio.all_tasks(loop)


def test_names(loop: asyncio.AbstractEventLoop) -> None:
    tasks = [loop.create_task(value()) for _ in range(2)]
    numbers = [int(task.get_name().removeprefix("Task-")) for task in tasks]
    assert numbers[1] == numbers[0] + 1
    tasks.append(loop.create_task(value(), name="given"))
    assert tasks[-1].get_name() == "given"
    tasks.append(loop.create_task(value(), name=5))  # type: ignore[arg-type]
    assert tasks[-1].get_name() == "5"
    loop.run_until_complete(asyncio.wait(tasks))


def test_contexts(loop: asyncio.AbstractEventLoop) -> None:
    async def change() -> None:
        variable.set("changed")

    given = contextvars.copy_context()
    given.run(variable.set, "given")
    assert loop.run_until_complete(loop.create_task(value(), context=given)) == "given"
    assert loop.run_until_complete(loop.create_task(value(), context=None)) == "none"
    loop.run_until_complete(loop.create_task(change(), context=given))
    assert given[variable] == "changed"
    loop.run_until_complete(loop.create_task(change()))
    assert variable.get() == "none"


@pytest.mark.parametrize("debug", [False, True])
def test_misuse(loop: asyncio.AbstractEventLoop, debug: bool) -> None:
    loop.set_debug(debug)
    with pytest.raises(TypeError, match="a coroutine was expected, got 5"):
        loop.create_task(5)  # type: ignore[arg-type]
    unused = value()
    with pytest.raises(TypeError, match="no_such_option"):
        loop.create_task(unused, no_such_option=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"takes 2 positional|takes exactly 1 positional"):
        loop.create_task(unused, "name")  # type: ignore[misc,arg-type]
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(unused)
    unused.close()


def test_a_closed_loop_says_so_whatever_is_given(loop: asyncio.AbstractEventLoop) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(5)  # type: ignore[arg-type]


def test_debug_mode_notes_where_it_was_made(loop: asyncio.AbstractEventLoop) -> None:
    loop.set_debug(True)
    task: Any = loop.create_task(value())
    assert task._source_traceback[-1].name == "test_debug_mode_notes_where_it_was_made"
    loop.run_until_complete(task)
    loop.set_debug(False)
    task = loop.create_task(value())
    assert task._source_traceback is None
    loop.run_until_complete(task)


def test_a_factory_makes_the_tasks(loop: asyncio.AbstractEventLoop) -> None:
    made: list[dict[str, Any]] = []

    def factory(
        of: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        assert of is loop
        made.append(options)
        return asyncio.Task(coro, loop=of, **options)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(value(), name="named", context=contextvars.copy_context())
    assert task.get_name() == "named"
    assert loop.run_until_complete(task) == "none"
    assert loop.run_until_complete(loop.create_task(value())) == "none"
    assert len(made) == 2
    assert "context" in made[0]
    with pytest.raises(TypeError, match="must be a callable or None"):
        loop.set_task_factory(5)  # type: ignore[arg-type]
    loop.set_task_factory(None)
    loop.run_until_complete(loop.create_task(value()))
    assert len(made) == 2


def test_a_replaced_class_is_used(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debuggers and nest_asyncio put the class in Python, or their own, in its place."""

    class Replaced(asyncio.Task):  # type: ignore[type-arg]
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Replaced)
    task = loop.create_task(value())
    assert type(task) is Replaced
    loop.run_until_complete(task)


def test_asyncios_method_replaced_is_called(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracers replace it on the class."""
    original = asyncio.BaseEventLoop.create_task
    made: list[Any] = []

    def create_task(self: Any, coro: Any, **options: Any) -> Any:
        made.append(coro)
        return original(self, coro, **options)

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_task", create_task)
    assert loop.run_until_complete(loop.create_task(value())) == "none"
    loop.set_debug(True)
    assert loop.run_until_complete(loop.create_task(value())) == "none"
    assert len(made) == 2


def test_an_override_is_called(loop: asyncio.AbstractEventLoop) -> None:
    made: list[asyncio.Task[Any]] = []

    class Counting(type(loop)):  # type: ignore[misc]
        def create_task(self, *args: Any, **options: Any) -> Any:
            made.append(super().create_task(*args, **options))
            return made[-1]

    async def scenario() -> None:
        await asyncio.create_task(value())
        await asyncio.gather(value(), value())

    with asyncio.Runner(loop_factory=Counting) as runner:
        runner.run(scenario())
    assert len(made) >= 4


@pytest.mark.skipif(sys.version_info < (3, 12), reason="skips.toml: eager tasks")
def test_eager_tasks(loop: asyncio.AbstractEventLoop) -> None:
    async def scenario() -> None:
        running = asyncio.get_running_loop()
        running.set_task_factory(asyncio.eager_task_factory)
        assert asyncio.create_task(value()).done()
        running.set_task_factory(None)
        later = asyncio.create_task(value())
        assert not later.done()
        await later
        if sys.version_info >= (3, 14):
            assert running.create_task(value(), eager_start=True).done()
            later = running.create_task(value(), eager_start=False)
            assert not later.done()
            await later

    loop.run_until_complete(scenario())
