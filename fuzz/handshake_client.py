"""What a server answers to an upgrade: the same in any pieces, and opened by a valid answer alone.

Nothing but HandshakeError comes out. What opened the connection is checked again here, line
by line (RFC 6455 section 4.1).
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from harness import Source, fuzz
from scriptling_ws._errors import HandshakeError
from scriptling_ws._handshakes import client as handshake
from scriptling_ws._handshakes.client import ClientHandshake
from scriptling_ws._handshakes.url import parse_url

URL = parse_url("ws://example.com/chat")
OFFERS = ((), ("chat",), ("chat", "v2.chat"))
NONCE = b"dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455 section 1.3, and its answer
TOKEN = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
_KEPT = 64 * 1024 + 8192


def check(data: bytes) -> None:
    """One answer, at once and in pieces."""
    source = Source(data)
    offer, ends = source.pick(OFFERS), source.byte() & 1
    plan = Source(source.take(source.byte() % 24))
    answer = source.rest()
    with mock.patch.object(handshake, "generate_nonce", lambda: NONCE):
        whole = run(offer, [answer], ends)
        parts = run(offer, plan.chunks(answer), ends)
    assert whole[:2] == parts[:2]
    if whole[0] == "error":  # of a body that breaks off, more may be had in pieces
        assert parts[2].startswith(whole[2])
    else:
        assert whole == parts
    if whole[0] == "open":
        check_open(answer, offer, *whole[1:])


def run(offer: Any, chunks: list[bytes], ends: int) -> tuple[Any, ...]:
    """What becomes of a handshake that is answered with these pieces."""
    client = ClientHandshake(URL, {}, offer)
    try:
        for at, chunk in enumerate(chunks):
            if chunk and client.receive(chunk):
                return "open", client.subprotocol, client.rest + b"".join(chunks[at + 1 :])
            reader = client._reader
            assert reader is None or len(reader) <= _KEPT
        if ends:
            client.receive(b"")
    except HandshakeError as error:
        assert "\n" not in str(error)
        return "error", (str(error), error.status, error.headers), error.body
    return ("more",)


def check_open(answer: bytes, offer: Any, subprotocol: str | None, rest: bytes) -> None:
    """The last head has to be a valid upgrade, read without any library."""
    head = answer[: len(answer) - len(rest)] if rest else answer
    last = head[head.rindex(b"HTTP/1.1 101") :]
    assert last.endswith(b"\r\n\r\n")
    lines = [line.partition(b":") for line in last.split(b"\r\n")[1:-2]]
    headers: dict[bytes, list[bytes]] = {}
    for name, _, value in lines:
        headers.setdefault(name.lower(), []).append(value.strip())
    assert headers[b"sec-websocket-accept"] == [TOKEN]
    # Lists: in one line or several, with empty elements or without (RFC 9110 section 5.3).
    elements = {
        name: {token.strip() for value in values for token in value.split(b",")} - {b""}
        for name, values in headers.items()
    }
    assert {token.lower() for token in elements[b"upgrade"]} == {b"websocket"}
    assert b"upgrade" in {token.lower() for token in elements[b"connection"]}
    assert not {b"content-length", b"transfer-encoding"} & set(headers)
    assert not elements.get(b"sec-websocket-extensions")
    chosen = elements.get(b"sec-websocket-protocol", set())
    assert chosen == (set() if subprotocol is None else {subprotocol.encode()})
    assert subprotocol is None or subprotocol in offer


if __name__ == "__main__":
    fuzz(check)
