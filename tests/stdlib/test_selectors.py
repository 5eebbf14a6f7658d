"""CPython's own selector tests, from the installed interpreter, on AioSelector."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.loops import IS_3_11_2

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

PROGRAM = """
import unittest
from test import test_selectors
from aiopoll import AioSelector

class AioSelectorTestCase(
    test_selectors.BaseSelectorTestCase, test_selectors.ScalableSelectorMixIn, unittest.TestCase
):
    SELECTOR = AioSelector

unittest.main(argv=["test_selectors", "AioSelectorTestCase"], verbosity=2)
"""


def has_cpythons_tests() -> bool:
    try:
        return importlib.util.find_spec("test.test_selectors") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.skipif(
    not has_cpythons_tests(),
    reason="CPython's own tests: this interpreter ships none (Debian: libpython3-testsuite)",
)
@pytest.mark.parametrize("user_ring", ["1", "0"], ids=["ring-reap", "syscall-reap"])
def test_cpythons_selector_tests(
    user_ring: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOPOLL_USER_RING", user_ring)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=tmp_path,
        timeout=240,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert ("test_select" if IS_3_11_2 else "test_select_read_write") in done.stderr
    assert "\nOK" in done.stderr
