"""Subprocesses: a child is a file that the loop waits for.

Facts.  A pidfd is readable once its process is dead (pidfd_open(2)).  A parent may wait for it in
any thread, needs no SIGCHLD, and reaps no other code's child.  The first caller of waitpid(2)
gets the status; where SIGCHLD is ignored the kernel discards it.  From Linux 6.15 on a pidfd
keeps the status: PIDFD_GET_INFO (include/uapi/linux/pidfd.h).  release_task fills it in, after
the pidfd is readable, and after waitpid(2) returns ECHILD.  Popen.send_signal() polls, and may
be the call that reaps.  A pipe has POLLHUP or POLLERR once no process has its other end, which a
child's child may keep.

Rule.  Each transport waits for a pidfd of its own, opened with the child (popen.py), then reaps by
it.  If other code has reaped the child, the transport reads the status from the Popen, then from
the pidfd.  It reads that again until the kernel has filled it in.  If neither has it, the status is
255 with a warning, as in asyncio.  Where pidfds are refused, exhausted, or cannot be polled, a
thread waits.  stdin, stdout and stderr are plain pipes, which a child can open again through
/dev/stdin.  wait() waits for the process and, where asyncio does (before 3.14), for the data that
its pipes still hold.  It never waits for a pipe without a reader, nor for one that another process
keeps open.

Cost.  Child watchers, which asyncio removes in 3.14, are neither needed nor called.
"""

import asyncio
import errno
import fcntl
import os
import select
import signal
import struct
import subprocess
import threading
import warnings
from asyncio.base_subprocess import BaseSubprocessTransport
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from aiopoll.loop.popen import start_popen

_PIDFD_INFO = struct.Struct("=QQ11Ii")  # struct pidfd_info up to exit_code
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_GET_INFO = 3 << 30 | _PIDFD_INFO.size << 16 | 0xFF << 8 | 11  # _IOWR(0xFF, 11, …)
_ASK_AGAIN_S = 0.0005, 0.1  # the first and the longest pause between two attempts


class SubprocessTransport(BaseSubprocessTransport):
    """The transport of a child process."""

    # asyncio's
    _loop: Any
    _proc: "subprocess.Popen[bytes] | None"
    _returncode: int | None
    _closed: bool
    _pipes: dict[int, Any]
    _pending_calls: Any
    _exit_waiters: Any

    _pidfd = -1
    _connecting = True
    _pause_s = _ASK_AGAIN_S[0]

    def _start(self, *args: Any, **options: Any) -> None:
        """Starts the child, for asyncio's constructor; raises what Popen does."""
        self._proc, self._pidfd = start_popen(*args, **options)
        self._watch(self._proc.pid)

    def _watch(self, pid: int) -> None:
        try:
            if self._pidfd < 0:
                self._pidfd = os.pidfd_open(pid)
            self._loop._add_reader(self._pidfd, self._process_ended)
        except ProcessLookupError:
            # Other code has reaped it, or the kernel has (SIGCHLD is ignored).
            self._loop.call_soon(self._process_ended)
        except OSError:
            self._watch_by_thread(pid)

    def _watch_by_thread(self, pid: int) -> None:
        """Has a thread wait; a pidfd stays open, for the status that the kernel keeps in it."""

        def wait() -> None:
            try:
                # Leaves the status for _process_ended.
                self._wait_for(pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                pass
            try:
                loop.call_soon_threadsafe(self._process_ended)
            except RuntimeError:
                logger.warning("Loop %r that handles pid %r is closed", loop, pid)

        loop = self._loop
        threading.Thread(target=wait, name=f"aiopoll-waitpid-{pid}", daemon=True).start()

    def _wait_for(self, pid: int, options: int) -> Any:
        """waitid(2) for the child, never for a later process with its number."""
        if self._pidfd >= 0:
            try:
                return os.waitid(os.P_PIDFD, self._pidfd, options)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # Linux 5.3 has pidfds, and no P_PIDFD.
        return os.waitid(os.P_PID, pid, options)

    def _unwatch(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1  # first: what fails half-way is not closed again
        if pidfd >= 0:
            self._loop._remove_reader(pidfd)
            os.close(pidfd)

    def _process_ended(self) -> None:
        process = self._proc
        if process is None:
            return  # closed: a caller that polled the Popen has reported the exit
        if process.returncode is None:
            try:
                end = self._wait_for(process.pid, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                kept = self._status_kept(process.pid)
                if kept is None:
                    self._ask_again()
                    return
                process.returncode = kept
            else:
                if end is None:
                    # Dead, but not ours to reap yet: a tracing debugger gets the status first.
                    self._loop._remove_reader(self._pidfd)
                    self._watch_by_thread(process.pid)
                    return
                exited = end.si_code == os.CLD_EXITED
                process.returncode = end.si_status if exited else -end.si_status
        self._unwatch()
        if self._returncode is None:
            self._process_exited(process.returncode)

    def _status_kept(self, pid: int) -> int | None:
        """Returns the status of a child that other code has reaped; None if not yet known."""
        if self._pidfd >= 0:
            request = _PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13)
            try:
                answer = _PIDFD_INFO.unpack(fcntl.ioctl(self._pidfd, _PIDFD_GET_INFO, request))
            except OSError:
                pass  # a kernel before 6.15
            else:
                if answer[0] & _PIDFD_INFO_EXIT:
                    return os.waitstatus_to_exitcode(answer[-1])
                return None
        logger.warning(
            "child process pid %d exit status already read: will report returncode 255", pid
        )
        return 255

    def _ask_again(self) -> None:
        """Schedules _process_ended, with a longer pause each time: the pidfd stays readable."""
        self._loop._remove_reader(self._pidfd)
        self._loop.call_later(self._pause_s, self._process_ended)
        self._pause_s = min(2 * self._pause_s, _ASK_AGAIN_S[1])

    # The waiters

    def _process_exited(self, returncode: int) -> None:
        super()._process_exited(returncode)
        self._let_go()

    def _let_go(self) -> None:
        """Wakes the waiters for the process once no pipe is about to end.

        asyncio from 3.14 on has woken them already.
        """
        if not self._exit_waiters:
            return
        if self._connecting or any(self._will_end(pipe) for pipe in self._pipes.values()):
            self._loop.call_soon(self._let_go)
            return
        waiters = list(self._exit_waiters)
        self._exit_waiters.clear()  # connection_lost() may come, and wakes the rest of the list
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(self._returncode)

    @staticmethod
    def _will_end(pipe: Any) -> bool:
        """Whether a pipe's end is imminent: the loop is about to find it, or has found it."""
        if pipe is None or pipe.disconnected:
            return False
        transport = pipe.pipe
        if transport.is_closing():
            if pipe.fd != 0 or not transport.get_write_buffer_size():
                return True
        elif pipe.fd != 0 and not transport.is_reading():
            return False
        file = transport.get_extra_info("pipe")
        if file.closed:
            return False
        poll = select.poll()
        poll.register(file, 0)  # POLLHUP and POLLERR: no process has the other end
        return bool(poll.poll(0))

    async def _connect_pipes(self, waiter: Any) -> None:
        try:
            await super()._connect_pipes(waiter)
        finally:
            self._connecting = False
            if self._pending_calls is not None and self._proc is not None:
                # The connection failed: no other code closes the pipes that have no transport.
                files = self._proc.stdin, self._proc.stdout, self._proc.stderr
                for fd, file in enumerate(files):
                    if file is not None and self._pipes[fd] is None:
                        file.close()

    def send_signal(self, number: int) -> None:
        """Sends a signal to the child, never to a later process with its number.

        Does nothing if the child is dead; raises ProcessLookupError if the transport has ended.
        """
        self._check_proc()
        assert self._proc is not None
        if self._pidfd < 0:
            self._proc.send_signal(number)
            return
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if not self._closed and self._loop is not None and self._loop.is_closed():
            # close() needs one more iteration to close the pipes; they are collected with this.
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._closed = True
            if self._proc is not None and self._returncode is None:
                self._proc.kill()  # polls first: never a later process with its number
        super().__del__()
        # A loop that was closed while the child ran has not called _process_ended.
        self._unwatch()


async def start_subprocess(
    loop: asyncio.AbstractEventLoop, *args: Any, **options: Any
) -> SubprocessTransport:
    """Starts a child and connects its pipes; kills it again if that fails or is cancelled.

    args, options: SubprocessTransport's, after the loop.
    """
    connected = loop.create_future()
    options["waiter"] = connected
    transport = SubprocessTransport(loop, *args, **options)
    try:
        await connected
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return transport
