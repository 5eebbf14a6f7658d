/*
 * A binary heap of deadlines, each with the slot of whatever waits for it.
 *
 * Facts.  Most timers of a server are timeouts that never fire: they are pushed, cancelled, and
 * thrown out in bulk.
 *
 * Rule.  The heap holds no object, only a slot number into an array of its owner's, so that the
 * garbage collector can see the objects and the heap is plain memory.  Equal deadlines come out
 * in the order they went in.  Slots are numbered from 0 without gaps beyond the largest count
 * there was.  When the heap has become sparse, its owner numbers the slots anew and fits it.
 *
 * Cost.  28 bytes a timer (32 with the padding), and 4 for its slot on the free list.
 */
#ifndef AIOPOLL_TIMER_HEAP_H
#define AIOPOLL_TIMER_HEAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define TIMER_ROOM_KEPT 1024u

struct timer {
	double when;		/* seconds on the owner's clock */
	uint64_t order;
	uint32_t slot;
};

struct timer_heap {
	struct timer *timers;
	uint32_t *free_slots;
	uint32_t count;
	uint32_t free_count;
	uint32_t slots;		/* handed out so far: count + free_count */
	uint32_t room;
	uint64_t next_order;
};

static inline bool timer_before(const struct timer *a, const struct timer *b)
{
	return a->when < b->when || (a->when == b->when && a->order < b->order);
}

static inline void timer_heap_sift_up(struct timer_heap *heap, uint32_t at)
{
	struct timer timer = heap->timers[at];

	while (at > 0) {
		uint32_t parent = (at - 1) / 2;

		if (!timer_before(&timer, &heap->timers[parent]))
			break;
		heap->timers[at] = heap->timers[parent];
		at = parent;
	}
	heap->timers[at] = timer;
}

static inline void timer_heap_sift_down(struct timer_heap *heap, uint32_t at)
{
	struct timer timer = heap->timers[at];

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= heap->count)
			break;
		if (child + 1 < heap->count &&
		    timer_before(&heap->timers[child + 1], &heap->timers[child]))
			child++;
		if (!timer_before(&heap->timers[child], &timer))
			break;
		heap->timers[at] = heap->timers[child];
		at = child;
	}
	heap->timers[at] = timer;
}

/* Returns the slot of the new timer, or -1 where there is no memory for it. */
static inline int64_t timer_heap_push(struct timer_heap *heap, double when)
{
	uint32_t slot;

	if (heap->slots == heap->room && heap->free_count == 0) {
		uint32_t room = heap->room ? heap->room * 2 : 64;
		struct timer *timers;
		uint32_t *free_slots;

		if (room < heap->room)
			return -1;
		timers = realloc(heap->timers, room * sizeof(*timers));
		if (!timers)
			return -1;
		heap->timers = timers;
		free_slots = realloc(heap->free_slots, room * sizeof(*free_slots));
		if (!free_slots)
			return -1;
		heap->free_slots = free_slots;
		heap->room = room;
	}
	slot = heap->free_count ? heap->free_slots[--heap->free_count] : heap->slots++;
	heap->timers[heap->count] = (struct timer){ when, heap->next_order++, slot };
	timer_heap_sift_up(heap, heap->count++);
	return slot;
}

/* Takes the earliest timer out, which must exist, and returns its slot. */
static inline uint32_t timer_heap_pop(struct timer_heap *heap)
{
	uint32_t slot = heap->timers[0].slot;

	heap->free_slots[heap->free_count++] = slot;
	if (--heap->count > 0) {
		heap->timers[0] = heap->timers[heap->count];
		timer_heap_sift_down(heap, 0);
	}
	return slot;
}

/* Removes timer number `at` of the array without keeping the order; timer_heap_mend restores it. */
static inline void timer_heap_drop(struct timer_heap *heap, uint32_t at)
{
	heap->free_slots[heap->free_count++] = heap->timers[at].slot;
	heap->timers[at] = heap->timers[--heap->count];
}

static inline void timer_heap_mend(struct timer_heap *heap)
{
	for (uint32_t at = heap->count / 2; at-- > 0;)
		timer_heap_sift_down(heap, at);
}

/* Whether most of the memory is for timers that are gone. */
static inline bool timer_heap_is_sparse(const struct timer_heap *heap)
{
	return heap->room > TIMER_ROOM_KEPT && heap->count < heap->room / 8;
}

/* Gives that memory back, once timer number `at` of the array has slot `at`. */
static inline void timer_heap_fit(struct timer_heap *heap)
{
	uint32_t room = heap->count < TIMER_ROOM_KEPT / 2 ? TIMER_ROOM_KEPT : heap->count * 2;
	struct timer *timers = realloc(heap->timers, room * sizeof(*timers));
	uint32_t *free_slots = realloc(heap->free_slots, room * sizeof(*free_slots));

	if (timers)
		heap->timers = timers;
	if (free_slots)
		heap->free_slots = free_slots;
	heap->free_count = 0;
	heap->slots = heap->count;
	heap->room = room;
}

/* Forgets all timers and gives the memory back. */
static inline void timer_heap_clear(struct timer_heap *heap)
{
	free(heap->timers);
	free(heap->free_slots);
	*heap = (struct timer_heap){ .next_order = heap->next_order };
}

#endif
