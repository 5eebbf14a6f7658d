"""A function's result inside a world, for the tests of the names."""

import inspect
from collections.abc import Callable
from typing import Any

from aiopoll.sim import World
from aiopoll.sim.run import run_once
from aiopoll.sim.tape import tape_of


def inside(function: Callable[..., Any], seed: int = 1, **options: Any) -> Any:
    """Run a function, or a coroutine function, as the main program; returns or raises as it."""

    async def program(world: World) -> Any:
        result = function(*([world] if inspect.signature(function).parameters else []))
        return await result if inspect.isawaitable(result) else result

    outcome = run_once(program, tape_of(seed), name="main", **options)
    if outcome.error is not None:
        raise outcome.error
    return outcome.result
