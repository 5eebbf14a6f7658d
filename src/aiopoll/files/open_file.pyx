"""An open file, as its requests see it: descriptor, alignment, accesses, counters.

Facts.  A duplicate of a descriptor keeps the open file description, whatever happens to the first.
A duplicate of a pipe, socket or terminal would keep its peer from seeing the end.  A direct write
of a part of a block reads, changes and writes the whole block.

Rule.  A descriptor that other code owns (closefd=False) is duplicated at once if its file has no
other end.  One with another end is borrowed: it is duplicated for each call, in a thread, and only
while the number names the same file.
Requests of a file have an access.  SHARED ones run side by side.  An EXCLUSIVE one runs alone: it
changes part of a block, the size or the allocation.  UNORDERED ones wait for none.

Why.  Whatever the owner does to the number, a regular file's I/O goes on, and a pipe's peer sees
the end in time.

Cost.  Three system calls for each call on a borrowed descriptor: fcntl(2), fstat(2), close(2).

Failure prevented.  Two writes that end within one block are done side by side: each reads the block
before the other has written it, and the bytes of one of them are lost.
"""

cimport cython
from libc.errno cimport EBADF, EINVAL, errno
from posix.stat cimport S_IFMT, S_ISBLK, S_ISCHR, S_ISFIFO, S_ISREG, S_ISSOCK, fstat, struct_stat
from posix.unistd cimport close

from aiopoll.reactor.duplicate cimport duplicate, release

import collections
import fcntl
import functools
import os

from aiopoll.files.statistics import FileStatistics
from aiopoll.reactor.duplicate import give_back

# What C keeps is there to the end of the interpreter; modules have been emptied by then.
cdef object partial = functools.partial, close_descriptor = os.close, give_duplicate_back = give_back

cdef extern from "file_ops.h" nogil:
    int file_direct_alignment(int fd, uint32_t *memory, uint32_t *offset)
    bint file_takes_offsets(int fd)

cdef enum:
    ALIGNMENT_DEFAULT = 4096  # every device takes it: for where statx reports none


@cython.final
cdef class Counters:
    """The counters of one file, which also count in the total of all files; or that total."""

    cdef object statistics(self, Py_ssize_t in_flight, Py_ssize_t waiting, Py_ssize_t in_threads):
        """Returns a FileStatistics."""
        return FileStatistics(*[self.counts[i] for i in range(COUNTS)], in_flight, waiting,
                              in_threads)


@cython.final
cdef class OpenFile:
    """One open file; its requests are in request.pyx."""

    def __cinit__(self):
        self.fd = -1
        self.memory_alignment = self.offset_alignment = 1
        self.counters = Counters()
        self.held = collections.deque()

    cdef int open(self, int fd, object name, bint closefd) except -1:
        """Takes the descriptor `fd`, or a duplicate of it if its owner keeps it."""
        # First of all: later, another thread may have closed `fd`.
        cdef int own = fd if closefd else duplicate(fd)
        self.name = name
        self.closefd = closefd
        try:
            self.examine(own)
        except BaseException:
            if not closefd:
                release(own)
            raise
        self.number = fd
        self.fd = own
        if self.borrowed:
            self.fd = fd
            release(own)
        return 0

    cdef int examine(self, int fd) except -1:
        """Reads the kind, flags, size and alignments of the file."""
        cdef int flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if fstat(fd, &self.given) != 0:
            raise self.os_error(errno)
        self.borrowed = not self.closefd and (
            S_ISFIFO(self.given.st_mode) or S_ISSOCK(self.given.st_mode)
            or S_ISCHR(self.given.st_mode))
        self.streaming = not (S_ISBLK(self.given.st_mode)
                              or S_ISREG(self.given.st_mode) and file_takes_offsets(fd))
        self.can_read = (flags & os.O_ACCMODE) != os.O_WRONLY
        self.can_write = (flags & os.O_ACCMODE) != os.O_RDONLY
        self.o_append = flags & os.O_APPEND != 0
        self.direct = flags & os.O_DIRECT != 0
        self.use_nowait = not self.borrowed
        self.size = self.append_at = self.given.st_size
        if self.direct:
            if self.o_append:
                raise ValueError("a file that is open O_DIRECT must not be open O_APPEND too:"
                                 " append() writes to its end without")
            if not file_direct_alignment(fd, &self.memory_alignment, &self.offset_alignment):
                self.memory_alignment = self.offset_alignment = ALIGNMENT_DEFAULT
        return 0

    cdef bint is_given(self, int fd) noexcept:
        """Whether `fd` names the file that was opened."""
        cdef struct_stat status
        return (fstat(fd, &status) == 0
                and status.st_dev == self.given.st_dev and status.st_ino == self.given.st_ino
                and status.st_rdev == self.given.st_rdev
                and (status.st_mode ^ self.given.st_mode) & S_IFMT == 0)

    cdef int enter(self) except -1:
        """Returns the descriptor for one call, which leave() ends; any thread, with the GIL.

        Raises OSError (EBADF) if the number names another file by now.
        """
        cdef int fd
        if self.fd < 0:
            raise self.os_error(EBADF)
        if not self.borrowed:
            return self.fd
        fd = duplicate(self.fd)
        if not self.is_given(fd):
            close(fd)
            raise self.os_error(EBADF)
        return fd

    cdef int leave(self, int fd) except -1:
        if self.borrowed:
            with nogil:
                close(fd)
        return 0

    cdef object take_descriptor(self):
        """Closes the file to its requests; returns the call that closes the descriptor, or None."""
        cdef int fd = self.fd
        self.fd = -1
        if fd < 0 or self.borrowed:
            return None
        return partial(close_descriptor if self.closefd else give_duplicate_back, fd)

    cdef object os_error(self, int64_t code):
        text = os.strerror(code)
        if code == EINVAL and self.direct:
            text += (" (direct I/O: does the device take blocks of"
                     f" {self.offset_alignment} bytes?)")
        return OSError(code, text, self.name)

    cdef bint acquire(self, int access) noexcept:
        """Takes an access; returns False if the request must wait for it."""
        if access == EXCLUSIVE:
            if self.exclusive or self.sharing > 0:
                return False
            self.exclusive = True
        elif access == SHARED:
            if self.exclusive:
                return False
            self.sharing += 1
        return True

    cdef void end_access(self, int access) noexcept:
        if access == EXCLUSIVE:
            self.exclusive = False
        elif access == SHARED:
            self.sharing -= 1
