/*
 * Python stacks without the GIL, for a thread that keeps it.
 *
 * Facts.  CPython's faulthandler writes stacks by _Py_DumpTraceback, which takes no lock and no
 * object.  3.11 and 3.12 export it, 3.15 does as PyUnstable_DumpTraceback; 3.13 and 3.14 export
 * neither.  A frame that executes changes while it is read.
 *
 * Rule.  A stack is dumped while its thread keeps the GIL, in C code that gives it to no other
 * thread, or waits for it: then its frames stay as they are.  The dump goes into a pipe that
 * never blocks.
 *
 * Why.  While the GIL is kept no code of Python can report that it is.
 *
 * Cost.  Two descriptors while it lasts.  File names are cut after 500 letters, and stacks after
 * 100 frames.
 *
 * Failure prevented.  An extension computes for ever with the GIL: the process hangs without a line.
 */
#ifndef AIOPOLL_GIL_DUMP_H
#define AIOPOLL_GIL_DUMP_H

#include <Python.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	GIL_DUMP_MAX = 16384,	/* of one stack, and of those of all threads */
};

typedef void (*dump_thread)(int fd, PyThreadState *thread);
typedef const char *(*dump_threads)(int fd, PyInterpreterState *interpreter,
				    PyThreadState *current);

static dump_thread gil_dump_thread;
static dump_threads gil_dump_threads;

/* Looks for the functions: once, for dlsym() takes locks. */
static inline void gil_dump_find(void)
{
	gil_dump_thread = (dump_thread)dlsym(RTLD_DEFAULT, "_Py_DumpTraceback");
	gil_dump_threads = (dump_threads)dlsym(RTLD_DEFAULT, "_Py_DumpTracebackThreads");
	if (!gil_dump_thread)
		gil_dump_thread = (dump_thread)dlsym(RTLD_DEFAULT, "PyUnstable_DumpTraceback");
	if (!gil_dump_threads)
		gil_dump_threads = (dump_threads)dlsym(RTLD_DEFAULT, "PyUnstable_DumpTracebackThreads");
}

/*
 * Writes the stack of a thread, or those of all threads if it is NULL, into `text`, as a string.
 * Returns 0, or -errno: -ENOSYS where this Python has no such function.
 */
static inline int gil_dump(PyThreadState *thread, char *text, size_t room)
{
	int fds[2];
	ssize_t length;
	size_t total = 0;

	text[0] = '\0';
	if (thread ? !gil_dump_thread : !gil_dump_threads)
		return -ENOSYS;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	if (thread)
		gil_dump_thread(fds[1], thread);
	else
		gil_dump_threads(fds[1], NULL, NULL);
	close(fds[1]);
	while (total < room - 1) {
		length = read(fds[0], text + total, room - 1 - total);
		if (length <= 0)
			break;
		total += length;
	}
	close(fds[0]);
	text[total] = '\0';
	return 0;
}

#endif
