"""`scriptling-ws demo`: the calls of `scriptling.websocket` at work, as a transcript.

The server is embedded. What is printed is what happened: each line is a call that was made
just before, and its result. The speeds at the end are this machine's, through the whole stack and
back (one process, both ends), so they show an order of magnitude and no more.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from .. import _kernel as kernel
from .._client.connect import connect
from .._connection.connection import is_binary, is_text
from .._server.server import Server
from .._version import __version__

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .._wire.incoming import Message

__all__ = ["main"]

_SPEED_SECONDS: Final = 2.0
_SPEED_SIZE: Final = 64 * 1024
_WIDTH: Final = 56


def _handler(client: Connection[list[int] | bytes]) -> None:
    """Greets with the headers it saw, then echoes; "quiet" is not answered, "bye" closes."""
    request = client.request
    assert request is not None
    client.send({"path": request.path, "your header": request.headers.get("x-demo", "")})
    for message in client:
        if is_binary(message):
            client.send_binary(message)
        elif message == "bye":
            client.close(4000, "as you wish")
        elif message != "quiet":
            client.send(message)


def _show(call: str, result: object = "") -> None:
    print(f"  {call:<{_WIDTH}} {'' if result == '' else f'-> {result!r}'}".rstrip())


def _tour(url: str) -> None:
    print("Open, with a header that the server sees:")
    conn = connect(f"{url}/demo", timeout=5, headers={"X-Demo": "hello, server"})
    _show("conn = ws.connect(url, headers={'X-Demo': ...})", conn)
    _show("conn.receive(timeout=5)", conn.receive(timeout=5))
    _show("conn.connected()", conn.connected())
    _show("conn.remote_addr == the server's address", conn.remote_addr in url)

    print("Text, and a dict as JSON:")
    conn.send("Hello, WebSocket!")
    _show("conn.send('Hello, WebSocket!')")
    _show("conn.receive(timeout=5)", conn.receive(timeout=5))
    conn.send({"type": "ping", "data": [1, 2.5, None, "Grüße"]})
    _show("conn.send({'type': 'ping', 'data': [...]})")
    _show("conn.receive(timeout=5)", conn.receive(timeout=5))

    print("Bytes as a list, both ways:")
    conn.send_binary([0x01, 0x02, 0x03, 0xFF])
    _show("conn.send_binary([0x01, 0x02, 0x03, 0xFF])")
    _show("conn.receive(timeout=5)", conn.receive(timeout=5))

    print("Mixed, told apart:")
    for sent in ("text", [0, 255]):
        conn.send(sent) if isinstance(sent, str) else conn.send_binary(sent)
        message = conn.receive(timeout=5)
        _show(f"m = conn.receive(); m is {message!r}; is_text(m), is_binary(m)", _kinds(message))

    print("A bad byte is refused before anything is sent:")
    try:
        conn.send_binary([1, 2, 256])
    except ValueError as error:
        _show("conn.send_binary([1, 2, 256])", error)

    print("A timeout, which is not a disconnect:")
    conn.send("quiet")
    _show("conn.receive(timeout=0.2)", conn.receive(timeout=0.2))
    _show("conn.connected()", conn.connected())

    print("The server closes:")
    conn.send("bye")
    _show("conn.receive(timeout=5)", conn.receive(timeout=5))
    _show("conn.connected()", conn.connected())
    _show("conn.close_code, conn.close_reason", (conn.close_code, conn.close_reason))
    conn.close()
    _show("conn.close()")


def _kinds(message: Message | None) -> tuple[bool, bool]:
    return is_text(message), is_binary(message)


def _speed(kind: type[list[int]] | type[bytes]) -> str:
    """Echo binary messages for a second; how many a second, and how much."""
    payload = kind(bytes(range(256)) * (_SPEED_SIZE // 256))
    count = 0
    with (
        Server(_handler, port=0, binary_type=kind) as server,
        connect(server.url, timeout=5, binary_type=kind) as conn,
    ):
        conn.receive(timeout=5)
        start = time.perf_counter()
        elapsed = 0.0
        while elapsed < _SPEED_SECONDS / 2:
            conn.send_binary(payload)
            if conn.receive(timeout=5) != payload:
                raise AssertionError("the echo differs from what was sent")
            count += 1
            elapsed = time.perf_counter() - start
    rate = count / elapsed
    return f"{kind.__name__}: {rate:,.0f} echoes/s, {2 * rate * _SPEED_SIZE / 1e6:,.0f} MB/s"


def main() -> int:
    """Run the demo; 0 if every call did what it should."""
    print(f"scriptling-ws {__version__}, {kernel.IMPLEMENTATION} codec")
    with Server(_handler, port=0) as server:
        print(f"An embedded server listens at {server.url}\n")
        _tour(server.url)
    speeds = "; ".join((_speed(list), _speed(bytes)))
    print(f"\nEcho of {_SPEED_SIZE // 1024} KiB messages, {_SPEED_SECONDS:.0f} s: {speeds}")
    return 0
