"""aiopoll.wrap: the results of the file that was given, its positions, and nothing lost."""

import asyncio
import fcntl
import functools
import io
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.descriptors import open_count

import aiopoll

Step = tuple[str, int]
SIZES = [-1, 0, 1, 2, 5, 100, 8191, 8193, 20000]
CONTENTS = "".join(f"line {number} ä\r\n{'x' * (number % 300)}\n" for number in range(200)).encode()
TEXT_STEPS = ["read", "readline"]
BINARY_STEPS = ["read", "readline", "read1", "peek", "readinto", "readinto1"]
MODES = ["r", "rb", "raw"]

some = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def steps_of(mode: str) -> st.SearchStrategy[list[tuple[bool, Step]]]:
    """Steps of a file; True: through the wrapper, else by the file itself."""
    names = TEXT_STEPS if mode == "r" else BINARY_STEPS if mode == "rb" else ["read", "readline"]
    step = st.tuples(st.sampled_from(names), st.sampled_from(SIZES))
    return st.lists(st.tuples(st.booleans(), step), max_size=12)


def opened(fd: int, mode: str) -> Any:
    if mode == "raw":
        return open(fd, "rb", 0)
    return open(fd, mode) if "b" in mode else open(fd, mode, encoding="utf-8", newline="\n")


def arguments(step: Step) -> list[Any]:
    name, size = step
    return [bytearray(max(size, 0))] if "into" in name else [size]


def pipe_of(contents: bytes) -> int:
    """A descriptor of a pipe that holds all of this, and has ended."""
    reader, writer = os.pipe()
    assert os.write(writer, contents) == len(contents)
    os.close(writer)
    return reader


def file_of(contents: bytes, folder: Path) -> int:
    (folder / "file").write_bytes(contents)
    return os.open(folder / "file", os.O_RDONLY)


@pytest.mark.parametrize("kind", ["pipe", "file"])
@pytest.mark.parametrize("mode", MODES)
def test_reads_mix_with_those_of_the_file(run: Any, tmp_path: Path, mode: str, kind: str) -> None:
    make = pipe_of if kind == "pipe" else functools.partial(file_of, folder=tmp_path)

    @some
    @given(steps_of(mode))
    def check(steps: list[tuple[bool, Step]]) -> None:
        async def main() -> None:
            with opened(make(CONTENTS), mode) as model, opened(make(CONTENTS), mode) as file:
                wrapped = aiopoll.wrap(file)
                for through, step in steps:
                    expected_arguments, found_arguments = arguments(step), arguments(step)
                    subject = wrapped if through else file
                    found = getattr(subject, step[0])(*found_arguments)
                    found = await found if through else found
                    if kind == "pipe" and step[0].endswith("1"):
                        # How many bytes one read(2) brings is up to the buffer.
                        found = bytes(found_arguments[0])[:found] if "into" in step[0] else found
                        assert found == model.read(len(found))
                        assert found or step[1] in (0, -1) or not model.peek(1)
                        continue
                    expected = getattr(model, step[0])(*expected_arguments)
                    if step[0] == "peek":  # any number of bytes, none at the end alone
                        assert bool(found) == bool(expected)
                        assert found[: len(expected)] == expected[: len(found)]
                    else:
                        assert (found, found_arguments) == (expected, expected_arguments), step
                if kind == "file":
                    assert await wrapped.tell() == model.tell()
                assert await wrapped.read() == model.read()

        run(main())

    check()


@pytest.mark.parametrize("mode", MODES)
def test_data_comes_in_pieces_to_cancelled_reads(run: Any, mode: str) -> None:
    lines = [f"line {number} ä\n" for number in range(6)]
    data = "".join(lines).encode()

    async def main() -> None:
        reader, writer = os.pipe()
        with opened(reader, mode) as file:
            wrapped: Any = aiopoll.wrap(file)
            found = []
            for start in range(0, len(data), 7):
                read = asyncio.ensure_future(wrapped.readline())
                await asyncio.sleep(0.001 * (start % 3))
                os.write(writer, data[start : start + 7])
                await asyncio.sleep(0.001 * (start % 2))
                if not read.done():
                    read.cancel()
                await asyncio.wait([read])
                if not read.cancelled():
                    found.append(read.result())
            os.close(writer)
            while line := await asyncio.wait_for(wrapped.readline(), 30):
                found.append(line)
        assert found == (lines if mode == "r" else [line.encode() for line in lines])

    run(main())


def test_a_cancelled_read_leaves_its_part_to_the_next(run: Any) -> None:
    async def main() -> None:
        reader, writer = os.pipe()
        with opened(reader, "r") as file:
            wrapped: Any = aiopoll.wrap(file)
            for read, rest in (
                (functools.partial(wrapped.read, 100), wrapped.readline),
                (wrapped.readline, functools.partial(wrapped.read, 8)),
                (wrapped.read, wrapped.readline),
            ):
                os.write(writer, b"half")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(read(), 0.05)
                os.write(writer, b" ja\nnext")
                assert await asyncio.wait_for(rest(), 30) == "half ja\n"
                assert await wrapped.read(4) == "next"
            os.close(writer)
            assert await wrapped.read() == ""

    run(main())


def test_a_read_goes_on_after_its_loop_has_ended(run: Any) -> None:
    reader, writer = os.pipe()
    with opened(reader, "r") as file:
        wrapped: Any = aiopoll.wrap(file)
        os.write(writer, b"ha")

        async def ends() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wrapped.readline(), 0.05)

        async def goes_on() -> None:
            assert await wrapped.readline() == "half\n"

        run(ends())
        os.write(writer, b"lf\nplain\n")
        run(goes_on())
        assert file.readline() == "plain\n"
        os.close(writer)


def test_waiting_takes_no_thread_and_no_descriptor(run: Any) -> None:
    async def main() -> None:
        reader, writer = os.pipe()
        with opened(reader, "r") as file:
            wrapped: Any = aiopoll.wrap(file)
            await aiopoll.stdout.flush()  # the loop has what it needs
            await asyncio.sleep(0)
            threads, descriptors = threading.active_count(), open_count()
            reads = [asyncio.ensure_future(wrapped.readline()) for _ in range(3)]
            await asyncio.sleep(0.05)
            assert threading.active_count() == threads
            assert open_count() <= descriptors + 1  # a duplicate that is watched
            for read in reads:
                read.cancel()
            await asyncio.wait(reads)
            assert open_count() == descriptors
        os.close(writer)

    run(main())


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/proc/version"])
@pytest.mark.parametrize("mode", ["rb", "raw"])
def test_devices_that_cannot_be_polled(run: Any, path: str, mode: str) -> None:
    async def main() -> None:
        with opened(os.open(path, os.O_RDONLY), mode) as file:
            read = aiopoll.wrap(file).read(4)
            with open(path, "rb") as model:
                assert await asyncio.wait_for(read, 30) == model.read(4)

    run(main())


def test_two_wrappers_of_a_pipe_each_get_lines(run: Any) -> None:
    async def main() -> None:
        reader, writer = os.pipe()
        with opened(reader, "r") as file:
            first, second = aiopoll.wrap(file), aiopoll.wrap(file)
            reads = [asyncio.ensure_future(each.readline()) for each in (first, second)]
            await asyncio.sleep(0.01)
            os.write(writer, b"one\n")
            await asyncio.sleep(0.01)
            os.write(writer, b"two\n")
            os.close(writer)
            lines = await asyncio.wait_for(asyncio.gather(*reads), 30)
            assert "".join(sorted(lines)) == "one\ntwo\n"

    run(main())


@pytest.mark.parametrize("errors", ["strict", "replace", "surrogateescape"])
def test_bytes_that_do_not_decode_are_those_of_io(run: Any, errors: str) -> None:
    data = b"good\nb\xffd \xc3\nlast \xc3"

    async def main() -> None:
        results: list[list[object]] = []
        for through in (False, True):
            with open(pipe_of(data), encoding="utf-8", errors=errors) as file:
                wrapped: Any = aiopoll.wrap(file)
                seen: list[object] = []
                for _ in range(3):
                    try:
                        seen.append(await wrapped.readline() if through else file.readline())
                    except UnicodeDecodeError as error:
                        seen.append(type(error))
                        break
                results.append(seen)
        assert results[0][-1] == results[1][-1]
        if errors != "strict":
            assert results[0] == results[1]

    run(main())


def test_a_descriptor_that_never_blocks(run: Any) -> None:
    async def main() -> None:
        for mode in MODES:
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            with opened(reader, mode) as file:
                wrapped: Any = aiopoll.wrap(file)
                read = asyncio.ensure_future(wrapped.readline())
                await asyncio.sleep(0.01)
                os.write(writer, b"li")
                await asyncio.sleep(0.01)
                os.write(writer, b"ne\n")
                assert await asyncio.wait_for(read, 30) in ("line\n", b"line\n")
                os.close(writer)
                assert not await asyncio.wait_for(wrapped.read(), 30)
                assert not os.get_blocking(reader)

    run(main())


def test_data_that_another_reader_took_is_no_end(run: Any, monkeypatch: Any) -> None:
    from aiopoll.files import wrapped as module

    wait = module.until_readable
    waits = []

    async def wrongly_ready(fd: int) -> None:
        waits.append(fd)
        if len(waits) > 1:
            await wait(fd)

    monkeypatch.setattr(module, "until_readable", wrongly_ready)

    async def main() -> None:
        waits.clear()
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        with opened(reader, "r") as file:
            read = asyncio.ensure_future(aiopoll.wrap(file).readline())
            while len(waits) < 2 and not read.done():
                await asyncio.sleep(0.001)
            os.write(writer, b"line\n")
            os.close(writer)
            assert await asyncio.wait_for(read, 30) == "line\n"

    run(main())


def test_text_before_an_error_is_not_lost(run: Any) -> None:
    async def main() -> None:
        good = "a" * 8192  # what io decodes at once
        with open(
            pipe_of(good.encode() + b"\xff\nend"), buffering=1 << 15, encoding="utf-8"
        ) as file:
            wrapped = aiopoll.wrap(file)
            with pytest.raises(UnicodeDecodeError):
                await wrapped.read()
            assert await wrapped.read(8192) == good

    run(main())


def test_flags_of_the_descriptor_stay(run: Any) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, ours.makefile("rw", encoding="utf-8") as file:
            wrapped = aiopoll.wrap(file)
            theirs.sendall(b"line\n")
            assert await wrapped.readline() == "line\n"
            await wrapped.write("back\n")
            await wrapped.flush()
            assert theirs.recv(100) == b"back\n"
            assert ours.getblocking()

    run(main())


def test_writes_and_positions_are_the_files(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        with open(tmp_path / "file", "w+", encoding="utf-8") as file:
            file.write("begin ")
            wrapped = aiopoll.wrap(file)
            assert await wrapped.write("middle ") == 7
            await wrapped.writelines(["a", "b"])
            file.write(" end")
            await wrapped.flush()
            assert (tmp_path / "file").read_text() == "begin middle ab end"
            assert await wrapped.seek(6) == file.tell() == 6
            assert await wrapped.read(6) == "middle"
            assert await wrapped.truncate(12) == 12
            await wrapped.reconfigure(line_buffering=True)
            assert file.line_buffering
            assert wrapped.line_buffering
            assert (wrapped.name, wrapped.mode, wrapped.encoding) == (file.name, "w+", "utf-8")
            assert (wrapped.fileno(), wrapped.seekable()) == (file.fileno(), True)
            assert wrapped.buffer is file.buffer
            async with wrapped:
                pass
            assert file.closed
            assert wrapped.closed
            with pytest.raises(ValueError, match="closed file"):
                await wrapped.read()

    run(main())


def test_what_lies_in_memory_needs_no_thread(run: Any) -> None:
    async def main() -> None:
        threads = threading.active_count()
        for file, data in (
            (io.BytesIO(b"one\ntwo\n"), b"one\n"),
            (io.StringIO("one\ntwo\n"), "one\n"),
            (io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")), "one\n"),
        ):
            wrapped: Any = aiopoll.wrap(file)
            assert await wrapped.readline() == data
            assert len([line async for line in wrapped]) == 1
            with pytest.raises(io.UnsupportedOperation):
                wrapped.fileno()
        assert threading.active_count() == threads

    run(main())


def test_detach_and_temporary_files(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        file = open(tmp_path / "file", "wb")  # noqa: SIM115
        wrapped = aiopoll.wrap(file)
        await wrapped.write(b"data")
        raw = await wrapped.detach()
        assert isinstance(raw, io.FileIO)
        assert (tmp_path / "file").read_bytes() == b"data"
        raw.close()
        with tempfile.NamedTemporaryFile() as named:
            assert await aiopoll.wrap(named).write(b"x") == 1  # type: ignore[call-overload]
            named.flush()
            assert Path(named.name).read_bytes() == b"x"

    run(main())


@pytest.mark.parametrize("thing", [1, None, "name", io.FileIO, object()])
def test_what_is_no_file_of_io_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match="an open file of io's"):
        aiopoll.wrap(thing)


def test_closing_is_the_files_own_where_its_number_is_gone(run: Any) -> None:
    with open("/etc/passwd", "rb") as first:
        # A number that no loop gets for a descriptor of its own.
        file = open(fcntl.fcntl(first, fcntl.F_DUPFD, 500), "rb")  # noqa: SIM115
    os.close(file.fileno())

    async def main() -> None:
        await aiopoll.wrap(file).close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        run(main())
    assert file.closed
