"""The methods of a loop that are about its stalls."""

import threading
from typing import TYPE_CHECKING, Any

from aiopoll.loop.monitor.places import Place, TaskPlaces, place_in_debug
from aiopoll.loop.monitor.stalls import (
    StallHandler,
    StallLog,
    StallTotal,
    check_handler,
    stall_limit,
)
from aiopoll.loop.monitor.watchdog import Watch


class StallMethods:
    """What EventLoop has of them; LoopCore has the rest."""

    _stall_log: StallLog | None = None
    _task_places: TaskPlaces | None

    if TYPE_CHECKING:
        _thread_id: int | None

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
