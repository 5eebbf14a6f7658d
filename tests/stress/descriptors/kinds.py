"""Every kind of operation."""

from . import (
    datagram_transports,
    files,
    pipes,
    processes,
    sendfiles,
    servers,
    sock_calls,
    stream_transports,
    tls_transports,
    watchers,
)
from .operation import Operation

KINDS: list[type[Operation]] = [
    *sock_calls.OPERATIONS,
    *stream_transports.OPERATIONS,
    *tls_transports.OPERATIONS,
    *datagram_transports.OPERATIONS,
    *pipes.OPERATIONS,
    *servers.OPERATIONS,
    *sendfiles.OPERATIONS,
    *processes.OPERATIONS,
    *files.OPERATIONS,
    *watchers.OPERATIONS,
]


def kinds_on(loop_kind: str) -> list[type[Operation]]:
    """The kinds that a loop is judged by."""
    return [kind for kind in KINDS if loop_kind not in kind.not_on]
