"""tools/wheels.py refuses a wheel that is not what its name promises."""

import random
import zipfile
from pathlib import Path

import pytest
from tools import wheels

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


def make_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / NAME.format("any")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", TARGETS)
def test_a_wheel_of_stripped_modules_and_types_passes(tmp_path: Path, name: str) -> None:
    target = wheels.TARGETS[name]
    files = {**PACKAGE, MODULE.format(target.suffix): WITHOUT_SYMBOLS}
    wheels.check(make_wheel(tmp_path, files), target)


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
        ({"aiopoll/noise.py": random.Random(1).randbytes(wheels.SIZE_MAX)}, "bytes"),
    ],
)
@pytest.mark.parametrize("name", TARGETS)
def test_a_wheel_with_more_is_refused(
    tmp_path: Path, name: str, added: dict[str, bytes], complaint: str
) -> None:
    target = wheels.TARGETS[name]
    files = {**PACKAGE, MODULE: WITHOUT_SYMBOLS, **added}
    files = {path.format(target.suffix): content for path, content in files.items()}
    with pytest.raises(SystemExit, match=complaint):
        wheels.check(make_wheel(tmp_path, files), target)


@pytest.mark.parametrize("name", TARGETS)
def test_a_wheel_without_modules_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SystemExit, match="no compiled module"):
        wheels.check(make_wheel(tmp_path, PACKAGE), wheels.TARGETS[name])


@pytest.mark.parametrize("name", TARGETS)
def test_a_wheel_of_another_target_is_refused(tmp_path: Path, name: str) -> None:
    for other in set(TARGETS) - {name}:
        files = {**PACKAGE, MODULE.format(wheels.TARGETS[other].suffix): WITHOUT_SYMBOLS}
        with pytest.raises(SystemExit, match="another machine"):
            wheels.check(make_wheel(tmp_path, files), wheels.TARGETS[name])


def test_what_debians_pyconfig_includes_is_found(tmp_path: Path) -> None:
    include = tmp_path / "include" / "python3.13"
    real = tmp_path / "include" / "x86_64-linux-gnu" / "python3.13" / "pyconfig.h"
    for folder in (include, real.parent):
        folder.mkdir(parents=True)
    real.write_text("#define SIZEOF_LONG 8\n", encoding="ascii")
    headers = wheels.headers_of_debian(include, "x86_64-linux-gnu", tmp_path / "headers")
    for machine in ("x86_64", "aarch64"):
        found = headers / f"{machine}-linux-gnu" / "python3.13" / "pyconfig.h"
        assert found.read_text(encoding="ascii") == "#define SIZEOF_LONG 8\n"


def test_other_pythons_need_no_headers_more(tmp_path: Path) -> None:
    include = tmp_path / "include" / "python3.13"
    headers = wheels.headers_of_debian(include, "x86_64-linux-gnu", tmp_path / "headers")
    assert not list(headers.rglob("python*"))
