"""Case 23: a poll completes though the pipe was emptied and filled again between (363bee27).

Three threads: one polls, one splices a byte into the pipe, one reads a byte and splices another.
In the end there is a byte, so the poll has to complete.  splice(2) wakes without saying what for,
which is what took kernels before 5.17 past the event.  libaio's harness does 5,000 rounds on
every CPU; here it is 300.
"""

import os
import select
import threading
from concurrent.futures import ThreadPoolExecutor

from aiopoll.libaio import (
    io_context_t,
    io_event,
    io_getevents,
    io_prep_poll,
    io_submit,
    iocb,
    timespec,
)

ROUNDS = 300


def test_poll_misses_no_event(ctx: io_context_t, rw_fd: int) -> None:
    os.pwrite(rw_fd, b"X", 0)
    read_end, write_end = os.pipe()
    turn = threading.Barrier(3, timeout=30)

    def writer() -> None:
        for _ in range(ROUNDS):
            turn.wait()
            assert os.splice(rw_fd, write_end, 1, offset_src=0) == 1
            turn.wait()

    def reader() -> None:
        for _ in range(ROUNDS):
            turn.wait()
            assert os.read(read_end, 1) == b"X"
            assert os.splice(rw_fd, write_end, 1, offset_src=0) == 1
            turn.wait()

    def poller() -> None:
        ctx.context.adopt()
        cb, event = iocb(), io_event()
        for _ in range(ROUNDS):
            io_prep_poll(cb, read_end, select.POLLIN)
            assert io_submit(ctx, 1, [cb]) == 1
            turn.wait()
            assert io_getevents(ctx, 1, 1, [event], timespec(5)) == 1, "the poll missed its event"
            assert event.obj is cb
            turn.wait()
            assert os.read(read_end, 1) == b"X"

    try:
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(role) for role in (poller, writer, reader)]
            try:
                futures[0].result()
            except BaseException:
                turn.abort()
                os.write(write_end, b"XX")  # lets the reader go
                raise
            for future in futures[1:]:
                future.result()
    finally:
        os.close(read_end)
        os.close(write_end)
