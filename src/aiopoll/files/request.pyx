"""A request of a file: its state, and the memory that is in use until it is over.

Facts.  A read, write or fsync that io_submit has taken cannot be cancelled (io_cancel: EINVAL), and
the kernel uses its memory until the event.  A thread cannot be stopped in a system call either.

Rule.  A FileRequest holds buffers, file and future until its event or its thread's end, whatever
happens to the future.  Its record is free again when the future is done, and nothing is under way.

States:

FREE       a record that no request has
NEW        is filled in, or on its way through the calls of the loop's thread
HELD       waits for its access to the file
QUEUED     waits for io_submit
IN_FLIGHT  the kernel has it, until its event
POOLED     waits for a thread
IN_THREAD  a thread carries it out
PERFORMED  a thread has carried it out, or skipped it; the loop's thread has not seen that yet
DEFERRED   was read from the page cache; the next iteration finishes its future

Transitions:

FREE      -> NEW
NEW       -> HELD, QUEUED, POOLED, DEFERRED, FREE
HELD      -> QUEUED, POOLED, FREE
QUEUED    -> IN_FLIGHT, FREE
IN_FLIGHT -> QUEUED, POOLED, FREE
POOLED    -> IN_THREAD, FREE
IN_THREAD -> PERFORMED
PERFORMED -> FREE
DEFERRED  -> FREE

A request goes back from the kernel to the queue if io_submit found no slot for it.  It goes to a
thread if it was refused, would have blocked, or was done in part.  A request whose future was
cancelled is freed when it would leave HELD or QUEUED.  The kernel and the threads keep theirs to
the end.

Two flags do not depend on the state.  `patient`: it may wait for ever for another process, and
needs a thread that no other request waits for.  `unaligned`: it is a direct file's, and its bytes
go through the bounce buffer block by block, whichever route it takes.

Why.  One variable decides what a request may do next, and the debug build asserts each change.

Cost.  One store for each change.

Failure prevented.  A pool that cannot start its thread raises, but has queued the request.  The
caller carries it out, and later a thread finds it again.  It is POOLED for the first of them only.
"""

cimport cython
from cpython.buffer cimport PyBUF_CONTIG, PyBUF_CONTIG_RO, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc

from aiopoll.reactor.states cimport read_transitions

cdef tuple NAMES = ("FREE", "NEW", "HELD", "QUEUED", "IN_FLIGHT", "POOLED", "IN_THREAD",
                    "PERFORMED", "DEFERRED")


cdef set TRANSITIONS = read_transitions(__doc__, NAMES)


@cython.final
@cython.no_gc_clear
cdef class FileRequest:
    """One request of a file, with all memory that the kernel or a thread uses until it is done."""

    def __repr__(self):
        return f"<FileRequest {self.index} {NAMES[self.state]}>"

    cdef str state_name(self):
        return NAMES[self.state]

    cdef int enter(self, State state) except -1:
        """Changes the state; the debug build asserts the transition."""
        assert (self.state, state) in TRANSITIONS, f"{self!r} cannot become {NAMES[state]}"
        self.state = state
        return 0

    cdef int hold(self, object buffer, bint writable) except -1:
        """Takes a buffer as the memory of the request.  Raises BufferError."""
        PyObject_GetBuffer(buffer, &self.single_view, PyBUF_CONTIG if writable else PyBUF_CONTIG_RO)
        self.views = &self.single_view
        self.nr_views = 1
        self.use(self.single_view.buf, self.single_view.len)
        return 0

    cdef int hold_vector(self, object buffers, bint writable) except -1:
        """Takes several buffers, in order, as the memory of the request."""
        cdef tuple parts = tuple(buffers)
        cdef Py_ssize_t nr = len(parts), i
        cdef int flags = PyBUF_CONTIG if writable else PyBUF_CONTIG_RO
        if nr == 1:
            return self.hold(parts[0], writable)
        self.vector_memory = <iovec *>PyMem_Malloc((nr + 1) * sizeof(iovec))
        self.views = <Py_buffer *>PyMem_Malloc((nr + 1) * sizeof(Py_buffer))
        if self.vector_memory == NULL or self.views == NULL:
            raise MemoryError
        self.length = 0
        for i in range(nr):
            PyObject_GetBuffer(parts[i], &self.views[i], flags)
            self.nr_views += 1
            self.vector_memory[i].iov_base = self.views[i].buf
            self.vector_memory[i].iov_len = self.views[i].len
            self.length += self.views[i].len
        self.vector = self.vector_memory
        self.nr_vector = nr
        return 0

    cdef int read_into_bytes(self, int64_t size) except -1:
        """Creates the bytes object of the result, and reads into it."""
        self.result = PyBytes_FromStringAndSize(NULL, size)
        self.use(PyBytes_AS_STRING(self.result), size)
        return 0

    cdef void use(self, void *memory, int64_t length) noexcept:
        """Makes this memory alone the request's, to read into or write from."""
        self.single.iov_base = memory
        self.single.iov_len = length
        self.vector = &self.single
        self.nr_vector = 1
        self.length = length

    cdef void drop(self) noexcept:
        """Releases memory, file and future."""
        while self.nr_views > 0:
            self.nr_views -= 1
            PyBuffer_Release(&self.views[self.nr_views])
        if self.views != &self.single_view:
            PyMem_Free(self.views)
        PyMem_Free(self.vector_memory)
        self.views = NULL
        self.vector = self.vector_memory = NULL
        self.owner = None
        self.file = None
        self.future = self.call = self.result = self.error = None
        self.bounce = None

    def __dealloc__(self):
        self.drop()
