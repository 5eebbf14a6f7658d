"""One implementation on one workload: its processes, and the kernel's counters of them.

Everything is counted over a window, which the client (or the program, where it has none) marks by
`start` and by its result.  Connecting, warming up and starting Python are outside.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from benchmarks.workload import ROOT, Workload

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Settings:
    seconds: float = 3.0
    warm_up: float = 0.5
    operations: int | None = None  # in place of the seconds, and every response is compared
    server_cpu: int | None = None  # None: wherever the kernel puts it
    client_cpu: int | None = None


class Failure(Exception):
    """An implementation did not do its work; the text is the output of its processes."""


@contextlib.contextmanager
def on_cpu(cpu: int | None) -> Iterator[None]:
    """A child started in here runs on this CPU, for it inherits the affinity."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def environment(source: Path | None = None) -> dict[str, str]:
    """For a child that imports the benchmarks of this checkout, and aiopoll from `source`."""
    path = [str(ROOT), str(source or ""), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


class Process:
    """A child that communicates by lines; killed at the end, or when a line takes too long."""

    def __init__(
        self, command: list[str], cpu: int | None, limit_seconds: float, source: Path | None = None
    ) -> None:
        self.command = command
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        with on_cpu(cpu):
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                cwd=ROOT,
                env=environment(source),
                process_group=0,  # its own children end with it
            )
        self.pid = self._popen.pid
        self._limit_seconds = limit_seconds

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def errors(self) -> str:
        """The beginning of its standard error."""
        # The child shares the file's position: it must not be moved.
        return os.pread(self._errors.fileno(), 10_000, 0).decode(errors="replace").strip()

    def line(self, start: str = "") -> str:
        """The rest of the next line, which has to start so; raises Failure."""
        assert self._popen.stdout is not None
        watchdog = threading.Timer(self._limit_seconds, self._kill)
        watchdog.daemon = True
        watchdog.start()
        line = self._popen.stdout.readline()
        watchdog.cancel()
        if not line or not line.startswith(start):
            self._kill()
            self._popen.wait()
            name = " ".join(map(os.path.basename, self.command[:4]))
            said = f"{line.strip()} {self.errors()}".strip()
            raise Failure(f"{name}: {said or f'status {self._popen.returncode}'}")
        return line.removeprefix(start).strip()

    def go(self) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write("go\n")
        self._popen.stdin.flush()

    def close(self) -> None:
        if self._popen.returncode is None:
            self._kill()
            self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@dataclass(frozen=True)
class Snapshot:
    """The kernel's counters of a process, or of several together, so far."""

    cpu_seconds: float
    user_seconds: float
    context_switches: int
    resident_bytes: int
    peak_bytes: int

    @classmethod
    def of(cls, pid: int) -> "Snapshot":
        # The CPU clock of another process and all its threads (clock_getcpuclockid(3)): what
        # /proc/PID/stat has in ticks of 10 ms, in nanoseconds.
        cpu = time.clock_gettime(((~pid) << 3) | 2)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        user = int(fields[11]) / os.sysconf("SC_CLK_TCK")  # utime, proc_pid_stat(5)
        switches = 0
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                status = (thread / "status").read_text()
                switches += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status)))
        status = Path(f"/proc/{pid}/status").read_text()
        kilobytes = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status))
        memory = int(kilobytes["VmRSS"]) * 1024, int(kilobytes["VmHWM"]) * 1024
        return cls(cpu, user, switches, *memory)

    @classmethod
    def of_all(cls, pids: list[int]) -> "Snapshot":
        """The sums; each process's peak of memory may be of another time."""
        fields = zip(*(astuple(cls.of(pid)) for pid in pids), strict=True)
        return cls(*map(sum, fields))


def children_of(pid: int) -> list[int]:
    """The children of a process, of all its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def least_share(pids: list[int]) -> float:
    """The connections of the process that has the fewest, to what each would have of all."""
    counts = [
        sum(os.readlink(fd).startswith("socket:") for fd in Path(f"/proc/{pid}/fd").iterdir())
        for pid in pids
    ]
    return min(counts) * len(counts) / (sum(counts) or 1)


class SystemCalls:
    """Counts the system calls of processes and their threads, by perf or else by strace.

    Raises Failure with the reason where neither is allowed to.
    """

    def __init__(self, pids: list[int]) -> None:
        self._file = tempfile.NamedTemporaryFile("r")  # noqa: SIM115
        try:
            self._popen = self._perf(pids) or self._strace(pids)
        except Failure:
            self._file.close()
            raise

    def _perf(self, pids: list[int]) -> "subprocess.Popen[str] | None":
        if not shutil.which("perf"):
            return None
        control, command_end = os.pipe()
        answer_end, acknowledge = os.pipe()
        command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-D", "-1"]
        command += ["--control", f"fd:{control},{acknowledge}", "-o", self._file.name]
        popen = subprocess.Popen(
            [*command, "-p", ",".join(map(str, pids))],
            pass_fds=(control, acknowledge),
            stderr=subprocess.DEVNULL,
            text=True,
        )
        os.close(control)
        os.close(acknowledge)
        try:
            os.write(command_end, b"enable\n")
            if os.read(answer_end, 16):  # "ack\n": it counts
                return popen
        except BrokenPipeError:
            pass
        finally:
            os.close(command_end)
            os.close(answer_end)
        popen.wait()
        return None

    def _strace(self, pids: list[int]) -> "subprocess.Popen[str]":
        if not shutil.which("strace"):
            raise Failure("neither perf may count system calls here, nor is strace there")
        popen = subprocess.Popen(
            ["strace", "-c", "-f", "-o", self._file.name, "-p", ",".join(map(str, pids))],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert popen.stderr is not None
        said = popen.stderr.readline()
        if "attached" in said:
            return popen
        popen.wait()
        popen.stderr.close()
        raise Failure(f"neither perf nor strace may count system calls here: {said.strip()}")

    def stop(self) -> int:
        self._popen.send_signal(signal.SIGINT)
        self._popen.wait()
        if self._popen.stderr:
            self._popen.stderr.close()
        with self._file:
            text = self._file.read()
        if match := re.search(r"^(\d+),,raw_syscalls", text, re.MULTILINE):
            return int(match[1])
        if match := re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+)", text, re.MULTILINE):
            return int(match[1])
        raise Failure(f"the count of system calls is not to be read: {text.strip()!r}")


class Running(contextlib.ExitStack):
    """An implementation's processes on a workload, started and warmed up: to be measured any time.

    `source` is where the program imports aiopoll from: without it, what is installed here.
    Raises Failure where the program or its client fails.
    """

    def __init__(
        self,
        workload: Workload,
        implementation: str,
        settings: Settings,
        source: Path | None = None,
    ) -> None:
        super().__init__()
        self._workload = workload
        self._implementation = implementation
        self._source = source
        self._limit_seconds = 120 + 5 * (settings.seconds + settings.warm_up)
        try:
            self._start(settings)
        except BaseException:
            self.close()
            raise

    def _process(self, command: list[str], cpu: int | None) -> Process:
        started = Process(command, cpu, self._limit_seconds, self._source)
        self.callback(started.close)
        return started

    def _start(self, settings: Settings) -> None:
        workload = self._workload
        command = workload.command(self._implementation)
        size = ["--seconds", str(settings.seconds), "--warm-up", str(settings.warm_up)]
        self._resident = 0
        if workload.client is None:
            if settings.operations:
                size += ["--operations", str(settings.operations)]
            self._server = self._reporter = self._process([*command, *size], settings.server_cpu)
        else:
            if settings.operations:
                size = ["--requests", str(settings.operations), "--check"]
            self._server = self._process(command, settings.server_cpu)
            address = self._server.line("ready")
            if address.startswith("unix:"):
                self.callback(shutil.rmtree, os.path.dirname(address[5:]), True)
            self._resident = Snapshot.of(self._server.pid).resident_bytes
            command = [*workload.client.command(address), *size]
            self._reporter = self._process(command, settings.client_cpu)
        self._reporter.line("start")

    @property
    def pid(self) -> int:
        """The server's."""
        return self._server.pid

    def _counted(self) -> list[int]:
        """The server, and its workers where it has some."""
        workers = children_of(self._server.pid) if self._workload.children else []
        return [self._server.pid, *workers]

    def measure(self) -> dict[str, float]:
        """Metrics of one window: rate, cpu_us, context_switches (each per operation), …"""
        pids = self._counted()
        before = Snapshot.of_all(pids)
        self._reporter.go()
        said: dict[str, Any] = json.loads(self._reporter.line())
        after = Snapshot.of_all(pids)
        self._reporter.line("start")  # nothing is on its way any more
        if self._server.errors():
            raise Failure(f"{self._implementation} complained: {self._server.errors()}")
        operations, seconds = said.pop("operations"), said.pop("seconds")
        if not operations:
            raise Failure(f"{self._implementation} completed nothing in {seconds:.2f} s")
        result: dict[str, float] = {
            "operations": operations,
            "seconds": seconds,
            "rate": operations / seconds,
            # fio runs in a child and counts itself.
            "cpu_us": said.pop("cpu_seconds", after.cpu_seconds - before.cpu_seconds)
            / operations
            * 1e6,
            "user_us": (after.user_seconds - before.user_seconds) / operations * 1e6,
            "context_switches": said.pop(
                "context_switches", after.context_switches - before.context_switches
            )
            / operations,
            "peak_memory": said.pop("peak_memory", after.peak_bytes),
        }
        for name in ("lost", "unanswered"):  # reported where not zero
            if said.get(name) == 0:
                del said[name]
        if len(pids) > 1:
            result["least_share"] = least_share(pids)
        if "client_cpu_seconds" in said:
            result["client_cpu_share"] = said.pop("client_cpu_seconds") / seconds
        client = self._workload.client
        if client and client.idle:
            result["connection_memory"] = (before.resident_bytes - self._resident) / (
                client.idle + client.connections
            )
        return {**result, **said}

    def system_calls(self) -> float:
        """System calls of the server for each operation; Failure where they cannot be counted."""
        calls = SystemCalls(self._counted())
        result = self.measure()
        return calls.stop() / result["operations"]


class Round(Generic[Key]):
    """The processes that are measured beside each other, each under a key.

    They are started at the first question, and run until the end.  For a workload that runs alone,
    they are started and ended for each question.
    """

    def __init__(
        self, alone: bool, start: Callable[[Key], Running], failures: dict[Key, str]
    ) -> None:
        self._alone, self._start, self._failures = alone, start, failures
        self._running: dict[Key, Running] = {}

    def ask(self, key: Key, question: Callable[[Running], Result]) -> Result | None:
        """The result of `question` for it; None if it has failed, which `failures` keeps."""
        if key in self._failures:
            return None
        try:
            if self._alone:
                with self._start(key) as running:
                    return question(running)
            if key not in self._running:
                self._running[key] = self._start(key)
            return question(self._running[key])
        except Failure as failure:
            self._failures[key] = str(failure)
            return None

    def close(self) -> None:
        for running in self._running.values():
            running.close()


if __name__ == "__main__":
    sys.exit("python -m benchmarks.run is the command")
