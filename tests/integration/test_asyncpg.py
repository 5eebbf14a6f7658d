"""asyncpg against a PostgreSQL of our own: pools, transactions, NOTIFY, COPY, cancelled queries."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from benchmarks.postgres import binary, new_database, server_command, unprivileged

from .children import NO_PRELOAD, start_on_free_port
from .conftest import Tls
from .harness import run_clean

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.skipif(
        not binary("initdb") or not binary("postgres"),
        reason="skips.toml: asyncpg and redis-py without their servers",
    ),
]


@dataclass(frozen=True)
class Postgres:
    port: int
    directory: Path


@pytest.fixture(scope="module")
def postgres(tls: Tls) -> Iterator[Postgres]:
    """A server with its data in a directory of its own, which is not pytest's: that is 0700."""
    directory = Path(tempfile.mkdtemp(prefix="aiopoll-"))
    try:
        for file in (tls.certificate, tls.key):
            shutil.copy(file, directory)
        (directory / tls.key.name).chmod(0o600)
        data = new_database(directory, **NO_PRELOAD)
        settings = {
            "ssl": "on",
            "ssl_cert_file": str(directory / tls.certificate.name),
            "ssl_key_file": str(directory / tls.key.name),
        }
        child, port = start_on_free_port(
            lambda port: server_command(data, port, **settings),
            "database system is ready to accept connections",
            env=NO_PRELOAD,
            cwd=directory,
            **unprivileged(),
        )
        try:
            yield Postgres(port, directory)
            assert child.finish(signal.SIGINT) == 0, child.output  # its fast shutdown
        finally:
            child.kill()
    finally:
        shutil.rmtree(directory)


@pytest.fixture(params=["tcp", "tls", "unix"])
def how(request: pytest.FixtureRequest, postgres: Postgres, tls: Tls) -> dict[str, Any]:
    """The options that connect."""
    options = {
        "tcp": {"host": "127.0.0.1", "ssl": False},
        "tls": {"host": "127.0.0.1", "ssl": tls.client},
        "unix": {"host": str(postgres.directory)},
    }[request.param]
    return {"port": postgres.port, "user": "aiopoll", "database": "postgres", **options}


def test_each_query_of_a_pool_gets_its_own_result(backend: str, how: dict[str, Any]) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(**how, min_size=1, max_size=5) as pool:
            secure = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
            assert await pool.fetchval(secure) == bool(how.get("ssl"))

            async def ask(number: int) -> None:
                async with pool.acquire() as connection:
                    assert await connection.fetchval("select $1::int * 2", number) == number * 2

            await asyncio.gather(*(ask(number) for number in range(200)))
            assert pool.get_size() == 5

    run_clean(main, backend)


def test_big_values_go_there_and_back(backend: str, how: dict[str, Any]) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(**how)
        value = bytes(range(256)) * 32_768
        assert await connection.fetchval("select $1::bytea", value) == value
        await connection.close()

    run_clean(main, backend)


def test_transactions_roll_back_to_where_they_began(backend: str, how: dict[str, Any]) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(**how)
        await connection.execute("create temporary table numbers (number int)")

        async def insert_and_fail(number: int) -> None:
            async with connection.transaction():
                await connection.execute("insert into numbers values ($1)", number)
                raise ZeroDivisionError("expected")

        async with connection.transaction():
            await connection.execute("insert into numbers values (1)")
            with pytest.raises(ZeroDivisionError):
                await insert_and_fail(2)
            await connection.execute("insert into numbers values (3)")
        with pytest.raises(ZeroDivisionError):
            await insert_and_fail(4)
        numbers = await connection.fetch("select number from numbers order by number")
        assert [row["number"] for row in numbers] == [1, 3]
        async with connection.transaction():
            cursor = connection.cursor("select * from generate_series(1, 10000)", prefetch=100)
            assert [row[0] async for row in cursor] == list(range(1, 10_001))
        await connection.close()

    run_clean(main, backend)


def test_listener_gets_every_notification_in_order(backend: str, how: dict[str, Any]) -> None:
    async def main() -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        listener, speaker = await asyncpg.connect(**how), await asyncpg.connect(**how)

        def note(_connection: object, _pid: int, _channel: str, payload: str) -> None:
            heard.put_nowait(payload)

        await listener.add_listener("news", note)
        for number in range(100):
            await speaker.execute("select pg_notify('news', $1)", str(number))
        assert [await heard.get() for _ in range(100)] == [str(number) for number in range(100)]
        await listener.remove_listener("news", note)
        await listener.close()
        await speaker.close()

    run_clean(main, backend)


def test_copy_streams_in_and_out(backend: str, how: dict[str, Any]) -> None:
    async def lines() -> AsyncIterator[bytes]:
        for number in range(20_000):
            yield f"{number}\t{'text ' * 20}\n".encode()

    async def main() -> None:
        connection = await asyncpg.connect(**how)
        await connection.execute("create temporary table copied (number int, words text)")
        assert await connection.copy_to_table("copied", source=lines()) == "COPY 20000"
        received = bytearray()

        async def sink(part: bytes) -> None:
            received.extend(part)

        await connection.copy_from_query("select * from copied order by number", output=sink)
        assert bytes(received) == b"".join([line async for line in lines()])
        await connection.copy_records_to_table("copied", records=[(-1, "one more")])
        assert await connection.fetchval("select count(*) from copied") == 20_001
        await connection.close()

    run_clean(main, backend)


def test_a_cancelled_query_ends_in_the_server_too(backend: str, how: dict[str, Any]) -> None:
    running = "select count(*) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'"

    async def main() -> None:
        connection, observer = await asyncpg.connect(**how), await asyncpg.connect(**how)
        pid = connection.get_server_pid()
        for _ in range(3):
            query = asyncio.create_task(connection.execute("select pg_sleep(1000)"))
            while not await observer.fetchval(running, pid):
                assert not query.done()
            query.cancel()
            with pytest.raises(asyncio.CancelledError):
                await query
            assert await connection.fetchval("select 1") == 1
            assert not await observer.fetchval(running, pid)
        with pytest.raises(TimeoutError):
            await connection.execute("select pg_sleep(1000)", timeout=0.05)
        assert await connection.fetchval("select 2") == 2
        await connection.close()
        await observer.close()

    run_clean(main, backend)


def test_pool_survives_connections_ended_by_the_server(backend: str, how: dict[str, Any]) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(**how, min_size=3, max_size=3) as pool:
            ended = asyncio.Event()
            async with pool.acquire() as victim:
                victim.add_termination_listener(lambda _: ended.set())
                query = asyncio.create_task(victim.execute("select pg_sleep(1000)"))
                async with pool.acquire() as killer:
                    pid = victim.get_server_pid()
                    assert await killer.fetchval("select pg_terminate_backend($1)", pid)
                with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                    await query
                await ended.wait()
            assert [await pool.fetchval("select $1::int", n) for n in range(10)] == list(range(10))

    run_clean(main, backend)
