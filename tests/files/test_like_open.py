"""Everything that open() reads or writes: the same results, or the same exceptions."""

import asyncio
import contextlib
import ctypes
import os
import pty
import socket
import struct
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aiopoll

LIBC = ctypes.CDLL(None, use_errno=True)
SECONDS_MAX = 30  # more is a hang

Steps = list[tuple[Any, ...]]
# The argument of open(): a path, or a descriptor that the file closes.
Target = str | int
Make = Callable[[Path], contextlib.AbstractContextManager[Target]]

READ: Steps = [("read", 3), ("tell",), ("readline",), ("read", 0), ("read", -1), ("read", 5)]
SEEK: Steps = [("seek", 2), ("read", 4), ("seek", 1, 1), ("tell",), ("read", 4), ("seek", 0, 2)]
WRITE: Steps = [("write", b"16"), ("tell",), ("flush",), ("write", b"17"), ("truncate",)]


def at(path: str) -> Make:
    return lambda _: contextlib.nullcontext(path)


@contextlib.contextmanager
def restored(path: str) -> Iterator[Target]:
    """A file of proc or sysfs that is written to, and has its contents back afterwards."""
    before = Path(path).read_bytes()
    try:
        yield path
    finally:
        Path(path).write_bytes(before)


def kept(path: str) -> Make:
    return lambda _: restored(path)


@contextlib.contextmanager
def descriptor(fd: int, *others: int) -> Iterator[Target]:
    assert fd >= 0
    try:
        yield fd
    finally:
        for other in others:
            os.close(other)


def eventfd(_: Path) -> contextlib.AbstractContextManager[Target]:
    return descriptor(os.eventfd(5))


def inotify(folder: Path) -> contextlib.AbstractContextManager[Target]:
    fd = LIBC.inotify_init1(0)
    LIBC.inotify_add_watch(fd, bytes(folder), 0x100)
    (folder / "made").write_bytes(b"")
    (folder / "made").unlink()
    return descriptor(fd)


def timerfd(_: Path) -> contextlib.AbstractContextManager[Target]:
    fd = LIBC.timerfd_create(1, 0)
    LIBC.timerfd_settime(fd, 0, struct.pack("qqqq", 0, 0, 0, 1), None)
    return descriptor(fd)


def pidfd(_: Path) -> contextlib.AbstractContextManager[Target]:
    return descriptor(os.pidfd_open(os.getpid()))


def epoll(_: Path) -> contextlib.AbstractContextManager[Target]:
    return descriptor(LIBC.epoll_create1(0))


def memfd(_: Path) -> contextlib.AbstractContextManager[Target]:
    fd = os.memfd_create("name")
    os.write(fd, b"line\nanother\nand more")
    os.lseek(fd, 0, os.SEEK_SET)
    return descriptor(fd)


def pipe(_: Path) -> contextlib.AbstractContextManager[Target]:
    reader, writer = os.pipe()
    os.write(writer, b"line\nanother\nand more")
    os.close(writer)
    return descriptor(reader)


def pipe_end(_: Path) -> contextlib.AbstractContextManager[Target]:
    reader, writer = os.pipe()
    return descriptor(writer, reader)


def broken_pipe(_: Path) -> contextlib.AbstractContextManager[Target]:
    reader, writer = os.pipe()
    os.close(reader)
    return descriptor(writer)


@contextlib.contextmanager
def fifo(folder: Path) -> Iterator[Target]:
    path = folder / "fifo"
    os.mkfifo(path)
    both = os.open(path, os.O_RDWR)
    os.write(both, b"0123456789")
    try:
        yield str(path)
    finally:
        os.close(both)
        path.unlink()


def connection(_: Path) -> contextlib.AbstractContextManager[Target]:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"line\nanother\nand more")
    theirs.close()
    return descriptor(ours.detach())


def datagrams(_: Path) -> contextlib.AbstractContextManager[Target]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for data in (b"one", b"two", b"three"):
        theirs.send(data)
    theirs.close()
    return descriptor(ours.detach())


def terminal(_: Path) -> contextlib.AbstractContextManager[Target]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.write(master, b"line\nanother\nand more")
    return descriptor(slave, master)


def terminal_master(_: Path) -> contextlib.AbstractContextManager[Target]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.write(slave, b"line\nanother\nand more")
    return descriptor(master, slave)


def directory(folder: Path) -> contextlib.AbstractContextManager[Target]:
    return contextlib.nullcontext(str(folder))


READABLE: dict[str, tuple[Make, Steps]] = {
    "proc: version": (at("/proc/version"), READ + SEEK),
    "proc: filesystems": (at("/proc/filesystems"), [*READ, ("seek", 0), ("readlines", -1)]),
    "proc: kallsyms": (at("/proc/kallsyms"), [("read", 70000), ("readline",), ("read", 100)]),
    "proc: cmdline": (at("/proc/self/cmdline"), READ + SEEK),
    "proc: environ": (at("/proc/self/environ"), READ),
    "proc: mounts": (at("/proc/self/mounts"), READ),
    "proc: comm": (at("/proc/self/comm"), READ + SEEK),
    "proc: mem": (at("/proc/self/mem"), [("read", 8), ("seek", 0), ("tell",)]),
    "proc: sysctl": (at("/proc/sys/kernel/ostype"), READ + SEEK),
    "proc: write only": (at("/proc/self/clear_refs"), READ),
    "sysfs": (at("/sys/devices/system/cpu/online"), READ + SEEK),
    "sysfs: choice": (at("/sys/kernel/mm/transparent_hugepage/enabled"), READ + SEEK),
    "cgroup": (at("/sys/fs/cgroup/cgroup.controllers"), READ + SEEK),
    "/dev/null": (at("/dev/null"), READ + SEEK),
    "/dev/zero": (
        at("/dev/zero"),
        [("read", 10), ("read", 100000), ("readinto", 10), ("read1", 9)],
    ),
    "/dev/full": (at("/dev/full"), [("read", 10), ("read", 100000)]),
    "/dev/kmsg of none": (at("/dev/no such device"), READ),
    "directory": (directory, READ),
    "eventfd": (eventfd, [("read", 8)]),
    "eventfd: few bytes": (eventfd, [("read", 4)]),
    "inotify": (inotify, [("read", 32)]),
    "inotify: what there is": (inotify, [("read1", 4096)]),
    "timerfd": (timerfd, [("read", 8)]),
    "pidfd": (pidfd, READ),
    "epoll": (epoll, READ),
    "memfd": (memfd, READ + SEEK),
    "pipe": (pipe, [step for step in READ if step[0] != "tell"]),
    "pipe: tell": (pipe, [("tell",), ("seek", 0)]),
    "pipe: written to": (pipe_end, READ),
    "FIFO": (fifo, [("read", 4), ("read", 6)]),
    "connection": (connection, [step for step in READ if step[0] != "tell"]),
    "datagrams": (datagrams, [("read", 3), ("read", 3), ("read", 5)]),
    "terminal": (terminal, [("read", 3), ("readline",), ("read", 4), ("tell",)]),
    "terminal: master": (terminal_master, [("read", 3), ("readline",), ("read", 4), ("tell",)]),
}
WRITABLE: dict[str, tuple[Make, Steps]] = {
    "proc: comm": (kept("/proc/self/comm"), WRITE),
    "proc: comm, at once": (kept("/proc/self/comm"), [("writelines", [b"abc", b"def"])]),
    "proc: timer slack": (kept("/proc/self/timerslack_ns"), [("write", b"50001"), ("tell",)]),
    "proc: a wrong value": (at("/proc/self/coredump_filter"), [("write", b"what"), ("flush",)]),
    "proc: sysctl": (kept("/proc/sys/kernel/printk_ratelimit"), WRITE),
    "proc: sysctl, more than it takes": (
        kept("/proc/sys/kernel/printk_ratelimit"),
        [("write", b"6\n7\n"), ("tell",)],
    ),
    "proc: read only": (at("/proc/version"), WRITE),
    "sysfs": (kept("/sys/kernel/mm/transparent_hugepage/khugepaged/pages_to_scan"), WRITE),
    "/dev/null": (at("/dev/null"), WRITE),
    "/dev/zero": (at("/dev/zero"), WRITE),
    "/dev/full": (at("/dev/full"), [("write", b"x"), ("tell",), ("flush",)]),
    "directory": (directory, WRITE),
    "eventfd": (eventfd, [("write", bytes([1]) + bytes(7))]),
    "eventfd: twice as much": (eventfd, [("write", bytes([1]) + bytes(15)), ("tell",)]),
    "eventfd: few bytes": (eventfd, [("write", b"1234"), ("flush",)]),
    "timerfd": (timerfd, [("write", b"12345678"), ("flush",)]),
    "pidfd": (pidfd, [("write", b"x"), ("flush",)]),
    "memfd": (memfd, WRITE),
    "pipe": (pipe_end, [("write", b"16"), ("tell",), ("write", b"17")]),
    "pipe: read from": (pipe, [("write", b"16"), ("flush",)]),
    "pipe: nobody reads": (broken_pipe, [("write", b"16"), ("flush",)]),
    "terminal": (terminal, [("write", b"16"), ("tell",)]),
}
AT_ONCE = ["pidfd", "pipe: read from", "pipe: nobody reads"]
"""Files without positions are written to at once, also with a buffer: the error comes earlier."""

TEXT = [
    "proc: version",
    "proc: filesystems",
    "proc: comm",
    "proc: sysctl",
    "proc: write only",
    "sysfs",
    "/dev/null",
    "directory",
    "memfd",
    "pipe",
    "connection",
    "terminal",
]
TEXT_STEPS: Steps = [("read", 3), ("readline",), ("read", 4)]
TEXT_WRITABLE = ["proc: comm", "proc: sysctl", "proc: read only", "/dev/null", "/dev/full", "pipe"]


def small(value: object) -> object:
    return value if not isinstance(value, OSError) else (type(value), value.errno)


async def note(told: list[object], file: Any, steps: Steps) -> None:
    """Records the result of each step, of open()'s file or of ours."""
    for name, *arguments in steps:
        into = bytearray(arguments[0]) if name == "readinto" else None
        try:
            answer = getattr(file, name)(*([into] if into is not None else arguments))
            told.append(await answer if hasattr(answer, "__await__") else answer)
        except (OSError, ValueError, AttributeError) as error:
            told.append(small(error) if isinstance(error, OSError) else type(error))
        told.append(into)
    told.append("end")


async def model(target: Target, mode: str, buffering: int, steps: Steps) -> list[object]:
    """The results of open() and its methods."""
    told: list[object] = []
    try:
        with open(target, mode, buffering) as file:
            await note(told, file, steps)
    except (OSError, ValueError) as error:
        told.append(small(error))
    return told


async def ours(target: Target, mode: str, buffering: int, steps: Steps) -> list[object]:
    told: list[object] = []
    try:
        async with aiopoll.open(target, mode, buffering) as file:
            await note(told, file, steps)
    except (OSError, ValueError) as error:
        told.append(small(error))
    return told


async def same(folder: Path, make: Make, mode: str, buffering: int, steps: Steps) -> None:
    with make(folder) as target:
        expected = await model(target, mode, buffering, steps)
        close_if_refused(target)
    with make(folder) as target:
        told = await asyncio.wait_for(ours(target, mode, buffering, steps), SECONDS_MAX)
        close_if_refused(target)
    assert told == expected, (mode, buffering)


def close_if_refused(target: Target) -> None:
    """An open() that fails leaves a descriptor to its owner."""
    if isinstance(target, int):
        with contextlib.suppress(OSError):
            os.close(target)


@pytest.mark.parametrize("name", READABLE)
def test_reading(run: Any, tmp_path: Path, name: str) -> None:
    make, steps = READABLE[name]

    async def main() -> None:
        await same(tmp_path, make, "rb", -1, steps)
        await same(tmp_path, make, "rb", 0, [step for step in steps if step[0] != "read1"])

    run(main())


@pytest.mark.parametrize("name", WRITABLE)
def test_writing(run: Any, tmp_path: Path, name: str) -> None:
    make, steps = WRITABLE[name]

    async def main() -> None:
        for mode in ("wb", "r+b", "ab"):
            for buffering in [0] if name in AT_ONCE else [0, -1]:
                await same(tmp_path, make, mode, buffering, steps)

    run(main())


@pytest.mark.parametrize("name", TEXT)
def test_reading_text(run: Any, tmp_path: Path, name: str) -> None:
    make, _ = READABLE[name]
    run(same(tmp_path, make, "r", -1, TEXT_STEPS))


@pytest.mark.parametrize("name", TEXT_WRITABLE)
def test_writing_text(run: Any, tmp_path: Path, name: str) -> None:
    make, _ = WRITABLE[name]

    async def main() -> None:
        for mode in ("w", "r+", "a"):
            await same(tmp_path, make, mode, -1, [("write", "16"), ("write", "7"), ("flush",)])

    run(main())
