import asyncio
import socket
from collections.abc import Callable
from contextvars import Context
from typing import final

from aiopoll.loop.core import LoopCore
from aiopoll.reactor.runnable import Runnable

@final
class Acceptor(Runnable):
    def accept_again(self) -> None: ...

def accepts_plainly(sock: socket.socket) -> bool: ...
def asyncios_accept(
    loop: asyncio.AbstractEventLoop, context: Context | None
) -> Callable[..., None]: ...
def start_accepting(
    loop: LoopCore,
    sock: socket.socket,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    server: asyncio.AbstractServer | None,
    backlog: int,
    context: Context | None = None,
) -> None: ...
