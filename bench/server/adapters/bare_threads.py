"""The floor: a thread for each connection that sends back what it receives, and knows no frames.

A server that has a thread for each connection, in Python, and looks at what it receives cannot
be faster by doing the same system calls; it can be faster by waiting for the GIL in
another way.  It answers the upgrade and the Close as everything else, and the load knows that.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVE_SIZE = 4096


def echo(connection: socket.socket) -> None:
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        receive, send = connection.recv, connection.sendall
        while data := receive(RECEIVE_SIZE):
            send(data)


def serve(announce: Callable[[int], None]) -> None:
    """Serve."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    announce(listening.getsockname()[1])
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()
