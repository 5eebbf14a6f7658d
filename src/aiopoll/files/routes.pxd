"""Which way a request of a file goes."""

from libc.stdint cimport int64_t

from aiopoll.files.request cimport FileRequest

cdef enum Route:
    TO_RING  # the iocb of the request is filled in
    TO_THREAD
    WOULD_BLOCK  # to a thread, for the loop's thread would block
    CACHED  # the request was read from the page cache; take_result() has the rest to do
    OVER  # the request has its result or error

# Those that return a Route return int, for the sake of exceptions.
cdef int choose_route(FileRequest request) except -1
cdef int perform(FileRequest request) except -1
cdef int take_result(FileRequest request, int64_t code) except -1
cdef void note_refusal(FileRequest request, int64_t error) noexcept
