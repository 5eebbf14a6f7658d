"""Files to wait for, children that cannot hang, and threads that are known to wait."""

import os
import select
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiopoll import Context

CHILD_SECONDS_MAX = 30


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """An empty pipe, non-blocking; the test may close its ends."""
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


@pytest.fixture
def eventfd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection: out-of-band data needs TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield client, server


@pytest.fixture
def plain_file(tmp_path: Path) -> Iterator[int]:
    """A regular file that holds `0123456789`, open for reading and writing."""
    path = tmp_path / "plain"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def in_child() -> Callable[[Callable[[], object]], str]:
    """Calls a function in a forked child and answers what it returned or raised, as text."""

    def call(function: Callable[[], object]) -> str:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                try:
                    answer = repr(function())
                except Exception as error:
                    answer = f"{type(error).__name__}: {error}"
                os.write(writer, answer.encode())
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writer)
        try:
            poller = select.poll()
            poller.register(reader, select.POLLIN)
            if not poller.poll(CHILD_SECONDS_MAX * 1000):
                os.kill(pid, 9)
                pytest.fail("the child hangs")
            answer = os.read(reader, 65536).decode()
        finally:
            os.close(reader)
            _, status = os.waitpid(pid, 0)
        assert status == 0, f"the child ended with status {status}"
        return answer

    return call


class Waiter(threading.Thread):
    """A thread that has taken over a Context and is inside one call of it."""

    def __init__(self, context: Context, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.context, self.call = context, call
        self.answer: object = None
        self.error: BaseException | None = None
        self.start()
        while self.is_alive():
            # Answered by the guards in this order: in use, then another thread's.
            try:
                context.events_pending()
            except RuntimeError as error:
                if "in use" in str(error):
                    break
            os.sched_yield()

    def run(self) -> None:
        try:
            self.context.adopt()
            self.answer = self.call()
        except BaseException as error:
            self.error = error

    def finish(self) -> object:
        """The call's result; raises what it raised."""
        self.join(CHILD_SECONDS_MAX)
        assert not self.is_alive(), "the thread hangs"
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.fixture
def waiter() -> type[Waiter]:
    return Waiter
