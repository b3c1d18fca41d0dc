"""From a URL to an open stream, by the way that is to be taken.

Rules:

- The ways are: a socket that the caller brings, a Unix socket, a proxy, and straight to the URL's
  host. Each ends in a transport over which the upgrade goes; for wss under TLS with the server.
- The name in the certificate is the URL's host, unless `server_hostname` says otherwise: never the
  proxy's. TLS with the proxy has settings of its own.
- Whatever fails, what was opened is closed; and the error is a ConnectError, save for what a signal
  handler raises.
- A file that one way alone needs is imported on that way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import ConnectError
from .._network.authority import host_port
from .._network.dial import dial, dial_unix
from .._network.tls import TLSTransport
from .secure import default_context, is_told, open_over, shake_hands

if TYPE_CHECKING:
    import socket
    import ssl

    from .._handshakes.url import URL
    from .._network.deadline import Deadline
    from .._network.transport import Transport
    from .proxy import Proxy
    from .way import Way

__all__ = ["open_stream"]


def open_stream(url: URL, way: Way, deadline: Deadline) -> Transport:
    """Open a stream to a URL's server.

    Args:
        url: Where to.
        way: How.
        deadline: When to give up.

    Raises:
        ConnectTimeout: the deadline came first.
        InvalidURL: the environment's proxy cannot be used.
        ProxyError: the proxy cannot be reached, or does not open the way.
        ConnectError: anything else that keeps the stream from being opened.
    """
    unix = way.unix or url.unix
    if way.sock is not None:
        return _over(way.sock, url, way, deadline)
    if unix is not None:
        return _over(dial_unix(unix, deadline, way.settings), url, way, deadline)
    proxy = way.proxy
    if proxy is True:
        from .proxy import proxy_of_environment

        proxy = proxy_of_environment(url)
    if proxy is None:
        return _over(dial(url.host, url.port, deadline, way.settings), url, way, deadline)
    return _through(proxy, url, way, deadline)


def _over(sock: socket.socket, url: URL, way: Way, deadline: Deadline) -> Transport:
    """The transport over a connected socket, which is closed if that fails."""
    try:
        if not url.secure:
            return open_over(sock)
        where = host_port(url.host, url.port)
        return open_over(sock, _context(way), _name(url, way), deadline, where)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and not is_told(error):
            raise _failed(url, error) from error
        raise


def _context(way: Way) -> ssl.SSLContext:
    return default_context() if way.context is None else way.context


def _name(url: URL, way: Way) -> str:
    return way.server_hostname or url.server_name


def _failed(url: URL, error: OSError) -> ConnectError:
    return ConnectError(f"cannot open a connection to {url.host!r}: {error}", error)


def _through(proxy: Proxy, url: URL, way: Way, deadline: Deadline) -> Transport:
    """The transport through a proxy."""
    from .tunnel import open_tunnel  # on this way alone

    tunnel = open_tunnel(proxy, url, way, deadline)
    try:
        if not url.secure:
            transport = tunnel
        elif isinstance(tunnel, TLSTransport):
            transport = _within(tunnel, url, way, deadline)
        else:
            transport = _over(tunnel.detach(), url, way, deadline)
    except BaseException:
        tunnel.close()
        raise
    transport.remote_addr = host_port(url.host, url.port)
    return transport


def _within(tunnel: TLSTransport, url: URL, way: Way, deadline: Deadline) -> Transport:
    """TLS with the server, through a tunnel that is under TLS itself."""
    from .._network.layered import TLSInTLS

    transport: TLSTransport = tunnel
    try:
        transport = inner = TLSInTLS(tunnel, _context(way), server_hostname=_name(url, way))
        shake_hands(inner, deadline, host_port(url.host, url.port))
    except BaseException as error:
        transport.close()
        if isinstance(error, OSError) and not is_told(error):
            raise _failed(url, error) from error
        raise
    return transport
