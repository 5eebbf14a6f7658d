"""EventLoop: asyncio's loop with a compiled core on AIO poll."""

import asyncio
import errno
import functools
import inspect
import os
import socket
import ssl
from asyncio import constants
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Literal, TypeVar

from aiopoll.aio.missed_wakeups import require_wakeups
from aiopoll.loop.backend import (
    busy_poll_ns,
    forced_wait,
    requested_backend,
    requested_metrics,
    requested_trace,
)
from aiopoll.loop.core import LoopCore
from aiopoll.loop.dns import is_numeric_name, numeric_addresses
from aiopoll.loop.fork_signals import mark_pipe, unmark_pipe
from aiopoll.loop.monitor.methods import MonitorMethods
from aiopoll.loop.monitor.options import open_windows
from aiopoll.loop.monitor.stalls import StallHandler, check_handler, stall_limit
from aiopoll.loop.pipes import check_pipe
from aiopoll.loop.selector_view import SelectorView
from aiopoll.loop.sendfile import seek_to, send_by_sendfile, send_for_transport
from aiopoll.loop.server import CLEANS_SOCKETS, serve
from aiopoll.loop.slots import slots_to_try
from aiopoll.loop.sock_ops import SockMethods
from aiopoll.loop.streams.by_name import put_into_asyncio
from aiopoll.loop.subprocess import SubprocessTransport, start_subprocess
from aiopoll.loop.tls import start_tls
from aiopoll.loop.transports.accept import accepts_plainly, asyncios_accept, start_accepting
from aiopoll.loop.transports.datagram import DatagramTransport
from aiopoll.loop.transports.pipe import ReadPipeTransport, WritePipeTransport
from aiopoll.loop.transports.selector_transports import (
    SelectorDatagramTransport,
    SelectorSocketTransport,
)
from aiopoll.loop.transports.socket_transport import SocketTransport, adopt, has_lost_its_number
from aiopoll.loop.transports.tls import TLSProtocol
from aiopoll.loop.wakeup import release_wakeup_pipe, set_wakeup_pipe
from aiopoll.reactor.descriptor import is_plain
from aiopoll.support import require_aio_poll

_T = TypeVar("_T")

OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)

# Programs ask whether it takes a keyword.
LoopCore.create_task.__signature__ = inspect.signature(  # type: ignore[attr-defined]
    asyncio.BaseEventLoop.create_task
)

WHEN_MADE: "list[Callable[[EventLoop], object]]" = []
"""Called with each loop that is made; what they raise, the constructor raises."""


class EventLoop(MonitorMethods, SockMethods, asyncio.SelectorEventLoop):
    """asyncio's event loop, with callbacks, timers and waiting compiled, on AIO poll.

    backend: "aio"; "epoll"; or "auto" for both where aio is to be had, which the environment
        variable AIOPOLL_BACKEND can overrule.
    nr_events: slots to ask of fs.aio-max-nr; more files than that are served through epoll.  None
        for up to 512, and fewer where many are taken (loop/slots.py).
    busy_poll: seconds to look at the ring for events before each sleep in the kernel, 0 for none;
        "auto" looks for up to 100 microseconds while events come faster than that, never in an
        idle process, on a machine with one CPU or under a quota of less than one, and seldom where
        other threads want the CPU.  The epoll backend has no ring to look at.
    gather_writes: whether a TCP connection that writes several times in each callback lets the
        kernel put the pieces into one segment (MSG_MORE); the process itself never holds any back.
    compiled_streams: whether asyncio.StreamReader, StreamReaderProtocol and StreamWriter are this
        package's on this loop, so that all that asyncio and programs make of them is.
    metrics: whether to measure from the start, as start_metrics() does; None for what the
        environment variable AIOPOLL_METRICS says: 1 for True.
    trace: where to write a trace when the loop closes, as start_trace() does; False for no trace;
        None for what the environment variables AIOPOLL_TRACE and AIOPOLL_TRACE_SIGNAL say.
    dump_signal: the signal that has dump() written to stderr; None for that which the environment
        variable AIOPOLL_DUMP_SIGNAL names, if any.
    monitor: whether `aiopoll top` can look into the loop; None for what AIOPOLL_MONITOR says.
    Raises OSError for backend "aio" where AIO poll is not to be had; the text names the cause and
    the fix.
    """

    # asyncio's: the pipe that signals write to, None once closed, and their handlers.
    _csock: socket.socket | None
    _signal_handlers: dict[int, asyncio.Handle]
    _transports: Any
    _accept_connection: Callable[..., None]
    _default_executor: Any

    def __init__(
        self,
        *,
        backend: str = "auto",
        nr_events: int | None = None,
        busy_poll: str | float = "auto",
        gather_writes: bool = True,
        compiled_streams: bool = True,
        metrics: bool | None = None,
        watch_stalls: float | None = None,
        on_stall: StallHandler | None = None,
        trace: str | os.PathLike[str] | Literal[False] | None = None,
        dump_signal: int | None = None,
        monitor: bool | None = None,
    ) -> None:
        measure = requested_metrics(metrics)
        limit = stall_limit(watch_stalls)
        check_handler(on_stall)
        wanted = requested_backend(backend)
        spin_ns = busy_poll_ns(busy_poll, wanted)
        self.backend_reason: str | None = None
        """Why the backend is epoll where "auto" was asked for; else None."""
        try:
            if wanted != "epoll":
                require_wakeups()
            self._open_with_slots(wanted, nr_events, spin_ns)
        except OSError as error:
            if error.errno in OUT_OF_FILES:
                raise  # epoll and the probe would find none either
            if wanted != "auto":
                require_aio_poll()  # raises with the cause, where that is it
                raise
            self.backend_reason = str(error)
            self._open_reactor("epoll", 0, None, spin_ns, None)
        try:
            super().__init__(SelectorView(self))
            self._trace = requested_trace(trace)
        except BaseException:
            self._give_up()
            raise
        mark_pipe(self._pipe_fd())
        self._gather_writes = gather_writes
        self._compiled_streams = compiled_streams
        if compiled_streams:
            put_into_asyncio()
        try:
            if measure:
                self.start_metrics()
            if limit is not None:
                self.watch_stalls(limit, on_stall)
            for call in WHEN_MADE:
                call(self)
            if self._trace is not None:
                self._trace.use(self)
            open_windows(self, dump_signal, monitor)
        except BaseException:
            self.close()
            raise

    def _open_with_slots(self, backend: str, nr_events: int | None, spin_ns: int) -> None:
        """Opens the reactor with the slots asked for, or with those that are to be had."""
        wait = forced_wait()
        for slots in slots_to_try() if nr_events is None else (nr_events,):
            try:
                return self._open_reactor(backend, slots, None, spin_ns, wait)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
                refused = error
        raise refused

    def _pipe_fd(self) -> int:
        """The descriptor that signals write to; -1 once closed."""
        return -1 if self._csock is None else self._csock.fileno()

    def _give_up(self) -> None:
        """Gives back what a constructor that fails has taken; no other code could close it."""
        for name in ("_ssock", "_csock"):
            sock = vars(self).get(name)
            if sock is not None:
                sock.close()
        self._close_reactor()
        self._closed = True

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        # A transport whose socket was closed by its owner has no claim on the next one's number.
        number = fd if isinstance(fd, int) else getattr(fd, "fileno", int)()
        transport = self._transports.get(number) if isinstance(number, int) else None
        if transport is None or not has_lost_its_number(transport):
            super()._ensure_fd_no_transport(fd)  # type: ignore[misc]

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        **context: Any,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(sock)
        make: Any = SocketTransport if is_plain(sock) else SelectorSocketTransport
        transport: asyncio.Transport = make(self, sock, protocol, waiter, extra, server, **context)
        return transport

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        context: Context | None = None,
        **timeouts: Any,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(rawsock)
        if rawsock.fileno() < 0:
            raise OSError(errno.EBADF, f"{os.strerror(errno.EBADF)}: the socket was closed")
        tls: Any = TLSProtocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts
        )
        make: Any = SocketTransport if is_plain(rawsock) else SelectorSocketTransport
        transport: asyncio.Transport = tls._app_transport
        try:
            # What has no context is made by an asyncio whose transports take none.
            in_context = {} if context is None else {"context": context}
            make(self, rawsock, tls, None, extra, server, **in_context)
        except BaseException:
            transport._closed = True  # type: ignore[attr-defined]  # it never had a connection
            raise
        return transport

    async def start_tls(
        self, transport: Any, protocol: Any, sslcontext: Any, **options: Any
    ) -> asyncio.Transport | None:
        """asyncio's; the connection goes on over TLS, on the transport returned."""
        if not (
            isinstance(sslcontext, ssl.SSLContext)
            and getattr(transport, "_start_tls_compatible", False)
        ):
            return await super().start_tls(transport, protocol, sslcontext, **options)  # raises
        return await start_tls(self, transport, protocol, sslcontext, **options)

    async def _create_connection_transport(self, sock: Any, *args: Any, **options: Any) -> Any:
        """asyncio's; if it fails, a socket that it closes is closed before the caller knows.

        asyncio closes it some iterations later: a caller that closes it too, or uses it again, then
        meets a number that may be another connection's.
        """
        fd = sock.fileno()
        try:
            made = super()._create_connection_transport(  # type: ignore[misc]
                sock, *args, **options
            )
            return await made
        except BaseException:
            # A task that is collected after the loop was closed leaves all as it is.
            transport = None if self.is_closed() else self._transports.get(fd)
            if isinstance(transport, (SocketTransport, SelectorSocketTransport)):
                transport._close_if_lost(sock)
            raise

    def _make_datagram_transport(
        self, sock: socket.socket, *args: Any, **options: Any
    ) -> asyncio.DatagramTransport:
        self._ensure_fd_no_transport(sock)
        make: Any = DatagramTransport if is_plain(sock) else SelectorDatagramTransport
        transport: asyncio.DatagramTransport = make(self, sock, *args, **options)
        return transport

    def _make_read_pipe_transport(self, *args: Any, **options: Any) -> ReadPipeTransport:
        return ReadPipeTransport(self, *args, **options)

    def _make_write_pipe_transport(self, *args: Any, **options: Any) -> WritePipeTransport:
        return WritePipeTransport(self, *args, **options)

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: asyncio.AbstractServer | None = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: Context | None = None,
    ) -> None:
        ssl_timeouts = (ssl_handshake_timeout, ssl_shutdown_timeout)
        if not accepts_plainly(sock):
            accept = asyncios_accept(self, context)
            self._add_reader(
                sock, accept, protocol_factory, sock, sslcontext, server, backlog, *ssl_timeouts
            )
            return
        if sslcontext is not None:
            protocol_factory = functools.partial(
                self._make_tls_protocol, protocol_factory, sslcontext, ssl_timeouts
            )
        start_accepting(self, sock, protocol_factory, server, backlog, context)

    def _stop_serving(self, sock: socket.socket) -> None:
        try:
            self._remove_reader(sock)  # by the object: its owner may have closed it
        except ValueError:
            pass  # before it was served
        if sock.fileno() >= 0:
            super()._stop_serving(sock)  # type: ignore[misc]  # from 3.13 on removes its file too

    def _make_tls_protocol(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sslcontext: ssl.SSLContext,
        timeouts: tuple[Any, ...],
    ) -> asyncio.BaseProtocol:
        """The server's end of a TLS connection."""
        waiter: Any = None
        if self.get_debug():  # as in asyncio: a failed handshake is the client's affair
            waiter = self.create_future()
            waiter.add_done_callback(self._report_handshake)
        make: Any = TLSProtocol
        tls: asyncio.BaseProtocol = make(
            self, protocol_factory(), sslcontext, waiter, True, None, True, *timeouts
        )
        return tls

    def _report_handshake(self, done: asyncio.Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self.call_exception_handler(
                {
                    "message": "Error on transport creation for incoming connection",
                    "exception": error,
                }
            )

    async def create_server(
        self,
        protocol_factory: Any,
        host: Any = None,
        port: Any = None,
        *,
        keep_alive: bool | None = None,
        start_serving: bool = True,
        **options: Any,
    ) -> Any:
        """asyncio's; with keep_alive and what else servers have on 3.13 on every Python."""
        asyncios = await super().create_server(
            protocol_factory, host, port, start_serving=False, **options
        )
        keep_alive = bool(keep_alive) and options.get("sock") is None
        return await serve(asyncios, start_serving, keep_alive=keep_alive)

    async def create_unix_server(
        self,
        protocol_factory: Any,
        path: Any = None,
        *,
        start_serving: bool = True,
        cleanup_socket: bool = CLEANS_SOCKETS,
        **options: Any,
    ) -> Any:
        """asyncio's, with what servers have on 3.13 on every Python.

        cleanup_socket: whether close() removes the file; by default as asyncio: from 3.13 on.
        """
        if CLEANS_SOCKETS:
            options["cleanup_socket"] = cleanup_socket
        asyncios = await super().create_unix_server(
            protocol_factory, path, start_serving=False, **options
        )
        return await serve(
            asyncios, start_serving, cleanup_socket=cleanup_socket and not CLEANS_SOCKETS
        )

    async def create_connection(
        self, protocol_factory: Any, *address: Any, sock: Any = None, **options: Any
    ) -> Any:
        """asyncio's; a socket that no other code has becomes the transport's own."""
        transport, protocol = await super().create_connection(
            protocol_factory, *address, sock=sock, **options
        )
        if sock is None:
            adopt(transport)
        return transport, protocol

    async def create_unix_connection(
        self, protocol_factory: Any, path: Any = None, *, sock: Any = None, **options: Any
    ) -> Any:
        """asyncio's; a socket that no other code has becomes the transport's own."""
        transport, protocol = await super().create_unix_connection(
            protocol_factory, path, sock=sock, **options
        )
        if sock is None:
            adopt(transport)
        return transport, protocol

    async def create_datagram_endpoint(
        self, protocol_factory: Any, *addresses: Any, sock: Any = None, **options: Any
    ) -> Any:
        """asyncio's; from a socket that no other code has, datagrams are taken in batches."""
        transport, protocol = await super().create_datagram_endpoint(
            protocol_factory, *addresses, sock=sock, **options
        )
        if sock is None and isinstance(transport, SelectorDatagramTransport):
            transport._take_batches()
        return transport, protocol

    async def connect_read_pipe(self, protocol_factory: Any, pipe: Any) -> Any:
        """asyncio's; raises ValueError for regular files, before anything is made."""
        check_pipe(pipe, "connect_read_pipe")
        return await super().connect_read_pipe(protocol_factory, pipe)

    async def connect_write_pipe(self, protocol_factory: Any, pipe: Any) -> Any:
        """asyncio's; raises ValueError for regular files, before anything is made."""
        check_pipe(pipe, "connect_write_pipe")
        return await super().connect_write_pipe(protocol_factory, pipe)

    async def _make_subprocess_transport(self, *args: Any, **options: Any) -> SubprocessTransport:
        return await start_subprocess(self, *args, **options)

    async def _sock_sendfile_native(
        self, sock: Any, file: Any, offset: int, count: int | None
    ) -> int:
        return await send_by_sendfile(self, sock, file, offset, count)

    async def _sock_sendfile_fallback(
        self, sock: Any, file: Any, offset: int, count: int | None
    ) -> int:
        seek_to(file, offset)
        sent: int = await super()._sock_sendfile_fallback(  # type: ignore[misc]
            sock, file, offset, count
        )
        return sent

    async def _sendfile_fallback(
        self, transp: Any, file: Any, offset: int, count: int | None
    ) -> int:
        seek_to(file, offset)
        sent: int = await super()._sendfile_fallback(  # type: ignore[misc]
            transp, file, offset, count
        )
        return sent

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        return await send_for_transport(self, transp, file, offset, count)

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
        """socket.getaddrinfo(); in the executor only where something has to be looked up."""
        found = numeric_addresses(host, port, family, type, proto, flags)
        if found is not None:
            return found
        return await super().getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """socket.getnameinfo(); in the executor only where something has to be looked up."""
        if is_numeric_name(flags):
            return socket.getnameinfo(sockaddr, flags)
        return await super().getnameinfo(sockaddr, flags)

    def remove_signal_handler(self, sig: int) -> bool:
        """Removes what add_signal_handler added; False if there was nothing."""
        removed = super().remove_signal_handler(sig)
        if removed and self.is_running() and not self._signal_handlers:
            set_wakeup_pipe(self._csock)  # asyncio has unset it, but the loop still runs
        return removed

    def _close_self_pipe(self) -> None:
        # A collector may have finalized the pipe's sockets before the loop.
        if self._ssock.fileno() >= 0:  # type: ignore[attr-defined]
            super()._close_self_pipe()  # type: ignore[misc]

    def close(self) -> None:
        """Gives everything back, but for a context that is kept for the next loop."""
        if not self.is_running() and not self.is_closed():
            unmark_pipe(self._pipe_fd())
            if self._aiopoll_files is not None:
                self._aiopoll_files.shutdown()
            self._clear_timers()
            # An interrupt may have come before run_forever could do it.
            release_wakeup_pipe(self._csock)
            if self._trace is not None:
                self._trace.close(self)
        super().close()


def new_event_loop(**loop_options: Any) -> EventLoop:
    """An EventLoop with these options; a loop factory for code that takes one."""
    return EventLoop(**loop_options)


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None, **loop_options: Any) -> _T:
    """asyncio.run, on an EventLoop with these options."""
    return run_on(functools.partial(new_event_loop, **loop_options), main, debug)


def run_on(
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    main: Coroutine[Any, Any, _T],
    debug: bool | None,
) -> _T:
    """asyncio.run as it is from 3.12 on, with a loop factory."""
    # A Runner would find out too late: with a loop that it can neither run nor close.
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
