"""Memory for direct I/O."""

cdef class AlignedBuffer:
    cdef char *data
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t alignment
    cdef void *mapped
    cdef size_t mapped_size
    cdef Py_ssize_t[1] shape
    cdef Py_ssize_t[1] strides
    cdef bint given

cdef class BufferPool:
    cdef list free  # a list for each power of two
    cdef readonly Py_ssize_t kept_max
    cdef readonly Py_ssize_t kept

    cdef AlignedBuffer take_buffer(self, Py_ssize_t size, Py_ssize_t alignment)
    cdef int give_buffer(self, AlignedBuffer buffer) except -1
