"""The manifest of the key-value server's log: the list of its segments.

A log begins where its oldest segment was given up, and ends where the newest was begun.  A segment
does not show that one before or after it is lost, so a file beside them lists all.

It is replaced as a whole, by a rename: before a segment is given up, and after one is made.  Dying
in between leaves one segment that it does not name, the one before its first or after its last.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

MAGIC = b"aiopolmf"
MANIFEST = struct.Struct("<8sQQQ")  # magic, first and last segment, sequence number
CHECKSUM = struct.Struct("<I")


class Damaged(Exception):
    """The log has lost acknowledged records."""


class Manifest(NamedTuple):
    """sequence: that of the first batch in the first segment."""

    first: int
    last: int
    sequence: int


def encode_manifest(manifest: Manifest) -> bytes:
    data = MANIFEST.pack(MAGIC, *manifest)
    return data + CHECKSUM.pack(zlib.crc32(data))


def decode_manifest(data: bytes) -> Manifest:
    if len(data) != MANIFEST.size + CHECKSUM.size:
        raise Damaged(f"it ends at {len(data)}")
    magic, *numbers = MANIFEST.unpack_from(data)
    (checksum,) = CHECKSUM.unpack_from(data, MANIFEST.size)
    if magic != MAGIC or checksum != zlib.crc32(data[: MANIFEST.size]):
        raise Damaged("it is not what was written")
    return Manifest(*numbers)


def path_of(directory: Path) -> Path:
    return directory / "manifest"


def read_manifest(directory: Path) -> Manifest | None:
    """The directory's manifest; None if it has none."""
    path = path_of(directory)
    try:
        return decode_manifest(path.read_bytes())
    except FileNotFoundError:
        return None
    except Damaged as error:
        raise Damaged(f"{path}: {error}") from None


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replaces the manifest; it is on the device when this returns."""
    path = path_of(directory)
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(encode_manifest(manifest))
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    sync_directory(directory)


def make_directory(directory: Path) -> None:
    """Makes the directory and its parents; their names are on the device when this returns."""
    directory = directory.absolute()
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
    # The directory's own name too where it was there: its maker may have died before this.
    for path in missing or [directory]:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
