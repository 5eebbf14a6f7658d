"""Questions and replies, each a line of JSON on a connection: what the toys' services speak."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

PORT = 7000


async def ask(host: str, **question: Any) -> Any:
    """Ask a service on a connection of its own. OSError if it cannot be reached or hangs up."""
    reader, writer = await asyncio.open_connection(host, PORT)
    try:
        writer.write(json.dumps(question).encode() + b"\n")
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("closed before the reply")
        return json.loads(line)
    finally:
        writer.close()


async def serve(handle: Callable[[dict[str, Any]], Awaitable[Any]]) -> None:
    """Reply to questions on PORT for ever."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                reply = await handle(json.loads(line))
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "0.0.0.0", PORT)
    await server.serve_forever()
