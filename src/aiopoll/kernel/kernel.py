"""init/main.c: a kernel with its first process, put together from the parts.

Rule: a kernel shares nothing with another, so tests may run as many as they like. Without a seed
deferred work runs when the system call that caused it returns; with a seed, the seed decides.
Left out: booting, modules, sysctls other than aio_nr and aio_max_nr.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any

from .aio import AIO_MAX_NR, Aio
from .char.random import EntropyPool
from .crypto.af_alg import alg_init
from .eventfd import EventFdSyscalls
from .eventpoll import EventPollSyscalls
from .fcntl import FcntlSyscalls
from .fork import Process, ProcessSyscalls
from .fs import FileSyscalls
from .inode import SuperBlock
from .mmap import MapSyscalls
from .net.options import OptionSyscalls
from .net.scm import MessageSyscalls
from .net.socket import Net, SocketSyscalls
from .net.tcp import tcp_init
from .net.udp import udp_init
from .net.unix import unix_init
from .net.wire import Wire
from .pipe import PipeSyscalls
from .sched import Choice, Scheduler, SeededChoice, Task
from .select import SelectSyscalls
from .selector import KernelSelector
from .signal import Signals
from .signalfd import SignalFdSyscalls
from .splice import SpliceSyscalls
from .timerfd import TimerFdSyscalls
from .trace import TraceFunction, format_call
from .uapi import NSEC_PER_SEC

# 2018-03-29, the day of the series: where CLOCK_REALTIME starts.
BOOT_TIME_NS = 1_522_281_600 * NSEC_PER_SEC


class Kernel(
    ProcessSyscalls,
    FileSyscalls,
    FcntlSyscalls,
    MapSyscalls,
    PipeSyscalls,
    SpliceSyscalls,
    EventFdSyscalls,
    TimerFdSyscalls,
    SignalFdSyscalls,
    SelectSyscalls,
    EventPollSyscalls,
    SocketSyscalls,
    MessageSyscalls,
    OptionSyscalls,
):
    """An in-process kernel: its methods are system calls, which raise OSError as os.* does.

    `seed` chooses the order of deferred work, timers and tasks; the same seed gives the same run.
    `nr_cpus` sizes AIO contexts as the number of possible CPUs does. `sched` lets several kernels,
    each a machine, share one clock and one order of events; `wire` joins those, and `addresses` are
    this one's. `trace`, when it is a function, takes the parts of each system call; `set_trace`
    adds the wake-ups. `root` is the file system at /, an empty one in memory if it is not given.
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        choice: Choice | None = None,
        nr_cpus: int = 2,
        sched: Scheduler | None = None,
        root: SuperBlock | None = None,
        wire: Wire | None = None,
        addresses: Sequence[str] = (),
    ) -> None:
        if sched is None:
            if choice is None:
                choice = Choice() if seed is None else SeededChoice(seed)
            sched = Scheduler(choice, BOOT_TIME_NS)
        self.seed: int | None = sched.choice.seed
        self.sched: Scheduler = sched
        first = Process(self.sched, 1, self.sched.main)
        # As in a Python process: a broken pipe is an error, not the end.
        first.handlers[int(signal.SIGPIPE)] = first.handlers[int(signal.SIGXFSZ)] = None
        self.sched.start(first)
        self.first: Process = first
        self.processes: dict[int, Process] = {first.pid: first}
        self._next_pid = 2
        self.signals: Signals = Signals(self.sched)
        self.net: Net = Net(self.sched, self.signals, wire, addresses)
        for init in (unix_init, udp_init, tcp_init, alg_init):
            init(self.net)
        self.trace: TraceFunction | None = None
        self.halted: bool = False
        self.aio: Aio = Aio(self.sched)
        self.nr_cpus = nr_cpus
        self.aio_max_nr = AIO_MAX_NR
        self.aio_nr = 0
        self._next_ctx_id = 0x7F0000000000
        self.random_pool: EntropyPool = EntropyPool(self.sched, seed or 0)
        self.mount_root(self.random_pool, root)

    def set_trace(self, trace: TraceFunction | None) -> None:
        """Call `trace` with the parts of every system call and wake-up; None ends it."""
        self.trace = self.sched.trace = trace

    def start_trace(self) -> list[str]:
        """Record every system call and wake-up from now on; returns the growing list of lines."""
        lines: list[str] = []
        self.set_trace(lambda *parts: lines.append(format_call(*parts)))
        return lines

    def selector(self) -> KernelSelector:
        """Return a new selectors.BaseSelector over this kernel's descriptors."""
        return KernelSelector(self)

    # Tasks

    def spawn(self, function: Callable[..., Any], *args: Any, name: str | None = None) -> Task:
        """Start another task of the process: it runs when this one sleeps."""
        return self.sched.spawn(lambda: function(*args), name or f"task-{len(self.sched.tasks)}")

    def join(self, task: Task) -> Any:
        """Sleep until `task` has ended; returns the result of its function, or raises its error."""
        return self.sched.join(task)

    def advance(self, duration_ns: int) -> None:
        """Let `duration_ns` pass, with all timers due in it, while this task stays awake."""
        sched = self.sched
        until = sched.clock.now_ns + duration_ns
        sched.run_pending()
        while (expiry := sched.clock.next_expiry_ns()) is not None and expiry <= until:
            sched.fire_timer()
            sched.run_pending()
        sched.clock.now_ns = until

    def run_pending(self) -> None:
        """Run all deferred work now, even if a seed would defer it further."""
        self.sched.run_pending()

    @property
    def context_switches(self) -> int:
        """Return how often the running task changed, kworkers included."""
        return self.sched.switches

    @property
    def wakeups(self) -> int:
        """Return how many sleeping tasks were made runnable."""
        return self.sched.wakeups

    def halt(self) -> None:
        """End all other tasks and close every file, so that nothing is left behind."""
        self.sched.shutdown()
        for process in self.processes.values():
            self.exit_process(process)
        self.sched.run_pending()
        self.halted = True
