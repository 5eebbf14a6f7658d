"""Each name of AbstractEventLoop, in the same scenario on asyncio's loop and on ours.

A scenario returns its observations, free of numbers that differ from run to run.  The result of
stock asyncio on this Python is right.  SCENARIOS lists the names that each one calls; together they
call all.
"""

import asyncio
import contextlib
import inspect
import logging
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import aiopoll

from . import connection_scenarios as connection_scenarios
from .scenarios import (
    SCENARIOS,
    Place,
    Recorder,
    Scenario,
    attempt,
    calls,
    outcome,
    refused,
)


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
