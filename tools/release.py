"""Walks the checklist of a release: `make release VERSION=0.2.0`.  Nothing is uploaded.

Rule.  The release is made in a clone of HEAD in build/release, which ends with a commit, a tag and
the files of dist/; the checkout stays as it is.  The first step that fails ends the walk, and names
the cause.  CONTRIBUTING.md lists the same steps.

Reason.  A rehearsal that differs from the release shows nothing: this is both.  Whoever publishes
pulls the commit and its tag, and uploads the files.
"""

import argparse
import ast
import datetime
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from packaging.version import InvalidVersion, Version
from tools.commands import output

ROOT = Path(__file__).resolve().parents[1]
INIT = Path("src", "aiopoll", "__init__.py")
NAMES = Path("tests", "packaging", "names")
# Variables that belong to this make and this checkout.
WITHOUT = ("PYTHON", "AIOPOLL", "MAKE", "MFLAGS", "VERSION")
SINCE = re.compile(r"Deprecated since (\d+)\.(\d+)")


class Release:
    """The steps in their order; the docstring of a step is its line in CONTRIBUTING.md."""

    def __init__(self, version: str, suites: list[str]) -> None:
        self.version = version
        self.suites = suites
        self.folder = ROOT / "build" / "release"
        self.clone = self.folder / "aiopoll"

    def checkout(self) -> str:
        """All is committed, the version is a new one, and `changes/` says what is new."""
        if changed := self.git(ROOT, "status", "--porcelain"):
            raise SystemExit(f"release: commit these, or put them aside:\n{changed}")
        try:
            wanted, current = Version(self.version), Version(version_of(ROOT))
        except InvalidVersion as error:
            raise SystemExit(f"release: {error}: give one such as 0.2.0") from None
        if wanted <= current:
            raise SystemExit(f"release: {wanted} does not come after {current}")
        if self.git(ROOT, "tag", "--list", self.tag):
            raise SystemExit(f"release: there is a tag {self.tag} already")
        if not (fragments := list((ROOT / "changes").glob("+*.md"))):
            raise SystemExit("release: changes/ has no fragment: nothing is new")
        return f"{current} → {wanted}, {len(fragments)} changes"

    def cloning(self) -> str:
        """A clone of HEAD, in which the rest happens."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.git(self.folder, "clone", "--quiet", str(ROOT), str(self.clone))
        return str(self.clone.relative_to(ROOT))

    def set_version(self) -> str:
        """`__version__` is set."""
        path = self.clone / INIT
        text, count = re.subn(
            r'(?m)^__version__ = ".*"$', f'__version__ = "{self.version}"', path.read_text("utf-8")
        )
        if count != 1:
            raise SystemExit(f"release: {INIT} has {count} lines that set __version__")
        path.write_text(text, encoding="utf-8")
        return str(INIT)

    def changelog(self) -> str:
        """The fragments of `changes/` become a dated section of `CHANGELOG.md`."""
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        command = ["-m", "towncrier", "build", "--yes", "--version", self.version, "--date", today]
        self.run(sys.executable, *command)
        return f"{self.section().count(chr(10) + '- ')} entries"

    def deprecations(self) -> str:
        """Deprecated names are in the changelog; those of two versions ago are to go."""
        found = deprecated_names(self.clone / "src" / "aiopoll")
        major, minor = Version(self.version).release[:2]
        for name, (since_major, since_minor) in found.items():
            if (since_major, since_minor + 2) <= (major, minor):
                raise SystemExit(f"release: {name} has warned for two versions: remove it")
            if (since_major, since_minor) == (major, minor) and name not in self.section():
                raise SystemExit(f"release: {name} needs a fragment +….deprecated.md")
        return ", ".join(found) or "none"

    def commit(self) -> str:
        """All of it, with the list of public names, is one commit."""
        self.run("make", "--silent", ".venv/.built")
        listed = self.run(".venv/bin/python", "-I", "tools/public_names.py")
        (self.clone / NAMES / f"{self.version}.txt").write_text(listed, encoding="utf-8")
        self.git(self.clone, "add", "--all")
        self.git(self.clone, "commit", "--quiet", "--message", f"release: {self.version}")
        return f"{listed.count(chr(10))} public names"

    def suite(self) -> str:
        """`make test` passes there on each supported Python."""
        results = []
        for python in self.suites:
            output = self.run("make", "test", f"PYTHON={python}")
            results.append(f"{python}: {re.findall('==== (.*) ====', output)[-1]}")
        return "; ".join(results) or "left out"

    def distributions(self) -> str:
        """`make wheels`: each wheel is checked, those for this machine are used."""
        self.run("make", "wheels")
        made = sorted(path.name for path in (self.clone / "dist").iterdir())
        if strangers := [name for name in made if f"-{self.version}" not in name]:
            raise SystemExit(f"release: {', '.join(strangers)} in dist is not {self.version}")
        return ", ".join(made)

    def upgrade(self) -> str:
        """The sdist and a wheel are installed; each has the names of every earlier version."""
        tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
        dist = self.clone / "dist"
        installed = [
            *dist.glob("*.tar.gz"),
            *dist.glob(f"*-{tag}-manylinux*_{os.uname().machine}.whl"),
        ]
        installed = [path for path in installed if "-symbols" not in path.name]
        lists = sorted(str(path) for path in (self.clone / NAMES).glob("*.txt"))
        for number, path in enumerate(installed):
            environment = self.folder / f"environment-{number}"
            python = str(environment / "bin" / "python")
            self.run(sys.executable, "-m", "venv", str(environment))
            self.run(python, "-m", "pip", "install", "--quiet", str(path))
            self.run(python, "-I", "tools/public_names.py", "--check", *lists)
            smoke = self.clone / "tests" / "packaging" / "smoke.py"
            # It leaves a file where it runs.
            output(python, "-I", str(smoke), cwd=environment, without=WITHOUT)
        return f"{', '.join(path.name for path in installed)} with {len(lists)} lists of names"

    def tagging(self) -> str:
        """The commit gets an annotated tag."""
        if changed := self.git(self.clone, "status", "--porcelain"):
            raise SystemExit(f"release: the steps before left changes:\n{changed}")
        message = f"aiopoll {self.version}"
        self.git(self.clone, "tag", "--annotate", "--message", message, self.tag)
        return self.tag

    steps: ClassVar[tuple[Callable[["Release"], str], ...]] = (
        checkout,
        cloning,
        set_version,
        changelog,
        deprecations,
        commit,
        suite,
        distributions,
        upgrade,
        tagging,
    )

    @property
    def tag(self) -> str:
        return f"v{self.version}"

    def section(self) -> str:
        """What CHANGELOG.md says of this version."""
        text = (self.clone / "CHANGELOG.md").read_text(encoding="utf-8")
        found = re.search(
            rf"^## {re.escape(self.version)} .*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
        )
        if not found:
            raise SystemExit(f"release: CHANGELOG.md has no section for {self.version}")
        return found[0]

    def git(self, where: Path, *arguments: str) -> str:
        return output("git", *arguments, cwd=where, without=WITHOUT).strip()

    def run(self, *command: str) -> str:
        """The output of a command in the clone."""
        return output(*command, cwd=self.clone, without=WITHOUT)


def version_of(checkout: Path) -> str:
    found = re.search(r'(?m)^__version__ = "(.*)"$', (checkout / INIT).read_text("utf-8"))
    if not found:
        raise SystemExit(f"release: {INIT} has no line that sets __version__")
    return found[1]


def deprecated_names(package: Path) -> dict[str, tuple[int, int]]:
    """Names whose docstring says `Deprecated since X.Y`, and that version."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        owners = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                since = SINCE.match(ast.get_docstring(node) or "")
                owner = owners[node]
                prefix = f"{owner.name}." if isinstance(owner, ast.ClassDef) else ""
                if since:
                    found[prefix + node.name] = (int(since[1]), int(since[2]))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("version", help="such as 0.2.0")
    parser.add_argument(
        "--suite",
        nargs="*",
        metavar="PYTHON",
        default=["python3"],
        help="interpreters whose suites run; default: python3",
    )
    arguments = parser.parse_args()
    release = Release(arguments.version, arguments.suite)
    for number, step in enumerate(Release.steps, start=1):
        print(f"{number:2}/{len(Release.steps)}  {step.__doc__}", flush=True)
        print(f"       {step(release)}", flush=True)
    print(f"Publish: git pull {release.clone} --tags; git push --follow-tags; upload its dist/.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
