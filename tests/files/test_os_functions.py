"""aiopoll.files.os: each function's result, or exception, is that of os on the same arguments."""

import asyncio
import inspect
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiopoll
from aiopoll.files import os as aios

Call = tuple[str, tuple[Any, ...], dict[str, Any]]

CALLS: list[Call] = [
    ("access", ("file", os.R_OK), {}),
    ("access", ("link to none", os.F_OK), {"follow_symlinks": False}),
    ("access", ("file", os.R_OK), {"effective_ids": True}),
    ("getcwd", (), {}),
    ("link", ("file", "made"), {}),
    ("link", ("no such", "made"), {}),
    ("link", ("link", "made"), {"follow_symlinks": False}),
    ("listdir", (), {}),
    ("listdir", ("full",), {}),
    ("listdir", (b"full",), {}),
    ("listdir", ("file",), {}),
    ("makedirs", ("a/b/c",), {}),
    ("makedirs", ("full",), {"exist_ok": True}),
    ("makedirs", ("full", 0o700), {}),
    ("mkdir", ("made", 0o700), {}),
    ("mkdir", ("file",), {}),
    ("readlink", ("link",), {}),
    ("readlink", (b"link",), {}),
    ("readlink", ("file",), {}),
    ("remove", ("file",), {}),
    ("remove", ("full",), {}),
    ("removedirs", ("empty/inner",), {}),
    ("removedirs", ("full",), {}),
    ("rename", ("file", "made"), {}),
    ("rename", ("file", "full"), {}),
    ("renames", ("full/one", "other/one"), {}),
    ("renames", ("no such", "other/one"), {}),
    ("replace", ("file", "link"), {}),
    ("replace", ("no such", "link"), {}),
    ("rmdir", ("empty/inner",), {}),
    ("rmdir", ("full",), {}),
    ("stat", ("file",), {}),
    ("stat", ("link to none",), {}),
    ("stat", ("link to none",), {"follow_symlinks": False}),
    ("stat", ("no such\0",), {}),
    ("statvfs", ("no such",), {}),
    ("symlink", ("file", "made"), {}),
    ("symlink", ("file", "link"), {}),
    ("unlink", ("link",), {}),
    ("unlink", ("no such",), {}),
    *((f"path.{name}", ("file",), {}) for name in aios.path.__all__ if "same" not in name),
    *((f"path.{name}", ("no such",), {}) for name in aios.path.__all__ if "same" not in name),
    ("path.isdir", ("full",), {}),
    ("path.islink", ("link",), {}),
    ("path.ismount", ("/",), {}),
    ("path.samefile", ("file", "link"), {}),
    ("path.samefile", ("file", "full"), {}),
    ("path.samefile", ("file", "no such"), {}),
    ("path.sameopenfile", (0, 0), {}),
    ("path.sameopenfile", (0, 99999), {}),
]


def tree(top: Path) -> None:
    for folder in ("full", "empty/inner"):
        (top / folder).mkdir(parents=True)
    (top / "file").write_bytes(b"contents")
    (top / "full" / "one").write_bytes(b"")
    (top / "link").symlink_to("file")
    (top / "link to none").symlink_to("none")


def look(top: Path) -> list[tuple[str, int, object]]:
    """The names below, their modes, and where links lead."""
    return sorted(
        (
            str(path.relative_to(top)),
            path.lstat().st_mode,
            os.readlink(path) if path.is_symlink() else None,
        )
        for path in top.rglob("*")
    )


def found(name: str, module: Any) -> Callable[..., Any]:
    for part in name.split("."):
        module = getattr(module, part)
    function: Callable[..., Any] = module
    return function


async def outcome(top: Path, name: str, module: Any, args: Any, options: Any) -> object:
    try:
        result = found(name, module)(*args, **options)
        result = await result if hasattr(result, "__await__") else result
    except (OSError, ValueError, TypeError) as error:
        code = (error.errno, error.filename, error.filename2) if isinstance(error, OSError) else ()
        return type(error), code, str(error).replace(str(top), "")
    if isinstance(result, os.stat_result):
        return result.st_mode, result.st_size, result.st_nlink
    if isinstance(result, float):
        return "a time"
    if isinstance(result, str):
        return result.replace(str(top), "")
    return sorted(result) if isinstance(result, list) else result


@pytest.mark.parametrize(("name", "args", "options"), CALLS, ids=lambda value: str(value))
def test_a_call_does_what_os_does(
    run: Any, tmp_path: Path, monkeypatch: Any, name: str, args: Any, options: Any
) -> None:
    async def main() -> None:
        outcomes = []
        for module in (os, aios):
            top = tmp_path / module.__name__
            top.mkdir()
            tree(top)
            monkeypatch.chdir(top)
            outcomes.append((await outcome(top, name, module, args, options), look(top)))
        assert outcomes[0] == outcomes[1]

    run(main())


def test_directories_by_descriptor(tmp_path: Path) -> None:
    tree(tmp_path)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    async def main() -> None:
        assert (await aios.stat("file", dir_fd=fd)).st_size == 8
        assert sorted(await aios.listdir(fd)) == sorted(os.listdir(fd))
        await aios.mkdir("made", dir_fd=fd)
        await aios.rename("made", "moved", src_dir_fd=fd, dst_dir_fd=fd)
        await aios.rmdir("moved", dir_fd=fd)
        await aios.symlink("file", "made", dir_fd=fd)
        assert await aios.readlink("made", dir_fd=fd) == "file"
        await aios.unlink("made", dir_fd=fd)
        await aios.link("file", "made", src_dir_fd=fd, dst_dir_fd=fd)
        await aios.replace("made", "other", src_dir_fd=fd, dst_dir_fd=fd)
        await aios.remove("other", dir_fd=fd)
        assert await aios.access("file", os.R_OK, dir_fd=fd)

    try:
        before = look(tmp_path)
        aiopoll.run(main())
        assert look(tmp_path) == before
    finally:
        os.close(fd)


def test_scandir_is_that_of_os(run: Any, tmp_path: Path) -> None:
    tree(tmp_path)

    async def main() -> None:
        with await aios.scandir(tmp_path) as entries:
            assert sorted(entry.name for entry in entries) == sorted(os.listdir(tmp_path))
        with pytest.raises(NotADirectoryError):
            await aios.scandir(tmp_path / "file")

    run(main())


def test_sendfile_that_waits_delays_no_other_call(run: Any, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(4 << 20))
    ours, theirs = socket.socketpair()

    async def main() -> None:
        fd = os.open(big, os.O_RDONLY)
        try:
            sends = [asyncio.ensure_future(aios.sendfile(ours.fileno(), fd, 0, 4 << 20))]
            for _ in range(40):  # more than the files' pool has threads
                sends.append(asyncio.ensure_future(aios.sendfile(ours.fileno(), fd, 0, 1)))
            assert (await asyncio.wait_for(aios.stat(big), 30)).st_size == 4 << 20
            assert not sends[0].done()
            theirs.settimeout(30)
            left = (4 << 20) + 40
            while left:
                left -= len(await asyncio.to_thread(theirs.recv, 1 << 20))
            assert await asyncio.gather(*sends) == [4 << 20] + [1] * 40
        finally:
            theirs.close()  # ends the threads in any case
            os.close(fd)

    with ours, theirs:
        run(main())


def test_audit_events_are_those_of_os(tmp_path: Path) -> None:
    seen: list[tuple[str, Any]] = []
    here = [True]
    made = tmp_path / "made"

    def hook(event: str, args: Any) -> None:
        if here[0] and event in ("os.mkdir", "os.rename", "os.rmdir", "os.listdir"):
            seen.append((event, args))

    async def main() -> None:
        await aios.mkdir(made, 0o700)
        await aios.rename(made, tmp_path / "moved")
        await aios.listdir(tmp_path)
        await aios.rmdir(tmp_path / "moved")

    sys.addaudithook(hook)
    try:
        os.mkdir(made, 0o700)
        os.rename(made, tmp_path / "moved")
        os.listdir(tmp_path)
        os.rmdir(tmp_path / "moved")
        expected = seen.copy()
        seen.clear()
        aiopoll.run(main())
    finally:
        here[0] = False
    assert len(expected) == 4
    assert seen == expected


def test_parameters_have_the_names_that_os_has() -> None:
    for ours, theirs in ((aios, os), (aios.path, os.path)):
        for name in set(ours.__all__) - {"path", "wrap"}:
            try:
                expected = inspect.signature(getattr(theirs, name)).parameters
            except ValueError:
                continue
            known = inspect.signature(getattr(ours, name)).parameters
            named = [each for each in expected.values() if each.kind is not each.POSITIONAL_ONLY]
            for each in named:
                if name not in ("isdir", "isfile", "exists", "islink", "ismount"):
                    assert known[each.name].kind is each.kind, (name, each)


def test_wrap_has_a_function_called_in_a_thread(run: Any) -> None:
    @aios.wrap
    def where(number: int, *, name: str) -> tuple[int, str, bool]:
        """What it says."""
        return number, name, threading.current_thread() is threading.main_thread()

    async def main() -> None:
        assert await where(1, name="x") == (1, "x", False)

    run(main())
    assert where.__doc__ == "What it says."


def test_everything_of_aiofiles_is_there() -> None:
    theirs = pytest.importorskip("aiofiles.os", reason="skips.toml: aiofiles")
    import aiofiles
    import aiofiles.tempfile

    import aiopoll.files

    assert set(theirs.__all__) <= set(aios.__all__)
    assert set(theirs.path.__all__) <= set(aios.path.__all__)
    assert set(aiofiles.__all__) <= set(vars(aiopoll.files))
    assert set(aiofiles.tempfile.__all__) <= set(aiopoll.files.tempfile.__all__)
