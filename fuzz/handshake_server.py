"""A request to the server: the same in any pieces, taken or refused, and answered in clean HTTP.

Nothing but Refused comes out. What was taken for an upgrade is checked again here, line by
line (RFC 6455 section 4.2.1); every answer is parsed, and has the headers it is meant to
have and no others (invariant 12).
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import h11

from harness import Source, fuzz
from scriptling_ws._fields import count_header
from scriptling_ws._handshakes.head import HeadReader, Refused, Request, _by_h11, parse_request
from scriptling_ws._handshakes.plain import plain_request
from scriptling_ws._handshakes.server import ServerUpgrade, wants_upgrade
from scriptling_ws._server.admission import Hosts, Origins
from scriptling_ws._server.arrival import body_length
from scriptling_ws._server.http import render
from scriptling_ws._server.response import refusal

ORIGINS = (Origins(), Origins(["https://example.com"]), Origins("*"))
HOSTS = Hosts(["example.com", "127.0.0.1:8080", "[::1]"])
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEPT = 64 * 1024 + 8192
_URL = re.compile(rb"(?i)(https?|wss?)://[^/?@]+")


def check(data: bytes) -> None:
    """One request, at once and in pieces."""
    source = Source(data)
    origins = source.pick(ORIGINS)
    plan = Source(source.take(source.byte() % 24))
    stream = source.rest()
    whole, parts = read([stream]), read(plan.chunks(stream))
    assert whole == parts
    if whole is None:
        return
    if isinstance(whole, str):
        check_refusal(Refused(int(whole[:3]), whole[4:]))
        return
    head, _ = whole
    check_plain(head)
    try:
        request = parse_request(head)
        body_length(request, 1024 * 1024)
        admit(request, origins)
        upgrade = ServerUpgrade(head, request)
    except Refused as refused:
        check_refusal(refused)
        return
    check_upgrade(head, upgrade)


def check_plain(head: bytes) -> None:
    """What is taken apart without h11 is as h11 reads it."""
    if count_header(head.lower(), b"host") != 1 or (found := plain_request(head)) is None:
        return  # it is refused before, or left to h11
    assert found == _by_h11(head)


def read(chunks: list[bytes]) -> tuple[bytes, bytes] | str | None:
    """The head and what follows it, a refusal's text, or None if the head is not complete."""
    reader = HeadReader()
    for at, chunk in enumerate(chunks):
        try:
            head = reader.feed(chunk)
        except Refused as refused:
            return str(refused)
        assert len(reader) <= _KEPT
        if head is not None:
            return head, reader.rest + b"".join(chunks[at + 1 :])
    return None


def admit(request: Request, origins: Origins) -> None:
    """As the server does, short of routes and limits."""
    host = request.headers.get("host")
    origin = request.headers.get("origin")
    allowed = origins.allow(origin, host or "", secure=False)
    assert allowed or origin is not None
    HOSTS.allow(host)
    wants_upgrade(request)


def check_refusal(refused: Refused) -> None:
    """The answer has to be one response, with its own headers alone."""
    response = render(refusal(refused))
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    reader.receive_data(response)
    event: Any = reader.next_event()
    assert isinstance(event, h11.Response)
    assert event.status_code == refused.status
    ours = {"date", "content-type", "content-length", "connection"}
    ours |= {"x-content-type-options", "referrer-policy"}
    theirs = {name.lower() for name, _ in refused.headers}
    assert {bytes(name).decode() for name, _ in event.headers} <= ours | theirs
    assert isinstance(reader.next_event(), h11.Data)


def check_upgrade(head: bytes, upgrade: ServerUpgrade) -> None:
    """It has to be what RFC 6455 asks for, read without any library."""
    lines = head.split(b"\r\n")
    method, target, version = lines[0].split(b" ")
    assert (method, version) == (b"GET", b"HTTP/1.1")
    assert target.startswith(b"/") or _URL.match(target)
    headers: dict[bytes, list[bytes]] = {}
    for name, _, value in (line.partition(b":") for line in lines[1:-2]):
        headers.setdefault(name.lower(), []).append(value.strip(b" \t"))
    for single in (b"host", b"sec-websocket-key", b"sec-websocket-version"):
        assert len(headers[single]) == 1, single
    assert headers[b"sec-websocket-version"] == [b"13"]
    for name, token in ((b"upgrade", b"websocket"), (b"connection", b"upgrade")):
        listed = b",".join(headers[name]).lower().split(b",")
        assert token in [element.strip(b" \t") for element in listed]
    assert b"transfer-encoding" not in headers
    assert not b"".join(headers.get(b"content-length", [])).strip(b"0, \t")
    (key,) = headers[b"sec-websocket-key"]
    assert len(base64.b64decode(key, validate=True)) == 16
    chosen = upgrade.subprotocols[0] if upgrade.subprotocols else None
    expected = {
        b"upgrade": b"websocket",
        b"connection": b"Upgrade",
        b"sec-websocket-accept": base64.b64encode(hashlib.sha1(key + _MAGIC).digest()),
    }
    if chosen is not None:
        expected[b"sec-websocket-protocol"] = chosen.encode()
    answer = upgrade.accept(chosen)
    status, *fields, end, nothing = answer.split(b"\r\n")
    assert (status, end, nothing) == (b"HTTP/1.1 101 Switching Protocols", b"", b"")
    pairs = [line.partition(b": ") for line in fields]
    assert {name.lower(): value for name, _, value in pairs} == expected
    assert len(pairs) == len(expected)


if __name__ == "__main__":
    fuzz(check)
