"""A reactor's ring, and its records of requests."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiopoll.aio cimport abi
from aiopoll.aio.ring cimport Ring, RingBatch, RingResult
from aiopoll.reactor.reactor cimport EVENTS_MAX, Reactor, SleepTime
from aiopoll.reactor.request_source cimport RequestSource
from aiopoll.reactor.trace_buffer cimport trace_buffer

cdef extern from "<stdbool.h>":
    ctypedef bint _Bool

cdef extern from "poll_queue.h" nogil:
    enum:
        POLL_POOL_CHUNK
        POLL_POOL_NONE
        POLL_FREE
        POLL_QUEUED
        POLL_IN_FLIGHT

    struct poll_request:
        abi.iocb iocb
        uint32_t index
        uint32_t generation
        int32_t owner
        uint8_t direction
        uint8_t state

    struct poll_pool:
        uint32_t nr_chunks
        uint32_t next_free
        uint32_t in_flight

    struct poll_queue:
        uint32_t nr
        abi.iocb **batch

    poll_request *poll_pool_at(const poll_pool *pool, uint32_t index)
    void poll_pool_release(poll_pool *pool, poll_request *request)
    poll_request *poll_pool_find(const poll_pool *pool, uint64_t aio_data)
    uint32_t poll_pool_nr_taken(const poll_pool *pool)
    void poll_pool_clear(poll_pool *pool)
    int poll_queue_push(poll_queue *queue, uint32_t index)
    poll_request *poll_queue_add(poll_queue *queue, poll_pool *pool, int fd, uint8_t direction,
                                 uint16_t events)
    long poll_queue_take(poll_queue *queue, poll_pool *pool, int first, int second, uint32_t more)
    int poll_queue_reserve(poll_queue *queue, uint32_t nr)
    void poll_queue_submitted(poll_queue *queue, poll_pool *pool, Ring *ring, long first, long last)
    bint poll_pool_has_cancelled(const poll_pool *pool)
    void poll_pool_cancel(poll_pool *pool, Ring *ring, int first, int second)
    void poll_queue_clear(poll_queue *queue)

cdef extern from "traced_calls.h" nogil:
    RingResult traced_submit(trace_buffer *trace, Ring *ring, RingBatch *batch)
    long traced_ring_wait(trace_buffer *trace, Ring *ring, abi.io_event *events, long nr,
                          int64_t timeout_ns)
    long traced_ring_reap(trace_buffer *trace, Ring *ring, abi.io_event *events, long nr)
    long traced_ring_cancel(trace_buffer *trace, Ring *ring, abi.iocb *request)

cdef extern from "busy_poll.h" nogil:
    struct busy_poll:
        int64_t budget_ns
        uint64_t spins
        uint64_t hits

    void busy_poll_init(busy_poll *busy, int64_t budget_ns, bint adaptive)
    long busy_poll_wait(busy_poll *busy, Ring *ring, abi.io_event *events, long nr,
                        int64_t timeout_ns, SleepTime *sleep, _Bool *slept, trace_buffer *trace)

cdef enum:
    CANCELLED_NS = 1000000  # how long to wait for the event of a cancelled request, and how often
    CANCELLED_TRIES = 8

cdef enum Delivery:
    DISPATCH
    REARM_ONLY  # not the time to dispatch: the next submission reports it again

cdef class RingReactor(Reactor):
    cdef RequestSource source  # of the files, on the same ring
    cdef Ring ring
    cdef bint proven  # it has taken polls, and their cancellation
    cdef poll_pool pool
    cdef poll_queue queue
    cdef RingBatch batch  # of queue.batch, whose first `polls` are ours
    cdef long polls
    cdef abi.io_event[EVENTS_MAX] events
    cdef busy_poll busy

    cdef int open_ring(self, unsigned nr_events, object user_ring) except -1
    cdef bint make_room(self) except -1
    cdef int on_submit_error(self, poll_request *request, long error) except -1
    cdef int complete(self, abi.io_event *event, Delivery delivery) except -1
    cdef poll_request *enqueue(self, int fd, int direction, int events) except NULL
    cdef bint is_own(self, int fd) noexcept
    cdef int submit(self) except -1
    cdef int submit_source(self) except -1
    cdef int take_queue(self, uint32_t more) except -1
    cdef int submit_all(self, bint with_polls, Delivery delivery) except -1
    cdef int put_back(self) except -1
    cdef int submit_batch(self, Delivery delivery) except -1
    cdef int trace_armed(self, long first, long last) except -1
    cdef int wait_cancelled(self, poll_request *request) except -1
    cdef Py_ssize_t complete_all(self, long count, Delivery delivery) except -1
    cdef int wait_events(self, int64_t timeout_ns, Delivery delivery) except -1
    cdef Py_ssize_t reap_some(self, Delivery delivery) except -1
    cdef Py_ssize_t reap(self, Delivery delivery) except -1
    cdef int sleep(self, int64_t timeout_ns) except -1
    cdef int drain(self) except -1
    cdef int cancel_all_and_drain(self) except -1
