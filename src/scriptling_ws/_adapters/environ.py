"""What a WSGI server knows of a request: its head, and the socket that it came on.

Rules (PEP 3333; RFC 9112):

- The head is put together again from the environ, and read by the same parser as the native
  server's own: what that refuses is refused here. An environ is made of bytes, as Latin-1.
- The target is the one that came, where the server keeps it (RAW_URI, REQUEST_URI); so a path that
  hides something from a proxy leads nowhere. The path that counts is PATH_INFO, which is behind
  the place where the application is mounted.
- Who the client is, and whether it came by TLS, is what the environ says: the server, or a
  middleware such as werkzeug's ProxyFix, has decided that.
- The socket is where the server puts it (werkzeug.socket, gunicorn.socket), or below the stream of
  the body: pywsgi's, wsgiref's, Django's `runserver`. A server that has it in neither place cannot
  be helped, and the error says which can.
- What the server has read beyond the head is taken out of its buffer: it is the connection's.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from .._handshakes.head import Refused, parse_request
from .._network.authority import host_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._handshakes.head import Request

    Environ = Mapping[str, Any]

__all__ = ["find_socket", "head_of", "path_of", "request_of", "take_read", "wants_websocket"]

_NAMES: Final = ("werkzeug.socket", "gunicorn.socket", "gunicorn.sock")
_BROKEN = re.compile(r"[\r\n\0]")
_TARGET = re.compile(r"[!-~]+")
_SAFE: Final = "/!$&'()*+,;=:@~"  # what a path may have as it is (RFC 3986 section 3.3)
_ADVICE: Final = (
    "run the application under gunicorn (its worker gthread or gevent), Werkzeug's server or "
    "gevent's pywsgi; or serve the WebSockets beside it, with scriptling_ws.Server"
)


def wants_websocket(environ: Environ) -> bool:
    """Whether a request asks for an upgrade to WebSocket, perhaps one that is malformed."""
    upgrade = environ.get("HTTP_UPGRADE", "").lower()
    return "HTTP_SEC_WEBSOCKET_KEY" in environ or "websocket" in upgrade


def path_of(environ: Environ) -> str | None:
    """The path within the application, decoded; None if it is no text."""
    try:
        return str(environ.get("PATH_INFO", "").encode("latin-1").decode()) or "/"
    except UnicodeError:
        return None


def head_of(environ: Environ) -> bytes:
    """The request's head, from its first line to the blank one.

    Raises:
        Refused: 400, there is something in it that HTTP does not allow.
    """
    version = environ.get("SERVER_PROTOCOL", "HTTP/1.1")
    rows = [f"{environ['REQUEST_METHOD']} {_target(environ)} {version}"]
    for key, value in environ.items():
        name = key.removeprefix("HTTP_")
        if name != key or (key in ("CONTENT_LENGTH", "CONTENT_TYPE") and value):
            rows.append(f"{name.replace('_', '-').lower()}: {value}")
    head = "\r\n".join([*rows, "", ""])
    if any(_BROKEN.search(row) for row in rows):
        raise Refused(400, "a header has a line end in it")
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError:
        raise Refused(400, "a header has a character outside Latin-1") from None


def _target(environ: Environ) -> str:
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    if _TARGET.fullmatch(raw):
        return str(raw)
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "")
    quoted = quote(path.encode("latin-1", "replace"), safe=_SAFE) or "/"
    return f"{quoted}?{query}" if query else quoted


def request_of(environ: Environ, head: bytes) -> Request:
    """The request.

    Args:
        environ: The server's environ.
        head: What `head_of` has made of it.

    Raises:
        Refused: as `parse_request`; 404 if the path is no text.
    """
    path = path_of(environ)
    if path is None:
        raise Refused(404, "the path is not UTF-8")
    secure = environ.get("wsgi.url_scheme") in ("https", "wss")
    return replace(parse_request(head), path=path, remote_addr=_client(environ), secure=secure)


def _client(environ: Environ) -> str:
    address, port = environ.get("REMOTE_ADDR", ""), str(environ.get("REMOTE_PORT", ""))
    if not address or address == "<local>":  # of a Unix socket
        return "unix:"
    return host_port(address, int(port)) if port.isdecimal() else str(address)


# -- the socket ----------------------------------------------------------------


def find_socket(environ: Environ) -> Any:
    """The socket that a request came on.

    Raises:
        Refused: 501, this server does not let an application have it.
    """
    for name in _NAMES:
        if environ.get(name) is not None:
            return environ[name]
    sock = getattr(getattr(_reader(environ), "raw", None), "_sock", None)
    if sock is None:
        raise Refused(501, f"{_server(environ)} lets no application have its socket: {_ADVICE}")
    return sock


def _server(environ: Environ) -> str:
    if "passenger.hijack" in environ or "Passenger" in environ.get("SERVER_SOFTWARE", ""):
        return "Phusion Passenger"
    software = re.sub(r"[^ -~]", "?", str(environ.get("SERVER_SOFTWARE", "")))
    return software.partition("/")[0][:40] or "this WSGI server"


def _reader(environ: Environ) -> Any:
    """The buffered reader over the socket, None if there is none."""
    stream = environ.get("wsgi.input")
    stream = getattr(stream, "rfile", stream)  # pywsgi's
    # Django's LimitedStream has the reader's method alone.
    stream = getattr(getattr(stream, "_read", None), "__self__", stream)
    return stream if hasattr(stream, "peek") else None


def take_read(environ: Environ, sock: Any) -> bytes:
    """Take what the server has read of a request beyond its head. Does not wait."""
    reader = getattr(environ.get("wsgi.input"), "reader", None)
    unreader = getattr(reader, "unreader", None)  # gunicorn's
    if unreader is not None:
        return bytes(unreader.read()) if unreader.buf.getbuffer().nbytes else b""
    buffered = _reader(environ)
    if buffered is None:
        return b""
    before = sock.gettimeout()
    sock.settimeout(0.0)  # where nothing is in its buffer, `peek` reads from the socket
    try:
        # OSError: under TLS, where nothing is there.
        with contextlib.suppress(OSError):
            return bytes(buffered.read1(len(buffered.peek(1))))
    finally:
        sock.settimeout(before)
    return b""
