"""The loop that the soaks run on, and its required state when they are done."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.loops import CHILD_SECONDS_MAX, until
from tests.support.threads import HAS_GIL

import aiopoll


def turns(loop: asyncio.AbstractEventLoop, count: int) -> None:
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()


def is_pythons(context: dict[str, Any]) -> bool:
    """Whether a report is of a stream of asyncio's that a collector without a GIL has found.

    It may finalize the future first, and then the protocol that was to retrieve its exception.
    asyncio's own loop reports the same.
    """
    unretrieved = context["message"] == "Future exception was never retrieved"
    return not HAS_GIL and unretrieved and isinstance(context["exception"], ConnectionResetError)


@pytest.fixture
def reports() -> list[dict[str, Any]]:
    """The reports to the loop's exception handler; a test that expects some clears it."""
    return []


@pytest.fixture
def loop(
    loop_options: dict[str, Any], reports: list[dict[str, Any]]
) -> Iterator[aiopoll.EventLoop]:
    """A loop that must be left with no task, no file, no request, and nothing to report."""
    loop = aiopoll.new_event_loop(**loop_options)
    loop.set_exception_handler(lambda _, context: is_pythons(context) or reports.append(context))
    turns(loop, 3)
    before = loop.statistics()
    yield loop
    turns(loop, 3)
    # Its own are of the epoll set and the wake-up; events of cancelled polls are yet to come.
    given_back = until(lambda: loop.statistics().in_flight <= max(before.in_flight, 2))
    loop.run_until_complete(asyncio.wait_for(given_back, CHILD_SECONDS_MAX))
    after = loop.statistics()
    left = asyncio.all_tasks(loop)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert signal.set_wakeup_fd(-1) == -1
    assert not left
    assert not reports
    assert after.watched == before.watched


@pytest.fixture(params=["tcp", "unix"])
def family(request: pytest.FixtureRequest) -> socket.AddressFamily:
    return socket.AF_INET if request.param == "tcp" else socket.AF_UNIX


@pytest.fixture
def stream_pair(
    family: socket.AddressFamily,
) -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Makes connected non-blocking pairs of the family; both ends are closed at the end."""
    made: list[socket.socket] = []

    def make() -> tuple[socket.socket, socket.socket]:
        if family == socket.AF_UNIX:
            ends = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                client = socket.create_connection(listener.getsockname())
                ends = client, listener.accept()[0]
        for end in ends:
            end.setblocking(False)
        made.extend(ends)
        return ends

    yield make
    for end in made:
        end.close()
