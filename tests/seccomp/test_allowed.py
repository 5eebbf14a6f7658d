"""In common sandboxes and containers, and without io_pgetevents, everything works."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

CHECKS = str(Path(__file__).parent / "checks.py")

PLACES = {
    "docker": True,
    "podman": False,
    "systemd": True,
    "io_pgetevents=ENOSYS": False,
    "docker in runc": True,
    "podman in crun": False,
}
"""By filter or container: whether io_pgetevents is there."""

CONTAINERS = [place for place in PLACES if " in " in place]


def test_assembler_compares_as_the_kernel(check):
    check("io_uring_setup=ENOSYS", "comparisons")


@pytest.mark.parametrize("place", [place for place in PLACES if "=" not in place])
def test_profile_is_in_force(check: Callable[[str, str], str], place: str):
    check(place, f"{place.split()[0]}_answers")


@pytest.mark.parametrize("place", CONTAINERS)
def test_container_is_closed(check: Callable[[str, str], str], place: str):
    check(place, "contained")


@pytest.mark.parametrize("name", ["context", "selector", "asyncio_program"])
@pytest.mark.parametrize("place", PLACES)
def test_works(check: Callable[[str, str], str], place: str, name: str):
    check(place, name)


@pytest.mark.parametrize("place", PLACES)
def test_loop_is_on_the_ring(check: Callable[[str, str], str], place: str):
    assert check(place, "loop_program") == "aio\n"


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_example_of_a_server_is_on_the_ring(check: Callable[[str, str], str], place: str):
    assert int(check(place, "server")) > 0


def test_reap_with_a_signal_mask_under_docker(check):
    check("docker", "pgetevents")


@pytest.mark.parametrize("place", PLACES)
def test_run_gives_the_program_our_loop(confined, place: str):
    child = confined(place, "-m", "aiopoll", "run", CHECKS, "program")
    assert (child.returncode, child.stdout, child.stderr) == (0, "aio\n", "")


@pytest.mark.parametrize("place", PLACES)
def test_probe(check: Callable[[str, str], str], place: str):
    support = json.loads(check(place, "probe"))
    assert support["pgetevents"] == PLACES[place]
    assert support["reason"] == ""
    assert support["errno"] == 0
    for name in ("aio_poll", "setup", "submit", "cancel", "user_ring"):
        assert support[name], name
    if support["pgetevents"]:
        assert support["limits"] == []
    else:
        [limit] = support["limits"]
        assert "All waits go through io_getevents" in limit


@pytest.mark.parametrize("place", PLACES)
def test_doctor_exits_with_0(confined, place: str):
    child = confined(place, "-m", "aiopoll", "doctor")
    assert (child.returncode, child.stderr) == (0, "")
    assert child.stdout.startswith("AIO poll works here")
    assert ("Note: " in child.stdout) != PLACES[place]
    child = confined(place, "-m", "aiopoll", "doctor", "--json")
    assert (child.returncode, child.stderr) == (0, "")
    assert json.loads(child.stdout)["pgetevents"] == PLACES[place]


def test_nothing_is_refused_under_docker(check):
    assert json.loads(check("docker", "refusals")) == {
        "require_aio_poll": None,
        "AioSelector": None,
        "EventLoop": None,
    }
