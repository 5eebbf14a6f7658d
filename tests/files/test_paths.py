"""Path, whole files, temporary files and directories."""

import asyncio
import os
import pathlib
import stat

import pytest

import aiopoll


def run(main) -> None:
    aiopoll.run(main())


def test_paths_are_pathlibs_with_coroutines(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        base = aiopoll.Path(tmp_path)
        folder = base / "a" / "b"
        assert type(folder.parent) is aiopoll.Path
        await folder.mkdir(parents=True)
        with pytest.raises(FileExistsError):
            await folder.mkdir()
        await folder.mkdir(exist_ok=True)
        file = folder / "file.txt"
        assert not await file.exists()
        assert await file.write_text("grüße\n", encoding="utf-8") == 6
        assert await file.read_bytes() == "grüße\n".encode()
        assert await file.read_text(encoding="utf-8") == "grüße\n"
        assert await file.is_file()
        assert not await file.is_dir()
        assert (await file.stat()).st_size == 8
        link = base / "link"
        await link.symlink_to(file)
        assert await link.is_symlink()
        assert await link.readlink() == file
        assert await link.resolve() == await file.resolve()
        assert await link.samefile(file)
        assert stat.S_ISLNK((await link.lstat()).st_mode)
        await (base / "hard").hardlink_to(file)
        moved = await file.rename(folder / "moved")
        assert type(moved) is aiopoll.Path
        await (base / "hard").replace(base / "other")
        await moved.chmod(0o600)
        assert stat.S_IMODE((await moved.stat()).st_mode) == 0o600
        await (folder / "touched").touch()
        with pytest.raises(FileExistsError):
            await (folder / "touched").touch(exist_ok=False)
        assert {p.name async for p in folder.iterdir()} == {"moved", "touched"}
        assert {p.name async for p in base.rglob("m*")} == {"moved"}
        assert {p.name async for p in base.glob("*")} == {"a", "link", "other"}
        walked = {p.name: (sorted(d), sorted(f)) async for p, d, f in base.walk()}
        assert walked["b"] == ([], ["moved", "touched"])
        async with moved.open() as opened:
            assert await opened.read() == "grüße\n"
        await moved.unlink()
        await moved.unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError) as caught:
            await moved.unlink()
        assert caught.value.filename == str(moved)
        with pytest.raises(OSError, match="not empty"):
            await folder.rmdir()
        assert await aiopoll.Path.cwd() == pathlib.Path.cwd()
        assert await aiopoll.Path("~").expanduser() == await aiopoll.Path.home()
        assert await aiopoll.Path("x").absolute() == pathlib.Path("x").absolute()
        assert not await base.is_mount()
        assert await aiopoll.Path("/dev/null").is_char_device()
        for question in (base.is_fifo(), base.is_socket(), base.is_block_device()):
            assert not await question
        assert (await base.owner(), await base.group()) == (tmp_path.owner(), tmp_path.group())

    run(main)


def test_whole_files(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        path = tmp_path / "file"
        assert await aiopoll.write_bytes(path, b"0123456789") == 10
        assert await aiopoll.read_bytes(path) == b"0123456789"
        assert await aiopoll.copyfile(path, tmp_path / "copy") == 10
        assert (tmp_path / "copy").read_bytes() == b"0123456789"
        with pytest.raises(OSError, match="are the same file"):
            await aiopoll.copyfile(path, path)
        with pytest.raises(FileNotFoundError):
            await aiopoll.read_bytes(tmp_path / "none")

    run(main)


def test_write_atomic_replaces_and_keeps_permissions(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        path = tmp_path / "file"
        await aiopoll.write_atomic(path, b"first")
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
        path.chmod(0o640)
        inode = path.stat().st_ino
        (tmp_path / "link").symlink_to(path)
        await aiopoll.write_atomic(tmp_path / "link", b"second")
        assert path.read_bytes() == b"second"
        assert path.stat().st_ino != inode
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert (tmp_path / "link").is_symlink()
        await aiopoll.write_atomic(path, b"third", mode=0o600)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(OSError, match="only a regular file"):
            await aiopoll.write_atomic("/dev/null", b"x")
        with pytest.raises(FileNotFoundError):
            await aiopoll.write_atomic(tmp_path / "none" / "file", b"x")
        assert {entry.name for entry in tmp_path.iterdir()} == {"file", "link"}

    run(main)


def test_write_atomic_that_fails_leaves_the_old(tmp_path: pathlib.Path, small_files) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    async def main() -> None:
        with small_files(4096), pytest.raises(OSError, match="too large"):
            await aiopoll.write_atomic(path, b"x" * 8192)

    run(main)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_write_atomic_keeps_the_data_private(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.touch(0o600)
    seen = []

    def fsync(fd: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))

    created = os.open

    def create(path, flags, mode=0o777, **options) -> int:
        if flags & os.O_CREAT:
            seen.append(mode)
        return created(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", create)
    monkeypatch.setattr(os, "fsync", fsync)
    run(lambda: aiopoll.write_atomic(path, b"secret"))
    assert path.read_bytes() == b"secret"
    assert seen[:2] == [0o600, 0o600]


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_write_atomic_of_the_longest_names(tmp_path: pathlib.Path, name: str) -> None:
    run(lambda: aiopoll.write_atomic(tmp_path / name, b"x"))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_scandir_in_batches(tmp_path: pathlib.Path) -> None:
    names = {f"{i:04}" for i in range(1300)}
    for name in names:
        (tmp_path / name).touch()

    async def main() -> None:
        before = aiopoll.file_statistics().thread_calls
        found = [entry async for entry in aiopoll.scandir(tmp_path)]
        assert {entry.name for entry in found} == names
        assert all(entry.is_file() for entry in found)
        assert aiopoll.file_statistics().thread_calls - before == 5
        with pytest.raises(FileNotFoundError):
            async for _ in aiopoll.scandir(tmp_path / "none"):
                pass
        some = aiopoll.scandir(tmp_path)
        await anext(some)
        await some.aclose()

    run(main)


def test_temporary_files(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        async with aiopoll.TemporaryFile(dir=tmp_path) as file:
            await file.write(b"abc")
            await file.seek(0)
            assert await file.read() == b"abc"
            assert list(tmp_path.iterdir()) == []
        async with aiopoll.TemporaryFile("w+", dir=tmp_path, encoding="utf-8") as text:
            await text.write("ä")
            await text.seek(0)
            assert await text.read() == "ä"
        async with aiopoll.NamedTemporaryFile(dir=tmp_path, prefix="p", suffix=".s") as named:
            name = os.path.basename(named.name)
            assert name.startswith("p")
            assert name.endswith(".s")
            assert stat.S_IMODE(os.stat(named.name).st_mode) == 0o600
            await named.write(b"x")
        assert list(tmp_path.iterdir()) == []
        async with aiopoll.NamedTemporaryFile("w", dir=tmp_path, delete=False) as kept:
            await kept.write("kept")
        assert pathlib.Path(kept.name).read_text() == "kept"
        async with aiopoll.NamedTemporaryFile(dir=tmp_path) as gone:
            os.unlink(gone.name)
        async with aiopoll.TemporaryDirectory(dir=tmp_path) as folder:
            pathlib.Path(folder, "inside").touch()
        assert not os.path.exists(folder)
        async with aiopoll.TemporaryFile() as elsewhere:
            await elsewhere.write(b"x")

    run(main)


@pytest.mark.parametrize("mode", ["r+b", "a+", "w", "rb", "x+b"])
def test_a_named_temporary_file_is_new_in_every_mode(tmp_path: pathlib.Path, mode: str) -> None:
    async def main() -> None:
        async with aiopoll.NamedTemporaryFile(mode, dir=tmp_path) as file:
            assert set(file.mode) == set(mode)
            assert [entry.name for entry in tmp_path.iterdir()] == [os.path.basename(file.name)]

    run(main)


@pytest.mark.parametrize("bad", [{"mode": "q"}, {"encoding": "none such", "mode": "w"}])
def test_named_temporary_file_that_fails_to_open_is_removed(
    tmp_path: pathlib.Path, bad: dict[str, str]
) -> None:
    async def main() -> None:
        with pytest.raises((ValueError, LookupError)):
            async with aiopoll.NamedTemporaryFile(dir=tmp_path, **bad):
                pass

    run(main)
    assert list(tmp_path.iterdir()) == []


def test_temporary_directory_may_be_removed_by_the_program(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        async with aiopoll.TemporaryDirectory(dir=tmp_path) as folder:
            os.rmdir(folder)

    run(main)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("make", [aiopoll.NamedTemporaryFile, aiopoll.TemporaryDirectory])
def test_temporary_file_is_removed_if_its_task_is_cancelled(
    tmp_path: pathlib.Path, make, steps: int, again: bool
) -> None:
    """Cancelled after so many iterations: before, while and after it is made."""

    async def use() -> None:
        async with make(dir=tmp_path):
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(use())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        if again:
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    assert list(tmp_path.iterdir()) == []


def test_a_full_default_executor_keeps_no_file_waiting(tmp_path: pathlib.Path) -> None:
    import threading

    async def main() -> None:
        release = threading.Event()
        loop = asyncio.get_running_loop()
        busy = [loop.run_in_executor(None, release.wait, 30) for _ in range(64)]
        await aiopoll.write_bytes(tmp_path / "file", b"x")
        release.set()
        await asyncio.gather(*busy)

    run(main)
