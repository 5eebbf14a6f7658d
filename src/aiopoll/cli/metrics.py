"""`aiopoll run --metrics`: serves /metrics of the loops of a process, and of those that it starts.

Facts.  A port has one process.  Of a server with workers each has a loop, and its parent none.

Rule.  A process serves from its first loop on, at the port given or the next one that is free; one
line on stderr names another port than the one given.  A forked child closes the socket of its
parent, and serves by itself once it makes a loop.  Its parent's loops are not its own.

Why.  The workers of uvicorn or gunicorn have the ports from the one given on, in any order, and one
that is started again has the port of the one before.

Whatever fails is one line on stderr: the program comes first.
"""

import errno
import os
import signal
import socket
import socketserver
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from aiopoll.loop import event_loop
from aiopoll.loop.monitor.stderr import say

PORTS = 64
"""How many ports from the given one on are tried."""
_say = partial(say, program="aiopoll run")
DEFAULT_HOST = "127.0.0.1"


def parse_address(text: str) -> tuple[str, int]:
    """Returns host and port of [HOST:]PORT; ValueError for other texts."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else DEFAULT_HOST
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not [HOST:]PORT: as 9000, 0.0.0.0:9000 or [::1]:9000")
    return host, int(port)


class _Handler(WSGIRequestHandler):
    timeout = 60  # seconds for a request, whose thread would else wait for ever

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing: stderr is the program's."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_port = False  # newer Pythons set it: two processes would share a port

    def __init__(self, host: str, port: int, app: Callable[..., Any]) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        super().__init__((host, port), _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        """Binds without asking a name server for the name of the host."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def run(self) -> None:
        """Serves; signals are the program's other threads'."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self.serve_forever()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints nothing: the client went away."""


class Exposition:
    """What this process serves."""

    def __init__(self, address: str) -> None:
        self.address: str = address
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._began = False

    def show(self, loop: event_loop.EventLoop) -> None:
        """Shows a new loop, and serves from the first one on."""
        try:
            from aiopoll.prometheus import register

            register(loop)
            with self._lock:
                if not self._began:
                    self._began = True
                    self._serve()
        except Exception as error:
            if self.address:
                self.address = ""  # once
                _say(f"no metrics of process {os.getpid()}: {error}")

    def forget(self) -> None:
        """Leaves the parent's server to it: called in a forked child."""
        self._lock = threading.Lock()
        self._began = False
        if self._server is not None:
            self._server.socket.close()
            self._server = None

    def _serve(self) -> None:
        from prometheus_client import make_wsgi_app

        host, first = parse_address(self.address)
        app = make_wsgi_app()
        self._server = server = _first_free(host, first, app)
        threading.Thread(target=server.run, name="aiopoll metrics", daemon=True).start()
        port = server.server_port
        if port != first:
            _say(f"process {os.getpid()} serves its metrics at port {port}")


def _first_free(host: str, first: int, app: Callable[..., Any]) -> _Server:
    """Returns a server at the first port that is free; OSError if none is."""
    for port in range(first, min(first + PORTS, 65536)):
        try:
            return _Server(host, port, app)
        except OSError as error:
            refused = OSError(error.errno, f"{error.strerror}: {host} port {port}")
            if error.errno != errno.EADDRINUSE:
                break
    raise refused


_exposition: Exposition | None = None


def expose_loops(address: str) -> None:
    """Has the loops of this process shown at the address, from now on."""
    global _exposition
    if _exposition is not None:
        _exposition.address = address
        return
    _exposition = Exposition(address)
    event_loop.WHEN_MADE.append(_exposition.show)
    os.register_at_fork(after_in_child=_exposition.forget)
