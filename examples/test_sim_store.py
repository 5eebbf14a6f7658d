"""Tests of sim_store.py in simulated worlds: `pytest examples/test_sim_store.py`."""

import asyncio
import contextlib

from sim_store import REPLICAS, Client, Replica, Unavailable

from aiopoll import sim


async def node(host: sim.Host) -> None:
    host.state.replica = Replica("log")
    await host.state.replica.run()


async def writes(world: sim.World, client: Client, count: int, pause: float) -> None:
    for number in range(count):
        await asyncio.sleep(pause)
        value = f"{client.name} {number}"
        put = client.put("x", value)
        with contextlib.suppress(Unavailable):
            await world.history.call(client.name, "put", "x", value, call=put)


async def reads(world: sim.World, client: Client, count: int, pause: float) -> None:
    for _ in range(count):
        await asyncio.sleep(pause)
        get = client.get("x")
        with contextlib.suppress(Unavailable):
            await world.history.call(client.name, "get", "x", call=get)


@sim.test(seeds=100, faults=sim.chaos(loss=0.1))
async def test_it_is_like_one_copy(world: sim.World) -> None:
    for name in REPLICAS:
        world.host(name, node)
    await world.sleep(1)
    ann, bob = Client("ann"), Client("bob")
    await asyncio.gather(writes(world, ann, 2, 0.01), reads(world, bob, 6, 0.001))
    world.linearizable()


@sim.test(seeds=100, faults=sim.chaos(loss=0.01, crashes=0.3, slow_fsync=0.2, until=15))
async def test_it_keeps_what_it_confirmed(world: sim.World) -> None:
    nodes = [world.host(name, node) for name in REPLICAS]
    await world.sleep(1)
    ann, bob = Client("ann"), Client("bob")
    await asyncio.gather(writes(world, ann, 8, 1), reads(world, bob, 12, 1))
    world.linearizable()

    await world.sleep(max(0, 26 - world.now()))
    assert all(node.running for node in nodes)
    await ann.put("x", "the end")
    await world.eventually(
        "the copies agree",
        lambda: all(node.state.replica.newest["x"][2] == "the end" for node in nodes),
        within=60,
    )
