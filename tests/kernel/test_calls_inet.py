"""Ports and addresses of TCP and UDP: self-connections, autobind, what a bind keeps, errors."""

import socket

import pytest

from .test_calls_sockets import ABORT, ANYWHERE, DGRAM, INET, NB, STREAM, listening, tcp_pair

INET6 = socket.AF_INET6
FAMILIES = [(INET, "127.0.0.1", "0.0.0.0"), (INET6, "::1", "::")]
SOL, REUSEADDR, REUSEPORT = socket.SOL_SOCKET, socket.SO_REUSEADDR, socket.SO_REUSEPORT
OOB = socket.MSG_OOB


def host(k, fd):
    return k.getsockname(fd)[0]


def has_port(k, fd):
    return k.getsockname(fd)[1] != 0


def bound(k, kind, address=ANYWHERE, family=INET, options=()):
    fd = k.socket(family, kind | NB)
    for option in options:
        k.setsockopt(fd, SOL, option, 1)
    k.bind(fd, address)
    return fd


@pytest.mark.parametrize(("family", "loopback", "wildcard"), FAMILIES)
def test_connected_to_itself(both, family, loopback, wildcard):
    @both
    def scenario(k, run):
        def itself(address=loopback):
            fd = bound(k, STREAM, (address, 0), family)
            run(k.connect, fd, (loopback, k.getsockname(fd)[1]))
            run.look(fd)
            run(k.getsockopt, fd, SOL, socket.SO_ERROR)
            return fd

        for address in (loopback, wildcard):
            fd = itself(address)
            run(lambda fd=fd: k.getsockname(fd) == k.getpeername(fd))
            run(host, k, fd)
            run(k.connect, fd, (loopback, 1))
            run(k.write, fd, b"to itself")
            run.look(fd)
            run(k.recvfrom, fd, 2, socket.MSG_PEEK)
            run(k.read, fd, 99)
            run(k.read, fd, 99)
            run(k.listen, fd)
            run(k.sendto, fd, b"!", OOB)
            run.look(fd)
            run(k.recvfrom, fd, 1, OOB)
            run(k.read, fd, 9)
        for how in (1, 0, 2):
            fd = itself()
            k.write(fd, b"before")
            run.look(fd)
            run(k.shutdown, fd, how)
            run.look(fd)
            run(k.read, fd, 3)
            run(k.read, fd, 9)
            run(k.read, fd, 9)
            run(k.write, fd, b"after")
            run.look(fd)
        # Its port is free again after an abort.
        fd = itself()
        port = k.getsockname(fd)[1]
        k.setsockopt(fd, SOL, socket.SO_LINGER, ABORT)
        k.write(fd, b"unread")
        k.close(fd)
        k.bind(k.socket(family, STREAM), (loopback, port))


def test_a_failed_send_binds_the_datagram_socket(both):
    @both
    def scenario(k, run):
        for arguments in (
            (b"x",),
            (b"x", OOB),
            (b"x", 0, ("127.0.0.1", 0)),
            (bytes(65_508), 0, ("127.0.0.1", 9)),
            (bytes(65_508),),
            (bytes(65_536),),
            (b"",),
        ):
            fd = k.socket(INET, DGRAM | NB)
            run(k.sendto, fd, *arguments)
            run(host, k, fd)
            run(has_port, k, fd)
            run(k.bind, fd, ANYWHERE)
        shut = k.socket(INET, DGRAM | NB)
        run(k.shutdown, shut, 1)
        run(has_port, k, shut)
        run(k.sendto, shut, b"x", 0, ("127.0.0.1", 9))
        run(has_port, k, shut)
        # Reading does not.
        fd = k.socket(INET, DGRAM | NB)
        run(k.read, fd, 1)
        run(has_port, k, fd)
        # A stream never does.
        fd = k.socket(INET, STREAM | NB)
        run(k.write, fd, b"x")
        run(has_port, k, fd)


def test_order_of_errors_of_udp(both):
    @both
    def scenario(k, run):
        receiver = bound(k, DGRAM)
        address = k.getsockname(receiver)
        sizes = (1, 65_507, 65_508, 65_535, 65_536)
        for size in sizes:
            for flags in (0, OOB):
                for to in (None, ("127.0.0.1", 0), address):
                    fd = k.socket(INET, DGRAM | NB)
                    run(k.sendto, fd, bytes(size), flags, to)
        # With an error of its own pending, or shut down.
        gone = bound(k, DGRAM)
        nowhere = k.getsockname(gone)
        k.close(gone)
        for prepare in ("error", "shut"):
            for size in sizes:
                for to in (None, ("127.0.0.1", 0), address):
                    fd = k.socket(INET, DGRAM | NB)
                    k.connect(fd, nowhere)
                    if prepare == "error":
                        k.write(fd, b"x")
                        run.look(fd)
                    else:
                        run(k.shutdown, fd, 1)
                    run(k.sendto, fd, bytes(size), 0, to)
        fd = k.socket(INET, DGRAM | NB)
        k.connect(fd, nowhere)
        k.write(fd, b"x")
        run.look(fd)
        run(k.recvfrom, fd, 1, OOB)
        run(k.recvfrom, fd, 0)
        run(k.recvfrom, fd, 0)


@pytest.mark.parametrize(("family", "loopback", "wildcard"), FAMILIES)
def test_addresses_of_connected_udp_sockets(both, family, loopback, wildcard):
    @both
    def scenario(k, run):
        target = bound(k, DGRAM, (loopback, 0), family)
        address = k.getsockname(target)[:2]
        for start in (None, (wildcard, 0), (loopback, 0)):
            fd = k.socket(family, DGRAM | NB)
            if start is not None:
                k.bind(fd, start)
            run(host, k, fd)
            run(k.connect, fd, address)
            run(host, k, fd)
            run(has_port, k, fd)
            run(lambda fd=fd: k.getpeername(fd)[:2] == address)
            run(k.write, fd, b"hello")
            run.look(target)
            run(lambda: k.recvfrom(target, 9)[1][0])
            run(k.connect, fd, (loopback, 9))
            run(k.connect, fd, None)
            run(host, k, fd)
            run(has_port, k, fd)
            run(k.getpeername, fd)
            # Without a port that a bind asked for, it is as new.
            run(k.bind, fd, (loopback, 0))
            run(host, k, fd)
        fd = bound(k, DGRAM, (wildcard, 0), family)
        port = k.getsockname(fd)[1]
        k.close(fd)
        fd = bound(k, DGRAM, (wildcard, port), family)
        k.connect(fd, address)
        run(host, k, fd)
        k.connect(fd, None)
        run(host, k, fd)
        run(lambda: k.getsockname(fd)[1] == port)
        run(k.bind, fd, (loopback, 0))
        # What comes from another than the peer is not for it.
        k.connect(fd, address)
        stranger = bound(k, DGRAM, (loopback, 0), family)
        run(k.sendto, stranger, b"x", 0, (loopback, port))
        k.advance(5_000_000)
        run.look(fd)
        run(k.connect, fd, (wildcard, address[1]))
        run(lambda: k.getpeername(fd)[0])
        run(k.connect, fd, (loopback, 0))
        run(k.getpeername, fd)
        run(k.write, fd, b"x")


def test_ports_that_nothing_asked_for_are_given_back(both):
    @both
    def scenario(k, run):
        gone = bound(k, STREAM)
        nowhere = k.getsockname(gone)
        listener, address = listening(k)
        for asked in (None, ("127.0.0.1", 0), ("0.0.0.0", 0), ("127.0.0.1", nowhere[1])):
            # Refused.
            fd = k.socket(INET, STREAM | NB)
            if asked is not None:
                if asked[1]:
                    k.close(gone)
                    nowhere = ("127.0.0.1", 1)
                k.bind(fd, asked)
            run(k.connect, fd, nowhere)
            run.look(fd)
            run(host, k, fd)
            run(has_port, k, fd)
            run(k.getsockopt, fd, SOL, socket.SO_ERROR)
            run(k.connect, fd, nowhere)
            run(host, k, fd)
            run(has_port, k, fd)
            run(k.bind, fd, ("127.0.0.1", 0))
            run(k.bind, fd, ("127.0.0.1", 0))
        for asked in (None, ("127.0.0.1", 0), ("0.0.0.0", 0)):
            # Disconnected.
            fd = k.socket(INET, STREAM)
            if asked is not None:
                k.bind(fd, asked)
            k.connect(fd, address)
            run(host, k, fd)
            run(k.bind, fd, ANYWHERE)
            run(k.connect, fd, None)
            run(host, k, fd)
            run(has_port, k, fd)
            run(k.bind, fd, ANYWHERE)
            # The address of a bind before is kept, though this one asked for none.
            k.connect(fd, None)
            run(k.bind, fd, ("0.0.0.0", 0))
            run(k.connect, fd, address)
            run(k.connect, fd, None)
            run(host, k, fd)
            # Reset.
            server, _ = k.accept4(listener)
            k.close(server)
            fd = k.socket(INET, STREAM)
            if asked is not None:
                k.bind(fd, asked)
            k.connect(fd, address)
            server, _ = k.accept4(listener)
            k.setsockopt(server, SOL, socket.SO_LINGER, ABORT)
            k.close(server)
            run.look(fd)
            run(has_port, k, fd)
            run(k.bind, fd, ANYWHERE)


def test_listeners_that_are_shut_down(both):
    @both
    def scenario(k, run):
        taken = bound(k, STREAM)
        free = k.getsockname(taken)
        for asked in (None, ("127.0.0.1", 0), ("0.0.0.0", 0), free):
            for how in (0, 2, 1):
                fd = k.socket(INET, STREAM | NB)
                if asked == free:
                    k.close(taken)
                if asked is not None:
                    k.bind(fd, asked)
                run(k.listen, fd)
                run(host, k, fd)
                address = ("127.0.0.1", k.getsockname(fd)[1])
                client = k.socket(INET, STREAM | NB)
                run(k.connect, client, address)
                run(k.shutdown, fd, how)
                run.look(fd, client)
                run(host, k, fd)
                run(has_port, k, fd)
                run(k.accept4, fd) if how != 1 else None
                run(k.getsockopt, fd, SOL, socket.SO_ACCEPTCONN)
                late = k.socket(INET, STREAM | NB)
                run(k.connect, late, address)
                run.look(late)
                run(k.bind, fd, ("127.0.0.1", 0))
                run(k.listen, fd)
                run(host, k, fd)
                run(k.getsockopt, fd, SOL, socket.SO_ACCEPTCONN)
                address = ("127.0.0.1", k.getsockname(fd)[1])
                again = k.socket(INET, STREAM | NB)
                run(k.connect, again, address)
                run.look(again, fd)
                for used in (again, late, client, fd):
                    k.setsockopt(used, SOL, socket.SO_LINGER, ABORT)
                    k.close(used)
                if asked == free:
                    taken = k.socket(INET, STREAM)


@pytest.mark.parametrize("kind", [STREAM, DGRAM])
def test_two_binds_to_one_port(both, kind):
    @both
    def scenario(k, run):
        shares = [(), (REUSEADDR,), (REUSEPORT,), (REUSEADDR, REUSEPORT)]
        hosts = ["127.0.0.1", "0.0.0.0", "127.0.0.2"]
        for first in shares:
            for second in shares:
                for one in hosts:
                    for two in hosts:
                        # A port that is free for every address.
                        fd = bound(k, kind, ("0.0.0.0", 0))
                        port = k.getsockname(fd)[1]
                        k.close(fd)
                        fd = bound(k, kind, (one, port), options=first)
                        other = k.socket(INET, kind | NB)
                        for option in second:
                            k.setsockopt(other, SOL, option, 1)
                        run(k.bind, other, (two, port))
                        if kind == STREAM:
                            run(k.listen, fd)
                            run(k.listen, other)
                            third = k.socket(INET, kind | NB)
                            for option in second:
                                k.setsockopt(third, SOL, option, 1)
                            run(k.bind, third, (two, port))
                            k.close(third)
                        k.close(fd)
                        k.close(other)


def test_addresses_that_are_refused(both):
    @both
    def scenario(k, run):
        for kind in (STREAM, DGRAM):
            fd = k.socket(INET, kind | NB)
            for address in (("8.8.8.8", 0), ("127.0.0.1", 0), ANYWHERE):
                run(k.bind, fd, address)
            six = k.socket(INET6, kind | NB)
            for address in (("2001:db8::1", 0), ("::1", 0), ("::1", 0)):
                run(k.bind, six, address)
            run(k.connect, fd, ("127.0.0.1", 0))
            run.look(fd)
        for kind in (STREAM, DGRAM):
            fd = k.socket(INET, kind | NB)
            run(k.listen, fd) if kind == DGRAM else None
            run(k.accept4, fd)
            run(k.getpeername, fd)
            run(k.connect, fd, None)
            run(k.shutdown, fd, 2)
            run.look(fd)


def test_calls_on_connections_in_every_state(both):
    @both
    def scenario(k, run):
        client, server = tcp_pair(k)
        address = k.getsockname(client)
        for fd in (client, server):
            run(k.bind, fd, ANYWHERE)
            run(k.listen, fd)
            run(k.accept4, fd)
            run(k.connect, fd, address)
            run(k.sendto, fd, b"x", 0, address)
        run.look(client, server)
        run(k.shutdown, client, 1)
        run.look(client, server)
        for fd in (client, server):
            run(k.bind, fd, ANYWHERE)
            run(k.listen, fd)
            run(k.accept4, fd)
            run(k.connect, fd, address)
            run(lambda fd=fd: k.getpeername(fd)[0])
        k.read(server, 9)
        run(k.shutdown, server, 1)
        run.look(client, server)
        for fd in (client, server):
            run(k.listen, fd)
            run(k.accept4, fd)
            run(lambda fd=fd: k.getpeername(fd)[0])
            run(k.write, fd, b"x")
            run(k.read, fd, 9)
            run(k.read, fd, 9)
            run(k.shutdown, fd, 2)
        listener, address = listening(k)
        for call in (k.connect,):
            run(call, listener, address)
        run(k.bind, listener, ANYWHERE)
        run(k.write, listener, b"x")
        run(k.connect, listener, None)
        run.look(listener)
        run(k.listen, listener)


def test_errors_of_one_destination_and_of_none(both):
    @both
    def scenario(k, run):
        # A port that refuses is an error of the socket that is connected to it.
        gone, peer = bound(k, DGRAM), bound(k, DGRAM)
        nowhere = k.getsockname(gone)
        k.close(gone)
        fd = k.socket(INET, DGRAM | NB)
        k.connect(fd, k.getsockname(peer))
        run(k.sendto, fd, b"x", 0, nowhere)
        run.look(peer, fd)
        k.advance(5_000_000)
        run.look(fd)
        # An error goes when a new connection begins; being shut down does not.
        _, address = listening(k)
        fd = k.socket(INET, STREAM)
        k.connect(fd, address)
        k.connect(fd, None)
        run.look(fd)
        run(k.connect, fd, address)
        run.look(fd)
        fd = k.socket(INET, STREAM)
        run(k.shutdown, fd, 0)
        run(k.connect, fd, address)
        run.look(fd)
        # Reading nothing finds what there is, and does not skip the urgent byte.
        client, server = tcp_pair(k)
        k.sendto(client, b"X", OOB)
        run.look(server)
        run(k.recvfrom, server, 0)
        run(k.recvfrom, server, 0, OOB)
        run(k.recvfrom, server, 1, OOB)
