"""What systemd and a service say to each other: sockets that are passed, and how the service is.

Rules (sd_listen_fds(3), sd_notify(3)):

- Sockets are passed from descriptor 3 on, LISTEN_FDS of them, to the process LISTEN_PID alone: a
  child inherits the variables, and ignores them. Their names (LISTEN_FDNAMES) are ignored.
- They are taken once; then the variables are removed.
- What is told is one datagram to NOTIFY_SOCKET, a path, or `@` and an abstract name. Without that
  variable nothing is sent. A message that cannot be sent ends nothing: it has a line in the log.
- RELOADING comes with the clock by which systemd (from 253 on) knows which reload it was.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Final

__all__ = ["forget", "notify", "notify_ready", "notify_reloading", "notify_stopping", "passed"]

_logger = logging.getLogger("scriptling_ws.server")

_UNIX: Final[int] = getattr(socket, "AF_UNIX", -1)
_FIRST: Final = 3
_PASSED: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_PATIENCE: Final = 1.0  # seconds for a datagram, where its queue is full


def passed() -> list[int]:
    """The descriptors that were passed to this process; none the second time.

    Raises:
        ValueError: the variables are malformed.
    """
    process, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    if process is None or count is None:
        return []
    if not (process.isdecimal() and count.isdecimal()):
        raise ValueError(
            f"LISTEN_PID={process!r} and LISTEN_FDS={count!r} have to be numbers, as of systemd"
        )
    if int(process) != os.getpid():
        return []
    for name in _PASSED:
        os.environ.pop(name, None)
    return list(range(_FIRST, _FIRST + int(count)))


def notify(message: str) -> None:
    """Tell the service manager, if there is one. Blocks for a second at the longest.

    Args:
        message: Lines of `NAME=value`.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or _UNIX < 0:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PATIENCE)
            sock.sendto(message.encode(), address)
    except OSError as error:
        _logger.warning("the service manager cannot be told %r: %s", message, error)


def notify_ready(status: str) -> None:
    """Say that the service has started, or has reloaded.

    Args:
        status: A line for those who ask for its state.
    """
    notify(f"READY=1\nSTATUS={status}")


def notify_reloading() -> None:
    """Say that the service reloads; `notify_ready` is to follow."""
    clock = time.monotonic_ns() // 1000  # CLOCK_MONOTONIC, as systemd reads it
    notify(f"RELOADING=1\nMONOTONIC_USEC={clock}\nSTATUS=reloading")


def notify_stopping() -> None:
    """Say that the service ends."""
    notify("STOPPING=1\nSTATUS=closing the connections")


def forget() -> None:
    """In a process that is not the service's main one: have nothing to say, nor its children."""
    for name in ("NOTIFY_SOCKET", *_PASSED):
        os.environ.pop(name, None)
