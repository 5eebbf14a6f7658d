"""The sdist has the files of git, and the package built from it alone works.

Both are built once, from a copy of the tracked files: without network, and with -O0, since this is
about completeness.  The tools come from the running environment; its path to src/ does not.
"""

import faulthandler
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from trove_classifiers import classifiers as known_classifiers

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
IN_THE_WHEEL = {
    ".py": ".py",
    ".pyi": ".pyi",
    ".pyx": SUFFIX,
    ".typed": ".typed",
    ".html": ".html",
    ".css": ".css",
    ".js": ".js",
}

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
    metadata: Metadata


def called(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The output of a command that has to succeed, in a clean environment."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "AIOPOLL", "MYPYPATH", "PYRIGHT", "CFLAGS", "CPPFLAGS"))
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
        (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Metadata.from_email(archive.read(name))  # raises where it is invalid
    yield Wheel(sdist.tracked, path, names, output, python, metadata)
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


@pytest.mark.slow
def test_every_name_of_the_package_has_a_type(wheel: Wheel, tmp_path: Path) -> None:
    if not importlib.util.find_spec("pyright"):
        pytest.skip(reason="skips.toml: pyright without node")
    # Some modules have types of libraries that the extras install.
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for name in ("prometheus_client", "opentelemetry", "rich"):
        found = importlib.util.find_spec(name)
        assert found is not None
        (location,) = found.submodule_search_locations or []
        (libraries / name).symlink_to(location)
    # It looks at the package of the first Python in PATH, and fails unless all is known.
    path = f"{wheel.python.parent}{os.pathsep}{os.environ['PATH']}"
    pyright = [sys.executable, "-m", "pyright", "--verifytypes", "aiopoll", "--ignoreexternal"]
    given = {"PATH": path, "PYTHONPATH": str(libraries), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    output = called(*pyright, cwd=tmp_path, **given)
    folder = re.search(r'^Package directory: "(.*)"', output, re.MULTILINE)
    names = re.search(r'^Symbols exported by "aiopoll": (\d+)', output, re.MULTILINE)
    assert folder, output
    assert wheel.python.parents[1] in Path(folder[1]).parents
    assert names, output
    assert int(names[1]) > 1000
    assert "\nType completeness score: 100%\n" in output, output


@pytest.mark.slow
def test_metadata_is_that_of_the_project(wheel: Wheel) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    metadata = wheel.metadata
    assert metadata.name == project["name"]
    assert metadata.summary == project["description"]
    assert metadata.description == (ROOT / project["readme"]).read_text("utf-8")
    assert metadata.description_content_type == "text/markdown"
    assert metadata.keywords == project["keywords"]
    assert metadata.author == project["authors"][0]["name"]
    assert metadata.classifiers == project["classifiers"]
    assert metadata.project_urls == project.get("urls")
    assert str(metadata.requires_python) == project["requires-python"]
    needed = {str(requirement.marker) for requirement in metadata.requires_dist or []}
    extras = {f'extra == "{name}"' for name in project["optional-dependencies"]}
    assert needed == extras, "the package needs Python and the kernel alone"


@pytest.mark.slow
def test_licence_is_in_the_wheel(wheel: Wheel) -> None:
    assert wheel.metadata.license_expression == "Apache-2.0"
    assert wheel.metadata.license_files == ["LICENSE"]
    (name,) = (name for name in wheel.names if name.endswith(".dist-info/licenses/LICENSE"))
    with zipfile.ZipFile(wheel.path) as archive:
        assert archive.read(name) == (ROOT / "LICENSE").read_bytes()


@pytest.mark.slow
def test_classifiers_are_known_and_name_the_tested_pythons(wheel: Wheel) -> None:
    named = wheel.metadata.classifiers or []
    assert sorted(set(named)) == named
    assert [name for name in named if name not in known_classifiers] == []
    ours = (re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", name) for name in named)
    pythons = [match[1] for match in ours if match]
    pythons.sort(key=lambda version: int(version.split(".")[1]))
    assert str(wheel.metadata.requires_python) == f">={pythons[0]}"
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    matrices = re.findall(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)
    assert matrices
    assert {tuple(re.findall(r'"(.*?)"', matrix)) for matrix in matrices} == {tuple(pythons)}
