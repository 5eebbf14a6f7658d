"""Turnstiles send a datagram for each visitor, and a desk counts them.

The bug: a datagram that the network delivers twice counts twice. The twin knows the numbers.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True
PORT = 7400


class Desk(asyncio.DatagramProtocol):
    def __init__(self, fixed: bool) -> None:
        self.fixed = fixed
        self.visitors = 0
        self.known: set[tuple[str, int]] = set()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        gate, number = json.loads(data)
        if self.fixed and (gate, number) in self.known:
            return
        self.known.add((gate, number))
        self.visitors += 1


async def program(world: World, fixed: bool) -> None:
    counter = Desk(fixed)
    passed = 0

    async def desk() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: counter, local_addr=("0.0.0.0", PORT))
        await asyncio.sleep(3600)

    async def turnstile(name: str) -> None:
        nonlocal passed
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=("desk", PORT)
        )
        for number in range(10):
            passed += 1
            transport.sendto(json.dumps([name, number]).encode())
            await asyncio.sleep(0.05)

    world.host("desk", desk)
    await world.sleep(0.1)
    for name in ("north", "south"):
        world.host(name, turnstile, name)
        world.link(name, "desk", duplicate=0.02, loss=0.02)
    world.always("no more are counted than passed", lambda: counter.visitors <= passed)
    await world.sleep(2)
    assert counter.visitors <= 20, f"{counter.visitors} of 20 visitors were counted"
