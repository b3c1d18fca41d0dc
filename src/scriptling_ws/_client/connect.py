"""connect(): from a URL to an open connection, within one deadline.

Rules (RFC 6455 section 4.1):

- Every argument is checked before a name is looked up or a socket opened; a set of options that
  has passed is not checked again.
- One deadline for all of it: name lookup, TCP, the proxy, TLS, the upgrade, and where a redirect
  leads to.
- Whatever fails from then on, the socket is closed; and the error is one of ConnectError's
  tree, save for what a signal handler raises.
- What is done on the way has files of its own: `way` (what the caller says of it), `reach` (the
  stream), `upgrade` and `redirects`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, overload

from .._connection.connection import Connection
from .._errors import ConnectError, HandshakeError
from .._handshakes.additions import Additions
from .._handshakes.client import ClientHandshake
from .._handshakes.exchange import Exchange
from .._handshakes.terms import Terms
from .._handshakes.url import parse_url
from .._network.deadline import Deadline, check_timeout
from .._options import HeadLimits, Options, check_subprotocols
from .._unknown import check_names
from .reach import open_stream
from .secure import is_told
from .upgrade import upgrade
from .way import USUAL

if TYPE_CHECKING:
    import os
    import socket
    import ssl
    from collections.abc import Iterable, Mapping

    from typing_extensions import Unpack

    from .._handshakes.url import URL
    from .._options import ClientOptions
    from .redirects import Trail
    from .way import Way

__all__ = ["connect"]

_FUNCTIONS: Final = {"dumps", "loads"}
# What `_by_way_of` is given by most calls.
_NOTHING_ASKED: Final = (None, None, None, None, None, None, None, (), 0)


@overload
def connect(
    url: str,
    timeout: float | None = 10,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    *,
    binary_type: type[list[int]] = list,
    text_type: type[str] = str,
    **options: Unpack[ClientOptions],
) -> Connection: ...


@overload
def connect(
    url: str,
    timeout: float | None = 10,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    *,
    binary_type: type[list[int]] = list,
    text_type: type[bytes],
    **options: Unpack[ClientOptions],
) -> Connection[list[int], bytes]: ...


@overload
def connect(
    url: str,
    timeout: float | None = 10,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    *,
    binary_type: type[bytes],
    text_type: type[str] = str,
    **options: Unpack[ClientOptions],
) -> Connection[bytes]: ...


def connect(
    url: str,
    timeout: float | None = 10,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    *,
    binary_type: type[list[int]] | type[bytes] = list,
    text_type: type[str] | type[bytes] = str,
    subprotocols: Iterable[str] = (),
    cookies: Mapping[str, str] | None = None,
    origin: str | None = None,
    user_agent: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    proxy: str | bool | None = None,
    proxy_ssl_context: ssl.SSLContext | None = None,
    max_redirects: int = 0,
    sock: socket.socket | None = None,
    unix: str | os.PathLike[str] | None = None,
    source_address: str | tuple[str, int] | None = None,
    socket_options: Iterable[tuple[int, int, int | bytes]] = (),
    max_line_size: int = HeadLimits.max_line_size,
    max_headers: int = HeadLimits.max_headers,
    max_head_size: int = HeadLimits.max_head_size,
    **options: Any,
) -> Connection[Any, Any]:
    """Open a WebSocket connection.

    Blocks until the connection is open, at most `timeout`; the lookup of a name may take longer
    where no thread can be started for it. Thread-safe. docs/connecting.md has examples of each
    option.

    Args:
        url: `ws://host[:port][/path][?query]`, or `wss://` for TLS. A user and
            password in it are sent as Basic authorization. `ws+unix:///run/app.sock:/path` is for
            a Unix socket.
        timeout: Seconds (default 10) for name lookup, TCP, proxy, TLS, upgrade and redirects
            together; None to wait for ever.
        headers: More headers for the request, such as `{"Authorization": "Bearer …"}`; or pairs of
            names and values. A Host header replaces the URL's, for the server alone.
        text_type: What a text message is received as: `str` (the default) or `bytes`, which hold
            the checked UTF-8. Then binary messages are lists, which tells the two apart:
            `binary_type=bytes` beside it is refused.
        binary_type: What a binary message is received as: `list` (of ints, the default) or
            `bytes`, which is the fast choice.
        subprotocols: Subprotocols to offer, the preferred one first.
        cookies: Cookies to send, by their names.
        origin: The Origin header, which servers compare that are for browsers.
        user_agent: The User-Agent header; by default this package and its version, "" for none.
        ssl_context: TLS settings for `wss://`; default: the system's trust
            store, the host name checked (by subjectAltName alone), TLS 1.2 or later.
        server_hostname: The name that the certificate has to be for, and that TLS asks for (SNI);
            default: the URL's host.
        proxy: A proxy's URL: `http://`, `https://` (TLS to the proxy), `socks5h://`, `socks5://`,
            `socks4a://` or `socks4://` (needs scriptling-ws[socks]), with user and password where
            it wants them. True for the environment's, as `urllib` reads it, with its `no_proxy`;
            None (the default) for none.
        proxy_ssl_context: TLS settings for a proxy of `https://`; default: as of `ssl_context`.
        max_redirects: The most redirects to follow (default 0). Authorization, cookies and Host do
            not go to another origin, and none leads from wss:// to ws://.
        sock: A connected socket to use; the URL says the host and the path alone. It belongs to
            the connection from then on, and is closed if that cannot be opened.
        unix: The path of a Unix socket to connect to; the URL says the host and the path alone.
        source_address: The address of this machine to connect from, or it and a port.
        socket_options: Triples for `setsockopt`, set before the socket connects.
        max_line_size: The most bytes in a line of the server's answer to the upgrade, and of a
            proxy's.
        max_headers: The most headers in that answer.
        max_head_size: The most bytes in its head, which is all of it before a body.
        **options: Those of every connection, such as `max_message_size`, `ping_interval`
            and `compression`: `ConnectionOptions` describes them.

    Returns:
        An open connection.

    Raises:
        InvalidURL: the URL is not a WebSocket URL, or the proxy's not a proxy's.
        TypeError: an argument is of the wrong type, or an option unknown.
        ValueError: a header, cookie, subprotocol or option cannot be used, or two of them not
            together; `ssl_context` is given for ws://, or is a server's.
        ImportError: the proxy is one of SOCKS, and socksio is not installed.
        ConnectTimeout: the timeout came first.
        HandshakeError: the server refused the upgrade, or its answer is not valid:
            `.status`, `.headers`, `.body`.
        ProxyError: the proxy could not be reached, or refused: `.status`, `.headers`.
        ConnectError: anything else that keeps the connection from being opened;
            the `__cause__` of a TLS failure is the `ssl` error.
    """
    target = parse_url(url)
    seconds = check_timeout(timeout)
    heads = max_line_size, max_headers, max_head_size
    try:
        # Functions of the program, and all that they refer to, are not for the cache to keep.
        kept = not options.keys() & _FUNCTIONS
        checked = _checked(binary_type, text_type, *heads, **options) if kept else None
    except TypeError:  # it may be the cache's: of what it cannot have as a key, no option can be
        checked = None
    chosen, limits = checked or _checked.__wrapped__(binary_type, text_type, *heads, **options)
    asked = (
        *(ssl_context, server_hostname, proxy, proxy_ssl_context, sock, unix, source_address),
        *(socket_options, max_redirects),
    )
    way, trail = USUAL, None
    if asked != _NOTHING_ASKED or target.unix is not None:
        way, trail = _by_way_of(target, limits, *asked)
    additions = Additions.checked(headers, cookies=cookies, origin=origin, user_agent=user_agent)
    offered = check_subprotocols(subprotocols)
    deadline = Deadline(seconds)
    while True:
        handshake = ClientHandshake(
            target, additions, offered, limits, deflate=Terms.wanted(chosen)
        )
        follow = trail is not None and trail.follows
        try:
            return _open(target, way, handshake, chosen, deadline, follow=follow)
        except HandshakeError as refusal:
            if trail is None or not trail.leads_on(refusal):
                raise
            following = trail.next(target, refusal)
        if following.origin != target.origin:
            way, additions = way.elsewhere(), additions.elsewhere()
        target = following


# Most programs have one set of options, or a few. By types too: True is no 1 here.
@lru_cache(maxsize=64, typed=True)
def _checked(
    binary_type: type[list[int]] | type[bytes],
    text_type: type[str] | type[bytes],
    max_line_size: int,
    max_headers: int,
    max_head_size: int,
    **options: Any,
) -> tuple[Options, HeadLimits]:
    check_names("connect", options)
    chosen = Options(binary_type, text_type, **options)
    return chosen, HeadLimits(max_line_size, max_headers, max_head_size)


def _by_way_of(
    url: URL,
    limits: HeadLimits,
    ssl_context: ssl.SSLContext | None,
    server_hostname: str | None,
    proxy: str | bool | None,
    proxy_ssl_context: ssl.SSLContext | None,
    sock: socket.socket | None,
    unix: str | os.PathLike[str] | None,
    source_address: str | tuple[str, int] | None,
    socket_options: Iterable[tuple[int, int, int | bytes]],
    max_redirects: int,
) -> tuple[Way, Trail | None]:
    """The way that was asked for, checked; and what follows redirects, None for nothing."""
    from .redirects import Trail
    from .way_arguments import check_way  # most calls ask for nothing

    trail = Trail(max_redirects)
    way = check_way(
        url,
        limits,
        ssl_context=ssl_context,
        server_hostname=server_hostname,
        sock=sock,
        unix=unix,
        source_address=source_address,
        socket_options=socket_options,
        proxy=proxy,
        proxy_ssl_context=proxy_ssl_context,
        redirects=trail.follows,
    )
    return way, trail if trail.follows else None


def _open(
    url: URL,
    way: Way,
    handshake: ClientHandshake,
    options: Options,
    deadline: Deadline,
    *,
    follow: bool,
) -> Connection[Any, Any]:
    """Open a connection to one URL; `follow`: a redirect will be followed."""
    transport = open_stream(url, way, deadline)
    try:
        upgrade(transport, handshake, deadline, follow=follow)
        return Connection(
            transport,
            client=True,
            options=options,
            received=handshake.rest,
            subprotocol=handshake.subprotocol,
            exchange=Exchange(handshake.request, handshake.answer, secure=url.secure),
            deflate=handshake.deflate,
        )
    except BaseException as error:
        transport.close()
        if isinstance(error, OSError) and not is_told(error):  # keepalive cannot start
            text = f"cannot keep a connection to {url.host!r}: {error}"
            raise ConnectError(text, error) from error
        raise
