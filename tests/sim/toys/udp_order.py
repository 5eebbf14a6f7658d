"""A thermometer sends what it reads by UDP, and a display shows it.

The bug: the display shows what arrived last. The twin shows what was sent last.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True
PORT = 7200


class Display(asyncio.DatagramProtocol):
    def __init__(self, fixed: bool) -> None:
        self.fixed = fixed
        self.shown: list[int] = [0]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        number = json.loads(data)["number"]
        if self.fixed and number < self.shown[-1]:
            return
        self.shown.append(number)


async def program(world: World, fixed: bool) -> None:
    screen = Display(fixed)

    async def display() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: screen, local_addr=("0.0.0.0", PORT))
        await asyncio.sleep(3600)

    async def thermometer() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=("display", PORT)
        )
        for number in range(1, 21):
            transport.sendto(json.dumps({"number": number, "celsius": 20.5}).encode())
            await asyncio.sleep(0.01)

    world.host("display", display)
    await world.sleep(0.1)
    world.host("thermometer", thermometer)
    world.link("thermometer", "display", latency=(0.001, 0.005), reorder=0.02)
    world.always(
        "the display does not go back",
        lambda: len(screen.shown) < 2 or screen.shown[-2] <= screen.shown[-1],
    )
    await world.sleep(1)
