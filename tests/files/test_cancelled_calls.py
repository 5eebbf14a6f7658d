"""The state after a cancelled call: the next calls continue from there, and lose nothing."""

import asyncio
import gc
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aiopoll


async def cancelled(call: Awaitable[Any]) -> None:
    """Begins a call, and cancels it once it waits."""

    async def caller() -> Any:
        return await call

    task = asyncio.create_task(caller())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any, str], threading.Event]]:
    """held(object, name): a function that does its work only once the event is set."""
    events = []

    def hold(owner: Any, name: str) -> threading.Event:
        function = getattr(owner, name)
        go = threading.Event()
        events.append(go)

        def wait(*arguments: Any, **options: Any) -> Any:
            assert go.wait(10)
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, wait)
        return go

    yield hold
    for event in events:
        event.set()


def test_text_is_written_though_close_is_cancelled(run, tmp_path: Path) -> None:
    """And never into another file, which has the descriptor's number by then."""
    path, other = tmp_path / "file", tmp_path / "other"

    async def main() -> None:
        file = await aiopoll.open(path, "w")
        await file.write("some text")
        await cancelled(file.close())
        await file.close()
        assert file.closed
        assert path.read_text() == "some text"
        fd = os.open(other, os.O_WRONLY | os.O_CREAT)
        del file
        gc.collect()
        os.close(fd)
        assert other.read_text() == ""

    run(main())


def test_text_is_written_when_a_queued_close_is_cancelled(run, tmp_path: Path, held) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        file = await aiopoll.open(path, "w")
        await file.write("one ")
        go = held(file, "_write_text")
        flushing = asyncio.create_task(file.flush())
        await asyncio.sleep(0)
        late = asyncio.create_task(file.write("late"))
        closing = asyncio.create_task(file.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.sleep(0)
        go.set()
        await flushing
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(ValueError, match="closed file"):
            await late
        await file.close()
        assert path.read_text() == "one "

    run(main())


def test_write_error_of_a_cancelled_close_is_in_the_next(run, tmp_path: Path, small_files) -> None:
    async def main() -> None:
        file = await aiopoll.open(tmp_path / "file", "w")
        await file.write("text")
        with small_files(0):
            await cancelled(file.close())
            with pytest.raises(OSError, match="too large"):
                await file.close()
        await file.close()

    run(main())


def test_text_calls_stay_in_order_when_two_are_cancelled(run, tmp_path: Path, held) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        async with aiopoll.open(path, "w") as file:
            go = held(file, "_write_text")
            await file.write("one ")
            await cancelled(file.flush())
            waiting = [file.flush(), file.write("never "), file.write("nor this ")]
            for call in waiting:
                await cancelled(call)
            last = asyncio.create_task(file.write("two"))
            await asyncio.sleep(0)
            assert aiopoll.file_statistics().in_threads == 1
            go.set()
            await last
        assert path.read_text() == "one two"

    run(main())


def test_lines_read_for_a_cancelled_call_come_next(run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = [f"line {number}\n" for number in range(20_000)]
    path.write_text("".join(whole))

    async def main() -> None:
        async with aiopoll.open(path) as file:
            await cancelled(file.readline())
            assert await file.read(3) == "lin"
            assert await file.readline() == "e 0\n"
        async with aiopoll.open(path) as file:
            await cancelled(file.readline())
            assert await file.readline() == whole[0]
            assert await file.tell() == len(whole[0])
            assert [line async for line in file] == whole[1:]
        async with aiopoll.open(path, "r+") as file:
            await cancelled(file.readline())
            await file.seek(0)
            await file.write("LINE")
            await file.seek(0)
            assert await file.readline() == "LINE 0\n"

    run(main())


def test_write_to_a_file_closed_meanwhile_raises(run, tmp_path: Path, held) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        file = await aiopoll.open(path, "wb")
        await file.write(b"one")
        await file.flush()
        go = held(file, "_truncate")
        truncating = asyncio.create_task(file.truncate(2))
        await asyncio.sleep(0)
        late = asyncio.create_task(file.write(b"late"))
        closing = asyncio.create_task(file.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.sleep(0)
        go.set()
        assert await truncating == 2
        with pytest.raises(ValueError, match="closed file"):
            await late
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert path.read_bytes() == b"on"

    run(main())


def test_a_cancelled_truncate_keeps_later_writes(run, tmp_path: Path, held) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        async with aiopoll.open(path, "wb", 0) as file:
            await file.write(b"old")
            go = held(file, "_truncate")
            await cancelled(file.truncate(0))
            writing = asyncio.create_task(file.write(b"new"))
            for _ in range(3):
                await asyncio.sleep(0)
            assert path.read_bytes() == b"old"
            go.set()
            await writing
        assert path.read_bytes() == b"\0\0\0new"

    run(main())


def test_cancelled_truncate_raises_its_error_later(run, tmp_path: Path, small_files) -> None:
    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", "wb") as file:
            with small_files(0):
                await cancelled(file.truncate(10))
                with pytest.raises(OSError, match="too large"):
                    await file.flush()

    run(main())


@pytest.mark.parametrize("size", [1, 5, 100_000, -1])
def test_pipe_data_for_a_cancelled_read_comes_next(run, size: int) -> None:
    async def main() -> None:
        read_fd, write_fd = os.pipe()
        async with aiopoll.open(read_fd, "rb") as file:
            os.write(write_fd, b"first")
            task = asyncio.create_task(file.read1())
            while file.statistics().thread_calls == 0:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            # A thread has it, or is about to.
            os.write(write_fd, b"second")
            os.close(write_fd)
            data = await file.read(size)
            assert len(data) == size or size not in (1, 5)
            assert data + await file.read() == b"firstsecond"

    run(main())


def test_pipe_data_before_a_read_was_cancelled_comes_next(run) -> None:
    async def main() -> None:
        read_fd, write_fd = os.pipe()
        async with aiopoll.open(read_fd, "rb") as file:
            task = asyncio.create_task(file.read())
            for number in range(3):
                os.write(write_fd, b"%d" % number)
                while file.statistics().thread_calls <= number or file.statistics().in_flight:
                    await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            os.write(write_fd, b"3")
            os.close(write_fd)
            assert await file.read() == b"0123"

    run(main())
