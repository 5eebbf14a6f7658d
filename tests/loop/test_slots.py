"""What a loop asks of fs.aio-max-nr: a share of what is left, and less where that is gone."""

import asyncio
import errno
import os
import subprocess
import sys
from typing import Any

import pytest
from tests.support.loops import CHILD_SECONDS_MAX

import aiopoll
from aiopoll.loop import event_loop, slots


@pytest.mark.parametrize(
    ("max_nr", "taken", "expected"),
    [
        (65536, 0, 512),
        (65536, 32768, 512),
        (65536, 32769, 256),
        (65536, 65536 - 64 * 100, 64),
        (65536, 65000, 16),
        (65536, 65536, 16),
        (65536, 70000, 16),  # contexts stay when the limit is lowered
        (1 << 30, 0, 512),
        (0, 0, 16),
        (None, None, 512),
        (65536, None, 512),
    ],
)
def test_share(max_nr: int | None, taken: int | None, expected: int) -> None:
    assert slots.fair_share(max_nr, taken) == expected


def test_hundreds_of_loops_have_room_in_the_default() -> None:
    taken = 0
    shares = []
    for _ in range(400):
        share = slots.fair_share(65536, taken)
        if taken + share > 65536:
            break
        taken += share
        shares.append(share)
    assert len(shares) >= 300
    assert shares == sorted(shares, reverse=True)


class Machine:
    """fs.aio-max-nr as io_setup(2) would keep to it, in place of the kernel's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int, seen: int | None = None) -> None:
        self.asked: list[int] = []
        open_reactor: Any = aiopoll.EventLoop._open_reactor

        def numbers(name: str) -> int:
            return {"aio-max-nr": 65536, "aio-nr": 65536 - (left if seen is None else seen)}[name]

        def limited(loop: Any, backend: str, nr_events: int, *options: Any) -> None:
            if backend != "epoll":
                self.asked.append(nr_events)
                if nr_events > left:
                    raise OSError(errno.EAGAIN, "io_setup: no slots are left")
            open_reactor(loop, backend, nr_events, *options)

        monkeypatch.setattr(slots, "read_sysctl", numbers)
        monkeypatch.setattr(event_loop.EventLoop, "_open_reactor", limited)

    def backend(self, **options: Any) -> tuple[str, str | None, int]:
        """A new loop's backend, why it is that, and its slots; the loop runs."""
        loop = aiopoll.new_event_loop(**options)
        try:
            assert loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"
            return loop.backend, loop.backend_reason, loop.statistics().nr_events
        finally:
            loop.close()


@pytest.mark.parametrize(
    ("left", "seen", "asked"),
    [
        (65536, None, [512]),
        (6400, None, [64]),
        (100, None, [16]),
        (100, 65536, [512, 256, 128, 64]),  # a hundred others were faster
        (5, None, [16, 8, 4]),
    ],
)
def test_less_is_asked_for_until_it_is_had(
    monkeypatch: pytest.MonkeyPatch, left: int, seen: int | None, asked: list[int]
) -> None:
    machine = Machine(monkeypatch, left, seen)
    assert machine.backend() == ("aio", None, asked[-1])
    assert machine.asked == asked


def test_where_none_are_left_the_loop_uses_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 3)
    name, reason, _ = machine.backend()
    assert (name, machine.asked) == ("epoll", [16, 8, 4])
    assert reason is not None
    assert "no slots are left" in reason
    with pytest.raises(BlockingIOError):
        aiopoll.new_event_loop(backend="aio")


def test_a_number_that_is_asked_for_is_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 300)
    assert machine.backend(nr_events=200) == ("aio", None, 200)
    assert machine.backend(nr_events=400)[0] == "epoll"
    assert machine.asked == [200, 400]


def test_another_error_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refused(loop: Any, backend: str, nr_events: int, *options: Any) -> None:
        asked.append(nr_events)
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(event_loop.EventLoop, "_open_reactor", refused)
    with pytest.raises(OSError, match="too many open files"):
        aiopoll.new_event_loop()
    assert len(asked) == 1


WORKER = """
import asyncio, sys, aiopoll

async def main():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    print(loop.backend, loop.statistics().nr_events, flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)  # until all the others have theirs
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\\n")
    assert await reader.read() == b"line\\n"
    writer.close()
    await writer.wait_closed()
    server.close()

aiopoll.run(main())
"""


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_hundred_processes_at_once() -> None:
    """All serve at the same time; none fails, whatever else the machine has taken."""
    command = [sys.executable, "-W", "error", "-c", WORKER]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(100)
    ]
    try:
        said = [worker.stdout.readline().split() for worker in workers if worker.stdout]
        ended = [worker.communicate("go\n", timeout=CHILD_SECONDS_MAX) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert ended == [("", "")] * 100
    assert [worker.returncode for worker in workers] == [0] * 100
    assert {name for name, _ in said} <= {"aio", "epoll"}
    taken = [int(number) for name, number in said if name == "aio"]
    assert all(4 <= number <= 512 for number in taken)
    if os.environ.get("AIOPOLL_BACKEND") is None and aiopoll.probe().aio_poll:
        assert taken
