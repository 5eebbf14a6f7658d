import asyncio
from typing import Any, final

from aiopoll.loop.transports.fd_reader import FdReader

@final
class PipeEnd:
    def __new__(cls, pipe: Any) -> PipeEnd: ...

@final
class PipeReader(FdReader): ...

class ReadPipeTransport(asyncio.ReadTransport):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None: ...
    def resume_reading(self) -> None: ...

class WritePipeTransport(asyncio.WriteTransport):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None: ...
    def write(self, data: Any) -> None: ...
