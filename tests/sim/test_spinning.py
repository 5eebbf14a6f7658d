"""Loops that ask again and again without waiting: time passes, so what they ask for comes."""

import asyncio
import contextlib
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiopoll.sim import World
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import tape_of

SOON = 0.001


def later(function: Callable[[], Any]) -> threading.Thread:
    def run() -> None:
        time.sleep(SOON)
        function()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def asks_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    later(lock.release)
    while not lock.acquire(blocking=False):
        pass


def asks_whether_it_is_locked() -> None:
    lock = threading.Lock()
    lock.acquire()
    later(lock.release)
    while lock.locked():
        pass


def asks_a_thread() -> None:
    thread = later(int)
    while thread.is_alive():
        pass


def asks_a_queue() -> None:
    items: queue.Queue[int] = queue.Queue()
    later(lambda: items.put(1))
    while items.empty():
        pass


@contextlib.contextmanager
def sent_soon() -> Iterator[socket.socket]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        later(lambda: other.send(b"x"))
        yield one


def asks_a_socket() -> None:
    with sent_soon() as one:
        while True:
            try:
                one.recv(1)
                return
            except BlockingIOError:
                pass


def asks_a_pipe() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    later(lambda: os.write(writer, b"x"))
    while True:
        try:
            os.read(reader, 1)
            return
        except BlockingIOError:
            pass


def asks_select() -> None:
    with sent_soon() as one:
        while not select.select([one], [], [], 0)[0]:
            pass


def asks_epoll() -> None:
    with sent_soon() as one, select.epoll() as poll:
        poll.register(one, select.EPOLLIN)
        while not poll.poll(0):
            pass


def asks_the_clock() -> None:
    begun = time.monotonic()
    while time.monotonic() < begun + SOON:
        pass


def asks_in_a_task() -> None:
    async def ask() -> None:
        lock = threading.Lock()
        lock.acquire()
        later(lock.release)
        while not lock.acquire(blocking=False):
            pass

    asyncio.run(ask())


MAINS = [
    asks_a_lock,
    asks_whether_it_is_locked,
    asks_a_thread,
    asks_a_queue,
    asks_a_socket,
    asks_a_pipe,
    asks_select,
    asks_epoll,
    asks_the_clock,
    asks_in_a_task,
]


@pytest.mark.parametrize("main", MAINS)
def test_a_loop_that_asks_lets_time_pass(main: Callable[[], None]) -> None:
    async def program(world: World) -> Any:
        begun = world.now()
        await world.host("n", main).wait()
        return world.now() - begun

    outcome = run_once(program, tape_of(1), time_limit=10)
    assert outcome.error is None
    assert SOON <= outcome.result < 2 * SOON
