"""Loops, files to wait for, TLS, children that cannot hang, threads that are known to wait."""

import asyncio
import os
import select
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme

import aiopoll
from aiopoll import Context

CHILD_SECONDS_MAX = 30
TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

LOOPS: dict[str, Callable[[], Any]] = {
    "aio": lambda: aiopoll.new_event_loop(backend="aio"),
    "one-slot": lambda: aiopoll.new_event_loop(backend="aio", nr_events=1),
    "syscall-reap": lambda: aiopoll.new_event_loop(backend="aio"),
    "epoll": lambda: aiopoll.new_event_loop(backend="epoll"),
    "asyncio": asyncio.SelectorEventLoop,  # the oracle
}


@pytest.fixture(params=["aio", "epoll"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    """The kind of `loop`, one of LOOPS; a module may have a fixture of this name with others."""
    return request.param


@pytest.fixture
def loop(loop_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A loop, which must be left with no file but its own."""
    if loop_kind == "syscall-reap":
        monkeypatch.setenv("AIOPOLL_USER_RING", "0")
    loop = LOOPS[loop_kind]()
    yield loop
    if loop_kind != "asyncio" and loop.statistics().watched != 1:
        # The other end of a connection may be told only now.
        own = until(lambda: loop.statistics().watched == 1)
        loop.run_until_complete(asyncio.wait_for(own, CHILD_SECONDS_MAX))
    loop.close()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0)


def rings() -> int:
    """The AIO rings mapped into this process: one for each of its live contexts."""
    return Path("/proc/self/maps").read_text(encoding="utf-8").count("[aio]")


def stream_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, non-blocking."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """An empty pipe, non-blocking; the test may close its ends."""
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


@pytest.fixture
def eventfd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection: out-of-band data needs TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield client, server


@cache
def tls_contexts(version: str = "1.3") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server that is localhost, and of a client that trusts it."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    client.maximum_version = client.minimum_version = TLS_VERSIONS[version]
    return server, client


@pytest.fixture
def server_context() -> ssl.SSLContext:
    return tls_contexts()[0]


@pytest.fixture
def client_context() -> ssl.SSLContext:
    return tls_contexts()[1]


@pytest.fixture
def plain_file(tmp_path: Path) -> Iterator[int]:
    """A regular file that holds `0123456789`, open for reading and writing."""
    path = tmp_path / "plain"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def in_child() -> Callable[[Callable[[], object]], str]:
    """Calls a function in a forked child and answers what it returned or raised, as text."""

    def call(function: Callable[[], object]) -> str:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                try:
                    answer = repr(function())
                except Exception as error:
                    answer = f"{type(error).__name__}: {error}"
                os.write(writer, answer.encode())
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writer)
        try:
            poller = select.poll()
            poller.register(reader, select.POLLIN)
            if not poller.poll(CHILD_SECONDS_MAX * 1000):
                os.kill(pid, 9)
                pytest.fail("the child hangs")
            answer = os.read(reader, 65536).decode()
        finally:
            os.close(reader)
            _, status = os.waitpid(pid, 0)
        assert status == 0, f"the child ended with status {status}"
        return answer

    return call


class Waiter(threading.Thread):
    """A thread that has taken over a Context and is inside one call of it."""

    def __init__(self, context: Context, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.context, self.call = context, call
        self.answer: object = None
        self.error: BaseException | None = None
        self.start()
        while self.is_alive():
            # Answered by the guards in this order: in use, then another thread's.
            try:
                context.events_pending()
            except RuntimeError as error:
                if "in use" in str(error):
                    break
            os.sched_yield()

    def run(self) -> None:
        try:
            self.context.adopt()
            self.answer = self.call()
        except BaseException as error:
            self.error = error

    def finish(self) -> object:
        """The call's result; raises what it raised."""
        self.join(CHILD_SECONDS_MAX)
        assert not self.is_alive(), "the thread hangs"
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.fixture
def waiter() -> type[Waiter]:
    return Waiter
