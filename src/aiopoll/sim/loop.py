"""The event loop of a host: asyncio's own selector loop, run one handle at a time.

Facts: asyncio promises that callbacks run in the order in which they were scheduled. It promises no
order between tasks, between sockets that are ready at once, or between timers of one instant.

Rule: a step task (sched.py) runs the loop, one handle a step. What asyncio leaves open is a draw of
the tape. A step of a task may be put off, past callbacks and other tasks; it is never brought
forward past an earlier callback. Overtaking one breaks asyncio's own transports: the writer's end,
for one, must come before what waits for it. Nor is it put off for ever: anyio cancels a task by a
callback that schedules itself until the task has run.

    the ready queue   candidates for the next step: the tasks before the first callback, and it
    the selector      the order of the sockets that are ready
    timers            the order of those that are due at one instant

Left out: subprocesses; slow-callback warnings, since a callback takes no virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import heapq
import inspect
import itertools
import math
import sys
from asyncio import events
from collections.abc import Callable, Iterator
from typing import Any

from ..kernel.hrtimer import HrTimer
from ..kernel.runner import Future, Task
from ..kernel.sched import (
    TASK_DEAD,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TaskExit,
)
from ..kernel.selector import KernelSelector
from ..kernel.signal import Killed
from ..kernel.uapi import NSEC_PER_SEC
from ..kernel.wait import WaitQueueEntry
from .inside import Escaped, host
from .names.escape import CHILD, escaped
from .sched import StepTask
from .stopping import close
from .waiting import name_of

CANDIDATES_MAX = 32
"""Tasks among which one draw chooses: with more of them each step would look at all."""
PASSED_MAX = 1000
"""How often others are taken before the first task in line: then it runs, for loops are fair."""
THREADS_MAX = 32
"""Functions that run at a time in the default executor; more wait in line."""


def task_of(handle: events.Handle) -> asyncio.Task[Any] | None:
    """Return the task that `handle` steps, or None if it is a callback."""
    owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    return owner if isinstance(owner, asyncio.Task) else None


def forget(transport: Any) -> None:
    """Let the finalizers of a transport and its stream find it closed: its machine is off."""
    transport._closing = True
    transport._sock = None
    inner = getattr(getattr(transport, "_protocol", None), "_app_transport", None)
    if inner is not None:
        inner._closed = True


class Timer(events.TimerHandle):
    """A timer with a number: of two for one instant, the older is the first in the plain order."""

    __slots__ = ("number",)
    number: int


class SimEventLoop(asyncio.SelectorEventLoop):
    """asyncio's selector loop on the clock and the descriptors of the host that makes it.

    Raises RuntimeError outside of a simulated world.
    """

    def __init__(self) -> None:
        machine = host()
        if machine is None:
            raise RuntimeError("a SimEventLoop is made by the code of a simulated host")
        self.host = machine
        self._sched = machine.world.sched
        self._tape = machine.world.tape
        self._numbers = itertools.count(1)
        number = machine.count_loop()
        name = machine.name if number == 1 else f"{machine.name} loop {number}"
        self._step_label = f"{name} step"
        self._events_label = f"{name} events"
        self._timers_label = f"{name} timers"
        self.task: StepTask = StepTask(name, self._sched.current.process, self._step)
        self._timer = HrTimer(self._wake)
        self._in_step = False
        self._active = False
        self._todo = 0
        self._passed = 0
        self._sleeper: Any = None
        self._failure: BaseException | None = None
        self._threads = 0
        self._timer_cancelled_count = 0
        self._waiting_for_thread: list[Callable[[], None]] = []
        self._no_threads_left: asyncio.Future[None] | None = None
        self._handlers: dict[int, events.Handle] = {}
        self.main_task: asyncio.Task[Any] | None = None
        self._left: set[asyncio.Task[Any]] = set()
        self._kernel = machine.kernel
        self._kernel_selector = KernelSelector(self._kernel)
        self._firstiter = self._asyncgen_firstiter_hook  # type: ignore[attr-defined]
        self._finalizer = self._asyncgen_finalizer_hook  # type: ignore[attr-defined]
        super().__init__(self._kernel_selector)
        self._clock_resolution = 1 / NSEC_PER_SEC
        self._ep: Any = machine.kernel.fget(self._kernel_selector.fileno()).private_data
        self._ep.wq.add_wait_queue(WaitQueueEntry(self._epoll_woken))
        machine.loops.append(self)

    def __repr__(self) -> str:
        return f"<SimEventLoop {self.task.name} closed={self.is_closed()}>"

    # The clock and the queue

    def time(self) -> float:
        """Return the seconds of the host's monotonic clock."""
        return self.host.monotonic_ns() / NSEC_PER_SEC

    def _make_self_pipe(self) -> None:
        # asyncio's method. A loop without a stack is not woken by a byte.
        self._internal_fds: int = 0

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        self._wake()

    def _wake(self) -> None:
        """Make the loop's task ready, if the loop runs and its task sleeps between two steps."""
        if self._active and not self._in_step:
            self._sched.wake_up_process(self.task)

    def _epoll_woken(self, entry: WaitQueueEntry, key: int) -> int:
        self._wake()
        return 1

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        """As asyncio's."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if self.get_debug():
            self._check_callback(callback, "call_soon")  # type: ignore[attr-defined]
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        if self._active and not self._in_step:
            self._sched.wake_up_process(self.task)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        """As call_soon: exactly one thread of a world runs at a time."""
        return self.call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Any,
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> events.TimerHandle:
        """As asyncio's."""
        if when is None:
            raise TypeError("when cannot be None")
        self._check_closed()  # type: ignore[attr-defined]
        timer = Timer(when, callback, args, self, context)
        timer.number = next(self._numbers)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        if self._active and not self._in_step and self.task.state != TASK_RUNNING:
            self.arm()
        return timer

    def create_future(self) -> Future:
        return Future(next(self._numbers), loop=self)

    def create_task(self, coro: Any, **kw: Any) -> Any:
        """As asyncio's; tasks are named and hashed by their number, so that runs are alike."""
        if self.get_task_factory() is not None:
            return super().create_task(coro, **kw)
        self._check_closed()  # type: ignore[attr-defined]
        number = next(self._numbers)
        if kw.get("name") is None:
            kw["name"] = f"Task-{number}"
        return Task(number, coro, loop=self, **kw)

    # Steps

    def _step(self) -> None:
        """Run one handle, and begin a new iteration if the last one is over."""
        task = self.task
        self._in_step = True
        try:
            if task.pending:
                self.host.kernel.signals.deliver()
            if not self._todo:
                self._begin_iteration()
            if self._ready:  # type: ignore[attr-defined]
                handle = self._take()
                if self._sched.trace is not None:
                    self._trace(handle)
                events._set_running_loop(self)
                sys.set_asyncgen_hooks(self._firstiter, self._finalizer)
                try:
                    if not handle.cancelled():
                        handle._run()
                finally:
                    events._set_running_loop(None)
        except (SystemExit, KeyboardInterrupt) as exc:
            self._failure = exc
            self._stopping = True
            self._todo = 0
        except Killed as exc:
            self.host.ended(exc)
        finally:
            self._in_step = False
        if task.state == TASK_DEAD:
            return
        if self._stopping and not self._todo:
            self._end_forever()
        elif self._ready or self._ep.rdllist or task.pending:  # type: ignore[attr-defined]
            task.state = TASK_RUNNING
        else:
            self._todo = 0
            task.state = TASK_INTERRUPTIBLE
            self.arm()

    def _begin_iteration(self) -> None:
        if self._ep.rdllist:
            # As epoll_wait does without a timeout, less the entry and exit of a system call.
            selector = self._kernel_selector
            found = selector.ready(self._ep.send_events(len(selector.keys) or 1))
            if len(found) > 1:
                found = self._shuffled(found, self._events_label)
            self._process_events(found)  # type: ignore[attr-defined]
        scheduled: list[Timer] = self._scheduled  # type: ignore[attr-defined]
        if scheduled:
            self._move_due(scheduled)
        self._todo = len(self._ready)  # type: ignore[attr-defined]

    def _shuffled(self, found: list[Any], label: str) -> list[Any]:
        found = list(found)
        order: list[Any] = []
        while len(found) > 1:
            order.append(found.pop(self._tape.pick(label, len(found))))
        return order + found

    def _move_due(self, scheduled: list[Timer]) -> None:
        """Put the timers that are due into the ready queue, those of one instant in any order."""
        end = self.time() + self._clock_resolution
        due: list[Timer] = []
        while scheduled and scheduled[0].when() < end:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            if handle.cancelled():
                self._timer_cancelled_count -= 1
            else:
                due.append(handle)
        if len(due) > 1:
            due.sort(key=lambda timer: (timer.when(), timer.number))
            due = [
                handle
                for _, group in itertools.groupby(due, key=lambda handle: handle.when())
                for handle in self._shuffled(list(group), self._timers_label)
            ]
        self._ready.extend(due)  # type: ignore[attr-defined]

    def _take(self) -> events.Handle:
        """Take the handle that runs now."""
        ready = self._ready  # type: ignore[attr-defined]
        self._todo -= 1
        if len(ready) > 1 and self._passed < PASSED_MAX:
            candidates = 0
            for handle in ready:
                candidates += 1
                if candidates == CANDIDATES_MAX or task_of(handle) is None:
                    break
            if candidates > 1:
                index = self._tape.pick(self._step_label, candidates, self._names)
                if index:
                    self._passed += 1
                    chosen: events.Handle = ready[index]
                    del ready[index]
                    return chosen
        self._passed = 0
        first: events.Handle = ready.popleft()
        return first

    def _trace(self, handle: events.Handle) -> None:
        task = task_of(handle)
        callback = handle._callback  # type: ignore[attr-defined]
        name = getattr(callback, "__qualname__", "") if task is None else task.get_name()
        assert self._sched.trace is not None
        self._sched.trace(self._sched.clock.now_ns, self.task.name, "run", (name,), None)

    def _names(self) -> list[object]:
        """Return what the candidates are, for a strategy that gives priorities."""
        names: list[object] = []
        for handle in itertools.islice(self._ready, CANDIDATES_MAX):  # type: ignore[attr-defined]
            task = task_of(handle)
            names.append(f"{self.task.name} {'callbacks' if task is None else name_of(task)}")
        return names

    def arm(self) -> None:
        """Let the world's clock wake the loop at its next timer."""
        scheduled: list[Timer] = self._scheduled  # type: ignore[attr-defined]
        if self._timer_cancelled_count > 50 and self._timer_cancelled_count * 2 > len(scheduled):
            for handle in scheduled:
                if handle.cancelled():
                    handle._scheduled = False  # type: ignore[attr-defined]
            scheduled[:] = [handle for handle in scheduled if not handle.cancelled()]
            heapq.heapify(scheduled)
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0].cancelled():
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        clock = self._sched.clock
        if scheduled:
            at_ns = self.host.world_ns(math.ceil(scheduled[0].when() * NSEC_PER_SEC))
            if self._timer.expires_ns != at_ns:
                clock.start(self._timer, max(at_ns, clock.now_ns))
        elif self._timer.active:
            clock.cancel(self._timer)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """As asyncio's, but for two errors.

        The end of what a machine without power left unfinished is none. An Escaped that would be
        no more than logged ends the run.
        """
        error = context.get("exception")
        if isinstance(error, Escaped):
            self._sched.fail(error)
        if not isinstance(error, TaskExit):
            super().call_exception_handler(context)

    # Running

    def start(self) -> None:
        """Let the loop run, without a caller that waits for it: the host's main loop does."""
        self._active = True
        self._wake()

    def run_forever(self) -> None:
        """As asyncio's, for a thread of the host: it sleeps while the loop's task steps."""
        self._check_closed()  # type: ignore[attr-defined]
        if self._active:
            raise RuntimeError("This event loop is already running")
        if events._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")
        sched = self._sched
        self._sleeper = sleeper = sched.current
        self.task.process = sleeper.process
        self.start()
        try:
            while self._active:
                if set(sleeper.pending) - sleeper.blocked:
                    self.host.kernel.signals.deliver()
                    continue
                sleeper.state = TASK_INTERRUPTIBLE
                sched.schedule()
        finally:
            self._halt()
            self._sleeper = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _halt(self) -> None:
        self._active = False
        self._stopping = False
        self._todo = 0
        self.task.state = TASK_INTERRUPTIBLE
        self._sched.clock.cancel(self._timer)

    def _end_forever(self) -> None:
        self._halt()
        if self._sleeper is not None:
            self._sched.wake_up_process(self._sleeper)
        elif self._failure is not None:
            self.host.ended(self._failure)
        elif self.main_task is not None and not self.main_task.done():
            self.host.ended(RuntimeError("Event loop stopped before Future completed."))

    def is_running(self) -> bool:
        return self._active

    def close(self) -> None:
        """As asyncio's."""
        if self._kernel.halted:
            # By a finalizer, after the world is over.
            self.unwind()
            return
        if self._active:
            raise RuntimeError("Cannot close a running event loop")
        self._handlers.clear()
        super().close()
        self._sched.clock.cancel(self._timer)
        self._sched.drop(self.task)
        with contextlib.suppress(ValueError):
            self.host.loops.remove(self)

    def abandon(self) -> None:
        """Let the loop never step again: its host has lost its power, or its process its life."""
        # asyncio holds tasks weakly: one that was collected now would run its finally blocks.
        self._left = asyncio.all_tasks(self)
        self._active = False
        self._sched.clock.cancel(self._timer)
        self._sched.drop(self.task)

    def unwind(self) -> None:
        """Close the coroutines that were left, once the world is over."""
        for transport in list(self._transports.values()):  # type: ignore[attr-defined]
            # It was in use when the world ended: no program has forgotten to close it.
            transport._closing = True
            transport._sock = None
        unwound: set[asyncio.Task[Any]] = set()
        # Those too that a finally block begins meanwhile.
        while left := asyncio.all_tasks(self) - unwound:
            for task in sorted(left, key=hash):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                # Where it awaits once more it stands, and is closed there.
                close(task.get_coro(), functools.partial(self._as_current, task))
            unwound |= left
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self._left.clear()
        self._closed = True

    @contextlib.contextmanager
    def _as_current(self, task: asyncio.Task[Any]) -> Iterator[None]:
        events._set_running_loop(self)
        asyncio.tasks._enter_task(self, task)
        try:
            yield
        finally:
            asyncio.tasks._leave_task(self, task)
            events._set_running_loop(None)

    # Threads, names and signals

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Run `func` in a thread of the host, which the world's scheduler runs."""
        self._check_closed()  # type: ignore[attr-defined]
        if executor is None:
            executor = self._default_executor  # type: ignore[attr-defined]
        if executor is not None:
            return super().run_in_executor(executor, func, *args)
        if self._executor_shutdown_called:
            raise RuntimeError("Executor shutdown has been called")
        future = self.create_future()

        def settle(method: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                method(value)

        def body() -> None:
            try:
                result = func(*args)
            except TaskExit:
                raise
            except BaseException as exc:
                self.call_soon(settle, future.set_exception, exc)
            else:
                self.call_soon(settle, future.set_result, result)
            self._thread_ended()

        def start() -> None:
            self._threads += 1
            self._sched.spawn(body, f"{self.host.name} thread {next(self._numbers)}")

        if self._threads < THREADS_MAX:
            start()
        else:
            self._waiting_for_thread.append(start)
        return future

    def _thread_ended(self) -> None:
        self._threads -= 1
        if self._waiting_for_thread:
            self._waiting_for_thread.pop(0)()
        elif not self._threads and self._no_threads_left is not None:
            self.call_soon(self._no_threads_left.set_result, None)
            self._no_threads_left = None

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait until the functions in the default executor have returned."""
        self._executor_shutdown_called = True
        if self._threads:
            self._no_threads_left = self.create_future()
            await self._no_threads_left

    async def getaddrinfo(self, host: Any, port: Any, **kw: Any) -> Any:
        """As asyncio's; the world resolves names at once."""
        import socket

        return socket.getaddrinfo(host, port, **kw)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        """As asyncio's; the world resolves addresses at once."""
        import socket

        return socket.getnameinfo(sockaddr, flags)

    async def _make_subprocess_transport(self, *args: Any, **kw: Any) -> Any:
        raise escaped("a subprocess", CHILD)

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Run `callback` in the loop when the host's kernel delivers `sig`."""
        self._check_closed()  # type: ignore[attr-defined]
        if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        handle = events.Handle(callback, args, self, None)
        self._handlers[int(sig)] = handle
        self.host.kernel.sigaction(sig, lambda _: self._add_handle(handle))

    def _add_handle(self, handle: events.Handle) -> None:
        self._ready.append(handle)  # type: ignore[attr-defined]
        self._wake()

    def remove_signal_handler(self, sig: int) -> bool:
        if self._handlers.pop(int(sig), None) is None:
            return False
        self.host.kernel.signals.handlers.pop(int(sig), None)
        return True
