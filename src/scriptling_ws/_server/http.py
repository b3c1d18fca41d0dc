"""HTTP responses on their way: what goes out for each, and how it is written.

Rules (RFC 9110, RFC 9112):

- Every response says whether its connection goes on: `close`, or for how long it is kept. It is in
  HTTP/1.1 also where the request is in HTTP/1.0 (RFC 9110 section 2.5).
- Every response has a Date (RFC 9110 section 6.6.1); one that a handler gives is kept, as
  what it passes on may be older.
- A response with a body has its Content-Length and its type, and every one asks the browser
  not to guess another type.
- What makes a page safer and harms none is there by itself (SAFE_HEADERS), unless the response, or
  `page_headers` of the server, has another.
- Where clients see the server below a prefix, a Location that is a path of this server gets it, and
  so does the Path of a cookie; where they came by TLS, a cookie is Secure.
- The answer to HEAD is the answer to GET without its body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .._network.transport import write_rest
from .dates import http_date
from .response import BODYLESS, Response, phrase

if TYPE_CHECKING:
    from .._network.deadline import Deadline
    from .._network.transport import Transport

__all__ = [
    "SAFE_HEADERS",
    "Manner",
    "page_headers_of",
    "render",
    "write_all",
]

SAFE_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    # Other sites learn which site one comes from, but neither the path nor the query.
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
)
"""What every response has that has no such field of its own."""


@dataclass(frozen=True)
class Manner:
    """How a response goes out, beside what it says itself.

    Attributes:
        secure: Whether its client came by TLS.
        root_path: What stands before this server's paths where the client sees them.
        headers: What it has unless it has its own.
    """

    secure: bool = False
    root_path: str = ""
    headers: tuple[tuple[str, str], ...] = SAFE_HEADERS


_PLAIN: Final = Manner()
# What each response has its own of.
_OWN: Final = ("content-type", "content-range", "date", "etag", "last-modified", "location")


def page_headers_of(given: object) -> tuple[tuple[str, str], ...]:
    """What every answer has that has no such field of its own; `Server` describes it.

    Args:
        given: A dict, of which None leaves a field out; None for SAFE_HEADERS alone.

    Raises:
        TypeError: it is no dict of str.
        ValueError: a field cannot be sent, or is not one for all answers.
    """
    if given is None:
        return SAFE_HEADERS
    if not isinstance(given, Mapping):
        raise TypeError("page_headers has to be a dict, such as {'X-Frame-Options': 'DENY'}")
    fields = {name.lower(): (name, value) for name, value in SAFE_HEADERS}
    for name, value in given.items():
        (field,) = Response(200, headers=[(name, "" if value is None else value)]).headers
        if name.lower() in _OWN:
            raise ValueError(f"{name} cannot be the same for all answers: set it in the handler")
        fields[name.lower()] = field
        if value is None:
            del fields[name.lower()]
    return tuple(fields.values())


def render(
    response: Response,
    *,
    head_only: bool = False,
    keep: float | None = None,
    manner: Manner = _PLAIN,
) -> bytes:
    """The bytes of a response: its head, then its body unless that is a file.

    Args:
        response: The response.
        head_only: Leave the body out, as the answer to HEAD does.
        keep: Seconds that its connection waits for another request; None if it ends.
        manner: How it goes out.
    """
    names = {name.lower() for name, _ in response.headers}
    lines = [f"HTTP/1.1 {response.status} {phrase(response.status)}"]
    if "date" not in names:
        lines.append(f"Date: {http_date()}")
    if response.status not in BODYLESS:
        if response.content_type and "content-type" not in names:
            lines.append(f"Content-Type: {response.content_type}")
        length = len(response.body) if response.file is None else response.length
        lines.append(f"Content-Length: {length}")
    lines += [f"{name}: {value}" for name, value in manner.headers if name.lower() not in names]
    lines += [f"{name}: {_placed(name, value, manner)}" for name, value in response.headers]
    for cookie in response.cookies:
        lines.append(f"Set-Cookie: {cookie.text(manner.root_path, secure=manner.secure)}")
    # RFC 9110 section 7.8: who sends Upgrade names it in Connection.
    upgrade = ", upgrade" if "upgrade" in names else ""
    if keep is None:
        lines.append(f"Connection: close{upgrade}")
    else:
        # Clients that know how long it is kept do not ask at that very moment (RFC 9112, 9.5).
        lines.append(f"Connection: keep-alive{upgrade}")
        if keep >= 1:
            lines.append(f"Keep-Alive: timeout={int(keep)}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if head_only else head + response.body


def _placed(name: str, value: str, manner: Manner) -> str:
    """A field's value; of a Location that is a path of this server, where the client sees it."""
    own = name.lower() == "location" and value.startswith("/") and not value.startswith("//")
    return manner.root_path + value if own else value


def write_all(transport: Transport, data: bytes | memoryview, deadline: Deadline) -> None:
    """Write bytes and wait until the kernel has them all. Blocks.

    Raises:
        TimeoutError: the deadline came first.
        OSError: the connection is broken.
    """
    rest, done = write_rest(transport, memoryview(data))
    while not done:
        if deadline.passed():
            raise TimeoutError("the peer does not read")
        transport.wait(read=False, write=True, deadline=deadline)
        rest, done = write_rest(transport, rest)
