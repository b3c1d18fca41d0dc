"""Which proxy: of a URL that the caller gives, or of the environment.

Rules (RFC 3986, RFC 6455 section 4.1, `urllib.request.getproxies`):

- The schemes are http and https (CONNECT, `https` with TLS to the proxy), socks4 and socks5 (names
  are looked up here), socks4a and socks5h (names are looked up by the proxy).
- User and password in the URL are for the proxy, and appear nowhere else: no `repr`, no error and
  no log shows them. SOCKS4 knows a user alone; SOCKS5 takes 255 bytes of each (RFC 1929).
- The environment is read as urllib reads it, variables in lower case first, the system's settings
  where it has some (macOS, Windows); `no_proxy` has suffixes of names. Of its proxies the URL's own
  scheme is asked for first (`ws_proxy`, `wss_proxy`), then socks, then that for https, before that
  for http, which is for ws:// alone: the order that RFC 6455 recommends. `all_proxy` is last.
- It is read for each connection, and imports `urllib.request` only then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit

from .._errors import InvalidURL
from .._handshakes.url import parse_url
from .._network.authority import host_port

if TYPE_CHECKING:
    from .._handshakes.url import URL

__all__ = ["Proxy", "parse_proxy", "proxy_of_environment"]

_PORTS: Final = {
    "http": 80,
    "https": 443,
    "socks4": 1080,
    "socks4a": 1080,
    "socks5": 1080,
    "socks5h": 1080,
}
_ORDER: Final = {
    False: ("ws", "socks", "https", "http", "all"),
    True: ("wss", "socks", "https", "all"),
}
_LONGEST: Final = 255  # bytes of a user or a password, in SOCKS5


@dataclass(frozen=True, repr=False)
class Proxy:
    """A proxy.

    Attributes:
        scheme: One of those that the rules name.
        host: Its host, as that of a URL.
        port: Its port.
        user: The user for it; None for no credentials.
        password: The password for it.
    """

    scheme: str
    host: str
    port: int
    user: bytes | None = None
    password: bytes = b""

    @property
    def where(self) -> str:
        """Host and port, for errors."""
        return host_port(self.host, self.port)

    @property
    def server_name(self) -> str:
        """What its certificate has to be for."""
        return self.host.partition("%")[0].removesuffix(".")

    @property
    def resolves(self) -> bool:
        """Whether it looks names up."""
        return self.scheme not in ("socks4", "socks5")

    def __repr__(self) -> str:
        return f"<Proxy {self.scheme}://{self.where}>"


def parse_proxy(text: object) -> Proxy:
    """Check the URL of a proxy and take it apart.

    Args:
        text: `scheme://[user[:password]@]host[:port]`.

    Raises:
        TypeError: it is no str.
        InvalidURL: it is not the URL of a proxy; the text says what is wrong.
    """
    if not isinstance(text, str):
        raise TypeError(
            "proxy has to be a URL such as 'http://proxy.example:3128', True for the "
            f"environment's, or None, not {type(text).__name__}"
        )
    scheme, mark, rest = text.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in _PORTS:
        schemes = ", ".join(f"{each}://" for each in _PORTS)
        raise InvalidURL(f"the proxy's URL has to begin with one of {schemes}")
    try:
        # Its host and port are those of any URL; what is wrong with them is said there.
        checked = parse_url(f"ws://{rest}")
        parts = urlsplit(f"ws://{rest}")
        port = parts.port
    except InvalidURL as error:
        raise InvalidURL(f"the proxy's URL cannot be used: {error}") from None
    if checked.target != "/":
        raise InvalidURL("the proxy's URL has a path or a query: remove it")
    if parts.username is None:
        return Proxy(scheme, checked.host, port or _PORTS[scheme])
    user = unquote_to_bytes(parts.username)
    password = unquote_to_bytes(parts.password or "")
    _check_credentials(scheme, user, password)
    return Proxy(scheme, checked.host, port or _PORTS[scheme], user, password)


def _check_credentials(scheme: str, user: bytes, password: bytes) -> None:
    if scheme.startswith("http"):
        if b":" in user:
            raise InvalidURL("the proxy's URL has a user with a colon, which Basic cannot send")
    elif scheme.startswith("socks4"):
        if password:
            raise InvalidURL("the proxy's URL has a password, which SOCKS4 does not know")
        if b"\0" in user:
            raise InvalidURL("the proxy's URL has a user with a NUL, which SOCKS4 cannot send")
    elif not (0 < len(user) <= _LONGEST and len(password) <= _LONGEST):
        raise InvalidURL(f"the proxy's URL has a user or a password over {_LONGEST} bytes, or none")


def proxy_of_environment(url: URL) -> Proxy | None:
    """The proxy that the environment has for a URL; None for none.

    Raises:
        InvalidURL: what it has cannot be used.
    """
    from urllib.request import getproxies, proxy_bypass

    here = host_port(url.host, url.port)
    if proxy_bypass(here) or (":" in url.host and proxy_bypass(url.host)):
        return None
    known = getproxies()
    for name in _ORDER[url.secure]:
        text = known.get(name)
        if text:
            break
    else:
        return None
    scheme, mark, rest = text.partition("://")
    if name == "socks" and (not mark or scheme == "http"):  # as macOS has it, or a bare host
        text = f"socks5h://{rest if mark else text}"
    elif not mark:
        text = f"http://{text}"
    return parse_proxy(text)
