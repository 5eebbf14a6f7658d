/*
 * Waking a reactor that sleeps from another thread.
 *
 * Facts.  An eventfd is readable from when it was written to until it is read.  A write to it
 * costs a system call, which is wasted where no thread sleeps.
 *
 * Rule.  The sleeper: flag = 1, look at the queue, sleep.  The waker: put into the queue,
 * flag = 0, and write to the eventfd if the flag was 1.  Both sides are sequentially consistent.
 *
 * Why.  Each side stores before it loads what the other one stores, so that at least one sees the
 * other: either the sleeper finds the queue filled, or the waker finds the flag set.  Acquire and
 * release alone would let both loads pass the stores.  Under a GIL its hand-over orders more than
 * that, for the sleeper holds it from the flag until the queue was looked at; the flag does not
 * depend on it.  Without a GIL a waker counts itself while it uses the number, and close()
 * waits for that: the next file of the number must not be written to.
 *
 * Cost.  One descriptor; one exchange a wake-up, one system call where the loop sleeps.
 *
 * Failure prevented.  A thread adds a callback just before the loop goes to sleep, and finds the
 * flag down; the loop has looked at the queue before, and sleeps until the next timer.
 */
#ifndef AIOPOLL_WAKEUP_H
#define AIOPOLL_WAKEUP_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "free_threading.h"

struct wakeup {
	int fd;
	int sleeping;
	int wakers;		/* that may use fd, without a GIL */
	uint64_t count;		/* of writes to fd */
};

/* Returns the descriptor, or -1 with errno set. */
static inline int wakeup_open(struct wakeup *wakeup)
{
	*wakeup = (struct wakeup){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	return wakeup->fd;
}

/* Call it before the last look at the queue. */
static inline void wakeup_before_sleep(struct wakeup *wakeup)
{
	__atomic_store_n(&wakeup->sleeping, 1, __ATOMIC_SEQ_CST);
}

static inline void wakeup_after_sleep(struct wakeup *wakeup)
{
	__atomic_store_n(&wakeup->sleeping, 0, __ATOMIC_SEQ_CST);
}

/* Whether the reactor sleeps, or is about to; the caller then has to write. */
static inline bool wakeup_needed(struct wakeup *wakeup)
{
	return __atomic_exchange_n(&wakeup->sleeping, 0, __ATOMIC_SEQ_CST);
}

static inline bool wakeup_is_asleep(const struct wakeup *wakeup)
{
	return __atomic_load_n(&wakeup->sleeping, __ATOMIC_RELAXED);
}

static inline void wakeup_write(struct wakeup *wakeup, int fd)
{
	uint64_t one = 1;
	ssize_t unused = write(fd, &one, sizeof(one));

	(void)unused;	/* EAGAIN: it is readable already */
	count_up(&wakeup->count);
}

/* Wakes the reactor if it sleeps, or is about to, from any thread. */
static inline void wakeup_wake(struct wakeup *wakeup)
{
#if FREE_THREADED
	int fd;

	__atomic_fetch_add(&wakeup->wakers, 1, __ATOMIC_SEQ_CST);
	fd = __atomic_load_n(&wakeup->fd, __ATOMIC_SEQ_CST);
	if (fd >= 0 && wakeup_needed(wakeup))
		wakeup_write(wakeup, fd);
	__atomic_fetch_sub(&wakeup->wakers, 1, __ATOMIC_SEQ_CST);
#else
	if (wakeup_needed(wakeup))
		wakeup_write(wakeup, wakeup->fd);
#endif
}

/* Takes the descriptor away from the wakers, to be closed; in a forked child none is left. */
static inline int wakeup_detach(struct wakeup *wakeup, bool forked)
{
	int fd = __atomic_exchange_n(&wakeup->fd, -1, __ATOMIC_SEQ_CST);

	while (!forked && __atomic_load_n(&wakeup->wakers, __ATOMIC_SEQ_CST) > 0)
		sched_yield();
	return fd;
}

static inline void wakeup_drain(struct wakeup *wakeup)
{
	uint64_t count;
	ssize_t unused = read(wakeup->fd, &count, sizeof(count));

	(void)unused;
}

#endif
