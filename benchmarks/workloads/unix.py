"""Echo over Unix sockets."""

from benchmarks.implementations import LOOPS_WITHOUT_RLOOP, REFERENCES
from benchmarks.workload import Client, Workload, counted

WORKLOADS = [
    Workload(
        name=f"unix-{size}-{connections}",
        title=f"echo by Protocol over Unix sockets, {size}, {counted(connections, 'connection')}",
        program="echo_protocol",
        options=("--unix",),
        implementations=(*LOOPS_WITHOUT_RLOOP, *REFERENCES),
        client=Client(connections=connections, request_bytes=size_bytes),
    )
    for size, size_bytes in (("64B", 64), ("64KiB", 65536))
    for connections in (1, 100)
]
