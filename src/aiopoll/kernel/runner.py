"""No Linux file: stock asyncio on an in-process kernel.

Facts: asyncio's selector loop reads a clock, asks a selector and calls methods of sockets. Given
the kernel's three, it runs unchanged: streams, servers, datagrams and timeouts work, an hour of
sleep takes no time, and one seed gives one run. asyncio keeps tasks in sets, also those that it
cancels, so tasks are hashed by their number here: hashed by address, each run would have an order
of its own.

Rule: only the places where asyncio makes a socket itself are replaced: they make one here and
pass it as `sock`. Names resolve to loopback, or by `hosts`. Threads, subprocesses, pipes and
sockets of the host are refused: the seed does not decide their results.
Left out: TLS without memory BIOs, sendfile, pipes as transports; an order for the coroutines of
as_completed (it puts them into a set: pass tasks instead).
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import itertools
import os
import random
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .kernel import Kernel
from .selector import KernelSelector
from .uapi import NSEC_PER_SEC
from .usersocket import KernelSocket, socketpair

T = TypeVar("T")


class Task(asyncio.Task[Any]):
    """A task whose place in a set depends on its number, and not on its address."""

    def __init__(self, number: int, coro: Any, **kw: Any) -> None:
        self.number = number
        super().__init__(coro, **kw)

    def __hash__(self) -> int:
        return self.number


class Future(asyncio.Future[Any]):
    """A future with a number, as a task has one."""

    def __init__(self, number: int, **kw: Any) -> None:
        self.number = number
        super().__init__(**kw)

    def __hash__(self) -> int:
        return self.number


class KernelEventLoop(asyncio.SelectorEventLoop):
    """asyncio's selector loop on the clock, the selector and the sockets of `kernel`."""

    def __init__(self, kernel: Kernel, hosts: dict[str, str] | None = None) -> None:
        self.kernel = kernel
        self._hosts = hosts or {}
        self._numbers = itertools.count()
        super().__init__(KernelSelector(kernel))
        self.set_task_factory(
            lambda loop, coro, **kw: Task(next(self._numbers), coro, loop=loop, **kw)
        )
        self._clock_resolution = 1 / NSEC_PER_SEC

    def time(self) -> float:
        """Return the seconds of the virtual clock."""
        return self.kernel.sched.clock.now_ns / NSEC_PER_SEC

    def create_future(self) -> Future:
        return Future(next(self._numbers), loop=self)

    def _make_self_pipe(self) -> None:
        # asyncio's method. The pair must be sockets of the kernel, or its selector cannot see it.
        self._ssock, self._csock = socketpair(self.kernel)
        self._ssock.setblocking(False)
        self._csock.setblocking(False)
        self._internal_fds: int = getattr(self, "_internal_fds", 0) + 1
        self._add_reader(self._ssock.fileno(), self._read_from_self)  # type: ignore[attr-defined]

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Raise RuntimeError: a thread runs outside of the kernel's clock and seed."""
        raise RuntimeError("no threads inside an in-process kernel")

    async def _make_subprocess_transport(self, *args: Any, **kw: Any) -> Any:
        """Raise RuntimeError, before any process is started outside."""
        raise RuntimeError("no subprocesses inside an in-process kernel")

    def _make_read_pipe_transport(self, *args: Any, **kw: Any) -> Any:
        raise RuntimeError("no pipes of the host inside an in-process kernel")

    _make_write_pipe_transport = _make_read_pipe_transport

    async def _sock_sendfile_native(self, *args: Any) -> Any:
        # It would send to the host's file that has the same descriptor number.
        raise asyncio.SendfileNotAvailableError("no sendfile inside an in-process kernel")

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Run `callback` in the loop when the kernel delivers `sig`."""
        self.kernel.sigaction(sig, lambda _: self.call_soon_threadsafe(callback, *args))

    def remove_signal_handler(self, sig: int) -> bool:
        return self.kernel.signals.handlers.pop(int(sig), None) is not None

    def _socket(self, family: int, kind: int, address: Any = None) -> KernelSocket:
        sock = KernelSocket(self.kernel, family, kind)
        sock.setblocking(False)
        if address is not None:
            try:
                sock.bind(address)
            except OSError:
                sock.close()
                raise
        return sock

    def _resolve(self, host: Any, family: int) -> list[tuple[int, str]]:
        """Return (family, address) pairs of a name or address. socket.gaierror."""
        name = os.fsdecode(host) if host else ""
        name = self._hosts.get(name, name)
        if name == "":
            found: list[tuple[int, str]] = [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
        elif name == "localhost":
            found = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
        else:
            try:
                version = ipaddress.ip_address(name).version
            except ValueError:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
            found = [(socket.AF_INET6 if version == 6 else socket.AF_INET, name)]
        fitting = [entry for entry in found if family in (0, entry[0])]
        if not fitting:
            raise socket.gaierror(
                socket.EAI_ADDRFAMILY, "Address family for hostname not supported"
            )
        return fitting

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Return loopback names and numbers; socket.gaierror for a name that `hosts` lacks."""
        kinds = [type] if type else [socket.SOCK_STREAM, socket.SOCK_DGRAM]
        if not host and not flags & socket.AI_PASSIVE:
            host = "localhost"
        try:
            number = int(port or 0)
        except ValueError:
            raise socket.gaierror(
                socket.EAI_SERVICE, "Servname not supported for ai_socktype"
            ) from None
        return [
            (
                socket.AddressFamily(af),
                socket.SocketKind(kind),
                proto or (6 if kind == socket.SOCK_STREAM else 17),
                "",
                (name, number, 0, 0) if af == socket.AF_INET6 else (name, number),
            )
            for af, name in self._resolve(host, family)
            for kind in kinds
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Return numbers, whatever `flags` is."""
        return sockaddr[0], str(sockaddr[1])

    async def create_connection(
        self, protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, **kw: Any
    ) -> Any:
        """As asyncio's, over the kernel's TCP."""
        if kw.get("sock") is not None:
            check_inside(kw["sock"])
        return await super().create_connection(protocol_factory, host, port, **kw)

    async def _connect_sock(
        self, exceptions: list[Any], addr_info: Any, local_addr_infos: Any = None
    ) -> KernelSocket:
        """Connect to one address, as asyncio does, with a socket of the kernel."""
        problems: list[OSError] = []
        exceptions.append(problems)
        family, kind, _, _, address = addr_info
        sock: KernelSocket | None = None
        try:
            local = [info[4] for info in local_addr_infos or () if info[0] == family]
            if local_addr_infos is not None and not local:
                raise OSError(f"no matching local address with {family=} found")
            sock = self._socket(family, kind, *local[:1])
            await self.sock_connect(sock, address)  # type: ignore[arg-type]
            return sock
        except BaseException as exc:
            if isinstance(exc, OSError):
                problems.append(exc)
            if sock is not None:
                sock.close()
            raise

    async def create_server(
        self, protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, **kw: Any
    ) -> Any:
        """As asyncio's, over the kernel's TCP; one server for all addresses of `host`."""
        if kw.get("sock") is not None:
            check_inside(kw["sock"])
            return await super().create_server(protocol_factory, **kw)
        family = kw.pop("family", 0)
        reuse_port = kw.pop("reuse_port", None)
        reuse_address = kw.pop("reuse_address", None)
        kw.pop("flags", None)
        hosts = [host] if host is None or isinstance(host, str) else list(host)
        sockets: list[KernelSocket] = []
        try:
            for name in hosts:
                for af, kind, _, _, address in await self.getaddrinfo(
                    name, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                ):
                    sock = self._socket(af, kind)
                    sockets.append(sock)
                    if reuse_address is not False:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if reuse_port:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    sock.bind(address)
            return await self._serve(protocol_factory, sockets, kw)
        except BaseException:
            for sock in sockets:
                sock.close()
            raise

    async def _serve(
        self, protocol_factory: Callable[[], Any], sockets: list[KernelSocket], kw: dict[str, Any]
    ) -> Any:
        """Return one asyncio server for several sockets: made with the first, given the others."""
        start = kw.pop("start_serving", True)
        stock: Any = super()
        server = await stock.create_server(
            protocol_factory, sock=sockets[0], start_serving=False, **kw
        )
        for sock in sockets[1:]:
            sock.setblocking(False)
            server._sockets.append(sock)
        if start:
            await server.start_serving()
        return server

    async def create_unix_connection(
        self, protocol_factory: Callable[[], Any], path: Any = None, **kw: Any
    ) -> Any:
        """As asyncio's, over the kernel's Unix sockets."""
        if kw.get("sock") is None:
            sock = self._socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                await self.sock_connect(sock, path)  # type: ignore[arg-type]
            except BaseException:
                sock.close()
                raise
            kw["sock"] = sock
        check_inside(kw["sock"])
        return await super().create_unix_connection(protocol_factory, **kw)

    async def create_unix_server(
        self, protocol_factory: Callable[[], Any], path: Any = None, **kw: Any
    ) -> Any:
        """As asyncio's, over the kernel's Unix sockets; paths are the kernel's names."""
        if kw.get("sock") is None:
            path = os.fspath(path)
            # As in asyncio, the name of an earlier server does not stand in the way.
            if path in self.kernel.net.unix_names:
                self.kernel.unlink(path)
            kw["sock"] = self._socket(socket.AF_UNIX, socket.SOCK_STREAM, path)
        check_inside(kw["sock"])
        kw.pop("cleanup_socket", None)
        if sys.version_info >= (3, 13):
            # It would remove a file of that name outside.
            kw["cleanup_socket"] = False
        return await super().create_unix_server(protocol_factory, **kw)

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], Any],
        local_addr: Any = None,
        remote_addr: Any = None,
        **kw: Any,
    ) -> Any:
        """As asyncio's, over the kernel's UDP and Unix datagrams."""
        if kw.get("sock") is None:
            family = kw.pop("family", 0)
            for name in ("proto", "flags", "allow_broadcast"):
                kw.pop(name, None)
            reuse_port = kw.pop("reuse_port", None)
            if family != socket.AF_UNIX:
                known = local_addr or remote_addr
                if known is None and not family:
                    raise ValueError("unexpected address family")
                if known is not None:
                    family = self._resolve(known[0], family)[0][0]
            sock = self._socket(family, socket.SOCK_DGRAM)
            try:
                if reuse_port:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if local_addr is not None:
                    sock.bind(self._address(local_addr, family))
                if remote_addr is not None:
                    await self.sock_connect(
                        sock,  # type: ignore[arg-type]
                        self._address(remote_addr, family),
                    )
            except BaseException:
                sock.close()
                raise
            kw = {"sock": sock}
        check_inside(kw["sock"])
        return await super().create_datagram_endpoint(protocol_factory, **kw)

    def _address(self, address: Any, family: int) -> Any:
        if family == socket.AF_UNIX:
            return address
        return (self._resolve(address[0], family)[0][1], *address[1:])

    async def _ensure_resolved(
        self,
        address: Any,
        *,
        family: int = 0,
        type: int = 1,
        proto: int = 0,
        flags: int = 0,
        **_: Any,
    ) -> list[Any]:
        return await self.getaddrinfo(
            address[0], address[1], family=family, type=type, proto=proto, flags=flags
        )


def check_inside(sock: Any) -> None:
    """Raise TypeError for a socket of the host: inside, its number names another file."""
    if not isinstance(sock, KernelSocket):
        raise TypeError(f"a socket of the in-process kernel is needed, not {sock!r}")


def _inside(name: str) -> Any:
    method = getattr(asyncio.SelectorEventLoop, name)

    @functools.wraps(method)
    async def checked(self: KernelEventLoop, sock: Any, *args: Any, **kw: Any) -> Any:
        check_inside(sock)
        return await method(self, sock, *args, **kw)

    return checked


for _name in (
    *("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"),
    *("sock_sendall", "sock_sendto", "sock_sendfile", "sock_connect", "sock_accept"),
):
    setattr(KernelEventLoop, _name, _inside(_name))


def run(
    main: Coroutine[Any, Any, T],
    *,
    seed: int | None = None,
    kernel: Kernel | None = None,
    hosts: dict[str, str] | None = None,
    time_limit: float | None = None,
    debug: bool | None = None,
) -> T:
    """Run an asyncio program on in-process sockets and a virtual clock; returns its result.

    The same `seed` gives the same run, whatever the machine. `random` is seeded with it while the
    program runs, and restored afterwards. `hosts` maps names to loopback addresses. Raises the
    exceptions of `main`; `sched.Deadlock` if the program waits for an event that cannot happen;
    TimeoutError if the virtual clock passes `time_limit` seconds.
    """
    kernel = kernel or Kernel(seed=seed)
    before = random.getstate()
    if seed is not None:
        random.seed(seed)
    loop = KernelEventLoop(kernel, hosts)

    async def limited() -> T:
        async with asyncio.timeout(time_limit):
            return await main

    try:
        with asyncio.Runner(debug=debug, loop_factory=lambda: loop) as runner:
            return runner.run(main if time_limit is None else limited())
    finally:
        random.setstate(before)
        kernel.halt()
