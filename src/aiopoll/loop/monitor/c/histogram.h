/*
 * A histogram of times with fixed buckets.
 *
 * Facts.  Most times of a loop are below 100 microseconds; those that harm are some milliseconds.
 *
 * Rule.  A bucket counts the times up to its bound, and above the bound before it; the last has
 * none.  The bounds are 1, 2.5 and 5 in each power of ten, from 10 microseconds to 10 seconds:
 * Prometheus' own steps.  Each is at least twice the one before it, so that no two are between
 * a power of two and the next: a time's highest bit and one comparison give its bucket.
 *
 * Why.  Fixed buckets can be added up over loops, processes and time.  The branches of a search are
 * hard to predict: times differ.
 *
 * Cost.  168 bytes; some 15 instructions a time, none of which branches.
 */
#ifndef AIOPOLL_HISTOGRAM_H
#define AIOPOLL_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BOUNDS 19

/* What begins with a power of two: the bound in it, if there is one, and how many are below. */
struct histogram_octave {
	int64_t bound_ns;
	int64_t below;
};

static const struct histogram_octave histogram_octaves[64] = {
	[0 ... 12] = {INT64_MAX, 0},
	[13] = {10000, 0},
	[14] = {25000, 1},
	[15] = {50000, 2},
	[16] = {100000, 3},
	[17] = {250000, 4},
	[18] = {500000, 5},
	[19] = {1000000, 6},
	[20] = {INT64_MAX, 7},
	[21] = {2500000, 7},
	[22] = {5000000, 8},
	[23] = {10000000, 9},
	[24] = {25000000, 10},
	[25] = {50000000, 11},
	[26] = {100000000, 12},
	[27] = {250000000, 13},
	[28] = {500000000, 14},
	[29] = {1000000000, 15},
	[30] = {INT64_MAX, 16},
	[31] = {2500000000, 16},
	[32] = {5000000000, 17},
	[33] = {10000000000, 18},
	[34 ... 63] = {INT64_MAX, 19},
};

struct histogram {
	int64_t sum_ns;		/* first: on the line of the counts that are most used */
	uint64_t counts[HISTOGRAM_BOUNDS + 1];
};

/* A time below zero counts as none. */
static inline void histogram_add(struct histogram *histogram, int64_t time_ns)
{
	int64_t time = time_ns > 0 ? time_ns : 0;
	const struct histogram_octave *octave =
		&histogram_octaves[63 - __builtin_clzll((uint64_t)time | 1)];

	histogram->counts[octave->below + (time > octave->bound_ns)]++;
	histogram->sum_ns += time;
}

#endif
