import asyncio
import socket
from collections.abc import Callable
from typing import final

from aiopoll._core.handles import Runnable
from aiopoll._core.loop import LoopCore

@final
class Acceptor(Runnable):
    def watch_again(self) -> None: ...

def accepts_plainly(sock: socket.socket) -> bool: ...
def start_accepting(
    loop: LoopCore,
    sock: socket.socket,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    server: asyncio.AbstractServer | None,
    backlog: int,
) -> None: ...
