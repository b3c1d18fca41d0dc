"""The heads of requests and of upgrades' answers as nearly all are, taken apart without h11.

Rules (RFC 9112 sections 2 to 5):

- What is taken here, h11 takes too, with the same result: a test holds the two together. What it
  refuses, or reads in a way of its own, is not taken here but left to it: control characters and
  bytes beyond ASCII, and whatever says how long a body is.
- h11 is Python code, and was a sixth of what it costs a server to open a connection, and a quarter
  of what it costs a client.
- The kernel takes a request's head apart, in one pass; the pure one has no function for that.
- Fields are found by one expression that knows no other line. A line that it does not find leaves
  a gap, which shows in the lengths: so none is passed over.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Final

from .. import _kernel as kernel
from .._fields import JOINTS, TCHAR

__all__ = ["plain_answer", "plain_request", "split_by_expressions"]

_LINE = re.compile(rf"({TCHAR}+) ([\x21-\x7e]+) HTTP/1\.[01]\r\n")
# At a line's start alone: to look for one at each character of a line that has none takes its
# length squared.
_FIELD = re.compile(rf"(?<=\n)({TCHAR}+):([\t\x20-\x7e]*)\r\n")
# The same of an answer, which stays in bytes.
_ANSWER = re.compile(rb"HTTP/1\.1 101(?: [\t\x20-\x7e]*)?\r\n")
_ANSWERED_FIELD = re.compile(_FIELD.pattern.encode())
_AROUND = len(":\r\n")  # of each line that a field has beside its name and value
_END = len("\r\n")
_BODY = frozenset({"content-length", "transfer-encoding"})
# Names as browsers and libraries write them: one str for all connections.
_USUAL = {
    spelled: name.lower()
    for name in (
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Authorization",
        "Cache-Control",
        "Connection",
        "Cookie",
        "Host",
        "Origin",
        "Pragma",
        "Referer",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Version",
        "Upgrade",
        "User-Agent",
    )
    for spelled in (name, name.lower())
}


def plain_request(head: bytes) -> tuple[str, str, dict[str, str]] | None:
    """Take a request's head apart, if it is a plain one.

    Args:
        head: From the first byte to the blank line, of HTTP/1.1 or 1.0, with one Host or, in
            HTTP/1.0, none.

    Returns:
        The method, the target, and the headers by name in lower case, values that came in several
        lines joined; None if h11 has to read it.
    """
    found = _split(head, _USUAL, JOINTS)
    return found if found is not None and _BODY.isdisjoint(found[2]) else None


def split_by_expressions(
    head: bytes, usual: dict[str, str], joints: dict[str, str]
) -> tuple[str, str, dict[str, str]] | None:
    """As the kernel's `split_request`, for the pure kernel, which has none."""
    text = head.decode("latin-1")
    line = _LINE.match(text)
    if line is None:
        return None
    fields = _FIELD.findall(text, line.end())
    headers: dict[str, str] = {}
    size = line.end() + _END
    for given, raw in fields:
        size += len(given) + len(raw) + _AROUND
        name, value = usual.get(given) or given.lower(), raw.strip(" \t")
        if name in headers:
            value = joints.get(name, ", ").join((headers[name], value))
        headers[name] = value
    if size != len(text):
        return None
    method, target = line.groups()
    return method, target, headers


_split: Final = split_by_expressions if kernel.split_request is None else kernel.split_request


def plain_answer(head: bytes) -> list[tuple[bytes, bytes]] | None:
    """Take the head of an answer to an upgrade apart, if it is a plain one.

    Args:
        head: From the first byte to the blank line, of HTTP/1.1 with the status 101, and without a
            length of a body.

    Returns:
        The fields, names and values, as they came; None if h11 has to read them.
    """
    line = _ANSWER.match(head)
    if line is None:
        return None
    fields: list[tuple[bytes, bytes]] = _ANSWERED_FIELD.findall(head, line.end())
    size = sum(map(len, chain.from_iterable(fields))) + _AROUND * len(fields)
    if line.end() + size + _END != len(head):
        return None
    return [(name, raw.strip(b" \t")) for name, raw in fields]
