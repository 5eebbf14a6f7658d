"""random, os.urandom, secrets, uuid, getpid: a host's own streams, and numbers in place of hashes.

Facts: `Random()` without a seed, SystemRandom, secrets and uuid4 all draw from os.urandom; uuid1
asks a library of C, the clock and the network card. A set of objects is ordered by their hashes,
which are addresses unless the class says otherwise: each process has an order of its own.

Rule: a host has two streams: `host.random` for what comes from the machine's entropy, and one
seeded from it for the functions of `random`, so that a program that seeds `random` knows what
follows. The objects of asyncio that programs keep in sets are hashed by a number, given when a
world first asks for the hash.
Left out: sets of a program's own objects (give the class a hash), numpy and other C generators.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import os
import random
import ssl
import sys
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .. import inside
from .dispatch import Dispatcher, Replacement, Value, functions, method

if TYPE_CHECKING:
    from ..host import Host

_uname = os.uname
# 1582-10-15, where the time in a UUID starts, in steps of 100 ns before 1970.
UUID_EPOCH = 0x01B21DD213814000


class Streams:
    """What hosts draw from, each by the generator that the world gave it."""

    def __init__(self) -> None:
        self._modules: weakref.WeakKeyDictionary[random.Random, random.Random]
        self._modules = weakref.WeakKeyDictionary()

    def module(self, host: Host) -> random.Random:
        """Return the generator behind the functions of `random` on `host`."""
        found = self._modules.get(host.random)
        if found is None:
            found = self._modules[host.random] = random.Random(host.random.getrandbits(256))
        return found


streams: Streams = Streams()


def urandom(host: Host, size: int, /) -> bytes:
    """os.urandom: ValueError for a negative size."""
    if size < 0:
        raise ValueError("negative argument not allowed")
    return host.random.randbytes(size)


def getrandom(host: Host, size: int, flags: int = 0) -> bytes:
    return urandom(host, size)


def _module_function(name: str) -> Callable[..., Any]:
    def simulated(host: Host, *args: Any, **kwargs: Any) -> Any:
        return getattr(streams.module(host), name)(*args, **kwargs)

    return simulated


def _seed(host: Host, original: Any, self: random.Random, a: Any = None, version: int = 2) -> None:
    """Random.seed: without a seed, one from the host's stream."""
    original(self, host.random.getrandbits(256) if a is None else a, version)


# uuid


def getnode(host: Host) -> int:
    """Return a local hardware address with the host's IPv4 address at its end."""
    parts = host.address.split(".")
    return int.from_bytes(bytes((2, 0, *map(int, parts))), "big")


# Processes


def getpid(host: Host) -> int:
    pid: int = host.kernel.getpid()
    return pid


def getppid(host: Host) -> int:
    parent = host.kernel.sched.current.process.parent
    return 0 if parent is None else int(parent.pid)


def cpu_count(host: Host) -> int:
    return int(host.kernel.nr_cpus)


def getloadavg(host: Host) -> tuple[float, float, float]:
    return 0.0, 0.0, 0.0


def _pid(host: Host, *pid: int) -> int:
    """Return the process's own number for its group and session too."""
    return getpid(host)


def uname(host: Host) -> Any:
    """os.uname: the machine's system, under the name of the host."""
    system, _, *rest = _uname()
    return os.uname_result((system, host.name, *rest))


def times(host: Host) -> Any:
    """os.times: CPU time is not simulated, and is 0."""
    return os.times_result((0.0, 0.0, 0.0, 0.0, host.monotonic_ns() / 1e9))


def affinity(host: Host, pid: int, /) -> set[int]:
    return set(range(cpu_count(host)))


def exit_now(host: Host, status: int = 1, /) -> None:
    """os._exit, os.abort: the host's program ends here, without its finally blocks."""
    host.kill()


def yield_now(host: Host) -> None:
    host.world.sched.yield_to_others()


# Hashes


class Numbers:
    """Numbers of objects, in the order in which a world asked for their hashes."""

    def __init__(self) -> None:
        self._next = itertools.count(1)
        # By address: a function that returns the object, and its number.
        self._numbers: dict[int, tuple[Callable[[], Any], int]] = {}

    def start(self) -> None:
        """Begin anew, and let go what an earlier world has kept."""
        self._next = itertools.count(1)
        self._numbers.clear()

    def of(self, value: Any) -> int | None:
        """Return the number that `value` was given, or None."""
        entry = self._numbers.get(id(value))
        return entry[1] if entry is not None and entry[0]() is value else None

    def give(self, value: Any) -> int:
        address = id(value)

        def forget(gone: weakref.ref[Any]) -> None:
            entry = self._numbers.get(address)
            if entry is not None and entry[0] is gone:
                del self._numbers[address]

        number = next(self._next)
        try:
            self._numbers[address] = weakref.ref(value, forget), number
        except TypeError:
            # A class with slots alone (aiohttp's): it lives until the world is over.
            self._numbers[address] = (lambda: value), number
        return number


numbers: Numbers = Numbers()


def _make_hash(original: Any) -> Any:
    def __hash__(self: Any) -> int:
        number = numbers.of(self)
        if number is not None:
            return number
        if inside.world() is None:
            return object.__hash__(self)
        return numbers.give(self)

    return __hash__


NUMBERED: tuple[type, ...] = (
    asyncio.BaseProtocol,
    asyncio.BaseTransport,
    asyncio.AbstractServer,
    asyncio.Handle,
    asyncio.Queue,
    asyncio.Lock,
    asyncio.Event,
    asyncio.Condition,
    asyncio.Semaphore,
    asyncio.StreamReader,
    asyncio.StreamWriter,
    asyncio.TaskGroup,
    asyncio.Timeout,
    asyncio.Barrier,
    concurrent.futures.Future,
    concurrent.futures.Executor,
    threading.Thread,
    threading.Event,
    threading.Condition,
)


def _make_as_completed(original: Any) -> Any:
    """Number the coroutines by their places: asyncio puts what it is given into a set."""

    def in_order(awaitables: Any) -> Any:
        if asyncio.isfuture(awaitables) or asyncio.iscoroutine(awaitables):
            return awaitables
        return [asyncio.ensure_future(one) for one in dict.fromkeys(awaitables)]

    if sys.version_info >= (3, 13):

        def simulated(host: Host, fs: Any, *, timeout: float | None = None) -> Any:
            return original(in_order(fs), timeout=timeout)
    else:

        def simulated(host: Host, fs: Any, *, timeout: float | None = None) -> Any:
            # As asyncio's, it starts nothing before it is asked for the first.
            yield from original(in_order(fs), timeout=timeout)

    return Dispatcher(original, simulated)


def replacements() -> Iterable[Replacement]:
    yield from functions(
        os,
        {
            "urandom": urandom,
            "getrandom": getrandom,
            "getpid": getpid,
            "getppid": getppid,
            "cpu_count": cpu_count,
            "process_cpu_count": cpu_count,
            "getloadavg": getloadavg,
            "getpgrp": _pid,
            "getpgid": _pid,
            "getsid": _pid,
            "uname": uname,
            "times": times,
            "sched_getaffinity": affinity,
            "sched_yield": yield_now,
            "_exit": exit_now,
            "abort": exit_now,
        },
    )
    instance: Any = random._inst
    bound = [
        name for name, value in vars(random).items() if getattr(value, "__self__", None) is instance
    ]
    yield from functions(random, {name: _module_function(name) for name in bound})
    yield random.Random, "seed", method(_seed)
    yield from functions(ssl, {"RAND_bytes": urandom})
    yield uuid, "getnode", lambda original: Dispatcher(original, getnode)
    yield asyncio.tasks, "as_completed", _make_as_completed
    for kind in NUMBERED:
        if "__hash__" not in kind.__dict__:
            yield kind, "__hash__", _make_hash


def end() -> None:
    numbers.start()


def values() -> Iterable[Value]:
    """What is counted or kept for a process begins anew in each run."""
    numbers.start()
    for name in vars(uuid):
        if name.startswith("_last_") or name in ("_node", "_generate_time_safe", "_UuidCreate"):
            yield uuid, name, lambda: None
    yield tempfile, "_name_sequence", lambda: None
    yield threading, "_counter", lambda: itertools.count(1).__next__
