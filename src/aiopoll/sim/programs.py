"""What a host runs: a coroutine function, a function, a module, a file or an ASGI application.

Rule: the kind is seen from the object alone. A coroutine function runs on the host's event loop,
which needs no thread; everything else that is synchronous runs in a thread of the host, and may
start a loop by asyncio.run, as it would anywhere. A file gets its arguments in sys.argv, and its
folder in sys.path; the modules that it imports are those of the process, and shared by hosts.

Left out: WSGI applications.
"""

from __future__ import annotations

import inspect
import os
import runpy
import sys
from collections.abc import Callable, MutableSequence
from typing import TYPE_CHECKING, Any, ClassVar

from . import inside

if TYPE_CHECKING:
    from .host import Host


class Arguments(MutableSequence[str]):
    """sys.argv in a world: that of the host whose code looks at it, at first the process's."""

    def __init__(self, real: list[str]) -> None:
        self._real = real

    @property
    def _data(self) -> list[str]:
        host = inside.host()
        if host is None:
            return self._real
        if host.argv is None:
            host.argv = [*self._real]
        return host.argv

    def __repr__(self) -> str:
        return repr(self._data)

    def __eq__(self, other: object) -> bool:
        return self._data == (other._data if isinstance(other, Arguments) else other)

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: Any) -> Any:
        return self._data[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._data[index] = value

    def __delitem__(self, index: Any) -> None:
        del self._data[index]

    def __add__(self, other: list[str]) -> list[str]:
        return self._data + other

    def __radd__(self, other: list[str]) -> list[str]:
        return other + self._data

    def insert(self, index: int, value: str) -> None:
        self._data.insert(index, value)

    def copy(self) -> list[str]:
        return [*self._data]


def program_of(host: Host) -> Callable[[], Any]:
    """Return `main` of `host` as a function without parameters. TypeError for what cannot run."""
    main = host.main
    if isinstance(main, (str, os.PathLike)):
        return _module(os.fspath(main), host.args)
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


def _module(name: str, args: tuple[Any, ...]) -> Callable[[], Any]:
    """Run a file or a module as `python FILE ARGS` and `python -m MODULE ARGS` do."""

    def run() -> Any:
        sys.argv[:] = [name, *map(str, args)]
        if not name.endswith(".py"):
            return runpy.run_module(name, run_name="__main__")
        folder = os.path.dirname(os.path.abspath(name))
        if folder not in sys.path:
            sys.path.insert(0, folder)
        return runpy.run_path(name, run_name="__main__")

    return run


def _served(app: Any, port: int) -> Callable[[], Any]:
    """Serve an ASGI application by uvicorn, as its own command does."""

    async def serve() -> None:
        import uvicorn

        config = uvicorn.Config(app, host="0.0.0.0", port=port, log_config=None)
        await uvicorn.Server(config).serve()

    return serve
