"""The function that subprocess.Popen calls to start its child, which has a pidfd from the start.

Facts.  Popen calls `_posixsubprocess.fork_exec`, with 23 positional arguments on 3.11 to 3.13.  It
runs `preexec_fn`, a Python function, in a forked child.  For wrong arguments it raises, with
messages of its own.

Rule.  A Spawner is called in its place (spawn.h).  The stock function starts a child that has a
`preexec_fn`; that child is held before it calls the `preexec_fn`, until its pidfd is open.  Wrong
arguments are also passed to the stock function, which raises.  So is a child that the kernel
refuses to start by clone(2): it then has no pidfd.

Failure prevented.  `pass_fds=[-1]` must raise ValueError: "bad value(s) in fds_to_keep", or
whatever another version raises.

Cost.  A pipe for each child with a `preexec_fn`.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from posix.types cimport gid_t, pid_t
from posix.unistd cimport close

import os

cdef extern from "spawn.h" nogil:
    cdef struct spawn_order:
        char **programs
        char **argv
        char **envp
        const char *cwd
        int *kept
        size_t nr_kept
        int theirs[4]
        int stdio[3]
        int report
        bint close_fds, restore_signals, new_session, may_vfork
        pid_t process_group
        int umask
        long uid, gid
        gid_t *groups
        long nr_groups
        const char *chdir_failed
    pid_t c_spawn "spawn"(spawn_order *order, int *pidfd)

cdef enum:
    NR_ARGUMENTS = 22  # from Python 3.14 on; before, whether vfork(2) may be used comes last
    PREEXEC_FN = 21  # its position among the arguments
    NR_GROUPS_MAX = 65536  # NGROUPS_MAX

cdef long ID_MAX = 2 ** 32 - 2  # the last one is -1, which stands for none


@cython.final
cdef class Strings:
    """A NULL-terminated array of C strings.  Raises TypeError; ValueError for a null byte."""

    cdef list values
    cdef char **array

    def __cinit__(self, values):
        cdef Py_ssize_t i
        self.values = [encoded(value) for value in values]
        self.array = <char **>PyMem_Malloc((len(self.values) + 1) * sizeof(char *))
        if self.array == NULL:
            raise MemoryError
        for i in range(len(self.values)):
            self.array[i] = <char *><bytes>self.values[i]
        self.array[len(self.values)] = NULL

    def __dealloc__(self):
        PyMem_Free(self.array)


@cython.final
cdef class Numbers:
    """An array of C ints, or of gid_t.

    Raises TypeError, OverflowError, and ValueError for a wrong range or order.
    """

    cdef unsigned int *array
    cdef Py_ssize_t count

    def __cinit__(self, values, long maximum, bint ascending):
        cdef long value, last = -1
        values = tuple(values)  # which no other code changes meanwhile
        self.array = <unsigned int *>PyMem_Malloc((len(values) + 1) * sizeof(unsigned int))
        if self.array == NULL:
            raise MemoryError
        for value in values:
            if not (last if ascending else -1) < value <= maximum:
                raise ValueError
            self.array[self.count] = last = value
            self.count += 1

    def __dealloc__(self):
        PyMem_Free(self.array)


cdef bytes encoded(value):
    cdef bytes text = os.fsencode(value)
    if b"\0" in text:
        raise ValueError
    return text


cdef long identity(value) except -2:
    """Returns a uid or gid; -1 for None."""
    cdef long number = -1 if value is None else value
    if value is not None and not 0 <= number <= ID_MAX:
        raise ValueError
    return number


@cython.final
cdef class Spawner:
    """Called in the place of `stock`, fork_exec.  Owns the pidfd of its child until detach().

    chdir_failed: the text by which subprocess recognises a missing directory.
    """

    cdef object stock
    cdef bytes chdir_failed
    cdef int pidfd

    def __cinit__(self, *args, **options):
        # Whatever the arguments are: where one is refused, the descriptor 0 would be closed.
        self.pidfd = -1

    def __init__(self, stock, bytes chdir_failed not None):
        self.stock = stock
        self.chdir_failed = chdir_failed

    def __dealloc__(self):
        if self.pidfd >= 0:
            close(self.pidfd)

    def __call__(self, *arguments):
        """Returns the pid of the child; raises what the stock function raises."""
        cdef pid_t pid = -1
        if not NR_ARGUMENTS <= len(arguments) <= NR_ARGUMENTS + 1 or self.pidfd >= 0:
            return self.stock(*arguments)
        if arguments[PREEXEC_FN] is not None:
            return self._fork_held(arguments)
        try:
            pid = self.spawn(arguments)
        except Exception:
            pass  # the stock function raises the error
        return self.stock(*arguments) if pid < 0 else pid

    def _fork_held(self, tuple arguments):
        function = arguments[PREEXEC_FN]
        try:
            reader, writer = os.pipe()
        except OSError:
            return self.stock(*arguments)

        def wait_and_call():
            os.close(writer)
            os.read(reader, 1)
            os.close(reader)
            return function()

        try:
            pid = self.stock(
                *arguments[:PREEXEC_FN], wait_and_call, *arguments[PREEXEC_FN + 1:])
            try:
                self.pidfd = os.pidfd_open(pid)
            except OSError:
                pass
            return pid
        finally:
            os.write(writer, b"\0")  # other children may hold it open: closing it is not enough
            os.close(writer)
            os.close(reader)

    cdef pid_t spawn(self, tuple arguments) except? -1:
        cdef spawn_order order
        cdef pid_t pid
        cdef int pidfd
        cdef Strings programs, argv, envp
        cdef Numbers kept, groups
        cdef bytes cwd
        (
            args, executables, close_fds, fds, directory, env,
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, errpipe_read, errpipe_write,
            restore_signals, new_session, process_group, gid, extra_groups, uid, umask,
            _,
        ) = arguments[:NR_ARGUMENTS]
        may_vfork = len(arguments) == NR_ARGUMENTS or arguments[NR_ARGUMENTS]
        programs, argv = Strings(executables), Strings(args)
        order.programs, order.argv = programs.array, argv.array
        order.envp = NULL
        if env is not None:
            envp = Strings(env)
            order.envp = envp.array
        order.cwd = NULL
        if directory is not None:
            cwd = encoded(directory)
            order.cwd = cwd
        kept = Numbers(fds, 0x7fffffff, True)
        order.kept, order.nr_kept = <int *>kept.array, kept.count
        order.theirs = [p2cwrite, c2pread, errread, errpipe_read]
        order.stdio = [p2cread, c2pwrite, errwrite]
        order.report = errpipe_write
        if close_fds and order.report < 3:
            raise ValueError
        order.close_fds, order.restore_signals = close_fds, restore_signals
        order.new_session, order.may_vfork = new_session, may_vfork
        order.process_group, order.umask = process_group, umask
        order.uid, order.gid = identity(uid), identity(gid)
        order.groups, order.nr_groups = NULL, -1
        if extra_groups is not None:
            groups = Numbers(extra_groups, ID_MAX, False)
            if groups.count > NR_GROUPS_MAX:
                raise ValueError
            order.groups, order.nr_groups = <gid_t *>groups.array, groups.count
        order.chdir_failed = self.chdir_failed
        with nogil:  # as long as exec takes
            pid = c_spawn(&order, &pidfd)
        self.pidfd = pidfd
        return pid

    def detach(self):
        """Returns the child's pidfd, which the caller then owns; -1 where it has none."""
        cdef int pidfd = self.pidfd
        self.pidfd = -1
        return pidfd
