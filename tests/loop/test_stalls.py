"""Each kind of stall is reported while it lasts, with the line of the program that has it."""

import asyncio
import dataclasses
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.threads import HAS_GIL

import aiopoll
from aiopoll import StallKind

from . import stall_scenes as scenes
from .stall_scenes import LIMIT, Reports, line_of, run_blocked, watched

with_gil = pytest.mark.skipif(not HAS_GIL, reason="skips.toml: a GIL that is kept")


@pytest.mark.parametrize(
    ("block", "text", "kind", "call"),
    [
        pytest.param(scenes.compute, "while not seen", StallKind.PYTHON, None),
        (scenes.sleep, "time.sleep", StallKind.SYSTEM_CALL, "clock_nanosleep"),
        pytest.param(
            scenes.keep_gil, "usleep", StallKind.KEEPS_GIL, "clock_nanosleep", marks=with_gil
        ),
        pytest.param(scenes.compress, "zlib.compress", StallKind.C_CODE, None, marks=with_gil),
        (scenes.read_pipe, "os.read", StallKind.SYSTEM_CALL, "read"),
        (scenes.wait_for_lock, "with lock:\n        pass", StallKind.LOCK, "futex"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_stall_has_its_line_and_kind(
    block: Callable[[Reports], None],
    text: str,
    kind: StallKind,
    call: str | None,
    loop_options: dict[str, Any],
) -> None:
    for _ in range(10):
        stall = run_blocked(block, loop_options)
        # A call that has just ended when it is looked at waits for the GIL, as code of Python does.
        if stall.kind is kind or block is not scenes.compress:
            break
    assert (stall.kind, stall.system_call) == (kind, call), str(stall)
    if block is scenes.compute:  # any line below, too, is of code that it calls
        assert block.__name__ in [frame.name for frame in stall.stack]
    elif block is scenes.wait_for_lock:
        assert stall.place.line == "with lock:"
        assert "done.wait(" in stall.threads
    else:
        assert (stall.place.filename, stall.place.lineno) == line_of(block, text)
    assert stall.task == "the task"
    assert stall.coroutine is not None
    assert stall.coroutine.endswith("run_blocked.<locals>.main")
    assert stall.callback == "main"
    assert stall.made is not None
    assert stall.made[::2] == (scenes.__file__, "run_blocked")
    assert stall.duration >= LIMIT
    assert stall.count == 1


def test_the_descriptor_of_a_call_is_named() -> None:
    stall = run_blocked(scenes.read_pipe, {})
    assert stall.file.startswith("pipe:[")
    assert f"it waits in read, outside the GIL, of {stall.file}" in str(stall)


@with_gil
@pytest.mark.parametrize("sleeps", [False, True], ids=["in a callback", "asleep"])
def test_a_thread_that_keeps_the_gil_stalls_the_loop(sleeps: bool) -> None:
    """The loop may go on before the GIL was had for a look at it; it is stuck again and again."""
    seen = Reports(StallKind.WAITS_FOR_GIL)
    keeper = threading.Thread(target=scenes.keep_gil, args=(seen,))

    async def main() -> None:
        keeper.start()
        while not seen:
            if sleeps:
                await asyncio.sleep(0.01)
            else:
                os.getppid()

    aiopoll.run(main(), watch_stalls=LIMIT, on_stall=seen)
    keeper.join()
    found = [stall for stall in seen.stalls if stall.kind is StallKind.WAITS_FOR_GIL]
    assert found
    assert "another thread keeps" in str(found[0])


def test_a_poll_phase_that_blocks_is_reported(loop_options: dict[str, Any]) -> None:
    seen = Reports()

    with watched(watch_stalls=LIMIT, on_stall=seen, **loop_options) as loop:
        clock = loop.time

        def slow_clock() -> float:
            if asyncio.current_task(loop) is None:
                scenes.sleep(seen)  # the loop asks how long to sleep
            return clock()

        async def main() -> None:
            loop.time = slow_clock  # type: ignore[method-assign]
            await asyncio.sleep(0.001)

        loop.run_until_complete(main())
        del loop.time
    assert seen.first().kind is StallKind.POLL
    assert seen.first().between_callbacks
    assert seen.first().place.line == "time.sleep(0.5)"
    assert "between two callbacks" in str(seen.first())


def test_a_callback_is_named() -> None:
    seen = Reports()

    def handle(loop: asyncio.AbstractEventLoop) -> None:
        scenes.sleep(seen)
        loop.stop()

    with watched(watch_stalls=LIMIT, on_stall=seen) as loop:
        loop.call_soon(handle, loop)
        loop.run_forever()
    assert seen.first().task is None
    assert seen.first().callback == "handle"
    assert "by the callback handle" in str(seen.first())


def test_a_callback_in_c_is_reported() -> None:
    seen = Reports()

    with watched(watch_stalls=LIMIT, on_stall=seen) as loop:
        loop.call_soon(time.sleep, 1.5)
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert seen.first().callback is None
    assert not seen.first().between_callbacks
    assert seen.first().stack == ()
    assert seen.first().kind is StallKind.SYSTEM_CALL
    assert "by a callback in C" in str(seen.first())


def test_a_record_is_frozen() -> None:
    stall = run_blocked(scenes.sleep, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        stall.count = 2  # type: ignore[misc]


def test_the_program_line_is_the_place() -> None:
    """Below it the standard library may be deep: the stack has it, the place is the program's."""
    seen = Reports()

    async def main() -> None:
        waited = threading.Event()
        seen.then = waited.set
        waited.wait(60)

    aiopoll.run(main(), watch_stalls=LIMIT, on_stall=seen)
    assert seen.first().place.line == "waited.wait(60)"
    assert seen.first().stack[-1].filename == threading.__file__
    assert seen.first().kind is StallKind.LOCK
