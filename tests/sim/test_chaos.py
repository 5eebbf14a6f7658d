"""Plans of faults: what they draw, what they put right, and what they leave alone."""

import asyncio
from collections.abc import Callable

from aiopoll import sim
from aiopoll.sim import World

from .test_hosts import SEEDS, outcome_of, result_of, serve


def test_chaos_draws_faults_and_puts_them_right() -> None:
    async def program(world: World) -> dict[str, int]:
        for number in range(3):
            world.host(f"n{number}", serve)
        await world.sleep(120)
        return dict(world.effects)

    plan = sim.chaos(partitions=0.1, crashes=0.1, kills=0.1, pauses=0.1, clocks=0.1)
    effects = [result_of(program, seed, faults=plan) for seed in SEEDS]
    assert {name for each in effects for name in each} >= {"partition", "crash", "kill", "pause"}
    assert effects == [result_of(program, seed, faults=plan) for seed in SEEDS]


def test_a_plan_for_all_links_names_none_without_traffic() -> None:
    async def program(world: World) -> None:
        world.host("one", serve)
        world.host("two", serve)
        await world.sleep(2)

    plan = sim.chaos(loss=0.5, duplicate=0.5, reorder=0.5)
    assert outcome_of(program, faults=plan).effects == {}


def test_chaos_heals_no_partition_but_its_own() -> None:
    async def program(world: World) -> bool:
        for name in ("a", "b", "c"):
            world.host(name, serve)
        world.partition("a", "b")
        ours = world.partition("a", "c")
        await world.sleep(60)
        assert world.effects["partition"] > 1
        world.heal(ours)
        return all(link.cuts == 0 for link in ours.links)

    results = [
        outcome_of(program, seed, faults=sim.chaos(partitions=0.5, until=40)) for seed in SEEDS
    ]
    assert [outcome.error for outcome in results] == [None] * len(results)
    assert all(outcome.result for outcome in results)

    async def cut(world: World) -> int:
        for name in ("a", "b"):
            world.host(name, serve)
        ours = world.partition("a", "b")
        await world.sleep(60)
        return min(link.cuts for link in ours.links)

    cuts = [result_of(cut, seed, faults=sim.chaos(partitions=0.5, until=40)) for seed in SEEDS]
    assert cuts == [1] * len(cuts)


def test_chaos_resets_connections() -> None:
    async def program(world: World) -> int:
        world.host("api", serve)
        broken = 0
        for _ in range(40):
            await world.sleep(0.5)
            try:
                reader, writer = await asyncio.open_connection("api", 80)
                await world.sleep(2)
                writer.write(b"hello\n")
                await reader.readline()
            except ConnectionError:
                broken += 1
            finally:
                writer.close()
        return broken

    assert result_of(program) == 0
    assert result_of(program, faults=sim.chaos(resets=0.5)) > 5


def test_chaos_alone_does_not_hide_a_deadlock() -> None:
    async def program(world: World) -> None:
        world.host("idle", serve)
        await asyncio.get_running_loop().create_future()

    outcome = outcome_of(program, faults=sim.chaos(loss=0.1, until=None))
    assert isinstance(outcome.error, sim.Deadlock)


def test_buggify_fires_inside_of_a_world_alone() -> None:
    async def program(world: World) -> int:
        return sum(sim.buggify("slow disk") for _ in range(100))

    assert not sim.buggify("slow disk", 1.0)
    fired = [result_of(program, seed) for seed in range(40)]
    assert 0 in fired
    assert any(fired)


def test_each_fault_of_a_plan_lasts_for_a_while() -> None:
    async def program(world: World) -> list[float]:
        lasting: list[float] = []
        after, fail_name = world.after, world.network.fail_name

        def note_after(delay: float, function: Callable[[], object]) -> object:
            if delay != 1.0:  # the plan's own second
                lasting.append(delay)
            return after(delay, function)

        def note_failure(name: str, error: int = 0, until: float | None = None) -> None:
            assert until is not None
            lasting.append(until - world.now())
            fail_name(name, error, until)

        world.after = note_after  # type: ignore[method-assign, assignment]
        world.network.fail_name = note_failure  # type: ignore[method-assign]
        for number in range(3):
            world.host(f"n{number}", serve)
        await world.sleep(300)
        return lasting

    for rates in ({"names": 0.9}, {"pauses": 0.9}, {"partitions": 0.9}, {"kills": 0.9}):
        plan = sim.chaos(**rates)
        times = [time for seed in SEEDS for time in result_of(program, seed, faults=plan)]
        assert len(times) > 300, rates
        assert 0.099 < min(times) < 0.5, rates
        assert 9 < max(times) < 10.1, rates
