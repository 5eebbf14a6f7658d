"""The watchdog over the lives of loops, threads and processes; and what is no stall."""

import asyncio
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from tests.support.children import call_in_child
from tests.support.loops import CHILD_SECONDS_MAX
from tests.support.threads import HAS_GIL, in_threads

import aiopoll

from .stall_scenes import LIMIT, Reports, compute, run_blocked, sleep, watched

ROOT = Path(__file__).parents[2]
QUIET = 0.5
"""A limit that no short callback reaches, on a busy machine either."""


def test_each_of_several_loops_has_its_own_reports() -> None:
    def one(number: int) -> list[str | None]:
        seen = Reports()

        async def main() -> None:
            asyncio.current_task().set_name(str(number))  # type: ignore[union-attr]
            (compute if number % 2 else sleep)(seen)

        aiopoll.run(main(), watch_stalls=LIMIT, on_stall=seen)
        return [stall.task for stall in seen.stalls]

    found = in_threads([lambda number=number: one(number) for number in range(4)])
    assert found == [["0"], ["1"], ["2"], ["3"]]


def threads_of_the_watchdog() -> int:
    names = [
        Path(f"/proc/self/task/{tid}/comm").read_text().strip()
        for tid in os.listdir("/proc/self/task")
    ]
    return names.count("aiopoll-stalls")


def test_one_thread_watches_all_loops() -> None:
    run_blocked(sleep, {})
    assert threads_of_the_watchdog() in (1, 2)  # Python 3.14 names the reporter, too
    before = threads_of_the_watchdog()
    for _ in range(3):
        run_blocked(sleep, {})
    assert threads_of_the_watchdog() == before


def test_a_forked_child_watches_its_own_loop(loop_options: dict[str, Any]) -> None:
    def in_child() -> tuple[str | None, int]:
        before = threads_of_the_watchdog()
        return run_blocked(sleep, loop_options).task, before

    async def main() -> None:
        assert call_in_child(forked) == "('the task', 0)"

    def forked() -> tuple[str | None, int]:
        asyncio._set_running_loop(None)
        return in_child()

    aiopoll.run(main(), watch_stalls=QUIET, on_stall=Reports(), **loop_options)


def test_a_child_leaves_its_parents_loop_alone() -> None:
    """It comes back from the loop that the parent runs, where the mutex may have been taken."""
    with watched(watch_stalls=0.01, on_stall=Reports()) as loop:

        def fork_and_stop() -> None:
            if pid := os.fork():
                assert os.waitpid(pid, 0)[1] == 0
                loop.stop()
            else:
                loop.stop()
                children.append(os.getpid())

        for _ in range(20):
            children: list[int] = []
            loop.call_soon(fork_and_stop)
            try:
                loop.run_forever()
            except RuntimeError:
                pass  # the child cannot run it
            finally:
                if children:
                    os._exit(0)


def test_a_closed_loop_is_not_looked_at() -> None:
    loops = []
    for number in range(20):
        loop = aiopoll.new_event_loop(watch_stalls=0.01, on_stall=Reports())
        loop.run_until_complete(asyncio.sleep(0.001 * (number % 3)))
        loop.close()
        loops.append(weakref.ref(loop))
        del loop
    gc.collect()
    assert [loop() for loop in loops] == [None] * 20
    time.sleep(0.05)  # its looks would be at memory that is gone


def test_a_watched_loop_goes_without_a_collection() -> None:
    gc.disable()
    try:
        with watched(watch_stalls=LIMIT) as loop:
            loop.run_until_complete(asyncio.sleep(0))
        gone = weakref.ref(loop)
        del loop
        assert gone() is None
    finally:
        gc.enable()


def test_an_interrupt_ends_a_stall_and_the_watch() -> None:
    seen = Reports()
    seen.then = lambda: os.kill(os.getpid(), signal.SIGINT)

    def interrupted() -> None:
        while True:
            time.sleep(CHILD_SECONDS_MAX)

    with watched(watch_stalls=LIMIT, on_stall=seen) as loop:
        loop.call_soon(interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        (total,) = loop.stalls()
        assert total.seconds >= seen.first().duration
        time.sleep(4 * LIMIT)
        assert loop.stall_count == 1  # it does not run: nothing is stuck
        seen.then = lambda: None
        loop.call_soon(lambda: (time.sleep(6 * LIMIT), loop.stop()))
        loop.run_forever()


def test_another_thread_cannot_begin_the_watch() -> None:
    with watched() as loop:

        async def main() -> None:
            with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                await loop.run_in_executor(None, loop.watch_stalls, LIMIT)

        loop.run_until_complete(main())


def test_a_loop_that_sleeps_is_no_stall(loop_options: dict[str, Any]) -> None:
    seen = Reports()

    async def main() -> None:
        await asyncio.sleep(3 * QUIET)
        await asyncio.sleep(0)
        await asyncio.sleep(2.5 * QUIET)

    aiopoll.run(main(), watch_stalls=QUIET, on_stall=seen, **loop_options)
    assert seen.stalls == []


def test_many_short_callbacks_are_no_stall(loop_options: dict[str, Any]) -> None:
    seen = Reports()

    async def main() -> None:
        end = time.monotonic() + 3 * QUIET
        while time.monotonic() < end:
            await asyncio.sleep(0)

    aiopoll.run(main(), watch_stalls=QUIET, on_stall=seen, **loop_options)
    assert seen.stalls == []


def test_busy_polling_is_no_stall() -> None:
    seen = Reports()
    options: dict[str, Any] = {"backend": "aio", "busy_poll": 1}
    aiopoll.run(asyncio.sleep(0.9), watch_stalls=0.25, on_stall=seen, **options)
    assert seen.stalls == []


def child(program: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"import asyncio, ctypes, os, sys, time, aiopoll\n{program}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


STOPPED = """
async def main():
    print("begins", flush=True)
    while time.thread_time() < 0.8:  # it goes on after the stop
        pass
aiopoll.run(main(), watch_stalls=20)
"""


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_stopped_process_is_no_stall() -> None:
    with child(STOPPED) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(25)  # longer than the limit, which a busy machine must not reach
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=CHILD_SECONDS_MAX) == ("", "")
    assert process.returncode == 0


DUMPS = "_Py_DumpTraceback" if sys.version_info < (3, 15) else "PyUnstable_DumpTraceback"

HANGS = """
async def main():
    ctypes.PyDLL(None).pause()  # for ever, with the GIL
aiopoll.run(main(), watch_stalls=0.1)
"""


@pytest.mark.skipif(not HAS_GIL, reason="skips.toml: a GIL that is kept")
@pytest.mark.subprocess
def test_a_hang_that_keeps_the_gil_has_a_line_on_stderr() -> None:
    with child(HANGS) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
        finally:
            process.kill()
    assert line.startswith("aiopoll: the event loop has been blocked for ")
    assert "by a call that keeps the GIL, in p" in line  # pause, or ppoll where it has none
    if not hasattr(ctypes.pythonapi, DUMPS):
        assert "this Python shows no stack without the GIL" in line
    else:
        assert 'line 4 in main < File "' in line


ENDS = """
import threading

class Last:
    def __del__(self, sleep=time.sleep):
        sleep(4)  # the interpreter has no threads any more

def hang():
    async def main():
        stuck.set()
        time.sleep(1000)
    aiopoll.run(main(), watch_stalls=0.3, on_stall=print)

stuck = threading.Event()
threading.Thread(target=hang, daemon=True).start()
stuck.wait(60)
sys.last_of_all = Last()
print("ends", flush=True)
"""


@pytest.mark.slow
@pytest.mark.subprocess
def test_the_interpreter_ends_while_a_loop_is_stuck() -> None:
    """The thread states are gone: neither is a stack dumped, nor a line written."""
    with child(ENDS) as process:
        assert process.communicate(timeout=CHILD_SECONDS_MAX) == ("ends\n", "")
    assert process.returncode == 0


RESOLVES = ROOT / "tests" / "loop" / "stalled_resolver.py"


@pytest.mark.subprocess
def test_a_name_look_up_in_the_loop_is_reported() -> None:
    done = subprocess.run(
        [sys.executable, str(RESOLVES)],
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS_MAX,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("skips.toml: a resolver of the test's own")
    assert done.returncode == 0, done.stderr
    assert "socket.getaddrinfo(" in done.stdout
    assert done.stdout.split(" | ")[1] in ("poll", "ppoll", "recvfrom")
    assert "SYSTEM_CALL" in done.stdout


def test_looks_of_a_thread_that_ended_do_no_harm() -> None:
    def run() -> None:
        aiopoll.run(asyncio.sleep(0.01), watch_stalls=0.01, on_stall=Reports())

    for _ in range(5):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert run_blocked(sleep, {}).task == "the task"
