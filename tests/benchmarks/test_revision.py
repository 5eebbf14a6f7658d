"""A commit and the state of a checkout, copied and built: in a small clone."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.revision import CannotCompare

from benchmarks import revision


def built(one: revision.Revision, clone: Any, said: list[str]) -> Path:
    return revision.built(one, clone.path, said.append)


def test_commit_is_built_once_and_then_taken_again(clone: Any) -> None:
    said: list[str] = []
    first = revision.of_commit("HEAD", clone.path)
    source = built(first, clone, said)
    assert (source / "aiopoll" / "built").read_text() == "build_ext --inplace"
    assert source.is_relative_to(clone.path / "build" / "compare")
    assert built(first, clone, said) == source
    assert said == [f"building {first.description} …"]


def test_older_commit_has_its_own_sources_and_build(clone: Any) -> None:
    clone.write("src/aiopoll/new.py", "")
    clone.commit("new")
    old = built(revision.of_commit("HEAD~1", clone.path), clone, [])
    new = built(revision.of_commit("HEAD", clone.path), clone, [])
    assert old != new
    assert not (old / "aiopoll" / "new.py").exists()
    assert (new / "aiopoll" / "new.py").exists()


def test_commit_with_the_same_sources_has_the_same_build(clone: Any) -> None:
    first = built(revision.of_checkout(clone.path), clone, [])
    clone.write("README.md", "no input")
    clone.commit("prose")
    said: list[str] = []
    assert built(revision.of_checkout(clone.path), clone, said) == first
    clone.write("src/aiopoll/__init__.py", "")
    assert built(revision.of_checkout(clone.path), clone, said) != first
    clone.git("checkout", "--quiet", "--", ".")
    assert built(revision.of_checkout(clone.path), clone, said) == first
    assert len(said) == 1


def test_commit_description_has_its_short_and_given_name(clone: Any) -> None:
    commit = clone.git("rev-parse", "HEAD")
    assert revision.of_commit("HEAD", clone.path).description == f"{commit[:7]} (HEAD)"
    assert revision.of_commit(commit[:9], clone.path).description == commit[:7]


def test_clean_checkout_is_head_whatever_else_changed(clone: Any) -> None:
    clone.write("README.md", "changed")
    found = revision.of_checkout(clone.path)
    assert found.tree == clone.git("rev-parse", "HEAD")
    assert found.description == f"HEAD, {found.commit[:7]}"


def changed(clone: Any) -> None:
    clone.write("src/aiopoll/__init__.py", "changed = 1\n")


def added(clone: Any) -> None:
    clone.write("src/aiopoll/added.py", "")


def staged(clone: Any) -> None:
    clone.write("src/aiopoll/__init__.py", "staged = 1\n")
    clone.git("add", "--all")


def removed(clone: Any) -> None:
    (clone.path / "src" / "aiopoll" / "kept.py").unlink()


@pytest.mark.parametrize("change", [changed, added, staged, removed])
def test_changed_checkout_is_built_from_its_files(
    clone: Any, change: Callable[[Any], None]
) -> None:
    before = built(revision.of_checkout(clone.path), clone, [])
    change(clone)
    status, index = clone.git("status", "--porcelain"), clone.git("ls-files", "--stage")
    found = revision.of_checkout(clone.path)
    assert found.name == "checkout"
    assert "with changes in src/aiopoll/" in found.description
    source = built(found, clone, [])
    assert source != before
    there = {path.name: path.read_text() for path in (clone.path / "src/aiopoll").iterdir()}
    copied = {path.name: path.read_text() for path in (source / "aiopoll").iterdir()}
    del copied["built"]
    assert copied == there
    assert (clone.git("status", "--porcelain"), clone.git("ls-files", "--stage")) == (status, index)


def test_ignored_files_are_not_copied(clone: Any) -> None:
    clone.write(".gitignore", "*.so\nbuild/\n")
    clone.write("src/aiopoll/stale.so", "")
    changed(clone)
    source = built(revision.of_checkout(clone.path), clone, [])
    assert not (source / "aiopoll" / "stale.so").exists()


def test_many_changes_are_counted(clone: Any) -> None:
    for index in range(5):
        clone.write(f"src/aiopoll/m{index}.py", "")
    text = revision.of_checkout(clone.path).description
    assert text.endswith("src/aiopoll/m2.py and 2 more")


def test_failed_build_shows_its_last_lines_and_is_retried(clone: Any) -> None:
    lines = "".join(f"print('line {number}')\n" for number in range(40))
    clone.write("setup.py", f"{lines}raise SystemExit('gcc: no such header')\n")
    found = revision.of_checkout(clone.path)
    for _ in range(2):
        said: list[str] = []
        with pytest.raises(CannotCompare) as caught:
            built(found, clone, said)
        assert len(said) == 1
        text = str(caught.value)
        assert text.startswith(f"{found.description} does not build (status 1)")
        assert text.endswith("gcc: no such header")
        assert "line 39" in text
        assert "line 20" not in text
        assert list((clone.path / "build" / "compare").iterdir()) == []


def test_build_does_not_inherit_pythonpath(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.fspath(clone.path))
    clone.write("setup.py", "import os; raise SystemExit(repr(os.environ.get('PYTHONPATH')))\n")
    with pytest.raises(CannotCompare, match=r"None$"):
        built(revision.of_checkout(clone.path), clone, [])


def test_debug_build_has_a_copy_of_its_own(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIOPOLL_DEBUG", raising=False)
    found = revision.of_commit("HEAD", clone.path)
    plain = built(found, clone, [])
    monkeypatch.setenv("AIOPOLL_DEBUG", "1")
    assert built(found, clone, []) != plain


def test_unknown_revision_raises_with_the_remedy(clone: Any) -> None:
    for name in ("no-such", "--all", "-h", "", "HEAD:src"):
        with pytest.raises(CannotCompare, match=r"knows no commit '.*git log names them"):
            revision.of_commit(name, clone.path)


def test_folder_without_git_raises_that_it_needs_a_clone(tmp_path: Path) -> None:
    with pytest.raises(CannotCompare, match="no git checkout: --compare needs a clone"):
        revision.of_commit("HEAD", tmp_path)


def test_folder_inside_another_clone_is_none(clone: Any) -> None:
    with pytest.raises(CannotCompare, match="no git checkout"):
        revision.of_commit("HEAD", clone.path / "src")


def test_clone_that_git_will_not_read_shows_its_reason(clone: Any) -> None:
    (clone.path / ".git" / "HEAD").write_text("nonsense\n")
    with pytest.raises(CannotCompare, match="git rev-parse: fatal"):
        revision.of_commit("HEAD", clone.path)


def test_git_that_is_not_there_is_named(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(clone.path))
    with pytest.raises(CannotCompare, match="apt-get install git"):
        revision.of_commit("HEAD", clone.path)


def test_checkout_without_setup_py_is_not_built_by_another(clone: Any) -> None:
    (clone.path / "setup.py").unlink()
    with pytest.raises(CannotCompare, match=r"with changes in setup\.py has no setup\.py"):
        built(revision.of_checkout(clone.path), clone, [])


@pytest.mark.subprocess
def test_commit_without_the_package_is_named(clone: Any) -> None:
    subprocess.run(["rm", "-r", clone.path / "src"], check=True)
    clone.write("other", "")
    clone.commit("nothing of it is left")
    with pytest.raises(CannotCompare, match="has no src/aiopoll"):
        built(revision.of_commit("HEAD", clone.path), clone, [])
