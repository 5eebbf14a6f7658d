"""A world: hosts, the links between them, one clock and one tape.

Facts: a world has one scheduler, so exactly one thing happens at a time, and one virtual clock, so
a thing that waits an hour costs nothing.

Rule: conditions are checked after every step of every host, since no state changes between two. An
`always` that is false ends the run at that step; an `eventually` is met at the first step at which
it is true.

    call                       what it is
    host, link, partition …    the machines, and what is between them
    always, eventually         what must hold, and what must come to hold
    history, linearizable      what clients saw, and whether one copy could have shown it
    note, observe, events      what people look at afterwards

Left out: hosts outside of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import math
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..kernel.hrtimer import HrTimer
from ..kernel.kernel import BOOT_TIME_NS, Kernel
from ..kernel.sched import TaskExit
from ..kernel.signal import Killed
from ..kernel.uapi import NSEC_PER_SEC
from . import inside, standard
from .disk import Disk
from .history import History
from .host import Host
from .links import Network, Partition, is_number
from .names import installed
from .programs import Arguments
from .sched import StepTask, WorldScheduler

if TYPE_CHECKING:
    from ..kernel.trace import TraceFunction
    from .chaos import Chaos
    from .tape import Tape


def is_failure(error: BaseException | None) -> bool:
    """Return whether a program that ended so has failed: a signal or status 0 is no failure."""
    if isinstance(error, SystemExit):
        return error.code not in (None, 0)
    return error is not None and not isinstance(error, (Killed, KeyboardInterrupt))


@contextlib.contextmanager
def quiet_finalizers() -> Iterator[None]:
    """Let finalizers be silent: their machines are off, so what they complain of has no effect.

    They would warn of what was not closed, and of coroutines that a crash kept from being awaited.
    TaskExit ends those that ask their machine for something. What awaits as it is closed is over.
    """
    hook = sys.unraisablehook

    def quiet(unraisable: Any) -> None:
        ignored = str(unraisable.exc_value).endswith("ignored GeneratorExit")
        if not ignored and not issubclass(unraisable.exc_type, TaskExit):
            hook(unraisable)

    sys.unraisablehook = quiet
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            warnings.filterwarnings("ignore", "coroutine .* never awaited", RuntimeWarning)
            yield
    finally:
        sys.unraisablehook = hook


Hosts = Host | str | Iterable[Host | str]


@dataclass(frozen=True, slots=True)
class Event:
    """A thing that people look at: `at_ns` of the world's clock, its kind, its host or None."""

    at_ns: int
    kind: str
    host: str | None
    data: dict[str, Any] = field(default_factory=dict)


class NeverHeld(AssertionError):
    """An `always` was false, or an `eventually` did not come to hold in its time.

    `place` is the name of the condition: which one it was, whatever line ran at that time.
    """

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place


@dataclass(eq=False, slots=True)
class _Watch:
    """A condition that is checked after each step; `done` is of an `eventually`."""

    name: str
    condition: Callable[[], object]
    done: asyncio.Future[None] | None = None


class World:
    """A world for one run; `sim.test` and `sim.run` make it. See the module for what it offers."""

    def __init__(
        self,
        tape: Tape,
        *,
        faults: Chaos | None = None,
        time_limit: float | None = None,
        recording: bool = False,
        trace: TraceFunction | None = None,
    ) -> None:
        self.tape = tape
        self.trace = trace
        self.seed: int = tape.seed
        self.sched: WorldScheduler = WorldScheduler(tape, BOOT_TIME_NS)
        if time_limit is not None:
            self.sched.limit_ns = round(time_limit * NSEC_PER_SEC)
        self.sched.trace = trace
        self.faults = faults
        self.recording = recording
        self.events: list[Event] = []
        self.network: Network = Network(self.sched, tape, self.observe if recording else None)
        self.hosts: dict[str, Host] = {}
        self.history: History = History(self.now)
        self.effects: dict[str, int] = {}
        # Called when the program has ended, while everything still is as it was then.
        self.before_end: Callable[[], None] | None = None
        self._watches: list[_Watch] = []
        self._buggified: dict[str, bool] = {}
        self.main_host: Host | None = None

    # Time, and what people look at

    def now(self) -> float:
        """Return the seconds of the world's clock."""
        return self.sched.clock.now_ns / NSEC_PER_SEC

    async def sleep(self, seconds: float) -> None:
        """Let the world run for `seconds` of its clock."""
        await asyncio.sleep(seconds)

    def note(self, event: str, **data: Any) -> None:
        """Record something that people should see in the report and in the pages."""
        host = inside.host()
        self.observe("note", host=host.name if host is not None else None, event=event, **data)

    def observe(self, kind: str, *, host: str | None = None, **data: Any) -> None:
        """Record an event of the simulator itself, if the run is recorded."""
        if self.recording:
            self.events.append(Event(self.sched.clock.now_ns, kind, host, data))

    # Machines

    def host(
        self,
        name: str,
        main: Any = None,
        *args: Any,
        address: str | None = None,
        port: int = 80,
        start: bool = True,
        may_fail: bool = False,
    ) -> Host:
        """Add a machine that runs `main`, see Host; returns it.

        An exception that ends `main`, or a status other than 0, fails the run, unless it
        `may_fail`. Without `main`, returns the host of that name. ValueError if the name or the
        address is taken, or is none; KeyError if there is no host of that name.
        """
        if main is None:
            return self.the_host(name)
        if not isinstance(name, str) or not name or any(map(str.isspace, name)):
            raise ValueError(f"the name of a host is a word, not {name!r}")
        if name in self.hosts:
            raise ValueError(f"there is a host {name!r} already")
        if address is None:
            address = self._free_address()
        elif not is_number(address):
            raise ValueError(f"an address is in figures, as 10.1.0.1, not {address!r}")
        host = Host(self, name, address, main, args, port=port)
        host.may_fail = may_fail
        host.disk = Disk(name, self.tape, self.sched.clock, self.observe)
        self.hosts[name] = host
        if start:
            host.start()
        return host

    def _free_address(self) -> str:
        """Return the first address from the number of the next host on that no host has."""
        taken = {host.address for host in self.hosts.values()}
        numbers = itertools.count(len(self.hosts) + 1)
        addresses = (f"10.0.{number >> 8}.{number & 0xFF}" for number in numbers)
        return next(address for address in addresses if address not in taken)

    def boot(self, host: Host) -> Kernel:
        """Return a kernel for `host` with its disk and its address, attached to the network."""
        assert host.disk is not None
        kernel = Kernel(
            sched=self.sched,
            root=host.disk.root,
            addresses=(host.address,),
            wire=self.network.wire,
        )
        kernel.first.machine = host
        kernel.realtime_ns = host.realtime_ns
        standard.reserve(kernel)
        kernel.trace = self.trace
        self.network.attach(host.name, host.address, kernel.net)
        return kernel

    def host_exited(self, host: Host) -> None:
        """Take note of the end of a host's program: that of the main one ends the run."""
        if host is self.main_host:
            self.sched.end()
            return
        if self.sched.over:
            # A call was cut off by the end of the world, and the program made an error of that.
            return
        for waiter in host.take_waiters():
            waiter.set_result(None)
        self.observe("exit", host=host.name, error=repr(host.error) if host.error else None)
        if not host.may_fail and is_failure(host.error):
            assert host.error is not None
            host.error.add_note(f"it ended the program of {host.name}; see may_fail of World.host")
            self.sched.fail(host.error)

    def crash(self, host: Host | str, *, torn: bool = False) -> None:
        """Cut the power of `host`, see Host.crash."""
        self.the_host(host).crash(torn=torn)

    def restart(self, host: Host | str) -> None:
        """Start `host` again, see Host.restart."""
        self.the_host(host).restart()

    def pause(self, host: Host | str) -> None:
        """Stop all of `host` until `resume`."""
        self.the_host(host).pause()

    def resume(self, host: Host | str) -> None:
        """Let a paused `host` go on."""
        self.the_host(host).resume()

    def clock(self, host: Host | str, *, drift: float | None = None, jump: float = 0.0) -> None:
        """Change the clock of `host`, see Host.clock."""
        self.the_host(host).clock(drift=drift, jump=jump)

    def the_host(self, host: Host | str) -> Host:
        """Return the host itself, for a name too. KeyError, ValueError if of another world."""
        name = host if isinstance(host, str) else host.name
        found = self.hosts.get(name)
        if found is None:
            raise KeyError(f"there is no host {name!r}; there are {', '.join(self.hosts)}")
        if not isinstance(host, str) and host is not found:
            raise ValueError(f"{host!r} belongs to another world")
        return found

    def _names(self, hosts: Hosts) -> list[str]:
        if isinstance(hosts, (Host, str)):
            hosts = [hosts]
        return [self.the_host(host).name for host in hosts]

    # Links

    def link(
        self,
        one: Host | str,
        other: Host | str,
        *,
        latency: float | tuple[float, float] | None = None,
        loss: float | None = None,
        bandwidth: float | None = None,
        duplicate: float | None = None,
        reorder: float | None = None,
        oneway: bool = False,
    ) -> None:
        """Change the link between two hosts, both ways unless `oneway`; None leaves a property.

        `latency` is in seconds, or the two ends of a range; `loss`, `duplicate` and `reorder` are
        parts of one; `bandwidth` is in bytes per second. ValueError for values out of range.
        """
        self.network.link(
            self.the_host(one).name,
            self.the_host(other).name,
            latency=latency,
            loss=loss,
            bandwidth=bandwidth,
            duplicate=duplicate,
            reorder=reorder,
            oneway=oneway,
        )

    def partition(self, one: Hosts, other: Hosts, *, oneway: bool = False) -> Partition:
        """Let no packet pass between the two sides; `oneway`: none from `one` to `other`.

        Returns what `heal` ends it by, alone. ValueError for a side without hosts, or a host on
        both.
        """
        sides = self._names(one), self._names(other)
        if not sides[0] or not sides[1]:
            raise ValueError("each side of a partition has a host, else it cuts nothing")
        if both := [name for name in sides[0] if name in sides[1]]:
            raise ValueError(f"{', '.join(both)} is on both sides of the partition")
        self.observe("partition", side_a=sides[0], side_b=sides[1], oneway=oneway)
        return self.network.partition(*sides, oneway=oneway)

    def heal(self, partition: Partition | None = None) -> None:
        """End `partition`, or without one every partition."""
        if self.network.heal(partition):
            sides: dict[str, Any] = {}
            if partition is not None:
                sides = {"side_a": partition.side_a, "side_b": partition.side_b}
            self.observe("heal", **sides)

    def fail_name(
        self, name: str, error: int = socket.EAI_AGAIN, until: float | None = None
    ) -> None:
        """Let look-ups of `name` raise gaierror(error), until the clock shows `until` seconds."""
        self.network.fail_name(name, error, until)

    def heal_name(self, name: str) -> None:
        """End what fail_name began."""
        self.network.heal_name(name)

    def reset(self, one: Host | str, other: Host | str) -> int:
        """Reset the connections between two hosts; returns how many there were."""
        number = self.network.reset(self.the_host(one).name, self.the_host(other).name)
        self.observe("reset", one=str(one), other=str(other), connections=number)
        return number

    # Conditions

    def always(self, name: str, condition: Callable[[], object]) -> None:
        """Check `condition` after every step: the run fails at the first at which it is false."""
        if not callable(condition):
            raise TypeError(f"the condition {name!r} is a function without parameters: lambda: …")
        self._watch(_Watch(name, condition))

    async def eventually(
        self, name: str, condition: Callable[[], object], *, within: float
    ) -> None:
        """Wait until `condition` is true. NeverHeld if it is not within `within` seconds."""
        __tracebackhide__ = True
        if condition():
            return
        watch = _Watch(name, condition, asyncio.get_running_loop().create_future())
        self._watch(watch)
        assert watch.done is not None
        try:
            async with asyncio.timeout(within):
                await watch.done
        except TimeoutError:
            what = f"{name!r} did not come to hold within {within} s"
            raise NeverHeld(what, name) from None
        finally:
            self._unwatch(watch)

    def _watch(self, watch: _Watch) -> None:
        self._watches.append(watch)
        self.sched.after_step = self._check

    def _unwatch(self, watch: _Watch) -> None:
        if watch in self._watches:
            self._watches.remove(watch)
        if not self._watches:
            self.sched.after_step = None

    def _check(self, task: StepTask) -> None:
        for watch in self._watches:
            try:
                holds = watch.condition()
            except Exception as exc:
                exc.add_note(f"in the condition {watch.name!r}, after a step of {task.name}")
                self.sched.fail(exc)
                return
            if watch.done is None:
                if not holds:
                    what = f"{watch.name!r} does not hold at {self.now():.6f} s"
                    self.sched.fail(NeverHeld(f"{what}, after a step of {task.name}", watch.name))
                    return
            elif holds and not watch.done.done():
                watch.done.set_result(None)

    def linearizable(self, history: History | None = None, model: Any = None) -> None:
        """Raise an AssertionError unless one copy could have shown what `history` has."""
        __tracebackhide__ = True
        (self.history if history is None else history).linearizable(model)

    def serializable(self, history: History | None = None, **kw: Any) -> None:
        """Raise an AssertionError unless the transactions of `history` have a serial order."""
        __tracebackhide__ = True
        (self.history if history is None else history).serializable(**kw)

    # Faults that the program asks for

    def buggify(self, site: str, probability: float = 0.25) -> bool:
        """Return whether the program should misbehave at `site`, as it may: slow, small, early.

        A quarter of the runs have a site at all; those fire with `probability` each time.
        ValueError unless it is from 0 to 1.
        """
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is from 0 to 1, not {probability}")
        active = self._buggified.get(site)
        if active is None:
            active = self._buggified[site] = self.tape.chance(f"buggify {site} at all", 0.25)
        return active and self.tape.chance(f"buggify {site}", probability)

    # Running

    def run(self, main: Callable[[], Any], *, name: str, graceful: bool = True) -> Any:
        """Run `main` on a host called `name` until it ends; returns its result.

        With `graceful` the tasks that it leaves are cancelled, and run until they end. Raises what
        `main` raises, what a condition found, Deadlock, Livelock, and TimeoutError where the clock
        passes the limit.
        """
        with self._entered():
            address = "10.0.255.254"
            host = self.main_host = self.host(name, main, address=address, start=False)
            host.graceful = graceful
            host.start()
            if self.faults is not None:
                self.faults.begin(self)
            self.sched.drive()
        if host.error is not None:
            raise host.error
        return host.result

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        place = inside.place
        if place.world is not None:
            raise RuntimeError("a world runs already: one at a time runs in a process")
        place.world = self
        ident = inside.get_ident()
        place.threads.add(ident)
        place.caller = ident
        argv, path, environ = sys.argv, [*sys.path], dict(os.environ)
        named: Any = Arguments(argv)
        sys.argv = named
        try:
            with installed(self):
                try:
                    yield
                finally:
                    if self.before_end is not None:
                        self.before_end()
                    self._close()
        finally:
            place.threads.discard(ident)
            place.world = None
            sys.argv, sys.path[:] = argv, path
            if environ != os.environ:
                os.environ.clear()
                os.environ.update(environ)

    def _close(self) -> None:
        """Let everything unwind that was left: machines are off, so none of it has an effect."""
        sched = self.sched
        for host in self.hosts.values():
            host.turn_off()
        sched.close()
        with quiet_finalizers():
            for host in self.hosts.values():
                for loop in host.take_loops():
                    sched.current = loop.task
                    loop.unwind()
            gc.collect()

    def after(self, seconds: float, function: Callable[[], object]) -> HrTimer:
        """Call `function` when `seconds` have passed: a crash, say; returns the timer.

        It runs between two steps, as no host's code. What it raises ends the run. ValueError for
        seconds below 0.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a fault comes after some seconds from now, not {seconds}")
        timer = HrTimer(function)
        self.sched.clock.start(timer, self.sched.clock.now_ns + round(seconds * NSEC_PER_SEC))
        return timer
