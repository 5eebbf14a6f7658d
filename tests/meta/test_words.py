"""The words of tests/meta/words.toml are not used where they were given up."""

import re
import tomllib
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORDS: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "words.toml").read_text(encoding="utf-8")
)["word"]
TEXTS = (".py", ".pyi", ".pyx", ".pxd", ".h", ".md", ".toml")
PYTHON_PROSE = re.compile(r'"""(?:.|\n)*?"""|#[^\n]*')
C_PROSE = re.compile(r"/\*(?:.|\n)*?\*/")
CODE_IN_PAGE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def blank(text: str) -> str:
    """The same number of lines, all blank."""
    return re.sub(r"[^\n]", " ", text)


@cache
def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def prose(path: Path) -> str:
    """Comments and docstrings, or a page without its code, each at its place."""
    text = read(path)
    if path.suffix == ".md":
        return CODE_IN_PAGE.sub(lambda match: blank(match[0]), text)
    kept = C_PROSE if path.suffix == ".h" else PYTHON_PROSE
    end, parts = 0, []
    for match in kept.finditer(text):
        line_start = text.rfind("\n", 0, match.start()) + 1
        if match[0][0] == '"' and text[line_start : match.start()].strip() not in ("", "r"):
            continue  # the value of an expression: a program, a text
        parts += [blank(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join(parts)


@cache
def files_of(glob: str) -> list[Path]:
    return [
        path
        for path in ROOT.glob(glob + "/*" if glob.endswith("**") else glob)
        if path.suffix in TEXTS
        and not {".git", "build", "dist", "node_modules"} & set(path.relative_to(ROOT).parts)
        and not any(
            part.startswith(".venv") or part.endswith("_cache")
            for part in path.relative_to(ROOT).parts
        )
    ]


def uses(word: dict[str, Any]) -> list[str]:
    pattern = re.compile(word["pattern"])
    found = []
    for path in sorted({path for glob in word["scope"] for path in files_of(glob)}):
        name = str(path.relative_to(ROOT))
        if any(fnmatch(name, glob) for glob in word.get("except", [])):
            continue
        text = prose(path) if word.get("prose") else read(path)
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{name}:{line}: {match[0]!r}: say {word['instead']}")
    return found


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word["pattern"])
def test_word_that_was_given_up_is_not_used(word: dict[str, Any]) -> None:
    assert set(word) <= {"pattern", "scope", "instead", "prose", "except"}
    assert all(files_of(glob) for glob in word["scope"]), "a scope has no file"
    found = uses(word)
    assert not found, "\n" + "\n".join(found)


def test_prose_is_separated_from_code(tmp_path: Path) -> None:
    path = tmp_path / "module.pyx"
    path.write_text('"""It stands."""\nvalue = """code"""  # here\n', encoding="utf-8")
    assert prose(path).split() == ['"""It', 'stands."""', "#", "here"]
    assert prose(path).count("\n") == 1
