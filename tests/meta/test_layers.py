"""Imports go down only: the rooms of the package, and the imports that each may have.

aio < reactor < loop < files < the façades; kernel is tied to none of them.  Below the loop nothing
imports asyncio.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "aiopoll"

# The other rooms that a module of each room may import; its own room always.
MAY_IMPORT: dict[str, set[str]] = {
    "aio": set(),
    "reactor": {"aio"},
    "support": {"aio"},
    "loop": {"aio", "reactor", "support"},
    "files": {"aio", "reactor", "loop", "support"},
    "kernel": set(),
    "sim": {"kernel"},
    "libaio": {"aio"},
    "selector": {"aio", "reactor", "support"},
    "streams": {"loop"},
    "prometheus": {"loop"},
    "otel": {"loop"},
    "cli": {
        *("aio", "support", "libaio", "selector", "kernel", "sim", "files", "loop", "streams"),
        *("prometheus", ""),
    },
    "gunicorn": set(),
    "pytest_plugin": {"sim"},
    "__main__": {"cli"},
    # The names that the package shows.
    "": {"aio", "reactor", "support", "libaio", "selector", "files", "loop", "streams"},
}
WITHOUT_ASYNCIO = ("aio", "reactor")

SOURCES = sorted(
    path
    for path in PACKAGE.rglob("*")
    if path.suffix in (".py", ".pyi", ".pyx", ".pxd") and "__pycache__" not in path.parts
)
CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\s+(.+)|c?import\s+([\w.]+))")


def part_of(module: str) -> str:
    """`aiopoll.aio.context` belongs to `aio`; the package itself to ``."""
    return module.split(".")[1] if "." in module else ""


def module_of(path: Path) -> str:
    parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def cython_imports(source: str) -> Iterator[str]:
    for line in source.splitlines():
        if match := CYTHON_IMPORT.match(line):
            module, names, plain = match.groups()
            if plain:
                yield plain
            else:
                yield from (f"{module}.{name.split()[0]}" for name in re.findall(r"\w+", names))


def python_imports(path: Path, source: str) -> Iterator[str]:
    package = module_of(path).split(".")
    if path.stem != "__init__":
        package = package[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports(path: Path) -> set[str]:
    """The modules of the package that the file imports, at any place in it."""
    source = path.read_text(encoding="utf-8")
    if path.suffix in (".pyx", ".pxd"):
        found = cython_imports(source)
    else:
        found = python_imports(path, source)
    # The version is a literal of the package's own file, which loads nothing.
    return {name for name in found if name.split(".")[0] == "aiopoll"} - {"aiopoll.__version__"}


def is_part(name: str) -> bool:
    return any((PACKAGE / f"{name}{end}").exists() for end in ("", ".py", ".pyx"))


def imported_part(name: str) -> str:
    """`from aiopoll import selector` names a part, `from aiopoll import Context` the package."""
    part = part_of(name)
    return part if part in MAY_IMPORT and is_part(part) else ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    part = part_of(module_of(path))
    assert part in MAY_IMPORT, f"give {part!r} its place among the layers"
    for name in imports(path):
        below = imported_part(name)
        assert below == part or below in MAY_IMPORT[part], f"{part or 'aiopoll'} imports {name}"


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if part_of(module_of(path)) in WITHOUT_ASYNCIO],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_below_the_loop_nothing_imports_asyncio(path: Path) -> None:
    assert (
        re.findall(r"^\s*(?:from|c?import) asyncio\b.*", path.read_text("utf-8"), re.MULTILINE)
        == []
    )


@pytest.mark.subprocess
@pytest.mark.parametrize("module", ["aiopoll", "aiopoll.kernel"])
def test_the_face_and_the_kernel_load_no_compiled_module(module: str) -> None:
    program = f"""if True:
        import sys, {module}
        loaded = [name for name, loaded in sys.modules.items() if name.startswith("aiopoll")
                  and not (getattr(loaded, "__file__", None) or "").endswith(".py")]
        print(loaded)
    """
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_each_room_names_its_contents() -> None:
    loops = ("loop", "loop/monitor", "loop/streams", "loop/transports")
    for room in ("aio", "reactor", *loops, "files", "kernel"):
        opening = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8")))
        assert opening, room
        for words in ("Lives here", "May import", "Data comes"):
            assert words in opening, f"{room}/__init__.py does not say: {words}"


def test_the_layers_have_no_cycle() -> None:
    def reaches(part: str, seen: tuple[str, ...]) -> None:
        assert part not in seen, " → ".join((*seen, part))
        for below in MAY_IMPORT[part]:
            reaches(below, (*seen, part))

    for part in MAY_IMPORT:
        reaches(part, ())


def test_the_reader_of_imports_sees_each_form(tmp_path: Path) -> None:
    assert set(cython_imports("from aiopoll.aio cimport abi, ring\ncimport aiopoll.a.b\n")) == {
        "aiopoll.aio.abi",
        "aiopoll.aio.ring",
        "aiopoll.a.b",
    }
    path = PACKAGE / "kernel" / "select.py"
    source = "from . import wait\nfrom .. import support\nimport aiopoll.cli\n"
    assert set(python_imports(path, source)) == {
        "aiopoll.kernel.wait",
        "aiopoll.support",
        "aiopoll.cli",
    }
