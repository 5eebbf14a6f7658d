/*
 * A signal that asks for a dump: from its handler to the thread that makes it.
 *
 * Facts.  sem_post(3) may be called in a handler.  A thread that waits for the GIL cannot give up.
 * faulthandler prints the Python stacks of all threads without the GIL.  Where Python code runs
 * meanwhile, the stacks change under it: of some thousand signals one ends the process.
 *
 * Rule.  The handler posts a request.  A thread of C takes it, hands it to a thread of Python, and
 * waits until that has the GIL and has made the dump.  If that takes longer than PATIENCE_S, some C
 * code keeps the GIL, so that no stack changes: the thread raises the signal for itself that
 * faulthandler was registered for.  The Python thread makes its dump as soon as it can.
 *
 * Cost.  Two threads, which wait.
 *
 * Failure prevented.  A match of a regular expression takes minutes; the signal prints nothing.
 */
#ifndef AIOPOLL_DUMP_REQUEST_H
#define AIOPOLL_DUMP_REQUEST_H

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define PATIENCE_S 1

static struct {
	sem_t asked;	/* by the handler */
	sem_t taken;	/* by the thread of C, for the thread of Python */
	sem_t done;
	int stacks_signal;	/* 0: none could be had */
} dump_request;

static void dump_request_handler(int number)
{
	int before = errno;

	(void)number;
	sem_post(&dump_request.asked);
	errno = before;
}

static inline void dump_request_wait(sem_t *sem)
{
	while (sem_wait(sem) != 0 && errno == EINTR)
		;
}

static void *dump_request_watch(void *unused)
{
	(void)unused;
	for (;;) {
		struct timespec end;
		int result;

		dump_request_wait(&dump_request.asked);
		sem_post(&dump_request.taken);
		clock_gettime(CLOCK_REALTIME, &end);
		end.tv_sec += PATIENCE_S;
		do
			result = sem_timedwait(&dump_request.done, &end);
		while (result != 0 && errno == EINTR);
		if (result == 0)
			continue;
		if (dump_request.stacks_signal > 0)
			pthread_kill(pthread_self(), dump_request.stacks_signal);
		dump_request_wait(&dump_request.done);
	}
	return NULL;
}

/* Begins to watch, in this process; returns 0 or an errno. */
static inline int dump_request_begin(int stacks_signal)
{
	sigset_t all, before;
	pthread_t thread;
	int failed;

	sem_init(&dump_request.asked, 0, 0);
	sem_init(&dump_request.taken, 0, 0);
	sem_init(&dump_request.done, 0, 0);
	dump_request.stacks_signal = stacks_signal;
	sigfillset(&all);
	if (stacks_signal > 0)
		sigdelset(&all, stacks_signal);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(&thread, NULL, dump_request_watch, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!failed)
		pthread_detach(thread);
	return failed;
}

/* Has a signal ask for dumps; returns 0, EBUSY where it has a handler already, or an errno. */
static inline int dump_request_on(int number)
{
	struct sigaction present, action;

	if (sigaction(number, NULL, &present) != 0)
		return errno;
	if (present.sa_flags & SA_SIGINFO || (present.sa_handler != SIG_DFL &&
	    present.sa_handler != SIG_IGN && present.sa_handler != dump_request_handler))
		return EBUSY;
	memset(&action, 0, sizeof(action));
	action.sa_handler = dump_request_handler;
	action.sa_flags = SA_RESTART | SA_ONSTACK;
	return sigaction(number, &action, NULL) == 0 ? 0 : errno;
}

#endif
