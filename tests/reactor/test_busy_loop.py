"""The loop's work for busy connections: speculative reads, and a look at the ring before sleep."""

import asyncio
import contextlib
import pathlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

import aiopoll


async def accepted(
    loop: asyncio.AbstractEventLoop,
    protocol_factory: Callable[[], asyncio.Protocol],
    path: pathlib.Path | None = None,
) -> tuple[asyncio.Transport, socket.socket]:
    """A connection that the loop has accepted, whose number is the loop's own, and its peer.

    It is a TCP connection, or with a path a Unix one.
    """
    made: asyncio.Future[asyncio.Protocol] = loop.create_future()

    def make() -> asyncio.Protocol:
        made.set_result(protocol_factory())
        return made.result()

    if path is None:
        server = await loop.create_server(make, "127.0.0.1", 0)
        peer = socket.create_connection(server.sockets[0].getsockname())
    else:
        server = await loop.create_unix_server(make, path)
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(path))
    await made
    await asyncio.sleep(0)
    (transport,) = server._connections()  # type: ignore[attr-defined]
    server.close()
    return transport, peer


def test_connection_that_always_has_data_is_rarely_armed() -> None:
    received = 0

    class Sink(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            nonlocal received
            received += len(data)
            theirs.send(b"more")  # there is data to read again at once

    async def scenario() -> None:
        nonlocal theirs
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aiopoll.EventLoop)
        transport, theirs = await accepted(loop, Sink)
        theirs.send(b"more")
        before = loop.statistics()
        for _ in range(1000):  # an iteration each: the connection does not starve this task
            await asyncio.sleep(0)
        after = loop.statistics()
        assert after.found - before.found > 900
        assert after.submitted - before.submitted < 100
        transport.abort()
        theirs.close()

    theirs: socket.socket
    aiopoll.run(scenario(), backend="aio")
    assert received > 3600


def test_speculative_reads_stop_where_they_find_nothing() -> None:
    class Sink(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            answered.set()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aiopoll.EventLoop)
        transport, theirs = await accepted(loop, Sink)
        for _ in range(1000):
            answered.clear()
            theirs.send(b"x")
            await answered.wait()
            await asyncio.sleep(0)  # the iteration of the speculative read, which finds nothing
        seen = loop.statistics()
        assert seen.found < seen.tried < 500
        transport.abort()
        theirs.close()

    answered = asyncio.Event()
    aiopoll.run(scenario(), backend="aio")


@pytest.mark.parametrize("user_ring", ["0", "1"])
def test_a_busy_connection_does_not_keep_the_others_waiting(
    user_ring: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the ring cannot be read: there the events of the others need a system call."""
    monkeypatch.setenv("AIOPOLL_USER_RING", user_ring)

    class Greedy(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            busy_peer.send(b"more")

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        busy, _ = await loop.create_connection(Greedy, sock=busy_end)
        reader, writer = await asyncio.open_connection(sock=other_end)
        busy_peer.send(b"more")
        for number in range(100):
            other_peer.send(b"%03d" % number)
            assert await reader.readexactly(3) == b"%03d" % number
        busy.abort()
        writer.close()

    busy_end, busy_peer = socket.socketpair()
    other_end, other_peer = socket.socketpair()
    aiopoll.run(scenario(), backend="aio")
    busy_peer.close()
    other_peer.close()


def test_busy_loop_polls_the_ring_for_the_given_time() -> None:
    """A second is for ever here: the thread replies within it, so that every look succeeds."""

    def echo() -> None:
        while data := theirs.recv(100):
            time.sleep(0.0005)  # a reply that is there before the first look needs none
            theirs.send(data)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aiopoll.EventLoop)
        reader, writer = await asyncio.open_connection(sock=ours)
        for _ in range(100):
            writer.write(b"x")
            await reader.readexactly(1)
        seen = loop.statistics()
        assert seen.busy_polls >= seen.busy_poll_hits >= 50
        writer.close()
        await writer.wait_closed()

    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=echo)
    thread.start()
    try:
        aiopoll.run(scenario(), backend="aio", busy_poll=1)
    finally:
        theirs.shutdown(socket.SHUT_RDWR)
        thread.join()
        theirs.close()


def test_an_idle_loop_does_not_look() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aiopoll.EventLoop)
        before = loop.statistics()
        for _ in range(20):
            await asyncio.sleep(0.002)
        after = loop.statistics()
        assert after.sleeps - before.sleeps >= 15
        assert after.busy_polls - before.busy_polls <= 3

    aiopoll.run(scenario(), backend="aio")


@pytest.mark.parametrize("value", ["yes", None, True, b"auto"])
def test_invalid_number_of_seconds_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="busy_poll must be"):
        aiopoll.new_event_loop(busy_poll=value)


@pytest.mark.parametrize("value", [-1, 1.5, float("nan")])
def test_a_number_of_seconds_that_makes_no_sense_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="busy_poll must be"):
        aiopoll.new_event_loop(busy_poll=value)


@pytest.mark.parametrize("backend", ["aio", "epoll"])
@pytest.mark.parametrize("how", ["close", "shutdown", "reset"])
def test_end_of_a_connection_is_reported_in_time(backend: str, how: str) -> None:
    """The kernel wakes without a key then, which AIO poll alone reports some iterations later."""

    class Ending(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            ended.append(turn)

    async def scenario() -> None:
        nonlocal turn
        loop = asyncio.get_running_loop()
        for _ in range(300):
            ended.clear()
            _, theirs = await accepted(loop, Ending)
            await asyncio.sleep(0)
            turn = 0
            if how == "shutdown":
                theirs.shutdown(socket.SHUT_WR)
            else:
                if how == "reset":
                    linger = struct.pack("ii", 1, 0)
                    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                theirs.close()
            while not ended:
                turn += 1
                await asyncio.sleep(0)
            theirs.close()
            late.append(ended[0])

    turn = 0
    ended: list[int] = []
    late: list[int] = []
    aiopoll.run(scenario(), backend=backend)
    assert max(late) <= 4


EPOLLRDHUP = 0x2000


def events_in_epoll(number: int) -> list[int]:
    """The events of a descriptor in this process's epoll sets (proc(5), fdinfo)."""
    found = []
    for path in pathlib.Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            for line in path.read_text().splitlines():
                if line.startswith("tfd:"):
                    _, target, _, events, *_ = line.split()
                    if int(target) == number:
                        found.append(int(events, 16))
    return found


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_epoll_set_waits_for_the_end_of_files_on_the_ring(
    family: str, tmp_path: pathlib.Path
) -> None:
    """Also where the end would have been reported in time by chance."""
    path = tmp_path / "socket" if family == "unix" else None

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        transport, theirs = await accepted(loop, asyncio.Protocol, path)
        number = transport._sock_fd  # type: ignore[attr-defined]
        [events] = events_in_epoll(number)
        assert events & (EPOLLRDHUP | select.EPOLLIN) == EPOLLRDHUP  # AIO polls for the data
        assert events & select.EPOLLET
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert events_in_epoll(number) == []
        theirs.close()

    aiopoll.run(scenario(), backend="aio")
