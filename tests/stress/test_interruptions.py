"""Threads and signals at any moment: nothing is lost, and nothing is left broken."""

import asyncio
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import aiopoll

HANGS_S = 60


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads take the interpreter from each other as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.soak
def test_nothing_from_many_threads_is_lost_or_out_of_order(
    loop: aiopoll.EventLoop, often_switched: None, soak: Callable[[int], int]
) -> None:
    """The loop has files and timers of its own to wait for meanwhile."""
    threads, each = 6, soak(4000)
    ran: dict[int, list[int]] = {number: [] for number in range(threads)}
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    finished = 0

    def finish() -> None:
        nonlocal finished
        finished += 1
        if finished == threads:
            loop.stop()

    def tick() -> None:
        if finished < threads:
            loop.call_later(0.0002, tick)

    def talk(number: int) -> None:
        chance = random.Random(number)
        for count in range(each):
            loop.call_soon_threadsafe(ran[number].append, count)
            if chance.random() < 0.02:
                os.sched_yield()
            if chance.random() < 0.01:
                theirs.send(b"x")
        loop.call_soon_threadsafe(finish)

    loop.add_reader(ours, ours.recv, 4096)
    loop.call_soon(tick)
    workers = [threading.Thread(target=talk, args=(n,), daemon=True) for n in range(threads)]
    for worker in workers:
        worker.start()
    loop.run_forever()
    for worker in workers:
        worker.join(HANGS_S)
    loop.remove_reader(ours)
    ours.close()
    theirs.close()
    assert all(ran[number] == list(range(each)) for number in range(threads))


@pytest.mark.soak
def test_the_loop_never_sleeps_with_a_callback_in_its_queue(
    loop: aiopoll.EventLoop, often_switched: None, soak: Callable[[int], int]
) -> None:
    """Nothing else wakes it: a missed callback is missed for ever."""
    rounds = soak(3000)
    threads = 3
    done = [0] * threads
    hung: list[int] = []

    def ping(number: int) -> None:
        answered = threading.Event()
        for _ in range(rounds):
            answered.clear()
            loop.call_soon_threadsafe(answered.set)
            if not answered.wait(HANGS_S):
                hung.append(number)
                break
            done[number] += 1

    workers = [threading.Thread(target=ping, args=(n,), daemon=True) for n in range(threads)]
    for worker in workers:
        worker.start()
    waiter = threading.Thread(
        target=lambda: [*(w.join() for w in workers), loop.call_soon_threadsafe(loop.stop)]
    )
    waiter.start()
    loop.run_forever()
    waiter.join()
    assert not hung
    assert done == [rounds] * threads


@pytest.fixture
def alarm() -> Iterator[Callable[[Any, float, float], None]]:
    """Sets SIGALRM's handler and timer, and takes both back."""
    previous = signal.getsignal(signal.SIGALRM)

    def start(handler: Any, first: float, interval: float) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, first, interval)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.soak
def test_a_storm_of_signals_disturbs_no_traffic(
    loop: aiopoll.EventLoop, alarm: Any, soak: Callable[[int], int]
) -> None:
    handled = {"python": 0, "loop": 0}

    def count_python(*_: Any) -> None:
        handled["python"] += 1

    def count_loop() -> None:
        handled["loop"] += 1

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def client(number: int, address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        for round_ in range(soak(100)):
            message = random.Random(number * 1000 + round_).randbytes(5000)
            writer.write(message)
            assert await reader.readexactly(5000) == message
        writer.close()
        await writer.wait_closed()

    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = asyncio.gather(*(client(number, address) for number in range(5)))
        while not clients.done():
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.sleep(0.0003)
        await clients
        server.close()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        # Signals are merged while one is pending: some must come, not all.
        while not handled["loop"] or not handled["python"]:
            await asyncio.sleep(0)

    loop.add_signal_handler(signal.SIGUSR1, count_loop)
    alarm(count_python, 0.0005, 0.0003)
    loop.run_until_complete(scenario())
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert loop.remove_signal_handler(signal.SIGUSR1)


class Interrupted(KeyboardInterrupt):
    """The exception of Ctrl-C, distinct from a real one."""


@pytest.mark.soak
def test_interrupts_at_any_moment_lose_no_callback(
    loop: aiopoll.EventLoop,
    alarm: Any,
    soak: Callable[[int], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The callbacks are in C, so that an interrupt comes before or after one, never within."""
    gc.collect()  # of other tests' loops: an interrupt in a __del__ is lost
    lost: list[Any] = []  # pytest's hook is in Python, and would be interrupted as well
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    count = soak(20_000)
    armed = False

    def interrupt(*_: Any) -> None:
        nonlocal armed
        if armed:  # once: a second one would come where nothing catches it, and then a third
            armed = False
            raise Interrupted

    def run_all() -> int:
        """Runs the callbacks; returns how many interrupts came meanwhile."""
        nonlocal armed
        soon: list[int] = []
        later: list[int] = []
        now = loop.time()
        for number in range(count):
            loop.call_soon(soon.append, number)
            if number % 4 == 0:
                loop.call_at(now + number * 1e-6, later.append, number)
        interrupts = 0
        while len(later) < count // 4:
            loop.call_soon(loop.stop)
            try:
                armed = True
                alarm(interrupt, 0.0003, 0)
                loop.run_forever()
                armed = False
            except Interrupted:
                interrupts += 1
            assert not loop.is_running()
            assert asyncio._get_running_loop() is None
        assert soon == list(range(count))
        assert later == list(range(0, count, 4))
        return interrupts

    # The machine may be too busy to deliver the alarm in time: a round without one shows nothing.
    while not run_all():
        pass
    assert {unraisable.exc_type for unraisable in lost} <= {Interrupted}


INTERRUPTED_RUNS_PROGRAM = """
import asyncio, collections, gc, os, signal, sys, aiopoll
from aiopoll.aio import context_cache as context_pool

class Interrupted(KeyboardInterrupt):
    pass

left = 0

def interrupt(*_):
    global left
    if left:
        left -= 1
        raise Interrupted

def held():
    kinds = collections.Counter()
    for fd in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue  # the listing's own
        kinds[name if name.startswith("anon_inode:") else name.partition(":[")[0]] += 1
    # An interrupt inside CPython's socketpair() or accept() loses a socket, on any loop, and one
    # inside its can_use_pidfd() a pidfd: each loop of 3.15 asks that. The program has no child.
    del kinds["socket"], kinds["anon_inode:[pidfd]"]
    context_pool.release()  # an interrupted loop may have had what was kept
    kinds["rings"] = open("/proc/self/maps").read().count("[aio]")
    return kinds

async def main():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await reader.read()
    await asyncio.sleep(0.0003)
    writer.close()
    server.close()

def run_once(delay):
    global left
    interrupted = True
    try:
        try:
            # Runner may wait for ever for a task that was interrupted, on asyncio's loop as well:
            # then the second Ctrl-C ends it.
            left = 2
            signal.setitimer(signal.ITIMER_REAL, delay, 0.3)
            aiopoll.run(main(), **options)
            interrupted = False
        finally:
            left = 0
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupted:  # the second may have come in `finally`
        left = 0
        signal.setitimer(signal.ITIMER_REAL, 0)
    return interrupted

options, steps = eval(sys.argv[1])
signal.signal(signal.SIGALRM, signal.SIG_IGN)
run_once(1)
gc.collect()
before = held()
signal.signal(signal.SIGALRM, interrupt)
interrupted = 0
for step in range(steps):
    # From the making of the loop to its close, a little later each time.
    interrupted += run_once(1e-5 + step * 3.6e-3 / steps)
    asyncio.set_event_loop(None)
    gc.collect()
signal.signal(signal.SIGALRM, signal.SIG_IGN)
gc.collect()
assert held() == before, (held(), before)
assert asyncio._get_running_loop() is None
assert signal.set_wakeup_fd(-1) == -1
assert not run_once(1)
print("interrupted" if interrupted else "too fast")
"""


@pytest.mark.soak
@pytest.mark.subprocess
def test_interrupted_runs_leave_nothing_behind(
    loop_options: dict[str, Any], soak: Callable[[int], int]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_RUNS_PROGRAM, repr((loop_options, soak(60)))],
        capture_output=True,
        text=True,
        timeout=60 * soak(1),
    )
    assert done.stdout == "interrupted\n", done.stderr
