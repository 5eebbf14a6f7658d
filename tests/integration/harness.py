"""A loop of ours under a real program, and the conditions on it when the program has ended.

Rule.  A scenario runs on a loop made for it.  It returns, and the loop has time to close released
objects.  Then the loop watches the same files as at the start, and every request that the kernel
took has come back or is in flight.  No task is left, and the exception handler got no report.
After close() there are no more descriptors and threads than before.  A destructor's warning is an
error by pytest's own hook, for warnings are errors here.
"""

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tests.support.descriptors import open_files

import aiopoll

_T = TypeVar("_T")

BACKENDS = ["aio", "epoll"]

END_LIMIT_S = 20
"""Time for a scenario's connections and threads to end: a TLS peer replies to close_notify."""

LIMIT_S = 60
"""Time after which a scenario counts as hung: none comes near it."""


def running_loop(backend: str | None = None) -> aiopoll.EventLoop:
    """The loop that runs, which is ours and no other."""
    loop = asyncio.get_running_loop()
    assert type(loop) is aiopoll.EventLoop
    assert backend in (None, loop.backend)
    return loop


def check_counters(statistics: aiopoll.ReactorStatistics, backend: str) -> None:
    """Checks the invariants of the counters of any loop at any moment."""
    assert statistics.backend == backend
    assert statistics.iterations >= statistics.sleeps
    assert 0 <= statistics.in_epoll <= statistics.watched
    assert statistics.submitted == statistics.completed + statistics.in_flight
    assert statistics.in_flight <= statistics.nr_events
    if backend == "aio":
        assert statistics.submitted > 0
        assert statistics.submit_calls > 0


def _tasks_left() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


async def _let_it_end(loop: aiopoll.EventLoop, watched: int, limit_s: float) -> None:
    """Returns when nothing is left, or at the limit, where the caller reports the rest."""
    deadline = loop.time() + limit_s
    while (loop.statistics().watched > watched or _tasks_left()) and loop.time() < deadline:
        await asyncio.sleep(0.001)


def run_clean(
    main: Callable[[], Coroutine[Any, Any, _T]],
    backend: str,
    *,
    debug: bool = False,
    end_limit_s: float = END_LIMIT_S,
) -> _T:
    """Runs main() on a loop of ours; AssertionError if anything is left when it has returned.

    end_limit_s: how long connections, tasks and threads may take to end after main().
    """
    reports: list[dict[str, Any]] = []
    gc.collect()  # objects of an earlier test do not count for this one
    files_before, threads_before = open_files(), set(threading.enumerate())

    async def guarded() -> _T:
        loop = running_loop(backend)
        loop.set_exception_handler(lambda _, context: reports.append(context))
        watched = loop.statistics().watched
        async with asyncio.timeout(LIMIT_S):
            result = await main()
        await loop.shutdown_asyncgens()
        await _let_it_end(loop, watched, end_limit_s)
        assert not _tasks_left(), f"tasks left: {_tasks_left()}"
        view = loop._selector.get_map()
        assert loop.statistics().watched == watched, f"files left: {view}"
        check_counters(loop.statistics(), backend)
        return result

    def factory() -> aiopoll.EventLoop:
        return aiopoll.new_event_loop(backend=backend)

    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        result = runner.run(guarded())
    gc.collect()
    assert not reports, reports
    files = {fd: what for fd, what in open_files().items() if files_before.get(fd) != what}
    assert not files, f"descriptors left: {files}"
    threads = [t for t in threading.enumerate() if t not in threads_before]
    for thread in threads:
        thread.join(end_limit_s)  # it may have been asked to end, and still be running
    threads = [thread for thread in threads if thread.is_alive()]
    assert not threads, f"threads left: {threads}"
    return result
