"""Takes `aiopoll run` into each Python that the program starts.

Facts.  Each Python imports sitecustomize when it starts, from the first folder of PYTHONPATH that
has one.  -I and -E ignore PYTHONPATH; -S imports no sitecustomize.  `multiprocessing`'s spawn and
forkserver start Python by its command, as subprocess does.

Rule.  `aiopoll run` puts this folder first on PYTHONPATH, and its options into AIOPOLL_RUN.  The
file takes the folder off sys.path, and imports the sitecustomize that Python would have found
without it: the program sees its own path and its own sitecustomize.  Loops are replaced when
asyncio is imported, and not before: a process without asyncio pays for this file alone.

Why not a .pth file: every Python of the environment would execute it, with and without us, under -I
too; and other environments, which the program may also start, have none.

Any Python from 3.7 on may come here, with or without aiopoll: the file needs but os and sys.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

OPTIONS = "AIOPOLL_RUN"
"""The environment variable: "on", or "alias-uvloop"; processes without it are left alone."""
ALIAS = "alias-uvloop"
METRICS = "AIOPOLL_METRICS_PORT"
"""The environment variable: [HOST:]PORT to serve metrics at; empty or unset: none are served."""
TASTES = (
    "uvicorn.loops.auto",
    "gunicorn.workers.gasgi",
    "sanic.mixins.startup",
    "granian._loops",
)
"""Modules that take uvloop if it is there, unless the user has chosen."""


class AtImport:
    """A meta path finder that calls a function with each of some modules when it is imported."""

    def __init__(self, actions: dict[str, Callable[[Any], object]]) -> None:
        self.actions = actions
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        action = self.actions.pop(name, None)  # another such finder asks this one
        if action is None:
            return None
        try:
            for finder in list(sys.meta_path):
                find = None if finder is self else getattr(finder, "find_spec", None)
                spec = None if find is None else find(name, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = _Loader(spec.loader, self.actions)
                    return spec
            return None
        finally:
            self.actions[name] = action


class _Loader:
    """A module's own loader, and an action after it; the module does not see it."""

    def __init__(self, loader: Any, actions: dict[str, Callable[[Any], object]]) -> None:
        self.loader = loader
        self.actions = actions

    def create_module(self, spec: Any) -> Any:
        return self.loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        action = self.actions.pop(module.__name__, None)
        if action is not None:
            action(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


class _Alias:
    """The finder of uvloop under --alias-uvloop: the alias is made when asyncio is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "uvloop":
            return None
        __import__("asyncio")
        return getattr(sys.modules.get("uvloop"), "__spec__", None)


def watch_loops(describe: Callable[[Any], str], quiet: Iterable[type] = ()) -> None:
    """Prints the line that describe(loop) returns for a loop that starts to run: once a process.

    quiet: classes of loops that there is nothing to say of.
    """
    events: Any = sys.modules["asyncio.events"]
    asyncio: Any = sys.modules["asyncio"]
    set_running_loop = events._set_running_loop
    passed = {type(None), *quiet}

    def _set_running_loop(loop: Any) -> None:
        if passed and type(loop) not in passed:
            try:
                line = describe(loop)
                if line:
                    passed.clear()
                    _print("aiopoll run: " + line + "\n")
            except Exception:  # a closed stderr, or anything: the program comes first
                pass
        set_running_loop(loop)

    events._set_running_loop = asyncio._set_running_loop = _set_running_loop


def _print(line: str) -> None:
    stream: Any = sys.stderr
    try:
        fd = stream.fileno()
    except (AttributeError, OSError, ValueError):
        fd = None
    if fd is None:
        stream.write(line)
        stream.flush()
    # Number 2 may be another file's by now; Python's own are not inheritable, and stderr is.
    elif fd > 2 or os.get_inheritable(fd):
        stream.flush()
        # Past the stream: what that cannot write it keeps, and the exit status is 120 then.
        os.write(fd, line.encode(stream.encoding or "utf-8", "backslashreplace"))


def _take_over(module: Any) -> None:
    if "aiopoll.cli.takeover" in sys.modules:
        return  # `aiopoll run` itself, or done
    if module.__name__ == "asyncio" and "aiopoll.loop" in sys.modules:
        return  # it imports asyncio, and cannot be used before it is there
    try:
        from aiopoll.cli.takeover import take_over

        take_over(os.environ.get(OPTIONS) == ALIAS)
    except Exception as error:
        line = f"the event loops of {sys.executable} are not aiopoll's: {error}"
        watch_loops(lambda loop: line)


def _correct(module: Any) -> None:
    # A module that imports asyncio for the first time is half-made when the loops are taken over.
    takeover: Any = sys.modules.get("aiopoll.cli.takeover")
    if takeover is not None:
        takeover.correct(module)


def _start() -> None:
    options = os.environ.get(OPTIONS)
    if not options:
        return
    if "asyncio" in sys.modules:
        _take_over(sys.modules["asyncio"])
        return
    tastes = dict.fromkeys(TASTES, _correct)
    AtImport({"asyncio": _take_over, "aiopoll.loop": _take_over, **tastes})
    if options == ALIAS:
        sys.meta_path.insert(0, _Alias())


if __name__ == "sitecustomize":
    _here = os.path.dirname(__file__)
    sys.path[:] = [path for path in sys.path if path != _here]
    del sys.modules["sitecustomize"]
    _start()
    # If there is none, site takes the error for what it is.
    __import__("sitecustomize")
