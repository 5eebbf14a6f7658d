/*
 * Socket addresses, for code that need not ask for their family first.
 *
 * Facts.  struct sockaddr_storage holds any address (socket.h(0p)), and struct sockaddr_un is
 * 110 bytes, of which the path of a bound socket may fill all 108 without a terminator (unix(7)).
 * A name in the abstract namespace starts with a zero byte and has no terminator either.
 *
 * Rule.  One zeroed union, a byte longer than the storage, so that a path always ends.
 */
#ifndef AIOPOLL_ADDRESS_H
#define AIOPOLL_ADDRESS_H

#include <arpa/inet.h>
#include <netinet/in.h>
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
