"""Makes a dump of a loop, from any thread, while the loop does whatever it does.

Facts.  While a thread has the GIL no other changes a loop, and a loop that is stuck in a callback
stays as it is.  Without a GIL a compiled object may change while it is read.

Rule.  The structures are read as they are, once; no lock is taken, and no code of the program runs.
Without a GIL a loop in another thread is asked to make the dump itself; from one that does not come
to it in time there are its tasks and the stack of its thread, and `missing` says so.

Cost.  Nothing before the first dump.  A dump looks at all timers, registrations and tasks, up to
SCAN_MAX of each; it makes records of up to the limit.
"""

import asyncio
import heapq
import itertools
import os
import platform
import queue
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from types import FrameType, MethodType
from typing import TYPE_CHECKING, Any

from aiopoll.loop.monitor import look
from aiopoll.loop.monitor.awaiting import (
    DEPTH_MAX,
    Referrers,
    chain_of,
    class_of,
    frame_of,
    guarded,
    is_done,
    name_of_callable,
    name_of_task,
    stack_of,
)
from aiopoll.loop.monitor.records import (
    AwaitDump,
    AwaitKind,
    DescriptorDump,
    ExecutorDump,
    FrameDump,
    LoopDump,
    LoopState,
    RequestDump,
    TaskDump,
    TaskState,
    ThreadDump,
    TimerDump,
)

if TYPE_CHECKING:
    from aiopoll.loop.event_loop import EventLoop

LIMIT = 100
"""Records of each kind, where the caller does not say."""
SCAN_MAX = 100_000
"""Timers, tasks and callbacks that are looked at, however few are shown."""
DIGITS_MAX = 1000
"""Of a number in a name: int() refuses those of some thousand digits."""
WAIT_S = 1.0
"""How long a loop without a GIL is waited for."""

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def dump_of(loop: "EventLoop", limit: int = LIMIT) -> LoopDump:
    """Returns a LoopDump with up to `limit` records of each kind; ValueError below 0."""
    if limit < 0:
        raise ValueError(f"limit must be 0 or more, not {limit}")
    if not look.is_elsewhere(loop):
        return _Dump(loop, limit).whole()
    box: queue.SimpleQueue[LoopDump | BaseException] = queue.SimpleQueue()

    def make() -> None:
        try:
            box.put(_Dump(loop, limit).whole())
        except BaseException as error:
            box.put(error)

    try:
        loop.call_soon_threadsafe(make)
        made = box.get(timeout=WAIT_S)
    except (RuntimeError, queue.Empty):
        return _Dump(loop, limit).part(
            "descriptors, timers, ready callbacks, requests and what finishes futures: without a"
            " GIL only the loop itself can look at them, and it is busy"
        )
    if isinstance(made, BaseException):
        raise made
    return made


def loops_of(found: "weakref.WeakSet[EventLoop]") -> "list[EventLoop]":
    """The loops of a set, to which other threads add meanwhile, in the order of their id()."""
    while True:
        try:
            return sorted(found, key=id)
        except RuntimeError:
            pass  # it has grown


class _Dump:
    """One dump in the making."""

    def __init__(self, loop: "EventLoop", limit: int) -> None:
        self.loop = loop
        self.limit = limit
        self.now = loop.time()
        self.referrers = Referrers()
        self.frames = sys._current_frames()
        pipe = getattr(loop, "_ssock", None)
        self.own_pipe = -1 if pipe is None else pipe.fileno()
        self._note_tasks()
        self.threads = {thread.ident: thread for thread in list(threading._active.values())}  # type: ignore[attr-defined]

    def whole(self) -> LoopDump:
        loop = self.loop
        nr_timers, timers = self._timers()
        nr_descriptors, descriptors = self._descriptors()
        nr_requests, requests = self._requests()
        _, _, nr_ready = look.progress(loop)
        ready = list(itertools.islice(loop._ready, self.limit))
        return self._record(
            nr_ready=nr_ready,
            ready=tuple(_text_of_handle(handle) for handle in ready if handle is not None),
            nr_descriptors=nr_descriptors,
            descriptors=descriptors,
            nr_timers=nr_timers,
            timers=timers,
            nr_requests=nr_requests,
            requests=requests,
            statistics={} if loop.is_closed() else loop.statistics()._asdict(),
            missing="",
        )

    def part(self, missing: str) -> LoopDump:
        """Without what only the loop's own thread may look at."""
        return self._record(
            nr_ready=0,
            ready=(),
            nr_descriptors=0,
            descriptors=(),
            nr_timers=0,
            timers=(),
            nr_requests=0,
            requests=(),
            statistics={},
            missing=missing,
        )

    def _record(self, **parts: Any) -> LoopDump:
        loop = self.loop
        iterations, callbacks, _ = look.progress(loop)
        thread = self._thread(loop._thread_id)
        return LoopDump(
            taken_at=time.time(),
            pid=os.getpid(),
            python=platform.python_version(),
            loop=f"{type(loop).__qualname__} at {id(loop):#x}",
            ident=id(loop),
            backend=loop.backend,
            backend_reason=loop.backend_reason,
            debug=loop.get_debug(),
            state=self._state(),
            thread=thread,
            iterations=iterations,
            callbacks=callbacks,
            nr_tasks=self.nr_tasks,
            tasks=tuple(self._task(*noted) for noted in self.tasks),
            executors=self._executors(),
            **parts,
        )

    def _state(self) -> LoopState:
        if self.loop.is_closed():
            return LoopState.CLOSED
        if self.loop._thread_id is None:
            return LoopState.NOT_RUNNING
        return LoopState.ASLEEP if look.is_asleep(self.loop) else LoopState.RUNNING

    # Threads

    def _stack(self, ident: int) -> tuple[FrameDump, ...]:
        frames: list[FrameType] = []
        frame = self.frames.get(ident)
        while frame is not None and len(frames) < DEPTH_MAX:
            # Of the thread that makes the dump, that is no part of it.
            if frames or not frame.f_code.co_filename.startswith(_HERE):
                frames.append(frame)
            frame = frame.f_back
        return stack_of(reversed(frames))

    def _thread(self, ident: int | None) -> ThreadDump | None:
        if ident is None:
            return None
        thread = self.threads.get(ident)
        name = "" if thread is None else thread.name
        native = 0 if thread is None else thread.native_id or 0
        return ThreadDump(name, ident, native, self._stack(ident))

    def _executors(self) -> tuple[ExecutorDump, ...]:
        found = []
        default = getattr(self.loop, "_default_executor", None)
        if default is not None:
            size = getattr(default, "_max_workers", 0)
            found.append(self._executor("default executor", size, default))
        files = self.loop._aiopoll_files
        for name, size, executor in () if files is None else files.executors():
            if executor is not None:
                found.append(self._executor(name, size, executor))
        return tuple(found)

    def _executor(self, name: str, size: int, executor: Any) -> ExecutorDump:
        waiting = getattr(executor, "_work_queue", None)
        threads = list(getattr(executor, "_threads", ()))
        shown = [
            self._thread(each.ident)
            for each in sorted(threads, key=lambda each: _natural(each.name))[: self.limit]
        ]
        return ExecutorDump(
            name=name,
            threads_max=size,
            queued=0 if waiting is None else waiting.qsize(),
            nr_threads=len(threads),
            threads=tuple(each for each in shown if each is not None),
        )

    # What the loop has

    def _timers(self) -> tuple[int, tuple[TimerDump, ...]]:
        total = self.loop._timer_count()
        found = [(when, at, handle) for at, (when, handle) in enumerate(self._all_timers())]
        shown = []
        for when, _, handle in heapq.nsmallest(self.limit, found):
            callback = "nothing" if handle is None else _text_of_handle(handle)
            cancelled = handle is None or handle.cancelled()
            shown.append(TimerDump(when - self.now, callback, cancelled))
        return total, tuple(shown)

    def _all_timers(self) -> list[tuple[float, asyncio.TimerHandle | None]]:
        found = look.timers(self.loop, SCAN_MAX)
        for when, handle in found:
            # Another thread may run and empty it meanwhile.
            callback = getattr(handle, "_callback", None)
            if callback is not None:
                args = getattr(handle, "_args", None)
                self.referrers.add_timer(when - self.now, callback, args)
        return found

    def _descriptors(self) -> tuple[int, tuple[DescriptorDump, ...]]:
        for fd, transport in self.loop._transports.items():
            self.referrers.add_transport(transport, fd)
        found = look.registrations(self.loop)
        shown: list[DescriptorDump] = []
        for fd, state, where, owned, armed, reader, writer in found:
            self._note_waits(fd, reader)
            self._note_waits(fd, writer)
            if len(shown) < self.limit:
                kind, local, peer = _file_of(fd)
                reading, writing = self._use(fd, reader), self._use(fd, writer)
                shown.append(
                    DescriptorDump(
                        fd, state, where, owned, armed, reading, writing, kind, local, peer
                    )
                )
        return len(found), tuple(shown)

    def _note_waits(self, fd: int, callback: Any) -> None:
        waits = look.wait_of(callback)
        if waits is not None:
            name, fd, future = waits
            text = f"{_sock_method(name)} of fd {fd}"
            self.referrers.add(future, AwaitDump(AwaitKind.SOCKET, text, fd=fd))
        elif isinstance(callback, asyncio.Handle):
            function, args = callback._callback, callback._args  # type: ignore[attr-defined]
            name = "" if type(function) is not MethodType else name_of_callable(function)
            name = name.partition(" at ")[0].rpartition(".")[2]
            if name.startswith("_sock_") and args and asyncio.isfuture(args[0]):
                text = f"{name[1:]} of fd {fd}"
                self.referrers.add(args[0], AwaitDump(AwaitKind.SOCKET, text, fd=fd))

    def _use(self, fd: int, callback: Any) -> str | None:
        """What a descriptor is watched for, in one direction."""
        if callback is None:
            return None
        if fd == self.own_pipe:
            return "signals and other threads"
        waits = look.wait_of(callback)
        if waits is not None:
            return _sock_method(waits[0])
        if isinstance(callback, asyncio.Handle):
            return _text_of_handle(callback)
        transport = self.loop._transports.get(fd)
        name = type(callback).__name__
        if name == "Acceptor":
            return "listener"
        return name if transport is None else type(transport).__name__

    def _requests(self) -> tuple[int, tuple[RequestDump, ...]]:
        files = self.loop._aiopoll_files
        found = [] if files is None else files.requests_now()
        shown: list[RequestDump] = []
        for future, kind, state, name, fd, offset, size, seconds in found:
            file = "" if name is None else _text_of_name(name)
            text = (
                f"{kind} of {size} bytes at {offset} of {file!r}" if file else f"{kind} of a file"
            )
            if file and kind in ("sync", "call", "close"):
                text = f"{kind} of {file!r}"
            self.referrers.add(
                future,
                AwaitDump(AwaitKind.FILE, f"{text}, {state}", seconds, fd if fd >= 0 else None),
            )
            if len(shown) < self.limit:
                shown.append(RequestDump(kind, state, file, fd, offset, size, seconds))
        return len(found), tuple(shown)

    # Tasks

    def _note_tasks(self) -> None:
        """Notes which tasks are shown and what they await, before what finishes futures is read.

        The loop may go on meanwhile: what has finished by then was awaited before.
        """
        loop = self.loop
        tasks = asyncio.all_tasks(loop)
        current = asyncio.current_task(loop) if loop._thread_id is not None else None

        def order(task: asyncio.Task[Any]) -> tuple[int, Any]:
            return _ORDER[_state_of(task, current)], _natural(name_of_task(task))

        self.nr_tasks = len(tasks)
        self.tasks = [
            (task, _state_of(task, current), getattr(task, "_fut_waiter", None))
            for task in heapq.nsmallest(self.limit, tasks, key=order)
        ]

    def _task(self, task: asyncio.Task[Any], state: TaskState, future: Any) -> TaskDump:
        coroutine: Any = guarded(lambda: task.get_coro(), None)
        function = guarded(lambda: coroutine.__qualname__, None)
        chain = chain_of(coroutine)
        awaits = None
        if state is TaskState.WAITING:
            if future is None or is_done(future):
                state = TaskState.READY
            else:
                awaits = self.referrers.describe(future, chain)
        return TaskDump(
            name=name_of_task(task),
            ident=id(task),
            state=state,
            coroutine=function if isinstance(function, str) else class_of(coroutine),
            stack=self._running_stack(coroutine)
            if state is TaskState.RUNNING
            else stack_of(frame_of(each) for each in chain),
            awaits=awaits,
            deadline=self.referrers.deadline(task),
            cancelling=guarded(lambda: int(task.cancelling()), 0),
            made_at=_made_at(self.loop, task),
        )

    def _running_stack(self, coroutine: Any) -> tuple[FrameDump, ...]:
        """The part of the thread's stack that the coroutine has called."""
        own = frame_of(coroutine)
        frames: list[FrameType] = []
        frame = self.frames.get(self.loop._thread_id or 0)
        while frame is not None and len(frames) < DEPTH_MAX:
            if frames or not frame.f_code.co_filename.startswith(_HERE):
                frames.append(frame)
            if frame is own:
                return stack_of(reversed(frames))
            frame = frame.f_back
        return stack_of([own])


_ORDER = {TaskState.RUNNING: 0, TaskState.READY: 1, TaskState.WAITING: 2}


def _state_of(task: asyncio.Task[Any], current: asyncio.Task[Any] | None) -> TaskState:
    if task is current:
        return TaskState.RUNNING
    future = getattr(task, "_fut_waiter", None)
    return TaskState.READY if future is None or is_done(future) else TaskState.WAITING


def _made_at(loop: Any, task: Any) -> tuple[FrameDump, ...]:
    """The stack that debug mode has noted, or the line that is noted while stalls are watched."""
    stack: Iterable[Any] = getattr(task, "_source_traceback", None) or ()
    if not stack and (place := loop._task_place(task)) is not None:
        return (FrameDump(*place),)
    return tuple(FrameDump(each.filename, each.lineno or 0, each.name) for each in stack)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts Task-10 after Task-9."""
    return [
        (0, int(part), "") if part.isdecimal() and len(part) < DIGITS_MAX else (1, 0, part)
        for part in re.findall(r"\d+|\D+", name)
    ]


def _sock_method(name: str) -> str:
    """sock_recv_into of RecvInto."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return "sock_" + words.replace("send_all", "sendall").replace("send_to", "sendto").replace(
        "recv_from", "recvfrom"
    )


def _text_of_name(name: Any) -> str:
    """Of a file: its path as the program has given it, or a number."""
    unknown = f"{class_of(name)} object"
    return guarded(lambda: str(name) if isinstance(name, (str, int)) else repr(name), unknown)


def _text_of_handle(handle: Any) -> str:
    callback: Callable[..., object] | None = getattr(handle, "_callback", None)
    if callback is None:
        cancelled = isinstance(handle, asyncio.Handle)
        return "cancelled" if cancelled else type(handle).__name__
    return name_of_callable(callback)


def _file_of(fd: int) -> tuple[str, str, str]:
    """(kind, local address, peer) of a descriptor; of what is no socket its link in /proc."""
    found = look.socket_of(fd)
    if found is not None:
        return found[0], _address(found[1]), _address(found[2])
    try:
        return os.readlink(f"/proc/self/fd/{fd}"), "", ""
    except OSError:
        return "closed", "", ""


def _address(address: Any) -> str:
    if isinstance(address, tuple):
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"{host}:{address[1]}"
    if isinstance(address, bytes):
        return "@" + address.lstrip(b"\0").decode("utf-8", "backslashreplace")
    return str(address or "")
