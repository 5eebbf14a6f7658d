# cython: auto_pickle=False
"""What a coroutine has, for a compiled one: code looks at it, and gives it to generators.

Facts.  `await x` takes tp_iternext of what x.__await__() answers; `yield from` asks that for its
__iter__ first.  inspect.getcoroutinestate(), the stacks of tasks and debuggers read cr_running,
cr_suspended, cr_frame and cr_code.  asyncio.iscoroutine() is true of a collections.abc.Coroutine.

Rule.  A compiled coroutine stands for a coroutine function of asyncio's, whose names and code it
shows.  It has no frame: who asks gets that of a coroutine of the function, closed before it began.

Why.  A stack that is printed names the function that was called, where a reader can look it up.

Cost.  inspect.iscoroutine() asks for types.CoroutineType, from which nothing derives.
"""

import asyncio
import inspect


cdef class CompiledCoroutine:
    """A base of what is a collections.abc.Coroutine by its methods."""

    cdef object function(self):
        """What it stands for."""
        raise NotImplementedError

    cdef object awaited(self):
        """What it waits for; None where it does not wait."""
        raise NotImplementedError

    cdef bint is_suspended(self) noexcept:
        return False

    cdef bint has_ended(self) noexcept:
        return False

    def __await__(self):
        return self

    def __iter__(self):
        return self

    @property
    def __name__(self):
        return self.function().__name__

    @property
    def __qualname__(self):
        return self.function().__qualname__

    @property
    def cr_await(self):
        """What it waits for; None while it does not wait."""
        return self.awaited()

    @property
    def cr_code(self):
        """The code of the function that it stands for."""
        return self.function().__code__

    @property
    def cr_frame(self):
        """A frame of that function, without its variables; None once it has ended."""
        if self.has_ended():
            return None
        function = self.function()
        coroutine = function(*[None] * function.__code__.co_argcount)
        frame = coroutine.cr_frame
        coroutine.close()
        return frame

    @property
    def cr_running(self):
        """False: it does not call the program."""
        return False

    @property
    def cr_suspended(self):
        """Whether it has begun, and waits."""
        return self.is_suspended()

    @property
    def cr_origin(self):
        """None: where it was made is not kept."""
        return None


def mark_coroutine_functions(*functions):
    """Makes iscoroutinefunction() true of compiled functions, as far as Python lets it be said."""
    mark = getattr(asyncio.coroutines, "_is_coroutine", None)
    for function in functions:
        if mark is not None:
            function._is_coroutine = mark
        if hasattr(inspect, "markcoroutinefunction"):  # Python 3.12
            inspect.markcoroutinefunction(function)
