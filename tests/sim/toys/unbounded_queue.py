"""A relay takes records from a source, and sends them on to a sink one by one.

The bug: the queue between the two has no limit, and a slow sink fills the memory. In the twin a
full queue stops the reading, and TCP stops the source.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .rpc import PORT, ask, serve

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = True
LIMIT = 8
COUNT = 40


async def program(world: World, fixed: bool) -> None:
    held = 0
    sent: list[str] = []

    async def sink() -> None:
        async def handle(question: dict[str, Any]) -> bool:
            sent.append(question["record"])
            return True

        await serve(handle)

    async def relay() -> None:
        nonlocal held
        queue: asyncio.Queue[bytes] = asyncio.Queue(LIMIT if fixed else 0)

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal held
            while line := await reader.readline():
                await queue.put(line)
                held = max(held, queue.qsize())
            writer.close()

        async def ship() -> None:
            while True:
                await ask("sink", record=(await queue.get()).decode())

        server = await asyncio.start_server(take, "0.0.0.0", PORT)
        async with asyncio.TaskGroup() as group:
            group.create_task(ship())
            group.create_task(server.serve_forever())

    async def source() -> None:
        _, writer = await asyncio.open_connection("relay", PORT)
        for number in range(COUNT):
            writer.write(b"record %d\n" % number)
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.close()

    world.host("sink", sink)
    world.host("relay", relay)
    way = world.tape.between("way to the sink in ms", 1, 15) / 1000
    world.link("relay", "sink", latency=(way, way + 0.001))
    await world.sleep(0.1)
    world.always("the relay holds few records", lambda: held <= LIMIT)
    world.host("source", source)
    await world.eventually("all are sent", lambda: len(sent) == COUNT, within=60)
