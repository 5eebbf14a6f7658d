"""What is left of a host's files after the power was cut."""

import os

import pytest

from aiopoll.kernel.aio_abi import IOCB_CMD_PWRITE, RWF_DSYNC, Iocb
from aiopoll.kernel.uapi import PAGE_SIZE
from aiopoll.sim.disk import KEPT, PREFIX, SUBSET

from .disks import RW, Machine

OLD, NEW = b"o" * 3 * PAGE_SIZE, b"n" * 3 * PAGE_SIZE


@pytest.fixture
def n1():
    return Machine()


def test_what_was_not_fsynced_is_lost(n1):
    n1.save("/kept", b"kept")
    fd = n1.write("/kept", b"lost and longer")
    n1.write("/new", b"x")
    assert n1.read("/kept") == b"lost and longer"
    n1.crash()
    assert n1.read("/kept") == b"kept"
    assert n1.names() == ["kept"]
    with pytest.raises(OSError, match="Bad file"):
        n1.kernel.read(fd, 1)


def test_a_name_needs_fsync_of_its_directory(n1):
    k = n1.kernel
    k.fsync(n1.write("/a", b"data"))
    n1.crash()
    assert n1.names() == []
    n1.kernel.mkdir("/d")
    n1.sync_directory()
    n1.kernel.fsync(n1.write("/d/f", b"data"))
    n1.crash()
    assert n1.names("/d") == []
    n1.kernel.fsync(n1.write("/d/f", b"data"))
    n1.sync_directory("/d")
    n1.crash()
    assert n1.read("/d/f") == b"data"


def test_a_name_alone_leads_to_an_empty_file(n1):
    n1.write("/f", b"data")
    n1.sync_directory()
    n1.crash()
    assert n1.read("/f") == b""


def test_names_build_on_those_above(n1):
    """fsync of a directory that no name on the device leads to saves nothing."""
    n1.kernel.mkdir("/d")
    n1.save("/d/f", b"data")
    assert n1.names() == ["d"]
    n1.crash()
    assert n1.names() == []


@pytest.mark.parametrize("synced", [False, True])
def test_unlink_and_rmdir(n1, synced):
    n1.save("/f", b"data")
    n1.kernel.mkdir("/d")
    n1.save("/d/in", b"data")
    n1.sync_directory()
    n1.kernel.unlink("/f")
    n1.kernel.unlink("/d/in")
    n1.kernel.rmdir("/d")
    if synced:
        n1.sync_directory()
    n1.crash()
    assert n1.names() == ([] if synced else ["d", "f"])
    if not synced:
        assert n1.read("/d/in") == b"data"


@pytest.mark.parametrize("synced", [None, "/one", "/two"])
def test_a_rename_is_whole(n1, synced):
    """From one directory to another: fsync of either has both of its ends on the device."""
    for path in ("/one", "/two"):
        n1.kernel.mkdir(path)
    n1.sync_directory()
    n1.save("/one/f", b"new")
    n1.save("/two/f", b"old")
    n1.kernel.rename("/one/f", "/two/f")
    if synced:
        n1.sync_directory(synced)
    n1.crash()
    if synced:
        assert (n1.names("/one"), n1.read("/two/f")) == ([], b"new")
    else:
        assert (n1.read("/one/f"), n1.read("/two/f")) == (b"new", b"old")


def test_an_earlier_change_of_a_name_comes_along(n1):
    """The rename away from a name is not on the device without what made the name."""
    n1.kernel.mkdir("/d")
    n1.sync_directory()
    n1.write("/d/a", b"")
    n1.kernel.rename("/d/a", "/b")
    n1.write("/d/c", b"")
    n1.sync_directory("/")
    n1.crash()
    assert n1.names() == ["b", "d"]
    assert n1.names("/d") == []


def test_links_stay_links(n1):
    n1.save("/f", b"data")
    n1.kernel.link("/f", "/g")
    n1.kernel.symlink("f", "/s")
    n1.kernel.mkfifo("/p")
    n1.kernel.chmod("/f", 0o600)
    n1.sync_directory()
    n1.crash()
    k = n1.kernel
    assert k.stat("/f").st_ino == k.stat("/g").st_ino
    assert k.stat("/f").st_nlink == 2
    assert k.readlink("/s") == "f"
    assert n1.names() == ["f", "g", "p", "s"]
    # chmod is of the inode, which was not fsynced.
    assert oct(k.stat("/f").st_mode) == "0o100644"


def test_fdatasync_keeps_the_size(n1):
    n1.save("/f", b"1")
    fd = n1.write("/f", b"12345")
    n1.kernel.fchmod(fd, 0o600)
    n1.kernel.fdatasync(fd)
    n1.crash()
    assert n1.read("/f") == b"12345"
    assert oct(n1.kernel.stat("/f").st_mode) == "0o100644"


@pytest.mark.parametrize("flags", [os.O_SYNC, os.O_DSYNC])
def test_writes_that_ask_for_it_are_durable(n1, flags):
    n1.save("/f", b"")
    n1.write("/f", b"data", flags=os.O_RDWR | flags)
    assert n1.disk.durable("/f") == b"data"


def test_rwf_dsync_is_durable(n1):
    n1.save("/f", b"")
    fd = n1.kernel.open("/f", os.O_RDWR)
    n1.kernel.pwritev2(fd, b"data", 0, 2)
    assert n1.disk.durable("/f") == b"data"


@pytest.mark.parametrize(("flags", "durable"), [(0, b""), (RWF_DSYNC, b"data")])
def test_aio_writes_are_durable_if_they_ask_for_it(n1, flags, durable):
    n1.save("/f", b"")
    fd, ctx = n1.kernel.open("/f", os.O_RDWR), n1.kernel.io_setup(1)
    iocb = Iocb(IOCB_CMD_PWRITE, fd, aio_nbytes=4, aio_rw_flags=flags)
    iocb.memory = bytearray(b"data")
    assert n1.kernel.io_submit(ctx, 1, [iocb]) == 1
    assert n1.read("/f") == b"data"
    assert n1.disk.durable("/f") == durable


def test_direct_writes_keep_data_but_no_size(n1):
    """Known blocks are on the device at once; new ones would not be found again."""
    n1.save("/f", OLD)
    fd = n1.write("/f", NEW + b"m" * PAGE_SIZE, flags=os.O_RDWR | os.O_DIRECT)
    assert n1.disk.durable("/f") == NEW
    n1.kernel.fdatasync(fd)
    assert n1.disk.durable("/f") == NEW + b"m" * PAGE_SIZE


def test_allocated_blocks_are_new_until_they_are_written(n1):
    n1.save("/f", b"")
    fd = n1.kernel.open("/f", os.O_RDWR | os.O_DIRECT)
    n1.kernel.fallocate(fd, 0, 0, PAGE_SIZE)
    n1.kernel.fsync(fd)
    assert n1.disk.durable("/f") == bytes(PAGE_SIZE)
    n1.kernel.pwrite(fd, b"a" * PAGE_SIZE, 0)
    assert n1.disk.durable("/f") == bytes(PAGE_SIZE)
    n1.kernel.fdatasync(fd)
    n1.kernel.pwrite(fd, b"b" * PAGE_SIZE, 0)
    assert n1.disk.durable("/f") == b"b" * PAGE_SIZE


@pytest.mark.parametrize("synced", [False, True])
def test_truncation(n1, synced):
    n1.save("/f", OLD)
    fd = n1.kernel.open("/f", os.O_RDWR | os.O_TRUNC)
    n1.kernel.pwrite(fd, b"n", PAGE_SIZE)
    if synced:
        n1.kernel.fsync(fd)
    n1.crash()
    assert n1.read("/f") == (bytes(PAGE_SIZE) + b"n" if synced else OLD)


def test_sync_saves_everything(n1):
    n1.kernel.mkdir("/d")
    n1.write("/d/f", b"data")
    n1.kernel.sync()
    n1.crash()
    assert n1.read("/d/f") == b"data"


def test_space_comes_back_after_a_crash(n1):
    n1.disk.faults(size=8 * PAGE_SIZE)
    n1.save("/f", OLD)
    free = n1.kernel.statvfs("/").f_bfree
    n1.write("/g", OLD)
    n1.crash()
    assert n1.kernel.statvfs("/").f_bfree == free == 5
    fd = n1.kernel.open("/g", RW)
    assert n1.kernel.pwrite(fd, bytes(8 * PAGE_SIZE), 0) == 5 * PAGE_SIZE
    with pytest.raises(OSError, match="No space"):
        n1.kernel.pwrite(fd, b"x", 5 * PAGE_SIZE)


def test_the_dead_program_changes_nothing(n1):
    """Files of before the crash belong to no disk any more."""
    n1.save("/f", b"data")
    before = n1.kernel
    file = before.fget(n1.write("/f", b"late"))
    n1.crash()
    before.unlink("/f")
    file.f_op.fsync(file, False)
    file.put()
    assert n1.read("/f") == b"data"
    assert n1.disk.durable("/f") == b"data"


# Torn crashes


def test_torn_crashes_are_plain_without_draws(n1):
    n1.save("/f", OLD)
    n1.write("/f", NEW)
    n1.write("/g", NEW)
    n1.crash(torn=True)
    assert n1.read("/f") == OLD
    assert n1.names() == ["f"]
    assert n1.disk.effects == {}


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        ({"": KEPT}, NEW),
        ({"": PREFIX}, OLD),
        ({"": PREFIX, " pages": 1}, NEW[:PAGE_SIZE] + OLD[PAGE_SIZE:]),
        (
            {"": PREFIX, " pages": 1, " sectors": 3},
            NEW[: PAGE_SIZE + 1536] + OLD[PAGE_SIZE + 1536 :],
        ),
        ({"": PREFIX, " pages": 3}, NEW),
        ({"": SUBSET}, OLD),
    ],
    ids=str,
)
def test_torn_files(draws, expected):
    n1 = Machine(*((f"n1 torn f{what}", 0, value) for what, value in draws.items()))
    n1.save("/f", OLD)
    n1.write("/f", NEW)
    n1.crash(torn=True)
    assert n1.read("/f") == expected
    assert n1.disk.durable("/f") == expected
    assert n1.seen == [("torn", "f")]
    assert n1.disk.effects["torn"] == 1


def test_any_subset_of_pages_may_survive():
    n1 = Machine(("n1 torn f", 0, SUBSET), ("n1 torn f page", 1, 2), ("n1 torn f page", 2, 1))
    n1.save("/f", b"")
    n1.write("/f", NEW)
    n1.crash(torn=True)
    half = PAGE_SIZE // 2
    assert n1.read("/f") == bytes(PAGE_SIZE) + b"n" * half + bytes(half) + b"n" * PAGE_SIZE


def test_a_torn_append_grows_by_whole_sectors():
    n1 = Machine(("n1 torn log", 0, PREFIX), ("n1 torn log sectors", 0, 2))
    n1.save("/log", b"o" * 100)
    n1.write("/log", b"n" * 2000, pos=100)
    n1.crash(torn=True)
    assert n1.read("/log") == b"o" * 100 + b"n" * 924


def test_a_torn_truncation_shows():
    n1 = Machine(("n1 torn f", 0, PREFIX))
    n1.save("/f", OLD)
    n1.kernel.truncate("/f", 10)
    n1.crash(torn=True)
    assert n1.read("/f") == OLD[:10]


def test_renames_survive_or_are_lost():
    n1 = Machine(("n1 rename kept", 1, 1))
    for name in ("a", "b"):
        n1.save(f"/{name}", name.encode())
    n1.kernel.rename("/a", "/c")
    n1.kernel.rename("/b", "/d")
    n1.crash(torn=True)
    assert n1.names() == ["a", "d"]
    assert n1.read("/d") == b"b"
    assert n1.seen == [("rename kept", "d")]


def test_no_change_survives_without_what_it_builds_on():
    n1 = Machine(*((f"n1 {kind} kept", n, 1) for kind in ("unlink", "rmdir") for n in range(9)))
    n1.kernel.mkdir("/d")
    n1.write("/d/f", b"")
    n1.kernel.rename("/d/f", "/g")
    n1.kernel.unlink("/g")
    n1.save("/tmp/old", b"")
    n1.crash(torn=True)
    # The creation of d and that of f were lost: nothing after them was even drawn.
    assert n1.names() == []
    assert n1.tape.counts == {"n1 create kept": 1, "n1 fsync delay": 2}


def test_a_replaced_file_is_whole_if_its_name_is_lost():
    """The first of two replacements survives: its contents are those that were fsynced."""
    n1 = Machine(("n1 create kept", 0, 1), ("n1 rename kept", 0, 1))
    n1.save("/f", b"zero")
    for data in (b"first", b"second"):
        fd = n1.write("/f.tmp", data)
        n1.kernel.fsync(fd)
        n1.kernel.close(fd)
        n1.kernel.rename("/f.tmp", "/f")
    n1.crash(torn=True)
    assert n1.read("/f") == b"first"
    assert n1.names() == ["f"]


def test_a_direct_write_on_its_way_is_torn():
    n1 = Machine(("n1 torn f write", 0, 3))
    n1.disk.faults(delay=(0.5, 0.5))
    n1.save("/f", OLD)
    fd = n1.kernel.open("/f", os.O_RDWR | os.O_DIRECT)
    n1.kernel.spawn(n1.kernel.pwrite, fd, NEW, 0)
    n1.kernel.join(n1.kernel.spawn(lambda: None))
    n1.crash(torn=True)
    assert n1.read("/f") == NEW[:1536] + OLD[1536:]


@pytest.mark.parametrize("flushed", [False, True])
def test_the_cache_of_the_device_may_lose_direct_writes(flushed):
    """Until the next fsync of any file: that flushes the device."""
    n1 = Machine(("n1 torn f cache", 0, 1))
    n1.save("/f", OLD)
    n1.write("/f", NEW, flags=os.O_RDWR | os.O_DIRECT)
    if flushed:
        n1.save("/other", b"")
    n1.crash(torn=True)
    assert n1.read("/f") == (NEW if flushed else OLD)
