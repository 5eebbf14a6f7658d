"""A store of three replicas: each put and each get needs two of them.

A replica appends what it is given to a log, and replies once the log is on its disk. A put asks for
the newest version and writes the next one; a get returns the newest value. This is the register of
Attiya, Bar-Noy and Dolev (1995), and the program of docs/tutorial/find-a-bug.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import Any

REPLICAS = ("n0", "n1", "n2")
MAJORITY = 2
PORT = 7000
NOTHING: list[Any] = [0, "", None]


def sync_name(path: str) -> None:
    """Wait until the name of a file is on the disk: it is data of the folder."""
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


class Replica:
    """One copy. An entry is [number, client, value]: the first two are its version."""

    def __init__(self, path: str) -> None:
        self.newest: dict[str, list[Any]] = {}
        self.log = open(path, "a+b")  # noqa: SIM115
        sync_name(path)
        self.log.seek(0)
        whole = 0
        for line in self.log:
            if not line.endswith(b"\n"):
                break  # a write that a crash has torn
            key, entry = json.loads(line)
            self.newest[key] = entry
            whole += len(line)
        self.log.truncate(whole)

    def write(self, key: str, entry: list[Any]) -> None:
        """Keep an entry that is newer than the one that is there."""
        if entry > self.newest.get(key, NOTHING):
            self.newest[key] = entry
            self.log.write(json.dumps([key, entry]).encode() + b"\n")
            self.log.flush()
            os.fsync(self.log.fileno())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reply to a client with the newest entry of the key that it names."""
        while line := await reader.readline():
            key, entry = json.loads(line)
            if entry is not None:
                self.write(key, entry)
            writer.write(json.dumps(self.newest.get(key, NOTHING)).encode() + b"\n")
        writer.close()

    async def run(self) -> None:
        """Serve until the end."""
        server = await asyncio.start_server(self.serve, "0.0.0.0", PORT)
        await server.serve_forever()


class Unavailable(Exception):
    """Fewer than two replicas replied."""


class Client:
    """A client of the store. Its name is part of the versions that it writes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0

    async def ask(self, replica: str, key: str, entry: list[Any] | None) -> Any:
        """Send one replica a request; returns its newest entry, None if there is no reply."""
        try:
            reader, writer = await asyncio.open_connection(replica, PORT)
            writer.write(json.dumps([key, entry]).encode() + b"\n")
            line = await reader.readline()
            writer.close()
            return json.loads(line)
        except (OSError, ValueError):
            return None

    async def majority(self, key: str, entry: list[Any] | None = None) -> Any:
        """Send all replicas a request; returns the newest entry of the two that are first."""
        replies: list[Any] = []
        asked = [self.ask(replica, key, entry) for replica in REPLICAS]
        with contextlib.suppress(TimeoutError):
            for reply in asyncio.as_completed(asked, timeout=5):
                if (found := await reply) is not None:
                    replies.append(found)
                if len(replies) == MAJORITY:
                    return max(replies)
        raise Unavailable(f"{len(replies)} of {len(REPLICAS)} replicas replied")

    async def put(self, key: str, value: str) -> None:
        """Set `key` to `value`. Unavailable: it may be set, now or later."""
        newest, _, _ = await self.majority(key)
        # Never a number twice: a put that failed may have reached one replica.
        self.number = max(self.number, newest) + 1
        await self.majority(key, [self.number, self.name, value])

    async def get(self, key: str) -> str | None:
        """Return the value of `key`, None if it has none. Unavailable."""
        entry = await self.majority(key)
        await self.majority(key, entry)
        return entry[2]  # type: ignore[no-any-return]
