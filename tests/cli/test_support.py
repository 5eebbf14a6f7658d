"""aiopoll.probe: its findings on this machine, and no resources left behind."""

import dataclasses
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.descriptors import rings

import aiopoll
from aiopoll import Context, Support
from aiopoll.aio import errors
from aiopoll.support import require_aio_poll

PROC_FS = Path("/proc/sys/fs")


def open_fds() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_everything_works_on_this_kernel():
    support = aiopoll.probe()
    assert support.aio_poll
    assert (support.setup, support.submit, support.cancel) == (True, True, True)
    assert (support.pgetevents, support.user_ring) == (True, True)
    assert (support.reason, support.errno, support.limits) == ("", 0, ())
    assert support.kernel == os.uname().release


def test_numbers_are_those_of_proc():
    support = aiopoll.probe()
    assert support.aio_max_nr == int((PROC_FS / "aio-max-nr").read_text(encoding="ascii"))
    assert support.aio_nr is not None
    assert 0 <= support.aio_nr <= support.aio_max_nr


def test_aio_nr_is_counted_before_the_probe_takes_its_slot():
    # Other processes come and go: only the contexts held here are certain to be counted.
    with Context(1000):
        support = aiopoll.probe()
    assert support.aio_nr is not None
    assert support.aio_nr >= 1000


def test_support_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        aiopoll.probe().aio_poll = False  # type: ignore[misc]


def test_kinds_of_files():
    files = {file.kind: file.polls for file in aiopoll.probe().files}
    assert files == {
        "pipe": True,
        "FIFO opened O_RDWR": False,
        "socket (UNIX)": True,
        "socket (UDP)": True,
        "eventfd": True,
        "epoll set": True,
        "pidfd": True,
        "terminal": False,
        "terminal, master side": False,
        "regular file": True,
        "/dev/null": True,
        "signalfd": None,
    }


def test_refused_names_the_kinds_that_refuse_poll():
    assert aiopoll.probe().refused == ("FIFO opened O_RDWR", "terminal", "terminal, master side")


def test_signalfd_is_noted_untested():
    [signalfd] = [file for file in aiopoll.probe().files if file.kind == "signalfd"]
    assert "never completes" in signalfd.note


def test_leaks_neither_descriptors_nor_contexts():
    before = open_fds(), rings()
    for _ in range(3):
        aiopoll.probe()
        require_aio_poll()
    assert (open_fds(), rings()) == before


def test_rings_counts_contexts():
    before = rings()
    with Context(1):
        assert rings() == before + 1
    assert rings() == before


def test_in_a_thread():
    found: list[Support] = []
    thread = threading.Thread(target=lambda: found.append(aiopoll.probe()))
    thread.start()
    thread.join(60)
    assert [support.aio_poll for support in found] == [True]


@pytest.mark.subprocess
def test_in_a_child_after_fork():
    # In a process of its own: a fork of the test runner would carry its threads' locks along.
    program = """
import os, aiopoll
with aiopoll.Context(8) as context:
    assert aiopoll.probe().aio_poll
    pid = os.fork()
    if pid == 0:
        os._exit(0 if aiopoll.probe().aio_poll else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert context.submit([]) == 0
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_signals_do_not_disturb_it():
    seen: list[int] = []
    previous = signal.signal(signal.SIGALRM, lambda signum, frame: seen.append(signum))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        supports = [aiopoll.probe() for _ in range(3)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert all(support.aio_poll and support.pgetevents for support in supports)
    assert seen


def test_require_aio_poll_is_content_here():
    require_aio_poll()


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Lets this process open `count` more files."""
    lowest = [os.open("/dev/null", os.O_RDONLY) for _ in range(count + 1)]
    for fd in lowest:
        os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(lowest), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("count", [0, 1])
def test_without_a_descriptor_for_the_pipe(count: int):
    with descriptors_left(count):
        support = aiopoll.probe()
    assert (support.aio_poll, support.setup, support.submit) == (False, True, False)
    assert support.errno == errno.EMFILE
    assert support.reason == "there is no pipe to test AIO poll with: Too many open files"


def test_probe_without_free_descriptors_skips_the_files():
    # The pipe that the test begins with is closed by then: its two are there for the files.
    with descriptors_left(2):
        support = aiopoll.probe()
    assert support.aio_poll
    files = {file.kind: file for file in support.files}
    assert files["pipe"].polls is True
    assert files["FIFO opened O_RDWR"].polls is None
    assert "Too many open files" in files["FIFO opened O_RDWR"].note


@pytest.mark.subprocess
def test_unusable_ring_is_a_limit_only():
    # A ring is not read where valgrind's preloaded library is named, for one.
    program = (
        "import aiopoll, dataclasses, json;print(json.dumps(dataclasses.asdict(aiopoll.probe())))"
    )
    preload = os.environ.get("LD_PRELOAD", "") + " /nowhere/vgpreload_core.so"
    environment = os.environ | {"LD_PRELOAD": preload}
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the dynamic linker's complaint
        check=True,
        timeout=60,
    )
    support = json.loads(child.stdout)
    assert (support["aio_poll"], support["user_ring"]) == (True, False)
    assert support["limits"] == [errors.USER_RING_LIMIT]


def test_no_number_where_proc_has_none():
    assert errors.read_sysctl("no-such-number") is None


@pytest.mark.parametrize(
    ("nr_events", "max_nr", "taken", "words"),
    [
        (512, 65536, 65400, ["65400 of it are taken: ask for fewer than 512", "=131072"]),
        (1, 65536, 65536, ["close other contexts, or raise it", "=131072"]),
        (1, 0, 0, ["fs.aio-max-nr is 0", "=65536"]),
        (500_000, 65536, 1000, ["fewer than 500000", "=524288"]),
        (1, 65536, 10, ["there is room now: try again", "=131072"]),
        (1, None, None, ["sysctl -w fs.aio-max-nr=1048576"]),
    ],
)
def test_fix_for_aio_max_nr_names_a_value_that_makes_room(
    nr_events: int, max_nr: int | None, taken: int | None, words: list[str]
):
    text = errors.aio_max_nr_fix(nr_events, max_nr, taken)
    assert "sysctl -w fs.aio-max-nr=" in text
    for word in words:
        assert word in text
    if max_nr is not None and taken is not None:
        assert int(text.rpartition("=")[2]) >= max(max_nr + 1, taken + nr_events)


GVISOR_VERSION = "#1 SMP Sun Jan 10 15:06:54 PST 2016"


@pytest.mark.parametrize(
    ("release", "version", "words"),
    [
        ("4.18.0-80.el8", "", "has no IOCB_CMD_POLL: update to Linux 4.19 or later"),
        ("4.4.0", GVISOR_VERSION, "this is gVisor"),
        ("4.4.0", "#1 SMP", "has no IOCB_CMD_POLL: update to Linux 4.19 or later"),
        ("4.19.0-gvisor", GVISOR_VERSION, "this is gVisor"),
        ("6.1.0-gvisor", "#1 SMP", "this is gVisor"),
        ("", "", "has no IOCB_CMD_POLL"),
        ("4.19.0-6-amd64", "", "has IOCB_CMD_POLL, so a sandbox refuses it"),
        ("10.0", "", "has IOCB_CMD_POLL, so a sandbox refuses it"),
    ],
)
def test_einval_is_explained_by_the_kernel(release: str, version: str, words: str):
    assert words in errors.poll_refused_reason(errno.EINVAL, release, version)


@pytest.mark.parametrize(
    "explain",
    [
        lambda code: errors.poll_refused_reason(code, "6.1", ""),
        lambda code: errors.getevents_error(code, False).strerror,
        lambda code: errors.getevents_error(code, True).strerror,
    ],
)
def test_an_unexpected_errno_is_named(explain: Callable[[int], str]):
    assert os.strerror(errno.EXDEV) in explain(errno.EXDEV)


def test_a_lost_event_is_explained():
    text = errors.poll_lost_reason(2.0, "it was cancelled")
    assert "did not come within 2 s after it was cancelled" in text
