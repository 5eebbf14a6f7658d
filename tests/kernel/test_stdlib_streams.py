"""CPython's own asyncio stream tests, with every loop and socket inside an in-process kernel."""

import asyncio
import contextlib
from functools import partial
from types import SimpleNamespace
from unittest import mock

import pytest

from aiopoll.kernel import Kernel
from aiopoll.kernel.runner import KernelEventLoop
from aiopoll.kernel.usersocket import KernelSocket, socketpair
from aiopoll.kernel.wait import WaitQueueHead, wait_event_interruptible

stdlib = pytest.importorskip(
    "test.test_asyncio.test_streams", reason="CPython's tests are not installed"
)

# Tests that need the real system.
OUTSIDE = {
    "test_read_all_from_pipe_reader": "a subprocess on a pipe of the real kernel",
    "test_open_connection_happy_eyeball_refcycles": "a loop of its own, on the real kernel",
}


class HttpServer:
    def __init__(self, address):
        self.address = address


async def respond(reader, writer):
    try:
        await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        writer.close()
        return
    writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 12\r\n\r\nTest message")
    await writer.drain()
    writer.close()


class Thread:
    """threading.Thread as another task of the kernel."""

    def __init__(self, kernel, target):
        self.kernel = kernel
        self.target = target

    def start(self):
        self.task = self.kernel.spawn(self.target)

    def join(self):
        self.kernel.join(self.task)


class Queue:
    """queue.Queue whose waiting is the kernel's."""

    def __init__(self, kernel):
        self.items = []
        self.filled = WaitQueueHead(kernel.sched)

    def put(self, item):
        self.items.append(item)
        self.filled.wake_up()

    def get(self):
        wait_event_interruptible(self.filled, lambda: bool(self.items))
        return self.items.pop(0)


class TestStreams(stdlib.StreamTests):
    def setUp(self):
        # The parent's setUp makes a loop of the real kernel and remembers it for cleaning up.
        self.kernel = Kernel()
        self.addCleanup(self.kernel.halt)
        loop = KernelEventLoop(self.kernel)
        with mock.patch.object(stdlib.asyncio, "new_event_loop", return_value=loop):
            super().setUp()
        for patch in (
            mock.patch.object(stdlib.test_utils, "run_test_server", self.run_test_server),
            mock.patch.object(stdlib.test_utils, "run_test_unix_server", self.run_unix_server),
            mock.patch.object(stdlib.socket, "create_server", self.create_server),
            mock.patch.object(stdlib.socket, "create_connection", self.create_connection),
            mock.patch.object(stdlib.socket, "socketpair", lambda *a: socketpair(self.kernel, *a)),
            mock.patch.object(
                stdlib, "threading", SimpleNamespace(Thread=partial(Thread, self.kernel))
            ),
            mock.patch.object(stdlib, "queue", SimpleNamespace(Queue=partial(Queue, self.kernel))),
        ):
            patch.start()
            self.addCleanup(patch.stop)
        name = self._testMethodName
        if name in OUTSIDE:
            self.skipTest(OUTSIDE[name])

    def create_server(self, address):
        sock = KernelSocket(self.kernel)
        sock.bind(address)
        sock.listen()
        return sock

    def create_connection(self, address):
        sock = KernelSocket(self.kernel)
        sock.connect(address)
        return sock

    @contextlib.contextmanager
    def serve(self, starting):
        server = self.loop.run_until_complete(starting)
        try:
            yield HttpServer(server.sockets[0].getsockname())
        finally:
            server.close()
            self.loop.run_until_complete(server.wait_closed())
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            stdlib.test_utils.run_briefly(self.loop)

    def run_test_server(self, use_ssl=False):
        tls = stdlib.test_utils.simple_server_sslcontext() if use_ssl else None
        return self.serve(asyncio.start_server(respond, "127.0.0.1", 0, ssl=tls))

    def run_unix_server(self, use_ssl=False):
        tls = stdlib.test_utils.simple_server_sslcontext() if use_ssl else None
        return self.serve(asyncio.start_unix_server(respond, "/http", ssl=tls))
