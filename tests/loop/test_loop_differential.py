"""Each name of AbstractEventLoop, in the same scenario on asyncio's loop and on ours.

A scenario returns its observations, free of numbers that differ from run to run.  The result of
stock asyncio on this Python is right.  SCENARIOS lists the names that each one calls; together they
call all.
"""

import asyncio
import contextlib
import inspect
import io
import logging
import os
import re
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import aiopoll

Scenario = Callable[[Any, "Place"], Coroutine[Any, Any, Any]]


class Place:
    """Where a scenario may work: a directory, and both ends' TLS."""

    def __init__(self, path: Path, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        self.path, self.server, self.client = path, server, client


SCENARIOS: dict[Scenario, set[str]] = {}


def calls(*names: str) -> Callable[[Scenario], Scenario]:
    """Records the names of the table that a scenario calls."""

    def note(scenario: Scenario) -> Scenario:
        SCENARIOS.setdefault(scenario, set()).update(names)
        return scenario

    return note


def outcome(error: BaseException) -> tuple[str, str]:
    # The class is not compared: each loop has its own transports.
    return type(error).__name__, re.sub(r"<[\w.]+ object at 0x[0-9a-f]+>", "<object>", str(error))


async def attempt(awaitable: Any) -> Any:
    """The result, or the exception's type and text."""
    try:
        return await awaitable
    except Exception as error:
        return outcome(error)


class Recorder(asyncio.Protocol):
    """Records its callbacks."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.data = b""
        self.lost = asyncio.get_running_loop().create_future()
        self.transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.told.append("eof")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.told.append(("lost", exc and outcome(exc)))
        self.lost.set_result(None)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.came.put_nowait(data)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@calls("is_running", "is_closed", "time", "get_debug", "set_debug", "create_future", "create_task")
async def state(loop: Any, place: Place) -> Any:
    async def nothing() -> str:
        return "done"

    future = loop.create_future()
    task = loop.create_task(nothing(), name="a task")
    seen = [loop.is_running(), loop.is_closed(), loop.get_debug(), type(loop.time())]
    loop.set_debug(True)
    seen.append(loop.get_debug())
    loop.set_debug(False)
    assert abs(loop.time() - time.monotonic()) < 60
    return [*seen, type(future), future.get_loop() is loop, type(task), task.get_name(), await task]


@calls("call_soon", "call_soon_threadsafe", "call_later", "call_at", "_timer_handle_cancelled")
async def order(loop: Any, place: Place) -> Any:
    seen: list[Any] = []
    done = loop.create_future()
    now = loop.time()
    late = loop.call_at(now + 0.02, done.set_result, None)
    loop.call_later(0.01, seen.append, "later")
    cancelled = loop.call_later(0.005, seen.append, "never")
    loop.call_soon(seen.append, "soon")
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, "thread"))
    thread.start()
    thread.join()
    loop.call_soon(seen.append, "last")
    cancelled.cancel()
    await done
    errors = []
    for call in (loop.call_later, loop.call_at):
        with pytest.raises(TypeError) as raised:
            call(None, print)
        errors.append(str(raised.value))
    return [seen, late.when() == now + 0.02, cancelled.cancelled(), late.cancelled(), errors]


@calls("set_task_factory", "get_task_factory")
async def task_factory(loop: Any, place: Place) -> Any:
    seen: list[Any] = [loop.get_task_factory()]

    async def step(name: str) -> str:
        seen.append(name)
        return name

    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
    seen.append(await loop.create_task(step("own")))
    with pytest.raises(TypeError) as raised:
        loop.set_task_factory("no callable")
    seen.append(str(raised.value))
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(step("eager"))
        seen.append(task.done())
        async with asyncio.TaskGroup() as group:
            group.create_task(step("in a group"))
            seen.append("the group goes on")
    loop.set_task_factory(None)
    return seen


@calls("run_in_executor", "set_default_executor", "shutdown_default_executor")
async def executors(loop: Any, place: Place) -> Any:
    seen: list[Any] = [await loop.run_in_executor(None, pow, 2, 10)]
    with pytest.raises(TypeError) as raised:
        loop.set_default_executor("none")
    seen.append(str(raised.value))
    with ThreadPoolExecutor(1, "mine") as pool:
        loop.set_default_executor(pool)
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        seen.append(name.partition("_")[0])
        seen.append(await attempt(loop.run_in_executor(None, int, "x")))
        if sys.version_info >= (3, 13):  # 3.12.1 waits for the threads all the same
            finish = threading.Event()
            loop.run_in_executor(None, finish.wait)
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                await loop.shutdown_default_executor(0.01)
            seen.append([(item.category, str(item.message)) for item in warned])
            finish.set()
        else:
            await loop.shutdown_default_executor()
    return [*seen, await attempt(refused(loop.run_in_executor, None, pow, 2, 2))]


async def refused(call: Callable[..., Any], *arguments: Any) -> Any:
    return await call(*arguments)


@calls("getaddrinfo", "getnameinfo")
async def names(loop: Any, place: Place) -> Any:
    return [
        await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM),
        await loop.getaddrinfo("::1", "81", family=socket.AF_INET6),
        await attempt(loop.getaddrinfo("127.0.0.1", 80, family=socket.AF_INET6)),
        await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST),
        await attempt(loop.getnameinfo(("no address", 80))),
    ]


@calls("create_connection", "create_server")
async def tcp(loop: Any, place: Place) -> Any:
    served: list[Recorder] = []

    def accept() -> Recorder:
        served.append(Recorder())
        return served[-1]

    server = await loop.create_server(accept, "127.0.0.1", 0, backlog=5, reuse_port=True)
    host, port = server.sockets[0].getsockname()
    seen: list[Any] = [server.is_serving(), len(server.sockets)]
    transport, protocol = await loop.create_connection(
        Recorder, host, port, happy_eyeballs_delay=0.25, interleave=1, local_addr=(host, 0)
    )
    seen += [transport.get_extra_info("peername") == (host, port), transport.can_write_eof()]
    seen += [transport.get_extra_info("nothing", 7), transport.is_reading()]
    transport.close()
    transport.close()
    await protocol.lost
    while not served:
        await asyncio.sleep(0)
    await served[0].lost
    seen += [protocol.told, transport.is_closing()]
    server.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shut = free.getsockname()[1]
        for options in ({}, {"happy_eyeballs_delay": 0.1}):
            error = await attempt(loop.create_connection(Recorder, "127.0.0.1", shut, **options))
            seen.append([error[0], error[1].replace(str(shut), "PORT")])
        if sys.version_info >= (3, 12):
            try:
                await loop.create_connection(Recorder, "127.0.0.1", shut, all_errors=True)
            except ExceptionGroup as group:
                seen.append([type(error) for error in group.exceptions])
    for arguments, options in (
        ((), {}),
        (("127.0.0.1", 1), {"sock": free}),
        (("127.0.0.1", 1), {"server_hostname": "name"}),
        (("127.0.0.1", 1), {"ssl_handshake_timeout": 1}),
    ):
        for call in (loop.create_connection, loop.create_server):
            if call == loop.create_server and "server_hostname" in options:
                continue
            seen.append(await attempt(call(Recorder, *arguments, **options)))
    return seen


@calls("create_unix_connection", "create_unix_server", "start_tls")
async def unix_and_start_tls(loop: Any, place: Place) -> Any:
    path = str(place.path / "socket")
    served: list[Any] = []

    class Server(Recorder):
        encrypted = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            served.append(self)
            transport.pause_reading()
            loop.create_task(self.upgrade(transport))

        async def upgrade(self, transport: Any) -> None:
            self.transport = await loop.start_tls(transport, self, place.server, server_side=True)

            self.encrypted = True
            self.answer()

        def data_received(self, data: bytes) -> None:
            self.data += data
            self.answer()

        def answer(self) -> None:
            if self.encrypted and self.data:
                self.transport.write(self.data.upper())

    server = await loop.create_unix_server(Server, path)
    transport, protocol = await loop.create_unix_connection(Recorder, path)
    seen: list[Any] = [transport.get_extra_info("peername")[-6:]]
    tls = await loop.start_tls(transport, protocol, place.client, server_hostname="localhost")
    tls.write(b"over tls")
    while len(protocol.data) < 8:
        await asyncio.sleep(0)
    seen += [protocol.data, tls.get_extra_info("cipher") is not None, protocol.told]
    seen += [await attempt(loop.start_tls(tls, protocol, "no context"))]
    tls.close()
    await protocol.lost
    await served[0].lost
    server.close()
    seen += [served[0].told, protocol.told, os.path.exists(path)]
    if os.path.exists(path):
        os.unlink(path)
    error = await attempt(loop.create_unix_connection(Recorder, path))
    for arguments, options in (
        (((None,), {})),
        (((path,), {"sock": 1})),
        (((path,), {"ssl": True})),
    ):
        seen.append(await attempt(loop.create_unix_connection(Recorder, *arguments, **options)))
        seen.append(await attempt(loop.create_unix_server(Recorder, *arguments, **options)))
    return [*seen, error]


@calls("connect_accepted_socket")
async def accepted(loop: Any, place: Place) -> Any:
    ours, theirs = socket.socketpair()
    with theirs:
        transport, protocol = await loop.connect_accepted_socket(Recorder, ours)
        theirs.send(b"hello")
        theirs.shutdown(socket.SHUT_WR)
        await protocol.lost
        seen = [protocol.told, protocol.data, transport.is_closing()]
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            error = await attempt(loop.connect_accepted_socket(Recorder, datagrams))
            seen.append([error[0], error[1].partition("<")[0]])
    return seen


@calls("sendfile")
async def sendfile(loop: Any, place: Place) -> Any:
    content = bytes(range(256)) * 1000
    (place.path / "file").write_bytes(content)
    seen: list[Any] = []
    for context in (None, place.server):
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
        host, port = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(
            Recorder,
            host,
            port,
            ssl=context and place.client,
            server_hostname=context and "localhost",
        )
        with open(place.path / "file", "rb") as file:
            seen.append(await loop.sendfile(transport, file))
            seen.append(file.tell())
            seen.append(await loop.sendfile(transport, file, 100, 50))
            seen.append(await attempt(loop.sendfile(transport, file, fallback=False)))
            seen.append(await attempt(loop.sendfile(transport, io.BytesIO(b"memory"))))
            refused_text = await attempt(loop.sendfile(transport, file, -1))
            seen.append(refused_text)
        transport.write(b"the end")
        while not protocol.data.endswith(b"the end"):
            await asyncio.sleep(0)
        assert protocol.data.startswith(content + content[100:150])
        seen.append(len(protocol.data))
        transport.close()
        await protocol.lost
        error = await attempt(loop.sendfile(transport, io.BytesIO(b"late")))
        seen.append(error)
        server.close()
    return seen


@calls("create_datagram_endpoint")
async def datagrams(loop: Any, place: Place) -> Any:
    seen: list[Any] = []
    first, came = await loop.create_datagram_endpoint(
        Datagrams, ("127.0.0.1", 0), reuse_port=True, allow_broadcast=True
    )
    sock = first.get_extra_info("socket")
    seen += [
        bool(sock.getsockopt(socket.SOL_SOCKET, option))
        for option in (socket.SO_REUSEPORT, socket.SO_BROADCAST)
    ]
    address = first.get_extra_info("sockname")
    second, _ = await loop.create_datagram_endpoint(Datagrams, address, reuse_port=True)
    second.abort()
    third, _ = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
    third.sendto(b"connected")
    seen.append(await came.came.get())
    seen.append(third.get_extra_info("peername") == address)
    with pytest.raises(ValueError, match="Invalid address"):
        third.sendto(b"elsewhere", ("127.0.0.1", 9))
    own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = str(place.path / "datagrams")
    fourth, unix_came = await loop.create_datagram_endpoint(Datagrams, path, family=socket.AF_UNIX)
    fifth, _ = await loop.create_datagram_endpoint(Datagrams, sock=own)
    fifth.sendto(b"unix", path)
    seen.append(await unix_came.came.get())
    for transport in (first, third, fourth, fifth):
        transport.close()
    with pytest.raises(TypeError) as raised:
        first.sendto("no bytes")
    seen.append(str(raised.value))
    for options in (
        {},
        {"local_addr": ("127.0.0.1", 0), "sock": own},
        {"local_addr": "no tuple", "family": socket.AF_INET},
        {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 1)},
    ):
        error = await attempt(loop.create_datagram_endpoint(Datagrams, **options))
        seen.append([error[0], error[1].partition("<")[0]])
    return seen


@calls("add_reader", "remove_reader", "add_writer", "remove_writer")
async def watching(loop: Any, place: Place) -> Any:
    seen: list[Any] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ready = asyncio.Event()
        loop.add_reader(ours, seen.append, "replaced")
        loop.add_reader(ours.fileno(), ready.set)
        theirs.send(b"x")
        await ready.wait()
        seen += [loop.remove_reader(ours), loop.remove_reader(ours)]
        writable = asyncio.Event()
        loop.add_writer(ours, writable.set)
        await writable.wait()
        seen += [loop.remove_writer(ours), loop.remove_writer(ours)]
        for wrong in (-1, "text", 3.5):
            seen.append(await attempt(refused(loop.add_reader, wrong, print)))
        transport, _ = await loop.create_connection(Recorder, sock=ours)
        error = await attempt(refused(loop.add_reader, ours, print))
        seen.append(error[0])
        transport.abort()
        await asyncio.sleep(0)
    return seen


@calls("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall")
@calls("sock_sendto", "sock_connect", "sock_accept", "sock_sendfile")
async def sock_methods(loop: Any, place: Place) -> Any:
    seen: list[Any] = []
    (place.path / "sent").write_bytes(b"file" * 100)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        connecting = loop.create_task(loop.sock_connect(client, listener.getsockname()))
        server, address = await loop.sock_accept(listener)
        with server:
            seen += [await connecting, address == client.getsockname(), server.gettimeout()]
            seen.append(await loop.sock_sendall(client, b"all" * 10))
            seen.append(await loop.sock_recv(server, 100))
            seen.append(await loop.sock_sendall(client, memoryview(b"into")))
            buffer = bytearray(8)
            seen += [await loop.sock_recv_into(server, buffer), bytes(buffer)]
            with open(place.path / "sent", "rb") as file:
                seen.append(await loop.sock_sendfile(client, file, 4, 8))
                seen.append(await attempt(loop.sock_sendfile(client, file, -1)))
            seen.append(await loop.sock_recv(server, 100))
            seen.append(
                await attempt(loop.sock_sendfile(client, io.BytesIO(b"no"), fallback=False))
            )
            client.close()
            seen.append(await loop.sock_recv(server, 100))
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        for sock in (one, two):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        seen.append(await loop.sock_sendto(one, b"datagram", two.getsockname()))
        data, sender = await loop.sock_recvfrom(two, 100)
        seen += [data, sender == one.getsockname()]
        await loop.sock_sendto(one, b"again", two.getsockname())
        count, sender = await loop.sock_recvfrom_into(two, buffer, 3)
        seen += [count, sender == one.getsockname(), bytes(buffer)]
    return seen


@calls("connect_read_pipe", "connect_write_pipe")
async def pipes(loop: Any, place: Place) -> Any:
    reader, writer = (
        os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
    )
    sender, out = await loop.connect_write_pipe(Recorder, writer)
    receiver, into = await loop.connect_read_pipe(Recorder, reader)
    sender.write(b"through")
    sender.write_eof()
    await into.lost
    await out.lost
    return [into.told, into.data, out.told, sender.is_closing(), receiver.is_closing()]


@calls("subprocess_exec", "subprocess_shell")
async def subprocesses(loop: Any, place: Place) -> Any:
    seen: list[Any] = []

    class Child(asyncio.SubprocessProtocol):
        def __init__(self) -> None:
            self.told: list[Any] = []
            self.output: dict[int, bytes] = {1: b"", 2: b""}
            self.gone = loop.create_future()

        def pipe_data_received(self, fd: int, data: bytes) -> None:
            self.output[fd] += data

        def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
            self.told.append((fd, exc))

        def process_exited(self) -> None:
            self.told.append("exited")

        def connection_lost(self, exc: BaseException | None) -> None:
            self.gone.set_result(exc)

    for call, command in (
        (loop.subprocess_shell, ("cat; echo error >&2; exit 3",)),
        (loop.subprocess_exec, ("/bin/cat", "-")),
    ):
        transport, child = await call(Child, *command)
        transport.get_pipe_transport(0).write(b"input")
        transport.get_pipe_transport(0).close()
        await child.gone
        told = sorted(child.told, key=str)
        seen += [child.output, transport.get_returncode(), told, transport.get_pipe_transport(9)]
        transport.close()
    for send in ("terminate", "kill"):
        transport, child = await loop.subprocess_exec(Child, "/bin/sleep", "60", stdin=None)
        getattr(transport, send)()
        await child.gone
        seen.append(transport.get_returncode())
        seen.append(await attempt(refused(transport.send_signal, signal.SIGTERM)))
        transport.close()
    seen.append((await attempt(loop.subprocess_exec(Child, "/no/such/program")))[0])
    for options in ({"universal_newlines": True}, {"shell": False}, {"bufsize": 1}, {"text": True}):
        seen.append(await attempt(loop.subprocess_shell(Child, "true", **options)))
    return seen


@calls("add_signal_handler", "remove_signal_handler")
async def signals(loop: Any, place: Place) -> Any:
    came = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, came.set_result, "came")
    os.kill(os.getpid(), signal.SIGUSR1)
    seen = [await came, loop.remove_signal_handler(signal.SIGUSR1)]
    seen.append(loop.remove_signal_handler(signal.SIGUSR1))
    for wrong in (signal.SIGKILL, 1000, "SIGINT"):
        seen.append(await attempt(refused(loop.add_signal_handler, wrong, print)))
    return seen


@calls(
    "set_exception_handler",
    "get_exception_handler",
    "default_exception_handler",
    "call_exception_handler",
)
async def exception_handlers(loop: Any, place: Place) -> Any:
    seen: list[Any] = [loop.get_exception_handler()]
    with logged() as lines:
        loop.default_exception_handler({"message": "by default", "more": 1})
        loop.call_exception_handler({"exception": ValueError("no message")})

        def handler(loop: Any, context: dict[str, Any]) -> None:
            seen.append(sorted(context))
            if "handle" in context:
                seen.append([type(context["handle"]), outcome(context["exception"])])
                raise KeyError("in the handler")

        loop.set_exception_handler(handler)
        seen.append(loop.get_exception_handler() is handler)
        loop.call_exception_handler({"message": "own"})
        loop.call_soon(int, "x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.set_exception_handler(None)
        loop.call_soon(int, "y")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    seen.append(await attempt(refused(loop.set_exception_handler, "no callable")))
    return [*seen, lines]


@contextlib.contextmanager
def logged() -> Any:
    """Collects the first line of each log message of asyncio."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage().partition("\n")[0])

    logger, collector = logging.getLogger("asyncio"), Collector()
    logger.addHandler(collector)
    try:
        yield lines
    finally:
        logger.removeHandler(collector)


@calls("shutdown_asyncgens")
async def asyncgens(loop: Any, place: Place) -> Any:
    seen: list[Any] = []

    async def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    kept = numbers()
    seen.append(await anext(kept))
    async for number in numbers():
        seen.append(number)
        break
    for _ in range(5):
        await asyncio.sleep(0)
    await loop.shutdown_asyncgens()
    seen.append(await attempt(anext(kept)))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        late = numbers()
        seen.append(await anext(late))
        await late.aclose()
    return [*seen, [(item.category, "scheduled after" in str(item.message)) for item in warned]]


@calls("slow_callback_duration")
async def slow_callbacks(loop: Any, place: Place) -> Any:
    """In debug mode: a callback, a task's step, and our transports' calls of a protocol."""

    class Slow(Recorder):
        def data_received(self, data: bytes) -> None:
            time.sleep(0.03)

    def slow_callback() -> None:
        time.sleep(0.03)

    async def slow_task() -> None:
        time.sleep(0.03)

    seen: list[Any] = [loop.slow_callback_duration]
    ours, theirs = socket.socketpair()
    with logged() as lines, theirs:
        loop.set_debug(True)
        _, protocol = await loop.create_connection(Slow, sock=ours)
        loop.slow_callback_duration = 0.02
        loop.call_soon(slow_callback)
        await loop.create_task(slow_task(), name="slow")
        theirs.send(b"x")
        theirs.shutdown(socket.SHUT_WR)
        await protocol.lost
        loop.set_debug(False)
    # On a busy machine other callbacks are slow too, so the check looks for the sleeping ones only.
    slow = [line for line in lines if " took " in line]
    for what in ("slow_callback()", "<Task finished name='slow'"):
        seen.append(sum(what in line for line in slow))
    return [*seen, any("read" in line for line in slow)]


@pytest.fixture(params=["aio", "one-slot", "epoll"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def asyncios_loop() -> Any:
    with contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        yield loop


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda f: f.__name__)
def test_scenario_has_the_result_of_asyncio(
    scenario: Scenario,
    loop: Any,
    asyncios_loop: Any,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    shown = []
    for each in (asyncios_loop, loop):
        with tempfile.TemporaryDirectory() as directory:
            place = Place(Path(directory), server_context, client_context)
            shown.append(each.run_until_complete(asyncio.wait_for(scenario(each, place), 30)))
    assert shown[1] == shown[0]


def test_every_name_of_the_loop_is_called() -> None:
    # These four are in test_loop_lifecycle.py.
    outside = {"run_forever", "run_until_complete", "stop", "close"}
    called = set.union(outside, *SCENARIOS.values())
    api = {name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("__")}
    assert called - {"slow_callback_duration"} == api
    for name in api:  # ours take the options that asyncio's take
        theirs = getattr(asyncio.SelectorEventLoop, name)
        ours = getattr(aiopoll.EventLoop, name)
        assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs), name
