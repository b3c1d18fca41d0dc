"""The heads of HTTP/1.1 requests and responses: read, bounded, and parsed strictly.

Rules (RFC 9112):

- A head is read here up to its blank line; what follows it belongs to somebody else.
- Its lines, their number and the whole are bounded while they arrive.
- One empty line before a request is ignored (section 2.2).
- A line end that is not CRLF, a NUL, a separator that Python takes for a blank and a folded
  line are refused: h11, which parses the rest, lets them through.
- What is wrong with a request is a status for the peer: Refused.
- HTTP/1.0 is read too: proxies and health checks speak it. It has no upgrades.
- Its path is one that proxies see as this server does (`paths`).
- A target that is a whole URL (RFC 9112 section 3.2.2) is taken apart: a handler sees its
  path and query as the target, and its host and port as the Host header.
- A Host that is no host name or address is refused. In HTTP/1.1 an empty one is too, because
  only a URL without a host may have it (RFC 9112 section 3.2), and those of http and https
  always have one; but beside a target that names the host nothing depends on it. In HTTP/1.0
  an empty one counts as absent, which is allowed there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import h11
from wsproto.utilities import ProtocolError as WSProtocolError

from .._fields import TOKEN, count_header, joined_headers
from .._network.authority import parse_authority
from .._options import DEFAULT_HEADS
from .paths import Hidden, decoded_path
from .plain import plain_request
from .refused import Refused
from .request import Request, query_fields, request_of

if TYPE_CHECKING:
    from .._options import HeadLimits

__all__ = [
    "FOREIGN_ERRORS",
    "PROXY_HINT",
    "HeadReader",
    "Refused",
    "Request",
    "is_http_1_0",
    "parse_request",
]

FOREIGN_ERRORS: Final = (h11.ProtocolError, WSProtocolError, ValueError)
"""What h11 and wsproto raise over a head that they cannot take; UnicodeError is a ValueError."""

PROXY_HINT: Final = (
    "a proxy in front has to pass upgrades on, by HTTP/1.1 (nginx: proxy_http_version 1.1; "
    'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";)'
)
"""What to do where a proxy has taken away what an upgrade needs."""

_CR: Final = 0x0D
_LONGEST_NAME: Final = 64  # of a header, in a refusal
# A line end that is not CRLF, a NUL, or a line that continues the one before it; and 1C to 1F,
# which str.strip() removes: wsproto would take "\x1fUpgrade" for "Upgrade".
# (Each branch starts with a byte, so that the search skips all others.)
_MALFORMED = re.compile(rb"\n(?<!\r\n)|\r(?!\n)|[\x00\x1c-\x1f]|\n[ \t]")
_CONTROLS: Final = b"\0\x1c\x1d\x1e\x1f"
_REQUEST_LINE = re.compile(TOKEN.pattern.encode() + rb" [^ \r\n]+ HTTP/(\d\.\d)\r\n")
# RFC 6455 section 4.2.1 names http and https alone; the others say the same of a WebSocket.
_ABSOLUTE = re.compile(r"(?:https?|wss?)://([^/?]*)(.*)", re.IGNORECASE)
_QUOTED = re.compile(r":? *(?:bytearray\()?b['\"]")  # where h11's error texts begin to quote


class HeadReader:
    """Collects the bytes of a request's or response's head.

    Attributes:
        rest: What came after the head, once it is complete.
    """

    __slots__ = (
        "_buffer",
        "_empty",
        "_limits",
        "_lines",
        "_request",
        "_seen",
        "rest",
    )

    def __init__(self, request: bool = True, limits: HeadLimits = DEFAULT_HEADS) -> None:
        """Read a request's head, or a response's.

        Args:
            request: Whether it is a request: decides the status for a first line too long.
            limits: How long it may be; a line is counted without its line end.
        """
        self._request = request
        self._limits = limits
        self._buffer = bytearray()
        self._empty = False  # whether an empty line has come first
        self._seen = 0  # where the last, still incomplete line starts
        self._lines = 0  # the complete ones
        self.rest = b""

    def __len__(self) -> int:
        """How many bytes are held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> bytes | None:
        """Add received bytes.

        Returns:
            The head with its blank line once it is complete, None before.

        Raises:
            Refused: 414 (request line too long), 431 (a header or the whole too
                long, too many), 400 (malformed lines).
        """
        self._buffer += data
        while self._request and self._buffer.startswith(b"\r\n"):
            if self._empty:
                raise Refused(400, "the request line is malformed: it is empty")
            self._empty = True
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n", max(0, len(self._buffer) - len(data) - 3))
        stop = end + 4 if end >= 0 else len(self._buffer)
        self._check_lines(stop)
        if end < 0:
            return None
        head = bytes(self._buffer[:stop])
        self.rest = bytes(self._buffer[stop:])
        self._buffer = bytearray()
        if not _is_well_formed(head) and (found := _MALFORMED.search(head)):
            raise Refused(400, f"malformed line at byte {found.start()} of the head")
        return head

    def _check_lines(self, stop: int) -> None:
        limits = self._limits
        if self._seen == 0 and stop <= limits.max_line_size:  # as most are: no line is too long
            lines = self._buffer.count(b"\n", 0, stop)
            if self._buffer.count(b"\r\n", 0, stop) == lines:
                self._seen = self._buffer.rfind(b"\n", 0, stop) + 1
                self._lines = lines
        while self._seen < stop:
            line_end = self._buffer.find(b"\n", self._seen, stop)
            length = (line_end if line_end >= 0 else stop) - self._seen
            if length > limits.max_line_size + 1:  # the CR
                raise self._line_too_long(length, whole=line_end >= 0)
            if line_end < 0:
                break
            if self._buffer[max(line_end - 1, 0)] != _CR:
                # At once: without a CR at all the head's end would never come.
                raise Refused(400, f"malformed line at byte {line_end} of the head")
            self._seen = line_end + 1
            self._lines += 1
        whole = self._buffer.endswith(b"\r\n\r\n", 0, stop)
        if stop > limits.max_head_size:
            size = _count(stop, limits.max_head_size, "bytes", "max_head_size", whole=whole)
            raise Refused(431, f"the head has {size}")
        # The first line and the blank one are no headers.
        if self._lines - 2 > limits.max_headers:
            count = self._lines - 1 - whole
            number = _count(count, limits.max_headers, "headers", "max_headers", whole=whole)
            raise Refused(431, f"the head has {number}")

    def _line_too_long(self, length: int, *, whole: bool) -> Refused:
        """The refusal of the line at `_seen`: which one it is, never what it holds."""
        status, what = 431, "a header"
        name, colon, _ = self._buffer[self._seen : self._seen + _LONGEST_NAME].partition(b":")
        if self._seen == 0:
            status = 414 if self._request else 431
            what = "the request line" if self._request else "the status line"
        elif colon and TOKEN.fullmatch(text := name.decode("latin-1")):
            what = f"the header {text!r}"
        limit = self._limits.max_line_size
        size = _count(length - whole, limit, "bytes", "max_line_size", whole=whole)
        return Refused(status, f"{what} has {size}")


def _is_well_formed(head: bytes) -> bool:
    """Whether a head has nothing of _MALFORMED; in a tenth of the time that the search takes."""
    lines = head.count(b"\r\n")
    return (
        head.count(b"\n") == lines
        and head.count(b"\r") == lines
        and b"\n " not in head
        and b"\n\t" not in head
        and len(head.translate(None, _CONTROLS)) == len(head)
    )


def _count(count: int, limit: int, unit: str, option: str, *, whole: bool) -> str:
    """How many there are, or have come so far, and what the option for them is."""
    some = count if whole else f"at least {count}"
    return f"{some} {unit}, more than the {limit} {unit} of {option}"


def is_http_1_0(head: bytes) -> bool:
    """Whether a head that `parse_request` has taken is of HTTP/1.0."""
    return head[: head.index(b"\r\n")].endswith(b"1.0")


def parse_request(head: bytes) -> Request:
    """Parse a request's head strictly.

    Args:
        head: From the first byte to the blank line.

    Raises:
        Refused: 505 for an HTTP version other than 1.1 and 1.0, 404 for a path that leads
            nowhere (`paths`), 400 for anything malformed.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise Refused(400, "the request line is malformed")
    if line[1] not in (b"1.1", b"1.0"):
        raise Refused(505, f"this server speaks HTTP/1.1; {PROXY_HINT}")
    hosts = count_header(head.lower(), b"host")
    if hosts > 1:
        raise Refused(400, "more than one Host header")
    if not hosts and line[1] == b"1.1":
        raise Refused(400, "the Host header is missing")
    try:
        method, given, headers = plain_request(head) or _by_h11(head)
        authority, target = _split_target(given)
        path, _, query = target.partition("?")
        return request_of(
            method=method,
            path=_path(path),
            headers=_with_host(headers, authority, may_lack=line[1] == b"1.0"),
            query=dict(query_fields(query)) if query else {},
            target=target,
        )
    except FOREIGN_ERRORS as error:
        # What h11 quotes may be secret, and the text goes to the log.
        why = _QUOTED.split(str(error), maxsplit=1)[0]
        raise Refused(400, f"the request is malformed: {why.lower()}") from error


def _by_h11(head: bytes) -> tuple[str, str, dict[str, str]]:
    """As `plain_request`, of every head; raises what h11 does."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
    connection.receive_data(head)
    event = connection.next_event()
    if not isinstance(event, h11.Request):  # pragma: no cover - the head is whole
        raise Refused(400, "the request is malformed")
    headers = joined_headers(event.headers.raw_items())
    return event.method.decode("ascii"), event.target.decode("ascii"), headers


def _split_target(target: str) -> tuple[str | None, str]:
    """A target's authority, None where it is a path alone; and its path and query."""
    if "#" in target:
        raise Refused(400, "the request target has a fragment")
    if target.startswith("/"):
        return None, target
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise Refused(400, "the request target has to be a path, or a URL of http or https")
    authority, rest = found.groups()
    return authority, rest if rest.startswith("/") else f"/{rest}"


def _path(raw: str) -> str:
    try:
        return decoded_path(raw)
    except Hidden as error:
        raise Refused(404, str(error)) from error
    except ValueError as error:
        raise Refused(400, str(error)) from error


def _with_host(headers: dict[str, str], authority: str | None, may_lack: bool) -> dict[str, str]:
    """The headers with the Host that counts: the target's, if it has one (RFC 9112, 3.2.2)."""
    host = headers.get("host", "")
    try:
        if host:
            parse_authority(host)
    except ValueError as error:
        raise Refused(400, "the Host header is no host name or address") from error
    if authority is not None:
        try:
            parse_authority(authority)
        except ValueError as error:
            raise Refused(400, "the request target's host is no name or address") from error
        headers["host"] = authority
    elif not host and not may_lack:
        raise Refused(400, "the Host header is empty")
    elif not host:
        headers.pop("host", None)
    return headers
