/*
 * For a program that is started with this in LD_PRELOAD: the second connection that accept4(2)
 * takes from a queue was aborted.  Other systems report that; Linux does from a security module, or
 * for protocols that no test can have.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

int accept4(int fd, struct sockaddr *name, socklen_t *length, int flags)
{
	static int (*next)(int, struct sockaddr *, socklen_t *, int);
	static int taken;
	int connection;

	if (!next)
		next = (int (*)(int, struct sockaddr *, socklen_t *, int))dlsym(RTLD_NEXT, "accept4");
	connection = next(fd, name, length, flags);
	if (connection >= 0 && ++taken == 2) {
		close(connection);
		errno = ECONNABORTED;
		return -1;
	}
	return connection;
}
