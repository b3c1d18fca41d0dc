"""Requests for pages, bodies included, and their answers: read as h11 reads them, in any pieces.

- In any pieces a request comes to the same: it is taken, refused, or more is waited for.
- What is taken h11 takes too, and reads the same method, target, headers, body and rest;
  what is plainly valid is taken.
- The answer, of a page or a refusal, is one response to h11: status, headers and body are what
  they were made of, nothing follows, and the one to HEAD has no body.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import h11

from harness import Source, fuzz
from scriptling_ws._handshakes.head import Refused, Request, is_http_1_0
from scriptling_ws._network.deadline import FOREVER
from scriptling_ws._server.arrival import Arrival, PeerOptions
from scriptling_ws._server.http import render
from scriptling_ws._server.limits import REQUEST, Limits
from scriptling_ws._server.peer import CLOSE, READY, Peer
from scriptling_ws._server.response import Response, to_response

METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "M-SEARCH")
HOSTS = ("localhost", "example.com:8080", "127.0.0.1", "[::1]:80")
NAMES = ("X-A", "X-a", "Cookie", "Accept", "X_b", "X-!#$%&'*+^`|~1")
STATUSES = (200, 201, 204, 304, 404, 418, 500, 599)
# What may stand in a path without a meaning of its own, and in a header's value.
PATH = "abcXYZ019-_~!$'()*+,;:@"
VALUE = "".join(map(chr, (*range(0x21, 0x7F), *range(0x80, 0x100)))) + " \t"
_JOINTS = {"cookie": "; "}


class Wire:
    """A transport that gives the pieces one by one, and takes a few bytes at a time."""

    remote_addr = "127.0.0.1:1"

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]
        self.written = b""
        self.finished = False

    def read_into(self, buffer: Any, nap: bool = False) -> int | None:
        """A piece, or a part of it, or nothing."""
        if not self.pieces:
            return None
        piece = self.pieces[0][: len(buffer)]
        buffer[: len(piece)] = piece
        self.pieces[0] = self.pieces[0][len(piece) :]
        if not self.pieces[0]:
            del self.pieces[0]
        return len(piece)

    def write(self, data: Any) -> int:
        """Take some."""
        self.written += bytes(data[:100])
        return min(len(data), 100)

    def flush(self) -> bool:
        """Nothing is kept."""
        return True

    def finish_writing(self) -> None:
        """The end of the answer."""
        self.finished = True


class Admitted(NamedTuple):
    """A page's request that is let in."""

    kind: str = REQUEST

    def start(self, arrival: Arrival) -> None:
        """Nothing answers it."""


class Taken(NamedTuple):
    """A request that was taken, and what follows it."""

    head: bytes
    request: Request
    rest: bytes


class Answered(NamedTuple):
    """A request that was refused."""

    status: int
    text: str


def read(pieces: list[bytes]) -> Taken | Answered | None:
    """What a request comes to; None where more is waited for."""
    heads: list[bytes] = []

    def admit(head: bytes, request: Request) -> Any:
        heads.append(head)
        return Admitted()

    wire, buffer = Wire(pieces), bytearray(512)
    place = Limits(None, None, 1).arrive(wire.remote_addr)
    peer = Peer(wire, place, FOREVER, admit, PeerOptions())  # type: ignore[arg-type]
    for _ in range(len(pieces) + 2):
        try:
            if peer.advance(buffer) == READY:
                arrival: Arrival = peer.arrival
                return Taken(heads[0], arrival.request, arrival.rest + b"".join(wire.pieces))
        except Refused as refused:
            check_refusal(peer, wire, refused, bytearray(buffer))
            return Answered(refused.status, refused.text)
    return None


def check_refusal(peer: Peer, wire: Wire, refused: Refused, buffer: bytearray) -> None:
    """The answer has to be written whole, and what still comes be dropped."""
    peer.refuse(refused, FOREVER)
    while peer.advance(buffer) != CLOSE and (wire.pieces or not wire.finished):
        pass
    assert wire.finished
    method = peer.request.method if peer.request else "GET"
    status, _, body = answer(wire.written, method)
    assert status == refused.status
    assert method == "HEAD" or refused.text.encode("utf-8", "replace") in body


def answer(data: bytes, method: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """What h11 makes of a response: one alone, to its end."""
    reader = h11.Connection(h11.CLIENT)
    asked = method if method != "CONNECT" else "GET"  # whose answers have no bodies
    reader.send(h11.Request(method=asked, target="/", headers=[("Host", "a")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    response, body = reader.next_event(), b""
    assert isinstance(response, h11.Response), response
    while isinstance(event := reader.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert reader.trailing_data[0] == b""
    headers = [(name.decode(), value.decode("latin-1")) for name, value in response.headers]
    return response.status_code, headers, body


def check_taken(taken: Taken, stream: bytes) -> None:
    """What was taken has to be what h11 reads."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    reader.receive_data(stream.removeprefix(b"\r\n"))  # one empty line is ignored: not so in h11
    theirs, body = reader.next_event(), b""
    assert isinstance(theirs, h11.Request), theirs
    while isinstance(event := reader.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    ours = taken.request
    assert (ours.method.encode(), ours.body) == (theirs.method, body)
    assert taken.rest == reader.trailing_data[0]
    target = theirs.target.decode()
    if target.startswith("/"):
        assert ours.target == target
    else:  # a whole URL: its host counts
        assert target.partition("://")[2].startswith(ours.headers["host"])
        assert target.endswith(ours.target.removeprefix("/"))
    expected = joined([(name.decode(), value.decode("latin-1")) for name, value in theirs.headers])
    if not target.startswith("/") or (is_http_1_0(taken.head) and not expected.get("host")):
        expected.pop("host", None)
        ours = Request("", "", {k: v for k, v in ours.headers.items() if k != "host"})
    assert ours.headers == expected


def joined(headers: list[tuple[str, str]]) -> dict[str, str]:
    """By name, the values of one name joined."""
    result: dict[str, str] = {}
    for name, value in headers:
        joint = _JOINTS.get(name.lower(), ", ")
        before = result.get(name.lower())
        result[name.lower()] = value if before is None else before + joint + value
    return result


def check_valid(source: Source, plan: Source) -> None:
    """A request that is valid: it comes out as it was put in."""
    method, host, path = source.pick(METHODS), source.pick(HOSTS), "/" + text(source, PATH, 40)
    fields = [(source.pick(NAMES), text(source, VALUE, 40).strip(" \t")) for _ in range(3)]
    body = source.payload((300,)) if source.byte() & 1 else None
    if body is not None:
        fields.append(("Content-Length", str(len(body))))
    lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in [("Host", host), *fields])]
    rest = source.take(source.byte() % 8)
    stream = "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"") + rest
    taken = read(plan.chunks(stream))
    assert isinstance(taken, Taken), taken
    request = taken.request
    assert (request.method, request.path, request.target) == (method, path, path)
    assert request.headers == joined([("Host", host), *fields])
    assert (request.body, taken.rest) == (body or b"", rest)
    check_page(source, method)


def text(source: Source, alphabet: str, most: int) -> str:
    """Some characters of an alphabet."""
    return "".join(alphabet[byte % len(alphabet)] for byte in source.take(source.byte() % most))


def check_page(source: Source, method: str) -> None:
    """What a page returns is what its client gets."""
    body = source.payload((300,))
    fields = tuple((f"X-{at}", text(source, VALUE, 20).strip(" \t")) for at in range(2))
    status = source.pick(STATUSES)
    made: Any = Response(200 if status in (204, 304) else status, body, headers=fields)
    kind = source.byte() % 5
    if kind < 3:
        string = body.decode("latin-1")
        made = (string, {"text": string}, body)[kind]
    response = to_response(made)
    got, headers, content = answer(render(response, head_only=method == "HEAD"), method)
    assert got == response.status
    assert content == (b"" if method == "HEAD" else response.body)
    named = joined(headers)
    assert named["content-length"] == str(len(response.body))
    assert named["content-type"] == response.content_type
    assert named["connection"] == "close"
    assert {name.lower(): value for name, value in response.headers}.items() <= named.items()
    assert len(headers) == len(named) == 6 + len(response.headers)


def check(data: bytes) -> None:
    """A request out of any bytes, at once and in pieces; or one that is valid."""
    source = Source(data)
    kind = source.byte()
    plan = Source(source.take(source.byte() % 24))
    if kind & 1:
        check_valid(source, plan)
        return
    stream = source.rest()
    whole, parts = read([stream]), read(plan.chunks(stream))
    assert whole == parts, (whole, parts)
    if isinstance(whole, Taken):
        check_taken(whole, stream)


if __name__ == "__main__":
    fuzz(check)
