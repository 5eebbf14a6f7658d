"""Calls all that the classes of a module have, on objects that __new__ alone has made.

Run with the module's name.  Each call is named on stderr before it is made; any exception will do.
"""

import asyncio
import faulthandler
import gc
import importlib
import inspect
import io
import itertools
import os
import pkgutil
import random
import signal
import socket
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import aiopoll
from aiopoll.files.scheduler import FileQueue
from aiopoll.libaio import IO_CMD_FSYNC
from aiopoll.reactor.ready_queue import ReadyQueue

SECONDS_MAX = 60
TRIES = 60  # combinations of arguments for each method
LOOP_TURNS = 3
# Once a call has made a loop usable, these wait for ever, as they should.
MAY_WAIT = {"run_forever", "run_until_complete", "_run_once", "_select"}

LOG = 300  # stderr, where no call closes it

Make = Callable[[], Any]


def is_compiled(kind: type) -> bool:
    """Whether a class comes from a compiled module."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return kind.__module__.startswith("aiopoll.") and file.endswith(".so")


def classes_of(module: ModuleType) -> list[type]:
    """The compiled classes of a module, and its classes that are derived from compiled ones."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and any(map(is_compiled, value.__mro__))
    ]


def modules() -> list[str]:
    """All modules of the package but those of the in-process kernel, which is Python."""
    found = pkgutil.walk_packages(aiopoll.__path__, "aiopoll.")
    return [name for _, name, _ in found if not name.startswith(("aiopoll.kernel", "aiopoll.__"))]


def everything() -> list[type]:
    return [kind for name in modules() for kind in classes_of(importlib.import_module(name))]


class Values:
    """Plausible arguments."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.loop = aiopoll.new_event_loop(backend="epoll")
        self.aio_loop = aiopoll.new_event_loop(nr_events=2)
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # The arguments of some __new__.
        queue = FileQueue.__new__(FileQueue)
        self.examples: list[tuple[Any, ...]] = [
            (4096,),
            (b"bytes",),
            (self.ours,),
            (ReadyQueue(),),
            (IO_CMD_FSYNC, self.pipe[0]),
            (self.pipe[0], 1, None),
            (self.loop, queue, 8),
            ([1, 2], 7, True),
            (print, b"noexec"),
        ]
        self.makers = [make for make in map(self.empty, everything()) if make is not None]

    def pick(self) -> Any:
        choices: list[Make] = [
            lambda: None,
            lambda: True,
            lambda: 0,
            lambda: 1,
            lambda: -1,
            lambda: 7,
            lambda: 4096,
            lambda: 2**62,
            lambda: -(2**63),
            lambda: 2**70,
            lambda: 0.5,
            lambda: "text",
            lambda: b"bytes",
            lambda: bytearray(64),
            lambda: memoryview(bytearray(8)),
            list,
            lambda: (1, 2),
            dict,
            object,
            lambda: lambda *_: None,
            lambda: ValueError("one"),
            lambda: self.loop,
            lambda: self.aio_loop,
            lambda: self.loop.create_future(),
            lambda: self.ours,
            lambda: self.pipe[0],
            asyncio.Protocol,
            asyncio.BufferedProtocol,
            lambda: asyncio.Handle(print, (), self.loop),
            lambda: asyncio.Handle(print, [1], self.loop),  # type: ignore[arg-type]
            lambda: asyncio.TimerHandle(1, print, (), self.loop),
            lambda: asyncio.Handle.__new__(asyncio.Handle),
            io.BytesIO,
        ]
        if self.makers and self.random.random() < 0.4:
            try:
                return self.random.choice(self.makers)()
            except OSError:
                return None  # a call has closed the files that it was made with
        return self.random.choice(choices)()

    def arguments(self, count: int) -> tuple[Any, ...]:
        return tuple(self.pick() for _ in range(count))

    def empty(self, kind: type) -> Make | None:
        """A function that makes objects of a class by __new__ alone."""
        for arguments in ((), *self.examples):
            try:
                kind.__new__(kind, *arguments)
            except Exception:
                continue
            return lambda arguments=arguments: kind.__new__(kind, *arguments)  # type: ignore[misc]
        return None


def counts_of(method: Any) -> range:
    """The number of arguments that a method takes; up to three where it has no signature."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return range(4)
    known = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    least = len([p for p in known if p.default is p.empty])
    more = 2 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else 0
    return range(least, len(known) + more + 1)


def say(*words: object) -> None:
    os.write(LOG, (" ".join(str(word) for word in words) + "\n").encode())


def use(answer: Any) -> None:
    """Takes the first steps of a call's result."""
    if inspect.iscoroutine(answer) or hasattr(answer, "send"):
        try:
            for _ in range(2):
                answer.send(None)
        finally:
            answer.close()
    elif inspect.isasyncgen(answer) or isinstance(answer, Iterator):
        next(itertools.islice(answer, 1), None) if isinstance(answer, Iterator) else None
    elif asyncio.isfuture(answer):
        answer.cancel()


def attempt(call: Callable[..., Any], *arguments: Any) -> None:
    try:
        use(call(*arguments))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        pass


PROTOCOL = {
    *("__len__", "__iter__", "__next__", "__await__", "__repr__", "__str__", "__hash__"),
    *("__bool__", "__enter__", "__exit__", "__getitem__", "__setitem__", "__delitem__"),
    *("__contains__", "__del__", "__reduce__", "__eq__", "__init__", "__copy__", "__dir__"),
    *("__setstate_cython__", "__reduce_cython__", "__sizeof__"),
}


def names_of(kind: type) -> list[str]:
    """The names of a class and of its compiled bases; asyncio's own methods are Python."""
    names = {
        name
        for name in dir(kind)
        if not name.startswith("__")
        or (name in PROTOCOL and getattr(kind, name) is not getattr(object, name, None))
    }
    return sorted(names)


def call_method(kind: type, name: str, make: Make, used: Any, values: Values) -> None:
    counts = counts_of(getattr(make(), name, None))
    for _ in range(TRIES if len(counts) > 1 or counts[0] else 2):
        arguments = values.arguments(values.random.choice(counts))
        for target in (make(),) if name in MAY_WAIT else (make(), used):
            say("call", kind.__qualname__, name, *(type(value).__name__ for value in arguments))
            attempt(lambda one, *given: getattr(one, name)(*given), target, *arguments)


def batter(kind: type, values: Values) -> None:
    make = values.empty(kind)
    if make is None:
        say("cannot be made by __new__:", kind.__qualname__)
        return
    say("class", kind.__qualname__)
    used = make()  # one object for all calls, beside a new one for each
    for name in names_of(kind):
        for target in (make(), used):
            say("get", kind.__qualname__, name)
            attempt(getattr, target, name)
        if callable(getattr(kind, name, None)):
            call_method(kind, name, make, used, values)
        elif not name.startswith("__"):
            for value in values.arguments(12):
                for target in (make(), used):
                    say("set", kind.__qualname__, name, type(value).__name__)
                    attempt(setattr, target, name, value)
            say("delete", kind.__qualname__, name)
            attempt(delattr, make(), name)
    say("buffer", kind.__qualname__)
    attempt(memoryview, make())
    say("in the queue of a loop", kind.__qualname__)
    for loop in (values.loop, values.aio_loop):
        for _ in range(LOOP_TURNS):
            attempt(loop._ready.append, make())
            attempt(loop._run_once)
    del used
    say("collection", kind.__qualname__)
    gc.collect()


def subclass(kind: type) -> type | None:
    """A subclass that forgets super().__init__(); None of a final class."""
    try:
        return type(f"{kind.__qualname__}.subclass", (kind,), {"__init__": lambda self, *_: None})
    except TypeError:
        return None


def main(module_name: str) -> None:
    os.dup2(2, LOG, inheritable=False)
    faulthandler.enable(LOG)
    faulthandler.dump_traceback_later(SECONDS_MAX, exit=True, file=LOG)
    # Whatever signal a call asks for, only a crash may end the process.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.unraisablehook = lambda _: None
    threading.excepthook = lambda _: None
    values = Values(zlib.crc32(module_name.encode()))
    for loop in (values.loop, values.aio_loop):
        loop.set_exception_handler(lambda *_: None)
        loop._stopping = True  # so that no iteration waits
    for kind in classes_of(importlib.import_module(module_name)):
        batter(kind, values)
        descendant = subclass(kind)
        if descendant is not None:
            batter(descendant, values)
    say("end")
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
