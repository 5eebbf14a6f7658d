"""Where a system call of AIO poll is refused, the message states the cause and the fix."""

import errno
import json
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.subprocess

CHECKS = str(Path(__file__).parent / "checks.py")
PROFILE = "io_destroy in the seccomp profile, as Docker's default profile does"


class Refusal(NamedTuple):
    filter_name: str
    code: int
    works: tuple[str, ...]
    """The system calls that probe() finds working."""
    words: tuple[str, ...]
    """Words that the reason must have: the cause and the fix."""


BEFORE_THE_FIRST_WAIT = [
    Refusal("io_setup=EPERM", errno.EPERM, (), ("seccomp filter forbids io_setup", PROFILE)),
    Refusal("io_setup=ENOSYS", errno.ENOSYS, (), ("no io_setup", "CONFIG_AIO", PROFILE)),
    Refusal("io_setup=EAGAIN", errno.EAGAIN, (), ("sysctl -w fs.aio-max-nr=",)),
    Refusal("io_submit=EINVAL", errno.EINVAL, ("setup",), ("POLL", "gVisor", PROFILE)),
    Refusal("io_submit=EPERM", errno.EPERM, ("setup",), ("forbids io_submit", PROFILE)),
    Refusal("io_submit=ENOSYS", errno.ENOSYS, ("setup",), ("no io_submit", PROFILE)),
    Refusal("io_cancel=EPERM", errno.EPERM, ("setup", "submit"), ("no io_cancel", PROFILE)),
    Refusal("io_cancel=ENOSYS", errno.ENOSYS, ("setup", "submit"), ("no io_cancel", PROFILE)),
]
"""Nothing that needs AIO poll can be made."""

IN_THE_FIRST_WAIT = [
    Refusal("io_getevents=EPERM", errno.EPERM, ("setup", "submit"), ("io_getevents: a", PROFILE)),
    Refusal("io_getevents=ENOSYS", errno.ENOSYS, ("setup", "submit"), ("not there in", PROFILE)),
]
"""A selector does not call io_getevents before it has to wait; then the OSError has the reason."""

ALL = BEFORE_THE_FIRST_WAIT + IN_THE_FIRST_WAIT


def ids(refusal: Refusal) -> str:
    return refusal.filter_name


@pytest.mark.parametrize("refusal", ALL, ids=ids)
def test_probe_reports_the_call_and_the_reason(check, refusal: Refusal):
    support = json.loads(check(refusal.filter_name, "probe"))
    assert not support["aio_poll"]
    assert support["errno"] == refusal.code
    working = tuple(name for name in ("setup", "submit", "cancel") if support[name])
    assert working == refusal.works
    for words in refusal.words:
        assert words in support["reason"]


@pytest.mark.parametrize("refusal", ALL, ids=ids)
def test_doctor_explains_and_exits_with_1(confined, refusal: Refusal):
    child = confined(refusal.filter_name, "-m", "aiopoll", "doctor")
    assert (child.returncode, child.stderr) == (1, "")
    assert child.stdout.startswith("AIO poll does not work here")
    text = " ".join(child.stdout.split())
    for words in refusal.words:
        assert words in text


@pytest.mark.parametrize("refusal", BEFORE_THE_FIRST_WAIT, ids=ids)
def test_makers_raise_the_reason_that_probe_gives(check, refusal: Refusal):
    answers = json.loads(check(refusal.filter_name, "refusals"))
    for name in ("require_aio_poll", "AioSelector", "EventLoop"):
        code, text = answers[name]
        assert code == refusal.code, name
        for words in refusal.words:
            assert words in text, name


@pytest.mark.parametrize("answer", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("name", ["io_getevents", "io_pgetevents"])
def test_reap_raises_with_the_reason(check, name: str, answer: str):
    code, text = json.loads(check(f"{name}={answer}", "reap_refused"))[name]
    assert code == getattr(errno, answer)
    assert text.startswith(f"{name}: ")
    assert PROFILE in text or "it came with Linux 4.18" in text


@pytest.mark.parametrize("refusal", IN_THE_FIRST_WAIT, ids=ids)
def test_require_aio_poll_asks_for_io_getevents_too(check, refusal: Refusal):
    code, text = json.loads(check(refusal.filter_name, "refusals"))["require_aio_poll"]
    assert code == refusal.code
    for words in refusal.words:
        assert words in text


@pytest.mark.parametrize("refusal", BEFORE_THE_FIRST_WAIT, ids=ids)
def test_default_backend_is_epoll_and_reports_the_reason(check, refusal: Refusal):
    assert check(refusal.filter_name, "falls_back") not in ("", "None\n")


def test_run_falls_back_to_epoll(confined):
    child = confined("io_setup=EPERM", "-m", "aiopoll", "run", CHECKS, "program")
    assert (child.returncode, child.stdout) == (0, "epoll\n"), child.stderr


def test_run_ends_with_the_reason_where_aio_is_forced(confined, monkeypatch):
    monkeypatch.setenv("AIOPOLL_BACKEND", "aio")
    child = confined("io_setup=EPERM", "-m", "aiopoll", "run", CHECKS, "program")
    assert child.returncode == 1
    [error] = [line for line in child.stderr.splitlines() if line.startswith("PermissionError: ")]
    assert "seccomp filter forbids io_setup" in error
    assert PROFILE in error
    assert "BaseEventLoop.__del__" not in child.stderr


def test_no_file_is_forgotten_without_room_anywhere(check):
    assert int(check("epoll_ctl:2:GE:100=ENOSPC", "no_room")) > 0


def test_without_room_for_its_wakeup_the_ring_has_all(check):
    check("epoll_ctl:2:GE:100=ENOSPC", "no_room_for_the_wakeup")


def test_loop_without_room_for_its_own_pipe_cannot_be_made(confined):
    """With asyncio's selector loop too: every file but connections is in the epoll set."""
    program = "import aiopoll; aiopoll.new_event_loop(backend='aio')"
    child = confined("epoll_ctl=ENOSPC", "-c", program)
    assert child.returncode == 1
    assert "OSError: [Errno 28] epoll_ctl" in child.stderr
