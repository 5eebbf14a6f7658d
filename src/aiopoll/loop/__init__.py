"""asyncio's event loop on AIO poll."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiopoll.selector import AioSelector, SelectorStatistics

_T = TypeVar("_T")


class EventLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, with its readiness from an AioSelector.

    nr_events: slots to ask of fs.aio-max-nr, as for AioSelector.
    Raises OSError where AIO poll is not to be had; the text names the cause and the cure.
    """

    def __init__(self, *, nr_events: int = 512) -> None:
        # BaseEventLoop.__del__ asks for it, also of a loop that has got no further than this.
        self._closed = True
        self._aio_selector = AioSelector(nr_events)
        super().__init__(self._aio_selector)

    @property
    def backend(self) -> str:
        """What the loop waits on: "aio"."""
        return "aio"

    def statistics(self) -> SelectorStatistics:
        """The counters of the selector and its ring; ValueError once the loop is closed."""
        return self._aio_selector.statistics()


def new_event_loop(**loop_options: Any) -> EventLoop:
    """An EventLoop with these options; a loop factory for whoever takes one."""
    return EventLoop(**loop_options)


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None, **loop_options: Any) -> _T:
    """What asyncio.run does, on an EventLoop with these options."""
    with asyncio.Runner(debug=debug, loop_factory=lambda: new_event_loop(**loop_options)) as runner:
        return runner.run(main)
