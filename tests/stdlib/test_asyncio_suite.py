"""CPython's own tests that take a loop, from the installed interpreter, on ours.

asyncio's contract is this suite.  Both backends run it, and so do the fallback paths: a context of
one slot, and a ring reaped by system call.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import IS_3_11_2

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

RUNNER = Path(__file__).with_name("run_cpython_tests.py")
SKIPS = Path(__file__).parents[1] / "skips.toml"

# The minimum of tests in the oldest supported Python: a group that lost its tests must not pass.
GROUPS = {"events": 70, "sock": 13, "sendfile": 20, "server": 1, "buffered": 1, "starttls": 11}


def has_cpythons_tests(module: str = "") -> bool:
    try:
        return importlib.util.find_spec(f"test.test_asyncio{module and '.'}{module}") is not None
    except ModuleNotFoundError:
        return False


# Modules that take their loops from asyncio.new_event_loop, which is ours then.
MODULES = {
    "test_context": 1,
    "test_futures": 150,
    "test_locks": 70,
    "test_pep492": 10,
    "test_queues": 40,
    "test_runners": 25,
    "test_server": 2,
    "test_sock_lowlevel": 39,
    "test_ssl": 20,
    "test_streams": 60,
    "test_subprocess": 80,
    "test_taskgroups": 30,
    "test_tasks": 800,
    "test_timeouts": 20 if IS_3_11_2 else 30,
    "test_waitfor": 15,
}
NEWER_MODULES = {
    "test_eager_task_factory": 30,
    "test_free_threading": 20,
    "test_graph": 20,
    "test_server_context": 12,
}
MODULES |= {module: least for module, least in NEWER_MODULES.items() if has_cpythons_tests(module)}

VARIANTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "aio": ({"backend": "aio"}, {}),
    "epoll": ({"backend": "epoll"}, {}),
    "one-slot": ({"backend": "aio", "nr_events": 1}, {}),
    "syscall-reap": ({"backend": "aio"}, {"AIOPOLL_USER_RING": "0"}),
}


needs_cpythons_tests = pytest.mark.skipif(
    not has_cpythons_tests(),
    reason="CPython's own tests: this interpreter ships none (Debian: libpython3-testsuite)",
)


def skipped() -> set[str]:
    """Tests that need not pass, as Class.test; skips.toml has the reasons."""
    skips = tomllib.loads(SKIPS.read_text(encoding="utf-8"))["skip"]
    return {skip["name"] for skip in skips if skip["where"] == "tests/stdlib"}


def run(group: str, options: dict[str, Any], environment: dict[str, str]) -> dict[str, str]:
    """The result of each test of a group; see run_cpython_tests.py."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(RUNNER), group, json.dumps(options)],
        env={**os.environ, **environment},
        timeout=240,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, str] = json.loads(done.stdout)["results"]
    return results


@needs_cpythons_tests
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("group", GROUPS)
def test_cpythons_tests_pass(group: str, variant: str) -> None:
    check(run(group, *VARIANTS[variant]), GROUPS[group])


@needs_cpythons_tests
@pytest.mark.parametrize("module", MODULES)
def test_cpythons_modules_pass(module: str) -> None:
    check(run(module, {}, {}), MODULES[module])


@needs_cpythons_tests
@pytest.mark.parametrize("stock", [False, True], ids=["our-loop", "asyncios-loop"])
@pytest.mark.parametrize("module", ["test_streams", "test_subprocess"])
def test_cpythons_stream_tests_pass_with_our_streams(module: str, stock: bool) -> None:
    check(run(module, {"streams": True, "stock": stock}, {}), MODULES[module])


@needs_cpythons_tests
@pytest.mark.parametrize("stock", [False, True], ids=["our-loop", "asyncios-loop"])
@pytest.mark.parametrize("module", ["test_ssl", "test_sslproto"])
def test_cpythons_tls_tests_pass_with_our_protocol(module: str, stock: bool) -> None:
    check(run(module, {"tls": True, "stock": stock}, {}), 20)


def check(results: dict[str, str], at_least: int) -> None:
    assert len(results) >= at_least
    exempt = skipped()
    failed = {
        name: result
        for name, result in results.items()
        if result not in ("ok", "skipped") and name not in exempt
    }
    assert not failed, "\n\n".join(f"{name}:\n{result}" for name, result in failed.items())
