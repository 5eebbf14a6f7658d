"""Unix sockets whose peer is gone or connected elsewhere, names taken, the order of errors."""

import os
import socket

import pytest

from .test_calls_sockets import DGRAM, NB, SEQPACKET, STREAM, UNIX

OOB = socket.MSG_OOB


def bound(k, name, kind=DGRAM):
    fd = k.socket(UNIX, kind | NB)
    k.bind(fd, name)
    if kind != DGRAM:
        k.listen(fd)
    return fd


def pending_error(k, fd):
    return k.getsockopt(fd, socket.SOL_SOCKET, socket.SO_ERROR)


def test_datagrams_to_a_socket_connected_elsewhere(both):
    @both
    def scenario(k, run):
        hub, friend, stranger = (bound(k, f"/{name}") for name in ("hub", "friend", "stranger"))
        k.connect(hub, "/friend")
        run(k.sendto, stranger, b"x", 0, "/hub")
        run(k.connect, stranger, "/hub")
        run(k.getpeername, stranger)
        run(k.sendto, stranger, bytes(300_000), 0, "/hub")
        run(k.sendto, stranger, b"x", OOB, "/hub")
        run(k.shutdown, hub, 0)
        run(k.sendto, stranger, b"x", 0, "/hub")
        run(k.sendto, friend, b"x", 0, "/hub")
        run(k.shutdown, stranger, 1)
        run(k.sendto, stranger, b"x", 0, "/hub")
        # A socket may send to itself, and be its own peer.
        own = bound(k, "/own")
        run(k.sendto, own, b"self", 0, "/own")
        run(k.connect, own, "/own")
        run(k.write, own, b"again")
        run(k.sendto, friend, b"x", 0, "/own")
        run(k.connect, friend, "/own")
        for _ in range(3):
            run(lambda: k.recvfrom(own, 9)[0])
        # The peer of a peer that was connected first.
        k.connect(friend, "/hub")
        k.connect(hub, None)
        run(k.sendto, stranger, b"x", 0, "/hub")
        # Its own peer, and dead: the old peer finds nothing.
        one, two = k.socketpair(UNIX, DGRAM | NB)
        k.bind(one, "/alone")
        k.connect(one, None)
        k.connect(one, "/alone")
        run(k.write, two, b"x")
        k.close(one)
        run(k.write, two, b"x")
        pair = k.socketpair(UNIX, DGRAM | NB)
        k.bind(pair[0], "/pair")
        run(k.sendto, friend, b"x", 0, "/pair")
        run(k.connect, friend, "/pair")
        k.close(pair[1])
        run(k.sendto, friend, b"x", 0, "/pair")
        run.look(pair[0])
        run(k.write, pair[0], b"x")
        run(k.sendto, friend, b"x", 0, "/pair")


def test_messages_are_lost_with_the_connection(both):
    @both
    def scenario(k, run):
        def waiting():
            """A pair with one message for its first end."""
            one, two = k.socketpair(UNIX, DGRAM | NB)
            k.write(two, b"unread")
            return one, two

        # The peer is dead: the send that finds out loses what was not read.
        one, two = waiting()
        k.close(two)
        run.look(one)
        run(k.write, one, b"x")
        run.look(one)
        run(k.read, one, 9)
        run(k.write, one, b"x")
        run(pending_error, k, one)
        # So does a connection to another, or to none; a peer connected to it gets an error.
        other = bound(k, "/other")
        for name in ("/other", None):
            one, two = waiting()
            run(k.connect, one, name)
            run.look(one, two)
            run(k.read, one, 9)
            run(pending_error, k, two)
            run(k.write, two, b"x")
            run(k.read, one, 9)
            run(k.write, two, b"x")
            # Nothing to lose: no error.
            one, two = k.socketpair(UNIX, DGRAM | NB)
            run(k.connect, one, name)
            run(pending_error, k, two)
        # The same peer again keeps all.
        one, two = k.socket(UNIX, DGRAM | NB), other
        k.bind(one, "/one")
        k.connect(one, "/other")
        k.sendto(two, b"keep", 0, "/one")
        run(k.connect, one, "/other")
        run(k.read, one, 9)
        # Its name led to it, not its connection.
        k.sendto(two, b"unread", 0, "/one")
        k.close(two)
        run(k.sendto, one, b"x", 0, "/other")
        run(k.read, one, 9)
        run(k.connect, one, "/other")
        run(lambda: os.path.basename(k.getpeername(one)))


def test_order_of_errors_of_datagrams(both):
    @both
    def scenario(k, run):
        one, two = k.socketpair(UNIX, DGRAM | NB)
        alone = k.socket(UNIX, DGRAM | NB)
        big, fits = bytes(300_000), b"x"
        for fd in (alone, one):
            for address in ("/none", "\0none", None):
                for data in (big, fits):
                    for flags in (OOB, 0):
                        # Without a peer older kernels say ENOTCONN, whatever the size.
                        if fd != alone or address is not None or data is fits:
                            run(k.sendto, fd, data, flags, address)
        bound(k, "/stream", STREAM)
        run(k.sendto, alone, big, 0, "/stream")
        run(k.sendto, alone, fits, 0, "/stream")
        run(k.connect, alone, "/stream")
        # A side that is shut down comes before the name, but not before the size.
        for fd in (alone, one):
            k.shutdown(fd, 1)
            for address in ("/none", None):
                for data in (big, fits):
                    if fd != alone or address is not None:
                        run(k.sendto, fd, data, 0, address)
        # A full buffer comes before the name.
        full, _ = k.socketpair(UNIX, DGRAM | NB)
        try:
            while True:
                k.write(full, bytes(60_000))
        except BlockingIOError:
            pass
        run(k.sendto, full, fits, 0, "/none")
        run(k.sendto, full, big, 0, "/none")
        # An error of its own comes first of all.
        one, two = k.socketpair(UNIX, DGRAM | NB)
        k.write(one, b"unread")
        k.connect(two, None)
        run(k.sendto, one, fits, 0, "/none")
        run(k.sendto, one, fits, 0, "/none")


@pytest.mark.parametrize("kind", [STREAM, SEQPACKET])
def test_order_of_errors_of_connections(both, kind):
    @both
    def scenario(k, run):
        def reset():
            """An end whose peer closed with unread data."""
            one, two = k.socketpair(UNIX, kind | NB)
            k.write(one, b"unread")
            k.close(two)
            return one

        for data in (b"", b"x", bytes(1_000_000)):
            for flags in (0, OOB) if kind != STREAM else (0,):
                for address in (None, "/none"):
                    fresh = k.socket(UNIX, kind | NB)
                    run(k.sendto, fresh, data, flags, address)
                    for fd in (reset(), k.socketpair(UNIX, kind | NB)[0]):
                        run(k.sendto, fd, data, flags, address)
                        run(pending_error, k, fd)
                    one, two = k.socketpair(UNIX, kind | NB)
                    k.shutdown(two, 0)
                    run(k.sendto, one, data, flags, address)
                    one, two = k.socketpair(UNIX, kind | NB)
                    k.close(two)
                    run(k.sendto, one, data, flags, address)
        for flags in (0, OOB) if kind != STREAM else (0,):
            run(k.recvfrom, k.socket(UNIX, kind | NB), 1, flags)
            run(k.recvfrom, reset(), 1, flags)


def test_bound_and_bound_again(both):
    @both
    def scenario(k, run):
        abstract = f"\0aiopoll corners {os.getpid()}"
        for kind in (STREAM, DGRAM, SEQPACKET):
            taken, fd = bound(k, f"/taken{kind}", kind), k.socket(UNIX, kind | NB)
            also = bound(k, f"{abstract}{kind}", kind)
            for name in (f"/taken{kind}", f"{abstract}{kind}", f"/fd{kind}"):
                run(k.bind, fd, name)
            # It has a name now.
            for name in (f"/taken{kind}", f"/fd{kind}", f"/new{kind}"):
                run(k.bind, fd, name)
            for name in (f"{abstract}{kind}", f"{abstract} new{kind}", ""):
                run(k.bind, fd, name)
            run(lambda fd=fd: os.path.basename(k.getsockname(fd)))
            # A refused name leaves nothing behind.
            run(k.bind, k.socket(UNIX, kind), f"/new{kind}")
            if kind != DGRAM:
                # An accepted socket has the name of its listener.
                k.connect(k.socket(UNIX, kind | NB), f"/taken{kind}")
                child, _ = k.accept4(taken)
                for name in (f"/taken{kind}", f"/child{kind}", ""):
                    run(k.bind, child, name)
            # The name stays when its socket has gone.
            k.close(taken)
            run(k.bind, k.socket(UNIX, kind), f"/taken{kind}")
            k.close(also)
            run(k.bind, k.socket(UNIX, kind), f"{abstract}{kind}")


def test_names_that_are_no_sockets(both):
    @both
    def scenario(k, run):
        k.close(k.open("/file", os.O_RDWR | os.O_CREAT))
        k.mkfifo("/fifo")
        for kind in (STREAM, DGRAM, SEQPACKET):
            for name in ("/file", "/fifo"):
                fd = k.socket(UNIX, kind | NB)
                run(k.connect, fd, name)
                run(k.bind, fd, name)
                if kind == DGRAM:
                    run(k.sendto, fd, b"x", 0, name)
        run(lambda: k.open("/file", os.O_RDWR) > 0)


def test_connecting_streams_in_every_state(both):
    @both
    def scenario(k, run):
        for kind in (STREAM, SEQPACKET):
            listener = bound(k, f"/listener{kind}", kind)
            other = bound(k, f"/other{kind}", kind)
            unbound = k.socket(UNIX, kind | NB)
            mute = k.socket(UNIX, kind | NB)
            k.bind(mute, f"/mute{kind}")
            for name in (f"/listener{kind}", f"/mute{kind}", "/none", f"/other{kind}"):
                for fd in (unbound, listener, mute):
                    run(k.connect, fd, name)
                    run.look(fd)
            run(k.listen, unbound, 1)
            run(k.listen, mute, 1)
            run(k.connect, unbound, None)
            run(k.shutdown, other, 0)
            run(k.connect, k.socket(UNIX, kind | NB), f"/other{kind}")
            run(k.shutdown, mute, 1)
            run(k.connect, k.socket(UNIX, kind | NB), f"/mute{kind}")
            # Shut down before it connects.
            early = k.socket(UNIX, kind | NB)
            run(k.shutdown, early, 1)
            run.look(early)
            run(k.connect, early, f"/listener{kind}")
            run.look(early)
            run(k.write, early, b"x")


def test_a_listener_goes_with_connections_waiting(both):
    @both
    def scenario(k, run):
        for kind in (STREAM, SEQPACKET):
            for data in (b"", b"early"):
                listener = bound(k, f"/waiting{kind}{data.decode()}", kind)
                client = k.socket(UNIX, kind | NB)
                k.connect(client, f"/waiting{kind}{data.decode()}")
                if data:
                    k.write(client, data)
                k.close(listener)
                run.look(client)
                run(k.write, client, b"x")
                run(k.read, client, 1)
                run(pending_error, k, client)


def test_names_as_messages_have_them(both):
    @both
    def scenario(k, run):
        abstract = f"\0aiopoll types {os.getpid()}"
        for kind in (STREAM, DGRAM, SEQPACKET):
            fd = k.socket(UNIX, kind | NB)
            run(k.bind, fd, abstract)
        run(k.connect, k.socket(UNIX, STREAM | NB), abstract)
        one, two = k.socketpair(UNIX, STREAM | NB)
        k.write(one, b"before it has a name")
        k.bind(one, abstract + "2")
        run(k.recvfrom, two, 6)
        run(k.recvmsg, two, 6)
        one, two = k.socketpair(UNIX, DGRAM | NB)
        k.write(one, b"before it has a name")
        k.bind(one, abstract + "3")
        run(k.recvfrom, two, 6)


def test_waiting_for_all_takes_the_error(both):
    @both
    def scenario(k, run):
        for flags in (0, socket.MSG_WAITALL):
            one, two = k.socketpair(UNIX, STREAM | NB)
            k.write(two, b"unread")
            k.write(one, b"abc")
            k.close(one)
            run(k.recvfrom, two, 10, flags)
            run.look(two)
            run(k.recvfrom, two, 10)
