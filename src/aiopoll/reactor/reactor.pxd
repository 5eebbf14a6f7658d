"""The reactor: waits for files, and dispatches what shall run."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from aiopoll.reactor.trace_buffer cimport TraceBuffer, trace_buffer

cdef extern from "<sys/epoll.h>" nogil:
    union epoll_data_t:
        int fd
        uint64_t u64

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
        EPOLLET
        EPOLLONESHOT
        EPOLLRDHUP

    int epoll_create1(int flags)
    int epoll_ctl(int epoll_fd, int operation, int fd, epoll_event *event)

cdef extern from "wait.h" nogil:
    long wait_epoll(int epoll_fd, int nr, epoll_event *events, int64_t timeout_ns,
                    int *use_pwait2)

cdef extern from "traced_calls.h" nogil:
    long traced_epoll_wait(trace_buffer *trace, int epoll_fd, int nr, epoll_event *events,
                           int64_t timeout_ns, int *use_pwait2)
    int traced_epoll_ctl(trace_buffer *trace, int epoll_fd, int operation, int fd,
                         epoll_event *event)

cdef extern from "wakeup.h" nogil:
    ctypedef struct Wakeup "struct wakeup":
        int fd
        int sleeping
        uint64_t count

    int wakeup_open(Wakeup *wakeup)
    void wakeup_before_sleep(Wakeup *wakeup)
    void wakeup_after_sleep(Wakeup *wakeup)
    bint wakeup_is_asleep(const Wakeup *wakeup)
    void wakeup_wake(Wakeup *wakeup)
    int wakeup_detach(Wakeup *wakeup, bint forked)
    void wakeup_drain(Wakeup *wakeup)

cdef extern from "sleep_time.h" nogil:
    ctypedef struct SleepTime "struct sleep_time":
        bint on
        int64_t woken_at_ns
        int64_t slept_ns

    void sleep_time_begin(SleepTime *sleep)
    void sleep_time_end(SleepTime *sleep)

from aiopoll.reactor.ready_queue cimport ReadyQueue
from aiopoll.reactor.registration cimport Registration, State

cdef enum:
    EVENTS_MAX = 64  # taken from the kernel at once, and dispatched in one iteration
    POLL_IN = 0x01
    POLL_OUT = 0x04
    POLL_ALWAYS = 0x08 | 0x10  # POLLERR | POLLHUP: reported whether asked for or not

cdef object os_error(int code, str call)

cdef class Reactor:
    cdef readonly str backend
    cdef ReadyQueue ready
    cdef object report
    cdef list registrations  # by descriptor
    cdef Py_ssize_t nr_registered
    cdef Py_ssize_t nr_in_epoll
    cdef int epoll_fd
    cdef Wakeup wakeup
    cdef SleepTime sleep_time
    cdef int use_pwait2
    cdef bint polling  # a call of poll(), drain() or their like runs
    cdef uint64_t made_in  # fork_guard_now() of the process that made it
    cdef epoll_event *epoll_events
    cdef int epoll_room
    cdef bint wakes_by_epoll  # the wake-up is in the epoll set
    cdef uint32_t generation  # of the newest entry of the epoll set
    cdef char *left_in_epoll  # by descriptor: whether an entry of ONCE may be left in the set
    cdef int left_room
    cdef Py_ssize_t nr_dispatched
    cdef uint64_t iterations
    cdef uint64_t sleeps
    cdef uint64_t stale
    cdef uint64_t refused
    cdef uint64_t overflowed
    cdef uint64_t rebuilt
    cdef trace_buffer *trace  # NULL while nothing is traced
    cdef list trace_buffers  # what `trace` points to, and may have pointed to

    cdef int set_trace(self, TraceBuffer buffer) except -1
    cdef bint is_forked_child(self) noexcept
    cdef int check_process(self) except -1
    cdef Registration find(self, int fd)
    cdef int enter(self, Registration registration, State state) except -1
    cdef Registration register(self, int fd, int direction, object callback, int flags, object file)
    cdef Registration add(self, int fd, int direction, object callback, int flags, object file)
    cdef int widen(self, Registration registration, int direction) except -1
    cdef bint has_lost_number(self, Registration registration) except -1
    cdef int forget(self, Registration registration) except -1
    cdef int drop(self, Registration registration) except -1
    cdef int rearm(self, Registration registration) except -1
    cdef int own(self, Registration registration) except -1
    cdef int move_to_ring(self, Registration registration) except -1
    cdef int disown(self, Registration registration, object file) except -1
    cdef int read_done(self, Registration registration, bint hit) except -1
    cdef object unregister(self, Registration registration, int direction)
    cdef int descriptor_of(self, object file) except -2
    cdef object callback_of(self, int fd, int direction)
    cdef int arm(self, Registration registration, int direction) except -1
    cdef int disarm(self, Registration registration, int direction) except -1
    cdef int move_to_epoll(self, Registration registration, State state) except -1
    cdef uint32_t next_generation(self) noexcept
    cdef int watch_end(self, Registration registration) except -1
    cdef int leave_epoll(self, Registration registration) except -1
    cdef int control(self, int epoll_fd, int operation, Registration registration, State state,
                     uint32_t generation) except? -1
    cdef int note_left(self, int fd, bint left) except -1
    cdef int add_wakeup(self, int epoll_fd) except -1
    cdef int rebuild_epoll(self) except -1
    cdef int reserve_epoll_events(self, int room) except -1
    cdef int poll_epoll(self, int64_t timeout_ns) except -1
    cdef int dispatch(self, Registration registration, int direction) except -1
    cdef int begin(self) except -1
    cdef int poll(self, int64_t timeout_ns) except -1
    cdef int before_sleep(self) noexcept
    cdef int after_sleep(self) noexcept
    cdef int wake(self) noexcept
    cdef bint pending(self) noexcept
    cdef bint idle(self) noexcept
    cdef Py_ssize_t count_leaked(self) except? -1
    cdef int shutdown(self) except -1
