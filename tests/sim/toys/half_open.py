"""A subscriber reads ticks from a publisher, which loses power and starts again.

The bug: the subscriber reads without a time limit, and sends nothing. No packet ever shows it that
its connection is dead. The twin connects again when no tick came for a second.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .rpc import PORT

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = False


async def program(world: World, fixed: bool) -> None:
    epoch = 0
    seen: list[int] = [0]

    async def publisher() -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    writer.write(b"%d\n" % epoch)
                    await writer.drain()
                    await asyncio.sleep(0.1)
            except ConnectionError:
                writer.close()

        server = await asyncio.start_server(connected, "0.0.0.0", PORT)
        await server.serve_forever()

    async def subscriber() -> None:
        while True:
            try:
                async with asyncio.timeout(1):
                    reader, writer = await asyncio.open_connection("publisher", PORT)
                try:
                    while True:
                        async with asyncio.timeout(1 if fixed else None):
                            line = await reader.readline()
                        if not line:
                            raise ConnectionResetError
                        seen.append(int(line))
                finally:
                    writer.close()
            except (OSError, TimeoutError):
                await asyncio.sleep(0.1)

    host = world.host("publisher", publisher)
    await world.sleep(0.1)
    world.host("subscriber", subscriber)
    await world.sleep(0.3 + world.tape.between("until crash", 0, 300) / 1000)
    host.crash()
    epoch += 1
    await world.sleep(world.tape.between("until restart", 1, 500) / 1000)
    host.restart()
    await world.eventually("ticks come again", lambda: seen[-1] == epoch, within=30)
