"""The toy programs of tests/sim/toys by simloom, another simulator for asyncio, and by ours.

    python -m benchmarks.simloom_toys [--seeds N] [--twins N] [--repeat N] [NAME ...]

Both run the same programs, in this process and this Python: simloom needs 3.12. A World of simloom
is given the methods that the toys call. Toys that use files, a clock that jumps, or a connection
that nothing resets are left out: simloom has none of these.

The columns: how many of the seeds show the bug, how many seeds of the twin raise an alarm, and
seeds of the twin per second of processor time. Without simloom, ours alone are printed.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.sim.toys import Toy, load_all

from aiopoll.sim.history import History
from aiopoll.sim.run import run_once, searching
from aiopoll.sim.tape import tape_of

try:
    simloom: Any = importlib.import_module("simloom")
    current_host: Any = importlib.import_module("simloom._context").current_host
except ImportError:
    simloom = None

TIME_LIMIT = 600.0


class SimloomTape:
    """The draws of a toy, by simloom's tape: 0 is the plain value there, too."""

    def choose(self, label: str, alternatives: int) -> int:
        return int(simloom.draw(label, alternatives))

    def between(self, label: str, low: int, high: int) -> int:
        return low + self.choose(label, high - low + 1)

    def chance(self, label: str, probability: float) -> bool:
        return self.choose(label, 1000) >= 1000 - round(probability * 1000)


class SimloomWorld:
    """A world of simloom with the methods that the toys call."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.net = world.net
        self.mains: list[Any] = []
        self.tape = SimloomTape()
        self.history = History(self.now)
        self.sleep = world.sleep
        self.always = world.always
        self.heal = world.net.heal
        # simloom has one name space of addresses: "0.0.0.0" means a host's own name there.
        self.net.create_server = self._of_the_host(self.net.create_server)
        create_endpoint = self.net.create_datagram_endpoint

        async def create_datagram_endpoint(factory: Any, **options: Any) -> Any:
            if options.get("local_addr"):
                options["local_addr"] = (current_host.get().name, options["local_addr"][1])
            return await create_endpoint(factory, **options)

        self.net.create_datagram_endpoint = create_datagram_endpoint

    @staticmethod
    def _of_the_host(create: Callable[..., Any]) -> Callable[..., Any]:
        async def create_server(factory: Any, host: Any, port: Any, **options: Any) -> Any:
            return await create(factory, current_host.get().name, port, **options)

        return create_server

    def now(self) -> float:
        return float(self.world.time)

    def host(self, name: str, main: Callable[..., Any], *args: Any) -> Any:
        host = self.world.host(name)
        self.net.dns.register(name)
        # simloom keeps weak references alone: a main that waits would be collected as garbage.
        self.mains.append(host.spawn(lambda: main(*args)))
        return host

    def link(
        self,
        one: Any,
        other: Any,
        *,
        latency: tuple[float, float] | None = None,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
    ) -> None:
        one, other = (self.world.host(h) if isinstance(h, str) else h for h in (one, other))
        if latency is not None:
            self.net.set_link_latency(one, other, *latency)
            self.net.set_link_latency(other, one, *latency)
        # Whole percents, of all links.
        self.net.set_datagram_loss(round(loss * 100))
        self.net.set_datagram_duplication(round(duplicate * 100))
        self.net.set_datagram_reorder(round(reorder * 100))

    def partition(self, one: list[Any], other: list[Any], *, oneway: bool = False) -> None:
        if not oneway:
            self.net.partition(one, other)
            return
        for source in one:
            for target in other:
                self.net.block(source, target)

    async def eventually(
        self, name: str, condition: Callable[[], object], *, within: float
    ) -> None:
        try:
            await self.world.until(condition, timeout=within)
        except TimeoutError:
            raise AssertionError(f"{name!r} did not come to hold within {within} s") from None

    def linearizable(self, history: History, model: Any = None) -> None:
        history.linearizable(model)


def fails_with_simloom(toy: Toy, fixed: bool, seed: int, schedule: str) -> bool:
    async def main(world: Any) -> None:
        await toy.program(SimloomWorld(world), fixed)

    result = simloom.run(
        main,
        seed=seed,
        raise_on_error=False,
        scheduler=schedule,
        virtual_time=True,
        seed_randomness=True,
        # At the end of a run it cancels connections; asyncio of 3.12 logs an error for each.
        on_unhandled="record",
    )
    return bool(result.outcome == "error")


def fails_with_ours(toy: Toy, fixed: bool, seed: int, schedule: str) -> bool:
    return run_once(toy.of(fixed), tape_of(seed, schedule), time_limit=TIME_LIMIT).failed


Fails = Callable[[Toy, bool, int, str], bool]


@dataclass
class Peer:
    """A simulator and what it did with one toy."""

    name: str
    fails: Fails
    schedule: str
    found: int = 0
    alarms: int = 0
    seconds: float = 0.0


def measure(toy: Toy, peers: list[Peer], seeds: int, twins: int, repeat: int) -> None:
    """Run the toy by each simulator, seed by seed: what else the machine does meets both alike.

    The twin's runs are timed, since each is a whole one: a run that fails early is a fast one. The
    fastest of `repeat` runs of a seed counts.
    """
    for seed in range(seeds):
        for peer in peers:
            peer.found += peer.fails(toy, False, seed, peer.schedule)
    for seed in range(twins):
        times: list[list[float]] = [[] for _ in peers]
        for _ in range(repeat):
            for peer, of_peer in zip(peers, times, strict=True):
                begin = time.process_time()
                failed = peer.fails(toy, True, seed, peer.schedule)
                of_peer.append(time.process_time() - begin)
                peer.alarms += failed and len(of_peer) == 1
        for peer, of_peer in zip(peers, times, strict=True):
            peer.seconds += min(of_peer)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simloom_toys", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--twins", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--schedule", default="random", help="simloom's: random, pct:auto")
    options = parser.parse_args()
    toys = [toy for toy in load_all() if toy.portable]
    if options.names:
        toys = [toy for toy in toys if toy.name in options.names]
    if simloom is None:
        print("simloom is not installed: ours alone")
    form = "{:20} {:14} {:>6} {:>12} {:>8}"
    print(form.format("toy", "simulator", "found", "twin alarms", "seeds/s"))
    ratios = []
    for toy in toys:
        peers = [Peer("aiopoll.sim", fails_with_ours, "mixed")]
        if simloom is not None:
            name = f"simloom {simloom.__version__}"
            peers.append(Peer(name, fails_with_simloom, options.schedule))
        with searching():  # as sim.test does
            measure(toy, peers, options.seeds, options.twins, options.repeat)
        for peer in peers:
            rate = f"{options.twins / peer.seconds:.0f}"
            print(form.format(toy.name, peer.name, peer.found, peer.alarms, rate), flush=True)
        if len(peers) == 2:
            ratios.append(peers[1].seconds / peers[0].seconds)
            print(form.format("", "ratio", "", "", f"{ratios[-1]:.2f}"), flush=True)
    if ratios:
        print(f"geometric mean of the ratios: {statistics.geometric_mean(ratios):.2f}")


if __name__ == "__main__":
    main()
