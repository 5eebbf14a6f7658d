"""redis-py's asyncio client against a Redis of our own."""

import asyncio
import contextlib
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import redis.exceptions

from .children import NO_PRELOAD, start_on_free_port
from .conftest import Tls
from .harness import run_clean

SERVER = shutil.which("redis-server")

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.skipif(not SERVER, reason="skips.toml: asyncpg and redis-py without their servers"),
]


@dataclass(frozen=True)
class Server:
    port: int
    tls_port: int
    socket: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tls: Tls) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("redis")
    settings = {
        "bind": "127.0.0.1",
        "dir": directory,
        "save": "",
        "unixsocket": directory / "s",
        "tls-cert-file": tls.certificate,
        "tls-key-file": tls.key,
        "tls-ca-cert-file": tls.authority,
        "tls-auth-clients": "no",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tls_port = listener.getsockname()[1]
    child, port = start_on_free_port(
        lambda port: [str(SERVER), "--port", str(port), "--tls-port", str(tls_port), *options],
        "eady to accept connections",
        env=NO_PRELOAD,
    )
    try:
        yield Server(port, tls_port, directory / "s")
        assert child.finish(signal.SIGTERM) == 0, child.output
    finally:
        child.kill()


@pytest.fixture(params=["tcp", "tls", "unix"])
def how(request: pytest.FixtureRequest, server: Server, tls: Tls) -> dict[str, Any]:
    """The options that connect."""
    secure = {"port": server.tls_port, "ssl": True, "ssl_ca_certs": str(tls.authority)}
    return {
        "tcp": {"host": "127.0.0.1", "port": server.port},
        "tls": {"host": "127.0.0.1", **secure},
        "unix": {"unix_socket_path": str(server.socket)},
    }[request.param]


@contextlib.asynccontextmanager
async def connected(how: dict[str, Any], **options: Any) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of an empty server."""
    async with redis.asyncio.Redis(**how, **options) as client:
        await client.flushall()
        yield client


def test_concurrent_commands_and_pipelines(backend: str, how: dict[str, Any]) -> None:
    async def main() -> None:
        async with connected(how) as client:

            async def set_and_get(number: int) -> None:
                await client.set(f"key {number}", number)
                assert await client.get(f"key {number}") == b"%d" % number

            await asyncio.gather(*(set_and_get(number) for number in range(20)))
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(2000):
                    pipeline.set(f"p{number}", number)
                    pipeline.get(f"p{number}")
                answers = await pipeline.execute()
            assert answers[1::2] == [b"%d" % number for number in range(2000)]
            big = bytes(range(256)) * 32_768
            await client.set("big", big)
            assert await client.get("big") == big

    run_clean(main, backend)


def test_transaction_sees_a_change_of_a_watched_key(backend: str, how: dict[str, Any]) -> None:
    async def main() -> None:
        async with connected(how) as client, client.pipeline() as pipeline:
            await pipeline.watch("watched")
            await client.set("watched", "changed")
            pipeline.multi()
            pipeline.set("watched", "too late")
            with pytest.raises(redis.exceptions.WatchError):
                await pipeline.execute()
            assert await client.get("watched") == b"changed"

    run_clean(main, backend)


def test_subscribers_get_every_message_in_order(backend: str, how: dict[str, Any]) -> None:
    async def main() -> None:
        async with connected(how) as client:
            subscribed = [asyncio.Event() for _ in range(5)]

            async def subscriber(number: int) -> list[bytes]:
                heard = []
                async with client.pubsub() as pubsub:
                    await pubsub.psubscribe("news.*")
                    async for message in pubsub.listen():
                        if message["type"] == "psubscribe":
                            subscribed[number].set()
                        elif message["data"] == b"end":
                            return heard
                        else:
                            heard.append(message["data"])
                raise AssertionError("the subscription ended")

            subscribers = [asyncio.create_task(subscriber(number)) for number in range(5)]
            for event in subscribed:
                await event.wait()
            for number in range(100):
                # The server may not have seen the end of an earlier test's subscribers.
                assert await client.publish(f"news.{number % 3}", number) >= 5
            await client.publish("news.last", "end")
            for heard in await asyncio.gather(*subscribers):
                assert heard == [b"%d" % number for number in range(100)]

    run_clean(main, backend)


def test_idle_subscriber_times_out_or_is_cancelled(backend: str, how: dict[str, Any]) -> None:
    async def main() -> None:
        async with connected(how) as client, client.pubsub() as pubsub:
            await pubsub.subscribe("silence")
            assert (await pubsub.get_message(timeout=60))["type"] == "subscribe"
            assert await pubsub.get_message(timeout=0.02) is None
            waiting = asyncio.create_task(pubsub.get_message(timeout=None))
            for _ in range(5):
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    run_clean(main, backend)


async def until_blocked(client: redis.asyncio.Redis, count: int) -> None:
    while (await client.info("clients"))["blocked_clients"] != count:
        pass


def test_blocking_pop_gets_a_pushed_value_or_times_out(backend: str, how: dict[str, Any]) -> None:
    async def main() -> None:
        async with connected(how) as client:
            assert await client.blpop(["empty"], timeout=0.02) is None
            pops = [asyncio.create_task(client.blpop(["queue"])) for _ in range(10)]
            await until_blocked(client, 10)
            await client.rpush("queue", *range(10))
            popped = [await pop for pop in pops]
            assert sorted(popped) == [(b"queue", b"%d" % number) for number in range(10)]

    run_clean(main, backend)


def test_a_cancelled_blocking_pop_takes_nothing(backend: str, how: dict[str, Any]) -> None:
    async def main() -> None:
        async with connected(how) as client:
            pop = asyncio.create_task(client.blpop(["queue"]))
            await until_blocked(client, 1)
            pop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pop
            await until_blocked(client, 0)  # the server has seen the end of the connection
            await client.rpush("queue", "there")
            assert await client.blpop(["queue"]) == (b"queue", b"there")

    run_clean(main, backend)


def test_a_client_recovers_from_a_connection_that_is_killed(
    backend: str, how: dict[str, Any]
) -> None:
    async def main() -> None:
        async with connected(how) as client, connected(how, retry=None) as victim:
            identity = await victim.client_id()
            pop = asyncio.create_task(victim.blpop(["queue"]))
            await until_blocked(client, 1)
            assert await client.client_kill_filter(_id=identity) == 1
            with pytest.raises(redis.exceptions.ConnectionError):
                await pop
            assert await victim.ping()

    run_clean(main, backend)
