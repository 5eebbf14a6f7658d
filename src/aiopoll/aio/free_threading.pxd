"""What a Python without a GIL needs; see c/free_threading.h."""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

cdef extern from "free_threading.h" nogil:
    enum:
        FREE_THREADED

    unsigned long NO_THREAD

    void flag_raise(int *flag)
    void flag_lower(int *flag)
    bint flag_is_up(const int *flag)
    bint flag_was_up(int *flag)
    void thread_set(unsigned long *owner, unsigned long ident)
    unsigned long thread_get(const unsigned long *owner)
    bint is_this_thread(const unsigned long *owner)
    void count_up(uint64_t *counter)

cdef extern from "free_threading.h":
    object slot_get(PyObject *owner, Py_ssize_t offset)
    void slot_put(PyObject *owner, Py_ssize_t offset, PyObject *value)
    void may_be_borrowed(PyObject *object)
    PyObject *borrowed(PyObject *object)
