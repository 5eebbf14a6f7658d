"""Accepting: one look at a listener takes its whole queue."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.preloads import built_preload

pytestmark = pytest.mark.subprocess

SOURCE = Path(__file__).with_name("aborted_accept.c")

PROGRAM = """
import asyncio, socket, sys
import aiopoll

backlog, clients, expected = map(int, sys.argv[2:])
turn = 0
accepted = []

class Noting(asyncio.Protocol):
    def connection_made(self, transport):
        accepted.append(turn)
        transport.close()

def count():
    global turn
    turn += 1
    asyncio.get_running_loop().call_soon(count)

async def main():
    loop = asyncio.get_running_loop()
    listener = socket.socket(socket.AF_UNIX)  # whose queue has a connection at once
    listener.bind("")
    listener.listen(backlog)
    peers = [socket.socket(socket.AF_UNIX) for _ in range(clients)]
    for peer in peers:
        peer.connect(listener.getsockname())
    count()
    server = await loop.create_unix_server(Noting, sock=listener, backlog=backlog)
    while len(accepted) < expected:
        await asyncio.sleep(0)
    server.close()
    for peer in peers:
        peer.close()

aiopoll.run(main(), backend=sys.argv[1])
print(len(set(accepted)))
"""


def turns(kind: str, *numbers: int, **environment: str) -> int:
    """In how many iterations of the loop the connections came."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, kind, *map(str, numbers)],
        env={**os.environ, **environment},
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture(scope="session")
def aborted_accept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library between a program and accept4(2)."""
    return built_preload(SOURCE, tmp_path_factory.mktemp("accept"))


@pytest.mark.parametrize("kind", ["aio", "epoll"])
@pytest.mark.parametrize("backlog", [0, 1, 5])
def test_a_whole_queue_is_accepted_at_once(kind: str, backlog: int) -> None:
    """It holds one connection more than its backlog; asyncio takes that one too from 3.14 on."""
    assert turns(kind, backlog, backlog + 1, backlog + 1) == 1


@pytest.mark.parametrize("kind", ["aio", "epoll"])
def test_an_aborted_connection_keeps_no_other_waiting(kind: str, aborted_accept: Path) -> None:
    """As in asyncio from 3.14 on; before, the others came with the next iteration."""
    preload = f"{os.environ.get('LD_PRELOAD', '')} {aborted_accept}".strip()
    assert turns(kind, 5, 4, 3, LD_PRELOAD=preload) == 1
