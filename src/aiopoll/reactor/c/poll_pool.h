/*
 * The records of poll requests: from the moment a file shall be polled until the event is reaped.
 *
 * Facts.  io_cancel finds a request by the address of the iocb that was submitted, and reads its
 * aio_key there.  A request that was cancelled, or whose file was closed, still has one event to
 * come, which may be in the ring already.
 *
 * Rule.  A record never moves, and is used again only after its event.  aio_data carries its
 * index and its generation, which counts the uses: an event of an earlier use is recognised and
 * dropped.  Only a record in flight may be cancelled.
 *
 * Cost.  80 bytes a request, never given back before the pool is.
 */
#ifndef AIOPOLL_POLL_POOL_H
#define AIOPOLL_POLL_POOL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"

#define POLL_POOL_CHUNK 256u
#define POLL_POOL_NONE UINT32_MAX

enum poll_state {
	POLL_FREE,
	POLL_QUEUED,	/* not submitted yet */
	POLL_IN_FLIGHT,
};

struct poll_request {
	struct iocb iocb;
	uint32_t index;
	uint32_t generation;
	int32_t owner;		/* the descriptor that wants the event, -1 if none does any more */
	uint8_t direction;
	uint8_t state;		/* enum poll_state */
};

struct poll_pool {
	struct poll_request **chunks;
	uint32_t nr_chunks;
	uint32_t next_free;	/* POLL_POOL_NONE, or the first of a list through aio_reserved2 */
	uint32_t in_flight;
};

static inline struct poll_request *poll_pool_at(const struct poll_pool *pool, uint32_t index)
{
	return &pool->chunks[index / POLL_POOL_CHUNK][index % POLL_POOL_CHUNK];
}

static inline int poll_pool_grow(struct poll_pool *pool)
{
	struct poll_request **chunks, *chunk;
	uint32_t first = pool->nr_chunks * POLL_POOL_CHUNK;

	chunks = realloc(pool->chunks, (pool->nr_chunks + 1) * sizeof(*chunks));
	if (!chunks)
		return -ENOMEM;
	pool->chunks = chunks;
	chunk = calloc(POLL_POOL_CHUNK, sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	for (uint32_t i = POLL_POOL_CHUNK; i-- > 0;) {
		chunk[i].index = first + i;
		chunk[i].owner = -1;
		chunk[i].iocb.aio_reserved2 = pool->next_free;
		pool->next_free = first + i;
	}
	pool->chunks[pool->nr_chunks++] = chunk;
	return 0;
}

/* A record for polling `fd`, or NULL where there is no memory for it. */
static inline struct poll_request *poll_pool_take(struct poll_pool *pool, int fd,
						  uint8_t direction, uint16_t events)
{
	struct poll_request *request;

	if (pool->next_free == POLL_POOL_NONE && poll_pool_grow(pool) < 0)
		return NULL;
	request = poll_pool_at(pool, pool->next_free);
	pool->next_free = (uint32_t)request->iocb.aio_reserved2;
	memset(&request->iocb, 0, sizeof(request->iocb));
	request->iocb.aio_data = (uint64_t)request->generation << 32 | request->index;
	request->iocb.aio_lio_opcode = IOCB_CMD_POLL;
	request->iocb.aio_fildes = (uint32_t)fd;
	request->iocb.aio_buf = events;
	request->owner = fd;
	request->direction = direction;
	request->state = POLL_QUEUED;
	return request;
}

static inline void poll_pool_release(struct poll_pool *pool, struct poll_request *request)
{
	if (request->state == POLL_IN_FLIGHT)
		pool->in_flight--;
	request->generation++;
	request->owner = -1;
	request->state = POLL_FREE;
	request->iocb.aio_reserved2 = pool->next_free;
	pool->next_free = request->index;
}

/* The record that an event belongs to, or NULL if it is of an earlier use, or of no poll. */
static inline struct poll_request *poll_pool_find(const struct poll_pool *pool, uint64_t aio_data)
{
	uint32_t index = (uint32_t)aio_data;
	struct poll_request *request;

	if (index >= pool->nr_chunks * POLL_POOL_CHUNK)
		return NULL;
	request = poll_pool_at(pool, index);
	if (request->state != POLL_IN_FLIGHT || request->generation != aio_data >> 32)
		return NULL;
	return request;
}

/* How many records are not on the list of free ones: 0 when every event has been reaped. */
static inline uint32_t poll_pool_nr_taken(const struct poll_pool *pool)
{
	uint32_t taken = pool->nr_chunks * POLL_POOL_CHUNK, at = pool->next_free;

	for (; taken && at != POLL_POOL_NONE; taken--)
		at = (uint32_t)poll_pool_at(pool, at)->iocb.aio_reserved2;
	return taken;
}

/* Whether events of polls are to come that no file waits for: those of cancelled ones. */
static inline bool poll_pool_has_cancelled(const struct poll_pool *pool)
{
	for (uint32_t i = 0; i < pool->nr_chunks * POLL_POOL_CHUNK; i++) {
		const struct poll_request *request = poll_pool_at(pool, i);

		if (request->state == POLL_IN_FLIGHT && request->owner < 0)
			return true;
	}
	return false;
}

static inline void poll_pool_clear(struct poll_pool *pool)
{
	for (uint32_t i = 0; i < pool->nr_chunks; i++)
		free(pool->chunks[i]);
	free(pool->chunks);
	*pool = (struct poll_pool){ .next_free = POLL_POOL_NONE };
}

#endif
