"""Memory for direct I/O: aligned buffers, and a pool of them.

Facts.  O_DIRECT wants memory at a multiple of 512 or more, which statx(2) reports as
stx_dio_mem_align; bytes and bytearray are at a multiple of 16.  mmap(2) returns whole pages of
zeroes.

Rule.  Every buffer is a mapping of its own.  A pool hands out powers of two, a page at least, and
keeps what is given back up to a number of bytes.

Cost.  A page at least for each buffer, and two system calls where the pool has none.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap,
)

import operator

cdef enum:
    PAGE_LOG = 12
    PAGE = 1 << PAGE_LOG
    SIZE_MAX_LOG = 46

cdef char *BYTE_FORMAT = "B"


@cython.final
cdef class AlignedBuffer:
    """Memory of `size` bytes, zeroes at first, at a multiple of `alignment`: for direct I/O.

    It has the buffer protocol: memoryview(buffer) is a view, bytes(buffer) a copy, and
    buffer[2:5] = b"abc" writes.  alignment: a power of two.
    Raises ValueError for a size below 1 or an alignment that is no power of two, MemoryError.
    """

    def __cinit__(self, size, alignment=PAGE):
        cdef Py_ssize_t wanted = operator.index(size), align = operator.index(alignment)
        cdef size_t address
        if wanted < 1 or wanted >> SIZE_MAX_LOG:
            raise ValueError(f"size must be at least 1 byte and fit into memory, not {size}")
        if align < 1 or align & (align - 1) or align > 1 << 30:
            raise ValueError(f"alignment must be a power of two up to 1 GiB, not {alignment}")
        self.mapped_size = wanted + (align if align > PAGE else 0)
        self.mapped = mmap(NULL, self.mapped_size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if self.mapped == MAP_FAILED:
            self.mapped = NULL
            raise MemoryError(f"no memory for an AlignedBuffer of {size} bytes")
        address = <size_t>self.mapped
        self.data = <char *>((address + align - 1) & ~<size_t>(align - 1))
        self.size = wanted
        self.alignment = align
        self.shape[0] = wanted
        self.strides[0] = 1

    def __dealloc__(self):
        if self.mapped != NULL:
            munmap(self.mapped, self.mapped_size)

    def __getbuffer__(self, Py_buffer *view, int flags):
        view.buf = self.data
        view.obj = self
        view.len = self.size
        view.itemsize = 1
        view.readonly = 0
        view.ndim = 1
        view.format = BYTE_FORMAT if flags & PyBUF_FORMAT else NULL
        view.shape = self.shape if flags & PyBUF_ND else NULL
        view.strides = self.strides if (flags & PyBUF_STRIDES) == PyBUF_STRIDES else NULL
        view.suboffsets = NULL
        view.internal = NULL

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        item = memoryview(self)[index]
        return item.tobytes() if isinstance(item, memoryview) else item

    def __setitem__(self, index, value):
        memoryview(self)[index] = value

    def __repr__(self):
        return f"<AlignedBuffer of {self.size} bytes at a multiple of {self.alignment}>"


@cython.final
cdef class BufferPool:
    """AlignedBuffers to use again.

    kept_max: bytes of buffers that lie unused at most; what is given back beyond is unmapped.
    Not for several threads at once.
    """

    def __cinit__(self, kept_max=8 << 20):
        self.free = [[] for _ in range(SIZE_MAX_LOG + 1)]
        self.kept_max = operator.index(kept_max)

    def take(self, size, alignment=PAGE):
        """A buffer of `size` bytes or more: the next power of two, a page at least.

        Its contents are those of its last use.
        """
        return self.take_buffer(operator.index(size), operator.index(alignment))

    def give(self, AlignedBuffer buffer not None):
        """Takes a buffer back: no code may use it, or a view of it, afterwards.

        Raises ValueError if it has been given back already.
        """
        self.give_buffer(buffer)

    cdef AlignedBuffer take_buffer(self, Py_ssize_t size, Py_ssize_t alignment):
        cdef AlignedBuffer buffer
        cdef list free
        cdef Py_ssize_t i
        cdef int log = PAGE_LOG
        if size >> SIZE_MAX_LOG:
            raise MemoryError(f"no memory for an AlignedBuffer of {size} bytes")
        while <Py_ssize_t>1 << log < size:
            log += 1
        free = self.free[log]
        for i in range(len(free) - 1, -1, -1):
            buffer = free[i]
            if buffer.alignment >= alignment:
                del free[i]
                buffer.given = False
                self.kept -= buffer.size
                return buffer
        return AlignedBuffer(<Py_ssize_t>1 << log, max(alignment, PAGE))

    cdef int give_buffer(self, AlignedBuffer buffer) except -1:
        cdef int log = PAGE_LOG
        if buffer.given:
            raise ValueError("this buffer has been given back already")
        buffer.given = True
        if self.kept + buffer.size > self.kept_max or buffer.size < PAGE:
            return 0
        while <Py_ssize_t>2 << log <= buffer.size:
            log += 1
        self.kept += buffer.size
        (<list>self.free[log]).append(buffer)
        return 0
