from asyncio.sslproto import SSLProtocol, _SSLProtocolTransport
from typing import Any, final

from typing_extensions import disjoint_base

from aiopoll.loop.transports.compiled_protocol import BufferedSink

KNOWN: dict[str, str]
compiled: bool

def names_of(code: Any) -> set[str]: ...
def is_known(protocol: Any = ...) -> bool: ...

@final
class Window: ...

@disjoint_base
class TLSCore(BufferedSink):
    _state: Any
    _transport: Any
    _app_protocol: Any
    _app_protocol_get_buffer: Any
    _app_protocol_buffer_updated: Any
    _write_backlog: Any
    _write_buffer_size: int
    _app_protocol_is_buffer: bool
    _app_reading_paused: bool
    _app_writing_paused: bool
    _ssl_reading_paused: bool
    _ssl_writing_paused: bool
    _sslobj: Any
    _incoming: Any
    _outgoing: Any

    def get_buffer(self, n: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...

class SSLTransport(_SSLProtocolTransport): ...
class CompiledTLSProtocol(TLSCore, SSLProtocol): ...

TLSProtocol: type[SSLProtocol]
