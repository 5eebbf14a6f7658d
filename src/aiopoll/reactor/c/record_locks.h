/*
 * Whether a file has record locks, of which some may be of this process.
 *
 * Facts.  close(2) of any descriptor of a file drops all record locks (fcntl(2), F_SETLK) that
 * the process has on it, also those taken through another open file.  fcntl(F_GETLK) reports only
 * those of others; /proc/<pid>/fdinfo only those taken through the very open file that it is asked
 * for.  F_OFD_GETLK asks for an open file, whose owner is no process: any record lock is in its way,
 * ours too, and the first of them is reported (fs/locks.c, posix_test_lock).
 *
 * Rule.  Code that made a second descriptor of a file that is not its own asks before it closes.
 * Where F_OFD_GETLK finds no lock there is none.  Where it finds one, of whatever process, one of
 * ours may be behind it.  Where a file system refuses it, fdinfo is read.
 *
 * Why.  The owner believes that it has the lock: another process would write into its file.
 *
 * Failure prevented.  A process has locked byte 50 through one open file, another process byte 0.  The
 * first one sends the file through a second open file, of which fdinfo shows no lock: its end drops
 * the lock on byte 50.
 *
 * Cost.  A system call; a descriptor that is kept for each file that others have locked.
 */
#ifndef AIOPOLL_RECORD_LOCKS_H
#define AIOPOLL_RECORD_LOCKS_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* False where neither fcntl() nor /proc can say. */
static inline bool record_locks_are_held(int fd)
{
	struct flock any = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[48], line[256];
	bool held = false;
	FILE *info;

	if (fcntl(fd, F_OFD_GETLK, &any) == 0)
		return any.l_type != F_UNLCK;

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
