"""add_reader() and add_writer(): the files that programs watch themselves."""

from aiopoll.loop.core cimport LoopCore
from aiopoll.loop.handles cimport (
    cancel_handle, check_here, is_elsewhere, new_handle, set_gc_tracking,
)
from aiopoll.reactor.descriptor cimport is_of, owner_of
from aiopoll.reactor.registration cimport GIVEN, READ, WRITE, Registration

import asyncio


cdef class FileWatcher(LoopCore):
    """The methods that watch files, which EventLoop puts before asyncio's own."""

    cdef int descriptor(self, object file) except? -1:
        """The descriptor of what add_reader takes; ValueError for anything else."""
        if isinstance(file, int):
            fd = file
        else:
            try:
                fd = int(file.fileno())
            except (AttributeError, TypeError, ValueError):
                raise ValueError(f"Invalid file object: {file!r}") from None
        if fd < 0:
            raise ValueError(f"Invalid file descriptor: {fd}")
        return fd

    cdef object watch(self, object file, int direction, callback, tuple args, object context):
        cdef int fd
        self.check_open()
        check_here(self)
        fd = self.descriptor(file)
        if self._debug:
            handle = asyncio.Handle(callback, args, self, context)
        else:
            handle = new_handle(callback, args, self, context)
            set_gc_tracking(handle, False, False)
        previous = self.reactor.callback_of(fd, direction)
        self.reactor.register(fd, direction, handle, GIVEN, owner_of(file))
        if previous is not None:
            cancel_handle(previous, self._debug)
        return handle

    cdef bint unwatch(self, object file, int direction) except -1:
        cdef Registration registration
        cdef int fd
        if self._closed:
            return False
        if is_elsewhere(self):  # a finalizer's thread, mostly
            self.call_soon_threadsafe(self._remove_writer if direction else self._remove_reader, file)
            return True
        try:
            fd = self.descriptor(file)
        except ValueError:
            fd = self.reactor.descriptor_of(file)  # closed while it was watched
            if fd < 0:
                raise
        registration = self.reactor.find(fd)
        if registration is None or not is_of(registration, owner_of(file)):
            return False
        handle = self.reactor.unregister(registration, direction)
        if handle is None:
            return False
        cancel_handle(handle, self._debug)
        return True

    def _add_reader(self, fd, callback, *args, context=None):
        return self.watch(fd, READ, callback, args, context)

    def _remove_reader(self, fd):
        return self.unwatch(fd, READ)

    def _add_writer(self, fd, callback, *args, context=None):
        return self.watch(fd, WRITE, callback, args, context)

    def _remove_writer(self, fd):
        return self.unwatch(fd, WRITE)

    def add_reader(self, fd, callback, *args):
        """Calls `callback` in each iteration that finds the file ready for reading.

        Replaces an earlier reader of the file.  Raises RuntimeError if a transport has it,
        OSError if it is not open or, as with epoll, cannot be waited for.
        """
        self._ensure_fd_no_transport(fd)
        self.watch(fd, READ, callback, args, None)

    def remove_reader(self, fd):
        """Forgets the reader of a file, before it is closed; False if there is none."""
        self._ensure_fd_no_transport(fd)
        return self.unwatch(fd, READ)

    def add_writer(self, fd, callback, *args):
        """Like add_reader, for writing."""
        self._ensure_fd_no_transport(fd)
        self.watch(fd, WRITE, callback, args, None)

    def remove_writer(self, fd):
        """Forgets the writer of a file, before it is closed; False if there is none."""
        self._ensure_fd_no_transport(fd)
        return self.unwatch(fd, WRITE)

    def _watched(self):
        """The registrations: descriptor to (reader, writer)."""
        return {} if self.reactor is None or self.reactor.closed else self.reactor.watched()
