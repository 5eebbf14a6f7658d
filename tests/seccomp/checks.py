"""Checks in a sandbox: checks.py NAME runs one of these, which assert or print.

Each is a process of its own, started by confine.py or container.py.
"""

import asyncio
import ctypes
import dataclasses
import errno
import functools
import json
import os
import re
import select
import selectors
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import bpf

import aiopoll
from aiopoll.support import require_aio_poll

FIRST_REFUSED = 100
"""From this descriptor on the filter of `no_room` and its like refuses room in the epoll set."""


def syscall_errno(name: str, *arguments: int) -> int:
    """The errno of a system call made with these arguments; 0 if it succeeds."""
    libc = ctypes.CDLL(None, use_errno=True)
    values = [ctypes.c_long(value) for value in (bpf.syscall_numbers()[name], *arguments)]
    return ctypes.get_errno() if libc.syscall(*values) == -1 else 0


def docker_answers() -> None:
    """Checks by its calls that Docker's profile is in force, its conditions included."""
    assert syscall_errno("io_uring_setup", 1, 0) == errno.EPERM
    assert syscall_errno("clone3", 0, 0) == errno.ENOSYS
    # The argument of personality: 0 and four others are allowed; 2**32 differs in the high half.
    assert syscall_errno("personality", 0) == 0
    assert syscall_errno("personality", 1) == errno.EPERM
    assert syscall_errno("personality", 0xFFFFFFFF) == 0
    assert syscall_errno("personality", 1 << 32) == errno.EPERM
    # socket: families below 38, 39 and above 40; EPERM is the filter's, others are the kernel's.
    for family, refused in ((37, False), (38, True), (39, False), (40, True), (41, False)):
        answer = syscall_errno("socket", family, 0xFFFF, 0)
        assert (answer == errno.EPERM) == refused, (family, errno.errorcode[answer])
    # clone: none of the CLONE_NEW* flags. Threads and fork need the others.
    assert syscall_errno("clone", 0x10000000) == errno.EPERM  # CLONE_NEWUSER
    assert os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1] == 0


def podman_answers() -> None:
    """Checks by its calls that Podman's profile is in force."""
    assert syscall_errno("io_uring_setup", 1, 0) == errno.ENOSYS
    assert syscall_errno("io_pgetevents", 0, 0, 0, 0, 0, 0) == errno.EPERM
    assert syscall_errno("personality", 0) == 0
    assert syscall_errno("personality", 1) == errno.ENOSYS


def systemd_answers() -> None:
    """Checks that the filter of a systemd unit is in force: it kills, as systemd's own does."""
    child = os.fork()
    if not child:
        syscall_errno("mount", 0, 0, 0, 0, 0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGSYS
    assert syscall_errno("io_setup", 0, 0) == errno.EFAULT


def contained() -> None:
    """Checks that this is a container: alone, without a network, able to write here only."""
    assert [int(name) for name in os.listdir("/proc") if name.isdigit()] == [1]
    assert socket.if_nameindex() == [(1, "lo")]
    assert syscall_errno("unshare", 0x20000) != 0  # CLONE_NEWNS takes CAP_SYS_ADMIN
    assert os.access(".", os.W_OK)
    assert os.statvfs(Path(__file__).parent).f_flag & os.ST_RDONLY


def comparisons() -> None:
    """Every comparison of the assembler against the kernel, with both halves of an argument."""
    value, mask, wanted = 0x5_0000_0007, 0xF_0000_000F, 0x5_0000_0007
    arguments = [high << 32 | low for high in (4, 5, 6, 0x15) for low in (6, 7, 8, 0x17)]
    expected: dict[str, Callable[[int], bool]] = {
        "EQ": lambda argument: argument == value,
        "NE": lambda argument: argument != value,
        "LT": lambda argument: argument < value,
        "LE": lambda argument: argument <= value,
        "GT": lambda argument: argument > value,
        "GE": lambda argument: argument >= value,
        "MASKED_EQ": lambda argument: argument & mask == wanted,
    }
    numbers = bpf.syscall_numbers()
    rules = []
    for op in expected:
        # The second argument selects the comparison, which makes two conditions of each rule.
        first = bpf.Condition(0, op, mask if op == "MASKED_EQ" else value, wanted)
        second = bpf.Condition(1, "EQ", list(expected).index(op))
        rules.append(bpf.Rule(numbers["getppid"], bpf.refuse(errno.EDOM), (first, second)))
    bpf.apply(bpf.assemble(rules, bpf.ALLOW))
    for selector_number, (op, matches) in enumerate(expected.items()):
        for argument in arguments:
            answer = syscall_errno("getppid", argument, selector_number)
            assert answer == (errno.EDOM if matches(argument) else 0), (op, hex(argument), answer)


def context() -> None:
    """Poll, read, write, fsync, cancel, with both ways of reaping."""
    for user_ring in (True, False):
        with aiopoll.Context(8, user_ring=user_ring) as ring, tempfile.TemporaryFile() as file:
            assert ring.user_ring == user_ring
            left, right = socket.socketpair()
            with left, right:
                parked = aiopoll.Iocb.poll(left, select.POLLIN, data="socket")
                assert ring.submit([parked]) == 1
                assert ring.reap(0) == []
                right.send(b"x")
                [event] = ring.reap(1, timeout=10)
                assert (event.data, event.res) == ("socket", select.POLLIN)
                left.recv(1)
                ring.submit([parked])
                ring.cancel(parked)
                [event] = ring.reap(1, timeout=10)
                assert event.res == 0
            buffer = bytearray(3)
            ring.submit([aiopoll.Iocb.pwrite(file, b"abc"), aiopoll.Iocb.fsync(file)])
            assert [event.result() for event in ring.reap(2, timeout=10)] == [3, 0]
            ring.submit([aiopoll.Iocb.pread(file, buffer)])
            assert ring.reap(1, timeout=10)[0].result() == 3
            assert buffer == b"abc"


def pgetevents() -> None:
    """A signal that is blocked outside reap interrupts it."""
    signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    with aiopoll.Context(1) as ring:
        try:
            ring.reap(1, timeout=10, sigmask=[])
        except InterruptedError:
            return
    raise AssertionError("reap was not interrupted")


def selector() -> None:
    """AioSelector: the ring, the epoll set, register, modify, unregister."""
    with aiopoll.AioSelector() as ours:
        left, right = socket.socketpair()
        master, slave = os.openpty()
        with left, right:
            ours.register(left, selectors.EVENT_READ, "socket")
            ours.register(slave, selectors.EVENT_READ, "terminal")
            assert ours.select(0) == []
            right.send(b"x")
            os.write(master, b"x\n")
            seen = set()
            while len(seen) < 2:
                ready = ours.select(10)
                assert ready, "timeout"
                seen |= {key.data for key, events in ready}
            ours.modify(left, selectors.EVENT_WRITE, "writer")
            assert "writer" in {key.data for key, events in ours.select(10)}
            ours.unregister(left)
            ours.unregister(slave)
        os.close(master)
        os.close(slave)


async def streams_and_child() -> None:
    """Streams over TCP, a child process and a timer."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, asyncio.timeout(30):
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()
        child = await asyncio.create_subprocess_exec(
            "/bin/echo", "child", stdout=asyncio.subprocess.PIPE
        )
        assert await child.communicate() == (b"child\n", None)


def asyncio_program() -> None:
    """The program on asyncio's own loop with our selector."""

    def loop_factory() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(aiopoll.AioSelector())

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(streams_and_child())


def loop_program() -> None:
    """The program on our loop; prints which backend serves it."""

    async def main() -> str:
        await streams_and_child()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aiopoll.EventLoop)
        return loop.backend

    print(aiopoll.run(main()))


def server() -> None:
    """The example of a server serves; prints how many requests its loop has submitted."""

    async def main() -> None:
        site = Path(__file__).parents[2] / "examples" / "site.py"
        command = [sys.executable, "-u", "-m", "aiopoll", "run", str(site), "--port", "0"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        while b"http://" not in (line := await process.stdout.readline()):
            assert line, "it ended"
        port = int(re.findall(rb"http://[\d.]+:(\d+)", line)[0])
        for path in ("/docs/", "/stats"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert head.split(None, 2)[1] == b"200", head
            assert (b"docs/index.md" if path == "/docs/" else b'"submitted"') in body, body
            writer.close()
        print(json.loads(body)["submitted"])
        process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode == 0

    asyncio.run(main())


def program() -> None:
    """For `aiopoll run`: an ordinary program, which must have been given a loop of ours."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aiopoll.EventLoop), loop
        await asyncio.sleep(0)
        print(loop.backend)

    asyncio.run(main())


def probe() -> None:
    """Prints the findings of probe."""
    print(json.dumps(dataclasses.asdict(aiopoll.probe())))


def refusals() -> None:
    """Prints errno and text of the OSErrors where AIO poll is missing."""
    answers = {}
    makers: dict[str, Callable[[], object]] = {
        "require_aio_poll": require_aio_poll,
        "AioSelector": aiopoll.AioSelector,
        "EventLoop": functools.partial(aiopoll.new_event_loop, backend="aio"),
    }
    for name, maker in makers.items():
        try:
            made = maker()
        except OSError as error:
            answers[name] = [error.errno, error.strerror]
        else:
            answers[name] = None
            if isinstance(made, aiopoll.AioSelector | aiopoll.EventLoop):
                made.close()
    print(json.dumps(answers))


def falls_back() -> None:
    """Prints why a loop without a forced backend is on epoll, where it still runs."""

    async def main() -> str | None:
        reader, writer = socket.socketpair()
        with reader, writer:
            reader.setblocking(False)
            writer.send(b"x")
            loop = asyncio.get_running_loop()
            assert await loop.sock_recv(reader, 1) == b"x"
            assert isinstance(loop, aiopoll.EventLoop)
            assert loop.backend == "epoll"
            return loop.backend_reason

    print(aiopoll.run(main()))


def no_room() -> None:
    """Far more connections than slots, and none may go into the epoll set: each is served."""
    reported = []
    waiting: set[asyncio.Protocol] = set()
    lost: set[asyncio.Protocol] = set()

    class Waiting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            waiting.add(self)

        def data_received(self, data: bytes) -> None:
            assert data == b"x"
            waiting.remove(self)
            self.transport.close()  # its slot is another one's

        def connection_lost(self, exc: Exception | None) -> None:
            lost.add(self)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: reported.append(context))
        server = await loop.create_server(Waiting, "127.0.0.1", 0)
        below = []
        while not below or below[-1] < FIRST_REFUSED:
            below.append(os.dup(server.sockets[0].fileno()))
        clients = []
        for number in range(200):
            clients.append(socket.create_connection(server.sockets[0].getsockname()))
            while len(waiting) <= number:
                await asyncio.sleep(0)
        while not reported:  # nothing is ready: a file with a slot keeps it
            await asyncio.sleep(0)
        for client in clients:
            client.send(b"x")
        while waiting:
            await asyncio.sleep(0)
        while len(lost) < len(clients):
            await asyncio.sleep(0)
        for client in clients:
            client.close()
        server.close()
        for fd in below:
            os.close(fd)

    aiopoll.run(main(), backend="aio", nr_events=1)
    assert all(context["exception"].errno == errno.ENOSPC for context in reported), reported
    messages = [context["message"] for context in reported]
    assert len(set(messages)) == len(messages) <= 200, messages
    print(len(messages))


def no_room_for_the_wakeup() -> None:
    """The wake-up may not go into the epoll set: the loop stays on the ring, and is woken there."""
    aiopoll.new_event_loop().close()  # the first one looks at asyncio's
    held = [os.open(os.devnull, os.O_RDONLY)]
    while held[-1] < FIRST_REFUSED - 1:
        held.append(os.dup(held[0]))
    make_pair = socket.socketpair

    def give_numbers_back() -> tuple[socket.socket, socket.socket]:
        while held:
            os.close(held.pop())
        return make_pair()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = make_pair()
        ours.setblocking(False)
        with ours, theirs:
            for _ in range(50):
                theirs.send(b"x")
                assert await loop.sock_recv(ours, 1) == b"x"
                await asyncio.to_thread(theirs.send, b"y")  # it wakes the loop that sleeps
                assert await loop.sock_recv(ours, 1) == b"y"
        assert isinstance(loop, aiopoll.EventLoop)
        assert (loop.statistics().uses_set, loop.statistics().moves) == (False, 0)

    # The loop makes its epoll set and its wake-up, then asyncio's pipe.
    os.environ["AIOPOLL_WAIT"] = "both"
    socket.socketpair = give_numbers_back
    aiopoll.run(main())


def files() -> None:
    """Prints the counters of direct and buffered I/O on asyncio's loop and on ours."""
    counters = []

    async def main() -> None:
        async with aiopoll.open("file", "w+b", direct=True) as file:
            await file.fallocate(0, 65536)
            buffer = aiopoll.AlignedBuffer(4096)
            buffer[:] = b"x" * 4096
            await asyncio.gather(*(file.pwrite(buffer, i * 4096) for i in range(16)))
            assert await file.pread(10, 4090) == b"x" * 10
            await file.fsync()
        async with aiopoll.open("file", "rb") as file:
            assert await file.read() == b"x" * 65536
        assert await aiopoll.Path("file").exists()
        counters.append(aiopoll.file_statistics()._asdict())

    aiopoll.run(main())
    asyncio.run(main())
    print(json.dumps(counters))


def reap_refused() -> None:
    """Prints errno and text of the OSErrors from waiting, without and with a signal mask."""
    answers = {}
    with aiopoll.Context(1) as ring:
        for name, sigmask in (("io_getevents", None), ("io_pgetevents", [signal.SIGUSR1])):
            try:
                ring.reap(1, timeout=0.001, sigmask=sigmask)
            except OSError as error:
                answers[name] = [error.errno, error.strerror]
    print(json.dumps(answers))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
