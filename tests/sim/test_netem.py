"""A simulated link beside a real one: the same program on both, and times that agree.

The real link is netem's where the kernel has it, else a process with the same figures carries the
packets; see real_links.py. The stacks at its ends are Linux's.

What the bounds allow for: the carrier's own half millisecond in a round trip, and chance, where
packets are lost or times drawn. Other processes make the real link slower at times, so what is out
of bounds is measured up to three times.
Left out: CUBIC's HyStart, which ends slow start early where delays vary (Linux uses Reno in the
cases without loss), and how a receive window grows, see real_links.py.
"""

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiopoll.sim import World
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import tape_of

from . import link_program
from .link_program import Times
from .real_links import ADDRESSES, NAMES, Figures, inside, linked, missing

ATTEMPTS = 3
SEEDS = 5

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Case:
    """Figures of a link, how much is measured, and how far the times of a world may be off.

    A bound is a part of Linux's time, to which a millisecond is added.
    """

    figures: Figures
    counts: tuple[int, int, int]
    congestion: str
    # By what was measured: the bound of the median, and that of the 99th percentile.
    bounds: dict[str, tuple[float, float]]


CASES = {
    "delay": Case(
        Figures(delay=0.02),
        (10, 10, 5),
        "reno",
        {"connect": (0.05, 0.25), "exchange": (0.05, 0.25), "transfer": (0.1, 0.2)},
    ),
    "jitter": Case(
        Figures(delay=0.02, jitter=0.01),
        (10, 20, 5),
        "reno",
        {"connect": (0.1, 0.25), "exchange": (0.1, 0.15), "transfer": (0.15, 0.25)},
    ),
    "rate": Case(
        Figures(delay=0.005, rate=1.25e6),
        (10, 10, 3),
        "reno",
        {"connect": (0.1, 0.3), "exchange": (0.1, 0.3), "transfer": (0.1, 0.15)},
    ),
    "loss": Case(
        Figures(delay=0.01, loss=0.02),
        (12, 40, 12),
        "cubic",
        # A lost SYN costs a second: with a dozen the percentile is a matter of luck.
        {"connect": (0.1, math.inf), "exchange": (0.1, 0.2), "transfer": (0.4, 0.6)},
    ),
}


def on_linux(case: Case) -> Times:
    """Run both ends in namespaces of this Linux."""
    # Before all other processes: what is measured are links, not waits for a core.
    program = ["chrt", "--fifo", "1", sys.executable, str(Path(link_program.__file__))]
    counts = [str(count) for count in case.counts]
    with linked(case.figures):
        command = inside(NAMES[1], *program, "server", ADDRESSES[1], case.congestion)
        server = subprocess.Popen(command)
        try:
            command = inside(NAMES[0], *program, "client", ADDRESSES[1], *counts)
            result = subprocess.run(command, check=True, capture_output=True, text=True)
        finally:
            server.kill()
            server.wait()
    times: Times = json.loads(result.stdout)
    return times


def in_worlds(case: Case) -> Times:
    """Run both ends as hosts, in worlds of several seeds."""
    times: Times = {}

    async def program(world: World) -> None:
        figures = case.figures
        world.host("server", link_program.serve, "0.0.0.0", case.congestion)
        assert world.main_host is not None
        world.link(
            world.main_host,
            "server",
            latency=(figures.delay, figures.delay + figures.jitter),
            loss=figures.loss,
            bandwidth=figures.rate,
        )
        for name, found in (await link_program.measure("server", *case.counts)).items():
            times.setdefault(name, []).extend(found)

    for seed in range(SEEDS):
        outcome = run_once(program, tape_of(seed, "uniform"))
        assert outcome.error is None, outcome.error
    return times


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def differences(case: Case, ours: Times, linux: Times) -> dict[str, str]:
    """Return what is out of bounds, and by how much."""
    found: dict[str, str] = {}
    medians: Callable[[list[float]], float] = statistics.median
    for name, bounds in case.bounds.items():
        for what, of, bound in (
            ("median", medians, bounds[0]),
            ("99th percentile", lambda values: percentile(values, 0.99), bounds[1]),
        ):
            here, there = of(ours[name]), of(linux[name])
            if abs(here - there) > bound * there + 0.001:
                found[f"{what} of {name}"] = f"{here:.4f} s here, {there:.4f} s on Linux"
    return found


@pytest.mark.parametrize("name", CASES)
def test_times_agree_with_a_real_link(name: str) -> None:
    if "AIOPOLL_LINKS" not in os.environ:
        pytest.skip(reason="skips.toml: times of a real link")
    if missing() is not None:
        pytest.skip(reason="skips.toml: links between namespaces")
    case = CASES[name]
    ours = in_worlds(case)
    found = differences(case, ours, on_linux(case))
    for _ in range(ATTEMPTS - 1):
        if found:
            again = differences(case, ours, on_linux(case))
            found = {what: how for what, how in again.items() if what in found}
    assert found == {}
