"""Sockets, call by call, here and on the Linux underneath: states, errors, buffers, names."""

import os
import signal
import socket
import struct

from aiopoll.kernel.uapi import EPOLLOUT

INET, INET6, UNIX = socket.AF_INET, socket.AF_INET6, socket.AF_UNIX
STREAM, DGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
NB = os.O_NONBLOCK
ANYWHERE = ("127.0.0.1", 0)
ABORT = struct.pack("ii", 1, 0)


def listening(k, backlog=8):
    fd = k.socket(INET, STREAM | NB)
    k.bind(fd, ANYWHERE)
    k.listen(fd, backlog)
    return fd, k.getsockname(fd)


def tcp_pair(k):
    listener, address = listening(k)
    client = k.socket(INET, STREAM)
    k.connect(client, address)
    server, _ = k.accept4(listener)
    for fd in (client, server):
        # Nagle's algorithm keeps small segments back, and a reset then loses them.
        k.setsockopt(fd, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        k.set_blocking(fd, False)
    return client, server


def fill(k, fd, data):
    """The number of times it can be sent."""
    count = 0
    try:
        while True:
            k.write(fd, data)
            count += 1
    except BlockingIOError:
        return count


def test_tcp_sockets_without_a_connection(both):
    @both
    def scenario(k, run):
        fd = k.socket(INET, STREAM | NB)
        run.look(fd)
        for how in (3, 1, 2):
            run(k.shutdown, fd, how)
            run.look(fd)
        run(k.read, fd, 1)
        run(k.write, fd, b"x")
        run(k.accept4, fd)
        run(k.getpeername, fd)
        run(k.getsockname, fd)
        listener, _ = listening(k)
        run(k.write, listener, b"x")
        run(k.read, listener, 1)
        run(k.connect, listener, ("127.0.0.1", 1))
        run(k.getpeername, listener)
        for how in (1, 0):
            run(k.shutdown, listener, how)
            run.look(listener)
            run(k.accept4, listener)
        run(k.listen, listener, 5)
        run.look(listener)


def test_tcp_connect_and_its_outcome(both):
    @both
    def scenario(k, run):
        listener = k.socket(INET, STREAM | NB)
        k.bind(listener, ANYWHERE)
        address = k.getsockname(listener)
        for take_error in (True, False):
            refused = k.socket(INET, STREAM | NB)
            run(k.connect, refused, address)
            run.look(refused)
            run(k.getpeername, refused)
            if take_error:
                run(k.getsockopt, refused, socket.SOL_SOCKET, socket.SO_ERROR)
                run.look(refused)
            # The first call after the end reports it, the next begins anew.
            run(k.connect, refused, address)
            run.look(refused)
            run(k.connect, refused, address)
            run.look(refused)
            run(k.write, refused, b"x")
            run(k.read, refused, 1)
        waiting = k.socket(INET, STREAM)
        for _ in range(2):
            run(k.connect, waiting, address)
            run.look(waiting)
        k.listen(listener, 8)
        run(k.connect, waiting, address)
        run(k.connect, waiting, address)
        late = k.socket(INET, STREAM | NB)
        run(k.connect, late, address)
        run.look(late)
        # Connected: the first call reports it.
        run(k.connect, late, address)
        run(k.connect, late, address)
        k.close(k.accept4(listener)[0])
        run.look(waiting)
        run(k.connect, waiting, address)
        # AF_UNSPEC ends it, and the socket can be used again.
        run(k.connect, late, None)
        run.look(late)
        run(k.getpeername, late)
        run(k.getsockopt, late, socket.SOL_SOCKET, socket.SO_ERROR)
        run(k.connect, late, address)
        run.look(late)
        run(k.bind, listener, ANYWHERE)
        run(k.bind, k.socket(INET, STREAM), address)
        run(k.bind, k.socket(INET, STREAM), ("0.0.0.0", address[1]))
        run(k.bind, k.socket(INET, STREAM), ("8.8.8.8", 0))


def test_tcp_connect_with_a_full_backlog(both):
    @both
    def scenario(k, run):
        listener, address = listening(k, 0)
        clients = [k.socket(INET, STREAM | NB) for _ in range(3)]
        for fd in clients:
            run(k.connect, fd, address)
        run.look(*clients)
        run(k.connect, clients[2], address)
        run(k.getpeername, clients[2])
        run(k.shutdown, clients[2], 1)
        run.look(clients[2])
        run(k.getsockopt, clients[2], socket.SOL_SOCKET, socket.SO_ERROR)
        # SO_SNDTIMEO: it goes on connecting.
        k.set_blocking(clients[1], True)
        k.setsockopt(clients[1], socket.SOL_SOCKET, socket.SO_SNDTIMEO, (0, 1000))
        run(k.connect, clients[1], address)
        run.look(listener)


def test_tcp_shutdown(both):
    @both
    def scenario(k, run):
        for how in (0, 1, 2):
            client, server = tcp_pair(k)
            run(k.shutdown, client, how)
            run.look(client, server)
            run(k.write, client, b"x")
            run.look(server)
            run(k.read, server, 10)
            run(k.write, server, b"abc")
            run.look(client, server)
            run(k.read, client, 10)
            run(k.shutdown, server, 1)
            run.look(client, server)
            run(k.read, client, 10)
            run(k.shutdown, client, how)
            run.look(client, server)


def test_tcp_close_and_reset(both):
    @both
    def scenario(k, run):
        client, server = tcp_pair(k)
        k.close(server)
        run.look(client)
        run(k.write, client, b"x")
        run.look(client)
        for _ in range(2):
            run(k.write, client, b"y")
            run(k.read, client, 1)
        for unread, sent in ((b"unread", b""), (b"unread", b"data"), (b"", b"data")):
            client, server = tcp_pair(k)
            if unread:
                k.write(client, unread)
                run.look(server)
            if sent:
                k.write(server, sent)
                run.look(client)
            k.close(server)
            run.look(client)
            for _ in range(3):
                run(k.read, client, 3)
            run(k.write, client, b"x")
            run(k.getpeername, client)
        client, server = tcp_pair(k)
        k.setsockopt(server, socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        k.close(server)
        run.look(client)
        run(k.getpeername, client)
        run(k.shutdown, client, 1)
        run(k.read, client, 1)
        # Reset before it was accepted.
        listener, address = listening(k)
        client = k.socket(INET, STREAM)
        k.connect(client, address)
        k.setsockopt(client, socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        k.close(client)
        run.look(listener)
        server, _ = k.accept4(listener)
        run.look(server)
        run(k.getpeername, server)


def test_tcp_peeking_and_urgent_data(both):
    @both
    def scenario(k, run):
        client, server = tcp_pair(k)
        oob, peek = socket.MSG_OOB, socket.MSG_PEEK
        k.write(client, b"abcdef")
        run.look(server)
        for count, flags in ((3, peek), (30, peek), (0, 0), (1, oob)):
            run(k.recvfrom, server, count, flags)
        k.sendto(client, b"X", oob)
        run.look(server)
        for count, flags in ((99, 0), (1, oob | peek), (1, oob), (1, oob), (9, 0)):
            run(k.recvfrom, server, count, flags)
            run.look(server)
        k.sendto(client, b"Y", oob)
        run.look(server)
        k.shutdown(client, 1)
        run.look(server)
        for flags in (oob, 0, oob):
            run(k.recvfrom, server, 1, flags)


def test_unix_streams(both):
    @both
    def scenario(k, run):
        for how in (0, 1, 2):
            one, two = k.socketpair(UNIX, STREAM | NB)
            run(k.shutdown, one, how)
            run.look(one, two)
            for fd in (one, two):
                run(k.write, fd, b"x")
                run(k.read, fd, 1)
            run(k.shutdown, two, 2 - how)
            run.look(one, two)
            k.close(two)
            run.look(one)
            run(k.read, one, 5)
            run(k.write, one, b"x")
            run(k.getpeername, one)
        for sent in (b"", b"data"):
            one, two = k.socketpair(UNIX, STREAM | NB)
            k.write(one, b"unread")
            k.write(two, sent)
            k.close(two)
            run.look(one)
            run(k.write, one, b"x")
            for _ in range(2):
                run(k.read, one, 9)
        one, two = k.socketpair(UNIX, STREAM | NB)
        run(k.sendto, one, b"x", 0, "/none")
        run(k.write, one, b"")
        run.look(two)
        k.write(one, b"abc")
        k.write(one, b"def")
        run(k.recvfrom, two, 4, socket.MSG_PEEK)
        run(k.recvfrom, two, 4)


def test_unix_buffers(both):
    @both
    def scenario(k, run):
        for kind in (STREAM, DGRAM, SEQPACKET):
            for size in (1, 192, 193, 1728, 1729, 3776, 3777, 10_000, 36_544, 60_000, 150_000):
                one, two = k.socketpair(UNIX, kind | NB)
                run(fill, k, one, bytes(size))
                run.look(one, two)
                run(lambda two=two: len(k.read(two, 1_000_000)))
                run.look(one)
            one, two = k.socketpair(UNIX, kind | NB)
            k.setsockopt(one, socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
            run(k.getsockopt, one, socket.SOL_SOCKET, socket.SO_SNDBUF)
            run(k.write, one, bytes(1_000_000))
            run(k.write, one, bytes(9000))
            run.look(one)


def test_unix_listeners_and_names(both):
    @both
    def scenario(k, run):
        listener = k.socket(UNIX, STREAM | NB)
        run(k.listen, listener, 1)
        run.look(listener)
        k.bind(listener, "/socket")
        run(k.bind, listener, "/other")
        run(k.accept4, listener)
        clients = [k.socket(UNIX, STREAM | NB) for _ in range(3)]
        run(k.connect, clients[0], "/socket")
        k.listen(listener, 1)
        run.look(listener)
        for fd in clients:
            run(k.connect, fd, "/socket")
            run.look(fd)
        run(k.connect, clients[0], "/socket")
        run(k.write, clients[0], b"early")
        server, _ = k.accept4(listener)
        run(k.recvfrom, server, 9)
        for fd in (server, clients[0]):
            for name in (k.getsockname, k.getpeername):
                run(lambda fd=fd, name=name: os.path.basename(name(fd)))
        run(k.getpeername, listener)
        run(k.shutdown, listener, 0)
        run.look(listener)
        run(lambda: len(k.accept4(listener)))
        # No client is left, and none comes: a non-blocking accept returns EAGAIN.
        run(k.accept4, listener)
        k.close(listener)
        other = k.socket(UNIX, STREAM | NB)
        run(k.connect, other, "/socket")
        run(k.connect, other, "/none")
        run(k.connect, other, "\0none")
        run(k.bind, k.socket(UNIX, STREAM), "/socket")
        run(k.connect, k.socket(UNIX, DGRAM), "/socket")
        run(k.accept4, k.socket(UNIX, DGRAM))
        run(k.listen, k.socket(UNIX, DGRAM))
        for flags in (os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_CREAT | os.O_EXCL):
            run(k.open, "/socket", flags)
        run(k.mkfifo, "/socket")
        for _ in range(2):
            run(k.unlink, "/socket")
        run(k.connect, other, "/socket")
        run(k.bind, k.socket(UNIX, STREAM), "/socket")
        # An abstract name is the same as a string and as bytes.
        abstract = f"\0aiopoll {os.getpid()}"
        listener = k.socket(UNIX, STREAM | NB)
        k.bind(listener, abstract)
        k.listen(listener)
        run(k.getsockname, listener)
        run(k.connect, other, abstract.encode())
        run(k.getpeername, other)
        run(k.bind, k.socket(UNIX, STREAM), abstract.encode())
        # A stream has an address, too, if its other end was bound.
        named = k.socket(UNIX, STREAM | NB)
        k.bind(named, abstract + "2")
        k.connect(named, abstract)
        k.accept4(listener)
        run(lambda: k.accept4(listener)[1])


def test_unix_datagrams(both):
    @both
    def scenario(k, run):
        receiver, sender = (k.socket(UNIX, DGRAM | NB) for _ in range(2))
        k.bind(receiver, "/log")
        run(k.write, sender, b"x")
        run(k.sendto, sender, b"x", 0, "/none")
        run(k.sendto, sender, b"hello", 0, "/log")
        for count, flags in ((9, socket.MSG_PEEK), (3, 0), (3, 0)):
            run(k.recvfrom, receiver, count, flags)
        run(k.sendto, sender, b"", 0, "/log")
        run.look(receiver)
        run(k.recvfrom, receiver, 9)
        k.connect(sender, "/log")
        run(fill, k, sender, b"x")
        run.look(sender, receiver)
        other = k.socket(UNIX, DGRAM | NB)
        run(k.sendto, other, b"x", 0, "/log")
        k.read(receiver, 1)
        run.look(sender)
        run(k.sendto, other, b"x", 0, "/log")
        run.look(sender)
        run(k.sendto, other, bytes(300_000), 0, "/log")
        run(k.sendto, other, b"x", socket.MSG_OOB, "/log")
        run(k.recvfrom, receiver, 1, socket.MSG_OOB)
        k.close(receiver)
        run.look(sender)
        for _ in range(2):
            run(k.write, sender, b"x")
            run.look(sender)
        run(k.getpeername, sender)
        for how in (0, 1, 2):
            one, two = k.socketpair(UNIX, DGRAM | NB)
            k.write(two, b"q")
            run(k.shutdown, one, how)
            run.look(one, two)
            for fd in (one, two, one):
                run(k.read, fd, 1)
                run(k.write, fd, b"2")
            k.close(one)
            run.look(two)
            run(k.read, two, 1)
            run(k.write, two, b"2")
            run.look(two)


def test_unix_sequenced_packets(both):
    @both
    def scenario(k, run):
        one, two = k.socketpair(UNIX, SEQPACKET | NB)
        k.write(one, b"hello")
        k.write(one, b"two")
        for count in (3, 9, 9):
            run(k.recvfrom, two, count)
        run(k.sendto, one, b"")
        run.look(two)
        run(k.recvfrom, two, 9)
        run(k.sendto, one, b"x", 0, "/none")
        run(k.recvfrom, two, 9)
        run(k.shutdown, one, 1)
        run.look(one, two)
        run(k.read, two, 9)
        run(k.write, one, b"x")
        k.write(two, b"zz")
        k.close(two)
        run.look(one)
        for _ in range(2):
            run(k.read, one, 1)
        run(k.write, one, bytes(1_000_000))
        fresh = k.socket(UNIX, SEQPACKET | NB)
        run.look(fresh)
        run(k.read, fresh, 1)
        run(k.write, fresh, b"x")


def test_udp(both):
    @both
    def scenario(k, run):
        receiver, sender = (k.socket(INET, DGRAM | NB) for _ in range(2))
        run.look(receiver)
        run(k.write, sender, b"x")
        run(k.read, receiver, 1)
        run(k.getsockname, receiver)
        run(k.getpeername, receiver)
        k.bind(receiver, ANYWHERE)
        address = k.getsockname(receiver)
        for data in (b"hello", b"", bytes(65_507)):
            run(k.sendto, sender, data, 0, address)
            run.look(receiver)
            run(lambda: k.recvfrom(receiver, 3, socket.MSG_PEEK)[0])
            run(lambda: k.recvfrom(receiver, 3)[0])
        run(k.sendto, sender, bytes(65_508), 0, address)
        run(k.sendto, sender, b"x", 0, ("127.0.0.1", 0))
        run(k.sendto, sender, b"x", socket.MSG_OOB, address)
        k.connect(sender, address)
        k.close(receiver)
        run(k.write, sender, b"x")
        run.look(sender)
        run(k.write, sender, b"x")
        run.look(sender)
        k.write(sender, b"x")
        run.look(sender)
        run(k.read, sender, 1)
        run(k.read, sender, 1)
        run(k.connect, sender, None)
        run(k.getpeername, sender)
        run(k.write, sender, b"x")
        run(k.shutdown, sender, 2)
        run.look(sender)
        run(k.listen, sender)
        run(k.accept4, sender)


def test_udp_buffers(both):
    @both
    def scenario(k, run):
        sender = k.socket(INET, DGRAM | NB)

        def received(size):
            """How many of 300 datagrams fit."""
            receiver = k.socket(INET, DGRAM | NB)
            k.bind(receiver, ANYWHERE)
            k.connect(sender, k.getsockname(receiver))
            for _ in range(300):
                k.write(sender, bytes(size))
            count = 0
            while k.poll([(receiver, 1)], 20_000_000)[0]:
                k.recvfrom(receiver, 1)
                count += 1
            return count

        # Small ones are charged less since 6.3.
        for size in (646, 1669, 1670, 3717, 3718, 10_000, 16_917, 16_918, 40_000, 60_000):
            run(received, size)


def test_options(both):
    @both
    def scenario(k, run):
        client, server = tcp_pair(k)
        level = socket.SOL_SOCKET
        for option in (
            *(socket.SO_TYPE, socket.SO_DOMAIN, socket.SO_PROTOCOL),
            *(socket.SO_ACCEPTCONN, socket.SO_ERROR),
        ):
            run(k.getsockopt, client, level, option)
            run(k.setsockopt, client, level, option, 1)
        for option in (socket.SO_REUSEADDR, socket.SO_KEEPALIVE, socket.SO_BROADCAST):
            run(k.setsockopt, client, level, option, 7)
            run(k.getsockopt, client, level, option)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            for size in (10_000, 1):
                run(k.setsockopt, client, level, option, size)
                run(k.getsockopt, client, level, option)
        for timeout in ((0, 1_000_000), (0, -1), (0, 1000)):
            run(k.setsockopt, client, level, socket.SO_RCVTIMEO, timeout)
        k.set_blocking(client, True)
        run(k.read, client, 1)
        # With the smallest of buffers it goes on.
        run(k.write, server, bytes(2000))
        run(lambda: len(k.recvfrom(client, 2000, socket.MSG_WAITALL)[0]))
        for arguments in ((INET, 99), (INET, STREAM | 1 << 20), (INET, 11), (99, STREAM), (99, 99)):
            run(k.socket, *arguments)
        run(k.socketpair, INET, STREAM)
        run(k.socket, INET, STREAM, 17)
        run(k.socket, INET, SEQPACKET)


def test_sigpipe(both):
    @both
    def scenario(k, run):
        caught = []
        k.sigaction(signal.SIGPIPE, caught.append)

        def written(fd, data=b"x"):
            """The error, and how many signals came with it."""
            before = len(caught)
            run(k.write, fd, data)
            run(lambda: len(caught) - before)

        reader, writer = k.pipe2(NB)
        k.close(reader)
        written(writer)
        written(writer, b"")
        written(k.socket(INET, STREAM | NB))
        for kind in (STREAM, DGRAM, SEQPACKET):
            one, two = k.socketpair(UNIX, kind | NB)
            k.close(two)
            written(one)
            one, two = k.socketpair(UNIX, kind | NB)
            k.shutdown(one, 1)
            written(one)
            written(two)
            before = len(caught)
            run(k.sendto, one, b"x", socket.MSG_NOSIGNAL)
            run(lambda before=before: len(caught) - before)
        client, _ = tcp_pair(k)
        k.shutdown(client, 1)
        written(client)
        written(client, b"")


def test_a_tcp_send_buffer_that_is_full(both):
    """Linux decides its capacity, which grows with use."""

    @both
    def scenario(k, run):
        client, server = tcp_pair(k)
        fill(k, client, bytes(65_536))
        run(k.write, client, b"x")
        run(lambda: k.poll([(client, EPOLLOUT)], 0))
        while k.poll([(server, 1)], 100_000_000)[0]:
            k.read(server, 65_536)
        run(lambda: k.poll([(client, EPOLLOUT)], 1_000_000_000))


def test_options_of_other_levels_and_unknown_ones(both):
    numbers = {
        socket.SOL_SOCKET: (*range(2, 7), 9, 10, 18, 19, 9999),
        socket.IPPROTO_TCP: (1, 3, 4, 5, 6, 7, 8, 12, 9999),
        socket.IPPROTO_IP: (1, 2, 33, 34, 9999),
        socket.IPPROTO_IPV6: (16, 26),
        socket.IPPROTO_UDP: (1,),
        99: (1,),
    }

    @both
    def scenario(k, run):
        for family in (INET, INET6, UNIX):
            for kind in (STREAM, DGRAM):
                fd = k.socket(family, kind)
                for level, options in numbers.items():
                    for option in options:
                        # Linux gives TCP's buffers other sizes.
                        if (level, option) == (socket.SOL_SOCKET, 7):
                            continue
                        run(k.getsockopt, fd, level, option)
                linger = socket.SO_LINGER
                for value in (1, b"1234", ABORT):
                    run(k.setsockopt, fd, socket.SOL_SOCKET, linger, value)
                for level in (6, 41, 99):
                    run(k.setsockopt, fd, level, 1, 1) if level != 41 or family != INET6 else None
                for option in (socket.SO_TYPE, socket.SO_ERROR, socket.SO_SNDLOWAT, 9999):
                    run(k.setsockopt, fd, socket.SOL_SOCKET, option, 1)
