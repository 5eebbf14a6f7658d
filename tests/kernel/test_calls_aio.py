"""AIO, call by call, here and on the Linux underneath: the refusals, and their order."""

import os
import socket

from aiopoll.kernel.aio_abi import Iocb
from aiopoll.kernel.uapi import BADPTR, EPOLLIN, EPOLLOUT

from .calls import needs_x86_64

pytestmark = needs_x86_64
NB = os.O_NONBLOCK
CREATE = os.O_RDWR | os.O_CREAT
NOWAIT, UNKNOWN = 0x8, 0x1000


def events(k, ctx, min_nr=0, nr=32, timeout_ns=None):
    return [(event.data, event.res) for event in k.io_getevents(ctx, min_nr, nr, timeout_ns)]


def test_io_setup_and_io_destroy(both):
    @both
    def scenario(k, run):
        for nr in (0, -1, 1 << 31, (1 << 31) + 1, 4_194_304, 8_388_607, 0x7FFFFFFF, 100_000_000):
            run(k.io_setup, nr)
        run(k.io_setup, 1, None)
        run(k.io_setup, 0, None)
        run(k.io_setup, 1, 5)
        run(k.io_setup, 0, 5)
        run(k.io_destroy, 0)
        ctx = k.io_setup(4)
        run(k.io_destroy, ctx)
        run(k.io_destroy, ctx)
        run(k.io_submit, ctx, 0, [])
        run(events, k, ctx)


def test_requests_that_io_submit_refuses(both):
    @both
    def scenario(k, run):
        ctx = k.io_setup(8)
        reader, writer = k.pipe2(NB)
        counter = k.eventfd2(0, NB)
        file, writes_only = k.open("/file", CREATE), k.open("/file", os.O_WRONLY)
        reads_only = k.open("/file", os.O_RDONLY)
        run(k.io_submit, ctx, -1, [])
        run(k.io_submit, ctx, 0, None)
        run(k.io_submit, ctx, 1, None)
        run(k.io_submit, 1, -1, [])
        run(k.io_submit, 1, 1, [None])
        poll = {"aio_lio_opcode": 5, "aio_fildes": reader, "aio_buf": EPOLLIN}
        for iocb in (
            None,
            BADPTR,
            *[Iocb(opcode, reader) for opcode in (4, 6, 9, 0xFFFF)],
            Iocb(**poll, aio_reserved2=1),
            Iocb(**poll, aio_nbytes=1 << 63),
            Iocb(**{**poll, "aio_buf": 0x10001}),
            Iocb(**poll, aio_offset=1),
            Iocb(**poll, aio_nbytes=1),
            Iocb(**poll, aio_rw_flags=1),
            Iocb(**poll, aio_flags=1, aio_resfd=999),
            Iocb(**poll, aio_flags=1, aio_resfd=reader),
            # These are taken: the key, the priority and unknown flags of a poll do not matter.
            Iocb(**poll, aio_flags=1, aio_resfd=counter),
            Iocb(**poll, aio_flags=0xFF2, aio_reqprio=7, aio_key=77),
            Iocb.poll(999, EPOLLIN),
            Iocb.poll(-1, EPOLLIN),
            *[Iocb(2, file, **{f"aio_{name}": 1}) for name in ("buf", "offset", "nbytes")],
            Iocb(3, file, aio_rw_flags=1),
            Iocb.fsync(reader),
            Iocb.fsync(counter),
            Iocb.pread(writes_only, bytearray(4)),
            Iocb.pread(writes_only, bytearray(4), -1),
            Iocb.pread(writes_only, bytearray(4), flags=UNKNOWN),
            Iocb(0, writes_only, aio_nbytes=4, memory=BADPTR),
            Iocb.pwrite(reads_only, b"x"),
            Iocb.pread(file, bytearray(4), -1),
            Iocb(0, file, aio_nbytes=4, aio_offset=-1, memory=BADPTR),
            Iocb.pread(file, bytearray(4), flags=UNKNOWN),
            Iocb(7, file, aio_nbytes=1025, memory=[bytearray(1)] * 1025),
            Iocb.pread(reader, bytearray(4), -1),
            Iocb.pread(writer, bytearray(4)),
            Iocb.pwrite(counter, bytes(8)),
            Iocb.pwrite(k.timerfd_create(), bytes(8)),
            Iocb.pread(k.epoll_create1(), bytearray(8)),
        ):
            run(k.io_submit, ctx, 1, [iocb])
        run(events, k, ctx)
        # The first bad one ends it, and its error is lost.
        mixed = [Iocb.poll(writer, EPOLLOUT, 1), Iocb.poll(999, 1), Iocb.poll(writer, EPOLLOUT, 2)]
        run(k.io_submit, ctx, 3, mixed)
        run(lambda: [data for data, _ in events(k, ctx)])


def test_reads_and_writes(both):
    @both
    def scenario(k, run):
        ctx = k.io_setup(8)
        reader, writer = k.pipe2(NB)
        counter, timer = k.eventfd2(7, NB), k.timerfd_create(flags=NB)
        one, two = k.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | NB)
        file = k.open("/file", CREATE)
        null, zero = (k.open(f"/dev/{name}", os.O_RDWR) for name in ("null", "zero"))
        for iocb in (
            Iocb.pwrite(file, b"hello", 3),
            Iocb.pread(file, bytearray(20), 1),
            Iocb.pread(file, bytearray(0)),
            Iocb.pwrite(file, b""),
            Iocb.pwrite(file, b"zz", flags=0x10),
            Iocb.pread(file, bytearray(30), flags=NOWAIT),
            Iocb.preadv(file, [bytearray(2), bytearray(3)]),
            Iocb.pwritev(file, [b"a", b"bc"]),
            Iocb(7, file, memory=[]),
            Iocb.pread(reader, bytearray(4)),
            # A pipe does not look at the offset, a socket refuses it.
            Iocb.pwrite(writer, b"abcd", 99),
            Iocb.pread(reader, bytearray(4), 77),
            Iocb.pwrite(one, b"abc", 5),
            Iocb.pread(two, bytearray(3), 5),
            Iocb.pwrite(one, b"abc"),
            Iocb.pread(two, bytearray(3), flags=NOWAIT),
            Iocb.pread(counter, bytearray(8), 5),
            Iocb.pread(counter, bytearray(4)),
            Iocb.pread(timer, bytearray(8)),
            *[Iocb.pread(fd, bytearray(8), 5, flags=NOWAIT) for fd in (null, zero)],
            Iocb.pwrite(null, bytes(8), 5, flags=0x10),
        ):
            run(k.io_submit, ctx, 1, [iocb])
            run(events, k, ctx)
        for opcode in (0, 1):
            run(k.io_submit, ctx, 1, [Iocb(opcode, file, aio_nbytes=4, memory=BADPTR)])
            run(events, k, ctx)


def test_io_getevents(both):
    @both
    def scenario(k, run):
        ctx = k.io_setup(8)
        _, writer = k.pipe2(NB)
        for arguments in ((0, 0, 1), (ctx, -1, 1), (ctx, 2, 1), (ctx, 0, -1), (ctx, 1, 0)):
            run(events, k, *arguments)
        for arguments in ((0, 0, 0), (0, 0, 1), (0, 1, 1_000_000), (1, 1, 0), (1, 1, 1_000_000)):
            run(events, k, ctx, *arguments)
        run(events, k, ctx, 0, 1, BADPTR)
        run(events, k, 0, 0, 1, BADPTR)
        k.io_submit(ctx, 3, [Iocb.poll(writer, EPOLLOUT, data) for data in (1, 2, 3)])
        run(k.io_getevents, ctx, 1, 1, 0, BADPTR)
        run(lambda: len(events(k, ctx, 1, 1)))
        run(events, k, ctx, 0, 0)
        run(lambda: len(events(k, ctx, 3, 5, 1_000_000)))
        run(events, k, ctx, 0, 5, -1)


def test_slots_come_back_with_their_events(both):
    @both
    def scenario(k, run):
        ctx = k.io_setup(1)
        _, writer = k.pipe2(NB)

        def turn():
            k.io_submit(ctx, 3, [Iocb.poll(writer, EPOLLOUT, data) for data in (1, 2, 3)])
            return len(events(k, ctx, 3))

        run(lambda: [turn() for _ in range(1000)] == [3] * 1000)


def test_io_cancel(both):
    @both
    def scenario(k, run):
        ctx, other = k.io_setup(8), k.io_setup(8)
        reader, _ = k.pipe2(NB)
        iocb = Iocb.poll(reader, EPOLLIN, 5)
        run(k.io_cancel, ctx, iocb)
        run(k.io_cancel, ctx, None)
        run(k.io_cancel, 0, iocb)
        k.io_submit(ctx, 1, [iocb])
        for where in (other, ctx, ctx):
            run(k.io_cancel, where, iocb)
        run(events, k, ctx, 1)
        # The same iocb twice: two requests, of which a call cancels one.
        k.io_submit(ctx, 2, [iocb, iocb])
        run(k.io_cancel, ctx, iocb)
        run(events, k, ctx, 1)
        k.close(reader)
        run(k.io_cancel, ctx, iocb)
        run(events, k, ctx, 1)
        done = Iocb.poll(k.pipe2(NB)[1], EPOLLOUT)
        k.io_submit(ctx, 1, [done])
        run(k.io_cancel, ctx, done)


def test_resfd_comes_before_fields_and_opcode(both):
    @both
    def scenario(k, run):
        ctx = k.io_setup(8)
        reader, _ = k.pipe2(NB)
        counter, file = k.eventfd2(0, NB), k.open("/file", CREATE)
        closed = 9999
        for resfd in (closed, reader, counter):
            for fields in (
                {"aio_lio_opcode": 4},
                {"aio_lio_opcode": 5, "aio_offset": 1},
                {"aio_lio_opcode": 5, "aio_buf": 0x10001},
                {"aio_lio_opcode": 2, "aio_buf": 1},
                {"aio_lio_opcode": 3, "aio_rw_flags": 1},
                {"aio_lio_opcode": 2},
                {"aio_lio_opcode": 0, "aio_nbytes": 1, "memory": BADPTR},
                {"aio_lio_opcode": 0, "aio_nbytes": 1, "aio_rw_flags": UNKNOWN},
                {"aio_lio_opcode": 5, "aio_reserved2": 1},
                {"aio_lio_opcode": 5, "aio_nbytes": 1 << 63},
            ):
                for fd in (reader, file, closed if resfd == closed else reader):
                    iocb = Iocb(**fields, aio_fildes=fd, aio_flags=1, aio_resfd=resfd, aio_key=77)
                    run(k.io_submit, ctx, 1, [iocb])
                    # Written once the descriptors are known to be good.
                    run(lambda iocb=iocb: iocb.aio_key)
        # The fsync that nothing is wrong with.
        run(events, k, ctx, 1)


def test_eventfd_that_is_its_own_resfd(both):
    @both
    def scenario(k, run):
        ctx = k.io_setup(8)
        for watched in ("itself", "epoll"):
            counter = k.eventfd2(0, NB)
            fd = counter
            if watched == "epoll":
                fd = k.epoll_create1()
                k.epoll_ctl(fd, 1, counter, EPOLLIN)
            for _ in range(2):
                iocb = Iocb.poll(fd, EPOLLIN, 5)
                iocb.aio_flags, iocb.aio_resfd = 1, counter
                run(k.io_submit, ctx, 1, [iocb])
                run(events, k, ctx)
                run(k.write, counter, (3).to_bytes(8, "little"))
                run(lambda: [(data, res & EPOLLIN) for data, res in events(k, ctx, 1)])
                run.look(counter)
                run(k.read, counter, 8)
                run(events, k, ctx)
        # Each is the other's: the second request completes by the first one's event.
        one, two = k.eventfd2(0, NB), k.eventfd2(0, NB)
        for fd, resfd in ((one, two), (two, one)):
            iocb = Iocb.poll(fd, EPOLLIN, fd == one)
            iocb.aio_flags, iocb.aio_resfd = 1, resfd
            run(k.io_submit, ctx, 1, [iocb])
        k.write(one, (1).to_bytes(8, "little"))
        run(lambda: sorted((data, res & EPOLLIN) for data, res in events(k, ctx, 2)))
        run.look(one, two)
        k.advance(10_000_000)
        for fd in (one, two):
            run(k.read, fd, 8)
