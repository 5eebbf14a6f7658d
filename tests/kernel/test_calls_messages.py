"""Messages with descriptors beside the data, here and on the Linux underneath."""

import fcntl
import os
import socket
import struct
import termios

import pytest

from aiopoll.kernel.uapi import EPOLLIN

from .test_calls_sockets import ANYWHERE, DGRAM, INET, NB, SEQPACKET, STREAM, UNIX, tcp_pair

PEEK, WAITALL = socket.MSG_PEEK, socket.MSG_WAITALL
RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
FIONBIO = 0x5421


def rights(*fds):
    return [(*RIGHTS, struct.pack(f"{len(fds)}i", *fds))]


def received(k, fd, count=100, room=100, flags=0):
    """What came, with the number of descriptors in place of their numbers; they stay open."""
    data, control, msg_flags, address = k.recvmsg(fd, count, room, flags)
    fds = [n for part in control for n in struct.unpack(f"{len(part[2]) // 4}i", part[2])]
    return (data, [part[:2] for part in control], len(fds), msg_flags, address), fds


def udp_pair(k):
    one, two = (k.socket(INET, DGRAM | NB) for _ in range(2))
    k.bind(one, ANYWHERE)
    k.connect(two, k.getsockname(one))
    return two, one


@pytest.mark.parametrize("kind", [STREAM, DGRAM, SEQPACKET])
def test_descriptors_pass_through_unix_sockets(both, kind):
    @both
    def scenario(k, run):
        one, two = k.socketpair(UNIX, kind | NB)
        reader, writer = k.pipe2(NB)
        other = k.eventfd2(5, NB)
        run(k.sendmsg, one, [b"he", b"llo"], rights(reader, other))
        k.close(reader)
        run(k.write, writer, b"through")
        run(lambda: received(k, two, 100, 100, PEEK)[0])
        result, fds = received(k, two)
        run(lambda: result)
        run(k.read, fds[0], 100)
        run(k.read, fds[1], 8)
        # A peek gives descriptors of its own, which keep the pipe's reader alive.
        for fd in fds:
            k.close(fd)
        run(k.write, writer, b"x")
        for room in (0, 15, 16, 19, 20, 24, 1000):
            k.sendmsg(one, [b"abc"], rights(writer, other))
            run(lambda room=room: received(k, two, 100, room)[0])
        # A read closes them.
        reader, writer = k.pipe2(NB)
        for take in (k.read, k.recvfrom):
            k.sendmsg(one, [b"abc"], rights(reader))
            run(take, two, 100)
        k.sendmsg(one, [b"abc"], rights(reader))
        k.close(reader)
        run.look(writer)
        k.close(two)
        run.look(writer)


def test_a_stream_stops_behind_descriptors(both):
    @both
    def scenario(k, run):
        one, two = k.socketpair(UNIX, STREAM | NB)
        _, writer = k.pipe2(NB)
        k.write(one, b"plain")
        k.sendmsg(one, [b"first"], rights(writer))
        k.sendmsg(one, [b"second"], rights(writer, writer))
        k.write(one, b"rest")
        for count, flags in ((2, 0), (100, PEEK), (100, 0), (100, PEEK), (2, 0), (100, 0), (9, 0)):
            run(lambda count=count, flags=flags: received(k, two, count, 100, flags)[0])
        k.sendmsg(one, [b"x" * 10], rights(writer))
        run(lambda: received(k, two, 3)[0])
        run(lambda: received(k, two, 30)[0])
        k.sendmsg(one, [b""], rights(writer))
        run(k.recvmsg, two, 10, 100)


def test_refused_messages(both):
    @both
    def scenario(k, run):
        one, two = k.socketpair(UNIX, DGRAM | NB)
        _, writer = k.pipe2(NB)
        level = socket.SOL_SOCKET
        for control in (
            rights(9999),
            rights(writer, -1),
            rights(*[writer] * 253),
            rights(*[writer] * 254),
            [(level, 99, b"")],
            [(0, 99, b"")],
            rights(writer) * 2,
            [],
        ):
            run(k.sendmsg, one, [b"x"], control)
            run(lambda: received(k, two, 9, 4000)[0])
        run(k.sendmsg, writer, [b"x"])
        run(k.sendmsg, 9999, [b"x"])
        run(k.recvmsg, writer, 1)
        run(k.recvmsg, two, 1)
        sender, receiver = udp_pair(k)
        client, server = tcp_pair(k)
        for left, right in ((sender, receiver), (client, server)):
            for control in (rights(writer), rights(9999), [(level, 99, b"")], [(99, 1, b"")]):
                run(k.sendmsg, left, [b"x"], control)
                run.look(right)
                run(lambda right=right: received(k, right)[0][:4])
        k.close(two)
        # The control data is looked at first.
        run(k.sendmsg, one, [b"x"], rights(9999))
        run(k.sendmsg, one, [b"x"], rights(writer))


def test_flags_of_received_messages(both):
    @both
    def scenario(k, run):
        pairs = [k.socketpair(UNIX, kind | NB) for kind in (STREAM, DGRAM, SEQPACKET)]
        for one, two in (*pairs, udp_pair(k), tcp_pair(k)):
            run(k.recvmsg, two, 5)
            run(k.ioctl, two, termios.FIONREAD)
            for data in (b"hello world", b"second", b"", b"x"):
                run(k.sendmsg, one, [data])
            # The last of them must have come.
            while k.ioctl(two, termios.FIONREAD) == 0:
                k.poll([(two, EPOLLIN)])
            k.advance(10_000_000)
            run(k.ioctl, two, termios.FIONREAD)
            for count, flags in ((3, PEEK), (3, 0), (0, 0), (99, PEEK), (99, 0), (99, 0)):
                run(lambda two=two, count=count, flags=flags: k.recvmsg(two, count, 0, flags)[:3])
                run(k.ioctl, two, termios.FIONREAD)
            run(lambda two=two: k.recvmsg(two, 9)[:3])
        client, server = pairs.pop() and tcp_pair(k)
        k.sendto(client, b"abX", socket.MSG_OOB)
        run.look(server)
        run(k.ioctl, server, termios.FIONREAD)
        run(k.recvmsg, server, 1, 0, socket.MSG_OOB)
        run(k.recvmsg, server, 9)
        run(k.ioctl, server, termios.FIONREAD)


def test_waiting_for_all(both):
    @both
    def scenario(k, run):
        for one, two in (tcp_pair(k), k.socketpair(UNIX, STREAM | NB)):
            k.write(one, b"abc")
            run.look(two)
            run(k.recvfrom, two, 10, WAITALL)
            k.set_blocking(two, True)
            k.setsockopt(two, socket.SOL_SOCKET, socket.SO_RCVTIMEO, (0, 10_000))
            run(k.recvfrom, two, 10, WAITALL)
            k.write(one, b"abc")
            run.look(two)
            run(k.recvfrom, two, 10, WAITALL)
            k.write(one, b"abcdef")
            run.look(two)
            run(k.recvfrom, two, 3, WAITALL)
            run(k.recvfrom, two, 10, WAITALL | socket.MSG_DONTWAIT)
            k.write(one, b"abc")
            k.shutdown(one, 1)
            for _ in range(2):
                run(k.recvfrom, two, 10, WAITALL)
        one, two = k.socketpair(UNIX, STREAM)
        k.write(two, b"unread")
        k.write(one, b"abc")
        k.close(one)
        for _ in range(2):
            run(k.recvfrom, two, 10, WAITALL)


def test_numbers_and_flags_of_files(both):
    @both
    def scenario(k, run):
        reader, writer = k.pipe2(NB)
        counter = k.eventfd2(3, NB)
        one, two = k.socketpair(UNIX, STREAM)
        listener = k.socket(INET, STREAM | NB)
        k.bind(listener, ANYWHERE)
        k.listen(listener)
        unix_listener = k.socket(UNIX, STREAM | NB)
        k.bind(unix_listener, "/listener")
        k.listen(unix_listener)
        file = k.open("/file", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        k.write(file, b"hello")
        k.lseek(file, 2)
        k.write(writer, b"pipe")
        k.write(one, b"socket")
        for fd in (reader, writer, counter, one, two, listener, unix_listener, file, 9999):
            run(k.fcntl, fd, fcntl.F_GETFL)
            run(k.ioctl, fd, termios.FIONREAD)
            for flags in (os.O_NONBLOCK, os.O_APPEND, os.O_WRONLY | os.O_TRUNC, 0):
                run(k.fcntl, fd, fcntl.F_SETFL, flags)
                run(k.fcntl, fd, fcntl.F_GETFL)
            for blocking in (1, 0):
                run(k.ioctl, fd, FIONBIO, blocking)
                run(k.fcntl, fd, fcntl.F_GETFL)
            run(k.ioctl, fd, 0x1234)
            run(k.fcntl, fd, 999)
        # dup2 closes what was there, and shares the flags.
        new = k.dup(reader)
        run(lambda: k.dup2(counter, new) == new)
        run(k.read, new, 8)
        k.fcntl(new, fcntl.F_SETFL, os.O_NONBLOCK)
        run(k.fcntl, counter, fcntl.F_GETFL)
        run(lambda: k.dup2(new, new) == new)
        for arguments in ((9999, new), (9999, 9999), (new, -1)):
            run(k.dup2, *arguments)
        k.close(reader)
        run.look(writer)
        run(k.fcntl, new, fcntl.F_DUPFD, 200)
        run(k.fcntl, new, fcntl.F_DUPFD_CLOEXEC, 200)
        run(k.fcntl, new, fcntl.F_DUPFD, -1)
        run(k.dup2, writer, 200)
        run.look(200)
