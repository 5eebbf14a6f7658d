"""Certificates and contexts for localhost."""

import ssl
from functools import cache
from typing import Any

import pytest

TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def new_authority() -> Any:
    """A trustme.CA; skips the test where its cryptography has no build for this Python."""
    return pytest.importorskip("trustme", reason="skips.toml: no trustme").CA()


@cache
def tls_contexts(version: str = "1.3") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server that is localhost, and of a client that trusts it."""
    authority = new_authority()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    client.maximum_version = client.minimum_version = TLS_VERSIONS[version]
    return server, client
