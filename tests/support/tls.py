"""Certificates and contexts for localhost."""

import ssl
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Pem:
    """What openssl(1) has written; with trustme's methods."""

    def __init__(self, text: str) -> None:
        self.text = text

    def write_to_path(self, path: Path) -> None:
        path.write_text(self.text, encoding="ascii")


class Certificate:
    """A certificate with its key, and with trustme's methods."""

    def __init__(self, private_key_and_certificates: str) -> None:
        self.private_key_and_cert_chain_pem = Pem(private_key_and_certificates)

    def configure_cert(self, context: ssl.SSLContext) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "chain.pem")
            self.private_key_and_cert_chain_pem.write_to_path(path)
            context.load_cert_chain(path)


class Authority:
    """openssl(1), with trustme's methods; trustme's cryptography has no build for some Pythons."""

    def __init__(self) -> None:
        subject = ("-x509", "-subj", "/CN=authority of tests", "-days", "30")
        usage = ("-addext", "keyUsage=critical,keyCertSign")
        self.key, certificate = self.openssl("req", *KEY, *subject, *usage)
        self.cert_pem = Pem(certificate)

    def openssl(self, *command: str) -> tuple[str, str]:
        """The key and the certificate that it makes."""
        with tempfile.TemporaryDirectory() as folder:
            key, made = Path(folder, "key.pem"), Path(folder, "made.pem")
            command = ("openssl", *command, "-keyout", str(key), "-out", str(made))
            subprocess.run(command, check=True, capture_output=True)
            return key.read_text("ascii"), made.read_text("ascii")

    def issue_cert(self, *names: str) -> Certificate:
        alternatives = [f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in names]
        with tempfile.TemporaryDirectory() as folder:
            authority = Path(folder, "authority.pem")
            authority.write_text(self.key + self.cert_pem.text, encoding="ascii")
            key, certificate = self.openssl(
                *("req", *KEY, "-x509", "-days", "30", "-subj", f"/CN={names[0]}"),
                *("-CA", str(authority), "-CAkey", str(authority)),
                *("-addext", f"subjectAltName={','.join(alternatives)}"),
                *("-addext", "basicConstraints=critical,CA:FALSE"),
            )
        return Certificate(key + certificate)

    def configure_trust(self, context: ssl.SSLContext) -> None:
        context.load_verify_locations(cadata=self.cert_pem.text)


def new_authority() -> Any:
    """A trustme.CA, or what does the same."""
    try:
        import trustme
    except ImportError:
        return Authority()
    return trustme.CA()


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
