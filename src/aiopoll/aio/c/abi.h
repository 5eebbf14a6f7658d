/*
 * The binary interface of Linux AIO: what io_submit reads and io_getevents writes.
 *
 * Facts.  include/uapi/linux/aio_abi.h fixes struct iocb at 64 bytes and struct io_event at
 * 32; both are the same on every 64-bit architecture but for the order of aio_key and
 * aio_rw_flags, which follows the byte order.  IOCB_CMD_POLL (5) came with Linux 4.19,
 * aio_rw_flags with 4.13.
 *
 * Rule.  The structures are declared here under the kernel's names, and asserted, instead of
 * being taken from <linux/aio_abi.h>.
 *
 * Why.  A wheel is built against old kernel headers and runs on new kernels: which operations
 * exist is a question for the running kernel, never for the build machine.
 *
 * Cost.  <linux/aio_abi.h> must not be included beside this file.
 */
#ifndef AIOPOLL_ABI_H
#define AIOPOLL_ABI_H

#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(void *) == 8, "aiopoll needs a 64-bit Linux: the 32-bit ABI differs");

typedef unsigned long aio_context_t;

enum {
	IOCB_CMD_PREAD = 0,
	IOCB_CMD_PWRITE = 1,
	IOCB_CMD_FSYNC = 2,
	IOCB_CMD_FDSYNC = 3,
	IOCB_CMD_POLL = 5,
	IOCB_CMD_NOOP = 6,	/* declared by the kernel, refused by it */
	IOCB_CMD_PREADV = 7,
	IOCB_CMD_PWRITEV = 8,
};

enum {
	IOCB_FLAG_RESFD = 1 << 0,	/* aio_resfd is an eventfd to signal */
	IOCB_FLAG_IOPRIO = 1 << 1,	/* aio_reqprio is an ioprio */
};

struct iocb {
	uint64_t aio_data;	/* comes back as io_event.data */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint32_t aio_key;	/* written by the kernel; io_cancel wants it 0 */
	uint32_t aio_rw_flags;	/* RWF_* */
#else
	uint32_t aio_rw_flags;
	uint32_t aio_key;
#endif
	uint16_t aio_lio_opcode; /* IOCB_CMD_* */
	int16_t aio_reqprio;
	uint32_t aio_fildes;
	uint64_t aio_buf;	/* address; for POLL the events */
	uint64_t aio_nbytes;	/* length; for the vectors the count of struct iovec */
	int64_t aio_offset;
	uint64_t aio_reserved2;	/* must be 0 */
	uint32_t aio_flags;	/* IOCB_FLAG_*; unknown bits are ignored */
	uint32_t aio_resfd;
};

struct io_event {
	uint64_t data;		/* aio_data of the request */
	uint64_t obj;		/* address of the iocb as it was submitted */
	int64_t res;		/* result, or -errno */
	int64_t res2;		/* 0 for all that the kernel has today */
};

_Static_assert(sizeof(struct iocb) == 64, "struct iocb");
_Static_assert(offsetof(struct iocb, aio_data) == 0, "aio_data");
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
_Static_assert(offsetof(struct iocb, aio_key) == 8, "aio_key");
_Static_assert(offsetof(struct iocb, aio_rw_flags) == 12, "aio_rw_flags");
#endif
_Static_assert(offsetof(struct iocb, aio_lio_opcode) == 16, "aio_lio_opcode");
_Static_assert(offsetof(struct iocb, aio_reqprio) == 18, "aio_reqprio");
_Static_assert(offsetof(struct iocb, aio_fildes) == 20, "aio_fildes");
_Static_assert(offsetof(struct iocb, aio_buf) == 24, "aio_buf");
_Static_assert(offsetof(struct iocb, aio_nbytes) == 32, "aio_nbytes");
_Static_assert(offsetof(struct iocb, aio_offset) == 40, "aio_offset");
_Static_assert(offsetof(struct iocb, aio_reserved2) == 48, "aio_reserved2");
_Static_assert(offsetof(struct iocb, aio_flags) == 56, "aio_flags");
_Static_assert(offsetof(struct iocb, aio_resfd) == 60, "aio_resfd");

_Static_assert(sizeof(struct io_event) == 32, "struct io_event");
_Static_assert(offsetof(struct io_event, obj) == 8, "obj");
_Static_assert(offsetof(struct io_event, res) == 16, "res");
_Static_assert(offsetof(struct io_event, res2) == 24, "res2");

#endif
