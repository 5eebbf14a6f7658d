"""Each workload at its smallest, on asyncio, on aiopoll and on the references.

The client compares each byte of each response, and the programs check the data they read, so a
measured program is known to be right.  No figure is looked at.
"""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest
from benchmarks.implementations import IMPLEMENTATIONS, WAYS, missing
from benchmarks.measure import Failure, Running, Settings
from benchmarks.workload import Workload, all_workloads

from benchmarks import native

OURS = tuple(f"aiopoll{way}" for way in ("", "-streams", "-files", "-datagrams", "-threads"))
WAYS_FOR_ALL = [way for way in WAYS if way != "c-epoll-thread-fifo"]  # that takes a privilege
TESTED = ("asyncio", "threads", *OURS, *WAYS_FOR_ALL)


def small_workloads() -> Iterator[tuple[Workload, str]]:
    """The workloads that differ when small, on each implementation that is surely installed."""
    seen: list[tuple[object, ...]] = []
    for workload in map(Workload.small, all_workloads()):
        for implementation in workload.implementations:
            # A name of ours may come later, and AIO may be forbidden; the rest has to be there.
            described = IMPLEMENTATIONS[implementation]
            may_miss = described.aio or (described.needs or "").startswith("aiopoll.")
            if implementation not in TESTED or (may_miss and missing(implementation)):
                continue
            key = (workload.program, workload.options, workload.client, implementation)
            if key not in seen:
                seen.append(key)
                yield workload, implementation


SMALL = list(small_workloads())


@pytest.mark.parametrize(
    ("workload", "implementation"), SMALL, ids=[f"{one.name}-{name}" for one, name in SMALL]
)
def test_workload_runs_and_its_responses_are_right(workload: Workload, implementation: str) -> None:
    reason = workload.missing(implementation)
    if reason and workload.client and workload.client.tls:
        pytest.skip(reason="skips.toml: TLS in the benchmarks")
    if reason and (workload.executable or workload.needs == "fastapi"):
        pytest.skip(reason="skips.toml: programs of the benchmarks")
    assert reason is None
    with Running(
        workload, implementation, Settings(operations=workload.small_operations)
    ) as running:
        metrics = running.measure()
        if not workload.alone:
            assert running.measure()["operations"] >= workload.small_operations
    assert metrics["operations"] >= workload.small_operations
    assert metrics["rate"] > 0
    assert metrics["cpu_us"] >= 0
    assert metrics[workload.metric] is not None
    assert "unanswered" not in metrics


def test_every_workload_name_is_unique_and_known() -> None:
    workloads = all_workloads()
    names = [workload.name for workload in workloads]
    assert len(names) == len(set(names))
    for workload in workloads:
        assert set(workload.implementations) <= set(IMPLEMENTATIONS)


def test_system_calls_are_counted_or_the_reason_is_said() -> None:
    workload = next(one for one in all_workloads() if one.name == "echo-protocol-64B-1").small()
    with Running(workload, "c-epoll", Settings(operations=100)) as running:
        try:
            count = running.system_calls()
        except Failure as failure:
            if "system calls" not in str(failure):
                raise
        else:
            assert 1.9 <= count <= 6  # recv and send for each, epoll_wait for some together


def wrong_byte(connection: socket.socket) -> None:
    data = bytearray(connection.recv(64))
    data[-1] ^= 1
    connection.sendall(data)


def close_early(connection: socket.socket) -> None:
    connection.sendall(connection.recv(64)[:10])


def refuse(connection: socket.socket) -> None:
    connection.recv(1024)
    connection.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("serve", "options", "complaint"),
    [
        (wrong_byte, [], "differs from what was sent"),
        (close_early, [], "closed the connection after 10 of 64 bytes"),
        (refuse, ["--http", "/"], "the answer is HTTP/1.1 500"),
    ],
)
def test_client_reports_the_fault_of_a_response(
    serve: Callable[[socket.socket], None], options: list[str], complaint: str
) -> None:
    def answer_once() -> None:
        connection, _ = listener.accept()
        with connection:
            serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_once)
        thread.start()
        address = "tcp:{}:{}".format(*listener.getsockname())
        done = subprocess.run(
            [native.client(), "--address", address, "--check", *options],
            input="go\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        thread.join()
    assert done.returncode == 1
    assert complaint in done.stderr


def test_program_that_fails_is_reported_with_its_output() -> None:
    workload = Workload(name="none", title="none", program="no_such_program")
    with pytest.raises(Failure, match="no_such_program"):
        Running(workload, "asyncio", Settings(operations=1))
