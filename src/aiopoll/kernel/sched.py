"""kernel/sched/core.c, softirq.c and workqueue.c: tasks, spin locks and deferred work.

Facts: `schedule()` gives the CPU away until a wake-up; softirqs run when a system call or an
interrupt returns. A work item costs a switch to a kworker; a spin lock excludes other tasks even
when they run on another CPU.

Rule: exactly one task runs at any time. Each task but the first is a host thread that waits on its
gate, and control passes only in `schedule` and `preempt`. So the choices of the `Choice` object
decide a run, and nothing else does. A seed is such a sequence of choices; so is one line of a
search through all interleavings (race.py).

Cost accepted: a switch between tasks is a switch between host threads (some microseconds). The
common case, one task, never switches: deferred work runs on the sleeper's own stack.

Left out: priorities, time slices, CPUs as objects (a second running task is the second CPU),
interrupt masking (interrupts arrive only where a system call begins, ends or sleeps).
"""

from __future__ import annotations

import random
from _thread import allocate_lock, get_ident, start_new_thread
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .hrtimer import Clock
from .trace import WAKE, TraceFunction, waiting

if TYPE_CHECKING:
    from .fork import Process

TASK_RUNNING = 0
TASK_INTERRUPTIBLE = 1
TASK_UNINTERRUPTIBLE = 2
TASK_DEAD = 0x10


class Deadlock(RuntimeError):
    """Every task sleeps, no timer is armed and no work is pending: nothing can happen again."""


class TaskExit(BaseException):
    """Thrown into a task that the kernel shuts down while it sleeps."""


class Choice:
    """Decides whatever Linux leaves open. This one always takes the first alternative."""

    seed: int | None = None

    def pick(self, alternatives: int) -> int:
        """Return the index of the alternative that runs next."""
        return 0

    def defer(self) -> bool:
        """Whether pending work waits although a system call is returning."""
        return False

    def preempt(self, alternatives: int) -> int:
        """Return the task that runs on where another CPU could step in; 0 is the current one."""
        return 0

    def tie_break(self) -> int:
        return 0


class SeededChoice(Choice):
    """Choices drawn from a seed: the same seed gives the same run."""

    def __init__(self, seed: int) -> None:
        self.seed: int | None = seed
        self._random = random.Random(seed)

    def pick(self, alternatives: int) -> int:
        return self._random.randrange(alternatives)

    def defer(self) -> bool:
        return self._random.random() < 0.25

    def preempt(self, alternatives: int) -> int:
        return self._random.randrange(alternatives) if self._random.random() < 0.25 else 0

    def tie_break(self) -> int:
        return self._random.getrandbits(32)


class Task:
    """struct task_struct: a thread that can run, sleep and take signals.

    `nvcsw` counts how often it went to sleep, `wakeups` how often it was woken.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = TASK_RUNNING
        self.nvcsw = 0
        self.wakeups = 0
        self.blocked: frozenset[int] = frozenset()
        self.saved_sigmask: frozenset[int] | None = None
        self.pending: list[int] = []
        self.spins_on: SpinLock | None = None
        self.preempted = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.told_to_exit = False
        self.joiners: list[Task] = []
        # Says what the task sleeps for, where that is known: the report of a deadlock asks.
        self.waits_for: Callable[[], str] | None = None
        # The host thread that it gave the CPU away on, by which its stack is found.
        self.thread: int = 0
        # Set when the task starts; the first one's by the kernel.
        self.process: Process
        self.gate: Any = allocate_lock()
        self.gate.acquire()

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class SpinLock:
    """spinlock_t. Taking it is where another CPU can get in first; taking it twice is a bug."""

    __slots__ = ("name", "owner", "sched")

    def __init__(self, sched: Scheduler, name: str) -> None:
        self.sched: Scheduler = sched
        self.name: str = name
        self.owner: Task | None = None

    def __enter__(self) -> None:
        sched = self.sched
        if sched.preemptive:
            sched.preempt()
            if self.owner is not None and self.owner is not sched.current:
                sched.spin(self)
        if self.owner is not None:
            raise AssertionError(f"{sched.current} takes {self.name} held by {self.owner}")
        self.owner = sched.current
        if sched.preemptive:
            # Other tasks may now find the lock taken.
            sched.preempt()

    def __exit__(self, *exc: object) -> None:
        self.owner = None

    def trylock(self) -> bool:
        """Take the lock if it is free; never waits."""
        if self.sched.preemptive:
            self.sched.preempt()
        if self.owner is not None:
            return False
        self.owner = self.sched.current
        return True

    def unlock(self) -> None:
        self.__exit__()


class Scheduler:
    """The run queue, the deferred work and the counters of one kernel.

    `switches` counts changes of the running task, a work item's kworker included; `wakeups`
    counts sleeping tasks made runnable. Interrupts and softirqs count as neither.
    """

    def __init__(self, choice: Choice, realtime_offset_ns: int) -> None:
        self.choice = choice
        self.clock: Clock = Clock(realtime_offset_ns, choice.tie_break)
        self.main: Task = Task("main")
        self.current: Task = self.main
        self.tasks: list[Task] = [self.main]
        self.preemptive: bool = False
        self.switches: int = 0
        self.wakeups: int = 0
        self.softirqs: deque[Callable[[], None]] = deque()
        self.works: deque[Callable[[], None]] = deque()
        self.trace: TraceFunction | None = None
        self._interrupt = Task("interrupt")
        self._kworker = Task("kworker")
        self._kworker_is_task = False
        self._failure: BaseException | None = None

    # Tasks

    def start(self, process: Process) -> None:
        """Give the first process to the first task, to interrupts and to the kworker."""
        for task in (self.main, self._interrupt, self._kworker):
            task.process = process

    def spawn(self, function: Callable[[], Any], name: str) -> Task:
        """Start a task; it runs when the current one sleeps or is preempted."""
        task = Task(name)
        task.process = self.current.process

        def body() -> None:
            task.gate.acquire()
            try:
                if not task.told_to_exit:
                    task.result = function()
            except TaskExit:
                pass
            except BaseException as exc:
                task.error = exc
            self._exit(task)

        self.tasks.append(task)
        self.preemptive = True
        # Not threading's: a simulated program has threads of its own by those names.
        start_new_thread(body, ())
        return task

    def spawn_kworker(self) -> Task:
        """Give work items a task of their own, so that they can be interleaved with others."""

        def kworker() -> None:
            while True:
                while self.works:
                    self.works.popleft()()
                self.current.state = TASK_INTERRUPTIBLE
                self.schedule()

        self._kworker_is_task = True
        self._kworker = self.spawn(kworker, "kworker")
        return self._kworker

    def join(self, task: Task) -> Any:
        """Sleep until `task` is done; returns its result or raises its error."""
        while task.state != TASK_DEAD:
            task.joiners.append(self.current)
            self.current.state = TASK_UNINTERRUPTIBLE
            self.schedule()
        if task.error is not None:
            raise task.error
        return task.result

    def shutdown(self) -> None:
        """End every task but the current one, so that no host thread is left behind."""
        for task in [task for task in self.tasks if task is not self.current]:
            task.told_to_exit = True
            task.state = TASK_RUNNING
            task.spins_on, task.preempted = None, False
            while task.state != TASK_DEAD:
                self._switch(task)

    def _exit(self, task: Task) -> None:
        task.state = TASK_DEAD
        self.tasks.remove(task)
        if len(self.tasks) == 1:
            self.preemptive = False
        for joiner in task.joiners:
            self.wake_up_process(joiner)
        if task.told_to_exit:
            chosen = self.main
        else:
            try:
                chosen = self._next()
            except BaseException as exc:
                self._failure, chosen = exc, self.main
        self.current = chosen
        self.switches += 1
        chosen.gate.release()

    # Giving the CPU away

    def schedule(self) -> None:
        """Sleep if the state of the current task is a sleeping one; returns once it was woken."""
        me = self.current
        if me.state == TASK_RUNNING:
            return
        assert me is not self._interrupt, "scheduling while atomic"
        me.nvcsw += 1
        self._give_way(me)

    def _give_way(self, me: Task) -> None:
        try:
            chosen = self._next()
        except Deadlock as exc:
            if me is self.main:
                me.state = TASK_RUNNING
                raise
            self._failure, chosen = exc, self.main
        if chosen is me:
            # An idle CPU that comes back to the same task still left it and returned.
            self.switches += 1
        else:
            self._switch(chosen)

    def preempt(self) -> None:
        """Let another task run here, if there are several and the choice falls on one."""
        if not self.preemptive or self.current is self._interrupt:
            return
        me = self.current
        others = [task for task in self.tasks if task is not me and self.is_runnable(task)]
        if others:
            chosen = self.choice.preempt(1 + len(others))
            if chosen:
                # Preempted is not asleep, also for a task that is just about to sleep.
                me.preempted = True
                self._switch(others[chosen - 1])
                me.preempted = False

    def spin(self, lock: SpinLock) -> None:
        """Let others run until `lock` is free."""
        me = self.current
        me.spins_on, me.preempted = lock, True
        while lock.owner is not None:
            self._give_way(me)
        me.spins_on, me.preempted = None, False

    def _switch(self, task: Task) -> None:
        me = self.current
        me.thread = get_ident()
        self.current = task
        self.switches += 1
        task.gate.release()
        me.gate.acquire()
        if me.told_to_exit:
            raise TaskExit
        if me is self.main and self._failure is not None:
            failure, self._failure = self._failure, None
            me.state = TASK_RUNNING
            raise failure

    def found_nothing(self) -> None:
        """Take note of a call that found nothing, and did not wait: a loop of them may spin."""

    @staticmethod
    def is_runnable(task: Task) -> bool:
        """Whether the task could run now: it neither sleeps nor spins."""
        if task.spins_on is not None and task.spins_on.owner is not None:
            return False
        return task.state == TASK_RUNNING or task.preempted

    def _next(self) -> Task:
        """Run deferred work and timers until the choice falls on a task."""
        while True:
            tasks = [task for task in self.tasks if self.is_runnable(task)]
            works = 0 if self._kworker_is_task else len(self.works)
            alternatives = bool(self.softirqs) + bool(works) + len(tasks)
            if not alternatives:
                if not self.fire_timer():
                    self.current.thread = get_ident()
                    raise Deadlock(
                        f"every task sleeps and no timer is armed: {'; '.join(waiting(self))}"
                    )
                continue
            chosen = self.choice.pick(alternatives)
            if self.softirqs:
                if chosen == 0:
                    self._run_softirq()
                    continue
                chosen -= 1
            if works:
                if chosen == 0:
                    self._run_work()
                    continue
                chosen -= 1
            return tasks[chosen]

    # Waking

    def wake_up_process(self, task: Task) -> bool:
        """try_to_wake_up: make a sleeping task runnable; returns False if it was not asleep."""
        if task.state not in (TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE):
            return False
        task.state = TASK_RUNNING
        task.wakeups += 1
        self.wakeups += 1
        if self.trace is not None:
            self.trace(self.clock.now_ns, task.name, WAKE, (), None)
        return True

    # Deferred work

    def raise_softirq(self, function: Callable[[], None]) -> None:
        """Run `function` in interrupt context soon; softirqs run in the order they are raised."""
        self.softirqs.append(function)

    def queue_work(self, function: Callable[[], None]) -> None:
        """schedule_work: run `function` in a kworker."""
        self.works.append(function)
        if self._kworker_is_task:
            self.wake_up_process(self._kworker)

    def syscall_exit(self) -> None:
        """Run pending softirqs and work items, unless the choice defers them."""
        if self.current is self._interrupt or self.current is self._kworker:
            return
        while self.softirqs and not self.choice.defer():
            self._run_softirq()
        while self.works and not self._kworker_is_task and not self.choice.defer():
            self._run_work()
            while self.softirqs and not self.choice.defer():
                self._run_softirq()

    def run_pending(self) -> None:
        """Run everything that is pending now, whatever the choice is."""
        while self.softirqs or (self.works and not self._kworker_is_task):
            if self.softirqs:
                self._run_softirq()
            else:
                self._run_work()

    def fire_timer(self) -> bool:
        """Jump to the next timer and run it in interrupt context; False if there is none."""
        return bool(self._run_as(self._interrupt, self.clock.fire_next))

    def fire_due(self) -> None:
        """Run the timers whose time has come already; the clock stays where it is."""
        while (expiry := self.clock.next_expiry_ns()) is not None and expiry <= self.clock.now_ns:
            self.fire_timer()

    def _run_softirq(self) -> None:
        self._run_as(self._interrupt, self.softirqs.popleft())

    def _run_work(self) -> None:
        self.switches += 1
        self._run_as(self._kworker, self.works.popleft())

    def _run_as(self, task: Task, function: Callable[[], Any]) -> Any:
        borrowed = self.current
        preemptive, self.preemptive = self.preemptive, False
        self.current = task
        try:
            return function()
        finally:
            self.current = borrowed
            self.preemptive = preemptive
