"""The reactor on an AIO ring, and its records of requests."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiopoll.aio cimport abi
from aiopoll.reactor.reactor cimport EVENTS_MAX, Reactor, Watch
from aiopoll.reactor.request_source cimport RIDER_TAG, Rider

cdef extern from "poll_pool.h" nogil:
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

    poll_request *poll_pool_at(const poll_pool *pool, uint32_t index)
    poll_request *poll_pool_take(poll_pool *pool, int fd, uint8_t direction, uint16_t events)
    void poll_pool_release(poll_pool *pool, poll_request *request)
    poll_request *poll_pool_find(const poll_pool *pool, uint64_t aio_data)
    uint32_t poll_pool_nr_taken(const poll_pool *pool)
    void poll_pool_clear(poll_pool *pool)

cdef extern from "busy_poll.h" nogil:
    struct busy_poll:
        int64_t budget_ns
        uint64_t spins
        uint64_t hits

    void busy_poll_init(busy_poll *busy, int64_t budget_ns, bint adaptive)
    bint busy_poll_due(busy_poll *busy)
    bint busy_poll_spin(busy_poll *busy, const abi.aio_ring *ring, int64_t timeout_ns)
    int64_t busy_poll_clock()
    void busy_poll_slept(busy_poll *busy, int64_t since_ns)

cdef extern from "speculation.h" nogil:
    struct speculation:
        pass

cdef extern from "wait.h" nogil:
    long wait_ring(abi.aio_context_t ctx, long nr, abi.io_event *events, int64_t timeout_ns,
                   int *use_pgetevents)

cdef enum Delivery:
    HAND_OVER
    ONLY_ARM  # not the time to hand over: let the next submission tell

cdef class AioReactor(Reactor):
    cdef Rider rider
    cdef abi.aio_context_t ctx
    cdef abi.aio_ring *ring
    cdef readonly unsigned int nr_events
    cdef int use_pgetevents
    cdef bint proven  # it has taken polls, and their cancellation
    cdef poll_pool pool
    cdef uint32_t *queue
    cdef Py_ssize_t queued
    cdef Py_ssize_t queue_room
    cdef abi.iocb **batch
    cdef Py_ssize_t batch_room
    cdef Py_ssize_t taken  # of the batch
    cdef list postponed
    cdef int64_t retry_at
    cdef abi.io_event[EVENTS_MAX] events
    cdef list eager
    cdef speculation reading
    cdef uint64_t tried
    cdef uint64_t found
    cdef busy_poll busy
    cdef uint64_t submitted
    cdef uint64_t completed
    cdef uint64_t cancelled
    cdef uint64_t submit_calls
    cdef uint64_t getevents_calls
    cdef uint64_t ring_reaps

    cdef int open_ring(self, object user_ring) except -1
    cdef int enqueue(self, int fd, int direction, int events) except -1
    cdef int reserve_batch(self, Py_ssize_t room) except -1
    cdef Py_ssize_t take_queue(self) except -1
    cdef int reserve_queue(self) except -1
    cdef int submit(self) except -1
    cdef int submit_rider(self) except -1
    cdef int submit_all(self, Py_ssize_t polls, Delivery delivery) except -1
    cdef int submit_batch(self, Py_ssize_t polls, Py_ssize_t count, Delivery delivery) except -1
    cdef int put_back(self, Py_ssize_t polls, Py_ssize_t count) except -1
    cdef int postpone(self, Watch watch, object error) except -1
    cdef int retry(self) except -1
    cdef int refuse(self, poll_request *request, long error) except -1
    cdef int settle(self, poll_request *request) except -1
    cdef int evict(self) except -1
    cdef Py_ssize_t reap_some(self, Delivery delivery) except -1
    cdef Py_ssize_t reap(self, Delivery delivery) except -1
    cdef int complete(self, abi.io_event *event, Delivery delivery) except -1
    cdef int collect_all_nested(self) except -1
    cdef int try_eager(self) except -1
    cdef int sleep(self, int64_t timeout_ns) except -1
    cdef int settle_rider(self) except -1
