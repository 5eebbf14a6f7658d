"""Path: pathlib's paths, whose file system calls are coroutines."""

import os
import pathlib
from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING, Any, Self

from aiopoll.files import calls
from aiopoll.files.calls import in_batches, in_thread, with_file_at
from aiopoll.files.opening import Opening, open

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Path(pathlib.PurePosixPath):
    """A pathlib.PurePosixPath with pathlib.Path's other methods as coroutines.

    Each of those is one hop to a thread of the files' pool, and raises as pathlib.Path's does.
    Where pathlib.Path returns a path, this returns a Path of ours.  iterdir(), glob() and rglob()
    are asynchronous iterators that fetch many entries at once.
    """

    @property
    def _sync(self) -> pathlib.Path:
        return pathlib.Path(self)

    def _of(self, path: Any) -> Self:
        return type(self)(path)

    @classmethod
    async def cwd(cls) -> Self:
        """Returns the current directory."""
        return cls(await in_thread(os.getcwd))

    @classmethod
    async def home(cls) -> Self:
        """Returns the user's home directory."""
        return cls(await in_thread(pathlib.Path.home))

    async def absolute(self) -> Self:
        """Returns this path as an absolute one, otherwise unchanged."""
        return self._of(await in_thread(self._sync.absolute))

    async def resolve(self, strict: bool = False) -> Self:
        """Returns this path without symbolic links.

        Raises OSError if `strict`, and the path does not exist.
        """
        return self._of(await in_thread(self._sync.resolve, strict))

    async def expanduser(self) -> Self:
        """Returns this path with ~ and ~user replaced."""
        return self._of(await in_thread(self._sync.expanduser))

    async def readlink(self) -> Self:
        """Returns the target of the symbolic link."""
        return self._of(await in_thread(os.readlink, self))

    # Queries

    async def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Calls os.stat()."""
        return await in_thread(os.stat, self, follow_symlinks=follow_symlinks)

    async def lstat(self) -> os.stat_result:
        """Calls os.lstat()."""
        return await in_thread(os.lstat, self)

    async def exists(self) -> bool:
        """Whether the path leads to any file."""
        return await in_thread(self._sync.exists)

    async def is_dir(self) -> bool:
        """Whether this is a directory, or a link to one."""
        return await in_thread(self._sync.is_dir)

    async def is_file(self) -> bool:
        """Whether this is a regular file, or a link to one."""
        return await in_thread(self._sync.is_file)

    async def is_symlink(self) -> bool:
        """Whether this is a symbolic link."""
        return await in_thread(self._sync.is_symlink)

    async def is_mount(self) -> bool:
        """Whether a file system is mounted here."""
        return await in_thread(self._sync.is_mount)

    async def is_fifo(self) -> bool:
        """Whether this is a FIFO."""
        return await in_thread(self._sync.is_fifo)

    async def is_socket(self) -> bool:
        """Whether this is a Unix socket."""
        return await in_thread(self._sync.is_socket)

    async def is_block_device(self) -> bool:
        """Whether this is a block device."""
        return await in_thread(self._sync.is_block_device)

    async def is_char_device(self) -> bool:
        """Whether this is a character device."""
        return await in_thread(self._sync.is_char_device)

    async def owner(self) -> str:
        """Returns the name of the user that the file belongs to."""
        return await in_thread(self._sync.owner)

    async def group(self) -> str:
        """Returns the name of the group that the file belongs to."""
        return await in_thread(self._sync.group)

    async def samefile(self, other: str | os.PathLike[str]) -> bool:
        """Whether both paths lead to one file."""
        return await in_thread(os.path.samefile, self, other)

    # Directories

    async def iterdir(self) -> AsyncGenerator[Self, None]:
        """Yields the paths in this directory, in no order."""
        async for entry in calls.scandir(self):
            yield self / entry.name

    async def glob(self, pattern: str) -> AsyncGenerator[Self, None]:
        """Yields the paths below this one that match the pattern."""
        async for path in in_batches(lambda: self._sync.glob(pattern)):
            yield self._of(path)

    async def rglob(self, pattern: str) -> AsyncGenerator[Self, None]:
        """Yields the matches of the pattern in this directory and all below it."""
        async for path in in_batches(lambda: self._sync.rglob(pattern)):
            yield self._of(path)

    async def walk(
        self, top_down: bool = True, follow_symlinks: bool = False
    ) -> AsyncGenerator[tuple[Self, list[str], list[str]], None]:
        """Yields for each directory from here on: its path, its directories, its files.

        The lists are the caller's: changing them does not change the walk.  Source: os.walk.
        """

        def found() -> Iterable[tuple[str, list[str], list[str]]]:
            return os.walk(str(self), topdown=top_down, followlinks=follow_symlinks)

        async for path, directories, files in in_batches(found):
            yield self._of(path), directories, files

    # Changes

    async def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Creates the directory."""
        await in_thread(self._sync.mkdir, mode, parents, exist_ok)

    async def rmdir(self) -> None:
        """Removes the directory, which must be empty."""
        await in_thread(os.rmdir, self)

    async def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file."""
        await in_thread(self._sync.unlink, missing_ok)

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Creates the file, or sets its times to now."""
        await in_thread(self._sync.touch, mode, exist_ok)

    async def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Sets the permissions."""
        await in_thread(os.chmod, self, mode, follow_symlinks=follow_symlinks)

    async def rename(self, target: str | os.PathLike[str]) -> Self:
        """Renames to `target`, and returns it; replaces a file of that name."""
        await in_thread(os.rename, self, target)
        return self._of(target)

    async def replace(self, target: str | os.PathLike[str]) -> Self:
        """Renames to `target`: rename() by pathlib's other name."""
        await in_thread(os.replace, self, target)
        return self._of(target)

    async def symlink_to(
        self, target: str | os.PathLike[str], target_is_directory: bool = False
    ) -> None:
        """Makes this path a symbolic link to `target`."""
        await in_thread(os.symlink, target, self, target_is_directory)

    async def hardlink_to(self, target: str | os.PathLike[str]) -> None:
        """Makes this path another name of the file `target`."""
        await in_thread(os.link, target, self)

    # Contents

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        direct: bool = False,
    ) -> Opening[Any]:
        """Calls aiopoll.open() for this path: await it, or enter it with `async with`."""
        return open(self, mode, buffering, encoding, errors, newline, direct=direct)

    async def read_bytes(self) -> bytes:
        """Returns the contents."""
        return await calls.read_bytes(self)

    async def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Returns the contents, decoded."""
        return await with_file_at(self, self._sync.read_text, encoding, errors)

    async def write_bytes(self, data: "Buffer") -> int:
        """Replaces the contents; returns the number of bytes."""
        return await calls.write_bytes(self, data)

    async def write_text(
        self,
        data: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> int:
        """Replaces the contents; returns the number of characters."""
        return await with_file_at(self, self._sync.write_text, data, encoding, errors, newline)

    async def write_atomic(self, data: "Buffer", *, mode: int | None = None) -> None:
        """Calls aiopoll.write_atomic() for this path."""
        await calls.write_atomic(self, data, mode=mode)
