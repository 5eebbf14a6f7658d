"""No Linux file: what strace shows, and what a deadlocked kernel waits for.

Facts: a trace is a function that takes the parts of each system call and wake-up. The parts are
the virtual time, the task's name, the call's name, its arguments, and its result or OSError.
No text is made of them unless someone reads it, and an untraced call costs one comparison.

Rule: a line has nothing that differs between processes: no address, no order of a set. Payloads
show as their length and their CRC-32, so another byte gives another line.

Left out: calls that have not returned. `waiting` finds those, in the stacks of sleeping tasks.
"""

from __future__ import annotations

import errno
import inspect
import marshal
import socket
import sys
import zlib
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

from .uapi import BadAddress

if TYPE_CHECKING:
    from .file import File
    from .net.socket import Sock
    from .sched import Scheduler, Task

TraceFunction = Callable[[int, str, str, tuple[Any, ...], Any], object]

# The name in place of a call's: a sleeping task was made runnable.
WAKE = "wake"
SHORT = 16
# The function that `syscall` makes of each call.
ENTRY = "syscall.<locals>.entry"
NAMES = {"ramfs": "file", "eventpoll": "epoll", "mem": "device", "random": "device"}


def format_value(value: Any) -> str:
    """Return an argument or a result as text that is the same in every process."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        if len(data) <= SHORT:
            return repr(data)
        return f"<{len(data)} bytes, crc32 {zlib.crc32(data):08x}>"
    if value is None or isinstance(value, (str, float, bool)):
        return repr(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, OSError):
        return f"-{errno.errorcode.get(value.errno or 0, value.errno)}"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(format_value, value)))}}}"
    if isinstance(value, dict):
        return ", ".join(f"{name}={format_value(part)}" for name, part in value.items())
    if isinstance(value, tuple):
        return f"({', '.join(map(format_value, value))})"
    if isinstance(value, list):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, BadAddress):
        return repr(value)
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None and not isinstance(value, type):
        shown = {name: getattr(value, name) for name in fields}
        # What is left at its default says nothing.
        changed = {name: part for name, part in shown.items() if part != fields[name].default}
        return f"{type(value).__name__}({format_value(changed)})"
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"<{name}>"


def format_call(now_ns: int, task: str, name: str, args: tuple[Any, ...], result: Any) -> str:
    """Return the line of one system call or wake-up."""
    if name == WAKE:
        return f"{now_ns} {task} wake"
    shown = ", ".join(map(format_value, args))
    return f"{now_ns} {task} {name}({shown}) = {format_value(result)}"


class TraceDigest:
    """A trace that keeps nothing but `value`, a CRC-32 of all lines, and their number."""

    __slots__ = ("lines", "value")

    def __init__(self) -> None:
        self.value: int = 0
        self.lines: int = 0

    def __call__(
        self, now_ns: int, task: str, name: str, args: tuple[Any, ...], result: Any
    ) -> None:
        self.lines += 1
        if isinstance(result, OSError):
            result = -(result.errno or errno.EIO)
        try:
            # Version 2 has no references, which depend on the counts of the objects.
            data = marshal.dumps((now_ns, task, name, args, result), 2)
        except ValueError:
            data = format_call(now_ns, task, name, args, result).encode("utf-8", "surrogatepass")
        self.value = zlib.crc32(data, self.value)


# What sleeping tasks wait for


def describe_file(file: File) -> str:
    """Return what kind of file this is, with the addresses of a socket."""
    operations = file.f_op
    function = operations.poll_mask or operations.read or operations.release
    name = function.__module__.rpartition(".")[2] if function is not None else "file"
    if name == "socket":
        return describe_sock(file.private_data)
    if name == "eventpoll":
        watched = [describe_file(item.file) for item in file.private_data.items.values()]
        return f"epoll of ({_listed(watched)})"
    return NAMES.get(name, name)


def describe_sock(sk: Sock) -> str:
    """Return the protocol of a socket, its own address and its peer's."""
    from .net.socket import TCP_LISTEN

    if sk.family == socket.AF_UNIX:
        name = "Unix socket"
    elif sk.family in (socket.AF_INET, socket.AF_INET6):
        name = "TCP socket" if sk.type == socket.SOCK_STREAM else "UDP socket"
    else:
        return "socket"
    if sk.ops.getname is None:
        return name
    own = _address(sk.ops.getname(sk, 0))
    name += f" {own}" if own else ""
    if sk.state == TCP_LISTEN:
        return f"listening {name}"
    try:
        return f"{name} to {_address(sk.ops.getname(sk, 1)) or 'its peer'}"
    except OSError:
        return name


def _address(address: Any) -> str:
    if isinstance(address, tuple):
        return f"{address[0]}:{address[1]}"
    return repr(address) if address else ""


def _listed(parts: Iterable[str], limit: int = 8) -> str:
    """Return the parts in order, equal ones once with their number, at most `limit` of them."""
    numbers: dict[str, int] = {}
    for part in parts:
        numbers[part] = numbers.get(part, 0) + 1
    shown = [part if number == 1 else f"{number} x {part}" for part, number in numbers.items()]
    if len(shown) > limit:
        shown[limit:] = [f"{len(shown) - limit} more"]
    return ", ".join(shown) or "nothing"


def waiting(sched: Scheduler) -> list[str]:
    """Return for each sleeping task the system call that it is in, with what it waits for."""
    frames = sys._current_frames()
    return [
        f"{task.name} {_reason(task, frames.get(task.thread))}"
        for task in sched.tasks
        if not sched.is_runnable(task)
    ]


def _reason(task: Task, frame: FrameType | None) -> str:
    while frame is not None:
        code = frame.f_code
        if code.co_qualname == ENTRY:
            return f"waits in {_call(task, frame)}"
        if code.co_qualname == "Scheduler.join":
            return f"waits for the end of {frame.f_locals['task'].name}"
        frame = frame.f_back
    return "sleeps"


def _call(task: Task, frame: FrameType) -> str:
    """Return the call in whose entry `frame` is, its descriptors with what is behind them."""
    places = frame.f_locals
    bound = inspect.signature(places["function"]).bind(
        places["self"], *places["args"], **places["kwargs"]
    )
    files = task.process.files.files
    shown: list[str] = []
    for name, value in list(bound.arguments.items())[1:]:
        if name in ("fd", "epfd", "src", "dst") and value in files:
            shown.append(f"{value}: {describe_file(files[value])}")
        elif name == "fds":
            known = [f"{fd}: {describe_file(files[fd])}" for fd, _ in value if fd in files]
            shown.append(f"[{_listed(known)}]")
        elif name == "ctx_id" and value in task.process.contexts:
            context = task.process.contexts[value]
            polled = [describe_file(req.file) for req in context.active_reqs]
            shown.append(f"polls of ({_listed(polled)})")
        else:
            shown.append(format_value(value))
    return f"{places['name']}({', '.join(shown)})"
