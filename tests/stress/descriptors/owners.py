"""The ways in which an owner releases a file, and in which a stranger gets its number."""

import fcntl
import io
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from .strangers import Stranger

OwnedFile = socket.socket | io.RawIOBase


def take(number: int, stranger: Stranger) -> bool:
    """Gives a free number to the stranger's file; False if another file has it already."""
    got = fcntl.fcntl(stranger.fd, fcntl.F_DUPFD_CLOEXEC, number)
    if got != number:
        os.close(got)
    return got == number


def take_by_opening(number: int, stranger: Stranger) -> bool:
    """Opens files until one has the number, and gives the number to the stranger's file."""
    opened: list[int] = []
    while number not in opened and len(opened) < 16:
        opened += os.pipe2(os.O_CLOEXEC)
    taken = number in opened
    if taken:
        os.dup2(stranger.fd, number, inheritable=False)
        opened.remove(number)
    for fd in opened:
        os.close(fd)
    return taken or take(number, stranger)


Take = Callable[[int, Stranger], bool]


def close(file: OwnedFile, number: int, stranger: Stranger, take: Take) -> bool:
    file.close()
    return take(number, stranger)


def leave_with(file: OwnedFile, number: int, stranger: Stranger, take: Take) -> bool:
    with file:
        pass
    return take(number, stranger)


def detach_and_close(file: OwnedFile, number: int, stranger: Stranger, take: Take) -> bool:
    assert isinstance(file, socket.socket)
    os.close(file.detach())
    return take(number, stranger)


def detach_and_dup2(file: OwnedFile, number: int, stranger: Stranger, take: Take) -> bool:
    """In one system call the number changes hands."""
    assert isinstance(file, socket.socket)
    os.dup2(stranger.fd, file.detach(), inheritable=False)
    return True


@dataclass(frozen=True)
class Way:
    """How an owner releases a file."""

    name: str
    let_go: Callable[[OwnedFile, int, Stranger, Take], bool]
    sockets_only: bool = False
    keeps_duplicate: bool = False
    """The owner goes on with a duplicate: the file lives, under another number."""


WAYS = [
    Way("close", close),
    Way("with", leave_with),
    Way("detach and os.close", detach_and_close, sockets_only=True),
    Way("detach and dup2", detach_and_dup2, sockets_only=True),
    Way("dup, then close", close, keeps_duplicate=True),
    Way("dup, then detach and os.close", detach_and_close, True, True),
    Way("dup, then detach and dup2", detach_and_dup2, True, True),
]
