"""asyncio's event loop on AIO poll."""

from aiopoll.loop.event_loop import EventLoop as EventLoop
from aiopoll.loop.event_loop import new_event_loop as new_event_loop
from aiopoll.loop.event_loop import run as run
from aiopoll.loop.policy import EventLoopPolicy as EventLoopPolicy
from aiopoll.loop.policy import alias_uvloop as alias_uvloop
from aiopoll.loop.policy import install as install
