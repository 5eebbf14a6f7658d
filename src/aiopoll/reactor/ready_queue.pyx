"""The queue of callbacks that the next iteration runs.

Facts.  Each callback goes through this queue.  A collections.deque is asked through Python calls,
which cost as much as making the handle.

Rule.  A ring in a list, whose slots hold None while they are free; asyncio and debuggers, which
know `loop._ready` as a deque, find the methods that they use.  An item that leaves through one of
these passes expose(), for a loop may have hidden it from the garbage collector.  Without a GIL
only the owner uses the ring; what another thread pushes goes to a list that locks itself, and from
there into the ring before the owner pushes or counts anything: the order stays that of the calls.
The ring's size is asked of the list, each time.

Failure prevented.  A loop that was forgotten with callbacks in its queue goes with the garbage.
The collector clears the list, in whose place no memory is then, before it drops the queue, which
asks the list for what it holds; or a finalizer that runs late calls call_soon().

Cost.  The list never shrinks: eight bytes for each callback that ever waited at once.  While the
time that items wait is measured, another eight, and a reading of the clock for each.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_SET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t

from aiopoll.aio.clock cimport clock_ns
from aiopoll.aio.free_threading cimport (
    FREE_THREADED, flag_is_up, flag_lower, flag_raise, is_this_thread,
)

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    list PyList_GetSlice(list items, Py_ssize_t low, Py_ssize_t high)
    int PyList_SetSlice(list items, Py_ssize_t low, Py_ssize_t high, PyObject *new) except -1

cdef enum:
    SLOTS_MIN = 64


cdef inline int put(ReadyQueue queue, object item) except -1:
    """Puts an item into the ring, which the caller alone uses."""
    cdef Py_ssize_t at
    cdef PyObject *none
    if queue.count >= PyList_GET_SIZE(queue.slots):
        queue.grow()
    at = (queue.head + queue.count) & queue.mask
    none = <PyObject *>PyList_GET_ITEM(queue.slots, at)
    Py_INCREF(item)
    PyList_SET_ITEM(queue.slots, at, item)
    Py_XDECREF(none)
    if queue.times != NULL:
        queue.times[at] = queue.now_ns or clock_ns()
    queue.count += 1
    return 0


@cython.no_gc_clear  # it always has a list, of any size
cdef class ReadyQueue:
    """A first-in, first-out queue, with the methods of collections.deque."""

    def __cinit__(self, items=()):
        self.slots = [None] * SLOTS_MIN
        self.mask = SLOTS_MIN - 1
        self.posted = []
        self.extend(items)

    def __dealloc__(self):
        if self.slots is not None:
            self.clear()
        PyMem_Free(self.times)

    @cython.final
    cdef int push(self, object item) except -1:
        """Adds an item at the end; any thread may."""
        if FREE_THREADED:
            if not is_this_thread(&self.owner):
                self.posted.append(item)
                flag_raise(&self.has_posted)
                return 0
            if flag_is_up(&self.has_posted):
                self.take_posted()
        return put(self, item)

    @cython.final
    cdef int take_posted(self) except -1:
        """Moves what other threads have pushed into the ring."""
        cdef list items
        flag_lower(&self.has_posted)  # first: what is posted from now on raises it again
        items = PyList_GetSlice(self.posted, 0, PY_SSIZE_T_MAX)
        PyList_SetSlice(self.posted, 0, len(items), NULL)
        for item in items:
            put(self, item)
        return 0

    @cython.final
    cdef object pop(self):
        """The oldest item; the queue must not be empty."""
        cdef object item = <object>PyList_GET_ITEM(self.slots, self.head)
        Py_INCREF(None)
        PyList_SET_ITEM(self.slots, self.head, None)
        Py_XDECREF(<PyObject *>item)
        if self.times != NULL:
            self.since_ns = self.times[self.head]
        self.head = (self.head + 1) & self.mask
        self.count -= 1
        return item

    cdef int measure(self, bint on) except -1:
        """Keeps from now on, or no longer, when each item was pushed: `since_ns`."""
        cdef int64_t *times = NULL
        cdef Py_ssize_t i
        if on:
            times = <int64_t *>PyMem_Malloc((self.mask + 1) * sizeof(int64_t))
            if times == NULL:
                raise MemoryError
            self.since_ns = clock_ns()
            for i in range(self.mask + 1):
                times[i] = self.since_ns
        PyMem_Free(self.times)
        self.times = times
        return 0

    @cython.final
    cdef int grow(self) except -1:
        cdef list slots = [None] * ((self.mask + 1) * 2), old = self.slots
        cdef int64_t *times = NULL
        cdef Py_ssize_t i, at
        cdef PyObject *item
        cdef PyObject *none = <PyObject *>None
        if PyList_GET_SIZE(old) <= self.mask:
            self.restart()
            return 0
        if self.count <= self.mask:
            return 0  # the allocation has run a finalizer that came here first
        if self.times != NULL:
            times = <int64_t *>PyMem_Malloc(len(slots) * sizeof(int64_t))
            if times == NULL:
                raise MemoryError
        for i in range(self.count):
            at = (self.head + i) & self.mask
            item = <PyObject *>PyList_GET_ITEM(old, at)
            Py_INCREF(<object>item)
            PyList_SET_ITEM(slots, i, <object>item)
            Py_XDECREF(none)
            if times != NULL:
                times[i] = self.times[at]
        PyMem_Free(self.times)
        self.times = times
        self.slots = slots  # the old list gives back its references when it goes
        self.mask = len(slots) - 1
        self.head = 0
        return 0

    cdef int restart(self) except -1:
        """The collector has cleared the list, and what was in it is gone."""
        cdef list slots = [None] * SLOTS_MIN
        if PyList_GET_SIZE(self.slots) <= self.mask:  # no finalizer came here first
            self.count = self.head = 0
            self.mask = SLOTS_MIN - 1
            self.slots = slots
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
        if not nr_waiting(self):
            raise IndexError("pop from an empty queue")
        item = self.pop()
        self.expose(item)
        return item

    def clear(self):
        """Removes everything."""
        while nr_waiting(self):
            self.expose(self.pop())

    def __len__(self):
        return nr_waiting(self)

    def __iter__(self):
        cdef Py_ssize_t i
        return iter([self.slots[(self.head + i) & self.mask] for i in range(nr_waiting(self))])

    def __repr__(self):
        return f"{type(self).__name__}({list(self)!r})"
