"""The network of a world: links between hosts, and what goes wrong on them.

Facts: a packet takes the latency of its link, which is drawn from a range, after the time that its
bytes take at the link's bandwidth; all connections of a direction share that. It is lost by chance,
in a partition, or where no host is up at its address. TCP sends again what is lost, so a program
meets delay, ETIMEDOUT and resets there, and never other bytes. Datagrams are lost, sent twice and
overtaken. A host that was started again resets the connections of its earlier life.

Rule: every draw is the tape's, under a label such as "n2>n0 delay" or "n2>n0 loss"; the plain value
is the shortest delay and no fault. Packets of one direction of a connection stay in order, each at
least a nanosecond behind the one before. `effects` counts what each fault did, with a zero for one
that did nothing: a test whose faults had no effect has shown little.

Left out: routers, a limit of the queue before a slow link, loss in bursts, damaged bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..kernel.hrtimer import Clock, HrTimer
from ..kernel.net.socket import Net
from ..kernel.net.wire import PACKET_MAX, WIRE_MSS, Flow, Packet, Wire
from ..kernel.sched import Scheduler
from ..kernel.uapi import NSEC_PER_SEC

LATENCY_NS = (100_000, 10_000_000)
"""The default latency of a link between hosts, from 0.1 to 10 ms."""
OVERTAKEN_NS = 20_000_000
"""How much later at most a packet arrives that is let be overtaken."""

Latency = float | tuple[float, float]


class Draws(Protocol):
    """What links need of a tape."""

    def chance(self, label: str, probability: float) -> bool:
        """Draw True with `probability`."""

    def between(self, label: str, low: int, high: int) -> int:
        """Draw a whole number, both ends included."""


@dataclass
class Link:
    """One direction between two hosts. The labels are made once: a packet costs few look-ups."""

    source: Site
    target: Site
    low_ns: int = LATENCY_NS[0]
    high_ns: int = LATENCY_NS[1]
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    bandwidth: float | None = None
    # How many partitions cut it.
    cuts: int = 0
    # Until when the bytes that were sent before occupy it.
    busy_ns: int = 0

    def __post_init__(self) -> None:
        self.name: str = f"{self.source.name}>{self.target.name}"
        self.delay_label: str = f"{self.name} delay"
        self.loss_label: str = f"{self.name} loss"
        self.duplicate_label: str = f"{self.name} duplicate"
        self.reorder_label: str = f"{self.name} reorder"


@dataclass(frozen=True, eq=False)
class Partition:
    """Links between two sides that lose every packet; `name` is that of its effect."""

    name: str
    links: list[Link]
    side_a: Sequence[str]
    side_b: Sequence[str]


class Site:
    """A host's place in the network. `net` is None while the host is down."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address: str = ""
        self.net: Net | None = None
        self.boots: int = 0
        self.paused: bool = False
        # What waits for the end of a pause, in order.
        self.held: list[Callable[[], None]] = []
        self.links: dict[str, Link] = {}


class Network(Wire):
    """The hosts by name and address, and a link for each direction between two of them."""

    def __init__(
        self, sched: Scheduler, tape: Draws, observe: Callable[..., None] | None = None
    ) -> None:
        self.sched = sched
        self.clock: Clock = sched.clock
        self.tape = tape
        self._observe = observe
        self.sites: dict[str, Site] = {}
        self.by_address: dict[str, Site] = {}
        self.effects: dict[str, int] = {}
        self._partitions: list[Partition] = []
        self._flows: dict[Flow, None] = {}
        self._failing: dict[str, tuple[int, int | None]] = {}

    @property
    def wire(self) -> Wire:
        """Return what a Kernel takes as its `wire`."""
        return self

    # Hosts

    def declare(self, name: str, address: str) -> None:
        """Give `name` an address before its host is up. ValueError if it is another host's."""
        site = self._site(name)
        known = self.by_address.setdefault(address, site)
        if known is not site:
            raise ValueError(f"{address} is the address of {known.name}, not of {name}")
        if not site.address:
            site.address = address

    def attach(self, name: str, address: str, net: Net) -> None:
        """Bring a host up: `net` has `address`, and any other address that it was made with."""
        for each in (address, *net.addresses):
            self.declare(name, each)
        site = self._site(name)
        site.net = net
        net.wire = self
        if address not in net.addresses:
            net.addresses = (address, *net.addresses)
        # As a kernel that draws where its ports begin: a new life seldom takes the ports of the
        # last one at once.
        net.skip_ports(4099 * site.boots)
        site.boots += 1

    def detach(self, name: str) -> None:
        """Cut a host's power: it sends nothing more, and packets to it are lost."""
        site = self._known(name)
        if site.net is not None:
            site.net.up = False
        site.net = None
        site.paused = False
        site.held.clear()

    def pause(self, name: str) -> None:
        """Let all packets from and to a host wait until resume()."""
        self._known(name).paused = True
        self.effects.setdefault(f"pause of {name}: packets held", 0)

    def resume(self, name: str) -> None:
        """End a pause; what waited goes on, in order."""
        site = self._known(name)
        site.paused = False
        held, site.held = site.held, []
        for action in held:
            # Packets arrive in interrupt context only, where no task gets in between.
            self.sched.raise_softirq(action)

    def _site(self, name: str) -> Site:
        if name not in self.sites:
            self.sites[name] = Site(name)
        return self.sites[name]

    def _known(self, name: str) -> Site:
        if name not in self.sites:
            raise ValueError(f"there is no host {name!r}; there are {', '.join(self.sites)}")
        return self.sites[name]

    # Names

    def fail_name(
        self, name: str, error: int = socket.EAI_AGAIN, until: float | None = None
    ) -> None:
        """Let look-ups of `name` fail with `error`, until the clock shows `until` seconds."""
        until_ns = None if until is None else round(until * NSEC_PER_SEC)
        self._failing[name] = error, until_ns
        self.effects.setdefault(f"name {name}: look-ups failed", 0)

    def heal_name(self, name: str) -> None:
        """End what fail_name began."""
        self._failing.pop(name, None)

    def resolve(self, asking: str, name: str) -> list[str]:
        """Return the addresses of `name` as the host `asking` sees them. socket.gaierror."""
        if name in self._failing:
            code, until_ns = self._failing[name]
            if until_ns is None or self.clock.now_ns < until_ns:
                self._count(f"name {name}: look-ups failed")
                raise _gaierror(code)
            del self._failing[name]
        if name == "localhost":
            return ["127.0.0.1", "::1"]
        if name in self.by_address or is_number(name):
            return [name]
        if name not in self.sites or not self.sites[name].address:
            raise _gaierror(socket.EAI_NONAME)
        site = self.sites[name]
        return [address for address, owner in self.by_address.items() if owner is site]

    # Links

    def link(
        self,
        one: str,
        other: str,
        *,
        latency: Latency | None = None,
        loss: float | None = None,
        bandwidth: float | None = None,
        duplicate: float | None = None,
        reorder: float | None = None,
        oneway: bool = False,
    ) -> None:
        """Change the link between two hosts, both ways unless `oneway`; None leaves a property.

        `latency` is in seconds, or the two ends of a range; `bandwidth` in bytes per second, with
        math.inf for no limit; the others are parts of one. `duplicate` and `reorder` are for
        datagrams. ValueError for values out of range.
        """
        for name, part in (("loss", loss), ("duplicate", duplicate), ("reorder", reorder)):
            if part is not None and not 0 <= part <= 1:
                raise ValueError(f"{name} is a part of one, not {part}")
        if bandwidth is not None and not bandwidth > 0:
            raise ValueError(f"bandwidth is above zero, not {bandwidth}")
        latency_ns = None if latency is None else latency_to_ns(latency)
        links = [self._link(self._site(one), self._site(other))]
        if not oneway:
            links.append(self._link(self._site(other), self._site(one)))
        for link in links:
            if latency_ns is not None:
                link.low_ns, link.high_ns = latency_ns
            if loss is not None:
                link.loss = loss
            if duplicate is not None:
                link.duplicate = duplicate
            if reorder is not None:
                link.reorder = reorder
            if bandwidth is not None:
                link.bandwidth = None if bandwidth == float("inf") else bandwidth
            self._expect_effects(link)

    def _expect_effects(self, link: Link) -> None:
        for rate, effect in (
            (link.loss, f"{link.name} loss: packets lost"),
            (link.duplicate, f"{link.name} duplicate: datagrams sent twice"),
            (link.reorder, f"{link.name} reorder: datagrams overtaken"),
        ):
            if rate:
                self.effects.setdefault(effect, 0)

    def _link(self, source: Site, target: Site) -> Link:
        link = source.links.get(target.name)
        if link is None:
            link = source.links[target.name] = Link(source, target)
            if source is target:
                link.low_ns = link.high_ns = 0
        return link

    def partition(
        self, side_a: Sequence[str], side_b: Sequence[str], oneway: bool = False
    ) -> Partition:
        """Lose every packet between two sides; if `oneway`, those from the first to the second.

        Returns what `heal` ends it by.
        """
        arrow = ">" if oneway else "|"
        name = f"partition {' '.join(side_a)} {arrow} {' '.join(side_b)}: packets lost"
        pairs = [(a, b) for a in side_a for b in side_b if a != b]
        if not oneway:
            pairs += [(b, a) for a, b in pairs]
        links = [self._link(self._site(a), self._site(b)) for a, b in pairs]
        for link in links:
            link.cuts += 1
        partition = Partition(name, links, side_a, side_b)
        self._partitions.append(partition)
        self.effects.setdefault(name, 0)
        return partition

    def heal(self, partition: Partition | None = None) -> bool:
        """End a partition, or every one; returns whether there was one to end.

        What was lost meanwhile stays lost; TCP sends it again.
        """
        ended = [each for each in self._partitions if partition is None or each is partition]
        for each in ended:
            for link in each.links:
                link.cuts -= 1
            self._partitions.remove(each)
        return bool(ended)

    def reset(self, one: str, other: str) -> int:
        """Reset the connections between two hosts; returns how many there were."""
        sites = {self._known(one), self._known(other)}
        found = [flow for flow in self._flows if self._ends(flow) == sites]
        for flow in found:
            self.sched.raise_softirq(flow.abort)
        self._count(f"reset {one} {other}: connections reset", len(found))
        return len(found)

    def _ends(self, flow: Any) -> set[Site | None]:
        return {self.by_address.get(flow.name[0]), self.by_address.get(flow.name[2])}

    # Packets: the wire's methods, which kernels call.

    def has_route(self, address: str) -> bool:
        """Return whether a host has, or had, `address`."""
        return address in self.by_address

    def packet_max(self, source: str, destination: str) -> int:
        """Return a segment's bytes for a link that loses packets: each has its own chance there."""
        link = self._link(self.by_address[source], self.by_address[destination])
        return WIRE_MSS if link.loss else PACKET_MAX

    def opened(self, flow: Flow) -> None:
        """Take note of a connection, for reset()."""
        self._flows[flow] = None

    def closed(self, flow: Flow) -> None:
        """Forget a connection."""
        self._flows.pop(flow, None)

    def send(self, packet: Packet) -> None:
        """Draw what happens to a packet, and when it arrives."""
        source = self.by_address.get(packet.source)
        target = self.by_address.get(packet.destination)
        if source is None or target is None or source.net is not packet.net:
            # A host without power sends nothing.
            return
        if source.paused:
            self._count(f"pause of {source.name}: packets held")
            source.held.append(lambda: self.send(packet))
            return
        link = source.links.get(target.name) or self._link(source, target)
        sent_ns = self.clock.now_ns
        if link.cuts:
            for partition in self._partitions:
                if link in partition.links:
                    self._count(partition.name)
            self._lost(link, packet, sent_ns)
            return
        if link.loss and self.tape.chance(link.loss_label, link.loss):
            self._count(f"{link.name} loss: packets lost")
            self._lost(link, packet, sent_ns)
            return
        datagram = packet.flow is None
        self._put(link, packet, sent_ns, datagram, "delivered")
        if datagram and link.duplicate and self.tape.chance(link.duplicate_label, link.duplicate):
            self._count(f"{link.name} duplicate: datagrams sent twice")
            self._put(link, packet, sent_ns, datagram, "duplicated")

    def _put(self, link: Link, packet: Packet, sent_ns: int, datagram: bool, fate: str) -> None:
        """Let `packet` arrive after its latency, behind what occupies the link."""
        arrive_ns = sent_ns
        if link.bandwidth is not None:
            link.busy_ns = max(link.busy_ns, sent_ns) + round(
                packet.size * NSEC_PER_SEC / link.bandwidth
            )
            arrive_ns = link.busy_ns
        if link.high_ns > link.low_ns:
            arrive_ns += self.tape.between(link.delay_label, link.low_ns, link.high_ns)
        else:
            arrive_ns += link.low_ns
        if datagram:
            if link.reorder and self.tape.chance(link.reorder_label, link.reorder):
                self._count(f"{link.name} reorder: datagrams overtaken")
                arrive_ns += self.tape.between(link.delay_label, 0, OVERTAKEN_NS)
        else:
            flow = packet.flow
            assert flow is not None
            if arrive_ns <= flow.last_arrival_ns:
                arrive_ns = flow.last_arrival_ns + 1
            flow.last_arrival_ns = arrive_ns
        timer = HrTimer(lambda: self._arrive(link, packet, sent_ns, fate))
        self.clock.start(timer, arrive_ns)

    def _arrive(self, link: Link, packet: Packet, sent_ns: int, fate: str) -> None:
        target = link.target
        net = target.net
        if net is None:
            self._count(f"{target.name} down: packets lost")
            self._lost(link, packet, sent_ns)
            return
        if target.paused:
            self._count(f"pause of {target.name}: packets held")
            self._report(link, packet, sent_ns, None, "held")
            target.held.append(lambda: self._arrive(link, packet, sent_ns, fate))
            return
        self._report(link, packet, sent_ns, self.clock.now_ns, fate)
        packet.arrive(net, packet)

    def _lost(self, link: Link, packet: Packet, sent_ns: int) -> None:
        self._report(link, packet, sent_ns, None, "lost")

    def _report(
        self, link: Link, packet: Packet, sent_ns: int, arrive_ns: int | None, fate: str
    ) -> None:
        if self._observe is not None:
            self._observe(
                "packet",
                src=link.source.name,
                dst=link.target.name,
                protocol=packet.protocol,
                what=packet.kind,
                size=packet.size,
                sent_ns=sent_ns,
                arrive_ns=arrive_ns,
                fate=fate,
            )

    def _count(self, effect: str, number: int = 1) -> None:
        self.effects[effect] = self.effects.get(effect, 0) + number


def latency_to_ns(latency: Latency) -> tuple[int, int]:
    try:
        low, high = (latency, latency) if isinstance(latency, (int, float)) else latency
        low, high = float(low), float(high)
    except (TypeError, ValueError):
        raise ValueError(f"a latency is seconds, or (low, high) of them, not {latency!r}") from None
    if not 0 <= low <= high < float("inf"):
        raise ValueError(f"a latency is 0 <= low <= high seconds, not {latency}")
    return round(low * NSEC_PER_SEC), round(high * NSEC_PER_SEC)


def is_number(name: str) -> bool:
    """Return whether `name` is an address in figures, of either family."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
        except (OSError, ValueError):
            continue
        return True
    return False


def _gaierror(code: int) -> socket.gaierror:
    messages = {
        socket.EAI_AGAIN: "Temporary failure in name resolution",
        socket.EAI_NONAME: "Name or service not known",
    }
    return socket.gaierror(code, messages.get(code, "Name resolution failed"))
