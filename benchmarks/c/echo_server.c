/*
 * The references: what this machine can do with one thread and no Python.
 *
 *     echo_server --WAY [--file PATH] [--timers N] tcp:127.0.0.1:0 | unix:PATH | udp:127.0.0.1:0
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
 * With --file each request is answered by a block of that file, read from the disk by AIO.  Its
 * completion is an event of the same ring (aio), or comes by an eventfd in the epoll set (all
 * others).  With --timers so many timers come due once in 10 ms each, evenly spread.
 *
 * Prints `ready ADDRESS` and runs until it is killed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"
#include "ring.h"
#include "syscalls.h"

#define BUFFER_SIZE (256 * 1024)
#define NR_EVENTS 4096
#define BLOCK_SIZE 4096
#define PERIOD_NS 10000000
#define READ_TAG 1ull		/* in aio_data, beside the connection: it is a read's event */

struct connection {
	struct iocb iocb;
	int fd;
	enum { LISTENER, STREAM, DATAGRAM, READS } kind;
	uint32_t armed;		/* events that the epoll set has for it */
	struct iocb read;
	char *block;
	bool reading;		/* a block for it */
	bool missed;		/* its socket was ready meanwhile */
	char *pending;		/* what the socket would not take yet */
	size_t pending_size;
};

static char buffer[BUFFER_SIZE];
static int epoll_fd = -1;	/* -1: AIO */
static bool edge, oneshot;
static aio_context_t context;
static struct iocb *batch[NR_EVENTS];
static long batch_size;
static int file_fd = -1;
static uint64_t nr_blocks;
static int reads_fd = -1;	/* the eventfd that counts reads where the loop waits in epoll */
static int64_t *timers_ns;	/* when each comes due: a ring, for all have the same period */
static unsigned int nr_timers, next_timer;

static void die(const char *what)
{
	fprintf(stderr, "echo_server: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void start_timers(unsigned int count)
{
	int64_t now = now_ns();

	timers_ns = calloc(count, sizeof(*timers_ns));
	for (nr_timers = 0; nr_timers < count; nr_timers++)
		timers_ns[nr_timers] = now + PERIOD_NS + PERIOD_NS / count * nr_timers;
}

/* Runs what is due; returns how long the loop may sleep, or NULL where there is no timer. */
static struct timespec *run_timers(void)
{
	static struct timespec left;
	int64_t now, due;

	if (!nr_timers)
		return NULL;
	for (now = now_ns(); (due = timers_ns[next_timer]) <= now;) {
		timers_ns[next_timer] = due + PERIOD_NS > now ? due + PERIOD_NS : now + PERIOD_NS;
		next_timer = (next_timer + 1) % nr_timers;
	}
	left.tv_sec = (due - now) / 1000000000;
	left.tv_nsec = (due - now) % 1000000000;
	return &left;
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

/* Reads one of the blocks, each once in an order that no read-ahead guesses, and again. */
static void start_read(struct connection *connection)
{
	static uint64_t block;

	block = (block * 1664525 + 1013904223) % nr_blocks;
	if (!connection->block)
		connection->block = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
	memset(&connection->read, 0, sizeof(connection->read));
	connection->read.aio_data = (uintptr_t)connection | READ_TAG;
	connection->read.aio_lio_opcode = IOCB_CMD_PREAD;
	connection->read.aio_fildes = (uint32_t)file_fd;
	connection->read.aio_buf = (uintptr_t)connection->block;
	connection->read.aio_nbytes = BLOCK_SIZE;
	connection->read.aio_offset = (int64_t)(block * BLOCK_SIZE);
	if (reads_fd >= 0) {
		connection->read.aio_flags = IOCB_FLAG_RESFD;
		connection->read.aio_resfd = (uint32_t)reads_fd;
	}
	connection->reading = true;
	batch[batch_size++] = &connection->read;
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
	free(connection->block);
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

/* Sends what the socket takes, and keeps the rest; whether it took all, or -1 with an errno. */
static int send_all(struct connection *connection, const char *data, size_t size)
{
	ssize_t sent = send(connection->fd, data, size, MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN)
		return -1;
	if (sent < 0)
		sent = 0;
	if ((size_t)sent == size)
		return 1;
	connection->pending_size = size - (size_t)sent;
	connection->pending = realloc(connection->pending, connection->pending_size);
	memcpy(connection->pending, data + sent, connection->pending_size);
	return 0;
}

static void echo(struct connection *connection)
{
	ssize_t size, sent;
	int all;

	if (connection->reading) {
		connection->missed = true;
		return;
	}
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
	if (file_fd >= 0)
		return start_read(connection);
	all = send_all(connection, buffer, (size_t)size);
	if (all < 0)
		return drop(connection);
	if (edge && all && size == BUFFER_SIZE)
		goto again;
	wait_for(connection, all ? POLLIN : POLLOUT);
}

/* A block for it is there. */
static void answer(struct connection *connection, int64_t result)
{
	bool missed = connection->missed;
	int all;

	if (result != BLOCK_SIZE) {
		errno = result < 0 ? (int)-result : EIO;
		die("read");
	}
	connection->reading = connection->missed = false;
	/* Where that fails the socket has an event to come, or had one, at which it is dropped. */
	all = send_all(connection, connection->block, BLOCK_SIZE);
	if (edge && missed)
		return echo(connection);
	wait_for(connection, all ? POLLIN : POLLOUT);
}

/* The eventfd has counted reads. */
static void answer_all(struct connection *reads)
{
	static struct io_event events[NR_EVENTS];
	uint64_t count;
	long done;

	if (read(reads->fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		die("eventfd");
	do {
		done = aio_sys_getevents(context, 0, NR_EVENTS, events, NULL);
		for (long index = 0; index < done; index++)
			answer((struct connection *)(uintptr_t)(events[index].data & ~READ_TAG),
			       events[index].res);
	} while (done == NR_EVENTS);
	wait_for(reads, POLLIN);
}

static void handle(struct connection *connection)
{
	switch (connection->kind) {
	case LISTENER: return accept_all(connection);
	case DATAGRAM: return echo_datagrams(connection);
	case STREAM: return echo(connection);
	case READS: return answer_all(connection);
	}
}

static int wait_in_epoll(struct epoll_event *events, struct timespec *left)
{
	if (left)
		return (int)syscall(SYS_epoll_pwait2, epoll_fd, events, NR_EVENTS, left, NULL, 0);
	return epoll_wait(epoll_fd, events, NR_EVENTS, -1);
}

static void run_epoll(void)
{
	static struct epoll_event events[NR_EVENTS];

	for (;;) {
		int count;

		submit();
		count = wait_in_epoll(events, run_timers());
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

static long futex(atomic_int *word, int operation, int value, struct timespec *left)
{
	return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, left, NULL, 0);
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
			futex(&asleep, FUTEX_WAKE, 1, NULL);
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
			struct timespec *left = run_timers();

			submit();
			atomic_store(&asleep, 1);
			if (taken == atomic_load(&nr_handed))
				futex(&asleep, FUTEX_WAIT, 1, left);
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
		struct timespec *left;
		long count;

		submit();
		left = run_timers();
		count = ring ? aio_ring_reap(ring, events, NR_EVENTS) : 0;
		if (count == 0)
			count = aio_sys_getevents(context, 1, NR_EVENTS, events, left);
		if (count < 0 && count != -EINTR) {
			errno = (int)-count;
			die("io_getevents");
		}
		for (long index = 0; index < count; index++) {
			struct io_event *event = &events[index];

			if (event->data & READ_TAG)
				answer((struct connection *)(uintptr_t)(event->data & ~READ_TAG),
				       event->res);
			else
				handle((struct connection *)(uintptr_t)event->data);
		}
	}
}

static void open_file(const char *path)
{
	struct stat status;

	file_fd = open(path, O_RDONLY | O_DIRECT);
	if (file_fd < 0 || fstat(file_fd, &status) != 0)
		die(path);
	nr_blocks = (uint64_t)status.st_size / BLOCK_SIZE;
	if (epoll_fd >= 0) {
		reads_fd = eventfd(0, EFD_NONBLOCK);
		add(reads_fd, READS);
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
	const char *way = argc > 2 ? argv[1] : "", *address = argv[argc - 1], *path = NULL;
	bool aio = strcmp(way, "--aio") == 0, fifo = strcmp(way, "--epoll-thread-fifo") == 0;
	bool thread = fifo || strcmp(way, "--epoll-thread") == 0, known = argc % 2;
	int timers = 0;

	edge = strcmp(way, "--epoll-edge") == 0;
	oneshot = thread || strcmp(way, "--epoll-oneshot") == 0;
	known &= aio || edge || oneshot || strcmp(way, "--epoll") == 0;
	for (int index = 2; known && index < argc - 1; index += 2) {
		if (strcmp(argv[index], "--file") == 0)
			path = argv[index + 1];
		else if (strcmp(argv[index], "--timers") == 0)
			timers = atoi(argv[index + 1]);
		else
			known = false;
	}
	if (!known || timers < 0) {
		fputs("usage: echo_server --WAY [--file PATH] [--timers N] ADDRESS, where WAY is aio,"
		      " epoll, epoll-edge, epoll-oneshot, epoll-thread or epoll-thread-fifo\n", stderr);
		return 2;
	}
	if (aio || path) {
		long result = aio_sys_setup(NR_EVENTS, &context);

		if (result < 0) {
			errno = (int)-result;
			die("io_setup (fs.aio-max-nr is the limit)");
		}
	}
	if (!aio)
		epoll_fd = epoll_create1(0);
	if (path)
		open_file(path);
	if (timers)
		start_timers((unsigned int)timers);
	open_address(address);
	if (aio)
		run_aio();
	else if (thread)
		run_thread(fifo);
	else
		run_epoll();
}
