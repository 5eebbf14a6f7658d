"""Twenty programs with a bug each, as they happen, and their repaired twins.

A module has `program(world, fixed)`: hosts with ordinary asyncio code, and a condition that shows
the bug. The twin differs by a few lines. `PORTABLE` says that it needs no file, no clock that jumps
and no more of a world than other simulators have.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopoll.sim.world import World

NAMES = (
    "raft_double_vote",
    "lost_fsync",
    "torn_tail",
    "lost_rename",
    "two_phase_commit",
    "retried_increment",
    "stale_lease",
    "wall_clock_lock",
    "one_way_partition",
    "half_open",
    "cached_address",
    "read_your_writes",
    "overdraft",
    "abba_lock",
    "lost_wakeup",
    "cancelled_checkout",
    "unbounded_queue",
    "retry_storm",
    "udp_order",
    "udp_duplicate",
)


@dataclass(frozen=True)
class Toy:
    """A program; `of(fixed)` is what a world runs."""

    name: str
    program: Callable[[Any, bool], Awaitable[None]]
    portable: bool

    def of(self, fixed: bool) -> Callable[[World], Coroutine[Any, Any, None]]:
        async def program(world: World) -> None:
            await self.program(world, fixed)

        return program


def load(name: str) -> Toy:
    module = importlib.import_module(f".{name}", __package__)
    return Toy(name, module.program, module.PORTABLE)


def load_all() -> list[Toy]:
    return [load(name) for name in NAMES]
