"""What `aiopoll top` knows of a process: by its monitor socket, and by /proc where that is silent.

Facts.  The socket of a process whose C code keeps the GIL, or that is stopped, takes a connection,
and nothing comes.  /proc has the state of each thread all the same.

Rule.  Everything has a limit of time.  A socket whose other end is another process than its name
says is not believed.
"""

import json
import math
import os
import re
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from aiopoll.loop.monitor.sockets import check_folder, folders_of, sockets_of

REPLY_S = 1.0
"""How long a process may take to reply."""
STUCK_S = 1.0
"""From when on a callback that goes on is called stuck."""


class NoReply(Exception):
    """A process has no monitor, or does not respond (silent); the text says what to do."""

    def __init__(self, reason: str, *, silent: bool = False) -> None:
        super().__init__(reason)
        self.silent = silent


@dataclass(frozen=True)
class Thread:
    """A thread, as /proc has it."""

    tid: int
    name: str
    state: str
    call: str
    """The kernel function that it waits in; "" if it runs, or that cannot be known."""
    cpu: float
    """Seconds of CPU time."""


@dataclass(frozen=True)
class Process:
    """A process, as /proc has it."""

    pid: int
    command: str
    threads: tuple[Thread, ...]

    @property
    def cpu(self) -> float:
        """Seconds of CPU time of the threads that live."""
        return sum(thread.cpu for thread in self.threads)


def process_of(pid: int) -> Process | None:
    """What /proc has of a process; None if there is none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
        tids = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None
    command = " ".join(word.decode("utf-8", "backslashreplace") for word in words)
    found = [_thread_of(pid, tid) for tid in tids]
    return Process(pid, command, tuple(each for each in found if each is not None))


def _thread_of(pid: int, tid: int) -> Thread | None:
    folder = f"/proc/{pid}/task/{tid}"
    try:
        with open(f"{folder}/stat", encoding="utf-8", errors="backslashreplace") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
    except OSError:
        return None
    fields = rest.split()
    try:
        with open(f"{folder}/wchan", encoding="ascii") as file:
            call = file.read()
    except OSError:
        call = ""
    ticks = int(fields[11]) + int(fields[12])
    call = "" if call == "0" else call
    return Thread(tid, name, fields[0], call, ticks / os.sysconf("SC_CLK_TCK"))


def ask(pid: int, limit: int) -> dict[str, Any]:
    """Returns what the monitor of a process reports; raises NoReply."""
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        raise NoReply(f"there is no process {pid}") from None
    deadline = time.monotonic() + REPLY_S
    for folder in folders_of(uid):
        path = os.path.join(folder, f"{pid}.sock")
        try:
            check_folder(folder, uid)
        except OSError:
            continue  # another user's: anything could be in it
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(REPLY_S)
            try:
                sock.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                continue
            except PermissionError:
                raise NoReply(f"process {pid} is another user's: ask as that, or root") from None
            except OSError:
                raise _silence(pid) from None  # its queue is full, too
            if _pid_of(sock) == pid:
                return _receive(sock, pid, limit, deadline)
    raise NoReply(
        f"process {pid} has no monitor: start it with AIOPOLL_MONITOR=1, by aiopoll run --monitor,"
        " or with EventLoop(monitor=True)"
    )


def _receive(sock: socket.socket, pid: int, limit: int, deadline: float) -> dict[str, Any]:
    data = bytearray()
    try:
        sock.sendall(json.dumps({"limit": limit}).encode() + b"\n")
        while not data.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
            more = sock.recv(1 << 16)
            if not more:
                raise NoReply(f"process {pid} has ended the connection without a reply")
            data += more
    except OSError:
        raise _silence(pid) from None
    try:
        reply: dict[str, Any] = json.loads(data)
    except ValueError:
        raise NoReply(f"process {pid} has sent what is no reply") from None
    if reply.get("version") != 1:
        raise NoReply(f"process {pid} has another version of aiopoll")
    return reply


def _pid_of(sock: socket.socket) -> int:
    size = struct.calcsize("3i")
    pid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
    return pid


def _silence(pid: int) -> NoReply:
    process = process_of(pid)
    states = {thread.state for thread in process.threads} if process else set()
    if not states or states <= {"Z", "X"}:
        return NoReply(f"process {pid} has ended")
    if states & {"T", "t"}:
        cause = "it is stopped, by a signal or a debugger"
    elif "D" in states and "R" not in states:
        cause = "a thread waits in the kernel, for a disk perhaps"
    else:
        cause = "it keeps the GIL"
    return NoReply(f"the process does not respond: {cause}", silent=True)


def monitored() -> list[tuple[int, str]]:
    """(pid, path) of the processes that have a monitor: this user's, for root everyone's."""
    uids = {os.geteuid()}
    if os.geteuid() == 0:
        for folder, pattern in (("/tmp", r"aiopoll-(\d+)"), ("/run/user", r"(\d+)")):
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                if match := re.fullmatch(pattern, name):
                    uids.add(int(match[1]))
    return sorted({pid: path for uid in uids for pid, path in sockets_of(uid)}.items())


@dataclass
class History:
    """What earlier replies have shown: for rates, and for how long tasks have waited."""

    samples: dict[int, tuple[float, dict[str, float]]] = field(default_factory=dict)
    waits: dict[int, tuple[Any, float]] = field(default_factory=dict)
    cpu: tuple[float, float] | None = None
    began: float = math.inf

    def cpu_share(self, process: Process) -> float | None:
        """The share of one CPU since the last call; None at the first."""
        before, self.cpu = self.cpu, (time.monotonic(), process.cpu)
        if before is None or self.cpu[0] <= before[0]:
            return None
        return max(0.0, self.cpu[1] - before[1]) / (self.cpu[0] - before[0])

    def take(self, reply: dict[str, Any]) -> None:
        """Adds `rates` to each loop of a reply, and `waited` to each task, in seconds.

        `waited_before`: it waited at the first look already, so that it has waited for longer.
        """
        at: float = reply["at"]
        waits, self.waits = self.waits, {}
        self.began = min(self.began, at)
        for loop in reply["loops"]:
            counts = _counts(loop)
            before = self.samples.get(loop["ident"])
            self.samples[loop["ident"]] = at, counts
            seconds = 0.0 if before is None else at - before[0]
            loop["rates"] = {
                name: (count - before[1].get(name, 0)) % (1 << 32) / seconds
                if before is not None and seconds > 0
                else None
                for name, count in counts.items()
            }
            for task in loop["tasks"]:
                awaits = task["awaits"] or {}
                wait = (task["state"], awaits.get("kind"), awaits.get("fd"), task["stack"])
                known = waits.get(task["ident"])
                since = known[1] if known is not None and known[0] == wait else at
                self.waits[task["ident"]] = wait, since
                task["waited"] = at - since
                task["waited_before"] = since == self.began


def _counts(loop: dict[str, Any]) -> dict[str, float]:
    statistics = loop["statistics"]
    return {
        "iterations": loop["iterations"],
        "callbacks": loop["callbacks"],
        "sleeps": statistics.get("sleeps", 0),
        "ring_reaps": statistics.get("ring_reaps", 0),
    }
