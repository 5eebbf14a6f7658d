"""Ends of programs: every way that a main ends, as asyncio.run and the kernel have it."""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from aiopoll.kernel.signal import Killed
from aiopoll.sim import Host, HostState, World
from aiopoll.sim.run import Outcome, run_once
from aiopoll.sim.tape import tape_of


class Odd(BaseException):
    """An exception of a program that is no Exception."""


def raising(error: BaseException) -> Callable[[], Any]:
    async def main() -> None:
        raise error

    return main


def in_a_loop_of_its_own(main: Callable[[], Any]) -> Callable[[], None]:
    def synchronous() -> None:
        asyncio.run(main())

    return synchronous


def end_of(main: Callable[..., Any], **options: Any) -> Outcome:
    async def program(world: World) -> tuple[HostState, BaseException | None]:
        host = world.host("n", main, **options)
        await world.sleep(5)
        return host.phase, host.error

    return run_once(program, tape_of(1), time_limit=100)


ENDS = [Odd("x"), asyncio.CancelledError("x"), GeneratorExit("x"), BaseExceptionGroup("g", [Odd()])]


@pytest.mark.parametrize("wrap", [lambda main: main, in_a_loop_of_its_own])
@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
def test_any_exception_ends_the_program(error: BaseException, wrap: Any) -> None:
    outcome = end_of(wrap(raising(error)))
    assert type(outcome.error) is type(error)
    # The run ends there and then.
    assert outcome.elapsed_ns == 0
    outcome = end_of(wrap(raising(error)), may_fail=True)
    assert outcome.error is None
    phase, found = outcome.result
    assert phase is HostState.EXITED
    assert type(found) is type(error)


@pytest.mark.parametrize("wrap", [lambda main: main, in_a_loop_of_its_own])
def test_an_interrupt_ends_the_program_alone(wrap: Any) -> None:
    outcome = end_of(wrap(raising(KeyboardInterrupt())))
    assert outcome.error is None
    phase, found = outcome.result
    assert phase is HostState.EXITED
    assert isinstance(found, KeyboardInterrupt)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(0), SystemExit(3)])
def test_asyncio_run_raises_what_ends_its_loop(error: BaseException) -> None:
    cleaned: list[str] = []

    def main() -> None:
        try:
            asyncio.run(raising(error)())
        except BaseException as exc:
            cleaned.append(type(exc).__name__)
            time.sleep(1)
            raise

    outcome = end_of(main, may_fail=True)
    assert outcome.error is None
    assert outcome.result == (HostState.EXITED, error)
    assert cleaned == [type(error).__name__]


@pytest.mark.parametrize("wrap", [lambda main: main, in_a_loop_of_its_own])
def test_a_main_whose_loop_is_stopped_ends(wrap: Any) -> None:
    async def main() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(1)

    outcome = end_of(wrap(main))
    assert isinstance(outcome.error, RuntimeError)
    assert "stopped before" in str(outcome.error)


@pytest.mark.parametrize("error", [Odd("x"), ValueError("x"), asyncio.CancelledError("x")])
def test_what_a_thread_raises_reaches_its_waiter(error: BaseException) -> None:
    def function() -> None:
        raise error

    async def main() -> str:
        try:
            await asyncio.to_thread(function)
        except BaseException as exc:
            return type(exc).__name__
        return "nothing"

    async def program(world: World) -> Any:
        host = world.host("n", main)
        await world.sleep(1)
        return host.result

    assert run_once(program, tape_of(1)).result == type(error).__name__


@pytest.mark.parametrize("way", ["asyncio", "signal", "default", "SIGINT"])
def test_a_signal_reaches_a_loop_of_ones_own(way: str) -> None:
    async def serve() -> str:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        if way == "asyncio":
            loop.add_signal_handler(signal.SIGTERM, stopped.set)
        elif way == "signal":
            signal.signal(signal.SIGTERM, lambda *args: loop.call_soon_threadsafe(stopped.set))
        await stopped.wait()
        return "stopped"

    async def program(world: World) -> Any:
        host = world.host("n", lambda: asyncio.run(serve()), may_fail=True)
        await world.sleep(1)
        host.signal(signal.SIGINT if way == "SIGINT" else signal.SIGTERM)
        await world.sleep(1)
        return host.phase, host.result, type(host.error)

    ends = {"default": (None, Killed), "SIGINT": (None, KeyboardInterrupt)}
    expected = ends.get(way, ("stopped", type(None)))
    assert run_once(program, tape_of(1)).result == (HostState.EXITED, *expected)


@pytest.mark.parametrize("place", ["task", "callback", "thread", "shutdown"])
def test_a_host_restarts_itself(place: str) -> None:
    async def main(host: Host) -> int:
        if host.starts < 3:
            if place == "task":
                host.restart()
            elif place == "callback":
                asyncio.get_running_loop().call_soon(host.restart)
            elif place == "thread":
                await asyncio.to_thread(host.restart)
            else:
                task = asyncio.create_task(restart_at_the_end(host))
                await asyncio.sleep(0.1)
                assert not task.done()
                return -1
            await asyncio.sleep(1)
        return host.starts

    async def restart_at_the_end(host: Host) -> None:
        try:
            await asyncio.sleep(9)
        finally:
            host.restart()

    async def program(world: World) -> Any:
        host = world.host("n", main)
        await world.sleep(5)
        return host.starts, host.result

    outcome = run_once(program, tape_of(1))
    assert outcome.error is None
    assert outcome.result == (3, 3)


def test_a_thread_restarts_its_own_host() -> None:
    def main(host: Host) -> int:
        if host.starts < 3:
            threading.Thread(target=host.restart).start()
            time.sleep(1)
        return host.starts

    async def program(world: World) -> Any:
        host = world.host("n", main)
        await world.sleep(5)
        return host.result

    assert run_once(program, tape_of(1)).result == 3


def test_open_generators_are_closed_as_asyncio_does() -> None:
    closed: list[str] = []

    async def numbers(name: str) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(name)

    async def main() -> None:
        async for _ in numbers("left by break"):
            break
        held = numbers("held")
        await anext(held)
        asyncio.get_running_loop().held = held  # type: ignore[attr-defined]
        dropped = numbers("dropped at the end")
        await anext(dropped)

    async def program(world: World) -> None:
        world.host("n", main)
        world.host("m", in_a_loop_of_its_own(main))
        await world.sleep(1)
        assert sorted(closed) == sorted(2 * ["left by break", "held", "dropped at the end"])

    hooks = sys.get_asyncgen_hooks()
    assert run_once(program, tape_of(1)).error is None
    assert sys.get_asyncgen_hooks() == hooks


def test_what_unwinds_starts_no_thread() -> None:
    def main() -> None:
        try:
            time.sleep(100)
        finally:
            threading.Thread(target=time.sleep, args=(1,)).start()

    async def busy() -> None:
        # More of them than run at a time: the end of one would start the next.
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 10) for _ in range(40)))

    async def program(world: World) -> None:
        world.host("n", main)
        world.host("m", busy)
        await world.sleep(1)

    before = set(sys._current_frames())
    assert run_once(program, tape_of(1)).error is None
    assert set(sys._current_frames()) == before
