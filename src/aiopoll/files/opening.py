"""aiopoll.open: checks the arguments of open() here, and opens the file in a thread."""

import asyncio
import contextlib
import errno
import functools
import io
import os
import stat
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Literal, Protocol, TypeVar, overload

from aiopoll.files.binary import BinaryFile
from aiopoll.files.calls import unless_waits
from aiopoll.files.lifetime import keep_until_shutdown
from aiopoll.files.scheduler import queue_of
from aiopoll.files.text import TextFile, TextFormat

FilePath = str | bytes | os.PathLike[str] | os.PathLike[bytes] | int
Opener = Callable[[Any, int], int]

BinaryMode = Literal[
    "rb", "br", "r+b", "rb+", "+rb", "wb", "bw", "w+b", "wb+", "xb", "bx", "x+b", "xb+",
    "ab", "ba", "a+b", "ab+",
]  # fmt: skip


TextMode = Literal[
    "r", "rt", "tr", "r+", "+r", "rt+", "r+t", "w", "wt", "tw", "w+", "+w", "wt+", "w+t",
    "x", "xt", "tx", "x+", "+x", "xt+", "x+t", "a", "at", "ta", "a+", "+a", "at+", "a+t",
]  # fmt: skip


class AnyFile(Protocol):
    """An object with a coroutine close()."""

    async def close(self) -> None: ...


F = TypeVar("F", bound=AnyFile)
D = TypeVar("D", int, int | None)  # of a descriptor


class Opening(Coroutine[Any, Any, F]):
    """The result of aiopoll.open(): await it for the file, or enter it with `async with`."""

    def __init__(self, opening: Coroutine[Any, Any, F]) -> None:
        self._opening = opening
        self._file: F | None = None

    def __await__(self) -> Generator[Any, None, F]:
        return self._opening.__await__()

    __iter__ = __await__  # for generators that are coroutines

    def send(self, value: Any, /) -> Any:
        """Starts or resumes the coroutine."""
        return self._opening.send(value)

    def throw(self, *error: Any) -> Any:
        """Raises an exception at the point where the coroutine waits."""
        return self._opening.throw(*error)

    def close(self) -> None:
        """Ends the coroutine at the point where it waits."""
        self._opening.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("cr_"):
            return getattr(self._opening, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    async def __aenter__(self) -> F:
        self._file = await self
        return self._file

    async def __aexit__(self, *error: object) -> None:
        if self._file is not None:
            await self._file.close()


class Mode:
    """A parsed mode of open()."""

    def __init__(self, mode: str) -> None:
        if not isinstance(mode, str):
            raise TypeError(f"mode must be a str, not {type(mode).__name__}")
        letters = set(mode)
        if letters - set("rwxab+t") or len(letters) != len(mode):
            raise ValueError(f"invalid mode: {mode!r}")
        if len(letters & set("rwxa")) != 1:
            raise ValueError(
                f"invalid mode: {mode!r}: must have exactly one of create/read/write/append mode"
            )
        if {"b", "t"} <= letters:
            raise ValueError(f"invalid mode: {mode!r}: can't have text and binary mode at once")
        self.binary: bool = "b" in letters
        self.updating: bool = "+" in letters
        self.action: str = (letters & set("rwxa")).pop()
        self.appending: bool = self.action == "a"
        # The mode as io.FileIO shows it.
        self.raw: str = self.action + "b" + ("+" if self.updating else "")

    def flags(self, direct: bool) -> int:
        """The flags for open(2)."""
        flags = os.O_CLOEXEC
        if self.updating:
            flags |= os.O_RDWR
        else:
            flags |= os.O_RDONLY if self.action == "r" else os.O_WRONLY
        if self.action in "wxa":
            flags |= os.O_CREAT
        if self.action == "w":
            flags |= os.O_TRUNC
        elif self.action == "x":
            flags |= os.O_EXCL
        if direct:
            # We append ourselves then, and read the blocks at both ends to change them.
            flags |= os.O_DIRECT
            if self.action != "r":
                flags = flags & ~os.O_ACCMODE | os.O_RDWR
        elif self.appending:
            flags |= os.O_APPEND
        return flags


def open_descriptor(path: Any, mode: Mode, direct: bool, opener: Opener | None) -> int:
    """Opens `path` and returns the descriptor; blocks.  Raises OSError, also for directories."""
    flags = mode.flags(direct)
    try:
        fd = os.open(path, flags, 0o666) if opener is None else opener(path, flags)
    except OSError as error:
        if direct and error.errno == errno.EINVAL:
            reason = "this file system takes no O_DIRECT: open the file without direct=True"
            raise OSError(errno.EINVAL, reason, path) from None
        raise
    if not isinstance(fd, int):
        raise TypeError("expected integer from opener")
    if fd < 0:
        raise ValueError(f"opener returned {fd}")
    try:
        os.set_inheritable(fd, False)
        check_descriptor(fd, path, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_descriptor(fd: int, path: Any, mode: Mode) -> None:
    """Raises IsADirectoryError for a directory, and OSError where appending is impossible."""
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if mode.appending:
        try:
            os.lseek(fd, 0, os.SEEK_END)
        except OSError as error:
            if error.errno != errno.ESPIPE:
                raise


def close_late(opened: asyncio.Future[D]) -> None:
    """Closes the descriptor that was opened for a caller that no longer waits."""
    if not opened.cancelled() and opened.exception() is None:
        fd = opened.result()
        if fd is not None:
            os.close(fd)


def other_end(path: Any) -> int | None:
    """Opens both ends of a FIFO, which releases a thread that waits for the other end."""
    with contextlib.suppress(OSError):  # the path is gone, or we may not open it
        if stat.S_ISFIFO(os.stat(path).st_mode):
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    return None


def close_end(fd: int, opened: object) -> None:
    """Closes the descriptor that other_end() opened."""
    os.close(fd)


async def opened_at(path: Any, opened: asyncio.Future[D]) -> D:
    """Returns the result of `opened`; a cancelled caller's descriptor comes soon, and is closed."""
    try:
        return await asyncio.shield(opened)
    except asyncio.CancelledError:
        opened.add_done_callback(close_late)
        if not opened.done() and (end := other_end(path)) is not None:
            opened.add_done_callback(functools.partial(close_end, end))
        raise


async def open_binary(
    path: Any, mode: Mode, buffering: int, closefd: bool, opener: Opener | None, direct: bool
) -> BinaryFile:
    """Returns a BinaryFile for these arguments."""
    loop = asyncio.get_running_loop()
    queue = queue_of(loop)
    keep_until_shutdown(loop, queue)
    if isinstance(path, int):
        check_descriptor(path, path, mode)
        fd = path
    else:
        make = functools.partial(open_descriptor, path, mode, direct, opener)
        found = None
        if opener is None:  # an opener may do anything
            found = await opened_at(path, queue.call(functools.partial(unless_waits, path, make)))
        fd = await opened_at(path, queue.call(make, patient=True)) if found is None else found
    file = BinaryFile.__new__(BinaryFile)
    try:
        BinaryFile.__init__(
            file,
            loop,
            fd,
            path,
            closefd=closefd,
            mode=mode.raw,
            buffering=buffering,
            appending=mode.appending,
        )
    except BaseException:
        file._give_up()  # an interrupt may come once it is made
        if not isinstance(path, int):
            os.close(fd)
        raise
    if mode.updating and buffering and not file.seekable():
        await file.close()
        raise io.UnsupportedOperation("File or stream is not seekable.")
    return file


async def open_text(
    path: Any, mode: Mode, closefd: bool, opener: Opener | None, format: TextFormat
) -> TextFile:
    """Returns a TextFile for these arguments."""
    buffer = await open_binary(path, mode, -1, closefd, opener, False)
    try:
        return TextFile(buffer, format)
    except BaseException:
        await buffer.close()
        raise


@overload
def open(
    path: FilePath,
    mode: BinaryMode,
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    direct: bool = False,
) -> Opening[BinaryFile]: ...
@overload
def open(
    path: FilePath,
    mode: TextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    direct: Literal[False] = False,
) -> Opening[TextFile]: ...
@overload
def open(
    path: FilePath,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    direct: bool = False,
) -> Opening[Any]: ...
def open(
    path: FilePath,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    direct: bool = False,
) -> Opening[Any]:
    """Opens a file of the running event loop: `async with aiopoll.open(path) as file`.

    The arguments and the exceptions are those of the built-in open().  Bad arguments raise at
    once; an error of the file is raised when the result is awaited.  That returns a BinaryFile if
    the mode has a "b", else a TextFile.

    direct: past the page cache (O_DIRECT), in binary modes only.  Any offset, length and memory
        works; multiples of the file's `alignment`, in an AlignedBuffer, are fast.  A direct
        file that is open for writing is open for reading underneath.  Raises OSError (EINVAL)
        where the file system does not support O_DIRECT.
    Source: io.open, open(2).
    """
    parts = Mode(mode)
    if not isinstance(path, int):
        path = os.fspath(path)
    elif path < 0:
        raise ValueError("negative file descriptor")
    if not isinstance(path, int) and not closefd:
        raise ValueError("Cannot use closefd=False with file name")
    if direct and isinstance(path, int):
        raise ValueError("direct=True needs a path: a descriptor is direct if it was opened so")
    if parts.binary:
        for name, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
            if value is not None:
                raise ValueError(f"binary mode doesn't take an {name} argument")
        if buffering == 1:
            raise ValueError("line buffering needs a text mode")
        return Opening(open_binary(path, parts, buffering, closefd, opener, direct))
    if direct:
        raise ValueError("direct=True needs a binary mode")
    if buffering == 0:
        raise ValueError("can't have unbuffered text I/O")
    format = TextFormat(mode, buffering, encoding, errors, newline)
    format.check()
    return Opening(open_text(path, parts, closefd, opener, format))
