"""The AIO context of a loop that was closed, for the next one."""

from aiopoll.aio.abi cimport aio_context_t

cdef bint keep_context(aio_context_t ctx, unsigned int nr_events) noexcept
cdef long open_context(unsigned int nr_events, aio_context_t *ctx) noexcept
