"""Files to wait for, TLS, children that cannot hang, and threads that are known to wait."""

import datetime
import ipaddress
import os
import select
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiopoll import Context

CHILD_SECONDS_MAX = 30


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """An empty pipe, non-blocking; the test may close its ends."""
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


@pytest.fixture
def eventfd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection: out-of-band data needs TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield client, server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for localhost, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_context(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@pytest.fixture
def plain_file(tmp_path: Path) -> Iterator[int]:
    """A regular file that holds `0123456789`, open for reading and writing."""
    path = tmp_path / "plain"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def in_child() -> Callable[[Callable[[], object]], str]:
    """Calls a function in a forked child and answers what it returned or raised, as text."""

    def call(function: Callable[[], object]) -> str:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                try:
                    answer = repr(function())
                except Exception as error:
                    answer = f"{type(error).__name__}: {error}"
                os.write(writer, answer.encode())
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writer)
        try:
            poller = select.poll()
            poller.register(reader, select.POLLIN)
            if not poller.poll(CHILD_SECONDS_MAX * 1000):
                os.kill(pid, 9)
                pytest.fail("the child hangs")
            answer = os.read(reader, 65536).decode()
        finally:
            os.close(reader)
            _, status = os.waitpid(pid, 0)
        assert status == 0, f"the child ended with status {status}"
        return answer

    return call


class Waiter(threading.Thread):
    """A thread that has taken over a Context and is inside one call of it."""

    def __init__(self, context: Context, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.context, self.call = context, call
        self.answer: object = None
        self.error: BaseException | None = None
        self.start()
        while self.is_alive():
            # Answered by the guards in this order: in use, then another thread's.
            try:
                context.events_pending()
            except RuntimeError as error:
                if "in use" in str(error):
                    break
            os.sched_yield()

    def run(self) -> None:
        try:
            self.context.adopt()
            self.answer = self.call()
        except BaseException as error:
            self.error = error

    def finish(self) -> object:
        """The call's result; raises what it raised."""
        self.join(CHILD_SECONDS_MAX)
        assert not self.is_alive(), "the thread hangs"
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.fixture
def waiter() -> type[Waiter]:
    return Waiter
