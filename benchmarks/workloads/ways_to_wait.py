"""Each way to wait for files, in C and on our loop, and what our backends do best."""

from dataclasses import replace

from benchmarks.implementations import WAYS
from benchmarks.workload import Client, Workload, counted
from benchmarks.workloads import connect, echo_protocol, echo_sock, sockets_and_disk, udp
from benchmarks.workloads.file_reads import COLD_MIB

BACKENDS = ("aiopoll", "aiopoll-aio", "aiopoll-epoll")
COMPARED = {
    "connect-1",
    "connect-50",
    "echo-protocol-64KiB-1",
    "echo-sock-64B-1",
    "echo-sock-64B-100",
    "udp-64B-1",
}

WORKLOADS = [
    *(
        Workload(
            name=f"ways-to-wait-{connections}",
            title=f"echo by each way to wait, 64B, {counted(connections, 'connection')}",
            program="echo_protocol",
            implementations=(*WAYS, *BACKENDS),
            client=Client(connections=connections, request_bytes=64),
        )
        for connections in (1, 10, 100, 1000)
    ),
    *(
        Workload(
            name=f"ways-to-wait-timers-{connections}",
            title="echo by each way to wait, 64B, beside a thousand timers a second,"
            f" {counted(connections, 'connection')}",
            program="echo_protocol",
            options=("--timers", "10"),
            implementations=(*WAYS, *BACKENDS),
            client=Client(connections=connections, request_bytes=64),
        )
        for connections in (1, 100)
    ),
    *(
        replace(
            workload,
            name=f"ways-to-wait-disk-{connections}",
            title="64 B request, 4 KiB answer from the cold disk, by each way to wait,"
            f" {counted(connections, 'connection')}",
            options=("--mib", str(COLD_MIB)),
            implementations=(*WAYS, "aiopoll-files", "aiopoll-threads"),
            client=replace(workload.client, connections=connections),
        )
        for workload in sockets_and_disk.WORKLOADS
        for connections in (1, 32)
        if workload.client
    ),
    *(
        replace(
            workload,
            name=f"backends-{workload.name}",
            title=f"{workload.title}, by backend",
            implementations=BACKENDS,
        )
        for module in (connect, echo_protocol, echo_sock, udp)
        for workload in module.WORKLOADS
        if workload.name in COMPARED
    ),
]
