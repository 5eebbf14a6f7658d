"""Ways to block a loop until that was reported, and loops that are watched."""

import asyncio
import ctypes
import os
import threading
import time
import zlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.loops import CHILD_SECONDS_MAX

import aiopoll

LIMIT = 0.05
KEEPING_GIL = ctypes.PyDLL(None)
"""C functions that are called with the GIL."""


DATA = os.urandom(1 << 23)


class Reports:
    """A handler of stalls, which a blocking function asks whether it may end.

    kind: what one of the reports must be for that; None for any.
    """

    def __init__(self, kind: aiopoll.StallKind | None = None) -> None:
        self.kind = kind
        self.stalls: list[aiopoll.Stall] = []
        self.then: Callable[[], object] = lambda: None
        self.began = time.monotonic()

    def __call__(self, stall: aiopoll.Stall) -> None:
        self.stalls.append(stall)
        self.then()

    def __bool__(self) -> bool:
        """Whether there is a report; AssertionError where none comes."""
        assert time.monotonic() - self.began < CHILD_SECONDS_MAX, "the stall is not reported"
        return any(self.kind in (None, stall.kind) for stall in self.stalls)

    def first(self) -> aiopoll.Stall:
        assert self.stalls, "nothing was reported"
        return self.stalls[0]


def compute(seen: Reports) -> None:
    while not seen:
        pass


def sleep(seen: Reports) -> None:
    while not seen:
        time.sleep(0.5)


def keep_gil(seen: Reports) -> None:
    while not seen:
        KEEPING_GIL.usleep(300_000)


def compress(seen: Reports) -> None:
    while not seen:
        zlib.compress(DATA)


def read_pipe(seen: Reports) -> None:
    reader, writer = os.pipe()
    try:
        seen.then = lambda: os.write(writer, b"x")
        assert os.read(reader, 1) == b"x"
        assert seen
    finally:
        os.close(reader)
        os.close(writer)


def wait_for_lock(seen: Reports) -> None:
    lock = threading.Lock()
    done = threading.Event()

    def keeper() -> None:
        with lock:
            done.wait(CHILD_SECONDS_MAX)

    thread = threading.Thread(target=keeper)
    thread.start()
    while not lock.locked():
        time.sleep(0)
    seen.then = done.set
    with lock:
        pass
    thread.join()


def line_of(function: Callable[..., object], text: str) -> tuple[str, int]:
    """The file and the line of the first line of a function that has the text."""
    code = function.__code__
    with open(code.co_filename, encoding="utf-8") as file:
        lines = file.read().splitlines()
    at = next(i for i in range(code.co_firstlineno, len(lines) + 1) if text in lines[i - 1])
    return code.co_filename, at


def run_blocked(block: Callable[[Reports], None], options: dict[str, Any]) -> aiopoll.Stall:
    """Blocks a watched loop in a task; the report of it.

    Another one where the machine was too busy to find out what the thread does.
    """
    for _ in range(10):
        seen = Reports()

        async def main(seen: Reports = seen) -> None:
            asyncio.current_task().set_name("the task")  # type: ignore[union-attr]
            block(seen)

        aiopoll.run(main(), watch_stalls=LIMIT, on_stall=seen, **options)
        if seen.first().kind is not aiopoll.StallKind.UNKNOWN:
            break
    return seen.first()


@contextmanager
def watched(**options: Any) -> Iterator[aiopoll.EventLoop]:
    loop = aiopoll.new_event_loop(**options)
    try:
        yield loop
    finally:
        loop.close()


def run(main: Coroutine[Any, Any, Any], loop: aiopoll.EventLoop) -> Any:
    return loop.run_until_complete(asyncio.wait_for(main, CHILD_SECONDS_MAX))
