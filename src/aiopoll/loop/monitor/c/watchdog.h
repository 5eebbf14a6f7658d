/*
 * The watchdog: a thread that sees which loops are stuck.
 *
 * Facts.  A loop counts its callbacks and its iterations anyway, and has a flag that is up while it
 * sleeps or is about to.  A thread of C runs also while another one keeps the GIL.
 *
 * Rule.  A loop is watched while its thread runs it: that thread enters it and takes it out again,
 * so that no loop is read once it may be gone.  It is stuck if both counts have stayed the same for
 * the limit while it was not asleep.  Then the reporter, a thread of Python, is asked to come with
 * the GIL and look at the stack; if it does not get the GIL in time, the stack is dumped without it
 * (gil_dump.h), and a line is written to stderr if that lasts.  One mutex guards all of this; it is
 * never held while the GIL is waited for.  A time that the watchdog itself has overslept counts for
 * no loop: the process was stopped, or the machine had no time for either.
 *
 * Why.  Nothing is added to what a callback costs; a thread without the GIL sees all kinds of stalls.
 *
 * Cost.  Four wake-ups of this thread in each limit, one where all loops sleep.  A forked child has no
 * watchdog: the first loop that it watches starts one.
 *
 * Failure prevented.  An extension keeps the GIL for ever: what watches in Python hangs with the loop.
 *
 * States of a watch:
 *	QUIET -> ASKED			the limit has passed
 *	ASKED -> SEEN			the reporter has looked at the stack
 *	ASKED -> KEPT			it did not get the GIL; the stack was dumped
 *	KEPT -> PRINTED			nor for a long time: stderr has a line
 *	KEPT, PRINTED -> SEEN		it has got it at last, and the loop is still stuck
 *	ASKED, SEEN, KEPT, PRINTED -> ENDED	the loop goes on, or has ended
 *	ENDED -> QUIET			the reporter has taken the end
 */
#ifndef AIOPOLL_WATCHDOG_H
#define AIOPOLL_WATCHDOG_H

#include <Python.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "clock.h"
#include "gil_dump.h"
#include "thread_sample.h"

#define WATCH_SECOND_NS 1000000000LL
#define WATCH_TICK_MIN_NS 1000000LL
#define WATCH_SURE_NS WATCH_SECOND_NS	/* so long without the GIL: it does not go round */
#define WATCH_PRINT_MAX_NS (10 * WATCH_SECOND_NS)

enum {
	WATCH_IDLE = 16,	/* looks at loops asleep, after which they come less often */
};

enum watch_state {
	WATCH_QUIET,
	WATCH_ASKED,
	WATCH_SEEN,
	WATCH_KEPT,
	WATCH_PRINTED,
	WATCH_ENDED,
};

struct watch {
	struct watch *next;
	/* Words of the loop, valid while the watch is entered. */
	const uint64_t *callbacks;
	const int *in_callbacks;
	const uint64_t *iterations;
	const int *sleeping;
	PyThreadState *thread;
	int tid;
	int64_t limit_ns;

	enum watch_state state;
	enum watch_state before;	/* what it was when it became WATCH_ENDED */
	bool asleep;			/* its thread was seen to sleep */
	int64_t cpu_ns;			/* what its thread had used then */
	bool in_poll;			/* it is stuck outside of its callbacks */
	uint64_t seen_callbacks;
	uint64_t seen_iterations;
	int64_t since_ns;		/* the counts have been the same since */
	int64_t asked_ns;
	int64_t took_ns;		/* of what has ended */
	int dump_error;
	struct thread_sample sample;	/* taken when the limit had passed */
	char dump[GIL_DUMP_MAX];
	char all_dumped[GIL_DUMP_MAX];
};

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;		/* wakes the watchdog */
	pthread_cond_t to_report;	/* wakes the reporter */
	struct watch *watches;
	int64_t grace_ns;		/* for the reporter to get the GIL */
	bool started;
	bool stopped;			/* the interpreter ends */
	bool pending;			/* there is something to report */
} watchdog;

/* Call it once in each process, also in a forked child: what it has inherited is forgotten. */
static inline void watchdog_init(void)
{
	pthread_condattr_t clock;

	memset(&watchdog, 0, sizeof(watchdog));
	pthread_mutex_init(&watchdog.mutex, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&watchdog.changed, &clock);
	pthread_cond_init(&watchdog.to_report, &clock);
	pthread_condattr_destroy(&clock);
}

static inline void watchdog_ask(void)
{
	watchdog.pending = true;
	pthread_cond_signal(&watchdog.to_report);
}

/* Whether the loop has gone on since it was looked at; the new counts are noted. */
static inline bool watch_has_moved(struct watch *watch)
{
	uint64_t callbacks = __atomic_load_n(watch->callbacks, __ATOMIC_RELAXED);
	uint64_t iterations = __atomic_load_n(watch->iterations, __ATOMIC_RELAXED);
	bool moved = callbacks != watch->seen_callbacks || iterations != watch->seen_iterations;

	watch->seen_callbacks = callbacks;
	watch->seen_iterations = iterations;
	return moved;
}

static inline void watch_begin_anew(struct watch *watch, int64_t now_ns)
{
	if (watch->state != WATCH_QUIET && watch->state != WATCH_ENDED) {
		watch->before = watch->state;
		watch->took_ns = now_ns - watch->since_ns;
		watch->state = WATCH_ENDED;
		watchdog_ask();
	}
	watch->since_ns = now_ns;
	watch->asleep = false;
}

/*
 * Whether a loop whose flag is up sleeps, or looks at the ring in place of that.  The flag goes up
 * before requests are submitted, and io_submit(2) may block; it goes down once the thread has the
 * GIL again, which another one may keep.
 */
static inline bool watch_is_asleep(struct watch *watch, int64_t now_ns)
{
	struct thread_sample sample = { .call = CALL_UNKNOWN };
	int64_t cpu_ns = sample_cpu_ns(watch->tid);

	if (watch->asleep && cpu_ns == watch->cpu_ns) {
		watch->since_ns = now_ns;
		return true;	/* it has not run since, to look for the GIL either */
	}
	watch->cpu_ns = cpu_ns;
	sample_call(watch->tid, &sample);
	if (sample.call >= 0 && !call_is_sleep(sample.call)) {
		watch->asleep = false;
		return false;
	}
	watch_begin_anew(watch, now_ns);
	watch->asleep = call_is_sleep(sample.call);
	return true;
}

/* Dumps the stack of a loop whose thread keeps the GIL, or waits for the one that does. */
static inline bool watch_dump(struct watch *watch, int64_t now_ns)
{
	struct thread_sample now;

	if (now_ns - watch->asked_ns < watchdog.grace_ns)
		return false;
	sample_thread(watch->tid, &now);
	/*
	 * A thread that waits for the GIL looks for it every few milliseconds.  One that has not
	 * begun to wait since the GIL was asked for keeps it, or does without.
	 */
	if (now.switches != watch->sample.switches && now_ns - watch->asked_ns < WATCH_SURE_NS)
		return false;
	watch->dump_error = gil_dump(watch->thread, watch->dump, sizeof(watch->dump));
	watch->all_dumped[0] = '\0';
	if (call_is_futex(now.call))
		gil_dump(NULL, watch->all_dumped, sizeof(watch->all_dumped));
	watch->sample = now;
	return true;
}

static inline void watch_look(struct watch *watch, int64_t now_ns)
{
	int64_t print_ns = 10 * watch->limit_ns;

	if (print_ns > watch->limit_ns + WATCH_PRINT_MAX_NS)
		print_ns = watch->limit_ns + WATCH_PRINT_MAX_NS;
	if (watch_has_moved(watch)) {
		watch_begin_anew(watch, now_ns);
		return;
	}
	if (__atomic_load_n(watch->sleeping, __ATOMIC_RELAXED)) {
		if (watch_is_asleep(watch, now_ns))
			return;
	} else if (watch->asleep) {
		watch_begin_anew(watch, now_ns);
	}
	if (watch->state == WATCH_QUIET && now_ns - watch->since_ns >= watch->limit_ns) {
		sample_thread(watch->tid, &watch->sample);
		watch->in_poll = __atomic_load_n(watch->in_callbacks, __ATOMIC_RELAXED) == 0;
		watch->dump[0] = watch->all_dumped[0] = '\0';
		watch->dump_error = 0;
		watch->asked_ns = now_ns;
		watch->state = WATCH_ASKED;
		watchdog_ask();
	} else if (watch->state == WATCH_ASKED && watchdog.grace_ns > 0) {
		if (watch_dump(watch, now_ns))
			watch->state = WATCH_KEPT;
	} else if (watch->state == WATCH_KEPT && now_ns - watch->since_ns >= print_ns) {
		watch->state = WATCH_PRINTED;	/* watchdog_print() follows */
	}
}

/* Composes the line for stderr; returns its length. */
static inline size_t watch_line(const struct watch *watch, int64_t now_ns, char *line, size_t room)
{
	const char *call = call_name_text(watch->sample.call);
	const char *keeps = watch->all_dumped[0] ? "while another thread keeps the GIL" :
						   "by a call that keeps the GIL";
	size_t length;

	length = snprintf(line, room, "aiopoll: the event loop has been blocked for %.2f s %s%s%s: ",
			  (now_ns - watch->since_ns) / 1e9, keeps, call ? ", in " : "",
			  call ? call : "");
	if (watch->dump_error)
		length += snprintf(line + length, room - length,
				   "this Python shows no stack without the GIL");
	if (watch->all_dumped[0]) {
		length += snprintf(line + length, room - length, "\n%s", watch->all_dumped);
		if (length >= room)
			length = room - 1;
		line[length - 1] = '\n';
		return length;
	}
	/* The first line is a heading, and the others are indented. */
	for (const char *at = strchr(watch->dump, '\n'); at && at[1]; at = strchr(at + 1, '\n')) {
		size_t skipped = 1 + strspn(at + 1, " ");
		int part = (int)strcspn(at + skipped, "\n");

		if (length + part + 5 > room)
			break;
		length += snprintf(line + length, room - length, "%s%.*s",
				   at == strchr(watch->dump, '\n') ? "" : " < ", part, at + skipped);
	}
	line[length++] = '\n';
	return length;
}

/* Writes to stderr, unless that would block, or the number is another file's by now. */
static inline void watchdog_print(const char *line, size_t length)
{
	struct pollfd error = { .fd = 2, .events = POLLOUT };
	int flags = fcntl(2, F_GETFD);
	ssize_t unused;

	if (flags < 0 || flags & FD_CLOEXEC || poll(&error, 1, 0) <= 0)
		return;
	unused = write(2, line, length);	/* at most PIPE_BUF */
	(void)unused;
}

static void *watchdog_run(void *nothing)
{
	int64_t now_ns = clock_ns(), tick_ns, end_ns, due_ns = now_ns;
	unsigned idle = 0;
	struct timespec until;
	char line[4096];

	pthread_mutex_lock(&watchdog.mutex);
	while (!watchdog.stopped) {
		int64_t least_ns = INT64_MAX, soon_ns = INT64_MAX;
		bool asleep = true;
		size_t length = 0;

		now_ns = clock_ns();
		for (struct watch *watch = watchdog.watches; watch; watch = watch->next) {
			enum watch_state before = watch->state;

			/* What was overslept counts for no loop. */
			if (now_ns - due_ns > watch->limit_ns / 4 && watch->since_ns < due_ns) {
				watch->since_ns += now_ns - due_ns;
				watch->asked_ns += now_ns - due_ns;
			}
			watch_look(watch, now_ns);
			asleep &= watch->asleep && watch->state == WATCH_QUIET;
			if (watch->limit_ns < least_ns)
				least_ns = watch->limit_ns;
			if (watch->state == WATCH_ASKED && watchdog.grace_ns)
				soon_ns = watchdog.grace_ns;
			if (watch->state == WATCH_PRINTED && before != WATCH_PRINTED && !length)
				length = watch_line(watch, now_ns, line, sizeof(line));
		}
		if (length) {
			pthread_mutex_unlock(&watchdog.mutex);
			watchdog_print(line, length);
			pthread_mutex_lock(&watchdog.mutex);
		}
		if (!watchdog.watches) {
			pthread_cond_wait(&watchdog.changed, &watchdog.mutex);
			due_ns = clock_ns();
			continue;
		}
		idle = asleep ? idle + 1 : 0;
		tick_ns = least_ns / 4 * (idle < WATCH_IDLE ? 1 : idle < 4 * WATCH_IDLE ? 2 : 4);
		if (tick_ns > soon_ns)
			tick_ns = soon_ns;
		if (tick_ns < WATCH_TICK_MIN_NS)
			tick_ns = WATCH_TICK_MIN_NS;
		due_ns = end_ns = now_ns + tick_ns;
		until = (struct timespec){ end_ns / WATCH_SECOND_NS, end_ns % WATCH_SECOND_NS };
		/* Whatever wakes it early, a look does no harm. */
		pthread_cond_timedwait(&watchdog.changed, &watchdog.mutex, &until);
	}
	pthread_mutex_unlock(&watchdog.mutex);
	return NULL;
}

/* Starts the thread, unless it runs; returns 0 or -errno. */
static inline int watchdog_start(void)
{
	pthread_attr_t attributes;
	pthread_t thread;
	sigset_t all, before;
	int error;

	if (watchdog.started)
		return 0;
	gil_dump_find();
	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &before);	/* signals are the program's */
	error = pthread_create(&thread, &attributes, watchdog_run, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error)
		return -error;
	pthread_setname_np(thread, "aiopoll-stalls");
	watchdog.started = true;
	return 0;
}

/* Watches the loop that this thread, which has the GIL, runs from now on. */
static inline void watch_enter(struct watch *watch)
{
	watch->tid = (int)syscall(SYS_gettid);
	watch->thread = PyThreadState_Get();
	watch->state = WATCH_QUIET;
	watch->asleep = false;
	watch->since_ns = clock_ns();
	pthread_mutex_lock(&watchdog.mutex);
	watch_has_moved(watch);
	watch->next = watchdog.watches;
	watchdog.watches = watch;
	pthread_cond_signal(&watchdog.changed);
	pthread_mutex_unlock(&watchdog.mutex);
}

/* Takes it out; the watch is WATCH_ENDED then if it was stuck until now. */
static inline void watch_leave(struct watch *watch)
{
	struct watch **at = &watchdog.watches;

	pthread_mutex_lock(&watchdog.mutex);
	while (*at && *at != watch)
		at = &(*at)->next;
	if (*at) {
		*at = watch->next;
		watch_begin_anew(watch, clock_ns());
	}
	pthread_mutex_unlock(&watchdog.mutex);
}

/* Waits, without the GIL, until there is something to report; false once all ends. */
static inline bool watchdog_wait(void)
{
	bool goes_on;

	pthread_mutex_lock(&watchdog.mutex);
	while (!watchdog.pending && !watchdog.stopped)
		pthread_cond_wait(&watchdog.to_report, &watchdog.mutex);
	watchdog.pending = false;
	goes_on = !watchdog.stopped;
	pthread_mutex_unlock(&watchdog.mutex);
	return goes_on;
}

/* The interpreter ends: no thread state is read from now on. */
static inline void watchdog_stop(void)
{
	pthread_mutex_lock(&watchdog.mutex);
	watchdog.stopped = true;
	watchdog.watches = NULL;
	pthread_cond_signal(&watchdog.changed);
	pthread_cond_signal(&watchdog.to_report);
	pthread_mutex_unlock(&watchdog.mutex);
}

/*
 * What the reporter takes of a watch.  The state before, of ASKED to PRINTED, is that of a loop that
 * is stuck now: it is WATCH_SEEN from now on.  WATCH_ENDED is taken once, and WATCH_QUIET and
 * WATCH_SEEN have nothing new.
 */
static inline enum watch_state watch_take(struct watch *watch)
{
	enum watch_state state;

	pthread_mutex_lock(&watchdog.mutex);
	state = watch->state;
	if (state == WATCH_ASKED || state == WATCH_KEPT || state == WATCH_PRINTED) {
		if (watch_has_moved(watch)) {
			watch_begin_anew(watch, clock_ns());
			state = WATCH_ENDED;
		} else {
			watch->took_ns = clock_ns() - watch->since_ns;
			watch->before = state;
			watch->state = WATCH_SEEN;
		}
	}
	if (state == WATCH_ENDED)
		watch->state = WATCH_QUIET;
	pthread_mutex_unlock(&watchdog.mutex);
	return state;
}

/* Whether the loop is still where watch_take() has seen it. */
static inline bool watch_is_same(struct watch *watch)
{
	return __atomic_load_n(watch->callbacks, __ATOMIC_RELAXED) == watch->seen_callbacks &&
	       __atomic_load_n(watch->iterations, __ATOMIC_RELAXED) == watch->seen_iterations;
}

#endif
