"""Polls that were cancelled hold all slots for a while: the loop goes on, and loses nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.loops import CHILD_SECONDS_MAX
from tests.support.preloads import built_preload

pytestmark = pytest.mark.subprocess

PROGRAM = """
import asyncio
import aiopoll

served = 0

async def echo(reader, writer):
    global served
    while data := await reader.read(100):
        writer.write(data)
    writer.close()
    await writer.wait_closed()
    served += 1

async def talk(address, seconds, rounds):
    reader, writer = await asyncio.open_connection(*address)
    for number in range(rounds):
        writer.write(b"message %d" % number)
        assert await reader.readexactly(8 + len(str(number))) == b"message %d" % number
        await asyncio.sleep(seconds)
    writer.close()
    await writer.wait_closed()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for _ in range(20):
        await asyncio.gather(*(talk(address, number / 1e4, 10) for number in range(10)))
    server.close()
    while served < 200:
        await asyncio.sleep(0)
    print(asyncio.get_running_loop().statistics().cancelled > 20)

aiopoll.run(main(), backend="auto")
"""


@pytest.mark.parametrize("wait", ["ring", "both"])
def test_slots_of_cancelled_polls_come_back(wait: str, tmp_path: Path) -> None:
    library = built_preload(Path(__file__).with_name("late_cancellations.c"), tmp_path)
    preload = f"{os.environ.get('LD_PRELOAD', '')} {library}".strip()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS_MAX,
        env={
            **os.environ,
            "LD_PRELOAD": preload,
            "AIOPOLL_USER_RING": "0",
            "AIOPOLL_WAIT": wait,
        },
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
