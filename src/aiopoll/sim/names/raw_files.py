"""io.FileIO and open() on the host's disk.

Facts: io's buffers and text layer are C, and take any raw file that has the methods. FileIO is a
class that code calls, subclasses and asks isinstance of.
Rule: only the raw file is ours. It belongs to the kernel and the process that opened it, so that
one that is collected after its world is over touches nothing.
Left out: a buffered file that two threads use while one waits for the device in it (the buffer's
own lock is a real one).
"""

from __future__ import annotations

import abc
import contextlib
import errno
import io
import os
import stat
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import inside
from .dispatch import Lookalike
from .paths import checked, open_path

if TYPE_CHECKING:
    from ..host import Host

CHUNK = 1 << 16


def retried(call: Callable[[], Any]) -> Any:
    """Call again after a signal whose handler raised nothing (PEP 475)."""
    while True:
        try:
            return call()
        except InterruptedError:
            continue


class SimFileIO(io.RawIOBase):
    """io.FileIO's methods, by the calls of the host's kernel."""

    _fd: int = -1

    def __init__(
        self,
        file: Any,
        mode: str = "r",
        closefd: bool = True,
        opener: Callable[[Any, int], int] | None = None,
    ) -> None:
        host = inside.host()
        if host is None:
            raise RuntimeError("a file of the simulated world is opened inside of it")
        self._closefd = closefd
        self._flags = self._parse(mode)
        self._kernel = host.kernel
        self._process = self._kernel.sched.current.process
        self.name: Any = file
        self._seekable: bool | None = None
        fd, owned = self._open(host, file, opener)
        try:
            status = self._kernel.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), file)
            self._blksize = max(status.st_blksize, 1)
            if "a" in mode:
                with contextlib.suppress(OSError):
                    self._kernel.lseek(fd, 0, os.SEEK_END)
        except BaseException as exc:
            if owned:
                self._kernel.close(fd)
            if isinstance(exc, OSError) and exc.filename is None:
                raise OSError(exc.errno, os.strerror(exc.errno or 0), file) from None
            raise
        self._file = self._kernel.fget(fd)
        self._fd = fd

    def _parse(self, mode: str) -> int:
        if not isinstance(mode, str):
            raise TypeError(f"invalid mode: {mode!r}")
        if set(mode) - set("xrwab+"):
            raise ValueError(f"invalid mode: {mode}")
        if sum(letter in "rwax" for letter in mode) != 1 or mode.count("+") > 1:
            raise ValueError(
                "Must have exactly one of create/read/write/append mode and at most one plus"
            )
        self._created = "x" in mode
        self._appending = "a" in mode
        self._readable = "r" in mode or "+" in mode
        self._writable = "r" not in mode or "+" in mode
        flags = os.O_CLOEXEC
        if self._readable and self._writable:
            flags |= os.O_RDWR
        else:
            flags |= os.O_RDONLY if self._readable else os.O_WRONLY
        if "w" in mode:
            flags |= os.O_CREAT | os.O_TRUNC
        elif "x" in mode:
            flags |= os.O_CREAT | os.O_EXCL
        elif "a" in mode:
            flags |= os.O_CREAT | os.O_APPEND
        return flags

    def _open(
        self, host: Host, file: Any, opener: Callable[[Any, int], int] | None
    ) -> tuple[int, bool]:
        if isinstance(file, float):
            raise TypeError("integer argument expected, got float")
        if isinstance(file, int):
            if file < 0:
                raise ValueError("negative file descriptor")
            host.kernel.fget(file)
            return file, False
        if not self._closefd:
            raise ValueError("Cannot use closefd=False with file name")
        path = checked(file, "open")
        if opener is None:
            return retried(lambda: open_path(host, path, self._flags, 0o666)), True
        fd = opener(file, self._flags)
        if not isinstance(fd, int):
            raise TypeError("expected integer from opener")
        if fd < 0:
            raise ValueError(f"opener returned {fd}")
        return fd, True

    def __repr__(self) -> str:
        kind = "_io.FileIO"
        if self.closed:
            return f"<{kind} [closed]>"
        return f"<{kind} name={self.name!r} mode={self.mode!r} closefd={self._closefd!r}>"

    def __getstate__(self) -> object:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    @property
    def mode(self) -> str:
        """Return the mode as io.FileIO has it."""
        if self._created:
            return "xb+" if self._readable else "xb"
        if self._appending:
            return "ab+" if self._readable else "ab"
        if self._readable:
            return "rb+" if self._writable else "rb"
        return "wb"

    @property
    def closefd(self) -> bool:
        return self._closefd

    @property
    def over(self) -> bool:
        """Whether the machine is off that opened the file: nothing has an effect then."""
        return self._kernel.halted or self._process.files.files.get(self._fd) is not self._file

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def fileno(self) -> int:
        """Return the host's number of the file. ValueError once it is closed."""
        self._check()
        return self._fd

    def readable(self) -> bool:
        """Return whether the file is open for reading."""
        self._check()
        return self._readable

    def writable(self) -> bool:
        """Return whether the file is open for writing."""
        self._check()
        return self._writable

    def seekable(self) -> bool:
        """Return whether the file has positions."""
        self._check()
        if self._seekable is None:
            try:
                self._kernel.lseek(self._fd, 0, os.SEEK_CUR)
            except OSError:
                self._seekable = False
            else:
                self._seekable = True
        return self._seekable

    def isatty(self) -> bool:
        """Return False: a host has no terminals."""
        self._check()
        return False

    def _check_readable(self) -> None:
        self._check()
        if not self._readable:
            raise io.UnsupportedOperation("File not open for reading")

    def _check_writable(self) -> None:
        self._check()
        if not self._writable:
            raise io.UnsupportedOperation("File not open for writing")

    def read(self, size: int | None = -1, /) -> bytes | None:
        """Read up to `size` bytes with one call, all if it is negative; None if it would block."""
        self._check_readable()
        if size is None or size < 0:
            return self.readall()
        wanted = size
        try:
            data: bytes = retried(lambda: self._kernel.read(self._fd, wanted))
        except BlockingIOError:
            return None
        return data

    def readall(self) -> bytes | None:  # type: ignore[override]
        """Read to the end; None if it would block before the first byte."""
        self._check_readable()
        parts: list[bytes] = []
        while True:
            try:
                part: bytes = retried(lambda: self._kernel.read(self._fd, CHUNK))
            except BlockingIOError:
                if not parts:
                    return None
                break
            if not part:
                break
            parts.append(part)
        return b"".join(parts)

    def readinto(self, buffer: Any, /) -> int | None:
        """Read into a buffer with one call; None if it would block."""
        self._check_readable()
        with memoryview(buffer) as whole, whole.cast("B") as view:
            data = self.read(len(view))
            if data is None:
                return None
            view[: len(data)] = data
        return len(data)

    def write(self, data: Any, /) -> int | None:
        """Write with one call; returns how much, or None if it would block."""
        self._check_writable()
        if self.over:
            # A buffer that is collected after its world.
            return memoryview(data).nbytes
        with memoryview(data) as view:
            content = bytes(view)
        try:
            written: int = retried(lambda: self._kernel.write(self._fd, content))
        except BlockingIOError:
            return None
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position and return it."""
        self._check()
        if isinstance(offset, float):
            raise TypeError("an integer is required")
        return self._kernel.lseek(self._fd, offset, whence)

    def tell(self) -> int:
        """Return the position."""
        self._check()
        return self._kernel.lseek(self._fd, 0, os.SEEK_CUR)

    def truncate(self, size: int | None = None, /) -> int:
        """Cut the file to `size` bytes, by default to its position; returns the size."""
        self._check_writable()
        if size is None:
            size = self.tell()
        self._kernel.ftruncate(self._fd, size)
        return size

    def close(self) -> None:
        """Close the file, and its number unless closefd is False. The kernel's errors."""
        if self.closed:
            return
        try:
            super().close()
        finally:
            fd, self._fd = self._fd, -1
            if fd >= 0 and self._closefd and not self._kernel.halted:
                files = self._process.files
                if files.files.get(fd) is self._file:
                    if inside.host() is not None and files is self._kernel.files:
                        self._kernel.close(fd)
                    else:
                        with contextlib.suppress(OSError):
                            files.close(fd)

    def __del__(self) -> None:
        if self._fd >= 0 and self._closefd and not self.closed:
            if not self.over:
                warnings.warn(f"unclosed file {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()


class _FileType(Lookalike, abc.ABCMeta):
    """The files of io have a metaclass already."""


class FileIO(SimFileIO, metaclass=_FileType):
    """What `io.FileIO` is inside."""

    original: type = io.FileIO
    kinds: tuple[type, ...] = (io.FileIO, SimFileIO)
    simulate = None


def open_file(
    host: Host,
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[Any, int], int] | None = None,
) -> Any:
    """open() on the host's disk: see io.open for the arguments and their errors."""
    if not isinstance(file, int):
        file = os.fspath(file)
    for value, name in ((mode, "mode"), (encoding, "encoding"), (errors, "errors")):
        if not isinstance(value, str) and (value is not None or name == "mode"):
            raise TypeError(f"open() argument '{name}' must be str, not {type(value).__name__}")
    if not isinstance(buffering, int):
        raise TypeError(f"{type(buffering).__name__!r} object cannot be interpreted as an integer")
    letters = set(mode)
    if letters - set("axrwb+t") or len(mode) > len(letters):
        raise ValueError(f"invalid mode: {mode!r}")
    text, binary = "t" in letters, "b" in letters
    if text and binary:
        raise ValueError("can't have text and binary mode at once")
    if len(letters & set("axrw")) != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    if binary:
        for value, name in ((encoding, "encoding"), (errors, "errors"), (newline, "newline")):
            if value is not None:
                raise ValueError(f"binary mode doesn't take {_an(name)} argument")
        if buffering == 1:
            warnings.warn(
                "line buffering (buffering=1) isn't supported in binary mode, "
                "the default buffer size will be used",
                RuntimeWarning,
                stacklevel=3,
            )
    raw_mode = "".join(letter for letter in "xrwa" if letter in letters)
    raw = FileIO(file, raw_mode + "+" * ("+" in letters), closefd, opener)
    result: Any = raw
    try:
        line_buffering = buffering == 1
        size = default_size(raw._blksize) if buffering < 0 or line_buffering else buffering
        if buffering == 0:
            if binary:
                return result
            raise ValueError("can't have unbuffered text I/O")
        if "+" in letters:
            result = io.BufferedRandom(raw, size)
        elif raw.writable():
            result = io.BufferedWriter(raw, size)
        else:
            result = io.BufferedReader(raw, size)
        if binary:
            return result
        encoding = io.text_encoding(encoding, 3)
        result = io.TextIOWrapper(result, encoding, errors, newline, line_buffering)
        result.mode = mode
    except BaseException:
        result.close()
        raise
    return result


def default_size(block_size: int) -> int:
    """Return the size of a buffer as this version of io.open chooses it."""
    if sys.version_info < (3, 14):
        return block_size if block_size > 1 else io.DEFAULT_BUFFER_SIZE
    return max(min(block_size, 8 << 20), io.DEFAULT_BUFFER_SIZE)


def _an(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
