"""A backup takes over when it has not heard of the primary for 0.6 s.

The bug: the primary goes on where its packets are lost, but others reach it. The twin's primary
stops unless a heartbeat of the last 0.3 s was acknowledged.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True
PORT = 7300


class Peer(asyncio.DatagramProtocol):
    """Sends back what it gets, if it is to echo; knows the newest."""

    def __init__(self, echo: bool) -> None:
        self.echo = echo
        self.newest = 0.0
        self.heard = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.newest = max(self.newest, float(data))
        self.heard.set()
        if self.echo:
            self.transport.sendto(data, addr)


async def program(world: World, fixed: bool) -> None:
    leads = {"primary": False, "backup": False}

    async def primary() -> None:
        loop = asyncio.get_running_loop()
        transport, peer = await loop.create_datagram_endpoint(
            lambda: Peer(echo=False), remote_addr=("backup", PORT)
        )
        while True:
            transport.sendto(str(loop.time()).encode())
            await asyncio.sleep(0.05)
            leads["primary"] = not fixed or loop.time() < peer.newest + 0.3

    async def backup() -> None:
        loop = asyncio.get_running_loop()
        _, peer = await loop.create_datagram_endpoint(
            lambda: Peer(echo=True), local_addr=("0.0.0.0", PORT)
        )
        await peer.heard.wait()
        while not leads["backup"]:
            peer.heard.clear()
            try:
                async with asyncio.timeout(0.6):
                    await peer.heard.wait()
            except TimeoutError:
                if not peer.heard.is_set():
                    peer.echo, leads["backup"] = False, True
        await asyncio.sleep(3600)

    second = world.host("backup", backup)
    await world.sleep(0.1)
    first = world.host("primary", primary)
    world.link(first, second, latency=(0.001, 0.02))
    world.always("one leads", lambda: not (leads["primary"] and leads["backup"]))
    for _ in range(2):
        await world.sleep(0.5)
        if world.tape.chance("one-way partition", 0.2):
            world.partition([first], [second], oneway=True)
        await world.sleep(1.5)
        world.heal()
