"""How a server is to be reached, once that was checked (`way_arguments`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from .._network.race import PLAIN
from .._options import DEFAULT_HEADS

if TYPE_CHECKING:
    import socket
    import ssl

    from .._network.race import SocketSettings
    from .._options import HeadLimits
    from .proxy import Proxy

__all__ = ["USUAL", "Way"]


class Way:
    """How a server is reached. It is not changed.

    Attributes:
        context: The settings of TLS with the server; None for the default.
        server_hostname: The name that its certificate has to be for; None for the URL's host.
        settings: What a socket is given before it connects.
        sock: A connected socket; None to connect one.
        unix: The file of a Unix socket; None for the URL's.
        proxy: The proxy; True to look into the environment, None for none.
        proxy_context: The settings of TLS with the proxy; None for the default.
        limits: How long the head of the proxy's answer may be.
    """

    __slots__ = (
        "context",
        "limits",
        "proxy",
        "proxy_context",
        "server_hostname",
        "settings",
        "sock",
        "unix",
    )

    def __init__(
        self,
        *,
        context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        settings: SocketSettings = PLAIN,
        sock: socket.socket | None = None,
        unix: str | None = None,
        proxy: Proxy | Literal[True] | None = None,
        proxy_context: ssl.SSLContext | None = None,
        limits: HeadLimits = DEFAULT_HEADS,
    ) -> None:
        self.context = context
        self.server_hostname = server_hostname
        self.settings = settings
        self.sock = sock
        self.unix = unix
        self.proxy: Proxy | Literal[True] | None = proxy
        self.proxy_context = proxy_context
        self.limits = limits

    def elsewhere(self) -> Way:
        """The way to another origin than it was meant for."""
        return Way(
            context=self.context,
            settings=self.settings,
            proxy=self.proxy,
            proxy_context=self.proxy_context,
            limits=self.limits,
        )


USUAL: Final = Way()
"""The way of most calls, which say nothing of it."""
