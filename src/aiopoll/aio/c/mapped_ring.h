/*
 * The completion ring that io_setup maps at the address of the context.
 *
 * Facts.  An aio_context_t is the address of a struct aio_ring in this process's memory
 * (fs/aio.c, aio_setup_ring).  The kernel writes an event, then smp_wmb(), then tail; under
 * ring_lock, io_getevents reads from head to tail and writes head.  User space may do the same:
 * the kernel re-reads head, both when it looks for room in the ring and when it counts the
 * slots that came free (user_refill_reqs_available).  QEMU, Seastar and fio reap so.
 *
 * Rule.  Reap from the ring only where magic, incompat_features and header_length are those
 * that this file was written for; otherwise, and wherever something has to be waited for, use
 * io_getevents.  One reaper at a time, of whichever kind.
 *
 * Memory order.  `tail` is loaded with acquire: it pairs with the kernel's smp_wmb(), so that
 * an event counted by tail is seen whole.  `head` is stored with release: the kernel, once it
 * sees the new head, may overwrite the events below it, so our loads of them must not move
 * past the store.  `head` is loaded relaxed: no other thread writes it while we reap.
 *
 * Where not.  A child after fork may have the parent's ring mapped, shared: moving its head
 * steals the parent's events (fork_guard.h is the guard).  Under valgrind the kernel's stores
 * are invisible to memcheck.  gVisor maps a page of zeroes: no magic.
 */
#ifndef AIOPOLL_MAPPED_RING_H
#define AIOPOLL_MAPPED_RING_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"

#define AIO_RING_MAGIC 0xa10a10a1u
#define AIO_RING_INCOMPAT_FEATURES 0u

struct aio_ring {
	uint32_t id;	/* kernel's own */
	uint32_t nr;	/* number of io_events below */
	uint32_t head;	/* written by the reaper */
	uint32_t tail;	/* written by the kernel */
	uint32_t magic;
	uint32_t compat_features;
	uint32_t incompat_features;
	uint32_t header_length;
	struct io_event io_events[];
};

_Static_assert(sizeof(struct aio_ring) == 32, "struct aio_ring");
_Static_assert(offsetof(struct aio_ring, head) == 8, "head");
_Static_assert(offsetof(struct aio_ring, tail) == 12, "tail");
_Static_assert(offsetof(struct aio_ring, magic) == 16, "magic");

/* valgrind preloads a library of this name into its client, and has no other mark in C. */
static inline bool aio_under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "/vgpreload_");
}

/* The ring of a context, or NULL where it has to be reaped by system call. */
static inline struct aio_ring *aio_ring_of(aio_context_t ctx)
{
	struct aio_ring *ring = (struct aio_ring *)ctx;

	if (ring->magic != AIO_RING_MAGIC ||
	    ring->incompat_features != AIO_RING_INCOMPAT_FEATURES ||
	    ring->header_length != sizeof(struct aio_ring) || ring->nr < 2)
		return NULL;
	return aio_under_valgrind() ? NULL : ring;
}

/* Events that wait in the ring. */
static inline uint32_t aio_ring_pending(const struct aio_ring *ring)
{
	uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
	uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);

	return tail >= head ? tail - head : tail + ring->nr - head;
}

/* Moves up to `max` events out of the ring; returns how many. */
static inline uint32_t aio_ring_reap(struct aio_ring *ring, struct io_event *events, uint32_t max)
{
	uint32_t nr = ring->nr;
	uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
	uint32_t pending = aio_ring_pending(ring);
	uint32_t count = pending < max ? pending : max;
	uint32_t first = count < nr - head ? count : nr - head;

	if (count == 0)
		return 0;
	memcpy(events, &ring->io_events[head], first * sizeof(*events));
	memcpy(events + first, ring->io_events, (count - first) * sizeof(*events));
	head += count;
	__atomic_store_n(&ring->head, head >= nr ? head - nr : head, __ATOMIC_RELEASE);
	return count;
}

#endif
