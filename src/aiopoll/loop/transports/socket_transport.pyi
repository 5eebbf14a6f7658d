import asyncio
import socket
from asyncio.transports import _FlowControlMixin
from collections.abc import Callable
from contextvars import Context
from typing import Any

class ExtraInfo(dict[str, Any]):
    def get(self, name: str, default: Any = None) -> Any: ...
    def __missing__(self, name: str) -> Any: ...

class SocketTransport(_FlowControlMixin):
    @property
    def _extra(self) -> ExtraInfo: ...
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
        context: Context | None = None,
    ) -> None: ...
    def _close_if_lost(self, sock: socket.socket) -> None: ...
    def __del__(self, _warn: Callable[..., None] = ...) -> None: ...

def set_connected(waiter: asyncio.Future[None]) -> None: ...
def adopt(transport: asyncio.BaseTransport) -> None: ...
def has_lost_its_number(transport: Any) -> bool: ...
