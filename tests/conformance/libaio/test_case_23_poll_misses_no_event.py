"""Case 23: a poll completes though the pipe was emptied and filled again between (363bee27).

Three threads: one polls, one splices a byte into the pipe, one reads a byte and splices another.
In the end there is a byte, so the poll has to complete.  splice(2) wakes without a key, which made
kernels before 5.17 miss the event.  libaio's harness does 5,000 rounds on every CPU; here it is
300.
"""

import select

from aiopoll.libaio import io_event, io_prep_poll, iocb, timespec

ROUNDS = 300


def test_poll_misses_no_event(machine, ctx, rw_fd: int) -> None:
    machine.pwrite(rw_fd, b"X", 0)
    read_end, write_end = machine.pipe()
    turn = machine.barrier(3)

    def writer() -> None:
        for _ in range(ROUNDS):
            turn.wait()
            assert machine.splice(rw_fd, write_end, 1, offset_src=0) == 1
            turn.wait()

    def reader() -> None:
        for _ in range(ROUNDS):
            turn.wait()
            assert machine.read(read_end, 1) == b"X"
            assert machine.splice(rw_fd, write_end, 1, offset_src=0) == 1
            turn.wait()

    def poller() -> None:
        cb, event = iocb(), io_event()
        try:
            for _ in range(ROUNDS):
                io_prep_poll(cb, read_end, select.POLLIN)
                assert machine.io_submit(ctx, 1, [cb]) == 1
                turn.wait()
                reaped = machine.io_getevents(ctx, 1, 1, [event], timespec(5))
                assert reaped == 1, "the poll missed its event"
                assert event.obj is cb
                turn.wait()
                assert machine.read(read_end, 1) == b"X"
        except BaseException:
            machine.write(write_end, b"XX")  # lets the reader go
            raise

    try:
        machine.threads(poller, writer, reader)
    finally:
        machine.close(read_end)
        machine.close(write_end)
