"""StreamFile: the system calls on a descriptor, which a thread makes for a file with a cursor."""

import contextlib
import io
import os
import select
from collections.abc import Iterator

from aiopoll.files.file import File


class StreamFile(File):
    """A file whose descriptor takes read(2), write(2) and lseek(2): see BinaryFile."""

    # Whether write() gathers, and what it has gathered.
    _gathers: bool
    _unwritten: bytearray

    @contextlib.contextmanager
    def _descriptor(self) -> Iterator[int]:
        """Yields the descriptor for system calls, in the loop's thread or another.

        Raises OSError (EBADF) if the number names another file by now.  An OSError raised within
        gets the name of the file.
        """
        fd = self._enter()
        try:
            yield fd
        except OSError as error:
            if error.errno is not None and error.filename is None:
                error.filename = self.name
            raise
        finally:
            self._leave(fd)

    def _block_size(self) -> int:
        with self._descriptor() as fd:
            size = os.fstat(fd).st_blksize
        return size if size > 1 else io.DEFAULT_BUFFER_SIZE

    def _read_once(self, size: int) -> bytes:
        with self._descriptor() as fd:
            return os.read(fd, size)

    def _write_stream(self, data: bytes, ahead: int, whole: bool) -> int:
        """Calls write(2), until all is written if `whole`; blocks even if the descriptor does not.

        ahead: the bytes by which the kernel's cursor is ahead of ours.  Returns the number of bytes
        written.  After an OSError _unwritten keeps the rest, for another try, as in io's buffers.
        """
        view = memoryview(data)
        if ahead:
            self._seek(-ahead, os.SEEK_CUR)
        while True:
            with self._descriptor() as fd:
                try:
                    view = view[os.write(fd, view) :]
                except BlockingIOError:
                    poll = select.poll()
                    poll.register(fd, select.POLLOUT)
                    poll.poll()
                    continue
                except OSError:
                    if self._gathers:
                        self._unwritten[:0] = view
                    raise
            if not (view and whole):
                return len(data) - len(view)

    def _seek(self, offset: int, whence: int) -> int:
        with self._descriptor() as fd:
            return os.lseek(fd, offset, whence)
