/*
 * Busy polling: looking at the ring's tail for a while before sleeping in the kernel.
 *
 * Facts.  An event becomes visible in the mapped ring without a system call.  To sleep and be
 * woken costs more CPU time on a virtual machine than a few tens of microseconds of looking.
 * While we look, no other thread runs on our CPU, and that may be the peer's.
 *
 * Rule.  Where it is adaptive: look only if the gap before was shorter than the budget, so that
 * an idle process never looks twice.  Each look that finds nothing doubles the number of sleeps to
 * go by before the next one, up to 1,023; one that finds something sets it to none.
 *
 * Why.  Gaps distinguish a busy peer from an idle one; the doubling, a peer on another CPU from one
 * that waits for ours, for which looking never succeeds although every gap is short.
 *
 * Cost.  Two readings of the clock a sleep, and the budget once for every burst that ends.
 */
#ifndef AIOPOLL_BUSY_POLL_H
#define AIOPOLL_BUSY_POLL_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "ring.h"

#define BUSY_POLL_SKIP_MAX 1023u
#define BUSY_POLL_LOOKS 32	/* between two readings of the clock */

struct busy_poll {
	int64_t budget_ns;	/* 0: never */
	bool adaptive;
	bool quick;		/* the last gap was shorter than the budget */
	uint32_t skip;		/* sleeps to go by before the next look */
	uint32_t backoff;
	uint64_t spins;
	uint64_t hits;
};

static inline void busy_poll_init(struct busy_poll *busy, int64_t budget_ns, bool adaptive)
{
	*busy = (struct busy_poll){ .budget_ns = budget_ns, .adaptive = adaptive };
}

static inline int64_t busy_poll_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
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

/* Looks until an event is there (true), or the budget or timeout_ns (if not negative) is over. */
static inline bool busy_poll_spin(struct busy_poll *busy, const struct aio_ring *ring,
				  int64_t timeout_ns)
{
	int64_t limit = busy->budget_ns, start = busy_poll_clock();

	if (timeout_ns >= 0 && timeout_ns < limit)
		limit = timeout_ns;
	busy->spins++;
	do {
		for (int look = 0; look < BUSY_POLL_LOOKS; look++) {
			if (aio_ring_pending(ring) > 0) {
				busy->hits++;
				busy->backoff = 0;
				return true;
			}
			busy_poll_relax();
		}
	} while (busy_poll_clock() - start < limit);
	busy->backoff = busy->backoff * 2 + 1;
	if (busy->backoff > BUSY_POLL_SKIP_MAX)
		busy->backoff = BUSY_POLL_SKIP_MAX;
	busy->skip = busy->backoff;
	return false;
}

/*
 * ring_wait(), after a look where one is due; *slept: whether it went to sleep.
 * Call it without the GIL.
 */
static inline long busy_poll_wait(struct busy_poll *busy, struct ring *ring,
				  struct io_event *events, long nr, int64_t timeout_ns, bool *slept)
{
	bool looks = busy->budget_ns && ring->mapped;
	int64_t start = looks ? busy_poll_clock() : 0;
	long count;

	*slept = !(looks && busy_poll_due(busy) && busy_poll_spin(busy, ring->mapped, timeout_ns));
	if (!*slept)
		return ring_reap(ring, events, nr);
	count = ring_wait(ring, events, nr, timeout_ns);
	if (looks)
		busy->quick = busy_poll_clock() - start < busy->budget_ns;
	return count;
}

#endif
