"""No Linux file: what joins the networks of several kernels, as cables and switches do.

Facts: a Net that has a wire is a machine of its own, with addresses and ports of its own. What goes
to one of its own addresses is delivered by softirq; all else is a packet, which a wire may lose,
delay, send twice or let another overtake. A machine that was started again is another Net at the
same address, so whatever arrives looks at the Net that it met.

Rule: the wire decides the fate of each packet and calls `arrive` at the time of arrival, in
interrupt context. Packets of one flow, a direction of a connection, never overtake each other.
Left out: routers, fragments, time to live, neighbours that do not resolve (silence instead).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .socket import Net

# Ethernet, IPv4 and TCP with timestamps; with UDP.
TCP_HEADERS = 66
UDP_HEADERS = 42
# A segment's bytes, and those of a packet that segmentation offload would cut into 45.
WIRE_MSS = 1448
PACKET_MAX = 45 * WIRE_MSS


class Flow:
    """What sends packets that stay in order."""

    __slots__ = ("last_arrival_ns",)

    def __init__(self) -> None:
        self.last_arrival_ns: int = -1

    def abort(self) -> None:
        """End both directions of the connection with a reset, as a middlebox may."""


class Packet:
    """One packet. `net` sends it; `body` is for `arrive`, which gets the Net at `destination`."""

    __slots__ = (
        "arrive",
        "body",
        "destination",
        "flow",
        "kind",
        "net",
        "protocol",
        "size",
        "source",
    )

    def __init__(
        self,
        net: Net,
        source: str,
        destination: str,
        protocol: str,
        kind: str,
        size: int,
        arrive: Callable[[Net, Packet], None],
        body: Any = None,
        flow: Flow | None = None,
    ) -> None:
        self.net: Net = net
        self.source: str = source
        self.destination: str = destination
        self.protocol: str = protocol
        self.kind: str = kind
        self.size: int = size
        self.arrive: Callable[[Net, Packet], None] = arrive
        self.body: Any = body
        self.flow: Flow | None = flow


class Wire:
    """An interface with nothing at its other end. sim/links.py has one with hosts."""

    def has_route(self, address: str) -> bool:
        """Return whether there is, or was, a machine at `address`."""
        return False

    def packet_max(self, source: str, destination: str) -> int:
        """Return how many bytes of a stream a packet may have."""
        return PACKET_MAX

    def send(self, packet: Packet) -> None:
        """Take a packet; it arrives, or it is lost."""

    def opened(self, flow: Flow) -> None:
        """Take note of a new connection, so that it can be aborted."""

    def closed(self, flow: Flow) -> None:
        """Forget a connection."""
