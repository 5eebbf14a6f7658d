/*
 * The six system calls of Linux AIO, each returning its result or -errno.
 *
 * Facts.  glibc wraps none of them (io_setup(2), "Notes").  io_pgetevents came with Linux 4.18
 * under number 333 on x86-64 and 292 on every architecture with the generic table.  Its last
 * argument is a struct that holds the mask and its size, which must be 8 (fs/aio.c,
 * io_pgetevents): the kernel's sigset_t has 64 bits, not glibc's 1024.
 *
 * Rule.  -errno is returned and errno left to its owner: these run with the GIL released, and
 * the callers decide what is an exception.
 */
#ifndef AIOPOLL_SYSCALLS_H
#define AIOPOLL_SYSCALLS_H

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"

#ifndef SYS_io_pgetevents
#if defined(__x86_64__)
#define SYS_io_pgetevents 333
#else
#define SYS_io_pgetevents 292
#endif
#endif

struct aio_sigset {
	const uint64_t *sigmask;
	size_t sigsetsize;
};

static inline long aio_result(long result)
{
	return result == -1 ? -errno : result;
}

static inline long aio_sys_setup(unsigned nr_events, aio_context_t *ctx)
{
	return aio_result(syscall(SYS_io_setup, nr_events, ctx));
}

static inline long aio_sys_destroy(aio_context_t ctx)
{
	return aio_result(syscall(SYS_io_destroy, ctx));
}

static inline long aio_sys_submit(aio_context_t ctx, long nr, struct iocb **iocbpp)
{
	return aio_result(syscall(SYS_io_submit, ctx, nr, iocbpp));
}

/* `unused` is a result that no kernel has ever written; the event comes through the ring. */
static inline long aio_sys_cancel(aio_context_t ctx, struct iocb *iocb)
{
	struct io_event unused;

	return aio_result(syscall(SYS_io_cancel, ctx, iocb, &unused));
}

static inline long aio_sys_getevents(aio_context_t ctx, long min_nr, long nr,
				     struct io_event *events, struct timespec *timeout)
{
	return aio_result(syscall(SYS_io_getevents, ctx, min_nr, nr, events, timeout));
}

/* `sigmask`: 64 bits, signal n in bit n-1, as the kernel's sigset_t has them. */
static inline long aio_sys_pgetevents(aio_context_t ctx, long min_nr, long nr,
				      struct io_event *events, struct timespec *timeout,
				      const uint64_t *sigmask)
{
	struct aio_sigset set = { sigmask, sizeof(*sigmask) };

	return aio_result(syscall(SYS_io_pgetevents, ctx, min_nr, nr, events, timeout, &set));
}

#endif
