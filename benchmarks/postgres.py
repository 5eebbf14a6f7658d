"""A PostgreSQL of our own: where its programs are, and a directory with a new database."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

INITDB_OPTIONS = ["-U", "aiopoll", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]


def binary(name: str) -> str | None:
    """Debian keeps PostgreSQL's programs out of PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(versions[-1]) if versions else None)


def unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: options for subprocess that run it as another user."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return {}


def new_database(directory: Path, **environment: str) -> Path:
    """Makes a database in the directory, which becomes the server's; returns its place.

    environment: variables that initdb has beside ours.
    """
    user = unprivileged()
    if user:
        for path in (directory, *directory.iterdir()):
            os.chown(path, user["user"], user["group"])
    data = directory / "data"
    subprocess.run(
        [str(binary("initdb")), "-D", str(data), *INITDB_OPTIONS],
        cwd=directory,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        timeout=120,
        **user,
    )
    return data


def server_command(data: Path, port: int, **settings: str) -> list[str]:
    """Starts the server of that database, on 127.0.0.1 and a socket beside the data."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(data.parent),
        "fsync": "off",
        **settings,
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(binary("postgres")), "-D", str(data), "-p", str(port), *options]
