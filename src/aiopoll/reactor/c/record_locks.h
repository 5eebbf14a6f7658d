/*
 * The record locks of this process on a file.
 *
 * Facts.  close(2) of any descriptor of a file drops all record locks (fcntl(2), F_SETLK) that
 * the process has on it, also those taken through another descriptor.  /proc/<pid>/fdinfo names
 * the locks that the process has on the file of a descriptor; fcntl(F_GETLK) reports only those of
 * others.
 *
 * Rule.  Code that made a second descriptor of a file that is not its own asks before it closes.
 *
 * Why.  The owner believes that it has the lock: another process would write into its file.
 *
 * Cost.  Three system calls, some 5 microseconds.
 */
#ifndef AIOPOLL_RECORD_LOCKS_H
#define AIOPOLL_RECORD_LOCKS_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* False where there is no /proc to ask. */
static inline bool record_locks_are_held(int fd)
{
	char path[48], line[256];
	bool held = false;
	FILE *info;

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
