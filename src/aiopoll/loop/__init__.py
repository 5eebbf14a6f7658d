"""asyncio's event loop on AIO poll.

Lives here: `EventLoop` (event_loop), its compiled half (core), handles, timers (loop_timers),
add_reader and its kin (file_watcher), sock_recv and its kin (sock_ops), server, subprocess (popen,
spawn), signals (wakeup, fork_signals), sendfile, name lookup (dns); transports/, streams/, and
monitor/: what can be seen of a running loop.

May import: aio, reactor, support.

Data comes from the reactor's ready queue, which each iteration runs.  It goes to protocols and
callbacks, and from write() and its kin to the kernel.
"""

from aiopoll.loop.event_loop import EventLoop as EventLoop
from aiopoll.loop.event_loop import new_event_loop as new_event_loop
from aiopoll.loop.event_loop import run as run
from aiopoll.loop.policy import EventLoopPolicy as EventLoopPolicy
from aiopoll.loop.policy import alias_uvloop as alias_uvloop
from aiopoll.loop.policy import install as install
