"""Under the filters of common sandboxes, and without io_pgetevents, everything works."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

CHECKS = str(Path(__file__).parent / "checks.py")

FILTERS = {
    "docker": True,
    "io_pgetevents=EPERM,io_uring_setup=ENOSYS": False,  # Podman's results
    "io_pgetevents=ENOSYS": False,
}
"""By filter: whether io_pgetevents is there."""


def test_assembler_compares_as_the_kernel(check):
    check("io_uring_setup=ENOSYS", "comparisons")


def test_docker_profile_is_in_force(check):
    check("docker", "docker_answers")


@pytest.mark.parametrize("name", ["context", "selector", "asyncio_program"])
@pytest.mark.parametrize("filter_name", FILTERS)
def test_works(check: Callable[[str, str], str], filter_name: str, name: str):
    check(filter_name, name)


def test_reap_with_a_signal_mask_under_docker(check):
    check("docker", "pgetevents")


@pytest.mark.parametrize("filter_name", FILTERS)
def test_run_gives_the_program_our_loop(confined, filter_name: str):
    child = confined(filter_name, "-m", "aiopoll", "run", CHECKS, "program")
    assert (child.returncode, child.stdout, child.stderr) == (0, "aio\n", "")


@pytest.mark.parametrize("filter_name", FILTERS)
def test_probe(check: Callable[[str, str], str], filter_name: str):
    support = json.loads(check(filter_name, "probe"))
    assert support["pgetevents"] == FILTERS[filter_name]
    assert support["reason"] == ""
    assert support["errno"] == 0
    for name in ("aio_poll", "setup", "submit", "cancel", "user_ring"):
        assert support[name], name
    if support["pgetevents"]:
        assert support["limits"] == []
    else:
        [limit] = support["limits"]
        assert "All waits go through io_getevents" in limit


@pytest.mark.parametrize("filter_name", FILTERS)
def test_doctor_exits_with_0(confined, filter_name: str):
    child = confined(filter_name, "-m", "aiopoll", "doctor")
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout.startswith("AIO poll works here")
    assert ("Note: " in child.stdout) != FILTERS[filter_name]


def test_nothing_is_refused_under_docker(check):
    assert json.loads(check("docker", "refusals")) == {
        "require_aio_poll": None,
        "AioSelector": None,
        "EventLoop": None,
    }
