"""io_getevents02: waiting on a bad context: libaio returns -EINVAL."""

import errno


def test_io_getevents02(machine) -> None:
    assert machine.io_getevents(machine.new_context(), 0, 0, None, None) == -errno.EINVAL
    assert machine.io_getevents(None, 0, 0, None, None) == -errno.EINVAL
