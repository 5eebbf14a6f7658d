"""The loop's sock_* methods: results as asyncio's, errors, cancellation, leaks."""

import array
import asyncio
import collections.abc
import errno
import inspect
import os
import socket
import ssl
import sys
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from tests.support.descriptors import stream_pair

import aiopoll


@pytest.fixture(params=["aio", "one-slot", "epoll", "asyncio"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


ours_only = pytest.mark.parametrize("loop_kind", ["aio", "epoll"])


def datagram_socket(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(address)
    return sock


async def parked(awaitable: Any) -> "asyncio.Task[Any]":
    """The awaitable as a task that has begun to wait."""
    task = asyncio.ensure_future(awaitable)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


def test_read_is_tried_at_once_however_many_found_nothing(loop: Any) -> None:
    """It is done in the task's first step, and does not disturb a waiter for the file."""

    async def scenario() -> None:
        ours, theirs = stream_pair()
        calls: list[int] = []
        with ours, theirs:
            for _ in range(100):
                task = await parked(loop.sock_recv(ours, 1))
                theirs.send(b"x")
                assert await task == b"x"
            loop.add_reader(ours, calls.append, 1)
            theirs.send(b"x")
            task = asyncio.ensure_future(loop.sock_recv(ours, 1))
            await asyncio.sleep(0)
            assert task.done()
            theirs.send(b"x")
            while not calls:
                await asyncio.sleep(0)
            assert loop.remove_reader(ours)

    loop.run_until_complete(scenario())


def test_connection_in_progress_can_be_waited_for_again(loop: Any) -> None:
    """As after a time-out: connect(2) fails with EALREADY then."""

    async def scenario() -> None:
        with socket.socket() as listener, socket.socket() as ours:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            full = [socket.socket() for _ in range(4)]
            for sock in (*full, ours):
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
            waiting = await parked(loop.sock_connect(ours, listener.getsockname()))
            waiting.cancel()
            await asyncio.wait([waiting])
            waiting = await parked(loop.sock_connect(ours, listener.getsockname()))
            for sock in full:
                sock.close()
            waiting.cancel()
            await asyncio.wait([waiting])

    loop.run_until_complete(scenario())


def test_audit_hooks_get_the_addresses(loop: Any) -> None:
    """A hook cannot be taken away again: it is one that does nothing once the test is over."""
    told: list[str] = []
    listening = True

    def hook(event: str, arguments: Any) -> None:
        if listening and event in ("socket.connect", "socket.sendto"):
            told.append(event)

    async def scenario() -> None:
        nonlocal listening
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as ours:
            ours.setblocking(False)
            await loop.sock_connect(ours, listener.getsockname())
        with datagram_socket(socket.AF_INET, ("127.0.0.1", 0)) as ours:
            await loop.sock_sendto(ours, b"x", ours.getsockname())
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
            transport.sendto(b"x", ours.getsockname())
            transport.close()
        listening = False

    sys.addaudithook(hook)
    loop.run_until_complete(scenario())
    assert told == ["socket.connect", "socket.sendto", "socket.sendto"]


def test_receive_returns_available_data_else_waits(loop: Any) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        with ours, theirs:
            theirs.send(b"at once")
            assert await loop.sock_recv(ours, 100) == b"at once"
            for size in (10, 300_000):
                task = await parked(loop.sock_recv(ours, size))
                theirs.send(b"later")
                assert await task == b"later"
            for buffer in (bytearray(5), memoryview(bytearray(8))[:5], array.array("b", b"12345")):
                task = await parked(loop.sock_recv_into(ours, buffer))
                theirs.send(b"i-n-t-o"[:5])
                assert await task == 5
                assert bytes(buffer) == b"i-n-t"
            assert await loop.sock_recv(ours, 0) == b""
            task = await parked(loop.sock_recv(ours, 10))
            theirs.close()
            assert await task == b""

    loop.run_until_complete(scenario())


def test_sendall_waits_for_the_receiver(loop: Any) -> None:
    async def scenario(data: Any) -> None:
        ours, theirs = stream_pair()
        with ours, theirs:
            task = await parked(loop.sock_sendall(ours, data))
            received = bytearray()
            while len(received) < len(data):
                received += await loop.sock_recv(theirs, 1 << 16)
            assert await task is None
            assert received == data

    payload = bytes(range(256)) * 8192
    for data in (payload, bytearray(payload), memoryview(payload)):
        loop.run_until_complete(scenario(data))


@ours_only
def test_sendall_holds_on_to_its_buffer_only_while_it_sends(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        with ours, theirs:
            data = bytearray(4 << 20)
            task = await parked(loop.sock_sendall(ours, data))
            with pytest.raises(BufferError):
                data.clear()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            data.clear()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_INET6, ("::1", 0)),
        (socket.AF_UNIX, "path"),
        (socket.AF_UNIX, b"\0aiopoll-abstract"),
    ],
    ids=["ipv4", "ipv6", "path", "abstract"],
)
def test_datagrams_and_their_addresses(loop: Any, family: int, address: Any) -> None:
    async def scenario() -> None:
        sender = datagram_socket(family, name("-1"))
        receiver = datagram_socket(family, name("-2"))
        with sender, receiver:
            where = receiver.getsockname()
            assert await loop.sock_sendto(sender, b"one", where) == 3
            assert await loop.sock_recvfrom(receiver, 100) == (b"one", sender.getsockname())
            task = await parked(loop.sock_recvfrom(receiver, 300_000))
            assert await loop.sock_sendto(sender, bytearray(b"two"), where) == 3
            assert await task == (b"two", sender.getsockname())
            buffer = bytearray(10)
            task = await parked(loop.sock_recvfrom_into(receiver, buffer))
            await loop.sock_sendto(sender, b"three", where)
            assert await task == (5, sender.getsockname())
            await loop.sock_sendto(sender, b"fourth", where)
            answer = await loop.sock_recvfrom_into(receiver, buffer, 4)
            assert answer == (4, sender.getsockname())
            assert buffer[:5] == b"foure"

    def name(end: str) -> Any:
        if isinstance(address, tuple):
            return address
        if isinstance(address, bytes):
            return address + f"{os.getpid()}{end}".encode()
        return f"{directory}/{address}{end}"

    with tempfile.TemporaryDirectory() as directory:
        loop.run_until_complete(scenario())


def test_datagram_without_sender_has_asyncios_address(loop: Any) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with ours, theirs:
            ours.setblocking(False)
            theirs.send(b"x")
            theirs.send(b"x")
            expected = ours.recvfrom(10)
            assert await loop.sock_recvfrom(ours, 10) == expected

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_connect_and_accept(loop: Any, family: int, tmp_path: Path) -> None:
    where: Any = {
        socket.AF_INET: ("127.0.0.1", 0),
        socket.AF_INET6: ("::1", 0),
        socket.AF_UNIX: os.path.relpath(tmp_path / "listener"),
    }[socket.AddressFamily(family)]

    async def scenario() -> None:
        with socket.socket(family) as listener:
            listener.setblocking(False)
            listener.bind(where)
            listener.listen()
            for _ in range(2):
                task = await parked(loop.sock_accept(listener))
                with socket.socket(family) as client:
                    client.setblocking(False)
                    assert await loop.sock_connect(client, listener.getsockname()) is None
                    accepted, address = await task
                    with accepted:
                        assert type(accepted) is socket.socket
                        assert accepted.family == family
                        assert accepted.type == socket.SOCK_STREAM
                        assert accepted.gettimeout() == 0
                        assert not accepted.get_inheritable()
                        assert address == client.getsockname()
                        await loop.sock_sendall(client, b"x")
                        assert await loop.sock_recv(accepted, 1) == b"x"

    loop.run_until_complete(scenario())


def test_a_name_is_looked_up(loop: Any) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))

    loop.run_until_complete(scenario())


def test_errors_are_those_of_asyncio(loop: Any) -> None:
    async def error_of(awaitable: Awaitable[Any]) -> tuple[type, int | None, str | None]:
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            await awaitable
        return caught.type, caught.value.errno, caught.value.strerror

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            where = listener.getsockname()
        with socket.socket() as client:
            client.setblocking(False)
            refused = (ConnectionRefusedError, errno.ECONNREFUSED, f"Connect call failed {where}")
            assert await error_of(loop.sock_connect(client, where)) == refused
        with socket.socket() as client:
            client.setblocking(False)
            # An unconnected socket has the error at once.
            text = os.strerror(errno.ENOTCONN)
            assert await error_of(loop.sock_recv(client, 1)) == (OSError, errno.ENOTCONN, text)
            text = os.strerror(errno.EPIPE)
            answer = await error_of(loop.sock_sendall(client, b"x"))
            assert answer == (BrokenPipeError, errno.EPIPE, text)
            text = os.strerror(errno.EINVAL)
            assert await error_of(loop.sock_accept(client)) == (OSError, errno.EINVAL, text)
        closed = socket.socket()
        closed.setblocking(False)
        closed.close()
        expected = (OSError, errno.EBADF, os.strerror(errno.EBADF))
        assert await error_of(loop.sock_recv(closed, 1)) == expected
        assert await error_of(loop.sock_recv_into(closed, bytearray(1))) == expected
        assert await error_of(loop.sock_sendall(closed, b"x")) == expected
        assert await error_of(loop.sock_accept(closed)) == expected
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            with pytest.raises(FileNotFoundError):
                await loop.sock_connect(client, "no such listener")
            with pytest.raises(OSError, match="AF_UNIX path too long"):
                await loop.sock_connect(client, "x" * 200)

    loop.run_until_complete(scenario())


def test_wrong_arguments_raise_as_in_asyncio(loop: Any) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        with ours, theirs, datagram_socket(socket.AF_INET, ("127.0.0.1", 0)) as udp:
            with pytest.raises(ValueError, match="negative buffersize"):
                await loop.sock_recv(ours, -1)
            with pytest.raises(TypeError):
                await loop.sock_recv(ours, "1")
            with pytest.raises(TypeError, match="read-write bytes-like object"):
                await loop.sock_recv_into(ours, b"12")
            with pytest.raises(ValueError, match="nbytes is greater"):
                await loop.sock_recvfrom_into(udp, bytearray(1), 2)
            with pytest.raises(TypeError, match="bytes-like object"):
                await loop.sock_sendall(ours, "text")
            with pytest.raises(OverflowError, match="port must be 0-65535"):
                await loop.sock_sendto(udp, b"x", ("127.0.0.1", 65536))
            with pytest.raises(TypeError):
                await loop.sock_sendto(udp, b"x", ("127.0.0.1",))
            context = ssl.create_default_context()
            context.check_hostname = False
            with context.wrap_socket(ours, do_handshake_on_connect=False) as wrapped:
                for call in (loop.sock_recv(wrapped, 1), loop.sock_sendall(wrapped, b"x")):
                    with pytest.raises(TypeError, match="SSLSocket"):
                        await call

    loop.run_until_complete(scenario())


def test_debug_mode_wants_non_blocking_sockets(loop: Any) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, socket.create_server(("127.0.0.1", 0)) as listener:
            for call in (
                loop.sock_recv(ours, 1),
                loop.sock_recv_into(ours, bytearray(1)),
                loop.sock_recvfrom(ours, 1),
                loop.sock_recvfrom_into(ours, bytearray(1)),
                loop.sock_sendall(ours, b"x"),
                loop.sock_sendto(ours, b"x", "path"),
                loop.sock_accept(listener),
                loop.sock_connect(ours, "path"),
            ):
                with pytest.raises(ValueError, match="must be non-blocking"):
                    await call

    loop.set_debug(True)
    loop.run_until_complete(scenario())


@ours_only
def test_a_blocking_socket_does_not_block_the_loop(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            task = await parked(loop.sock_recv(ours, 10))
            theirs.send(b"x")
            assert await task == b"x"

    loop.run_until_complete(scenario())


def test_a_descriptor_that_was_closed_is_an_error(loop: Any) -> None:
    async def scenario() -> None:
        for receive in (
            lambda sock: loop.sock_recv(sock, 1),
            lambda sock: loop.sock_recv_into(sock, bytearray(1)),
            lambda sock: loop.sock_recvfrom(sock, 1),
            lambda sock: loop.sock_recvfrom_into(sock, bytearray(1)),
        ):
            ours, theirs = stream_pair()
            with theirs:
                os.close(ours.fileno())
                with pytest.raises(OSError, match="Bad file descriptor"):
                    await receive(ours)
                ours.detach()

    loop.run_until_complete(scenario())


def test_a_cancelled_receive_takes_nothing(loop: Any) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        with ours, theirs:
            # In whatever order the cancellation and the readiness come.
            for turns in range(4):
                task = await parked(loop.sock_recv(ours, 10))
                theirs.send(b"x")
                for _ in range(turns):
                    await asyncio.sleep(0)
                was_done = task.done()
                task.cancel()
                try:
                    assert await task == b"x"
                    assert was_done
                except asyncio.CancelledError:
                    # An iteration may have received data before the task could run.
                    if turns < 2:
                        assert ours.recv(10) == b"x"
                    else:
                        try:
                            ours.recv(10)
                        except BlockingIOError:
                            pass
            assert not loop.remove_reader(ours)

    loop.run_until_complete(scenario())


@ours_only
def test_nothing_stays_watched(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        base = loop.statistics().watched
        ours, theirs = stream_pair()
        with ours, theirs, datagram_socket(socket.AF_INET, ("127.0.0.1", 0)) as udp:
            tasks = [
                await parked(loop.sock_recv(ours, 1)),
                await parked(loop.sock_sendall(ours, bytes(4 << 20))),
                await parked(loop.sock_recvfrom(udp, 1)),
            ]
            assert loop.statistics().watched == base + 2  # files
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert loop.statistics().watched == base
            coroutine = loop.sock_recv(udp, 1)
            coroutine.send(None)
            assert loop.statistics().watched == base + 1
            coroutine.close()
            assert loop.statistics().watched == base

    loop.run_until_complete(scenario())


def test_a_second_receiver_takes_the_place_of_the_first(loop: Any) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        with ours, theirs:
            first = await parked(loop.sock_recv(ours, 10))
            second = await parked(loop.sock_recv(ours, 10))
            theirs.send(b"x")
            assert await second == b"x"
            third = await parked(loop.sock_recv(ours, 10))
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            theirs.send(b"y")
            assert await third == b"y"

    loop.run_until_complete(scenario())


def test_a_socket_of_a_transport_is_refused(loop: Any) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_recv(ours, 1)
            transport.close()
            await asyncio.sleep(0)

    loop.run_until_complete(scenario())


def test_methods_of_a_socket_subclass_are_called(loop: Any) -> None:
    class Upper(socket.socket):
        def recv(self, *args: Any) -> bytes:
            return super().recv(*args).upper()

    async def scenario() -> None:
        ours, theirs = stream_pair()
        with theirs, Upper(fileno=ours.detach()) as upper:
            upper.setblocking(False)
            task = await parked(loop.sock_recv(upper, 10))
            theirs.send(b"x")
            assert await task == b"X"

    loop.run_until_complete(scenario())


@ours_only
def test_a_full_unix_listener_is_an_error_and_no_connection(loop: aiopoll.EventLoop) -> None:
    async def scenario(path: str) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(0)
            with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
                first.setblocking(False)
                second.setblocking(False)
                await loop.sock_connect(first, path)
                with pytest.raises(BlockingIOError):
                    await loop.sock_connect(second, path)

    with tempfile.TemporaryDirectory() as directory:
        loop.run_until_complete(scenario(f"{directory}/listener"))


@ours_only
def test_they_are_coroutines(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        ours, theirs = stream_pair()
        with ours, theirs:
            coroutine = loop.sock_recv(ours, 1)
            assert asyncio.iscoroutine(coroutine)
            assert isinstance(coroutine, collections.abc.Coroutine)
            task = loop.create_task(coroutine)
            await loop.create_task(loop.sock_sendall(theirs, b"x"))
            assert await task == b"x"
            assert inspect.iscoroutinefunction(loop.sock_recv)
            async with asyncio.timeout(60):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(loop.sock_recv(ours, 1), 0.001)

    loop.run_until_complete(scenario())
