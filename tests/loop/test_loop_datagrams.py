"""The datagram transport: addresses, errors, blocked sends, allowed destinations."""

import asyncio
import errno
import gc
import os
import socket
import weakref
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import until, where_datagrams_pause

import aiopoll
from aiopoll.loop.transports.datagram import DatagramTransport


@pytest.fixture(params=["aio", "one-slot", "syscall-reap", "epoll"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


class Recorder(asyncio.DatagramProtocol):
    """Records its callbacks."""

    transport: asyncio.DatagramTransport

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.told: list[str] = []
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.heard.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


async def closed(*protocols: Recorder) -> None:
    for protocol in protocols:
        protocol.transport.close()
    await until(lambda: all(protocol.lost for protocol in protocols))
    assert all(protocol.lost == [None] for protocol in protocols)


def datagram_pair() -> tuple[socket.socket, socket.socket]:
    """Two that are connected, each under a name of the kernel's choice, and lose nothing."""
    ours, theirs = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in "12")
    ours.bind("")
    theirs.bind("")
    ours.connect(theirs.getsockname())
    theirs.connect(ours.getsockname())
    return ours, theirs


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.20.255", "127.200.99.100", "127.109.9.10"])
def test_a_sender_is_named_as_the_socket_module_does(loop: aiopoll.EventLoop, host: str) -> None:
    async def scenario() -> None:
        _, recorder = await loop.create_datagram_endpoint(Recorder, local_addr=("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((host, 0))
            sender.sendto(b"x", recorder.transport.get_extra_info("sockname"))
            await until(lambda: recorder.heard)
            assert recorder.heard == [(b"x", sender.getsockname())]
        await closed(recorder)

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_echo(loop: aiopoll.EventLoop, host: str) -> None:
    class Echo(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.sendto(data, addr)

    async def scenario() -> None:
        _, echo = await loop.create_datagram_endpoint(Echo, local_addr=(host, 0))
        assert type(echo.transport) is DatagramTransport
        where = echo.transport.get_extra_info("sockname")
        clients = [
            (await loop.create_datagram_endpoint(Recorder, remote_addr=where[:2]))[1],
            (await loop.create_datagram_endpoint(Recorder, local_addr=(host, 0)))[1],
        ]
        sent = [b"%d" % number for number in range(40)] + [bytes(60000)]
        for count, data in enumerate(sent, 1):
            clients[0].transport.sendto(data)
            # UDP drops datagrams that the receiver's buffer does not hold.
            await until(lambda count=count: len(clients[0].heard) == 2 * count - 1)
            clients[0].transport.sendto(bytearray(data), where)
            await until(lambda count=count: len(clients[0].heard) == 2 * count)
            clients[1].transport.sendto(memoryview(data), where)
            await until(lambda count=count: len(clients[1].heard) == count)
        assert [data for data, _ in clients[0].heard] == [data for data in sent for _ in "12"]
        assert clients[1].heard == [(data, where) for data in sent]
        names = [client.transport.get_extra_info("sockname") for client in clients]
        assert [addr for _, addr in echo.heard].count(names[0]) == 2 * len(sent)
        assert [addr for _, addr in echo.heard].count(names[1]) == len(sent)
        assert [protocol.errors for protocol in (echo, *clients)] == [[], [], []]
        await closed(echo, *clients)

    loop.run_until_complete(scenario())


def test_unix_datagrams(loop: aiopoll.EventLoop, tmp_path: Path) -> None:
    async def scenario() -> None:
        where = os.path.relpath(tmp_path / "there")
        here = os.path.relpath(tmp_path / "here")
        _, there = await loop.create_datagram_endpoint(
            Recorder, local_addr=where, family=socket.AF_UNIX
        )
        _, ours = await loop.create_datagram_endpoint(
            Recorder, local_addr=here, family=socket.AF_UNIX
        )
        ours.transport.sendto(b"x", where)
        await until(lambda: there.heard)
        assert there.heard == [(b"x", here)]
        there.transport.sendto(b"y", there.heard[0][1])
        await until(lambda: ours.heard)
        assert ours.heard == [(b"y", where)]
        await closed(there, ours)

    loop.run_until_complete(scenario())


def test_datagrams_that_cannot_be_sent_wait_in_order(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        sock, theirs = datagram_pair()
        theirs.setblocking(False)
        _, ours = await loop.create_datagram_endpoint(Recorder, sock=sock)
        ours.transport.set_write_buffer_limits(high=1000)
        sent = [b"%d" % number + bytes(1000) for number in range(500)]
        for data in sent:
            ours.transport.sendto(data)
        assert ours.transport.get_write_buffer_size() > 0
        assert ours.told == ["pause"]
        received = [await loop.sock_recv(theirs, 10_000) for _ in sent]
        assert received == sent
        await until(lambda: ours.told == ["pause", "resume"])
        for data in sent:
            ours.transport.sendto(data)
        ours.transport.close()
        received = [await loop.sock_recv(theirs, 10_000) for _ in sent]
        assert received == sent
        await until(lambda: ours.lost)
        theirs.close()

    loop.run_until_complete(scenario())


def test_datagrams_that_could_be_sent_wait_in_order_too(loop: aiopoll.EventLoop) -> None:
    """There is room again, and the loop has not yet seen it."""

    async def scenario() -> None:
        sock, theirs = datagram_pair()
        theirs.setblocking(False)
        _, ours = await loop.create_datagram_endpoint(Recorder, sock=sock)
        sent = [b"%d" % number for number in range(500)]
        for data in sent:
            ours.transport.sendto(data)
        assert ours.transport.get_write_buffer_size() > 0
        received = [theirs.recv(100) for _ in range(5)]
        sent.append(b"after")
        ours.transport.sendto(b"after")
        received += [await loop.sock_recv(theirs, 100) for _ in sent[5:]]
        assert received == sent
        await closed(ours)
        theirs.close()

    loop.run_until_complete(scenario())


def test_errors_of_the_network_go_to_the_protocol(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as nobody:
            nobody.bind(("127.0.0.1", 0))
            where = nobody.getsockname()
        _, ours = await loop.create_datagram_endpoint(Recorder, remote_addr=where)
        ours.transport.sendto(b"x")
        await until(lambda: ours.errors)
        assert isinstance(ours.errors.pop(), ConnectionRefusedError)
        _, free = await loop.create_datagram_endpoint(Recorder, local_addr=("127.0.0.1", 0))
        free.transport.sendto(bytes(70000), where)
        assert [getattr(error, "errno", None) for error in free.errors] == [errno.EMSGSIZE]
        assert not free.transport.is_closing()
        await closed(ours, free)

    loop.run_until_complete(scenario())


def test_a_transport_that_is_closed_waits_for_no_collector(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        ours = (await loop.create_datagram_endpoint(Recorder, local_addr=("127.0.0.1", 0)))[1]
        reference = weakref.ref(ours.transport)
        await closed(ours)
        del ours.transport
        await asyncio.sleep(0)
        assert reference() is None

    gc.disable()
    try:
        loop.run_until_complete(scenario())
    finally:
        gc.enable()


def test_wrong_arguments_are_asyncios(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        _, free = await loop.create_datagram_endpoint(Recorder, local_addr=("127.0.0.1", 0))
        where = free.transport.get_extra_info("sockname")
        with pytest.raises(TypeError, match="bytes-like object"):
            free.transport.sendto("text", where)  # type: ignore[arg-type]
        _, bound = await loop.create_datagram_endpoint(Recorder, remote_addr=where)
        with pytest.raises(ValueError, match="Invalid address"):
            bound.transport.sendto(b"x", ("127.0.0.1", 1))
        free.transport.sendto(b"by name", ("localhost", where[1]))
        await until(lambda: free.heard)
        assert free.heard[0][0] == b"by name"
        await closed(free, bound)

    loop.run_until_complete(scenario())


@where_datagrams_pause
def test_reading_pauses_in_the_middle_of_a_batch(loop: aiopoll.EventLoop) -> None:
    class Pausing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.pause_reading()  # type: ignore[attr-defined]

    async def scenario() -> None:
        sock, theirs = datagram_pair()
        _, ours = await loop.create_datagram_endpoint(Pausing, sock=sock)
        transport: Any = ours.transport
        for number in range(5):
            theirs.send(b"%d" % number)
        for number in range(5):
            await until(lambda number=number: len(ours.heard) == number + 1)
            for _ in range(3):
                await asyncio.sleep(0)
            assert len(ours.heard) == number + 1
            transport.resume_reading()
        theirs.close()
        await closed(ours)

    loop.run_until_complete(scenario())


def test_exception_of_the_protocol_is_reported_and_harmless(
    loop: aiopoll.EventLoop,
) -> None:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))

    class Failing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            raise ZeroDivisionError

    async def scenario() -> None:
        sock, theirs = datagram_pair()
        _, ours = await loop.create_datagram_endpoint(Failing, sock=sock)
        theirs.send(b"1")
        theirs.send(b"2")
        await until(lambda: len(ours.heard) == 2)
        await until(lambda: len(reports) == 2)
        assert {type(report["exception"]) for report in reports} == {ZeroDivisionError}
        assert reports[0]["protocol"] is ours
        theirs.close()
        await closed(ours)

    loop.run_until_complete(scenario())


def test_flood_of_datagrams_starves_no_callback(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        sock, theirs = datagram_pair()
        theirs.setblocking(False)

        class Refilling(Recorder):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                theirs.send(b"x")

        _, ours = await loop.create_datagram_endpoint(Refilling, sock=sock)
        theirs.send(b"x")
        await until(lambda: ours.heard)
        for _ in range(20):
            await asyncio.sleep(0)
        # The datagrams of one iteration are bounded, and so are those of these iterations.
        assert 20 <= len(ours.heard) <= 20 * 16 * 2
        await closed(ours)
        theirs.close()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("connected", [False, True])
def test_closed_transport_sends_nothing_and_logs_a_warning(
    loop: aiopoll.EventLoop, connected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        address = ("127.0.0.1", 9)
        transport, protocol = await loop.create_datagram_endpoint(
            Recorder,
            **({"remote_addr": address} if connected else {"local_addr": ("127.0.0.1", 0)}),
        )
        await closed(protocol)
        for _ in range(7):
            transport.sendto(b"late", None if connected else address)
        with pytest.raises(TypeError):
            transport.sendto("late", address)
        assert protocol.errors == []

    loop.run_until_complete(scenario())
    assert {record.message for record in caplog.records} == {"socket.send() raised exception."}
