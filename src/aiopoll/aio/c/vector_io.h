/*
 * preadv2(2) and pwritev2(2): a read or write of a vector with flags.
 *
 * Facts.  glibc wraps them since 2.26, musl since 1.2.5 of 2024, whose <sys/uio.h> has the flags
 * since then too.  The kernel takes the offset in two halves, of which a 64-bit kernel uses the
 * first alone.  With the offset -1 the position of the open file is used and moved.
 *
 * Rule.  The system calls are made without a wrapper; like one, they return -1 and set errno.
 *
 * Failure prevented.  A module that was linked with a new musl is loaded by an older one of the
 * same platform tag, musllinux_1_2, which has no preadv2: it cannot be imported.
 */
#ifndef AIOPOLL_VECTOR_IO_H
#define AIOPOLL_VECTOR_IO_H

#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILE_RWF_DSYNC 0x2
#define FILE_RWF_NOWAIT 0x8

static inline ssize_t file_preadv2(int fd, const struct iovec *vector, int nr, int64_t offset,
				   int rw_flags)
{
	return syscall(SYS_preadv2, (long)fd, vector, (long)nr, (long)offset, 0L, (long)rw_flags);
}

static inline ssize_t file_pwritev2(int fd, const struct iovec *vector, int nr, int64_t offset,
				    int rw_flags)
{
	return syscall(SYS_pwritev2, (long)fd, vector, (long)nr, (long)offset, 0L, (long)rw_flags);
}

#endif
