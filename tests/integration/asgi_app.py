"""The application that the real ASGI servers of tests/integration serve."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Prints the loop it is on; SIGUSR1 releases the slow requests."""
    app.state.released = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, app.state.released.set)
    tell(f"lifespan starts on {describe(loop)}")
    yield
    loop.remove_signal_handler(signal.SIGUSR1)
    tell(f"lifespan ends on {describe(loop)}")


def tell(line: str) -> None:
    """Prints in one write, for several workers share the output."""
    os.write(1, f"{line}\n".encode())


def describe(loop: asyncio.AbstractEventLoop) -> str:
    return f"{type(loop).__module__}.{type(loop).__qualname__} {getattr(loop, 'backend', '?')}"


async def about(request: Request) -> Response:
    loop = asyncio.get_running_loop()
    files = len(os.listdir("/proc/self/fd"))
    return JSONResponse({"loop": describe(loop), "files": files, "pid": os.getpid()})


async def digest(request: Request) -> Response:
    """The digest of the body, taken as it comes."""
    hash_ = hashlib.sha256()
    async for part in request.stream():
        hash_.update(part)
    return PlainTextResponse(hash_.hexdigest())


async def parts(request: Request) -> Response:
    """As many parts of 100,000 bytes as the path asks for."""

    async def letters() -> AsyncIterator[bytes]:
        for number in range(request.path_params["count"]):
            yield bytes([97 + number % 26]) * 100_000

    return StreamingResponse(letters())


async def number(request: Request) -> Response:
    return PlainTextResponse(str(request.path_params["number"]))


async def slow(request: Request) -> Response:
    print("asked", flush=True)
    await request.app.state.released.wait()
    return PlainTextResponse("released")


def blocking(request: Request) -> Response:
    """Starlette calls it in a thread."""
    return PlainTextResponse("from a thread")


async def echo(socket: WebSocket) -> None:
    """Echoes; closes with 4001 on request."""
    await socket.accept()
    while (message := await socket.receive())["type"] == "websocket.receive":
        if (text := message.get("text")) == "close":
            await socket.close(4001, "told so")
            return
        if text is not None:
            await socket.send_text(text)
        else:
            await socket.send_bytes(message["bytes"])
    print(f"left with {message['code']}", flush=True)


app = Starlette(
    routes=[
        Route("/about", about),
        Route("/digest", digest, methods=["POST"]),
        Route("/parts/{count:int}", parts),
        Route("/number/{number:int}", number),
        Route("/slow", slow),
        Route("/blocking", blocking),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan,
)
