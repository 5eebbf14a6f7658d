/*
 * Answers that the kernel may give and rarely does, for a program that is started with this in
 * LD_PRELOAD.
 *
 * AIOPOLL_FAULT=short: a read or write of the ring transfers 4096 bytes at most.
 * AIOPOLL_FAULT=again: io_submit takes one read or write at a time, and has no slot twice after it.
 * AIOPOLL_FAULT=log: standard error is told the flags of each write.
 */
#define _FILE_OFFSET_BITS 64 /* as Python has it: pwritev() is pwritev64() */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/aio_abi.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define BLOCK 4096

static bool wants(const char *fault)
{
	const char *wanted = getenv("AIOPOLL_FAULT");

	return wanted && strcmp(wanted, fault) == 0;
}

static bool is_write(const struct iocb *iocb)
{
	return iocb->aio_lio_opcode == IOCB_CMD_PWRITE || iocb->aio_lio_opcode == IOCB_CMD_PWRITEV;
}

static bool is_transfer(const struct iocb *iocb)
{
	return is_write(iocb) || iocb->aio_lio_opcode == IOCB_CMD_PREAD ||
	       iocb->aio_lio_opcode == IOCB_CMD_PREADV;
}

static long (*next_syscall(void))(long, ...)
{
	static long (*next)(long, ...);

	if (!next)
		next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	return next;
}

static long submit_short(long ctx, long nr, struct iocb **iocbs)
{
	__u64 sizes[nr > 0 ? nr : 1];
	long result;

	for (long i = 0; i < nr; i++) {
		sizes[i] = iocbs[i]->aio_nbytes;
		if ((iocbs[i]->aio_lio_opcode == IOCB_CMD_PREAD ||
		     iocbs[i]->aio_lio_opcode == IOCB_CMD_PWRITE) && sizes[i] > BLOCK)
			iocbs[i]->aio_nbytes = BLOCK;
	}
	result = next_syscall()(SYS_io_submit, ctx, nr, iocbs);
	for (long i = 0; i < nr; i++)
		iocbs[i]->aio_nbytes = sizes[i];
	return result;
}

static long submit_again(long ctx, long nr, struct iocb **iocbs)
{
	static int refusals;
	long polls = 0;

	while (polls < nr && !is_transfer(iocbs[polls]))
		polls++;
	if (polls > 0 || nr == 0)
		return next_syscall()(SYS_io_submit, ctx, polls, iocbs);
	if (refusals > 0) {
		refusals--;
		errno = EAGAIN;
		return -1;
	}
	refusals = 2;
	return next_syscall()(SYS_io_submit, ctx, 1L, iocbs);
}

static void tell_flags(const char *call, int flags)
{
	if (wants("log"))
		fprintf(stderr, "%s %d\n", call, flags);
}

long syscall(long number, ...)
{
	long a[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_io_submit) {
		struct iocb **iocbs = (struct iocb **)a[2];

		if (wants("short"))
			return submit_short(a[0], a[1], iocbs);
		if (wants("again"))
			return submit_again(a[0], a[1], iocbs);
		for (long i = 0; i < a[1]; i++)
			if (is_write(iocbs[i]))
				tell_flags("io_submit", iocbs[i]->aio_rw_flags);
	}
	if (number == SYS_pwritev2)
		tell_flags("pwritev2", (int)a[5]);
	return next_syscall()(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t pwritev(int fd, const struct iovec *vector, int count, off_t offset)
{
	ssize_t (*next)(int, const struct iovec *, int, off_t) =
		(ssize_t (*)(int, const struct iovec *, int, off_t))dlsym(RTLD_NEXT, "pwritev64");

	tell_flags("pwritev", 0);
	return next(fd, vector, count, offset);
}

ssize_t writev(int fd, const struct iovec *vector, int count)
{
	ssize_t (*next)(int, const struct iovec *, int) =
		(ssize_t (*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");

	tell_flags("writev", 0);
	return next(fd, vector, count);
}
