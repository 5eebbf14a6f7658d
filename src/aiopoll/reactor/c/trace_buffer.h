/*
 * The records of a trace: what a loop did and when, the newest of them.
 *
 * Facts.  A loop does some hundred thousand things a second.  While one waits in the kernel, without
 * the GIL, other threads wake it, collect garbage, and write the trace to a file.
 *
 * Rule.  Records are of one size, and the ring that holds them is made once: a new record takes the
 * place of the oldest.  A writer reserves its places, fills them, and counts them as written.  A
 * reader begins when all that is reserved is written, copies, and drops what was overwritten since.
 * A record refers to no object: a text is a number of a table, or is in records of its own, which
 * come before the record they belong to.
 *
 * Why.  A reservation is one atomic addition, so that no writer waits for another or for a reader.
 *
 * Cost.  The test of a pointer while there is no trace.  40 bytes a record, of pages that the kernel
 * gives when they are first written.
 *
 * Failure prevented.  A reader copies a record that is half new and half a lap old: a callback that
 * took a year.
 *
 * The fields by kind; what is not named is 0.  A text's bytes are in the place of the first four.
 *
 *   kind                 took_ns  value               size        fd         name      detail
 *   TRACE_CALLBACK       yes                                                 callback
 *   TRACE_TASK           yes      number of the task                         coroutine texts before it
 *   TRACE_ITERATION      yes      callbacks ready
 *   TRACE_SUBMIT         yes      asked for           taken, or -errno
 *   TRACE_GETEVENTS      yes      timeout_ns          result                          1: io_pgetevents
 *   TRACE_EPOLL_WAIT     yes      timeout_ns          result                          1: epoll_pwait2
 *   TRACE_EPOLL_CTL      yes      events              0 or -errno  yes                operation
 *   TRACE_CANCEL         yes                          result       yes
 *   TRACE_BUSY_POLL      yes                          1: found
 *   TRACE_REAP                    events
 *   TRACE_ARMED                   events                           yes
 *   TRACE_READY                   events                           yes                1: epoll set
 *   TRACE_TIMER                   late_ns
 *   TRACE_WAKE                                                     thread
 *   TRACE_FILE           yes      offset              length       yes     file       route, operation
 *   TRACE_COLLECTION     yes      collected                        thread             generation
 *   TRACE_INSTANT                                                          its name   texts before it
 *   TRACE_SPAN           yes                                               its name   texts before it
 */
#ifndef AIOPOLL_TRACE_BUFFER_H
#define AIOPOLL_TRACE_BUFFER_H

#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define TRACE_TEXT_BYTES 32
#define TRACE_TEXTS_MAX 16	/* records of text before another */
#define TRACE_READ_TRIES 100000

enum trace_kind {
	TRACE_TEXT = 1,
	TRACE_CALLBACK,
	TRACE_TASK,
	TRACE_ITERATION,
	TRACE_SUBMIT,
	TRACE_GETEVENTS,
	TRACE_EPOLL_WAIT,
	TRACE_EPOLL_CTL,
	TRACE_CANCEL,
	TRACE_BUSY_POLL,
	TRACE_REAP,
	TRACE_ARMED,
	TRACE_READY,
	TRACE_TIMER,
	TRACE_WAKE,
	TRACE_FILE,
	TRACE_COLLECTION,
	TRACE_INSTANT,
	TRACE_SPAN,
};

struct trace_record {
	int64_t at_ns;
	int64_t took_ns;
	int64_t value;
	int64_t size;
	int32_t fd;
	uint16_t name;
	uint8_t kind;		/* an enum trace_kind */
	uint8_t detail;
};

_Static_assert(sizeof(struct trace_record) == 40, "the reader takes them apart");

struct trace_buffer {
	struct trace_record *records;
	uint64_t room;		/* a power of two */
	uint64_t reserved;	/* records, since the beginning */
	uint64_t written;
};

/* Room for at least `room` records; -1 where there is no memory. */
static inline int trace_open(struct trace_buffer *buffer, uint64_t room)
{
	*buffer = (struct trace_buffer){ .room = TRACE_TEXTS_MAX * 2 };
	while (buffer->room < room)
		buffer->room *= 2;
	buffer->records = calloc(buffer->room, sizeof(*buffer->records));
	return buffer->records ? 0 : -1;
}

static inline void trace_close(struct trace_buffer *buffer)
{
	free(buffer->records);
	buffer->records = NULL;
}

/* Adds a record, and its text before it; record.detail is then the number of texts. */
static inline void trace_add_text(struct trace_buffer *buffer, struct trace_record record,
				  const char *text, size_t length)
{
	uint64_t most = TRACE_TEXTS_MAX * TRACE_TEXT_BYTES, nr, at;

	if (length > most)
		length = most;
	nr = (length + TRACE_TEXT_BYTES - 1) / TRACE_TEXT_BYTES;
	at = __atomic_fetch_add(&buffer->reserved, nr + 1, __ATOMIC_SEQ_CST);
	for (uint64_t i = 0; i < nr; i++) {
		struct trace_record piece = { .kind = TRACE_TEXT };
		size_t rest = length - i * TRACE_TEXT_BYTES;

		memcpy(&piece, text + i * TRACE_TEXT_BYTES,
		       rest < TRACE_TEXT_BYTES ? rest : TRACE_TEXT_BYTES);
		buffer->records[(at + i) & (buffer->room - 1)] = piece;
	}
	record.detail = (uint8_t)nr;
	buffer->records[(at + nr) & (buffer->room - 1)] = record;
	__atomic_fetch_add(&buffer->written, nr + 1, __ATOMIC_SEQ_CST);
}

static inline void trace_add(struct trace_buffer *buffer, struct trace_record record)
{
	uint64_t at = __atomic_fetch_add(&buffer->reserved, 1, __ATOMIC_SEQ_CST);

	buffer->records[at & (buffer->room - 1)] = record;
	__atomic_fetch_add(&buffer->written, 1, __ATOMIC_SEQ_CST);
}

/* Adds what has no duration. */
static inline void trace_note(struct trace_buffer *buffer, enum trace_kind kind, int fd,
			      int64_t value, uint8_t detail)
{
	trace_add(buffer, (struct trace_record){ .at_ns = clock_ns(), .value = value, .fd = fd,
						 .kind = (uint8_t)kind, .detail = detail });
}

/*
 * Copies the newest records, the oldest of them first, to `records`, which has room for all.
 * Returns how many; *lost: those before them.
 */
static inline uint64_t trace_copy(struct trace_buffer *buffer, struct trace_record *records,
				  uint64_t *lost)
{
	uint64_t end = 0, first, now, nr;

	for (int tries = 0; tries < TRACE_READ_TRIES; tries++) {
		uint64_t written = __atomic_load_n(&buffer->written, __ATOMIC_SEQ_CST);

		end = __atomic_load_n(&buffer->reserved, __ATOMIC_SEQ_CST);
		if (written == end)
			break;
		sched_yield();
	}
	first = end > buffer->room ? end - buffer->room : 0;
	for (uint64_t i = first; i < end; i++)
		records[i - first] = buffer->records[i & (buffer->room - 1)];
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	now = __atomic_load_n(&buffer->reserved, __ATOMIC_SEQ_CST);
	nr = end - first;
	if (now > buffer->room && now - buffer->room > first) {
		uint64_t gone = now - buffer->room - first;

		gone = gone < nr ? gone : nr;
		memmove(records, records + gone, (nr - gone) * sizeof(*records));
		first += gone;
		nr -= gone;
	}
	*lost = first;
	return nr;
}

#endif
