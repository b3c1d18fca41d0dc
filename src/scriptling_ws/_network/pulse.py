"""What the system's kernel counts on one connection: facts about whether the peer lives.

Rules:

- Asking takes nothing out of the connection, and costs one system call.
- Linux tells, by TCP_INFO (tcp(7)), from 5.4 on; a Unix socket and other systems do not.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final, NamedTuple

__all__ = ["Pulse", "has_pulse", "pulse_of", "read_pulse", "taken_pulse"]

_TCP_INFO: Final[int] = getattr(socket, "TCP_INFO", 0) if sys.platform == "linux" else 0
# In Linux' struct tcp_info: state at 0, unacked at 24, bytes_acked and bytes_received at 120,
# notsent_bytes at 144, snd_wnd at 228. In milliseconds: last_data_sent at 44, last_data_recv at 52.
_INFO: Final = struct.Struct("=B23xI16xI4xI64xQQ8xI80xI")
_ENDED: Final = (7, 8)  # TCP_CLOSE and TCP_CLOSE_WAIT


class Pulse(NamedTuple):
    """What the system's kernel counts on one connection.

    Attributes:
        received: The bytes that have come, read or not.
        acknowledged: The bytes that the other end's kernel has taken.
        window: The bytes that it has room for: more of them where the peer reads.
        queued: Whether bytes were sent that it has not taken.
        ended: Whether the other end has ended its stream: what has come is all that will.
        received_ago: For how many seconds nothing has come.
        sent_ago: For how many seconds nothing has been sent.
    """

    received: int
    acknowledged: int
    window: int
    queued: bool = False
    ended: bool = False
    received_ago: float = 0.0
    sent_ago: float = 0.0


_found: list[bool] = []  # [True] once a TCP socket was found to have one: then all of them do


def has_pulse(sock: socket.socket) -> bool:
    """Whether `pulse_of` tells something of a TCP socket. The system is asked once."""
    if not _found and pulse_of(sock) is not None:
        _found.append(True)
    return bool(_found)


def pulse_of(sock: socket.socket) -> Pulse | None:
    """What the kernel has counted on a socket's connection; None where it does not tell."""
    return read_pulse(taken_pulse(sock))


def taken_pulse(sock: socket.socket) -> bytes:
    """The same for `read_pulse`, later; b"" where the kernel does not tell."""
    if not _TCP_INFO:
        return b""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO.size)
    except OSError as error:
        if error.errno is None:
            raise  # a signal handler's, such as TimeoutError
        return b""  # not TCP, or closed


def read_pulse(info: bytes) -> Pulse | None:
    """What `taken_pulse` has found; None if that is nothing."""
    if len(info) < _INFO.size:
        return None  # nothing, or a Linux before 5.4
    state, unacknowledged, went, came, *counts = _INFO.unpack(info)
    acknowledged, received, unsent, window = counts
    queued = bool(unacknowledged or unsent)
    ago = came / 1000, went / 1000
    return Pulse(received, acknowledged, window, queued, state in _ENDED, *ago)
