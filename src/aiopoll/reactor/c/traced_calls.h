/*
 * The system calls of a reactor, each a slice of the trace.
 *
 * Facts.  These are what a loop waits in, and what its own work consists of.  They run without the
 * GIL, or with it, or in the middle of another one.
 *
 * Rule.  `trace` is NULL while there is none: then only the call is made.  Results and errno are
 * those of the call.
 *
 * Cost.  One test a system call; two readings of the clock where there is a trace.
 */
#ifndef AIOPOLL_TRACED_CALLS_H
#define AIOPOLL_TRACED_CALLS_H

#include <errno.h>
#include <stddef.h>

#include "ring.h"
#include "trace_buffer.h"
#include "wait.h"

static inline int64_t trace_begin(const struct trace_buffer *trace)
{
	return trace ? clock_ns() : 0;
}

static inline void trace_end(struct trace_buffer *trace, enum trace_kind kind, int64_t begun_at_ns,
			     int fd, int64_t value, int64_t size, uint8_t detail)
{
	trace_add(trace, (struct trace_record){
		.at_ns = begun_at_ns, .took_ns = clock_ns() - begun_at_ns, .value = value,
		.size = size, .fd = fd, .kind = (uint8_t)kind, .detail = detail });
}

static inline enum ring_result traced_submit(struct trace_buffer *trace, struct ring *ring,
					     struct ring_batch *batch)
{
	int64_t begun_at_ns = trace_begin(trace);
	long before = batch->taken;
	enum ring_result result = ring_submit(ring, batch);

	if (trace && before < batch->nr)
		trace_end(trace, TRACE_SUBMIT, begun_at_ns, 0, batch->nr - before,
			  batch->taken > before || result == RING_REAP ? batch->taken - before
								       : -batch->error, 0);
	return result;
}

static inline long traced_ring_wait(struct trace_buffer *trace, struct ring *ring,
				    struct io_event *events, long nr, int64_t timeout_ns)
{
	int64_t begun_at_ns = trace_begin(trace);
	long result = ring_wait(ring, events, nr, timeout_ns);

	if (trace)
		trace_end(trace, TRACE_GETEVENTS, begun_at_ns, 0, timeout_ns, result,
			  ring->use_pgetevents != 0);
	return result;
}

static inline long traced_ring_reap(struct trace_buffer *trace, struct ring *ring,
				    struct io_event *events, long nr)
{
	long count;

	if (!ring->mapped)
		return traced_ring_wait(trace, ring, events, nr, 0);
	count = ring_reap(ring, events, nr);
	if (trace && count > 0)
		trace_note(trace, TRACE_REAP, 0, count, 0);
	return count;
}

static inline long traced_ring_cancel(struct trace_buffer *trace, struct ring *ring,
				      struct iocb *iocb)
{
	int64_t begun_at_ns = trace_begin(trace);
	int fd = (int)iocb->aio_fildes;
	long result = ring_cancel(ring, iocb);

	if (trace)
		trace_end(trace, TRACE_CANCEL, begun_at_ns, fd, 0, result, 0);
	return result;
}

static inline long traced_epoll_wait(struct trace_buffer *trace, int epoll_fd, int nr,
				     struct epoll_event *events, int64_t timeout_ns,
				     int *use_pwait2)
{
	int64_t begun_at_ns = trace_begin(trace);
	long result = wait_epoll(epoll_fd, nr, events, timeout_ns, use_pwait2);

	if (trace)
		trace_end(trace, TRACE_EPOLL_WAIT, begun_at_ns, 0, timeout_ns, result,
			  timeout_ns > 0 && *use_pwait2);
	return result;
}

static inline int traced_epoll_ctl(struct trace_buffer *trace, int epoll_fd, int operation, int fd,
				   struct epoll_event *event)
{
	int64_t begun_at_ns = trace_begin(trace);
	int result = epoll_ctl(epoll_fd, operation, fd, event);
	int error = errno;

	if (trace)
		trace_end(trace, TRACE_EPOLL_CTL, begun_at_ns, fd, event ? event->events : 0,
			  result < 0 ? -error : 0, (uint8_t)operation);
	errno = error;
	return result;
}

#endif
