"""Case 13: eight writes of 1 MiB in one io_submit."""

from aiopoll.libaio import io_event, io_prep_pwrite, iocb, timespec

SIZE = 1024 * 1024
NR = 8


def test_several_large_writes(machine, ctx, rw_fd: int) -> None:
    iocbs = [iocb() for _ in range(NR)]
    for i, cb in enumerate(iocbs):
        io_prep_pwrite(cb, rw_fd, bytes(SIZE), SIZE, i * SIZE)
    assert machine.io_submit(ctx, NR, iocbs) == NR
    written = set()
    for _ in range(NR):
        event = io_event()
        assert machine.io_getevents(ctx, 1, 1, [event], timespec(30)) == 1
        assert event.res == SIZE
        written.add(event.obj)
    assert written == set(iocbs)
