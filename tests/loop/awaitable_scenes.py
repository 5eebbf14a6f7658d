"""What can be awaited: each awaitable of ours, with the objects that it needs and its result."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

from tests.support.descriptors import stream_pair

import aiopoll


class Open(asyncio.Transport):
    """A transport that is open until it is closed."""

    closing = False

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


class Stage:
    """The objects that an awaitable needs, and those to close after it."""

    def __init__(self, streams: Any, directory: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.streams = streams  # asyncio or aiopoll
        self.path = directory / "file"
        self.path.write_bytes(b"line\nmore")
        self.stack = ExitStack()
        self.ends = AsyncExitStack()

    def later(self, call: Callable[[], object], turns: int = 5) -> None:
        """Calls it after some iterations, when the awaiting task waits."""
        if turns:
            self.loop.call_soon(self.later, call, turns - 1)
        else:
            call()

    def reader(self, waits: bool, data: bytes = b"line\n") -> Any:
        reader = self.streams.StreamReader(loop=self.loop)

        def feed() -> None:
            reader.feed_data(data)
            reader.feed_eof()

        if waits:
            self.later(feed)
        else:
            feed()
        return reader

    def writer(self, waits: bool) -> Any:
        reader = self.streams.StreamReader(loop=self.loop)
        protocol = self.streams.StreamReaderProtocol(reader, loop=self.loop)
        if waits:
            protocol.pause_writing()
            self.later(protocol.resume_writing)
        transport = Open()
        self.stack.callback(transport.close)
        return self.streams.StreamWriter(transport, protocol, reader, self.loop)

    def pair(self, waits: bool) -> tuple[socket.socket, socket.socket]:
        ours, theirs = stream_pair()
        self.stack.enter_context(ours)
        self.stack.enter_context(theirs)
        if waits:
            self.later(lambda: theirs.send(b"line\n"))
        else:
            theirs.send(b"line\n")
        return ours, theirs

    def listener(self) -> socket.socket:
        listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setblocking(False)
        return listener

    def client(self) -> socket.socket:
        client = self.stack.enter_context(socket.socket())
        client.setblocking(False)
        return client

    async def file(self, mode: str) -> Any:
        file = await aiopoll.open(self.path, mode)
        self.ends.push_async_callback(file.close)
        return file

    async def close(self) -> None:
        await self.ends.aclose()
        self.stack.close()


Make = Callable[[], Awaitable[Any]]


Scene = Callable[[Stage], Awaitable[tuple[Make, Any]]]


SCENES: dict[str, Scene] = {}


WAITING: set[str] = set()  # those that block when they are awaited


def scene(name: str, waits: bool = False) -> Callable[[Scene], Scene]:
    def enter(function: Scene) -> Scene:
        SCENES[name] = function
        if waits:
            WAITING.add(name)
        return function

    return enter


def stream_scene(call: str, waits: bool, *arguments: Any) -> None:
    @scene(f"{call}{'-waits' if waits else ''}", waits)
    async def made(stage: Stage) -> tuple[Make, Any]:
        reader = stage.reader(waits)
        return lambda: getattr(reader, call)(*arguments), b"line\n"


for _waits in (False, True):
    stream_scene("readline", _waits)
    stream_scene("readuntil", _waits, b"\n")
    stream_scene("readexactly", _waits, 5)
    stream_scene("read", _waits, 100)
    stream_scene("__anext__", _waits)


@scene("read-to-the-end", True)
async def read_to_the_end(stage: Stage) -> tuple[Make, Any]:
    return stage.reader(True).read, b"line\n"


@scene("drain")
async def drain(stage: Stage) -> tuple[Make, Any]:
    return stage.writer(False).drain, None


@scene("drain-waits", True)
async def drain_waits(stage: Stage) -> tuple[Make, Any]:
    return stage.writer(True).drain, None


def socket_scene(call: str, waits: bool, want: Any, *arguments: Any) -> None:
    @scene(f"{call}{'-waits' if waits else ''}", waits)
    async def made(stage: Stage) -> tuple[Make, Any]:
        sock, _ = stage.pair(waits)
        given = [bytearray(a) if isinstance(a, bytearray) else a for a in arguments]
        return lambda: getattr(stage.loop, call)(sock, *given), want


for _waits in (False, True):
    socket_scene("sock_recv", _waits, b"line\n", 100)
    socket_scene("sock_recv_into", _waits, 5, bytearray(100))
    socket_scene("sock_recvfrom", _waits, (b"line\n", None), 100)
    socket_scene("sock_recvfrom_into", _waits, (5, None), bytearray(100))


socket_scene("sock_sendall", False, None, b"data")


@scene("sock_sendall-waits", True)
async def sock_sendall(stage: Stage) -> tuple[Make, Any]:
    sock, theirs = stage.pair(False)
    size = 0
    try:
        while True:
            size += sock.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    stage.later(lambda: theirs.recv(size))
    return lambda: stage.loop.sock_sendall(sock, b"data"), None


@scene("sock_sendto")
async def sock_sendto(stage: Stage) -> tuple[Make, Any]:
    ours, theirs = (
        stage.stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(2)
    )
    ours.setblocking(False)
    theirs.bind(("127.0.0.1", 0))
    return lambda: stage.loop.sock_sendto(ours, b"data", theirs.getsockname()), 4


@scene("sock_accept", True)
async def sock_accept(stage: Stage) -> tuple[Make, Any]:
    listener, client = stage.listener(), stage.client()
    stage.later(lambda: client.connect_ex(listener.getsockname()))

    async def accept() -> bool:
        sock, _ = await stage.loop.sock_accept(listener)
        sock.close()
        return True

    return accept, True


@scene("sock_connect")
async def sock_connect(stage: Stage) -> tuple[Make, Any]:
    listener, client = stage.listener(), stage.client()
    return lambda: stage.loop.sock_connect(client, listener.getsockname()), None


@scene("sock_sendfile")
async def sock_sendfile(stage: Stage) -> tuple[Make, Any]:
    sock, _ = stage.pair(False)
    file = stage.stack.enter_context(stage.path.open("rb"))
    return lambda: stage.loop.sock_sendfile(sock, file), 9


@scene("getaddrinfo")
async def getaddrinfo(stage: Stage) -> tuple[Make, Any]:
    arguments: dict[str, Any] = {"type": socket.SOCK_STREAM}
    want = socket.getaddrinfo("127.0.0.1", 80, **arguments)
    return lambda: stage.loop.getaddrinfo("127.0.0.1", 80, **arguments), want


@scene("getnameinfo")
async def getnameinfo(stage: Stage) -> tuple[Make, Any]:
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    return lambda: stage.loop.getnameinfo(("127.0.0.1", 80), flags), ("127.0.0.1", "80")


def file_scene(call: str, mode: str, want: Any, *arguments: Any) -> None:
    @scene(f"{call}-{mode}")
    async def made(stage: Stage) -> tuple[Make, Any]:
        file = await stage.file(mode)
        return lambda: getattr(file, call)(*arguments), want


for _call, _wants, _arguments in (
    ("read", (b"line\nmore", "line\nmore"), ()),
    ("readline", (b"line\n", "line\n"), ()),
    ("readlines", ([b"line\n", b"more"], ["line\n", "more"]), ()),
    ("__anext__", (b"line\n", "line\n"), ()),
    ("seek", (2, 2), (2,)),
    ("tell", (0, 0), ()),
    ("truncate", (3, 3), (3,)),
    ("flush", (None, None), ()),
    ("fsync", (None, None), ()),
    ("close", (None, None), ()),
):
    file_scene(_call, "r+b", _wants[0], *_arguments)
    file_scene(_call, "r+", _wants[1], *_arguments)


file_scene("write", "r+b", 4, b"data")


file_scene("write", "r+", 4, "data")


file_scene("pread", "rb", b"line", 4, 0)


file_scene("pwrite", "r+b", 4, b"data", 0)


def open_scene(mode: str) -> None:
    @scene(f"open-{mode}", True)
    async def made(stage: Stage) -> tuple[Make, Any]:
        return lambda: aiopoll.open(stage.path, mode), Closing(stage, mode)


class Closing:
    """Equal to a file of that mode, which it has closed then."""

    def __init__(self, stage: Stage, mode: str) -> None:
        self.stage = stage
        self.mode = mode

    def __eq__(self, file: Any) -> bool:
        self.stage.ends.push_async_callback(file.close)
        return bool(file.mode == self.mode)

    __hash__ = None  # type: ignore[assignment]


open_scene("rb")


open_scene("r")


@scene("Path.exists")
async def path_exists(stage: Stage) -> tuple[Make, Any]:
    return aiopoll.Path(stage.path).exists, True


@scene("Path.read_bytes")
async def path_read_bytes(stage: Stage) -> tuple[Make, Any]:
    return aiopoll.Path(stage.path).read_bytes, b"line\nmore"


@scene("create_server")
async def create_server(stage: Stage) -> tuple[Make, Any]:
    async def serve() -> bool:
        server = await stage.loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        server.close()
        await server.wait_closed()
        return True

    return serve, True


FUTURES = ["fsync-r+b", "pread-rb", "pwrite-r+b"]  # they return futures: the I/O is under way


COROUTINES = [scene for scene in SCENES if scene not in FUTURES]
