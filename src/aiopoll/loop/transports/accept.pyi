import asyncio
import socket
from collections.abc import Callable
from typing import final

from aiopoll.loop.core import LoopCore
from aiopoll.reactor.runnable import Runnable

@final
class Acceptor(Runnable):
    def accept_again(self) -> None: ...

def accepts_plainly(sock: socket.socket) -> bool: ...
def start_accepting(
    loop: LoopCore,
    sock: socket.socket,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    server: asyncio.AbstractServer | None,
    backlog: int,
) -> None: ...
