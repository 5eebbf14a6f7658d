"""random, os.urandom, uuid and the order of sets inside a world."""

import asyncio
import os
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import uuid
from random import randint as bound_randint
from typing import Any

import pytest

from aiopoll.sim import World

from .inside_world import inside


def draws() -> list[Any]:
    drawn: list[Any] = [
        os.urandom(8),
        random.random(),
        bound_randint(0, 1 << 60),
        random.Random().random(),
        random.SystemRandom().random(),
        secrets.token_hex(),
        secrets.randbelow(1 << 60),
        uuid.uuid4(),
        uuid.uuid1(),
        next(tempfile._get_candidate_names()),
    ]
    for name in ("uuid6", "uuid7"):
        if hasattr(uuid, name):
            drawn.append(getattr(uuid, name)())
    return drawn


def test_a_seed_decides_every_draw() -> None:
    first = inside(draws, seed=7)
    assert inside(draws, seed=7) == first
    other = inside(draws, seed=8)
    assert [one for one, two in zip(first, other, strict=True) if one == two] == []


def test_each_host_and_each_start_has_its_own_draws() -> None:
    async def program(world: World) -> list[Any]:
        found: list[Any] = []

        async def node() -> None:
            found.append((os.urandom(4), random.random()))

        one = world.host("a", node)
        world.host("b", node)
        await asyncio.sleep(1)
        one.restart()
        await asyncio.sleep(1)
        return found

    found = inside(program)
    assert len(set(found)) == 3
    assert inside(program) == found


def test_a_seeded_generator_is_the_ordinary_one() -> None:
    def program() -> list[Any]:
        random.seed(5)
        return [random.random(), random.Random(5).random(), random.Random("x").random()]

    expected = [random.Random(5).random(), random.Random(5).random(), random.Random("x").random()]
    assert inside(program) == expected


def test_a_programs_seed_leaves_the_entropy_alone() -> None:
    def program() -> bytes:
        random.seed(5)
        random.random()
        return os.urandom(8)

    def other() -> bytes:
        random.seed(6)
        return os.urandom(8)

    assert inside(program) == inside(other)


def test_random_outside_is_as_it_was() -> None:
    random.seed(3)
    expected = [random.random() for _ in range(3)]
    random.seed(3)
    found = [random.random()]
    inside(draws)
    found += [random.random(), random.random()]
    assert found == expected


def test_the_process_is_the_hosts() -> None:
    def program() -> tuple[int, int, int]:
        return os.getpid(), os.getppid(), uuid.getnode()

    assert inside(program) == (1, 0, int.from_bytes(bytes((2, 0, 10, 0, 255, 254)), "big"))
    assert os.getpid() != 1


ORDERS = """if True:
    import asyncio, os, sys
    from tests.sim.inside_world import inside

    # Addresses differ from one process to another.
    kept = [bytearray(int(sys.argv[1]) * n) for n in range(500)]

    class Mine(asyncio.Protocol):
        pass

    async def program():
        things = [Mine() for _ in range(40)]
        for thing, number in zip(things, range(40)):
            thing.number = number
        loop = asyncio.get_running_loop()
        async def wait(n):
            await asyncio.sleep(0)
            return n
        order = [thing.number for thing in set(things)]
        order += [await one for one in asyncio.as_completed([wait(n) for n in range(40)])]
        done, _ = await asyncio.wait([asyncio.ensure_future(wait(n)) for n in range(40)])
        return order + [task.result() for task in done]

    print(inside(program))
"""


@pytest.mark.subprocess
def test_sets_have_one_order_in_each_process() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", ORDERS, str(size)], capture_output=True, text=True, check=True
        ).stdout
        for size in (1, 100, 333)
    }
    assert len(outputs) == 1
    assert outputs.pop().count(",") == 119


def test_threads_are_named_anew_in_each_run() -> None:
    def program() -> list[str]:
        return [threading.Thread(target=print).name for _ in range(2)]

    assert inside(program) == inside(program) == ["Thread-1 (print)", "Thread-2 (print)"]
