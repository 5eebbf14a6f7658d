"""Runs `make test` in a release of Debian other than this one: `make test-debian`.

Facts.  Debian has Pythons that this machine lacks: trixie 3.13, sid 3.14 and 3.15, with CPython's
own tests in packages.  debootstrap installs a release into a directory.  A mount is of a mount
namespace, and goes with the namespace's last process; process 1 of a process namespace takes all
others with it (unshare(1), --kill-child).
Rule.  build/debian/SUITE holds the release, and is kept for the next run.  It comes from the
mirror that apt has here, by apt's settings of here.  Each run brings in what git knows of this
checkout, what is not committed too, with the date of each file; what git does not know any more is
removed.  /dev and /sys are this machine's, and resolv.conf, hosts, certificates and pip's settings
are copied.  Everything runs in namespaces of its own.
Why.  What is tested is a fresh Debian with the packages that CONTRIBUTING.md names.  However the
run ends, nothing is left mounted and nothing goes on running.
Cost.  It needs root.  A release takes 1 GiB and some minutes, once.
Failure prevented.  A run is killed while /dev is mounted in the release: whoever removes that
directory then removes this machine's devices.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.apt import mirror
from tools.commands import need

ROOT = Path(__file__).resolve().parents[1]
RELEASES = ROOT / "build" / "debian"
# As CONTRIBUTING.md has it, for the Python that is asked for, and for what skips its tests else.
PACKAGES = ("{0}", "{0}-dev", "{0}-venv", "gcc", "libc6-dev", "make")
PACKAGES_FOR_MORE_TESTS = (
    "lib{0}-testsuite",
    "ca-certificates",
    "git",
    "libssl-dev",
    "openssl",
    "postgresql",
    "prometheus",
    "redis-server",
)
# Of this machine: the network, and what pip reads.
COPIED = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pip.conf",
    str(Path.home() / ".config/pip/pip.conf"),
)
PASSED = re.compile(
    r"(AIOPOLL|PIP)_\w+|(https?|no)_proxy|TERM"
    r"|(CURL_CA|REQUESTS_CA)_BUNDLE|SSL_CERT_FILE|PYTEST_ARGS|PROCESSES",
    re.IGNORECASE,
)
MOUNTED = """
set -e
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
mount --rbind /sys "$0/sys"
chroot "$0" "$@"
"""  # no exec: process 1 has to be one that waits for whatever is orphaned


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def settings_of_apt() -> str:
    """Proxies, certificates and checks, as apt here has them."""
    lines = output("apt-config", "dump", "Acquire").splitlines(keepends=True)
    return "".join(line for line in lines if "::IndexTargets" not in line)


def environment() -> dict[str, str]:
    passed = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name)}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    own = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    return {**passed, **own, "RUNLEVEL": "1"}  # 1: packages start no service


def run_in(release: Path, *command: str) -> int:
    """The exit status of a command in the release."""
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    namespaces = [need("unshare", "util-linux"), *namespaces]
    inside = ["sh", "-c", MOUNTED, str(release), *command]
    return subprocess.run([*namespaces, *inside], env=environment()).returncode


def make_release(suite: str) -> Path:
    """The directory of a release, made if there is none yet."""
    release = RELEASES / suite
    done = RELEASES / f"{suite}.done"
    if not done.exists():
        debootstrap = need("debootstrap", "debootstrap")
        shutil.rmtree(release, ignore_errors=True)
        release.mkdir(parents=True)
        subprocess.run(
            [debootstrap, "--variant=minbase", suite, str(release), mirror()], check=True
        )
        (release / "etc/apt/apt.conf.d/90machine").write_text(settings_of_apt(), encoding="utf-8")
        copy_settings(release)
        if run_in(release, "apt-get", "update", "-qq"):
            raise SystemExit("debian: apt-get update has failed in the new release")
        done.touch()
    copy_settings(release)
    return release


def copy_settings(release: Path) -> None:
    for name in COPIED:
        source, target = Path(name), release / name[1:]
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def install(release: Path, python: str) -> None:
    wanted = [name.format(python) for name in (*PACKAGES, *PACKAGES_FOR_MORE_TESTS)]
    quiet = ("-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0")
    if run_in(release, "apt-get", "install", *quiet, *wanted):
        raise SystemExit(f"debian: cannot install {' '.join(wanted)}")
    copy_settings(release)  # ca-certificates has written its own


def copy_checkout(release: Path, directory: str) -> None:
    """Brings the copy to the state of this checkout; what was built there is kept."""
    listed = output(
        "git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"
    )
    names = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    target, list_of_names = release / directory[1:], release / f"{directory[1:]}.copied"
    target.mkdir(parents=True, exist_ok=True)
    if list_of_names.exists():
        for gone in set(list_of_names.read_text(encoding="utf-8").split("\0")) - names:
            (target / gone).unlink(missing_ok=True)
    list_of_names.write_text("\0".join(sorted(names)), encoding="utf-8")
    for name in names:
        old, new = ROOT / name, target / name
        if not new.exists() or new.stat().st_mtime_ns != old.stat().st_mtime_ns:
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(old, new)
    # Some tests ask git for the list of files.
    run_in(release, "sh", "-c", f"cd {directory} && git init -q && git add -A")


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs make in a release of Debian.")
    parser.add_argument("suite", help="the release, as Debian names it: sid, trixie")
    parser.add_argument("python", help="the Python's command and package: python3.15")
    parser.add_argument("targets", nargs="*", default=["test"], help="what to make")
    options = parser.parse_args()
    if os.geteuid():
        raise SystemExit("debian: only root may mount and chroot")
    release = make_release(options.suite)
    install(release, options.python)
    # A directory for each Python: make keeps what it has built for one.
    directory = f"/aiopoll-{options.python}"
    copy_checkout(release, directory)
    return run_in(release, "make", "-C", directory, f"PYTHON={options.python}", *options.targets)


if __name__ == "__main__":
    sys.exit(main())
