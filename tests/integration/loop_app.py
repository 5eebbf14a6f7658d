"""An ASGI and a Sanic application whose every reply is the class of the loop that runs it."""

import asyncio
import sys
from typing import Any


def loop_class() -> str:
    cls = type(asyncio.get_running_loop())
    return f"{cls.__module__}.{cls.__qualname__}"


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        sys.stdout.write(f"loop: {loop_class()}\n")  # in one piece, beside other processes
        sys.stdout.flush()
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    assert scope["type"] == "http"
    body = loop_class().encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def make_sanic() -> Any:
    from sanic import Sanic, text

    made: Any = Sanic("LoopApp")

    @made.get("/")  # type: ignore[untyped-decorator]
    async def reply(request: Any) -> Any:
        return text(loop_class())

    return made
