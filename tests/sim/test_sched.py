"""The world's scheduler: steps without a stack, steps that block, and the end of a run."""

import asyncio
import gc
import threading
import time
import warnings

import pytest

from aiopoll.kernel.sched import TASK_INTERRUPTIBLE
from aiopoll.kernel.wait import schedule_hrtimeout
from aiopoll.sim import Deadlock, Livelock, World, run
from aiopoll.sim.failure import failure_of
from aiopoll.sim.run import Outcome, run_once
from aiopoll.sim.tape import Plain, Tape, replay_of, tape_of


def outcome_of(program, seed: int = 1, **options) -> Outcome:
    return run_once(program, tape_of(seed), **options)


def block(world: World, seconds: float) -> None:
    """Sleep in a system call, as synchronous code does."""
    sched = world.sched
    until = sched.clock.now_ns + int(seconds * 1e9)
    while sched.clock.now_ns < until:
        sched.current.state = TASK_INTERRUPTIBLE
        schedule_hrtimeout(sched, until)


def test_a_sleep_of_an_hour_takes_an_hour_of_the_world() -> None:
    async def program(world: World) -> float:
        await world.sleep(3600)
        return world.now()

    assert outcome_of(program).result == 3600


@pytest.mark.parametrize("seed", range(8))
def test_hosts_that_block_do_not_hold_up_each_other(seed: int) -> None:
    async def program(world: World) -> list[tuple[str, float]]:
        log: list[tuple[str, float]] = []

        async def blocks(seconds: float) -> None:
            for _ in range(3):
                block(world, seconds)
                log.append((f"{seconds}", world.now()))

        world.host("a", blocks, 1.0)
        world.host("b", blocks, 0.7)
        await asyncio.sleep(2.2)
        block(world, 10)
        return log

    outcome = outcome_of(program, seed)
    assert outcome.error is None
    assert outcome.result == [
        ("0.7", 0.7),
        ("1.0", 1.0),
        ("0.7", 1.4),
        ("1.0", 2.0),
        ("0.7", 2.1),
        ("1.0", 3.0),
    ]


def test_threads_run_in_the_world_and_are_gone_after_it() -> None:
    async def program(world: World) -> list[int]:
        return await asyncio.gather(*(asyncio.to_thread(pow, i, 2) for i in range(50)))

    before = threading.active_count()
    assert outcome_of(program).result == [i * i for i in range(50)]
    assert threading.active_count() == before


def test_waiting_for_nothing_is_a_deadlock_with_its_tasks() -> None:
    async def program(world: World) -> None:
        await asyncio.get_running_loop().create_future()

    outcome = outcome_of(program)
    assert isinstance(outcome.error, Deadlock)
    heading, place = outcome.waiting
    assert heading == "test: main waits"
    assert place.endswith("in program: await asyncio.get_running_loop().create_future()")


def test_a_deadlock_of_a_program_names_what_waits() -> None:
    async def program() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock) as caught:
        run(program(), seed=1)
    assert "test_sched.py" in "".join(caught.value.__notes__)


def test_spinning_without_time_is_a_livelock(monkeypatch) -> None:
    monkeypatch.setattr("aiopoll.sim.sched.NO_PROGRESS_MAX", 1000)

    async def program(world: World) -> None:
        while True:
            await asyncio.sleep(0)

    assert isinstance(outcome_of(program).error, Livelock)


def test_the_time_limit_ends_a_run_that_goes_on() -> None:
    async def program(world: World) -> None:
        while True:
            await asyncio.sleep(1)

    outcome = outcome_of(program, time_limit=10)
    assert isinstance(outcome.error, TimeoutError)
    assert outcome.elapsed_ns == 10_000_000_000


def order_of(seed: int) -> tuple[list[int], Tape]:
    async def program(world: World) -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            await asyncio.sleep(1)
            order.append(number)

        await asyncio.gather(*(one(i) for i in range(5)))
        return order

    outcome = outcome_of(program, seed)
    assert outcome.error is None
    return outcome.result, outcome.tape


def test_seeds_differ_in_order_and_each_repeats_itself() -> None:
    orders = [order_of(seed)[0] for seed in range(60)]
    assert orders == [order_of(seed)[0] for seed in range(60)]
    assert len({tuple(order) for order in orders}) > 20


def test_a_tape_replays_its_run() -> None:
    async def program(world: World) -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            for _ in range(4):
                await asyncio.sleep(1)
                order.append(number)

        await asyncio.gather(*(one(i) for i in range(5)))
        return order

    for seed in range(12):
        first = outcome_of(program, seed)
        again = run_once(program, replay_of(first.deviations, seed=seed))
        assert again.result == first.result
        assert again.deviations == first.deviations


def test_the_plain_tape_is_the_order_of_asyncio() -> None:
    async def program(world: World) -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            await asyncio.sleep(1)
            order.append(number)

        await asyncio.gather(*(one(i) for i in range(5)))
        return order

    outcome = run_once(program, Tape(Plain()))
    assert outcome.result == [0, 1, 2, 3, 4]
    assert outcome.deviations == []


def test_callbacks_keep_their_order_in_every_seed() -> None:
    async def program(world: World) -> list[int]:
        order: list[int] = []
        loop = asyncio.get_running_loop()
        others = [loop.create_task(asyncio.sleep(0)) for _ in range(5)]
        for number in range(10):
            loop.call_soon(order.append, number)
            others.append(loop.create_task(asyncio.sleep(0)))
        await asyncio.gather(*others)
        return order

    for seed in range(100):
        assert outcome_of(program, seed).result == list(range(10))


@pytest.mark.parametrize("seed", range(12))
def test_a_callback_that_repeats_starves_no_task(seed: int) -> None:
    """anyio delivers a cancellation so: by asking again until the task has ended."""

    async def program(world: World) -> None:
        async def waits() -> None:
            await asyncio.sleep(0)

        # What PCT has to change, it has changed after these.
        await asyncio.gather(*(waits() for _ in range(20)))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(waits())

            def again() -> None:
                if not task.done():
                    asyncio.get_running_loop().call_soon(again)

            again()

    outcome = run_once(program, tape_of(seed, "pct"))
    assert outcome.error is None
    assert outcome.steps < 10_000


def test_connections_in_use_at_the_end_are_no_leak() -> None:
    kept: list[asyncio.StreamWriter] = []

    async def server() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            kept.append(writer)
            await reader.read()

        async with await asyncio.start_server(serve, "0.0.0.0", 80) as listener:
            await listener.serve_forever()

    async def program(world: World) -> None:
        world.host("server", server)
        await world.sleep(1)
        _, writer = await asyncio.open_connection("server", 80)
        await world.sleep(1)
        writer.close()

    outcome = run_once(program, tape_of(1))
    assert outcome.error is None
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        # What the collector would call, at a time of its own.
        for each in (kept[0], kept[0].transport):
            getattr(each, "__del__", lambda: None)()
    assert not seen


def test_a_call_that_a_crash_cut_off_is_not_logged(caplog) -> None:
    kept: list[asyncio.Task[None]] = []

    async def server() -> None:
        async def blocks() -> None:
            time.sleep(60)

        kept.append(asyncio.create_task(blocks()))
        await asyncio.sleep(60)

    async def program(world: World) -> None:
        host = world.host("server", server)
        await world.sleep(1)
        host.crash()

    assert run_once(program, tape_of(1)).error is None
    assert kept.pop().done()
    gc.collect()
    assert not caplog.records


def test_an_error_of_the_program_is_the_outcome() -> None:
    async def program(world: World) -> None:
        raise ZeroDivisionError("planted")

    outcome = outcome_of(program)
    assert isinstance(outcome.error, ZeroDivisionError)
    assert failure_of(outcome.error).kind == "ZeroDivisionError"


def test_a_world_inside_of_a_world_is_refused() -> None:
    async def program(world: World) -> None:
        with pytest.raises(RuntimeError, match="one at a time"):
            World(Tape(Plain())).run(program, name="inner")

    assert outcome_of(program).error is None
