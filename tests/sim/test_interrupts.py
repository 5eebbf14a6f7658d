"""Control-C of the real machine: it ends the run, wherever it comes, and the next run works."""

import _thread
import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from aiopoll.sim import World
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import tape_of

really_sleep = time.sleep


async def steps() -> None:
    while True:
        await asyncio.sleep(0.001)


async def catches() -> None:
    while True:
        try:
            await asyncio.sleep(0.001)
            sum(range(1000))
        except BaseException:
            pass


async def spins() -> None:
    while True:
        pass


def spins_in_a_thread() -> None:
    while True:
        pass


def sleeps() -> None:
    while True:
        time.sleep(0.001)


async def blocks() -> None:
    while True:
        time.sleep(0.001)
        await asyncio.sleep(0.001)


async def blocks_once() -> None:
    time.sleep(1e6)


async def forever(world: World) -> None:
    await world.sleep(1e6)


def state() -> Any:
    return (
        set(sys._current_frames()),
        signal.getsignal(signal.SIGINT),
        gc.isenabled(),
        sys.get_asyncgen_hooks(),
    )


MAINS = {
    "steps": [steps],
    "catches": [catches],
    "spins": [spins],
    "a thread spins": [spins_in_a_thread],
    "threads": [sleeps, sleeps, steps],
    "the caller's step waits": [blocks_once, steps],
    "all": [steps, sleeps, blocks, catches],
}


@pytest.mark.parametrize("delay", [0.03, 0.1])
@pytest.mark.parametrize("mains", MAINS.values(), ids=MAINS)
def test_control_c_ends_the_run(mains: list[Callable[[], Any]], delay: float) -> None:
    async def program(world: World) -> None:
        for number, main in enumerate(mains):
            world.host(f"n{number}", main)
        await forever(world)

    async def nothing(world: World) -> int:
        world.host("n", sleeps)
        await world.sleep(1)
        return 5

    assert run_once(nothing, tape_of(1)).result == 5
    before = state()
    done = _thread.allocate_lock()
    done.acquire()

    def interrupt() -> None:
        really_sleep(delay)
        os.kill(os.getpid(), signal.SIGINT)
        done.release()

    _thread.start_new_thread(interrupt, ())
    with pytest.raises(KeyboardInterrupt):
        run_once(program, tape_of(1))
    done.acquire()
    really_sleep(0.01)
    assert state() == before
    assert run_once(nothing, tape_of(1)).result == 5
