"""aiopoll bench: runs the benchmarks of a checkout, with their progress and tables."""

import argparse
import os
import sys
from pathlib import Path


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure aiopoll beside its peers",
        add_help=False,
        prefix_chars="\0",  # every argument goes to the benchmarks, --help too
    )
    parser.add_argument("args", nargs="*")
    parser.set_defaults(handler=_handle)


def checkout() -> Path | None:
    """Returns the directory of benchmarks/run.py: this one, or that of the package's sources."""
    for folder in (Path.cwd(), Path(__file__).resolve().parents[3]):
        if (folder / "benchmarks" / "run.py").exists():
            return folder
    return None


def _handle(arguments: argparse.Namespace) -> int:
    folder = checkout()
    if folder is None:
        print(
            "aiopoll bench: the benchmarks are in the source repository, not in the package:"
            " run it in a checkout",
            file=sys.stderr,
        )
        return 2
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "benchmarks.run", *arguments.args]
    return os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})
