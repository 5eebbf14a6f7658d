"""examples/kv.py as a server: its replies, its limits, and its data after kill -9.

AIOPOLL_KV_KILLS sets how often the server is killed under load; 5 times where it is not set.
"""

import asyncio
import os
import random
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.exceptions

from .children import NO_PRELOAD, Child, python
from .kv_servers import KV, Start, client_of, end, servers_in

pytestmark = pytest.mark.subprocess

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("AIOPOLL_KV_KILLS", "5"))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Start]:
    yield from servers_in(tmp_path)


def info(client: redis.Redis) -> dict[str, int]:
    lines = client.execute_command("INFO")
    return {str(name): int(value) for name, value in lines.items()}


def ask(port: int, data: bytes) -> bytes:
    """All replies of the server to `data` until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def send_until_full(connection: socket.socket, data: bytes) -> None:
    try:
        while True:
            connection.send(data)
    except BlockingIOError:
        pass


# Replies


@pytest.mark.parametrize("protocol", [2, 3])
def test_commands(serve: Start, protocol: int) -> None:
    child, port = serve()
    with client_of(port, protocol=protocol) as client:
        assert client.ping()
        assert client.echo("é") == "é".encode()
        assert client.get("key") is None
        assert client.set("key", b"\r\n\0value")
        assert client.get("key") == b"\r\n\0value"
        assert client.set("key", "other", nx=True) is None
        assert client.set("new", "other", xx=True) is None
        assert client.set("new", "", nx=True)
        assert client.set("new", "last", xx=True)
        assert client.exists("key", "new", "none", "key") == 3
        assert client.mget("new", "none", "key") == [b"last", None, b"\r\n\0value"]
        assert client.delete("key", "none", "key") == 1
        assert client.get("key") is None
        assert client.mset({"a": 1, "b": 2})
        assert client.incr("a") == 2
        assert client.incr("fresh") == 1
        assert client.decr("a", 5) == -3
        assert client.dbsize() == 4
        with pytest.raises(redis.exceptions.ResponseError, match="not an integer"):
            client.incr("new")
        client.set("large", 2**63 - 1)
        with pytest.raises(redis.exceptions.ResponseError, match="out of range"):
            client.incr("large")
        with pytest.raises(redis.exceptions.ResponseError, match="unknown command 'lpush'"):
            client.lpush("list", 1)
        with pytest.raises(redis.exceptions.ResponseError, match="wrong number of arg"):
            client.execute_command("GET")
        with pytest.raises(redis.exceptions.ResponseError, match="expiry"):
            client.set("key", 1, ex=10)
        assert client.flushall()
        assert client.dbsize() == 0
        assert client.get("a") is None
    end(child)


def test_replies_come_in_order_whatever_is_waited_for(serve: Start) -> None:
    child, port = serve("--cache-mib", "0")
    with client_of(port) as client:
        client.set("cold", 1)
        with client.pipeline(transaction=False) as pipeline:
            for number in range(500):
                pipeline.incr("cold").get("cold").set("key", number).get("key").ping()
                pipeline.delete("key").get("key").exists("key", "cold").mget("cold", "key")
            replies = pipeline.execute()
    for number in range(500):
        value = number + 2
        cold = b"%d" % value
        expected = [value, cold, True, b"%d" % number, True, 1, None, 1, [cold, None]]
        assert replies[9 * number : 9 * number + 9] == expected
    end(child)


@pytest.mark.parametrize("cache_mib", [0, 1])
def test_any_pipelines_reply_as_a_dict_would(serve: Start, cache_mib: int) -> None:
    """Several changes of a key in a batch, compaction, cold reads and restarts among them."""
    choices = random.Random(cache_mib)
    keys = [f"key {number}" for number in range(12)]
    model: dict[str, bytes] = {}
    compacted = 0

    def step(pipeline: Any) -> Any:
        """Adds a command and its expected reply."""
        key, other = choices.choice(keys), choices.choice(keys)
        what = choices.randrange(100)
        if what < 45:
            model[key] = value = choices.randbytes(1) * choices.choice([0, 1, 9, 4096, 40_000])
            pipeline.set(key, value)
            return True
        if what < 60:
            pipeline.get(key)
            return model.get(key)
        if what < 70:
            pipeline.mget(key, other)
            return [model.get(key), model.get(other)]
        if what < 80:
            pipeline.delete(key, other)
            return sum(model.pop(name, None) is not None for name in {key, other})
        if what < 84:
            pipeline.dbsize()
            return len(model)
        if what < 98:
            pipeline.incr("counter")
            model["counter"] = b"%d" % (int(model.get("counter", b"0")) + 1)
            return int(model["counter"])
        pipeline.flushall()
        model.clear()
        return True

    for _ in range(3):
        child, port = serve("--cache-mib", str(cache_mib))
        with client_of(port) as client:
            for _ in range(10):
                with client.pipeline(transaction=False) as pipeline:
                    expected = [step(pipeline) for _ in range(100)]
                    assert pipeline.execute() == expected
                assert client.dbsize() == len(model)
            compacted += info(client)["compacted_segments"]
        end(child)
    assert compacted > 3


def test_inline_commands_half_closed_connections_and_quit(serve: Start) -> None:
    child, port = serve()
    assert ask(port, b"SET a  1\r\n\r\nGET a\nPING\r\n") == b"+OK\r\n$1\r\n1\r\n+PONG\r\n"
    assert ask(port, b"QUIT\r\nPING\r\n") == b"+OK\r\n"
    assert ask(port, b"*1\r\n$4\r\nPI") == b""
    assert ask(port, b"HELLO 4\r\nPING\r\n").startswith(b"-NOPROTO")
    assert ask(port, b"HELLO\r\nGET x\r\n").startswith(b"*8\r\n$5\r\nproto\r\n:2\r\n")
    assert ask(port, b"HELLO 3\r\n").startswith(b"%4\r\n$5\r\nproto\r\n:3\r\n")
    assert ask(port, b"HELLO 3\r\nMGET x a\r\n").endswith(b"*2\r\n_\r\n$1\r\n1\r\n")
    assert ask(port, b"HELLO 2 AUTH a b\r\n").startswith(b"-ERR")
    assert ask(port, b"CLIENT TRACKING ON\r\n").startswith(b"-ERR")
    end(child)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"*x\r\n", b"invalid multibulk length"),
        (b"*-2\r\n", b"invalid multibulk length"),
        (b"*99999999999\r\n", b"invalid multibulk length"),
        (b"*65537\r\n", b"invalid multibulk length"),
        (b"*1\r\n:1\r\n", b"expected '$', got ':'"),
        (b"*1\r\n$-1\r\n", b"invalid bulk length"),
        (b"*1\r\n$262145\r\n", b"invalid bulk length"),
        (b"*1\r\n$4\r\nPINGX\r\n", b"longer than was said"),
        (b"*2\r\n$200000\r\n" + bytes(200_000) + b"\r\n$200000\r\n", b"more than 262144 bytes"),
        (b"x" * 70_000, b"too big inline request"),
    ],
)
def test_protocol_error_is_reported_and_closes_connection(
    serve: Start, data: bytes, error: bytes
) -> None:
    child, port = serve()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        reply = connection.recv(1 << 16)
    assert reply.startswith(b"-ERR Protocol error: "), reply
    assert error in reply
    assert ask(port, b"PING\r\n") == b"+PONG\r\n"
    end(child)


def test_keys_that_are_too_long_are_refused(serve: Start) -> None:
    child, port = serve()
    with client_of(port) as client:
        with pytest.raises(redis.exceptions.ResponseError, match="65536"):
            client.set("k" * 65_537, 1)
        assert client.set("k" * 65_536, 1)
    end(child)


def test_a_client_that_does_not_read_is_not_read(serve: Start) -> None:
    child, port = serve()
    with client_of(port) as client:
        client.set("key", bytes(200_000))
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setblocking(False)
            send_until_full(connection, b"GET key\r\n" * 1000)
            assert client.ping()
            status = Path(f"/proc/{child.process.pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    assert int(resident.split()[1]) < 400_000  # KiB
    end(child)


@pytest.mark.parametrize("arguments", [[], ["-P", "16", "-r", "1000"]], ids=["plain", "pipeline"])
def test_redis_benchmark(serve: Start, arguments: list[str]) -> None:
    benchmark = shutil.which("redis-benchmark")
    if benchmark is None:
        pytest.skip("skips.toml: asyncpg and redis-py without their servers")
    child, port = serve()
    command = [benchmark, "-p", str(port), "-t", "ping,set,get,incr,mset", "-n", "1000", "--csv"]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **NO_PRELOAD},
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 7, done.stdout
    assert "WARNING" not in done.stdout + done.stderr
    end(child)


def test_redis_cli(serve: Start) -> None:
    cli = shutil.which("redis-cli")
    if cli is None:
        pytest.skip("skips.toml: asyncpg and redis-py without their servers")
    child, port = serve()

    def run(*words: str) -> str:
        command = [cli, "-p", str(port), *words]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, **NO_PRELOAD},
        ).stdout

    assert run("set", "a", "b") == "OK\n"
    assert run("get", "a") == "b\n"
    assert "segments:1" in run("info")
    end(child)


def test_the_commands_of_the_how_to(serve: Start) -> None:
    if shutil.which("redis-cli") is None or shutil.which("redis-benchmark") is None:
        pytest.skip("skips.toml: asyncpg and redis-py without their servers")
    page = (ROOT / "docs" / "how-to" / "durable-server.md").read_text(encoding="utf-8")
    blocks = [
        block
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        if not language
    ]
    first, *others = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert first[:2] == ["python", "examples/kv.py"]
    assert first[-2:] == ["--port", "6380"]
    child, port = serve(command=python(KV, *first[2:-1], "0"))
    outputs = []
    for words in others:
        done = subprocess.run(
            [word.replace("6380", str(port)) for word in words],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, **NO_PRELOAD},
        )
        outputs.append(done.stdout)
    assert outputs[:2] == ["OK\n", "hello\n"]
    for name in re.findall(r"`((?:cold|files|comm)\w+)`", page):
        assert f"{name}:" in outputs[-1]
    end(child)


# Durability


def test_sigterm_sends_replies_to_commands_read_and_ends(serve: Start) -> None:
    child, port = serve()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for number in range(5000):
            connection.sendall(b"SET key%d %d\r\n" % (number, number))
        replies = connection.recv(5)
        child.process.send_signal(signal.SIGTERM)
        try:
            while data := connection.recv(1 << 16):
                replies += data
        except ConnectionResetError:
            pass  # it was closed with commands in it that were not read
    assert child.finish() == 0, child.output
    child.check_quiet()
    count = len(replies) // 5
    assert replies == b"+OK\r\n" * count
    assert 0 < count <= 5000
    child, port = serve()
    with client_of(port) as client:
        assert client.dbsize() >= count
        assert client.get(f"key{count - 1}") == b"%d" % (count - 1)
    end(child)


def test_sigterm_ends_though_a_client_does_not_read(serve: Start) -> None:
    child, port = serve()
    with client_of(port) as client:
        client.set("key", bytes(200_000))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setblocking(False)
        send_until_full(connection, b"GET key\r\n" * 1000)
        end(child)


def test_values_are_read_from_the_log_without_blocking(serve: Start) -> None:
    child, port = serve()
    values = {f"key {number}": os.urandom(50_000) for number in range(100)}
    with client_of(port) as client:
        for key, value in values.items():
            assert client.set(key, value)
    end(child)
    child, port = serve("--cache-mib", "0")

    async def main() -> int:
        """How often another connection is served while all values are read."""
        pings = 0

        async def ping() -> None:
            nonlocal pings
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while True:
                    writer.write(b"PING\r\n")
                    await reader.readline()
                    pings += 1
            finally:
                writer.transport.abort()

        pinging = asyncio.create_task(ping())
        async with redis.asyncio.Redis(port=port) as client:
            for _ in range(3):
                keys = list(values)
                assert await asyncio.gather(*map(client.get, keys)) == list(values.values())
                assert await client.mget(keys) == list(values.values())
        pinging.cancel()
        await asyncio.wait([pinging])
        return pings

    assert asyncio.run(main()) > 10
    with client_of(port) as client:
        facts = info(client)
        assert facts["cold_reads"] == 600
        # O_DIRECT on the ring, but where the file system takes none.
        if "takes no O_DIRECT" not in child.output:
            assert facts["files_aio_reads"] + facts["files_thread_reads"] >= 600
            assert facts["files_inline_reads"] == 0
    end(child)


def test_one_log_write_carries_many_clients_records(serve: Start) -> None:
    child, port = serve()
    with client_of(port) as client, client.pipeline(transaction=False) as pipeline:
        for number in range(1000):
            pipeline.set(f"key {number}", number)
        assert pipeline.execute() == [True] * 1000
        assert info(client)["commits"] < 500
    end(child)


def test_a_log_that_grows_is_compacted(serve: Start) -> None:
    child, port = serve()
    kept = {f"kept {number}": os.urandom(2000) for number in range(100)}
    with client_of(port) as client:
        client.mset(kept)
        client.set("deleted", 1)
        client.delete("deleted")
        for number in range(200):
            client.mset({f"key {n}": b"%d" % number * 20_000 for n in range(4)})
        while (facts := info(client))["segments"] >= 10:
            time.sleep(0.01)  # compaction runs beside the clients
        assert facts["compacted_segments"] > 5
        assert client.mget(list(kept)) == list(kept.values())
    end(child)
    child, port = serve()
    with client_of(port) as client:
        assert client.mget(list(kept)) == list(kept.values())
        assert client.get("key 3") == b"199" * 20_000
        assert client.get("deleted") is None
        assert client.dbsize() == 104
    end(child)


def test_a_second_server_on_the_directory_is_refused(serve: Start, tmp_path: Path) -> None:
    child, _ = serve()
    command = python(KV, "--port", "0", "--directory", tmp_path / "kv")
    other = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert other.returncode == 1
    assert "another server uses it" in other.stderr
    end(child)


def test_a_log_that_has_lost_something_is_refused(serve: Start, tmp_path: Path) -> None:
    child, port = serve()
    with client_of(port) as client:
        for number in range(10):
            client.set("key", number)
    end(child)
    path = tmp_path / "kv" / "000001.log"
    with path.open("r+b") as file:
        file.seek(3 * 4096 + 20)
        file.write(b"\xff")
    command = python(KV, "--port", "0", "--directory", tmp_path / "kv")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "a batch is missing at 12288, before a whole one at 16384" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_that_cannot_be_written_ends_the_server(serve: Start) -> None:
    child, port = serve()
    with client_of(port, retry=None) as client:
        for number in range(10):
            client.set(f"key {number}", number)
        resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
        with pytest.raises(redis.exceptions.ResponseError, match=r"cannot be written.*too large"):
            client.set("key 0", "lost")
    assert child.finish() == 1
    assert "File too large" in child.lines[-1]
    child.check_quiet()
    child, port = serve()
    with client_of(port) as client:
        assert client.mget([f"key {n}" for n in range(10)]) == [b"%d" % n for n in range(10)]
    end(child)


def test_larger_segments_of_an_earlier_start_are_compacted(serve: Start) -> None:
    child, port = serve("--segment-mib", "8")
    value = os.urandom(2_000_000)
    with client_of(port) as client:
        client.set("large", value)
    end(child)
    child, port = serve()
    with client_of(port) as client:
        for number in range(400):
            client.set("key", b"%d" % (number % 10) * 200_000)
        assert info(client)["compacted_segments"] > 0
        assert client.get("large") == value
    end(child)


def test_server_without_o_direct_works(serve: Start) -> None:
    directory = Path("/dev/shm") / f"aiopoll-kv-{os.getpid()}"
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("skips.toml: files on tmpfs")
    try:
        for expected in (None, b"1"):
            child, port = serve("--cache-mib", "0", directory=directory)
            with client_of(port) as client:
                assert client.get("key") == expected
                client.set("key", 1)
                assert client.get("key") == b"1"
            end(child)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def write_until_it_is_gone(
    port: int, writer_number: int, acknowledged: dict[bytes, int], attempted: dict[bytes, int]
) -> None:
    """Counts values of its keys up, pipelined, and records the acknowledged ones."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return
    try:
        while True:
            keys = [b"w%d.%d" % (writer_number, number) for number in range(8)]
            for key in keys:
                attempted[key] = attempted.get(key, 0) + 1
                size = 10 + attempted[key] * 7919 % 3000
                value = b"%d " % attempted[key] + key + b"." * size
                writer.write(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n" % (len(key), key))
                writer.write(b"$%d\r\n%b\r\n" % (len(value), value))
            for key in keys:
                sent = attempted[key]
                if await reader.readexactly(5) != b"+OK\r\n":
                    raise AssertionError("a SET was refused")
                acknowledged[key] = sent
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.transport.abort()


def test_acknowledged_data_is_there_after_kill_9(serve: Start) -> None:
    """The server is killed at another moment each time, under load, and started again."""
    acknowledged: dict[bytes, int] = {}
    attempted: dict[bytes, int] = {}

    async def under_load(child: Child, port: int, delay_s: float) -> None:
        writers = [
            asyncio.create_task(write_until_it_is_gone(port, number, acknowledged, attempted))
            for number in range(16)
        ]
        goal = sum(acknowledged.values()) + 100
        while sum(acknowledged.values()) < goal:
            await asyncio.sleep(0.001)
        await asyncio.sleep(delay_s)
        child.process.send_signal(signal.SIGKILL)
        await asyncio.gather(*writers)

    checked = 0
    began = time.monotonic()
    for number in range(KILLS + 1):
        child, port = serve("--cache-mib", "1")
        with client_of(port) as client:
            keys = sorted(attempted)
            for key, value in zip(keys, client.mget(keys) if keys else [], strict=True):
                found = int(value.split()[0]) if value is not None else 0
                assert acknowledged.get(key, 0) <= found <= attempted[key], (number, key)
                assert value is None or value.split()[1].rstrip(b".") == key
                attempted[key] = acknowledged[key] = found
                checked += 1
        if number == KILLS:
            end(child)
            break
        asyncio.run(under_load(child, port, number * 37 % 100 / 1000))
        assert child.finish() == -signal.SIGKILL, child.output
        child.check_quiet()
    assert checked == KILLS * 128
    seconds = time.monotonic() - began
    print(
        f"{KILLS} kills, {sum(acknowledged.values())} acknowledged writes, {seconds:.0f} s",
        file=sys.stderr,
    )
