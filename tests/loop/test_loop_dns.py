"""getaddrinfo without threads for numbers, with socket.getaddrinfo as the oracle; eyeballs."""

import _socket
import asyncio
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aiopoll
from aiopoll.loop.dns import numeric_addresses


class NoThreads(ThreadPoolExecutor):
    """An executor that counts its calls."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked = 0

    def submit(self, *args: Any, **options: Any) -> Any:
        self.asked += 1
        return super().submit(*args, **options)


def answer(function: Any, *args: Any, **options: Any) -> Any:
    """Its result or exception, to compare, with the types of the parts."""
    try:
        found = function(*args, **options)
    except (OSError, UnicodeError, TypeError, OverflowError) as error:
        return type(error), error.args
    return [(entry, [type(part) for part in entry]) for entry in found]


ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).flatmap(
    lambda address: st.sampled_from([str(address), address.exploded, str(address).upper()])
)
hosts = st.one_of(
    ipv4,
    ipv6,
    ipv4.map(str.encode),
    ipv6.map(str.encode),
    ipv6.map(lambda address: f"{address}%lo"),
    st.sampled_from(
        [
            *(None, "", b"", "127.1", "0x7f.1", "1", "010.0.0.1", "::ffff:1.2.3.4", "fe80::1%1"),
            *(
                "1.2.3.4.",
                " 1.2.3.4",
                "\uff11\uff12\uff17.0.0.1",
                "::1%",
                "1.2.3.4\0",
                "[::1]",
                ":",
                "::1%99999",
            ),
        ]
    ),
)
ports = st.one_of(
    st.integers(-2, 70000),
    st.integers(0, 65535).map(str),
    st.integers(0, 65535).map(lambda port: str(port).encode()),
    st.sampled_from([None, "", b"", " 80", "+80", "0x50", True, 1 << 70]),
)
families = st.sampled_from([0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
kinds = st.sampled_from([0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 99])
protocols = st.sampled_from([0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 132])
flag_sets = st.sets(
    st.sampled_from(
        [
            socket.AI_PASSIVE,
            socket.AI_NUMERICHOST,
            socket.AI_NUMERICSERV,
            socket.AI_CANONNAME,
            socket.AI_V4MAPPED,
            socket.AI_ALL,
            socket.AI_ADDRCONFIG,
        ]
    )
).map(sum)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(hosts, ports, families, kinds, protocols, flag_sets)
@example("127.0.0.1", 80, 0, 0, 0, 0)
@example("::1", 80, 0, 0, 0, 0)
@example("::1", 80, socket.AF_INET, 0, 0, 0)
@example("1.2.3.4", 80, socket.AF_INET6, socket.SOCK_STREAM, 0, socket.AI_V4MAPPED)
def test_numeric_hosts_resolve_as_with_the_socket_module(
    host: Any, port: Any, family: int, kind: int, proto: int, flags: int
) -> None:
    ours = answer(lambda: numeric_addresses(host, port, family, kind, proto, flags) or [])
    if ours == []:
        return  # left to the executor, which asks the socket module
    assert ours == answer(socket.getaddrinfo, host, port, family, kind, proto, flags)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("127.0.0.1", 80),
        ("::1", "80"),
        (b"10.0.0.1", b"80"),
        (None, 80),
        ("fe80::1%lo", 0),
        ("127.0.0.1", None),
    ],
)
def test_numbers_take_no_thread(loop: aiopoll.EventLoop, host: Any, port: Any) -> None:
    with NoThreads() as executor:
        loop.set_default_executor(executor)
        found = loop.run_until_complete(loop.getaddrinfo(host, port))
        assert found == socket.getaddrinfo(host, port)
        assert executor.asked == 0


def test_changed_result_changes_no_later_one(loop: aiopoll.EventLoop) -> None:
    loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80)).clear()
    again = loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80))
    assert again == socket.getaddrinfo("127.0.0.1", 80)


def test_names_take_a_thread(loop: aiopoll.EventLoop) -> None:
    with NoThreads() as executor:
        loop.set_default_executor(executor)
        found = loop.run_until_complete(loop.getaddrinfo("localhost", 80))
        assert found == socket.getaddrinfo("localhost", 80)
        assert executor.asked == 1
        with pytest.raises(socket.gaierror) as caught:
            loop.run_until_complete(loop.getaddrinfo("no-address", 80, flags=socket.AI_NUMERICHOST))
        assert caught.value.errno == socket.EAI_NONAME
        assert executor.asked == 2


def test_names_of_addresses(loop: aiopoll.EventLoop) -> None:
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    with NoThreads() as executor:
        loop.set_default_executor(executor)
        found = loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 80), numeric))
        assert found == ("127.0.0.1", "80")
        assert executor.asked == 0
        found = loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 1), socket.NI_NUMERICHOST))
        assert found == socket.getnameinfo(("127.0.0.1", 1), socket.NI_NUMERICHOST)
        assert executor.asked == 1


@pytest.mark.parametrize("place", [socket, _socket])
@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("getaddrinfo", ("127.0.0.1", 80), {"type": socket.SOCK_STREAM}),
        ("getaddrinfo", ("name", 80), {}),
        ("getnameinfo", (("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV), {}),
        ("getnameinfo", (("127.0.0.1", 80), 0), {}),
    ],
)
def test_a_replaced_function_is_called_once_in_a_thread(
    loop: aiopoll.EventLoop,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    args: tuple[Any, ...],
    options: dict[str, Any],
) -> None:
    if place is _socket and name == "getnameinfo":
        place = socket  # where it is the same function
    calls: list[tuple[int, tuple[Any, ...]]] = []
    found = [(2, 1, 6, "", ("192.0.2.1", 80))] if name == "getaddrinfo" else ("own", "80")

    def own(*args: Any, **options: Any) -> Any:
        calls.append((threading.get_ident(), args))
        return found

    monkeypatch.setattr(place, name, own)
    assert loop.run_until_complete(getattr(loop, name)(*args, **options)) == found
    [(thread, given)] = calls
    assert thread != threading.get_ident()
    assert given[: len(args)] == args


def test_a_function_that_forbids_is_asked_of_literals_too(
    loop: aiopoll.EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*args: Any, **options: Any) -> Any:
        raise PermissionError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", forbid)
    with pytest.raises(PermissionError):
        loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80))


class Resolved(aiopoll.EventLoop):
    """A loop for which every name has two addresses: of IPv6 and, in that order, of IPv4."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]


@pytest.mark.parametrize("backend", ["aio", "epoll"])
@pytest.mark.parametrize("options", [{}, {"happy_eyeballs_delay": 60}, {"interleave": 1}])
def test_happy_eyeballs_continue_to_the_address_that_works(
    backend: str, options: dict[str, Any]
) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            transport, _ = await loop.create_connection(asyncio.Protocol, "name", port, **options)
            assert transport.get_extra_info("peername") == ("127.0.0.1", port)
            transport.close()

    loop = Resolved(backend=backend)
    loop.run_until_complete(scenario())
    assert loop.statistics().watched == 1
    loop.close()


@pytest.mark.parametrize("backend", ["aio", "epoll"])
@pytest.mark.parametrize("delay", [None, 60])
def test_all_errors_are_raised(backend: str, delay: float | None) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        options: dict[str, Any] = {} if delay is None else {"happy_eyeballs_delay": delay}
        if sys.version_info >= (3, 12):
            with pytest.raises(ExceptionGroup) as caught:
                await loop.create_connection(
                    asyncio.Protocol, "name", port, all_errors=True, **options
                )
            assert [type(error) for error in caught.value.exceptions] == [
                ConnectionRefusedError,
                ConnectionRefusedError,
            ]
        with pytest.raises(OSError, match=r"Multiple exceptions: .*::1.*, .*127\.0\.0\.1"):
            await loop.create_connection(asyncio.Protocol, "name", port, **options)

    loop = Resolved(backend=backend)
    loop.run_until_complete(scenario())
    assert loop.statistics().watched == 1
    loop.close()
