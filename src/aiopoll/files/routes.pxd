"""The choice of a route for a request of a file."""

from libc.stdint cimport int64_t

from aiopoll.files.request cimport FileRequest

cdef enum Route:
    TO_RING  # the iocb of the request is filled in
    TO_THREAD
    WOULD_BLOCK  # to a thread: the loop's thread would block
    CACHED  # read from the page cache; take_result() completes the request
    OVER  # the request has its result or error

# Functions that return a Route are declared int, so that they can raise.
cdef int choose_route(FileRequest request) except -1
cdef int perform(FileRequest request) except -1
cdef int take_result(FileRequest request, int64_t code) except -1
cdef void note_refusal(FileRequest request, int64_t error) noexcept
