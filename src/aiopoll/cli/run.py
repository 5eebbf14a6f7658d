"""aiopoll run: runs a program as `python PROGRAM` does, on loops of ours."""

import argparse
import importlib
import io
import os
import runpy
import sys
import types
from collections.abc import Callable, Container, Sequence
from importlib.machinery import SourceFileLoader

from aiopoll.cli.startup.sitecustomize import METRICS
from aiopoll.cli.takeover import hand_on, take_over, trace_processes
from aiopoll.loop.monitor.options import MONITOR_VARIABLE, SIGNAL_VARIABLE, signal_of
from aiopoll.loop.monitor.stalls import LIMIT, stall_limit

WATCH_STALLS = "--watch-stalls"
STALL_SECONDS = "0.1"
"""The limit where none is given."""


def _with_limit(arguments: Sequence[str], valued: Container[str]) -> list[str]:
    """Gives --watch-stalls a value where it has none: argparse would take the program for it.

    valued: the options that take a value.
    """
    given = list(arguments)
    is_value = False
    for at, argument in enumerate(given):
        if is_value:
            is_value = False
            continue
        if not argument.startswith("-") or argument == "--":
            break
        is_value = argument in valued
        if argument == WATCH_STALLS and not _is_number(given[at + 1 : at + 2]):
            given[at] = f"{WATCH_STALLS}={STALL_SECONDS}"
            is_value = False
    return given


def _is_number(arguments: Sequence[str]) -> bool:
    try:
        return bool([float(text) for text in arguments])
    except ValueError:
        return False


def _seconds(text: str) -> str:
    try:
        stall_limit(float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "run",
        help="run a Python program on AIO poll",
        description="Runs PROGRAM as `python PROGRAM ARGS…` does, but every asyncio event loop"
        " that it makes waits on AIO poll.",
        usage="aiopoll run [OPTIONS] (PROGRAM | -m MODULE) [ARGS ...]",
    )
    parser.add_argument(
        "--alias-uvloop",
        action="store_true",
        help="give the program this loop where it imports uvloop, too",
    )
    parser.add_argument(
        "--metrics",
        metavar="[HOST:]PORT",
        help="serve the loops' numbers at /metrics for Prometheus; each further process takes the"
        " next free port",
    )
    parser.add_argument(
        WATCH_STALLS,
        metavar="SECONDS",
        type=_seconds,
        help=f"report each callback that runs for longer (default: {STALL_SECONDS})",
    )
    parser.add_argument(
        "--trace",
        metavar="OUT",
        help="write what the loops did to a file for ui.perfetto.dev at exit; %%p is the process",
    )
    parser.add_argument(
        "--trace-signal",
        metavar="SIGNAL",
        help="write the last seconds, numbered, each time that this signal comes, as USR2",
    )
    parser.add_argument(
        "--trace-last", metavar="SECONDS", help="how many seconds a signal writes; 10 by default"
    )
    parser.add_argument(
        "--dump-signal",
        metavar="NAME",
        type=_signal,
        help="the signal (QUIT, USR1, …) that has the loops' tasks written to stderr",
    )
    parser.add_argument(
        "--monitor", action="store_true", help="let `aiopoll top` look into the program's loops"
    )
    parser.add_argument("-m", dest="module", action="store_true", help="PROGRAM names a module")
    parser.add_argument("program", metavar="PROGRAM", help="file, directory or zip to run")
    parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER, help="its arguments")
    parser.set_defaults(handler=_handle)
    valued = {
        name for each in parser._actions if each.nargs is None for name in each.option_strings
    }
    parse = parser.parse_known_args
    parser.parse_known_args = lambda args, namespace: parse(  # type: ignore[method-assign,assignment]
        _with_limit(args, valued), namespace
    )


def _signal(name: str) -> str:
    try:
        return signal_of(name).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _handle(arguments: argparse.Namespace) -> int:
    if arguments.metrics is not None:
        os.environ[METRICS] = arguments.metrics
    if address := os.environ.get(METRICS):
        check_metrics(address)
    if arguments.watch_stalls is not None:
        os.environ[LIMIT] = arguments.watch_stalls  # for its children, too
    # Loops look there, also those of the processes that this one starts.
    if arguments.dump_signal:
        os.environ[SIGNAL_VARIABLE] = arguments.dump_signal
    if arguments.monitor:
        os.environ[MONITOR_VARIABLE] = "1"
    take_over(arguments.alias_uvloop)
    hand_on(arguments.alias_uvloop)
    try:
        trace_processes(arguments.trace, arguments.trace_signal, arguments.trace_last)
    except (OSError, ValueError) as error:
        print(f"aiopoll run: no trace: {error}", file=sys.stderr)
        return 2
    if arguments.module:
        run_module(arguments.program, arguments.args)
    else:
        run_program(arguments.program, arguments.args)
    return 0


def check_metrics(address: str) -> None:
    """Exits after one line if no metrics can be served at the address."""
    from aiopoll.cli.metrics import parse_address

    try:
        parse_address(address)
        importlib.import_module("aiopoll.prometheus")
    except (ValueError, ModuleNotFoundError) as error:
        print(f"aiopoll run --metrics: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def run_program(path: str, args: list[str]) -> None:
    """Executes the file as __main__, or the __main__.py of a directory or zip.

    An exception of the program, SystemExit and KeyboardInterrupt too, goes to the caller.
    Exits as python does, after one line, if there is nothing to run.
    """
    sys.argv = [path, *args]
    if os.path.isdir(path) or (os.path.exists(path) and path.endswith((".zip", ".pyz"))):
        sys.path[0] = path
        _run(lambda: runpy.run_path(path, run_name="__main__"))
        return
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    path = os.path.abspath(path)
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__loader__ = SourceFileLoader("__main__", path)
    main.__dict__["__builtins__"] = __builtins__
    main.__dict__["__cached__"] = None
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        print(f"aiopoll run: can't open {sys.argv[0]!r}: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None  # python's own status for it
    # Kept after the program has ended: threads, atexit functions and pickles need it.
    sys.modules["__main__"] = main
    exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)


def run_module(name: str, args: list[str]) -> None:
    """Executes the module as `python -m` does."""
    sys.argv = [name, *args]
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    _run(lambda: runpy.run_module(name, run_name="__main__", alter_sys=True))


def _run(run: Callable[[], object]) -> None:
    """Calls run(), a function of runpy; exits as python does where runpy finds no program."""
    try:
        run()
    except ImportError as error:
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        if traceback is None or traceback.tb_frame.f_globals.get("__name__") != "runpy":
            raise  # the program's own
        print(f"aiopoll run: {error}", file=sys.stderr)
        raise SystemExit(1) from None
