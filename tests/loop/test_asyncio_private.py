"""asyncio's private names: the loop relies on some, which each Python may change.

asyncio_private.toml lists them.  A name that a new Python lacks fails here before a program does.
"""

import ast
import asyncio
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

DATA = tomllib.loads(Path(__file__).with_name("asyncio_private.toml").read_text())
NAMES = [f"{owner['name']}.{name}" for owner in DATA["owner"] for name in owner["names"]]
SOURCES = Path(__file__).parents[2] / "src/aiopoll/loop"

PRIVATE = re.compile(r"_[A-Za-z]\w*(?<!__)")
USE = re.compile(
    r"""(?:\.|\bdef |["']|^ {4}|\bcdef public \w+ )(_[A-Za-z]\w*)(?<!__)""", re.MULTILINE
)

OURS = {
    "_exit": "os._exit()",
    "_threads": "ThreadPoolExecutor._threads",
    "_value": "Semaphore._value, of threading",
}
"""Names that are not asyncio's where the loop uses them."""


def _names_of_class(node: ast.ClassDef) -> Iterator[str]:
    """What a class and its instances have: methods, attributes, slots."""
    for part in ast.walk(node):
        match part:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store(), value=ast.Name(id="self")):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Constant(value=str(name)):
                yield name


def _names_of_module(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name


@cache
def asyncio_names() -> dict[str, set[str]]:
    """The private names in asyncio's sources, by the module or class that has them."""
    names = defaultdict(set)
    for path in Path(asyncio.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names[path.stem].update(_names_of_module(tree))
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                names[f"{path.stem}.{node.name}"].update(_names_of_class(node))
    return {owner: {n for n in found if PRIVATE.fullmatch(n)} for owner, found in names.items()}


def used_names() -> dict[str, str]:
    """The private names in the loop's sources, each with a file that has it."""
    return {
        name: str(path.relative_to(SOURCES))
        for path in sorted(SOURCES.rglob("*.py*"))
        if path.suffix in (".py", ".pyx")
        for name in USE.findall(path.read_text(encoding="utf-8"))
    }


def is_in_this_python(name: str) -> bool:
    versions = DATA["versions"].get(name, {})
    first, last = versions.get("first", [3, 0]), versions.get("last", [4, 0])
    return first <= list(sys.version_info[:3]) and list(sys.version_info[:2]) <= last


@pytest.mark.parametrize("name", NAMES)
def test_private_name_is_in_the_running_asyncio(name: str) -> None:
    owner, _, attribute = name.rpartition(".")
    assert (attribute in asyncio_names().get(owner, set())) == is_in_this_python(name)


def test_private_names_that_the_loop_uses_are_listed() -> None:
    listed = {name.rpartition(".")[2] for name in NAMES} | OURS.keys()
    of_asyncio = set().union(*asyncio_names().values())
    used = used_names()
    assert {n: where for n, where in used.items() if n in of_asyncio and n not in listed} == {}
    assert listed - used.keys() == set(), "listed and not used any more"


def test_the_list_names_no_other_version_twice() -> None:
    assert DATA["versions"].keys() <= set(NAMES)
    assert len(NAMES) == len(set(NAMES))
