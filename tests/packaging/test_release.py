"""A release keeps earlier names and names its changes; its checklist is that of the script."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from tools import public_names, release

from aiopoll import ContextStatistics, ReactorStatistics, SelectorStatistics

ROOT = Path(__file__).parents[2]
LISTS = sorted((ROOT / "tests" / "packaging" / "names").glob("*.txt"))
KINDS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["towncrier"]["type"]


def test_there_are_lists_of_earlier_names() -> None:
    assert LISTS[0].stem == "0.1.0"


@pytest.mark.parametrize("earlier", LISTS, ids=lambda path: path.stem)
def test_every_earlier_name_is_there(earlier: Path) -> None:
    assert public_names.complaints(earlier) == []


@pytest.mark.parametrize(
    ("earlier", "today", "told"),
    [
        ("a.b", {}, "a.b is gone"),
        ("a.b(c, d)", {"a.b": ["d", "c"]}, "a.b takes ['d', 'c'] where it took ['c', 'd']"),
        ("a.b(c, d)", {"a.b": ["c"]}, "a.b takes ['c'] where it took ['c', 'd']"),
        ("a.b(c, *d)", {"a.b": ["c"]}, "a.b does not take *d"),
        ("a.b(c, **d)", {"a.b": ["c"]}, None),
        ("a.b(c, *d)", {"a.b": ["c", "d"]}, None),
        ("a.b(c, *d)", {"a.b": ["c", "e", "**f"]}, None),
        ("a.b", {"a.b": ["c"]}, None),
    ],
)
def test_what_a_program_would_miss_is_told(
    earlier: str, today: dict[str, list[str] | None], told: str | None
) -> None:
    assert public_names.complaint(earlier, today) == told


def test_lists_have_names_and_parameters() -> None:
    listed = set(public_names.public_names())
    assert "aiopoll.Context.close()" in listed
    assert "aiopoll.run(main, *debug, **loop_options)" in listed
    assert "aiopoll.ReactorStatistics.in_epoll" in listed


def test_deprecated_names_warn_and_give_what_they_gave() -> None:
    context = ContextStatistics(*[0] * len(ContextStatistics._fields))
    given = {
        ReactorStatistics("aio", watched=3, in_epoll=2, iterations=7, sleeps=1, wakes=0): {
            "nested": 2,
            "turns": 7,
        },
        SelectorStatistics(registered=5, stale=1, context=context): {
            "nested": 5,
            "refused": 0,
            "overflowed": 0,
        },
    }
    names = {
        f"{type(statistics).__name__}.{name}" for statistics in given for name in given[statistics]
    }
    assert set(release.deprecated_names(ROOT / "src" / "aiopoll")) == names
    for statistics, values in given.items():
        for name, value in values.items():
            with pytest.warns(DeprecationWarning, match=rf"\.{name} is deprecated since") as caught:
                assert getattr(statistics, name) == value
            assert caught[0].filename == __file__


def test_fragments_have_a_kind_and_are_sentences() -> None:
    kinds = {kind["directory"] for kind in KINDS}
    fragments = {path for path in (ROOT / "changes").iterdir() if path.name != "README.md"}
    for path in fragments:
        name = re.fullmatch(r"\+[a-z0-9-]+\.([a-z]+)\.md", path.name)
        assert name, f"{path.name}: +WORDS.KIND.md"
        assert name[1] in kinds, path.name
        assert path.read_text("utf-8").endswith(".\n"), f"{path.name} ends with a full stop"


def test_contributing_lists_the_steps_of_the_script() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Release")[2]
    assert re.findall(r"^\d+\. (.*)$", text, re.MULTILINE) == [
        step.__doc__ for step in release.Release.steps
    ]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that could be released as 0.2.0."""
    init = tmp_path / release.INIT
    init.parent.mkdir(parents=True)
    init.write_text('__version__ = "0.1.0"\n')
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes" / "+new.added.md").write_text("It is new.\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, timeout=60)
    monkeypatch.setattr(release, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.subprocess
def test_a_checkout_that_can_be_released(repository: Path) -> None:
    assert release.Release("0.2.0", []).checkout() == "0.1.0 → 0.2.0, 1 changes"


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("0.1.0", "0.1.0 does not come after 0.1.0"),
        ("0.1.0rc1", "does not come after"),
        ("two", "'two': give one such as 0.2.0"),
    ],
)
def test_a_version_that_is_not_new_is_refused(repository: Path, version: str, told: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(told)):
        release.Release(version, []).checkout()


@pytest.mark.subprocess
def test_what_is_not_committed_is_refused(repository: Path) -> None:
    (repository / "stray.txt").touch()
    with pytest.raises(SystemExit, match=r"commit these.*\n.*stray\.txt"):
        release.Release("0.2.0", []).checkout()


@pytest.mark.subprocess
def test_a_release_of_nothing_is_refused(repository: Path) -> None:
    subprocess.run(["git", "rm", "-q", "-r", "--cached", "changes"], cwd=repository, check=True)
    (repository / ".git" / "info" / "exclude").write_text("changes\n")
    (repository / "changes" / "+new.added.md").unlink()
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "none"],
        cwd=repository,
        check=True,
    )
    with pytest.raises(SystemExit, match="nothing is new"):
        release.Release("0.2.0", []).checkout()


@pytest.mark.subprocess
def test_a_tag_that_is_there_is_refused(repository: Path) -> None:
    subprocess.run(["git", "tag", "v0.2.0"], cwd=repository, check=True)
    with pytest.raises(SystemExit, match=r"tag v0\.2\.0 already"):
        release.Release("0.2.0", []).checkout()


def walk_with_a_deprecated_name(version: str, clone: Path) -> release.Release:
    walk = release.Release(version, [])
    walk.clone = clone
    package = clone / "src" / "aiopoll"
    package.mkdir(parents=True)
    (package / "old.py").write_text('def old():\n    """Deprecated since 0.2: `new`."""\n')
    return walk


def test_names_due_for_removal_stop_a_release(tmp_path: Path) -> None:
    walk = walk_with_a_deprecated_name("0.4.0", tmp_path)
    with pytest.raises(SystemExit, match="old has warned for two versions"):
        walk.deprecations()


def test_new_deprecations_are_told(tmp_path: Path) -> None:
    walk = walk_with_a_deprecated_name("0.2.0", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("## 0.2.0 (2026-01-01)\n\n- Nothing.\n")
    with pytest.raises(SystemExit, match="old needs a fragment"):
        walk.deprecations()
    (tmp_path / "CHANGELOG.md").write_text("## 0.2.0 (2026-01-01)\n\n- `old` is `new`.\n")
    assert walk.deprecations() == "old"
