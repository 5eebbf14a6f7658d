"""examples/kv.py where descriptors run out: the log comes before the clients."""

import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redis.exceptions

from .children import Child
from .kv_servers import Start, client_of, end, servers_in

pytestmark = pytest.mark.subprocess

_, ALLOWED = resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Start]:
    yield from servers_in(tmp_path)


def descriptors(child: Child) -> list[int]:
    return sorted(int(name) for name in os.listdir(f"/proc/{child.process.pid}/fd"))


def allow_descriptors(child: Child, count: int) -> None:
    resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE, (count, ALLOWED))


def ping(connection: socket.socket) -> bytes:
    """The reply to PING; nothing if the connection is closed."""
    try:
        connection.sendall(b"PING\r\n")
        return connection.recv(1000)
    except (ConnectionResetError, BrokenPipeError):
        return b""


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def is_refused(port: int) -> bool:
    """Whether a client that sends nothing is refused for want of room."""
    with connect(port) as connection:
        connection.shutdown(socket.SHUT_WR)  # the server lets a client that it serves go then
        return connection.recv(1000) == b"-ERR max number of clients reached\r\n"


def fill_segments(client: redis.Redis, count: int, acknowledged: dict[str, bytes]) -> None:
    """Writes data that needs `count` segments more."""
    value = os.urandom(200_000)
    for _ in range(count * 6):
        key = f"key {len(acknowledged)}"
        assert client.set(key, value)
        acknowledged[key] = value


def check_all_there(serve: Start, acknowledged: dict[str, bytes]) -> None:
    child, port = serve()
    with client_of(port) as client:
        assert client.mget(list(acknowledged)) == list(acknowledged.values())
    end(child)


def test_clients_leave_the_log_its_descriptors(serve: Start) -> None:
    child, port = serve()
    acknowledged: dict[str, bytes] = {}
    with client_of(port) as client:
        fill_segments(client, 1, acknowledged)
        allow_descriptors(child, 2 * (len(descriptors(child)) + 4))
        idle = []
        while not is_refused(port):  # the log may open and close files meanwhile
            connection = connect(port)
            if ping(connection) == b"+PONG\r\n":
                idle.append(connection)
            else:
                connection.close()
            assert len(idle) < 20
        assert idle
        fill_segments(client, 4, acknowledged)
        assert {ping(connection) for connection in idle} == {b"+PONG\r\n"}
        idle.pop().close()
    for connection in idle:
        connection.close()
    end(child)
    check_all_there(serve, acknowledged)


def test_the_longest_silent_clients_give_way_to_the_log(serve: Start) -> None:
    child, port = serve()
    acknowledged: dict[str, bytes] = {}
    with client_of(port, retry=None) as client:
        fill_segments(client, 1, acknowledged)
        idle = [connect(port) for _ in range(10)]
        assert {ping(connection) for connection in idle} == {b"+PONG\r\n"}
        assert ping(idle[0]) == b"+PONG\r\n"
        assert client.ping()  # now idle[1] was silent longest
        allow_descriptors(child, descriptors(child)[-1] + 1)
        fill_segments(client, 2, acknowledged)
        assert ping(idle[1]) == b""
        assert ping(idle[0]) == b"+PONG\r\n"
    for connection in idle:
        connection.close()
    end(child)
    check_all_there(serve, acknowledged)


def test_log_continues_once_a_descriptor_is_free(serve: Start) -> None:
    child, port = serve()
    acknowledged: dict[str, bytes] = {}
    with connect(port) as connection:
        assert ping(connection) == b"+PONG\r\n"
        allow_descriptors(child, 3)
        try:
            for _ in range(20):
                connection.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$200000\r\n")
                connection.sendall(bytes(200_000) + b"\r\n")
                if not connection.recv(1000):
                    break
            else:
                pytest.fail("the log had the descriptors that it needed")
        except (ConnectionResetError, BrokenPipeError):
            pass
    allow_descriptors(child, ALLOWED)
    with client_of(port) as client:
        fill_segments(client, 3, acknowledged)
    end(child)
    check_all_there(serve, acknowledged)
