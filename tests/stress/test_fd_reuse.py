"""A descriptor's number is used again at once after close: never with another one's data.

Each byte identifies its connection.  The peers read, write, are cancelled in the middle of either,
close, abort and reset at random (by a seed).  Any remnant of a connection, events, buffers,
callbacks, would hit the next one.
"""

import asyncio
import functools
import hashlib
import os
import random
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiopoll

CLIENTS = 16
IDENTITY = struct.Struct("!Q")


@functools.lru_cache(maxsize=4096)
def said_by(identity: int, size: int = 64 * 1024) -> bytes:
    """The stream of one connection; streams of two differ in nearly every byte."""
    block = hashlib.sha512(IDENTITY.pack(identity)).digest()
    return block * (size // len(block))


class Check:
    """Compares received data with the stream of one connection."""

    def __init__(self, identity: int) -> None:
        self.identity = identity
        self.block = said_by(identity)
        self.position = 0

    def feed(self, data: bytes) -> None:
        at = self.position % 64
        while data:
            here = data[: len(self.block) - at]
            assert here == self.block[at : at + len(here)], f"foreign data on {self.identity}"
            self.position += len(here)
            data, at = data[len(here) :], 0


class Server:
    """Replies to each connection in the stream of the identity that it gave."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.descriptors: set[int] = set()
        self.served = 0
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.served += 1
        self.open += 1
        self.descriptors.add(writer.get_extra_info("socket").fileno())
        try:
            check = Check(IDENTITY.unpack(await reader.readexactly(8))[0])
            stream = said_by(check.identity)
            while data := await reader.read(65536):
                check.feed(data)
                # As much as came, from the reply's position: the client checks it.
                start = (check.position - len(data)) % 64
                writer.write(stream[start : start + min(len(data), 32 * 1024)])
                if len(data) > 32 * 1024:
                    break
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except BaseException as error:
            self.failures.append(error)
        finally:
            self.open -= 1
            if check_abort(writer):
                writer.transport.abort()
            else:
                writer.close()


def check_abort(writer: asyncio.StreamWriter) -> bool:
    """Every third connection is aborted by the server."""
    return bool(writer.get_extra_info("socket").fileno() % 3 == 0)


async def cancelled(awaitable: Any, turns: int) -> None:
    task = asyncio.ensure_future(awaitable)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except (asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError):
        pass


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Client:
    """One connection after the other through streams."""

    def __init__(self, number: int, connect: Callable[[], Any]) -> None:
        self.random = random.Random(number)
        self.number, self.connect = number, connect
        self.descriptors: set[int] = set()

    async def run(self, rounds: int) -> None:
        for round_ in range(rounds):
            identity = self.number << 32 | round_
            try:
                reader, writer = await self.connect()
            except ConnectionError:
                continue
            self.descriptors.add(writer.get_extra_info("socket").fileno())
            try:
                writer.write(IDENTITY.pack(identity))
                await self.talk(identity, reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            end = self.random.choice([writer.close, writer.transport.abort, reset])
            reset(writer) if end is reset else end()
            if self.random.random() < 0.3:
                try:
                    await writer.wait_closed()
                except ConnectionError:
                    pass

    async def talk(
        self, identity: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        stream = said_by(identity)
        check = Check(identity)
        action = self.random.choice(["talk", "talk", "cancel read", "cancel write", "leave"])
        if action == "cancel write":
            # Far more than the socket takes: the rest must go nowhere.
            writer.write(stream * 8)
            await cancelled(writer.drain(), self.random.randrange(4))
            return
        size = self.random.randrange(1, 2000)
        writer.write(stream[:size])
        if action == "leave":
            return
        if action == "cancel read":
            await cancelled(reader.readexactly(size), self.random.randrange(4))
            return
        check.feed(await reader.readexactly(size))


def server_address(family: socket.AddressFamily, tmp_path: Path) -> Any:
    return str(tmp_path / "server") if family == socket.AF_UNIX else ("127.0.0.1", 0)


@pytest.mark.soak
def test_streams(
    loop: aiopoll.EventLoop,
    family: socket.AddressFamily,
    tmp_path: Path,
    soak: Callable[[int], int],
) -> None:
    rounds = soak(90)

    async def scenario() -> None:
        server = Server()
        if family == socket.AF_UNIX:
            path = tmp_path / "server"
            listening = await asyncio.start_unix_server(server.serve, path, backlog=1024)
            connect = functools.partial(asyncio.open_unix_connection, path)
        else:
            listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=1024)
            address = listening.sockets[0].getsockname()
            connect = functools.partial(asyncio.open_connection, *address)
        clients = [Client(number, connect) for number in range(CLIENTS)]
        await asyncio.gather(*(client.run(rounds) for client in clients))
        listening.close()
        while server.open or len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        assert not server.failures, server.failures[0]
        # Else no number was reused, and the test shows nothing.
        used = server.descriptors.union(*(client.descriptors for client in clients))
        assert len(used) < server.served // 4

    loop.run_until_complete(scenario())


@pytest.mark.soak
def test_sockets_of_the_program_itself(
    loop: aiopoll.EventLoop, family: socket.AddressFamily, tmp_path: Path, soak: Any
) -> None:
    """The same through sock_*: here it is the program that closes, right after a cancel."""
    failures: list[BaseException] = []

    async def serve(sock: socket.socket) -> None:
        try:
            check = Check(IDENTITY.unpack(await loop.sock_recv(sock, 8))[0])
            while data := await loop.sock_recv(sock, 4096):
                check.feed(data)
                start = (check.position - len(data)) % 64
                await loop.sock_sendall(sock, check.block[start : start + len(data)])
        except (ConnectionError, struct.error):
            pass
        except BaseException as error:
            failures.append(error)
        finally:
            sock.close()

    async def accept(listener: socket.socket, count: int) -> None:
        tasks = []
        for _ in range(count):
            sock, _ = await loop.sock_accept(listener)
            tasks.append(asyncio.ensure_future(serve(sock)))
        await asyncio.gather(*tasks)

    async def client(number: int, rounds: int, address: Any) -> set[int]:
        chance = random.Random(number)
        used = set()
        for round_ in range(rounds):
            identity = number << 32 | round_
            stream, check = said_by(identity), Check(identity)
            with socket.socket(family) as sock:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
                used.add(sock.fileno())
                try:
                    await loop.sock_connect(sock, address)
                    await loop.sock_sendall(sock, IDENTITY.pack(identity))
                    action = chance.randrange(4)
                    if action == 0:
                        await cancelled(loop.sock_recv(sock, 100), chance.randrange(3))
                    elif action == 1:
                        await cancelled(loop.sock_sendall(sock, stream * 8), chance.randrange(3))
                    else:
                        size = chance.randrange(1, 4000)
                        await loop.sock_sendall(sock, stream[:size])
                        while action == 2 and check.position < size:
                            check.feed(await loop.sock_recv(sock, size))
                except ConnectionError:
                    pass
                if chance.random() < 0.3:
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return used

    async def scenario() -> None:
        rounds = soak(60)
        with socket.socket(family) as listener:
            listener.setblocking(False)
            listener.bind(server_address(family, tmp_path))
            listener.listen(1024)
            accepting = asyncio.ensure_future(accept(listener, CLIENTS * rounds))
            used = await asyncio.gather(
                *(client(n, rounds, listener.getsockname()) for n in range(CLIENTS))
            )
            await accepting
            assert not failures, failures[0]
            assert len(set().union(*used)) < CLIENTS * rounds // 4

    loop.run_until_complete(scenario())


class Ear(asyncio.Protocol):
    """Knows its expected data, and counts its calls."""

    def __init__(self) -> None:
        self.heard = b""
        self.calls = 0
        self.lost = 0

    def data_received(self, data: bytes) -> None:
        self.calls += 1
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("duplicated", [False, True])
def test_next_user_of_a_number_gets_no_event_of_the_last(
    loop: aiopoll.EventLoop,
    stream_pair: Callable[[], tuple[socket.socket, socket.socket]],
    end: str,
    duplicated: bool,
) -> None:
    """Also where a duplicate (as a child process inherits) keeps the last one's file open."""

    async def scenario() -> None:
        kept: list[int] = []
        for _ in range(20):
            ours, theirs = stream_pair()
            next_ours, next_theirs = stream_pair()
            number = ours.fileno()
            if duplicated:
                kept.append(os.dup(number))
            transport, ear = await loop.create_connection(Ear, sock=ours)
            for _ in range(3):
                await asyncio.sleep(0)  # now it is waited for
            getattr(transport, end)()
            while not ear.lost:
                await asyncio.sleep(0)
            os.dup2(next_ours.fileno(), number, inheritable=False)
            next_ours.close()
            again = socket.socket(fileno=number)
            transport, next_ear = await loop.create_connection(Ear, sock=again)
            try:
                theirs.send(b"for the last one")
            except ConnectionError:
                assert not duplicated
            before = loop.statistics().iterations
            for _ in range(10):
                await asyncio.sleep(0)
            if duplicated:  # and nothing of it wakes the loop
                await asyncio.sleep(0.01)
                assert loop.statistics().iterations - before < 40
            assert (ear.heard, next_ear.heard, ear.lost, next_ear.lost) == (b"", b"", 1, 0)
            next_theirs.send(b"for the next one")
            while not next_ear.heard:
                await asyncio.sleep(0)
            assert next_ear.heard == b"for the next one"
            transport.close()
            while not next_ear.lost:
                await asyncio.sleep(0)
        for fd in kept:
            os.close(fd)

    loop.run_until_complete(scenario())


def test_events_of_an_iteration_do_not_reach_reused_numbers(
    loop: aiopoll.EventLoop,
    stream_pair: Callable[[], tuple[socket.socket, socket.socket]],
) -> None:
    """All are ready in one iteration; the first callback replaces the files of the others."""
    count = 64
    called: list[tuple[str, int]] = []

    async def scenario() -> None:
        pairs = [stream_pair() for _ in range(count)]
        fresh = [stream_pair() for _ in range(count)]
        numbers = [ours.fileno() for ours, _ in pairs]

        def replace_all(index: int) -> None:
            called.append(("old", index))
            for number in numbers:
                loop.remove_reader(number)
            for index, number in enumerate(numbers):
                os.dup2(fresh[index][0].fileno(), number, inheritable=False)
                loop.add_reader(number, called.append, ("new", index))

        for index, number in enumerate(numbers):
            loop.add_reader(number, replace_all, index)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for _, theirs in pairs:
            theirs.send(b"x")
        while not called:
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert [kind for kind, _ in called] == ["old"]
        for index in range(0, count, 2):
            fresh[index][1].send(b"x")
        for _ in range(5):
            await asyncio.sleep(0)
        assert {index for kind, index in called if kind == "new"} == set(range(0, count, 2))
        for number in numbers:
            assert loop.remove_reader(number)

    loop.run_until_complete(scenario())
