"""Hosts: what they run, how they end, and what a crash, a pause and a clock do to them."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiopoll import sim
from aiopoll.sim import Host, HostState, NeverHeld, World
from aiopoll.sim.run import Outcome, run_once
from aiopoll.sim.tape import tape_of

SEEDS = range(6)


def result_of(program: Callable[[World], Any], seed: int = 1, **options: Any) -> Any:
    outcome = outcome_of(program, seed, **options)
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


def outcome_of(program: Callable[[World], Any], seed: int = 1, **options: Any) -> Outcome:
    return run_once(program, tape_of(seed), **options)


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def serve(host: Host) -> None:
    host.state.starts = host.starts
    async with await asyncio.start_server(upper, "0.0.0.0", 80) as server:
        await server.serve_forever()


async def ask(name: str) -> bytes:
    reader, writer = await asyncio.open_connection(name, 80)
    writer.write(b"hello\n")
    try:
        return await reader.readline()
    finally:
        writer.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_client_reaches_a_host_by_name_and_address(seed: int) -> None:
    async def program(world: World) -> tuple[bytes, bytes]:
        host = world.host("api", serve)
        await world.sleep(1)
        return await ask("api"), await ask(host.address)

    assert result_of(program, seed) == (b"HELLO\n", b"HELLO\n")


def test_each_host_has_its_own_ports_and_address() -> None:
    async def program(world: World) -> list[Any]:
        hosts = [world.host(f"n{number}", serve) for number in range(3)]
        await world.sleep(1)
        assert len({host.address for host in hosts}) == 3
        return [await ask(host.name) for host in hosts]

    assert result_of(program) == [b"HELLO\n"] * 3


def test_a_synchronous_main_runs_asyncio_itself() -> None:
    def main(host: Host) -> None:
        time.sleep(0.5)
        asyncio.run(serve(host))

    async def program(world: World) -> bytes:
        world.host("api", main)
        await world.sleep(1)
        return await ask("api")

    assert result_of(program) == b"HELLO\n"


def test_a_file_runs_as_main(tmp_path: Path) -> None:
    path = tmp_path / "server.py"
    path.write_text(
        "import asyncio\n"
        "async def one(reader, writer):\n"
        "    writer.write(await reader.readline())\n"
        "    writer.close()\n"
        "async def main():\n"
        "    async with await asyncio.start_server(one, '0.0.0.0', 80) as server:\n"
        "        await server.serve_forever()\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )

    async def program(world: World) -> bytes:
        world.host("api", str(path))
        await world.sleep(1)
        return await ask("api")

    assert result_of(program) == b"hello\n"


def test_hosts_have_arguments_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        "import sys, time, argparse\n"
        "time.sleep(1)\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--name')\n"
        "assert sys.argv[0].endswith('program.py')\n"
        "print(parser.parse_args().name, file=open('/name', 'w'))\n"
    )

    async def program(world: World) -> list[bytes]:
        hosts = [world.host(name, str(path), "--name", name.upper()) for name in ("a", "b")]
        await asyncio.gather(*(host.wait() for host in hosts))
        found = []
        for host in hosts:
            host.kernel.sync()
            found.append(host.disk.durable("/name"))
        return found

    before = sys.argv
    assert result_of(program) == [b"A\n", b"B\n"]
    assert sys.argv is before


def test_the_environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    async def program(world: World) -> None:
        os.environ["AIOPOLL_PLANTED"] = "1"

    result_of(program)
    assert "AIOPOLL_PLANTED" not in os.environ


def test_waiting_for_a_host_returns_its_result() -> None:
    async def main() -> str:
        await asyncio.sleep(3)
        return "done"

    async def program(world: World) -> tuple[str, float]:
        host = world.host("one", main)
        await world.sleep(1)
        host.crash()
        world.after(1, host.restart)
        result = await host.wait()
        assert await host.wait() == result
        failing = world.host("two", divides, may_fail=True)
        with pytest.raises(ZeroDivisionError):
            await failing.wait()
        return result, world.now()

    assert result_of(program) == ("done", 5.0)


def test_an_escape_in_a_handler_ends_the_run() -> None:
    async def escapes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        os.fork()

    async def main() -> None:
        async with await asyncio.start_server(escapes, "0.0.0.0", 80) as server:
            await server.serve_forever()

    async def program(world: World) -> None:
        world.host("api", main)
        await world.sleep(1)
        _, writer = await asyncio.open_connection("api", 80)
        await world.sleep(1)
        writer.close()

    assert isinstance(outcome_of(program).error, sim.Escaped)


def test_effects_of_disks_are_in_the_outcome() -> None:
    async def main() -> None:
        with contextlib.suppress(OSError), open("/x", "wb") as file:
            file.write(b"x")

    async def program(world: World) -> None:
        host = world.host("one", main, start=False)
        host.disk.faults(write_errors=1.0)
        host.start()
        await host.wait()

    assert any(name.startswith("one ") for name in outcome_of(program).effects)


def test_an_asgi_application_is_served() -> None:
    pytest.importorskip("uvicorn")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"from the app"})

    async def program(world: World) -> bytes:
        world.host("api", app)
        await world.sleep(1)
        reader, writer = await asyncio.open_connection("api", 80)
        writer.write(b"GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
        text = await reader.read()
        writer.close()
        return text

    assert result_of(program).endswith(b"from the app\r\n0\r\n\r\n")


def test_what_cannot_run_is_refused() -> None:
    async def program(world: World) -> None:
        world.host("api", 17)

    with pytest.raises(TypeError, match="cannot run 17"):
        result_of(program)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_crash_runs_no_finally_and_sends_no_fin(seed: int) -> None:
    ended: list[str] = []

    async def main() -> None:
        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:
                ended.append("finally")

        async with await asyncio.start_server(hold, "0.0.0.0", 80) as server:
            await server.serve_forever()

    async def program(world: World) -> None:
        host = world.host("api", main)
        await world.sleep(1)
        reader, writer = await asyncio.open_connection("api", 80)
        await world.sleep(1)
        host.crash()
        assert host.phase is HostState.CRASHED
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 3600)
        assert ended == []
        host.restart()
        await world.sleep(1)
        # The machine knows nothing of the connection any more: it resets it.
        writer.write(b"x")
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.read(1), 10)
        assert ended == []

    result_of(program, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_kill_closes_what_was_open(seed: int) -> None:
    async def program(world: World) -> bytes:
        host = world.host("api", serve)
        await world.sleep(1)
        reader, writer = await asyncio.open_connection("api", 80)
        await world.sleep(1)
        host.kill()
        try:
            return await asyncio.wait_for(reader.read(1), 10)
        finally:
            writer.close()

    assert result_of(program, seed) == b""


def test_a_restart_is_a_fresh_process() -> None:
    async def program(world: World) -> list[int]:
        host = world.host("api", serve)
        await world.sleep(1)
        first = host.state
        host.crash()
        await world.sleep(1)
        host.restart()
        await world.sleep(1)
        assert await ask("api") == b"HELLO\n"
        return [first.starts, host.state.starts]

    assert result_of(program) == [1, 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_paused_host_goes_on_where_it_was(seed: int) -> None:
    async def program(world: World) -> tuple[list[float], float]:
        ticks: list[float] = []

        async def tick() -> None:
            while True:
                await asyncio.sleep(1)
                ticks.append(world.now())

        host = world.host("clock", tick)
        await world.sleep(3.5)
        host.pause()
        await world.sleep(10)
        seen = len(ticks)
        host.resume()
        await world.sleep(0.01)
        assert seen == 3
        return ticks, world.now()

    ticks, now = result_of(program, seed)
    assert len(ticks) == 4
    assert 13.5 <= ticks[-1] <= now


def test_a_host_may_crash_itself() -> None:
    reached: list[str] = []

    async def main(host: Host) -> None:
        await asyncio.sleep(1)
        try:
            host.crash()
            reached.append("after the crash")
        finally:
            reached.append("finally")

    async def program(world: World) -> HostState:
        host = world.host("suicidal", main)
        await world.sleep(2)
        assert reached == []
        return host.phase

    assert result_of(program) is HostState.CRASHED


def test_a_program_that_ends_leaves_a_closed_port() -> None:
    async def main() -> str:
        await asyncio.start_server(upper, "0.0.0.0", 80)
        await asyncio.sleep(1)
        return "done"

    async def program(world: World) -> str:
        host = world.host("short", main)
        await world.sleep(2)
        assert host.phase is HostState.EXITED
        with pytest.raises(ConnectionRefusedError):
            await ask("short")
        result: str = host.result
        return result

    assert result_of(program) == "done"


async def divides() -> None:
    raise ZeroDivisionError("planted")


async def leaves(status: int) -> None:
    sys.exit(status)


def test_an_error_of_a_host_fails_the_run() -> None:
    async def program(world: World) -> None:
        world.host("one", divides)
        await world.sleep(1000)

    outcome = outcome_of(program)
    assert isinstance(outcome.error, ZeroDivisionError)
    assert "program of one" in outcome.error.__notes__[0]
    assert outcome.elapsed_ns == 0


@pytest.mark.parametrize("status", [0, 3])
def test_a_status_other_than_0_fails_the_run(status: int) -> None:
    async def program(world: World) -> None:
        world.host("one", leaves, status)
        await world.sleep(1)

    outcome = outcome_of(program)
    assert isinstance(outcome.error, SystemExit) == bool(status)


def test_the_error_of_a_host_that_may_fail_is_kept() -> None:
    async def program(world: World) -> tuple[Any, Any]:
        hosts = (
            world.host("one", divides, may_fail=True),
            world.host("two", leaves, 3, may_fail=True),
        )
        await world.sleep(1)
        return hosts[0].error, hosts[1].error

    errors = result_of(program)
    assert isinstance(errors[0], ZeroDivisionError)
    assert isinstance(errors[1], SystemExit)


def test_a_signal_reaches_the_handler_of_its_host() -> None:
    async def main(host: Host) -> str:
        got = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, got.set_result, "TERM")
        return await got

    async def program(world: World) -> Any:
        host = world.host("one", main)
        await world.sleep(1)
        host.signal(signal.SIGTERM)
        await world.sleep(1)
        return host.result

    assert result_of(program) == "TERM"


def test_a_signal_without_a_handler_ends_its_host() -> None:
    async def main() -> None:
        await asyncio.sleep(1000)

    async def program(world: World) -> Any:
        host = world.host("one", main)
        await world.sleep(1)
        host.signal(signal.SIGTERM)
        await world.sleep(1)
        return host.phase, str(host.error)

    assert result_of(program) == (HostState.EXITED, "killed by SIGTERM")


def test_a_clock_drifts_and_jumps_for_its_host_alone() -> None:
    async def main(host: Host) -> None:
        host.state.wall = []
        while True:
            await asyncio.sleep(10)
            host.state.wall.append((round(world_now(), 6), time.time(), time.monotonic()))

    def world_now() -> float:
        found = sim.inside.world()
        assert found is not None
        return found.now()

    async def program(world: World) -> list[Any]:
        host = world.host("one", main)
        host.clock(drift=0.01)
        await world.sleep(9.95)
        host.clock(jump=-100)
        await world.sleep(10)
        return [host.state.wall, time.time()]

    wall, now = result_of(program)
    boot = now - 19.95
    # At a hundredth faster, ten of its seconds are 9.90099 of the world's.
    assert wall[0][0] == pytest.approx(9.90099, abs=1e-5)
    assert wall[0][1] - boot == pytest.approx(10)
    assert wall[1][1] - boot == pytest.approx(20 - 100)
    assert wall[1][2] == pytest.approx(20)


def test_always_ends_the_run_at_the_step_that_breaks_it() -> None:
    async def program(world: World) -> None:
        values: list[int] = []
        world.always("at most three", lambda: len(values) <= 3)
        for number in range(10):
            await world.sleep(1)
            values.append(number)

    outcome = outcome_of(program)
    assert isinstance(outcome.error, NeverHeld)
    assert "at most three" in str(outcome.error)
    assert outcome.elapsed_ns == 4_000_000_000


def test_eventually_waits_no_longer_than_it_must() -> None:
    async def program(world: World) -> float:
        values: list[int] = []

        async def main() -> None:
            await asyncio.sleep(5)
            values.append(1)

        world.host("one", main)
        await world.eventually("a value", lambda: values, within=10)
        return world.now()

    assert result_of(program) == 5.0


def test_eventually_fails_at_its_limit() -> None:
    async def program(world: World) -> None:
        await world.eventually("the moon falls", lambda: False, within=10)

    with pytest.raises(NeverHeld, match="the moon falls"):
        result_of(program)


def test_an_error_in_a_condition_names_the_condition() -> None:
    async def program(world: World) -> None:
        world.always("a quotient", lambda: 1 / 0)
        await world.sleep(1)

    outcome = outcome_of(program)
    assert isinstance(outcome.error, ZeroDivisionError)
    assert "a quotient" in outcome.error.__notes__[0]


def test_names_and_hosts_are_checked() -> None:
    async def program(world: World) -> None:
        world.host("one", serve)
        with pytest.raises(ValueError, match="there is a host 'one'"):
            world.host("one", serve)
        with pytest.raises(KeyError):
            world.crash("two")
        with pytest.raises(RuntimeError, match="runs already"):
            world.hosts["one"].start()

    result_of(program)
