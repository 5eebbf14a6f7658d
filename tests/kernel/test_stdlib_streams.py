"""CPython's own asyncio stream tests, with every loop and socket inside an in-process kernel."""

import asyncio
import contextlib
from unittest import mock

import pytest

from aiopoll.kernel import Kernel
from aiopoll.kernel.runner import KernelEventLoop
from aiopoll.kernel.usersocket import KernelSocket, socketpair

stdlib = pytest.importorskip(
    "test.test_asyncio.test_streams", reason="CPython's tests are not installed"
)

# What needs the world outside, or looks for a loop of its own.
OUTSIDE = {
    "test_open_connection_no_loop_ssl": "a TLS server in a thread",
    "test_open_unix_connection_no_loop_ssl": "a TLS server in a thread",
    "test_start_tls": "TLS certificates and a real transport",
    "test_read_all_from_pipe_reader": "pipes of the real kernel",
    "test_drain_raises": "a blocking server in a thread",
    "test_loop_is_closed_resource_warnings": "asyncio.run on a loop of its own",
    "test_unclosed_resource_warnings": "asyncio.run on a loop of its own",
    "test_unclosed_server_resource_warnings": "asyncio.run on a loop of its own",
    "test_unhandled_exceptions": "asyncio.run on a loop of its own",
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
            mock.patch.object(stdlib.socket, "socketpair", lambda *a: socketpair(self.kernel, *a)),
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

    def run_test_server(self, **options):
        return self.serve(asyncio.start_server(respond, "127.0.0.1", 0))

    def run_unix_server(self, **options):
        return self.serve(asyncio.start_unix_server(respond, "/http"))
