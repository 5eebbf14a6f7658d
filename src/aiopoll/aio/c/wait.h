/*
 * Waiting: for the ring and for an epoll set.
 *
 * Facts.  io_pgetevents came with Linux 4.18; seccomp profiles that were written before allow
 * io_getevents and return EPERM or ENOSYS from the newer call.  Both take nanoseconds.
 * epoll_pwait2 (5.11) does too, epoll_wait takes milliseconds.
 *
 * Rule.  A call that is refused once is not tried again.  Milliseconds are rounded up: too late
 * is right, too early would make the loop spin.
 */
#ifndef AIOPOLL_WAIT_H
#define AIOPOLL_WAIT_H

#include <limits.h>
#include <stdbool.h>
#include <sys/epoll.h>

#include "syscalls.h"

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

static inline bool wait_call_is_missing(long result)
{
	return result == -EPERM || result == -ENOSYS;
}

/*
 * Waits for 1 to nr events; timeout_ns < 0 waits as long as it takes, 0 not at all.
 * *use_pgetevents is cleared for good where io_pgetevents is refused.
 */
static inline long wait_ring(aio_context_t ctx, long nr, struct io_event *events,
			     int64_t timeout_ns, int *use_pgetevents)
{
	struct timespec timeout = { timeout_ns / 1000000000, timeout_ns % 1000000000 };
	struct timespec *pointer = timeout_ns < 0 ? NULL : &timeout;
	long min_nr = timeout_ns == 0 ? 0 : 1;

	if (*use_pgetevents) {
		long result = aio_sys_pgetevents(ctx, min_nr, nr, events, pointer, NULL);

		if (!wait_call_is_missing(result))
			return result;
		*use_pgetevents = 0;
	}
	return aio_sys_getevents(ctx, min_nr, nr, events, pointer);
}

/* The same for an epoll set. */
static inline long wait_epoll(int epoll_fd, int nr, struct epoll_event *events, int64_t timeout_ns,
			      int *use_pwait2)
{
	struct timespec timeout = { timeout_ns / 1000000000, timeout_ns % 1000000000 };
	int64_t timeout_ms = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;

	if (timeout_ns > 0 && *use_pwait2) {
		long result = aio_result(syscall(SYS_epoll_pwait2, epoll_fd, events, nr, &timeout,
						 NULL, (size_t)0));

		if (!wait_call_is_missing(result))
			return result;
		*use_pwait2 = 0;
	}
	return aio_result(epoll_wait(epoll_fd, events, nr,
				     timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms));
}

#endif
