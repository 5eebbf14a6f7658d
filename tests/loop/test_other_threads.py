"""What other threads may do to a loop, and what a wrong call of theirs comes to."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.support.loops import CHILD_SECONDS_MAX
from tests.support.threads import in_threads, without_gil

import aiopoll
from aiopoll import AioSelector, Context, Iocb

THREADS = 4
CALLS = 2000
"""asyncio's StreamWriter closes its connection when it is collected."""


class Loop(threading.Thread):
    """A loop that runs in a thread of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(daemon=True)
        self.loop = aiopoll.new_event_loop(**options)
        self.failures: list[Any] = []
        self.loop.set_exception_handler(lambda _, failure: self.failures.append(failure))

    def run(self) -> None:
        self.loop.run_forever()

    def call(self, function: Callable[[], Any]) -> Any:
        """The result of a call in the loop's thread."""

        async def call() -> Any:
            return function()

        done = asyncio.run_coroutine_threadsafe(call(), self.loop)
        return done.result(CHILD_SECONDS_MAX)

    def __enter__(self) -> "Loop":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join(CHILD_SECONDS_MAX)
        self.loop.close()
        assert not self.failures


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "asleep"])
def test_calls_of_many_threads_all_come_in_order(loop_options: dict[str, Any], busy: bool) -> None:
    come: list[tuple[int, int]] = []
    all_come = threading.Event()

    def take(thread: int, number: int) -> None:
        come.append((thread, number))
        if len(come) == THREADS * CALLS:
            all_come.set()

    def post(thread: int) -> None:
        for number in range(CALLS):
            running.loop.call_soon_threadsafe(take, thread, number)
            if not busy and number % 100 == 0:
                running.call(lambda: None)  # the loop has been asleep before, or is again

    def go_on() -> None:
        if not all_come.is_set():
            running.loop.call_soon(go_on)

    with Loop(**loop_options) as running:
        if busy:
            running.loop.call_soon_threadsafe(go_on)
        in_threads([partial(post, thread) for thread in range(THREADS)])
        assert all_come.wait(CHILD_SECONDS_MAX), f"{len(come)} calls have come"
    for thread in range(THREADS):
        assert [number for source, number in come if source == thread] == list(range(CALLS))


def test_a_call_from_outside_comes_before_later_ones(loop_options: dict[str, Any]) -> None:
    """A thread posts, and the loop's own, which has waited for that, calls call_soon() then."""
    come: list[str] = []
    posted, done = threading.Event(), threading.Event()

    def first() -> None:
        other = threading.Thread(target=post)
        other.start()
        assert posted.wait(CHILD_SECONDS_MAX)
        other.join()
        running.loop.call_soon(come.append, "from the loop")
        running.loop.call_soon(done.set)

    def post() -> None:
        running.loop.call_soon_threadsafe(come.append, "from outside")
        posted.set()

    with Loop(**loop_options) as running:
        running.loop.call_soon_threadsafe(first)
        assert done.wait(CHILD_SECONDS_MAX)
    assert come == ["from outside", "from the loop"]


def test_calls_before_the_loop_runs_come_in_order(loop_options: dict[str, Any]) -> None:
    loop = aiopoll.new_event_loop(**loop_options)
    come: list[int] = []

    def post(first: int) -> None:
        for number in range(first, first + CALLS):
            loop.call_soon_threadsafe(come.append, number)

    loop.call_soon(come.append, -1)
    in_threads([partial(post, thread * CALLS) for thread in range(THREADS)])
    assert len(loop._ready) == THREADS * CALLS + 1
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert come[0] == -1
    for first in range(0, THREADS * CALLS, CALLS):
        mine = [number for number in come if first <= number < first + CALLS]
        assert mine == list(range(first, first + CALLS))


def test_handles_are_cancelled_while_they_run(loop_options: dict[str, Any]) -> None:
    """Each callback is called once or not at all, and with its own argument."""
    come: list[int] = []

    def post(first: int) -> None:
        for number in range(first, first + CALLS):
            handle = running.loop.call_soon_threadsafe(come.append, number)
            handle.cancel()

    with Loop(**loop_options) as running:
        in_threads([partial(post, thread * CALLS) for thread in range(THREADS)])
        running.call(lambda: None)
    assert len(set(come)) == len(come)
    assert set(come) <= set(range(THREADS * CALLS))


def test_timers_are_cancelled_by_other_threads(loop_options: dict[str, Any]) -> None:
    come: list[int] = []
    with Loop(**loop_options) as running:
        timers = running.call(
            lambda: [running.loop.call_later(3600, come.append, n) for n in range(CALLS)]
        )
        done = running.call(running.loop.create_future)

        def cancel(thread: int) -> None:
            for timer in timers[thread::THREADS]:
                timer.cancel()
                running.loop.call_soon_threadsafe(running.loop.call_later, 0, come.append, -1)

        in_threads([partial(cancel, thread) for thread in range(THREADS)])
        assert all(timer.cancelled() for timer in timers)
        running.call(lambda: running.loop.call_later(0.01, done.set_result, None))

        async def wait() -> None:
            await done

        asyncio.run_coroutine_threadsafe(wait(), running.loop).result(CHILD_SECONDS_MAX)
    assert come == [-1] * CALLS


def test_a_wake_up_never_reaches_another_file(loop_options: dict[str, Any]) -> None:
    """The loop closes while threads wake it: the numbers of its files go to pipes."""
    loops: list[Any] = [None]
    over = threading.Event()

    def post() -> None:
        while not over.is_set():
            loop = loops[0]
            try:
                if loop is not None:
                    loop.call_soon_threadsafe(int)
            except RuntimeError:
                pass  # it is closed

    def open_and_close() -> None:
        try:
            for _ in range(30):
                loops[0] = loop = aiopoll.new_event_loop(**loop_options)
                loop.run_until_complete(asyncio.sleep(0.001))
                loop.close()
                pipes = [os.pipe2(os.O_NONBLOCK) for _ in range(3)]
                for reader, writer in pipes:
                    with pytest.raises(BlockingIOError):
                        os.read(reader, 8)
                    os.close(reader)
                    os.close(writer)
        finally:
            over.set()

    in_threads([open_and_close, post, post])


@pytest.mark.skipif(
    not hasattr(asyncio.StreamWriter, "__del__"), reason="a writer of Python 3.11.2 closes nothing"
)
def test_a_collector_elsewhere_closes_connections(loop_options: dict[str, Any]) -> None:
    """A writer in a cycle, whose loop runs: another thread's collection finds it."""

    class Cycle:
        def __init__(self, *others: object) -> None:
            self.others = others, self

    async def connect_and_forget() -> "weakref.ref[Cycle]":
        ours, theirs = socket.socketpair()
        peers.append(theirs)
        return weakref.ref(Cycle(*await aiopoll.open_unix_connection(sock=ours)))

    def collect(running: Loop) -> None:
        gc.collect()
        running.call(gc.collect)

    peers: list[socket.socket] = []
    gc.disable()
    try:
        with Loop(**loop_options) as running:
            for round_ in range(10):
                references = [
                    asyncio.run_coroutine_threadsafe(connect_and_forget(), running.loop).result(
                        CHILD_SECONDS_MAX
                    )
                    for _ in range(20)
                ]
                with pytest.warns(ResourceWarning):
                    collect(running)
                assert [reference() for reference in references] == [None] * 20
                for peer in peers:
                    peer.settimeout(CHILD_SECONDS_MAX)
                    assert peer.recv(1) == b"", round_
                    peer.close()
                peers.clear()
    finally:
        gc.enable()


@without_gil
def test_wrong_calls_of_other_threads_are_refused(loop_options: dict[str, Any]) -> None:
    """As in debug mode: timers, files and transports are the loop's thread's own."""
    ours, theirs = socket.socketpair()

    async def connect() -> Any:
        transport, _ = await asyncio.get_running_loop().create_unix_connection(
            asyncio.Protocol, sock=ours
        )
        return transport

    with Loop(**loop_options) as running, theirs:
        future = asyncio.run_coroutine_threadsafe(connect(), running.loop)
        transport = future.result(CHILD_SECONDS_MAX)
        for call in (
            partial(running.loop.call_later, 1, int),
            partial(running.loop.add_reader, theirs, int),
            partial(transport.write, b"x"),
            partial(transport.writelines, [b"x"]),
            transport.write_eof,
            transport.pause_reading,
        ):
            with pytest.raises(RuntimeError, match="Non-thread-safe"):
                call()
        transport.close()  # finalizers do that
        theirs.settimeout(CHILD_SECONDS_MAX)
        assert theirs.recv(1) == b""


def test_a_call_soon_of_another_thread_is_not_lost(loop_options: dict[str, Any]) -> None:
    """It is wrong, and wakes no loop, but asyncio's is called by and by."""
    come: list[int] = []
    with Loop(**loop_options) as running:
        in_threads(
            [lambda: [running.loop.call_soon(come.append, n) for n in range(CALLS)]] * THREADS
        )
        running.call(lambda: None)
        running.call(lambda: None)
    assert sorted(come) == sorted([*range(CALLS)] * THREADS)


def test_a_context_is_one_threads_at_a_time(user_ring: bool, eventfd: int) -> None:
    """Threads that fight for it get RuntimeError, and each request has one event."""
    submitted, reaped, refused = [0] * THREADS, [0] * THREADS, [0] * THREADS
    os.eventfd_write(eventfd, 1)  # ready: each poll completes at once
    context = Context(64, user_ring=user_ring)

    def use(thread: int) -> None:
        for _ in range(CALLS // 4):
            try:
                context.adopt()
                submitted[thread] += context.submit([Iocb.poll(eventfd, 1)])
            except RuntimeError:
                refused[thread] += 1
            except BlockingIOError:
                pass  # no slot: reap
            try:
                reaped[thread] += len(context.reap(0))
            except RuntimeError:
                refused[thread] += 1

    in_threads([partial(use, thread) for thread in range(THREADS)])
    context.adopt()
    left = len(context.reap(0))
    assert sum(submitted) == sum(reaped) + left
    context.close()


def test_a_selector_takes_files_while_it_waits() -> None:
    pairs = [socket.socketpair() for _ in range(200)]
    begun = threading.Event()
    with AioSelector(nr_events=4) as selector:
        found: set[int] = set()

        def wait() -> None:
            begun.set()
            end = time.monotonic() + CHILD_SECONDS_MAX
            while len(found) < len(pairs) and time.monotonic() < end:
                for key, _ in selector.select(1):
                    found.add(key.data)
                    key.fileobj.recv(1)  # type: ignore[union-attr]

        def register(first: int) -> None:
            assert begun.wait(CHILD_SECONDS_MAX)
            for number in range(first, len(pairs), 2):
                selector.register(pairs[number][0], 1, number)
                pairs[number][1].send(b"x")

        in_threads([wait, partial(register, 0), partial(register, 1)])
        assert found == set(range(len(pairs)))
    for pair in pairs:
        for sock in pair:
            sock.close()


@without_gil
@pytest.mark.subprocess
def test_imports_leave_the_gil_off() -> None:
    program = (
        "import importlib, pkgutil, sys, aiopoll\n"
        "for module in pkgutil.walk_packages(aiopoll.__path__, 'aiopoll.'):\n"
        "    if module.name.rpartition('.')[2] not in ('__main__', 'gunicorn', 'sitecustomize'):\n"
        "        importlib.import_module(module.name)\n"
        "print(sys._is_gil_enabled())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={key: value for key, value in os.environ.items() if key != "PYTHON_GIL"},
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS_MAX,
    )
    assert done.stdout == "False\n", done.stderr
