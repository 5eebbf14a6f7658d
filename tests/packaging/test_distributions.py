"""The sdist has the files of git, and the package built from it alone works.

Both are built once, from a copy of the tracked files: without network, and with -O0, since this is
about completeness.  The tools come from the running environment; its path to src/ does not.
"""

import faulthandler
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

ROOT = Path(__file__).parents[2]
SMOKE = Path(__file__).with_name("smoke.py")
# By PYTHONPATH, which runs no .pth file: that of an editable aiopoll would show Cython src/.
TOOLS = sysconfig.get_path("purelib")
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

# Files of git that the sdist lacks, and of the sdist that git lacks; folders have a slash.
FOR_THE_REPOSITORY = (".ci/", ".github/", ".gitignore", ".pre-commit", "benchmarks/results/")
MADE_FOR_THE_SDIST = ("PKG-INFO", "setup.cfg", "src/aiopoll.egg-info/")

# Files that building and running leave in a checkout.
LITTER = ("{}.c", "{}" + SUFFIX, "__pycache__/{}.cpython-311.pyc")

# The suffixes of the sources, and those of the wheel's files made from them.
IN_THE_WHEEL = {".py": ".py", ".pyi": ".pyi", ".pyx": SUFFIX, ".typed": ".typed"}

SHARED = "_cyutility"
"""The module that Cython makes of what all compiled modules have in common."""


@dataclass
class Distribution:
    """The file that was built, its sources and the output of the build."""

    tracked: set[str]  # by git
    path: Path
    names: set[str]
    output: str


@dataclass
class Wheel(Distribution):
    python: Path  # of the environment where it is installed


def called(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The output of a command that has to succeed, in a clean environment."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "AIOPOLL", "MYPYPATH", "CFLAGS", "CPPFLAGS"))
    }
    faulthandler.cancel_dump_traceback_later()  # the compiler takes minutes
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def files_of_git() -> set[str]:
    if not (ROOT / ".git").exists():
        pytest.skip(reason="skips.toml: outside of a clone")
    names = called("git", "ls-files", "-z", cwd=ROOT).split("\0")
    return {name for name in names if (ROOT / name).is_file()}


def copied_with_litter(names: set[str], to: Path) -> Path:
    for name in names:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, to / name)
    source = next(to.rglob("*.pyx"))
    for litter in LITTER:
        path = source.parent / litter.format(source.stem)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return to


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    tracked = files_of_git()
    folder = tmp_path_factory.mktemp("sdist")
    checkout = copied_with_litter(tracked, folder / "checkout")
    program = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    output = called(sys.executable, "-c", program, cwd=checkout, PYTHONPATH=TOOLS)
    shutil.rmtree(checkout)
    (path,) = folder.iterdir()
    with tarfile.open(path) as tar:
        names = {str(Path(*Path(member.name).parts[1:])) for member in tar if member.isfile()}
    return Distribution(tracked, path, names, output)


@pytest.fixture(scope="module")
def wheel(sdist: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wheel]:
    folder = tmp_path_factory.mktemp("wheel")
    called(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    offline = ["--no-deps", "--no-index"]
    build = [str(python), "-m", "pip", "wheel", "--no-build-isolation", "--verbose", *offline]
    output = called(*build, sdist.path, cwd=folder, PYTHONPATH=TOOLS, CFLAGS="-O0")
    (path,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    called(*pip, "install", *offline, path, cwd=folder)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    yield Wheel(sdist.tracked, path, names, output, python)
    shutil.rmtree(folder)


def test_sdist_has_the_files_of_git(sdist: Distribution) -> None:
    expected = {name for name in sdist.tracked if not name.startswith(FOR_THE_REPOSITORY)}
    found = {name for name in sdist.names if not name.startswith(MADE_FOR_THE_SDIST)}
    assert sorted(expected - found) == [], "missing in the sdist: see MANIFEST.in"
    assert sorted(found - expected) == [], "in the sdist, and not in git"


@pytest.mark.slow
def test_wheel_has_the_package_and_no_sources(wheel: Wheel) -> None:
    expected = {f"aiopoll/{SHARED}{SUFFIX}"}
    for path in (Path(name) for name in wheel.tracked if name.startswith("src/")):
        if path.suffix in IN_THE_WHEEL:
            package = Path(*path.parts[1:])
            expected.add(str(package.with_suffix("")) + IN_THE_WHEEL[path.suffix])
    found = {name for name in wheel.names if ".dist-info/" not in name}
    assert "aiopoll/py.typed" in expected
    assert sorted(expected ^ found) == []


def test_version_is_that_of_the_changelog(sdist: Distribution) -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert sdist.path.name == f"aiopoll-{newest[1]}.tar.gz"


@pytest.mark.slow
def test_build_prints_no_warning(sdist: Distribution, wheel: Wheel) -> None:
    lines = (sdist.output + wheel.output).splitlines()
    assert any("-Wextra" in line for line in lines), "the compiler's commands are not shown"
    of_pip = re.compile(r"\s*WARNING: ")  # about the machine
    assert [line for line in lines if "warning" in line.lower() and not of_pip.match(line)] == []


@pytest.mark.slow
def test_installed_package_works(wheel: Wheel, tmp_path: Path) -> None:
    output = called(wheel.python, "-I", "-W", "error", SMOKE, cwd=tmp_path)
    sources = [name for name in wheel.tracked if name.startswith("src/aiopoll/")]
    modules = {
        re.sub(r"/__init__$", "", name.removeprefix("src/").rsplit(".", 1)[0]).replace("/", ".")
        for name in sources
        if name.endswith((".py", ".pyx"))
    }
    assert (modules | {f"aiopoll.{SHARED}"}) - set(output.split()) == {"aiopoll"}


@pytest.mark.slow
def test_installed_package_is_typed(wheel: Wheel, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import aiopoll\n"
        "from aiopoll import kernel\n"
        "with aiopoll.Context(8) as context:\n"
        "    reveal_type(context.submit([]))\n"
        "reveal_type(aiopoll.open)\n"
        "reveal_type(kernel.run)\n"
    )
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    output = called(*mypy, "--python-executable", wheel.python, program, cwd=tmp_path)
    revealed = re.findall(r'Revealed type is "(.*)"', output)
    assert len(revealed) == 3, output
    assert not [text for text in revealed if text == "Any"], output
