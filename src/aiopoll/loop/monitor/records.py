"""The structure of a dump: plain frozen records, which JSON has a word for each of.

All times are in seconds.  `nr_…` is the number of all, of which a record has up to the limit.
"""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class LoopState(StrEnum):
    """What a loop does at the moment of a dump."""

    RUNNING = "running"
    """It runs a callback, or is between two of them."""
    ASLEEP = "asleep"
    """It waits in the kernel, or is about to."""
    NOT_RUNNING = "not running"
    """No thread runs it."""
    CLOSED = "closed"


class TaskState(StrEnum):
    """What a task does at the moment of a dump."""

    RUNNING = "running"
    READY = "ready"
    """Its next step is in the ready queue."""
    WAITING = "waiting"


class AwaitKind(StrEnum):
    """The kind of thing that a task awaits."""

    SLEEP = "sleep"
    TIMEOUT = "timeout"
    LOCK = "lock"
    """A lock, condition, semaphore or barrier."""
    EVENT = "event"
    QUEUE = "queue"
    TASK = "task"
    TASKS = "tasks"
    """Several: gather, wait, a task group."""
    SOCKET = "socket"
    """A sock_* method."""
    STREAM = "stream"
    FILE = "file"
    THREAD = "thread"
    """A call in an executor."""
    PROCESS = "process"
    SERVER = "server"
    FUTURE = "future"
    """Another future."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FrameDump:
    """A line of code: where a function stands."""

    file: str
    line: int
    function: str


@dataclass(frozen=True, slots=True)
class AwaitDump:
    """What a task awaits."""

    kind: AwaitKind
    text: str
    seconds: float | None = None
    """Until then it sleeps, or for so long the request has been under way; None: not known."""
    fd: int | None = None
    task: str | None = None
    """The name of the task awaited."""


@dataclass(frozen=True, slots=True)
class TaskDump:
    """A task that is not done."""

    name: str
    ident: int
    """id() of the task: the same in each dump as long as the task lives."""
    state: TaskState
    coroutine: str
    stack: tuple[FrameDump, ...]
    """Innermost last."""
    awaits: AwaitDump | None
    deadline: float | None
    """Seconds until asyncio.timeout() ends it."""
    cancelling: int
    """Cancellations that were asked for, and have not ended it yet."""
    made_at: tuple[FrameDump, ...]
    """The stack that made it, innermost last; in debug mode only."""


@dataclass(frozen=True, slots=True)
class DescriptorDump:
    """A descriptor that the loop watches."""

    fd: int
    state: str
    """Its state in the reactor, by the name that docs/explanation/states.md has."""
    where: str
    """"ring", "epoll set", or "nowhere" while it cannot be polled."""
    owned: bool
    """Whether the loop alone has the number."""
    armed: tuple[str, ...]
    """The directions that a request polls on the ring: "read", "write"."""
    reader: str | None
    writer: str | None
    kind: str
    """"TCP", "TCP listener", "UDP", "Unix", …; of other files what /proc/self/fd has."""
    local: str
    peer: str


@dataclass(frozen=True, slots=True)
class TimerDump:
    """A timer to come."""

    seconds: float
    """Until it is due; negative if it is late."""
    callback: str
    cancelled: bool


@dataclass(frozen=True, slots=True)
class RequestDump:
    """A request of a file that is not over."""

    kind: str
    """"read", "write", "sync", "append", "close" or "call"."""
    state: str
    """Its state, by the name that docs/explanation/states.md has."""
    file: str
    fd: int
    offset: int
    size: int
    seconds: float | None
    """How long it has been under way; None if it began before the first dump."""


@dataclass(frozen=True, slots=True)
class ThreadDump:
    """A thread and its Python stack."""

    name: str
    ident: int
    native_id: int
    stack: tuple[FrameDump, ...]
    """Innermost last."""


@dataclass(frozen=True, slots=True)
class ExecutorDump:
    """A pool of threads: the loop's default executor, or those of files."""

    name: str
    threads_max: int
    queued: int
    """Calls that wait for a thread."""
    nr_threads: int
    threads: tuple[ThreadDump, ...]


@dataclass(frozen=True, slots=True)
class LoopDump:
    """A loop at one moment, as `loop.dump()` finds it."""

    taken_at: float
    """time.time() of the dump."""
    pid: int
    python: str
    loop: str
    """Class and address."""
    ident: int
    backend: str
    backend_reason: str | None
    debug: bool
    state: LoopState
    thread: ThreadDump | None
    """The thread that runs the loop."""
    iterations: int
    callbacks: int
    """Callbacks that were run, modulo 2**32."""
    nr_ready: int
    ready: tuple[str, ...]
    """The next callbacks of the ready queue."""
    nr_tasks: int
    tasks: tuple[TaskDump, ...]
    """Those that run first, then the ready ones, then by number or name."""
    nr_descriptors: int
    descriptors: tuple[DescriptorDump, ...]
    nr_timers: int
    timers: tuple[TimerDump, ...]
    """In order."""
    nr_requests: int
    requests: tuple[RequestDump, ...]
    executors: tuple[ExecutorDump, ...]
    statistics: dict[str, Any]
    """The fields of loop.statistics()."""
    missing: str
    """What is not in the dump, and why; "" for a whole one."""

    def as_dict(self) -> dict[str, Any]:
        """The same as dictionaries, lists, texts and numbers, for json.dumps()."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        from aiopoll.loop.monitor.dump_text import text_of

        return text_of(self)
