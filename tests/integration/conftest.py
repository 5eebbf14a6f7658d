"""Loops, certificates and child processes for the tests with real programs."""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from .children import Child
from .harness import BACKENDS


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """start(command, env) starts a Child; each is dead after the test, whatever it did."""
    children: list[Child] = []

    def start(*arguments: Any, **options: Any) -> Child:
        children.append(Child(*arguments, **options))
        return children[-1]

    yield start
    for child in children:
        child.kill()


@dataclass(frozen=True)
class Tls:
    """A certificate for localhost and 127.0.0.1, both ends' contexts, and the files of them."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    certificate: Path
    key: Path
    authority: Path


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    files = [directory / name for name in ("certificate.pem", "key.pem", "authority.pem")]
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(str(files[0]), append=number > 0)
    certificate.private_key_pem.write_to_path(str(files[1]))
    authority.cert_pem.write_to_path(str(files[2]))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Tls(server, client, *files)
