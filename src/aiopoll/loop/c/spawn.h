/*
 * Starts a program in a child whose pidfd is created with it.
 *
 * Facts.  With CLONE_PIDFD (5.2) clone(2) returns a pidfd together with the pid; older kernels
 * ignore the flag.  The pidfd is close-on-exec, and the child has none.  CLONE_VM | CLONE_VFORK is
 * vfork(2): the child runs in the memory of its parent, whose thread waits until the child has
 * execed or died.  The C library's clone() calls a function on a stack that the caller passes.  The
 * C library's setuid() and setgroups() have all threads of the process change their ids; the system
 * calls change the caller alone.  Some kernels refuse CLONE_VM (EINVAL, where a new time
 * namespace waits for the next child), and some sandboxes the flags (EPERM).  close_range(2) came
 * with 5.9.
 *
 * Rule.  The child does what the child of subprocess.Popen does, in that order: inheritable
 * descriptors, the parent's ends, stdin to stderr, directory, umask, signals, session, group,
 * ids, descriptors to close, exec.  It only makes system calls, allocates nothing, and writes
 * nothing but its stack and errno.  All signals are blocked from before the clone until the
 * handlers are reset.  Where ids change, or vfork is not allowed, the child gets memory of its
 * own: a process that may trace it with its new ids could write into its parent's memory.  The
 * child reports an error to the parent through a pipe, in the format that subprocess reads.
 *
 * Why.  pidfd_open(2) after the fork comes too late for a child that ended at once and that the
 * kernel (SIGCHLD is ignored) or another thread (waitpid(-1)) has reaped: its status is lost.
 *
 * Failure prevented.  `sh -c "exit 7"` is started while SIGCHLD is ignored.  Its exec lets the
 * parent go on; it exits, and the kernel reaps it.  pidfd_open returns ESRCH, and the program sees
 * status 255.
 *
 * Cost.  A stack, of which one stays mapped for the next child: mapping it takes some 25
 * microseconds.
 */
#ifndef AIOPOLL_SPAWN_H
#define AIOPOLL_SPAWN_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define SPAWN_STACK (128 * 1024)	/* including the guard page, of up to 64 KiB */
#define SPAWN_FIRST_TO_CLOSE 3

/*
 * AddressSanitizer's notes about a stack frame would stay in the parent's memory, because exec
 * never returns from the frame.
 */
#define SPAWN_CHILD __attribute__((no_sanitize("address", "undefined"))) static

/* Descriptors are -1, pointers NULL and numbers -1 where there is nothing to do. */
struct spawn_order {
	char *const *programs;		/* paths to try, one after the other; NULL ends them */
	char *const *argv;
	char *const *envp;
	const char *cwd;
	const int *kept;		/* open in the child, ascending */
	size_t nr_kept;
	int theirs[4];			/* the parent's ends of pipes, to be closed */
	int stdio[3];			/* the descriptors that become 0, 1 and 2 */
	int report;			/* where errors are written: one of `kept`, closed by exec */
	bool close_fds, restore_signals, new_session, may_vfork;
	pid_t process_group;
	int umask;
	long uid, gid;
	const gid_t *groups;
	long nr_groups;
	const char *chdir_failed;	/* the report to subprocess where there is no `cwd` */
	sigset_t signals;		/* blocked in the child */
};

SPAWN_CHILD int spawn_set_cloexec(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFD);

	if (flags < 0)
		return -1;
	return fcntl(fd, F_SETFD, on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC);
}

/* Moves a descriptor out of the way of `below` standard ones, which are about to be replaced. */
SPAWN_CHILD int spawn_move_up(int *fd, int below)
{
	while (*fd >= 0 && *fd < below) {
		*fd = dup(*fd);
		if (*fd < 0 || spawn_set_cloexec(*fd, true) < 0)
			return -1;
	}
	return 0;
}

SPAWN_CHILD int spawn_take_stdio(const struct spawn_order *order)
{
	int fds[3] = { order->stdio[0], order->stdio[1], order->stdio[2] };

	if (spawn_move_up(&fds[1], 1) < 0 || spawn_move_up(&fds[2], 2) < 0)
		return -1;
	for (int i = 0; i < 3; i++) {
		if (fds[i] == i) {
			if (spawn_set_cloexec(i, false) < 0)
				return -1;
		} else if (fds[i] >= 0 && dup2(fds[i], i) < 0) {
			return -1;
		}
	}
	return 0;
}

/* Gives caught signals their default action; ignored ones stay ignored. */
SPAWN_CHILD int spawn_reset_signals(const struct spawn_order *order)
{
	static const int pythons[] = { SIGPIPE, SIGXFSZ };	/* ignored by Python, not by its user */
	struct sigaction action, by_default;

	memset(&by_default, 0, sizeof(by_default));
	by_default.sa_handler = SIG_DFL;
	for (size_t i = 0; order->restore_signals && i < sizeof(pythons) / sizeof(int); i++)
		sigaction(pythons[i], &by_default, NULL);
	for (int number = 1; number < _NSIG; number++) {
		if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN &&
		    action.sa_handler != SIG_DFL)
			sigaction(number, &by_default, NULL);
	}
	errno = pthread_sigmask(SIG_SETMASK, &order->signals, NULL);
	return errno ? -1 : 0;
}

SPAWN_CHILD int spawn_take_ids(const struct spawn_order *order)
{
	if (order->nr_groups >= 0 && syscall(SYS_setgroups, order->nr_groups, order->groups) < 0)
		return -1;
	if (order->gid >= 0 && syscall(SYS_setregid, order->gid, order->gid) < 0)
		return -1;
	if (order->uid >= 0 && syscall(SYS_setreuid, order->uid, order->uid) < 0)
		return -1;
	return 0;
}

SPAWN_CHILD bool spawn_is_kept(const struct spawn_order *order, int fd)
{
	for (size_t i = 0; i < order->nr_kept; i++) {
		if (order->kept[i] == fd)
			return true;
	}
	return false;
}

SPAWN_CHILD int spawn_close_ranges(const struct spawn_order *order)
{
	int first = SPAWN_FIRST_TO_CLOSE;

	for (size_t i = 0; i < order->nr_kept; i++) {
		if (order->kept[i] < first)
			continue;
		if (first < order->kept[i] &&
		    syscall(SYS_close_range, first, order->kept[i] - 1, 0) < 0)
			return -1;
		if (order->kept[i] == INT_MAX)
			return 0;
		first = order->kept[i] + 1;
	}
	return syscall(SYS_close_range, first, INT_MAX, 0);
}

/* Without close_range(2): closes the descriptors that /proc lists; readdir(3) would allocate. */
SPAWN_CHILD void spawn_close_listed(const struct spawn_order *order)
{
	struct entry {
		uint64_t inode;
		int64_t offset;
		unsigned short length;
		unsigned char type;
		char name[];
	};
	char buffer[1024] __attribute__((aligned(8)));
	int directory = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long size, fd_max;

	if (directory < 0) {
		fd_max = sysconf(_SC_OPEN_MAX);
		for (int fd = SPAWN_FIRST_TO_CLOSE; fd < (fd_max < 0 ? 256 : fd_max); fd++) {
			if (!spawn_is_kept(order, fd))
				close(fd);
		}
		return;
	}
	while ((size = syscall(SYS_getdents64, directory, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < size; at += ((struct entry *)(buffer + at))->length) {
			int fd = 0;

			for (const char *c = ((struct entry *)(buffer + at))->name; *c; c++)
				fd = fd < 0 || *c < '0' || *c > '9' ? -1 : fd * 10 + (*c - '0');
			if (fd >= SPAWN_FIRST_TO_CLOSE && fd != directory && !spawn_is_kept(order, fd))
				close(fd);
		}
	}
	close(directory);
}

/* Returns why exec failed: the first errno other than those of a missing file. */
SPAWN_CHILD int spawn_exec(const struct spawn_order *order)
{
	int code = 0;

	for (char *const *program = order->programs; *program; program++) {
		execve(*program, order->argv, order->envp ? order->envp : environ);
		if (errno != ENOENT && errno != ENOTDIR && code == 0)
			code = errno;
	}
	return code ? code : errno;
}

SPAWN_CHILD void spawn_write(int fd, const char *text, size_t size)
{
	while (write(fd, text, size) < 0 && errno == EINTR)
		;
}

/* Writes OSError:<errno in hex>:<the step that failed> */
SPAWN_CHILD void spawn_report(const struct spawn_order *order, int code, const char *when)
{
	static const char digits[] = "0123456789abcdef", kind[] = "OSError:";
	char number[sizeof(code) * 2 + 1], *begin = number + sizeof(number);

	*--begin = ':';
	for (; code > 0 && begin > number; code /= 16)
		*--begin = digits[code % 16];
	spawn_write(order->report, kind, sizeof(kind) - 1);
	spawn_write(order->report, begin, number + sizeof(number) - begin);
	spawn_write(order->report, when, strlen(when));
}

/* Returns only if a step failed: the name of that step. */
SPAWN_CHILD const char *spawn_run(const struct spawn_order *order)
{
	static const char before[] = "noexec";

	for (size_t i = 0; i < order->nr_kept; i++) {
		if (order->kept[i] != order->report && spawn_set_cloexec(order->kept[i], false) < 0)
			return before;
	}
	for (size_t i = 0; i < sizeof(order->theirs) / sizeof(int); i++) {
		if (order->theirs[i] >= 0 && close(order->theirs[i]) < 0)
			return before;
	}
	if (spawn_take_stdio(order) < 0)
		return before;
	if (order->cwd && chdir(order->cwd) < 0)
		return order->chdir_failed;
	if (order->umask >= 0)
		umask(order->umask);
	if (spawn_reset_signals(order) < 0)
		return before;
	if (order->new_session && setsid() < 0)
		return before;
	if (order->process_group >= 0 && setpgid(0, order->process_group) < 0)
		return before;
	if (spawn_take_ids(order) < 0)
		return before;
	if (order->close_fds && spawn_close_ranges(order) < 0)
		spawn_close_listed(order);
	errno = spawn_exec(order);
	return "";
}

SPAWN_CHILD int spawn_child(void *argument)
{
	const struct spawn_order *order = argument;
	const char *when = spawn_run(order);

	spawn_report(order, errno, when);
	_exit(255);
}

static char *spawn_kept_stack;

/* Two pages of it are used; a write to the lowest one faults, so an overflow is noticed. */
static inline char *spawn_take_stack(void)
{
	char *stack = __atomic_exchange_n(&spawn_kept_stack, NULL, __ATOMIC_ACQUIRE);

	if (stack)
		return stack;
	stack = mmap(NULL, SPAWN_STACK, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return NULL;
	mprotect(stack, sysconf(_SC_PAGESIZE), PROT_NONE);
	return stack;
}

static inline void spawn_put_stack(char *stack)
{
	stack = __atomic_exchange_n(&spawn_kept_stack, stack, __ATOMIC_ACQ_REL);
	if (stack)	/* left by another thread that started a child */
		munmap(stack, SPAWN_STACK);
}

/* Returns the pid, or -errno if there is no child; *pidfd is -1 where the kernel makes none. */
static inline pid_t spawn(struct spawn_order *order, int *pidfd)
{
	bool shares = order->may_vfork && order->uid < 0 && order->gid < 0 && order->nr_groups < 0;
	char *stack = spawn_take_stack();
	sigset_t all;
	pid_t pid = -1;
	int code;

	*pidfd = -1;
	if (!stack)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &order->signals);
	if (shares)
		pid = clone(spawn_child, stack + SPAWN_STACK,
			    CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, order, pidfd);
	if (pid < 0)
		pid = clone(spawn_child, stack + SPAWN_STACK, CLONE_PIDFD | SIGCHLD, order, pidfd);
	code = errno;
	pthread_sigmask(SIG_SETMASK, &order->signals, NULL);
	spawn_put_stack(stack);
	return pid < 0 ? -code : pid;
}

#endif
