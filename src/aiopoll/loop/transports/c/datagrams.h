/*
 * Several datagrams by one system call.
 *
 * Facts.  recvmmsg(2) with MSG_DONTWAIT takes what is there, and stops at an error, which the next
 * call returns.  No UDP datagram is longer than 65,527 bytes.  With UDP_GRO (Linux 5.0) the kernel
 * may hand over datagrams of one sender as one, at most 64 KiB: all of the size that a control
 * message names, but the last, which may be shorter.  With UDP_SEGMENT (4.18) it cuts what one
 * sendmsg(2) has into datagrams of one size, at most 64; one that does not know the control message
 * ignores it, and would send one large datagram.  sendmmsg(2) loses the error that stops it.
 *
 * Rule.  Each datagram has a slot of 64 KiB, so that none is cut.  A caller asks segments_known()
 * before it sends segments.  Nothing here looks at Python objects.
 */
#ifndef AIOPOLL_DATAGRAMS_H
#define AIOPOLL_DATAGRAMS_H

#include <errno.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "sockaddr.h"

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define DATAGRAMS_MAX 16
#define SLOT_SIZE 65536
#define SEGMENTS_MAX 64
#define SEGMENTS_SIZE_MAX 65487 /* with an IPv6 header and UDP's it is 65,535 */

/* What a slot holds: one datagram, or several of `segment` bytes each. */
struct taken {
	struct address sender;
	uint32_t size;
	uint32_t segment; /* 0: one datagram */
};

union segment_size {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

static inline uint32_t segment_of(struct msghdr *message)
{
	int size = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
			memcpy(&size, CMSG_DATA(c), sizeof(size));
	return size > 0 ? size : 0;
}

/* Takes up to `count` into the slots of `room`; how many, or -1 and errno. */
static inline int take_datagrams(int fd, char *room, struct taken *taken, int count)
{
	union segment_size control[DATAGRAMS_MAX];
	struct mmsghdr messages[DATAGRAMS_MAX];
	struct iovec slots[DATAGRAMS_MAX];

	for (int i = 0; i < count; i++) {
		address_clear(&taken[i].sender);
		slots[i] = (struct iovec){ room + (size_t)i * SLOT_SIZE, SLOT_SIZE };
		messages[i].msg_hdr = (struct msghdr){ .msg_name = &taken[i].sender.sa,
						       .msg_namelen = ADDRESS_ROOM,
						       .msg_iov = &slots[i],
						       .msg_iovlen = 1,
						       .msg_control = &control[i],
						       .msg_controllen = sizeof(control[i]) };
	}
	count = recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
	for (int i = 0; i < count; i++) {
		taken[i].sender.length = messages[i].msg_hdr.msg_namelen;
		taken[i].size = messages[i].msg_len;
		taken[i].segment = segment_of(&messages[i].msg_hdr);
	}
	return count;
}

/* The error that the socket has waiting, which is taken from it; 0: none. */
static inline int pending_error(int fd)
{
	int error = 0;
	socklen_t size = sizeof(error);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) ? 0 : error;
}

/* Whether the kernel may hand over several datagrams as one from now on; whether that succeeded. */
static inline bool set_coalescing(int fd, int on)
{
	return setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)) == 0;
}

/* Whether the socket can send segments, and its owner has not made it do so always. */
static inline bool segments_known(int fd)
{
	int size = 0;
	socklen_t length = sizeof(size);

	return getsockopt(fd, SOL_UDP, UDP_SEGMENT, &size, &length) == 0 && size == 0;
}

/* Sends the pieces as one datagram each, of `segment` bytes but for the last; 0, or an errno. */
static inline int send_segments(int fd, struct iovec *pieces, int count, uint16_t segment,
				const struct address *to)
{
	union segment_size control = { { 0 } };
	struct msghdr message = { .msg_iov = pieces,
				  .msg_iovlen = count,
				  .msg_control = &control,
				  .msg_controllen = CMSG_SPACE(sizeof(segment)) };

	if (to) {
		message.msg_name = (void *)&to->sa;
		message.msg_namelen = to->length;
	}
	control.header.cmsg_level = SOL_UDP;
	control.header.cmsg_type = UDP_SEGMENT;
	control.header.cmsg_len = CMSG_LEN(sizeof(segment));
	memcpy(CMSG_DATA(&control.header), &segment, sizeof(segment));
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
}

/* Sends each piece as a datagram to `to`; how many, or -1 and errno. */
static inline int send_datagrams(int fd, struct iovec *pieces, int count, const struct address *to)
{
	struct mmsghdr messages[SEGMENTS_MAX];

	for (int i = 0; i < count; i++)
		messages[i].msg_hdr = (struct msghdr){ .msg_name = (void *)&to->sa,
						       .msg_namelen = to->length,
						       .msg_iov = &pieces[i],
						       .msg_iovlen = 1 };
	return sendmmsg(fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL);
}

#endif
