"""Echo over TLS."""

from benchmarks.implementations import LOOPS_WITHOUT_RLOOP
from benchmarks.workload import Client, Workload, counted

WORKLOADS = [
    Workload(
        name=f"tls-{size}-{connections}",
        title=f"echo by Protocol over TLS, {size}, {counted(connections, 'connection')}",
        program="echo_protocol",
        options=("--tls",),
        implementations=LOOPS_WITHOUT_RLOOP,
        client=Client(connections=connections, request_bytes=size_bytes, tls=True),
    )
    for size, size_bytes, connections in (("64B", 64, 100), ("16KiB", 16384, 50))
]
