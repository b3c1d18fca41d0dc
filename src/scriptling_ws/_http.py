"""HTTP responses: what page handlers return, what refusals look like, how both are written.

Rules (RFC 9110, RFC 9112):

- One request a connection: every response says `Connection: close`. It is in HTTP/1.1 also
  where the request is in HTTP/1.0 (RFC 9110 section 2.5).
- Every response has a Date (RFC 9110 section 6.6.1); one that a handler gives is kept, as
  what it passes on may be older.
- A response with a body has its Content-Length and its type, and every one asks the browser
  not to guess another type; a str that a handler returns is plain text, never HTML, so
  that echoing a request's field cannot become a script.
- The answer to HEAD is the answer to GET without its body.
- A header that a handler sets is checked: nothing can be smuggled into a response.
- A refusal says, in plain text, what the peer may do about it.
"""

from __future__ import annotations

import json as _json
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from ._deadline import Deadline
from ._head import check_header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._head import Refused
    from ._transport import Transport

__all__ = [
    "Response",
    "html",
    "http_date",
    "json",
    "refusal",
    "render",
    "text",
    "to_response",
    "write_all",
    "write_response",
]

_OURS = {"connection", "content-length", "transfer-encoding", "x-content-type-options"}
_BODYLESS = (204, 304)
# How much of a file is in memory at a time. A peer has to take this much in
# each `timeout`: large enough that a slow but living peer passes easily.
_PIECE: Final = 256 * 1024


@dataclass(frozen=True)
class Response:
    """An answer to an HTTP request.

    Attributes:
        status: The status, 200 to 599.
        body: The body.
        content_type: The body's type, "" for none.
        headers: More headers, as pairs.
        file: A file to send in place of `body`, from where it stands; closed afterwards.
        length: How many bytes of the file to send.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/octet-stream"
    headers: tuple[tuple[str, str], ...] = ()
    file: BinaryIO | None = None
    length: int = 0

    def __post_init__(self) -> None:
        _check_status(self.status, bool(self.body) or self.file is not None)
        for name, value in (("Content-Type", self.content_type), *self.headers):
            check_header(name, value, _OURS, "the server")


def _check_status(status: object, has_body: bool) -> None:
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(
            f"the status comes first and has to be an int, such as 200, not {type(status).__name__}"
        )
    if not 200 <= status <= 599:
        raise ValueError(f"the status has to be 200 to 599, not {status}")
    if has_body and status in _BODYLESS:
        raise ValueError(f"a response with status {status} has no body")


def _pairs(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    if headers is None:
        return ()
    if not hasattr(headers, "items"):
        raise TypeError("headers has to be a dict, such as {'Cache-Control': 'no-store'}")
    return tuple(headers.items())


def html(status: int, body: str, headers: Mapping[str, str] | None = None) -> Response:
    """What `runtime.http.html` returns; the arguments and errors are documented there."""
    return Response(status, _encode(body), "text/html; charset=utf-8", _pairs(headers))


def text(status: int, body: str, headers: Mapping[str, str] | None = None) -> Response:
    """What `runtime.http.text` returns; the arguments and errors are documented there."""
    return Response(status, _encode(body), "text/plain; charset=utf-8", _pairs(headers))


def json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """What `runtime.http.json` returns; the arguments and errors are documented there."""
    body = _json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(status, _encode(body), "application/json", _pairs(headers))


def _encode(body: object) -> bytes:
    if not isinstance(body, str):
        raise TypeError(f"the body has to be a str, not {type(body).__name__}")
    return body.encode("utf-8")


def to_response(result: object) -> Response:
    """What a page handler returned, as a response.

    Args:
        result: A Response; or a str (plain text), a dict or list (JSON) or bytes,
            which go out with status 200.

    Raises:
        TypeError: it is something else.
        ValueError: it cannot be encoded.
    """
    if isinstance(result, Response):
        return result
    if isinstance(result, str):
        return text(200, result)
    if isinstance(result, (dict, list)):
        return json(200, result)
    if isinstance(result, (bytes, bytearray, memoryview)):
        return Response(200, bytes(result))
    raise TypeError(
        f"a page handler returned {type(result).__name__}: it has to return "
        "runtime.http.html(...), .json(...) or .text(...), or a str, dict, list or bytes"
    )


def refusal(refused: Refused) -> Response:
    """The response to a request that is refused."""
    headers = [(name, value) for name, value in refused.headers if name.lower() not in _OURS]
    body = f"{refused.status} {_phrase(refused.status)}: {refused.text}\n"
    return Response(
        refused.status,
        body.encode("utf-8", "replace"),
        "text/plain; charset=utf-8",
        tuple(headers),
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def http_date() -> str:
    """The time, as the Date header has it: in English, whatever the locale."""
    return _imf_fixdate(int(time()))


@lru_cache(maxsize=1)  # the same for all answers of a second
def _imf_fixdate(second: int) -> str:
    return formatdate(second, usegmt=True)


def render(response: Response, *, head_only: bool = False) -> bytes:
    """The bytes of a response: its head, then its body unless that is a file.

    Args:
        response: The response.
        head_only: Leave the body out, as the answer to HEAD does.
    """
    names = {name.lower() for name, _ in response.headers}
    lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}"]
    if "date" not in names:
        lines.append(f"Date: {http_date()}")
    if response.status not in _BODYLESS:
        if response.content_type and "content-type" not in names:
            lines.append(f"Content-Type: {response.content_type}")
        length = len(response.body) if response.file is None else response.length
        lines.append(f"Content-Length: {length}")
    lines.append("X-Content-Type-Options: nosniff")
    lines += [f"{name}: {value}" for name, value in response.headers]
    # RFC 9110 section 7.8: who sends Upgrade names it in Connection.
    lines.append("Connection: close, upgrade" if "upgrade" in names else "Connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if head_only else head + response.body


def write_all(transport: Transport, data: bytes | memoryview, deadline: Deadline) -> None:
    """Write bytes and wait until the kernel has them all. Blocks.

    Raises:
        TimeoutError: the deadline came first.
        OSError: the connection is broken.
    """
    view = memoryview(data)
    while view:
        count = transport.write(view)
        view = view[count:]
        if not count:
            _wait(transport, deadline)
    while not transport.flush():
        _wait(transport, deadline)


def _wait(transport: Transport, deadline: Deadline) -> None:
    if deadline.passed():
        raise TimeoutError("the peer does not read")
    transport.wait(read=False, write=True, deadline=deadline)


def write_response(
    transport: Transport, response: Response, *, head_only: bool, timeout: float | None
) -> None:
    """Write a response. Blocks; the response's file is closed in any case.

    Args:
        transport: Where to.
        response: The response.
        head_only: Leave the body out, as the answer to HEAD does.
        timeout: Seconds for the head and body, and for each piece of a file.

    Raises:
        TimeoutError: the peer did not read in time.
        OSError: the connection is broken, or the file became shorter.
    """
    try:
        write_all(transport, render(response, head_only=head_only), Deadline(timeout))
        left = 0 if response.file is None or head_only else response.length
        while left:
            assert response.file is not None
            piece = response.file.read(min(left, _PIECE))
            if not piece:
                # The length was announced: all that is left is to break off.
                raise OSError("the file became shorter while it was sent")
            left -= len(piece)
            write_all(transport, piece, Deadline(timeout))
    finally:
        if response.file is not None:
            response.file.close()
