"""The methods of a loop that show what it does."""

import os
import pathlib
import threading
from typing import TYPE_CHECKING, Any, cast

from aiopoll.loop.monitor.metrics import LoopMetrics, read_metrics
from aiopoll.loop.monitor.places import Place, TaskPlaces, place_in_debug
from aiopoll.loop.monitor.stalls import (
    StallHandler,
    StallLog,
    StallTotal,
    check_handler,
    stall_limit,
)
from aiopoll.loop.monitor.watchdog import Watch

if TYPE_CHECKING:
    from aiopoll.loop.event_loop import EventLoop
    from aiopoll.loop.monitor.records import LoopDump
    from aiopoll.loop.monitor.tracer import Tracer
    from aiopoll.loop.monitor.tracing import Trace


class MonitorMethods:
    """What EventLoop has of them; LoopCore has the rest."""

    _stall_log: StallLog | None = None
    _task_places: TaskPlaces | None

    if TYPE_CHECKING:
        _thread_id: int | None
        _trace: "Trace | None"
        _tracer: "Tracer | None"

        def is_closed(self) -> bool: ...

        def _watch_by(self, watch: Watch | None, places: TaskPlaces | None) -> None: ...

    def watch_stalls(self, limit: float | None, handler: StallHandler | None = None) -> None:
        """Has each callback reported that runs longer than `limit` seconds; None for none.

        handler: called with each Stall, in another thread, while the loop is stuck.  Without one,
            the first stall of each line of the program is logged.
        Raises ValueError for a limit that is too small, RuntimeError while another thread runs the
        loop.
        """
        seconds = None if limit is None else stall_limit(limit)
        check_handler(handler)
        if self._thread_id not in (None, threading.get_ident()):
            raise RuntimeError(
                "another thread runs the loop: use"
                " loop.call_soon_threadsafe(loop.watch_stalls, limit)"
            )
        if seconds is None:
            self._watch_by(None, None)
            return
        if self._stall_log is None:
            self._stall_log = StallLog()
        self._stall_log.handler = handler
        self._watch_by(Watch(seconds, self._stall_log), self._task_places or TaskPlaces())

    def stalls(self) -> list[StallTotal]:
        """The places that had stalls, with their number and length; the longest first."""
        return [] if self._stall_log is None else self._stall_log.totals()

    def _task_place(self, task: Any) -> Place | None:
        """Where a task was made, if stalls are watched or the loop is in debug mode."""
        place = None if self._task_places is None else self._task_places.of(task)
        return place_in_debug(task) if place is None else place

    def metrics(self) -> LoopMetrics:
        """The numbers of the loop; any thread may ask.  RuntimeError once the loop is closed."""
        return read_metrics(cast("EventLoop", self))

    def start_trace(
        self, path: str | os.PathLike[str] | None = None, *, size: int = 1 << 19
    ) -> None:
        """Records what the loop does from now on, until stop_trace().

        path: where stop_trace(), close() or the exit writes it; %p in it is the process.
        size: records that are kept, the newest, of 40 bytes each; a power of two at least as large.
        Raises OSError where no file can be made there; RuntimeError once the loop is closed, while
        it is traced already, and while another thread runs it.
        """
        from aiopoll.loop.monitor import tracing

        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        tracing.start(cast("EventLoop", self), path, size)

    def stop_trace(self) -> pathlib.Path | None:
        """Ends start_trace(), and forgets the records; returns the path of the file, if it has one.

        Does nothing where start_trace() was not called.  Raises OSError if the file cannot be
        written; RuntimeError while another thread runs the loop.
        """
        if self._trace is None:
            return None
        from aiopoll.loop.monitor import tracing

        return tracing.stop(cast("EventLoop", self))

    def write_trace(
        self, path: str | os.PathLike[str] | None = None, *, last: float | None = None
    ) -> pathlib.Path:
        """Writes what is recorded while the loop goes on; any thread may.  Returns the path.

        path: instead of start_trace()'s.  last: how many seconds back, None for all there is.
        Raises RuntimeError while nothing is traced, ValueError without a path or for a wrong
        `last`, OSError.
        """
        trace = self._trace  # which another thread may end meanwhile
        if trace is None:
            raise RuntimeError("this loop is not traced: call start_trace() first")
        written: pathlib.Path = trace.write(path, last=last)
        return written

    def _trace_instant(self, name: str, args: dict[str, Any] | None = None) -> None:
        """Puts a mark into the trace, if there is one; any thread may."""
        tracer = self._tracer
        if tracer is not None:
            tracer.instant(name, args)

    def dump(self, *, limit: int = 100) -> "LoopDump":
        """What the loop and its tasks do and wait for, as a LoopDump; any thread may ask.

        limit: of how many tasks, descriptors, timers, callbacks, requests and threads there are
            records, at most; the numbers of all are in it.
        """
        from aiopoll.loop.monitor.dump import dump_of  # costs nothing where it is not asked for

        return dump_of(cast("EventLoop", self), limit)
