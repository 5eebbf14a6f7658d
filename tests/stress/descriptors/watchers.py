"""add_reader and add_writer, by object and by number."""

import socket
from collections.abc import Callable
from typing import Any

from .operation import Bench, Operation
from .sockets import SMALL, fill, unix_pair


class Watcher(Operation):
    """A callback, whose owner takes it off before the close, or forgets to."""

    file: socket.socket
    peer: socket.socket
    by_number = False

    add: Callable[..., Any]
    remove: Callable[[Any], bool]

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.file, self.peer = unix_pair()
        self.calls = 0
        self.called_before_loss: int | None = None
        self.tidy = bench.random.random() < 0.4
        self.watched = False
        # A number that is not taken off is the next one's of that number, as in asyncio.
        self.takes_guests = self.tidy or not self.by_number

    def begin(self) -> None:
        self.registered: Any = self.file.fileno() if self.by_number else self.file
        self.add(self.registered, self.called)
        self.watched = True

    def called(self) -> None:
        self.calls += 1
        if self.calls > 10:  # enough: no reader takes the data that makes it ready
            try:
                self.unwatch()
            except ValueError:  # a thread has closed it, and its number is watched for another
                assert self.file.fileno() < 0

    def unwatch(self) -> None:
        if self.watched:
            self.watched = False
            self.remove(self.registered)

    def in_flight(self) -> bool:
        return self.watched

    def before_loss(self) -> None:
        if self.tidy:
            self.unwatch()
            self.called_before_loss = self.calls

    def has_completed(self) -> bool:
        return self.calls > 0

    def end(self, guest: bool) -> None:
        try:
            self.unwatch()
        except ValueError:
            # As in asyncio: a closed object whose number is watched for another is no file.
            assert not self.by_number
            assert self.file.fileno() < 0

    def check(self, lost: bool) -> None:
        super().check(lost)
        if self.called_before_loss is not None:
            assert self.calls == self.called_before_loss, "called after it was taken off"


class AddReader(Watcher):
    kind = "add_reader by object"
    weight = 15

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.add, self.remove = self.loop.add_reader, self.loop.remove_reader


class AddReaderByNumber(AddReader):
    kind = "add_reader by number"
    by_number = True
    can_linger = False


class AddWriter(Watcher):
    kind = "add_writer by object"
    weight = 10

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.add, self.remove = self.loop.add_writer, self.loop.remove_writer
        self.file.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        fill(self.file, self.block)

    def speak(self) -> None:
        self.peer_sees_end()


class AddWriterByNumber(AddWriter):
    kind = "add_writer by number"
    by_number = True
    can_linger = False


OPERATIONS: list[type[Operation]] = [AddReader, AddReaderByNumber, AddWriter, AddWriterByNumber]
