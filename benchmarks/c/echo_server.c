/*
 * The references: what this machine can do with one thread and no Python.
 *
 *     echo_server --WAY tcp:127.0.0.1:0 | unix:PATH | udp:127.0.0.1:0
 *
 * It echoes what it receives, from one loop over ready sockets, which are waited for by
 *
 *     aio                one-shot polls, armed together in one io_submit a turn, and reaped from
 *                        the mapped ring
 *     epoll              a level-triggered epoll set
 *     epoll-edge         an edge-triggered one
 *     epoll-oneshot      one whose entries are armed anew by epoll_ctl after each event
 *     epoll-thread       likewise, in a thread that only waits, and hands over what is ready
 *     epoll-thread-fifo  likewise, and that thread has the real-time class SCHED_FIFO
 *
 * Prints `ready ADDRESS` and runs until it is killed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "abi.h"
#include "ring.h"
#include "syscalls.h"

#define BUFFER_SIZE (256 * 1024)
#define NR_EVENTS 4096

struct connection {
	struct iocb iocb;
	int fd;
	enum { LISTENER, STREAM, DATAGRAM } kind;
	uint32_t armed;		/* events that the epoll set has for it */
	char *pending;		/* what the socket would not take yet */
	size_t pending_size;
};

static char buffer[BUFFER_SIZE];
static int epoll_fd = -1;	/* -1: AIO */
static bool edge, oneshot;
static aio_context_t context;
static struct iocb *batch[NR_EVENTS];
static long batch_size;

static void die(const char *what)
{
	fprintf(stderr, "echo_server: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void submit(void)
{
	long done = 0;

	while (done < batch_size) {
		long count = aio_sys_submit(context, batch_size - done, batch + done);

		if (count < 0) {
			errno = (int)-count;
			die("io_submit");
		}
		done += count;
	}
	batch_size = 0;
}

/*
 * To be called after each event: a poll is one-shot, a registration stays as it was.  What is
 * edge-triggered is registered for all events once, and looked at until nothing is left.
 */
static void wait_for(struct connection *connection, uint32_t events)
{
	if (epoll_fd >= 0) {
		struct epoll_event event = { .events = events };
		int operation = connection->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

		event.data.ptr = connection;
		if (edge)
			events = event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
		if (oneshot)
			event.events |= EPOLLONESHOT;
		if ((connection->armed != events || oneshot) &&
		    epoll_ctl(epoll_fd, operation, connection->fd, &event) != 0)
			die("epoll_ctl");
		connection->armed = events;
		return;
	}
	memset(&connection->iocb, 0, sizeof(connection->iocb));
	connection->iocb.aio_data = (uintptr_t)connection;
	connection->iocb.aio_lio_opcode = IOCB_CMD_POLL;
	connection->iocb.aio_fildes = (uint32_t)connection->fd;
	connection->iocb.aio_buf = events;
	batch[batch_size++] = &connection->iocb;
	if (batch_size == NR_EVENTS)
		submit();
}

static void add(int fd, int kind)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	connection->fd = fd;
	connection->kind = kind;
	wait_for(connection, POLLIN);
}

/* No poll of it is in flight: this is its event. */
static void drop(struct connection *connection)
{
	close(connection->fd);
	free(connection->pending);
	free(connection);
}

static void accept_all(struct connection *listener)
{
	int one = 1, fd;

	while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		add(fd, STREAM);
	}
	wait_for(listener, POLLIN);
}

static void echo_datagrams(struct connection *connection)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);
	ssize_t size;

	while ((size = recvfrom(connection->fd, buffer, BUFFER_SIZE, 0, (struct sockaddr *)&peer,
				&length)) >= 0)
		sendto(connection->fd, buffer, (size_t)size, 0, (struct sockaddr *)&peer, length);
	wait_for(connection, POLLIN);
}

static void echo(struct connection *connection)
{
	ssize_t size, sent;

again:
	if (connection->pending_size) {
		sent = send(connection->fd, connection->pending, connection->pending_size,
			    MSG_NOSIGNAL);
		if (sent < 0 && errno != EAGAIN)
			return drop(connection);
		if (sent > 0) {
			connection->pending_size -= (size_t)sent;
			memmove(connection->pending, connection->pending + sent,
				connection->pending_size);
		}
		if (edge && !connection->pending_size)
			goto again;	/* there was no look at what came meanwhile */
		return wait_for(connection, connection->pending_size ? POLLOUT : POLLIN);
	}
	size = recv(connection->fd, buffer, BUFFER_SIZE, 0);
	if (size == 0 || (size < 0 && errno != EAGAIN))
		return drop(connection);
	if (size < 0)
		return wait_for(connection, POLLIN);
	sent = send(connection->fd, buffer, (size_t)size, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN)
		return drop(connection);
	if (sent < 0)
		sent = 0;
	if (sent < size) {
		connection->pending_size = (size_t)(size - sent);
		connection->pending = realloc(connection->pending, connection->pending_size);
		memcpy(connection->pending, buffer + sent, connection->pending_size);
	}
	if (edge && sent == size && size == BUFFER_SIZE)
		goto again;
	wait_for(connection, sent < size ? POLLOUT : POLLIN);
}

static void handle(struct connection *connection)
{
	switch (connection->kind) {
	case LISTENER: return accept_all(connection);
	case DATAGRAM: return echo_datagrams(connection);
	case STREAM: return echo(connection);
	}
}

static void run_epoll(void)
{
	static struct epoll_event events[NR_EVENTS];

	for (;;) {
		int count = epoll_wait(epoll_fd, events, NR_EVENTS, -1);

		if (count < 0 && errno != EINTR)
			die("epoll_wait");
		for (int index = 0; index < count; index++)
			handle(events[index].data.ptr);
	}
}

/*
 * The events that the thread hands over: it writes, the loop reads.  `asleep`: the loop sleeps, or
 * is about to, until it is lowered.  There is room for an event of each connection.
 */
static struct connection *handed[1 << 16];
static atomic_uint nr_handed, nr_taken;
static atomic_int asleep;

static long futex(atomic_int *word, int operation, int value)
{
	return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void *hand_over(void *unused)
{
	static struct epoll_event events[NR_EVENTS];

	for (;;) {
		int count = epoll_wait(epoll_fd, events, NR_EVENTS, -1);
		unsigned int end = atomic_load(&nr_handed);

		if (count < 0 && errno != EINTR)
			die("epoll_wait");
		for (int index = 0; index < count; index++)
			handed[end++ % (1 << 16)] = events[index].data.ptr;
		atomic_store(&nr_handed, end);
		if (atomic_exchange(&asleep, 0))
			futex(&asleep, FUTEX_WAKE, 1);
	}
	return unused;
}

static void run_thread(bool fifo)
{
	struct sched_param parameters = { .sched_priority = 1 };
	pthread_t thread;

	errno = pthread_create(&thread, NULL, hand_over, NULL);
	if (errno)
		die("pthread_create");
	errno = fifo ? pthread_setschedparam(thread, SCHED_FIFO, &parameters) : 0;
	if (errno)
		die("SCHED_FIFO (it needs CAP_SYS_NICE)");
	for (;;) {
		unsigned int taken = atomic_load(&nr_taken);

		if (taken == atomic_load(&nr_handed)) {
			atomic_store(&asleep, 1);
			if (taken == atomic_load(&nr_handed))
				futex(&asleep, FUTEX_WAIT, 1);
			atomic_store(&asleep, 0);
			continue;
		}
		handle(handed[taken % (1 << 16)]);
		atomic_store(&nr_taken, taken + 1);
	}
}

static void run_aio(void)
{
	static struct io_event events[NR_EVENTS];
	struct aio_ring *ring = aio_ring_of(context);

	for (;;) {
		long count;

		submit();
		count = ring ? aio_ring_reap(ring, events, NR_EVENTS) : 0;
		if (count == 0)
			count = aio_sys_getevents(context, 1, NR_EVENTS, events, NULL);
		if (count < 0 && count != -EINTR) {
			errno = (int)-count;
			die("io_getevents");
		}
		for (long index = 0; index < count; index++)
			handle((struct connection *)(uintptr_t)events[index].data);
	}
}

static void open_address(const char *address)
{
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	struct sockaddr_in inet = { .sin_family = AF_INET };
	bool is_unix = strncmp(address, "unix:", 5) == 0, udp = strncmp(address, "udp:", 4) == 0;
	socklen_t length = sizeof(inet);
	char host[64];
	int port, fd;

	fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_NONBLOCK | (udp ? SOCK_DGRAM : SOCK_STREAM), 0);
	if (is_unix) {
		snprintf(local.sun_path, sizeof(local.sun_path), "%s", address + 5);
		if (bind(fd, (struct sockaddr *)&local, sizeof(local)) != 0)
			die(address);
	} else {
		if (sscanf(address + 4, "%63[^:]:%d", host, &port) != 2 ||
		    inet_pton(AF_INET, host, &inet.sin_addr) != 1) {
			errno = EINVAL;
			die(address);
		}
		inet.sin_port = htons((uint16_t)port);
		if (bind(fd, (struct sockaddr *)&inet, sizeof(inet)) != 0 ||
		    getsockname(fd, (struct sockaddr *)&inet, &length) != 0)
			die(address);
	}
	if (!udp && listen(fd, 4096) != 0)
		die("listen");
	add(fd, udp ? DATAGRAM : LISTENER);
	if (is_unix)
		printf("ready %s\n", address);
	else
		printf("ready %.4s%s:%d\n", address, host, ntohs(inet.sin_port));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const char *way = argc == 3 ? argv[1] : "";
	bool aio = strcmp(way, "--aio") == 0, fifo = strcmp(way, "--epoll-thread-fifo") == 0;
	bool thread = fifo || strcmp(way, "--epoll-thread") == 0;

	edge = strcmp(way, "--epoll-edge") == 0;
	oneshot = thread || strcmp(way, "--epoll-oneshot") == 0;
	if (!aio && !edge && !oneshot && strcmp(way, "--epoll") != 0) {
		fputs("usage: echo_server --WAY ADDRESS, where WAY is aio, epoll, epoll-edge,"
		      " epoll-oneshot, epoll-thread or epoll-thread-fifo\n", stderr);
		return 2;
	}
	if (aio) {
		long result = aio_sys_setup(NR_EVENTS, &context);

		if (result < 0) {
			errno = (int)-result;
			die("io_setup (fs.aio-max-nr is the limit)");
		}
	} else {
		epoll_fd = epoll_create1(0);
	}
	open_address(argv[2]);
	if (aio)
		run_aio();
	else if (thread)
		run_thread(fifo);
	else
		run_epoll();
}
