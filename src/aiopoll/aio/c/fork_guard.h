/*
 * Whether this process made an object, or a fork brought it along.
 *
 * Facts.  An AIO context belongs to the mm, not to the process: a vfork child may use it, a
 * fork child may not, but (on 6.18) has the ring mapped shared, so that a user-space reap in
 * the child steals from the parent.  MADV_WIPEONFORK (4.14) makes a page read as zeroes in
 * exactly the processes that got a new mm by fork, whichever call made them.
 *
 * Rule.  Such a page holds the generation of this mm; a ring remembers the generation it was
 * made in, and is refused in any other.  There is one page a process: aio/fork_guard.pyx has it,
 * and every other module calls fork_guard_use() when it is imported.
 *
 * Why.  Reading the page is one load, where getpid(2) is a system call (glibc keeps no copy).
 *
 * Cost.  One page a process.  Where the kernel refuses MADV_WIPEONFORK the pid stands in.
 *
 * Without a GIL two threads of a child may come at once: the number is counted first, so that it is
 * no ancestor's whatever fork comes in between, and one of the two puts its own into the page.
 *
 * Failure prevented.  A server forks workers after its loop has run.  A worker that reaps from
 * the inherited ring moves its head: the parent's event is gone, and its connection hangs.
 */
#ifndef AIOPOLL_FORK_GUARD_H
#define AIOPOLL_FORK_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

struct fork_guard {
	uint64_t *page;			/* NULL: by pid */
	uint64_t last_generation;	/* of this mm and its ancestors */
};

static struct fork_guard *fork_guard_shared;

static inline void fork_guard_use(struct fork_guard *guard)
{
	fork_guard_shared = guard;
}

static inline void fork_guard_map(struct fork_guard *guard)
{
	long size = sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return;
	if (madvise(page, size, MADV_WIPEONFORK) != 0) {
		munmap(page, size);
		return;
	}
	guard->page = page;
}

/* Never 0; differs from what it returned in any ancestor of this mm. */
static inline uint64_t fork_guard_now(void)
{
	struct fork_guard *guard = fork_guard_shared;
	uint64_t generation, anew;

	if (!guard->page)
		return (uint64_t)getpid();
	generation = __atomic_load_n(guard->page, __ATOMIC_RELAXED);
	if (generation != 0)
		return generation;
	anew = __atomic_add_fetch(&guard->last_generation, 1, __ATOMIC_SEQ_CST);
	if (__atomic_compare_exchange_n(guard->page, &generation, anew, false, __ATOMIC_SEQ_CST,
					__ATOMIC_SEQ_CST))
		return anew;
	return generation;
}

/* Whether this process is a child of the fork of the one where fork_guard_now() returned `made`. */
static inline bool is_forked_child(uint64_t made)
{
	return made != fork_guard_now();
}

#endif
