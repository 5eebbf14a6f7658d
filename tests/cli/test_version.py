"""The version is one: of the package, the command, the alias of uvloop and the changelog."""

import re
import sys
from pathlib import Path

import pytest

import aiopoll
from aiopoll.cli import main

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_prints_the_packages_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"aiopoll {aiopoll.__version__}\n"


def test_the_changelog_begins_with_it() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == aiopoll.__version__


def test_the_alias_of_uvloop_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "uvloop", raising=False)
    try:
        assert aiopoll.alias_uvloop().__version__ == aiopoll.__version__
    finally:
        sys.modules.pop("uvloop", None)
