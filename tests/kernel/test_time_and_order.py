"""The virtual clock, the seed, the counters, and programs that run inside."""

import asyncio
import contextlib
import errno
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aiopoll import kernel as inside
from aiopoll.kernel import Kernel
from aiopoll.kernel.aio_abi import Iocb
from aiopoll.kernel.sched import Deadlock
from aiopoll.kernel.uapi import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_MOD,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    NSEC_PER_SEC,
)
from aiopoll.kernel.usersocket import KernelSocket

EVENTS = 100


def test_aio_poll_needs_one_context_switch_fewer_than_epoll():
    """The claim of the cover letter as a number: one switch for an event, against two."""
    assert switches_per_event(reactor_on_aio) == 1 + 1
    assert switches_per_event(reactor_behind_epoll) == 2 + 1


def switches_per_event(reactor):
    """Switches for each event; one of them goes back to the task that makes the events."""
    kernel = Kernel()
    reader, writer = kernel.pipe2()
    ctx = kernel.io_setup(4)
    done = reactor(kernel, ctx, reader)
    kernel.nanosleep(1)
    before = kernel.context_switches
    for _ in range(EVENTS):
        kernel.write(writer, b"x")
        kernel.nanosleep(1)
    count = kernel.context_switches - before
    assert done() == EVENTS
    kernel.halt()
    return count / EVENTS


def reactor_on_aio(kernel, ctx, reader):
    handled = []

    def reactor():
        while True:
            kernel.io_submit(ctx, 1, [Iocb.poll(reader, EPOLLIN)])
            kernel.io_getevents(ctx, 1, 4)
            handled.append(kernel.read(reader, 1))

    kernel.spawn(reactor)
    return lambda: len(handled)


def reactor_behind_epoll(kernel, ctx, reader):
    """The reactor waits for its disk in io_getevents, so a thread has to wait for the network."""
    handled = []
    epoll = kernel.epoll_create1()
    bell = kernel.eventfd2()
    kernel.epoll_ctl(epoll, EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLET)

    def listener():
        while True:
            kernel.epoll_wait(epoll, 1)
            kernel.write(bell, (1).to_bytes(8, "little"))

    def reactor():
        while True:
            kernel.io_submit(ctx, 1, [Iocb.poll(bell, EPOLLIN)])
            kernel.io_getevents(ctx, 1, 4)
            kernel.read(bell, 8)
            handled.append(kernel.read(reader, 1))

    kernel.spawn(listener)
    kernel.spawn(reactor)
    return lambda: len(handled)


async def talk():
    """Ten clients of an upper-casing server; the order in which they end is the result."""
    order = []

    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    async def ask(number):
        await asyncio.sleep(random.random())
        reader, writer = await asyncio.open_connection("server", 7000)
        writer.write(b"hello %d\n" % number)
        assert await reader.read() == b"HELLO %d\n" % number
        writer.close()
        await writer.wait_closed()
        order.append(number)

    async with await asyncio.start_server(serve, "server", 7000):
        await asyncio.gather(*map(ask, range(10)))
    return order, asyncio.get_running_loop().time()


def traced(seed):
    kernel = Kernel(seed=seed)
    trace = kernel.start_trace()
    result = inside.run(talk(), seed=seed, kernel=kernel, hosts={"server": "127.0.0.2"})
    return result, trace


def test_the_same_seed_gives_the_same_trace():
    assert traced(1) == traced(1)
    assert traced(1) != traced(2)


@pytest.mark.slow
@pytest.mark.subprocess
def test_trace_of_a_seed_is_the_same_in_another_process():
    """No outcome depends on hashes or addresses, which differ between processes."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from kernel.test_time_and_order import traced; print(repr(traced(3)))"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parents[1])]
    outputs = {
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 1000


def test_addresses_do_not_decide_the_order_of_tasks():
    """asyncio cancels the tasks of a group, and those that are left, in the order of a set."""

    async def main(log, keep, junk):
        async def sleep(number):
            keep.append([object() for _ in range(random.randrange(9) if junk else 0)])
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                log.append(number)
                raise

        async def fail():
            await asyncio.sleep(1)
            raise ValueError

        left = [asyncio.create_task(sleep(-number)) for number in range(300)]
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for number in range(300):
                    group.create_task(sleep(number))
                group.create_task(fail())
        done, _ = await asyncio.wait(left[:100], return_when=asyncio.FIRST_COMPLETED, timeout=1)
        assert not done

    logs = []
    for junk in (False, True):
        logs.append([])
        inside.run(main(logs[-1], [], junk), seed=1)
    assert len(logs[0]) == 600
    assert logs[0] == logs[1]


def test_an_hour_of_sleep_takes_no_time():
    async def main():
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert inside.run(main()) == 3600


def test_timeouts_are_exact():
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.25):
                await asyncio.Event().wait()
        return loop.time()

    assert inside.run(main()) == 0.25


def test_datagrams():
    async def main():
        loop = asyncio.get_running_loop()
        answer = loop.create_future()

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, address):
                self.transport.sendto(data.upper(), address)

        class Client(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                answer.set_result(data)

        server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 53))
        client, _ = await loop.create_datagram_endpoint(Client, remote_addr=("127.0.0.1", 53))
        client.sendto(b"query")
        result = await answer
        server.close()
        client.close()
        return result

    assert inside.run(main()) == b"QUERY"


def test_unix_servers_and_a_lot_of_data():
    async def main():
        async def serve(reader, writer):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
            writer.close()

        async with await asyncio.start_unix_server(serve, "/socket"):
            reader, writer = await asyncio.open_unix_connection("/socket")
            writer.write(bytes(3_000_000))
            writer.write_eof()
            data = await reader.read()
            writer.close()
            await writer.wait_closed()
        return len(data)

    assert inside.run(main(), seed=5) == 3_000_000


def test_wait_for_an_impossible_event_is_a_deadlock():
    async def main():
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        inside.run(main())


def test_a_time_limit_of_the_virtual_clock():
    async def main():
        while True:
            await asyncio.sleep(1)

    with pytest.raises(TimeoutError):
        inside.run(main(), time_limit=60)


def test_threads_and_unknown_names_are_refused():
    async def main():
        with pytest.raises(RuntimeError, match="no threads"):
            await asyncio.to_thread(print)
        with pytest.raises(socket.gaierror):
            await asyncio.open_connection("elsewhere", 80)

    inside.run(main())


def test_names_and_ports():
    async def main():
        loop = asyncio.get_running_loop()

        async def resolve(host, port, **kw):
            try:
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, **kw)
                return [address[:2] for *_, address in found]
            except socket.gaierror as exc:
                return exc.errno

        assert await resolve("localhost", 80) == [("127.0.0.1", 80), ("::1", 80)]
        assert await resolve(b"localhost", "80", family=socket.AF_INET) == [("127.0.0.1", 80)]
        assert await resolve("elsewhere", None) == [("127.0.0.9", 0)]
        assert await resolve("127.0.0.1", "http") == socket.EAI_SERVICE
        assert await resolve("127.0.0.1", 80, family=socket.AF_INET6) == socket.EAI_ADDRFAMILY
        for name in ("nowhere", "999.1.1.1", "1.2.3", "a:b"):
            assert await resolve(name, 80) == socket.EAI_NONAME
        assert await loop.getnameinfo(("127.0.0.1", 80)) == ("127.0.0.1", "80")

    inside.run(main(), hosts={"elsewhere": "127.0.0.9"})


def test_a_connection_that_fails_does_as_with_stock_asyncio():
    """Both addresses of localhost refuse, and asyncio raises its own exception."""

    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(OSError, match=r"Multiple exceptions: .*127\.0\.0\.1.*::1"):
            await loop.create_connection(asyncio.Protocol, "localhost", 81)
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(asyncio.Protocol, "127.0.0.1", 81)
        with pytest.raises(OSError, match="no matching local address"):
            await loop.create_connection(asyncio.Protocol, "127.0.0.1", 81, local_addr=("::1", 0))
        with pytest.raises(ValueError, match="host and port was not specified"):
            await loop.create_connection(asyncio.Protocol)

    inside.run(main())


def test_a_unix_server_takes_the_name_of_an_earlier_one():
    async def main():
        for answer in (b"first", b"second"):

            def serve(reader, writer, answer=answer):
                writer.write(answer)
                writer.close()

            async with await asyncio.start_unix_server(serve, Path("/socket")):
                reader, writer = await asyncio.open_unix_connection("/socket")
                assert await reader.read() == answer
                writer.close()

    inside.run(main())


def test_call_that_needs_the_host_is_refused(tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        for start in (asyncio.create_subprocess_exec, asyncio.create_subprocess_shell):
            with pytest.raises(RuntimeError, match="no subprocesses"):
                await start(f"touch {tmp_path / 'started'}")
        for connect in (loop.connect_read_pipe, loop.connect_write_pipe):
            with pytest.raises(RuntimeError, match="no pipes"):
                await connect(asyncio.Protocol, None)
        with socket.socket() as sock:
            sock.setblocking(False)
            for refused in (
                loop.sock_connect(sock, ("127.0.0.1", 80)),
                loop.sock_recv(sock, 1),
                loop.create_server(asyncio.Protocol, sock=sock),
                loop.create_connection(asyncio.Protocol, sock=sock),
                loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock),
                loop.create_unix_server(asyncio.Protocol, sock=sock),
                loop.create_unix_connection(asyncio.Protocol, sock=sock),
            ):
                with pytest.raises(TypeError, match="in-process kernel"):
                    await refused
        async with await asyncio.start_server(lambda _, writer: writer.close(), "", 80):
            _, writer = await asyncio.open_connection("localhost", 80)
            with open(__file__, "rb") as file, pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sendfile(writer.transport, file, fallback=False)
            writer.close()

    inside.run(main())
    assert list(tmp_path.iterdir()) == []


def test_a_socket_may_outlive_its_kernel():
    """A transport that was never closed is collected some time after the run."""
    kernel = Kernel()
    sock = KernelSocket(kernel)
    kernel.halt()
    sock.close()


def test_epoll_level_edge_and_oneshot(kernel):
    reader, writer = kernel.pipe2()
    for flags, answers in ((0, (1, 1)), (EPOLLET, (1, 0)), (EPOLLONESHOT, (1, 0))):
        epoll = kernel.epoll_create1()
        kernel.epoll_ctl(epoll, EPOLL_CTL_ADD, reader, EPOLLIN | flags)
        kernel.write(writer, b"x")
        assert tuple(len(kernel.epoll_wait(epoll, 4, 0)) for _ in range(2)) == answers
        kernel.write(writer, b"y")
        assert len(kernel.epoll_wait(epoll, 4, 0)) == (0 if flags == EPOLLONESHOT else 1)
        if flags == EPOLLONESHOT:
            kernel.epoll_ctl(epoll, EPOLL_CTL_MOD, reader, EPOLLIN | flags)
            assert len(kernel.epoll_wait(epoll, 4, 0)) == 1
        kernel.read(reader, 2)


def test_task_that_waited_longest_for_a_set_is_woken_first(kernel):
    reader, writer = kernel.pipe2()
    epoll = kernel.epoll_create1()
    kernel.epoll_ctl(epoll, EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLET)
    tasks = []
    for _ in range(3):
        tasks.append(kernel.spawn(kernel.epoll_wait, epoll, 1, NSEC_PER_SEC))
        kernel.nanosleep(1)
    kernel.write(writer, b"x")
    assert [len(kernel.join(task)) for task in tasks] == [1, 0, 0]


def test_epoll_exclusive_wakes_one(kernel):
    """Two sets watch one pipe, each with a sleeper: one byte is one wake-up, and not two."""
    for flags, sleepers_woken in ((EPOLLEXCLUSIVE, 1), (0, 2)):
        reader, writer = kernel.pipe2()
        tasks = []
        for _ in range(2):
            epoll = kernel.epoll_create1()
            kernel.epoll_ctl(epoll, EPOLL_CTL_ADD, reader, EPOLLIN | flags)
            tasks.append(kernel.spawn(kernel.epoll_wait, epoll, 1, NSEC_PER_SEC))
        kernel.nanosleep(1)
        before = kernel.wakeups
        kernel.write(writer, b"x")
        assert kernel.wakeups - before == sleepers_woken
        assert sum(len(kernel.join(task)) for task in tasks) == sleepers_woken


def test_epoll_nests_but_not_in_a_circle(
    kernel,
):
    reader, writer = kernel.pipe2()
    inner, outer = kernel.epoll_create1(), kernel.epoll_create1()
    kernel.epoll_ctl(inner, EPOLL_CTL_ADD, reader, EPOLLIN)
    kernel.epoll_ctl(outer, EPOLL_CTL_ADD, inner, EPOLLIN)
    with pytest.raises(OSError, match=rf"\[Errno {errno.ELOOP}\]"):
        kernel.epoll_ctl(inner, EPOLL_CTL_ADD, outer, EPOLLIN)
    ctx = kernel.io_setup(1)
    kernel.io_submit(ctx, 1, [Iocb.poll(outer, EPOLLIN)])
    kernel.write(writer, b"x")
    assert [event.res for event in kernel.io_getevents(ctx, 1, 1)] == [EPOLLIN]
    assert kernel.epoll_wait(outer, 4, 0) == [(inner, EPOLLIN)]


def test_epoll_forgets_a_file_that_is_released(kernel):
    reader, writer = kernel.pipe2()
    epoll = kernel.epoll_create1()
    kernel.epoll_ctl(epoll, EPOLL_CTL_ADD, reader, EPOLLIN)
    again = kernel.dup(reader)
    kernel.close(reader)
    kernel.write(writer, b"x")
    assert len(kernel.epoll_wait(epoll, 4, 0)) == 1
    kernel.close(again)
    assert kernel.epoll_wait(epoll, 4, 0) == []


def test_select_and_ppoll(kernel):
    reader, writer = kernel.pipe2()
    assert kernel.select([reader], [writer], [], 0) == ([], [writer], [])
    kernel.write(writer, b"x")
    assert kernel.select([reader], [writer], [reader]) == ([reader], [writer], [])
    assert kernel.ppoll([(reader, EPOLLIN), (-1, EPOLLOUT), (77, 0)]) == [EPOLLIN, 0, 0x20]
    with pytest.raises(OSError, match=rf"\[Errno {errno.EBADF}\]"):
        kernel.select([77], [], [], 0)
