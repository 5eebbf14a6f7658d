"""What goes wrong with the operations of a disk, and how long they take."""

import os

import pytest

from aiopoll.kernel.aio_abi import IOCB_CMD_PWRITE, RWF_APPEND, Iocb
from aiopoll.kernel.uapi import PAGE_SIZE
from aiopoll.sim.disk import DELAY_S, SLOW_S

from .disks import RW, Machine

ALWAYS = 1.0


@pytest.fixture
def n1():
    return Machine()


def test_after_a_failed_fsync_the_next_one_succeeds(n1):
    """And the data is lost all the same: the pages were marked clean."""
    n1.save("/f", b"old")
    n1.disk.faults(fsync_errors=0.1)
    fd = n1.write("/f", b"new")
    n1.draw("n1 fsync error", 1)
    with pytest.raises(OSError, match="Input/output"):
        n1.kernel.fsync(fd)
    n1.kernel.fsync(fd)
    assert n1.read("/f") == b"new"
    assert n1.disk.durable("/f") == b"old"
    assert n1.disk.effects == {"fsync error": 1}
    assert n1.seen == [("fsync error", "/f")]
    # What is written after the error is saved.
    n1.kernel.pwrite(fd, b"N", 0)
    n1.kernel.fsync(fd)
    n1.crash()
    assert n1.read("/f") == b"New"


def test_each_open_file_reports_a_failed_fsync_once(n1):
    n1.save("/f", b"old")
    n1.disk.faults(fsync_errors=0.1)
    one, two = n1.write("/f", b"new"), n1.kernel.open("/f", RW)
    n1.draw("n1 fsync error", 1)
    for fd in (one, two):
        with pytest.raises(OSError, match="Input/output"):
            n1.kernel.fsync(fd)
        n1.kernel.fsync(fd)
    # A file that was opened since has nothing to report.
    n1.kernel.fsync(n1.kernel.open("/f"))


def test_errors_of_writes_reads_and_closes(n1):
    n1.save("/f", b"data")
    fd = n1.kernel.open("/f", RW)
    n1.disk.faults(write_errors=0.5)
    n1.draw("n1 write error", 1)
    with pytest.raises(OSError, match="Input/output"):
        n1.kernel.write(fd, b"new")
    assert n1.kernel.lseek(fd, 0, os.SEEK_CUR) == 0
    assert n1.read("/f") == b"data"
    n1.disk.faults(close_errors=0.5)
    n1.draw("n1 close error", 1)
    with pytest.raises(OSError, match="Input/output"):
        n1.kernel.close(fd)
    # The number is free although close failed.
    with pytest.raises(OSError, match="Bad file"):
        n1.kernel.close(fd)
    # A read from memory does not meet the device.
    n1.disk.faults(read_errors=0.5)
    n1.draw("n1 read error", 1)
    assert n1.read("/f") == b"data"
    n1.crash()
    with pytest.raises(OSError, match="Input/output"):
        n1.read("/f")
    assert n1.read("/f") == b"data"
    assert n1.disk.effects == {"write error": 1, "close error": 1, "read error": 1}


def test_an_error_of_a_directory_saves_no_name(n1):
    n1.kernel.fsync(n1.write("/f", b"data"))
    n1.disk.faults(fsync_errors=0.5)
    n1.draw("n1 fsync error", 1)
    with pytest.raises(OSError, match="Input/output"):
        n1.sync_directory()
    n1.crash()
    assert n1.names() == []


def test_no_space(n1):
    fd = n1.kernel.open("/f", RW)
    n1.disk.faults(full=0.5)
    n1.draw("n1 full", 1)
    with pytest.raises(OSError, match="No space"):
        n1.kernel.write(fd, b"data")
    assert n1.kernel.write(fd, b"data") == 4
    assert n1.seen == [("full", "/f")]


def test_short_writes_are_whole_sectors(n1):
    n1.disk.faults(short_writes=ALWAYS)
    fd = n1.kernel.open("/f", RW)
    data = bytes(range(256)) * 16
    for ordinal, size in enumerate((0, 3, 6)):
        n1.draw("n1 short write", 1)
        n1.draw("n1 short write size", size, ordinal)
        assert n1.kernel.pwrite(fd, data, 0) == (7 - size) * 512
    # A sector is never cut.
    n1.draw("n1 short write", 1)
    assert n1.kernel.pwrite(fd, bytes(512), 0) == 512
    assert n1.disk.effects == {"short write": 3}


def test_the_device_takes_its_time(n1):
    fd = n1.write("/f", b"data")
    n1.kernel.pread(fd, 4, 0)
    assert n1.clock.now_ns == 0
    low_ns = round(DELAY_S[0] * 1e9)
    n1.kernel.fsync(fd)
    assert n1.clock.now_ns == low_ns
    n1.draw("n1 fsync delay", 7)
    n1.kernel.fsync(fd)
    assert n1.clock.now_ns == 2 * low_ns + 7000
    n1.disk.faults(slow_fsync=0.5)
    n1.draw("n1 slow fsync", 1)
    n1.kernel.fsync(fd)
    assert n1.clock.now_ns == 2 * low_ns + 7000 + round(SLOW_S[0] * 1e9)
    assert n1.seen == [("slow fsync", "/f")]


def test_a_read_waits_for_what_is_not_in_memory(n1):
    n1.save("/f", bytes(2 * PAGE_SIZE))
    n1.crash()
    n1.disk.faults(delay=(1, 1))
    before = n1.clock.now_ns
    fd = n1.kernel.open("/f")
    for pos, seconds in ((0, 1), (10, 1), (PAGE_SIZE, 2), (PAGE_SIZE, 2), (99_999, 2)):
        n1.kernel.pread(fd, 5, pos)
        assert n1.clock.now_ns - before == seconds * 10**9


def test_other_tasks_run_while_one_waits_for_the_device(n1):
    n1.disk.faults(delay=(1, 1))
    fd, times = n1.write("/f", b"data"), []

    def sync():
        n1.kernel.fsync(fd)
        times.append(("synced", n1.clock.now_ns))

    def look():
        times.append(("looked", n1.clock.now_ns))

    for task in [n1.kernel.spawn(sync), n1.kernel.spawn(look)]:
        n1.kernel.join(task)
    assert times == [("looked", 0), ("synced", 10**9)]


def appended_by_flag(kernel, data):
    fd = kernel.open("/f", os.O_RDWR | os.O_DIRECT | os.O_APPEND)
    assert kernel.write(fd, data) == PAGE_SIZE
    assert kernel.lseek(fd, 0, os.SEEK_CUR) == kernel.fstat(fd).st_size


def appended_by_pwritev2(kernel, data):
    fd = kernel.open("/f", os.O_RDWR | os.O_DIRECT)
    assert kernel.pwritev2(fd, data, -1, RWF_APPEND) == PAGE_SIZE
    assert kernel.lseek(fd, 0, os.SEEK_CUR) == kernel.fstat(fd).st_size


def appended_by_aio(kernel, data):
    fd, ctx = kernel.open("/f", os.O_RDWR | os.O_DIRECT), kernel.io_setup(1)
    iocb = Iocb(IOCB_CMD_PWRITE, fd, aio_nbytes=PAGE_SIZE, aio_rw_flags=RWF_APPEND)
    iocb.memory = bytearray(data)
    assert kernel.io_submit(ctx, 1, [iocb]) == 1
    [event] = kernel.io_getevents(ctx, 1, 1, None)
    assert event.res == PAGE_SIZE


@pytest.mark.parametrize("append", [appended_by_flag, appended_by_pwritev2, appended_by_aio])
def test_two_that_append_keep_each_others_data(n1, append):
    n1.save("/f", b"")
    n1.disk.faults(delay=(1, 1))
    texts = [bytes([number]) * PAGE_SIZE for number in (1, 2)]
    tasks = [n1.kernel.spawn(append, n1.kernel, text) for text in texts]
    for task in tasks:
        n1.kernel.join(task)
    assert n1.read("/f") in (texts[0] + texts[1], texts[1] + texts[0])


def test_rates_are_checked(n1):
    for name in ("write_errors", "fsync_errors", "full", "short_writes", "slow_fsync"):
        with pytest.raises(ValueError, match=name):
            n1.disk.faults(**{name: 1.5})
    with pytest.raises(ValueError, match="delay"):
        n1.disk.faults(delay=(2, 1))


def test_durable_names_what_is_missing(n1):
    with pytest.raises(FileNotFoundError):
        n1.disk.durable("/none")
    with pytest.raises(IsADirectoryError):
        n1.disk.durable("/tmp")
