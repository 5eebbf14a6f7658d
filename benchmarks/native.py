"""Compiles the programs of benchmarks/c, once, into build/bench."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "benchmarks" / "c"
HEADERS = ROOT / "src" / "aiopoll" / "aio" / "c"
BUILD = ROOT / "build" / "bench"


class CannotBuild(Exception):
    """A program of benchmarks/c, or a certificate, cannot be made; the text states the cause."""


@functools.cache
def compiled(source: str, name: str, *flags: str) -> str:
    """The path of the program; built where it is not there or older than its source.

    Raises CannotBuild with the cause.
    """
    path, program = SOURCES / source, BUILD / name
    if program.exists() and program.stat().st_mtime >= path.stat().st_mtime:
        return str(program)
    compiler = os.environ.get("CC", "gcc")
    if not shutil.which(compiler):
        raise CannotBuild(f"{compiler} is not there: apt-get install gcc")
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=BUILD, delete=False) as unfinished:
        pass
    command = [compiler, "-O2", "-Wall", "-Wextra", "-I", str(HEADERS), str(path)]
    done = subprocess.run(
        [*command, "-o", unfinished.name, *flags], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        os.unlink(unfinished.name)
        if "openssl/" in done.stderr:
            raise CannotBuild("OpenSSL's headers are not there: apt-get install libssl-dev")
        raise CannotBuild(f"{source} does not compile: {done.stderr}")
    os.chmod(unfinished.name, 0o755)
    os.replace(unfinished.name, program)
    return str(program)


def client(*, tls: bool = False) -> str:
    if tls:
        return compiled("client.c", "client-tls", "-DWITH_TLS", "-lssl", "-lcrypto")
    return compiled("client.c", "client")


def echo_server() -> str:
    return compiled("echo_server.c", "echo_server", "-pthread")


def socket_path() -> str:
    """A name for a Unix socket that nothing has yet, short enough for sun_path."""
    return os.path.join(tempfile.mkdtemp(prefix="aiopoll-bench-"), "socket")


def certificate() -> str:
    """A self-signed certificate for localhost and its key, in one file."""
    path = BUILD / "localhost.pem"
    if not path.exists():
        if not shutil.which("openssl"):
            raise CannotBuild("openssl is not there: apt-get install openssl")
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            key, certificate = Path(folder, "key"), Path(folder, "certificate")
            command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "3650"]
            command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]
            subprocess.run(
                [*command, "-keyout", str(key), "-out", str(certificate)],
                check=True,
                capture_output=True,
            )
            both = Path(folder, "both")
            both.write_bytes(key.read_bytes() + certificate.read_bytes())
            os.replace(both, path)
    return str(path)
