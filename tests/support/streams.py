"""aiopoll's streams over a transport to nowhere."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import aiopoll


def run(loop: asyncio.AbstractEventLoop, scenario: Coroutine[Any, Any, None]) -> None:
    """Runs it, and the tasks it has started, to the end."""

    async def main() -> None:
        await scenario
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    loop.run_until_complete(main())


class Link(asyncio.Transport):
    """A transport to nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


def streams_over(
    link: asyncio.Transport, loop: asyncio.AbstractEventLoop
) -> tuple[Any, aiopoll.StreamReader, aiopoll.StreamWriter]:
    reader = aiopoll.StreamReader(loop=loop)
    protocol = aiopoll.StreamReaderProtocol(reader, loop=loop)
    protocol.connection_made(link)
    return protocol, reader, aiopoll.StreamWriter(link, protocol, reader, loop)
