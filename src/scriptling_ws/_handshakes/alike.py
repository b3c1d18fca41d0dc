"""Heads of upgrades that differ in their key alone: each kind is read once.

Rules:

- Clients of one kind send the same head but for the key, and perhaps thousands do so at once. What
  was read in a head is kept for those that are like it to the last byte: a test holds what is
  found so to what is read.
- A head that may hold a secret is not kept, nor a long one. So it has fields alone that hold none,
  and no query: a field of the program's own may have a token in it, and so may a subprotocol.
- Which request may come in is not decided here.
- Safe for any number of threads: each step is one of a dict.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .request import Request, request_of

if TYPE_CHECKING:
    from .._options import HeadLimits

__all__ = ["USUAL_KEY", "keep", "like_one_before"]

USUAL_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
"""Sixteen bytes in base64."""

_FIELD: Final = b"\r\nSec-WebSocket-Key: "
_LENGTH: Final = 24
_MOST: Final = 64  # heads that are kept
_LONGEST: Final = 1024  # bytes of each
_HARMLESS: Final = frozenset(
    {
        *("host", "upgrade", "connection", "origin", "user-agent", "pragma", "cache-control"),
        *("sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"),
        *("accept", "accept-encoding", "accept-language"),
        *("sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site"),
    }
)

# By the bytes before and after the key: method, path, headers, target, the number of lines.
_kept: dict[tuple[bytes, bytes], tuple[str, str, dict[str, str], str, int]] = {}


def like_one_before(data: bytes, limits: HeadLimits) -> Request | None:
    """The request of an upgrade, if some bytes are a head like one that was kept.

    Returns:
        What `parse_request` would; None if the head has to be read.
    """
    start = data.find(_FIELD) + len(_FIELD)
    end = start + _LENGTH
    found = _kept.get((data[:start], data[end:]))
    if found is None:
        return None
    method, path, headers, target, lines = found
    key, size = data[start:end].decode("latin-1"), len(data)
    fits = size <= limits.max_line_size and size <= limits.max_head_size
    if not fits or lines > limits.max_headers or not USUAL_KEY.fullmatch(key):
        return None
    headers = {**headers, "sec-websocket-key": key}
    return request_of(method=method, path=path, headers=headers, query={}, target=target)


def keep(head: bytes, request: Request) -> None:
    """Keep what was read in a head, if it is one of an upgrade that others may be like.

    Args:
        head: The head.
        request: What `parse_request` has made of it, as it is.
    """
    start = head.find(_FIELD) + len(_FIELD)
    end = start + _LENGTH
    headers = request.headers
    if len(head) > _LONGEST or "?" in request.target or not _HARMLESS.issuperset(headers):
        return
    if head[start:end] != headers.get("sec-websocket-key", "").encode("latin-1"):
        return  # there is none, or several
    if len(_kept) >= _MOST:
        _kept.clear()
    what = request.method, request.path, {**headers}, request.target, head.count(b"\n") - 2
    _kept[head[:start], head[end:]] = what
