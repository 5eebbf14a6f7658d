"""socket, select and selectors inside a world: what programs may ask of a socket."""

import asyncio
import io
import pickle
import select
import selectors
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable
from socket import socket as bound_socket
from typing import Any

import pytest

from aiopoll.sim import World

from .inside_world import inside


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("localhost", 0)) as server:
        one = socket.create_connection(server.getsockname()[:2])
        two, _ = server.accept()
    return one, two


def is_a_socket() -> None:
    with socket.socket() as sock, bound_socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        assert isinstance(sock, socket.socket)
        assert isinstance(sock, bound_socket)
        assert type(sock) is type(other)
        assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, socket.SOCK_STREAM, 0)
        assert other.type is socket.SOCK_DGRAM
        assert repr(sock).startswith("<socket.socket fd=")
        assert "laddr=('0.0.0.0', 0)" in repr(sock)
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(sock)
    assert sock.fileno() == -1
    assert "[closed]" in repr(sock)
    with pytest.raises(OSError, match="Bad file descriptor"):
        sock.getsockname()

    class Mine(socket.socket):
        extra = 5

    with Mine() as mine:
        assert mine.extra == 5
        assert isinstance(mine, socket.socket)
        assert not isinstance(sock, Mine)


def takes_descriptors() -> None:
    one, two = socket.socketpair()
    copy = socket.socket(fileno=one.detach())
    assert one.fileno() == -1
    assert copy.family is socket.AF_UNIX
    again = socket.fromfd(copy.fileno(), copy.family, copy.type)
    third = copy.dup()
    copy.close()
    again.send(b"a")
    third.send(b"b")
    assert two.recv(10) == b"ab"
    assert not third.get_inheritable()
    third.set_inheritable(True)
    assert third.get_inheritable()
    socket.close(again.detach())
    third.close()
    assert two.recv(10) == b""
    two.close()
    with pytest.raises(ValueError, match="negative"):
        socket.socket(fileno=-1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        socket.socket(fileno=999)


def makes_files() -> None:
    one, two = pair()
    with one, two:
        writer, reader = one.makefile("wb"), two.makefile("r", encoding="utf-8", newline="\n")
        writer.write("grün\nrot\n".encode())
        writer.flush()
        assert [reader.readline(), reader.readline()] == ["grün\n", "rot\n"]
        raw = two.makefile("rb", buffering=0)
        assert isinstance(raw, socket.SocketIO)
        one.sendall(b"x" * 10)
        assert raw.read(4) == b"xxxx"
        two.settimeout(0.5)
        assert two.recv(100) == b"x" * 6
        with pytest.raises(TimeoutError):
            raw.read(1)
        fd = two.fileno()
        two.close()
        # The files keep it.
        assert raw.fileno() == fd
        raw.close()
        reader.close()
        assert two.fileno() == -1
        writer.close()


def sends_messages() -> None:
    one, two = socket.socketpair()
    with one, two, socket.socket() as passed:
        assert one.sendmsg([b"ab", bytearray(b"cd"), memoryview(b"ef")]) == 6
        first, second = bytearray(4), bytearray(4)
        assert two.recvmsg_into([first, second])[0] == 6
        assert (bytes(first), bytes(second[:2])) == (b"abcd", b"ef")
        socket.send_fds(one, [b"fd"], [passed.fileno()])
        data, fds, _, _ = socket.recv_fds(two, 10, 4)
        assert data == b"fd"
        with socket.socket(fileno=fds[0]) as received:
            assert received.type == passed.type
        one.sendall(b"hello")
        assert two.recv(10, socket.MSG_PEEK) == two.recv(10) == b"hello"
        target = bytearray(3)
        one.sendall(b"hello")
        assert two.recv_into(target) == 3
        with pytest.raises(ValueError, match="buffer too small"):
            two.recv_into(target, 4)


def sends_a_file() -> None:
    one, two = pair()
    with one, two:
        assert one.sendfile(io.BytesIO(b"z" * 5000), offset=1000) == 4000
        got = b""
        while len(got) < 4000:
            got += two.recv(4096)
        assert got == b"z" * 4000


def times_out() -> None:
    one, two = pair()
    with one, two:
        one.settimeout(1.5)
        assert (one.timeout, one.gettimeout(), one.getblocking()) == (1.5, 1.5, True)
        with pytest.raises(TimeoutError, match="timed out"):
            one.recv(1)
        assert time.monotonic() == pytest.approx(1.5, abs=0.01)
        with pytest.raises(TimeoutError):
            one.sendall(bytes(50_000_000))
        one.setblocking(False)
        with pytest.raises(BlockingIOError):
            one.recv(1)
        with pytest.raises(ValueError, match="Timeout value out of range"):
            one.settimeout(-1)
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(0.25)
        with socket.socket() as made:
            assert made.gettimeout() == 0.25
        socket.setdefaulttimeout(before)


def has_options() -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, struct.pack("i", 1))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 4) == struct.pack("i", 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 2, 0))
        with pytest.raises(OSError, match="not connected"):
            sock.getpeername()
        assert sock.connect_ex(("localhost", 1)) == 111
        with pytest.raises(TypeError, match="address must be tuple"):
            sock.bind("localhost")
        with pytest.raises(OverflowError):
            sock.bind(("localhost", 70000))


def is_closed_when_lost() -> None:
    one, two = socket.socketpair()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del one
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert two.recv(1) == b""
    two.close()


def resolves_numbers_and_services() -> None:
    def brief(*args: Any, **kw: Any) -> list[Any]:
        return [(int(f), int(t), p, *a) for f, t, p, _, a in socket.getaddrinfo(*args, **kw)]

    stream = {"type": socket.SOCK_STREAM}
    kinds = [(1, 6), (2, 17), (3, 0)]
    assert brief("10.1.2.3", 80) == [(2, *kind, "10.1.2.3", 80) for kind in kinds]
    assert brief("::1", "https", **stream) == [(10, 1, 6, "::1", 443, 0, 0)]
    assert brief(None, "8080", **stream)[0] == (2, 1, 6, "127.0.0.1", 8080)
    passive = brief(None, 0, flags=socket.AI_PASSIVE, **stream)
    assert [entry[3] for entry in passive] == ["0.0.0.0", "::"]
    assert brief("localhost", None, proto=17) == [
        (2, 2, 17, "127.0.0.1", 0),
        (10, 2, 17, "::1", 0, 0, 0),
    ]
    assert socket.getaddrinfo("main", 1, 0, 1, 0, socket.AI_CANONNAME)[0][3] == "main"
    assert socket.gethostbyname("127.1") == "127.0.0.1"
    for code, args in (
        (socket.EAI_NONAME, ("no.such.host", 80)),
        (socket.EAI_NONAME, ("main", 80, 0, 0, 0, socket.AI_NUMERICHOST)),
        (socket.EAI_NONAME, (None, None)),
        (socket.EAI_SERVICE, ("main", "no-such-service")),
        (socket.EAI_ADDRFAMILY, ("::1", 80, socket.AF_INET)),
        (socket.EAI_NODATA, ("main", 80, socket.AF_INET6)),
        (socket.EAI_FAMILY, ("main", 80, socket.AF_UNIX)),
    ):
        with pytest.raises(socket.gaierror) as caught:
            socket.getaddrinfo(*args)
        assert caught.value.errno == code
    assert socket.getservbyname("http") == 80
    assert socket.getservbyport(443) == "https"
    assert socket.getprotobyname("tcp") == 6
    assert socket.if_nametoindex("lo") == 1


def knows_names() -> None:
    assert socket.gethostname() == "main"
    assert socket.gethostbyname("main") == "10.0.255.254"
    assert socket.gethostbyaddr("10.0.255.254")[0] == "main"
    assert socket.getfqdn() == "main"
    assert socket.getnameinfo(("10.0.255.254", 80), 0) == ("main", "http")
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    assert socket.getnameinfo(("10.0.255.254", 80), numeric) == ("10.0.255.254", "80")
    with pytest.raises(socket.gaierror):
        socket.getnameinfo(("10.9.9.9", 80), socket.NI_NAMEREQD)


def polls(make: Callable[[], selectors.BaseSelector]) -> None:
    one, two = socket.socketpair()
    with one, two, make() as selector:
        selector.register(two, selectors.EVENT_READ, "two")
        selector.register(one, selectors.EVENT_READ | selectors.EVENT_WRITE)
        assert [(key.fileobj, mask) for key, mask in selector.select(1)] == [(one, 2)]
        selector.unregister(one)
        before = time.monotonic()
        assert selector.select(2.5) == []
        assert time.monotonic() == before + 2.5
        threading.Timer(1, one.send, (b"x",)).start()
        assert [(key.data, mask) for key, mask in selector.select()] == [("two", 1)]
        assert time.monotonic() == before + 3.5


def uses_select() -> None:
    one, two = socket.socketpair()
    with one, two:
        assert select.select([two], [one], [], 1) == ([], [one], [])
        one.send(b"x")
        assert select.select([one, two], [], [one, two]) == ([two], [], [])
        poll = select.poll()
        poll.register(two, select.POLLIN)
        poll.register(one, select.POLLIN)
        assert poll.poll(100) == [(two.fileno(), select.POLLIN)]
        with pytest.raises(FileNotFoundError):
            poll.modify(99, 1)
        with select.epoll() as epoll:
            epoll.register(two.fileno(), select.EPOLLIN | select.EPOLLET)
            assert epoll.poll(1) == [(two.fileno(), select.EPOLLIN)]
            assert epoll.poll(1) == []
            with pytest.raises(FileExistsError):
                epoll.register(two.fileno())
        assert epoll.closed
        with pytest.raises(ValueError, match="closed"):
            epoll.poll()


CASES: list[Callable[[], None]] = [
    is_a_socket,
    takes_descriptors,
    makes_files,
    sends_messages,
    sends_a_file,
    times_out,
    has_options,
    is_closed_when_lost,
    knows_names,
    uses_select,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_simulated_socket(case: Callable[[], None]) -> None:
    inside(case)


# The same on the machine's sockets: what these expect is what sockets do.
REAL = [is_a_socket, takes_descriptors, makes_files, sends_messages, has_options, uses_select]


@pytest.mark.parametrize("case", REAL, ids=lambda case: case.__name__)
def test_a_socket_of_the_machine(case: Callable[[], None]) -> None:
    case()


def test_numbers_and_services_resolve() -> None:
    inside(resolves_numbers_and_services)


@pytest.mark.parametrize(
    "name", ["DefaultSelector", "SelectSelector", "PollSelector", "EpollSelector"]
)
def test_selectors_wait_in_virtual_time(name: str) -> None:
    inside(lambda: polls(getattr(selectors, name)))


def test_names_resolve_to_hosts_and_may_fail() -> None:
    async def program(world: World) -> None:
        world.host("db", asyncio.Event().wait)
        assert socket.gethostbyname("db") == world.host("db").address
        assert await asyncio.get_running_loop().getaddrinfo("DB.", 5, type=1)
        world.network.fail_name("db", error=socket.EAI_AGAIN, until=None)
        with pytest.raises(socket.gaierror) as caught:
            socket.create_connection(("db", 80))
        assert caught.value.errno == socket.EAI_AGAIN

    inside(program)


def test_blocking_sockets_reach_another_host() -> None:
    async def program(world: World) -> Any:
        def server() -> None:
            with socket.create_server(("", 7)) as listener:
                while True:
                    sock, peer = listener.accept()
                    with sock:
                        sock.sendall(sock.recv(100) + repr(peer[0]).encode())

        world.host("echo", server)
        time.sleep(1)
        with socket.create_connection(("echo", 7), timeout=5) as sock:
            sock.sendall(b"hello ")
            return sock.recv(100)

    assert inside(program) == b"hello '10.0.255.254'"


def test_a_lost_socket_closes_its_own_descriptor() -> None:
    """The collector runs while another host's code runs, which has that number too."""

    async def program(world: World) -> bytes:
        lost: list[Any] = []

        async def loses() -> None:
            lost.extend(socket.socketpair())

        world.host("a", loses)
        mine = socket.socketpair()
        await asyncio.sleep(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lost.clear()
        mine[0].send(b"still open")
        data = mine[1].recv(100)
        mine[0].close()
        mine[1].close()
        return data

    assert inside(program) == b"still open"
