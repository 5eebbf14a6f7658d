"""No Linux file: the socket module's face of an in-process socket, enough for asyncio.

Rule: this does what `socket.socket` does, with the kernel's system calls: blocking mode,
timeouts of the virtual clock (TimeoutError), partial sends, `detach`, context manager.
Left out: makefile, sendfile, recvmsg, descriptor passing, inheritance.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .file import Buffer
from .uapi import EPOLLIN, EPOLLOUT, NSEC_PER_SEC, error

if TYPE_CHECKING:
    from .kernel import Kernel


class KernelSocket:
    """A socket of an in-process kernel, with the methods of `socket.socket`."""

    def __init__(
        self,
        kernel: Kernel,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        *,
        fileno: int | None = None,
    ) -> None:
        self._kernel = kernel
        self._fd = kernel.socket(family, type, proto) if fileno is None else fileno
        self._timeout: float | None = None
        domain = kernel.getsockopt(self._fd, socket.SOL_SOCKET, socket.SO_DOMAIN)
        kind = kernel.getsockopt(self._fd, socket.SOL_SOCKET, socket.SO_TYPE)
        self.family: socket.AddressFamily = socket.AddressFamily(domain)
        self.type: socket.SocketKind = socket.SocketKind(kind)
        self.proto: int = int(kernel.getsockopt(self._fd, socket.SOL_SOCKET, socket.SO_PROTOCOL))

    def __enter__(self) -> KernelSocket:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<KernelSocket fd={self._fd} family={self.family} type={self.type}>"

    # Life

    def fileno(self) -> int:
        """Return the descriptor in the kernel, -1 once closed."""
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        # A socket may outlive its kernel: then all is closed already.
        if fd >= 0 and not self._kernel.halted:
            self._kernel.close(fd)

    def detach(self) -> int:
        """Return the descriptor and give it up; the socket counts as closed."""
        fd, self._fd = self._fd, -1
        return fd

    def dup(self) -> KernelSocket:
        return KernelSocket(self._kernel, fileno=self._kernel.dup(self._fd))

    # Blocking mode

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        return self._timeout != 0.0

    def settimeout(self, timeout: float | None) -> None:
        """Set the seconds that an operation may take; None: for ever, 0: it never waits."""
        if timeout is not None and timeout < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = timeout
        self._kernel.set_blocking(self._fd, timeout is None)

    def gettimeout(self) -> float | None:
        return self._timeout

    def _wait(self, events: int) -> None:
        """Sleep until ready. Raises TimeoutError if the timeout passes first."""
        timeout_ns = None if self._timeout is None else round(self._timeout * NSEC_PER_SEC)
        if self._kernel.poll([(self._fd, events)], timeout_ns) == [0]:
            raise TimeoutError("timed out")

    def _retry(self, events: int) -> bool:
        """Wait, and return True to try again after EAGAIN; False where no timeout allows a wait."""
        if self._timeout == 0.0 or self._timeout is None:
            return False
        self._wait(events)
        return True

    # Names and connections

    def bind(self, address: Any) -> None:
        self._kernel.bind(self._fd, address)

    def listen(self, backlog: int = 128) -> None:
        self._kernel.listen(self._fd, max(backlog, 0))

    def accept(self) -> tuple[KernelSocket, Any]:
        while True:
            try:
                fd, address = self._kernel.accept4(self._fd)
                return KernelSocket(self._kernel, fileno=fd), address
            except BlockingIOError:
                if not self._retry(EPOLLIN):
                    raise

    def connect(self, address: Any) -> None:
        try:
            self._kernel.connect(self._fd, address)
        except BlockingIOError:
            if not self._retry(EPOLLOUT):
                raise
            code = self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise error(code) from None

    def connect_ex(self, address: Any) -> int:
        try:
            self.connect(address)
        except OSError as exc:
            return exc.errno or errno.EIO
        return 0

    def getsockname(self) -> Any:
        return self._kernel.getsockname(self._fd)

    def getpeername(self) -> Any:
        return self._kernel.getpeername(self._fd)

    def shutdown(self, how: int) -> None:
        self._kernel.shutdown(self._fd, how)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        self._kernel.setsockopt(self._fd, level, option, value)

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> Any:
        return self._kernel.getsockopt(self._fd, level, option)

    # Data

    def send(self, data: Buffer, flags: int = 0) -> int:
        while True:
            try:
                return self._kernel.sendto(self._fd, data, flags)
            except BlockingIOError:
                if not self._retry(EPOLLOUT):
                    raise

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        view = memoryview(data)
        while view:
            view = view[self.send(view, flags) :]

    def sendmsg(self, buffers: Iterable[Buffer]) -> int:
        return self.send(b"".join(buffers))

    def sendto(self, data: Buffer, *flags_and_address: Any) -> int:
        flags, address = (
            (0, *flags_and_address) if len(flags_and_address) == 1 else flags_and_address
        )
        return self._kernel.sendto(self._fd, data, flags, address)

    def recvfrom(self, count: int, flags: int = 0) -> tuple[bytes, Any]:
        while True:
            try:
                return self._kernel.recvfrom(self._fd, count, flags)
            except BlockingIOError:
                if not self._retry(EPOLLIN):
                    raise

    def recv(self, count: int, flags: int = 0) -> bytes:
        return self.recvfrom(count, flags)[0]

    def recv_into(self, buffer: Any, count: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(count or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def recvfrom_into(self, buffer: Any, count: int = 0, flags: int = 0) -> tuple[int, Any]:
        view = memoryview(buffer).cast("B")
        data, address = self.recvfrom(count or len(view), flags)
        view[: len(data)] = data
        return len(data), address


def socketpair(
    kernel: Kernel,
    family: int = socket.AF_UNIX,
    type: int = socket.SOCK_STREAM,
    proto: int = 0,
) -> tuple[KernelSocket, KernelSocket]:
    """Create two connected sockets of `kernel`, as socket.socketpair does."""
    one, two = kernel.socketpair(family, type & ~os.O_NONBLOCK, proto)
    return KernelSocket(kernel, fileno=one), KernelSocket(kernel, fileno=two)
