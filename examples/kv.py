"""A durable key-value server in one thread: redis-cli and redis-benchmark talk to it.

python examples/kv.py [--directory DIRECTORY] [--port PORT]

Sockets and the log (kv_log.py) are on one AIO ring.  The reply to a write is sent when its record
is on the device; no reader sees the value before.  The commands are in kv_store.py.
"""

import argparse
import asyncio
import collections
import functools
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from kv_manifest import Damaged
from kv_resp import NULL, CommandParser, ProtocolError, bulk, error_reply, integer
from kv_store import Later, Reply, Store

import aiopoll

BACKLOG_MAX = 8 << 20
"""Bytes of records waiting for the device at which connections are no longer read."""
OWED_MAX = 4 << 20
"""Bytes of replies, of one connection, at which it is no longer read."""
RESERVED = 128
"""Descriptors kept back from clients, at most half of all: for the log, and for clients that are
refused for want of room."""
ROOM_RETRY_S = 0.1
"""Between two tries of the log to get a descriptor where no client is left."""
FAREWELL_S = 2.0
"""Time for clients to receive their last replies when the server is asked to end."""


class Connection(asyncio.Protocol):
    """Carries out a client's commands in order, without waiting for one to be durable before the
    next; replies in order."""

    def __init__(self, store: Store, connections: dict["Connection", None]) -> None:
        self.store = store
        self.connections = connections  # the client that was silent longest is the first
        self.parser = CommandParser(store.command_max)
        self.replies: collections.deque[Reply] = collections.deque()
        self.protocol = 2
        self.owed = 0  # bytes of the replies
        self.ending = False  # no further command
        self.can_write = True
        self.awaited: asyncio.Future[Any] | None = None
        self.exclusive: asyncio.Future[Any] | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.connections[self] = None
        # The kernel gives the smallest number that is free: this many are taken.
        if transport.get_extra_info("socket").fileno() >= descriptors_for_clients():
            self.replies.append(error_reply("ERR max number of clients reached"))
            self.end()

    def connection_lost(self, error: Exception | None) -> None:
        self.ending = True
        self.replies.clear()
        self.connections.pop(self, None)
        self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.connections[self] = self.connections.pop(self)
        self.parser.feed(data)
        self.run()

    def eof_received(self) -> bool:
        self.end()
        return True  # the transport stays open for replies

    def pause_writing(self) -> None:
        self.can_write = False

    def resume_writing(self) -> None:
        self.can_write = True
        self.run()

    def end(self) -> None:
        """Closes when every command has its reply."""
        self.ending = True
        self.run()

    def may_run(self) -> bool:
        return (
            not self.ending
            and self.can_write
            and self.owed < OWED_MAX
            and self.store.log.backlog < BACKLOG_MAX
            and (self.exclusive is None or self.exclusive.done())
        )

    def run(self, _: object = None) -> None:
        """Carries out the commands received so far."""
        self.send()
        hungry = False
        while not hungry and self.may_run():
            while self.may_run():
                try:
                    arguments = self.parser.next()
                except ProtocolError as error:
                    self.replies.append(error_reply(f"ERR Protocol error: {error}"))
                    self.ending = True
                    break
                if arguments is None:
                    hungry = True
                    break
                if arguments:
                    self.execute(arguments)
            self.send()
        if self.transport.is_closing():
            return
        if hungry:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()
            if not self.ending and not self.replies and self.can_write:
                self.wait_for_log()
        if self.ending and not self.replies:
            self.transport.close()

    def wait_for_log(self) -> None:
        last = self.store.log.last
        if last is not None and not last.durable.done():
            last.durable.add_done_callback(self.run)

    def execute(self, arguments: list[bytes]) -> None:
        name = arguments[0].lower()
        if name == b"hello":
            reply: Reply = self.hello(arguments[1:])
        else:
            reply = self.store.execute(arguments, NULL[self.protocol])
        self.replies.append(reply)
        if isinstance(reply, Later):
            self.owed += reply.size
            if reply.exclusive:
                self.exclusive = reply.future
        else:
            self.owed += len(reply)
        if name == b"quit":
            self.ending = True

    def hello(self, options: list[bytes]) -> bytes:
        """Replies with the server's properties, in the client's version of the protocol."""
        if options and options[0] not in (b"2", b"3"):
            return error_reply("NOPROTO unsupported protocol version: 2 and 3 are known")
        if len(options) > 1 and options[1].upper() != b"SETNAME":
            return error_reply("ERR HELLO takes no more than a version and SETNAME")
        if options:
            self.protocol = int(options[0])
        facts = {
            b"server": b"aiopoll-kv",
            b"version": aiopoll.__version__.encode(),
            b"mode": b"standalone",
        }
        head = b"%%%d\r\n" if self.protocol == 3 else b"*%d\r\n"
        count = (len(facts) + 1) * (1 if self.protocol == 3 else 2)
        words = [bulk(word) for pair in facts.items() for word in pair]
        return b"".join((head % count, bulk(b"proto"), integer(self.protocol), *words))

    def send(self) -> None:
        """Writes the replies that are there."""
        ready = []
        while self.replies and not self.transport.is_closing():
            reply = self.replies[0]
            if isinstance(reply, Later):
                if not reply.future.done():
                    if self.awaited is not reply.future:
                        self.awaited = reply.future
                        reply.future.add_done_callback(self.run)
                    break
                ready.append(reply.result())
                self.owed -= reply.size
            else:
                ready.append(reply)
                self.owed -= len(reply)
            self.replies.popleft()
        if ready:
            self.transport.write(b"".join(ready))


def descriptors_for_clients() -> int:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return allowed - min(RESERVED, allowed // 2)


async def make_room(connections: dict[Connection, None]) -> bool:
    """Ends the connection that was silent longest, for the log; if there is none, it waits."""
    connection = next(iter(connections), None)
    if connection is None:
        print("kv: the log needs a descriptor, and no client has one", file=sys.stderr)
        await asyncio.sleep(ROOM_RETRY_S)
    else:
        connection.transport.abort()
        await connection.ended
    return True


def set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def serve(arguments: argparse.Namespace) -> int:
    loop = asyncio.get_running_loop()
    stop = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, set_done, stop)
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    connections: dict[Connection, None] = {}
    store = Store(arguments.directory, arguments.segment_mib << 20, arguments.cache_mib << 20)
    await store.open()
    store.log.make_room = functools.partial(make_room, connections)
    try:
        server = await loop.create_server(
            lambda: Connection(store, connections), arguments.host, arguments.port
        )
        host, port = server.sockets[0].getsockname()[:2]
        print(f"kv: {len(store.index)} keys in {arguments.directory}", flush=True)
        print(f"kv: ready on {host}:{port}", flush=True)
        await asyncio.wait([stop, store.log.failed], return_when=asyncio.FIRST_COMPLETED)
        server.close()
        for connection in list(connections):
            connection.end()
        if connections:
            await asyncio.wait([c.ended for c in connections], timeout=FAREWELL_S)
        for connection in list(connections):
            connection.transport.abort()
    finally:
        await store.close()
    if store.log.failed.done():
        print(f"kv: {store.log.failed.result()}", file=sys.stderr)
        return 1
    print("kv: ended", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=Path("kv-data"), help="of the log")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6380, help="0 takes any free port")
    parser.add_argument("--cache-mib", type=int, default=64, help="values kept in memory")
    parser.add_argument("--segment-mib", type=int, default=16, help="size of a file of the log")
    arguments = parser.parse_args()
    if arguments.segment_mib < 1 or arguments.cache_mib < 0:
        parser.error("--segment-mib is at least 1, --cache-mib at least 0")
    try:
        return aiopoll.run(serve(arguments))
    except (Damaged, OSError) as error:
        print(f"kv: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
