"""The scheduler of a world: tasks with a stack, tasks without one, and what drives them.

Facts: an event loop needs no stack of its own between two handles, a blocking system call does. A
change between two host threads costs 6 to 20 microseconds, a call of `step` a tenth of one.

Rule: an event loop is a StepTask. A driver, which is a thread at the foot of its stack, calls
`step` for one handle. A step that blocks keeps its driver's stack until it is woken, and another
thread drives meanwhile. Exactly one thread runs at any time, and control passes in `schedule`
alone, so the tape decides a run.

    event                                 what runs next
    a step has ended                      the same driver: the next step
    a step blocks                         another driver, or a task with a stack
    the choice falls on a blocked step    its stack; the driver waits, idle
    the program has ended                 the first driver, which returns to the caller

Left out: interrupts at any other place than between two steps and in blocking calls; so threads of
a program are cooperative here, and a race between two of their instructions is not found.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable
from time import sleep
from typing import TYPE_CHECKING, Any

from ..kernel.sched import (
    TASK_DEAD,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Choice,
    Deadlock,
    Scheduler,
    Task,
    TaskExit,
)
from ..kernel.trace import WAKE
from .inside import place
from .interrupts import raise_in
from .stopping import calm, foot, refuse

if TYPE_CHECKING:
    from ..kernel.fork import Process
    from .tape import Tape

NO_PROGRESS_MAX = 1_000_000
"""Steps without any passing of time after which a program is said to spin."""

SPIN_MAX = 1_000_000
NOTHING = 100
"""A task spins that asks SPIN_MAX times at one instant; where it finds nothing, each counts so."""
NSEC_PER_USEC = 1_000

PATIENCE_S = 1.0
"""Seconds of the real machine after which a thread that control-C has ended must give way."""

COLLECT_MASK = 0x3FFF
"""The collector of cycles runs each time that the number of steps has none of these bits."""


def taken_lock() -> Any:
    """Return a lock of the real machine, taken: the next `acquire` waits for a `release`."""
    lock = allocate_lock()
    lock.acquire()
    return lock


class Livelock(RuntimeError):
    """The program runs on and on, and no time passes: it waits for something by asking again."""


class StepTask(Task):
    """A task without a stack: a driver calls `step` each time that the choice falls on it."""

    def __init__(self, name: str, process: Process, step: Callable[[], None]) -> None:
        super().__init__(name)
        self.state = TASK_INTERRUPTIBLE
        self.process = process
        self.step = step
        # Whether a step has blocked, and a stack waits for it.
        self.suspended = False


class WorldScheduler(Scheduler):
    """The kernel's scheduler with step tasks, whose choices come from `tape`."""

    # Of Scheduler: its methods here write them.
    wakeups: int
    switches: int
    current: Task

    def __init__(self, tape: Tape, realtime_offset_ns: int) -> None:
        super().__init__(Choice(), realtime_offset_ns)
        self.tape = tape
        tape.now_ns = self.now
        self.ready: list[Task] = []
        self.steps: int = 0
        self.after_step: Callable[[StepTask], None] | None = None
        self.limit_ns: int | None = None
        self._steps_at_ns = 0
        self._steps_since = 0
        self._idle: list[Any] = []
        self._suspended: list[StepTask] = []
        self._first: Any = taken_lock()
        self._first_step: StepTask | None = None
        self._gone: Any = taken_lock()
        self._idents: set[int] = set()
        self._ended = False
        # The task whose step ended the run.
        self._last: Task | None = None
        self._closing = False
        # The task that asks without waiting, the instant, and how often.
        self._spinner: Task | None = None
        self._spin_at_ns = -1
        self._spun = 0
        # The thread of the real machine that has the control now.
        self._running = get_ident()
        self._problem: BaseException | None = None

    def now(self) -> int:
        return self.clock.now_ns

    def start(self, process: Process) -> None:
        """Give interrupts a process; there is one for each kernel, and the first serves."""
        if not hasattr(self.main, "process"):
            super().start(process)

    # Being ready

    def wake_up_process(self, task: Task) -> bool:
        if task.state not in (TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE):
            return False
        task.state = TASK_RUNNING
        task.wakeups += 1
        self.wakeups += 1
        self.ready.append(task)
        if self.trace is not None:
            self.trace(self.clock.now_ns, task.name, WAKE, (), None)
        return True

    def spawn(self, function: Callable[[], Any], name: str) -> Task:
        """Start a task with a stack, of the process that the current task belongs to."""
        if self._ended:
            # What unwinds starts nothing.
            refuse()

        @foot
        def body() -> Any:
            self._running = get_ident()
            place.threads.add(self._running)
            self._idents.add(self._running)
            try:
                return function()
            finally:
                calm()
                place.threads.discard(get_ident())

        task = super().spawn(body, name)
        # Spin locks are not where tasks of a world change.
        self.preemptive = False
        self.ready.append(task)
        return task

    def drop(self, task: Task) -> None:
        """Let `task` never run again; the stack that it may have is left as it is."""
        task.state = TASK_DEAD
        if task in self.ready:
            self.ready.remove(task)

    # Driving

    def drive(self) -> None:
        """Run the world until `end` is called. Raises what was given to `fail`."""
        hooks = sys.get_asyncgen_hooks()
        try:
            self._drive(self._first, self._next_or_end())
        finally:
            sys.set_asyncgen_hooks(*hooks)
        if self._problem is not None:
            raise self._problem

    def end(self) -> None:
        """Let `drive` return once the current step is over."""
        self._ended = True
        self._last = self.current

    @property
    def over(self) -> bool:
        """Whether the run has ended: what still runs unwinds, and nothing that it does counts."""
        return self._ended

    def fail(self, problem: BaseException) -> None:
        """End the run with an error, the first one given."""
        if self._problem is None:
            self._problem = problem
        self._ended = True

    def _drive(self, gate: Any, chosen: Task | None) -> None:
        while not self._ended:
            assert chosen is not None
            if isinstance(chosen, StepTask) and not chosen.suspended:
                self._step(chosen, gate)
            else:
                self.current = chosen
                self.switches += 1
                self._idle.append(gate)
                chosen.gate.release()
                self._wait(gate, gate is self._first)
                if self._ended or self._closing:
                    break
                chosen = self.current
                continue
            if not self._ended:
                chosen = self._next_or_end()
        if gate is not self._first and not self._closing:
            self._return_to_first()

    @foot
    def _step(self, task: StepTask, gate: Any) -> None:
        self.current = task
        if gate is self._first:
            self._first_step = task
        try:
            task.step()
        except TaskExit:
            return
        except BaseException as exc:
            self.fail(exc)
        finally:
            if gate is self._first:
                self._first_step = None
            if self._ended:
                calm()
        self.steps += 1
        if not self.steps & COLLECT_MASK:
            gc.collect(1)
        if task.state == TASK_RUNNING:
            self.ready.append(task)
        if self.after_step is not None and (not self._ended or task is self._last):
            self.after_step(task)

    def _next_or_end(self) -> Task | None:
        try:
            return self._next()
        except BaseException as exc:
            self.fail(exc)
            return None

    def _next(self) -> Task:
        """Run what interrupts do and let time pass until the choice falls on a task."""
        while True:
            if self.interrupted:
                raise TaskExit
            while self.softirqs or self.works:
                if self.softirqs:
                    self._run_softirq()
                else:
                    self._run_work()
            ready = self.ready
            if ready:
                index = self.tape.pick("hosts", len(ready), self._names) if len(ready) > 1 else 0
                chosen = ready.pop(index)
                machine = chosen.process.machine
                if machine is not None and machine.parked is not None:
                    # Its host is paused: it goes on when the host does.
                    machine.parked.append(chosen)
                    continue
                if self.clock.now_ns != self._steps_at_ns:
                    self._steps_at_ns, self._steps_since = self.clock.now_ns, self.steps
                elif self.steps - self._steps_since > NO_PROGRESS_MAX:
                    raise Livelock(f"{chosen.name} ran a million steps, and no time passed")
                return chosen
            expiry = self.clock.next_expiry_ns()
            if expiry is None:
                raise Deadlock(
                    "\n".join(["every task sleeps and no timer is armed", *self.waits()])
                )
            if self.limit_ns is not None and expiry > self.limit_ns:
                raise TimeoutError(f"the world's clock passed {self.limit_ns / 1e9:g} s")
            self.fire_timer()
            # What is due at the same instant is there together: then the tape orders it.
            self.fire_due()

    def waits(self) -> list[str]:
        """Return a line for each task that says what it waits for."""
        tasks = [*self.tasks, *self._suspended]
        return [
            f"{task.name} waits for {task.waits_for()}"
            for task in tasks
            if task.waits_for is not None
        ]

    def _names(self) -> list[object]:
        return [task.name for task in self.ready]

    # Giving the CPU away

    def _give_way(self, me: Task) -> None:
        if self._ended:
            refuse()
        chosen = self._next_or_end()
        if chosen is me:
            self.switches += 1
            self.current = me
            return
        if isinstance(me, StepTask):
            me.suspended = True
            self._suspended.append(me)
        if chosen is not None:
            self._resume(chosen)
        elif me is not self._first_step:
            self._return_to_first()
        else:
            raise TaskExit
        self._wait(me.gate, me is self._first_step)
        if isinstance(me, StepTask):
            me.suspended = False
            self._suspended.remove(me)
        if self._ended:
            raise TaskExit

    def found_nothing(self) -> None:
        self.spins(NOTHING)

    def spins(self, weight: int) -> None:
        """Let a microsecond pass if the current task has asked too often at this instant."""
        now_ns, me = self.clock.now_ns, self.current
        if self._spin_at_ns != now_ns or self._spinner is not me:
            self._spin_at_ns, self._spinner, self._spun = now_ns, me, 0
        self._spun += weight
        if self._spun > SPIN_MAX and me.process.machine is not None and not self._ended:
            # A signal's handler runs when the call returns.
            with contextlib.suppress(InterruptedError):
                me.process.machine.kernel.nanosleep(NSEC_PER_USEC)
            self._spin_at_ns = self.clock.now_ns

    def _wait(self, gate: Any, on_caller: bool) -> None:
        """Wait at `gate` while another thread runs; a run that is interrupted waits no longer."""
        if not on_caller:
            gate.acquire()
        else:
            waited = 0
            while not gate.acquire(timeout=PATIENCE_S):
                waited += self.interrupted
                if waited > 1:
                    raise_in(self._running)
        self._running = get_ident()

    @property
    def interrupted(self) -> bool:
        """Whether control-C has ended the run."""
        return isinstance(self._problem, KeyboardInterrupt)

    @property
    def steps_on_caller(self) -> bool:
        """Whether a step stands on the stack of the thread that called `drive`."""
        return self._first_step is not None and self._running == place.caller

    def yield_to_others(self) -> None:
        """sched_yield: let the choice fall anew, on the current task too."""
        if not self._ended:
            self.ready.append(self.current)
            self._give_way(self.current)

    def _resume(self, task: Task) -> None:
        self.current = task
        self.switches += 1
        if not isinstance(task, StepTask) or task.suspended:
            task.gate.release()
        elif self._idle:
            self._idle.pop().release()
        else:
            start_new_thread(self._driver, (taken_lock(),))

    def _driver(self, gate: Any) -> None:
        self._running = ident = get_ident()
        place.threads.add(ident)
        self._idents.add(ident)
        try:
            self._drive(gate, self.current)
        except TaskExit:
            # Control-C has found this thread between two steps.
            if not self._closing:
                self._return_to_first()
        finally:
            place.threads.discard(ident)
            if self._closing:
                self._release_closer()

    def _return_to_first(self) -> None:
        """Let the caller of `drive` go on: it is idle, or the stack of a step that has blocked."""
        if self._first in self._idle:
            self._idle.remove(self._first)
            self._first.release()
        elif self._first_step is not None:
            self.current = self._first_step
            self._first_step.gate.release()

    def _exit(self, task: Task) -> None:
        """A task with a stack has ended: the next one runs, and its thread ends."""
        task.state = TASK_DEAD
        if task in self.tasks:
            self.tasks.remove(task)
        for joiner in task.joiners:
            self.wake_up_process(joiner)
        if self._closing:
            self._release_closer()
            return
        chosen = None if self._ended else self._next_or_end()
        if chosen is None:
            self._return_to_first()
        else:
            self._resume(chosen)

    # The end

    def _release_closer(self) -> None:
        """Let `close` go on, unless it has waited too long for the thread before."""
        with contextlib.suppress(RuntimeError):
            self._gone.release()

    def close(self) -> None:
        """End every thread of the world: those that wait in a program unwind, one by one."""
        self._ended = self._closing = True
        waiting: list[Task] = [task for task in self.tasks if task is not self.main]
        waiting += self._suspended
        for task in waiting:
            self.current = task
            task.gate.release()
            # A program that spins, and makes no call, stays behind.
            self._gone.acquire(timeout=1.0)
        for gate in self._idle:
            if gate is not self._first:
                gate.release()
                self._gone.acquire(timeout=1.0)
        self._idle.clear()
        # A thread holds the world until its last frame is gone, and what is held is not collected.
        for _ in range(1000):
            if self._idents.isdisjoint(sys._current_frames()):
                break
            sleep(0)
