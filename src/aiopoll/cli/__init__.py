"""The command `aiopoll`: one module of this package for each subcommand.

Each has `add_parser(subparsers)`, which sets `handler`: a function of the parsed arguments that
returns the exit status.
"""

import argparse
import importlib
from collections.abc import Callable, Sequence

from aiopoll import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the subcommand that `argv` (default: sys.argv[1:]) names; returns the exit status.

    Raises SystemExit, as argparse does, for arguments that are wrong and for --help.
    """
    parser = argparse.ArgumentParser(prog="aiopoll", description="Linux AIO poll for Python.")
    parser.add_argument("--version", action="version", version=f"aiopoll {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    # Here, for the processes that `aiopoll run` reaches need but one module of this package.
    for name in ("run", "top", "bench", "doctor", "sim"):
        try:
            command = importlib.import_module(f"aiopoll.cli.{name}")
        except ModuleNotFoundError as error:
            # Where the extension modules are not built, on other systems, the simulator remains.
            if name == "sim" or not (error.name or "").startswith("aiopoll."):
                raise
        else:
            command.add_parser(subparsers)
    arguments = parser.parse_args(argv)
    handler: Callable[[argparse.Namespace], int] = arguments.handler
    return handler(arguments)
