"""Installs the wheel and the sdist in a new Debian, as its user does: `make test-install`.

Rule.  build/fresh/SUITE is made anew each time.  The wheel is installed where there is neither a
compiler nor a header; then come the packages that README.md names, and the sdist is installed, and
`make run` serves a page in it.  After each installation the README's example runs.
Cost.  Root, and some five minutes.
"""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

from tools import debian

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
APT = "apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0"
SERVED = """
import re, sys, time, urllib.request
deadline = time.monotonic() + 600  # for what make installs and builds first
while True:
    found = re.search(r"http://[\\d.:]+", open("/run.log").read())
    if found:
        break
    assert time.monotonic() < deadline, open("/run.log").read()
    time.sleep(0.2)
for path, expected in (("/", "<h1>aiopoll</h1>"), ("/stats", '"EventLoop"')):
    page = urllib.request.urlopen(found[0] + path, timeout=60).read().decode()
    assert expected in page, page
print("make run:", found[0], page)
"""


def example_and_packages() -> tuple[str, str]:
    """The program of README.md, and the packages that it asks for."""
    program = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    packages = re.search(r"`apt-get install ([^`]*)`", README)
    assert program
    assert packages
    return program[1], packages[1]


class Release:
    """A new Debian, and what is done in it; SystemExit where a step fails."""

    def __init__(self, suite: str) -> None:
        debian.RELEASES = ROOT / "build" / "fresh"
        shutil.rmtree(debian.RELEASES / suite, ignore_errors=True)
        (debian.RELEASES / f"{suite}.done").unlink(missing_ok=True)
        self.root = debian.make_release(suite)
        self.suite = suite

    def run(self, what: str, script: str) -> None:
        if status := debian.run_in(self.root, "bash", "-ec", script):
            raise SystemExit(f"fresh: {what} in {self.suite} ended with {status}")
        print(f"{self.suite}: {what}: passed", flush=True)

    def install(self, what: str, package: Path) -> None:
        """Installs a package in an environment of its own, and runs the README's example."""
        shutil.copy(package, self.root)
        self.run(
            f"pip install of {package.name}",
            f"cd /; python3 -m venv /{what}; /{what}/bin/pip install -q /{package.name}",
        )
        self.run(
            f"the example of README.md with the {what}",
            f"""test "$(/{what}/bin/python -I -W error /example.py 2>&1)" = "b'hello, ring\\n'" """,
        )


def newest(folder: Path, pattern: str) -> Path:
    """The last of the files of a pattern; SystemExit if there are none."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise SystemExit(f"fresh: no {pattern} in {folder}: make wheels")
    return found[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("suite", help="the release, as Debian names it: bookworm, trixie, sid")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="of `make wheels`")
    options = parser.parse_args()
    if os.geteuid():
        raise SystemExit("fresh: only root may mount and chroot")
    sdist = newest(options.dist, "aiopoll-*.tar.gz")
    program, packages = example_and_packages()

    release = Release(options.suite)
    (release.root / "example.py").write_text(program, encoding="utf-8")
    (release.root / "served.py").write_text(SERVED, encoding="utf-8")
    release.run("apt-get install python3-venv", f"{APT} python3-venv ca-certificates")
    debian.copy_settings(release.root)  # ca-certificates has written its own
    release.run("no compiler yet", "! command -v gcc make")
    version = os.readlink(release.root / "usr/bin/python3").removeprefix("python3.")
    platform = f"manylinux*_{os.uname().machine}"
    release.install("wheel", newest(options.dist, f"aiopoll-*-cp3{version}-*-{platform}.whl"))
    release.run(f"apt-get install {packages}", f"{APT} {packages}")
    release.install("sdist", sdist)
    release.run(
        "make run from the sdist",
        f"cd /; tar xf {sdist.name}; cd {sdist.name.removesuffix('.tar.gz')}; touch /run.log;"
        " PYTHONUNBUFFERED=1 make run PORT=0 >/run.log 2>&1 & site=$!;"
        " python3 /served.py; kill $site; wait $site || true; cat /run.log",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
