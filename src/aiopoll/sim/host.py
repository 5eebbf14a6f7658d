"""A host of a world: a machine with a kernel, a disk, a clock and an address, and its program.

States:

    state      what it means                              leaves it by
    RUNNING    its program runs                           crash, kill, pause, the program's end
    PAUSED     nothing of it runs; packets wait           resume, crash
    CRASHED    the machine is off: no finally block ran   restart
    EXITED     its program has ended; the machine is on   restart, crash

Rule: a crash is a power cut. The stacks and coroutines of the program stay as they are until the
world is over, unreachable; then they unwind, and nothing that they do counts. `kill` ends the
processes as SIGKILL does: the kernel closes their files and sockets, so peers learn of it.

Left out: several processes of one program; a machine that runs on while its network does not is a
partition.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import inspect
import math
import random
import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..kernel.kernel import Kernel
from ..kernel.sched import TASK_DEAD, Task, TaskExit
from ..kernel.signal import Killed
from ..kernel.uapi import NSEC_PER_SEC
from .loop import SimEventLoop
from .programs import program_of
from .sched import StepTask, WorldScheduler
from .stopping import refuse

if TYPE_CHECKING:
    from .disk import Disk
    from .world import World


class NoFiles(dict[int, Any]):
    """The descriptors of a machine that is off: a call that has one ends the code that made it."""

    def __init__(self, sched: WorldScheduler) -> None:
        super().__init__()
        self.sched = sched

    def get(self, fd: int, default: Any = None) -> Any:
        refuse(self.sched.over)


class HostState(enum.Enum):
    RUNNING = "running"
    PAUSED = "paused"
    CRASHED = "crashed"
    EXITED = "exited"


class Host:
    """One machine of `world`. `main` is what it runs, each time that it starts.

    `main` is a coroutine function, a function, the name of a module or path of a file, or an ASGI
    application (served at `port` by uvicorn). It gets `args`, a file or module in sys.argv; a
    function that has a parameter, and is given none, gets the Host.
    `state` is a namespace for the program, fresh at each start, which tests may look at.
    """

    def __init__(
        self,
        world: World,
        name: str,
        address: str,
        main: Any,
        args: tuple[Any, ...] = (),
        *,
        port: int = 80,
        disk: Disk | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.address = address
        self.main = main
        self.args = args
        self.port = port
        self.disk = disk
        # sys.argv of its program, and futures of those that wait for its end.
        self.argv: list[str] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        # Whether its program may end by an exception, without that of the run.
        self.may_fail = False
        # Whether the tasks that the program leaves are cancelled, as asyncio.run does.
        self.graceful = True
        self.phase: HostState = HostState.EXITED
        self.starts: int = 0
        self.state: Any = SimpleNamespace()
        self.result: Any = None
        self.error: BaseException | None = None
        self.parked: list[Task] | None = None
        self.loops: list[SimEventLoop] = []
        self.random: random.Random = random.Random(0)
        self._kernel: Kernel | None = None
        self._loop_count = 0
        self._drift = 0.0
        self._offset_ns = 0
        # The host's clock when its rate last changed, by both clocks.
        self._world_base_ns = 0
        self._host_base_ns = 0
        # What earlier starts left: it unwinds when the world is over.
        self.left_behind: list[SimEventLoop] = []

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address} {self.phase.value}>"

    @property
    def kernel(self) -> Kernel:
        """Return the kernel that runs now. TaskExit ends code of a machine that is off."""
        if self._kernel is None:
            refuse(self.world.sched.over)
        return self._kernel

    @property
    def running(self) -> bool:
        return self.phase is HostState.RUNNING

    def count_loop(self) -> int:
        self._loop_count += 1
        return self._loop_count

    # The clock

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC of this host: the world's clock, at the host's own rate."""
        now = self.world.sched.clock.now_ns
        if not self._drift:
            return now - self._world_base_ns + self._host_base_ns
        return self._host_base_ns + round((now - self._world_base_ns) * (1 + self._drift))

    def realtime_ns(self) -> int:
        """Return CLOCK_REALTIME of this host."""
        return self.monotonic_ns() + self.world.sched.clock.realtime_offset_ns + self._offset_ns

    def world_ns(self, host_ns: int) -> int:
        """Return the world's time at which this host's monotonic clock shows `host_ns`."""
        passed = host_ns - self._host_base_ns
        if not self._drift:
            return self._world_base_ns + passed
        at = self._world_base_ns + int(passed / (1 + self._drift))
        while self._host_base_ns + round((at - self._world_base_ns) * (1 + self._drift)) < host_ns:
            at += 1
        return at

    def clock(self, *, drift: float | None = None, jump: float = 0.0) -> None:
        """Let the host's clocks run fast or slow, and its wall clock jump.

        `drift` is a part: 200e-6 gains 200 microseconds a second. `jump` is in seconds, and moves
        CLOCK_REALTIME alone, as settimeofday does. ValueError unless drift is above -1.
        """
        if drift is not None:
            if not -1 < drift < math.inf:
                raise ValueError("drift is a part of one: 200e-6 is 200 microseconds a second")
            self._host_base_ns = self.monotonic_ns()
            self._world_base_ns = self.world.sched.clock.now_ns
            self._drift = drift
        self._offset_ns += round(jump * NSEC_PER_SEC)
        for loop in self.loops:
            if loop.is_running():
                loop.arm()
        self.world.observe("clock", host=self.name, drift=self._drift, jump=jump)

    # Life

    @contextlib.contextmanager
    def current(self, task: Task | None = None) -> Iterator[None]:
        """Run the simulator's code as this host's, with its descriptors."""
        sched = self.world.sched
        before = sched.current
        sched.current = task or self.kernel.first.main
        try:
            yield
        finally:
            sched.current = before

    def start(self) -> None:
        """Boot the machine, and run its program. RuntimeError if it runs already."""
        if self.phase in (HostState.RUNNING, HostState.PAUSED):
            raise RuntimeError(f"{self.name} runs already")
        world = self.world
        self.starts += 1
        self.state = SimpleNamespace()
        self.result = self.error = self.argv = None
        self._loop_count = 0
        self.random = random.Random(f"{world.seed} {self.name} {self.starts}")
        if self._kernel is None:
            self._kernel = world.boot(self)
        first = self._kernel.first
        first.machine = self
        first.status = None
        first.main = StepTask(f"{self.name} boot", first, lambda: None)
        self.phase = HostState.RUNNING
        run = program_of(self)
        if inspect.iscoroutinefunction(run):
            with self.current():
                loop = SimEventLoop()
                first.main = loop.task
                # As asyncio.run does, hold it: a program may wait for what itself alone refers to.
                loop.main_task = loop.create_task(self._run_async(run), name="main")
                loop.start()
        else:
            with self.current():
                first.main = world.sched.spawn(lambda: self._run_sync(run), self.name)

    async def _run_async(self, run: Callable[[], Any]) -> None:
        """asyncio.run without a caller: the program, then what it left."""
        loop = self.loops[0]
        try:
            self.result = await run()
        except (SystemExit, KeyboardInterrupt, TaskExit):
            # asyncio lets these end the loop.
            raise
        except BaseException as exc:
            if self.world.sched.over:
                raise
            self.error = exc
        if not self.graceful:
            self._exited()
            return
        # What the end has scheduled runs, such as the closing of a generator.
        await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in sorted(left, key=hash):
            task.cancel()
        await asyncio.gather(*sorted(left, key=hash), return_exceptions=True)
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()
        self._exited()

    def _run_sync(self, run: Callable[[], Any]) -> None:
        try:
            self.result = run()
            if inspect.iscoroutine(self.result):
                # As `lambda: node(3)` gives it.
                with asyncio.Runner(loop_factory=SimEventLoop) as runner:
                    self.result = runner.run(self.result)
        except TaskExit:
            raise
        except BaseException as exc:
            self.error = exc
        self._exited()

    def ended(self, error: BaseException) -> None:
        """Take note that the program was ended from within: by SystemExit or a signal."""
        self.error = error
        for loop in self.loops:
            if loop.main_task is not None and loop.main_task.done():
                # As asyncio.run does: the error is not one that nothing has looked at.
                loop.main_task.exception()
        self._exited()

    def _exited(self) -> None:
        """The program has ended: its process ends, and the kernel closes what it left open."""
        if self.phase is not HostState.CRASHED:
            self._end_process(HostState.EXITED)
            self.world.host_exited(self)

    def _end_process(self, phase: HostState) -> None:
        sched = self.world.sched
        self.phase = phase
        self.parked = None
        for loop in self.loops:
            loop.abandon()
        self.left_behind += self.loops
        self.loops = []
        for task in [*sched.tasks, *sched.ready]:
            if task is not sched.current and task.process.machine is self:
                sched.drop(task)
        if self._kernel is not None and phase is HostState.EXITED:
            kernel = self._kernel
            for process in list(kernel.processes.values()):
                kernel.exit_process(process)

    async def wait(self) -> Any:
        """Wait until the program has ended; returns its result. Raises what ended it.

        A crash is no end: after it this waits for the end of the next start.
        """
        while self.phase is not HostState.EXITED:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self.error is not None:
            raise self.error
        return self.result

    def take_waiters(self) -> list[asyncio.Future[None]]:
        """Return the futures of those that still wait for the program's end."""
        waiters, self._waiters = self._waiters, []
        return [waiter for waiter in waiters if not waiter.done()]

    def turn_off(self) -> None:
        """End the machine with its world: it has no kernel any more, and no open file."""
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            kernel.halted = True
            for process in kernel.processes.values():
                process.files.files = NoFiles(self.world.sched)

    def take_loops(self) -> list[SimEventLoop]:
        """Return the loops of every start, and forget them."""
        loops = [*self.left_behind, *self.loops]
        self.left_behind, self.loops = [], []
        return loops

    def kill(self) -> None:
        """End the program as SIGKILL does: no finally block runs; the kernel closes its files."""
        if self.phase in (HostState.RUNNING, HostState.PAUSED):
            self._end_process(HostState.EXITED)
            self.error = Killed(9)
            self.world.observe("kill", host=self.name)
            self.world.host_exited(self)
            self._stop_here()

    def signal(self, signo: int) -> None:
        """Send `signo` to the program, as kill(1) does. ProcessLookupError if none runs.

        ValueError if there is no such signal.
        """
        if not 1 <= signo < signal.NSIG:
            raise ValueError(f"{signo} is no signal: signal.SIGTERM, say")
        if self.phase not in (HostState.RUNNING, HostState.PAUSED):
            raise ProcessLookupError(f"{self.name} runs no program")
        kernel = self.kernel
        kernel.signals.send(signo, kernel.first.main)

    def crash(self, *, torn: bool = False) -> None:
        """Cut the power: no finally block runs, no FIN is sent, what was not fsynced is lost.

        With `torn` the tape chooses what of the un-fsynced data survives, and tears a write.
        """
        if self.phase is HostState.CRASHED:
            return
        if self is self.world.main_host:
            raise ValueError(f"{self.name} runs the test itself: it cannot crash")
        self._end_process(HostState.CRASHED)
        self.turn_off()
        self.world.network.detach(self.name)
        if self.disk is not None:
            self.disk.crash(torn)
        self.world.observe("crash", host=self.name, torn=torn)
        self._stop_here()

    def _stop_here(self) -> None:
        """Never return to the code of a host that has ended itself."""
        sched = self.world.sched
        if sched.current.process.machine is self:
            sched.current.state = TASK_DEAD
            sched.schedule()

    def restart(self) -> None:
        """Start the machine again, or its program if only that has ended; a running one crashes."""
        sched = self.world.sched
        if sched.current.process.machine is self:
            # Its own code stops here, at the latest: others must start it.
            sched.raise_softirq(self._restart)
            self.crash()
            self._stop_here()
        self._restart()

    def _restart(self) -> None:
        if self.phase in (HostState.RUNNING, HostState.PAUSED):
            self.crash()
        self.world.observe("restart", host=self.name)
        self.start()

    def pause(self) -> None:
        """Let nothing of the host run until `resume`, as SIGSTOP or a slow machine does."""
        if self.phase is HostState.RUNNING:
            self.phase = HostState.PAUSED
            self.parked = []
            self.world.network.pause(self.name)
            self.world.observe("pause", host=self.name)

    def resume(self) -> None:
        """Let a paused host go on."""
        if self.phase is HostState.PAUSED:
            self.phase = HostState.RUNNING
            parked, self.parked = self.parked or [], None
            self.world.sched.ready += parked
            self.world.network.resume(self.name)
            self.world.observe("resume", host=self.name)
