"""The floor: a bare socket that moves the same bytes, and looks at none of them.

Frames to send are constants, masked beforehand; received bytes are counted until the
known number has come.  No library that checks what it receives can be faster by doing
the same system calls; it can be faster by doing fewer.
"""

# ruff: noqa: D102 - base.Adapter says what the methods do

from __future__ import annotations

import base64
import functools
import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from .base import TIMEOUT, Endpoint, to_json

if TYPE_CHECKING:
    import ssl

RECEIVE_SIZE = 256 * 1024  # the fastest size here: one that stays in the cache
CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"  # 1000, masked with zeros
CLOSE_REPLY_SIZE = 4


def header_size(size: int) -> int:
    """The size of an unmasked frame's header."""
    return 2 if size < 126 else 4 if size < 65536 else 10


@functools.lru_cache(maxsize=8)
def masked_frame(message: str | bytes) -> bytes:
    """One frame, as a client sends it."""
    payload = message.encode() if isinstance(message, str) else message
    first = 0x81 if isinstance(message, str) else 0x82
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65536:
        head = bytes([first, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0xFF]) + size.to_bytes(8, "big")
    key = b"\x5a\x17\xc3\x88"
    pattern = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")
    return head + key + masked.to_bytes(size, "big")


def flood_message_size(query: str) -> int:
    """How many bytes a message of a flood has on the wire."""
    values = {name: int(value[0]) for name, value in parse_qs(query).items()}
    size, fragments = values.get("size", 64), values.get("fragments", 1)
    each = size // fragments
    last = size - each * (fragments - 1)
    return (fragments - 1) * (header_size(each) + each) + header_size(last) + last


def dial(endpoint: Endpoint) -> socket.socket:
    parts = urlsplit(endpoint.url)
    assert parts.hostname is not None
    assert parts.port is not None
    bare = socket.create_connection((parts.hostname, parts.port), TIMEOUT)
    bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context := endpoint.tls():
        bare = context.wrap_socket(bare, server_hostname=parts.hostname)
    key = base64.b64encode(os.urandom(16)).decode()
    bare.sendall(
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += bare.recv(4096)
    # Without a timeout, a call is one system call; with one, Python polls first.
    bare.settimeout(None)
    return bare


def hang_up(bare: socket.socket) -> None:
    bare.sendall(CLOSE)
    while bare.recv(4096):
        pass
    bare.close()


class BareSocket:
    """A socket, or an ssl.SSLSocket."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._message_size = flood_message_size(urlsplit(endpoint.url).query)
        self.connection: socket.socket | ssl.SSLSocket = dial(endpoint)
        self.close = lambda: hang_up(self.connection)

    @classmethod
    def connect_and_close(cls, endpoint: Endpoint, count: int) -> None:
        for _ in range(count):
            hang_up(dial(endpoint))

    def echo(self, message: str | bytes, count: int) -> Any:
        frame = masked_frame(message)
        size = len(frame) - 4
        reply = bytearray(size)
        view = memoryview(reply)
        send, receive = self.connection.sendall, self.connection.recv_into
        for _ in range(count):
            send(frame)
            got = receive(view)
            while got < size:
                got += receive(view[got:])
        payload = bytes(reply[-len(message) :])
        return payload.decode() if isinstance(message, str) else payload

    def echo_list(self, values: list[int], count: int) -> list[int]:
        return list(self.echo(bytes(values), count))

    def echo_dict(self, value: dict[str, Any], count: int) -> str:
        reply: str = self.echo(to_json(value), count)
        return reply

    def receive(self, count: int) -> None:
        buffer = bytearray(RECEIVE_SIZE)
        receive = self.connection.recv_into
        self.connection.sendall(masked_frame(str(count)))
        left = count * self._message_size
        while left > 0:
            got = receive(buffer)
            if not got:
                raise RuntimeError("the flood stopped early")
            left -= got

    def receive_kept(self, count: int) -> bytearray:
        """The same, into memory of its own for each message, as a library has to."""
        size = self._message_size
        receive = self.connection.recv_into
        self.connection.sendall(masked_frame(str(count)))
        for _ in range(count):
            message = bytearray(size)
            view, got = memoryview(message), 0
            while got < size:
                got += receive(view[got:])
        return message

    def send(self, message: bytes, count: int) -> str:
        frame = masked_frame(message)
        send = self.connection.sendall
        for _ in range(count):
            send(frame)
        send(masked_frame("done"))
        return self.connection.recv(256)[2:].decode()
