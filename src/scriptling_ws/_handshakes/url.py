"""WebSocket URLs: what `connect` takes, and what it makes of it.

Rules (RFC 6455 section 3, RFC 3986, RFC 7230 section 5.4):

- The scheme is ws or wss; there is a host; the port is 1 to 65535. Or it is ws+unix or wss+unix,
  and there is the path of a Unix socket, as Node's ws writes it: ws+unix:///run/app.sock:/path?query.
  The host is localhost then.
- No fragment: RFC 6455 forbids it, and dropping it silently would hide a mistake.
- User and password become a Basic Authorization header and appear nowhere else:
  not in the request line, not in an error, not in `repr`.
- A host name outside ASCII is sent as its IDNA form (see `idna`); a path outside ASCII
  is percent-encoded as UTF-8.
- No control character or blank gets through, so nothing can be smuggled into
  the request.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from .._errors import InvalidURL
from .._fields import shown_target
from .._network.authority import DEFAULT_PORTS, has_whole_labels, host_port
from .idna import ascii_name

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["URL", "parse_url"]

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_IPV6 = re.compile(r"([0-9A-Fa-f:.]+)(?:%(?:25)?([A-Za-z0-9_.-]+))?")  # RFC 6874: %25 for %
_BRACKETED = re.compile(r"\[[^\[\]:]*:[^\[\]]*\](:[^\[\]]*)?")  # an IPv6 address and its port
_SCHEMES = ("ws", "wss", "ws+unix", "wss+unix")
_LONGEST = 65_536  # a token in the query may take tens of KiB
_CACHED = 1024  # of longer URLs each is most likely another one


@dataclass(frozen=True, repr=False)
class URL:
    """A checked WebSocket URL.

    Attributes:
        secure: Whether the scheme is wss, or wss+unix.
        host: The host to look up: an ASCII name or an address without brackets.
        port: The port, the scheme's own if the URL names none.
        target: Path and query, as the request line has them.
        credentials: The value of an Authorization header, or None.
        unix: The file of a Unix socket to connect to, in place of host and port; or None.

    Its `repr` has neither the query nor the credentials, which may be secret.
    """

    secure: bool
    host: str
    port: int
    target: str
    credentials: str | None = None
    unix: str | None = None

    def __repr__(self) -> str:
        unix = "" if self.unix is None else f", unix={self.unix!r}"
        return (
            f"URL(secure={self.secure}, host={self.host!r}, port={self.port}, "
            f"target={shown_target(self.target)}{unix})"
        )

    @property
    def origin(self) -> tuple[bool, str, int, str | None]:
        """What two URLs of one origin have in common (RFC 6454 section 4)."""
        return self.secure, self.host, self.port, self.unix

    @property
    def host_header(self) -> str:
        """The Host header: the port is left out where it is the scheme's own."""
        host = self.host.partition("%")[0]  # a zone is this machine's business (RFC 6874)
        if self.port == DEFAULT_PORTS["wss" if self.secure else "ws"]:
            return f"[{host}]" if ":" in host else host
        return host_port(host, self.port)

    @property
    def server_name(self) -> str:
        """What the certificate has to be for: no zone, nor the dot of a full name (RFC 6066)."""
        return self.host.partition("%")[0].removesuffix(".")


def parse_url(url: str) -> URL:
    """Check a URL and take it apart.

    Args:
        url: `ws://host[:port][/path][?query]`, or wss; or `ws+unix:///file[:/path][?query]`.

    Raises:
        TypeError: it is not a str.
        InvalidURL: it is not a WebSocket URL; the text says what is wrong.
    """
    if not isinstance(url, str):
        raise TypeError(f"the URL has to be a str, not {type(url).__name__}")
    return _parse_cached(url) if len(url) <= _CACHED else _parse(url)


def _parse(url: str) -> URL:
    if len(url) > _LONGEST:
        raise InvalidURL(f"the URL is {len(url)} characters long; {_LONGEST} is the most")
    if found := _FORBIDDEN.search(url):
        raise InvalidURL(
            f"the URL has the character {found[0]!r} at position {found.start()}: percent-encode it"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        # The error quotes the netloc, which may hold a password.
        raise InvalidURL("the URL's host or port is malformed") from _without_text(error)
    where = parts.netloc.rpartition("@")[2]
    if ("[" in where or "]" in where) and not _BRACKETED.fullmatch(where):
        raise InvalidURL("the URL's host or port is malformed")  # urlsplit overlooks it
    if parts.scheme not in _SCHEMES and "://" not in url:
        raise InvalidURL("the URL has no scheme: write ws://host:port/path, or wss://")
    if parts.scheme not in _SCHEMES:
        raise InvalidURL(
            f"the URL's scheme is {parts.scheme or 'missing'!r}: it has to be ws or wss"
        )
    if "#" in url:
        raise InvalidURL("the URL has a fragment (#...): remove it, or write a literal # as %23")
    if parts.scheme.endswith("+unix"):
        return _parse_unix(parts, "?" in url)
    if port == 0:
        raise InvalidURL("the URL's port is 0: it has to be 1 to 65535")
    return URL(
        secure=parts.scheme == "wss",
        host=_host(parts.hostname or "", where),
        port=port if port is not None else DEFAULT_PORTS[parts.scheme],
        target=_target(parts.path, parts.query, "?" in url),
        credentials=_credentials(parts.username, parts.password),
    )


def _parse_unix(parts: SplitResult, has_query: bool) -> URL:
    """The URL of a Unix socket: its file, and behind a colon the path that is asked for."""
    path, _, target = parts.path.partition(":")
    if parts.netloc or not path.startswith("/"):
        raise InvalidURL(
            "the URL of a Unix socket has its whole path: ws+unix:///run/app.sock, "
            "or ws+unix:///run/app.sock:/path?query"
        )
    try:
        file = os.fsdecode(unquote_to_bytes(path))
    except UnicodeEncodeError as error:
        raise InvalidURL("the URL has a lone surrogate, which UTF-8 cannot encode") from error
    if "\0" in file:
        raise InvalidURL("the URL's Unix socket has a NUL in its path")
    if target and not target.startswith("/"):
        raise InvalidURL(
            "the URL of a Unix socket has a colon in its path: write %3A, or what is behind the "
            "colon as /path"
        )
    secure = parts.scheme.startswith("wss")
    return URL(
        secure=secure,
        host="localhost",
        port=DEFAULT_PORTS["wss" if secure else "ws"],
        target=_target(target, parts.query, has_query),
        unix=file,
    )


# Most programs connect to the same few, again and again.
_parse_cached = lru_cache(maxsize=64)(_parse)


def _without_text(error: ValueError) -> ValueError:
    return type(error)("the text is withheld: it may quote a password")


def _host(host: str, where: str) -> str:
    """The host to look up, of one in lower case and of what the URL has with the port."""
    if not host:
        raise InvalidURL("the URL has no host")
    if ":" in host:
        match = _IPV6.fullmatch(host)
        if match is None:
            raise InvalidURL(f"{host!r} is not an IPv6 address")
        return f"{match[1]}%{match[2]}" if match[2] else match[1]
    try:
        # Lower case by Unicode's rules is another name: it has a final sigma.
        ascii_host = host if host.isascii() else ascii_name(where.partition(":")[0])
    except ValueError as error:
        raise InvalidURL(f"the host {host!r} cannot be written in IDNA form") from error
    if not _HOST.fullmatch(ascii_host) or not has_whole_labels(ascii_host):
        raise InvalidURL(f"{host!r} is not a host name")
    return ascii_host


def _target(path: str, query: str, has_query: bool) -> str:
    # "%" stays, so that what the caller has encoded is not encoded twice.
    safe = "!$%&'()*+,/:;=?@[]_.-~|"
    try:
        target = quote(path, safe=safe) or "/"
        return f"{target}?{quote(query, safe=safe)}" if has_query else target
    except UnicodeEncodeError as error:
        raise InvalidURL("the URL has a lone surrogate, which UTF-8 cannot encode") from error


def _credentials(user: str | None, password: str | None) -> str | None:
    if user is None:
        return None
    try:
        pair = f"{unquote(user, errors='strict')}:{unquote(password or '', errors='strict')}"
        encoded = pair.encode("utf-8")
    except UnicodeError:
        raise InvalidURL("the URL's user or password is not UTF-8") from None
    return "Basic " + base64.b64encode(encoded).decode("ascii")
