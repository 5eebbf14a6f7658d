"""crypto/{af_alg,algif_hash,algif_skcipher}.c: cryptography behind sockets.

Facts: a socket bound to ("hash" or "skcipher", name) is an algorithm; accept returns an operation
on it. A hash takes data (MSG_MORE: not yet the last) and is read once for the digest. A cipher
takes an operation and an IV as control data, and plaintext or ciphertext. It returns as much as it
was sent, in whole blocks. Before the series a cipher was polled for room and data; after the
conversion (V3) `poll_mask` reports these. A hash never was pollable: it has no `poll_mask` and its
head is None.

Rule: hashlib and the `cryptography` package do the arithmetic; an algorithm that they lack, or a
missing package, is ENOENT, as for a module that is not built.
Left out: AEAD, RNG, zero-copy, asynchronous drivers, keys longer than the algorithm's.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import socket
from typing import Any

from ..net.socket import Address, MsgHdr, Net, ProtoOps, Sock
from ..uapi import (
    AF_ALG,
    ALG_SET_KEY,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    MSG_MORE,
    PAGE_SIZE,
    error,
)

ALG_OP_DECRYPT = 0
ALG_OP_ENCRYPT = 1
HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
CIPHERS = ("cbc(aes)", "ctr(aes)", "ecb(aes)")
BLOCK = 16


class AlgSock(Sock):
    """struct alg_sock: an algorithm, or after accept one operation on it."""

    def __init__(self, net: Net, ops: ProtoOps, family: int, kind: int, protocol: int) -> None:
        super().__init__(net, ops, family, kind, protocol)
        self.kind = ""
        self.name = ""
        self.key: bytes | None = None
        self.parent: AlgSock | None = None
        # An operation: the data so far, whether more follows, and the running state.
        self.pending = b""
        self.more = False
        self.hash: Any = None
        self.digest: bytes | None = None
        self.cipher: Any = None
        self.iv: bytes = bytes(BLOCK)
        self.op = ALG_OP_ENCRYPT


def alg_create(net: Net, family: int, kind: int, protocol: int) -> Sock:
    if protocol != 0:
        raise error(errno.EPROTONOSUPPORT)
    return AlgSock(net, alg_proto_ops, family, kind, protocol)


def check_key(sk: AlgSock) -> bytes:
    """Return the key of an operation, which its algorithm may have got after accept. ENOKEY."""
    if sk.key is None and sk.parent is not None:
        sk.key = sk.parent.key
    if sk.key is None:
        raise error(errno.ENOKEY)
    return sk.key


def new_hash(sk: AlgSock) -> Any:
    if sk.name.startswith("hmac("):
        return hmac.new(check_key(sk), digestmod=sk.name[5:-1])
    return hashlib.new(sk.name)


def new_cipher(sk: AlgSock) -> Any:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    mode: Any = {
        "cbc(aes)": lambda: modes.CBC(sk.iv),
        "ctr(aes)": lambda: modes.CTR(sk.iv),
        "ecb(aes)": modes.ECB,
    }[sk.name]()
    cipher = Cipher(algorithms.AES(check_key(sk)), mode)
    return cipher.encryptor() if sk.op == ALG_OP_ENCRYPT else cipher.decryptor()


def have_cryptography() -> bool:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        return False
    return True


def alg_bind(sk: AlgSock, address: Address) -> None:
    kind, name = address[0], address[1]
    inner = name[5:-1] if name.startswith("hmac(") else name
    if kind == "hash" and inner in HASHES:
        pass
    elif not (kind == "skcipher" and name in CIPHERS and have_cryptography()):
        raise error(errno.ENOENT)
    sk.kind, sk.name = kind, name


def alg_setsockopt(sk: AlgSock, level: int, option: int, value: Any) -> bool:
    """Set the key, for ALG_SET_KEY. EINVAL for a length that the algorithm does not have."""
    if level != socket.SOL_ALG:
        return False
    if option != ALG_SET_KEY or not sk.kind:
        raise error(errno.ENOPROTOOPT)
    if sk.kind == "skcipher" and len(value) not in (16, 24, 32):
        raise error(errno.EINVAL)
    sk.key = bytes(value)
    return True


def alg_accept(sk: AlgSock, nowait: bool) -> AlgSock:
    if not sk.kind:
        raise error(errno.EINVAL)
    ops = algif_hash_ops if sk.kind == "hash" else algif_ops
    child = AlgSock(sk.net, ops, sk.family, sk.type, sk.protocol)
    child.kind, child.name, child.key, child.parent = sk.kind, sk.name, sk.key, sk
    child.sndbuf = 16 * PAGE_SIZE
    return child


def alg_getname(sk: AlgSock, peer: int) -> Address:
    return None if peer else (sk.kind, sk.name)


def hash_sendmsg(sk: AlgSock, data: bytes, flags: int, address: Address, nowait: bool) -> int:
    if not sk.more:
        sk.hash = new_hash(sk)
        sk.digest = None
    sk.hash.update(data)
    sk.more = bool(flags & MSG_MORE)
    if not sk.more:
        sk.digest = sk.hash.digest()
    return len(data)


def hash_recvmsg(
    sk: AlgSock, count: int, flags: int, nowait: bool, msg: MsgHdr | None
) -> tuple[bytes, Address]:
    digest, sk.digest = sk.digest, None
    if digest is None:
        # Reading ends an unfinished message; without any it returns the digest of no bytes.
        if not sk.more:
            sk.hash = new_hash(sk)
        digest = sk.hash.digest()
        sk.more = False
    return digest[:count], None


def set_operation(sk: AlgSock, op: int, iv: bytes | None) -> None:
    """Take the control data ALG_SET_OP and ALG_SET_IV of a message. EINVAL."""
    if op not in (ALG_OP_ENCRYPT, ALG_OP_DECRYPT) or (iv is not None and len(iv) != BLOCK):
        raise error(errno.EINVAL)
    sk.op = op
    if iv is not None:
        sk.iv = iv
    sk.cipher = None


def skcipher_sendmsg(sk: AlgSock, data: bytes, flags: int, address: Address, nowait: bool) -> int:
    check_key(sk)
    if not sk.more and sk.pending:
        # The message before is complete and has to be read first.
        raise error(errno.EINVAL)
    if address is not None:
        set_operation(sk, *address)
    while len(sk.pending) >= sk.sndbuf:
        if nowait:
            raise error(errno.EAGAIN)
        sk.wait(lambda: len(sk.pending) < sk.sndbuf, sk.sndtimeo_ns)
    part = data[: sk.sndbuf - len(sk.pending)]
    sk.pending += part
    sk.more = bool(flags & MSG_MORE)
    sk.data_ready()
    return len(part)


def skcipher_recvmsg(
    sk: AlgSock, count: int, flags: int, nowait: bool, msg: MsgHdr | None
) -> tuple[bytes, Address]:
    check_key(sk)
    while not _usable(sk, count):
        if not sk.more and sk.pending:
            # The last block is not whole.
            raise error(errno.EINVAL)
        if nowait:
            raise error(errno.EAGAIN)
        sk.wait(lambda: bool(_usable(sk, count)) or not sk.more, sk.rcvtimeo_ns)
    size = _usable(sk, count)
    if sk.cipher is None:
        sk.cipher = new_cipher(sk)
    taken, sk.pending = sk.pending[:size], sk.pending[size:]
    result: bytes = sk.cipher.update(taken)
    sk.write_space()
    return result, None


def _usable(sk: AlgSock, count: int) -> int:
    """Return how much can be worked on now: whole blocks, but for the end of a stream cipher."""
    size = min(len(sk.pending), count)
    if sk.name == "ctr(aes)" and not sk.more:
        return size
    return size // BLOCK * BLOCK


def algif_poll_mask(sk: AlgSock, events: int) -> int:
    mask = 0
    if not sk.more or sk.pending:
        mask |= EPOLLIN | EPOLLRDNORM
    if len(sk.pending) < sk.sndbuf:
        mask |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND
    return mask


alg_proto_ops: ProtoOps = ProtoOps(
    bind=alg_bind, accept=alg_accept, getname=alg_getname, setsockopt=alg_setsockopt
)
algif_hash_ops: ProtoOps = ProtoOps(sendmsg=hash_sendmsg, recvmsg=hash_recvmsg, getname=alg_getname)
algif_ops: ProtoOps = ProtoOps(
    sendmsg=skcipher_sendmsg,
    recvmsg=skcipher_recvmsg,
    getname=alg_getname,
    poll_mask=algif_poll_mask,
)


def alg_init(net: Net) -> None:
    net.create[AF_ALG, socket.SOCK_SEQPACKET] = alg_create
