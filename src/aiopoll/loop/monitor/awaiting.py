"""What a task awaits: from coroutine to coroutine down to the future, and what that stands for.

Facts.  A suspended coroutine shows what it awaits (cr_await, ag_await, gi_yieldfrom), its frame and
line.  The objects between two coroutines (coroutine_wrapper, async_generator_asend) show nothing,
but the collector knows what they refer to.  A future does not know what will finish it: a timer, a
callback of a descriptor, a request or another future refers to it.

Rule.  A chain is followed by the attributes of types alone, so that no code of a program runs: no
repr, no __getattr__.  A class that passes for one of asyncio's may have code in their place: what
that raises costs a part of one record, not the dump.  What refers to futures is gathered once for
each dump.  A future that nothing known refers to is explained by the function of asyncio that made
it, the innermost frames' own.  Locals are read of these functions alone: before Python 3.13 a frame
keeps what was read.
"""

import asyncio
import asyncio.base_events
import concurrent.futures
import functools
import gc
import inspect
import os
from collections.abc import Callable, Iterable
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any, TypeVar

from aiopoll.loop.monitor.look import stream_of
from aiopoll.loop.monitor.records import AwaitDump, AwaitKind, FrameDump

T = TypeVar("T")

DEPTH_MAX = 200
"""Coroutines of one chain, and lines of one stack."""
REFERRED_MAX = 20
"""Names of awaited tasks that a text has."""

_ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep
_QUALNAME: Any = vars(type)["__qualname__"]
_NEXT = ("cr_await", "gi_yieldfrom", "ag_await")
_FRAMES = ("cr_frame", "gi_frame", "ag_frame")

_KINDS = {
    "Lock": AwaitKind.LOCK,
    "Condition": AwaitKind.LOCK,
    "Semaphore": AwaitKind.LOCK,
    "BoundedSemaphore": AwaitKind.LOCK,
    "Barrier": AwaitKind.LOCK,
    "Event": AwaitKind.EVENT,
    "Queue": AwaitKind.QUEUE,
    "TaskGroup": AwaitKind.TASKS,
    "Process": AwaitKind.PROCESS,
    "BaseSubprocessTransport": AwaitKind.PROCESS,
    "Server": AwaitKind.SERVER,
    "StreamReader": AwaitKind.STREAM,
    "StreamWriter": AwaitKind.STREAM,
    "FlowControlMixin": AwaitKind.STREAM,
}
"""By the class whose method of asyncio's made the future."""


def guarded(look: Callable[[], T], otherwise: T) -> T:
    """What a look at an object of the program returns; `otherwise` where that raises."""
    try:
        return look()
    except Exception:
        return otherwise


def class_of(thing: object) -> str:
    """The name of an object's class, which neither object nor class can change."""
    name: str = _QUALNAME.__get__(type(thing))
    return name


def name_of_task(task: Any) -> str:
    """The name of what is a task, or passes for one."""
    return guarded(lambda: str(task.get_name()), "") or _place(task)


def is_done(future: Any) -> bool:
    """Whether a future is done; False for what does not say it."""
    return guarded(lambda: bool(future.done()), False)


def chain_of(awaitable: Any) -> list[Any]:
    """The awaitable and all that it awaits, one through the other, outermost first."""
    chain: list[Any] = []
    while awaitable is not None and len(chain) < DEPTH_MAX:
        chain.append(awaitable)
        awaitable = _next_of(awaitable)
    return chain


def _next_of(awaitable: Any) -> Any:
    kind = type(awaitable)
    for name in _NEXT:
        if hasattr(kind, name):
            return guarded(lambda name=name: getattr(awaitable, name), None)  # type: ignore[misc]
    if class_of(awaitable) in (
        "coroutine_wrapper",
        "async_generator_asend",
        "async_generator_athrow",
    ):
        for referent in gc.get_referents(awaitable):
            if any(hasattr(type(referent), name) for name in _NEXT):
                return referent
    return None


def frame_of(awaitable: Any) -> FrameType | None:
    """The frame of a coroutine, a generator or the like; None if it has none any more."""
    for name in _FRAMES:
        if hasattr(type(awaitable), name):
            found = guarded(lambda name=name: getattr(awaitable, name), None)  # type: ignore[misc]
            return found if type(found) is FrameType else None
    return None


def line_of(frame: FrameType) -> FrameDump:
    """Where a frame stands."""
    code = frame.f_code
    return FrameDump(code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_qualname)


def stack_of(frames: Iterable[FrameType | None]) -> tuple[FrameDump, ...]:
    """Where frames stand, but the lines of the innermost ones only if there are too many."""
    lines = [line_of(frame) for frame in frames if frame is not None]
    return tuple(lines[-DEPTH_MAX:])


def owner_of(code: CodeType) -> str:
    """The name of the class whose method it is; "" for a function."""
    return code.co_qualname.rpartition(".")[0]


def name_of_callable(function: Any) -> str:
    """The name of a callback, with its file and line, without running code of the program."""
    return guarded(lambda: _name_of_callable(function), f"{class_of(function)} object")


def _name_of_callable(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    owner = getattr(function, "__self__", None) if _is_plain(function) else None
    if isinstance(owner, asyncio.Task):
        return f"step of task {name_of_task(owner)!r}"
    if not inspect.isroutine(function) and not inspect.isclass(function):
        return f"{class_of(function)} object"
    code = getattr(inspect.unwrap(function), "__code__", None)
    place = f" at {code.co_filename}:{code.co_firstlineno}" if isinstance(code, CodeType) else ""
    return f"{function.__qualname__}{place}"


def _is_plain(function: Any) -> bool:
    """Whether an attribute of it is looked up without code of the program."""
    return inspect.isroutine(function) or type(function).__module__ == "_asyncio"


class Referrers:
    """What refers to futures in one loop, by the future's id()."""

    def __init__(self) -> None:
        # With the future itself: the loop goes on, and another object could get its id().
        self._found: dict[int, tuple[object, AwaitDump]] = {}
        self._deadlines: dict[int, tuple[object, float]] = {}
        self._fds: dict[int, int] = {}

    def add_transport(self, transport: object, fd: int) -> None:
        """Notes the descriptor of a transport."""
        self._fds[id(transport)] = fd

    def add(self, future: object, awaited: AwaitDump) -> None:
        """Notes what will finish a future."""
        if future is not None:
            self._found[id(future)] = future, awaited

    def add_timer(self, seconds: float, callback: Any, args: Any) -> None:
        """Notes a timer that is due in so many seconds, if it finishes a future or ends a task."""
        function = callback.__func__ if type(callback) is MethodType else callback
        name = function.__qualname__ if type(function) is FunctionType else ""
        if name in ("_set_result_unless_cancelled", "_release_waiter") and args:
            kind = AwaitKind.SLEEP if name.startswith("_set") else AwaitKind.TIMEOUT
            words = "sleep" if kind is AwaitKind.SLEEP else "what has a timeout"
            self.add(args[0], AwaitDump(kind, f"{words}, {max(seconds, 0.0):.3f} s more", seconds))
        elif name == "Timeout._on_timeout" and type(callback) is MethodType:
            task = getattr(callback.__self__, "_task", None)
            self._deadlines[id(task)] = task, seconds

    def deadline(self, task: object) -> float | None:
        """Seconds until asyncio.timeout() ends a task; None without one."""
        return self._deadlines.get(id(task), (None, None))[1]

    def describe(self, future: Any, chain: list[Any]) -> AwaitDump:
        """What a task awaits that waits for the future, by way of the chain."""
        unknown = AwaitDump(AwaitKind.OTHER, f"{_place(future)}, which cannot be looked at")
        return guarded(lambda: self._describe(future, chain), unknown)

    def _describe(self, future: Any, chain: list[Any]) -> AwaitDump:
        if isinstance(future, asyncio.Task):
            name = name_of_task(future)
            return AwaitDump(AwaitKind.TASK, f"task {name!r}", task=name)
        found = self._found.get(id(future), (None, None))[1]
        if found is not None:
            return _of_wait_for(found, chain) if found.kind is AwaitKind.TIMEOUT else found
        if isinstance(children := getattr(future, "_children", None), list):
            return AwaitDump(AwaitKind.TASKS, f"gather of {_names(children)}")
        return (
            self._by_callbacks(future)
            or self._by_functions(chain)
            or AwaitDump(*_plain_future(future))
        )

    def _by_callbacks(self, future: Any) -> AwaitDump | None:
        """Of a future that follows another one: shield, run_in_executor."""
        for callback, *_ in getattr(future, "_callbacks", None) or ():
            code = getattr(callback, "__code__", None)
            if not isinstance(code, CodeType) or not code.co_filename.startswith(_ASYNCIO):
                continue
            for name, cell in zip(code.co_freevars, callback.__closure__ or (), strict=True):
                if name not in ("inner", "source"):
                    continue
                try:
                    source = cell.cell_contents
                except ValueError:
                    continue  # not set yet
                if isinstance(source, concurrent.futures.Future):
                    state = "runs" if source.running() else "waits for a thread"
                    return AwaitDump(AwaitKind.THREAD, f"call in an executor, which {state}")
                if asyncio.isfuture(source) and source is not future:
                    inner = self.describe(source, [])
                    return AwaitDump(
                        inner.kind, f"shielded {inner.text}", inner.seconds, inner.fd, inner.task
                    )
        return None

    def _by_functions(self, chain: list[Any]) -> AwaitDump | None:
        """By the functions of asyncio that are the innermost ones of a chain."""
        for awaitable in reversed(chain):
            if (stream := stream_of(awaitable)) is not None:
                return self._of_stream(f"{awaitable.__qualname__}()", stream)
            frame = frame_of(awaitable)
            if frame is None:
                continue  # what is between two coroutines, and the future itself
            code = frame.f_code
            if not code.co_filename.startswith(_ASYNCIO):
                return None
            if code.co_qualname == "_wait":
                return AwaitDump(
                    AwaitKind.TASKS, f"wait for {_names(frame.f_locals.get('fs', ()))}"
                )
            kind = _KINDS.get(owner_of(code))
            if kind is AwaitKind.STREAM:
                return self._of_stream(f"{code.co_qualname}()", frame.f_locals.get("self"))
            if kind is not None:
                return _of_object(kind, code.co_qualname, frame.f_locals.get("self"))
        return None

    def _of_stream(self, call: str, stream: Any) -> AwaitDump:
        fd = self._fds.get(id(getattr(stream, "_transport", None)))
        place = f"fd {fd}" if fd is not None else _place(stream)
        return AwaitDump(AwaitKind.STREAM, f"{call} of {place}", fd=fd)


def _of_wait_for(found: AwaitDump, chain: list[Any]) -> AwaitDump:
    """Before Python 3.12 wait_for() awaits a future of its own, and has a task for the rest."""
    for awaitable in reversed(chain):
        frame = frame_of(awaitable)
        if frame is not None and frame.f_code.co_qualname == "wait_for":
            task = frame.f_locals.get("fut")
            if isinstance(task, asyncio.Task):
                name, seconds = name_of_task(task), found.seconds or 0.0
                text = f"task {name!r}, times out in {max(seconds, 0.0):.3f} s"
                return AwaitDump(AwaitKind.TASK, text, seconds, task=name)
    return found


def _plain_future(future: Any) -> tuple[AwaitKind, str]:
    if future is None:
        return AwaitKind.OTHER, "something that is no future"
    return AwaitKind.FUTURE, _place(future)


def _names(futures: Iterable[Any]) -> str:
    pending = [each for each in futures if not is_done(each)]
    names = [
        repr(name_of_task(each)) if isinstance(each, asyncio.Task) else class_of(each)
        for each in pending[:REFERRED_MAX]
    ]
    more = f" and {len(pending) - len(names)} more" if len(pending) > len(names) else ""
    return f"{len(pending)} not done: {', '.join(names)}{more}" if pending else "none left"


def _of_object(kind: AwaitKind, function: str, owner: Any) -> AwaitDump:
    text = f"{function}() of {_place(owner)}"
    if isinstance(owner, asyncio.Queue):
        text += f", {len(owner._queue)} of {owner.maxsize or 'any number'}"  # type: ignore[attr-defined]
    elif isinstance(owner, asyncio.TaskGroup):
        return AwaitDump(kind, f"task group with {_names(owner._tasks)}")
    elif kind is AwaitKind.PROCESS:
        pid = getattr(owner, "pid", None) or getattr(owner, "_pid", None)
        return AwaitDump(kind, f"end of process {pid}")
    elif (waiters := getattr(owner, "_waiters", None)) is not None:
        text += f", {len(waiters)} waiting"
    return AwaitDump(kind, text)


def _place(owner: object) -> str:
    return f"{class_of(owner)} at {id(owner):#x}"
