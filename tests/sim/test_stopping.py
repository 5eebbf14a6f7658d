"""Programs that catch everything: the run ends all the same, and leaves no thread behind."""

import asyncio
import gc
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from aiopoll.sim import World
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import tape_of

left: set[asyncio.Task[None]] = set()


async def awaits() -> None:
    while True:
        try:
            await asyncio.sleep(1)
        except BaseException:
            pass


async def awaits_in_blocks() -> None:
    while True:
        try:
            async with asyncio.timeout(1), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(2))
        except BaseException:
            pass


async def awaits_in_finally() -> None:
    try:
        await asyncio.sleep(100)
    finally:
        while True:
            await asyncio.sleep(1)


async def begins_anew() -> None:
    try:
        await asyncio.sleep(100)
    finally:
        left.add(asyncio.create_task(begins_anew()))


async def blocks() -> None:
    sleeps()


async def waits_for_a_thread() -> None:
    await asyncio.to_thread(sleeps)


def sleeps() -> None:
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass


def accepts() -> None:
    listener = socket.create_server(("", 80))
    while True:
        try:
            listener.accept()
        except BaseException:
            pass


def waits_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    while True:
        try:
            lock.acquire()
        except BaseException:
            pass


def loops() -> None:
    asyncio.run(awaits())


MAINS = [
    awaits,
    awaits_in_blocks,
    awaits_in_finally,
    begins_anew,
    blocks,
    waits_for_a_thread,
    sleeps,
    accepts,
    waits_for_a_lock,
    loops,
]


def check(program: Callable[[World], Any], capsys: pytest.CaptureFixture[str]) -> None:
    threads, trace = set(sys._current_frames()), sys.gettrace()
    assert run_once(program, tape_of(1)).error is None
    left.clear()
    gc.collect()
    assert set(sys._current_frames()) == threads
    assert sys.gettrace() is trace
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("main", MAINS)
def test_a_host_that_catches_all_ends(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async def program(world: World) -> None:
        world.host("n", main)
        await world.sleep(3)

    check(program, capsys)


@pytest.mark.parametrize("main", [awaits, awaits_in_finally, begins_anew, waits_for_a_thread])
def test_a_task_that_catches_all_ends(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async def program(world: World) -> None:
        task = asyncio.create_task(main())
        await world.sleep(3)
        assert not task.done()

    check(program, capsys)


def test_finally_blocks_may_make_many_calls() -> None:
    done: list[str] = []

    def main() -> None:
        try:
            time.sleep(100)
        finally:
            for _ in range(50):
                try:
                    time.sleep(1)
                except BaseException:
                    pass
            done.append("thread")

    async def waits() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            for _ in range(10):
                try:
                    await asyncio.sleep(1)
                except GeneratorExit:
                    pass
            done.append("task")

    async def program(world: World) -> None:
        world.host("n", main)
        task = asyncio.create_task(waits())
        await world.sleep(1)
        assert not task.done()

    assert run_once(program, tape_of(1)).error is None
    assert sorted(done) == ["task", "thread"]
