/*
 * A client in closed loop: each connection sends a request, waits for the whole answer, and sends
 * the next.  TCP, Unix and UDP sockets, TLS and HTTP, from one thread on one epoll set.
 *
 *     client --address tcp:127.0.0.1:8080 --connections 100 --seconds 3
 *
 * It connects, runs for the warm-up and until each connection has had an answer, takes what is on
 * its way, prints `start`, and waits for a line on stdin, so that whoever measures the server can
 * look at it at this moment, and others can be measured before.  Then it counts, and prints one
 * line of JSON: operations, seconds, p50_us, p99_us, p999_us, client_cpu_seconds, lost (datagrams),
 * unanswered (connections that a server never came to).  It goes on from `start` until stdin ends.
 * An answer that is not what was asked for ends it with status 1 and a line that says so.
 *
 * The bytes of a message follow a pattern; with --check each byte that comes back is compared, and
 * without it the bytes of a long TCP answer are dropped in the kernel (MSG_TRUNC, tcp(7)), so that
 * the client's copying is not what limits the server.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

#define READ_SIZE (256 * 1024)
#define HTTP_SIZE 4096
#define RESEND_AFTER_NS 500000000ull
#define ANSWER_WITHIN_NS 5000000000ull
/* A source address for every so many connections: each has 28,000 ports of its own. */
#define CONNECTIONS_PER_ADDRESS 10000
/* Reconnecting leaves ports in TIME_WAIT, so it goes round more addresses. */
#define RECONNECT_ADDRESSES 250

struct connection {
	int fd;
	size_t sent, received;
	size_t expected;	/* bytes of the answer; for HTTP 0 until its header is read */
	uint64_t started_ns;
	char *head;		/* HTTP: the answer so far */
	bool answered;		/* once at least */
	bool waiting;		/* for an answer */
#ifdef WITH_TLS
	SSL *ssl;
#endif
};

static struct {
	const char *address, *http_path, *http_body;
	long connections, idle, requests;
	size_t request_bytes, answer_bytes;
	double seconds, warm_up;
	int reconnect, tls, check;
} options = { .connections = 1, .request_bytes = 64, .seconds = 1, .http_body = "" };

static enum { TCP, UNIX, UDP } family;
static struct sockaddr_storage server;
static socklen_t server_length;
static char *message, *input;
static long opened;
static int epoll_fd;
#ifdef WITH_TLS
static SSL_CTX *tls_context;
#endif

static uint64_t histogram[64 * 32];
static uint64_t operations, lost;
static long unanswered;		/* connections without an answer yet */
static long in_flight;		/* connections that wait for an answer */
static bool resting;		/* no request is made */

static void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("client: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* 32 buckets to each power of two: a percentile is right to 3 %. */
static unsigned bucket_of(uint64_t ns)
{
	unsigned exponent = ns < 32 ? 5 : 63 - (unsigned)__builtin_clzll(ns);

	return ns < 32 ? (unsigned)ns : (exponent - 4) * 32 + (unsigned)((ns >> (exponent - 5)) & 31);
}

static double bucket_ns(unsigned bucket)
{
	unsigned exponent = bucket / 32 + 4;

	return bucket < 32 ? bucket : (double)(32 + bucket % 32) * (double)(1ull << (exponent - 5));
}

static double percentile_us(double share)
{
	uint64_t wanted = (uint64_t)(share * (double)operations), seen = 0;

	for (unsigned bucket = 0; bucket < 64 * 32; bucket++) {
		seen += histogram[bucket];
		if (seen > wanted)
			return bucket_ns(bucket) / 1000;
	}
	return 0;
}

/* ---- one connection ---- */

static void bind_to_own_address(int fd)
{
	struct sockaddr_in source = { .sin_family = AF_INET };
	int one = 1;
	long index = options.reconnect ? opened % RECONNECT_ADDRESSES
				       : opened / CONNECTIONS_PER_ADDRESS;

	source.sin_addr.s_addr = htonl(0x7f010001u + (uint32_t)index);	/* 127.1.0.1 … */
	if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) != 0 ||
	    bind(fd, (struct sockaddr *)&source, sizeof(source)) != 0)
		die("cannot bind to 127.1.0.%ld: %s", index + 1, strerror(errno));
}

static void open_connection(struct connection *connection)
{
	int one = 1;
	int fd = socket(server.ss_family, family == UDP ? SOCK_DGRAM : SOCK_STREAM, 0);

	if (fd < 0)
		die("socket %ld: %s", opened, strerror(errno));
	if (family == TCP) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		bind_to_own_address(fd);
	}
	if (connect(fd, (struct sockaddr *)&server, server_length) != 0)
		die("cannot connect to %s: %s", options.address, strerror(errno));
	connection->fd = fd;
	opened++;
#ifdef WITH_TLS
	if (options.tls) {
		connection->ssl = SSL_new(tls_context);
		SSL_set_fd(connection->ssl, fd);
		if (SSL_connect(connection->ssl) != 1)
			die("TLS handshake: %s", ERR_error_string(ERR_get_error(), NULL));
	}
#endif
	fcntl(fd, F_SETFL, O_NONBLOCK);
}

static void watch(struct connection *connection)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET };

	event.data.ptr = connection;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

/* Both answer the bytes moved, or 0 where the socket would block. */
static size_t send_some(struct connection *connection, const char *data, size_t size)
{
	ssize_t count;

#ifdef WITH_TLS
	if (options.tls) {
		int sent = SSL_write(connection->ssl, data, (int)size);
		int error = sent > 0 ? 0 : SSL_get_error(connection->ssl, sent);

		if (error && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
			die("SSL_write: error %d", error);
		return error ? 0 : (size_t)sent;
	}
#endif
	count = send(connection->fd, data, size, MSG_NOSIGNAL);
	if (count < 0 && errno != EAGAIN && errno != EINTR)
		die("send: %s", strerror(errno));
	return count < 0 ? 0 : (size_t)count;
}

static size_t receive_some(struct connection *connection, char *data, size_t size)
{
	int flags = family == TCP && !options.check && size > HTTP_SIZE ? MSG_TRUNC : 0;
	ssize_t count;

#ifdef WITH_TLS
	if (options.tls) {
		int received = SSL_read(connection->ssl, data, (int)size);
		int error = received > 0 ? 0 : SSL_get_error(connection->ssl, received);

		if (error && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
			die("SSL_read: error %d, or the server closed", error);
		return error ? 0 : (size_t)received;
	}
#endif
	count = recv(connection->fd, data, size, flags);
	if (count == 0 && family != UDP)
		die("the server closed the connection after %zu of %zu bytes",
		    connection->received, connection->expected);
	if (count < 0 && errno != EAGAIN && errno != EINTR)
		die("recv: %s", strerror(errno));
	return count < 0 ? 0 : (size_t)count;
}

static void send_rest(struct connection *connection)
{
	while (connection->sent < options.request_bytes) {
		size_t count = send_some(connection, message + connection->sent,
					 options.request_bytes - connection->sent);

		if (count == 0)
			return;
		connection->sent += count;
	}
}

static void begin_request(struct connection *connection, uint64_t now)
{
	connection->sent = connection->received = 0;
	connection->expected = options.http_path ? 0 : options.answer_bytes;
	connection->started_ns = now;
	connection->waiting = true;
	in_flight++;
	if (options.reconnect) {
		open_connection(connection);
		watch(connection);
	}
	send_rest(connection);
}

static void read_http_header(struct connection *connection)
{
	char *end, *field;

	connection->head[connection->received] = '\0';
	end = strstr(connection->head, "\r\n\r\n");
	if (!end) {
		if (connection->received == HTTP_SIZE)
			die("a header of more than %d bytes", HTTP_SIZE);
		return;
	}
	if (strncmp(connection->head, "HTTP/1.1 200 ", 13) != 0)
		die("the answer is %.40s", connection->head);
	field = strcasestr(connection->head, "\r\ncontent-length:");
	if (!field || field > end)
		die("an answer without a Content-Length");
	connection->expected = (size_t)(end + 4 - connection->head) + strtoul(field + 17, NULL, 10);
	if (connection->expected > HTTP_SIZE)
		die("an answer of more than %d bytes", HTTP_SIZE);
}

/* True once the answer is complete. */
static bool receive_answer(struct connection *connection)
{
	for (;;) {
		bool http = options.http_path != NULL;
		size_t wanted = http ? HTTP_SIZE - connection->received
				     : connection->expected - connection->received;
		size_t size = wanted < READ_SIZE ? wanted : READ_SIZE;
		char *target = http ? connection->head + connection->received : input;
		size_t count = receive_some(connection, target, size);

		if (count == 0)
			return false;
		if (!http && options.check &&
		    memcmp(input, message + connection->received, count) != 0)
			die("the answer differs from what was sent");
		connection->received += count;
		if (http && connection->expected == 0)
			read_http_header(connection);
		if (connection->expected && connection->received == connection->expected)
			return true;
		if (connection->expected && connection->received > connection->expected)
			die("more bytes than the answer has");
		if (family == UDP)
			die("a datagram of %zu bytes", count);
	}
}

static void complete(struct connection *connection)
{
	uint64_t now = now_ns();

	if (options.http_path && options.check &&
	    memcmp(connection->head + connection->expected - strlen(options.http_body),
		   options.http_body, strlen(options.http_body)) != 0)
		die("the answer's body is not %s", options.http_body);
	histogram[bucket_of(now - connection->started_ns)]++;
	operations++;
	unanswered -= !connection->answered;
	connection->answered = true;
	connection->waiting = false;
	in_flight--;
	if (options.reconnect)
		close(connection->fd);
	if (!resting)
		begin_request(connection, now);
}

/* ---- the run ---- */

/* What was lost of UDP is sent again. */
static void resend_old(struct connection *connections, uint64_t now)
{
	for (long index = 0; index < options.connections; index++)
		if (connections[index].waiting &&
		    now - connections[index].started_ns > RESEND_AFTER_NS) {
			lost++;
			connections[index].sent = 0;
			connections[index].started_ns = now;
			send_rest(&connections[index]);
		}
}

/* Waits for events, and goes on where there is one. */
static void iterate(struct connection *connections, uint64_t now, int timeout_ms)
{
	static uint64_t resent_ns;
	struct epoll_event events[256];
	int count;

	if (family == UDP && now >= resent_ns + RESEND_AFTER_NS) {
		resend_old(connections, now);
		resent_ns = now;
	}
	count = epoll_wait(epoll_fd, events, 256, timeout_ms);
	if (count < 0 && errno != EINTR)
		die("epoll_wait: %s", strerror(errno));
	for (int index = 0; index < count; index++) {
		struct connection *connection = events[index].data.ptr;

		send_rest(connection);
		if (connection->waiting && receive_answer(connection))
			complete(connection);
	}
}

/* `patience_ns`: how much longer where a connection has had no answer yet. */
static void run(struct connection *connections, uint64_t until_ns, uint64_t patience_ns,
		uint64_t operations_max)
{
	uint64_t now;

	while (operations < operations_max && ((now = now_ns()) < until_ns ||
	       (unanswered > 0 && now < until_ns + patience_ns)))
		iterate(connections, now,
		     now >= until_ns || (until_ns - now) / 1000000 < 100 ? 1 : 100);
}

/* Takes the answers that are on their way, as long as that does not take too long. */
static void rest(struct connection *connections)
{
	uint64_t now = now_ns(), until_ns = now + ANSWER_WITHIN_NS;

	resting = true;
	for (; in_flight > 0 && now < until_ns; now = now_ns())
		iterate(connections, now, 1);
	resting = false;
}

static void begin_requests(struct connection *connections, uint64_t now)
{
	for (long index = 0; index < options.connections; index++)
		if (!connections[index].waiting)
			begin_request(&connections[index], now);
		else
			connections[index].started_ns = now;
}

/* One window that counts, and its line of JSON. */
static void measure(struct connection *connections)
{
	struct rusage before, after;
	uint64_t start, end;
	double cpu;

	operations = lost = 0;
	memset(histogram, 0, sizeof(histogram));
	getrusage(RUSAGE_SELF, &before);
	start = now_ns();
	begin_requests(connections, start);
	if (options.requests)
		run(connections, UINT64_MAX, 0, (uint64_t)options.requests);
	else
		run(connections, start + (uint64_t)(options.seconds * 1e9), 0, UINT64_MAX);
	end = now_ns();
	getrusage(RUSAGE_SELF, &after);
	cpu = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec +
		       after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
	      (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec +
		       after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e6;
	printf("{\"operations\": %lu, \"seconds\": %.6f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
	       "\"p999_us\": %.2f, \"client_cpu_seconds\": %.6f, \"lost\": %lu, \"unanswered\": %ld}\n",
	       operations, (double)(end - start) / 1e9, percentile_us(0.5), percentile_us(0.99),
	       percentile_us(0.999), cpu, lost, unanswered);
	fflush(stdout);
}

/* One exchange, so that the server has the connection as a whole; then it rests. */
static void open_idle(long count)
{
	struct connection connection = { 0 };

	for (long index = 0; index < count; index++) {
		open_connection(&connection);
		fcntl(connection.fd, F_SETFL, 0);
		if (send(connection.fd, message, options.request_bytes, MSG_NOSIGNAL) !=
			    (ssize_t)options.request_bytes ||
		    recv(connection.fd, input, options.request_bytes, MSG_WAITALL) !=
			    (ssize_t)options.request_bytes)
			die("idle connection %ld got no answer: %s", index, strerror(errno));
	}
}

static void parse_address(void)
{
	const char *rest = strchr(options.address, ':');
	char host[64];
	int port;

	if (strncmp(options.address, "unix:", 5) == 0) {
		struct sockaddr_un *address = (struct sockaddr_un *)&server;

		if (strlen(rest + 1) >= sizeof(address->sun_path))
			die("%s is too long a path", rest + 1);
		family = UNIX;
		address->sun_family = AF_UNIX;
		strcpy(address->sun_path, rest + 1);
		server_length = sizeof(*address);
	} else if (rest && sscanf(rest, ":%63[^:]:%d", host, &port) == 2) {
		struct sockaddr_in *address = (struct sockaddr_in *)&server;

		family = strncmp(options.address, "udp:", 4) == 0 ? UDP : TCP;
		address->sin_family = AF_INET;
		address->sin_port = htons((uint16_t)port);
		if (inet_pton(AF_INET, host, &address->sin_addr) != 1)
			die("%s is no IPv4 address", host);
		server_length = sizeof(*address);
	} else {
		die("--address is tcp:HOST:PORT, udp:HOST:PORT or unix:PATH, not %s",
		    options.address);
	}
}

static void make_message(void)
{
	size_t size = options.answer_bytes > options.request_bytes ? options.answer_bytes
								   : options.request_bytes;

	if (options.http_path) {
		if (asprintf(&message, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
			     options.http_path) < 0)
			die("no memory");
		options.request_bytes = strlen(message);
	} else {
		message = malloc(size);
		for (size_t index = 0; index < size; index++)
			message[index] = (char)(index * 7 + 1);
	}
	input = malloc(READ_SIZE);
}

static void parse_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "address", required_argument, NULL, 'a' },
		{ "connections", required_argument, NULL, 'c' },
		{ "idle", required_argument, NULL, 'i' },
		{ "requests", required_argument, NULL, 'n' },
		{ "request-bytes", required_argument, NULL, 'b' },
		{ "answer-bytes", required_argument, NULL, 'B' },
		{ "seconds", required_argument, NULL, 's' },
		{ "warm-up", required_argument, NULL, 'w' },
		{ "http", required_argument, NULL, 'h' },
		{ "body", required_argument, NULL, 'y' },
		{ "reconnect", no_argument, &options.reconnect, 1 },
		{ "tls", no_argument, &options.tls, 1 },
		{ "check", no_argument, &options.check, 1 },
		{ 0 },
	};
	int letter;

	while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1)
		switch (letter) {
		case 'a': options.address = optarg; break;
		case 'c': options.connections = atol(optarg); break;
		case 'i': options.idle = atol(optarg); break;
		case 'n': options.requests = atol(optarg); break;
		case 'b': options.request_bytes = strtoul(optarg, NULL, 10); break;
		case 'B': options.answer_bytes = strtoul(optarg, NULL, 10); break;
		case 's': options.seconds = atof(optarg); break;
		case 'w': options.warm_up = atof(optarg); break;
		case 'h': options.http_path = optarg; break;
		case 'y': options.http_body = optarg; break;
		case 0: break;
		default: exit(2);
		}
	if (!options.address)
		die("--address is missing");
	if (!options.answer_bytes)
		options.answer_bytes = options.request_bytes;
	if (options.connections < 1 || options.request_bytes < 1)
		die("--connections and --request-bytes are at least 1");
#ifdef WITH_TLS
	tls_context = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE);
#else
	if (options.tls)
		die("built without TLS: apt-get install libssl-dev");
#endif
}

int main(int argc, char **argv)
{
	struct connection *connections;
	char line[16];
	uint64_t start;

	parse_options(argc, argv);
	parse_address();
	make_message();
	epoll_fd = epoll_create1(0);
	connections = calloc((size_t)options.connections, sizeof(*connections));
	open_idle(options.idle);
	for (long index = 0; index < options.connections; index++) {
		struct connection *connection = &connections[index];

		if (options.http_path)
			connection->head = malloc(HTTP_SIZE + 1);
		if (!options.reconnect) {
			open_connection(connection);
			watch(connection);
		}
	}
	unanswered = options.connections;
	start = now_ns();
	begin_requests(connections, start);
	run(connections, start + (uint64_t)(options.warm_up * 1e9), ANSWER_WITHIN_NS, UINT64_MAX);
	for (;;) {
		rest(connections);
		puts("start");
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin))
			return 0;
		measure(connections);
	}
}
