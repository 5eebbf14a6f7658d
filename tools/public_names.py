"""Lists the public names of the installed aiopoll, or holds them against an earlier list.

    python -I tools/public_names.py > tests/packaging/names/0.2.0.txt
    python -I tools/public_names.py --check tests/packaging/names/0.1.0.txt

A line has a dotted name; that of a function or method ends with its parameters: `aiopoll.open(file,
mode)`; `*name` can be given by keyword alone, `**name` takes any keyword,
of which a list does not know more.

A line that begins with # is a comment.

Rule.  Code for the earlier version goes on: each of its names is there, its positional parameters
are the first of today's, in their order, and its keywords are taken.  A name that is deprecated is
still there.
"""

import argparse
import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# A program gets these from functions, and does not make them.
GIVEN = ("BinaryFile", "TextFile", "WrappedBinaryFile", "WrappedTextFile")
MODULES = (
    *("aiopoll", "aiopoll.libaio", "aiopoll.kernel"),
    *("aiopoll.files.os", "aiopoll.files.ospath", "aiopoll.files.tempfile"),
)


def parameters(function: Any) -> list[str] | None:
    """Names of the parameters, as lists have them; None where Python does not know them."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    marks = {inspect.Parameter.KEYWORD_ONLY: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [
        marks.get(parameter.kind, "") + parameter.name
        for parameter in found
        if parameter.name not in ("self", "cls")
        and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    ]


def line(name: str, value: Any) -> str:
    given = isinstance(value, type) and (issubclass(value, tuple) or value.__name__ in GIVEN)
    known = parameters(value) if callable(value) and not given else None
    return name if known is None else f"{name}({', '.join(known)})"


def names_of_class(name: str, cls: type) -> Iterator[str]:
    """Those that aiopoll's own classes define: the others change with Python."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("aiopoll")]
    for member in sorted({member for base in ours for member in vars(base)}):
        if not member.startswith("_"):
            yield line(f"{name}.{member}", getattr(cls, member))


def names_of_module(module: Any) -> list[str]:
    everything = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    ]
    return sorted(getattr(module, "__all__", everything))


def public_names() -> Iterator[str]:
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in names_of_module(module):
            value = getattr(module, name)
            dotted = f"{module_name}.{name}"
            if inspect.ismodule(value):
                continue
            yield line(dotted, value)
            if isinstance(value, type):
                yield from names_of_class(dotted, value)


def parsed(text: str) -> tuple[str, list[str] | None]:
    name, opening, rest = text.partition("(")
    return name, re.findall(r"[*\w]+", rest) if opening else None


def complaint(earlier: str, today: dict[str, list[str] | None]) -> str | None:
    """What a program for the earlier version would find changed; None for nothing."""
    name, wanted = parsed(earlier)
    if name not in today:
        return f"{name} is gone"
    taken = today[name]
    if wanted is None or taken is None:
        return None
    positional = [parameter for parameter in wanted if not parameter.startswith("*")]
    if taken[: len(positional)] != positional:
        return f"{name} takes {taken[: len(positional)]} where it took {positional}"
    if any(parameter.startswith("**") for parameter in taken):
        return None
    keywords = {parameter.lstrip("*") for parameter in taken}
    named = [parameter for parameter in wanted if not parameter.startswith("**")]
    lost = [parameter for parameter in named if parameter.lstrip("*") not in keywords]
    return f"{name} does not take {', '.join(lost)}" if lost else None


def found_today(name: str) -> dict[str, list[str] | None]:
    """The name with its parameters, wherever it is inherited from; nothing where it is gone."""
    module = max((each for each in MODULES if name.startswith(f"{each}.")), key=len)
    value: Any = importlib.import_module(module)
    for part in name.removeprefix(f"{module}.").split("."):
        if not hasattr(value, part):
            return {}
        value = getattr(value, part)
    return dict([parsed(line(name, value))])


def complaints(path: Path) -> list[str]:
    """One for each name of a list that changed since."""
    lines = path.read_text(encoding="utf-8").splitlines()
    earlier = [text for text in lines if not text.startswith("#")]
    return [found for text in earlier if (found := complaint(text, found_today(parsed(text)[0])))]


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--check", type=Path, metavar="LIST", nargs="+")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    if not arguments.check:
        print(*public_names(), sep="\n")
        return 0
    found = [f"{path.stem}: {text}" for path in arguments.check for text in complaints(path)]
    for text in found or [f"{path.stem}: every name is there" for path in arguments.check]:
        print(text)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
