"""Echo by sock_accept, sock_recv and sock_sendall: a task for each connection."""

import argparse
import asyncio
import socket

from benchmarks import program
from benchmarks.workload import Client, Workload, counted
from benchmarks.workloads.echo_protocol import SIZES

WORKLOADS = [
    Workload(
        name=f"echo-sock-{size}-{connections}",
        title=f"echo by sock_recv and sock_sendall, {size}, {counted(connections, 'connection')}",
        program="echo_sock",
        client=Client(connections=connections, request_bytes=size_bytes),
    )
    for size, size_bytes in SIZES.items()
    for connections in (1, 100, 1000)
]


async def echo(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with connection:
        try:
            while data := await loop.sock_recv(connection, 65536):
                await loop.sock_sendall(connection, data)
        except ConnectionError:
            pass  # the client has ended with a response in flight


async def main(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    bound = program.bound_socket()
    address = program.address_of(bound)
    program.ready(address)
    tasks = set()
    while True:
        connection, _ = await loop.sock_accept(bound)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(echo(connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    program.run(program.parser().parse_args(), main)
