"""Scenarios of test_loop_differential.py that use files: connections, datagrams, pipes."""

import asyncio
import io
import os
import socket
import sys
from typing import Any

import pytest

from .scenarios import (
    Datagrams,
    Place,
    Recorder,
    attempt,
    calls,
    echo,
    refused,
)


@calls("create_connection", "create_server")
async def tcp(loop: Any, place: Place) -> Any:
    served: list[Recorder] = []

    def accept() -> Recorder:
        served.append(Recorder())
        return served[-1]

    server = await loop.create_server(accept, "127.0.0.1", 0, backlog=5, reuse_port=True)
    host, port = server.sockets[0].getsockname()
    seen: list[Any] = [server.is_serving(), len(server.sockets)]
    transport, protocol = await loop.create_connection(
        Recorder, host, port, happy_eyeballs_delay=0.25, interleave=1, local_addr=(host, 0)
    )
    seen += [transport.get_extra_info("peername") == (host, port), transport.can_write_eof()]
    seen += [transport.get_extra_info("nothing", 7), transport.is_reading()]
    transport.close()
    transport.close()
    await protocol.lost
    while not served:
        await asyncio.sleep(0)
    await served[0].lost
    seen += [protocol.told, transport.is_closing()]
    server.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shut = free.getsockname()[1]
        for options in ({}, {"happy_eyeballs_delay": 0.1}):
            error = await attempt(loop.create_connection(Recorder, "127.0.0.1", shut, **options))
            seen.append([error[0], error[1].replace(str(shut), "PORT")])
        if sys.version_info >= (3, 12):
            try:
                await loop.create_connection(Recorder, "127.0.0.1", shut, all_errors=True)
            except ExceptionGroup as group:
                seen.append([type(error) for error in group.exceptions])
    for arguments, options in (
        ((), {}),
        (("127.0.0.1", 1), {"sock": free}),
        (("127.0.0.1", 1), {"server_hostname": "name"}),
        (("127.0.0.1", 1), {"ssl_handshake_timeout": 1}),
    ):
        for call in (loop.create_connection, loop.create_server):
            if call == loop.create_server and "server_hostname" in options:
                continue
            seen.append(await attempt(call(Recorder, *arguments, **options)))
    return seen


@calls("create_unix_connection", "create_unix_server", "start_tls")
async def unix_and_start_tls(loop: Any, place: Place) -> Any:
    path = str(place.path / "socket")
    served: list[Any] = []

    class Server(Recorder):
        encrypted = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            served.append(self)
            transport.pause_reading()
            loop.create_task(self.upgrade(transport))

        async def upgrade(self, transport: Any) -> None:
            self.transport = await loop.start_tls(transport, self, place.server, server_side=True)

            self.encrypted = True
            self.answer()

        def data_received(self, data: bytes) -> None:
            self.data += data
            self.answer()

        def answer(self) -> None:
            if self.encrypted and self.data:
                self.transport.write(self.data.upper())

    server = await loop.create_unix_server(Server, path)
    transport, protocol = await loop.create_unix_connection(Recorder, path)
    seen: list[Any] = [transport.get_extra_info("peername")[-6:]]
    tls = await loop.start_tls(transport, protocol, place.client, server_hostname="localhost")
    tls.write(b"over tls")
    while len(protocol.data) < 8:
        await asyncio.sleep(0)
    seen += [protocol.data, tls.get_extra_info("cipher") is not None, protocol.told]
    seen += [await attempt(loop.start_tls(tls, protocol, "no context"))]
    tls.close()
    await protocol.lost
    await served[0].lost
    server.close()
    seen += [served[0].told, protocol.told, os.path.exists(path)]
    if os.path.exists(path):
        os.unlink(path)
    error = await attempt(loop.create_unix_connection(Recorder, path))
    for arguments, options in (
        (((None,), {})),
        (((path,), {"sock": 1})),
        (((path,), {"ssl": True})),
    ):
        seen.append(await attempt(loop.create_unix_connection(Recorder, *arguments, **options)))
        seen.append(await attempt(loop.create_unix_server(Recorder, *arguments, **options)))
    return [*seen, error]


@calls("connect_accepted_socket")
async def accepted(loop: Any, place: Place) -> Any:
    ours, theirs = socket.socketpair()
    with theirs:
        transport, protocol = await loop.connect_accepted_socket(Recorder, ours)
        theirs.send(b"hello")
        theirs.shutdown(socket.SHUT_WR)
        await protocol.lost
        seen = [protocol.told, protocol.data, transport.is_closing()]
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            error = await attempt(loop.connect_accepted_socket(Recorder, datagrams))
            seen.append([error[0], error[1].partition("<")[0]])
    return seen


@calls("sendfile")
async def sendfile(loop: Any, place: Place) -> Any:
    content = bytes(range(256)) * 1000
    (place.path / "file").write_bytes(content)
    seen: list[Any] = []
    for context in (None, place.server):
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
        host, port = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(
            Recorder,
            host,
            port,
            ssl=context and place.client,
            server_hostname=context and "localhost",
        )
        with open(place.path / "file", "rb") as file:
            seen.append(await loop.sendfile(transport, file))
            seen.append(file.tell())
            seen.append(await loop.sendfile(transport, file, 100, 50))
            seen.append(await attempt(loop.sendfile(transport, file, fallback=False)))
            seen.append(await attempt(loop.sendfile(transport, io.BytesIO(b"memory"))))
            refused_text = await attempt(loop.sendfile(transport, file, -1))
            seen.append(refused_text)
        transport.write(b"the end")
        while not protocol.data.endswith(b"the end"):
            await asyncio.sleep(0)
        assert protocol.data.startswith(content + content[100:150])
        seen.append(len(protocol.data))
        transport.close()
        await protocol.lost
        error = await attempt(loop.sendfile(transport, io.BytesIO(b"late")))
        seen.append(error)
        server.close()
    return seen


@calls("create_datagram_endpoint")
async def datagrams(loop: Any, place: Place) -> Any:
    seen: list[Any] = []
    first, came = await loop.create_datagram_endpoint(
        Datagrams, ("127.0.0.1", 0), reuse_port=True, allow_broadcast=True
    )
    sock = first.get_extra_info("socket")
    seen += [
        bool(sock.getsockopt(socket.SOL_SOCKET, option))
        for option in (socket.SO_REUSEPORT, socket.SO_BROADCAST)
    ]
    address = first.get_extra_info("sockname")
    second, _ = await loop.create_datagram_endpoint(Datagrams, address, reuse_port=True)
    second.abort()
    third, _ = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
    third.sendto(b"connected")
    seen.append(await came.came.get())
    seen.append(third.get_extra_info("peername") == address)
    with pytest.raises(ValueError, match="Invalid address"):
        third.sendto(b"elsewhere", ("127.0.0.1", 9))
    own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = str(place.path / "datagrams")
    fourth, unix_came = await loop.create_datagram_endpoint(Datagrams, path, family=socket.AF_UNIX)
    fifth, _ = await loop.create_datagram_endpoint(Datagrams, sock=own)
    fifth.sendto(b"unix", path)
    seen.append(await unix_came.came.get())
    for transport in (first, third, fourth, fifth):
        transport.close()
    with pytest.raises(TypeError) as raised:
        first.sendto("no bytes")
    seen.append(str(raised.value))
    for options in (
        {},
        {"local_addr": ("127.0.0.1", 0), "sock": own},
        {"local_addr": "no tuple", "family": socket.AF_INET},
        {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 1)},
    ):
        error = await attempt(loop.create_datagram_endpoint(Datagrams, **options))
        seen.append([error[0], error[1].partition("<")[0]])
    return seen


@calls("add_reader", "remove_reader", "add_writer", "remove_writer")
async def watching(loop: Any, place: Place) -> Any:
    seen: list[Any] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ready = asyncio.Event()
        loop.add_reader(ours, seen.append, "replaced")
        loop.add_reader(ours.fileno(), ready.set)
        theirs.send(b"x")
        await ready.wait()
        seen += [loop.remove_reader(ours), loop.remove_reader(ours)]
        writable = asyncio.Event()
        loop.add_writer(ours, writable.set)
        await writable.wait()
        seen += [loop.remove_writer(ours), loop.remove_writer(ours)]
        for wrong in (-1, "text", 3.5):
            seen.append(await attempt(refused(loop.add_reader, wrong, print)))
        transport, _ = await loop.create_connection(Recorder, sock=ours)
        error = await attempt(refused(loop.add_reader, ours, print))
        seen.append(error[0])
        transport.abort()
        await asyncio.sleep(0)
    return seen


@calls("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall")
@calls("sock_sendto", "sock_connect", "sock_accept", "sock_sendfile")
async def sock_methods(loop: Any, place: Place) -> Any:
    seen: list[Any] = []
    (place.path / "sent").write_bytes(b"file" * 100)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        connecting = loop.create_task(loop.sock_connect(client, listener.getsockname()))
        server, address = await loop.sock_accept(listener)
        with server:
            seen += [await connecting, address == client.getsockname(), server.gettimeout()]
            seen.append(await loop.sock_sendall(client, b"all" * 10))
            seen.append(await loop.sock_recv(server, 100))
            seen.append(await loop.sock_sendall(client, memoryview(b"into")))
            buffer = bytearray(8)
            seen += [await loop.sock_recv_into(server, buffer), bytes(buffer)]
            with open(place.path / "sent", "rb") as file:
                seen.append(await loop.sock_sendfile(client, file, 4, 8))
                seen.append(await attempt(loop.sock_sendfile(client, file, -1)))
            seen.append(await loop.sock_recv(server, 100))
            seen.append(
                await attempt(loop.sock_sendfile(client, io.BytesIO(b"no"), fallback=False))
            )
            client.close()
            seen.append(await loop.sock_recv(server, 100))
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        for sock in (one, two):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        seen.append(await loop.sock_sendto(one, b"datagram", two.getsockname()))
        data, sender = await loop.sock_recvfrom(two, 100)
        seen += [data, sender == one.getsockname()]
        await loop.sock_sendto(one, b"again", two.getsockname())
        count, sender = await loop.sock_recvfrom_into(two, buffer, 3)
        seen += [count, sender == one.getsockname(), bytes(buffer)]
    return seen


@calls("connect_read_pipe", "connect_write_pipe")
async def pipes(loop: Any, place: Place) -> Any:
    reader, writer = (
        os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
    )
    sender, out = await loop.connect_write_pipe(Recorder, writer)
    receiver, into = await loop.connect_read_pipe(Recorder, reader)
    sender.write(b"through")
    sender.write_eof()
    await into.lost
    await out.lost
    return [into.told, into.data, out.told, sender.is_closing(), receiver.is_closing()]
