"""loop.dump() of a loop whose callbacks, tasks and futures are not what they pass for."""

import asyncio
from typing import Any

import pytest

import aiopoll


class Decorated:
    """As decorators of classes are: a callback with __get__, but without a name."""

    def __get__(self, instance: object, owner: object) -> "Decorated":
        return self

    def __call__(self) -> None: ...


class Classless:
    @property
    def __class__(self) -> Any:
        raise ZeroDivisionError

    def __call__(self) -> None: ...


class Hidden(type):
    def __getattribute__(cls, name: str) -> Any:
        raise ZeroDivisionError


class Nameless(metaclass=Hidden):
    pass


def wrapped() -> None: ...


wrapped.__wrapped__ = wrapped  # type: ignore[attr-defined]


CALLBACKS: dict[str, Any] = {
    "decorated": Decorated(),
    "classless": Classless(),
    "nameless": Nameless,
    "wrapped by itself": wrapped,
}


@pytest.mark.parametrize("kind", CALLBACKS)
def test_any_callback_is_shown(kind: str) -> None:
    callback = CALLBACKS[kind]

    async def main() -> Any:
        loop: Any = asyncio.get_running_loop()
        timer = loop.call_later(1000, callback)
        loop.call_soon(callback)
        dump = loop.dump()
        timer.cancel()
        return dump

    dump = aiopoll.run(main())
    assert len(dump.timers) == 1
    assert "object" in dump.timers[0].callback
    assert "object" in str(dump)


class Proxy:
    """A coroutine that another one is in."""

    def __init__(self) -> None:
        self.inner: Any = asyncio.sleep(1000)

    def __await__(self) -> "Proxy":
        return self

    def __iter__(self) -> "Proxy":
        return self

    def __next__(self) -> Any:
        return self.inner.send(None)

    def throw(self, *error: Any) -> Any:
        return self.inner.throw(*error)

    @property
    def cr_await(self) -> Any:
        raise ZeroDivisionError

    gi_frame = cr_await


class Doneless(asyncio.Future[None]):
    _children = property(lambda self: 1 // 0)

    def __await__(self) -> Any:
        return (yield self)

    def done(self) -> bool:
        raise ZeroDivisionError

    def get_loop(self) -> Any:
        return asyncio.get_running_loop()

    _asyncio_future_blocking = True


class OddQueue(asyncio.Queue[None]):
    def _init(self, maxsize: int) -> None: ...

    def empty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "make", [Proxy, Doneless, lambda: OddQueue().get()], ids=["proxy", "future", "queue"]
)
def test_any_awaitable_is_shown(make: Any) -> None:
    async def wait() -> None:
        await make()

    async def main() -> Any:
        loop: Any = asyncio.get_running_loop()
        task = loop.create_task(wait(), name="odd")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        dump = loop.dump()
        task.cancel()
        return {each.name: each for each in dump.tasks}, str(dump)

    tasks, text = aiopoll.run(main())
    assert tasks["odd"].coroutine.endswith("wait")
    assert tasks["odd"].awaits is not None
    assert "odd: waiting" in text


def test_tasks_without_a_name_are_shown() -> None:
    class Odd(asyncio.Task[None]):
        def get_name(self) -> str:
            raise ZeroDivisionError

    class Other:
        def __init__(self, loop: Any) -> None:
            self.loop = loop

        def get_loop(self) -> Any:
            return self.loop

        def done(self) -> bool:
            return False

    async def main() -> Any:
        loop: Any = asyncio.get_running_loop()
        odd = Odd(asyncio.sleep(1000), loop=loop)
        other: Any = Other(loop)
        asyncio._register_task(other)
        long = loop.create_task(asyncio.sleep(1000), name="9" * 5000)
        await asyncio.sleep(0)
        dump = loop.dump()
        odd.cancel()
        long.cancel()
        asyncio._unregister_task(other)
        return dump

    dump = aiopoll.run(main())
    assert dump.nr_tasks == 4
    names = {task.name.partition(" at ")[0] for task in dump.tasks}
    assert {"Odd", "Other", "9" * 5000} < {name.rpartition(".")[2] for name in names}
