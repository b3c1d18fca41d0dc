"""Who may come in: origins, host names, and how many at a time.

Rules (RFC 6455 section 10.2, RFC 6454):

- A browser sends any page's script to any server, with the user's cookies. So an
  upgrade with an Origin is refused unless the origin is the host that the request
  itself names, or one that was allowed. Programs send no Origin and pass.
- `allowed_hosts` is against DNS rebinding, where a foreign page reaches this
  server under the page's own host name, which makes Origin and Host agree.
- A client's address is that of its socket. Headers that claim another one
  (X-Forwarded-For) are never believed.
- Whatever is full answers 503 with Retry-After; no limit makes a client wait in a queue.
"""

from __future__ import annotations

import ipaddress
import re
import threading
from collections import Counter
from typing import Final

from ._fork import tell_after_fork
from ._head import Refused

__all__ = ["Hosts", "Limits", "Origins", "address_group"]

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^/\\?#@:\[\]\s]+)(?::(\d{1,5}))?")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^/\\?#@:\[\]\s]+)(?::(\d{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_RETRY: Final = [("Retry-After", "5")]


def _strings(value: object, name: str, example: str) -> list[str]:
    """A list of str that a caller gave; a str alone would pass for a list of letters."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} has to be a list of str, such as [{example!r}]")
    entries = list(value)
    for entry in entries:
        if not isinstance(entry, str):
            raise TypeError(f"{name} has to hold str, not {type(entry).__name__}")
    return entries


class Origins:
    """The origins from which browsers may open a WebSocket."""

    __slots__ = ("_any", "_named")

    def __init__(self, origins: object = None) -> None:
        """Check what a caller allows.

        Args:
            origins: None for the request's own host only; "*" for any; or a list of
                origins such as `https://example.com`, which are allowed beside it
                (`null` and `*` may be in it).

        Raises:
            TypeError: it is neither None, "*" nor a list of str.
            ValueError: an entry is not an origin.
        """
        if origins is None:
            entries = []
        elif origins == "*":
            entries = ["*"]
        else:
            entries = _strings(origins, "origins", "https://example.com")
        self._any = "*" in entries
        self._named = {_known_origin(entry) for entry in entries if entry != "*"}

    def allow(self, origin: str | None, host: str) -> bool:
        """Whether an upgrade with this Origin may go on.

        Args:
            origin: The Origin header, None if there was none.
            host: The Host header.
        """
        if origin is None or self._any:
            return True
        known = _normal_origin(origin)
        return known is not None and (known in self._named or _same_host(known, host))


def _known_origin(entry: str) -> str:
    normal = _normal_origin(entry)
    if normal is None:
        raise ValueError(
            f"{entry!r} is not an origin: write scheme://host or scheme://host:port, "
            "without a path or a slash at the end"
        )
    return normal


def _normal_origin(origin: str) -> str | None:
    """An origin in lower case without its scheme's own port; None if it is none."""
    if origin == "null":
        return origin
    found = _ORIGIN.fullmatch(origin.lower())
    if found is None:
        return None
    scheme, host, port = found.groups()
    if port is None or port == _DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{port}"


def _same_host(origin: str, host: str) -> bool:
    """Whether a normal origin has the host and port that a Host header names.

    The scheme is not compared: behind a proxy that ends TLS, the page came by https
    and the request comes by http.
    """
    scheme, _, origin_host = origin.partition("://")
    found = _HOST.fullmatch(host.lower())
    if found is None or not origin_host:
        return False
    name, port = found.groups()
    same = name if port is None or port == _DEFAULT_PORTS.get(scheme) else f"{name}:{port}"
    return origin_host == same


class Hosts:
    """The names under which the server may be addressed."""

    __slots__ = ("_names",)

    def __init__(self, hosts: object = None) -> None:
        """Check what a caller allows.

        Args:
            hosts: None for any; or a list of host names, each with a port or
                without (then with any port).

        Raises:
            TypeError: it is neither None nor a list of str.
            ValueError: an entry is not a host name, or the list is empty.
        """
        self._names: set[str] | None = None
        if hosts is None:
            return
        self._names = {entry.lower() for entry in _strings(hosts, "allowed_hosts", "example.com")}
        if not self._names:
            raise ValueError("allowed_hosts is empty: every request would be refused")
        for name in self._names:
            if not _HOST.fullmatch(name):
                raise ValueError(
                    f"{name!r} is not a host: write a name such as 'example.com', "
                    "or an address, with [] around an IPv6 one"
                )

    def check(self, host: str) -> None:
        """Check a request's Host header.

        Raises:
            Refused: 400, the server does not go by this name.
        """
        if self._names is None:
            return
        found = _HOST.fullmatch(host.lower())
        if found is None or not {found[0], found[1]} & self._names:
            raise Refused(400, "this server does not go by the name in the Host header")


def address_group(address: str) -> str:
    """The key under which an address is counted.

    An IPv6 client owns a whole /64, so the /64 is what is counted; an IPv4 address
    that an IPv6 socket shows as ::ffff:a.b.c.d is counted as a.b.c.d.

    Args:
        address: A client's address as text: `127.0.0.1:80`, `[::1]:80`.
    """
    host = address.rpartition(":")[0].strip("[]")
    if ":" not in host:
        return host
    parsed = ipaddress.IPv6Address(host.partition("%")[0])
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return parsed.packed[:8].hex()


class Limits:
    """How many connections and page requests there may be at a time.

    Safe for any number of threads.
    """

    def __init__(
        self,
        max_connections: int | None,
        max_connections_per_address: int | None,
        max_requests: int,
    ) -> None:
        """Count from zero.

        Args:
            max_connections: The most WebSocket connections, None for no limit.
            max_connections_per_address: The most connections and page requests of
                one client address together, None for no limit.
            max_requests: The most page requests.

        Raises:
            TypeError: one of them is not an int.
            ValueError: one of them is below 1.
        """
        self._most = {
            True: _limit(max_connections, "max_connections"),
            False: _limit(max_requests, "max_requests"),
        }
        self._most_per_address = _limit(max_connections_per_address, "max_connections_per_address")
        self._lock = threading.Lock()  # guards _counts and _addresses
        self._counts = {True: 0, False: 0}
        self._addresses: Counter[str] = Counter()
        tell_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def enter(self, websocket: bool, group: str) -> None:
        """Count one in.

        Args:
            websocket: Whether it is a connection, or a page request.
            group: Its client's `address_group`.

        Raises:
            Refused: 503, a limit is reached; nothing was counted.
        """
        most = self._most[websocket]
        with self._lock:
            if most is not None and self._counts[websocket] >= most:
                raise Refused(503, "the server is full: try again later", _RETRY)
            if (
                self._most_per_address is not None
                and self._addresses[group] >= self._most_per_address
            ):
                raise Refused(503, "too many connections from your address", _RETRY)
            self._counts[websocket] += 1
            self._addresses[group] += 1

    def leave(self, websocket: bool, group: str) -> None:
        """Count one out that was counted in."""
        with self._lock:
            self._counts[websocket] -= 1
            self._addresses[group] -= 1
            if not self._addresses[group]:
                del self._addresses[group]  # or every address ever seen would stay


def _limit(value: object, name: str) -> int | None:
    if value is None and name != "max_requests":
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} has to be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} has to be 1 or more, not {value}")
    return value
