"""Case 20: fs.aio-nr counts the events asked of io_setup, and drops them at exit.

libaio's harness takes all that fs.aio-max-nr allows.  The number is the whole machine's, so this
test takes some thousands, and tolerates changes by other programs.
"""

import errno
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

CONTEXTS = {1: 32, 16: 16, 256: 8, 2048: 2}  # maxevents: how many contexts
TAKEN = sum(maxevents * nr for maxevents, nr in CONTEXTS.items())


def test_accounting(machine, tmp_path: Path) -> None:
    during = tmp_path / "aio-nr"

    def body() -> None:
        taken = 0
        contexts = []
        for maxevents, nr in CONTEXTS.items():
            for _ in range(nr):
                ctx = machine.new_context()
                result = machine.io_setup(maxevents, ctx)
                left = machine.sysctl("aio-max-nr") - machine.sysctl("aio-nr")
                if result == -errno.EAGAIN and left < TAKEN:
                    continue  # other programs hold too many
                assert result == 0
                contexts.append(ctx)
                taken += maxevents
        assert machine.sysctl("aio-nr") >= taken
        during.write_text(f"{machine.sysctl('aio-nr')} {taken}")
        # Exit destroys them all at once, where io_destroy would take its time for each.

    machine.in_child(body)
    aio_nr, taken = map(int, during.read_text().split())
    # The half is for other programs; a leak would keep all of it.  One of them may hold as much for
    # a moment, and no event reports a change of the number: so the test reads it again.
    deadline = time.monotonic() + 30
    while machine.sysctl("aio-nr") > aio_nr - taken // 2:
        assert time.monotonic() < deadline, "fs.aio-nr did not come back"
        time.sleep(0.01)
