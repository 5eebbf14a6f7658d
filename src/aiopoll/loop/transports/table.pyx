"""The transports of an event loop by descriptor: what asyncio calls `_transports`.

Facts.  asyncio has a WeakValueDictionary there, which takes some 200 bytes for each connection,
and a call through Python when it begins.  It is asked so that no program waits for a descriptor
that a transport has, and by servers for their clients.

Rule.  A stream connection adds its transport as it begins and removes it before the descriptor
is closed, at the latest when it is deallocated; it holds the transport as long.  All others are
in a WeakValueDictionary as before, and programs find the methods of a mapping in `_transports`.
A transport may be deallocated by any thread's collector: without a GIL the array is used in critical
sections, and a transport that is about to go is not found.

Cost.  Eight bytes for each descriptor up to the highest that was ever entered.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport Py_DECREF
from libc.string cimport memset

from aiopoll.aio.free_threading cimport borrowed, may_be_borrowed

import operator
import weakref


@cython.final
cdef class TransportTable:
    """A mapping of descriptors to transports, which keeps none of them alive."""

    def __cinit__(self):
        self.others = weakref.WeakValueDictionary()

    def __dealloc__(self):
        PyMem_Free(self.by_fd)

    cdef int add(self, int fd, object transport) except -1:
        """Enters a transport that lives until remove()."""
        if fd < 0:
            raise ValueError(f"a transport needs a descriptor, not {fd}")
        may_be_borrowed(<PyObject *>transport)
        with cython.critical_section(self):
            if fd >= self.room:
                self.grow(fd + 1)
            self.by_fd[fd] = <PyObject *>transport
            self.added += 1
        return 0

    cdef int grow(self, Py_ssize_t least) except -1:
        cdef Py_ssize_t room = max(64, 2 * self.room, least)
        memory = PyMem_Realloc(self.by_fd, room * sizeof(PyObject *))
        if memory == NULL:
            raise MemoryError
        self.by_fd = <PyObject **>memory
        memset(self.by_fd + self.room, 0, (room - self.room) * sizeof(PyObject *))
        self.room = room
        return 0

    cdef void remove(self, int fd, object transport) noexcept:
        """Removes a transport, unless the number is another one's by now."""
        with cython.critical_section(self):
            if 0 <= fd < self.room and self.by_fd[fd] == <PyObject *>transport:
                self.by_fd[fd] = NULL

    cdef object find(self, int fd):
        """The transport that has the descriptor; None if none has."""
        cdef PyObject *found = NULL
        with cython.critical_section(self):
            if 0 <= fd < self.room and self.by_fd[fd] != NULL:
                found = borrowed(self.by_fd[fd])
        if found == NULL:
            return self.others.get(fd) if self.others else None
        transport = <object>found
        Py_DECREF(transport)
        return transport

    def get(self, fd, default=None):
        """The transport that has the descriptor, or `default`."""
        transport = self.find(operator.index(fd))
        return default if transport is None else transport

    def __getitem__(self, fd):
        transport = self.find(operator.index(fd))
        if transport is None:
            raise KeyError(fd)
        return transport

    def __setitem__(self, fd, transport):
        self.others[int(operator.index(fd))] = transport  # a Descriptor would hold its file

    def __delitem__(self, fd):
        if self.pop(fd, None) is None:
            raise KeyError(fd)

    def pop(self, fd, *default):
        """Removes and returns the transport of a descriptor; without one `default`, or KeyError."""
        transport = self.find(operator.index(fd))
        if transport is None:
            return self.others.pop(fd, *default)
        self.remove(fd, transport)
        self.others.pop(fd, None)
        return transport

    def __contains__(self, fd):
        return self.get(fd) is not None

    def __len__(self):
        return len(self.keys())

    def __iter__(self):
        return iter(self.keys())

    def keys(self):
        """The descriptors, as a list."""
        cdef Py_ssize_t fd
        others = list(self.others)
        with cython.critical_section(self):
            return [fd for fd in range(self.room) if self.by_fd[fd] != NULL] + [
                fd for fd in others if fd >= self.room or self.by_fd[fd] == NULL]

    def values(self):
        """The transports, as a list."""
        return [transport for _, transport in self.items()]

    def items(self):
        """Pairs of descriptor and transport, as a list."""
        pairs = [(fd, self.get(fd)) for fd in self.keys()]
        return [(fd, transport) for fd, transport in pairs if transport is not None]

    def __repr__(self):
        return f"TransportTable({dict(self.items())!r})"
