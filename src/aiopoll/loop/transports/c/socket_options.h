/*
 * Options of a connection's socket.
 *
 * Facts.  MSG_MORE holds data back until the next send, the end, 200 ms, or a change of TCP_CORK
 * (tcp(7)).  A socket of another family has none of these options: setsockopt(2) fails.
 *
 * Rule.  An option that a socket does not have is not missed.
 */
#ifndef AIOPOLL_SOCKET_OPTIONS_H
#define AIOPOLL_SOCKET_OPTIONS_H

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>

static inline bool socket_is_tcp(int fd)
{
	int protocol = 0;
	socklen_t length = sizeof(protocol);

	return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 &&
	       protocol == IPPROTO_TCP;
}

/* Sends what MSG_MORE holds back; not what the program itself holds back by TCP_CORK. */
static inline void socket_push(int fd)
{
	int corked = 0;
	socklen_t length = sizeof(corked);

	if (getsockopt(fd, IPPROTO_TCP, TCP_CORK, &corked, &length) == 0 && corked)
		return;
	corked = 0;
	setsockopt(fd, IPPROTO_TCP, TCP_CORK, &corked, sizeof(corked));
}

/* Small writes go out without waiting for the acknowledgement of earlier ones, as in asyncio. */
static inline void socket_set_nodelay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));	/* no TCP: refused */
}

#endif
