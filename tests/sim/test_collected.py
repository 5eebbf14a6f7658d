"""What is left at the end of a world: held until then, and gone without a warning."""

import asyncio
import gc
import os
import threading
import time
import types
from typing import Any

import pytest

from aiopoll.sim.run import run_once
from aiopoll.sim.tape import tape_of
from aiopoll.sim.world import World


async def waits_for_ever(ended: list[str], name: str) -> None:
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        ended.append(name)


def run(program: Any, seed: int = 0) -> None:
    outcome = run_once(program, tape_of(seed))
    if outcome.error is not None:
        raise outcome.error


def test_main_of_a_host_is_held() -> None:
    ended: list[str] = []

    async def program(world: World) -> None:
        world.host("a", waits_for_ever, ended, "main")
        await world.sleep(1)
        gc.collect()
        await world.sleep(1)
        assert not ended

    run(program)
    assert ended == ["main"]


def test_killed_tasks_end_when_the_world_is_over() -> None:
    ended: list[str] = []

    async def parent() -> None:
        await asyncio.wait([asyncio.create_task(waits_for_ever(ended, name)) for name in "xy"])

    async def program(world: World) -> None:
        host = world.host("a", parent)
        await world.sleep(1)
        host.kill()
        gc.collect()
        host.restart()
        await world.sleep(1)
        gc.collect()
        assert not ended

    run(program)
    assert sorted(ended) == ["x", "x", "y", "y"]


def test_open_transports_are_left_without_a_warning() -> None:
    transports: list[Any] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transports.append(writer.transport)
        await asyncio.get_running_loop().create_future()

    async def server() -> None:
        loop = asyncio.get_running_loop()
        udp = loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("0.0.0.0", 9))
        transports.append((await udp)[0])
        await asyncio.start_server(connected, "0.0.0.0", 80)
        await loop.create_future()

    async def client() -> None:
        _, writer = await asyncio.open_connection("server", 80)
        transports.append(writer.transport)
        await asyncio.get_running_loop().create_future()

    async def program(world: World) -> None:
        world.host("server", server)
        await world.sleep(0.1)
        world.host("client", client)
        await world.sleep(1)
        assert not any(transport.is_closing() for transport in transports)

    run(program)
    assert len(transports) == 3
    for transport in transports:
        assert transport.is_closing()
        # Warnings are errors here.
        transport.__del__()


def test_calls_that_the_end_cuts_off_are_no_failures() -> None:
    cut_off: list[int] = []

    async def writer() -> None:
        while True:
            await asyncio.sleep(0.0001)
            # Nor can the file be closed after a crash, which is an OSError.
            with open("/log", "a+b") as file:
                file.seek(0)
                file.read()
                file.write(b"x" * 100)
                file.flush()
                try:
                    os.fsync(file.fileno())
                except BaseException:
                    cut_off.append(file.fileno())
                    raise

    async def program(world: World) -> None:
        host = world.host("writer", writer)
        world.always("no call is cut off", lambda: not cut_off)
        await world.sleep(0.01)
        # A call that a crash cuts off stands still until the end.
        host.crash()
        host.restart()
        await world.sleep(0.01)

    runs_cut_off = 0
    for seed in range(10):
        cut_off.clear()
        run(program, seed)
        runs_cut_off += len(cut_off)
    assert runs_cut_off


def worlds() -> int:
    return sum(type(thing) is World for thing in gc.get_objects())


async def in_a_thread(world: World) -> None:
    await asyncio.to_thread(time.sleep, 1)


async def of_a_crash(world: World) -> None:
    def main() -> None:
        asyncio.run(asyncio.sleep(1000))

    host = world.host("one", main)
    await world.sleep(1)
    host.crash()
    await world.sleep(1)


async def that_fails(world: World) -> None:
    raise ZeroDivisionError("planted")


async def of_a_file(world: World) -> None:
    world.host("one", __file__.replace("test_collected", "idle_program"))
    await world.sleep(1)


@pytest.mark.parametrize("program", [in_a_thread, of_a_crash, that_fails, of_a_file])
@pytest.mark.parametrize("caller", ["main", "another"])
def test_no_world_outlives_its_run(program: Any, caller: str) -> None:
    """Else memory grows by each seed: what is frozen by the next run is not collected."""
    gc.collect()
    before = worlds()
    modules = sum(type(thing) is types.ModuleType for thing in gc.get_objects())
    found: list[int] = []

    def runs() -> None:
        for seed in range(3):
            run_once(program, tape_of(seed))
            found.append(worlds() - before)

    if caller == "main":
        runs()
    else:
        thread = threading.Thread(target=runs)
        thread.start()
        thread.join()
    # An error holds the frames of the world that it ended, until the next one begins.
    assert found == ([1, 1, 1] if program is that_fails else [0, 0, 0])
    gc.collect()
    assert sum(type(thing) is types.ModuleType for thing in gc.get_objects()) <= modules + 1
