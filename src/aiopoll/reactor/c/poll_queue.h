/*
 * The poll requests that wait for the next io_submit.
 *
 * Facts.  An io_submit of many requests costs little more than one of a single request.  Most
 * files are armed again in each iteration; some are forgotten before it ends.
 *
 * Rule.  A request is queued when its file shall be polled, and leaves for the batch of the
 * iteration's one io_submit.  One whose file was forgotten meanwhile is released instead.  Two
 * descriptors go first: the epoll set, into which everything else overflows, and the wake-up.
 *
 * Cost.  Eight bytes for each request that ever waited at once, and eight in the batch.
 */
#ifndef AIOPOLL_POLL_QUEUE_H
#define AIOPOLL_POLL_QUEUE_H

#include "poll_pool.h"
#include "ring.h"

struct poll_queue {
	uint32_t *indices;
	uint32_t nr;
	uint32_t room;
	struct iocb **batch;
	uint32_t batch_room;
};

static inline int poll_queue_push(struct poll_queue *queue, uint32_t index)
{
	if (queue->nr == queue->room) {
		uint32_t room = queue->room ? queue->room * 2 : 64;
		uint32_t *indices = realloc(queue->indices, room * sizeof(*indices));

		if (!indices)
			return -ENOMEM;
		queue->indices = indices;
		queue->room = room;
	}
	queue->indices[queue->nr++] = index;
	return 0;
}

/* Queues a request that polls `fd`; NULL where there is no memory for it. */
static inline struct poll_request *poll_queue_add(struct poll_queue *queue, struct poll_pool *pool,
						  int fd, uint8_t direction, uint16_t events)
{
	struct poll_request *request = poll_pool_take(pool, fd, direction, events);

	if (request && poll_queue_push(queue, request->index) < 0) {
		poll_pool_release(pool, request);
		return NULL;
	}
	return request;
}

/* Gives the batch room for `nr` requests; 0 or -ENOMEM. */
static inline int poll_queue_reserve(struct poll_queue *queue, uint32_t nr)
{
	struct iocb **batch;

	if (queue->batch_room >= nr)
		return 0;
	batch = realloc(queue->batch, nr * sizeof(*batch));
	if (!batch)
		return -ENOMEM;
	queue->batch = batch;
	queue->batch_room = nr;
	return 0;
}

/*
 * Moves the queue into the batch, which gets room for `more` requests of others behind it.
 * Returns how many were moved, or -ENOMEM.
 */
static inline long poll_queue_take(struct poll_queue *queue, struct poll_pool *pool, int first,
				   int second, uint32_t more)
{
	uint32_t count = 0, ahead = 0;

	if (poll_queue_reserve(queue, queue->room + more) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < queue->nr; i++) {
		struct poll_request *request = poll_pool_at(pool, queue->indices[i]);

		if (request->owner < 0) {
			poll_pool_release(pool, request);
			continue;
		}
		queue->batch[count] = &request->iocb;
		if (request->owner == first || request->owner == second) {
			queue->batch[count] = queue->batch[ahead];
			queue->batch[ahead++] = &request->iocb;
		}
		count++;
	}
	queue->nr = 0;
	return count;
}

/*
 * ring_submit() has taken the polls of the batch from number `first` to `last`: they are in flight.
 * One whose file was forgotten meanwhile is cancelled.
 */
static inline void poll_queue_submitted(struct poll_queue *queue, struct poll_pool *pool,
					struct ring *ring, long first, long last)
{
	for (long i = first; i < last; i++) {
		struct poll_request *request = (struct poll_request *)queue->batch[i];

		request->state = POLL_IN_FLIGHT;
		pool->in_flight++;
		if (request->owner < 0)
			ring_cancel(ring, &request->iocb);
	}
}

/* Cancels the polls of two descriptors, whose events will be dropped. */
static inline void poll_pool_cancel(struct poll_pool *pool, struct ring *ring, int first,
				    int second)
{
	for (uint32_t i = 0; i < pool->nr_chunks * POLL_POOL_CHUNK; i++) {
		struct poll_request *request = poll_pool_at(pool, i);

		if (request->owner < 0 || (request->owner != first && request->owner != second))
			continue;
		request->owner = -1;
		if (request->state == POLL_IN_FLIGHT)
			ring_cancel(ring, &request->iocb);
	}
}

static inline void poll_queue_clear(struct poll_queue *queue)
{
	free(queue->indices);
	free(queue->batch);
	*queue = (struct poll_queue){ 0 };
}

#endif
