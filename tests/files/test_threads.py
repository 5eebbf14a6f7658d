"""A call that waits for another process delays no ordinary file; files at the very end."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import aiopoll

MANY = 70  # more than there are threads for ordinary files
SECONDS_MAX = 30  # more is a hang

Waiting = Callable[[Path], Coroutine[Any, Any, Any]]


async def binary(fifo: Path) -> None:
    async with aiopoll.open(fifo, "rb"):
        pass


async def text(fifo: Path) -> None:
    async with aiopoll.open(fifo):
        pass


async def with_opener(fifo: Path) -> None:
    async with aiopoll.open(fifo, "rb", opener=os.open):
        pass


async def with_an_opener_of_its_own(fifo: Path) -> None:
    def opener(_: str, flags: int) -> int:
        return os.open(fifo, flags)

    async with aiopoll.open("another name", "rb", opener=opener):
        pass


async def contents(fifo: Path) -> None:
    await aiopoll.read_bytes(fifo)


async def new_contents(fifo: Path) -> None:
    with contextlib.suppress(BrokenPipeError):  # the other end may be gone before the write
        await aiopoll.write_bytes(fifo, b"x")


async def text_contents(fifo: Path) -> None:
    await aiopoll.Path(fifo).read_text()


WAITS_IN_OPEN: list[Waiting] = [
    binary,
    text,
    with_opener,
    with_an_opener_of_its_own,
    contents,
    new_contents,
    text_contents,
]


async def ordinary_files_work(path: Path) -> None:
    for _ in range(3):
        await aiopoll.write_bytes(path, b"one\ntwo\n")
        async with aiopoll.open(path, "r+b") as file:
            assert await file.readline() == b"one\n"
            await file.write(b"three\n")
            await file.fsync()
        async with aiopoll.open(path) as lines:
            assert [line async for line in lines] == ["one\n", "three\n"]


async def let_go(fifo: Path, tasks: set[asyncio.Task[None]]) -> None:
    """Opens and closes the other end until all are done."""
    while tasks:
        other = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        await asyncio.wait(tasks, timeout=0.01)
        os.close(other)
        _, tasks = await asyncio.wait(tasks, timeout=0.01)


@pytest.mark.parametrize("waiting", WAITS_IN_OPEN, ids=lambda waiting: waiting.__name__)
def test_opens_that_wait(run: Any, tmp_path: Path, waiting: Waiting) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main() -> None:
        tasks = {asyncio.create_task(waiting(fifo)) for _ in range(MANY)}
        try:
            await asyncio.wait_for(ordinary_files_work(tmp_path / "file"), SECONDS_MAX)
            assert not any(task.done() for task in tasks)
        finally:
            await let_go(fifo, tasks)
        await asyncio.gather(*tasks)

    run(asyncio.wait_for(main(), 2 * SECONDS_MAX))


def test_transfers_that_wait(run: Any, tmp_path: Path) -> None:
    """Reads text from empty pipes, and writes more into others than they hold."""

    async def read_text(end: int) -> str:
        async with aiopoll.open(end) as file:
            return await file.read()

    async def write(end: int) -> None:
        async with aiopoll.open(end, "wb") as file:
            await file.write(bytes(1 << 20))

    async def main() -> None:
        empty, full = [os.pipe() for _ in range(MANY)], [os.pipe() for _ in range(MANY)]
        reads = [asyncio.create_task(read_text(reader)) for reader, _ in empty]
        writes = [asyncio.create_task(write(writer)) for _, writer in full]
        await asyncio.wait_for(ordinary_files_work(tmp_path / "file"), SECONDS_MAX)
        assert not any(task.done() for task in reads + writes)
        for _, writer in empty:
            os.close(writer)
        for reader, _ in full:
            os.close(reader)
        assert await asyncio.gather(*reads) == [""] * MANY
        ends = await asyncio.gather(*writes, return_exceptions=True)
        assert {type(end) for end in ends} == {BrokenPipeError}

    run(asyncio.wait_for(main(), 2 * SECONDS_MAX))


AT_EXIT = """
import atexit, asyncio, sys
{before}
import aiopoll

async def main():
    async with aiopoll.open(sys.argv[1], "w") as file:
        await file.write("text")
    async with aiopoll.open(sys.argv[1], "r+b") as file:
        assert await file.read() == b"text"
        await file.write(b" and bytes")
        await file.fsync()
    assert await aiopoll.read_bytes(sys.argv[1]) == b"text and bytes"
    async with aiopoll.open("/dev/null", "wb") as file:
        await file.write(b"x")

run = {run}
{first}
atexit.register(lambda: run(main()))
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("first", ["", "run(main())"], ids=["the first use", "used before"])
@pytest.mark.parametrize("before", ["", "import concurrent.futures.thread"])
@pytest.mark.parametrize(
    "runner",
    ["aiopoll.run", "lambda main: aiopoll.run(main, backend='epoll')", "asyncio.run"],
    ids=["aio", "epoll", "asyncio"],
)
def test_files_of_an_exit_handler(tmp_path: Path, runner: str, before: str, first: str) -> None:
    path = tmp_path / "file"
    program = AT_EXIT.format(before=before, run=runner, first=first)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert path.read_bytes() == b"text and bytes"
