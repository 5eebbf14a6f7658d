"""Raft elections over UDP: a vote must be on the disk before it is cast.

The bug: the vote is written, but not fsynced. A node that restarts votes again in the same term.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from typing import TYPE_CHECKING, Any

from .durable import sync

if TYPE_CHECKING:
    from aiopoll.sim.world import World

PORTABLE = False
PORT = 7100
NAMES = ("n0", "n1", "n2")


class Node(asyncio.DatagramProtocol):
    def __init__(self, name: str, fixed: bool, elected: list[int]) -> None:
        self.name = name
        self.fixed = fixed
        self.elected = elected
        self.term = 0
        self.voted_for: str | None = None
        self.role = "follower"
        self.votes: set[str] = set()
        self.heard = asyncio.Event()
        if os.path.exists("/votes"):
            with open("/votes") as file:
                for line in file:
                    self.term, self.voted_for = json.loads(line)

    def remember(self, term: int, voted_for: str | None) -> None:
        self.term, self.voted_for = term, voted_for
        with open("/votes", "a") as file:
            file.write(json.dumps([term, voted_for]) + "\n")
        if self.fixed:
            sync("/votes")
            sync("/")

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, kind: str, to: str | None = None) -> None:
        message = json.dumps([kind, self.term, self.name]).encode()
        for name in NAMES if to is None else (to,):
            if name != self.name:
                self.transport.sendto(message, (name, PORT))

    def datagram_received(self, data: bytes, addr: Any) -> None:
        kind, term, sender = json.loads(data)
        if term > self.term:
            self.role = "follower"
            self.remember(term, None)
        if term < self.term:
            return
        if kind == "ask":
            if self.voted_for in (None, sender):
                if self.voted_for is None:
                    self.remember(term, sender)
                self.heard.set()
                self.send("vote", sender)
        elif kind == "vote" and self.role == "candidate":
            self.votes.add(sender)
            if len(self.votes) >= 2:
                self.role = "leader"
                self.elected.append(term)
                self.heard.set()
        elif kind == "lead":
            self.role = "follower"
            self.heard.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=("0.0.0.0", PORT))
        while True:
            self.heard.clear()
            if self.role == "leader":
                self.send("lead")
                await asyncio.sleep(0.03)
                continue
            try:
                async with asyncio.timeout(random.uniform(0.1, 0.16)):
                    await self.heard.wait()
            except TimeoutError:
                self.role, self.votes = "candidate", {self.name}
                self.remember(self.term + 1, self.name)
                self.send("ask")


async def program(world: World, fixed: bool) -> None:
    elected: list[int] = []

    async def node(name: str) -> None:
        await Node(name, fixed, elected).run()

    nodes = [world.host(name, node, name) for name in NAMES]
    world.always("one election a term", lambda: len(elected) == len(set(elected)))
    await world.sleep(0.2)
    for _ in range(10):
        await world.sleep(world.tape.between("until crash", 20, 150) / 1000)
        victim = nodes[world.tape.choose("which crashes", 3)]
        victim.crash()
        await world.sleep(world.tape.between("until restart", 1, 60) / 1000)
        victim.restart()
    await world.eventually("a leader", lambda: bool(elected), within=5)
