"""The base of every operation of the soak: begun on a file, which it then loses."""

import asyncio
import errno
import random
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .identity import Heard, new_block
from .owners import OwnedFile, Way
from .sockets import TcpPairs, discard

ASYNCIO = ("asyncio", "selector")
"""The loops whose code is asyncio's own, which knows numbers only."""


@dataclass
class Bench:
    """The state shared by the operations of one soak."""

    loop: asyncio.AbstractEventLoop
    random: random.Random
    pairs: TcpPairs
    asyncios: bool
    """Whether the loop's code is asyncio's own."""
    closers: list[Callable[[], None]] = field(default_factory=list)
    shared: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], Any], close: Callable[[Any], None]) -> Any:
        """An object that is made once, at its first use."""
        if name not in self.shared:
            made = self.shared[name] = make()
            self.closers.append(lambda: close(made))
        return self.shared[name]

    def close(self) -> None:
        while self.closers:
            self.closers.pop()()


class Operation(ABC):
    """One operation in flight.

    It runs on `file`, until its owner releases it; `peer` is at the other end.
    """

    kind: ClassVar[str]
    weight: ClassVar[int] = 10
    """How often it is chosen."""
    not_on: ClassVar[dict[str, str]] = {}
    """The loops on which it is left out, and why."""
    slow: ClassVar[bool] = False
    """Whether it has a lane of its own, where it delays no other operation."""
    is_busy: ClassVar[bool] = False
    """Whether it keeps the loop busy by itself."""
    can_linger: ClassVar[bool] = True
    """Whether it may be ended when the number has gone on to others of the loop."""

    file: OwnedFile
    peer: socket.socket | None = None

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.loop = bench.loop
        self.random = bench.random
        self.block = new_block()
        self.heard = Heard(self.block)
        self.peer_heard = Heard(self.block)
        self.can_complete = True
        """Whether `speak` brings it to its end, where the owner keeps the file."""
        self.takes_guests = True
        """Whether the loop may serve a stranger under the number meanwhile."""
        self.faults: list[str] = []
        """Faults found in callbacks."""

    @abstractmethod
    def begin(self) -> asyncio.Future[Any] | None:
        """Starts it; returns an awaitable that ends when it is in flight."""

    def number(self) -> int:
        """The number that the loop has been given."""
        return self.file.fileno()

    def takes(self, way: Way) -> bool:
        """Whether its owner can release the file in that way."""
        return isinstance(self.file, socket.socket) or not way.sockets_only

    @abstractmethod
    def in_flight(self) -> bool:
        """Whether the loop still uses the file."""

    def before_loss(self) -> None:
        """The calls of a tidy owner before the loss."""
        return

    def speak(self) -> None:
        """Makes the peer act, so that the wait of the operation ends."""
        assert self.peer is not None
        try:
            self.peer.send(self.block)
        except ConnectionError:
            pass  # the file has gone
        except OSError as error:  # a datagram socket knows it already
            if error.errno != errno.ENOTCONN:
                raise

    def has_completed(self) -> bool:
        """Whether it has completed, where the owner keeps the file."""
        return not self.in_flight()

    def peer_sees_end(self) -> bool:
        """Whether the peer sees that the file was closed."""
        assert self.peer is not None
        try:
            while data := self.peer.recv(65536):
                self.peer_heard.feed(data)
        except BlockingIOError:
            return False
        except ConnectionError:
            pass
        return True

    def disturb(self, duplicate: int) -> None:
        """Lets the file, which lives on under another number, become ready, if `speak` cannot."""
        return

    def poke(self) -> None:
        """Uses the methods that it still has when the file has gone."""
        return

    @abstractmethod
    def end(self, guest: bool) -> None:
        """Begins to end it.  guest: the loop serves a stranger under its number."""

    def is_over(self) -> bool:
        """Whether it has ended."""
        return not self.in_flight()

    def check(self, lost: bool) -> None:
        """Raises AssertionError where it has done a forbidden thing.  lost: it lost its file."""
        assert not self.faults, self.faults[0]

    def dispose(self) -> None:
        """Closes the remaining files."""
        if isinstance(self.file, socket.socket):
            discard(self.file)
        else:
            self.file.close()
        if self.peer is not None:
            discard(self.peer)


class TaskOperation(Operation):
    """One that is a coroutine."""

    task: asyncio.Task[Any]

    @abstractmethod
    def coroutine(self) -> Coroutine[Any, Any, Any]:
        """The call."""

    def begin(self) -> None:
        self.task = self.loop.create_task(self.coroutine())

    def in_flight(self) -> bool:
        return not self.task.done()

    def end(self, guest: bool) -> None:
        self.task.cancel()

    def check(self, lost: bool) -> None:
        super().check(lost)
        if self.task.cancelled():
            assert lost, "cancelled where it should have completed"
            return
        error = self.task.exception()
        if error is None:
            self.result(self.task.result())
        elif not (lost and is_bad_descriptor(error)):
            raise AssertionError(f"raised {error!r}") from error

    @abstractmethod
    def result(self, result: Any) -> None:
        """Checks that a result is the operation's own."""


def is_bad_descriptor(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EBADF
