/*
 * What a Python without a GIL needs.
 *
 * Facts.  A free-threaded build defines Py_GIL_DISABLED (PEP 703).  Its lists, dicts and deques
 * lock themselves for one operation each.  A critical section locks one object, and lets go of it
 * whenever the thread waits or would have let go of the GIL.
 *
 * Rule.  A loop and all that belongs to it is used by the thread that runs it.  What other threads
 * reach is an atomic variable, a list that locks itself, or is used in a critical section of its
 * object.  Nothing that is held at a fork is needed in the child: there is no lock of our own.
 *
 * Why.  A critical section does for one object what the GIL does for all: code that was right under
 * the GIL stays right.
 *
 * Cost.  None where there is a GIL: FREE_THREADED is a constant, and what depends on it is not
 * compiled.
 */
#ifndef AIOPOLL_FREE_THREADING_H
#define AIOPOLL_FREE_THREADING_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef Py_GIL_DISABLED
#define FREE_THREADED 1
#else
#define FREE_THREADED 0
#endif

/*
 * A flag beside a queue, or a sleeper: one side stores before it loads what the other one stores,
 * so that at least one sees the other (wakeup.h).
 */
static inline void flag_raise(int *flag)
{
	__atomic_store_n(flag, 1, __ATOMIC_SEQ_CST);
}

static inline void flag_lower(int *flag)
{
	__atomic_store_n(flag, 0, __ATOMIC_SEQ_CST);
}

static inline bool flag_is_up(const int *flag)
{
	return __atomic_load_n(flag, __ATOMIC_SEQ_CST);
}

/* Raises it; whether it was up already. */
static inline bool flag_was_up(int *flag)
{
	return __atomic_exchange_n(flag, 1, __ATOMIC_SEQ_CST);
}

/* The thread that something belongs to: 0 is whichever comes. */
#define NO_THREAD ((unsigned long)-1)

static inline void thread_set(unsigned long *owner, unsigned long ident)
{
	__atomic_store_n(owner, ident, __ATOMIC_RELAXED);
}

static inline unsigned long thread_get(const unsigned long *owner)
{
	return __atomic_load_n(owner, __ATOMIC_RELAXED);
}

static inline bool is_this_thread(const unsigned long *owner)
{
	unsigned long ident = thread_get(owner);

	return ident == 0 || ident == PyThread_get_thread_ident();
}

/* Counts what several threads do. */
static inline void count_up(uint64_t *counter)
{
#if FREE_THREADED
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
#else
	++*counter;
#endif
}

/*
 * Slots of Python objects, at an offset.  Without a GIL another thread may empty one between the load
 * of the pointer and the count of the reference, as Handle.cancel() does.
 */
static inline PyObject **slot_at(PyObject *object, Py_ssize_t offset)
{
	return (PyObject **)((char *)object + offset);
}

/* A new reference; NULL with AttributeError where the slot is empty. */
static inline PyObject *slot_get(PyObject *object, Py_ssize_t offset)
{
	PyObject *value;

#if FREE_THREADED
	Py_BEGIN_CRITICAL_SECTION(object);
	value = Py_XNewRef(*slot_at(object, offset));
	Py_END_CRITICAL_SECTION();
#else
	value = Py_XNewRef(*slot_at(object, offset));
#endif
	if (!value)
		PyErr_SetString(PyExc_AttributeError, "this object was not initialised");
	return value;
}

static inline void slot_put(PyObject *object, Py_ssize_t offset, PyObject *value)
{
	PyObject *old;

	Py_INCREF(value);
#if FREE_THREADED
	Py_BEGIN_CRITICAL_SECTION(object);
	old = *slot_at(object, offset);
	__atomic_store_n(slot_at(object, offset), value, __ATOMIC_RELEASE);
	Py_END_CRITICAL_SECTION();
#else
	old = *slot_at(object, offset);
	*slot_at(object, offset) = value;
#endif
	Py_XDECREF(old);
}

/*
 * A reference to an object that is known by its address: NULL if it is being deallocated.
 * may_be_borrowed() comes first.
 */
static inline void may_be_borrowed(PyObject *object)
{
#if FREE_THREADED && PY_VERSION_HEX >= 0x030E0000
	PyUnstable_EnableTryIncRef(object);
#endif
	(void)object;
}

static inline PyObject *borrowed(PyObject *object)
{
#if FREE_THREADED && PY_VERSION_HEX >= 0x030E0000
	return PyUnstable_TryIncRef(object) ? object : NULL;
#else
	return Py_NewRef(object);
#endif
}

#endif
