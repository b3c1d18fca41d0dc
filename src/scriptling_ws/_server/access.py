"""The access log: what a request was answered with, and how a WebSocket has ended.

Rules:

- By default an event has a line in words, at once (`log`). With a format, a request has one line,
  at its end: a page as it is answered, a WebSocket as it is closed. A refusal's reason, and what
  was closed without an answer, are in the server's log then, so that the lines have one form.
- The formats are the Common Log Format, the Combined one, and JSON, one object a line.
- No secret: neither queries (a browser's WebSocket can send a token nowhere else), nor those of
  the Referer, nor user names; and no header but Host, Referer and User-Agent.
- Text of a peer is in ASCII with escapes, and cut where it is long: nobody forges a line.
- A line's time is that of its writing: the request's end.
- What a message costs is not measured here: a WebSocket's messages and bytes are not counted.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from functools import lru_cache
from logging.handlers import WatchedFileHandler
from time import gmtime, localtime, strftime, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .._fields import TCHAR
from .._network.authority import SCHEME, host_of
from .log import log_answer, log_closed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._handshakes.head import Request
    from .._network.transport import Transport

__all__ = ["FORMATS", "AccessLog", "Asked", "log_to", "make_access_log"]

_logger = logging.getLogger("scriptling_ws.server")
_access = logging.getLogger("scriptling_ws.access")

_SWITCHING: Final = 101
_LONGEST: Final = 1000  # characters that are shown of a peer's text
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")  # all but printable ASCII; the quote and the backslash
# Method and path, as far as they came; of a whole URL neither the user nor the host.
_FIRST_WORDS = re.compile(rf"({TCHAR}{{1,32}}) (?:{SCHEME}://[^/?#\s]*)?(/[^?#\s]*|\*)".encode())
_USER = re.compile(r"//[^/]*@")
_MONTHS: Final = [
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
]  # in any locale


class Asked(NamedTuple):
    """What was asked, as far as it is known.

    Attributes:
        method: The method; "-" if it is not known.
        path: The path, decoded and without the query; "-" if it is not known.
        request: The whole request, once there is one.
        version: The version of HTTP, such as "HTTP/1.1"; "" if it is not known.
    """

    method: str
    path: str
    request: Request | None = None
    version: str = ""

    @classmethod
    def by_beginning(cls, data: bytes) -> Asked:
        """What was asked, as far as the first bytes of a request say."""
        found = _FIRST_WORDS.match(data)
        if found is None:
            return cls("-", "-")
        method, path = found.groups()
        return cls(method.decode("ascii"), path.decode("latin-1"))

    @property
    def target(self) -> str:
        """The path as the client has sent it, without the query."""
        if self.request is None:
            return self.path
        return self.request.root_path + self.request.target.partition("?")[0]

    @classmethod
    def of(cls, request: Request, version: str) -> Asked:
        """What a request asks for, with the path that the client sees."""
        return cls(request.method, request.root_path + request.path, request, version)

    def header(self, name: str) -> str:
        """A header, "" if it is not there."""
        return "" if self.request is None else self.request.headers.get(name, "")


class AccessLog:
    """The log in words. Safe for any number of threads."""

    @property
    def wanted(self) -> bool:
        """Whether anybody takes its lines."""
        return _access.isEnabledFor(logging.INFO)

    def answered(
        self,
        transport: Transport,
        asked: Asked,
        status: int,
        *,
        size: int = 0,  # noqa: ARG002  # of the formats alone
        reason: str = "",
        seconds: float | None = None,  # noqa: ARG002
    ) -> None:
        """A request was answered.

        Args:
            transport: What it has come by.
            asked: What was asked.
            status: The status.
            size: The bytes of the answer's body.
            reason: Why, if it is a refusal.
            seconds: How long the answer took to make, None if it was not asked of a handler.
        """
        log_answer(transport.remote_addr, asked.method, asked.path, status, reason)

    def unanswered(self, transport: Transport, asked: Asked, reason: str) -> None:
        """A connection was closed without an answer."""
        log_answer(transport.remote_addr, asked.method, asked.path, "-", reason)

    def opened(self, transport: Transport, asked: Asked) -> None:
        """A WebSocket is open."""
        log_answer(transport.remote_addr, asked.method, asked.path, _SWITCHING)

    def closed(self, transport: Transport, asked: Asked, code: int | None, seconds: float) -> None:
        """A WebSocket was closed.

        Args:
            transport: What it has come by.
            asked: What was asked.
            code: The close code.
            seconds: How long it was open.
        """
        log_closed(transport.remote_addr, asked.path, code, seconds)


class Line(NamedTuple):
    """What is known of one request at its end."""

    transport: Transport
    asked: Asked
    status: int
    size: int | None = None
    reason: str = ""
    seconds: float | None = None
    code: int | None = None


class _FormattedLog(AccessLog):
    """The log in one of the formats."""

    def __init__(self, form: Callable[[Line], str]) -> None:
        self._form = form

    def answered(
        self,
        transport: Transport,
        asked: Asked,
        status: int,
        *,
        size: int = 0,
        reason: str = "",
        seconds: float | None = None,
    ) -> None:
        """As for any log."""
        if reason:
            address = transport.remote_addr
            log_answer(address, asked.method, asked.path, status, reason, logger=_logger)
        self._write(Line(transport, asked, status, size, reason, seconds))

    def unanswered(self, transport: Transport, asked: Asked, reason: str) -> None:
        """As for any log; it is no request."""
        address = transport.remote_addr
        log_answer(address, asked.method, asked.path, "-", reason, logger=_logger)

    def opened(self, transport: Transport, asked: Asked) -> None:
        """Nothing yet."""

    def closed(self, transport: Transport, asked: Asked, code: int | None, seconds: float) -> None:
        """As for any log."""
        self._write(Line(transport, asked, _SWITCHING, seconds=seconds, code=code))

    def _write(self, line: Line) -> None:
        if _access.isEnabledFor(logging.INFO):
            _access.info("%s", self._form(line))


def _common(line: Line) -> str:
    """The Common Log Format."""
    asked = line.asked
    words = [asked.method[:32], _shown(asked.target), asked.version]
    request = " ".join(filter(None, words)) if asked.method != "-" else "-"
    size = "-" if line.size is None else line.size
    host = _shown(host_of(line.transport.remote_addr)).replace(" ", "\\x20") or "-"
    return f'{host} - - [{_local_time(int(time()))}] "{request}" {line.status} {size}'


def _combined(line: Line) -> str:
    """The Combined Log Format."""
    referer = _shown(_referer(line.asked)) or "-"
    agent = _shown(line.asked.header("user-agent")) or "-"
    return f'{_common(line)} "{referer}" "{agent}"'


def _json(line: Line) -> str:
    """An object of JSON; docs/proxies.md describes the fields."""
    asked, transport = line.asked, line.transport
    fields: dict[str, Any] = {
        "time": _utc_time(time()),
        "remote_addr": transport.remote_addr,
        "peer_addr": transport.peer_addr,
        "method": asked.method[:32],
        "host": _cut(asked.header("host")),
        "path": _cut(asked.target),
        "protocol": asked.version,
        "status": line.status,
        "bytes": line.size,
        "seconds": None if line.seconds is None else round(line.seconds, 6),
        "close_code": line.code,
        "referer": _cut(_referer(asked)),
        "user_agent": _cut(asked.header("user-agent")),
        "reason": _cut(line.reason),
    }
    return json.dumps(fields, separators=(",", ":"))


FORMATS: Final = {"common": _common, "combined": _combined, "json": _json}
"""What `access_log` may be, and what makes a line of it."""


def make_access_log(form: object) -> AccessLog:
    """Make the log of a server.

    Args:
        form: One of FORMATS; None for lines in words.

    Raises:
        ValueError: it is something else.
    """
    if form is None:
        return AccessLog()
    if not isinstance(form, str) or form not in FORMATS:
        raise ValueError(
            f"access_log has to be 'common', 'combined' or 'json', or None for lines in words, "
            f"not {form!r}"
        )
    return _FormattedLog(FORMATS[form])


def log_to(name: str) -> None:
    """Have the lines of access in a file, and no more in the program's other log.

    A file that is moved away or removed, as logrotate does, is opened anew.

    Args:
        name: The file, to which is added; "-" for the standard output.

    Raises:
        OSError: it cannot be written.
    """
    handler: logging.Handler = logging.StreamHandler(sys.stdout) if name == "-" else _File(name)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _access.addHandler(handler)
    _access.setLevel(logging.INFO)
    _access.propagate = False


class _File(WatchedFileHandler):
    """A file that is opened anew where it was moved; a failure is the log's own, as of others."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            super().emit(record)
        except OSError:  # such as no descriptor left to open it anew: no request is to fail by it
            self.handleError(record)


def _referer(asked: Asked) -> str:
    """The page that a request comes from, without what may be secret."""
    page = asked.header("referer").partition("?")[0].partition("#")[0]
    return _USER.sub("//", page)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _shown(text: str) -> str:
    """Text of a peer, as it may stand between double quotes."""
    return _UNSAFE.sub(_escaped, _cut(text))


def _escaped(found: re.Match[str]) -> str:
    return '\\"' if found[0] == '"' else found[0].encode("unicode_escape").decode("ascii")


@lru_cache(maxsize=1)  # the same for all lines of a second
def _local_time(second: int) -> str:
    """A time as the Common Log Format has it: 30/Nov/2026:06:00:00 +0000."""
    moment = localtime(second)
    month = _MONTHS[moment.tm_mon - 1]
    return strftime(f"%d/{month}/%Y:%H:%M:%S ", moment) + _offset(moment.tm_gmtoff)


def _offset(seconds: int) -> str:
    minutes = abs(seconds) // 60
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02}{minutes % 60:02}"


def _utc_time(moment: float) -> str:
    """A time by RFC 3339, in milliseconds."""
    millis = int(moment * 1000)
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(millis // 1000)) + f".{millis % 1000:03}Z"
