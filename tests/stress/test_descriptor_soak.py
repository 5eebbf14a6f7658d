"""Owners close files while the loop has them, and strangers get the numbers: none is harmed.

Every kind of operation is in flight when its owner closes, detaches or duplicates the file, in
the loop's thread or in another one.  A stranger's file has the number at once, is blocking or
not, and may be served by the loop itself.  Each byte identifies its sender.

AIOPOLL_SOAK_SECONDS: how long each backend is soaked.  AIOPOLL_SOAK_SEED: the seed printed by a
failure.  AIOPOLL_SOAK_RATE: the reuses a second below which the soak fails; `make soak` asks for
1,000.
"""

import asyncio
import gc
import os
import random
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from tests.support.descriptors import open_files
from tests.support.loops import LOOPS

from .descriptors.case import Case
from .descriptors.guests import GUESTS
from .descriptors.kinds import kinds_on
from .descriptors.operation import Operation
from .descriptors.owners import WAYS
from .descriptors.soak import Hung, Soak, alarm
from .descriptors.strangers import WEIGHTS, UnixStranger

SECONDS = float(os.environ.get("AIOPOLL_SOAK_SECONDS", "30"))
SEED = int(os.environ.get("AIOPOLL_SOAK_SEED") or random.randrange(1 << 32))
RATE = float(os.environ.get("AIOPOLL_SOAK_RATE", "50"))
"""Low, for a slow machine is no fault; below it, the soak has stood still."""

SHARES = {"aio": 1.0, "epoll": 1.0, "selector": 0.1, "asyncio": 0.1}
"""Shares of SECONDS: asyncio runs to verify the checks."""


def watched(soak: Soak) -> int:
    """How many files the loop waits for."""
    if soak.asyncios:
        return len(soak.loop._selector.get_map())  # type: ignore[attr-defined]
    return int(statistics(soak).watched)


def statistics(soak: Soak) -> Any:
    return soak.loop.statistics()  # type: ignore[attr-defined]


@pytest.fixture
def open_soak() -> Iterator[Callable[[str], Soak]]:
    """Makes a soak on a kind of loop, which must be left as it was found."""
    made: list[Soak] = []

    def make(loop_kind: str) -> Soak:
        made.append(Soak(LOOPS[loop_kind](), loop_kind, SEED))
        made[0].watched = watched(made[0])
        return made[0]

    gc.collect()  # objects of earlier tests
    before = open_files()
    yield make
    if not made:
        return  # the setup has failed
    [soak] = made
    left = asyncio.all_tasks(soak.loop)
    soak.close()
    if soak.failures:
        soak.loop.close()
        return  # a failed soak is left as it is
    soak.loop.run_until_complete(soak.loop.shutdown_default_executor())
    watched_at_end = watched(soak)
    soak.loop.close()
    assert not left
    assert watched_at_end == soak.watched
    assert open_files() == before


def run(soak: Soak, main: Callable[[Callable[[], None]], Coroutine[Any, Any, None]]) -> None:
    """Runs it, and judges.  Its argument resets the time in which progress must happen."""
    with alarm(60) as again:
        try:
            soak.loop.run_until_complete(main(again))
        except (Hung, Exception) as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-4:])
            soak.failures[f"the loop was left by {error!r}:\n{where}"] += 1
    told = "\n".join(f"{count:6} {what}" for what, count in soak.failures.most_common())
    if told:
        pytest.fail(f"AIOPOLL_SOAK_SEED={SEED}\n{told}", pytrace=False)


def each_kind() -> list[Any]:
    return [
        pytest.param(loop_kind, kind, id=f"{loop_kind}-{kind.kind}")
        for loop_kind in SHARES
        for kind in kinds_on(loop_kind)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("loop_kind", "kind"), each_kind())
def test_one_kind_in_every_way(
    open_soak: Callable[[str], Soak], loop_kind: str, kind: type[Operation]
) -> None:
    """Each way with each stranger; none of them keeps an idle loop busy."""
    soak = open_soak(loop_kind)

    def cases(**options: Any) -> Iterator[Case]:
        guests = [] if soak.asyncios else GUESTS
        for way in WAYS:
            for stranger in WEIGHTS:
                lent = soak.strangers.lend(stranger, soak.random.random() < 0.5)
                yield Case(kind(soak.bench), way, lent, **options)
            for guest in guests:
                lent = soak.strangers.lend(UnixStranger, False)
                yield Case(kind(soak.bench), way, lent, guest_kind=guest, **options)

    def fits(case: Case) -> bool:
        operation = case.operation
        fits = operation.takes(case.way) if case.way else operation.can_complete
        fits = fits and (operation.takes_guests or case.guest_kind is None)
        if not fits:
            soak.discard(case)
        return fits

    async def is_idle() -> None:
        if soak.asyncios or kind.is_busy:
            return  # asyncio's registration of a file that a duplicate keeps makes it spin for ever
        for _ in range(10):  # on a busy machine the ends of processes come late
            before = statistics(soak).iterations
            for _ in range(20):
                await asyncio.sleep(0.001)
            if statistics(soak).iterations - before <= 100:
                return
        soak.failures["an idle loop turns on and on"] += 1

    async def main(again: Callable[[], None]) -> None:
        kept = [Case(kind(soak.bench), None) for _ in range(8)]
        await soak.batch([case for case in kept if fits(case)])
        stages: list[dict[str, Any]] = [{}, {"spoken_first": True}, {"by_thread": True}]
        if not soak.asyncios and kind.can_linger:
            stages += [{"lingers": True}, {}]
        for options in stages:
            again()
            if not soak.failures:
                await soak.batch([case for case in cases(**options) if fits(case)], is_idle)
        await soak.end_lingering()

    run(soak, main)
    assert soak.reuses[kind.kind] > 50


@pytest.mark.soak
@pytest.mark.parametrize("loop_kind", SHARES)
def test_every_kind_while_numbers_change_hands(
    open_soak: Callable[[str], Soak], loop_kind: str
) -> None:
    soak = open_soak(loop_kind)
    kinds = kinds_on(loop_kind)
    seconds = SECONDS * SHARES[loop_kind]
    began = time.monotonic()

    async def main(again: Callable[[], None]) -> None:
        def goes_on() -> bool:
            again()
            return time.monotonic() < began + seconds

        await soak.run(kinds, goes_on)

    run(soak, main)
    rate = sum(soak.reuses.values()) / (time.monotonic() - began)
    print(f"{rate:.0f} reuses a second")
    assert rate >= RATE, f"only {rate:.0f} reuses a second"
    assert set(soak.reuses) == {kind.kind for kind in kinds}
