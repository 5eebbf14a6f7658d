"""Data that a connection has written and the kernel has not taken yet.

Facts.  sendmsg(2) takes several pieces (up to IOV_MAX), and may stop within one.

Rule.  One piece is kept as it is, several in a list.  Whatever was taken is dropped at once, and
of the first piece the number of bytes taken is kept.

Cost.  No copy; the pieces are bytes objects, which cannot change.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from libc.errno cimport errno
from libc.string cimport memset

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_NOSIGNAL

    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen

    ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    ssize_t c_sendmsg "sendmsg"(int fd, const msghdr *message, int flags)


cdef enum:
    PIECES_MAX = 64  # in one sendmsg


@cython.final
cdef class WriteQueue:
    """The pieces that wait, oldest first; the connection counts their bytes."""

    cdef int append(self, bytes data) except -1:
        if self.pieces is None:
            self.pieces = data
        elif type(self.pieces) is bytes:
            self.pieces = [self.pieces, data]
        else:
            (<list>self.pieces).append(data)
        return 0

    cdef ssize_t send(self, int fd, Py_ssize_t size) noexcept:
        """One send of what waits, which is `size` bytes; the bytes that were taken, or -errno."""
        cdef iovec[PIECES_MAX] vector
        cdef msghdr message
        cdef Py_ssize_t count, i
        cdef PyObject *piece
        cdef ssize_t taken
        if type(self.pieces) is bytes:
            taken = c_send(fd, PyBytes_AS_STRING(self.pieces) + self.sent, size, MSG_NOSIGNAL)
        else:
            count = min(PyList_GET_SIZE(self.pieces), <Py_ssize_t>PIECES_MAX)
            for i in range(count):
                piece = <PyObject *>PyList_GET_ITEM(self.pieces, i)
                vector[i].iov_base = PyBytes_AS_STRING(<object>piece)
                vector[i].iov_len = PyBytes_GET_SIZE(<object>piece)
            vector[0].iov_base = <char *>vector[0].iov_base + self.sent
            vector[0].iov_len -= self.sent
            memset(&message, 0, sizeof(message))
            message.msg_iov = vector
            message.msg_iovlen = count
            taken = c_sendmsg(fd, &message, MSG_NOSIGNAL)
        return -errno if taken < 0 else taken

    cdef int drop(self, Py_ssize_t taken, Py_ssize_t left) except -1:
        """Drops what the kernel has taken; `left` bytes still wait."""
        cdef Py_ssize_t count = 0, length
        if not left:
            self.pieces = None
            self.sent = 0
            return 0
        taken += self.sent
        if type(self.pieces) is bytes:
            self.sent = taken
            return 0
        while True:
            length = PyBytes_GET_SIZE((<list>self.pieces)[count])
            if length > taken:
                break
            taken -= length
            count += 1
        self.sent = taken
        if count:
            del (<list>self.pieces)[:count]
        return 0
