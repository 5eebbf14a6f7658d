"""One AIO context: how requests go in and events come out; see c/ring.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from aiopoll.aio cimport abi

cdef extern from "ring.h" nogil:
    struct ring_counters:
        uint64_t submitted
        uint64_t completed
        uint64_t cancelled
        uint64_t refused
        uint64_t submit_calls
        uint64_t getevents_calls
        uint64_t ring_reaps

    ctypedef struct Ring "struct ring":
        abi.aio_context_t ctx
        abi.aio_ring *mapped
        unsigned nr_events
        int use_pgetevents
        uint64_t made_in
        ring_counters counters

    ctypedef enum RingResult "enum ring_result":
        RING_SUBMITTED
        RING_REAP
        RING_FULL
        RING_REFUSED

    ctypedef struct RingBatch "struct ring_batch":
        abi.iocb **iocbs
        long nr
        long taken
        long error
        bint reaped

    void ring_init(Ring *ring, abi.aio_context_t ctx, unsigned nr_events, bint want_mapped)
    bint ring_is_inherited(const Ring *ring)
    RingResult ring_submit(Ring *ring, RingBatch *batch)
    uint32_t ring_pending(const Ring *ring)
    long ring_wait(Ring *ring, abi.io_event *events, long nr, int64_t timeout_ns)
    long ring_reap(Ring *ring, abi.io_event *events, long nr)
    long ring_cancel(Ring *ring, abi.iocb *request)
    abi.aio_context_t ring_detach(Ring *ring)
    uint64_t request_id(uint32_t index, uint32_t generation)
