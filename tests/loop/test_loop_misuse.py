"""Misuse: files that are no pipes, calls from other threads, subinterpreters."""

import asyncio
import importlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiopoll


@pytest.fixture(params=["aio", "one-slot", "epoll"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("way", ["create_connection", "connect_accepted_socket"])
def test_a_connection_closes_its_socket(loop: aiopoll.EventLoop, way: str) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            transport, _ = await getattr(loop, way)(asyncio.Protocol, sock=ours)
            transport.close()
            await asyncio.sleep(0)
            assert ours.fileno() == -1
            assert theirs.recv(1) == b""

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_file_that_is_no_pipe_is_refused_before_a_protocol(
    loop: aiopoll.EventLoop, kind: str, tmp_path: Path
) -> None:
    def factory() -> asyncio.Protocol:
        raise AssertionError("a protocol was made")

    path = tmp_path if kind == "directory" else tmp_path / "file"
    flags = os.O_RDONLY if kind == "directory" else os.O_RDWR | os.O_CREAT

    class File:
        """The methods of a file that connect_read_pipe calls."""

        def __init__(self) -> None:
            self.fd = os.open(path, flags)

        def fileno(self) -> int:
            return self.fd

    async def scenario() -> None:
        file: Any = File()
        before = loop.statistics().watched
        for call in (loop.connect_read_pipe, loop.connect_write_pipe):
            with pytest.raises(ValueError, match="for pipes, sockets and character devices only"):
                await call(factory, file)
        assert loop.statistics().watched == before
        assert os.get_blocking(file.fd)
        os.close(file.fd)

    loop.run_until_complete(scenario())


def in_thread(function: Callable[[], Any]) -> BaseException | None:
    """The exception that the function raises in a thread of its own."""
    caught: list[BaseException | None] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            caught.append(error)
        else:
            caught.append(None)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return caught[0]


def test_running_loop_cannot_be_run_or_closed_by_a_thread(
    loop: aiopoll.EventLoop,
) -> None:
    async def scenario() -> None:
        for misuse in (loop.run_forever, loop.close):
            error = await asyncio.to_thread(in_thread, misuse)
            assert isinstance(error, RuntimeError)
            assert "running" in str(error)

    loop.run_until_complete(scenario())


def test_iteration_within_an_iteration_is_refused() -> None:
    loop = aiopoll.new_event_loop(backend="aio")
    turned: list[BaseException | None] = []
    sleeping = threading.Event()

    def intrude() -> None:
        sleeping.wait()
        while loop.statistics().sleeps == 0:
            os.sched_yield()
        turned.append(in_thread(loop._run_once))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=intrude)
    thread.start()
    loop.call_soon(sleeping.set)
    loop.run_forever()
    thread.join()
    assert isinstance(turned[0], RuntimeError)
    assert "in use" in str(turned[0])
    loop.close()


def test_debug_mode_refuses_other_threads(loop: aiopoll.EventLoop) -> None:
    async def scenario() -> None:
        loop.set_debug(True)
        for misuse in (
            lambda: loop.call_soon(print),
            lambda: loop.call_later(1, print),
            lambda: loop.call_at(1, print),
        ):
            error = await asyncio.to_thread(in_thread, misuse)
            assert isinstance(error, RuntimeError)
            assert "Non-thread-safe operation" in str(error)

    loop.run_until_complete(scenario())


SUBINTERPRETER = """
import asyncio, importlib, sys
from aiopoll import run
interpreters = importlib.import_module(sys.argv[1])
other = interpreters.create()
interpreters.run_string(other, '''
try:
    from aiopoll import run
except ImportError as error:
    print("refused")
''')
interpreters.destroy(other)
print(run(asyncio.sleep(0, "unharmed")))
"""


@pytest.mark.subprocess
def test_subinterpreters_are_refused_at_import() -> None:
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        break
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SUBINTERPRETER, name],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "refused\nunharmed\n", done.stderr
