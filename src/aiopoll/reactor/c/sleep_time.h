/*
 * How long a reactor has slept in the kernel, and when it was woken.
 *
 * Facts.  Only the thread that sleeps can say when its wait began, and whether it looked before.
 *
 * Rule.  Both ends of each wait are read from the clock while `on`; otherwise nothing is.  A look
 * at the ring before the wait (busy_poll.h) is no part of it: it takes CPU time.
 *
 * Cost.  Two readings of the clock, 20 to 30 ns each, where the thread sleeps.
 */
#ifndef AIOPOLL_SLEEP_TIME_H
#define AIOPOLL_SLEEP_TIME_H

#include <stdbool.h>

#include "clock.h"

struct sleep_time {
	bool on;
	int64_t begun_at_ns;
	int64_t woken_at_ns;	/* 0: it has not slept in this poll */
	int64_t slept_ns;	/* in all */
};

static inline void sleep_time_begin(struct sleep_time *sleep)
{
	if (sleep->on)
		sleep->begun_at_ns = clock_ns();
}

static inline void sleep_time_end(struct sleep_time *sleep)
{
	if (!sleep->on)
		return;
	sleep->woken_at_ns = clock_ns();
	sleep->slept_ns += sleep->woken_at_ns - sleep->begun_at_ns;
}

#endif
