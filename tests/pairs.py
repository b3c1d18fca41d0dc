"""Connections over socket pairs, without an opening handshake, and raw peers for them."""

import base64
import contextlib
import hashlib
import os
import re
import socket
import struct

from wsproto.connection import Connection as WSProtoConnection
from wsproto.connection import ConnectionType

from scriptling_ws._connection import Connection
from scriptling_ws._options import Options
from scriptling_ws._transport import Transport

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def tcp_pair():
    """Two connected TCP sockets on the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


def connection(sock, *, client=True, received=b"", **options):
    """An open Connection over a connected socket."""
    kind = ConnectionType.CLIENT if client else ConnectionType.SERVER
    return Connection(
        Transport(sock),
        WSProtoConnection(kind),
        client=client,
        options=Options(**options),
        received=received,
    )


@contextlib.contextmanager
def raw_peer(*, client=True, **options):
    """A Connection, and the plain socket of its peer."""
    near, far = tcp_pair()
    far.settimeout(10)
    conn = connection(near, client=client, **options)
    try:
        yield conn, far
    finally:
        far.close()
        conn.close()


@contextlib.contextmanager
def both_ends(**options):
    """Two Connections that are each other's peer: client and server."""
    near, far = tcp_pair()
    client = connection(near, client=True, **options)
    server = connection(far, client=False, **options)
    try:
        yield client, server
    finally:
        client._abort()
        client.close()
        server.close()


def frame(opcode, payload=b"", *, fin=True, mask=False, rsv=0):
    """A frame as RFC 6455 section 5.2 draws it, written out by hand."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        header = struct.pack("!BB", first, bit | len(payload))
    elif len(payload) < 65536:
        header = struct.pack("!BBH", first, bit | 126, len(payload))
    else:
        header = struct.pack("!BBQ", first, bit | 127, len(payload))
    if not mask:
        return header + payload
    key = os.urandom(4)
    whole = key * (len(payload) // 4 + 1)
    masked = bytes(a ^ b for a, b in zip(payload, whole, strict=False))
    return header + key + masked


def receive_exactly(sock, size):
    """Exactly `size` bytes from a socket."""
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"the stream ended after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


def receive_frame(sock):
    """One frame from a socket, unmasked: (first byte, payload)."""
    first, second = receive_exactly(sock, 2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", receive_exactly(sock, 2))
    elif size == 127:
        (size,) = struct.unpack("!Q", receive_exactly(sock, 8))
    key = receive_exactly(sock, 4) if second & 0x80 else None
    payload = receive_exactly(sock, size)
    if key is not None:
        whole = key * (size // 4 + 1)
        payload = bytes(a ^ b for a, b in zip(payload, whole, strict=False))
    return first, payload


def receive_to_end(sock):
    """Everything until the peer closes; b"" also after a reset."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            data += piece
    return bytes(data)


def accept_token(request):
    """What a server answers to a client's key (RFC 6455 section 4.2.2)."""
    key = re.search(rb"(?i)\r\nsec-websocket-key: *(\S+)\r\n", request)[1]
    return base64.b64encode(hashlib.sha1(key + _MAGIC).digest()).decode()


def upgrade_answer(request, *lines, version="HTTP/1.1", **changes):
    """The head that accepts a client's upgrade; `Upgrade=None` leaves a header out."""
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_token(request),
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    rows = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    head = [f"{version} 101 Switching Protocols", *rows, *lines, "", ""]
    return "\r\n".join(head).encode("latin-1")


def receive_head(sock):
    """An HTTP head with its blank line from a socket."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        assert piece, f"the stream ended after {data!r}"
        data += piece
    return data
