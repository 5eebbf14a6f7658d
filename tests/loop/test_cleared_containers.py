"""Garbage that is cleared in another order than it was made: a list before what refers to it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aiopoll

PROGRAM = """
import asyncio, collections, contextlib, gc, os, sys, aiopoll
sys.unraisablehook = lambda failure: None  # what a cleared loop cannot do raises, and that is all
gc.disable()
loop_options = eval(sys.argv[1])

async def wait(loop, reading):
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    datagrams = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    file = await aiopoll.open(sys.argv[2], "r+b")
    await file.pwrite(b"written", 0)  # done: a finalizer, which comes before, waits for others
    loop.add_reader(reading, print)
    asyncio.current_task().add_done_callback(lambda _: leave_behind(loop))
    writer.write(bytes(1 << 22))
    return server, writer, datagrams, file

def leave_behind(loop):
    # More than the queue has room for at first.
    for number in range(200):
        loop.call_soon(print, number)
        loop.call_later(100 + number, print)

def forgotten_loop():
    reading, writing = os.pipe()
    loop = aiopoll.new_event_loop(**loop_options)
    kept = loop.run_until_complete(wait(loop, reading))
    return loop, kept, (reading, writing)

def containers(start):
    # Those that a compiled object has for itself.
    found, seen, queue = [], set(), collections.deque([start])
    while queue:
        one = queue.popleft()
        for part in gc.get_referents(one):
            if id(part) in seen or part is getattr(one, "__dict__", None):
                continue
            seen.add(id(part))
            if type(part) in (list, dict, set, collections.deque):
                if type(one).__module__.startswith("aiopoll"):
                    found.append(part)
                queue.append(part)
            elif type(part).__module__.startswith("aiopoll"):
                queue.append(part)
    return found

def use(loop, reading):
    for call in (
        lambda: loop.call_soon(print, "late"),
        lambda: loop.call_soon_threadsafe(print, "late"),
        lambda: loop.call_later(1, print),
        lambda: loop.add_reader(reading, print),
        lambda: loop.remove_reader(reading),
        lambda: len(loop._ready) + len(list(loop._ready)) + len(loop._scheduled),
        lambda: loop._ready.append(None) or loop._ready.popleft(),
        lambda: asyncio.sleep(1).send(None),
        lambda: loop.statistics(),
        lambda: repr(loop),
    ):
        with contextlib.suppress(Exception):
            call()

def run(number, used):
    loop, kept, pipe = forgotten_loop()
    found = containers(loop)
    if number < len(found):
        found[number].clear()
        if used:
            use(loop, pipe[0])
    remaining = len(found)
    del found, kept, loop
    gc.collect()
    for fd in pipe:
        os.close(fd)
    return number < remaining

number = 0
while run(number, False) and run(number, True):
    number += 1
print(number)
"""


@pytest.mark.subprocess
def test_what_a_collector_clears_first_ends_nothing(
    loop_options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.touch()
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, repr(loop_options), str(path)],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.splitlines()[-1]) > 5


@pytest.mark.parametrize("backend", ["auto", "epoll"])
def test_a_pipe_that_is_finalized_before_its_loop(backend: str) -> None:
    loop = aiopoll.new_event_loop(backend=backend)
    loop._ssock.close()  # type: ignore[attr-defined]
    loop._csock.close()  # type: ignore[attr-defined]
    loop.close()
    assert loop.is_closed()
