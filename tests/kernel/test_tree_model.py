"""Random operations on a tree of files, call by call, here and in a directory of the machine."""

import contextlib
import errno
import itertools
import os
import shutil
import stat
import tempfile

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aiopoll.kernel import Kernel

from .calls import LinuxCalls

NAMES = st.sampled_from("aabcd")
PATHS = st.one_of(
    st.lists(NAMES, min_size=1, max_size=2).map(lambda parts: "/" + "/".join(parts)),
    st.lists(st.sampled_from(["a", "b", "c", ".", ".."]), min_size=1, max_size=4).map(
        # Never above the top, which the machine has and the kernel has not.
        lambda parts: "/a/" + "/".join(part for part in parts if part != "..")
    ),
    NAMES.map(lambda name: f"/{name}/"),
)
TARGETS = st.sampled_from(["a", "b", "c/d", "./a", "b/", "none"])
FLAGS = st.builds(
    lambda mode, more: mode | sum(set(more)),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]),
    st.lists(
        st.sampled_from(
            [os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY]
        ),
        max_size=3,
    ),
)
SIZES = st.integers(0, 9000)
FDS = st.integers(0, 3)
OPERATIONS = st.one_of(
    st.tuples(st.just("open"), PATHS, FLAGS),
    st.tuples(st.just("mkdir"), PATHS),
    st.tuples(st.just("rmdir"), PATHS),
    st.tuples(st.just("unlink"), PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("symlink"), TARGETS, PATHS),
    st.tuples(st.just("readlink"), PATHS),
    st.tuples(st.just("truncate"), PATHS, SIZES),
    st.tuples(st.just("chmod"), PATHS, st.integers(0, 0o777)),
    st.tuples(st.just("access"), PATHS, st.integers(0, 7)),
    st.tuples(st.just("stat"), PATHS),
    st.tuples(st.just("write"), FDS, SIZES),
    st.tuples(st.just("write_at_end"), FDS, SIZES),
    st.tuples(st.just("pwrite"), FDS, SIZES, SIZES),
    st.tuples(st.just("read"), FDS, SIZES),
    st.tuples(st.just("lseek"), FDS, SIZES, st.integers(0, 2)),
    st.tuples(st.just("ftruncate"), FDS, SIZES),
    st.tuples(st.just("fallocate"), FDS, SIZES, SIZES),
    st.tuples(st.just("fsync"), FDS),
    st.tuples(st.just("close"), FDS),
    st.tuples(st.just("copy_file_range"), FDS, FDS, SIZES),
)


RDWR = os.O_RDWR | os.O_CREAT
# Most operations find something to work on.
TREE = (
    *(("mkdir", path) for path in ("/a", "/a/a", "/c", "/c/c")),
    *(("open", path, RDWR) for path in ("/a/b", "/b")),
    ("open", "/b", os.O_RDWR | os.O_APPEND),
    ("write", 1, 7000),
    ("symlink", "a", "/d"),
    ("symlink", "b", "/c/d"),
)


class Side:
    """One kernel, with what the operations have opened on it."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.fds = []

    def do(self, operation):
        try:
            return getattr(self, f"do_{operation[0]}", self.plain)(*operation)
        except OSError as exc:
            return errno.errorcode[exc.errno]

    def plain(self, name, *arguments):
        return getattr(self.kernel, name)(*arguments)

    def fd(self, index):
        return self.fds[index] if index < len(self.fds) else 999

    def do_open(self, name, path, flags):
        if len(self.fds) < 6:
            self.fds.append(self.kernel.open(path, flags))
            return oct(self.kernel.fstat(self.fds[-1]).st_mode)
        return None

    def do_close(self, name, index):
        self.kernel.close(self.fd(index))
        del self.fds[index]

    def do_stat(self, name, path):
        found = self.kernel.stat(path, follow_symlinks=False)
        size = None if stat.S_ISDIR(found.st_mode) else found.st_size
        return oct(found.st_mode), found.st_nlink, size

    def on_fd(self, name, index, *arguments):
        return getattr(self.kernel, name)(self.fd(index), *arguments)

    do_ftruncate = do_lseek = do_fsync = on_fd

    def do_read(self, name, index, size):
        return self.kernel.read(self.fd(index), size)

    def do_write(self, name, index, size):
        return self.kernel.write(self.fd(index), b"x" * size)

    def do_write_at_end(self, name, index, size):
        data = b"e" * size
        return self.kernel.pwritev2(self.fd(index), data, -1, os.RWF_APPEND)

    def do_pwrite(self, name, index, size, offset):
        return self.kernel.pwrite(self.fd(index), b"p" * size, offset)

    def do_fallocate(self, name, index, offset, size):
        return self.kernel.fallocate(self.fd(index), 0, offset, size)

    def do_copy_file_range(self, name, one, two, size):
        return self.kernel.copy_file_range(self.fd(one), self.fd(two), size)

    def tree(self, path=""):
        """Everything that can be seen, with contents."""
        fd = self.kernel.open(path or "/", os.O_RDONLY)
        entries = sorted(entry[::2] for entry in self.kernel.getdents(fd))
        self.kernel.close(fd)
        for name, kind in entries:
            if (path, name) == ("", "dev"):
                continue
            here = f"{path}/{name}"
            yield here, self.do_stat("stat", here)
            if kind == stat.S_IFDIR:
                yield from self.tree(here)
            elif kind == stat.S_IFREG:
                fd = self.kernel.open(here, os.O_RDONLY)
                yield here, self.kernel.pread(fd, 1 << 20, 0)
                self.kernel.close(fd)
            elif kind == stat.S_IFLNK:
                yield here, self.kernel.readlink(here)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATIONS, max_size=40))
def test_random_operations_on_a_tree(operations):
    compare(operations)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATIONS, min_size=8, max_size=30))
@example([("write", 2, 0), ("lseek", 2, 0, 1)])  # with O_APPEND
@example([("write_at_end", 0, 0), ("lseek", 0, 0, 1), ("write_at_end", 0, 9), ("lseek", 0, 0, 1)])
def test_some_random_operations_on_a_tree(operations):
    compare(operations)


def compare(operations):
    top = tempfile.mkdtemp()
    kernel = Kernel()
    linux = LinuxCalls(top)
    try:
        here, there = Side(kernel), Side(linux)
        for side in (here, there):
            for operation in TREE:
                side.do(operation)
        for number, operation in zip(itertools.count(), operations):
            assert here.do(operation) == there.do(operation), (number, operation)
        assert list(here.tree()) == list(there.tree())
    finally:
        kernel.halt()
        with contextlib.suppress(OSError):
            linux.halt()
        shutil.rmtree(top)
