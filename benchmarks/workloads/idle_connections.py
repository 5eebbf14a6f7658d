"""Many connections that rest while a few are busy: memory for each, and the latency of the few.

30,000 where RLIMIT_NOFILE lets a process have them; else as many as it does, less a reserve.  The
reference on AIO ends where its slots do, so it is not here.
"""

import resource

from benchmarks.implementations import LOOPS
from benchmarks.workload import Client, Workload

IDLE_WANTED, BUSY, RESERVE = 30_000, 20, 500
_hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
IDLE = IDLE_WANTED if _hard == resource.RLIM_INFINITY else min(IDLE_WANTED, _hard - RESERVE)

WORKLOADS = [
    Workload(
        name="idle-connections",
        title=f"{IDLE:,} idle connections and {BUSY} busy ones",
        program="echo_protocol",
        implementations=(*LOOPS, "c-epoll"),
        client=Client(connections=BUSY, idle=IDLE),
        metric="connection_memory",
        alone=True,
    )
]
