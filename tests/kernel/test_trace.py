"""Lines of a trace, its digest, and what a deadlocked kernel says of its tasks."""

import os
import random
import socket

import pytest

from aiopoll.kernel import Kernel
from aiopoll.kernel.aio_abi import Iocb
from aiopoll.kernel.sched import Deadlock
from aiopoll.kernel.trace import TraceDigest, format_call, format_value
from aiopoll.kernel.uapi import BADPTR, EPOLLIN

INET, STREAM = socket.AF_INET, socket.SOCK_STREAM


def talk(kernel, port=7000, payload=b"x" * 100):
    listener, client = (kernel.socket(INET, STREAM | os.O_NONBLOCK) for _ in range(2))
    kernel.bind(listener, ("127.0.0.1", port))
    kernel.listen(listener)
    with pytest.raises(BlockingIOError):
        kernel.connect(client, ("127.0.0.1", port))
    server, _ = kernel.accept4(listener, flags=os.O_NONBLOCK)
    kernel.write(client, payload)
    kernel.read(server, 1000)


def digest(*arguments):
    kernel, value = Kernel(), TraceDigest()
    kernel.set_trace(value)
    talk(kernel, *arguments)
    kernel.halt()
    return value.value


def test_a_line_has_arguments_and_result(kernel):
    lines = kernel.start_trace()
    talk(kernel)
    payload = "<100 bytes, crc32 5e0e5d8f>"
    assert lines == [
        "0 main socket(2, 2049) = 0",
        "0 main socket(2, 2049) = 1",
        "0 main bind(0, ('127.0.0.1', 7000)) = None",
        "0 main listen(0) = None",
        "0 main connect(1, ('127.0.0.1', 7000)) = -EINPROGRESS",
        "0 main accept4(0, flags=2048) = (2, ('127.0.0.1', 32768))",
        f"0 main write(1, {payload}) = 100",
        f"0 main read(2, 1000) = {payload}",
    ]


def test_wake_ups_have_lines_too(kernel):
    lines = kernel.start_trace()
    reader, writer = kernel.pipe2()
    task = kernel.spawn(kernel.read, reader, 1, name="reader")
    kernel.spawn(kernel.write, writer, b"x", name="writer")
    kernel.join(task)
    assert "0 reader wake" in lines
    kernel.set_trace(None)
    before = len(lines)
    kernel.getpid()
    assert len(lines) == before


def test_another_port_or_payload_is_another_trace():
    same = digest()
    assert digest() == same
    assert digest(7001) != same
    assert digest(7000, b"x" * 99 + b"y") != same


def test_the_digest_takes_what_marshal_does_not(kernel):
    seen = set()
    for events in (EPOLLIN, 4):
        value = TraceDigest()
        iocb = Iocb.poll(3, events)
        value(0, "main", "io_submit", (1, 1, [iocb]), OSError(11, ""))
        value(0, "main", "sigprocmask", (frozenset({1, 2}),), frozenset())
        assert value.lines == 2
        seen.add(value.value)
    assert len(seen) == 2


def test_values_name_no_addresses():
    def handler():
        pass

    values = {
        "sets are sorted": ({2, 1}, "{1, 2}"),
        "enums": (socket.AF_INET, "2"),
        "bad pointers": (BADPTR, "BADPTR"),
        "records": (Iocb.poll(3, 1), "Iocb(aio_lio_opcode=5, aio_fildes=3, aio_buf=1)"),
        "functions": (handler, f"<{handler.__qualname__}>"),
        "objects": (random.Random(1), "<Random>"),
        "lists": ([b"ab", "c", None, 1.5], "[b'ab', 'c', None, 1.5]"),
        "exceptions": (BrokenPipeError(32, ""), "-EPIPE"),
    }
    assert {name: format_value(value) for name, (value, _) in values.items()} == {
        name: text for name, (_, text) in values.items()
    }
    assert format_call(5, "t", "close", (3,), None) == "5 t close(3) = None"


def test_deadlock_names_the_waiting_tasks(kernel):
    listener = kernel.socket(INET, STREAM)
    kernel.bind(listener, ("127.0.0.1", 7000))
    kernel.listen(listener)
    reader, _ = kernel.pipe2()
    one, _ = kernel.socketpair(socket.AF_UNIX, STREAM)
    epoll = kernel.epoll_create1()
    for fd in (listener, reader):
        kernel.epoll_ctl(epoll, 1, fd, EPOLLIN)
    ctx = kernel.io_setup(4)
    kernel.io_submit(ctx, 1, [Iocb.poll(one, EPOLLIN)])
    reading = kernel.spawn(kernel.read, reader, 3, name="a")
    kernel.spawn(kernel.poll, [(one, 1), (listener, 1)], name="b")
    kernel.spawn(kernel.join, reading, name="c")
    kernel.spawn(kernel.io_getevents, ctx, 1, 1, name="d")
    with pytest.raises(Deadlock) as caught:
        kernel.epoll_wait(epoll, 10)
    tcp = "listening TCP socket 127.0.0.1:7000"
    unix = "Unix socket to its peer"
    assert str(caught.value).partition(": ")[2].split("; ") == [
        f"main waits in epoll_wait({epoll}: epoll of ({tcp}, pipe), 10)",
        f"a waits in read({reader}: pipe, 3)",
        f"b waits in poll([{one}: {unix}, {listener}: {tcp}])",
        "c waits for the end of a",
        f"d waits in io_getevents(polls of ({unix}), 1, 1)",
    ]
