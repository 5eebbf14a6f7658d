"""Each of our awaitables behaves, in every way, like a coroutine of asyncio's."""

import asyncio
import gc
import inspect
import io
import os
import socket
import sys
import types
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.support.descriptors import stream_pair
from tests.support.loops import LOOPS

import aiopoll

SECONDS_MAX = 10


@pytest.fixture(params=["aio", "epoll", "asyncio"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def loop(loop_kind: str) -> Iterator[Any]:
    loop = LOOPS[loop_kind]()
    yield loop
    loop.run_until_complete(
        loop.shutdown_asyncgens()
    )  # where files that are under way are waited for
    loop.close()


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

# Ways to await

FOR_COROUTINES = {"send", "create_task", "task_group", "run_coroutine_threadsafe", "eager_task"}
Way = Callable[[Make], Coroutine[Any, Any, Any]]
WAYS: dict[str, Way] = {}


def way(function: Way) -> Way:
    WAYS[function.__name__] = function
    return function


@way
async def plain_await(make: Make) -> Any:
    return await make()


class Delegating:
    """An awaitable on the awaitable's own __await__(), by `yield from`."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self.awaitable.__await__())


@way
async def yield_from_its_await(make: Make) -> Any:
    return await Delegating(make())


@way
async def yield_from_in_a_types_coroutine(make: Make) -> Any:
    @types.coroutine
    def old() -> Generator[Any, Any, Any]:
        return (yield from make())  # type: ignore[misc]

    return await old()


class Sending:
    """An awaitable that calls send() of the iterator of another, or next()."""

    def __init__(self, iterator: Any, step: Callable[[Any], Any]) -> None:
        self.iterator, self.step = iterator, step

    def __await__(self) -> Generator[Any, Any, Any]:
        while True:
            try:
                future = self.step(self.iterator)
            except StopIteration as end:
                return end.value
            yield future


@way
async def send_to_its_await(make: Make) -> Any:
    return await Sending(make().__await__(), lambda iterator: iterator.send(None))


@way
async def next_of_its_await(make: Make) -> Any:
    return await Sending(make().__await__(), next)


@way
async def next_of_its_iter(make: Make) -> Any:
    return await Sending(iter(make().__await__()), next)


@way
async def send(make: Make) -> Any:
    coroutine: Any = make()
    return await Sending(coroutine, lambda iterator: iterator.send(None))


@way
async def ensure_future(make: Make) -> Any:
    return await asyncio.ensure_future(make())


@way
async def create_task(make: Make) -> Any:
    awaitable = make()
    assert asyncio.iscoroutine(awaitable)
    task = asyncio.create_task(awaitable)
    assert task.get_coro() is awaitable
    if type(awaitable).__name__ != "iterable_coroutine":  # docs/limitations.toml: frames
        task.print_stack(file=io.StringIO())
    assert repr(task)
    return await task


@way
async def task_group(make: Make) -> Any:
    awaitable = make()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(awaitable)  # type: ignore[arg-type]
    return task.result()


@way
async def gather(make: Make) -> Any:
    return (await asyncio.gather(make(), asyncio.sleep(0)))[0]


@way
async def wait_for(make: Make) -> Any:
    return await asyncio.wait_for(make(), SECONDS_MAX)


@way
async def timeout(make: Make) -> Any:
    async with asyncio.timeout(SECONDS_MAX):
        return await make()


@way
async def shield(make: Make) -> Any:
    return await asyncio.shield(make())


@way
async def as_completed(make: Make) -> Any:
    [first] = asyncio.as_completed([make()])
    return await first


@way
async def wait(make: Make) -> Any:
    done, _ = await asyncio.wait({asyncio.ensure_future(make())})
    return done.pop().result()


@way
async def run_coroutine_threadsafe(make: Make) -> Any:
    loop = asyncio.get_running_loop()
    awaitable: Any = make()
    submit = asyncio.run_coroutine_threadsafe
    return await loop.run_in_executor(None, lambda: submit(awaitable, loop).result(SECONDS_MAX))


@way
async def async_generator(make: Make) -> Any:
    async def generate() -> AsyncIterator[Any]:
        yield await make()

    [answer] = [each async for each in generate()]
    return answer


if sys.version_info >= (3, 12):

    @way
    async def eager_task(make: Make) -> Any:
        awaitable: Any = make()
        return await asyncio.eager_task_factory(asyncio.get_running_loop(), awaitable)  # type: ignore[attr-defined,unused-ignore]


Perform = Callable[[Callable[[Make, Any], Coroutine[Any, Any, None]], str], None]


@pytest.fixture
def perform(loop: Any, loop_kind: str, tmp_path: Path) -> Perform:
    """Sets a scene up, and tests its awaitable and the result."""

    def act(test: Callable[[Make, Any], Coroutine[Any, Any, None]], name: str) -> None:
        async def main() -> None:
            stage = Stage(asyncio if loop_kind == "asyncio" else aiopoll, tmp_path)
            try:
                make, want = await SCENES[name](stage)
                await test(make, want)
            finally:
                await stage.close()

        loop.run_until_complete(asyncio.wait_for(main(), SECONDS_MAX))

    return act


@pytest.mark.parametrize("scene", SCENES)
def test_each_awaitable_can_be_awaited_in_each_way(perform: Perform, scene: str) -> None:
    for name, way in WAYS.items():
        if scene not in FUTURES or name not in FOR_COROUTINES:

            async def test(make: Make, want: Any, way: Way = way) -> None:
                assert want == await way(make)

            perform(test, scene)


@pytest.mark.parametrize("scene", FUTURES)
def test_method_that_returns_a_future_starts_at_once(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        future = make()
        assert asyncio.isfuture(future)
        assert inspect.isawaitable(future)
        assert want == await future

    perform(test, scene)


@pytest.mark.parametrize("scene", COROUTINES)
def test_coroutine_closed_before_its_start_does_nothing(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        coroutine: Any = make()
        coroutine.close()
        coroutine.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coroutine

    perform(test, scene)


@pytest.mark.parametrize("scene", COROUTINES)
def test_exception_thrown_in_before_the_start_is_raised(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        coroutine: Any = make()
        with pytest.raises(ZeroDivisionError):
            coroutine.throw(ZeroDivisionError())
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            coroutine.send(None)

    perform(test, scene)


@pytest.mark.parametrize("scene", sorted(WAITING))
def test_waiting_coroutine_can_be_ended_in_each_way(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        begun: Any = make()
        assert asyncio.isfuture(begun.send(None))
        assert begun.cr_frame is not None
        begun.close()
        assert begun.cr_frame is None
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            begun.send(None)

    perform(test, scene)

    async def thrown(make: Make, want: Any) -> None:
        begun: Any = make()
        begun.send(None)
        with pytest.raises(ZeroDivisionError):
            begun.throw(ZeroDivisionError())
        assert begun.cr_frame is None

    perform(thrown, scene)

    async def cancelled(make: Make, want: Any) -> None:
        task = asyncio.ensure_future(make())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    perform(cancelled, scene)


@pytest.mark.parametrize("scene", COROUTINES)
def test_awaitable_looks_like_a_coroutine(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        coroutine: Any = make()
        assert inspect.isawaitable(coroutine)
        assert isinstance(coroutine, Awaitable)
        assert asyncio.iscoroutine(coroutine)
        assert isinstance(coroutine, Coroutine)
        assert coroutine.cr_frame is not None
        assert isinstance(coroutine.cr_code, types.CodeType)
        assert coroutine.cr_frame.f_code is coroutine.cr_code
        assert coroutine.cr_running is False
        assert coroutine.cr_await is None
        assert want == await coroutine
        assert coroutine.cr_frame is None
        assert coroutine.cr_await is None
        assert coroutine.cr_running is False

    perform(test, scene)


@pytest.mark.parametrize("scene", COROUTINES)
def test_coroutine_that_is_never_awaited_is_reported(perform: Perform, scene: str) -> None:
    async def test(make: Make, want: Any) -> None:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            coroutine: Any = make()
            del coroutine
            gc.collect()
        assert [str(each.message).endswith("was never awaited") for each in told] == [True]

    perform(test, scene)


@pytest.mark.parametrize("kind", ["readline", "readline-waits", "drain", "drain-waits", "open-r"])
def test_its_state_is_a_coroutines(perform: Perform, kind: str) -> None:
    async def test(make: Make, want: Any) -> None:
        coroutine: Any = make()
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        else:
            assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
            coroutine.close()
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    perform(test, kind)


METHODS = ["read", "readline", "readexactly", "readuntil", "drain", "sock_recv", "sock_sendall"]


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_are_known_as_coroutine_functions(loop: Any, method: str) -> None:
    owner = loop if method.startswith("sock_") else aiopoll.StreamReader
    if method == "drain":
        owner = aiopoll.StreamWriter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert asyncio.iscoroutinefunction(getattr(owner, method))
    if sys.version_info >= (3, 12) or method.startswith("sock_"):
        assert inspect.iscoroutinefunction(getattr(owner, method))


def test_a_stack_shows_the_function_that_was_called(loop: Any) -> None:
    async def main() -> None:
        reader = aiopoll.StreamReader(loop=loop)
        task = asyncio.create_task(reader.readexactly(5))  # type: ignore[arg-type,unused-ignore]
        await asyncio.sleep(0)
        [frame] = task.get_stack()
        assert frame.f_code is asyncio.StreamReader.readexactly.__code__
        printed = io.StringIO()
        task.print_stack(file=printed)
        assert "in readexactly" in printed.getvalue()
        assert os.path.basename(frame.f_code.co_filename) == "streams.py"
        assert "readexactly" in repr(task)
        reader.feed_data(b"12345")
        assert await task == b"12345"

    loop.run_until_complete(main())
