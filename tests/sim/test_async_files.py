"""aiopoll's files inside a world and outside: the same calls, the same results."""

import asyncio
import os
from pathlib import Path

import pytest

import aiopoll

from .inside_world import inside

pytest.importorskip("aiopoll.files")


@pytest.fixture
def everywhere(tmp_path):
    """Run a coroutine function with a directory of the machine, and of a host: equal results."""

    def compare(program):
        there = asyncio.run(program(str(tmp_path)))

        async def within():
            os.mkdir("/work")
            return await program("/work")

        here = inside(within)
        assert here == there
        return here

    return compare


async def result_of(awaitable):
    try:
        return await awaitable
    except (OSError, ValueError, TypeError) as exc:
        code = exc.errno if isinstance(exc, OSError) else None
        return type(exc).__name__, code


@pytest.mark.parametrize("mode", ["r", "w", "a", "r+", "w+", "x", "rb", "wb", "ab", "r+b", "a+b"])
def test_open_in_every_mode(everywhere, mode):
    async def program(top):
        path = f"{top}/f"
        Path(path).write_text("one\ntwo\r\nthree")
        seen = []
        try:
            file = await aiopoll.open(path, mode)
        except OSError as exc:
            return type(exc).__name__, exc.errno
        data = b"new\nline" if "b" in mode else "new\nline"
        async with file:
            seen += [file.readable(), file.writable(), file.seekable(), file.isatty(), file.closed]
            for call in (
                lambda: file.readline(),
                lambda: file.read(3),
                lambda: file.write(data),
                lambda: file.flush(),
                lambda: file.seek(0),
                lambda: file.readlines(),
                lambda: file.tell(),
                lambda: file.truncate(5),
            ):
                seen.append(await result_of(call()))
        return [*seen, file.closed, Path(path).read_bytes()]

    everywhere(program)


@pytest.mark.parametrize("direct", [False, True])
def test_positional_calls(everywhere, direct, tmp_path):
    try:
        os.close(os.open(tmp_path / "probe", os.O_CREAT | os.O_DIRECT))
    except OSError:
        pytest.skip("no O_DIRECT here")

    async def program(top):
        async with aiopoll.open(f"{top}/f", "w+b", direct=direct) as file:
            seen = [file.direct == direct, file.append_offset]
            seen.append(await file.pwrite(b"0123456789" * 100, 0))
            seen.append(await file.pwrite(b"abc", 700, dsync=True))
            seen.append(await file.pwritev([b"x", bytearray(b"yz")], 1200))
            seen += [await file.append(b"end"), await file.append([b"1", b"2"])]
            seen += [file.append_offset, await file.pread(5, 698), await file.pread(99, 1190)]
            one, two = bytearray(4), bytearray(3)
            seen += [await file.preadv([one, two], 699), bytes(one), bytes(two)]
            seen += [await file.pread_into(one, 1206), bytes(one)]
            await file.fsync()
            await file.datasync()
            await file.fallocate(0, 5000)
            seen += [os.fstat(file.fileno()).st_size, await file.truncate(1000)]
            seen += [file.append_offset, file.closed, file.name == f"{top}/f"]
            parts = await asyncio.gather(*(file.pread(10, at * 10) for at in range(5)))
            seen.append(parts)
            for call in (
                lambda: file.pread(-1, 0),
                lambda: file.pread(1, -1),
                lambda: file.pwrite([b""], 0),
                lambda: file.fallocate(0, 0),
            ):
                with pytest.raises((ValueError, TypeError)) as caught:
                    call()
                seen.append(type(caught.value).__name__)
        with pytest.raises(ValueError, match="closed"):
            file.pread(1, 0)
        return [*seen, file.closed, Path(f"{top}/f").read_bytes()]

    everywhere(program)


def test_paths_and_whole_files(everywhere):
    async def program(top):
        folder = aiopoll.Path(top)
        await (folder / "d" / "e").mkdir(parents=True)
        await (folder / "d" / "f").write_text("text")
        await aiopoll.write_bytes(folder / "g", b"bytes")
        await aiopoll.write_atomic(folder / "h", b"whole", mode=0o640)
        moved = await (folder / "g").rename(folder / "d" / "g")
        await (folder / "link").symlink_to("h")
        return [
            await aiopoll.read_bytes(moved),
            isinstance(moved, aiopoll.Path),
            await (folder / "h").read_bytes(),
            oct((await (folder / "h").stat()).st_mode),
            await (folder / "link").is_symlink(),
            sorted([path.name async for path in folder.iterdir()]),
            sorted([path.name async for path in folder.glob("*/*")]),
            sorted([entry.name async for entry in aiopoll.scandir(top)]),
            await aiopoll.copyfile(folder / "h", folder / "copy"),
            await (folder / "none").exists(),
            await result_of((folder / "none").unlink()),
            await result_of(aiopoll.read_bytes(folder / "none")),
        ]

    everywhere(program)


def test_temporary_things(everywhere):
    async def program(top):
        async with aiopoll.TemporaryFile(dir=top) as file:
            await file.write(b"data")
            await file.seek(0)
            seen = [await file.read(), os.listdir(top)]
        async with aiopoll.NamedTemporaryFile(dir=top, suffix=".x") as file:
            await file.write(b"data")
            await file.flush()
            seen += [Path(file.name).read_bytes(), file.name.endswith(".x")]
        async with aiopoll.TemporaryDirectory(dir=top) as name:
            seen.append(os.path.isdir(name))
        return [*seen, os.path.isdir(name), os.listdir(top)]

    everywhere(program)


def test_wrong_arguments(everywhere):
    async def program(top):
        seen = []
        for arguments, options in (
            ((f"{top}/f", "rw"), {}),
            ((f"{top}/f", "rb"), {"encoding": "utf-8"}),
            ((f"{top}/f", "r"), {"direct": True}),
            ((f"{top}/f", "r", 0), {}),
            ((f"{top}/f",), {"closefd": False}),
            ((-1,), {}),
            ((1.5,), {}),
        ):
            with pytest.raises((ValueError, TypeError)) as caught:
                aiopoll.open(*arguments, **options)
            seen.append(type(caught.value).__name__)
        return [*seen, await result_of(aiopoll.open(f"{top}/none"))]

    everywhere(program)


def test_other_tasks_run_while_the_device_works():
    async def program(world):
        host = world.hosts["main"]
        host.disk.faults(delay=(1, 1))
        loop, seen = asyncio.get_running_loop(), []
        async with aiopoll.open("/tmp/f", "w+b", direct=True) as file:

            async def sync():
                await file.pwrite(bytes(512), 0, dsync=True)
                seen.append(("done", loop.time()))

            task = asyncio.create_task(sync())
            await asyncio.sleep(0.5)
            seen.append(("meanwhile", loop.time()))
            await task
        return seen

    assert inside(program) == [("meanwhile", 0.5), ("done", 2.0)]


def test_the_real_names_are_back_afterwards():
    before = aiopoll.open, aiopoll.Path, aiopoll.BinaryFile
    inside(lambda: None)
    assert (aiopoll.open, aiopoll.Path, aiopoll.BinaryFile) == before
    assert not hasattr(aiopoll.open, "simulated")


def test_the_rest_of_ios_methods(everywhere):
    async def program(top):
        path = f"{top}/f"
        Path(path).write_bytes(b"one\ntwo\nthree")
        seen = []
        async with aiopoll.open(path, "rb") as file:
            buffer = bytearray(3)
            seen += [await file.readinto1(buffer), bytes(buffer), (await file.peek())[:4]]
            seen += [await file.tell(), await file.readall()]
        file = await aiopoll.open(path, "w+", encoding="utf-8")
        await file.write("ä")
        await file.reconfigure(encoding="latin-1", write_through=True)
        await file.write("ä")
        seen += [file.encoding, file.write_through]
        below = await file.detach()
        await below.write(b"end")
        seen += [isinstance(below, aiopoll.BinaryFile)]
        seen += [await result_of(file.close()), await result_of(file.read()), file.closed]
        await below.close()
        return seen, Path(path).read_bytes()

    everywhere(program)


def test_modules_of_aiofiles(everywhere):
    from aiopoll.files import os as aios

    async def program(top):
        await aios.makedirs(f"{top}/a/b")
        await aios.rename(f"{top}/a/b", f"{top}/a/c")
        names = await aios.listdir(f"{top}/a")
        kinds = [await aios.path.isdir(f"{top}/a/c"), await aios.path.exists(f"{top}/a/b")]
        return names, kinds, await result_of(aios.stat(f"{top}/none")), os.listdir(top)

    everywhere(program)
