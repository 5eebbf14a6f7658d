"""No Linux file: the socket module's face of an in-process socket, enough for asyncio.

Rule: this does what `socket.socket` does, with the kernel's system calls: blocking mode,
timeouts of the virtual clock (TimeoutError), partial sends, `detach`, `makefile`, `sendfile`,
context manager. A signal's handler that raises nothing does not end a wait (PEP 475). A socket
that was lost is closed in the process that made it, with a ResourceWarning.
Left out: inheritance, which is a flag alone.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from .file import Buffer
from .uapi import (
    EPOLLIN,
    EPOLLOUT,
    NSEC_PER_SEC,
    SO_DOMAIN,
    SO_PROTOCOL,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    error,
)

if TYPE_CHECKING:
    from .kernel import Kernel

T = TypeVar("T")

# The socket module's own, which are Python: they ask a socket for its methods alone.
_stock: Any = socket.socket
_KINDS = ~(SOCK_NONBLOCK | SOCK_CLOEXEC)


class KernelSocket:
    """A socket of an in-process kernel, with the methods of `socket.socket`."""

    # Before __init__ has run, for __del__.
    _fd: int = -1

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
        fd = kernel.socket(family, type, proto) if fileno is None else fileno
        self._timeout: float | None = None
        domain = kernel.getsockopt(fd, socket.SOL_SOCKET, SO_DOMAIN)
        kind = kernel.getsockopt(fd, socket.SOL_SOCKET, socket.SO_TYPE)
        self.family: socket.AddressFamily = socket.AddressFamily(domain)
        self.type: socket.SocketKind = socket.SocketKind(kind)
        self.proto: int = int(kernel.getsockopt(fd, socket.SOL_SOCKET, SO_PROTOCOL))
        self._fd = fd
        self._file: Any = kernel.fget(fd)
        self._process = kernel.sched.current.process
        self._inheritable = False
        self._closed = False
        # How many files of makefile() use it.
        self._io_refs = 0
        if fileno is None and type & SOCK_NONBLOCK:
            self._timeout = 0.0

    def __enter__(self) -> KernelSocket:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._closed:
            self.close()

    def __repr__(self) -> str:
        return f"<KernelSocket fd={self._fd} family={self.family} type={self.type}>"

    def __getstate__(self) -> Any:
        raise TypeError(f"cannot pickle {self.__class__.__name__!r} object")

    def __del__(self) -> None:
        if self._fd < 0 or self._kernel.halted:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        # Another process may run now, which has another file under this number.
        table = self._process.files
        if table.files.get(self._fd) is self._file:
            table.close(self._fd)
        self._fd = -1

    # Life

    def fileno(self) -> int:
        """Return the descriptor in the kernel, -1 once closed."""
        return self._fd

    def close(self) -> None:
        """Close the socket; files that makefile() made keep it open until they are closed."""
        self._closed = True
        if self._io_refs <= 0:
            self._real_close()

    def _real_close(self) -> None:
        fd, self._fd = self._fd, -1
        # A socket may outlive its kernel: then all is closed already.
        if fd >= 0 and not self._kernel.halted:
            self._kernel.close(fd)

    def detach(self) -> int:
        """Return the descriptor and give it up; the socket counts as closed."""
        self._closed = True
        fd, self._fd = self._fd, -1
        return fd

    def dup(self) -> KernelSocket:
        """Return a second socket for the same open file, with the same timeout."""
        sock = self._another(self._kernel.dup(self._fd))
        sock.settimeout(self.gettimeout())
        return sock

    def _another(self, fd: int) -> KernelSocket:
        return KernelSocket(self._kernel, fileno=fd)

    def get_inheritable(self) -> bool:
        return self._inheritable

    def set_inheritable(self, inheritable: bool) -> None:
        self._inheritable = bool(inheritable)

    @property
    def timeout(self) -> float | None:
        return self._timeout

    makefile: Any = _stock.makefile
    sendfile: Any = _stock.sendfile
    _sendfile_use_send: Any = _stock._sendfile_use_send
    _check_sendfile_params: Any = _stock._check_sendfile_params
    _decref_socketios: Any = _stock._decref_socketios

    def _sendfile_use_sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        raise socket._GiveupOnSendfile(  # type: ignore[attr-defined]
            "the file may be of the machine, or of the kernel"
        )

    # Blocking mode

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        return self._timeout != 0.0

    def settimeout(self, timeout: float | None) -> None:
        """Set the seconds that an operation may take; None: for ever, 0: it never waits."""
        if timeout is not None and (timeout < 0 or math.isnan(timeout)):
            raise ValueError("Timeout value out of range")
        self._timeout = None if timeout is None else float(timeout)
        self._kernel.set_blocking(self._fd, timeout is None)

    def gettimeout(self) -> float | None:
        return self._timeout

    def _deadline_ns(self) -> int | None:
        """Return the time at which an operation that begins now has timed out."""
        if self._timeout is None:
            return None
        return self._kernel.sched.clock.now_ns + round(self._timeout * NSEC_PER_SEC)

    def _wait(self, events: int, deadline_ns: int | None) -> None:
        """Sleep until ready. Raises TimeoutError if the deadline passes first."""
        clock = self._kernel.sched.clock
        while True:
            left_ns = None if deadline_ns is None else max(deadline_ns - clock.now_ns, 0)
            try:
                if self._kernel.poll([(self._fd, events)], left_ns) == [0]:
                    raise TimeoutError("timed out")
                return
            except InterruptedError:
                pass

    def _do(self, events: int, call: Callable[[], T]) -> T:
        """Call until it needs no wait. BlockingIOError where the socket is not to wait."""
        deadline_ns = self._deadline_ns()
        while True:
            try:
                return call()
            except BlockingIOError:
                # A blocking file has waited itself, as long as SO_RCVTIMEO let it.
                if not self._timeout:
                    raise
                self._wait(events, deadline_ns)
            except InterruptedError:
                pass

    # Names and connections

    def bind(self, address: Any) -> None:
        self._kernel.bind(self._fd, address)

    def listen(self, backlog: int = 128) -> None:
        self._kernel.listen(self._fd, max(backlog, 0))

    def _accept(self) -> tuple[int, Any]:
        """Return the descriptor and the address of the next connection."""
        return self._do(EPOLLIN, lambda: self._kernel.accept4(self._fd))

    def accept(self) -> tuple[KernelSocket, Any]:
        """Return the next connection and its peer's address; it has the default timeout."""
        fd, address = self._accept()
        sock = self._another(fd)
        sock.settimeout(socket.getdefaulttimeout())
        return sock, address

    def connect(self, address: Any) -> None:
        """Connect. BlockingIOError if a nonblocking socket has begun to, TimeoutError."""
        deadline_ns = self._deadline_ns()
        try:
            self._kernel.connect(self._fd, address)
            return
        except InterruptedError:
            pass
        except BlockingIOError:
            if not self._timeout:
                raise
        # The connection goes on, whatever ended the call.
        self._wait(EPOLLOUT, deadline_ns)
        code = self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise error(code) from None

    def connect_ex(self, address: Any) -> int:
        try:
            self.connect(address)
        except TimeoutError:
            return errno.EAGAIN
        except socket.gaierror:
            raise
        except OSError as exc:
            return exc.errno or errno.EIO
        return 0

    def getsockname(self) -> Any:
        return self._kernel.getsockname(self._fd)

    def getpeername(self) -> Any:
        return self._kernel.getpeername(self._fd)

    def shutdown(self, how: int) -> None:
        self._kernel.shutdown(self._fd, how)

    def setsockopt(self, level: int, option: int, value: Any, optlen: int | None = None) -> None:
        """Set an option. Bytes are an int or a pair of longs, as C lays them out."""
        if optlen is not None:
            value = bytes(optlen)
        if isinstance(value, (bytes, bytearray, memoryview)):
            value = _option_of(bytes(value))
        self._kernel.setsockopt(self._fd, level, option, value)

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> Any:
        """Return an option as an int, or with `buflen` as bytes."""
        value = self._kernel.getsockopt(self._fd, level, option)
        if not buflen:
            return int.from_bytes(value[:4], "little") if isinstance(value, bytes) else value
        parts = value if isinstance(value, tuple) else (value,)
        size = 8 if len(parts) > 1 else 4
        if any(not isinstance(part, int) for part in parts):
            return bytes(value)[:buflen]
        return b"".join(part.to_bytes(size, "little", signed=True) for part in parts)[:buflen]

    # Data

    def send(self, data: Buffer, flags: int = 0) -> int:
        return self._do(EPOLLOUT, lambda: self._kernel.sendto(self._fd, data, flags))

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view, flags) :]

    def sendmsg(
        self,
        buffers: Iterable[Buffer],
        ancdata: Iterable[Any] = (),
        flags: int = 0,
        address: Any = None,
    ) -> int:
        """Send the buffers as one message, with descriptors beside it if `ancdata` has them."""
        views = list(buffers)
        control = [(level, kind, bytes(content)) for level, kind, content in ancdata]
        return self._do(
            EPOLLOUT, lambda: self._kernel.sendmsg(self._fd, views, control, flags, address)
        )

    def sendto(self, data: Buffer, *flags_and_address: Any) -> int:
        if not 1 <= len(flags_and_address) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({1 + len(flags_and_address)} given)")
        flags, address = (
            (0, *flags_and_address) if len(flags_and_address) == 1 else flags_and_address
        )
        return self._do(EPOLLOUT, lambda: self._kernel.sendto(self._fd, data, flags, address))

    def recvfrom(self, count: int, flags: int = 0) -> tuple[bytes, Any]:
        if count < 0:
            raise ValueError("negative buffersize in recvfrom")
        return self._do(EPOLLIN, lambda: self._kernel.recvfrom(self._fd, count, flags))

    def recv(self, count: int, flags: int = 0) -> bytes:
        return self.recvfrom(count, flags)[0]

    def recv_into(self, buffer: Any, count: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(_room(view, count), flags)
        view[: len(data)] = data
        return len(data)

    def recvfrom_into(self, buffer: Any, count: int = 0, flags: int = 0) -> tuple[int, Any]:
        view = memoryview(buffer).cast("B")
        data, address = self.recvfrom(_room(view, count), flags)
        view[: len(data)] = data
        return len(data), address

    def recvmsg(
        self, count: int, ancbufsize: int = 0, flags: int = 0
    ) -> tuple[bytes, list[Any], int, Any]:
        """Receive a message; returns (data, ancillary data, flags, address)."""
        return self._do(EPOLLIN, lambda: self._kernel.recvmsg(self._fd, count, ancbufsize, flags))

    def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0
    ) -> tuple[int, list[Any], int, Any]:
        """recvmsg into `buffers`, which are filled one after another."""
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data, control, found, address = self.recvmsg(sum(map(len, views)), ancbufsize, flags)
        left = memoryview(data)
        for view in views:
            part = left[: len(view)]
            view[: len(part)] = part
            left = left[len(part) :]
        return len(data), control, found, address


def _room(view: memoryview, count: int) -> int:
    """Return how many bytes a call may receive. ValueError as socket's."""
    if count < 0:
        raise ValueError("negative buffersize in recv_into")
    if count > len(view):
        raise ValueError("buffer too small for requested bytes")
    return count or len(view)


def _option_of(value: bytes) -> Any:
    """Return the int or the pair that `value` is in memory; other bytes as they are."""
    if len(value) == 4:
        return int.from_bytes(value, "little", signed=True)
    if len(value) in (8, 16):
        half = len(value) // 2
        return tuple(
            int.from_bytes(part, "little", signed=True) for part in (value[:half], value[half:])
        )
    return value


def socketpair(
    kernel: Kernel,
    family: int = socket.AF_UNIX,
    type: int = socket.SOCK_STREAM,
    proto: int = 0,
) -> tuple[KernelSocket, KernelSocket]:
    """Create two connected sockets of `kernel`, as socket.socketpair does."""
    one, two = kernel.socketpair(family, type & ~os.O_NONBLOCK, proto)
    return KernelSocket(kernel, fileno=one), KernelSocket(kernel, fileno=two)
