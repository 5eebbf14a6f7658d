"""Processes, regular files with their bounds, mappings and splice."""

import errno
import mmap
import os
import resource
import signal

import pytest

from aiopoll.kernel import Kernel
from aiopoll.kernel.aio_abi import RWF_NOWAIT, Iocb
from aiopoll.kernel.uapi import EPOLLHUP, EPOLLIN, PAGE_SIZE

RDWR = os.O_RDWR | os.O_CREAT


def refused(code):
    return pytest.raises(OSError, match=rf"\[Errno {code}\]")


def test_a_child_shares_open_files_and_not_their_numbers(kernel):
    reader, writer = kernel.pipe2()
    file = kernel.fget(reader)

    def child():
        assert kernel.getpid() == 2
        kernel.close(reader)
        kernel.write(writer, b"from the child")

    pid = kernel.fork(child)
    assert kernel.waitpid(pid) == 0
    assert kernel.read(reader, 100) == b"from the child"
    assert file.f_count == 1
    kernel.close(writer)
    assert kernel.poll([(reader, EPOLLIN)], 0) == [EPOLLHUP]
    with refused(errno.ECHILD):
        kernel.waitpid(pid)


def test_exception_of_a_child_reaches_its_parent(kernel):
    def child():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        kernel.waitpid(kernel.fork(child))


def test_signals_go_to_one_process(kernel):
    caught = []
    kernel.sigaction(signal.SIGUSR1, caught.append)
    kernel.sigaction(signal.SIGCHLD, caught.append)

    def child():
        kernel.sigaction(signal.SIGUSR1, None)
        with refused(errno.EINTR):
            kernel.nanosleep(10)

    pid = kernel.fork(child)
    kernel.nanosleep(1)
    kernel.kill(pid, signal.SIGUSR1)
    kernel.kill(pid, signal.SIGUSR2)
    assert kernel.waitpid(pid) == -signal.SIGUSR2
    assert caught == [signal.SIGCHLD]
    with refused(errno.ESRCH):
        kernel.kill(pid, 0)


def test_a_context_stays_with_its_process_and_goes_with_it(kernel):
    reader, _writer = kernel.pipe2()
    file = kernel.fget(reader)
    ctx = kernel.io_setup(8)

    def child():
        with refused(errno.EINVAL):
            kernel.io_getevents(ctx, 0, 1)
        own = kernel.io_setup(100)
        kernel.io_submit(own, 1, [Iocb.poll(reader, EPOLLIN)])
        assert kernel.aio_nr == 108

    kernel.waitpid(kernel.fork(child))
    kernel.run_pending()
    assert kernel.aio_nr == 8
    assert file.private_data.pipe.wait.entries == []
    assert file.f_count == 1


def test_halt_ends_a_child_in_the_middle_of_its_sleep():
    kernel = Kernel()
    reader, _writer = kernel.pipe2()
    file = kernel.fget(reader)
    kernel.fork(kernel.read, reader, 1)
    kernel.nanosleep(1)
    assert file.f_count == 2
    kernel.halt()
    assert file.f_count == 0


def test_the_size_limit_of_a_process(kernel):
    fd = kernel.open("/file", RDWR)
    kernel.setrlimit(resource.RLIMIT_FSIZE, 10)
    assert kernel.pwrite(fd, bytes(8), 0) == 8
    assert kernel.pwrite(fd, bytes(8), 8) == 2
    caught = []
    kernel.sigaction(signal.SIGXFSZ, caught.append)
    with refused(errno.EFBIG):
        kernel.pwrite(fd, b"x", 10)
    assert caught == [signal.SIGXFSZ]
    with refused(errno.EFBIG):
        kernel.ftruncate(fd, 11)
    kernel.setrlimit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
    assert kernel.pwrite(fd, b"x", 10) == 1


def test_full_file_system_and_the_release_of_room(kernel):
    kernel.mount("/small", size=2 * PAGE_SIZE)
    fd = kernel.open("/small/one", RDWR)
    assert kernel.pwrite(fd, bytes(3 * PAGE_SIZE), 0) == 2 * PAGE_SIZE
    other = kernel.open("/small/two", RDWR)
    with refused(errno.ENOSPC):
        kernel.write(other, b"x")
    kernel.unlink("/small/one")
    with refused(errno.ENOSPC):
        kernel.write(other, b"x")
    kernel.close(fd)
    assert kernel.write(other, b"x") == 1


def test_holes_take_no_memory(kernel):
    fd = kernel.open("/sparse", RDWR)
    assert kernel.pwrite(fd, b"end", 1 << 50) == 3
    assert kernel.pread(fd, 5, (1 << 50) - 2) == b"\0\0end"
    assert len(kernel.fget(fd).private_data.pages) == 1
    kernel.ftruncate(fd, 1 << 40)
    assert kernel.lseek(fd, 0, os.SEEK_END) == 1 << 40
    assert kernel.fget(fd).private_data.pages == {}


def test_a_direct_read_of_a_dirty_file_would_wait(kernel):
    fd = kernel.open("/file", RDWR)
    direct = kernel.open("/file", os.O_RDWR | os.O_DIRECT)
    ctx = kernel.io_setup(1)
    kernel.write(fd, bytes(512))
    results = []
    for _ in range(2):
        kernel.io_submit(ctx, 1, [Iocb.pread(direct, bytearray(512), flags=RWF_NOWAIT)])
        results += [event.res for event in kernel.io_getevents(ctx, 1, 1)]
        assert len(kernel.pread(direct, 512, 0)) == 512
    assert results == [-errno.EAGAIN, 512]
    with refused(errno.EINVAL):
        kernel.pread(direct, 512, 1)


def test_a_mapping_is_memory_with_protection(kernel):
    fd = kernel.open("/file", RDWR)
    kernel.write(fd, b"abcd")
    ctx = kernel.io_setup(4)
    file = kernel.fget(fd)
    mapping = kernel.mmap(fd, 4, mmap.PROT_READ)
    kernel.io_submit(ctx, 1, [Iocb(1, fd, aio_nbytes=4, aio_offset=2, memory=mapping)])
    kernel.io_submit(ctx, 1, [Iocb(0, fd, aio_nbytes=4, memory=mapping)])
    assert [event.res for event in kernel.io_getevents(ctx, 2, 2)] == [4, -errno.EFAULT]
    assert mapping[:] == b"abab"
    assert file.f_count == 2
    kernel.close(fd)
    assert mapping[:2] == b"ab"
    kernel.munmap(mapping)
    assert file.f_count == 0
    with refused(errno.EINVAL):
        kernel.munmap(mapping)


def test_a_moved_ring_is_known_by_its_new_address_alone(kernel):
    reader, writer = kernel.pipe2()
    old = kernel.io_setup(1)
    ring = kernel.contexts[old].ring
    kernel.io_submit(old, 1, [Iocb.poll(reader, EPOLLIN)])
    with refused(errno.EFAULT):
        kernel.mremap(old, ring.size, 2 * ring.size)
    with refused(errno.EINVAL):
        kernel.mremap(old, ring.size, PAGE_SIZE - 1)
    new = kernel.mremap(old, ring.size, ring.size)
    with refused(errno.EINVAL):
        kernel.io_getevents(old, 0, 1)
    kernel.write(writer, b"x")
    assert [event.res for event in kernel.io_getevents(new, 1, 1)] == [EPOLLIN]


def test_splice_wakes_without_key_and_its_page_not_merged(kernel):
    fd = kernel.open("/file", RDWR)
    kernel.write(fd, b"abc")
    reader, writer = kernel.pipe2(os.O_NONBLOCK)
    pipe = kernel.fget(reader).private_data.pipe
    keys = []
    ctx = kernel.io_setup(1)
    kernel.io_submit(ctx, 1, [Iocb.poll(reader, EPOLLIN)])
    entry = pipe.wait.entries[0]
    entry.func, func = lambda entry, key: keys.append(key) or func(entry, key), entry.func
    assert kernel.splice(fd, writer, 2, offset_src=1) == 2
    assert keys == [0]
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [EPOLLIN]
    kernel.write(writer, b"d")
    assert len(pipe.bufs) == 2
    out = kernel.open("/out", RDWR)
    assert kernel.splice(reader, out, 10) == 3
    assert kernel.pread(out, 10, 0) == b"bcd"
    with refused(errno.EAGAIN):
        kernel.splice(reader, out, 1, flags=2)
    with refused(errno.ESPIPE):
        kernel.splice(fd, writer, 1, offset_dst=0)
    with refused(errno.EINVAL):
        kernel.splice(fd, out, 1)
