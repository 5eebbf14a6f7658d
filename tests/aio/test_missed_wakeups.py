"""Kernels whose AIO poll can miss a wake-up are detected, and no code relies on it there."""

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest

import aiopoll
from aiopoll.aio import missed_wakeups as module
from aiopoll.aio.missed_wakeups import is_mended, missed_in_trial, missed_wakeups, upstream_version
from aiopoll.cli.doctor import report

UBUNTU = "#101-Ubuntu SMP Fri Oct 15 20:00:55 UTC 2021"
DEBIAN = "#1 SMP Debian 5.10.{}-1 (2021-09-30)"
PLAIN = "#1 SMP PREEMPT_DYNAMIC"

KERNELS = [
    # The output of uname(2) and /proc/version_signature, the upstream version, and whether it has
    # the fix.
    ("6.18.44-fc", PLAIN, "", (6, 18, 44), True),
    ("5.16.0", PLAIN, "", (5, 16, 0), True),
    ("5.15.8", PLAIN, "", (5, 15, 8), True),
    ("5.15.7", PLAIN, "", (5, 15, 7), False),
    ("5.10.84-78.amzn2.x86_64", PLAIN, "", (5, 10, 84), False),
    ("5.10.85-78.amzn2.x86_64", PLAIN, "", (5, 10, 85), True),
    ("5.10.0-9-amd64", DEBIAN.format(70), "", (5, 10, 70), False),
    ("5.10.0-28-amd64", DEBIAN.format(209), "", (5, 10, 209), True),
    ("5.4.0-90-generic", UBUNTU, "Ubuntu 5.4.0-90.101-generic 5.4.148\n", (5, 4, 148), False),
    ("5.4.0-150-generic", UBUNTU, "Ubuntu 5.4.0-150.167-generic 5.4.233\n", (5, 4, 233), True),
    ("4.19.220", PLAIN, "", (4, 19, 220), False),
    ("4.19.221", PLAIN, "", (4, 19, 221), True),
    ("5.14.0-503.el9.x86_64", PLAIN, "", (5, 14, 0), None),
    ("4.18.0-553.el8.x86_64", PLAIN, "", (4, 18, 0), None),
    ("5.3.18-150300.59-default", PLAIN, "", (5, 3, 18), None),
    ("5.15.0", PLAIN, "", (5, 15, 0), None),
    ("4.4.0", PLAIN, "", (4, 4, 0), True),  # gVisor; there is no AIO poll
    ("next", PLAIN, "", None, True),
]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def use(release: str, version: str, signature: str) -> None:
        names = ("Linux", "host", release, version, "x86_64")
        monkeypatch.setattr(os, "uname", lambda: os.uname_result(names))
        monkeypatch.setattr(module, "_signature", lambda: signature)
        missed_wakeups.cache_clear()

    yield use
    monkeypatch.undo()
    missed_wakeups.cache_clear()


@pytest.mark.parametrize(("release", "version", "signature", "upstream", "mended"), KERNELS)
def test_kernel_is_judged_by_its_version(
    release: str,
    version: str,
    signature: str,
    upstream: tuple[int, int, int] | None,
    mended: bool | None,
) -> None:
    assert upstream_version(release, version, signature) == upstream
    if upstream is not None:
        assert is_mended(upstream) is mended


@pytest.mark.parametrize("missed", [False, True])
@pytest.mark.parametrize(("release", "version", "signature", "upstream", "mended"), KERNELS)
def test_trial_decides_where_the_version_does_not(
    release: str,
    version: str,
    signature: str,
    upstream: tuple[int, int, int] | None,
    mended: bool | None,
    missed: bool,
    kernel: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trials: list[bool] = []

    def trial() -> bool:
        trials.append(missed)
        return missed

    monkeypatch.setattr(module, "missed_in_trial", trial)
    kernel(release, version, signature)
    reason = missed_wakeups()
    assert bool(reason) is (missed if mended is None else not mended)
    assert trials == ([missed] if mended is None else [])
    if reason:
        assert f"kernel {release} can miss a wake-up" in reason
    assert missed_wakeups() == reason
    assert len(trials) <= 1


def test_trial_that_fails_reports_no_missed_wakeup(
    kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial() -> bool:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(module, "missed_in_trial", trial)
    kernel("5.14.0-503.el9.x86_64", PLAIN, "")
    assert missed_wakeups() == ""


def test_this_kernel_misses_nothing() -> None:
    descriptors = os.listdir("/proc/self/fd")
    assert missed_in_trial() is False
    assert os.listdir("/proc/self/fd") == descriptors


def test_trial_detects_a_missed_wakeup(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        """A Context that loses each event for good, as far as its user can see."""

        def __init__(self, nr_events: int) -> None:
            self.context = aiopoll.Context(nr_events)

        def __enter__(self) -> "Missing":
            return self

        def __exit__(self, *args: object) -> None:
            self.context.close()

        def submit(self, requests: list[Any]) -> None:
            self.context.submit(requests)

        def reap(self, *args: Any, **options: Any) -> list[Any]:
            return []

        def cancel(self, request: Any) -> None:
            cancelled.append(request)

    cancelled: list[Any] = []
    monkeypatch.setattr(module, "Context", Missing)
    monkeypatch.setattr(module, "MISSED_SECONDS", 0.001)
    assert missed_in_trial() is True
    assert len(cancelled) == 1


def test_a_sandbox_without_splice_does_not_hang_the_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def splice(*args: Any) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "splice", splice)
    monkeypatch.setattr(module, "TRIAL_SECONDS", 0.05)
    assert missed_in_trial() is False


def test_nothing_relies_on_such_a_kernel(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIOPOLL_BACKEND", raising=False)
    kernel("5.15.7", PLAIN, "")
    loop = aiopoll.new_event_loop()
    loop.close()
    assert loop.backend == "epoll"
    assert "can miss a wake-up, by its version" in str(loop.backend_reason)
    for make in (lambda: aiopoll.new_event_loop(backend="aio"), aiopoll.AioSelector):
        with pytest.raises(OSError, match="can miss a wake-up") as caught:
            make()
        assert caught.value.errno == errno.EOPNOTSUPP
    support = aiopoll.probe()
    assert (support.aio_poll, support.submit, support.cancel) == (False, True, True)
    assert support.errno == errno.EOPNOTSUPP
    assert "AIO poll does not work here (kernel 5.15.7)" in report(support)
    assert "5.10.85" in report(support)
