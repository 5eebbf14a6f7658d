"""sendto_many(): the receiver and the protocol see what they see of as many calls of sendto()."""

import asyncio
import errno
import inspect
import os
import socket
import sys
from asyncio import selector_events
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import LOOPS, until

import aiopoll

SO_NO_CHECK = 11  # without it there are no segments (EIO)
UDP_SEGMENT = 103
END = b"the end"


@pytest.fixture(params=["aio", "set", "epoll"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


class Recorder(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.close_at_error: asyncio.DatagramTransport | None = None

    def error_received(self, exc: Exception) -> None:
        assert isinstance(exc, OSError)
        self.events.append(exc.errno)
        if self.close_at_error:
            self.close_at_error.close()

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")


def many(transport: Any, datagrams: Iterable[Any], addr: Any) -> None:
    """sendto_many(); on asyncio's loop, the calls that it stands for."""
    if hasattr(transport, "sendto_many"):
        transport.sendto_many(datagrams, addr)
    else:
        for data in datagrams:
            transport.sendto(data, addr)


def receiver(where: Any) -> socket.socket:
    """A socket for what is sent, at a host or a path."""
    if "." not in where and ":" not in where:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(where)
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in where else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((where, 0))
    sock.setblocking(False)
    return sock


def all_queued(sock: socket.socket) -> list[bytes]:
    received = []
    while True:
        try:
            received.append(sock.recv(300_000))
        except BlockingIOError:
            return received


async def sends(
    where: str, connected: bool, datagrams: list[Any], option: tuple[int, int, int] | None = None
) -> Any:
    """Sends them one after another, by one call; what is received, and the protocol's events."""
    loop = asyncio.get_running_loop()
    with receiver(where) as theirs:
        ours = socket.socket(theirs.family, socket.SOCK_DGRAM)
        if option:
            ours.setsockopt(*option)
        if connected:
            ours.connect(theirs.getsockname())
        transport, protocol = await loop.create_datagram_endpoint(Recorder, sock=ours)
        many(transport, datagrams, None if connected else theirs.getsockname())
        transport.sendto(END, None if connected else theirs.getsockname())
        received: list[bytes] = []
        while END not in received:
            received += all_queued(theirs)
            await asyncio.sleep(0)
        transport.close()
        await until(lambda: protocol.events[-1:] == ["lost"])
        return received, protocol.events


def of_sizes(*sizes: int) -> list[bytes]:
    return [bytes([number % 256]) * size for number, size in enumerate(sizes)]


RUNS = {
    "one": of_sizes(1200),
    "none": [],
    "equal": of_sizes(*[1200] * 20),
    "the last is shorter": of_sizes(*[1200] * 5, 7),
    "several runs": of_sizes(*[1200] * 5, 7, *[1200] * 6, 3, 3, 3, 1),
    "growing": of_sizes(1, 2, 3, 4, 4, 5),
    "falling": of_sizes(9, 8, 8, 7, 6, 6, 6, 1),
    "more than 64": of_sizes(*[10] * 64, *[10] * 64, 10, 3),
    "one byte": of_sizes(*[1] * 70),
    "more than 64 KiB": of_sizes(*[9000] * 16),
    "large": of_sizes(30_000, 30_000, 30_000, 65_000, 65_000, 20),
    "too large": of_sizes(100, 100, 70_000, 70_000, 100, 100),
    "several kinds": [b"ab", bytearray(b"cd"), memoryview(b"ef"), b"gh", b"ij", bytearray(b"k")],
    "strided": [b"ab", memoryview(b"c-d-")[::2].tobytes(), b"ef"],
}


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "unix"])
@pytest.mark.parametrize("run", RUNS)
def test_what_is_received(
    loop: Any, run: str, host: str, connected: bool, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)  # a path that fits
    datagrams = RUNS[run]
    if host == "unix":
        datagrams = [data for data in datagrams if len(data) <= 65_000][:8]  # a full queue waits
    seen = loop.run_until_complete(sends(host, connected, datagrams))
    if host == "unix":
        os.unlink(host)
    oracle = LOOPS["asyncio"]()
    assert seen == oracle.run_until_complete(sends(host, connected, datagrams))
    oracle.close()
    assert seen[0] == [bytes(data) for data in datagrams if len(data) <= 65_000] + [END]


@pytest.mark.parametrize(
    "option",
    [
        (socket.SOL_SOCKET, SO_NO_CHECK, 1),  # no segments
        (socket.IPPROTO_UDP, UDP_SEGMENT, 600),  # the program's own
        (socket.IPPROTO_IP, 10, 3),  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
    ],
    ids=["no checksums", "segments", "path MTU"],
)
@pytest.mark.parametrize("connected", [False, True])
def test_options_of_the_socket(loop: Any, option: tuple[int, int, int], connected: bool) -> None:
    datagrams = of_sizes(*[1200] * 5, 100, *[300] * 3)
    try:
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.setsockopt(*option)
    except OSError:
        pytest.skip(reason="skips.toml: segments of datagrams")
    seen = loop.run_until_complete(sends("127.0.0.1", connected, datagrams, option))
    oracle = LOOPS["asyncio"]()
    assert seen == oracle.run_until_complete(sends("127.0.0.1", connected, datagrams, option))
    oracle.close()


def unix_pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Two that are connected, and can be full."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    stack.callback(theirs.close)
    theirs.setblocking(False)
    return ours, theirs


# asyncio of Python 3.13 counts in eight bytes that it does not count out.
NEVER_RESUMES = "+ 8" in inspect.getsource(
    selector_events._SelectorDatagramTransport.sendto  # type: ignore[attr-defined]
)


@pytest.mark.parametrize("connected", [False, True])
def test_what_cannot_be_sent_waits_in_order(
    loop: Any, connected: bool, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)

    async def scenario(name: str) -> Any:
        with receiver(name) as theirs:
            ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            if connected:
                ours.connect(name)
            transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                Recorder, sock=ours
            )
            transport.set_write_buffer_limits(high=3000)
            where = None if connected else name
            sent = [b"%d" % number + bytes(number) for number in range(200)]
            many(transport, sent[:150], where)
            sizes = [transport.get_write_buffer_size()]
            received = [theirs.recv(1000) for _ in range(3)]
            many(transport, sent[150:], where)
            sizes.append(transport.get_write_buffer_size())
            while len(received) < len(sent):
                received += all_queued(theirs)
                await asyncio.sleep(0)
            assert received == sent
            if name == "ours" or not NEVER_RESUMES:
                await until(lambda: "resume" in protocol.events)
            transport.close()
            await until(lambda: protocol.events[-1] == "lost")
            return sizes, [one for one in protocol.events if not NEVER_RESUMES or one != "resume"]

    seen = loop.run_until_complete(scenario("ours"))
    oracle = LOOPS["asyncio"]()
    assert seen == oracle.run_until_complete(scenario("asyncios"))
    oracle.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_refusals_are_reported_and_the_rest_is_sent(loop: Any, host: str) -> None:
    async def scenario() -> None:
        with receiver(host) as theirs:
            ours = socket.socket(theirs.family, socket.SOCK_DGRAM)
            ours.connect(theirs.getsockname())
            where = theirs.getsockname()
        transport, protocol = await loop.create_datagram_endpoint(Recorder, sock=ours)
        transport.sendto(b"to none")
        with socket.socket(ours.family, socket.SOCK_DGRAM) as theirs:
            theirs.setblocking(False)
            theirs.bind(where)
            transport.sendto_many([b"1", b"2", b"3"])
            assert protocol.events == [errno.ECONNREFUSED]
            # The first has failed, as that call of sendto() would have.
            assert all_queued(theirs) == [b"2", b"3"]
        transport.close()
        await until(lambda: protocol.events[-1] == "lost")

    loop.run_until_complete(scenario())


def test_error_that_closes_ends_it(loop: Any) -> None:
    async def scenario() -> Any:
        with receiver("127.0.0.1") as theirs:
            transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                Recorder, local_addr=("127.0.0.1", 0)
            )
            protocol.close_at_error = transport
            # asyncio goes on sending on a closing transport that has no remote address.
            many(transport, of_sizes(3, 3, 70_000, 4, 4, 70_000, 5), theirs.getsockname())
            await until(lambda: protocol.events[-1] == "lost")
            return all_queued(theirs), protocol.events

    seen = loop.run_until_complete(scenario())
    oracle = LOOPS["asyncio"]()
    assert seen == oracle.run_until_complete(scenario())
    oracle.close()


def test_wrong_arguments_send_nothing(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        with receiver("127.0.0.1") as theirs:
            where = theirs.getsockname()
            transport: Any
            for options in ({"local_addr": ("127.0.0.1", 0)}, {"remote_addr": where}):
                transport, protocol = await loop.create_datagram_endpoint(
                    Recorder,
                    **options,  # type: ignore[arg-type]
                )
                with pytest.raises(TypeError, match="bytes-like object"):
                    transport.sendto_many([b"a", b"b", "text"], where)
                with pytest.raises(TypeError):
                    transport.sendto_many(7, where)
                if "remote_addr" in options:
                    with pytest.raises(ValueError, match="Invalid address"):
                        transport.sendto_many([b"a", b"b"], ("127.0.0.1", 1))
                transport.close()
                await until(lambda protocol=protocol: protocol.events == ["lost"])
            assert all_queued(theirs) == []

    loop.run_until_complete(scenario())


def test_names_and_iterators_are_taken(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        with receiver("127.0.0.1") as theirs:
            transport: Any
            transport, protocol = await loop.create_datagram_endpoint(
                Recorder, local_addr=("127.0.0.1", 0)
            )
            where = ("localhost", theirs.getsockname()[1])
            transport.sendto_many((b"%d" % number for number in range(5)), where)
            assert all_queued(theirs) == [b"%d" % number for number in range(5)]
            transport.close()
            await until(lambda: protocol.events == ["lost"])

    loop.run_until_complete(scenario())


def test_closed_transport_sends_none_and_warns(
    loop: aiopoll.EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        transport: Any
        transport, protocol = await loop.create_datagram_endpoint(
            Recorder, remote_addr=("127.0.0.1", 9)
        )
        transport.close()
        await until(lambda: protocol.events == ["lost"])
        transport.sendto_many([b"a"] * 7)
        assert protocol.events == ["lost"]

    loop.run_until_complete(scenario())
    assert {record.message for record in caplog.records} == {"socket.send() raised exception."}


def test_socket_closed_by_its_owner_is_an_error_each(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        transport: Any
        ours = socket.socket(type=socket.SOCK_DGRAM)
        ours.bind(("127.0.0.1", 0))
        transport, protocol = await loop.create_datagram_endpoint(Recorder, sock=ours)
        ours.close()
        with socket.socket(type=socket.SOCK_DGRAM) as other:  # has its number
            other.bind(("127.0.0.1", 0))
            transport.sendto_many([b"a", b"b", b"c"], other.getsockname())
            other.setblocking(False)
            assert all_queued(other) == []
        assert protocol.events == [errno.EBADF] * 3
        transport.abort()
        await until(lambda: protocol.events[-1] == "lost")

    loop.run_until_complete(scenario())


def test_each_datagram_is_audited(loop: aiopoll.EventLoop) -> None:
    """The hook forbids the fourth and those after it: each is an error, as in asyncio."""
    asked: list[Any] = []
    listening = True
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))

    def hook(event: str, arguments: Any) -> None:
        if listening and event == "socket.sendto":
            asked.append(arguments[1])
            if len(asked) >= 4:
                raise ZeroDivisionError

    async def scenario() -> None:
        nonlocal listening
        with receiver("127.0.0.1") as theirs:
            where = theirs.getsockname()
            transport: Any
            transport, protocol = await loop.create_datagram_endpoint(
                Recorder, local_addr=("127.0.0.1", 0)
            )
            transport.sendto_many([b"a", b"b", b"c"], where)
            assert asked == [where] * 3
            transport.sendto_many([b"d", b"e", b"f"], where)
            listening = False
            await until(lambda: protocol.events == ["lost"])
            assert all_queued(theirs) == [b"a", b"b", b"c"]

    sys.addaudithook(hook)
    loop.run_until_complete(scenario())
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * 3


def test_sockets_with_methods_of_their_own(loop: aiopoll.EventLoop) -> None:
    class Counting(socket.socket):
        sent = 0

        def sendto(self, *arguments: Any) -> int:  # type: ignore[override]
            Counting.sent += 1
            return super().sendto(*arguments)

    async def scenario() -> None:
        with receiver("127.0.0.1") as theirs:
            ours = Counting(socket.AF_INET, socket.SOCK_DGRAM)
            transport: Any
            transport, protocol = await loop.create_datagram_endpoint(Recorder, sock=ours)
            transport.sendto_many([b"a", b"b", b"c"], theirs.getsockname())
            assert Counting.sent == 3
            assert all_queued(theirs) == [b"a", b"b", b"c"]
            assert transport.receive_in_batches() is False
            with pytest.raises(TypeError):
                transport.sendto_many([b"a", "text"], theirs.getsockname())
            assert all_queued(theirs) == []
            transport.close()
            await until(lambda: protocol.events == ["lost"])

    loop.run_until_complete(scenario())
