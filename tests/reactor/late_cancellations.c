/*
 * A kernel whose workers are late, for a program that is started with this in LD_PRELOAD: a request
 * that was cancelled keeps its slot, and no other is free, until the program waits for events.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/aio_abi.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>

#define HELD_MAX 1024
#define NR_SLOTS 3	/* the loop cancels one for a try as it is made */

/* Requests that were cancelled, until the program has their events; these are kept as they come. */
static __u64 held[HELD_MAX];
static long nr_held;
static struct io_event kept[HELD_MAX];
static long nr_kept;

static long (*next_syscall(void))(long, ...)
{
	static long (*next)(long, ...);

	if (!next)
		next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	return next;
}

static long fail(int code)
{
	errno = code;
	return -1;
}

static long cancel(long ctx, long iocb, long event)
{
	long result = next_syscall()(SYS_io_cancel, ctx, iocb, event);

	if (result == -1 && errno == EINPROGRESS && nr_held < HELD_MAX)
		held[nr_held++] = (__u64)iocb;
	return result;
}

static bool is_held(const struct io_event *event)
{
	for (long i = 0; i < nr_held; i++)
		if (held[i] == event->obj)
			return true;
	return false;
}

static long get_events(long number, long arguments[6])
{
	struct io_event *events = (struct io_event *)arguments[3];
	struct timespec *timeout = (struct timespec *)arguments[4], none = { 0 };
	bool waits = !timeout || timeout->tv_sec || timeout->tv_nsec;
	long room = arguments[2], count, given = 0;

	count = next_syscall()(number, arguments[0], 0, room, events, &none, arguments[5]);
	for (long i = 0; i < count; i++) {
		if (is_held(&events[i]))
			kept[nr_kept++] = events[i];
		else
			events[given++] = events[i];
	}
	if (!waits || given == room)
		return count < 0 ? count : given;
	while (nr_kept > 0 && given < room) {
		events[given] = kept[--nr_kept];
		for (long i = 0; i < nr_held; i++)
			if (held[i] == events[given].obj)
				held[i] = held[--nr_held];
		given++;
	}
	if (given || nr_held)
		return given;
	return next_syscall()(number, arguments[0], arguments[1], room, events, timeout,
			      arguments[5]);
}

long syscall(long number, ...)
{
	long arguments[6];
	va_list given;

	va_start(given, number);
	for (int i = 0; i < 6; i++)
		arguments[i] = va_arg(given, long);
	va_end(given);
	switch (number) {
	case SYS_io_cancel:
		return cancel(arguments[0], arguments[1], arguments[2]);
	case SYS_io_submit:
		if (nr_held >= NR_SLOTS)
			return fail(EAGAIN);
		break;
	case SYS_io_getevents:
	case SYS_io_pgetevents:
		return get_events(number, arguments);
	}
	return next_syscall()(number, arguments[0], arguments[1], arguments[2], arguments[3],
			      arguments[4], arguments[5]);
}
