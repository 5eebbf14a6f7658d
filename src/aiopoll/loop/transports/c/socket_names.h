/*
 * The addresses of a connected IP socket, kept where the connection's state is.
 *
 * Facts.  asyncio has get_extra_info("peername") and "sockname" for as long as the transport
 * lives, while the kernel forgets the peer with the connection (ENOTCONN).  accept4(2) returns the
 * peer for nothing; making Python objects of it costs more than the rest of an accept.
 *
 * Rule.  The raw addresses are kept from the start, 28 bytes each, and read when asked for.
 * Other families than IPv4 and IPv6 are left to the socket module.
 */
#ifndef AIOPOLL_SOCKET_NAMES_H
#define AIOPOLL_SOCKET_NAMES_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

union socket_name {
	sa_family_t family;	/* AF_UNSPEC: not known, or of another family */
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static inline void socket_name_keep(union socket_name *name, const struct sockaddr_storage *from,
				    socklen_t length)
{
	bool is_ip = (from->ss_family == AF_INET && length >= sizeof(name->in)) ||
		     (from->ss_family == AF_INET6 && length >= sizeof(name->in6));

	memset(name, 0, sizeof(*name));
	if (is_ip)
		memcpy(name, from, length < sizeof(*name) ? length : sizeof(*name));
}

static inline void socket_name_here(int fd, union socket_name *name)
{
	struct sockaddr_storage from;
	socklen_t length = sizeof(from);

	if (getsockname(fd, (struct sockaddr *)&from, &length) != 0)
		length = 0;
	socket_name_keep(name, &from, length);
}

static inline void socket_name_peer(int fd, union socket_name *name)
{
	struct sockaddr_storage from;
	socklen_t length = sizeof(from);

	if (getpeername(fd, (struct sockaddr *)&from, &length) != 0)
		length = 0;
	socket_name_keep(name, &from, length);
}

/* accept4(2), non-blocking and close-on-exec; a new descriptor or -errno. */
static inline int socket_accept(int fd, union socket_name *peer)
{
	struct sockaddr_storage from;
	socklen_t length = sizeof(from);
	int accepted = accept4(fd, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (accepted < 0)
		return -errno;
	socket_name_keep(peer, &from, length);
	return accepted;
}

/* The address as text; returns the port, or -1 if it is not known. */
static inline int socket_name_text(const union socket_name *name, char *text, socklen_t size)
{
	if (name->family == AF_INET && inet_ntop(AF_INET, &name->in.sin_addr, text, size))
		return ntohs(name->in.sin_port);
	if (name->family == AF_INET6 && inet_ntop(AF_INET6, &name->in6.sin6_addr, text, size))
		return ntohs(name->in6.sin6_port);
	return -1;
}

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
