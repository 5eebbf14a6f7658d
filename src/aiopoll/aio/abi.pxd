"""The declarations of the headers under c/: the ABI, the system calls, the ring."""

from libc.stdint cimport int16_t, int64_t, uint16_t, uint32_t, uint64_t
from posix.time cimport timespec

cdef extern from "abi.h" nogil:
    ctypedef unsigned long aio_context_t

    enum:
        IOCB_CMD_PREAD
        IOCB_CMD_PWRITE
        IOCB_CMD_FSYNC
        IOCB_CMD_FDSYNC
        IOCB_CMD_POLL
        IOCB_CMD_NOOP
        IOCB_CMD_PREADV
        IOCB_CMD_PWRITEV
        IOCB_FLAG_RESFD
        IOCB_FLAG_IOPRIO

    struct iocb:
        uint64_t aio_data
        uint32_t aio_key
        uint32_t aio_rw_flags
        uint16_t aio_lio_opcode
        int16_t aio_reqprio
        uint32_t aio_fildes
        uint64_t aio_buf
        uint64_t aio_nbytes
        int64_t aio_offset
        uint64_t aio_reserved2
        uint32_t aio_flags
        uint32_t aio_resfd

    struct io_event:
        uint64_t data
        uint64_t obj
        int64_t res
        int64_t res2

cdef extern from "syscalls.h" nogil:
    long aio_sys_setup(unsigned nr_events, aio_context_t *ctx)
    long aio_sys_destroy(aio_context_t ctx)
    long aio_sys_submit(aio_context_t ctx, long nr, iocb **iocbpp)
    long aio_sys_cancel(aio_context_t ctx, iocb *request)
    long aio_sys_getevents(aio_context_t ctx, long min_nr, long nr, io_event *events,
                           timespec *timeout)
    long aio_sys_pgetevents(aio_context_t ctx, long min_nr, long nr, io_event *events,
                            timespec *timeout, const uint64_t *sigmask)

cdef extern from "mapped_ring.h" nogil:
    struct aio_ring:
        uint32_t nr

    aio_ring *aio_ring_of(aio_context_t ctx)
    uint32_t aio_ring_pending(const aio_ring *ring)
    uint32_t aio_ring_reap(aio_ring *ring, io_event *events, uint32_t max)
