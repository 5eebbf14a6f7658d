/*
 * Tells a context of this process from one that a fork brought along.
 *
 * Facts.  An AIO context belongs to the mm, not to the process: a vfork child may use it, a
 * fork child may not, but (on 6.18) has the ring mapped shared, so that a user-space reap in
 * the child steals from the parent.  MADV_WIPEONFORK (4.14) makes a page read as zeroes in
 * exactly the processes that got a new mm by fork, whichever call made them.
 *
 * Rule.  Such a page holds the generation of this mm; a context remembers the generation it was
 * made in, and is refused in any other.
 *
 * Why.  Reading the page is one load, where getpid(2) is a system call (glibc keeps no copy).
 *
 * Cost.  One page a process.  Where the kernel refuses MADV_WIPEONFORK the pid stands in.
 * Callers hold the GIL.
 */
#ifndef AIOPOLL_MM_GENERATION_H
#define AIOPOLL_MM_GENERATION_H

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

static uint64_t *aio_mm_page;
static uint64_t aio_mm_last_generation;

static inline void aio_mm_page_map(void)
{
	long size = sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return;
	if (madvise(page, size, MADV_WIPEONFORK) != 0) {
		munmap(page, size);
		return;
	}
	aio_mm_page = page;
}

/* Never 0; differs from what any ancestor of this mm has ever answered. */
static inline uint64_t aio_mm_generation(void)
{
	if (!aio_mm_page)
		return (uint64_t)getpid();
	if (*aio_mm_page == 0)
		*aio_mm_page = ++aio_mm_last_generation;
	return *aio_mm_page;
}

#endif
