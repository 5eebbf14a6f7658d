"""Which compiled functions a program calls, in order: a tracer with breakpoints.

Facts.  Cython's cdef functions are invisible to sys.monitoring, but the modules keep their symbol
tables.  A process that called PTRACE_TRACEME stops at each signal, and a breakpoint instruction
raises SIGTRAP (ptrace(2)).  /proc/PID/mem lets the tracer write into code.  A function that gcc has
inlined has no symbol, or calls that do not pass it.

Rule.  The program stops itself in allow_tracing(), so that all its threads are traced.  It stops
with `pause()` at the beginning and at the end of the traced part.  At a breakpoint the instruction
is put back, the thread makes one step, and the breakpoint is set again.  All functions that are
named are entered with the GIL, so that no other thread can pass one of them meanwhile.

Cost.  Two stops a call: for tests only.
"""

import contextlib
import ctypes
import errno
import os
import platform
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

TRACEME, CONT, SINGLESTEP, SETOPTIONS = 0, 7, 9, 0x4200
GETREGSET, SETREGSET = 0x4204, 0x4205
TRACECLONE, EXITKILL = 1 << 3, 1 << 20
NT_PRSTATUS = 1
WALL = 0x40000000  # __WALL: threads too
REFUSED = 77
"""The exit status of a program that must not be traced."""

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


class Machine(NamedTuple):
    """instruction: the breakpoint; counter: where the registers hold the program counter."""

    instruction: bytes
    counter: int
    passed: int  # how far beyond the breakpoint the counter is


MACHINES = {
    "x86_64": Machine(b"\xcc", 16 * 8, 1),  # int3; struct user_regs_struct, rip
    "aarch64": Machine(b"\x00\x00\x20\xd4", 32 * 8, 0),  # brk #0; struct user_pt_regs, pc
}


class TraceRefusedError(Exception):
    """This machine or sandbox does not allow a process to be traced."""


class iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    if libc.ptrace(request, pid, address, data) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace({request:#x}): {os.strerror(error)}")


# In the program


def allow_tracing() -> None:
    """Lets the parent trace this process; ends it with REFUSED where that is forbidden."""
    try:
        ptrace(TRACEME, 0)
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)
    pause()


def pause() -> None:
    """Stops until the tracer has set its breakpoints, or has read the calls."""
    signal.raise_signal(signal.SIGSTOP)  # to this thread, not to any of them


# In the tracer


@cache
def symbols(path: str) -> dict[str, int]:
    """The functions of a shared object: name to offset from where it is loaded."""
    data = Path(path).read_bytes()
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    found = {}
    for _, kind, _, _, offset, length, link, _, _, entry in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        names = sections[link][4]
        for at in range(offset, offset + length, entry):
            name, info, _, _, value, _ = struct.unpack_from("<IBBHQQ", data, at)
            if info & 0xF == 2 and value:  # STT_FUNC
                start = names + name
                found[data[start : data.index(b"\0", start)].decode("ascii")] = value
    return found


def cython_symbol(module: str, function: str, names: Iterable[str]) -> str | None:
    """The symbol of `Class.method` or `function` of a Cython module: cdef, def or property."""
    parts = [*module.split("."), *function.split(".")[:-1]]
    scope = "".join(f"{len(part)}{part}_" for part in parts)
    name = re.escape(function.rpartition(".")[2])
    wanted = re.compile(rf"__pyx_(?:f_{scope}{name}|pw_{scope}\d+{name})")
    return next((found for found in names if wanted.fullmatch(found)), None)


def loaded_at(pid: int) -> dict[str, tuple[str, int]]:
    """The modules of aiopoll that a process has loaded: name to path and address."""
    modules = {}
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        addresses, _, offset, _, _, *path = line.split(maxsplit=5)
        if path and path[0].endswith(".so") and "/aiopoll/" in path[0] and int(offset, 16) == 0:
            name = path[0].rpartition("/aiopoll/")[2].partition(".")[0].replace("/", ".")
            modules[f"aiopoll.{name}"] = path[0], int(addresses.split("-")[0], 16)
    return modules


class Tracer:
    """One program, from its first pause() to its second."""

    def __init__(self, pid: int) -> None:
        if platform.machine() not in MACHINES:
            raise TraceRefusedError(f"no breakpoints are known for {platform.machine()}")
        self.machine = MACHINES[platform.machine()]
        self.pid = pid
        self.places: dict[int, tuple[str, bytes]] = {}
        self.calls: list[str] = []
        self.memory = -1

    def wait(self, pid: int) -> tuple[int, int]:
        """The thread that stopped, and the signal; RuntimeError if the program has ended."""
        tid, status = os.waitpid(pid, WALL)
        if not os.WIFSTOPPED(status):
            if tid == self.pid:
                status = os.waitstatus_to_exitcode(status)
                if status == REFUSED:
                    raise TraceRefusedError("ptrace is refused here")
                raise RuntimeError(f"the program has ended early, with status {status}")
            return self.wait(pid)  # one of its threads has ended
        return tid, os.WSTOPSIG(status)

    def set_breakpoints(self, functions: Iterable[tuple[str, str]]) -> None:
        """functions: names of a module and of a function in it; LookupError if one is missing."""
        modules = loaded_at(self.pid)
        length = len(self.machine.instruction)
        for module, function in functions:
            path, start = modules[module]
            symbol = cython_symbol(module, function, symbols(path))
            if symbol is None:
                raise LookupError(
                    f"{path} has no symbol of {function}: it was renamed, was inlined by the"
                    " compiler, or the module is stripped"
                )
            address = start + symbols(path)[symbol]
            self.places[address] = f"{module}:{function}", self.read(address, length)
        for address in self.places:
            self.write(address, self.machine.instruction)

    def read(self, address: int, length: int) -> bytes:
        return os.pread(self.memory, length, address)

    def write(self, address: int, data: bytes) -> None:
        os.pwrite(self.memory, data, address)

    def at_breakpoint(self, tid: int) -> bool:
        """Notes the call and steps over it; False if the thread stopped elsewhere."""
        registers = (ctypes.c_char * 512)()
        vector = iovec(ctypes.addressof(registers), ctypes.sizeof(registers))
        ptrace(GETREGSET, tid, NT_PRSTATUS, ctypes.addressof(vector))
        (counter,) = struct.unpack_from("<Q", registers, self.machine.counter)
        address = counter - self.machine.passed
        if address not in self.places:
            return False
        name, original = self.places[address]
        self.calls.append(name)
        struct.pack_into("<Q", registers, self.machine.counter, address)
        ptrace(SETREGSET, tid, NT_PRSTATUS, ctypes.addressof(vector))
        self.write(address, original)
        ptrace(SINGLESTEP, tid)
        self.wait(tid)
        self.write(address, self.machine.instruction)
        return True

    def run_to_pause(self) -> None:
        """Lets the program and its threads go on to its next pause()."""
        ptrace(CONT, self.pid)
        while True:
            # By process group: other children of this process are not ours to wait for.
            tid, number = self.wait(-self.pid)
            if number == signal.SIGSTOP and tid == self.pid:
                return
            if number == signal.SIGTRAP:
                self.at_breakpoint(tid)  # else it reports a new thread, which stops by SIGSTOP
            new = number in (signal.SIGTRAP, signal.SIGSTOP)
            ptrace(CONT, tid, 0, 0 if new else number)

    def trace(self, functions: Iterable[tuple[str, str]]) -> list[str]:
        self.wait(self.pid)
        ptrace(SETOPTIONS, self.pid, 0, TRACECLONE | EXITKILL)
        self.run_to_pause()
        self.memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            self.set_breakpoints(functions)
            self.run_to_pause()
        finally:
            os.close(self.memory)
        return self.calls


@contextlib.contextmanager
def program(command: Sequence[str], **options: Any) -> Iterator[int]:
    """A program that calls allow_tracing(), in a process group of its own."""
    process = subprocess.Popen(command, process_group=0, **options)
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:  # the threads that are traced, and then the process
                os.waitpid(-process.pid, WALL)
        process.wait()


def calls_of(
    command: Sequence[str], functions: Iterable[tuple[str, str]], **options: Any
) -> list[str]:
    """The calls of `functions` between the two pauses of a program, as "module:function".

    options: of subprocess.Popen.
    Raises TraceRefusedError, LookupError where a function has no symbol, RuntimeError where the
    program ends early.
    """
    with program(command, **options) as pid:
        try:
            return Tracer(pid).trace(functions)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOSYS):
                raise TraceRefusedError(str(error)) from error
            raise
