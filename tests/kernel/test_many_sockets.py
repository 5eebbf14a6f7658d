"""Ten thousand sockets cost ten thousand times what one does: counts, no times."""

import gc
import itertools
import random
import socket
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from aiopoll.kernel import Kernel
from aiopoll.kernel.file import File, FileTable
from aiopoll.kernel.hrtimer import FEW_PLACES, Clock, HrTimer
from aiopoll.kernel.net import inet
from aiopoll.kernel.net.tcp_input import TcpSock
from aiopoll.kernel.pipe import pipefifo_fops

ADDRESS = ("127.0.0.1", 80)


class CountedFiles(dict[int, File]):
    """A table's files, which count how often a number is looked for."""

    looks = 0

    def __contains__(self, key: object) -> bool:
        self.looks += 1
        return super().__contains__(key)


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What is freed is freed by its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def listen(kernel: Kernel) -> int:
    fd = kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
    kernel.bind(fd, ADDRESS)
    kernel.listen(fd, 4096)
    return fd


def connect(kernel: Kernel, listener: int) -> tuple[int, int]:
    fd = kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
    kernel.connect(fd, ADDRESS)
    return fd, kernel.accept4(listener)[0]


def living(kind: type) -> int:
    return sum(type(thing) is kind for thing in gc.get_objects())


def test_a_descriptor_is_found_at_once(kernel: Kernel) -> None:
    table = FileTable()
    table.files = files = CountedFiles()
    for _ in range(1000):
        table.install(File(kernel.sched, pipefifo_fops, 0, None))
    for fd in (700, 3, 500):
        del table.files[fd]
        table.files[fd] = File(kernel.sched, pipefifo_fops, 0, None)
    assert files.looks <= 2 * len(files)


@pytest.mark.parametrize("seed", range(5))
def test_the_lowest_free_descriptor_is_taken(kernel: Kernel, seed: int) -> None:
    rng = random.Random(seed)
    opened = {kernel.eventfd2() for _ in range(30)}
    for _ in range(500):
        if opened and rng.random() < 0.5:
            fd = rng.choice(sorted(opened))
            kernel.close(fd)
            opened.remove(fd)
        else:
            lowest = next(fd for fd in itertools.count() if fd not in opened)
            assert kernel.eventfd2() == lowest
            opened.add(lowest)


def test_a_child_takes_the_lowest_descriptor(kernel: Kernel) -> None:
    fds = [kernel.eventfd2() for _ in range(5)]
    kernel.close(fds[1])
    taken: list[int] = []

    def child() -> None:
        taken.extend(kernel.eventfd2() for _ in range(2))
        kernel.close(fds[3])
        taken.append(kernel.eventfd2())

    kernel.waitpid(kernel.fork(child))
    assert taken == [fds[1], fds[-1] + 1, fds[3]]


def test_a_syn_looks_at_listeners_only(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = listen(kernel)
    looked_at: list[int] = []
    matches = inet._matches

    def counted(sockets: Any, family: int, host: str) -> list[Any]:
        looked_at.append(len(sockets))
        return matches(sockets, family, host)

    monkeypatch.setattr(inet, "_matches", counted)
    for _ in range(200):
        connect(kernel, listener)
    assert looked_at == [1] * 200


def test_cancelled_timers_leave_the_heap() -> None:
    clock = Clock(0, lambda: 0)
    fired: list[int] = []
    kept = [HrTimer(lambda at=at: fired.append(at)) for at in range(100)]  # type: ignore[misc]
    for at, timer in enumerate(kept):
        clock.start(timer, at)
    for at in range(10_000):
        timer = HrTimer(lambda: fired.append(-1))
        clock.start(timer, at)
        clock.cancel(timer)
        # An armed timer that is moved leaves its place, too.
        clock.start(kept[99], 99)
    assert len(clock) <= 2 * len(kept) + FEW_PLACES
    while clock.fire_next():
        pass
    assert fired == list(range(100))


def test_a_cancelled_timer_pins_nothing(without_collector: None) -> None:
    class Owner:
        def expire(self) -> None: ...

    clock = Clock(0, lambda: 0)
    owner = Owner()
    timer = HrTimer(owner.expire)
    clock.start(timer, 1)
    clock.cancel(timer)
    gone = weakref.ref(owner)
    del owner, timer
    assert gone() is None


def test_closed_connections_are_freed_at_once(kernel: Kernel, without_collector: None) -> None:
    listener = listen(kernel)
    before = living(TcpSock)
    for first in (0, 1) * 50:
        pair = connect(kernel, listener)
        kernel.sendto(pair[0], b"data")
        kernel.recvfrom(pair[1], 10)
        kernel.close(pair[first])
        assert kernel.recvfrom(pair[1 - first], 10)[0] == b""
        kernel.close(pair[1 - first])
    assert living(TcpSock) == before
    assert len(kernel.sched.clock) <= FEW_PLACES + 1


@pytest.mark.parametrize("end", ["reset", "refused", "closed"])
def test_failed_connections_are_freed(kernel: Kernel, without_collector: None, end: str) -> None:
    listener = listen(kernel)
    before = living(TcpSock)
    for _ in range(50):
        if end == "refused":
            fd = kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
            with pytest.raises(ConnectionRefusedError):
                kernel.connect(fd, ("127.0.0.1", 81))
            kernel.close(fd)
            continue
        one, two = connect(kernel, listener)
        if end == "reset":
            kernel.sendto(one, b"unread")
            kernel.close(two)
            with pytest.raises(ConnectionResetError):
                kernel.recvfrom(one, 1)
            kernel.close(one)
        else:
            kernel.shutdown(one, socket.SHUT_RDWR)
            kernel.close(one)
            kernel.close(two)
    assert living(TcpSock) == before
