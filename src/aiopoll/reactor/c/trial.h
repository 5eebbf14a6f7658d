/*
 * Whether a loop looks at its ring, or sleeps in its epoll set: decided by trial.
 *
 * Facts.  A look at the ring finds an event without a system call, and saves the CPU time that it
 * takes to sleep and to wake up: 5 µs on one machine, 50 on another.  It costs as much as the
 * peer takes to answer.  How long that is shows while looking only: a sleep adds its own length.
 *
 * Rule.  A round is an iteration that found files ready.  Where half of the rounds of a window
 * waited for a short time, and the thread gave up the CPU in as many (RUSAGE_THREAD, ru_nvcsw), the
 * next window looks.  The trial has passed if half of its rounds were
 * ended by a look, and an event took at most a tenth more CPU time than in the window before.
 * Then looking goes on, as long as it ends half of the rounds, and is compared again after a while,
 * which doubles.  A trial that has failed doubles the time to the next one.
 *
 * Why.  What is compared is what it costs, with all that belongs to it, on this machine and for
 * this traffic.
 *
 * Cost.  Two readings of the thread's counters for 256 rounds, and a move of each busy file for each
 * trial; where the traffic changes, a window until it is noticed.
 *
 * Failure prevented.  The first window of a thread is compared: what the thread did before, or
 * another thread's clock, makes an event dear, and every trial passes.  And: a thousand busy
 * connections, whose waits are short since all are ready: nothing sleeps, looking saves nothing, and
 * each trial moves a thousand files to the ring and back.
 */
#ifndef AIOPOLL_TRIAL_H
#define AIOPOLL_TRIAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <time.h>

#define TRIAL_ROUNDS 256u	/* a window */
#define TRIAL_PAUSE_MAX 256u	/* windows from a trial that has failed to the next */
#define TRIAL_KEEP_MIN 64u	/* windows that look before it is compared again */
#define TRIAL_KEEP_MAX 1024u

struct trial {
	bool looking;
	bool on_trial;		/* this window is compared with the one before */
	uint32_t left;		/* windows before the next decision */
	uint32_t pause;
	uint32_t keep;
	uint32_t rounds;	/* of this window */
	uint32_t worth;		/* of those, the ones for looking */
	int64_t events;	/* of this window */
	pthread_t thread;	/* that ran the loop when it began; 0: none yet */
	int64_t start_ns;	/* the thread's CPU time then */
	long start_sleeps;
	double asleep_ns;	/* for an event, without looking */
};

static inline int64_t trial_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* How often the thread has given up the CPU to wait. */
static inline long trial_sleeps(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

static inline void trial_init(struct trial *trial)
{
	*trial = (struct trial){ .pause = 1, .keep = TRIAL_KEEP_MIN };
}

/* A window is over, in which an event has taken so long; whether to look in the next one. */
static inline bool trial_decide(struct trial *trial, bool worth, double event_ns)
{
	bool on_trial = trial->on_trial;

	trial->on_trial = false;
	if (!trial->looking) {
		if (trial->left > 0) {
			trial->left--;
			return false;
		}
		trial->asleep_ns = event_ns;
		trial->on_trial = worth;
		return worth;
	}
	if (!worth || (on_trial && event_ns > trial->asleep_ns * 1.1)) {
		trial->left = trial->pause;
		trial->pause = trial->pause < TRIAL_PAUSE_MAX ? trial->pause * 2 : trial->pause;
		trial->keep = TRIAL_KEEP_MIN;
		return false;
	}
	if (on_trial) {
		trial->left = trial->keep;
		trial->keep = trial->keep < TRIAL_KEEP_MAX ? trial->keep * 2 : trial->keep;
		trial->pause = 1;
		return true;
	}
	if (trial->left == 0)
		return false;	/* for a window, to be compared with */
	trial->left--;
	return true;
}

/* A round is over, which is for looking or not; whether to look in the next one. */
static inline bool trial_round(struct trial *trial, int64_t events, bool worth)
{
	long sleeps;
	int64_t now;
	bool half;

	trial->events += events;
	trial->worth += worth;
	if (++trial->rounds < TRIAL_ROUNDS)
		return trial->looking;
	now = trial_clock();
	sleeps = trial_sleeps();
	half = trial->worth * 2 >= trial->rounds &&
	       (trial->looking || (sleeps - trial->start_sleeps) * 2 >= trial->rounds);
	if (pthread_equal(trial->thread, pthread_self()))
		trial->looking = trial_decide(trial, half,
					      (double)(now - trial->start_ns) /
						      (double)(trial->events > 0 ? trial->events : 1));
	else
		trial->looking = trial->on_trial = false;
	trial->thread = pthread_self();
	trial->rounds = trial->worth = 0;
	trial->events = 0;
	trial->start_ns = now;
	trial->start_sleeps = sleeps;
	return trial->looking;
}

#endif
