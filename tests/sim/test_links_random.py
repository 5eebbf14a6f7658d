"""Random reads, writes, cuts and pauses: both directions carry the same bytes, and all is freed."""

import contextlib
import math
import random

import pytest

from aiopoll.kernel.net.socket import TCP_CLOSE
from aiopoll.kernel.net.tcp_input import TcpSock
from aiopoll.sim.tape import tape_of

from .machines import Machines, close, receive, send

STEPS = 200
# Idle rounds of five seconds, until what was sent is there: a retransmission waits up to 120 s.
ROUNDS = 3000


class Conversation:
    """Two ends that say whatever comes, and what was said."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        high = rng.choice((0.001, 0.02, 0.5))
        self.machines = machines = Machines(tape_of(seed, "uniform"), latency=(0.0001, high))
        self.one, self.two = machines.host("one"), machines.host("two")
        machines.network.link(
            "one",
            "two",
            loss=rng.choice((0, 0, 0.01, 0.1)),
            bandwidth=rng.choice((math.inf, 1e5, 1e6)),
        )
        self.ends = machines.pair(self.one, self.two)
        self.sent: dict[TcpSock, bytearray] = {end: bytearray() for end in self.ends}
        self.received: dict[TcpSock, bytearray] = {end: bytearray() for end in self.ends}

    def send(self, end: TcpSock) -> None:
        data = self.rng.randbytes(self.rng.choice((1, 100, 3000, 50_000)))
        with contextlib.suppress(BlockingIOError):
            self.sent[end] += data[: send(end, data)]

    def receive(self, end: TcpSock, count: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self.received[end] += receive(end, count)

    def step(self) -> None:
        rng, network = self.rng, self.machines.network
        end = rng.choice(self.ends)
        draw = rng.random()
        if draw < 0.4:
            self.send(end)
        elif draw < 0.8:
            self.receive(end, rng.choice((1, 1000, 100_000)))
        elif draw < 0.83:
            network.partition(["one"], ["two"], oneway=rng.random() < 0.5)
            self.machines.run(rng.random() * 20)
            network.heal()
        elif draw < 0.85:
            network.pause("two")
            self.machines.run(rng.random() * 20)
            network.resume("two")
        else:
            self.machines.run(rng.choice((0.0001, 0.01, 1)))

    def is_complete(self) -> bool:
        one, two = self.ends
        return self.received[one] == self.sent[two] and self.received[two] == self.sent[one]


@pytest.mark.parametrize("seed", range(40))
def test_random_conversations_keep_their_bytes(seed: int) -> None:
    talk = Conversation(seed)
    for _ in range(STEPS):
        talk.step()
    for _ in range(ROUNDS):
        for end in talk.ends:
            talk.receive(end, 1 << 20)
        if talk.is_complete():
            break
        talk.machines.run(5)
    assert talk.is_complete()
    one, two = talk.ends
    close(one)
    talk.machines.run(200)
    assert receive(two) == b""
    close(two)
    talk.machines.run_idle()
    assert one.state == two.state == TCP_CLOSE
    assert not talk.one.connections
    assert not talk.two.connections
    assert ("tcp", one.port) not in talk.one.bound
