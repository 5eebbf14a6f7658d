"""Event loops and signals inside a world: each way to make a loop gives the host's."""

import asyncio
import importlib
import os
import select
import signal
import subprocess
import sys
import time
from asyncio import new_event_loop as bound_new_event_loop
from collections.abc import Callable
from typing import Any

import pytest

import aiopoll
from aiopoll.sim import World
from aiopoll.sim.loop import SimEventLoop

from .inside_world import inside


def by_runner() -> Any:
    with asyncio.Runner() as runner:
        assert runner.run(asyncio.sleep(1, "x")) == "x"
        return runner.get_loop()


def by_policy() -> Any:
    loop = asyncio.get_event_loop_policy().new_event_loop()
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    return loop


def of_package(name: str, attribute: str) -> Callable[[], Any]:
    return lambda: getattr(importlib.import_module(name), attribute)()


WAYS: dict[str, Callable[[], Any]] = {
    "asyncio.Runner": by_runner,
    "policy": by_policy,
    "asyncio.new_event_loop": lambda: asyncio.new_event_loop(),
    "bound before": lambda: bound_new_event_loop(),
    "asyncio.SelectorEventLoop": lambda: asyncio.SelectorEventLoop(),
    "asyncio.DefaultEventLoopPolicy": lambda: asyncio.DefaultEventLoopPolicy().new_event_loop(),
    "aiopoll.new_event_loop": lambda: aiopoll.new_event_loop(),
    "aiopoll.EventLoop": lambda: aiopoll.EventLoop(),
    "uvloop.new_event_loop": of_package("uvloop", "new_event_loop"),
    "uvloop.Loop": of_package("uvloop", "Loop"),
    "rloop.new_event_loop": of_package("rloop", "new_event_loop"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_new_loop_is_the_worlds(way: str) -> None:
    if "." in way:
        pytest.importorskip(way.partition(".")[0])

    async def program(world: World) -> Any:
        made: list[Any] = []

        def node() -> None:
            loop = WAYS[way]()
            made.append(loop)
            made.append(isinstance(loop, asyncio.AbstractEventLoop))
            if not loop.is_closed():
                loop.run_until_complete(asyncio.sleep(5))
                loop.close()
            made.append(time.monotonic())

        world.host("node", node)
        await asyncio.sleep(10)
        return made

    loop, is_loop, ended = inside(program)
    assert type(loop) is SimEventLoop
    assert is_loop
    assert ended in (1.0, 5.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["asyncio", "aiopoll", "uvloop"])
def test_run_is_the_worlds(name: str) -> None:
    module: Any = pytest.importorskip(name)

    async def program(world: World) -> Any:
        result: list[Any] = []

        def node() -> None:
            if hasattr(module, "install"):
                module.install()
            result.append(module.run(asyncio.sleep(3, "x")))
            result.append(time.monotonic())

        world.host("node", node)
        await asyncio.sleep(10)
        return result

    assert inside(program) == ["x", 3.0]


def test_a_loop_class_of_the_programs_runs_too() -> None:
    class Mine(asyncio.SelectorEventLoop):
        pass

    def node() -> Any:
        loop = Mine()
        assert type(loop) is Mine
        try:
            return loop.run_until_complete(asyncio.sleep(3, "x")), time.monotonic()
        finally:
            loop.close()

    async def program() -> Any:
        return await asyncio.to_thread(node)

    assert inside(program) == ("x", 3.0)


ACCELERATED = """
import asyncio
import aiopoll
from aiopoll import sim

async def main(world):
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 80)
    reader, writer = await asyncio.open_connection("127.0.0.1", 80)
    print(await reader.read())
    writer.close()
    server.close()

with aiopoll.accelerate_streams():
    assert asyncio.open_connection is aiopoll.open_connection
    sim.run(main, seed=1)
"""


@pytest.mark.subprocess
def test_compiled_streams_of_outside_go_on() -> None:
    # A process of its own: modules that a world has searched are searched again as they grow.
    command = [sys.executable, "-c", ACCELERATED]
    assert subprocess.run(command, check=True, capture_output=True, timeout=60).stdout == b"b''\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_policy_is_put_back() -> None:
    before = asyncio.get_event_loop_policy()
    inside(lambda: asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy()))
    assert asyncio.get_event_loop_policy() is before


# Signals


def test_handlers_run_where_the_kernel_delivers() -> None:
    def node(log: list[Any]) -> None:
        before = signal.signal(signal.SIGTERM, lambda *got: log.append((*got, time.monotonic())))
        assert before == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGALRM, lambda *_: log.append(time.monotonic()))
        signal.setitimer(signal.ITIMER_REAL, 1.5, 2)
        assert signal.getitimer(signal.ITIMER_REAL) == (1.5, 2.0)
        # A handler that raises nothing does not end a sleep (PEP 475).
        time.sleep(4)
        log.append(time.monotonic())
        assert signal.alarm(0) == 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(ProcessLookupError):
            os.kill(12345, 0)
        with pytest.raises(ValueError, match="out of range"):
            signal.signal(1000, signal.SIG_IGN)
        with pytest.raises(TypeError):
            signal.signal(signal.SIGUSR1, "x")  # type: ignore[arg-type]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGTERM)
        log.append("end")

    async def program(world: World) -> list[Any]:
        log: list[Any] = []
        host = world.host("node", node, log)
        await asyncio.sleep(10)
        if host.error is not None:
            raise host.error
        return log

    real = signal.getsignal(signal.SIGTERM)
    assert inside(program) == [(15, None, 0.0), 1.5, 3.5, 4.0, "end"]
    assert signal.getsignal(signal.SIGTERM) is real


def test_masks_hold_back_signals() -> None:
    def node(log: list[Any]) -> None:
        signal.signal(signal.SIGUSR1, lambda number, _: log.append(number))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]) == set()
        signal.raise_signal(signal.SIGUSR1)
        assert signal.sigpending() == {signal.SIGUSR1}
        assert log == []
        assert signal.sigwait([signal.SIGUSR1]) is signal.SIGUSR1
        signal.raise_signal(signal.SIGUSR1)
        assert signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1]) == {signal.SIGUSR1}
        log.append("unblocked")

    async def program(world: World) -> list[Any]:
        log: list[Any] = []
        host = world.host("node", node, log)
        await asyncio.sleep(1)
        if host.error is not None:
            raise host.error
        return log

    assert inside(program) == [signal.SIGUSR1, "unblocked"]


def test_loops_take_signals() -> None:
    async def program(world: World) -> list[Any]:
        log: list[Any] = []

        async def node() -> None:
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            loop.add_signal_handler(signal.SIGHUP, done.set_result, "hup")
            loop.call_later(2, os.kill, os.getpid(), signal.SIGHUP)
            log.append((await done, loop.time()))

        world.host("node", node)
        await asyncio.sleep(10)
        return log

    assert inside(program) == [("hup", 2.0)]


def test_the_abstract_loop_stays_what_it_is() -> None:
    """Packages of loops have names of their own for the classes of asyncio."""
    before = [asyncio.AbstractEventLoop]
    assert inside(lambda: asyncio.AbstractEventLoop is before[0])


def test_a_signal_does_not_lengthen_a_wait() -> None:
    async def program(world: World) -> list[float]:
        log: list[float] = []

        def node() -> None:
            signal.signal(signal.SIGALRM, lambda *_: log.append(time.monotonic()))
            signal.setitimer(signal.ITIMER_REAL, 1, 1)
            assert select.select([], [], [], 2.5) == ([], [], [])
            log.append(time.monotonic())

        world.host("node", node)
        await asyncio.sleep(10)
        return log

    assert inside(program) == [1.0, 2.0, 2.5]
