"""HTTP responses on their way: what goes out for each, and how it is written.

Rules (RFC 9110, RFC 9112):

- One request a connection: every response says `Connection: close`. It is in HTTP/1.1 also
  where the request is in HTTP/1.0 (RFC 9110 section 2.5).
- Every response has a Date (RFC 9110 section 6.6.1); one that a handler gives is kept, as
  what it passes on may be older.
- A response with a body has its Content-Length and its type, and every one asks the browser
  not to guess another type.
- The answer to HEAD is the answer to GET without its body.
"""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING

from .._network.transport import write_rest
from .response import BODYLESS, Response, phrase, refusal, to_response

if TYPE_CHECKING:
    from .._network.deadline import Deadline
    from .._network.transport import Transport

__all__ = [
    "Response",
    "http_date",
    "refusal",
    "render",
    "to_response",
    "write_all",
]


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
    lines = [f"HTTP/1.1 {response.status} {phrase(response.status)}"]
    if "date" not in names:
        lines.append(f"Date: {http_date()}")
    if response.status not in BODYLESS:
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
    rest, done = write_rest(transport, memoryview(data))
    while not done:
        if deadline.passed():
            raise TimeoutError("the peer does not read")
        transport.wait(read=False, write=True, deadline=deadline)
        rest, done = write_rest(transport, rest)
