/*
 * One AIO context: how requests go in and events come out.
 *
 * Facts.  io_submit takes requests in order and stops at the first that it cannot take; it
 * returns how many it took, and an error only if that was none.  A request holds one of the
 * context's slots until its event is reaped, so that EAGAIN may only mean that events are not
 * reaped yet.  Events come through the mapped ring (mapped_ring.h) or by io_getevents, to one
 * reaper at a time.  After fork(2) the child has the parent's ring mapped and no context.
 *
 * Rule.  ring_submit() submits a batch.  It stops where its client must act: RING_REAP, once a
 * batch, asks for the events that hold the slots; RING_FULL says that reaping has not helped;
 * RING_REFUSED names the first request and its error.  The client skips or gives up the refused
 * request.  Code that may be in a forked child asks ring_is_inherited() before anything else.
 *
 * Why.  Three clients share it: Context, the reactor and the files.  What differs between them is
 * only what they do with a refused request.
 *
 * Cost.  One io_submit a batch, one more for each refusal.  The counters are plain: the callers
 * have the GIL, or the ring to themselves.
 *
 * Failure prevented.  A client that takes EAGAIN for "busy" and waits for an event before it
 * reaps waits for ever: all slots are held by events that are in the ring already.
 */
#ifndef AIOPOLL_RING_H
#define AIOPOLL_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fork_guard.h"
#include "mapped_ring.h"
#include "syscalls.h"
#include "wait.h"

struct ring_counters {
	uint64_t submitted;
	uint64_t completed;
	uint64_t cancelled;
	uint64_t refused;
	uint64_t submit_calls;
	uint64_t getevents_calls;
	uint64_t ring_reaps;
};

struct ring {
	aio_context_t ctx;		/* 0: closed */
	struct aio_ring *mapped;	/* NULL: reap by system call */
	unsigned nr_events;
	int use_pgetevents;
	uint64_t made_in;		/* fork_guard_now() of the process that made it */
	struct ring_counters counters;
};

enum ring_result {
	RING_SUBMITTED,	/* the whole batch */
	RING_REAP,	/* no slot is free: reap, and go on with the same batch */
	RING_FULL,	/* no slot is free, and RING_REAP has not helped */
	RING_REFUSED,	/* batch->error is that of request batch->taken */
};

struct ring_batch {
	struct iocb **iocbs;
	long nr;
	long taken;	/* how many the client need not care for any more */
	long error;
	bool reaped;	/* RING_REAP was returned */
};

/* Adopts a context, which has nr_events slots; want_mapped: reap from its ring if it can be. */
static inline void ring_init(struct ring *ring, aio_context_t ctx, unsigned nr_events,
			     bool want_mapped)
{
	*ring = (struct ring){
		.ctx = ctx,
		.mapped = ctx && want_mapped ? aio_ring_of(ctx) : NULL,
		.nr_events = nr_events,
		.use_pgetevents = 1,
		.made_in = fork_guard_now(),
	};
}

/* Whether a fork has brought the ring along: it is the parent's. */
static inline bool ring_is_inherited(const struct ring *ring)
{
	return is_forked_child(ring->made_in);
}

static inline enum ring_result ring_submit(struct ring *ring, struct ring_batch *batch)
{
	while (batch->taken < batch->nr) {
		long result = aio_sys_submit(ring->ctx, batch->nr - batch->taken,
					     batch->iocbs + batch->taken);

		ring->counters.submit_calls++;
		if (result > 0) {
			batch->taken += result;
			ring->counters.submitted += (uint64_t)result;
		} else if (result == -EAGAIN && !batch->reaped) {
			batch->reaped = true;
			return RING_REAP;
		} else {
			batch->error = -result;
			ring->counters.refused++;
			return result == -EAGAIN ? RING_FULL : RING_REFUSED;
		}
	}
	return RING_SUBMITTED;
}

/* Events that can be reaped without a system call. */
static inline uint32_t ring_pending(const struct ring *ring)
{
	return ring->mapped ? aio_ring_pending(ring->mapped) : 0;
}

/*
 * Waits for 1 to nr events by system call; timeout_ns < 0 waits as long as it takes, 0 not at all.
 * Returns how many, or -errno.
 */
static inline long ring_wait(struct ring *ring, struct io_event *events, long nr,
			     int64_t timeout_ns)
{
	ring->counters.getevents_calls++;
	return wait_ring(ring->ctx, nr, events, timeout_ns, &ring->use_pgetevents);
}

/* Takes up to nr events that are there, without waiting; returns how many, or -errno. */
static inline long ring_reap(struct ring *ring, struct io_event *events, long nr)
{
	uint32_t count;

	if (!ring->mapped)
		return ring_wait(ring, events, nr, 0);
	count = aio_ring_reap(ring->mapped, events, (uint32_t)nr);
	ring->counters.ring_reaps += count > 0;
	return count;
}

/*
 * Starts the cancellation of a request in flight; its event comes all the same.
 * Returns 0, or -errno where there is nothing to cancel (EINVAL: it has completed).
 */
static inline long ring_cancel(struct ring *ring, struct iocb *iocb)
{
	long result = aio_sys_cancel(ring->ctx, iocb);

	if (result != 0 && result != -EINPROGRESS)
		return result;
	ring->counters.cancelled++;
	return 0;
}

/*
 * Closes the ring; returns the context to give to io_destroy, 0 if there is none: it was closed
 * before, or is the parent's.  io_destroy blocks for an RCU grace period, and for reads and writes
 * in flight: call it without the GIL.
 */
static inline aio_context_t ring_detach(struct ring *ring)
{
	aio_context_t ctx = ring->ctx;

	ring->ctx = 0;
	ring->mapped = NULL;
	return ctx && !ring_is_inherited(ring) ? ctx : 0;
}

/* The aio_data of a request: an event is looked up by its index, and checked by its generation. */
static inline uint64_t request_id(uint32_t index, uint32_t generation)
{
	return (uint64_t)generation << 32 | index;
}

#endif
