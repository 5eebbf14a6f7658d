/*
 * Busy polling: looking at the ring's tail for a while before sleeping in the kernel.
 *
 * Facts.  An event becomes visible in the mapped ring without a system call.  To sleep and be
 * woken costs more CPU time on a virtual machine than a few tens of microseconds of looking.
 * While we look, no other thread runs on our CPU, and that may be the peer's.
 *
 * Rule.  Where it is adaptive: look only if the gap before was shorter than the budget, so that
 * an idle process never looks twice.  Each look that finds nothing doubles the number of sleeps to
 * go by before the next one, up to 1,023; one that finds something sets it to none.  A look during
 * which another thread got the CPU ends, found or not: 63 sleeps go by before the next, and twice as
 * many each time that happens again, up to 8,191; 1,024 looks during which it does not halve that.
 *
 * Why.  Gaps distinguish a busy peer from an idle one; the doubling, a peer on another CPU from one
 * that waits for ours, for which looking never succeeds although every gap is short.  A loop that
 * looks uses up its slice of the CPU, which one that sleeps leaves to others.  The clock shows it:
 * between two readings are a few microseconds.  So it does where a quota throttles us.
 *
 * Cost.  Two readings of the clock a sleep, and the budget once for every burst that ends.  Beside a
 * busy thread, a slice for some thousand sleeps.
 */
#ifndef AIOPOLL_BUSY_POLL_H
#define AIOPOLL_BUSY_POLL_H

#include <stdbool.h>
#include <stdint.h>

#include "clock.h"
#include "ring.h"
#include "sleep_time.h"
#include "traced_calls.h"

#define BUSY_POLL_SKIP_MAX 1023u
#define BUSY_POLL_LOOKS 32	/* between two readings of the clock */
#define BUSY_POLL_LOST_NS 200000	/* where so much is between them the CPU was another's */
#define BUSY_POLL_CROWD_MIN 63u
#define BUSY_POLL_CROWD_MAX 8191u
#define BUSY_POLL_CLEAN 1024u

struct busy_poll {
	int64_t budget_ns;	/* 0: never */
	bool adaptive;
	bool quick;		/* the last gap was shorter than the budget */
	uint32_t skip;		/* sleeps to go by before the next look */
	uint32_t backoff;
	uint32_t crowd;		/* sleeps to go by after the last look that lost the CPU */
	uint32_t clean;		/* looks since then */
	uint64_t spins;
	uint64_t hits;
};

static inline void busy_poll_init(struct busy_poll *busy, int64_t budget_ns, bool adaptive)
{
	*busy = (struct busy_poll){ .budget_ns = budget_ns, .adaptive = adaptive };
}

static inline void busy_poll_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb");
#endif
}

/* Whether to look before this sleep. */
static inline bool busy_poll_due(struct busy_poll *busy)
{
	if (busy->budget_ns == 0)
		return false;
	if (!busy->adaptive)
		return true;
	if (!busy->quick)
		return false;
	if (busy->skip > 0) {
		busy->skip--;
		return false;
	}
	return true;
}

/* Whether an event is there, or comes in a microsecond or two. */
static inline bool busy_poll_look(const struct aio_ring *ring)
{
	for (int look = 0; look < BUSY_POLL_LOOKS; look++) {
		if (aio_ring_pending(ring) > 0)
			return true;
		busy_poll_relax();
	}
	return false;
}

static inline uint32_t busy_poll_most(uint32_t one, uint32_t limit)
{
	return one < limit ? one : limit;
}

/* Looks until an event is there (true), or the budget or timeout_ns (if not negative) is over. */
static inline bool busy_poll_spin(struct busy_poll *busy, const struct aio_ring *ring,
				  int64_t timeout_ns)
{
	int64_t limit = busy->budget_ns, start = clock_ns(), before, now = start;
	bool found, lost;

	if (timeout_ns >= 0 && timeout_ns < limit)
		limit = timeout_ns;
	busy->spins++;
	do {
		before = now;
		found = busy_poll_look(ring);
		now = clock_ns();
		lost = now - before > BUSY_POLL_LOST_NS;
	} while (!found && !lost && now - start < limit);
	busy->hits += found;
	if (lost) {
		busy->crowd = busy->crowd ? busy_poll_most(busy->crowd * 2, BUSY_POLL_CROWD_MAX)
					  : BUSY_POLL_CROWD_MIN;
		busy->skip = busy->crowd;
		busy->clean = 0;
		return found;
	}
	if (++busy->clean == BUSY_POLL_CLEAN) {
		busy->crowd /= 2;
		busy->clean = 0;
	}
	if (found) {
		busy->backoff = 0;
		return true;
	}
	busy->backoff = busy_poll_most(busy->backoff * 2 + 1, BUSY_POLL_SKIP_MAX);
	busy->skip = busy->backoff;
	return false;
}

/*
 * ring_wait(), after a look where one is due; *slept: whether it went to sleep.
 * Both are in the trace, if there is one.
 * Call it without the GIL.
 */
static inline long busy_poll_wait(struct busy_poll *busy, struct ring *ring,
				  struct io_event *events, long nr, int64_t timeout_ns,
				  struct sleep_time *sleep, bool *slept,
				  struct trace_buffer *trace)
{
	bool looks = busy->budget_ns && ring->mapped;
	int64_t start = looks ? clock_ns() : 0;
	bool found = false;
	long count;

	if (looks && busy_poll_due(busy)) {
		found = busy_poll_spin(busy, ring->mapped, timeout_ns);
		if (trace)
			trace_end(trace, TRACE_BUSY_POLL, start, 0, 0, found, 0);
	}
	*slept = !found;
	if (found)
		return traced_ring_reap(trace, ring, events, nr);
	sleep_time_begin(sleep);
	count = traced_ring_wait(trace, ring, events, nr, timeout_ns);
	sleep_time_end(sleep);
	if (looks)
		busy->quick = clock_ns() - start < busy->budget_ns;
	return count;
}

#endif
