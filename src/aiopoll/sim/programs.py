"""What a host runs: a coroutine function, a function, a module, a file or an ASGI application.

Rule: the kind is seen from the object alone. A coroutine function runs on the host's event loop,
which needs no thread; everything else that is synchronous runs in a thread of the host, and may
start a loop by asyncio.run, as it would anywhere.

Left out: WSGI applications.
"""

from __future__ import annotations

import inspect
import os
import runpy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .host import Host


def program_of(host: Host) -> Callable[[], Any]:
    """Return `main` of `host` as a function without parameters. TypeError for what cannot run."""
    main = host.main
    if isinstance(main, (str, os.PathLike)):
        return _module(os.fspath(main))
    if not callable(main):
        raise TypeError(
            f"{host.name} cannot run {main!r}: give a coroutine function, a function, the name of "
            "a module, the path of a .py file or an ASGI application"
        )
    if is_asgi(main):
        return _served(main, host.port)
    args = host.args or ((host,) if takes_argument(main) else ())
    if is_coroutine_function(main):

        async def run() -> Any:
            return await main(*args)

        return run
    return lambda: main(*args)


def is_coroutine_function(function: Any) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004
    inner = getattr(function, "func", function)
    return any(inspect.iscoroutinefunction(each) for each in (function, inner, call))


def is_asgi(app: Any) -> bool:
    """Return whether `app` is called as ASGI 3 does: with scope, receive and send."""
    try:
        names = [*inspect.signature(app).parameters]
    except (TypeError, ValueError):
        return False
    return names[:3] == ["scope", "receive", "send"] and is_coroutine_function(app)


def takes_argument(function: Any) -> bool:
    """Return whether `function` has a parameter that must be given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in positional and p.default is p.empty for p in parameters)


def _module(name: str) -> Callable[[], Any]:
    if name.endswith(".py"):
        return lambda: runpy.run_path(name, run_name="__main__")
    return lambda: runpy.run_module(name, run_name="__main__", alter_sys=False)


def _served(app: Any, port: int) -> Callable[[], Any]:
    """Serve an ASGI application by uvicorn, as its own command does."""

    async def serve() -> None:
        import uvicorn

        config = uvicorn.Config(app, host="0.0.0.0", port=port, log_config=None)
        await uvicorn.Server(config).serve()

    return serve
