"""Mistakes in calls of the simulator: each is refused at once, by a message that names it."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from aiopoll import sim
from aiopoll.sim import World
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import tape_of

Call = Callable[[World], Any]
NOT: Any = "x"

CALLS: dict[str, tuple[Call, type[Exception], str]] = {
    "no name": (lambda w: w.host("", main), ValueError, "a word"),
    "name of two words": (lambda w: w.host("a b", main), ValueError, "a word"),
    "no address": (lambda w: w.host("b", main, address="b"), ValueError, "in figures"),
    "taken address": (lambda w: w.host("b", main, address="10.0.0.2"), ValueError, "10.0.0.2"),
    "unknown": (lambda w: w.host("zz"), KeyError, "no host 'zz'; there are test, a"),
    "link": (lambda w: w.link("a", "zz"), KeyError, "no host 'zz'"),
    "crash": (lambda w: w.crash("zz"), KeyError, "no host 'zz'"),
    "latency": (lambda w: w.link("a", "test", latency=NOT), ValueError, "low, high"),
    "same side": (lambda w: w.partition("a", ["test", "a"]), ValueError, "a is on both sides"),
    "empty side": (lambda w: w.partition("a", []), ValueError, "each side"),
    "drift": (lambda w: w.clock("a", drift=math.nan), ValueError, "part of one"),
    "always": (lambda w: w.always("x", NOT), TypeError, "without parameters"),
    "buggify": (lambda w: w.buggify("x", 5), ValueError, "from 0 to 1"),
    "signal": (lambda w: w.hosts["a"].signal(999), ValueError, "999 is no signal"),
    "before now": (lambda w: w.after(-1, int), ValueError, "from now"),
    "at no time": (lambda w: w.after(math.nan, int), ValueError, "from now"),
}


async def main() -> None:
    return


@pytest.mark.parametrize(("call", "kind", "message"), CALLS.values(), ids=CALLS)
def test_a_mistake_is_refused(call: Call, kind: type[Exception], message: str) -> None:
    async def program(world: World) -> None:
        world.host("a", forever)
        with pytest.raises(kind, match=message):
            call(world)
        await world.sleep(1)

    async def forever() -> None:
        await sim.current_host().world.sleep(1e6)

    assert run_once(program, tape_of(1)).error is None


def test_a_mistake_in_a_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="latency"):
        sim.chaos(latency=-1)
    with pytest.raises(ValueError, match="until"):
        sim.chaos(until=-1)
    with pytest.raises(ValueError, match="time_limit"):
        sim.test(time_limit=-1)
    with pytest.raises(ValueError, match="seed"):
        sim.test(seeds=NOT)


def test_an_address_that_is_given_is_not_given_again() -> None:
    async def program(world: World) -> list[str]:
        world.host("a", main, address="10.0.0.3")
        return [world.host(name, main).address for name in ("b", "c")]

    assert run_once(program, tape_of(1)).result == ["10.0.0.4", "10.0.0.5"]
