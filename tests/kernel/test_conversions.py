"""Each converted file: its readiness, its wake-ups, and its refusals."""

import errno
import hmac
import os
import signal
import socket
import struct

import pytest

from aiopoll.kernel.aio_abi import RWF_NOWAIT, Iocb
from aiopoll.kernel.uapi import (
    BADPTR,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
    EPOLLRDNORM,
    NSEC_PER_SEC,
)

NB = os.O_NONBLOCK


@pytest.fixture
def ctx(kernel):
    return kernel.io_setup(16)


def refused(code):
    return pytest.raises(OSError, match=rf"\[Errno {code}\]")


def look(kernel, fd, events=0xFFFF):
    return kernel.poll([(fd, events)], 0)[0]


def tcp_pair(kernel, backlog=8):
    listener = kernel.socket(socket.AF_INET, socket.SOCK_STREAM | NB)
    kernel.bind(listener, ("127.0.0.1", 0))
    kernel.listen(listener, backlog)
    client = kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
    kernel.connect(client, kernel.getsockname(listener))
    server, _ = kernel.accept4(listener)
    for fd in (client, server):
        kernel.set_blocking(fd, False)
    return listener, client, server


def test_pipe_capacity_is_counted_in_pages(kernel):
    reader, writer = kernel.pipe2(NB)
    for _ in range(16):
        # 2,049 bytes do not fit beside 2,049 others: each takes a page of its own.
        assert kernel.write(writer, bytes(2049)) == 2049
    with refused(errno.EAGAIN):
        kernel.write(writer, bytes(2049))
    assert look(kernel, writer) == 0
    assert len(kernel.read(reader, 100_000)) == 16 * 2049
    assert kernel.write(writer, bytes(100_000)) == 65_536


def test_pipe_writer_that_sleeps_is_woken_by_a_reader(kernel):
    reader, writer = kernel.pipe2()
    task = kernel.spawn(lambda: kernel.write(writer, bytes(200_000)))
    got = 0
    while got < 200_000:
        got += len(kernel.read(reader, 50_000))
    assert kernel.join(task) == 200_000


def test_poll_pins_a_closed_pipe(kernel, ctx):
    reader, writer = kernel.pipe2(NB)
    iocb = Iocb.poll(reader, EPOLLIN)
    kernel.io_submit(ctx, 1, [iocb])
    kernel.close(reader)
    assert kernel.write(writer, b"nobody reads this") == 17
    other, _ = kernel.pipe2()
    assert other == reader
    with refused(errno.EPIPE):
        kernel.write(writer, b"the event released it")
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [EPOLLIN]


def test_fifo_reader_that_came_first_has_no_hangup(kernel):
    kernel.mkfifo("/fifo")
    with refused(errno.ENXIO):
        kernel.open("/fifo", os.O_WRONLY | NB)
    reader = kernel.open("/fifo", os.O_RDONLY | NB)
    assert look(kernel, reader) == 0
    writer = kernel.open("/fifo", os.O_WRONLY)
    kernel.close(writer)
    assert look(kernel, reader) == EPOLLHUP


def test_fifo_ends_wait_for_each_other(kernel):
    kernel.mkfifo("/fifo")
    task = kernel.spawn(lambda: kernel.open("/fifo", os.O_RDONLY))
    writer = kernel.open("/fifo", os.O_WRONLY)
    reader = kernel.join(task)
    kernel.write(writer, b"x")
    assert kernel.read(reader, 1) == b"x"


def test_eventfd(kernel):
    fd = kernel.eventfd2(2, NB | 1)
    assert kernel.read(fd, 8) == (1).to_bytes(8, "little")
    kernel.write(fd, ((1 << 64) - 3).to_bytes(8, "little"))
    assert look(kernel, fd) == EPOLLIN
    with refused(errno.EAGAIN):
        kernel.write(fd, (1).to_bytes(8, "little"))
    with refused(errno.EINVAL):
        kernel.write(fd, b"\xff" * 8)
    kernel.fget(fd).private_data.signal(9)
    assert look(kernel, fd) == EPOLLIN | EPOLLERR


def test_timerfd_counts_ticks_on_the_virtual_clock(kernel, ctx):
    fd = kernel.timerfd_create(flags=NB)
    kernel.timerfd_settime(fd, NSEC_PER_SEC, NSEC_PER_SEC // 2)
    kernel.io_submit(ctx, 1, [Iocb.poll(fd, EPOLLIN)])
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [EPOLLIN]
    assert kernel.clock_gettime() == NSEC_PER_SEC
    kernel.advance(2 * NSEC_PER_SEC)
    assert kernel.read(fd, 8) == (5).to_bytes(8, "little")
    assert kernel.timerfd_settime(fd, 0) == (NSEC_PER_SEC // 2, NSEC_PER_SEC // 2)
    with refused(errno.EAGAIN):
        kernel.read(fd, 8)


def test_timerfd_catches_up_from_a_time_in_the_past(kernel):
    fd = kernel.timerfd_create(flags=NB)
    kernel.advance(10 * NSEC_PER_SEC)
    kernel.timerfd_settime(fd, NSEC_PER_SEC, 2 * NSEC_PER_SEC, 1)
    assert kernel.read(fd, 8) == (5).to_bytes(8, "little")
    assert kernel.timerfd_gettime(fd) == (NSEC_PER_SEC, 2 * NSEC_PER_SEC)


def test_signalfd_has_poll_only(kernel):
    kernel.sigprocmask([signal.SIGUSR1, signal.SIGUSR2])
    fd = kernel.signalfd4(-1, [signal.SIGUSR1, signal.SIGUSR2], NB)
    kernel.kill(0, signal.SIGUSR2)
    kernel.kill(0, signal.SIGUSR1)
    assert look(kernel, fd) == EPOLLIN
    numbers = [struct.unpack_from("<I", kernel.read(fd, 128))[0] for _ in range(2)]
    assert numbers == [signal.SIGUSR1, signal.SIGUSR2]
    assert look(kernel, fd) == 0


def test_random_has_a_threshold_each_way(kernel, ctx):
    fd = kernel.open("/dev/random", os.O_RDWR | NB)
    assert look(kernel, fd) == EPOLLIN | EPOLLRDNORM
    iocbs = [Iocb.poll(fd, EPOLLOUT), Iocb.poll(fd, EPOLLIN)]
    kernel.io_submit(ctx, 1, iocbs[:1])
    while look(kernel, fd, EPOLLIN):
        kernel.read(fd, 64)
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [EPOLLOUT]
    with refused(errno.EAGAIN):
        kernel.read(fd, 64)
    kernel.io_submit(ctx, 1, iocbs[1:])
    kernel.write(fd, b"mixed in, but no entropy")
    assert kernel.io_getevents(ctx, 0, 1) == []
    kernel.add_entropy(fd, 64)
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [EPOLLIN]


def test_unix_stream_states(kernel):
    fresh = kernel.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    assert look(kernel, fresh, EPOLLIN | EPOLLOUT) == EPOLLOUT | EPOLLHUP
    one, two = kernel.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | NB)
    kernel.write(one, b"unread")
    kernel.close(two)
    assert look(kernel, one) & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)
    with refused(errno.ECONNRESET):
        kernel.read(one, 1)
    assert kernel.read(one, 1) == b""


def test_unix_backlog_and_refusal(kernel):
    listener = kernel.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    kernel.bind(listener, "/socket")
    client = kernel.socket(socket.AF_UNIX, socket.SOCK_STREAM | NB)
    with refused(errno.ECONNREFUSED):
        kernel.connect(client, "/socket")
    kernel.listen(listener, 0)
    kernel.connect(client, "/socket")
    late = kernel.socket(socket.AF_UNIX, socket.SOCK_STREAM | NB)
    with refused(errno.EAGAIN):
        kernel.connect(late, "/socket")
    kernel.accept4(listener)
    kernel.connect(late, "/socket")
    with refused(errno.EADDRINUSE):
        kernel.bind(kernel.socket(socket.AF_UNIX, socket.SOCK_STREAM), "/socket")
    with refused(errno.ENOENT):
        kernel.connect(kernel.socket(socket.AF_UNIX, socket.SOCK_STREAM), "/other")


def test_unix_datagram_queue_makes_senders_wait(kernel, ctx):
    receiver = kernel.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    kernel.bind(receiver, "/log")
    sender = kernel.socket(socket.AF_UNIX, socket.SOCK_DGRAM | NB)
    kernel.connect(sender, "/log")
    # net.unix.max_dgram_qlen is ten, and the queue is full when it holds more.
    for _ in range(11):
        kernel.write(sender, b"line")
    with refused(errno.EAGAIN):
        kernel.write(sender, b"line")
    kernel.io_submit(ctx, 1, [Iocb.poll(sender, EPOLLOUT)])
    assert kernel.io_getevents(ctx, 0, 1) == []
    assert kernel.recvfrom(receiver, 100)[0] == b"line"
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [EPOLLOUT]


def test_tcp_send_buffer_fills_and_drains(kernel, ctx):
    _, client, server = tcp_pair(kernel)
    sent = 0
    with refused(errno.EAGAIN):
        while True:
            sent += kernel.write(client, bytes(10_000))
    assert look(kernel, client, EPOLLOUT) == 0
    kernel.io_submit(ctx, 1, [Iocb.poll(client, EPOLLOUT)])
    received = 0
    while look(kernel, server, EPOLLIN):
        received += len(kernel.read(server, 65_536))
    assert received == sent
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [EPOLLOUT]


def test_tcp_half_close_then_end(kernel):
    _, client, server = tcp_pair(kernel)
    kernel.shutdown(client, socket.SHUT_WR)
    assert look(kernel, server) & (EPOLLIN | EPOLLRDHUP | EPOLLHUP) == EPOLLIN | EPOLLRDHUP
    assert kernel.read(server, 1) == b""
    kernel.write(server, b"answer")
    kernel.close(server)
    assert kernel.read(client, 10) == b"answer"
    assert look(kernel, client) & EPOLLHUP


def test_tcp_reset(kernel, ctx):
    _, client, server = tcp_pair(kernel)
    kernel.io_submit(ctx, 1, [Iocb.poll(client, EPOLLIN)])
    kernel.write(client, b"unread")
    kernel.close(server)
    (event,) = kernel.io_getevents(ctx, 1, 1)
    assert event.res == EPOLLIN | EPOLLERR | EPOLLHUP
    with refused(errno.ECONNRESET):
        kernel.read(client, 1)
    with refused(errno.EPIPE):
        kernel.write(client, b"x")


def test_tcp_urgent_byte(kernel, ctx):
    _, client, server = tcp_pair(kernel)
    kernel.io_submit(ctx, 1, [Iocb.poll(server, EPOLLPRI)])
    kernel.write(client, b"plain")
    assert kernel.io_getevents(ctx, 0, 1) == []
    kernel.sendto(client, b"ab!", socket.MSG_OOB)
    kernel.write(client, b"after")
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [EPOLLPRI]
    assert kernel.read(server, 100) == b"plainab"
    assert kernel.recvfrom(server, 1, socket.MSG_OOB)[0] == b"!"
    assert kernel.read(server, 100) == b"after"
    with refused(errno.EINVAL):
        kernel.recvfrom(server, 1, socket.MSG_OOB)


def test_an_urgent_byte_is_lost_when_reading_passes_it(kernel):
    _, client, server = tcp_pair(kernel)
    kernel.set_blocking(server, False)
    kernel.sendto(client, b"a!", socket.MSG_OOB)
    assert kernel.poll([(server, EPOLLIN | EPOLLPRI)], 0) == [EPOLLIN | EPOLLPRI]
    assert kernel.read(server, 100) == b"a"
    assert kernel.poll([(server, EPOLLIN | EPOLLPRI)], 0) == [EPOLLPRI]
    with refused(errno.EAGAIN):
        kernel.read(server, 100)
    assert kernel.poll([(server, EPOLLIN | EPOLLPRI)], 0) == [0]
    with refused(errno.EINVAL):
        kernel.recvfrom(server, 1, socket.MSG_OOB)
    # A second one makes the first an ordinary byte.
    kernel.sendto(client, b"b1", socket.MSG_OOB)
    kernel.sendto(client, b"c2", socket.MSG_OOB)
    assert kernel.recvfrom(server, 1, socket.MSG_OOB)[0] == b"2"
    assert kernel.recvfrom(server, 100, socket.MSG_PEEK)[0] == b"b1c"
    assert kernel.read(server, 100) == b"b1c"


def test_datagram_socket_error_precedes_queued_datagrams(kernel):
    one = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    two = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    kernel.bind(one, ("127.0.0.1", 0))
    kernel.connect(two, kernel.getsockname(one))
    kernel.connect(one, kernel.getsockname(two))
    kernel.write(two, b"queued")
    kernel.close(two)
    kernel.write(one, b"to nobody")
    assert kernel.poll([(one, EPOLLIN)], 0) == [EPOLLIN | EPOLLERR]
    with refused(errno.ECONNREFUSED):
        kernel.read(one, 10)
    assert kernel.read(one, 10) == b"queued"


def test_tcp_connect_errors_and_backlog(kernel):
    client = kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
    with refused(errno.ECONNREFUSED):
        kernel.connect(client, ("127.0.0.1", 9))
    listener = kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
    kernel.bind(listener, ("127.0.0.1", 80))
    kernel.listen(listener, 0)
    first, second = (kernel.socket(socket.AF_INET, socket.SOCK_STREAM | NB) for _ in range(2))
    for fd in (first, second):
        with refused(errno.EINPROGRESS):
            kernel.connect(fd, ("127.0.0.1", 80))
    assert look(kernel, first, EPOLLOUT) == EPOLLOUT
    assert look(kernel, second, EPOLLOUT) == 0
    with refused(errno.EALREADY):
        kernel.connect(second, ("127.0.0.1", 80))
    kernel.accept4(listener)
    # The SYN that was dropped comes again after a second.
    assert kernel.poll([(second, EPOLLOUT)]) == [EPOLLOUT]
    assert kernel.clock_gettime() == NSEC_PER_SEC
    # The call after the end reports it, once.
    kernel.connect(second, ("127.0.0.1", 80))
    with refused(errno.EISCONN):
        kernel.connect(second, ("127.0.0.1", 80))


def test_udp(kernel, ctx):
    receiver = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM | NB)
    kernel.bind(receiver, ("127.0.0.1", 53))
    sender = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM | NB)
    kernel.io_submit(ctx, 1, [Iocb.poll(receiver, EPOLLIN)])
    kernel.sendto(sender, b"query", 0, ("127.0.0.1", 53))
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [EPOLLIN]
    data, address = kernel.recvfrom(receiver, 100)
    kernel.sendto(receiver, data.upper(), 0, address)
    assert kernel.recvfrom(sender, 3)[0] == b"QUE"
    kernel.connect(sender, ("127.0.0.1", 54))
    kernel.write(sender, b"x")
    assert look(kernel, sender) & EPOLLERR
    with refused(errno.ECONNREFUSED):
        kernel.read(sender, 1)
    with refused(errno.EMSGSIZE):
        kernel.write(sender, bytes(65_508))


def alg(kernel, kind, name, key=None):
    fd = kernel.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)
    kernel.bind(fd, (kind, name))
    if key is not None:
        kernel.setsockopt(fd, socket.SOL_ALG, socket.ALG_SET_KEY, key)
    return kernel.accept4(fd, NB)[0]


def test_alg_hash(kernel, ctx):
    import hashlib

    fd = alg(kernel, "hash", "sha256")
    kernel.sendto(fd, b"hello ", socket.MSG_MORE)
    kernel.write(fd, b"world")
    assert kernel.read(fd, 64) == hashlib.sha256(b"hello world").digest()
    # A hash is not pollable: no poll_mask, no head.
    with refused(errno.EINVAL):
        kernel.io_submit(ctx, 1, [Iocb.poll(fd, EPOLLIN)])
    # The digest was read: the next one is that of no data.
    assert kernel.read(fd, 64) == hashlib.sha256(b"").digest()
    with refused(errno.ENOENT):
        alg(kernel, "hash", "crc7")


def test_alg_sockets_without_poll_mask_can_be_looked_at(kernel):
    """With and without a timeout: only the first asks for a head."""
    bound = kernel.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)
    kernel.bind(bound, ("hash", "md5"))
    for fd in (bound, kernel.accept4(bound)[0]):
        for timeout_ns in (0, NSEC_PER_SEC):
            assert kernel.poll([(fd, EPOLLIN)], timeout_ns) == [EPOLLIN]


def test_alg_operation_waits_for_the_key_of_its_algorithm(kernel):
    fd = kernel.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)
    kernel.bind(fd, ("hash", "hmac(sha256)"))
    operation, _ = kernel.accept4(fd)
    with refused(errno.ENOKEY):
        kernel.write(operation, b"x")
    with refused(errno.ENOKEY):
        kernel.read(operation, 32)
    kernel.setsockopt(fd, socket.SOL_ALG, socket.ALG_SET_KEY, b"key")
    assert kernel.write(operation, b"x") == 1
    assert kernel.read(operation, 32) == hmac.digest(b"key", b"x", "sha256")


def test_alg_cipher(kernel, ctx):
    pytest.importorskip("cryptography", reason="AF_ALG ciphers compute with cryptography")
    iv = bytes(range(16))
    fd = alg(kernel, "skcipher", "cbc(aes)", b"k" * 16)
    kernel.sendto(fd, b"a" * 16, socket.MSG_MORE, (1, iv))
    assert len(kernel.read(fd, 16)) == 16
    kernel.io_submit(ctx, 1, [Iocb.poll(fd, EPOLLIN)])
    assert kernel.io_getevents(ctx, 0, 1) == []
    kernel.write(fd, b"b" * 16)
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [EPOLLIN]
    secret = kernel.read(fd, 16)
    again = alg(kernel, "skcipher", "cbc(aes)", b"k" * 16)
    kernel.sendto(again, b"a" * 16 + b"b" * 16, 0, (1, iv))
    whole = kernel.read(again, 32)
    assert whole[16:] == secret
    kernel.sendto(again, whole, 0, (0, iv))
    assert kernel.read(again, 32) == b"a" * 16 + b"b" * 16
    with refused(errno.ENOKEY):
        kernel.write(alg(kernel, "skcipher", "cbc(aes)"), b"a" * 16)


def test_reads_and_writes_through_io_submit(kernel, ctx):
    fd = kernel.open("/data", os.O_RDWR | os.O_CREAT)
    first, second = bytearray(3), bytearray(3)
    iocbs = [
        Iocb.pwrite(fd, b"abc", 2, data=1),
        Iocb.pwritev(fd, [b"d", b"ef"], 5, data=2),
        Iocb.preadv(fd, [first, second], 2, data=3),
    ]
    assert kernel.io_submit(ctx, 3, iocbs) == 3
    events = kernel.io_getevents(ctx, 3, 3)
    assert [(event.data, event.res) for event in events] == [(1, 3), (2, 3), (3, 6)]
    assert bytes(first + second) == b"abcdef"
    reader, _ = kernel.pipe2()
    kernel.io_submit(ctx, 1, [Iocb.pread(reader, bytearray(1), flags=RWF_NOWAIT)])
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [-errno.EAGAIN]
    with refused(errno.EFAULT):
        kernel.io_submit(ctx, 1, [Iocb.pread(fd, b"read-only")])


def test_errors_come_in_the_kernels_order(kernel, ctx):
    reader, _ = kernel.pipe2()
    with refused(errno.EFAULT):
        kernel.io_setup(1, None)
    with refused(errno.EINVAL):
        kernel.io_setup(1, 7)
    with refused(errno.EAGAIN):
        kernel.io_setup(65_537)
    with refused(errno.EINVAL):
        kernel.io_submit(ctx, -1, None)
    with refused(errno.EINVAL):
        kernel.io_submit(12345, 0, [])
    assert kernel.io_submit(ctx, 0, None) == 0
    with refused(errno.EFAULT):
        kernel.io_submit(ctx, 1, [BADPTR])
    with refused(errno.EBADF):
        kernel.io_submit(ctx, 1, [Iocb.poll(99, EPOLLIN)])
    assert kernel.io_submit(ctx, 2, [Iocb.poll(reader, EPOLLIN), None]) == 1
    with refused(errno.EFAULT):
        kernel.io_cancel(ctx, None)
    with refused(errno.EFAULT):
        kernel.io_pgetevents(12345, 5, 1, BADPTR)
    with refused(errno.EINVAL):
        kernel.io_pgetevents(12345, 0, 1, 0, BADPTR, 4)
    with refused(errno.EFAULT):
        kernel.io_pgetevents(12345, 0, 1, 0, BADPTR, 8)
    with refused(errno.EINVAL):
        kernel.io_getevents(ctx, 2, 1, 0)
    kernel.io_destroy(ctx)
    with refused(errno.EINVAL):
        kernel.io_destroy(ctx)


def test_slots_are_in_flight_plus_unreaped(kernel):
    ctx = kernel.io_setup(1)
    assert kernel.contexts[ctx].ring.nr == 127
    reader, writer = kernel.pipe2()
    iocbs = [Iocb.poll(reader, EPOLLIN) for _ in range(130)]
    assert kernel.io_submit(ctx, 130, iocbs) == 120
    with refused(errno.EAGAIN):
        kernel.io_submit(ctx, 1, iocbs[120:])
    kernel.write(writer, b"x")
    with refused(errno.EAGAIN):
        kernel.io_submit(ctx, 1, iocbs[120:])
    assert len(kernel.contexts[ctx].ring.reap(120)) == 120
    assert kernel.io_submit(ctx, 10, iocbs[120:]) == 10


def test_wakes_are_last_in_first_out(kernel, ctx):
    reader, writer = kernel.pipe2()
    kernel.io_submit(ctx, 2, [Iocb.poll(reader, EPOLLIN, 1), Iocb.poll(reader, EPOLLIN, 2)])
    kernel.write(writer, b"x")
    assert [event.data for event in kernel.io_getevents(ctx, 2, 2)] == [2, 1]


def test_resfd_is_signalled(kernel, ctx):
    reader, writer = kernel.pipe2()
    counter = kernel.eventfd2()
    iocb = Iocb.poll(reader, EPOLLIN)
    iocb.aio_flags, iocb.aio_resfd = 1, counter
    kernel.io_submit(ctx, 1, [iocb])
    kernel.write(writer, b"x")
    assert kernel.read(counter, 8) == (1).to_bytes(8, "little")


def test_waiters_of_a_destroyed_context_get_einval(kernel, ctx):
    task = kernel.spawn(lambda: kernel.io_getevents(ctx, 1, 1))
    kernel.nanosleep(1)
    kernel.io_destroy(ctx)
    with refused(errno.EINVAL):
        kernel.join(task)


def test_pgetevents_delivers_under_the_temporary_mask(kernel, ctx):
    seen = []
    kernel.sigaction(signal.SIGUSR1, lambda _: seen.append(kernel.sched.current.blocked))
    kernel.sigprocmask([signal.SIGUSR1])
    kernel.kill(0, signal.SIGUSR1)
    with refused(errno.EINTR):
        kernel.io_pgetevents(ctx, 1, 1, None, [signal.SIGUSR2])
    assert seen == [frozenset({signal.SIGUSR2})]
    assert kernel.sched.current.blocked == {signal.SIGUSR1}
