"""Cancellation, close and the end of the loop while I/O is in flight, on every kind of loop."""

import asyncio
import functools
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import CHILD_SECONDS_MAX

import aiopoll
from aiopoll.files.scheduler import queue_of

BLOCK = 4096


def filled(path: Path, blocks: int) -> Path:
    path.write_bytes(b"".join(bytes([i % 256]) * BLOCK for i in range(blocks)))
    return path


def test_every_route_on_every_loop(run, tmp_path: Path) -> None:
    async def main() -> None:
        async with aiopoll.open(filled(tmp_path / "file", 300), "r+b", direct=True) as file:
            reads = await asyncio.gather(*(file.pread(BLOCK, i * BLOCK) for i in range(300)))
            assert reads == [bytes([i % 256]) * BLOCK for i in range(300)]
            buffer = aiopoll.AlignedBuffer(BLOCK)
            buffer[:] = b"w" * BLOCK
            await asyncio.gather(*(file.pwrite(buffer, i * BLOCK) for i in range(300)))
            await file.fsync()
            await file.datasync()
            assert await file.append(b"tail") == 300 * BLOCK
            counts = file.statistics()
            assert (counts.aio_reads, counts.aio_writes, counts.aio_syncs) == (300, 300, 2)
            assert counts.in_flight == 0
        assert (tmp_path / "file").read_bytes() == b"w" * BLOCK * 300 + b"tail"
        async with aiopoll.open(tmp_path / "file", "rb") as file:
            assert await file.read() == b"w" * BLOCK * 300 + b"tail"

    run(main())


def test_cancelled_read_ends_at_once_and_keeps_its_buffer(run, tmp_path: Path) -> None:
    async def main() -> None:
        async with aiopoll.open(filled(tmp_path / "file", 64), "rb", direct=True) as file:
            buffers = [bytearray(BLOCK) for _ in range(64)]
            reads = [file.pread_into(b, i * BLOCK) for i, b in enumerate(buffers)]
            await asyncio.sleep(0)  # they are submitted now, or in the next iteration
            for read in reads:
                read.cancel()
            assert all(read.done() for read in reads)
            for buffer in buffers if file.statistics().in_flight == 64 else ():
                with pytest.raises(BufferError):
                    buffer.clear()  # it is held: no event has been taken since
        for buffer in buffers:
            buffer.clear()  # close() has waited

    run(main())


def test_request_cancelled_before_submission_is_not_done(run, tmp_path: Path) -> None:
    async def main() -> None:
        async with aiopoll.open(filled(tmp_path / "file", 1), "r+b", direct=True) as file:
            buffer = aiopoll.AlignedBuffer(BLOCK)
            buffer[:] = b"x" * BLOCK
            file.pwrite(buffer, 0).cancel()
            assert await file.pread(3, 0) == bytes(3)

    run(main())


def test_an_await_that_is_cancelled_leaves_the_file_usable(run, tmp_path: Path) -> None:
    async def main() -> None:
        async with aiopoll.open(filled(tmp_path / "file", 4), "r+b", direct=True) as file:

            async def reader() -> None:
                while True:
                    await file.pread(BLOCK, 0)

            task = asyncio.create_task(reader())
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await file.pread(1, BLOCK) == b"\x01"

    run(main())


def test_close_waits_for_requests_in_flight(run, tmp_path: Path) -> None:
    async def main() -> None:
        file = await aiopoll.open(filled(tmp_path / "file", 256), "r+b", direct=True)
        buffer = aiopoll.AlignedBuffer(BLOCK)
        buffer[:] = b"c" * BLOCK
        writes = [file.pwrite(buffer, i * BLOCK) for i in range(256)]
        unaligned = file.pwrite(b"odd", 5)
        await file.close()
        assert all(write.done() and write.result() == BLOCK for write in writes)
        assert unaligned.result() == 3
        assert file.closed
        await file.close()
        with pytest.raises(ValueError, match="closed file"):
            file.fileno()
        with pytest.raises(ValueError, match="closed file"):
            await file.read()

    run(main())
    data = (tmp_path / "file").read_bytes()
    assert data == b"ccccc" + b"odd" + b"c" * (256 * BLOCK - 8)


def test_a_close_that_is_cancelled_closes_all_the_same(run, tmp_path: Path) -> None:
    async def main() -> None:
        file = await aiopoll.open(filled(tmp_path / "file", 64), "rb", direct=True)
        fd = file.fileno()
        reads = [file.pread(BLOCK, i * BLOCK) for i in range(64)]
        task = asyncio.create_task(file.close())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*reads)
        await file.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    run(main())


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_an_open_that_is_cancelled_leaves_nothing_open(run, tmp_path: Path) -> None:
    async def opening() -> None:
        await aiopoll.open(tmp_path / "file", "w+b")

    async def main() -> None:
        for turns in range(6):
            task = asyncio.create_task(opening())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            result = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(result[0], asyncio.CancelledError | None)
            gc.collect()

    run(main())


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_writes_in_flight_at_the_end_of_the_loop_are_done(run, tmp_path: Path) -> None:
    path = filled(tmp_path / "file", 300)
    futures = []

    async def main() -> None:
        file = await aiopoll.open(path, "r+b", direct=True)
        buffer = aiopoll.AlignedBuffer(BLOCK)
        buffer[:] = b"e" * BLOCK
        futures.extend(file.pwrite(buffer, i * BLOCK) for i in range(300))
        futures.append(file.pwrite(b"odd", 7))

    run(main())
    assert [future.result() for future in futures] == [BLOCK] * 300 + [3]
    assert path.read_bytes() == b"e" * 7 + b"odd" + b"e" * (300 * BLOCK - 10)
    futures.clear()


def test_requests_held_back_do_not_exceed_those_in_flight(run, tmp_path: Path) -> None:
    path = filled(tmp_path / "file", 40)

    async def main() -> None:
        async with aiopoll.open(path, "rb", direct=True) as file:
            futures, submitted = [], []
            for i in range(20):  # all in one callback: nothing is reaped in between
                futures.append(file.pread(BLOCK, i * BLOCK))
                submitted.append(aiopoll.file_statistics().in_flight)
            assert submitted == [1, 1, 3, 3, 3, 3, *[7] * 8, *[15] * 6]
            assert await asyncio.gather(*futures) == [
                path.read_bytes()[i * BLOCK : (i + 1) * BLOCK] for i in range(20)
            ]

    run(main())


@pytest.mark.parametrize("backend", ["aio", "epoll", None])
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.* dropped with I/O of files in flight:ResourceWarning")
def test_a_loop_that_is_closed_without_a_runner(backend: str | None, tmp_path: Path) -> None:
    path = filled(tmp_path / "file", 40)

    async def main() -> None:
        file = await aiopoll.open(path, "r+b", direct=True)
        buffer = aiopoll.AlignedBuffer(BLOCK)
        buffer[:] = b"e" * BLOCK
        for i in range(40):
            file.pwrite(buffer, i * BLOCK)
        # A foreign loop has no hook: requests not submitted when it closes are lost.
        running: Any = asyncio.get_running_loop()
        while backend is None and running._aiopoll_files.statistics().waiting:
            await asyncio.sleep(0)

    loop = aiopoll.new_event_loop(backend=backend) if backend else asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    # Writes that would have blocked in io_submit are in threads, which hold the queue meanwhile.
    while any(thread.name.startswith("aiopoll-files") for thread in threading.enumerate()):
        gc.collect()
    assert path.read_bytes() == b"e" * 40 * BLOCK


@pytest.mark.parametrize("backend", ["aio", "epoll", None])
def test_a_collector_may_finalize_a_file_before_its_loop(
    backend: str | None, tmp_path: Path
) -> None:
    """Where it begins is its own affair: here the test calls the finalizer."""
    path = filled(tmp_path / "file", 300)

    async def main() -> Any:
        file = await aiopoll.open(path, "r+b", direct=True)
        buffer = aiopoll.AlignedBuffer(BLOCK)
        buffer[:] = b"e" * BLOCK
        for i in range(300):
            file.pwrite(buffer, i * BLOCK)
        return file

    loop = aiopoll.new_event_loop(backend=backend) if backend else asyncio.new_event_loop()
    file = loop.run_until_complete(main())
    with pytest.warns(ResourceWarning) as warned:
        file.__del__()
    assert path.read_bytes() == b"e" * 300 * BLOCK
    assert [str(warning.message).split()[0] for warning in warned][-1] == "unclosed"
    loop.close()


@pytest.mark.subprocess
def test_writes_in_flight_at_interpreter_exit_are_done(tmp_path: Path) -> None:
    path = filled(tmp_path / "file", 300)
    program = f"""
import asyncio, aiopoll

async def main():
    file = await aiopoll.open({str(path)!r}, "r+b", direct=True)
    buffer = aiopoll.AlignedBuffer({BLOCK})
    buffer[:] = b"e" * {BLOCK}
    for i in range(300):
        file.pwrite(buffer, i * {BLOCK})
    await asyncio.sleep(0)

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert path.read_bytes() == b"e" * 300 * BLOCK


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_file_of_a_closed_loop_is_refused(run, tmp_path: Path) -> None:
    files = []

    async def main() -> None:
        files.append(await aiopoll.open(tmp_path / "file", "w+b", direct=True))

    run(main())
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        files.pop().pread(1, 0)


def test_an_unclosed_file_warns(tmp_path: Path) -> None:
    async def main(mode: str, data: bytes | str) -> None:
        file = await aiopoll.open(tmp_path / "file", mode)
        await file.write(data)
        del file
        gc.collect()

    for mode, data in (("wb", b"abc"), ("w", "abc"), ("ab", b"abc")):
        with pytest.warns(ResourceWarning, match="unclosed file"):
            aiopoll.run(main(mode, data))
    assert (tmp_path / "file").read_bytes() == b"abcabc"


@pytest.mark.subprocess
def test_a_forked_child_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with aiopoll.open(filled(tmp_path / "file", 1), "rb", direct=True) as file:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    file.pread(1, 0)
                except RuntimeError as error:
                    code = 0 if "parent process" in str(error) else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert await file.pread(1, 0) == b"\0"

    aiopoll.run(main())


GOES_ON = """
import asyncio, os, signal

async def main():
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        for _ in range(20):
            await asyncio.sleep(0)
        os._exit(0)
    os._exit(os.waitpid(pid, 0)[1])

asyncio.run(main())
"""


@pytest.mark.subprocess
def test_a_child_that_goes_on_takes_no_event(tmp_path: Path) -> None:
    """asyncio lets a forked child run the loop; the ring of the files is still the parent's."""
    if subprocess.run([sys.executable, "-c", GOES_ON], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("skips.toml: forked children that go on")

    async def main() -> None:
        async with aiopoll.open(filled(tmp_path / "file", 1), "rb", direct=True) as file:
            first = [file.fsync(), *(file.pread(1, 0) for _ in range(7))]
            assert file.statistics().aio_reads  # on the ring, or nothing is tested
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    for _ in range(20):
                        await asyncio.sleep(0)
                    code = 2 * any(future.done() for future in first)
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            async with asyncio.timeout(CHILD_SECONDS_MAX):
                assert await asyncio.gather(*first) == [None, *[b"\0"] * 7]

    asyncio.run(main())


def test_few_slots_hold_requests_back_and_lose_none(tmp_path: Path) -> None:
    """More requests, and polls beside them, than the ring has slots."""

    async def main() -> None:
        import socket

        pairs = [socket.socketpair() for _ in range(150)]
        loop = asyncio.get_running_loop()
        for left, _ in pairs:
            loop.add_reader(left, lambda: None)
        await asyncio.sleep(0)
        async with aiopoll.open(filled(tmp_path / "file", 500), "rb", direct=True) as file:
            reads = await asyncio.gather(*(file.pread(BLOCK, i * BLOCK) for i in range(500)))
            assert [read[0] for read in reads] == [i % 256 for i in range(500)]
        for left, right in pairs:
            loop.remove_reader(left)
            left.close()
            right.close()

    aiopoll.run(main(), nr_events=1)


def test_a_coroutine_that_finds_all_cached_lets_others_run(run, tmp_path: Path) -> None:
    path = filled(tmp_path / "file", 16)

    async def main() -> None:
        ticks = 0

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            asyncio.get_running_loop().call_soon(tick)

        asyncio.get_running_loop().call_soon(tick)
        async with aiopoll.open(path, "rb") as file:
            await asyncio.sleep(0)
            before = ticks
            for _ in range(1000):
                await file.pread(BLOCK, 0)
            assert ticks - before >= 10

    run(main())


def test_threads_end_with_the_loop(run, tmp_path: Path) -> None:
    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", "wb") as file:
            await file.write(b"x")

    run(main())
    assert not [t for t in threading.enumerate() if t.name.startswith("aiopoll-files")]


@pytest.mark.parametrize("others", [0, 1])
def test_call_without_a_thread_is_done_once(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """As where the system has no threads left, with others of the pool alive and without."""
    path = tmp_path / "file"
    entered, leave = threading.Event(), threading.Event()

    def busy() -> None:
        entered.set()
        leave.wait()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        async with aiopoll.open(path, "wb"):
            pass
        queue = queue_of(asyncio.get_running_loop())
        queue.shutdown()  # no thread is left
        working = [queue.call(busy) for _ in range(others)]
        if others:
            entered.wait()
        done: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            calls = [queue.call(functools.partial(done.append, n)) for n in range(3)]
        leave.set()
        await asyncio.gather(*calls, *working)
        # The pool's threads take the calls left in its queue now.
        await asyncio.gather(*(queue.call(functools.partial(done.append, n)) for n in (3, 4)))
        assert sorted(done) == [0, 1, 2, 3, 4]

    run(main())
