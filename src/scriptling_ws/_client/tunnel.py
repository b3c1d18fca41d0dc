"""Through a proxy: a stream to it, under TLS if its URL says so, and its way to the server open.

Rules:

- What goes wrong here is a ProxyError, but for the deadline: the server has no part in it.
- The stream ends behind the proxy's answer, to the byte (`conversation`): what the proxy has sent
  together with it is there for the server's part.
- HTTP's part is `_handshakes.tunnel`, that of SOCKS is `socks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import ConnectError, ConnectTimeout, ProxyError
from .._handshakes.tunnel import Tunnel
from .._network.authority import host_port
from .._network.dial import dial
from .conversation import Conversation
from .secure import default_context, is_told, open_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._handshakes.url import URL
    from .._network.deadline import Deadline
    from .._network.transport import Transport
    from .._options import HeadLimits
    from .proxy import Proxy
    from .way import Way

__all__ = ["open_tunnel"]


def open_tunnel(proxy: Proxy, url: URL, way: Way, deadline: Deadline) -> Transport:
    """Have a proxy open the way to a URL's host.

    Args:
        proxy: The proxy.
        url: Where to.
        way: What else is to be heeded.
        deadline: When to give up.

    Returns:
        A stream whose next bytes are the server's; under TLS with a proxy of https.

    Raises:
        ConnectTimeout: the deadline came first.
        ProxyError: the proxy cannot be reached, or refuses.
        ConnectError: a name, which has to be looked up here for the proxy, has no address.
    """
    if proxy.scheme.startswith("socks"):
        from .socks import socks_request  # on this way alone

        ask = socks_request(proxy, url, deadline)
    else:
        ask = _http_request(proxy, url, way.limits)
    transport = _reach(proxy, way, deadline)
    try:
        ask(Conversation(transport, proxy.where, deadline))
    except BaseException:
        transport.close()
        raise
    return transport


def _reach(proxy: Proxy, way: Way, deadline: Deadline) -> Transport:
    """A stream to the proxy."""
    context = way.proxy_context
    if context is None and proxy.scheme == "https":
        context = default_context()
    try:
        sock = dial(proxy.host, proxy.port, deadline, way.settings)
        return open_over(sock, context, proxy.server_name, deadline, proxy.where)
    except ConnectTimeout as error:
        raise ConnectTimeout(f"no connection to the proxy {proxy.where}: {error}") from error
    except OSError as error:
        if is_told(error) and not isinstance(error, ConnectError):
            raise  # a signal handler's
        # No local name for the cause: its frames would hold it, and it them.
        text = f"no connection to the proxy {proxy.where}: {error}"
        raise ProxyError(text, error.__cause__ or error) from error.__cause__ or error


def _http_request(proxy: Proxy, url: URL, limits: HeadLimits) -> Callable[[Conversation], None]:
    """What asks a proxy of HTTP."""
    host = url.host.partition("%")[0]  # a zone is this machine's business (RFC 6874)
    credentials = None if proxy.user is None else (proxy.user, proxy.password)
    tunnel = Tunnel(host_port(host, url.port), credentials, proxy.where)

    def ask(conversation: Conversation) -> None:
        conversation.send(tunnel.request)
        while not tunnel.receive(conversation.read_head(limits)):
            pass

    return ask
