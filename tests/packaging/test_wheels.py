"""tools/wheels.py refuses a wheel that is not what its name promises."""

import importlib
import random
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
NAME = "aiopoll-0.1.0-cp311-cp311-{}.whl"
WITHOUT_SYMBOLS = b"\x7fELF\0.shstrtab\0.dynsym\0.text\0.gnu_debuglink\0"
PACKAGE = {
    "aiopoll/": b"",
    "aiopoll/__init__.py": b"",
    "aiopoll/__init__.pyi": b"",
    "aiopoll/py.typed": b"",
    "aiopoll-0.1.0.dist-info/METADATA": b"",
    "aiopoll-0.1.0.dist-info/licenses/LICENSE": b"",
}
MODULE = "aiopoll/ring.cpython-311-{}.so"
TARGETS = ("x86_64", "aarch64", "musl")


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    sys.path.insert(0, str(TOOLS))
    try:
        yield importlib.import_module("wheels")
    finally:
        sys.path.remove(str(TOOLS))
        for name in ("wheels", "musl", "debian"):
            sys.modules.pop(name, None)


def make_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / NAME.format("any")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", TARGETS)
def test_a_wheel_of_stripped_modules_and_types_passes(
    tool: ModuleType, tmp_path: Path, name: str
) -> None:
    target = tool.TARGETS[name]
    files = {**PACKAGE, MODULE.format(target.suffix): WITHOUT_SYMBOLS}
    tool.check(make_wheel(tmp_path, files), target)


@pytest.mark.parametrize(
    ("added", "complaint"),
    [
        ({"aiopoll/ring.pyx": b""}, "more than the package"),
        ({"aiopoll/ring.pxd": b""}, "more than the package"),
        ({"aiopoll/c/ring.h": b""}, "more than the package"),
        ({"aiopoll/ring.c": b""}, "more than the package"),
        ({"aiopoll/ring.debug": b""}, "more than the package"),
        ({"aiopoll/poll.so": WITHOUT_SYMBOLS}, "another machine"),
        ({MODULE.format("i386-linux-gnu"): WITHOUT_SYMBOLS}, "another machine"),
        ({MODULE: WITHOUT_SYMBOLS + b".symtab\0"}, "symbols"),
        ({MODULE: WITHOUT_SYMBOLS + b".debug_info\0"}, "symbols"),
        ({"aiopoll/noise.py": random.Random(1).randbytes(1_500_000)}, "bytes"),
    ],
)
@pytest.mark.parametrize("name", TARGETS)
def test_a_wheel_with_more_is_refused(
    tool: ModuleType, tmp_path: Path, name: str, added: dict[str, bytes], complaint: str
) -> None:
    target = tool.TARGETS[name]
    files = {**PACKAGE, MODULE: WITHOUT_SYMBOLS, **added}
    files = {path.format(target.suffix): content for path, content in files.items()}
    with pytest.raises(SystemExit, match=complaint):
        tool.check(make_wheel(tmp_path, files), target)


@pytest.mark.parametrize("name", TARGETS)
def test_a_wheel_without_modules_is_refused(tool: ModuleType, tmp_path: Path, name: str) -> None:
    with pytest.raises(SystemExit, match="no compiled module"):
        tool.check(make_wheel(tmp_path, PACKAGE), tool.TARGETS[name])


@pytest.mark.parametrize("name", TARGETS)
def test_a_wheel_of_another_target_is_refused(tool: ModuleType, tmp_path: Path, name: str) -> None:
    for other in set(TARGETS) - {name}:
        files = {**PACKAGE, MODULE.format(tool.TARGETS[other].suffix): WITHOUT_SYMBOLS}
        with pytest.raises(SystemExit, match="another machine"):
            tool.check(make_wheel(tmp_path, files), tool.TARGETS[name])
