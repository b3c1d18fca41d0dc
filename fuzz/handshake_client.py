"""What a server answers to an upgrade: the same in any pieces, and opened by a valid answer alone.

Nothing but HandshakeError comes out. What opened the connection is checked again here, line
by line (RFC 6455 section 4.1). ACCEPT in the bytes stands for the token that the key demands.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from harness import Source, fuzz
from scriptling_ws._errors import HandshakeError
from scriptling_ws._handshake import ClientHandshake
from scriptling_ws._url import parse_url

URL = parse_url("ws://example.com/chat")
OFFERS = ((), ("chat",), ("chat", "v2.chat"))
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEPT = 64 * 1024 + 8192


def check(data: bytes) -> None:
    """One answer, at once and in pieces."""
    source = Source(data)
    offer, ends = source.pick(OFFERS), source.byte() & 1
    plan = Source(source.take(source.byte() % 24))
    answer = source.rest()
    whole = run(offer, answer, [answer], ends)
    parts = run(offer, answer, plan.chunks(answer), ends)
    assert whole[:2] == parts[:2]
    if whole[0] == "error":  # of a body that breaks off, more may be had in pieces
        assert parts[2].startswith(whole[2])
    else:
        assert whole == parts
    if whole[0] == "open":
        check_open(answer, offer, *whole[1:])


def run(offer: Any, answer: bytes, chunks: list[bytes], ends: int) -> tuple[Any, ...]:
    """What becomes of a handshake that is answered with these pieces."""
    handshake = ClientHandshake(URL, {}, offer)
    token = token_for(handshake.request)
    after = b""
    try:
        for at, chunk in enumerate(expand(answer, chunks, token)):
            if chunk and handshake.receive(chunk):
                after = b"".join(expand(answer, chunks, token)[at + 1 :])
                rest = handshake.rest + after
                return "open", handshake.subprotocol, rest.replace(token, b"ACCEPT")
            reader = handshake._reader
            assert reader is None or len(reader) <= _KEPT
        if ends:
            handshake.receive(b"")
    except HandshakeError as error:
        text = repr((str(error), error.status, error.headers))
        assert "\n" not in str(error)
        body = error.body.replace(token, b"ACCEPT")
        return "error", text.replace(token.decode(), "ACCEPT"), body
    return ("more",)


def token_for(request: bytes) -> bytes:
    key = request.lower().index(b"sec-websocket-key: ") + 19
    key_text = request[key : request.index(b"\r\n", key)]
    return base64.b64encode(hashlib.sha1(key_text + _MAGIC).digest())


def expand(answer: bytes, chunks: list[bytes], token: bytes) -> list[bytes]:
    """The chunks of an answer with the token put in, cut at the same share of it."""
    made = answer.replace(b"ACCEPT", token)
    pieces, at, passed = [], 0, 0
    for chunk in chunks[:-1]:
        passed += len(chunk)
        end = len(made) * passed // max(len(answer), 1)
        pieces.append(made[at:end])
        at = end
    return [*pieces, made[at:]]


def check_open(answer: bytes, offer: Any, subprotocol: str | None, rest: bytes) -> None:
    """The last head has to be a valid upgrade, read without any library."""
    head = answer[: len(answer) - len(rest)] if rest else answer
    last = head[head.rindex(b"HTTP/1.1 101") :]
    assert last.endswith(b"\r\n\r\n")
    lines = [line.partition(b":") for line in last.split(b"\r\n")[1:-2]]
    headers: dict[bytes, list[bytes]] = {}
    for name, _, value in lines:
        headers.setdefault(name.lower(), []).append(value.strip())
    assert headers[b"sec-websocket-accept"] == [b"ACCEPT"]
    assert [value.lower() for value in headers[b"upgrade"]] == [b"websocket"]
    (connection,) = headers[b"connection"]
    assert b"upgrade" in [token.strip().lower() for token in connection.split(b",")]
    assert not {b"content-length", b"transfer-encoding"} & set(headers)
    assert not any(value for value in headers.get(b"sec-websocket-extensions", []))
    chosen = headers.get(b"sec-websocket-protocol", [])
    assert chosen == ([] if subprotocol is None else [subprotocol.encode()])
    assert subprotocol is None or subprotocol in offer


if __name__ == "__main__":
    fuzz(check)
