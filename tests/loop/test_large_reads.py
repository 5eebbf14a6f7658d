"""Reads of a size that gets memory of its own, and of any size before and after."""

import asyncio
import socket
import sys

import pytest

import aiopoll

KIB = 1024
SIZES = [1, 64 * KIB, 64 * KIB, 64 * KIB + 1, 100, 31 * KIB, 32 * KIB, 33 * KIB, 10, 120 * KIB]
SIZES += [119 * KIB, 121 * KIB, 300 * KIB, 300 * KIB, 40 * KIB, 1, 1, 64 * KIB]


class Collecting(asyncio.Protocol):
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = False

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.pieces.append(data)

    def eof_received(self) -> None:
        self.ended = True


@pytest.mark.parametrize("repeats", [1, 3])
def test_data_read_equals_data_sent(loop: aiopoll.EventLoop, repeats: int) -> None:
    """Each size is sent alone, several times over, so that reads grow and shrink."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        transport, protocol = await loop.create_connection(Collecting, sock=ours)
        with theirs:
            for number, size in enumerate(size for size in SIZES for _ in range(repeats)):
                data = bytes([number % 251]) * size
                await loop.sock_sendall(theirs, data)
                while sum(map(len, protocol.pieces)) < size:
                    await asyncio.sleep(0)
                assert b"".join(protocol.pieces) == data
                # The kept data takes no more memory than its size.
                kept = sum(sys.getsizeof(piece) for piece in protocol.pieces)
                assert kept == size + len(protocol.pieces) * sys.getsizeof(b"")
                protocol.pieces.clear()
        while not protocol.ended:
            await asyncio.sleep(0)
        transport.abort()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


@pytest.mark.parametrize("reset", [False, True])
def test_the_end_after_a_large_read(loop: aiopoll.EventLoop, reset: bool) -> None:
    async def main() -> None:
        lost = loop.create_future()

        class Losing(Collecting):
            def connection_lost(self, error: Exception | None) -> None:
                lost.set_result(error)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        ours.setblocking(False)
        _, protocol = await loop.create_connection(Losing, sock=ours)
        for _ in range(3):
            theirs.sendall(bytes(64 * KIB))
            while sum(map(len, protocol.pieces)) < 64 * KIB:
                await asyncio.sleep(0)
            protocol.pieces.clear()
        if reset:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        error = await lost
        assert isinstance(error, ConnectionResetError) if reset else error is None
        assert protocol.ended is not reset

    loop.run_until_complete(main())
