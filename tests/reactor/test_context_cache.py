"""The context that a closed loop leaves to the next one: conditions to keep it, and emptiness."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.descriptors import rings

import aiopoll
from aiopoll.aio import context_cache as context_pool

MAPPED = "/[aio]"


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    context_pool.release()
    yield
    context_pool.release()


def run_one(nr_events: int = 64, **options: str) -> None:
    loop = aiopoll.new_event_loop(backend="aio", nr_events=nr_events, **options)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_the_next_loop_takes_the_context_of_the_last() -> None:
    before = rings()
    for _ in range(5):
        run_one()
        assert rings() == before + 1
    first = aiopoll.new_event_loop(backend="aio", nr_events=64)
    assert rings() == before + 1
    second = aiopoll.new_event_loop(backend="aio", nr_events=64)
    assert rings() == before + 2
    for loop in (first, second):
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert rings() == before + 1  # one is enough
    context_pool.release()
    assert rings() == before
    context_pool.release()


def test_a_loop_of_another_size_gets_a_context_of_its_own() -> None:
    before = rings()
    run_one(64)
    loop = aiopoll.new_event_loop(backend="aio", nr_events=65)
    assert rings() == before + 2
    loop.close()


@pytest.mark.parametrize("why", ["large", "switched off", "no ring", "epoll"])
def test_context_is_not_kept(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rings()
    if why == "switched off":
        monkeypatch.setenv("AIOPOLL_KEEP_CONTEXT", "0")
    if why == "no ring":
        monkeypatch.setenv("AIOPOLL_USER_RING", "0")
    if why == "epoll":
        aiopoll.run(asyncio.sleep(0), backend="epoll")
    else:
        run_one(1025 if why == "large" else 64)
    assert rings() == before


def test_the_context_of_a_loop_that_never_ran_is_kept_too() -> None:
    before = rings()
    aiopoll.new_event_loop(backend="aio", nr_events=64).close()
    assert rings() == before + 1


def places() -> list[str]:
    """The addresses of this process's rings: each context has one."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in maps if MAPPED in line]


@pytest.mark.parametrize("turns", ["used unused used unused", "unused unused", "unused used"])
def test_used_and_unused_loops_hand_on_one_context(turns: str) -> None:
    before = places()
    seen: set[str] = set()
    for turn in turns.split():
        loop = aiopoll.new_event_loop(backend="aio", nr_events=64)
        if turn == "used":
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        [ring] = [ring for ring in places() if ring not in before]
        seen.add(ring)
    assert len(seen) == 1


def test_file_watched_at_the_end_reaches_no_later_loop() -> None:
    before = rings()
    pairs = [socket.socketpair() for _ in range(20)]
    loop = aiopoll.new_event_loop(backend="aio", nr_events=64)
    heard: list[str] = []
    for ours, _ in pairs:
        loop.add_reader(ours, heard.append, "first")
        loop.add_writer(ours, heard.append, "write")
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    for _, theirs in pairs[:10]:
        theirs.send(b"x")  # in the ring, not reaped
    loop.close()
    heard.clear()
    assert rings() == before + 1
    for _, theirs in pairs[10:]:
        theirs.send(b"x")  # no loop waits any more
    # The kernel has no poll left: the peers see the end at once.
    for ours, theirs in pairs:
        ours.close()
        try:
            assert theirs.recv(1) == b""
        except ConnectionResetError:
            pass  # with data that was not read
        theirs.close()
    second = aiopoll.new_event_loop(backend="aio", nr_events=64)
    assert rings() == before + 1
    ours, theirs = socket.socketpair()
    with ours, theirs:
        second.add_reader(ours, heard.append, "second")
        for _ in range(5):
            second.run_until_complete(asyncio.sleep(0))
        assert heard == []
        theirs.send(b"x")
        for _ in range(5):
            second.run_until_complete(asyncio.sleep(0))
        assert set(heard) == {"second"}
        second.remove_reader(ours)
    statistics = second.statistics()
    assert statistics.in_flight <= 3
    second.close()


def test_all_slots_are_there_again() -> None:
    nr_events = 8
    for _ in range(10):
        loop = aiopoll.new_event_loop(backend="aio", nr_events=nr_events)
        pairs = [socket.socketpair() for _ in range(5)]
        for ours, _ in pairs:
            loop.add_reader(ours, lambda: None)
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        assert loop.statistics().overflowed == 0
        for ours, theirs in pairs:
            loop.remove_reader(ours)
            ours.close()
            theirs.close()
        loop.close()


def test_hundreds_of_loops_in_a_row_leave_every_slot(tmp_path: Path) -> None:
    """Each of them has polls in flight when it is closed."""
    for _ in range(300):
        run_one(8)
    loop = aiopoll.new_event_loop(backend="aio", nr_events=8)

    async def scenario() -> None:
        server = await loop.create_unix_server(asyncio.Protocol, tmp_path / "socket")
        transports = []
        for _ in range(20):
            transport, _ = await loop.create_unix_connection(
                asyncio.Protocol, str(tmp_path / "socket")
            )
            transports.append(transport)
        for _ in range(3):
            await asyncio.sleep(0)
        assert loop.statistics().overflowed == 0
        for transport in transports:
            transport.abort()
        server.close()
        while loop.statistics().watched > 1:
            await asyncio.sleep(0)

    loop.run_until_complete(scenario())
    loop.close()


def test_a_loop_in_another_thread_may_have_it() -> None:
    before = rings()
    run_one()

    async def elsewhere() -> None:
        await asyncio.to_thread(run_one)

    aiopoll.run(elsewhere(), backend="epoll")
    assert rings() == before + 1


@pytest.mark.subprocess
def test_the_child_of_a_fork_forgets_it(in_child: Callable[[Callable[[], object]], str]) -> None:
    run_one()

    def child() -> str:
        run_one()
        run_one()
        return "ran"

    assert in_child(child) == "'ran'"
    # The parent's is whole.
    before = rings()
    run_one()
    assert rings() == before


@pytest.mark.subprocess
def test_a_process_ends_with_a_context_kept(tmp_path: Path) -> None:
    program = "import asyncio, aiopoll; aiopoll.run(asyncio.sleep(0), backend='aio')"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ},
    )
    assert (done.returncode, done.stderr) == (0, "")
