"""start_tls: from a plain connection to one over TLS, with the compiled protocol."""

import asyncio
import ssl
from typing import Any

from aiopoll.loop.transports.tls import TLSProtocol


async def start_tls(
    loop: asyncio.AbstractEventLoop,
    transport: Any,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> asyncio.Transport | None:
    """Puts TLS between `transport` and `protocol`, and waits for the handshake.

    What a stream's server has received already, and was not read, belongs to the handshake: the
    client may begin it before the server does.  So asyncio from 3.14 on; before, that was left to
    be read as if it had come over TLS.
    If that fails or is cancelled, the connection is closed.
    """
    done = loop.create_future()
    make: Any = TLSProtocol
    tls = make(
        loop,
        protocol,
        sslcontext,
        done,
        server_side,
        server_hostname,
        call_connection_made=False,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    # Nothing may be read before the protocol has its transport.
    transport.pause_reading()
    reader: Any = getattr(protocol, "_stream_reader", None)
    if isinstance(protocol, asyncio.StreamReaderProtocol) and reader is not None:
        # The connection goes on below: a reader that was full has to pause it again.
        reader._paused = False
        if server_side and reader._buffer:
            tls._incoming.write(reader._buffer)
            reader._buffer.clear()
    transport.set_protocol(tls)
    steps = [
        loop.call_soon(tls.connection_made, transport),
        loop.call_soon(transport.resume_reading),
    ]
    try:
        await done
    except BaseException:
        transport.close()
        for step in steps:
            step.cancel()
        del done, tls  # the error's traceback has this frame, and would make a cycle of it
        raise
    answer: asyncio.Transport | None = tls._app_transport
    return answer
