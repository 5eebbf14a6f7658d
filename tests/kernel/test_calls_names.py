"""Names and inodes, call by call, here and on the Linux underneath."""

import contextlib
import errno
import fcntl
import functools
import os
import stat

import pytest

from aiopoll.kernel.namei import AT_SYMLINK_FOLLOW, RENAME_NOREPLACE

RD, WR, RW = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
CREATE = RW | os.O_CREAT
DIR = os.O_DIRECTORY


def numbers(k, path, **options):
    """What both kernels have to agree on."""
    found = k.stat(path, **options)
    directory = stat.S_ISDIR(found.st_mode)
    size = None if directory else found.st_size
    return oct(found.st_mode), found.st_nlink, size


def note(run, what, answer):
    run.trace.append((0, what, answer))


def names(k, fd):
    """The names in a directory; the root of the other kernel has its devices in it."""
    return sorted(entry.d_name for entry in k.getdents(fd) if entry.d_name != "dev")


def make_tree(k):
    """A directory with things of every kind in it."""
    for path in ("/d", "/d/sub", "/full", "/full/in"):
        k.mkdir(path)
    for path in ("/f", "/d/f", "/other"):
        fd = k.open(path, CREATE)
        k.write(fd, path.encode())
        k.close(fd)
    k.mkfifo("/fifo")
    for target, path in (
        ("f", "/to-f"),
        ("d", "/to-d"),
        ("none", "/to-none"),
        ("loop", "/loop"),
        ("f/", "/to-f-slash"),
        ("d/../f", "/long"),
    ):
        k.symlink(target, path)


PATHS = (
    "/f", "/f/", "/f/x", "/d", "/d/", "/d/.", "/d/sub/..", "/d/../f", "/d/f", "/none", "/none/",
    "/none/x", "/to-f", "/to-f/", "/to-d", "/to-d/", "/to-d/f", "/to-none", "/to-none/", "/loop",
    "/loop/x", "/to-f-slash", "/long", "/fifo", "/fifo/", "/" + "n" * 255, "/" + "n" * 256,
    "/d/." + "/." * 2100, "/full", "/d/sub/../../to-d/f", "",
)  # fmt: skip


@pytest.fixture(autouse=True)
def where_it_was():
    before, mask = os.getcwd(), os.umask(0o022)
    yield
    os.chdir(before)
    os.umask(mask)


def test_walks(both):
    @both
    def scenario(k, run):
        make_tree(k)
        for path in PATHS:
            run(functools.wraps(k.stat)(lambda path=path: numbers(k, path)))
            run(functools.wraps(k.stat)(lambda path=path: numbers(k, path, follow_symlinks=False)))
            run(k.readlink, path)
            run(k.access, path, os.F_OK)
            run(k.access, path, os.X_OK)
            run(k.access, path, 8)


OPENINGS = [
    *(base | more for base in (RD, WR, RW) for more in (0, os.O_CREAT, os.O_CREAT | os.O_EXCL)),
    *(base | more for base in (RD, RW) for more in (DIR, os.O_NOFOLLOW, os.O_TRUNC)),
    RD | os.O_CREAT | os.O_NOFOLLOW,
    RD | os.O_CREAT | DIR,
    RD | DIR | os.O_NOFOLLOW,
    RD | os.O_TMPFILE,
    RW | os.O_TMPFILE,
    RW | os.O_TMPFILE | os.O_CREAT,
]


@pytest.mark.parametrize("flags", OPENINGS, ids=oct)
def test_openings(both, flags):
    @both
    def scenario(k, run):
        make_tree(k)
        for path in PATHS:
            if "fifo" in path:
                continue
            try:
                fd = k.open(path, flags)
            except OSError as exc:
                note(run, path[:20], exc.errno)
            else:
                note(run, path[:20], oct(k.fstat(fd).st_mode))
                k.close(fd)
        for path in ("/", "/d", "/full"):
            fd = k.open(path, RD)
            note(run, path, names(k, fd))


@pytest.mark.parametrize("call", ["mkdir", "rmdir", "unlink", "mkfifo"])
def test_changes_of_one_name(both, call):
    @both
    def scenario(k, run):
        make_tree(k)
        for path in PATHS:
            run(getattr(k, call), path)
        for path in ("/", "/d", "/full"):
            try:
                fd = k.open(path, RD)
            except OSError:
                continue
            note(run, path, names(k, fd))
            if path != "/":
                note(run, path, k.fstat(fd).st_nlink)


SOURCES = ("/f", "/f/", "/d", "/d/", "/d/sub", "/none", "/to-f", "/to-d", "/to-d/", "/fifo", "/d/.")
TARGETS = ("/f", "/other", "/other/", "/new", "/new/", "/d", "/full", "/d/sub", "/d/sub/new",
           "/full/in", "/to-d", "/to-none", "/none/x", "/f/x", "/d/..", "/to-d/new")  # fmt: skip


@pytest.mark.parametrize("call", ["rename", "rename noreplace", "link", "link follow", "symlink"])
@pytest.mark.parametrize("source", SOURCES)
def test_changes_of_two_names(both, call, source):
    name, _, option = call.partition(" ")
    more = {"noreplace": (RENAME_NOREPLACE,), "follow": (AT_SYMLINK_FOLLOW,)}.get(option, ())
    arguments = (None, None, *more) if more else ()

    @both
    def scenario(k, run):
        for place, target in enumerate(TARGETS):
            k.mkdir(f"/{place}")
            root = k.open(f"/{place}", RD)
            top = f"/{place}"
            k.chdir(top)
            make_tree(Below(k, top))
            one = source if name == "symlink" else top + source
            run(getattr(k, name), one, top + target, *arguments)
            note(run, target, names(k, root))
            for path in ("/d", "/full", "/f", "/other", "/new"):
                try:
                    note(run, path, numbers(k, top + path, follow_symlinks=False))
                except OSError as exc:
                    note(run, path, exc.errno)
        run(k.rename, "/0", "/0/d/sub/deep")
        run(k.rename, "/0/d", "/0")
        run(k.rename, "/0", "/1", None, None, 64)


class Below:
    """The calls of make_tree, in a directory."""

    def __init__(self, k, top):
        self.k, self.top = k, top
        self.write, self.close = k.write, k.close

    def __getattr__(self, name):
        return lambda path, *rest: getattr(self.k, name)(self.top + path, *rest)

    def symlink(self, target, path):
        self.k.symlink(target, self.top + path)


def test_relative_paths(both):
    @both
    def scenario(k, run):
        make_tree(k)
        k.chdir("/d")
        run(k.getcwd)
        run(lambda: k.close(k.open("f", RD)))
        run(lambda: k.close(k.open("../f", RD)))
        d, f = k.open("/d", RD | DIR), k.open("/f", RD)
        for fd in (d, f, 999):
            run(k.fchdir, fd)
            run(k.mkdir, "new", 0o750, fd)
            run(lambda fd=fd: k.close(k.open("x", CREATE, 0o640, fd)))
            run(k.unlink, "x", fd)
            run(k.unlink, "", fd)
            run(k.rmdir, "new", fd)
            run(k.readlink, "f", fd)
            run(k.symlink, "f", "link", fd)
            run(k.readlink, "link", fd)
            run(k.rename, "link", "moved", fd, fd)
            run(k.link, "f", "again", fd, d)
        run(k.chdir, "/f")
        run(k.chdir, "/none")
        run(k.chdir, "../full")
        run(k.getcwd)
        # A directory that was removed has no names any more, and takes none.
        k.mkdir("/gone")
        k.chdir("/gone")
        fd = k.open(".", RD)
        k.rmdir("/gone")
        run(k.open, "x", CREATE)
        run(k.mkdir, "x")
        run(k.getcwd)
        run(k.rename, "../f", "f")
        # The C library takes ENOENT for the end.
        with contextlib.suppress(FileNotFoundError):
            assert k.getdents(fd) == []
        run(lambda: k.fstat(fd).st_nlink)
        run(k.stat, "x")
        run(lambda: numbers(k, "../f"))


def test_the_root_stays(kernel):
    for call, code in (
        (lambda: kernel.rmdir("/"), errno.EBUSY),
        (lambda: kernel.rmdir("/dev"), errno.EBUSY),
        (lambda: kernel.unlink("/"), errno.EISDIR),
        (lambda: kernel.rename("/", "/new"), errno.EBUSY),
        (lambda: kernel.rename("/dev", "/new"), errno.EBUSY),
        (lambda: kernel.link("/dev/null", "/new"), errno.EXDEV),
        (lambda: kernel.mkdir("/"), errno.EEXIST),
    ):
        with pytest.raises(OSError, match=rf"^\[Errno {code}\]"):
            call()
    kernel.chdir("/dev")
    assert kernel.getcwd() == "/dev"
    kernel.chdir("..")
    assert kernel.getcwd() == "/"
    kernel.chdir("../..")
    assert kernel.getcwd() == "/"


def test_modes_and_masks(both):
    @both
    def scenario(k, run):
        run(k.umask, 0o027)
        k.close(k.open("/f", CREATE, 0o4777))
        k.mkdir("/d", 0o2777)
        k.mkfifo("/fifo", 0o777)
        k.symlink("f", "/link")
        for path in ("/f", "/d", "/fifo", "/link"):
            run(lambda path=path: numbers(k, path, follow_symlinks=False))
            run(k.chmod, path, 0o7705)
            run(lambda path=path: numbers(k, path, follow_symlinks=False))
        run(k.chmod, "/none", 0o700)
        run(k.access, "/f", os.X_OK)
        fd = k.open("/f", RD)
        run(k.fchmod, fd, 0o600)
        run(k.access, "/f", os.X_OK | os.R_OK | os.W_OK)
        run(k.fchmod, 999, 0)
        run(k.umask, 0o022)


def test_sizes(both):
    @both
    def scenario(k, run):
        make_tree(k)
        fd = k.open("/f", RW)
        run(k.truncate, "/f", 5000)
        run(k.truncate, "/f", -1)
        for path in ("/none", "/d", "/fifo", "/to-f", "/f/"):
            run(k.truncate, path, 3)
        for arguments in (
            (fd, 0, 0, 9000), (fd, 1, 8000, 9000), (fd, 3, 100, 5000), (fd, 2, 0, 5),
            (fd, 0, -1, 5),
            (fd, 0, 0, 0), (fd, 0x80, 0, 5), (999, 0, 0, 1), (999, 0, -1, 1),
            (k.open("/f", RD), 0, 0, 1), (k.open("/d", RD), 0, 0, 1), (k.pipe2()[1], 0, 0, 1),
            (k.open("/dev/null", RW), 0, 0, 1),
        ):  # fmt: skip
            run(k.fallocate, *arguments)
            run(lambda: k.fstat(fd).st_size)
        run(k.pread, fd, 9000, 0)


def test_positions_of_appending_files(both):
    @both
    def scenario(k, run):
        fd = k.open("/f", CREATE | os.O_APPEND)
        for data in (b"one", b"two"):
            run(k.write, fd, data)
            run(k.lseek, fd, 0, 1)
            run(k.lseek, fd, 1)
        run(k.pwrite, fd, b"x", 0)
        run(k.lseek, fd, 0, 1)
        run(k.read, fd, 99)


def test_descriptors_of_directories(both):
    @both
    def scenario(k, run):
        make_tree(k)
        fd = k.open("/d", RD)
        run(k.read, fd, 1)
        run(k.pread, fd, 1, 0)
        run(k.write, fd, b"x")
        run(k.ftruncate, fd, 0)
        run(k.fsync, fd)
        run(k.fsync, k.open("/fifo", RW))
        run(lambda: k.lseek(fd, 0))
        run(lambda: sorted(entry[::2] for entry in k.getdents(fd)))
        run(k.getdents, k.open("/f", RD))
        run(k.sendfile, fd, fd, None, 1)


def test_copies_in_the_kernel(both):
    @both
    def scenario(k, run):
        make_tree(k)
        source, target = k.open("/d/f", RW), k.open("/out", CREATE)
        append, d = k.open("/out", WR | os.O_APPEND), k.open("/d", RD)
        reader, writer = k.pipe2(os.O_NONBLOCK)
        files = (source, target, append, d, reader, writer, k.open("/f", RD), 999)
        for one in files:
            for two in files:
                if one == two == source:
                    continue
                for offset in (None, 1):
                    run(k.sendfile, one, two, offset, 3)
                for offsets in ((None, None), (1, 2), (0, -1)):
                    run(k.copy_file_range, one, two, 2, *offsets)
        run(k.copy_file_range, source, target, 2, 0, 0, 1)
        for fd in (source, target):
            run(k.pread, fd, 99, 0)
            run(k.lseek, fd, 0, 1)


def test_flocks(both):
    @both
    def scenario(k, run):
        one, two = k.open("/f", CREATE), k.open("/f", RD)
        copy, d = k.dup(one), k.open("/", RD)
        nb = fcntl.LOCK_NB
        for fd, operation in (
            (one, fcntl.LOCK_SH), (two, fcntl.LOCK_SH | nb), (one, fcntl.LOCK_EX | nb),
            # That it was shared before is forgotten.
            (two, fcntl.LOCK_EX | nb), (one, fcntl.LOCK_SH | nb), (copy, fcntl.LOCK_EX | nb),
            (two, fcntl.LOCK_UN), (copy, fcntl.LOCK_EX | nb), (two, fcntl.LOCK_SH | nb),
            (one, fcntl.LOCK_EX), (999, fcntl.LOCK_EX), (one, 0), (999, 0), (one, nb),
            (d, fcntl.LOCK_EX | nb), (k.open("/", RD), fcntl.LOCK_SH | nb),
        ):  # fmt: skip
            run(k.flock, fd, operation)
        k.close(one)
        run(k.flock, two, fcntl.LOCK_SH | nb)
        k.close(copy)
        run(k.flock, two, fcntl.LOCK_SH | nb)


def test_record_locks_within_a_process(both):
    @both
    def scenario(k, run):
        fd, readable = k.open("/f", CREATE), k.open("/f", RD)
        for target, kind, start, length, whence in (
            (fd, fcntl.F_WRLCK, 0, 10, 0), (fd, fcntl.F_RDLCK, 4, 2, 0),
            (fd, fcntl.F_UNLCK, 0, 0, 0),
            (fd, fcntl.F_WRLCK, -1, 1, 0), (fd, fcntl.F_WRLCK, 5, -5, 0),
            (fd, fcntl.F_WRLCK, 5, -6, 0),
            (readable, fcntl.F_WRLCK, 0, 1, 0), (readable, fcntl.F_RDLCK, 0, 1, 2),
            (fd, 9, 0, 1, 0), (fd, fcntl.F_RDLCK, 0, 1, 9), (999, fcntl.F_RDLCK, 0, 1, 0),
        ):  # fmt: skip
            run(run_setlk(k), target, kind, start, length, whence)


def run_setlk(k):
    def setlk(*arguments):
        return k.setlk(*arguments, wait=False)

    return setlk
