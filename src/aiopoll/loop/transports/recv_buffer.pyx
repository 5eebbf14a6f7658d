"""recv(2) into a bytes object.

Facts.  A read of a socket is small as a rule, whatever room it is given.  A bytes object of the room
that is cut to what came costs a large allocation each; a copy out of a buffer that is always the
same costs little where little came, and a tenth of all time where 64 KiB did.  malloc maps 128 KiB
and more anew each time, which costs page faults.  On some CPUs `rep movsb`, which the kernel copies
with, is three times slower if the target begins 1 to 31 bytes further into its page than the source
does (seen on an AMD EPYC); the kernel's side begins with a page where messages are large.  So it is
slow to receive into the first 31 bytes of a page, and to send what begins in the last 31.

Rule.  A read goes to the shared buffer and is copied; where the last one was large, the next goes
straight into a bytes object that is a page larger, 120 KiB at most, and begins neither there nor there:
what was received is often sent on.

Cost.  256 KiB a process, or, without a GIL, a thread that reads.  The GIL is held: a recv of what is
there takes less than letting it go, and the shared buffer needs it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.errno cimport errno
from libc.stdint cimport uint8_t

cdef extern from "<sys/socket.h>" nogil:
    ssize_t c_recv "recv"(int fd, void *buffer, size_t length, int flags)

cdef extern from "Python.h":
    PyObject *PyBytes_New "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject **data, Py_ssize_t size) except -1

cdef enum:
    PAGE = 4096
    SLOW = 32  # bytes around the start of a page; at the start itself copying is fast
    LARGE_MIN = 32 * 1024  # from this size on the copy costs more than memory of its own
    LARGE_PAGES_MAX = 30  # malloc maps what is larger anew each time

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    static _Thread_local char shared_buffer[256 * 1024];
    #else
    static char shared_buffer[256 * 1024];
    #endif
    """
    char[READ_SIZE] shared_buffer


cdef char *read_buffer() noexcept:
    """READ_SIZE bytes for one read of this thread; they are lost once the GIL is released."""
    return shared_buffer


cdef inline bint is_slow(PyObject *data) noexcept:
    """Whether the kernel is slow to copy into this bytes object, or out of it."""
    cdef size_t start = <size_t>PyBytes_AS_STRING(<object>data)
    return start % PAGE and (start + SLOW - 1) % PAGE < 2 * SLOW - 1


cdef PyObject *new_bytes(Py_ssize_t size) except NULL:
    """A bytes object to be filled, where copying is fast."""
    cdef PyObject *data = PyBytes_New(NULL, size)
    cdef PyObject *other
    if is_slow(data):
        other = data
        try:
            data = PyBytes_New(NULL, size)
        finally:
            Py_DECREF(<object>other)
    return data


cdef bytes recv_bytes(int fd, Py_ssize_t room, int flags, uint8_t *pages, int *code):
    """One recv(2) of up to `room` bytes, READ_SIZE at most.

    pages: where reads are large, the pages to make room for; 0 at first, and the caller's to keep for
    those sockets that are alike.  None where recv failed, with its errno in `code`.
    """
    cdef ssize_t count
    cdef Py_ssize_t size
    cdef PyObject *data
    if pages[0] == 0:
        count = c_recv(fd, shared_buffer, min(room, <Py_ssize_t>READ_SIZE), flags)
        if count < 0:
            code[0] = errno
            return None
        if count >= LARGE_MIN:
            pages[0] = min(count // PAGE + 1, <ssize_t>LARGE_PAGES_MAX)
        return PyBytes_FromStringAndSize(shared_buffer, count)
    size = min(room, <Py_ssize_t>pages[0] * PAGE)
    data = new_bytes(size)
    count = c_recv(fd, PyBytes_AS_STRING(<object>data), size, flags)
    if count < 0:
        code[0] = errno
        Py_DECREF(<object>data)
        return None
    if count < LARGE_MIN:
        pages[0] = 0
    else:
        pages[0] = min(count // PAGE + 1 if count < size else 2 * <Py_ssize_t>pages[0],
                       <Py_ssize_t>LARGE_PAGES_MAX)
    if count < size:
        _PyBytes_Resize(&data, count)
    result = <object>data
    Py_DECREF(result)
    return <bytes>result
