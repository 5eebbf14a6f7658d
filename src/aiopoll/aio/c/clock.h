/*
 * The clock of the package: CLOCK_MONOTONIC, in nanoseconds.
 *
 * Facts.  clock_gettime(2) of it is no system call where the vDSO has it: 20 to 30 ns.
 *
 * Rule.  All times that are compared are readings of this clock.
 */
#ifndef AIOPOLL_CLOCK_H
#define AIOPOLL_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
