"""A log of records, each with its length and its CRC, which is read again after a crash.

The bug: what is at the end is taken for a record, though a crash tore it or left zeros.
"""

from __future__ import annotations

import asyncio
import os
import struct
import zlib
from typing import TYPE_CHECKING

from .durable import sync

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = False
HEADER = struct.Struct("<II")


def pack(record: bytes) -> bytes:
    return HEADER.pack(len(record), zlib.crc32(record)) + record


def read_log(data: bytes, fixed: bool) -> tuple[list[bytes], int]:
    """Return the records and the length of what they fill."""
    records, at = [], 0
    while at + HEADER.size <= len(data):
        length, crc = HEADER.unpack_from(data, at)
        record = data[at + HEADER.size : at + HEADER.size + length]
        if fixed and (not length or len(record) < length or zlib.crc32(record) != crc):
            break
        records.append(record)
        at += HEADER.size + length
    return records, at


async def program(world: World, fixed: bool) -> None:
    written: list[bytes] = []
    synced = 0

    async def logger() -> None:
        nonlocal synced
        with open("/log", "a+b") as file:
            sync("/")
            file.seek(0)
            records, length = read_log(file.read(), fixed)
            assert records == written[: len(records)], f"read {records[-1]!r}, which none wrote"
            assert len(records) >= synced, f"{synced} records were on the disk: {len(records)} left"
            written[:] = records
            file.truncate(length)
            while True:
                record = b"%06d" % len(written) * (1 + len(written) % 200)
                file.write(pack(record))
                file.flush()
                written.append(record)
                await asyncio.sleep(0.005)
                if len(written) % 5 == 0:
                    count = len(written)
                    os.fsync(file.fileno())
                    synced = count

    host = world.host("logger", logger)
    for _ in range(5):
        await world.sleep(world.tape.between("until crash", 20, 120) / 1000)
        host.crash(torn=True)
        host.restart()
        await world.sleep(0.01)
        if host.error is not None:
            raise host.error
