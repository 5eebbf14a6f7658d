import asyncio
import socket
from typing import Any, final

from aiopoll.loop.transports.fd_reader import FdReader

@final
class DatagramReader(FdReader): ...

class DatagramTransport(asyncio.DatagramTransport):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.DatagramProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None: ...
    def is_reading(self) -> bool: ...
    def sendto(self, data: Any, addr: Any = None) -> None: ...
