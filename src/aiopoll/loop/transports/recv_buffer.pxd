"""recv(2) into a bytes object."""

from libc.stdint cimport uint8_t

cdef enum:
    READ_SIZE = 256 * 1024  # what asyncio reads at most at once

cdef char *read_buffer  # READ_SIZE bytes for one read; whoever lets the GIL go has lost them

cdef bytes recv_bytes(int fd, Py_ssize_t room, int flags, uint8_t *pages, int *code)
