"""What a caller asks of the way to a server, checked.

Rules:

- What cannot be used, or cannot go together, is refused before a name is looked up or a socket
  opened: an option that would have no effect is a mistake that would show much later.
- A socket that the caller brings is taken over once the arguments are good: it is closed with the
  connection, and if that cannot be opened. It has to be connected; it may be of any family with a
  stream (TCP, Unix, VSOCK, a pair of sockets), but not one that has a TLS of its own.
"""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING, Any, Final, Literal

from .._handshakes.idna import ascii_name
from .._network.authority import has_whole_labels
from .._network.contexts import check_context
from .._network.race import PLAIN, SocketSettings
from .proxy import parse_proxy
from .way import Way

if TYPE_CHECKING:
    import ssl

    from .._handshakes.url import URL
    from .._options import HeadLimits
    from .proxy import Proxy

__all__ = ["check_way"]

_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_NO_OPTIONS: Final = (
    "socket_options has to be a list of triples for setsockopt, "
    "such as [(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)]"
)
_MOST_PORT: Final = 65_535
_PAIR: Final = 2
_TRIPLE: Final = 3


def check_way(
    url: URL,
    limits: HeadLimits,
    *,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    sock: socket.socket | None = None,
    unix: str | os.PathLike[str] | None = None,
    source_address: object = None,
    socket_options: object = (),
    proxy: str | bool | None = None,
    proxy_ssl_context: ssl.SSLContext | None = None,
    redirects: bool = False,
) -> Way:
    """Check what a caller says of the way; `connect` describes each.

    Args:
        url: Where to.
        limits: How long a head may be.
        ssl_context: As the attribute `context`.
        server_hostname: As the attribute.
        sock: As the attribute.
        unix: As the attribute.
        source_address: The address, or the address and the port, to connect from.
        socket_options: For `setsockopt`: triples.
        proxy: The proxy's URL; True to look into the environment, None or False for none.
        proxy_ssl_context: As the attribute `proxy_context`.
        redirects: Whether redirects may be followed.

    Raises:
        TypeError: something is of the wrong type.
        ValueError: something cannot be used, or cannot go together.
        ImportError: a SOCKS proxy, without socksio.
    """
    settings = PLAIN
    if source_address is not None or socket_options != ():
        settings = SocketSettings(_source(source_address), _socket_options(socket_options))
    if sock is not None or unix is not None or url.unix is not None:
        _check_alone(url, sock, unix, proxy, settings, redirects=redirects)
    chosen = _proxy(proxy, proxy_ssl_context)
    if ssl_context is not None or server_hostname is not None:
        server_hostname = _check_tls(url, ssl_context, server_hostname, redirects=redirects)
    return Way(
        context=ssl_context,
        server_hostname=server_hostname,
        settings=settings,
        sock=sock,
        unix=None if unix is None else _path(unix),
        proxy=chosen,
        proxy_context=proxy_ssl_context,
        limits=limits,
    )


def _check_tls(
    url: URL, context: object, server_hostname: object, *, redirects: bool
) -> str | None:
    """Check the options of TLS; the name as TLS has it: in ASCII, without a dot at its end."""
    name: str | None = None
    if context is not None:
        check_context(context, server_side=False)
    if server_hostname is not None:
        if not isinstance(server_hostname, str):
            kind = type(server_hostname).__name__
            raise TypeError(f"server_hostname has to be a str, not {kind}")
        name = ascii_name(server_hostname).removesuffix(".")
        if not (_NAME.fullmatch(name) and has_whole_labels(name)):
            raise ValueError(f"server_hostname is no host name or address: {server_hostname!r}")
    if not (url.secure or redirects):
        option = "ssl_context" if context is not None else "server_hostname"
        raise ValueError(f"{option} is given, but the URL is ws://: use wss://")
    return name


def _check_alone(
    url: URL,
    sock: object,
    unix: object,
    proxy: object,
    settings: SocketSettings,
    *,
    redirects: bool,
) -> None:
    """Check what may stand beside a socket that is no TCP socket of this call's."""
    if sock is not None:
        _check_socket(sock)
    name = "sock" if sock is not None else "unix" if unix is not None else "a ws+unix:// URL"
    others = {
        "unix": name != "unix" and unix is not None,
        "a ws+unix:// URL": name != "a ws+unix:// URL" and url.unix is not None,
        "proxy": bool(proxy),
        "source_address": settings.source is not None,
        "socket_options": sock is not None and bool(settings.options),
        "max_redirects": redirects,
    }
    for other, given in others.items():
        if given:
            raise ValueError(f"{name} and {other} cannot go together: leave one of them out")


def _check_socket(sock: Any) -> None:
    needed = ("fileno", "recv_into", "send", "setsockopt", "getpeername", "setblocking")
    if isinstance(sock, type) or not all(callable(getattr(sock, name, None)) for name in needed):
        raise TypeError(f"sock has to be a connected socket.socket, not {type(sock).__name__}")
    if hasattr(sock, "do_handshake"):
        raise ValueError(
            "sock has a TLS of its own: give the plain socket, and a wss:// URL with ssl_context"
        )
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"sock has to be a stream socket, not {sock!r}")


def _path(unix: object) -> str:
    """The path of a Unix socket's file."""
    if not isinstance(unix, (str, os.PathLike)):
        raise TypeError(f"unix has to be a path, not {type(unix).__name__}")
    text = os.fsdecode(unix)
    if not text or "\0" in text:
        raise ValueError(f"unix has to be a path, such as '/run/app.sock', not {text!r}")
    return text


def _proxy(proxy: object, context: object) -> Proxy | Literal[True] | None:
    """The proxy of an option, and its settings of TLS checked."""
    chosen: Proxy | Literal[True] | None = None
    if proxy is True:
        chosen = True
    elif proxy is not None and proxy is not False:
        chosen = parse_proxy(proxy)
        if chosen.scheme.startswith("socks"):
            from .socks import import_socksio  # on this way alone

            import_socksio()
    if context is not None:
        if chosen is None or (chosen is not True and chosen.scheme != "https"):
            raise ValueError("proxy_ssl_context is given, but no proxy with https://: leave it out")
        check_context(context, server_side=False)
    return chosen


def _source(source: object) -> tuple[str, int] | None:
    """The address and the port that a socket is bound to."""
    if source is None:
        return None
    host, port = source if isinstance(source, tuple) and len(source) == _PAIR else (source, 0)
    if not isinstance(host, str) or isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(
            "source_address has to be an address, such as '192.0.2.1', or an address and a port, "
            "such as ('192.0.2.1', 0)"
        )
    if not 0 <= port <= _MOST_PORT:
        raise ValueError(f"source_address has the port {port}: it has to be 0 to {_MOST_PORT}")
    try:
        if host:
            socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        raise ValueError(
            f"source_address has to be an address of this machine, not {host!r}"
        ) from None
    return host, port


def _socket_options(options: object) -> tuple[tuple[int, int, int | bytes], ...]:
    """What `setsockopt` is called with."""
    if isinstance(options, (str, bytes)) or not hasattr(options, "__iter__"):
        raise TypeError(_NO_OPTIONS)
    checked = []
    for option in options:
        if not isinstance(option, (tuple, list)) or len(option) != _TRIPLE:
            raise TypeError(_NO_OPTIONS)
        level, name, value = option
        if not all(isinstance(each, int) for each in (level, name)) or not isinstance(
            value, (int, bytes)
        ):
            raise TypeError(_NO_OPTIONS)
        checked.append((level, name, value))
    return tuple(checked)
