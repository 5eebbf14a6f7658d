/*
 * What a thread of this process does, as /proc has it.
 *
 * Facts.  /proc/self/task/TID/syscall is "running" for a thread on a CPU or waiting for one, the
 * number and the arguments of the call that it waits in, or -1 if it waits outside of a call (a page
 * fault).  The file may be missing (CONFIG_HAVE_ARCH_TRACEHOOK, gVisor) or refused (a process that
 * is not dumpable); wchan and the state in stat may be there nevertheless.
 *
 * Rule.  A sample never fails: what cannot be read is CALL_UNKNOWN, with the errno.  No object of
 * Python and no lock is used: the GIL may be kept while a sample is taken.
 *
 * Why.  It is the only look at a thread that takes no part in it, neither by a signal nor by the GIL.
 *
 * Cost.  Four files are read, some tens of microseconds: once for a stall.
 *
 * Failure prevented.  A loop that waits in read(2) of a pipe looks to Python as one that computes:
 * its line is the same all the time.
 */
#ifndef AIOPOLL_THREAD_SAMPLE_H
#define AIOPOLL_THREAD_SAMPLE_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	CALL_UNKNOWN = -3,
	CALL_RUNNING = -2,	/* on a CPU, or waiting for one */
	CALL_NONE = -1,		/* waits, but in no call: a page fault */
};

enum {
	SAMPLE_RUN_NS = 300000,	/* more than the way to the GIL takes */
	SAMPLE_STEP_US = 500,
	SAMPLE_TRIES = 20,
};

struct thread_sample {
	long call;
	unsigned long args[6];
	unsigned long switches;	/* how often it has begun to wait */
	int error;		/* why `call` is unknown */
	char state;		/* as in stat(5): R, S, D; '?' if unknown */
	char wchan[64];		/* the kernel's function that it waits in, or "" */
	char file[256];		/* what the call's descriptor is, or "" */
};

struct call_name {
	long number;
	const char *name;
	bool of_file;		/* its first argument is a descriptor */
};

static const struct call_name call_names[] = {
	{ SYS_read, "read", true }, { SYS_readv, "readv", true }, { SYS_pread64, "pread64", true },
	{ SYS_preadv, "preadv", true }, { SYS_preadv2, "preadv2", true },
	{ SYS_write, "write", true }, { SYS_writev, "writev", true },
	{ SYS_pwrite64, "pwrite64", true }, { SYS_pwritev, "pwritev", true },
	{ SYS_pwritev2, "pwritev2", true }, { SYS_recvfrom, "recvfrom", true },
	{ SYS_recvmsg, "recvmsg", true }, { SYS_recvmmsg, "recvmmsg", true },
	{ SYS_sendto, "sendto", true }, { SYS_sendmsg, "sendmsg", true },
	{ SYS_sendmmsg, "sendmmsg", true }, { SYS_connect, "connect", true },
	{ SYS_accept, "accept", true }, { SYS_accept4, "accept4", true },
	{ SYS_flock, "flock", true }, { SYS_fcntl, "fcntl", true }, { SYS_ioctl, "ioctl", true },
	{ SYS_fsync, "fsync", true }, { SYS_fdatasync, "fdatasync", true },
	{ SYS_sync_file_range, "sync_file_range", true }, { SYS_fallocate, "fallocate", true },
	{ SYS_ftruncate, "ftruncate", true }, { SYS_getdents64, "getdents64", true },
	{ SYS_fstat, "fstat", true }, { SYS_close, "close", true },
	{ SYS_epoll_pwait, "epoll_pwait", true }, { SYS_pselect6, "pselect6", false },
	{ SYS_ppoll, "ppoll", false }, { SYS_futex, "futex", false },
	{ SYS_nanosleep, "nanosleep", false }, { SYS_clock_nanosleep, "clock_nanosleep", false },
	{ SYS_openat, "openat", false }, { SYS_unlinkat, "unlinkat", false },
	{ SYS_io_submit, "io_submit", false }, { SYS_io_getevents, "io_getevents", false },
	{ SYS_io_destroy, "io_destroy", false }, { SYS_io_cancel, "io_cancel", false },
	{ SYS_wait4, "wait4", false }, { SYS_waitid, "waitid", false },
	{ SYS_rt_sigtimedwait, "rt_sigtimedwait", false },
	{ SYS_rt_sigsuspend, "rt_sigsuspend", false }, { SYS_sync, "sync", false },
	{ SYS_sendfile, "sendfile", false }, { SYS_splice, "splice", false },
	{ SYS_copy_file_range, "copy_file_range", true }, { SYS_clone, "clone", false },
	{ SYS_execve, "execve", false }, { SYS_mmap, "mmap", false }, { SYS_munmap, "munmap", false },
	{ SYS_madvise, "madvise", false }, { SYS_getrandom, "getrandom", false },
	{ SYS_membarrier, "membarrier", false }, { SYS_mount, "mount", false },
	{ SYS_semtimedop, "semtimedop", false }, { SYS_msgrcv, "msgrcv", false },
	{ SYS_mq_timedreceive, "mq_timedreceive", true }, { SYS_renameat2, "renameat2", false },
#ifdef SYS_io_pgetevents
	{ SYS_io_pgetevents, "io_pgetevents", false },
#endif
#ifdef SYS_epoll_pwait2
	{ SYS_epoll_pwait2, "epoll_pwait2", true },
#endif
#ifdef SYS_clone3
	{ SYS_clone3, "clone3", false },
#endif
#ifdef SYS_io_uring_enter
	{ SYS_io_uring_enter, "io_uring_enter", true },
#endif
#ifdef SYS_newfstatat
	{ SYS_newfstatat, "newfstatat", false },
#endif
#ifdef SYS_statx
	{ SYS_statx, "statx", false },
#endif
#ifdef SYS_poll		/* what aarch64 does not have */
	{ SYS_poll, "poll", false },
#endif
#ifdef SYS_select
	{ SYS_select, "select", false },
#endif
#ifdef SYS_epoll_wait
	{ SYS_epoll_wait, "epoll_wait", true },
#endif
#ifdef SYS_open
	{ SYS_open, "open", false },
#endif
#ifdef SYS_stat
	{ SYS_stat, "stat", false },
#endif
#ifdef SYS_fork
	{ SYS_fork, "fork", false }, { SYS_vfork, "vfork", false },
#endif
#ifdef SYS_pause
	{ SYS_pause, "pause", false },
#endif
#ifdef SYS_rename
	{ SYS_rename, "rename", false }, { SYS_unlink, "unlink", false },
#endif
};

static inline const struct call_name *call_name_of(long number)
{
	for (size_t i = 0; i < sizeof(call_names) / sizeof(*call_names); i++)
		if (call_names[i].number == number)
			return &call_names[i];
	return NULL;
}

/* NULL for a call that has no name here. */
static inline const char *call_name_text(long number)
{
	const struct call_name *call = call_name_of(number);

	return call ? call->name : NULL;
}

static inline bool call_is_futex(long number)
{
	return number == SYS_futex;
}

/* Whether a reactor sleeps by it. */
static inline bool call_is_sleep(long number)
{
	const char *name = call_name_text(number);

	return name && (strncmp(name, "epoll_", 6) == 0 || strcmp(name, "io_getevents") == 0 ||
			strcmp(name, "io_pgetevents") == 0);
}

/* Reads a file of the thread's folder as a string; returns 0 or -errno. */
static inline int sample_read(int tid, const char *name, char *text, size_t room)
{
	char path[64];
	ssize_t length;
	int fd, error;

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	length = read(fd, text, room - 1);
	error = errno;
	close(fd);
	text[length > 0 ? length : 0] = '\0';
	return length < 0 ? -error : 0;
}

static inline void sample_call(int tid, struct thread_sample *sample)
{
	char text[512], *at, *end;
	int result = sample_read(tid, "syscall", text, sizeof(text));
	long number;

	if (result < 0) {
		sample->error = -result;
		return;
	}
	if (strncmp(text, "running", 7) == 0) {
		sample->call = CALL_RUNNING;
		return;
	}
	number = strtol(text, &at, 10);
	if (at == text) {
		sample->error = EINVAL;
		return;
	}
	sample->call = number < 0 ? CALL_NONE : number;
	for (int i = 0; number >= 0 && i < 6; i++) {
		sample->args[i] = strtoul(at, &end, 16);
		at = end;
	}
}

static inline void sample_file(struct thread_sample *sample)
{
	const struct call_name *call = call_name_of(sample->call);
	char path[64];
	ssize_t length;

	if (!call || !call->of_file)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", (int)sample->args[0]);
	length = readlink(path, sample->file, sizeof(sample->file) - 1);
	sample->file[length > 0 ? length : 0] = '\0';
}

static inline void sample_thread(int tid, struct thread_sample *sample)
{
	char text[4096], *at;

	*sample = (struct thread_sample){ .call = CALL_UNKNOWN, .state = '?' };
	sample_call(tid, sample);
	sample_file(sample);
	if (sample_read(tid, "stat", text, sizeof(text)) == 0) {
		at = strrchr(text, ')');	/* the name may have one, too */
		if (at && at[1] == ' ')
			sample->state = at[2];
	}
	if (sample_read(tid, "status", text, sizeof(text)) == 0) {
		at = strstr(text, "\nvoluntary_ctxt_switches:");
		if (at)
			sample->switches = strtoul(strchr(at, ':') + 1, NULL, 10);
	}
	if (sample->call == CALL_RUNNING ||
	    sample_read(tid, "wchan", sample->wchan, sizeof(sample->wchan)) < 0 ||
	    strcmp(sample->wchan, "0") == 0)
		sample->wchan[0] = '\0';
}

/* The CPU time of a thread of this process, in nanoseconds; -1 if it has ended. */
static inline int64_t sample_cpu_ns(int tid)
{
	/* As the kernel numbers the clocks of threads: include/linux/posix-timers.h. */
	clockid_t clock = (clockid_t)(~(unsigned)tid << 3 | 6);
	struct timespec used;

	if (clock_gettime(clock, &used) != 0)
		return -1;
	return used.tv_sec * 1000000000LL + used.tv_nsec;
}

/*
 * Samples a thread for a caller that has the GIL, until it is clear what the thread does without it.
 * One that runs is sampled until it has used the CPU for a while, or waits: code of Python does, for
 * the GIL.  One that waits in the same futex(2) as before is sampled again after an interval, at the
 * end of which one that waits for the GIL has looked for it.
 */
static inline void sample_with_gil(int tid, const struct thread_sample *before, long interval_us,
				   struct thread_sample *now)
{
	int64_t start_ns = sample_cpu_ns(tid);

	sample_thread(tid, now);
	for (int tries = 0; now->call == CALL_RUNNING; tries++) {
		if (sample_cpu_ns(tid) - start_ns >= SAMPLE_RUN_NS)
			return;
		if (tries == SAMPLE_TRIES) {
			now->call = CALL_UNKNOWN;	/* the CPU is another's all the time */
			now->error = EAGAIN;
			return;
		}
		usleep(SAMPLE_STEP_US);
		sample_thread(tid, now);
	}
	if (call_is_futex(now->call) && call_is_futex(before->call) &&
	    now->args[0] == before->args[0] && now->switches == before->switches) {
		usleep(interval_us);
		sample_thread(tid, now);
	}
}

#endif
