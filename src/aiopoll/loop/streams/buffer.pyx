# cython: auto_pickle=False
"""Data that a stream has received, and that was not read yet.

Facts.  A transport hands over bytes objects, most of which are read as a whole before the next one
comes.  Programs read, clear and keep the bytearray that asyncio's reader has as `_buffer`.

Rule.  What arrives is kept as the bytes object it is, and given to the read that takes all of it;
only what arrives on top of unread data is gathered in a bytearray.  Once that bytearray has been
shown, it holds the data for good.

Why.  No copy of a message that is read as it came.

Cost.  A small rest keeps the whole bytes object alive.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t length, const void *needle, size_t needle_length)


@cython.final
cdef class StreamBuffer:
    """Bytes in the order they came."""

    cdef int add(self, object data) except -1:
        """Appends what bytearray.extend() takes."""
        if type(data) is bytes and not self.shown and not self.size():
            self.chunk = data
            self.start = 0
            return 0
        self.gather()
        if type(data) is bytes:
            self.gathered += <bytes>data
        else:
            self.gathered.extend(data)
        return 0

    cdef bytes take(self, Py_ssize_t count):
        """Removes the first `count` bytes, or all that is there."""
        cdef Py_ssize_t size = self.size()
        cdef bytes taken
        if count >= size:
            if self.chunk is not None and self.start == 0:
                taken = self.chunk
                self.chunk = None
                return taken
            count = size
        if count == 0:
            return b""
        taken = PyBytes_FromStringAndSize(self.data(), count)
        self.drop(count)
        return taken

    cdef int drop(self, Py_ssize_t count) except -1:
        """Forgets the first `count` bytes; BufferError while a view of them exists."""
        if self.chunk is None:
            if self.gathered is not None:
                del self.gathered[:count]
        elif count >= self.size():
            self.chunk = None
        else:
            self.start += count
        return 0

    cdef int gather(self) except -1:
        if self.gathered is None:
            self.gathered = bytearray()
        if self.chunk is not None:
            self.gathered += memoryview(self.chunk)[self.start:]
            self.chunk = None
        return 0

    cdef bytearray expose(self):
        """The bytearray that has the data from now on."""
        self.gather()
        self.shown = True
        return self.gathered

    cdef int replace(self, bytearray gathered) except -1:
        """Takes another bytearray, and what is in it, for its own."""
        if gathered is None:
            raise TypeError("a bytearray is needed")
        self.chunk = None
        self.gathered = gathered
        self.shown = True
        return 0

    cdef Py_ssize_t find(self, object separators, Py_ssize_t at, Py_ssize_t *start) except -2:
        """The end of the separator that ends first, if it starts not before `at`; -1 for none.

        separators: bytes, or a list of bytes.  start: set to where the separator starts.
        """
        cdef Py_ssize_t end = -1, found, size = self.size()
        if size == 0:
            return -1
        if type(separators) is bytes:
            start[0] = find_bytes(self.data(), size, at, separators)
            return -1 if start[0] < 0 else start[0] + PyBytes_GET_SIZE(separators)
        for separator in separators:
            found = find_bytes(self.data(), size, at, separator)
            if found >= 0 and (end < 0 or found + PyBytes_GET_SIZE(separator) < end):
                start[0] = found
                end = found + PyBytes_GET_SIZE(separator)
        return end


cdef Py_ssize_t find_bytes(const char *data, Py_ssize_t size, Py_ssize_t at,
                           bytes wanted) noexcept:
    cdef Py_ssize_t length = PyBytes_GET_SIZE(wanted)
    cdef const char *found
    if size - at < length:
        return -1
    if length == 1:
        found = <const char *>memchr(data + at, PyBytes_AS_STRING(wanted)[0], size - at)
    else:
        found = <const char *>memmem(data + at, size - at, PyBytes_AS_STRING(wanted), length)
    return -1 if found == NULL else found - data
