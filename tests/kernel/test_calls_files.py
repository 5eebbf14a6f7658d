"""Files, pipes, counters, timers and epoll sets, call by call, here and on the Linux underneath."""

import os
import signal

from aiopoll.kernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
    EPOLLWAKEUP,
)

from .calls import needs_x86_64

NB = os.O_NONBLOCK
CREATE = os.O_RDWR | os.O_CREAT


def number(value):
    return value.to_bytes(8, "little")


def test_regular_files(both):
    @both
    def scenario(k, run):
        fd = k.open("/file", CREATE)
        run(k.write, fd, b"hello")
        for offset, whence in ((1, 0), (-2, 2), (2, 1), (-1, 0), (0, 9), (2, 3), (2, 4), (99, 3)):
            run(k.lseek, fd, offset, whence)
            run(k.read, fd, 2)
        run(k.pwrite, fd, b"Z", 10)
        run(k.pread, fd, 99, 0)
        run(k.pread, fd, 1, -1)
        for size in (3, -1, 6):
            run(k.ftruncate, fd, size)
            run(k.pread, fd, 9, 0)
        run(k.ftruncate, 999, 0)
        run(k.ftruncate, 999, -1)
        append = k.open("/file", os.O_WRONLY | os.O_APPEND)
        run(k.write, append, b"app")
        run(k.pwrite, append, b"Q", 0)
        run(k.read, append, 1)
        run(k.write, k.open("/file", os.O_RDONLY), b"x")
        run(k.lseek, fd, 2)
        run(k.lseek, k.dup(fd), 0, 1)
        run(k.open, "/file", CREATE | os.O_EXCL)
        run(k.open, "/none", os.O_RDONLY)
        run(k.unlink, "/file")
        run(k.unlink, "/file")
        run(k.pread, fd, 20, 0)
        run(k.close, 999)
        run(k.dup, 999)


def test_positions_of_files_without_positions(both):
    @both
    def scenario(k, run):
        reader, _ = k.pipe2(NB)
        null, zero = (k.open(f"/dev/{name}", os.O_RDWR) for name in ("null", "zero"))
        counter, timer, epoll = k.eventfd2(0, NB), k.timerfd_create(flags=NB), k.epoll_create1()
        for fd in (reader, null, zero, counter, timer, epoll):
            run(k.lseek, fd, 3)
            run(k.lseek, fd, 3, 9)
            run(k.pread, fd, 8, 0)
            run(k.pwrite, fd, bytes(8), 0)
            run(k.ftruncate, fd, 0)
            run(k.fsync, fd)
        for fd in (null, zero):
            run(k.read, fd, 5)
            run(k.write, fd, b"abc")


def test_pipes(both):
    @both
    def scenario(k, run):
        reader, writer = k.pipe2(NB)
        run(k.read, writer, 1)
        run(k.write, reader, b"x")
        run(k.read, reader, 1)
        run(k.write, writer, b"")
        for step in range(60):
            run(k.write, writer, bytes((1, 4095, 4096, 2000, 97, 5000, 3000)[step % 7]))
            if step % 9 == 8:
                run(k.read, reader, 4500)
            run.look(reader, writer)
        k.close(reader)
        run(k.write, writer, b"x")
        run(k.write, writer, b"")
        run.look(writer)
        run(k.pipe2, 1)


def test_fifos(both):
    @both
    def scenario(k, run):
        k.mkfifo("/fifo")
        run(k.open, "/fifo", os.O_WRONLY | NB)
        first = k.open("/fifo", os.O_RDONLY | NB)
        writer = k.open("/fifo", os.O_WRONLY | NB)
        k.write(writer, b"x")
        k.close(writer)
        run.look(first)
        k.read(first, 1)
        second = k.open("/fifo", os.O_RDONLY | NB)
        run.look(first, second)
        both_ways = k.open("/fifo", os.O_RDWR | NB)
        run.look(first, second, both_ways)
        run(k.mkfifo, "/fifo")
        run(k.open, "/fifo", CREATE | os.O_EXCL)


def test_eventfds(both):
    @both
    def scenario(k, run):
        fd = k.eventfd2(0, NB)
        run(k.read, fd, 7)
        run(k.read, fd, 8)
        for data in (b"1234567", b"\xff" * 8, number(2**64 - 2), number(1), number(0)):
            run(k.write, fd, data)
            run.look(fd)
        run(k.read, fd, 100)
        run(k.write, fd, number(5) + bytes(8))
        run(k.read, fd, 8)
        semaphore = k.eventfd2(3, NB | 1)
        for _ in range(4):
            run(k.read, semaphore, 8)
        run(k.eventfd2, 0, 2)
        run(k.read, k.eventfd2(-1, NB), 8)


def test_timerfds(both):
    @both
    def scenario(k, run):
        fd = k.timerfd_create(flags=NB)
        k.advance(10)
        run(k.write, fd, bytes(8))
        run(k.read, fd, 8)
        for flags in (0, 2, 4, 8):
            run(lambda flags=flags: k.timerfd_settime(fd, 10**18, 0, flags)[1])
        # In the past: it expires at once, and once.
        k.timerfd_settime(fd, 1, 0, 1)
        run.look(fd)
        run(k.timerfd_settime, fd, 0, 5)
        run(k.read, fd, 8)
        k.timerfd_settime(fd, 1, 0, 1)
        run.look(fd)
        run(k.read, fd, 7)
        run(k.read, fd, 8)
        run(k.read, fd, 8)
        k.timerfd_settime(fd, 1, 0, 3)
        run.look(fd)
        # Setting it again forgets the expiry.
        run(lambda: k.timerfd_settime(fd, 10**18)[1])
        run(k.read, fd, 8)
        run(k.timerfd_create, 99)
        run(k.timerfd_create, 1, 4)
        run(k.timerfd_settime, k.eventfd2(), 1)


@needs_x86_64
def test_signalfds(both):
    @both
    def scenario(k, run):
        fd = k.signalfd4(-1, [signal.SIGUSR1], NB)
        run.look(fd)
        run(k.read, fd, 128)
        run(k.read, fd, 127)
        run(k.write, fd, bytes(128))
        run(k.lseek, fd, 3)
        run(k.signalfd4, -1, [signal.SIGUSR1], 1)
        run(k.signalfd4, 999, [signal.SIGUSR1])
        run(k.signalfd4, k.eventfd2(), [signal.SIGUSR1])


def test_splice(both):
    @both
    def scenario(k, run):
        fd = k.open("/file", CREATE)
        k.write(fd, b"0123456789")
        reader, writer = k.pipe2(NB)
        run(k.splice, fd, writer, 4, 0)
        run(k.splice, reader, fd, 3, None, 20)
        run(k.pread, fd, 30, 0)
        run(k.splice, fd, writer, 0, 0)
        run(k.splice, fd, fd, 1, 0, 5)
        run(k.splice, fd, writer, 1, 0, 0)
        run(k.splice, fd, writer, 1, 0, None, 0x100)
        run(k.splice, 999, writer, 1)
        run(k.splice, writer, fd, 1)
        k.read(reader, 9)
        # O_NONBLOCK of the pipe is enough, here and where it is full.
        run(k.splice, reader, fd, 1)
        k.write(writer, bytes(65_536))
        run(k.splice, fd, writer, 1, 0)
        k.read(reader, 65_536)
        k.close(writer)
        run(k.splice, reader, fd, 1)
        other, broken = k.pipe2(NB)
        k.close(other)
        run(k.splice, fd, broken, 1, 0)


def test_errors_of_epoll(both):
    @both
    def scenario(k, run):
        epoll, inner = k.epoll_create1(), k.epoll_create1()
        reader, writer = k.pipe2(NB)
        file = k.open("/file", CREATE)
        for arguments in (
            (999, EPOLL_CTL_ADD, reader, 1),
            (epoll, EPOLL_CTL_ADD, 999, 1),
            (epoll, EPOLL_CTL_ADD, file, 1),
            (reader, EPOLL_CTL_ADD, writer, 1),
            (epoll, EPOLL_CTL_ADD, epoll, 1),
            (reader, EPOLL_CTL_ADD, file, 1),
            (epoll, 9, reader, 1),
            (epoll, EPOLL_CTL_DEL, reader),
            (epoll, EPOLL_CTL_MOD, reader, 1),
            (epoll, EPOLL_CTL_MOD, reader, EPOLLIN | EPOLLEXCLUSIVE),
            (epoll, EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLEXCLUSIVE | EPOLLET),
            (epoll, EPOLL_CTL_MOD, reader, 1),
            (epoll, EPOLL_CTL_ADD, reader, 1),
            (epoll, EPOLL_CTL_DEL, reader),
            (epoll, EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT),
            (epoll, EPOLL_CTL_ADD, reader, EPOLLPRI | EPOLLEXCLUSIVE),
            (epoll, EPOLL_CTL_ADD, reader, EPOLLRDHUP | EPOLLEXCLUSIVE),
            (epoll, EPOLL_CTL_ADD, inner, EPOLLIN | EPOLLEXCLUSIVE),
            (epoll, EPOLL_CTL_ADD, reader, EPOLLERR | EPOLLEXCLUSIVE | EPOLLWAKEUP),
        ):
            run(k.epoll_ctl, *arguments)
        for fd in (epoll, 999, reader):
            for maxevents in (0, -1):
                run(k.epoll_wait, fd, maxevents, 0)
        run(k.epoll_wait, reader, 1, 0)
        run(k.epoll_create1, 4)
        run(k.read, epoll, 8)
        run(k.write, epoll, bytes(8))


def test_nested_epoll_sets(both):
    @both
    def scenario(k, run):
        for order in (range(7), range(6, -1, -1)):
            sets = [k.epoll_create1() for _ in range(8)]
            for index in order:
                run(k.epoll_ctl, sets[index], EPOLL_CTL_ADD, sets[index + 1], EPOLLIN, index)
            run(k.epoll_ctl, sets[2], EPOLL_CTL_ADD, sets[0], EPOLLIN)
        inner, outer = k.epoll_create1(), k.epoll_create1()
        reader, writer = k.pipe2(NB)
        k.epoll_ctl(inner, EPOLL_CTL_ADD, reader, EPOLLIN, 1)
        k.epoll_ctl(outer, EPOLL_CTL_ADD, inner, EPOLLIN | EPOLLET, 2)
        k.write(writer, b"x")
        for epoll in (outer, outer, inner, outer):
            run(k.epoll_wait, epoll, 4, 0)
        run.look(inner, outer)
        k.close(inner)
        run(k.epoll_wait, outer, 4, 0)


def test_events_of_epoll_and_their_order(both):
    @both
    def scenario(k, run):
        epoll = k.epoll_create1()
        pipes = [k.pipe2(NB) for _ in range(5)]
        for index, (reader, _) in enumerate(pipes):
            k.epoll_ctl(epoll, EPOLL_CTL_ADD, reader, EPOLLIN, index)
        for index in (3, 1, 4, 0, 2):
            k.write(pipes[index][1], b"x")
        for maxevents in (8, 2, 2, 8):
            run(k.epoll_wait, epoll, maxevents, 0)
        reader, writer = pipes[0]
        for flags in (EPOLLONESHOT, EPOLLET, EPOLLET | EPOLLOUT):
            k.epoll_ctl(epoll, EPOLL_CTL_MOD, reader, EPOLLIN | flags, 9)
            for _ in range(2):
                run(k.epoll_wait, epoll, 9, 0)
                k.write(writer, b"y")
        k.read(pipes[4][0], 1)
        run(k.epoll_wait, epoll, 9, 0)
        # An item belongs to a descriptor and its file, and goes with the file.
        copy = k.dup(pipes[1][0])
        k.close(pipes[1][0])
        run(k.epoll_wait, epoll, 9, 0)
        run(k.epoll_ctl, epoll, EPOLL_CTL_DEL, copy)
        k.close(copy)
        run(k.epoll_wait, epoll, 9, 0)
