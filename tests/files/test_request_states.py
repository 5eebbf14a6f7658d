"""The states of a request: the table in request.pyx, and the transitions of requests."""

import asyncio
import gc
from collections import Counter
from pathlib import Path
from typing import Any

import aiopoll
from aiopoll.files import request

BLOCK = 4096
TEXT = request.__doc__ or ""
STATES = {line.split()[0] for line in TEXT.split("States:\n\n")[1].split("\n\n")[0].splitlines()}
TRANSITIONS = {
    source.strip(): {target.strip() for target in targets.split(",")}
    for source, targets in (
        line.split("->") for line in TEXT.split("Transitions:\n\n")[1].split("\n\n")[0].splitlines()
    )
}


def reachable(state: str) -> set[str]:
    found: set[str] = set()
    left = {state}
    while left:
        found |= left
        left = {target for source in left for target in TRANSITIONS[source]} - found
    return found


def test_every_request_state_comes_from_free_and_ends_there() -> None:
    assert set(TRANSITIONS) == STATES == reachable("FREE")
    assert [state for state in STATES if "FREE" not in reachable(state)] == []


def states() -> Counter[str]:
    """How many requests of this process are in each state but FREE."""
    found = [kept for kept in gc.get_objects() if type(kept) is request.FileRequest]
    return Counter(name for kept in found if (name := repr(kept).split()[-1][:-1]) != "FREE")


async def direct(path: Path) -> None:
    async with aiopoll.open(path, "w+b", direct=True) as file:
        await file.fallocate(0, 64 * BLOCK)
        await file.pwrite(bytes(64 * BLOCK), 0)
        assert states() == {}
        part = file.pwrite(b"x", 0)  # of a block: alone, in a thread
        assert not states()["HELD"]
        held = [file.pwrite(b"y", BLOCK), file.pwrite(bytes(BLOCK), 0)]
        assert states()["HELD"] == 2
        reads = [file.pread(BLOCK, i * BLOCK) for i in range(5)]
        # The first of them, and the two that waited for a second one to go with.
        assert (states()["IN_FLIGHT"], states()["QUEUED"]) == (3, 2) or (
            file.statistics().aio_reads == 0
        )
        held[0].cancel()
        reads[0].cancel()  # the kernel keeps a request that it has
        reads[4].cancel()
        assert states()["HELD"] == 2
        assert states()["IN_FLIGHT"] == min(file.statistics().aio_reads, 3)
        started: list[asyncio.Future[Any]] = [part, *held, *reads]
        await asyncio.wait(started)
        assert (await part, await held[1]) == (1, BLOCK)
        assert [len(await read) for read in reads[1:4]] == [BLOCK] * 3
    assert states() == {}


def test_direct_request_states_follow_its_way(tmp_path: Path) -> None:
    aiopoll.run(direct(tmp_path / "file"), backend="aio")


async def cached(path: Path) -> None:
    async with aiopoll.open(path, "w+b") as file:
        await file.pwrite(bytes(32 * BLOCK), 0)
        read = file.pread(32 * BLOCK, 0)  # more than an iteration may read at once
        assert states()["DEFERRED"] == file.statistics().inline_reads
        assert len(await read) == 32 * BLOCK
    assert states() == {}


def test_cached_request_beyond_the_budget_is_deferred(tmp_path: Path) -> None:
    aiopoll.run(cached(tmp_path / "file"))
