"""kernel/fork.c, exit.c and sys.c: processes, from fork to wait, and their limits.

Facts: a child has the parent's descriptors (each one more reference to the same open file), its
handlers, mask and limits. It has none of its AIO contexts: those belong to the address space. Exit
destroys the contexts first and then closes the descriptors, so requests in flight are cancelled.

Rule: a Python call cannot return twice, so `fork` takes the function that the child runs. The
child's exit status is 0 when that returns. The exception that it raises, `waitpid` raises in the
parent.
Left out: exec, copies of memory (parent and child share their objects), threads of a child that
outlive it, process groups, orphans; limits other than RLIMIT_FSIZE.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .aio import AioSyscalls
from .file import FileTable
from .sched import Scheduler, Task, TaskExit
from .signal import Handler, Killed
from .syscall import syscall
from .uapi import error
from .wait import WaitQueueHead, wait_event_interruptible

if TYPE_CHECKING:
    from .inode import Directory
    from .kioctx import KioContext
    from .mmap import Mapping


class Process:
    """The shared state of one process's tasks: struct files_struct, sighand_struct, mm_struct.

    `status` is None until the process has ended: then 0, 1 after an exception, or -signo.
    """

    def __init__(self, sched: Scheduler, pid: int, main: Task) -> None:
        self.pid = pid
        self.main = main
        self.files: FileTable = FileTable()
        # struct fs_struct; None is the root.
        self.cwd: Directory | None = None
        self.umask = 0o022
        self.handlers: dict[int, Handler | None] = {}
        self.contexts: dict[int, KioContext] = {}
        self.mappings: list[Mapping] = []
        self.fsize_max: int | None = None
        self.parent: Process | None = None
        # The machine that it runs on, where several share a scheduler.
        self.machine: Any = None
        self.status: int | None = None
        self.error: BaseException | None = None
        self.exited: WaitQueueHead = WaitQueueHead(sched, "exited")


class ProcessSyscalls(AioSyscalls):
    """fork, waitpid, getpid, kill, getrlimit, setrlimit; exit destroys AIO contexts too."""

    processes: dict[int, Process]
    _next_pid: int

    def exit_process(self, process: Process) -> None:
        """do_exit: exit_mm with its exit_aio, then exit_files."""
        for ctx in list(process.contexts.values()):
            self.kill_ioctx(process.contexts, ctx)
        for mapping in process.mappings:
            mapping.file.put()
        process.mappings.clear()
        for fd in list(process.files.files):
            # No caller is left to report an error to.
            with contextlib.suppress(OSError):
                process.files.close(fd)

    @syscall
    def fork(self, body: Callable[..., Any], *args: Any) -> int:
        """Start a child that calls `body(*args)` and ends; returns its pid."""
        parent = self.sched.current.process
        pid = self._next_pid
        self._next_pid += 1

        def run() -> None:
            status = 0
            try:
                body(*args)
            except TaskExit:
                raise
            except Killed as killed:
                status = -killed.signo
            except BaseException as exc:
                child.error, status = exc, 1
            self.exit_process(child)
            child.status = status
            child.exited.wake_up_all()
            self.signals.send(signal.SIGCHLD, parent.main)

        task = self.sched.spawn(run, f"process-{pid}")
        child = Process(self.sched, pid, task)
        child.files.files = {fd: file.get() for fd, file in parent.files.files.items()}
        child.handlers = dict(parent.handlers)
        child.fsize_max = parent.fsize_max
        child.cwd, child.umask = parent.cwd, parent.umask
        child.parent = parent
        child.machine = parent.machine
        task.process = child
        task.blocked = self.sched.current.blocked
        self.processes[pid] = child
        return pid

    @syscall
    def waitpid(self, pid: int) -> int:
        """Sleep until the child has ended; returns 0, or -signo if a signal ended it.

        Raises the child's exception. ECHILD if it is no child of the caller, EINTR.
        """
        child = self.processes.get(pid)
        if child is None or child.parent is not self.sched.current.process:
            raise error(errno.ECHILD)
        wait_event_interruptible(child.exited, lambda: child.status is not None)
        del self.processes[pid]
        if child.error is not None:
            raise child.error
        assert child.status is not None
        return child.status

    @syscall
    def getpid(self) -> int:
        return self.sched.current.process.pid

    @syscall
    def kill(self, pid: int, signo: int) -> None:
        """Send `signo` to the first task of a process; pid 0 is the caller's. EINVAL, ESRCH."""
        if not 0 <= signo <= 64:
            raise error(errno.EINVAL)
        process = self.processes.get(pid or self.sched.current.process.pid)
        if process is None:
            raise error(errno.ESRCH)
        if signo and process.status is None:
            self.signals.send(signo, process.main)

    @syscall
    def getrlimit(self, which: int) -> int:
        """Return the limit, RLIM_INFINITY for none. EINVAL for limits other than RLIMIT_FSIZE."""
        if which != resource.RLIMIT_FSIZE:
            raise error(errno.EINVAL)
        limit = self.sched.current.process.fsize_max
        return resource.RLIM_INFINITY if limit is None else limit

    @syscall
    def setrlimit(self, which: int, limit: int) -> None:
        """Set a limit of the process. EINVAL for limits other than RLIMIT_FSIZE."""
        if which != resource.RLIMIT_FSIZE or limit < -1:
            raise error(errno.EINVAL)
        # -1 before Python 3.15
        unlimited = limit in (-1, resource.RLIM_INFINITY)
        self.sched.current.process.fsize_max = None if unlimited else limit
