"""asyncio's event loop on AIO poll."""

from aiopoll._core.reactor_statistics import ReactorStatistics
from aiopoll.loop.event_loop import EventLoop, new_event_loop, run

__all__ = ["EventLoop", "ReactorStatistics", "new_event_loop", "run"]
