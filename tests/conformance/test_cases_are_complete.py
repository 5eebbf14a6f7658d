"""Every case of libaio's harness and every LTP test has its file, every gap its test."""

import re
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
# 0 and 1 test the harness itself; there is no 9.
LIBAIO_CASES = {*range(2, 24)} - {9}
LTP_TESTS = {
    *("io_setup01", "io_setup02", "io_destroy01", "io_destroy02"),
    *("io_submit01", "io_submit02", "io_submit03", "io_submit04"),
    *("io_getevents01", "io_getevents02", "io_pgetevents01", "io_pgetevents02"),
    *("io_cancel01", "io_cancel02"),
}


def test_libaio_cases() -> None:
    found = [int(path.name.split("_")[2]) for path in HERE.glob("libaio/test_case_*.py")]
    assert sorted(found) == sorted(LIBAIO_CASES)


def test_ltp_tests() -> None:
    found = {path.stem.removeprefix("test_") for path in HERE.glob("ltp/test_*.py")}
    assert found == LTP_TESTS


def test_every_case_runs_on_both_kernels() -> None:
    """The fixtures run a test on both; `skip_reason` fails on the in-process one."""
    for path in HERE.glob("l*/test_*.py"):
        source = path.read_text(encoding="utf-8")
        assert re.search(r"def test_\w+\([^)]*\b(machine|attempt)\b", source), path.name


def test_every_skip_reason_is_read_by_a_test() -> None:
    text = (HERE.parent / "skips.toml").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("l*/test_*.py"))
    for entry in tomllib.loads(text)["skip"]:
        if entry["where"] == "conformance":
            assert f'skip_reason("{entry["name"]}")' in sources
