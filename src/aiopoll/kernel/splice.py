"""fs/splice.c: splice between a file and a pipe.

Facts: a spliced page takes a slot of the pipe of its own and is never merged. The pipe wakes with
no key at all. So a work item checked an AIO poll, which could miss its event in Linux before 5.17
(363bee27).
Rule: bytes are copied; Linux moves pages to save the copy, which has no meaning here.
Left out: from pipe to pipe, tee, vmsplice.
"""

from __future__ import annotations

import errno

from .file import File, vfs_read, vfs_write
from .pipe import Pipe, PipeBuffer, check_readers, pipe_of, pipefifo_fops
from .syscall import SyscallTable, syscall
from .uapi import PAGE_SIZE, error
from .wait import wait_event_interruptible

SPLICE_F_MOVE = 1
SPLICE_F_NONBLOCK = 2
SPLICE_F_MORE = 4


def wait_for_space(pipe: Pipe, file: File, nowait: bool) -> None:
    check_readers(file)
    while pipe.full:
        if nowait:
            raise error(errno.EAGAIN)
        wait_event_interruptible(pipe.wait, lambda: not pipe.full or not pipe.readers)
        check_readers(file)


class SpliceSyscalls(SyscallTable):
    """splice."""

    @syscall
    def splice(
        self,
        src: int,
        dst: int,
        count: int,
        offset_src: int | None = None,
        offset_dst: int | None = None,
        flags: int = 0,
    ) -> int:
        """Move up to `count` bytes, one end being a pipe; returns how many. See splice(2).

        EBADF, ESPIPE (an offset of a pipe), EAGAIN, EINVAL (no pipe, two pipes, bad flags, an
        offset of a file that has none).
        """
        if flags & ~(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE):
            raise error(errno.EINVAL)
        reader, writer = self.fget(src), self.fget(dst)
        if not reader.readable or not writer.writable:
            raise error(errno.EBADF)
        from_pipe, to_pipe = (file.f_op is pipefifo_fops for file in (reader, writer))
        if from_pipe == to_pipe:
            raise error(errno.EINVAL)
        if (offset_src if from_pipe else offset_dst) is not None:
            raise error(errno.ESPIPE)
        offset, other = (offset_dst, writer) if from_pipe else (offset_src, reader)
        if offset is not None and not other.f_op.seekable:
            raise error(errno.EINVAL)
        nowait = bool(flags & SPLICE_F_NONBLOCK) or (reader if from_pipe else writer).nonblocking
        if to_pipe:
            return splice_to_pipe(reader, writer, count, offset_src, nowait)
        return splice_from_pipe(reader, writer, count, offset_dst, nowait)


def splice_to_pipe(reader: File, writer: File, count: int, pos: int | None, nowait: bool) -> int:
    pipe = pipe_of(writer)
    wait_for_space(pipe, writer, nowait)
    done = 0
    while done < count and not pipe.full:
        data = vfs_read(reader, min(count - done, PAGE_SIZE), pos, nowait=nowait or done > 0)
        if not data:
            break
        # Full at once, so that no write merges into it.
        pipe.bufs.append(PipeBuffer(data, spliced=True))
        done += len(data)
        pos = None if pos is None else pos + len(data)
        if not reader.f_op.seekable:
            break
    if done:
        pipe.wait.wake_up(0)
    return done


def splice_from_pipe(reader: File, writer: File, count: int, pos: int | None, nowait: bool) -> int:
    pipe = pipe_of(reader)
    while not pipe.bufs:
        if not pipe.writers:
            return 0
        if nowait:
            raise error(errno.EAGAIN)
        wait_event_interruptible(pipe.wait, lambda: bool(pipe.bufs) or not pipe.writers)
    data = pipe.peek(count)
    done = vfs_write(writer, data, pos, nowait=nowait)
    if pipe.take(done)[1]:
        pipe.wait.wake_up(0)
    return done
