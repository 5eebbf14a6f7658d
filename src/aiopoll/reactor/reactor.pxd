"""The reactor: waits for files, and hands over what shall run."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

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

from aiopoll.reactor.ready_queue cimport ReadyQueue

cdef enum:
    READ = 0
    WRITE = 1
    EVENTS_MAX = 64  # taken from the kernel at once, and handed over in one turn
    NO_REQUEST = 0xFFFFFFFF  # POLL_POOL_NONE
    POLL_IN = 0x01
    POLL_OUT = 0x04
    POLL_ALWAYS = 0x08 | 0x10  # POLLERR | POLLHUP: reported whether asked for or not

cdef enum Manner:
    GIVEN = 0  # somebody else owns the number: the epoll set, which does not keep the file open
    OWNED = 1  # the loop alone has the number: it may be polled by AIO
    CALLS_AGAIN = 2  # the reader calls again() each time that it has been handed over
    ONCE = 4  # the target takes itself off when it has been handed over, or calls keep()

cdef enum Eagerness:
    NOT_EAGER = 0
    EAGER = 1  # the reader calls again()
    TRYING = 2  # and has been handed over without an event

cdef object os_error(int code, str call)

cdef class Watch:
    cdef int fd
    cdef uint8_t nested  # it is in the epoll set
    cdef uint8_t owned  # OWNED
    cdef uint8_t end_in_epoll  # polled by AIO, and the epoll set reports its end
    cdef uint8_t once  # the epoll set reports it once
    cdef uint8_t fired  # and has done so
    cdef uint8_t eager  # an Eagerness
    cdef uint8_t reported  # that it cannot be waited for at present
    cdef uint32_t generation  # of its place in the epoll set
    cdef uint32_t read_turn  # in which it was handed over for reading, where the set reports its end
    cdef object file  # whose number it is; None where it was given as a number
    cdef object reader
    cdef object writer
    cdef uint32_t[2] requests

    cdef object target(self, int direction)
    cdef void set_target(self, int direction, object target) noexcept

cdef class Reactor:
    cdef readonly str backend
    cdef ReadyQueue ready
    cdef object report
    cdef list watches
    cdef Py_ssize_t nr_watched
    cdef Py_ssize_t nr_nested
    cdef int epoll_fd
    cdef int wake_fd
    cdef int use_pwait2
    cdef int sleeping
    cdef bint in_turn
    cdef uint64_t mm_generation
    cdef epoll_event *epoll_events
    cdef int epoll_room
    cdef bint wakes_by_epoll  # the wake-up is in the epoll set
    cdef uint32_t generation
    cdef char *left_in_epoll  # by descriptor: whether a place of ONCE may be left in the set
    cdef int left_room
    cdef Py_ssize_t dispatched
    cdef uint64_t turns
    cdef uint64_t sleeps
    cdef uint64_t wakes
    cdef uint64_t stale
    cdef uint64_t refused
    cdef uint64_t overflowed
    cdef uint64_t rebuilt

    cdef bint is_foreign(self) noexcept
    cdef int check_process(self) except -1
    cdef Watch find(self, int fd)
    cdef Watch watch(self, int fd, int direction, object target, int manner, object file)
    cdef Watch add(self, int fd, int direction, object target, int manner, object file)
    cdef int widen(self, Watch watch, int direction) except -1
    cdef bint is_dead(self, Watch watch) except -1
    cdef int forget(self, Watch watch) except -1
    cdef int keep(self, Watch watch) except -1
    cdef int own(self, Watch watch) except -1
    cdef int disown(self, Watch watch, object file) except -1
    cdef int again(self, Watch watch, bint hit) except -1
    cdef object unwatch(self, Watch watch, int direction)
    cdef int descriptor_of(self, object file) except -2
    cdef object watching(self, int fd, int direction)
    cdef int arm(self, Watch watch, int direction) except -1
    cdef int disarm(self, Watch watch, int direction) except -1
    cdef int nest(self, Watch watch) except -1
    cdef int watch_end(self, Watch watch) except -1
    cdef int leave_epoll(self, Watch watch) except -1
    cdef int control(self, int epoll_fd, Watch watch, int operation) except? -1
    cdef int note_left(self, int fd, bint left) except -1
    cdef int rebuild_epoll(self) except -1
    cdef int reserve_epoll_events(self, int room) except -1
    cdef int collect_nested(self, int64_t timeout_ns) except -1
    cdef int hand_over(self, Watch watch, int direction) except -1
    cdef int turn(self, int64_t timeout_ns) except -1
    cdef int before_sleep(self) noexcept
    cdef int after_sleep(self) noexcept
    cdef int drain_wake(self) noexcept
    cdef int wake(self) noexcept
    cdef bint pending(self) noexcept
    cdef bint idle(self) noexcept
    cdef Py_ssize_t nr_lost(self) except? -1
    cdef int shut(self) except -1

cdef class EpollReactor(Reactor):
    pass
