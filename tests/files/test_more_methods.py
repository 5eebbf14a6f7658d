"""peek, readinto1, readall, detach and reconfigure: as io's, on each kind of loop."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

import aiopoll

# Of io's public names those that our files lack, with the reason; docs/reference/files.md has them.
LEFT_OUT = {
    "raw": "a BinaryFile is its own raw file",
    "closefd": "the argument of open(), which its caller knows",
}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (aiopoll.BinaryFile, io.BufferedReader),
        (aiopoll.BinaryFile, io.BufferedWriter),
        (aiopoll.BinaryFile, io.BufferedRandom),
        (aiopoll.BinaryFile, io.FileIO),
        (aiopoll.TextFile, io.TextIOWrapper),
        (aiopoll.WrappedBinaryFile, io.BufferedRandom),
        (aiopoll.WrappedTextFile, io.TextIOWrapper),
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_name_of_io_is_there(ours: type, theirs: type, tmp_path: Path) -> None:
    public = {name for name in dir(theirs) if not name.startswith("_")}
    at_instance = {"buffer", "mode", "name"}
    assert public - set(dir(ours)) - at_instance <= set(LEFT_OUT)


def test_names_left_out_are_in_the_reference() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "files.md"
    text = page.read_text(encoding="utf-8")
    for name in LEFT_OUT:
        assert f"`{name}`" in text


def test_peek_leaves_the_cursor(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 2000)

    async def main() -> None:
        async with aiopoll.open(path, "r+b") as file:
            assert await file.read(3) == b"012"
            assert (await file.peek(1)).startswith(b"3456")
            assert await file.tell() == 3
            await file.write(b"abc")
            assert (await file.peek()).startswith(b"6789")  # what was written before is written
            assert path.read_bytes()[3:6] == b"abc"
            await file.seek(0, os.SEEK_END)
            assert await file.peek(5) == b""
        async with aiopoll.open(path, "wb") as file:
            with pytest.raises(io.UnsupportedOperation):
                await file.peek()

    run(main())


def test_peek_at_a_pipe_is_one_read(run: Any) -> None:
    async def main() -> None:
        reader, writer = os.pipe()
        async with aiopoll.open(reader, "rb") as file:
            os.write(writer, b"some")
            assert await file.peek(100) == b"some"
            os.write(writer, b" more")
            assert await file.read(9) == b"some more"
            os.close(writer)
            assert await file.peek() == b""

    run(main())


def test_readall_and_readinto1(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    async def main() -> None:
        async with aiopoll.open(path, "rb", 0) as file:
            await file.seek(2)
            assert await file.readall() == b"23456789"
            assert await file.readall() == b""
        async with aiopoll.open(path, "rb") as file:
            buffer = bytearray(4)
            assert [await file.readinto1(buffer) for _ in range(4)] == [4, 4, 2, 0]
            assert buffer == b"8967"
            with pytest.raises(TypeError, match="writable"):
                await file.readinto1(b"")
        reader, writer = os.pipe()
        async with aiopoll.open(reader, "rb") as file:
            os.write(writer, b"ab")
            assert await file.readinto1(buffer) == 2
            assert buffer == b"ab67"
            os.close(writer)

    run(main())


@pytest.mark.parametrize("mode", ["rb", "r+b", "wb", "w+b", "ab", "xb"])
@pytest.mark.parametrize("buffering", [-1, 0])
def test_detach_gives_the_descriptor(run: Any, tmp_path: Path, mode: str, buffering: int) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        if "x" in mode:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(b"0123456789")
        file = await aiopoll.open(path, mode, buffering)
        if file.writable():
            await file.write(b"abc")
        else:
            assert await file.read(3) == b"012"
        reads = "r" in mode or "+" in mode
        number, position = file.fileno(), await file.tell()
        raw = await file.detach()
        assert type(raw) is io.FileIO
        assert (raw.fileno(), raw.tell()) == (number, position)
        assert (raw.readable(), raw.writable()) == (reads, mode != "rb")
        assert file.closed
        for call in (file.close, file.flush, file.detach):
            with pytest.raises(ValueError, match=r"detached|closed"):
                await call()
        with pytest.raises(ValueError, match="closed"):
            file.fileno()
        if reads:
            assert raw.read(2) == path.read_bytes()[position : position + 2]
        raw.close()
        assert path.read_bytes()[:3] in (b"abc", b"012")

    run(main())


def test_detach_of_a_borrowed_descriptor(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    async def main() -> None:
        with open(path, "rb", 0) as owner:
            file = await aiopoll.open(owner.fileno(), "rb", closefd=False)
            assert await file.read(4) == b"0123"
            raw = await file.detach()
            assert not raw.closefd
            assert raw.read() == b"456789"
            raw.close()
            assert owner.tell() == 10
            await (await aiopoll.open(path, "rb")).close()

    run(main())


def test_detach_waits_for_no_positional_call(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", "w+b") as file:
            sync = file.fsync()
            with pytest.raises(OSError, match="under way"):
                await file.detach()
            await sync
            assert await file.write(b"x") == 1

    run(main())


def test_a_detached_text_file_leaves_its_buffer(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        file = await aiopoll.open(path, "w+", encoding="utf-8")
        await file.write("ä one\ntwo\n")
        await file.seek(0)
        assert await file.readline() == "ä one\n"
        buffer = await file.detach()
        assert isinstance(buffer, aiopoll.BinaryFile)
        assert await buffer.read() == b"two\n"
        for call in (file.read, file.close, file.detach):
            with pytest.raises(ValueError, match=r"detached|closed"):
                await call()
        assert file.closed
        await buffer.close()
        async with aiopoll.open(path) as file:
            assert [line async for line in file][:1] == ["ä one\n"]

    run(main())


def test_reconfigure_is_that_of_io(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        contents = []
        for name in ("theirs", "ours"):
            with open(tmp_path / f"{name} model", "w", encoding="utf-8") as model:
                file = await aiopoll.open(tmp_path / name, "w", encoding="utf-8")
                for subject in [model] if name == "theirs" else [file]:
                    for text, options in (
                        ("ä\n", {"encoding": "latin-1"}),
                        ("ä\n", {"errors": "replace", "encoding": "ascii"}),
                        ("ä\n", {"newline": "\r\n"}),
                        ("ä\n", {"line_buffering": True, "write_through": True}),
                        ("end", {}),
                    ):
                        for call, args in ((subject.write, [text]), (subject.reconfigure, [])):
                            done: Any = call(*args, **({} if args else options))
                            if hasattr(done, "__await__"):
                                await done
                    assert (subject.encoding, subject.errors) == ("ascii", "replace")
                    assert subject.line_buffering
                    assert subject.write_through
                await file.close()
            contents.append((tmp_path / (name if name == "ours" else "theirs model")).read_bytes())
        assert contents[0] == contents[1]

    run(main())


def test_reconfigure_after_reading_began(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one\ntwo\n")

    async def main() -> None:
        async with aiopoll.open(path) as file:
            await file.reconfigure(encoding="latin-1")
            assert await file.readline() == "one\n"
            with pytest.raises(io.UnsupportedOperation, match="after the first read"):
                await file.reconfigure(encoding="utf-8")
            await file.reconfigure(line_buffering=True)
            assert (file.line_buffering, file.encoding) == (True, "latin-1")
            assert await file.readline() == "two\n"

    run(main())
