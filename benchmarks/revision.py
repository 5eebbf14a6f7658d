"""The package as a commit has it, or as the checkout has it now, built in build/compare.

Both sides of a comparison are built alike, from a copy of the sources and by this interpreter. A
built copy stays, and is used again for the same sources.  Only the local git repository is needed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workload import ROOT

INPUTS = ("src", "setup.py", "pyproject.toml")
"""The inputs of the build: changes to anything else leave HEAD as the measured revision."""
LINES_SHOWN = 20


class CannotCompare(Exception):
    """A side is not available; the text states which, why, and what to do."""


@dataclass(frozen=True)
class Revision:
    name: str  # in a table: 79f0f1e, checkout
    description: str  # in a sentence
    tree: str  # what git archives: a commit or a tree
    commit: str


def _git(checkout: Path, *arguments: str, **environment: str) -> str:
    """The output of git.  Raises CannotCompare with its error message."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )
    except FileNotFoundError:
        raise CannotCompare("git is not there: apt-get install git") from None
    if done.returncode != 0:
        raise CannotCompare(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")


def _require_clone(checkout: Path) -> None:
    try:
        top = Path(_git(checkout, "rev-parse", "--show-toplevel"))
    except CannotCompare:
        if (checkout / ".git").exists():
            raise  # git refuses to read it, and prints the reason
        top = None
    if top is None or top.resolve() != checkout.resolve():
        raise CannotCompare(
            f"{checkout} is no git checkout: --compare needs a clone that has the revision"
        )


def of_commit(name: str, checkout: Path = ROOT) -> Revision:
    """The commit of that name in git."""
    _require_clone(checkout)
    try:
        commit = _git(checkout, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except CannotCompare:
        raise CannotCompare(
            f"git knows no commit {name!r} here; git log names them,"
            " and git fetch --unshallow gets those that a shallow clone lacks"
        ) from None
    short = commit[:7]
    same = commit.startswith(name) and len(name) >= 7
    return Revision(short, short if same else f"{short} ({name})", commit, commit)


def of_checkout(checkout: Path = ROOT) -> Revision:
    """HEAD, or the checkout's sources where they differ from it."""
    head = of_commit("HEAD", checkout)
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=all", "--", *INPUTS)
    if not changed:
        return Revision(head.name, f"HEAD, {head.name}", head.tree, head.commit)
    # With an index of its own, git makes a tree of the checkout, and the user's index is unchanged.
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
        _git(checkout, "read-tree", "HEAD", **index)
        _git(checkout, "add", "--update", **index)
        there = [name for name in INPUTS if (checkout / name).exists()]
        _git(checkout, "add", "--all", "--", *there, **index)
        tree = _git(checkout, "write-tree", **index)
    paths = [line[3:] for line in changed.splitlines()]
    listed = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    description = f"the checkout, {head.name} with changes in {listed}"
    return Revision("checkout", description, tree, head.commit)


def _build_command() -> list[str]:
    jobs = str(len(os.sched_getaffinity(0)))
    return [sys.executable, "setup.py", "build_ext", "--inplace", "-j", jobs]


def built(
    revision: Revision,
    checkout: Path = ROOT,
    say: Callable[[str], None] = print,
) -> Path:
    """The revision's `src`, to be put on the path; built where it is not yet.

    Raises CannotCompare with the end of the build's output.
    """
    # Another interpreter has another name there, and so does another build of the same.
    kind = "-debug" * (os.environ.get("AIOPOLL_DEBUG") == "1")
    kind += "-sanitize" * (os.environ.get("AIOPOLL_SANITIZE") == "1")
    folder = checkout / "build" / "compare"
    inputs = _git(checkout, "ls-tree", revision.tree, "--", *INPUTS)  # names and hashes
    key = hashlib.sha256(inputs.encode()).hexdigest()[:12]
    path = folder / f"{key}-{sysconfig.get_config_var('SOABI')}{kind}"
    if path.exists():
        return path / "src"
    folder.mkdir(parents=True, exist_ok=True)
    say(f"building {revision.description} …")
    unfinished = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=folder))
    try:
        _copy(revision, unfinished, checkout)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            _build_command(),
            cwd=unfinished,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            env=environment,
        )
        if done.returncode != 0:
            end = "\n".join(done.stdout.strip().splitlines()[-LINES_SHOWN:])
            raise CannotCompare(
                f"{revision.description} does not build (status {done.returncode}); its last"
                f" lines:\n{end}"
            )
        try:
            unfinished.rename(path)
        except OSError:
            if not path.exists():  # unless another process has built it meanwhile
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return path / "src"


def _copy(revision: Revision, folder: Path, checkout: Path) -> None:
    archive = folder.with_name(f"{folder.name}.tar")
    try:
        _git(checkout, "archive", "--format=tar", f"--output={archive}", revision.tree)
        subprocess.run(["tar", "-xf", str(archive), "-C", str(folder)], check=True)
    finally:
        archive.unlink(missing_ok=True)
    for needed in ("setup.py", "src/aiopoll"):
        if not (folder / needed).exists():
            raise CannotCompare(f"{revision.description} has no {needed}: it cannot be built")
