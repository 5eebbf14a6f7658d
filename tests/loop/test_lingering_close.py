"""SO_LINGER: close(2) waits for the peer, and other threads go on meanwhile."""

import asyncio
import platform
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

SYS_CLOSE = {"x86_64": "3", "aarch64": "57"}.get(platform.machine())
LINGER_S = 5
SIZE = 1 << 20


class Peer(threading.Thread):
    """Reads nothing until it has seen the loop's thread inside close(2)."""

    def __init__(self, client: socket.socket) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.loops = threading.get_native_id()
        self.closed = threading.Event()
        self.seen_inside = False
        self.received = 0

    def run(self) -> None:
        call = Path(f"/proc/self/task/{self.loops}/syscall")
        while not self.closed.is_set() and not self.seen_inside:
            self.seen_inside = call.read_text("utf-8").split()[0] == SYS_CLOSE
        while data := self.client.recv(1 << 16):
            self.received += len(data)


def peer_of_a_lingering_close(loop: Any) -> Peer:
    """The peer of a connection that was closed with more in its buffer than the peer took."""
    made: list[Any] = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            made.append(transport)

        def connection_lost(self, error: Exception | None) -> None:
            loop.call_soon(loop.stop)

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER_S))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SIZE)
    server = loop.run_until_complete(loop.create_server(Server, sock=listener))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        while not made:
            loop.run_until_complete(asyncio.sleep(0))
        [transport] = made
        transport.write(bytes(SIZE))  # more than the peer's buffer takes
        peer = Peer(client)
        peer.start()
        transport.abort()  # data buffered in the process is dropped, the kernel's is not
        loop.run_forever()
        peer.closed.set()
        peer.join()
    server.close()
    loop.run_until_complete(server.wait_closed())
    return peer


@pytest.mark.skipif(SYS_CLOSE is None, reason="skips.toml: numbers of system calls")
def test_other_threads_run_while_a_close_lingers(loop: Any) -> None:
    # A cancelled poll may let go of the file after close(2) does, in a thread of the kernel, which
    # lingers then.
    for _attempt in range(5):
        peer = peer_of_a_lingering_close(loop)
        assert peer.received > 4096
        if peer.seen_inside:
            return
    pytest.fail("no other thread ran while close(2) lingered")
