"""Connect, one exchange, close: the cost of accepting and closing."""

from benchmarks.implementations import LOOPS, REFERENCES
from benchmarks.workload import Client, Workload

WORKLOADS = [
    Workload(
        name=f"connect-{connections}",
        title=f"connect, exchange 64 B, close; {connections} at a time",
        program="echo_protocol",
        implementations=(*LOOPS, *REFERENCES),
        client=Client(connections=connections, reconnect=True),
        unit="connection",
    )
    for connections in (1, 50)
]
