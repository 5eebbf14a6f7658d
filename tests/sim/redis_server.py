"""A server that speaks enough of Redis' protocol (RESP) for its Python client."""

import asyncio


async def _command(reader: asyncio.StreamReader) -> list[bytes] | None:
    line = await reader.readline()
    if not line:
        return None
    arguments = []
    for _ in range(int(line[1:])):
        size = int((await reader.readline())[1:])
        arguments.append((await reader.readexactly(size + 2))[:-2])
    return arguments


async def serve_redis() -> None:
    """Serve SET and GET on port 6379; other commands get OK."""
    data: dict[bytes, bytes] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (command := await _command(reader)) is not None:
                reply = b"+OK\r\n"
                match [command[0].upper(), *command[1:]]:
                    case [b"SET", key, value, *_]:
                        data[key] = value
                    case [b"GET", key]:
                        value = data.get(key, b"")
                        reply = b"$%d\r\n%s\r\n" % (len(value), value) if value else b"_\r\n"
                    case [b"HELLO", *_]:
                        reply = b"%1\r\n+proto\r\n:3\r\n"
                writer.write(reply)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", 6379)
    await server.serve_forever()
