"""One contender through one workload, once: processes, and what the kernel counts of them.

Everything is counted over the window that the client (or the program, where it has none) marks by
`start` and by its result: connecting, warming up and starting Python are outside.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.workload import ROOT, Workload


@dataclass(frozen=True, kw_only=True)
class Settings:
    seconds: float = 3.0
    warm_up: float = 0.5
    operations: int | None = None  # in place of the seconds, and every answer is compared
    server_cpu: int | None = None  # None: wherever the kernel puts it
    client_cpu: int | None = None


class Failure(Exception):
    """A contender did not do its work; the text is what its processes said."""


@contextlib.contextmanager
def on_cpu(cpu: int | None) -> Iterator[None]:
    """What is started in here runs on this CPU, for a child inherits the affinity."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A child that talks by lines; killed at the end, or where it takes too long."""

    def __init__(self, command: list[str], cpu: int | None, limit_seconds: float) -> None:
        self.command = command
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with on_cpu(cpu):
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path},
                process_group=0,  # its own children end with it
            )
        self.pid = self._popen.pid
        self._watchdog = threading.Timer(limit_seconds, self._kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def errors(self) -> str:
        """The beginning of what it wrote to its standard error."""
        # The child shares the file's position: it must not be moved.
        return os.pread(self._errors.fileno(), 1000, 0).decode(errors="replace").strip()

    def line(self, start: str = "") -> str:
        """The rest of the next line, which has to start so; raises Failure."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
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
        self._watchdog.cancel()
        if self._popen.returncode is None:
            self._kill()
            self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@dataclass(frozen=True)
class Snapshot:
    """What the kernel has counted of a process so far."""

    cpu_seconds: float
    context_switches: int
    resident_bytes: int
    peak_bytes: int

    @classmethod
    def of(cls, pid: int) -> "Snapshot":
        # The CPU clock of another process and all its threads (clock_getcpuclockid(3)): what
        # /proc/PID/stat has in ticks of 10 ms, in nanoseconds.
        cpu = time.clock_gettime(((~pid) << 3) | 2)
        switches = 0
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                status = (thread / "status").read_text()
                switches += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status)))
        status = Path(f"/proc/{pid}/status").read_text()
        kilobytes = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status))
        return cls(cpu, switches, int(kilobytes["VmRSS"]) * 1024, int(kilobytes["VmHWM"]) * 1024)


class SystemCalls:
    """Counts the system calls of a process and its threads, by perf or else by strace.

    Raises Failure with the reason where neither is allowed to.
    """

    def __init__(self, pid: int) -> None:
        self._file = tempfile.NamedTemporaryFile("r")  # noqa: SIM115
        try:
            self._popen = self._perf(pid) or self._strace(pid)
        except Failure:
            self._file.close()
            raise

    def _perf(self, pid: int) -> "subprocess.Popen[str] | None":
        if not shutil.which("perf"):
            return None
        control, command_end = os.pipe()
        answer_end, acknowledge = os.pipe()
        command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-D", "-1"]
        command += ["--control", f"fd:{control},{acknowledge}", "-o", self._file.name]
        popen = subprocess.Popen(
            [*command, "-p", str(pid)],
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

    def _strace(self, pid: int) -> "subprocess.Popen[str]":
        if not shutil.which("strace"):
            raise Failure("neither perf may count system calls here, nor is strace there")
        popen = subprocess.Popen(
            ["strace", "-c", "-f", "-o", self._file.name, "-p", str(pid)],
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


def measure(workload: Workload, contender: str, settings: Settings) -> dict[str, float]:
    """Metrics of one run: rate, cpu_us, context_switches (each per operation), peak_memory, …

    Raises Failure where the program or its client fails.
    """
    result, _ = _measure(workload, contender, settings, count=False)
    return result


def system_calls(workload: Workload, contender: str, settings: Settings) -> float:
    """System calls of the server for each operation, from a run of their own.

    Raises Failure where they cannot be counted.
    """
    result, count = _measure(workload, contender, settings, count=True)
    return count / result["operations"]


def _measure(
    workload: Workload, contender: str, settings: Settings, count: bool
) -> tuple[dict[str, float], int]:
    size = ["--seconds", str(settings.seconds), "--warm-up", str(settings.warm_up)]
    limit = 120 + 5 * (settings.seconds + settings.warm_up)
    with contextlib.ExitStack() as stack:

        def process(command: list[str], cpu: int | None) -> Process:
            started = Process(command, cpu, limit)
            stack.callback(started.close)
            return started

        if workload.client is None:
            if settings.operations:
                size += ["--operations", str(settings.operations)]
            server = reporter = process([*workload.command(contender), *size], settings.server_cpu)
            resident = 0
        else:
            if settings.operations:
                size = ["--requests", str(settings.operations), "--check"]
            server = process(workload.command(contender), settings.server_cpu)
            address = server.line("ready")
            if address.startswith("unix:"):
                stack.callback(shutil.rmtree, os.path.dirname(address[5:]), True)
            resident = Snapshot.of(server.pid).resident_bytes
            reporter = process([*workload.client.command(address), *size], settings.client_cpu)
        reporter.line("start")
        calls = SystemCalls(server.pid) if count else None
        before = Snapshot.of(server.pid)
        reporter.go()
        said: dict[str, Any] = json.loads(reporter.line())
        after = Snapshot.of(server.pid)
        counted = calls.stop() if calls else 0
        if server.errors():
            raise Failure(f"{contender} complained: {server.errors()}")
    operations, seconds = said.pop("operations"), said.pop("seconds")
    if not operations:
        raise Failure(f"{contender} completed nothing in {seconds:.2f} s")
    result: dict[str, float] = {
        "operations": operations,
        "seconds": seconds,
        "rate": operations / seconds,
        # fio runs in a child and counts itself.
        "cpu_us": said.pop("cpu_seconds", after.cpu_seconds - before.cpu_seconds)
        / operations
        * 1e6,
        "context_switches": said.pop(
            "context_switches", after.context_switches - before.context_switches
        )
        / operations,
        "peak_memory": said.pop("peak_memory", after.peak_bytes),
    }
    for name in ("lost", "unanswered"):  # told where there are some
        if said.get(name) == 0:
            del said[name]
    if "client_cpu_seconds" in said:
        result["client_cpu_share"] = said.pop("client_cpu_seconds") / seconds
    if workload.client and workload.client.idle:
        result["connection_memory"] = (before.resident_bytes - resident) / (
            workload.client.idle + workload.client.connections
        )
    return {**result, **said}, counted


if __name__ == "__main__":
    sys.exit("python -m benchmarks.run is the command")
