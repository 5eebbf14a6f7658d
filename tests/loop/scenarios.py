"""What the scenarios of test_loop_differential.py have in common: their table, their protocols."""

import asyncio
import re
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

Scenario = Callable[[Any, "Place"], Coroutine[Any, Any, Any]]


class Place:
    """Where a scenario may work: a directory, and both ends' TLS."""

    def __init__(self, path: Path, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        self.path, self.server, self.client = path, server, client


SCENARIOS: dict[Scenario, set[str]] = {}


def calls(*names: str) -> Callable[[Scenario], Scenario]:
    """Records the names of the table that a scenario calls."""

    def note(scenario: Scenario) -> Scenario:
        SCENARIOS.setdefault(scenario, set()).update(names)
        return scenario

    return note


def outcome(error: BaseException) -> tuple[str, str]:
    # The class is not compared: each loop has its own transports.
    return type(error).__name__, re.sub(r"<[\w.]+ object at 0x[0-9a-f]+>", "<object>", str(error))


async def attempt(awaitable: Any) -> Any:
    """The result, or the exception's type and text."""
    try:
        return await awaitable
    except Exception as error:
        return outcome(error)


class Recorder(asyncio.Protocol):
    """Records its callbacks."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.data = b""
        self.lost = asyncio.get_running_loop().create_future()
        self.transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.told.append("eof")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.told.append(("lost", exc and outcome(exc)))
        self.lost.set_result(None)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.came.put_nowait(data)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def refused(call: Callable[..., Any], *arguments: Any) -> Any:
    return await call(*arguments)
