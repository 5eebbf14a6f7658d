"""Stand-ins and abstract classes: a check of an instance asks all subclasses, and ends."""

import abc
import asyncio
import collections.abc
import io

import pytest

from aiopoll.sim import World
from aiopoll.sim.run import run_once, searching
from aiopoll.sim.tape import tape_of


@pytest.mark.parametrize(
    "kind", [io.IOBase, io.RawIOBase, collections.abc.AsyncIterable, collections.abc.Awaitable]
)
def test_checks_end_after_a_world(kind: abc.ABCMeta) -> None:
    class Thing:
        pass

    async def program(world: World) -> None:
        import aiopoll  # noqa: F401  (its names get stand-ins)

        assert not isinstance(Thing(), kind)
        await asyncio.sleep(1)

    with searching():
        for seed in range(2):
            assert run_once(program, tape_of(seed)).error is None
            assert not isinstance(Thing(), kind)
            assert isinstance(io.BytesIO(), io.IOBase)
