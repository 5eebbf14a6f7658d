"""Iocb and IoEvent as objects: their fields, the values they refuse, and their limits."""

import copy
import errno
import os
import pickle
import select
import sys
from collections.abc import Callable
from typing import Any

import pytest

from aiopoll import Context, Iocb, IoEvent
from aiopoll.libaio import (
    IO_CMD_FDSYNC,
    IO_CMD_FSYNC,
    IO_CMD_POLL,
    IO_CMD_PREAD,
    IO_CMD_PREADV,
    IO_CMD_PWRITE,
    IO_CMD_PWRITEV,
)

BUFFER = bytearray(8)

FACTORIES: dict[str, tuple[int, Callable[..., Iocb], tuple[Any, ...]]] = {
    "poll": (IO_CMD_POLL, Iocb.poll, (3, select.POLLIN)),
    "pread": (IO_CMD_PREAD, Iocb.pread, (3, BUFFER)),
    "pwrite": (IO_CMD_PWRITE, Iocb.pwrite, (3, BUFFER)),
    "preadv": (IO_CMD_PREADV, Iocb.preadv, (3, [BUFFER])),
    "pwritev": (IO_CMD_PWRITEV, Iocb.pwritev, (3, [BUFFER])),
    "fsync": (IO_CMD_FSYNC, Iocb.fsync, (3,)),
    "fdsync": (IO_CMD_FDSYNC, Iocb.fdsync, (3,)),
}
every_factory = pytest.mark.parametrize(
    ("opcode", "make", "arguments"), FACTORIES.values(), ids=FACTORIES
)
reads_and_writes = pytest.mark.parametrize(
    ("opcode", "make", "arguments"),
    [FACTORIES[name] for name in ("pread", "pwrite", "preadv", "pwritev")],
    ids=["pread", "pwrite", "preadv", "pwritev"],
)


class File:
    """An object with a fileno() that returns, or raises, the given value."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def fileno(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@every_factory
def test_factories_set_the_opcode_and_the_common_fields(opcode, make, arguments):
    data = object()
    iocb = make(*arguments, data=data, resfd=7)
    assert (iocb.opcode, iocb.fd, iocb.resfd) == (opcode, 3, 7)
    assert iocb.data is data


@every_factory
def test_factories_default_to_no_data_no_resfd_no_flags(opcode, make, arguments):
    iocb = make(*arguments)
    assert (iocb.data, iocb.resfd, iocb.rw_flags, iocb.offset, iocb.ioprio) == (
        None,
        None,
        0,
        0,
        None,
    )


@reads_and_writes
def test_reads_and_writes_keep_offset_flags_and_priority(opcode, make, arguments):
    iocb = make(*arguments, 2**40, rw_flags=os.RWF_NOWAIT, ioprio=2 << 13 | 4)
    assert (iocb.offset, iocb.rw_flags, iocb.ioprio) == (2**40, os.RWF_NOWAIT, 2 << 13 | 4)


def test_buf_is_the_buffer_the_buffers_or_the_events():
    assert Iocb.pread(3, BUFFER).buf is BUFFER
    assert Iocb.preadv(3, iter([BUFFER, BUFFER])).buf == (BUFFER, BUFFER)
    assert Iocb.poll(3, select.POLLOUT).buf == select.POLLOUT
    assert Iocb.fsync(3).buf == 0


@every_factory
def test_file_objects_are_taken_by_their_fileno(opcode, make, arguments):
    assert make(File(9), *arguments[1:]).fd == 9


@every_factory
@pytest.mark.parametrize(
    ("fd", "error"),
    [
        (-1, ValueError),
        (2**31, OverflowError),
        (-(2**70), OverflowError),
        ("3", TypeError),
        (3.0, TypeError),
        (None, TypeError),
        (File("3"), TypeError),
        (File(-1), ValueError),
        (File(2**40), OverflowError),
        (File(ZeroDivisionError()), ZeroDivisionError),
    ],
)
def test_invalid_descriptor_is_refused(opcode, make, arguments, fd, error):
    with pytest.raises(error):
        make(fd, *arguments[1:])


@pytest.mark.parametrize("events", [-1, 0x10000, 2**64, 2**200])
def test_masks_of_more_than_16_bits_are_refused(events):
    with pytest.raises(ValueError, match="events must be from 0 to 65535"):
        Iocb.poll(3, events)


@pytest.mark.parametrize("events", ["1", 1.0, None, True, b"\1"])
def test_masks_that_are_no_ints_are_refused(events):
    with pytest.raises(TypeError, match="events must be an int"):
        Iocb.poll(3, events)


@reads_and_writes
@pytest.mark.parametrize(
    ("offset", "error"),
    [(-1, ValueError), (2**63, ValueError), (0.0, TypeError), (None, TypeError), (True, TypeError)],
)
def test_bad_offsets_are_refused(opcode, make, arguments, offset, error):
    with pytest.raises(error, match="offset must be"):
        make(*arguments, offset)


@reads_and_writes
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("rw_flags", -1, ValueError),
        ("rw_flags", 2**32, ValueError),
        ("rw_flags", None, TypeError),
        ("ioprio", 2**15, ValueError),
        ("ioprio", "high", TypeError),
        ("resfd", 2**31, ValueError),
        ("resfd", 1.5, TypeError),
    ],
)
def test_bad_options_are_refused_by_name(opcode, make, arguments, name, value, error):
    with pytest.raises(error, match=f"{name} must be"):
        make(*arguments, **{name: value})


@pytest.mark.parametrize("make", [Iocb.pread, lambda fd, buffer: Iocb.preadv(fd, [buffer])])
@pytest.mark.parametrize(
    ("buffer", "error"),
    [
        (b"read-only", BufferError),
        (memoryview(b"read-only"), BufferError),
        (memoryview(bytearray(8))[::2], BufferError),
        ("text", TypeError),
        (8, TypeError),
        (None, TypeError),
    ],
    ids=["bytes", "read-only", "strided", "str", "int", "None"],
)
def test_reads_refuse_a_buffer_that_is_not_writable(make, buffer, error):
    with pytest.raises(error):
        make(3, buffer)


@pytest.mark.parametrize("make", [Iocb.pwrite, lambda fd, buffer: Iocb.pwritev(fd, [buffer])])
@pytest.mark.parametrize(
    ("buffer", "error"),
    [(memoryview(bytes(8))[::2], BufferError), ("text", TypeError), (None, TypeError)],
    ids=["strided", "str", "None"],
)
def test_writes_refuse_strided_buffers_and_non_buffers(make, buffer, error):
    with pytest.raises(error):
        make(3, buffer)


def test_vectors_must_be_sequences_of_buffers():
    with pytest.raises(TypeError):
        Iocb.preadv(3, 8)
    with pytest.raises(TypeError):
        Iocb.pwritev(3, b"the bytes of this are ints")


def test_a_released_memoryview_is_refused():
    view = memoryview(bytearray(8))
    view.release()
    with pytest.raises(ValueError, match="released"):
        Iocb.pread(3, view)


def test_making_an_iocb_leaves_no_hold_on_the_buffer():
    buffer = bytearray(8)
    Iocb.pread(3, buffer)
    buffer.extend(b"more")


def test_a_lying_int_subclass_is_taken_by_its_value():
    class Liar(int):
        def __le__(self, other: object) -> bool:
            return True

        __ge__ = __le__

    with pytest.raises(ValueError, match="events must be"):
        Iocb.poll(3, Liar(2**20))
    with pytest.raises(ValueError, match="fd must be"):
        Iocb(IO_CMD_POLL, Liar(2**40))


@pytest.mark.parametrize(
    ("arguments", "options", "name"),
    [
        ((-1, 3), {}, "opcode"),
        ((0x10000, 3), {}, "opcode"),
        ((IO_CMD_POLL, 2**31), {}, "fd"),
        ((IO_CMD_POLL, 3, 2**64), {}, "buf"),
        ((IO_CMD_POLL, 3, 1), {"nbytes": -1}, "nbytes"),
        ((IO_CMD_POLL, 3, 1), {"offset": 2**63}, "offset"),
    ],
)
def test_raw_constructor_refuses_values_out_of_range(arguments, options, name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        Iocb(*arguments, **options)


def test_the_raw_constructor_lets_the_kernel_judge_the_rest():
    iocb = Iocb(99, -5, 2**63, offset=-(2**63), nbytes=7, rw_flags=0xFFFF_FFFF, ioprio=-1, resfd=-1)
    assert (iocb.opcode, iocb.fd, iocb.buf, iocb.offset) == (99, -5, 2**63, -(2**63))
    assert (iocb.rw_flags, iocb.ioprio, iocb.resfd) == (0xFFFF_FFFF, -1, -1)


def test_an_iocb_cannot_be_made_empty():
    with pytest.raises(TypeError):
        Iocb.__new__(Iocb)
    with pytest.raises(TypeError):
        Iocb()


@pytest.mark.parametrize("name", ["opcode", "fd", "buf", "offset", "rw_flags", "resfd", "data"])
def test_an_iocb_cannot_be_changed(name):
    with pytest.raises(AttributeError):
        setattr(Iocb.poll(3, 1), name, 1)


def test_initialising_an_iocb_again_changes_nothing():
    iocb = Iocb.poll(3, select.POLLIN)
    iocb.__init__(IO_CMD_PREAD, 9, bytearray(1))
    assert (iocb.opcode, iocb.fd, iocb.buf) == (IO_CMD_POLL, 3, select.POLLIN)


@pytest.mark.parametrize("cls", [Iocb, IoEvent, Context])
def test_the_classes_are_final(cls):
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Sub", (cls,), {})


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_an_iocb_cannot_be_copied_or_pickled(copier):
    with pytest.raises(TypeError):
        copier(Iocb.poll(3, 1))


def test_repr_has_operation_and_file():
    assert repr(Iocb.poll(3, 0x2001)) == "<Iocb POLL fd=3 events=0x2001>"
    assert repr(Iocb.pread(3, BUFFER, 512)) == "<Iocb PREAD fd=3 offset=512>"
    assert repr(Iocb.fdsync(4)) == "<Iocb FDSYNC fd=4>"
    assert repr(Iocb(99, 4)) == "<Iocb opcode 99 fd=4>"


def test_dropping_an_iocb_drops_data_and_buffer():
    data, buffer = object(), bytearray(8)
    before = sys.getrefcount(data), sys.getrefcount(buffer)
    iocb = Iocb.preadv(3, [buffer, buffer], data=data)
    assert sys.getrefcount(data) == before[0] + 1
    del iocb
    assert (sys.getrefcount(data), sys.getrefcount(buffer)) == before


def test_io_events_come_from_reap_alone():
    with pytest.raises(TypeError, match="reap"):
        IoEvent()


def test_an_io_event_made_behind_our_back_is_harmless():
    event = IoEvent.__new__(IoEvent)
    assert (event.res, event.obj, event.data, event.result()) == (0, None, None, 0)
    assert "IoEvent" in repr(event)


def test_result_returns_res_or_raises_its_error(context, pipe):
    reader, writer = pipe
    context.submit([Iocb.pread(reader, bytearray(1))])
    (event,) = context.reap()
    assert event.res == -errno.EAGAIN
    with pytest.raises(BlockingIOError, match="PREAD"):
        event.result()
    os.write(writer, b"x")
    context.submit([Iocb.pread(reader, bytearray(1))])
    assert context.reap()[0].result() == 1


@pytest.mark.parametrize("name", ["data", "obj", "res", "res2"])
def test_an_io_event_cannot_be_changed_copied_or_pickled(context, eventfd, name):
    context.submit([Iocb.poll(eventfd, select.POLLOUT)])
    (event,) = context.reap()
    with pytest.raises(AttributeError):
        setattr(event, name, 0)
    for copier in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            copier(event)
