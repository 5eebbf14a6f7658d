"""A workload: its program, its client, and its size in the tests."""

import argparse
import importlib
import importlib.util
import pkgutil
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import files, native, workloads
from benchmarks.implementations import LOOPS, WAYS

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Client:
    """Options of benchmarks/c/client.c."""

    connections: int = 1
    idle: int = 0
    request_bytes: int = 64
    answer_bytes: int = 0  # 0: as many as the request has
    http_path: str | None = None
    http_body: str = "Hello, world!"  # what the answer ends with
    reconnect: bool = False
    tls: bool = False

    def command(self, address: str) -> list[str]:
        command = [native.client(tls=self.tls), "--address", address]
        command += ["--connections", str(self.connections), "--idle", str(self.idle)]
        command += ["--request-bytes", str(self.request_bytes)]
        command += ["--answer-bytes", str(self.answer_bytes)]
        if self.http_path:
            command += ["--http", self.http_path, "--body", self.http_body]
        return command + ["--reconnect"] * self.reconnect + ["--tls"] * self.tls


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A program of benchmarks/workloads, with its options, and the client that drives it.

    Without a client the program measures its own work (benchmarks/program.py, `measure`).
    """

    name: str
    title: str
    program: str
    options: tuple[str, ...] = ()
    implementations: tuple[str, ...] = LOOPS
    client: Client | None = None
    unit: str = "request"
    metric: str = "rate"  # its own metric; slower means slower by this
    small_options: tuple[str, ...] = ()
    small_operations: int = 100
    needs: str | None = None  # a module beyond the implementations' own
    executable: str | None = None  # likewise; its Debian package is called the same
    children: bool = False  # whether the program's own processes are counted with it
    alone: bool = False  # one long sample a round, with no other process beside it

    def command(self, implementation: str) -> list[str]:
        """How the program is started; where it is a server it prints `ready ADDRESS`."""
        if implementation in WAYS:
            address = "udp:127.0.0.1:0" if self.program == "udp" else "tcp:127.0.0.1:0"
            if "--unix" in self.options:
                address = f"unix:{native.socket_path()}"
            way = implementation.replace("c-", "--", 1)
            return [native.echo_server(), way, *self._native_options(), address]
        module = f"benchmarks.workloads.{self.program}"
        return [sys.executable, "-m", module, "--implementation", implementation, *self.options]

    def _native_options(self) -> list[str]:
        """The program's options as benchmarks/c/echo_server.c takes them."""
        given = argparse.ArgumentParser()
        given.add_argument("--mib", type=int)
        given.add_argument("--timers", default="0")
        chosen, _ = given.parse_known_args(self.options)
        options = ["--timers", chosen.timers]
        if chosen.mib:
            options += ["--file", str(files.data_file("reads", chosen.mib))]
        return options

    def small(self) -> "Workload":
        """The same with few connections; `small_operations` is how much it has to do."""
        client = self.client and replace(self.client, connections=4, idle=min(20, self.client.idle))
        return replace(self, client=client, options=(*self.options, *self.small_options))

    def missing(self, implementation: str) -> str | None:
        """Why it cannot be run here on an implementation that can; None if it can."""
        if self.needs and not importlib.util.find_spec(self.needs):
            return f"{self.needs} is not installed: it is in the dependency group bench"
        if self.executable and not shutil.which(self.executable):
            return f"{self.executable} is not there: apt-get install {self.executable}"
        try:
            if self.client:
                native.client(tls=self.client.tls)
            if self.client and self.client.tls:
                native.certificate()
            if implementation in WAYS:
                native.echo_server()
        except native.CannotBuild as error:
            return str(error)
        return None


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def all_workloads() -> list[Workload]:
    """Those of every module of benchmarks/workloads, in the order of their files' names."""
    found: list[Workload] = []
    for info in pkgutil.iter_modules(workloads.__path__):
        module = importlib.import_module(f"benchmarks.workloads.{info.name}")
        found += getattr(module, "WORKLOADS", [])
    return found
