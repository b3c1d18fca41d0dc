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

import hmac
import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import h11
from wsproto.utilities import ProtocolError as WSProtocolError

from .._fields import TOKEN, count_header, joined_headers, shown_headers, shown_target
from .._network.authority import parse_authority
from .._options import DEFAULT_HEADS
from .credentials import basic_token
from .paths import Hidden, decoded_path
from .plain import plain_request

if TYPE_CHECKING:
    from collections.abc import Sequence

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
_REQUEST_LINE = re.compile(TOKEN.pattern.encode() + rb" [^ \r\n]+ HTTP/(\d\.\d)\r\n")
# RFC 6455 section 4.2.1 names http and https alone; the others say the same of a WebSocket.
_ABSOLUTE = re.compile(r"(?:https?|wss?)://([^/?]*)(.*)", re.IGNORECASE)
_QUOTED = re.compile(r":? *b['\"]")  # where h11's error texts begin to quote


class Refused(Exception):  # not an error of this program: an answer to a request
    """A request that gets an HTTP status instead of an upgrade.

    Attributes:
        status: The status.
        text: What the peer may do about it, for the response's body.
        headers: Headers that the response has to have.
    """

    def __init__(self, status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text
        self.headers = list(headers)


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
        if found := _MALFORMED.search(head):
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


def _count(count: int, limit: int, unit: str, option: str, *, whole: bool) -> str:
    """How many there are, or have come so far, and what the option for them is."""
    some = count if whole else f"at least {count}"
    return f"{some} {unit}, more than the {limit} {unit} of {option}"


@dataclass(frozen=True, repr=False)
class Request:
    """An HTTP request, as a page handler or a connection's `request` shows it.

    Its `repr` has no secret: no query, no body, and of most headers the names alone.

    Attributes:
        method: GET or HEAD, or what else came.
        path: The path, percent-decoded, without the query.
        headers: Names in lower case; of a header that came twice, the values joined by ", ",
            or "; " for Cookie. `host` is the target's where that is a whole URL.
        query: The query's fields; of a field that came twice, the last: `query_list` has all.
            What is not UTF-8 is replaced by U+FFFD; `target` has it as it came.
        body: The body; empty for an upgrade.
        target: Path and query as they came.
        remote_addr: The client's address, as a connection's: `"192.0.2.1:54321"`.
        secure: Whether it came by TLS: this server's, or that of a trusted proxy which says so.
        params: What the path has in place of the parameters of its route's, by their names.
        state: What the program keeps with the request, such as `state.user`: `authorize` sets it, a
            handler finds it, a WebSocket's as `client.state`.
    """

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    target: str = ""
    remote_addr: str = ""
    secure: bool = False
    params: dict[str, str] = field(default_factory=dict)
    state: SimpleNamespace = field(default_factory=SimpleNamespace, compare=False)

    def __repr__(self) -> str:
        return (
            f"Request(method={self.method!r}, path={self.path!r}, "
            f"headers={shown_headers(self.headers.items())}, query=<{len(self.query)} fields>, "
            f"body=<{len(self.body)} bytes>, target={shown_target(self.target)})"
        )

    def query_list(self, name: str) -> list[str]:
        """All values of a field of the query, in their order; empty if it is not there."""
        query = self.target.partition("?")[2]
        return [value for field_name, value in _query_fields(query) if field_name == name]

    def has_credentials(self, user: str, password: str) -> bool:
        """Whether the request comes with these, by Basic authorization (RFC 7617).

        The comparison takes the same time wherever they differ, so that nothing can be
        learned from it. Over ws:// and http:// they are sent in the clear.

        Args:
            user: The user's name; it may be empty, as it is where a token is the password.
            password: The password.

        Raises:
            TypeError: one of them is no str, such as the None of a variable that is not set.
            ValueError: the password is empty, which would let anybody in; or the user has a
                colon, or one of them a lone surrogate, which cannot be sent.
        """
        for name, value in (("user", user), ("password", password)):
            if not isinstance(value, str):
                raise TypeError(f"the {name} has to be a str, not {type(value).__name__}")
        if not password:
            raise ValueError("the password is empty, which would let anybody in: set one")
        if ":" in user:
            raise ValueError("a user name with a colon cannot be sent by Basic authorization")
        try:
            wanted = ":".join((user, password)).encode()
        except UnicodeEncodeError:
            raise ValueError("the user or password has a lone surrogate: it is no text") from None
        given = basic_token(self.headers.get("authorization", ""))
        return given is not None and hmac.compare_digest(given, wanted)


def _query_fields(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True, errors="replace")


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
        return Request(
            method=method,
            path=_path(path),
            headers=_with_host(headers, authority, may_lack=line[1] == b"1.0"),
            query=dict(_query_fields(query)) if query else {},
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
