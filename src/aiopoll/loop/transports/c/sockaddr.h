/*
 * Socket addresses, for code that need not ask for their family first.
 *
 * Facts.  struct sockaddr_storage holds any address (socket.h(0p)), and struct sockaddr_un is
 * 110 bytes, of which the path of a bound socket may fill all 108 without a terminator (unix(7)).
 * A name in the abstract namespace starts with a zero byte and has no terminator either.
 *
 * The kernel forgets the peer with the connection (ENOTCONN), while asyncio has "peername" and
 * "sockname" for as long as the transport lives.  accept4(2) returns the peer for nothing; making
 * Python objects of it costs more than the rest of an accept.
 *
 * Rule.  One zeroed union, a byte longer than the storage, so that a path always ends.  A
 * connection keeps its two IP addresses raw from the start, 28 bytes each; those of other families
 * are asked for at the start.
 */
#ifndef AIOPOLL_ADDRESS_H
#define AIOPOLL_ADDRESS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

struct address {
	union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_un un;
		struct sockaddr_storage storage;
	};
	char end;
	socklen_t length;
};

#define ADDRESS_ROOM ((socklen_t)sizeof(struct sockaddr_storage))
#define UNIX_PATH_AT offsetof(struct sockaddr_un, sun_path)
#define UNIX_PATH_ROOM sizeof(((struct sockaddr_un *)0)->sun_path)

/* Empties it, for the kernel to write into. */
static inline void address_clear(struct address *address)
{
	memset(address, 0, sizeof(*address));
	address->length = ADDRESS_ROOM;
}

/* The address of a connection; AF_UNSPEC: not known, or of another family. */
union ip_address {
	sa_family_t family;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static inline void ip_address_keep(union ip_address *ip, const struct address *address)
{
	bool is_ip = (address->sa.sa_family == AF_INET && address->length >= sizeof(ip->v4)) ||
		     (address->sa.sa_family == AF_INET6 && address->length >= sizeof(ip->v6));

	*ip = (union ip_address){ 0 };
	if (is_ip)
		memcpy(ip, &address->v6, sizeof(*ip));
}

/* The address of a socket itself, or that of its peer. */
static inline void ip_address_ask(union ip_address *ip, int fd, bool of_peer)
{
	struct address address;
	int failed;

	address_clear(&address);
	failed = of_peer ? getpeername(fd, &address.sa, &address.length) :
			   getsockname(fd, &address.sa, &address.length);
	if (failed)
		address.length = 0;
	ip_address_keep(ip, &address);
}

static inline void ip_address_expand(const union ip_address *ip, struct address *address)
{
	address_clear(address);
	memcpy(&address->v6, ip, sizeof(*ip));
	address->length = ip->family == AF_UNSPEC ? 0 : sizeof(*ip);
}

/* The dotted form of an IPv4 address: inet_ntop goes through sprintf, and takes 20 times as long. */
static inline int address_dotted(struct in_addr host, char *text)
{
	const unsigned char *bytes = (const unsigned char *)&host.s_addr;
	char *end = text;

	for (int i = 0; i < 4; i++) {
		unsigned int byte = bytes[i];

		if (byte >= 100)
			*end++ = '0' + byte / 100;
		if (byte >= 10)
			*end++ = '0' + byte / 10 % 10;
		*end++ = '0' + byte % 10;
		*end++ = i < 3 ? '.' : '\0';
	}
	return end - 1 - text;
}

#endif
