"""The floor of openings on gevent: a greenlet a connection, which answers upgrades by a template.

It looks at nothing but the key, sends a Close back, and ends.  It knows no messages.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.socket import socket

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = b"sec-websocket-key:"
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)
CLOSE = b"\x88\x02\x03\xe8"


def answer(connection: socket, _address: object) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (data := connection.recv(4096)):
            return
        head += data
    start = head.lower().index(KEY) + len(KEY)
    key = head[start : head.index(b"\r\n", start)].strip()
    connection.sendall(ANSWER % base64.b64encode(hashlib.sha1(key + GUID).digest()))
    if connection.recv(4096):
        connection.sendall(CLOSE)
    connection.close()


def serve(announce: Callable[[int], None]) -> None:
    """Serve with a greenlet for each connection."""
    from gevent.server import StreamServer

    server = StreamServer(("127.0.0.1", 0), answer, backlog=1024)
    server.start()
    announce(server.server_port)
    server.serve_forever()
