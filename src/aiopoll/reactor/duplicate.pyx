"""Descriptors of our own for files that the program owns, for calls without the GIL.

Facts.  Without the GIL another thread may close a descriptor, and give its number to another file,
between the moment that its object was asked and the system call.  A duplicate names the same open
file, whatever happens to the first.  It also keeps a socket's peer from seeing the end, and to
close it drops the process's record locks on the file (record_locks.h).

Rule.  A system call that lets go of the GIL is made on a duplicate, made under the GIL right after
the object was asked: of a socket for one call, of a regular file, whose end no peer waits for, as
long as there is work to do.  The duplicate of a file on which the process has record locks is
kept, for the next call that needs it, until these are gone.

Why.  A close() by the owner is seen by the peer when the call returns, as it is without a
duplicate: the kernel holds the file for the time of a call.

Failure prevented.  sendfile(2) of 1 MiB waits for the disk.  Another thread closes the file and
opens a private one, which gets the number: the next call would send that to the peer.

Cost.  Two system calls for each duplicate, one more for a look at the locks of a file.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EBADF, EINTR, EMFILE, errno
from posix.fcntl cimport F_GETFL, fcntl
from posix.stat cimport S_ISREG, fstat, struct_stat
from posix.types cimport off_t
from posix.unistd cimport SEEK_CUR, SEEK_SET, close, lseek

from aiopoll.reactor.descriptor cimport has_number

import os

cdef extern from "record_locks.h":
    bint record_locks_are_held(int fd)

cdef extern from "<fcntl.h>" nogil:
    enum:
        F_DUPFD_CLOEXEC

cdef extern from "<sys/sendfile.h>" nogil:
    ssize_t c_sendfile "sendfile"(int out_fd, int in_fd, off_t *offset, size_t count)

cdef list kept = []  # descriptors that cannot be closed yet


cdef list take_kept():
    """Takes them out, so that no other thread has them meanwhile; list.pop() is atomic."""
    cdef list taken = []
    while kept:
        try:
            taken.append(kept.pop())
        except IndexError:  # another thread has taken the last one
            break
    return taken


cdef object failure(int code):
    return OSError(code, os.strerror(code))


cdef bint is_same_file(int fd, int other) noexcept:
    """Whether both are the same regular file, opened alike."""
    cdef struct_stat status, other_status
    return (fstat(fd, &status) == 0 and fstat(other, &other_status) == 0
            and S_ISREG(status.st_mode)
            and status.st_dev == other_status.st_dev and status.st_ino == other_status.st_ino
            and fcntl(fd, F_GETFL) == fcntl(other, F_GETFL))


cdef int duplicate(int fd) except -1:
    """A descriptor of our own for the file that `fd` names now.  Raises OSError."""
    cdef int own, candidate
    cdef list candidates
    if kept:
        own = -1
        candidates = take_kept()
        for candidate in candidates:
            if own < 0 and is_same_file(fd, candidate):
                own = candidate
            else:
                kept.append(candidate)
        if own >= 0:
            lseek(own, lseek(fd, 0, SEEK_CUR), SEEK_SET)
            return own
    own = fcntl(fd, F_DUPFD_CLOEXEC, 0)
    if own < 0:
        raise failure(errno)
    return own


cdef int release(int fd) except -1:
    """Closes a duplicate, once that drops no record lock of the process."""
    if kept:
        for own in take_kept():
            close_or_keep(own)
    return close_or_keep(fd)


cdef int close_or_keep(int fd) except -1:
    cdef struct_stat status
    if fstat(fd, &status) == 0 and S_ISREG(status.st_mode) and record_locks_are_held(fd):
        kept.append(fd)
        return 0
    with nogil:  # a network file system may take its time
        close(fd)
    return 0


def give_back(int fd):
    """release() for threads."""
    release(fd)


@cython.final
cdef class Duplicate:
    """The file of `file`, whatever happens to its descriptor.  Raises what fileno() does; OSError."""

    cdef object file
    cdef int number
    cdef int fd

    def __cinit__(self, *args, **options):
        # Whatever the arguments are: where one is refused, the descriptor 0 would be closed.
        self.fd = -1

    def __init__(self, file):
        if self.fd >= 0:
            raise RuntimeError("a Duplicate is initialised once")
        self.file = file
        self.number = file.fileno()
        self.fd = duplicate(self.number)

    def __dealloc__(self):
        if self.fd >= 0:
            with nogil:
                close(self.fd)

    @property
    def size(self):
        """The size of the file in bytes."""
        return os.fstat(self.fd).st_size

    def sendfile(self, sock, off_t offset, Py_ssize_t count):
        """One sendfile(2) to a socket; returns how many bytes it took.

        Raises OSError: EBADF if the socket or the file was closed.
        """
        cdef int out_fd = sock.fileno(), own, code
        cdef ssize_t sent
        if out_fd < 0 or not has_number(self.file, self.number):
            raise failure(EBADF)
        own = fcntl(out_fd, F_DUPFD_CLOEXEC, 0)
        if own < 0 and errno != EMFILE:
            raise failure(errno)
        try:
            while True:
                if own < 0:
                    # No descriptor is left.  No thread can take this number while we have the GIL.
                    sent = c_sendfile(out_fd, self.fd, &offset, count)
                    code = errno
                else:
                    with nogil:
                        sent = c_sendfile(own, self.fd, &offset, count)
                        code = errno
                if sent >= 0:
                    return sent
                if code != EINTR or own < 0:
                    raise failure(code)
                PyErr_CheckSignals()
        finally:
            if own >= 0:
                with nogil:
                    close(own)

    def seek(self, off_t offset):
        """Sets the position of `file`, unless it was closed.  Raises OSError."""
        if (self.fd >= 0 and has_number(self.file, self.number)
                and is_same_file(self.number, self.fd)
                and lseek(self.number, offset, SEEK_SET) < 0):
            raise failure(errno)

    def close(self):
        """Gives the descriptor back; again does nothing."""
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            release(fd)
