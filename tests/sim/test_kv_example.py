"""The key-value example, unmodified, on hosts whose power is cut: what it acknowledged is there."""

import argparse
import asyncio
import contextlib
import itertools
import os
import sys
from pathlib import Path

import pytest

from aiopoll import sim

pytest.importorskip("aiopoll.files")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def kv(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import kv

    yield kv
    for name in [name for name in sys.modules if name.startswith("kv")]:
        del sys.modules[name]


def server(kv, **options):
    arguments = argparse.Namespace(
        directory=Path("/data"), host="0.0.0.0", port=6380, cache_mib=0, segment_mib=1
    )

    def main():
        import aiopoll

        # The server does not fsync the directory above its own.
        os.makedirs("/data", exist_ok=True)
        fd = os.open("/", os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        return aiopoll.run(kv.serve(arguments))

    return main


async def call(reader, writer, *words):
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    writer.write(b"".join(parts))
    line = await reader.readline()
    if not line:
        raise ConnectionResetError("the server is gone")
    if line[:1] == b"$" and line != b"$-1\r\n":
        return (await reader.readexactly(int(line[1:]) + 2))[:-2]
    return line.strip()


@contextlib.asynccontextmanager
async def connected():
    for _ in range(200):
        try:
            reader, writer = await asyncio.open_connection("kv", 6380)
            break
        except OSError:
            await asyncio.sleep(0.05)
    else:
        raise AssertionError("it does not start")
    try:
        yield reader, writer
    finally:
        writer.close()


def test_it_serves(kv):
    @sim.test(seeds=2)
    async def program(world):
        host = world.host("kv", server(kv))
        async with connected() as streams:
            assert await call(*streams, b"SET", b"a", b"1") == b"+OK"
            assert await call(*streams, b"INCR", b"a") == b":2"
            assert await call(*streams, b"GET", b"a") == b"2"
            assert b"files_aio_writes" in await call(*streams, b"INFO")
        assert host.error is None
        assert sorted(host.disk.root.root.entries["data"].entries) == [
            "000001.log",
            "000002.log",
            "manifest",
        ]

    program()


@pytest.mark.parametrize("torn", [False, True])
def test_what_it_acknowledged_is_there_after_a_crash(kv, torn):
    assert len(crashes(kv, torn)) == 7


def test_a_server_that_forgets_its_directory_is_found(kv, monkeypatch):
    """It loses its segments or its manifest, and says so or has no keys."""
    for module in ("kv_log", "kv_manifest"):
        monkeypatch.setattr(sys.modules[module], "sync_directory", lambda directory: None)
    with pytest.raises((AssertionError, ValueError)):
        crashes(kv, torn=True)


def crashes(kv, torn):
    """Write, cut the power and look, some times by some seeds; returns the keys that were found."""
    checked = {}

    @sim.test(seeds=12)
    async def program(world):
        host = world.host("kv", server(kv), start=False)
        acknowledged = {}

        async def write():
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                async with connected() as streams:
                    for number in itertools.count():
                        key, value = b"k%d" % (number % 7), b"%d," % number * 300
                        assert await call(*streams, b"SET", key, value) == b"+OK"
                        acknowledged[key] = number

        host.start()
        async with connected():
            pass
        for _ in range(3):
            writing = asyncio.create_task(write())
            await world.sleep(0.02 + 0.01 * world.tape.choose("when", 10))
            host.crash(torn=torn)
            host.restart()
            writing.cancel()
            async with connected() as streams:
                for key, number in acknowledged.items():
                    found = await call(*streams, b"GET", key)
                    assert int(found.split(b",")[0]) >= number
            assert host.error is None
            checked.update(acknowledged)
            acknowledged.clear()

    program()
    return checked
