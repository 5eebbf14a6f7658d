"""wrap() for files that are open already; sys.stdin, stdout and stderr with coroutines."""

import io
import sys
import tempfile
from typing import Any, BinaryIO, TextIO, overload

from aiopoll.files.wrapped_binary import WrappedBinaryFile
from aiopoll.files.wrapped_text import WrappedTextFile


@overload
def wrap(file: io.TextIOBase | TextIO) -> WrappedTextFile: ...
@overload
def wrap(file: io.BufferedIOBase | io.RawIOBase | BinaryIO) -> WrappedBinaryFile: ...
def wrap(file: Any) -> WrappedTextFile | WrappedBinaryFile:
    """Returns an object with the methods of `file`, one of io's, as coroutines.

    The file does the work, and closing the one closes the other.  Calls on it may come before and
    after; another thread must not read it at the same time.  Calls of several tasks go one after
    the other.  A call in a thread whose caller is cancelled is carried out all the same.

    A pipe, FIFO, socket or terminal is read when the event loop finds it readable: a read that
    waits has no thread, and does not hold up the end of the program.  A read of it that is
    cancelled loses nothing: what it had is returned first by the next read.  Lines of its text end
    with "\\n", whatever newline= was.  Its descriptor keeps its flags.

    Raises TypeError if `file` is not one of io's.  Source: aiofiles.threadpool.wrap.
    """
    # An object of the tempfile module shows what it is by its file.
    kind = file.file if isinstance(file, tempfile._TemporaryFileWrapper) else file
    if isinstance(kind, io.TextIOBase):
        return WrappedTextFile(lambda: file)
    if isinstance(kind, (io.BufferedIOBase, io.RawIOBase)):
        return WrappedBinaryFile(lambda: file)
    raise TypeError(f"wrap() takes an open file of io's, not {file!r}")


def current(name: str) -> Any:
    """Returns the stream that has this name in `sys` now.  Raises RuntimeError if it has none."""
    stream = getattr(sys, name)
    if stream is None:
        raise RuntimeError(f"lost sys.{name}")
    return stream


stdin: WrappedTextFile = WrappedTextFile(lambda: current("stdin"))
stdout: WrappedTextFile = WrappedTextFile(lambda: current("stdout"))
stderr: WrappedTextFile = WrappedTextFile(lambda: current("stderr"))
stdin_bytes: WrappedBinaryFile = WrappedBinaryFile(lambda: current("stdin").buffer)
stdout_bytes: WrappedBinaryFile = WrappedBinaryFile(lambda: current("stdout").buffer)
stderr_bytes: WrappedBinaryFile = WrappedBinaryFile(lambda: current("stderr").buffer)
