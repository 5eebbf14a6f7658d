"""fs/pipe.c: pipes and FIFOs.

Facts: a pipe is sixteen slots of one page. A write fills new slots and appends to the newest one
only the odd bytes, if they all fit there. So capacity is counted in slots, not in bytes. Up to
PIPE_BUF bytes go in at once or not at all. In 2018 one queue, `pipe->wait`, serves both ends,
which makes `get_poll_head` possible. Today's kernels have two queues, and refuse AIO poll on a
FIFO opened O_RDWR for that.

Rule: data wakes with IN|RDNORM, space with OUT|WRNORM, the end of a side with everything.
Left out: packet mode (O_DIRECT), F_SETPIPE_SZ, O_ASYNC.
"""

from __future__ import annotations

import errno
import os
import signal

from .file import File, FileOperations
from .sched import Scheduler
from .signal import Signals
from .syscall import SyscallTable, syscall
from .uapi import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDNORM,
    EPOLLWRNORM,
    PAGE_SIZE,
    error,
)
from .wait import WaitQueueHead, wait_event_interruptible

PIPE_DEF_BUFFERS = 16
EVERYTHING = EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM | EPOLLERR | EPOLLHUP


class PipeBuffer:
    """struct pipe_buffer: one page; `data[offset:]` is unread. No write fills a spliced one."""

    __slots__ = ("data", "offset", "spliced")

    def __init__(self, data: bytes, *, spliced: bool = False) -> None:
        self.data: bytearray = bytearray(data)
        self.offset: int = 0
        self.spliced: bool = spliced


class Pipe:
    """struct pipe_inode_info."""

    def __init__(self, sched: Scheduler, signals: Signals) -> None:
        self.sched = sched
        self.signals = signals
        self.wait: WaitQueueHead = WaitQueueHead(sched, "pipe->wait")
        self.bufs: list[PipeBuffer] = []
        self.readers: int = 0
        self.writers: int = 0
        # How often each side was opened: fifo_open() waits for a change.
        self.r_counter: int = 0
        self.w_counter: int = 0

    def open_end(self, flags: int, w_counter: int = -1) -> File:
        file = File(self.sched, pipefifo_fops, flags, PipeEnd(self, w_counter))
        if file.readable:
            self.readers += 1
            self.r_counter += 1
        if file.writable:
            self.writers += 1
            self.w_counter += 1
        return file

    @property
    def full(self) -> bool:
        return len(self.bufs) >= PIPE_DEF_BUFFERS

    def take(self, count: int) -> tuple[bytes, bool]:
        """Take up to `count` bytes; returns them, and whether a slot became free."""
        parts: list[bytes] = []
        freed = False
        while count > 0 and self.bufs:
            buf = self.bufs[0]
            part = bytes(buf.data[buf.offset : buf.offset + count])
            buf.offset += len(part)
            count -= len(part)
            parts.append(part)
            if buf.offset == len(buf.data):
                self.bufs.pop(0)
                freed = True
        return b"".join(parts), freed

    def peek(self, count: int) -> bytes:
        """Return up to `count` bytes, which stay."""
        return b"".join(bytes(buf.data[buf.offset :]) for buf in self.bufs)[:count]

    def merge(self, data: bytes) -> int:
        """Append the odd bytes of `data` to the newest page if they all fit there."""
        odd = len(data) % PAGE_SIZE
        if not odd or not self.bufs or self.bufs[-1].spliced:
            return 0
        if len(self.bufs[-1].data) + odd > PAGE_SIZE:
            return 0
        self.bufs[-1].data += data[:odd]
        return odd

    def put(self, data: bytes) -> int:
        """Fill free slots; returns how many bytes went in."""
        done = 0
        while done < len(data) and not self.full:
            self.bufs.append(PipeBuffer(data[done : done + PAGE_SIZE]))
            done += len(self.bufs[-1].data)
        return done


class PipeEnd:
    """The private data of a pipe's file; `w_counter` is that of a FIFO reader's open."""

    __slots__ = ("pipe", "w_counter")

    def __init__(self, pipe: Pipe, w_counter: int) -> None:
        self.pipe: Pipe = pipe
        self.w_counter: int = w_counter


def pipe_of(file: File) -> Pipe:
    end: PipeEnd = file.private_data
    return end.pipe


def pipe_read(file: File, count: int, pos: int | None, nowait: bool) -> bytes:
    pipe = pipe_of(file)
    if count == 0:
        return b""
    while not pipe.bufs:
        if not pipe.writers:
            return b""
        if nowait:
            raise error(errno.EAGAIN)
        wait_event_interruptible(pipe.wait, lambda: bool(pipe.bufs) or not pipe.writers)
    data, freed = pipe.take(count)
    if freed:
        pipe.wait.wake_up(EPOLLOUT | EPOLLWRNORM)
    return data


def check_readers(file: File) -> None:
    """Raise EPIPE, with SIGPIPE, if no reader of `file`'s pipe is left."""
    pipe = pipe_of(file)
    if not pipe.readers:
        pipe.signals.send(signal.SIGPIPE, file.sched.current)
        raise error(errno.EPIPE)


def pipe_write(file: File, data: bytes, pos: int | None, nowait: bool) -> int:
    pipe = pipe_of(file)
    if not data:
        return 0
    check_readers(file)
    done = pipe.merge(data)
    try:
        while True:
            done += pipe.put(data[done:])
            if done:
                pipe.wait.wake_up(EPOLLIN | EPOLLRDNORM)
            if done == len(data):
                return done
            if nowait:
                raise error(errno.EAGAIN)
            wait_event_interruptible(pipe.wait, lambda: not pipe.full or not pipe.readers)
            check_readers(file)
    except OSError:
        if done:
            return done
        raise


def pipe_get_poll_head(file: File, events: int) -> WaitQueueHead:
    return pipe_of(file).wait


def pipe_poll_mask(file: File, events: int) -> int:
    end: PipeEnd = file.private_data
    pipe = end.pipe
    mask = 0
    if file.readable:
        if pipe.bufs:
            mask |= EPOLLIN | EPOLLRDNORM
        # A FIFO reader that came before any writer has not lost one yet.
        if not pipe.writers and end.w_counter != pipe.w_counter:
            mask |= EPOLLHUP
    if file.writable:
        if not pipe.full:
            mask |= EPOLLOUT | EPOLLWRNORM
        if not pipe.readers:
            mask |= EPOLLERR
    return mask


def pipe_release(file: File) -> None:
    pipe = pipe_of(file)
    pipe.readers -= file.readable
    pipe.writers -= file.writable
    if pipe.readers or pipe.writers:
        pipe.wait.wake_up(EVERYTHING, 0)
    else:
        pipe.bufs.clear()


pipefifo_fops: FileOperations = FileOperations(
    read=pipe_read,
    write=pipe_write,
    get_poll_head=pipe_get_poll_head,
    poll_mask=pipe_poll_mask,
    release=pipe_release,
    inq=lambda file: len(pipe_of(file).peek(PIPE_DEF_BUFFERS * PAGE_SIZE)),
    nowait=True,
)


def fifo_open(pipe: Pipe, flags: int) -> File:
    """Open one end of a FIFO: sleeps until the other end is there, unless O_NONBLOCK.

    ENXIO for O_WRONLY|O_NONBLOCK without a reader; EINTR. See fifo(7).
    """
    mode = flags & os.O_ACCMODE
    nonblock = bool(flags & os.O_NONBLOCK)
    if mode == os.O_WRONLY and nonblock and not pipe.readers:
        raise error(errno.ENXIO)
    lonely = nonblock and mode == os.O_RDONLY and not pipe.writers
    file = pipe.open_end(flags, pipe.w_counter if lonely else -1)
    pipe.wait.wake_up(0, 0)
    try:
        if not nonblock and mode == os.O_RDONLY and not pipe.writers:
            before = pipe.w_counter
            wait_event_interruptible(pipe.wait, lambda: pipe.w_counter != before)
        elif not nonblock and mode == os.O_WRONLY and not pipe.readers:
            before = pipe.r_counter
            wait_event_interruptible(pipe.wait, lambda: pipe.r_counter != before)
    except OSError:
        file.put()
        raise
    return file


class PipeSyscalls(SyscallTable):
    """pipe2."""

    @syscall
    def pipe2(self, flags: int = 0) -> tuple[int, int]:
        """Create a pipe; returns its read and its write end. EINVAL for unknown flags."""
        if flags & ~(os.O_NONBLOCK | os.O_CLOEXEC):
            raise error(errno.EINVAL)
        pipe = Pipe(self.sched, self.signals)
        reader = self.files.install(pipe.open_end(os.O_RDONLY | flags & os.O_NONBLOCK))
        writer = self.files.install(pipe.open_end(os.O_WRONLY | flags & os.O_NONBLOCK))
        return reader, writer
