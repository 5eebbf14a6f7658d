"""aiopoll run: runs a program as `python PROGRAM` does, on loops of ours."""

import argparse
import asyncio
import io
import os
import runpy
import selectors
import sys
import types
from importlib.machinery import SourceFileLoader

from aiopoll.loop import alias_uvloop, new_event_loop
from aiopoll.selector import AioSelector


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "run",
        help="run a Python program on AIO poll",
        description="Runs PROGRAM as `python PROGRAM ARGS…` does, but every asyncio event loop"
        " that it makes waits on AIO poll.",
        usage="aiopoll run [-h] [--alias-uvloop] (PROGRAM | -m MODULE) [ARGS ...]",
    )
    parser.add_argument(
        "--alias-uvloop",
        action="store_true",
        help="give the program this loop where it imports uvloop, too",
    )
    parser.add_argument("-m", dest="module", action="store_true", help="PROGRAM names a module")
    parser.add_argument("program", metavar="PROGRAM", help="file, directory or zip to run")
    parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER, help="its arguments")
    parser.set_defaults(handler=_handle)


def _handle(arguments: argparse.Namespace) -> int:
    replace_loops()
    if arguments.alias_uvloop:
        alias_uvloop()
    if arguments.module:
        run_module(arguments.program, arguments.args)
    else:
        run_program(arguments.program, arguments.args)
    return 0


def replace_loops() -> None:
    """Makes every loop that asyncio creates from now on one of ours.

    asyncio.run and Runner make their loops by events.new_event_loop.  Code that calls
    SelectorEventLoop() by name, or leaves it to the policy, gets selectors.DefaultSelector.
    """
    asyncio.new_event_loop = asyncio.events.new_event_loop = new_event_loop
    selectors.DefaultSelector = AioSelector  # type: ignore[misc, assignment]


def run_program(path: str, args: list[str]) -> None:
    """Executes the file as __main__, or the __main__.py of a directory or zip.

    An exception of the program, SystemExit and KeyboardInterrupt too, goes to the caller.
    """
    sys.argv = [path, *args]
    if not os.path.exists(path):
        print(f"aiopoll run: can't open {path!r}: no such file", file=sys.stderr)
        raise SystemExit(2)  # python's own status for it
    if os.path.isdir(path) or path.endswith((".zip", ".pyz")):
        sys.path[0] = path
        runpy.run_path(path, run_name="__main__")
        return
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    path = os.path.abspath(path)
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__loader__ = SourceFileLoader("__main__", path)
    main.__dict__["__builtins__"] = __builtins__
    main.__dict__["__cached__"] = None
    # Kept after the program has ended: threads, atexit functions and pickles need it.
    sys.modules["__main__"] = main
    with io.open_code(path) as file:
        source = file.read()
    exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)


def run_module(name: str, args: list[str]) -> None:
    """Executes the module as `python -m` does."""
    sys.argv = [name, *args]
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    runpy.run_module(name, run_name="__main__", alter_sys=True)
