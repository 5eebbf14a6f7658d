/*
 * The record locks of this process on a file.
 *
 * Facts.  close(2) of any descriptor of a file drops all record locks (fcntl(2), F_SETLK) that
 * the process has on it, also those taken through another descriptor.  /proc/<pid>/fdinfo names
 * the locks that the process has on the file of a descriptor; fcntl(F_GETLK) reports only those of
 * others.  F_OFD_GETLK asks for an open file, whose owner is no process: any record lock is in its
 * way, ours too, and the first of them is reported with its process (fs/locks.c, posix_test_lock).
 *
 * Rule.  Code that made a second descriptor of a file that is not its own asks before it closes.
 * Where F_OFD_GETLK finds no lock there is none; where it finds one of another process, or where
 * a file system refuses it, fdinfo is read.
 *
 * Why.  The owner believes that it has the lock: another process would write into its file.
 *
 * Cost.  A system call.  Five more, some 20 microseconds, where another process has a lock.
 */
#ifndef AIOPOLL_RECORD_LOCKS_H
#define AIOPOLL_RECORD_LOCKS_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* False where neither fcntl() nor /proc can say. */
static inline bool record_locks_are_held(int fd)
{
	struct flock any = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[48], line[256];
	bool held = false;
	FILE *info;

	if (fcntl(fd, F_OFD_GETLK, &any) == 0) {
		if (any.l_type == F_UNLCK)
			return false;
		if (any.l_pid == getpid())
			return true;
	}

	snprintf(path, sizeof(path), "/proc/thread-self/fdinfo/%d", fd);
	info = fopen(path, "re");
	if (!info)
		return false;
	while (!held && fgets(line, sizeof(line), info))
		held = !strncmp(line, "lock:", 5) && strstr(line, " POSIX ");
	fclose(info);
	return held;
}

#endif
