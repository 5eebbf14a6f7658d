"""examples/kv.py in a world: power cuts under load lose no write that it has acknowledged."""

import asyncio
import contextlib
import functools
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiopoll.sim import Host, World
from aiopoll.sim.run import Outcome, run_once
from aiopoll.sim.tape import tape_of

pytest.importorskip("aiopoll.files")

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVER = str(EXAMPLES / "kv.py")
KEYS = 8
CRASHES = 2


@pytest.fixture(scope="module", autouse=True)
def examples_on_the_path():
    """The modules of the example are imported once, for all worlds."""
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


class Client:
    """Sets numbers that grow, and remembers which ones were acknowledged."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.key = f"key{number}"
        self.sent = 0
        self.acknowledged = 0

    async def command(self, reader: Any, writer: Any, *words: str) -> bytes:
        body = b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)
        writer.write(b"*%d\r\n%s" % (len(words), body))
        line: bytes = await reader.readline()
        if line[:1] == b"$" and line != b"$-1\r\n":
            line = (await reader.readexactly(int(line[1:]) + 2))[:-2]
        if not line:
            raise ConnectionResetError
        return line

    async def connect(self) -> tuple[Any, Any]:
        async with asyncio.timeout(1):
            return await asyncio.open_connection("kv", 6380)

    async def write(self) -> None:
        """Set one number after the other; begin again where the connection breaks."""
        while True:
            try:
                reader, writer = await self.connect()
            except (OSError, TimeoutError):
                await asyncio.sleep(0.2)
                continue
            with contextlib.closing(writer), contextlib.suppress(OSError, TimeoutError):
                while True:
                    self.sent += 1
                    async with asyncio.timeout(2):
                        reply = await self.command(reader, writer, "SET", self.key, str(self.sent))
                    assert reply == b"+OK\r\n", reply
                    self.acknowledged = self.sent
                    await asyncio.sleep(0.01)

    async def check(self) -> None:
        reader, writer = await self.connect()
        found = await self.command(reader, writer, "GET", self.key)
        writer.close()
        value = 0 if found == b"$-1\r\n" else int(found)
        what = f"{self.key}: {value} found, {self.acknowledged} acknowledged, {self.sent} sent"
        assert self.acknowledged <= value <= self.sent, what


def start(world: World) -> Host:
    options = ("--host", "0.0.0.0", "--directory", "/data", "--segment-mib", "1")
    return world.host("kv", SERVER, *options, may_fail=True)


async def survive(world: World, torn: bool = True) -> int:
    host = start(world)
    clients = [Client(world, number) for number in range(KEYS)]
    await up(world)
    for _ in range(CRASHES):
        writers = [asyncio.create_task(client.write()) for client in clients]
        await world.sleep(0.2 + world.tape.choose("time to the crash", 100) / 1000)
        host.crash(torn=torn)
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        await world.sleep(0.1)
        host.restart()
        await up(world)
        for client in clients:
            await client.check()
    return sum(client.acknowledged for client in clients)


async def up(world: World) -> None:
    """Wait until the server accepts, or has ended."""
    for _ in itertools.count():
        try:
            _, writer = await asyncio.open_connection("kv", 6380)
        except OSError:
            assert world.hosts["kv"].running, world.hosts["kv"].error
            await world.sleep(0.05)
        else:
            writer.close()
            return


def run(seed: int) -> Outcome:
    return run_once(survive, tape_of(seed), time_limit=600)


def check(seeds: range) -> None:
    for seed in seeds:
        outcome = run(seed)
        if outcome.error is not None:
            outcome.error.add_note(f"seed {seed}")
            raise outcome.error
        assert outcome.result > KEYS


def test_acknowledged_writes_survive_power_cuts() -> None:
    check(range(20))


@pytest.mark.soak
def test_many_power_cuts_lose_nothing(soak: Callable[[int], int]) -> None:
    """AIOPOLL_SOAK=50 tries the thousand seeds that the server is held to."""
    check(range(20, 20 + soak(20)))


def test_power_cuts_without_torn_writes_lose_nothing() -> None:
    async def program(world: World) -> int:
        return await survive(world, torn=False)

    for seed in range(5):
        outcome = run_once(program, tape_of(seed), time_limit=600)
        assert outcome.error is None, seed
        assert outcome.result > KEYS


def test_it_serves_from_its_disk() -> None:
    async def program(world: World) -> bytes:
        host = start(world)
        client = Client(world, 0)
        await up(world)
        reader, writer = await client.connect()
        assert await client.command(reader, writer, "SET", "a", "1") == b"+OK\r\n"
        assert await client.command(reader, writer, "INCR", "a") == b":2\r\n"
        assert await client.command(reader, writer, "GET", "a") == b"2"
        information = await client.command(reader, writer, "INFO")
        writer.close()
        assert host.disk is not None
        directory: Any = host.disk.root.root.entries["data"]
        assert sorted(directory.entries) == ["000001.log", "000002.log", "manifest"]
        return information

    outcome = run_once(program, tape_of(1), time_limit=600)
    assert outcome.error is None
    assert b"files_aio_writes" in outcome.result


@pytest.mark.parametrize("seed", range(3))
def test_redis_clients_use_it_unmodified(seed: int) -> None:
    redis = pytest.importorskip("redis")
    asynchronous = pytest.importorskip("redis.asyncio")

    async def program(world: World) -> list[Any]:
        start(world)
        await up(world)
        client = asynchronous.Redis(host="kv", port=6380)
        async with client:
            found = [await client.set("a", "1"), await client.incr("a"), await client.get("a")]
            async with client.pipeline(transaction=False) as pipeline:
                found += await pipeline.set("b", "x").get("b").delete("a").execute()

        def blocking() -> Any:
            with redis.Redis(host="kv", port=6380) as other:
                return other.get("b")

        return [*found, await asyncio.to_thread(blocking)]

    # The first run reads the versions of packages, which importlib.metadata then keeps.
    runs = [run_once(program, tape_of(seed), digest=True) for _ in range(3)]
    for outcome in runs:
        if outcome.error is not None:
            raise outcome.error
        assert outcome.result == [True, 2, b"2", True, b"x", 1, b"x"]
    assert runs[1].digest == runs[2].digest


def test_a_server_that_forgets_its_directory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It loses its segments or its manifest, and says so or has no keys."""
    import kv_log
    import kv_manifest

    for module in (kv_log, kv_manifest):
        monkeypatch.setattr(module, "sync_directory", lambda directory: None)
    assert any(isinstance(run(seed).error, AssertionError) for seed in range(20))


def test_without_its_fsync_writes_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    import kv_log

    commit = kv_log.Log._commit

    @functools.wraps(commit)
    async def careless(self: Any, batch: Any) -> None:
        """As it is, less the flush of the device."""

        class Careless:
            def __init__(self, file: Any) -> None:
                self.file = file

            def __getattr__(self, name: str) -> Any:
                return getattr(self.file, name)

            async def pwrite(self, data: Any, offset: int, *, dsync: bool = False) -> int:
                written: int = await self.file.pwrite(data, offset)
                return written

        for segment in self.segments:
            if not isinstance(segment.file, Careless):
                segment.file = Careless(segment.file)
        await commit(self, batch)

    monkeypatch.setattr(kv_log.Log, "_commit", careless)
    failed = next((seed for seed in range(50) if isinstance(run(seed).error, AssertionError)), None)
    assert failed is not None
