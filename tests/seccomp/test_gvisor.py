"""In gVisor, whose AIO has no POLL: the loop is on epoll, and files are on gVisor's AIO."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

CHECKS = str(Path(__file__).parent / "checks.py")
GVISOR = "docker in runsc"
REASON = "this is gVisor, whose AIO has no IOCB_CMD_POLL"


def test_probe_names_gvisor(check: Callable[[str, str], str]):
    support = json.loads(check(GVISOR, "probe"))
    assert REASON in support["reason"]
    assert (support["aio_poll"], support["setup"], support["submit"]) == (False, True, False)
    assert (support["pgetevents"], support["user_ring"]) == (False, False)


def test_doctor_names_gvisor(confined):
    child = confined(GVISOR, "-m", "aiopoll", "doctor")
    assert (child.returncode, child.stderr) == (1, "")
    assert REASON in " ".join(child.stdout.split())
    child = confined(GVISOR, "-m", "aiopoll", "doctor", "--json")
    assert (child.returncode, child.stderr) == (1, "")
    assert REASON in json.loads(child.stdout)["reason"]


def test_loop_is_on_epoll_and_gives_the_reason(check: Callable[[str, str], str]):
    assert REASON in check(GVISOR, "falls_back")


def test_makers_raise_the_reason(check: Callable[[str, str], str]):
    answers = json.loads(check(GVISOR, "refusals"))
    assert all(REASON in text for code, text in answers.values()), answers


def test_streams_and_subprocesses(check: Callable[[str, str], str]):
    assert check(GVISOR, "loop_program") == "epoll\n"


def test_run_gives_the_program_our_loop(confined):
    child = confined(GVISOR, "-m", "aiopoll", "run", CHECKS, "program")
    assert (child.returncode, child.stdout, child.stderr) == (0, "epoll\n", "")


def test_example_of_a_server(check: Callable[[str, str], str]):
    assert int(check(GVISOR, "server")) == 0


def test_files_are_on_the_ring(check: Callable[[str, str], str]):
    for counters in json.loads(check(GVISOR, "files")):
        assert (counters["aio_writes"], counters["aio_syncs"], counters["aio_reads"]) == (16, 1, 1)
