import asyncio
from typing import Any

from typing_extensions import disjoint_base

from aiopoll.loop.transports.compiled_protocol import CompiledProtocol

DEFAULT_LIMIT: int

@disjoint_base
class StreamReaderCore:
    _loop: asyncio.AbstractEventLoop
    _waiter: asyncio.Future[None] | None
    _exception: Exception | None
    _transport: Any
    _eof: bool
    _paused: bool
    _limit: int
    _buffer: bytearray

    def __init__(self, limit: int = ..., loop: asyncio.AbstractEventLoop | None = None) -> None: ...

@disjoint_base
class StreamWriterCore:
    _transport: Any
    _protocol: Any
    _reader: Any
    _loop: asyncio.AbstractEventLoop

@disjoint_base
class StreamProtocolCore(CompiledProtocol):
    _loop: asyncio.AbstractEventLoop
    _stream_reader_wr: Any
    _drain_waiters: Any
    _paused: bool
    _connection_lost: bool
