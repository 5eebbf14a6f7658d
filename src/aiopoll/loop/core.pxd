"""The compiled half of the event loop."""

from libc.stdint cimport int64_t, uint64_t

from aiopoll.loop.loop_timers cimport LoopTimers
from aiopoll.loop.monitor.meter cimport Meter
from aiopoll.loop.monitor.watchdog cimport Watch
from aiopoll.loop.monitor.tracer cimport Tracer
from aiopoll.loop.transports.table cimport TransportTable
from aiopoll.reactor.reactor cimport Reactor
from aiopoll.reactor.runnable cimport Runnable

cdef class LoopCore(LoopTimers):
    cdef Reactor reactor
    cdef int in_callbacks  # how deep: a callback may run iterations itself
    cdef bint makes_futures  # a subclass has a create_future of its own
    cdef dict future_options
    cdef dict task_options  # the same; None where create_task() has more to do
    cdef Watch stall_watch  # None: stalls are not watched
    cdef public object _task_places
    cdef public uint64_t stall_count
    cdef uint64_t callbacks  # counts those that were run
    cdef uint64_t iterations
    cdef Meter meter  # None while nothing is measured
    cdef public bint _gather_writes
    cdef list held  # streams whose writes the kernel holds back until the callback ends
    cdef uint64_t more_sends
    cdef uint64_t pushes
    cdef Runnable running  # whose protocol is called
    cdef TransportTable transports
    cdef uint64_t bytes_received
    cdef uint64_t bytes_sent
    cdef uint64_t tasks_created
    cdef bytes datagram_room  # where batches of datagrams are received; None: there were none yet
    cdef public bint _stopping
    cdef public object _current_handle
    cdef public object _task_factory
    cdef public double _clock_resolution
    cdef public object _aiopoll_files
    cdef readonly Tracer _tracer  # None while nothing is traced
    cdef public object _trace  # the Trace that the loop takes its tracer from

    cdef int enter_watch(self) except -1
    cdef int end_run(self, object hooks) except -1
    cdef object new_future(self)
    cdef int run_iteration(self) except -1
    cdef int collect(self, int64_t timeout_ns) except -1
    cdef int collect_traced(self, int64_t timeout_ns) except -1
    cdef int run_ready(self) except -1
    cdef int push_held(self) except -1
    cdef object schedule(self, object callback, tuple args, object context)
    cdef int64_t sleep_time(self) except? -2
    cdef int run_observed(self, object handle) except -1
    cdef int run_debug(self, object handle) except -1

cdef object future_for(object loop)
