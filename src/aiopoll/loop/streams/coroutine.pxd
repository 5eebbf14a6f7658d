"""What a compiled coroutine has for whoever looks at it."""

cdef class CompiledCoroutine:
    cdef object function(self)
    cdef object awaited(self)
    cdef bint is_suspended(self) noexcept
    cdef bint has_ended(self) noexcept
