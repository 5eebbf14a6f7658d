"""sock_sendfile and sendfile: asyncio's results, and no bytes of other files."""

import asyncio
import errno
import fcntl
import io
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.loops import LOOPS
from tests.support.tls import tls_contexts

SECONDS_MAX = 60
BIG = 8 << 20  # more than a pair of sockets holds
OURS = b"o" * BIG
PRIVATE = b"p" * BIG

Loop = asyncio.AbstractEventLoop


def run(kind: str, main: Callable[[Loop], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(SECONDS_MAX):
            return await main(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        return runner.run(limited())


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def received(loop: Loop, sock: socket.socket) -> bytes:
    parts = bytearray()
    while part := await loop.sock_recv(sock, 1 << 20):
        parts += part
    return bytes(parts)


async def until_it_waits(peer: socket.socket) -> None:
    """Until the sender has run once, and then some iterations to find that the socket is full."""
    while True:
        try:
            peer.recv(1, socket.MSG_PEEK)
            break
        except BlockingIOError:
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)


def shown(error: BaseException) -> str:
    return f"{type(error).__name__} {error} {getattr(error, 'errno', None)}"


async def outcome(call: Awaitable[int]) -> str:
    try:
        return str(await call)
    except Exception as error:
        return shown(error)


# As asyncio


def files(path: Path) -> dict[str, Callable[[], Any]]:
    def closed() -> Any:
        file = path.open("rb")
        file.close()
        return file

    def moved() -> Any:
        file = path.open("rb")
        file.seek(7)
        return file

    class NoNumber(io.BytesIO):
        fileno = None  # type: ignore[assignment]

    return {
        "regular": lambda: path.open("rb"),
        "unbuffered": lambda: path.open("rb", buffering=0),
        "moved": moved,
        "text": lambda: path.open("r"),
        "empty": lambda: Path(os.devnull).open("rb"),
        "bytes": lambda: io.BytesIO(OURS[:1000]),
        "closed": closed,
        "no-number": lambda: NoNumber(b"abc"),
    }


PARTS: list[tuple[Any, Any]] = [
    (0, None), (5, None), (BIG - 3, None), (BIG + 5, None), (0, 1), (3, 1000), (10, BIG * 2),
    (0, 0), (-1, None), ("0", None), (0, "1"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["aio", "epoll"])
@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize("name", list(files(Path())))
def test_sock_sendfile_is_asyncios(kind: str, name: str, fallback: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OURS)

    async def one(loop: Loop, offset: Any, count: Any) -> tuple[Any, ...]:
        ours, theirs = pair()
        with ours, theirs, files(path)[name]() as file:
            reading = asyncio.ensure_future(received(loop, theirs))
            result = await outcome(loop.sock_sendfile(ours, file, offset, count, fallback=fallback))
            ours.shutdown(socket.SHUT_WR)
            return result, await reading, None if file.closed else file.tell()

    async def main(loop: Loop) -> list[Any]:
        return [await one(loop, *part) for part in PARTS]

    if name == "closed":

        async def main(loop: Loop) -> list[Any]:  # type: ignore[misc]
            ours, theirs = pair()
            with ours, theirs:
                return [
                    await outcome(loop.sock_sendfile(ours, files(path)[name](), *part))
                    for part in PARTS
                ]

    assert run(kind, main) == run("asyncio", main)


def test_any_count_is_taken(loop_kind: str, tmp_path: Path) -> None:
    """asyncio's raises OverflowError before Python 3.13."""
    path = tmp_path / "file"
    path.write_bytes(b"all of it")

    async def main(loop: Loop) -> None:
        ours, theirs = pair()
        with ours, theirs, path.open("rb") as file:
            assert await loop.sock_sendfile(ours, file, 0, 1 << 63) == 9
            assert theirs.recv(100) == b"all of it"

    run(loop_kind, main)


@pytest.mark.parametrize("kind", ["aio", "epoll", "asyncio"])
def test_sendfile_of_a_transport(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OURS)

    async def main(loop: Loop) -> None:
        ours, theirs = pair()
        with theirs, path.open("rb") as file:
            _reader, writer = await asyncio.open_connection(sock=ours)
            reading = asyncio.ensure_future(received(loop, theirs))
            writer.write(b"before")
            assert await loop.sendfile(writer.transport, file, 2, BIG - 4) == BIG - 4
            assert file.tell() == BIG - 2
            writer.write(b"after")
            writer.close()
            await writer.wait_closed()
            assert await reading == b"before" + OURS[2:-2] + b"after"

    run(kind, main)


@pytest.mark.parametrize("kind", ["aio", "epoll"])
@pytest.mark.parametrize(("offset", "count"), [(0, None), (0, 300), (100, None), (1000, 10)])
@pytest.mark.parametrize("position", [0, 700, 1000])
@pytest.mark.parametrize("way", ["tls", "sock"])
def test_fallback_of_sendfile_begins_at_the_offset(
    kind: str, way: str, position: int, offset: int, count: int | None
) -> None:
    """asyncio's begins at the file's position where the offset is 0."""
    data = bytes(range(250)) * 4

    async def over_tls(loop: Loop, file: io.BytesIO) -> bytes:
        server_context, client_context = tls_contexts()
        got: asyncio.Future[bytes] = loop.create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(await reader.read())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
        async with server:
            _, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost"
            )
            await loop.sendfile(writer.transport, file, offset, count)
            writer.close()
            return await got

    async def by_socket(loop: Loop, file: io.BytesIO) -> bytes:
        ours, theirs = pair()
        with ours, theirs:
            await loop.sock_sendfile(ours, file, offset, count)
            ours.shutdown(socket.SHUT_WR)
            return await received(loop, theirs)

    async def main(loop: Loop) -> None:
        file = io.BytesIO(data)
        file.seek(position)
        want = data[offset:] if count is None else data[offset : offset + count]
        send = over_tls if way == "tls" else by_socket
        assert await send(loop, file) == want
        if want:
            assert file.tell() == offset + len(want)

    run(kind, main)


@pytest.mark.parametrize("kind", ["aio", "epoll", "asyncio"])
def test_file_without_positions_is_sent_from_its_place(kind: str) -> None:
    class Stream:
        data = io.BytesIO(b"as it comes")

        def readinto(self, buffer: Any) -> int:
            return self.data.readinto(buffer)

    async def main(loop: Loop) -> None:
        ours, theirs = pair()
        with ours, theirs:
            file: Any = Stream()
            assert await loop.sock_sendfile(ours, file) == 11
            assert theirs.recv(100) == b"as it comes"

    run(kind, main)


@pytest.mark.parametrize("kind", ["aio", "epoll", "asyncio"])
def test_a_cancelled_call_stops_sending(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OURS)

    async def main(loop: Loop) -> None:
        ours, theirs = pair()
        with ours, theirs, path.open("rb") as file:
            sending = asyncio.ensure_future(loop.sock_sendfile(ours, file))
            await until_it_waits(theirs)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            ours.shutdown(socket.SHUT_WR)
            sent = await received(loop, theirs)
            assert OURS.startswith(sent)
            assert len(sent) < BIG
            assert not loop.remove_writer(ours)

    run(kind, main)


@pytest.mark.parametrize("kind", ["aio", "epoll", "asyncio"])
def test_a_socket_of_a_transport_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OURS)

    async def main(loop: Loop) -> None:
        ours, theirs = pair()
        with theirs, path.open("rb") as file:
            _, writer = await asyncio.open_connection(sock=ours)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_sendfile(ours, file)
            writer.close()
            await writer.wait_closed()

    run(kind, main)


# Numbers that change hands


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    ours, private = tmp_path / "ours", tmp_path / "private"
    ours.write_bytes(OURS)
    private.write_bytes(PRIVATE)
    return ours, private


def test_sendfile_of_a_closed_file_reads_no_other_file(
    loop_kind: str, paths: tuple[Path, Path]
) -> None:
    async def main(loop: Loop) -> None:
        ours, theirs = pair()
        with ours, theirs:
            file = paths[0].open("rb")
            sending = asyncio.ensure_future(outcome(loop.sock_sendfile(ours, file)))
            await until_it_waits(theirs)
            number = file.fileno()
            file.close()
            with paths[1].open("rb", buffering=0) as private:
                assert private.fileno() == number
                reading = asyncio.ensure_future(received(loop, theirs))
                assert await sending == shown(OSError(errno.EBADF, os.strerror(errno.EBADF)))
                ours.shutdown(socket.SHUT_WR)
                assert set(await reading) == set(b"o")
                assert private.tell() == 0

    run(loop_kind, main)


def test_fd_without_an_owner_stays_the_given_file(loop_kind: str, paths: tuple[Path, Path]) -> None:
    async def main(loop: Loop) -> None:
        ours, theirs = pair()
        number = os.open(paths[0], os.O_RDONLY)
        with ours, theirs, open(number, "rb", closefd=False) as file:
            sending = asyncio.ensure_future(loop.sock_sendfile(ours, file))
            await until_it_waits(theirs)
            os.close(number)
            with paths[1].open("rb", buffering=0) as private:
                assert private.fileno() == number
                reading = asyncio.ensure_future(received(loop, theirs))
                assert await sending == BIG
                ours.shutdown(socket.SHUT_WR)
                assert await reading == OURS
                assert private.tell() == 0

    run(loop_kind, main)


def test_sendfile_to_a_closed_socket_uses_no_other(
    loop_kind: str, paths: tuple[Path, Path]
) -> None:
    async def main(loop: Loop) -> None:
        ours, theirs = pair()
        with theirs, paths[0].open("rb") as file:
            sending = asyncio.ensure_future(loop.sock_sendfile(ours, file))
            await until_it_waits(theirs)
            number = ours.fileno()
            ours.close()
            stranger, peer = pair()
            with stranger, peer:
                assert number in (stranger.fileno(), peer.fileno())
                # The data sent before, and then the end.
                assert set(await received(loop, theirs)) == set(b"o")
                sending.cancel()
                with pytest.raises((asyncio.CancelledError, OSError)):
                    await sending
                for sock in (stranger, peer):
                    with pytest.raises(BlockingIOError):
                        sock.recv(1)

    run(loop_kind, main)


@pytest.mark.subprocess
def test_record_locks_are_kept(loop_kind: str, paths: tuple[Path, Path]) -> None:
    program = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "try:\n"
        "    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError:\n"
        "    print('locked')\n"
    )

    def seen() -> str:
        command = [sys.executable, "-c", program, str(paths[0])]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=SECONDS_MAX
        ).stdout

    async def main(loop: Loop) -> None:
        ours, theirs = pair()
        with ours, theirs, paths[0].open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            open_before = set(os.listdir("/proc/self/fd"))
            for _ in range(3):
                reading = asyncio.ensure_future(loop.sock_recv(theirs, 10))
                assert await loop.sock_sendfile(ours, file, 0, 10) == 10
                assert await reading == b"o" * 10
            assert seen() == "locked\n"
            # One duplicate at most waits for the end of the lock.
            assert len(os.listdir("/proc/self/fd")) <= len(open_before) + 1
            fcntl.lockf(file, fcntl.LOCK_UN)
            reading = asyncio.ensure_future(loop.sock_recv(theirs, 10))
            assert await loop.sock_sendfile(ours, file, 0, 10) == 10
            await reading
            assert seen() == ""
            assert len(os.listdir("/proc/self/fd")) == len(open_before)

    run(loop_kind, main)


LOCKER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
print("locked", flush=True)
sys.stdin.read()
"""

ASKER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 5)
except BlockingIOError:
    print("locked")
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("first", ["nobody", "another process"])
def test_a_lock_through_another_open_file_is_kept(
    loop_kind: str, paths: tuple[Path, Path], first: str
) -> None:
    """The kernel reports the first lock alone, which may be another process's."""

    async def main(loop: Loop) -> None:
        ours, theirs = pair()
        with ours, theirs, paths[0].open("r+b") as locked, paths[0].open("rb") as served:
            fcntl.lockf(locked, fcntl.LOCK_EX, 1, 5)
            reading = asyncio.ensure_future(loop.sock_recv(theirs, 10))
            assert await loop.sock_sendfile(ours, served, 0, 10) == 10
            await reading
            asker = [sys.executable, "-c", ASKER, str(paths[0])]
            said = subprocess.run(
                asker, check=True, capture_output=True, text=True, timeout=SECONDS_MAX
            ).stdout
            assert said == "locked\n"

    if first == "nobody":
        run(loop_kind, main)
        return
    with subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(paths[0])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == "locked\n"
        run(loop_kind, main)
        locker.communicate("")
