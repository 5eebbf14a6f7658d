/*
 * A histogram of times with fixed buckets.
 *
 * Facts.  Most times of a loop are below 100 microseconds; those that harm are some milliseconds.
 *
 * Rule.  A bucket counts the times up to its bound, and above the bound before it; the last has
 * none.  The bounds are 1, 2.5 and 5 in each power of ten, from 10 microseconds to 10 seconds:
 * Prometheus' own steps.
 *
 * Why.  Fixed buckets can be added up over loops, processes and time.
 *
 * Cost.  160 bytes; one comparison for a time below 10 microseconds.
 */
#ifndef AIOPOLL_HISTOGRAM_H
#define AIOPOLL_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BOUNDS 19

static const int64_t histogram_bounds_ns[HISTOGRAM_BOUNDS] = {
	10000, 25000, 50000, 100000, 250000, 500000,
	1000000, 2500000, 5000000, 10000000, 25000000, 50000000,
	100000000, 250000000, 500000000,
	1000000000, 2500000000, 5000000000, 10000000000,
};

struct histogram {
	uint64_t counts[HISTOGRAM_BOUNDS + 1];
	int64_t sum_ns;
};

static inline void histogram_add(struct histogram *histogram, int64_t time_ns)
{
	int bucket = 0;

	while (bucket < HISTOGRAM_BOUNDS && time_ns > histogram_bounds_ns[bucket])
		bucket++;
	histogram->counts[bucket]++;
	histogram->sum_ns += time_ns;
}

#endif
