"""An epoll set whose events come once, with a number of the caller's.

Facts.  An epoll set knows a file by the open file and by the descriptor that it was added under.
It does not keep the file open, but a duplicate of it does: after close(2) the file is still
reported, and no call on its number reaches it any more.  EPOLL_CTL_MOD finds it only where the
number names that very file: ENOENT where it names another, EBADF where it names none.  After an
event, EPOLLONESHOT lets a file rest until EPOLL_CTL_MOD, which looks anew: what is ready is
reported again.

Rule.  Every file is added with EPOLLONESHOT and a serial number that is never used again.  An
event is handed out after EPOLL_CTL_MOD has asked for the next one.  Where that fails the
descriptor names a stranger: the event is dropped.  The file is lost then, until find_lost() meets
it again.

Why.  The call that makes the next event possible is the call that asks whose number it is: what
has lost its number is reported once at most, so that no wait spins on it.  select.epoll, which
reports descriptors, cannot distinguish an old registration of a number from a new one.

Failure prevented.  Descriptor 7 is registered, duplicated, closed and given to another socket.  The
set reports 7 for data of the duplicate; a read of 7 takes the other socket's data, or blocks.

Cost.  One epoll_ctl an event.

Another thread may register files while one waits: without a GIL the methods are critical sections.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EBADF, EEXIST, ENOENT, EPERM, errno
from libc.stdint cimport uint32_t, uint64_t
from posix.unistd cimport close

from aiopoll.aio.fork_guard cimport (
    fork_guard_now, fork_guard_use, is_forked_child, process_guard,
)
from aiopoll.reactor.reactor cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLONESHOT, epoll_create1,
    epoll_ctl, epoll_event, wait_epoll,
)

import os

fork_guard_use(process_guard())


cdef object failure(int code):
    return OSError(code, os.strerror(code))


@cython.final
cdef class EpollEntry:
    """A file in an EpollSet.  key: the caller's."""

    cdef readonly int fd
    cdef public object key
    cdef uint32_t events
    cdef uint64_t serial

    def __cinit__(self, int fd, uint32_t events, key):
        self.fd = fd
        self.events = events
        self.key = key


@cython.final
cdef class EpollSet:
    """An epoll set.  Raises OSError where the kernel gives none.

    stale: how many events were dropped because their number named another file, or none.
    """

    cdef int epoll_fd
    cdef uint64_t made_in
    cdef dict entries  # by serial number
    cdef dict lost  # as an ordered set
    cdef uint64_t serials
    cdef readonly uint64_t stale
    cdef epoll_event *events
    cdef int room

    def __cinit__(self):
        self.epoll_fd = -1  # first: it is closed where the rest fails
        self.entries = {}
        self.lost = {}
        self.made_in = fork_guard_now()
        self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll_fd < 0:
            raise failure(errno)

    def __dealloc__(self):
        if self.epoll_fd >= 0:
            close(self.epoll_fd)
        PyMem_Free(self.events)

    def fileno(self):
        """The descriptor of the set; -1 once closed."""
        return self.epoll_fd

    cdef int control(self, int operation, EpollEntry entry) noexcept:
        """epoll_ctl(2); returns 0 or the errno."""
        cdef epoll_event event
        if is_forked_child(self.made_in):
            return 0  # the set is shared with the parent of the fork: it is not ours to change
        event.events = entry.events | <uint32_t>EPOLLONESHOT
        event.data.u64 = entry.serial
        return errno if epoll_ctl(self.epoll_fd, operation, entry.fd, &event) < 0 else 0

    cdef bint ask_again(self, EpollEntry entry) except -1:
        """Waits for the file once more; False if the descriptor names it no more."""
        cdef int error = self.control(EPOLL_CTL_MOD, entry)
        if error == ENOENT or error == EBADF or error == EPERM:
            return False
        if error:
            raise failure(error)
        self.lost.pop(entry, None)
        return True

    @cython.critical_section
    def add(self, int fd, uint32_t events, key):
        """Adds the file that the descriptor names now; returns its EpollEntry.  Raises OSError."""
        cdef EpollEntry entry = EpollEntry.__new__(EpollEntry, fd, events, key)
        cdef int error
        self.serials += 1
        entry.serial = self.serials
        self.entries[entry.serial] = entry  # first: another thread may wait
        error = self.control(EPOLL_CTL_ADD, entry)
        if error == EEXIST:
            # It was added under this number once, which has been another's in between.
            error = self.control(EPOLL_CTL_MOD, entry)
        if error:
            del self.entries[entry.serial]
            raise failure(error)
        return entry

    @cython.critical_section
    def modify(self, EpollEntry entry not None, uint32_t events):
        """Changes what the file is waited for; False if its descriptor names it no more."""
        entry.events = events
        return self.ask_again(entry)

    @cython.critical_section
    def has(self, EpollEntry entry not None):
        """Whether the descriptor names the file still."""
        return self.ask_again(entry)

    @cython.critical_section
    def remove(self, EpollEntry entry not None):
        """Forgets the file, which may have been closed."""
        self.entries.pop(entry.serial, None)
        self.lost.pop(entry, None)
        self.control(EPOLL_CTL_DEL, entry)

    @cython.critical_section
    def find_lost(self):
        """Looks whether numbers name the files again that they were added for."""
        for entry in list(self.lost):
            self.ask_again(entry)

    @cython.critical_section
    def ready(self, int maximum):
        """Up to `maximum` of the events that are there, as (key, events) pairs; does not wait."""
        cdef EpollEntry entry
        cdef long count, i
        cdef int unused = 0
        cdef list found = []
        if maximum > self.room:
            memory = PyMem_Realloc(self.events, maximum * sizeof(epoll_event))
            if memory == NULL:
                raise MemoryError
            self.events = <epoll_event *>memory
            self.room = maximum
        count = wait_epoll(self.epoll_fd, maximum, self.events, 0, &unused)
        if count < 0:
            raise failure(-count)
        for i in range(count):
            entry = self.entries.get(self.events[i].data.u64)
            if entry is None:
                self.stale += 1
            elif self.ask_again(entry):
                found.append((entry.key, self.events[i].events))
            else:
                self.stale += 1
                self.lost[entry] = None
        return found

    @cython.critical_section
    def close(self):
        """Closes the set; closing again does nothing."""
        cdef int fd = self.epoll_fd
        self.epoll_fd = -1
        self.entries.clear()
        self.lost.clear()
        if fd >= 0:
            close(fd)
