/*
 * Reads and writes of whole vectors by system call, for threads and for reads of the page cache.
 *
 * Facts.  preadv2(2) with RWF_NOWAIT (4.14) reads cached pages.  It returns EAGAIN where none is
 * cached, and EOPNOTSUPP on file systems that do not support it (tmpfs).  A transfer may be short:
 * a read at the end of the file, a write where the device is full or RLIMIT_FSIZE is reached.  With
 * O_DIRECT, memory, offset and length are multiples of the alignments that statx(2) reports
 * (STATX_DIOALIGN, 6.1); a read at the end of the file returns the bytes before it.
 *
 * Rule.  A transfer goes on until all is done, the file ends, or an error occurs.  Then it returns
 * -errno, even if a part was transferred before.  The vector is advanced in place.  Unaligned
 * direct transfers go through an aligned buffer, a part at a time.  A write reads the blocks at its
 * two ends first; at last it cuts off the bytes that it wrote past the end of the file.  That is
 * safe only while no other request writes those blocks, which the caller ensures.
 *
 * Cost.  Two more reads of a block for a direct write that is aligned at neither end.
 */
#ifndef AIOPOLL_FILE_OPS_H
#define AIOPOLL_FILE_OPS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vector_io.h"

#define FILE_VECTOR_MAX 1024	/* UIO_MAXIOV */

/* Advances a vector by `count` bytes, and past the elements that are empty then. */
static inline void file_advance(struct iovec **vector, size_t *nr, size_t count)
{
	while (*nr > 0 && count >= (*vector)->iov_len) {
		count -= (*vector)->iov_len;
		++*vector;
		--*nr;
	}
	if (*nr > 0) {
		(*vector)->iov_base = (char *)(*vector)->iov_base + count;
		(*vector)->iov_len -= count;
	}
}

/*
 * Reads or writes the `length` bytes of the vector at `offset`.  Adds the bytes transferred to
 * *done; returns 0 if all were, or the file ended, else -errno.  `align` is 1 for buffered files.
 */
static inline int file_transfer(int fd, struct iovec **vector, size_t *nr, int64_t offset,
				int64_t length, int rw_flags, bool writing, uint32_t align,
				int64_t *done)
{
	file_advance(vector, nr, 0);
	while (length > 0) {
		int count = *nr < FILE_VECTOR_MAX ? (int)*nr : FILE_VECTOR_MAX;
		ssize_t result;

		if (rw_flags == 0)
			result = writing ? pwritev(fd, *vector, count, offset)
					 : preadv(fd, *vector, count, offset);
		else
			result = writing ? file_pwritev2(fd, *vector, count, offset, rw_flags)
					 : file_preadv2(fd, *vector, count, offset, rw_flags);
		if (result < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (result == 0)
			return writing ? -ENOSPC : 0;
		*done += result;
		offset += result;
		length -= result;
		file_advance(vector, nr, (size_t)result);
		if (!writing && result % align != 0)
			return 0;	/* the end of the file */
	}
	return 0;
}

/* Copies `length` bytes between a buffer and the beginning of a vector, which it advances. */
static inline void file_copy(struct iovec **vector, size_t *nr, char *buffer, size_t length,
			     bool from_vector)
{
	while (length > 0 && *nr > 0) {
		size_t part = (*vector)->iov_len < length ? (*vector)->iov_len : length;

		if (from_vector)
			memcpy(buffer, (*vector)->iov_base, part);
		else
			memcpy((*vector)->iov_base, buffer, part);
		buffer += part;
		length -= part;
		file_advance(vector, nr, part);
	}
}

static inline int64_t file_pread_all(int fd, char *buffer, int64_t length, int64_t offset,
				     uint32_t align)
{
	struct iovec one = { buffer, (size_t)length }, *vector = &one;
	size_t nr = 1;
	int64_t done = 0;
	int result = file_transfer(fd, &vector, &nr, offset, length, 0, false, align, &done);

	return result < 0 ? result : done;
}

/* Reads directly, at any offset and length into any memory, through `bounce`. */
static inline int file_read_unaligned(int fd, struct iovec **vector, size_t *nr, int64_t offset,
				      int64_t length, uint32_t align, char *bounce,
				      int64_t bounce_size, int64_t *done)
{
	while (length > 0) {
		int64_t skip = offset % align, start = offset - skip;
		int64_t span = (skip + length + align - 1) / align * align, got;

		if (span > bounce_size)
			span = bounce_size;
		got = file_pread_all(fd, bounce, span, start, align);
		if (got < 0)
			return (int)got;
		bool ended = got < span;

		got -= skip;
		if (got <= 0)
			return 0;
		if (got > length)
			got = length;
		file_copy(vector, nr, bounce + skip, (size_t)got, false);
		*done += got;
		offset += got;
		length -= got;
		if (ended)
			return 0;
	}
	return 0;
}

/* Reads one block from the file; the bytes past the file's end become zero. */
static inline int file_load_block(int fd, char *block, int64_t offset, uint32_t align)
{
	int64_t got = file_pread_all(fd, block, align, offset, align);

	if (got < 0)
		return (int)got;
	memset(block + got, 0, (size_t)(align - got));
	return 0;
}

/* Writes directly, at any offset and length out of any memory, through `bounce`. */
static inline int file_write_unaligned(int fd, struct iovec **vector, size_t *nr, int64_t offset,
				       int64_t length, int rw_flags, uint32_t align, char *bounce,
				       int64_t bounce_size, int64_t *done)
{
	struct stat status;
	int64_t written_end = 0, wanted_end;
	bool whole_blocks = (offset | length) % align == 0;
	int result = 0;

	if (fstat(fd, &status) != 0)
		return -errno;
	wanted_end = status.st_size;
	while (length > 0) {
		int64_t skip = offset % align, start = offset - skip, part, span;
		struct iovec one, *rest = &one;
		size_t one_nr = 1;
		int64_t moved = 0;

		part = length < bounce_size - skip ? length : bounce_size - skip;
		span = (skip + part + align - 1) / align * align;
		if (skip != 0)
			result = file_load_block(fd, bounce, start, align);
		if (result == 0 && (skip + part) % align != 0 && (skip == 0 || span > align))
			result = file_load_block(fd, bounce + span - align, start + span - align,
						 align);
		if (result < 0)
			break;
		file_copy(vector, nr, bounce + skip, (size_t)part, true);
		one.iov_base = bounce;
		one.iov_len = (size_t)span;
		result = file_transfer(fd, &rest, &one_nr, start, span, rw_flags, true, align,
				       &moved);
		if (moved > 0 && start + moved > written_end)
			written_end = start + moved;
		if (result < 0)
			break;
		*done += part;
		offset += part;
		length -= part;
		if (offset > wanted_end)
			wanted_end = offset;
	}
	/* A failed write of whole blocks wrote no byte too many, and other writes may run beside it. */
	if (written_end > wanted_end && !whole_blocks) {
		if (ftruncate(fd, wanted_end) != 0 && result == 0)
			result = -errno;
		if (result == 0 && rw_flags & FILE_RWF_DSYNC && fdatasync(fd) != 0)
			result = -errno;
	}
	return result;
}

/* Appends with the kernel's own O_APPEND; returns the offset of the data, or -errno. */
static inline int64_t file_append(int fd, struct iovec **vector, size_t *nr, int64_t length,
				  int rw_flags, int64_t *done)
{
	int64_t end;

	file_advance(vector, nr, 0);
	while (*done < length) {
		int count = *nr < FILE_VECTOR_MAX ? (int)*nr : FILE_VECTOR_MAX;
		ssize_t result = rw_flags ? file_pwritev2(fd, *vector, count, -1, rw_flags)
					  : writev(fd, *vector, count);

		if (result < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (result == 0)
			return -ENOSPC;
		*done += result;
		file_advance(vector, nr, (size_t)result);
	}
	end = lseek(fd, 0, SEEK_CUR);
	return end < 0 ? 0 : end - length;
}

/* Files that the kernel generates while they are read: a read(2) has its own length and end. */
static inline bool file_is_made_up(int fd)
{
	struct statfs status;

	if (fstatfs(fd, &status) != 0)
		return false;
	switch ((uint32_t)status.f_type) {	/* include/uapi/linux/magic.h */
	case 0x00009fa0u:	/* proc */
	case 0x62656572u:	/* sysfs */
	case 0x0027e0ebu:	/* cgroup */
	case 0x63677270u:	/* cgroup2 */
	case 0x64626720u:	/* debugfs */
	case 0x74726163u:	/* tracefs */
	case 0x73636673u:	/* securityfs */
	case 0x62656570u:	/* configfs */
	case 0x07655821u:	/* resctrl */
	case 0x42494e4du:	/* binfmt_misc */
	case 0xde5e81e4u:	/* efivarfs */
	case 0x6e736673u:	/* nsfs */
	case 0x50494446u:	/* pidfs */
	case 0x09041934u:	/* anonymous inodes */
	case 0xf97cff8cu:	/* selinuxfs */
	case 0x43415d53u:	/* smackfs */
		return true;
	default:
		return false;
	}
}

/*
 * Whether a regular file can be read and written at offsets.  lseek(2) does not show it: it may
 * succeed where pread(2) or pwrite(2) returns ESPIPE.  An empty vector shows it without a
 * transfer.
 */
static inline bool file_takes_offsets(int fd)
{
	struct iovec nothing = { NULL, 0 };

	if (file_is_made_up(fd))
		return false;
	if (preadv(fd, &nothing, 0, 0) < 0 && errno == ESPIPE)
		return false;
	return !(pwritev(fd, &nothing, 0, 0) < 0 && errno == ESPIPE);
}

/*
 * Reads the direct I/O alignments by statx: returns 1 and those of memory and offset; 0 where the
 * kernel reports none, or the file takes none.  The structure is read by offset: old headers end
 * before these fields (include/uapi/linux/stat.h: stx_dio_mem_align at 0x98).
 */
static inline int file_direct_alignment(int fd, uint32_t *memory, uint32_t *offset)
{
	union {
		char bytes[256];
		uint32_t words[64];
	} status;

	memset(&status, 0, sizeof(status));
	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, 0x2000u /* STATX_DIOALIGN */, &status) != 0)
		return 0;
	if (!(status.words[0] & 0x2000u))
		return 0;
	*memory = status.words[0x98 / 4];
	*offset = status.words[0x9c / 4];
	return *memory > 0 && *offset > 0;
}

#endif
