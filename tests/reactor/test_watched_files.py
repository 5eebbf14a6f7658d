"""The loop's files: reuse of numbers, cancellation, overflow, refused files."""

import asyncio
import os
import pty
import resource
import socket
import struct
from contextlib import ExitStack
from typing import Any

import pytest
from tests.support.descriptors import stream_pair

import aiopoll


@pytest.fixture(params=["aio", "syscall-reap", "one-slot", "epoll"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def turn(loop: asyncio.AbstractEventLoop) -> None:
    """Two iterations: the first finds readiness, and the second runs the callbacks."""
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()


def test_readers_are_level_triggered(loop: aiopoll.EventLoop) -> None:
    ours, theirs = stream_pair()
    with ours, theirs:
        calls: list[str] = []
        loop.add_reader(ours, calls.append, "read")
        turn(loop)
        assert calls == []
        theirs.send(b"xy")
        turn(loop)
        turn(loop)
        assert len(calls) >= 2
        ours.recv(2)
        calls.clear()
        turn(loop)
        assert calls == []
        assert loop.remove_reader(ours)
        assert not loop.remove_reader(ours)


def test_reader_is_not_called_for_data_read_meanwhile(loop: aiopoll.EventLoop) -> None:
    ours, theirs = stream_pair()
    ours.setblocking(True)  # a stale call would hang the loop
    with ours, theirs:
        received: list[bytes] = []
        loop.add_reader(ours, lambda: received.append(ours.recv(1)))
        turn(loop)  # armed and parked

        def write_and_read_back() -> None:
            theirs.send(b"x")
            assert ours.recv(1) == b"x"

        loop.call_soon(write_and_read_back)
        turn(loop)
        turn(loop)
        assert received == []
        theirs.send(b"y")
        turn(loop)
        assert received == [b"y"]
        loop.remove_reader(ours)


def test_reader_and_writer_of_one_file_are_independent(loop: aiopoll.EventLoop) -> None:
    ours, theirs = stream_pair()
    with ours, theirs:
        calls: list[str] = []
        loop.add_reader(ours, calls.append, "read")
        loop.add_writer(ours, calls.append, "write")
        turn(loop)
        assert set(calls) == {"write"}
        assert loop.remove_writer(ours)
        calls.clear()
        theirs.send(b"x")
        turn(loop)
        assert set(calls) == {"read"}
        assert loop.remove_reader(ours)
        assert loop.statistics().watched == 1  # the loop's own pipe


def test_the_peer_sees_the_end_at_once(loop: aiopoll.EventLoop) -> None:
    for _ in range(50):
        ours, theirs = stream_pair()
        loop.add_reader(ours, lambda: None)
        turn(loop)
        loop.remove_reader(ours)
        ours.close()
        assert theirs.recv(1) == b""
        theirs.close()


def test_a_listener_refuses_as_soon_as_it_is_closed(loop: aiopoll.EventLoop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        loop.add_reader(listener, lambda: None)
        turn(loop)
        loop.remove_reader(listener)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address).close()


def test_a_reused_number_gets_nothing_of_the_file_before(loop: aiopoll.EventLoop) -> None:
    calls: list[str] = []
    first, first_peer = stream_pair()
    number = first.fileno()
    loop.add_reader(first, calls.append, "first")
    turn(loop)

    def close_and_reuse() -> None:
        first_peer.send(b"x")  # its event is in the ring when the number goes to another file
        loop.remove_reader(first)
        first.close()
        second = os.dup(idle.fileno())
        assert second == number
        loop.add_reader(second, calls.append, "second")

    idle, idle_peer = stream_pair()
    with idle, idle_peer, first_peer:
        loop.call_soon(close_and_reuse)
        turn(loop)
        turn(loop)
        assert calls == []
        idle_peer.send(b"x")
        turn(loop)
        assert set(calls) == {"second"}
        loop.remove_reader(number)
        os.close(number)


def test_a_file_closed_behind_the_loops_back_is_replaced(loop: aiopoll.EventLoop) -> None:
    calls: list[str] = []
    first, first_peer = stream_pair()
    number = first.fileno()
    loop.add_reader(number, calls.append, "first")
    turn(loop)
    first.close()
    second, second_peer = stream_pair()
    with first_peer, second, second_peer:
        assert second.fileno() == number
        loop.add_reader(number, calls.append, "second")
        turn(loop)
        second_peer.send(b"x")
        turn(loop)
        assert set(calls) == {"second"}
        loop.remove_reader(number)


def test_files_of_others_take_no_slots() -> None:
    with ExitStack() as stack:
        loop = aiopoll.new_event_loop(backend="aio", nr_events=1)
        stack.callback(loop.close)
        heard: set[int] = set()
        pairs = [stream_pair() for _ in range(400)]
        for number, (ours, theirs) in enumerate(pairs):
            stack.callback(ours.close)
            stack.callback(theirs.close)

            def hear(number: int = number, ours: socket.socket = ours) -> None:
                ours.recv(1)
                heard.add(number)

            loop.add_reader(ours, hear)
            stack.callback(loop.remove_reader, ours)
        turn(loop)
        statistics = loop.statistics()
        assert statistics.in_epoll >= 400
        assert statistics.overflowed == 0
        for round_ in range(3):
            heard.clear()
            for _, theirs in pairs[:: round_ + 1]:
                theirs.send(b"x")
            while len(heard) < len(pairs[:: round_ + 1]):
                turn(loop)
            assert heard == set(range(0, len(pairs), round_ + 1))


@pytest.mark.parametrize("user_ring", [True, False])
@pytest.mark.parametrize("nr_events", [1, 512])
def test_more_ready_files_than_an_iteration_dispatches(
    nr_events: int, user_ring: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several iterations dispatch them, each once; none leaves the ring for want of a slot."""
    if not user_ring:
        monkeypatch.setenv("AIOPOLL_USER_RING", "0")
    with ExitStack() as stack:
        loop = aiopoll.new_event_loop(backend="aio", nr_events=nr_events)
        stack.callback(loop.close)
        turns: list[list[int]] = [[]]
        for number in range(400):
            ours, theirs = stream_pair()
            stack.callback(ours.close)
            stack.callback(theirs.close)

            def hear(number: int = number, ours: socket.socket = ours) -> None:
                loop.remove_reader(ours)  # else it would be polled anew, and park
                turns[-1].append(number)

            loop.add_reader(ours, hear)
            theirs.send(b"x")  # ready before it is polled
        heard = 0
        while heard < 400:
            turn(loop)
            heard += len(turns[-1])
            turns.append([])
        assert sorted(number for some in turns for number in some) == list(range(400))
        if user_ring:
            assert max(map(len, turns)) <= 4 * 64  # two iterations, and each may reap twice
        if user_ring or nr_events == 512:
            assert loop.statistics().overflowed == 0


def test_terminals_are_served_through_the_epoll_set(loop: aiopoll.EventLoop) -> None:
    master, slave = pty.openpty()
    try:
        heard: list[bytes] = []
        loop.add_reader(master, lambda: heard.append(os.read(master, 100)))
        turn(loop)
        assert heard == []
        os.write(slave, b"x")
        while not heard:
            turn(loop)
        assert heard == [b"x"]
        assert loop.statistics().in_epoll >= 1
        loop.remove_reader(master)
    finally:
        os.close(master)
        os.close(slave)


def test_files_that_epoll_refuses_are_refused(loop: aiopoll.EventLoop) -> None:
    with open(__file__, "rb") as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, lambda: None)
        assert not loop.remove_reader(file)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(999_999, lambda: None)
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        loop.add_reader(-1, lambda: None)
    with pytest.raises(ValueError, match="Invalid file object"):
        loop.add_reader(object(), lambda: None)  # type: ignore[arg-type]


def test_accept_backs_off_when_descriptors_run_out(loop: aiopoll.EventLoop) -> None:
    reports: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))

    async def scenario() -> None:
        accepted = asyncio.Event()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                transport.close()
                accepted.set()

        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        with socket.socket() as client:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
            hoard: list[int] = []
            try:
                while True:
                    try:
                        hoard.append(os.dup(0))
                    except OSError:
                        break
                client.connect(server.sockets[0].getsockname())
                while not reports:
                    await asyncio.sleep(0)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert len(reports) == 1
                assert not accepted.is_set()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for fd in hoard:
                    os.close(fd)
            await accepted.wait()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(scenario())
    assert "out of system resource" in str(reports[0]["message"])


def test_connection_that_always_has_data_starves_no_other(loop: aiopoll.EventLoop) -> None:
    ours, theirs = stream_pair()
    other, other_peer = stream_pair()
    with ours, theirs, other, other_peer:
        theirs.send(b"x")
        events: list[str] = []
        loop.add_reader(ours, events.append, "busy")  # never reads
        loop.add_reader(other, events.append, "other")
        turn(loop)
        other_peer.send(b"x")
        loop.call_later(0, events.append, "timer")
        for _ in range(4):
            turn(loop)
        assert {"busy", "other", "timer"} <= set(events)
        loop.remove_reader(ours)
        loop.remove_reader(other)


def test_resets_are_reported_and_leave_nothing_behind(loop: aiopoll.EventLoop) -> None:
    lost: list[BaseException | None] = []

    class Protocol(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)

    async def scenario() -> None:
        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(20):
            client = socket.create_connection(address)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        while len(lost) < 20:
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(scenario())
    turn(loop)
    assert loop.statistics().watched == 1


def test_a_file_that_is_not_watched_any_more_has_no_place(loop: aiopoll.EventLoop) -> None:
    """An event that comes for it later needs no repair by the loop."""
    before = loop.statistics()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(3):
            loop.add_reader(ours, pytest.fail, "nothing was sent yet")
            assert loop.statistics().in_epoll == before.in_epoll + 1
            loop.add_writer(ours, list)
            loop.run_until_complete(asyncio.sleep(0))
            loop.remove_reader(ours)
            loop.remove_writer(ours)
            assert loop.statistics().in_epoll == before.in_epoll
        theirs.send(b"x")
        for _ in range(5):
            loop.run_until_complete(asyncio.sleep(0))
    assert loop.statistics().rebuilt == before.rebuilt


def test_a_file_can_be_forgotten_after_it_was_closed(loop: aiopoll.EventLoop) -> None:
    ours, theirs = stream_pair()
    with theirs:
        watched_before = loop._watched().keys()
        loop.add_reader(ours, print)
        loop.add_writer(ours, print)
        ours.close()
        assert loop.remove_reader(ours)
        assert loop.remove_writer(ours)
        for file in (ours, None):
            with pytest.raises(ValueError, match="Invalid file"):
                loop.remove_reader(file)
        assert not loop._watched().keys() - watched_before
        theirs.settimeout(10)
        assert theirs.recv(1) == b""
