"""apt with lists of its own: packages and sources of any release of Debian, for any machine.

Facts.  apt takes each of its directories as an option, and needs no root where those are its
user's.  With an empty status file nothing counts as installed, so that all that a package depends
on is downloaded too.
Rule.  Everything comes from the mirror that apt has here, by its settings of here, with Debian's
signatures checked.  The lists are downloaded once.
Why.  Nothing that this machine's apt knows is changed.
Cost.  Each release's lists are 50 MiB.
"""

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ARCHIVES = (".bz2", ".gz", ".xz")
RELEASES = ("bookworm", "trixie", "sid")
"""Where the sources of each Python are that the tools build."""


def mirror() -> str:
    """Where this machine's apt has Debian from."""
    command = ("apt-get", "indextargets", "--format", "$(ORIGIN)/$(LABEL) $(SITE)")
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    if site := re.search(r"^Debian/Debian (.*)$", found, re.MULTILINE):
        return site[1]
    raise SystemExit("apt knows no mirror of Debian: apt-get update")


class Apt:
    """A state of apt in a directory: of `releases`, with "deb" or "deb-src" for `kind`."""

    def __init__(
        self, directory: Path, releases: tuple[str, ...], kind: str, machine: str | None = None
    ) -> None:
        self.directory = directory
        self.releases = releases
        self.kind = kind
        self.options = {
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Dir::Cache": f"{directory}/cache",
            "Dir::Etc::SourceList": f"{directory}/sources.list",
            "Dir::Etc::SourceParts": "-",
            "Dir::State": f"{directory}/state",
            "Dir::State::Status": f"{directory}/status",
        }
        if machine is not None:
            self.options |= {"APT::Architecture": machine, "APT::Architectures": machine}

    def run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        """What apt-get or apt-cache prints; CalledProcessError where it fails."""
        self.update()
        return self.execute(program, *arguments, cwd=cwd)

    def execute(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        command = [program, *(f"-o{name}={value}" for name, value in self.options.items())]
        done = subprocess.run(
            [*command, *arguments], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    def update(self) -> None:
        """Downloads the lists, if there are none."""
        sources = self.directory / "sources.list"
        if sources.exists():
            return
        for name in ("cache/archives/partial", "state/lists/partial"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "status").touch()
        site = mirror()
        lines = [
            f"{self.kind} [signed-by={KEYRING}] {site} {release} main\n"
            for release in self.releases
        ]
        sources.write_text("".join(lines), encoding="utf-8")
        try:
            self.execute("apt-get", "update", "-qq", "--error-on=any")
        except BaseException:
            sources.unlink()
            raise

    def source(self, package: str) -> Path | None:
        """The original sources of `name` or `name/release`, unpacked once; None if it has none."""
        name = package.partition("/")[0]
        folder = self.directory / "sources" / name
        if folder.exists():
            return folder
        try:
            self.run("apt-cache", "showsrc", "--only-source", name)
        except subprocess.CalledProcessError:  # apt-cache has said what it lacks
            return None
        downloads = self.directory / "downloads"
        # A mirror may list a version that it has not yet, or no more: then another release's.
        others = [] if "/" in package else [f"{name}/{release}" for release in self.releases[::-1]]
        for wanted in (package, *others):
            shutil.rmtree(downloads, ignore_errors=True)
            downloads.mkdir()
            try:
                self.run("apt-get", "source", "-qq", "--download-only", wanted, cwd=downloads)
                break
            except subprocess.CalledProcessError:  # apt-get has said why
                if wanted == (package, *others)[-1]:
                    raise
        (archive,) = (path for path in downloads.glob("*.orig.tar.*") if path.suffix in ARCHIVES)
        with tarfile.open(archive) as tar:
            tar.extractall(downloads, filter="data")
        (found,) = (path for path in downloads.iterdir() if path.is_dir())
        folder.parent.mkdir(exist_ok=True)
        found.rename(folder)
        return folder
