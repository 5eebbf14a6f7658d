"""Files with a cursor against open(): binary and text, every newline and encoding."""

import asyncio
import gc
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aiopoll

SIZES = [0, 1, 2, 7, 511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, 70000]
sizes = st.one_of(st.sampled_from(SIZES), st.integers(0, 300))
maybe = st.one_of(st.just(-1), sizes)

binary_steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), maybe),
        st.tuples(st.just("readline"), maybe),
        st.tuples(st.just("readlines"), sizes),
        st.tuples(st.just("readinto"), sizes),
        st.tuples(st.just("iterate"), st.integers(1, 5)),
        st.tuples(st.just("write"), sizes),
        st.tuples(st.just("seek"), sizes),
        st.tuples(st.just("seek_end"), st.integers(0, 100)),
        st.tuples(st.just("seek_back"), st.integers(0, 20)),
        st.tuples(st.just("truncate"), sizes),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("tell"), st.just(0)),
    ),
    max_size=15,
)


def pattern(number: int, size: int) -> bytes:
    """Lines of differing lengths."""
    line = bytes(97 + (number + i) % 26 for i in range(1 + number % 23)) + b"\n"
    return (line * (size // len(line) + 1))[:size]


async def both(file: aiopoll.BinaryFile, model: io.BytesIO, name: str, size: int, n: int) -> None:
    """Runs one step on the file and on the model: the results must be equal."""
    if name == "read":
        assert await file.read(size) == model.read(size)
    elif name == "readline":
        assert await file.readline(size) == model.readline(size)
    elif name == "readlines":
        assert await file.readlines(size) == model.readlines(size)
    elif name == "readinto":
        ours, theirs = bytearray(size), bytearray(size)
        assert await file.readinto(ours) == model.readinto(theirs)
        assert ours == theirs
    elif name == "iterate":
        for _ in range(size):
            assert await anext(aiter(file), b"") == next(model, b"")
    elif name == "write":
        data = pattern(n, size)
        assert await file.write(data) == model.write(data)
    elif name == "seek":
        assert await file.seek(size) == model.seek(size)
    elif name == "seek_end":
        if size <= len(model.getvalue()):
            assert await file.seek(-size, os.SEEK_END) == model.seek(-size, os.SEEK_END)
    elif name == "seek_back":
        if size <= model.tell():
            assert await file.seek(-size, os.SEEK_CUR) == model.seek(-size, os.SEEK_CUR)
    elif name == "truncate":
        # BytesIO only cuts; files grow too.
        if size > len(model.getvalue()):
            position = model.tell()
            model.seek(size)
            model.seek(0, os.SEEK_END)
            model.write(bytes(size - model.tell()))
            model.seek(position)
        else:
            model.truncate(size)
        assert await file.truncate(size) == size
    elif name == "flush":
        await file.flush()
        assert os.fstat(file.fileno()).st_size == len(model.getvalue())
    else:
        assert await file.tell() == model.tell()


@pytest.mark.parametrize("direct", [False, True], ids=["buffered", "direct"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=binary_steps,
    buffering=st.sampled_from([-1, 0, 2, 100, 4096]),
    start=st.sampled_from(SIZES),
)
def test_a_binary_cursor_is_like_bytesio(
    tmp_path: Path, direct: bool, steps: list[tuple[str, int]], buffering: int, start: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(pattern(3, start))
    model = io.BytesIO(pattern(3, start))

    async def main() -> None:
        async with aiopoll.open(path, "r+b", buffering, direct=direct) as file:
            for number, (name, size) in enumerate(steps):
                await both(file, model, name, size, number)

    aiopoll.run(main())
    assert path.read_bytes() == model.getvalue()


# Text: the oracle is open() itself, on a copy of the file.

text = st.text(
    st.one_of(st.sampled_from("\r\n\x85\u2028\x1c"), st.characters(codec="utf-8")), max_size=60
)
text_steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.one_of(st.just(-1), st.integers(0, 50))),
        st.tuples(st.just("readline"), st.one_of(st.just(-1), st.integers(0, 50))),
        st.tuples(st.just("readlines"), st.integers(0, 50)),
        st.tuples(st.just("next"), st.just(0)),
        st.tuples(st.just("tell"), st.just(0)),
        st.tuples(st.just("seek"), st.integers(0, 10)),
        st.tuples(st.just("seek_end"), st.just(0)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("write"), text),
    ),
    max_size=15,
)
ENCODINGS = ["utf-8", "utf-16", "utf-32-le", "latin-1", "ascii", "shift_jis", "utf-8-sig"]


async def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call, or its exception."""
    try:
        result = call(*arguments)
        return await result if hasattr(result, "__await__") else result
    except (UnicodeError, io.UnsupportedOperation) as error:
        return type(error)


@pytest.mark.parametrize("mode", ["r", "r+", "w", "w+", "a", "a+"])
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=text_steps,
    start=text,
    encoding=st.sampled_from(ENCODINGS),
    errors=st.sampled_from(["strict", "replace", "ignore", "backslashreplace"]),
    newline=st.sampled_from([None, "", "\n", "\r", "\r\n"]),
)
def test_text_is_like_open(
    tmp_path: Path,
    mode: str,
    steps: list[tuple[str, Any]],
    start: str,
    encoding: str,
    errors: str,
    newline: str | None,
) -> None:
    ours_path, theirs_path = tmp_path / "ours", tmp_path / "theirs"
    for path in (ours_path, theirs_path):
        path.write_bytes(start.encode(encoding, "replace"))

    async def main() -> None:
        arguments: Any = {"encoding": encoding, "errors": errors, "newline": newline}
        cookies = [0]
        with open(theirs_path, mode, **arguments) as theirs:
            async with aiopoll.open(ours_path, mode, **arguments) as ours:
                for name, argument in steps:
                    if name == "next":
                        # open() has no tell() after next(): its readline() does the same.
                        expected = await outcome(theirs.readline)
                        got = await outcome(anext, ours, "")
                    elif name == "readlines":
                        expected = await outcome(lines, theirs, argument)
                        got = await outcome(ours.readlines, argument)
                    elif name in ("seek", "seek_end"):
                        place = (cookies[argument % len(cookies)], 0)
                        if name == "seek_end":
                            place = (0, 2)
                        expected = await outcome(theirs.seek, *place)
                        got = await outcome(ours.seek, *place)
                    elif name in ("tell", "flush"):
                        expected = await outcome(getattr(theirs, name))
                        got = await outcome(getattr(ours, name))
                        if name == "tell" and isinstance(expected, int):
                            cookies.append(expected)
                    else:
                        expected = await outcome(getattr(theirs, name), argument)
                        got = await outcome(getattr(ours, name), argument)
                    assert got == expected, name
                    if isinstance(expected, type):
                        return  # the state after an error is not specified

    aiopoll.run(main())
    assert ours_path.read_bytes() == theirs_path.read_bytes()


def lines(file: io.TextIOBase, hint: int) -> list[str]:
    """readlines() by readline(), which leaves tell() working."""
    found: list[str] = []
    while line := file.readline():
        found.append(line)
        if 0 < hint <= sum(map(len, found)):
            break
    return found


def test_lines_do_not_hop_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("".join(f"line {i}\n" for i in range(20_000)))

    async def main() -> None:
        for mode in ("r", "rb"):
            file: Any
            async with aiopoll.open(path, mode) as file:
                number = 0
                async for line in file:
                    if number == 12_345:
                        assert line in ("line 12345\n", b"line 12345\n")
                        place = await file.tell()
                        after = await anext(file)
                        await file.seek(place)
                        assert await anext(file) == after
                        number += 1
                    number += 1
                assert number == 20_000
                counts = file.statistics()
                assert sum(counts[:8]) < 20

    aiopoll.run(main())


def test_tell_among_many_lines(tmp_path: Path) -> None:
    """Cookies from within a batch lead back, in a stateful encoding too."""
    path = tmp_path / "lines"
    whole = [f"zeile {i} ü\n" for i in range(3000)]
    path.write_text("".join(whole), encoding="utf-16")

    async def main() -> None:
        async with aiopoll.open(path, encoding="utf-16") as file:
            cookies = []
            for i, line in enumerate(whole):
                if i % 500 == 17:
                    cookies.append((i, await file.tell()))
                assert await file.readline() == line
            for i, cookie in reversed(cookies):
                await file.seek(cookie)
                assert await file.readline() == whole[i]
                assert await file.read(5) == "".join(whole[i + 1 :])[:5]

    aiopoll.run(main())


def test_a_decoding_error_comes_after_the_lines_before_it(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"good\n" * 3000 + b"\xff bad\n")

    async def main() -> int:
        seen = 0
        async with aiopoll.open(path, encoding="utf-8") as file:
            try:
                async for _ in file:
                    seen += 1
            except UnicodeDecodeError:
                return seen
        raise AssertionError("no error")

    expected = 0
    with open(path, encoding="utf-8") as file:
        try:
            for _ in file:
                expected += 1
        except UnicodeDecodeError:
            pass
    assert aiopoll.run(main()) == expected > 0


def test_modes_and_arguments_are_those_of_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    wrong: list[tuple[Any, ...]] = [
        ("rw",), ("",), ("rbt",), ("z",), ("rr",), ("b",),
        ("rb", -1, "utf-8"), ("rb", -1, None, "strict"), ("rb", -1, None, None, "\n"), ("r", 0),
        ("r", -1, "no such encoding"), ("r", -1, "utf-8", "strict", "x"),
    ]  # fmt: skip
    path.touch()
    for arguments in wrong:
        with pytest.raises((ValueError, LookupError)) as theirs:
            path.open(*arguments)
        with pytest.raises(type(theirs.value)):
            aiopoll.open(path, *arguments)
    for bad in (-1, "a\0b"):
        with pytest.raises(ValueError, match=r"negative|null"):
            aiopoll.run(opened(bad))
    with pytest.raises(TypeError):
        aiopoll.open(3.5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="closefd"):
        aiopoll.open(path, closefd=False)
    with pytest.raises(ValueError, match="binary mode"):
        aiopoll.open(path, "r", direct=True)


async def opened(path: Any) -> None:
    async with aiopoll.open(path, "rb"):
        pass


def test_exclusive_creation_openers_and_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        async with aiopoll.open(path, "x") as file:
            assert (await file.write("one\n"), file.name, file.mode) == (4, path.__fspath__(), "x")
        with pytest.raises(FileExistsError):
            await aiopoll.open(path, "xb")
        calls = []

        def opener(name: Any, flags: int) -> int:
            calls.append(name)
            return os.open(name, flags)

        async with aiopoll.open(path, "rb", opener=opener) as file:
            assert not os.get_inheritable(file.fileno())
            fd = file.fileno()
            async with aiopoll.open(fd, "rb", closefd=False) as same:
                assert await same.read() == b"one\n"
            assert os.fstat(fd)
        assert calls == [str(path)]
        async with aiopoll.open(path, "ab") as file:
            assert await file.tell() == 4
            with pytest.raises(io.UnsupportedOperation):
                await file.read()
            with pytest.raises(io.UnsupportedOperation, match="append"):
                file.pwrite(b"x", 0)
            with path.open("ab") as other:
                other.write(b"two\n")
            assert await file.append(b"three\n") == 8
        assert path.read_bytes() == b"one\ntwo\nthree\n"

    aiopoll.run(main())


def test_tasks_that_share_a_cursor_get_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    whole = [f"{i}\n" for i in range(20_000)]
    path.write_text("".join(whole))

    async def main() -> None:
        async with aiopoll.open(path) as text, aiopoll.open(path, "rb") as binary:

            async def take(file: Any) -> list[Any]:
                found = []
                while line := await file.readline():
                    found.append(line)
                    await asyncio.sleep(0)
                return found

            for file in (text, binary):
                parts = await asyncio.gather(*(take(file) for _ in range(3)))
                found = [x if isinstance(x, str) else x.decode() for part in parts for x in part]
                assert sorted(found) == sorted(whole)

    aiopoll.run(main())


def test_descriptor_with_more_rights_than_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")

    async def main() -> None:
        for mode in ("rb", "r"):
            fd = os.open(path, os.O_RDWR)
            async with aiopoll.open(fd, mode) as file:
                assert not file.writable()
                with pytest.raises(io.UnsupportedOperation, match="not writable"):
                    await file.write(b"x" if mode == "rb" else "x")
                with pytest.raises(io.UnsupportedOperation):
                    await file.truncate(0)
        assert path.read_bytes() == b"text"

    aiopoll.run(main())


@pytest.mark.parametrize(
    "steps",
    [
        "write flush tell",
        "read write tell read flush tell rewind read",
        "read write rewind tell read",
        "write much tell truncate tell",
    ],
)
def test_descriptor_that_appends_in_any_mode(tmp_path: Path, steps: str) -> None:
    path = tmp_path / "file"
    calls = {
        "write": ("write", b"abc"),
        "much": ("write", b"x" * 70_000),
        "read": ("read", 2),
        "rewind": ("seek", 1),
    }
    doing = [calls.get(step, (step,)) for step in steps.split()]

    def appending() -> int:
        path.write_bytes(b"12345")
        return os.open(path, os.O_RDWR | os.O_APPEND)

    with open(appending(), "r+b") as model:
        expected = [getattr(model, name)(*arguments) for name, *arguments in doing]
    contents = path.read_bytes()
    if "much" in steps:
        assert expected[2] in (70_003, 70_008)  # Python 3.15 does not ask the kernel
        expected[2] = 70_008

    async def main() -> None:
        async with aiopoll.open(appending(), "r+b") as file:
            assert [await getattr(file, name)(*arguments) for name, *arguments in doing] == expected
        assert path.read_bytes() == contents

    aiopoll.run(main())


def test_bytes_appended_to_the_buffer_follow_the_text(tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        async with aiopoll.open(path, "w+", encoding="utf-8") as file:
            await file.write("text")
            await file.flush()
            assert await file.buffer.append(b" bytes") == 4
            await file.truncate(2)
            assert await file.buffer.append(b"!") == 2
        assert path.read_bytes() == b"te!"

    aiopoll.run(main())


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_buffered_data_of_a_dropped_file_goes_to_the_end(tmp_path: Path) -> None:
    """In mode "a" on a descriptor that has no O_APPEND."""
    path = tmp_path / "file"

    async def main() -> None:
        file = await aiopoll.open(os.open(path, os.O_WRONLY | os.O_CREAT), "ab")
        await file.write(b"one ")
        await file.flush()
        await file.write(b"two")
        del file
        gc.collect()
        assert path.read_bytes() == b"one two"

    aiopoll.run(main())


def test_places_that_no_file_has(tmp_path: Path) -> None:
    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", "w+b") as file:
            await file.write(b"text")
            for wrong in (1.5, 2**63, 2**70, -1):
                with pytest.raises((TypeError, ValueError, OverflowError, OSError)):
                    await file.seek(wrong)  # type: ignore[arg-type]
                assert await file.tell() == 4
            assert await file.seek(2**40) == 2**40
            assert await file.read() == b""

    aiopoll.run(main())


def test_a_pipe_that_does_not_block_takes_all(run) -> None:
    async def main() -> None:
        read_fd, write_fd = os.pipe()
        for fd in (read_fd, write_fd):
            os.set_blocking(fd, False)
        async with aiopoll.open(read_fd, "rb") as reading:
            async with aiopoll.open(write_fd, "wb") as writing:
                read, _ = await asyncio.gather(reading.read(300_000), writing.write(bytes(300_000)))
            assert read == bytes(300_000)
            assert await reading.read() == b""

    run(main())


def test_the_end_is_known_after_an_append_that_failed(tmp_path: Path, small_files) -> None:
    async def main() -> None:
        async with aiopoll.open(tmp_path / "file", "ab") as file:
            await file.write(b"12345")
            await file.flush()
            await file.write(b"x" * 100)
            with small_files(8), pytest.raises(OSError, match="too large"):
                await file.flush()
            assert file.append_offset == 8
            first, second = file.append(b"6"), file.append(b"not done")
            second.cancel()
            assert await first == 8
            assert file.append_offset == 9

    aiopoll.run(main())
