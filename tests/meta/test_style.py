"""Rules on the text of the sources."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES_MAX = 600
SOURCES = sorted(
    path
    for folder in ("src", "tests", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".pyi", ".pyx", ".pxd", ".h")
)
MACHINE_PATH = re.compile(r"""(?:^|[\s"'(=:`])/(?:work|root|home)/\w""")


REASONS = {"skip": ROOT / "tests" / "skips.toml", "limitation": ROOT / "docs" / "limitations.toml"}


def entries(kind: str) -> list[dict[str, object]]:
    found = tomllib.loads(REASONS[kind].read_text(encoding="utf-8"))[kind]
    assert isinstance(found, list)
    return found


def tracked_files() -> list[Path]:
    """The files that git tracks; all the sources where this is no clone."""
    result = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = [name for name in result.stdout.split("\0") if name]
    return [ROOT / name for name in names] if result.returncode == 0 and names else SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_is_longer_than_can_be_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX


@pytest.mark.subprocess
def test_no_file_names_a_path_of_one_machine() -> None:
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            assert not MACHINE_PATH.search(line), f"{path.relative_to(ROOT)}:{number}: {line}"


def test_kernel_facing_headers_open_with_facts_and_rule() -> None:
    for path in (ROOT / "src").rglob("*.h"):
        opening = path.read_text(encoding="utf-8").split("*/")[0]
        for word in ("Facts.", "Rule."):
            assert word in opening, f"{path.name} opens without its {word}"


@pytest.mark.parametrize("kind", REASONS)
def test_reasons_are_well_formed(kind: str) -> None:
    for entry in entries(kind):
        assert set(entry) == {"name", "where", "reason"}, entry
        for value in entry.values():
            assert isinstance(value, str), entry
            assert value.strip() == value != "", entry
    pairs = [(entry["name"], entry["where"]) for entry in entries(kind)]
    assert len(pairs) == len(set(pairs)), "an entry is there twice"


def test_every_skip_names_its_reason() -> None:
    names = {entry["name"] for entry in entries("skip")}
    for path in (ROOT / "tests").rglob("*.py"):
        for reason in re.findall(r'"skips\.toml: ([^"]+)"', path.read_text("utf-8")):
            assert reason in names, f"{path.relative_to(ROOT)}: {reason}"


LITERAL = re.compile(r"(?<![\w.])(?:0[xX][0-9A-Fa-f_]+|[0-9][0-9_]*)(?![\w.])")
DEFINITION = re.compile(r"^\s*(?:cdef \w+ )?[A-Z_0-9]+ = \w+(?:\s*#.*)?$")


def objects_of_c_expressions(text: str) -> list[str]:
    """The lines with a number that Cython computes with as an object: it may exceed a C int.

    In a definition it is one too, once.
    """
    return [
        line.strip()
        for line in text.splitlines()
        if not DEFINITION.match(line)
        and any(
            int(number, 16 if "x" in number.lower() else 10) > 0x7FFFFFFF
            for number in LITERAL.findall(line.partition("#")[0])
        )
    ]


@pytest.mark.parametrize(
    ("line", "is_object"),
    [
        ("    fd = <int>(data & 0xFFFFFFFF)", True),
        ("    fd = <int>(data & 4294967295)", True),
        ("    fd = <int>(data & 0xFFFFFFFFu)", False),
        ("    seconds = left // 1_000_000_000", False),
        ("    NO_REQUEST = 0xFFFFFFFF  # of none", False),
        ("cdef int64_t DRAIN_NS = 5000000000", False),
    ],
)
def test_numbers_beyond_a_c_int_are_found(line: str, is_object: bool) -> None:
    assert objects_of_c_expressions(line) == [line.strip()] * is_object


def test_c_expressions_compute_without_objects() -> None:
    for path in (ROOT / "src").rglob("*.pyx"):
        found = objects_of_c_expressions(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)}: a suffix (u, ull) is missing: {found}"
