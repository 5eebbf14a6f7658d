"""Compiled callbacks, which the loop runs when a file is ready."""


cdef class Runnable:
    """Compiled code in the ready queue, run without a call through Python.

    Only what must end the loop (SystemExit, KeyboardInterrupt) may leave run().  `_run` and
    `_cancelled` are asyncio's names, for programs that run the queue in the loop's place.
    """

    _cancelled = False

    cdef int run(self) except -1:
        raise NotImplementedError

    cdef int cancel(self) except -1:
        """Its file is not watched any more; a run that is queued already must do nothing."""
        return 0

    cdef int yield_to_loop(self) except -1:
        """Does what was to wait for the end of run(): it calls for the loop, and waits itself."""
        return 0

    cdef int push(self) except -1:
        """Sends what its last callback has held back."""
        return 0

    def _run(self):
        self.run()
