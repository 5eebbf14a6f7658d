"""Debian's packages of any release and machine, unpacked without installing them: for tools/vm.py.

Facts.  apt takes each of its directories as an option, and needs no root where those are its
user's.  With an empty status file nothing counts as installed, so that all that a package depends
on is downloaded too.  The maintainers' scripts do what unpacking does not: of what is needed here
that is the file of users, and the byte code of Python's library.  From trixie on modules are
compressed; from Linux 6.19 on they may be in a package of their own.
Rule.  build/vm/SUITE-MACHINE has the lists and what was unpacked, and is kept: where it is there,
apt is not asked again.  Packages come from the mirror that apt has here, by its settings of here.
Why.  A kernel or a user space of another release, or of another machine, is a directory: nothing
on this machine is changed, and no program of that machine is run to make it.
Cost.  Each release's lists are 50 MiB, a kernel is 300 MiB.  Remove build/vm for newer packages.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "vm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
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


def need(program: str, package: str) -> str:
    """The path of a program; as root it is installed, otherwise an error names the package."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    if not (found := shutil.which(program, path=path)):
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            sys.exit(f"vm: {program} not found: {' '.join(install)}")
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        found = shutil.which(program, path=path)
    return found or sys.exit(f"vm: {package} has no {program}")


def mirror() -> str:
    """Where this machine's apt has Debian from."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN)/$(LABEL) $(SITE)"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for line in found.splitlines():
        origin, _, site = line.partition(" ")
        if origin == "Debian/Debian":
            return site
    sys.exit("vm: apt knows no mirror of Debian: apt-get update")


class Release:
    """A release of Debian for a machine, in Debian's words for both: "sid", "arm64"."""

    def __init__(self, suite: str, machine: str) -> None:
        self.directory = BUILD / f"{suite}-{machine}"
        self.suite = suite
        self.machine = machine

    def apt(self, *command: str, cwd: Path | None = None) -> str:
        """The output of apt-get or apt-cache, with the release's own lists."""
        options = {
            "APT::Architecture": self.machine,
            "APT::Architectures": self.machine,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Dir::Cache": f"{self.directory}/cache",
            "Dir::Etc::SourceList": f"{self.directory}/sources.list",
            "Dir::Etc::SourceParts": "-",
            "Dir::State": f"{self.directory}/state",
            "Dir::State::Status": f"{self.directory}/status",
        }
        arguments = [f"-o{name}={value}" for name, value in options.items()]
        program, *rest = command
        done = subprocess.run(
            [program, *arguments, *rest], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    def update(self) -> None:
        """Downloads the lists, if there are none."""
        if (self.directory / "sources.list").exists():
            return
        for name in ("cache/archives/partial", "state/lists/partial"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "status").touch()
        sources = self.directory / "sources.list"
        line = f"deb [signed-by={KEYRING}] {mirror()} {self.suite} main\n"
        sources.write_text(line, encoding="utf-8")
        try:
            self.apt("apt-get", "update", "-qq", "--error-on=any")
        except BaseException:
            sources.unlink()
            raise

    def unpacked(self, name: str, *packages: str, with_dependencies: bool = False) -> Path:
        """The packages in a directory of that name."""
        directory = self.directory / name
        if directory.is_dir():
            return directory
        self.update()
        scratch = self.directory / f"{name}.new"
        shutil.rmtree(scratch, ignore_errors=True)
        archives = self.directory / "archives"
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        if with_dependencies:
            quiet = ("-qq", "-y", "--no-install-recommends", "--download-only")
            self.apt("apt-get", "install", *quiet, f"-oDir::Cache::Archives={archives}", *packages)
        else:
            self.apt("apt-get", "download", "-qq", *packages, cwd=archives)
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
        self.update()

        def depends(package: str, of: str) -> list[str]:
            listed = self.apt("apt-cache", "depends", package)
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
