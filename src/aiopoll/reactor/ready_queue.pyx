"""The queue of callbacks that the next iteration runs.

Facts.  Each callback goes through this queue.  A collections.deque is asked through Python calls,
which cost as much as making the handle.

Rule.  A ring in a list, whose slots hold None while they are free; asyncio and debuggers, which
know `loop._ready` as a deque, find the methods that they use.  An item that leaves through one of
these passes expose(), for a loop may have hidden it from the garbage collector.

Cost.  The list never shrinks: eight bytes for each callback that ever waited at once.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_SET_ITEM
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF

cdef enum:
    SLOTS_MIN = 64


cdef class ReadyQueue:
    """A first-in, first-out queue, with the methods of collections.deque."""

    def __cinit__(self, items=()):
        self.slots = [None] * SLOTS_MIN
        self.mask = SLOTS_MIN - 1
        self.extend(items)

    def __dealloc__(self):
        if self.slots is not None:
            self.clear()

    @cython.final
    cdef int push(self, object item) except -1:
        cdef Py_ssize_t at
        cdef PyObject *none
        if self.count > self.mask:
            self.grow()
        at = (self.head + self.count) & self.mask
        none = <PyObject *>PyList_GET_ITEM(self.slots, at)
        Py_INCREF(item)
        PyList_SET_ITEM(self.slots, at, item)
        Py_XDECREF(none)
        self.count += 1
        return 0

    @cython.final
    cdef object pop(self):
        """The oldest item; the queue must not be empty."""
        cdef object item = <object>PyList_GET_ITEM(self.slots, self.head)
        Py_INCREF(None)
        PyList_SET_ITEM(self.slots, self.head, None)
        Py_XDECREF(<PyObject *>item)
        self.head = (self.head + 1) & self.mask
        self.count -= 1
        return item

    @cython.final
    cdef int grow(self) except -1:
        cdef list slots = [None] * ((self.mask + 1) * 2), old = self.slots
        cdef Py_ssize_t i, at
        cdef PyObject *item
        cdef PyObject *none = <PyObject *>None
        if self.count <= self.mask:
            return 0  # the allocation has run a finalizer that came here first
        for i in range(self.count):
            at = (self.head + i) & self.mask
            item = <PyObject *>PyList_GET_ITEM(old, at)
            Py_INCREF(<object>item)
            PyList_SET_ITEM(slots, i, <object>item)
            Py_XDECREF(none)
        self.slots = slots  # the old list gives back its references when it goes
        self.mask = len(slots) - 1
        self.head = 0
        return 0

    cdef int expose(self, object item) except -1:
        """Makes an item fit for code that is not the loop's."""
        return 0

    def append(self, item):
        """Adds an item at the end."""
        self.push(item)

    def extend(self, items):
        """Adds items at the end."""
        for item in items:
            self.push(item)

    def popleft(self):
        """Removes and returns the oldest item; IndexError if there is none."""
        if not self.count:
            raise IndexError("pop from an empty queue")
        item = self.pop()
        self.expose(item)
        return item

    def clear(self):
        """Removes everything."""
        while self.count:
            self.expose(self.pop())

    def __len__(self):
        return self.count

    def __iter__(self):
        cdef Py_ssize_t i
        return iter([self.slots[(self.head + i) & self.mask] for i in range(self.count)])

    def __repr__(self):
        return f"{type(self).__name__}({list(self)!r})"
