"""Debian's packages of any release and machine, unpacked without installing them: for tools/vm.py.

Facts.  The maintainers' scripts do what unpacking does not: of what is needed here that is the file
of users, and the byte code of Python's library.  From trixie on modules are compressed; from Linux
6.19 on they may be in a package of their own.
Rule.  build/vm/SUITE-MACHINE has apt's lists (tools/apt.py) and what was unpacked, and is kept:
where it is there, apt is not asked again.
Why.  A kernel or a user space of another release, or of another machine, is a directory: nothing
on this machine is changed, and no program of that machine is run to make it.
Cost.  A kernel is 300 MiB.  Remove build/vm for newer packages.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.apt import Apt

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "vm"
# What the core of the tests runs, beside Python: shells, sleep, openssl, gcc.
PROGRAMS = (
    *("base-files", "coreutils", "dash", "gcc", "libc-bin", "libc6-dev"),
    *("netbase", "openssl", "util-linux"),
)
# The release that has a Python of that version.
RELEASES = {(3, 11): "bookworm", (3, 13): "trixie", (3, 14): "sid"}
# What the core of the tests imports.
MODULES = ("hypothesis", "pytest", "trustme")
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
GROUPS = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"


class Release:
    """A release of Debian for a machine, in Debian's words for both: "sid", "arm64"."""

    def __init__(self, suite: str, machine: str) -> None:
        self.directory = BUILD / f"{suite}-{machine}"
        self.suite = suite
        self.machine = machine
        self.apt = Apt(self.directory, (suite,), "deb", machine)

    def unpacked(self, name: str, *packages: str, with_dependencies: bool = False) -> Path:
        """The packages in a directory of that name."""
        directory = self.directory / name
        if directory.is_dir():
            return directory
        scratch = self.directory / f"{name}.new"
        shutil.rmtree(scratch, ignore_errors=True)
        archives = self.directory / "archives"
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        if with_dependencies:
            quiet = ("-qq", "-y", "--no-install-recommends", "--download-only")
            self.apt.run(
                "apt-get", "install", *quiet, f"-oDir::Cache::Archives={archives}", *packages
            )
        else:
            self.apt.run("apt-get", "download", "-qq", *packages, cwd=archives)
        # As in an installed Debian: packages of bookworm still have files in /bin and /lib.
        for top in ("bin", "lib", "sbin"):
            (scratch / "usr" / top).mkdir(parents=True)
            (scratch / top).symlink_to(f"usr/{top}")
        for package in sorted(archives.glob("*.deb")):
            extract(package, scratch)
            package.unlink()
        scratch.rename(directory)
        return directory

    def kernel(self) -> Path:
        """The newest kernel of the release, with its modules."""
        if (self.directory / "kernel").is_dir():
            return self.directory / "kernel"

        def depends(package: str, of: str) -> list[str]:
            listed = self.apt.run("apt-cache", "depends", package)
            return re.findall(rf"Depends: (linux-(?:{of})-\d[\w.+~-]*)$", listed, re.MULTILINE)

        image = depends(f"linux-image-{self.machine}", "image")
        if not image:
            sys.exit(f"vm: {self.suite} has no linux-image-{self.machine}")
        return self.unpacked("kernel", *image, *depends(image[0], "binary|modules"))

    def busybox(self) -> bytes:
        directory = self.unpacked("busybox", "busybox-static")
        return (directory / "usr/bin/busybox").read_bytes()


def extract(package: Path, directory: Path) -> None:
    files = subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, encoding=None
    )
    tar = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(directory)]
    with files:
        subprocess.run(tar, stdin=files.stdout, check=True)
    if files.returncode:
        sys.exit(f"vm: dpkg-deb cannot read {package.name}")


def user_space(machine: str) -> Path:
    """The root directory of a Debian with this Python's version for another machine."""
    version = sys.version_info[:2]
    python = f"python{version[0]}.{version[1]}"
    if version not in RELEASES:
        known = ", ".join(f"{major}.{minor}" for major, minor in RELEASES)
        sys.exit(f"vm: no release of Debian is known to have {python}, only {known}")
    release = Release(RELEASES[version], machine)
    directory = release.directory / "root"
    if directory.is_dir():
        return directory
    root = release.unpacked("root.unpacked", python, *PROGRAMS, with_dependencies=True)
    for name, text in {"passwd": USERS, "group": GROUPS, "hosts": HOSTS}.items():
        (root / "etc" / name).write_text(text, encoding="ascii")
    for name in ("dev", "proc", "root", "sys", "tmp"):
        (root / name).mkdir(exist_ok=True)
    for name in ("bin/sh", "usr/bin/sh"):
        if not (root / name).exists():
            (root / name).symlink_to("dash")
    compile_modules(root, f"usr/lib/{python}")
    root.rename(directory)
    return directory


def compile_modules(root: Path, name: str) -> None:
    """Writes the byte code of modules: it is the same on all machines."""
    where = ["-s", str(root), "-p", "/", str(root / name)]
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-x", "lib2to3", *where], check=False)


def install_wheels(root: Path, machine: str, wheels: Sequence[Path]) -> None:
    """Installs wheels, and what the tests import, for another machine into its user space."""
    from importlib.metadata import version

    major, minor = sys.version_info[:2]
    target = root / f"usr/local/lib/python{major}.{minor}/dist-packages"
    pins = [f"{name}=={version(name)}" for name in MODULES]
    wanted = "\n".join([*pins, *(f"{path} {path.stat().st_mtime_ns}" for path in wheels), ""])
    stamp = target / "installed"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return  # another machine may run with it
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--target", str(target)]
    command += ["--implementation=cp", f"--python-version={major}.{minor}"]
    command += [f"--platform={platform}_{machine}" for platform in PLATFORMS]
    subprocess.run([*command, *pins, *map(str, wheels)], check=True)
    compile_modules(root, str(target.relative_to(root)))
    stamp.write_text(wanted, encoding="utf-8")
