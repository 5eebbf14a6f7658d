"""tools/vm.py: what it gives to the machine, as far as it can be seen without one."""

import lzma
import re
import struct
import zlib
from pathlib import Path

from tests.conftest import CORE
from tools import vm

ROOT = Path(__file__).parents[2]


def module(*depends: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + ",".join(depends).encode() + b"\0retpoline=Y\0"


def test_modules_come_behind_those_they_depend_on(tmp_path: Path) -> None:
    (tmp_path / "fs" / "net").mkdir(parents=True)
    (tmp_path / "fs" / "9p.ko").write_bytes(module("netfs", "9pnet"))
    (tmp_path / "fs" / "ext4.ko.xz").write_bytes(lzma.compress(module("jbd2", "crc16")))
    (tmp_path / "fs" / "net" / "9pnet.ko").write_bytes(module())
    (tmp_path / "fs" / "jbd2.ko.xz").write_bytes(lzma.compress(module()))
    (tmp_path / "fs" / "virtio-blk.ko").write_bytes(module())
    (tmp_path / "fs" / "xfs.ko").write_bytes(module())
    found = vm.in_order(tmp_path)
    assert list(found) == ["virtio_blk", "9pnet", "9p", "jbd2", "ext4"]
    assert found["ext4"] == module("jbd2", "crc16"), "it is not unpacked"


def test_a_packed_arm64_kernel_is_unpacked() -> None:
    kernel = b"MZ\0\0 the kernel" * 100
    assert vm.bootable(kernel) == kernel
    packed = zlib.compress(kernel, wbits=31)
    header = struct.pack("<2s2x4sII8x32s", b"MZ", b"zimg", 64, len(packed), b"gzip")
    assert vm.bootable(header.ljust(64, b"\0") + packed + bytes(7)) == kernel


def test_the_initramfs_is_a_cpio_archive() -> None:
    made = vm.archive({"bin/busybox": b"12345", "init": b"#!"})
    found, at = {}, 0
    while at < len(made):
        assert made[at : at + 6] == b"070701"
        mode, size, length = (int(made[at + i : at + i + 8], 16) for i in (14, 54, 94))
        name = made[at + 110 : at + 110 + length].rstrip(b"\0").decode()
        at += (110 + length + 3) & ~3
        found[name] = (oct(mode), made[at : at + size])
        at += (size + 3) & ~3
    assert found == {
        "bin": ("0o40755", b""),
        "bin/busybox": ("0o100755", b"12345"),
        "init": ("0o100755", b"#!"),
        "TRAILER!!!": ("0o0", b""),
    }


def test_the_core_is_what_make_runs_and_what_is_marked() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    line = re.compile(r"^VM_TESTS := -m vm \$\(addprefix tests/,([\w ]+)\)$", re.MULTILINE)
    match = line.search(makefile)
    assert match is not None
    assert match[1].split() == list(CORE)
