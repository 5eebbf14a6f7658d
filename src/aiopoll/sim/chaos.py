"""A plan of faults that the tape draws: partitions, crashes, pauses, clocks and slow disks.

Facts: a fault that lasts for ever tests little, and so does a world without any. Each kind has a
rate, the number of its faults that a second of the world's clock has on average; each fault lasts
for a drawn time, and is then put right.

Rule: once a second the tape draws, for each kind, whether a fault begins and which host or link it
meets. The host of the test itself is spared. Where the program has nothing else left to wait for,
the plan ends too: else no Deadlock would be found.

Left out: faults at chosen times; a test makes those itself, by world.crash and the like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..kernel.uapi import NSEC_PER_SEC
from .host import HostState
from .links import latency_to_ns

if TYPE_CHECKING:
    from .host import Host
    from .world import World

LASTS_NS = (100_000_000, 10 * NSEC_PER_SEC)
"""The shortest and the longest time of a fault, in nanoseconds."""
GRAIN_NS = 50_000_000
"""Times are drawn in steps of this: a tape reads better, and a draw is smaller."""


@dataclass(frozen=True)
class Chaos:
    """The rates of a plan, see chaos()."""

    partitions: float = 0.0
    crashes: float = 0.0
    kills: float = 0.0
    resets: float = 0.0
    pauses: float = 0.0
    clocks: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    latency: float | tuple[float, float] | None = None
    slow_fsync: float = 0.0
    disk_errors: float = 0.0
    names: float = 0.0
    torn: bool = True
    until: float | None = None

    def begin(self, world: World) -> None:
        """Start the plan in `world`."""
        _Plan(self, world).arm()


def chaos(
    *,
    partitions: float = 0.0,
    crashes: float = 0.0,
    kills: float = 0.0,
    resets: float = 0.0,
    pauses: float = 0.0,
    clocks: float = 0.0,
    loss: float = 0.0,
    duplicate: float = 0.0,
    reorder: float = 0.0,
    latency: float | tuple[float, float] | None = None,
    slow_fsync: float = 0.0,
    disk_errors: float = 0.0,
    names: float = 0.0,
    torn: bool = True,
    until: float | None = None,
) -> Chaos:
    """Return a plan of faults, which the tape of each run draws.

    `partitions`, `crashes`, `kills`, `resets` (of connections), `pauses`, `clocks` and `names`
    (failures of name look-ups) are rates: how many begin in a second on average, at most 1.
    `loss`, `duplicate`, `reorder` and `latency` are of every link, see World.link. `slow_fsync`
    and `disk_errors` are the parts of disk operations that are slow, or fail. Crashes tear writes
    if `torn`. No fault begins after `until` seconds. ValueError for values out of range.
    """
    plan = Chaos(
        partitions=partitions,
        crashes=crashes,
        kills=kills,
        resets=resets,
        pauses=pauses,
        clocks=clocks,
        loss=loss,
        duplicate=duplicate,
        reorder=reorder,
        latency=latency,
        slow_fsync=slow_fsync,
        disk_errors=disk_errors,
        names=names,
        torn=torn,
        until=until,
    )
    for name, value in vars(plan).items():
        if name not in ("latency", "torn", "until") and not 0 <= value <= 1:
            raise ValueError(f"{name} is from 0 to 1, not {value}")
    if latency is not None:
        latency_to_ns(latency)
    if until is not None and not until >= 0:
        raise ValueError(f"until is in seconds of the world's clock, not {until}")
    return plan


class _Plan:
    """A plan at work in one world."""

    def __init__(self, chaos: Chaos, world: World) -> None:
        self.chaos = chaos
        self.world = world
        self.known: set[str] = set()

    def arm(self) -> None:
        self._meet_new_hosts()
        self.world.after(1.0, self._second)

    def _second(self) -> None:
        world = self.world
        self._meet_new_hosts()
        idle = not world.sched.ready and world.sched.clock.next_expiry_ns() is None
        over = self.chaos.until is not None and world.now() >= self.chaos.until
        if idle or over:
            return
        for name, rate, begin in (
            ("partition", self.chaos.partitions, self._partition),
            ("reset", self.chaos.resets, self._reset),
            ("crash", self.chaos.crashes, self._crash),
            ("kill", self.chaos.kills, self._kill),
            ("pause", self.chaos.pauses, self._pause),
            ("clock", self.chaos.clocks, self._clock),
            ("name failure", self.chaos.names, self._name),
        ):
            if rate and world.tape.chance(f"chaos {name}", rate):
                begin(name)
        world.after(1.0, self._second)

    def _meet_new_hosts(self) -> None:
        """Give the disks and links of hosts that have come since their rates."""
        world, chaos = self.world, self.chaos
        for name, host in world.hosts.items():
            if name in self.known:
                continue
            if host.disk is not None and (chaos.slow_fsync or chaos.disk_errors):
                host.disk.faults(
                    slow_fsync=chaos.slow_fsync,
                    write_errors=chaos.disk_errors,
                    fsync_errors=chaos.disk_errors,
                )
            if chaos.loss or chaos.duplicate or chaos.reorder or chaos.latency is not None:
                for other in self.known:
                    self._shake(name, other)
            self.known.add(name)

    def _shake(self, one: str, other: str) -> None:
        chaos, network = self.chaos, self.world.network
        before = set(network.effects)
        network.link(
            one,
            other,
            latency=chaos.latency,
            loss=chaos.loss or None,
            duplicate=chaos.duplicate or None,
            reorder=chaos.reorder or None,
        )
        # The plan is for all links: that one of them has no traffic is no fault that did nothing.
        for effect in set(network.effects) - before:
            del network.effects[effect]

    def _victims(self) -> list[Host]:
        world = self.world
        return [
            host
            for host in world.hosts.values()
            if host is not world.main_host and host.phase is HostState.RUNNING
        ]

    def _victim(self, name: str) -> Host | None:
        victims = self._victims()
        if not victims:
            return None
        return victims[self.world.tape.choose(f"chaos {name} whom", len(victims))]

    def _lasts(self, name: str) -> float:
        """Draw how long a fault lasts, in seconds."""
        grains = (LASTS_NS[1] - LASTS_NS[0]) // GRAIN_NS + 1
        drawn = self.world.tape.choose(f"chaos {name} lasts", grains)
        return (LASTS_NS[0] + drawn * GRAIN_NS) / NSEC_PER_SEC

    def _later(self, name: str, function: Callable[[], object]) -> None:
        self.world.after(self._lasts(name), function)

    def _count(self, name: str) -> None:
        effects = self.world.effects
        effects[name] = effects.get(name, 0) + 1

    def _partition(self, name: str) -> None:
        victims = self._victims()
        if len(victims) < 2:
            return
        tape = self.world.tape
        chosen = [
            host for host in victims[1:] if not tape.choose(f"chaos {name} side of {host.name}", 2)
        ]
        rest = [host for host in victims if host not in chosen]
        if not chosen:
            chosen = [rest.pop()]
        oneway = tape.chance(f"chaos {name} one way", 0.3)
        partition = self.world.partition(chosen, rest, oneway=oneway)
        self._count(name)
        self._later(name, lambda: self.world.heal(partition))

    def _reset(self, name: str) -> None:
        """Reset what is open between two hosts; that of the test is one of them too."""
        one = self._victim(name)
        others = [host for host in self.world.hosts.values() if host is not one]
        if one is not None and others:
            other = others[self.world.tape.choose(f"chaos {name} with", len(others))]
            if self.world.reset(one, other):
                self._count(name)

    def _crash(self, name: str) -> None:
        host = self._victim(name)
        if host is not None:
            host.crash(torn=self.chaos.torn)
            self._count(name)
            self._later(name, lambda: self._restart(host))

    def _kill(self, name: str) -> None:
        host = self._victim(name)
        if host is not None:
            host.kill()
            self._count(name)
            self._later(name, lambda: self._restart(host))

    def _restart(self, host: Host) -> None:
        if host.phase in (HostState.CRASHED, HostState.EXITED):
            host.restart()

    def _pause(self, name: str) -> None:
        host = self._victim(name)
        if host is not None:
            host.pause()
            self._count(name)
            self._later(name, host.resume)

    def _clock(self, name: str) -> None:
        host = self._victim(name)
        if host is not None:
            tape = self.world.tape
            jump = tape.choose(f"chaos {name} jump", 41) / 10
            if tape.chance(f"chaos {name} back", 0.5):
                jump = -jump
            drift = tape.choose(f"chaos {name} drift", 1001) * 1e-6
            host.clock(drift=drift, jump=jump)
            self._count(name)

    def _name(self, name: str) -> None:
        host = self._victim(name)
        if host is not None:
            until = self.world.now() + self._lasts(name)
            self.world.network.fail_name(host.name, until=until)
            self._count(name)
