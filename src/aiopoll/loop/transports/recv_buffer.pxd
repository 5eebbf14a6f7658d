"""recv(2) into a bytes object."""

from libc.stdint cimport uint8_t

cdef enum:
    READ_SIZE = 256 * 1024  # what asyncio reads at most at once

cdef char *read_buffer() noexcept

cdef bytes recv_bytes(int fd, Py_ssize_t room, int flags, uint8_t *pages, int *code)
