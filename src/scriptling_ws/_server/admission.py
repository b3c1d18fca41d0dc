"""Who may come in: origins and host names.

Rules (RFC 6455 section 10.2, RFC 6454):

- A browser sends any page's script to any server, with the user's cookies. So an
  upgrade with an Origin is refused unless the origin is the host that the request
  itself names, or one that was allowed. Programs send no Origin and pass.
- The origin at the request's own host is one of https where the request came by TLS, to this
  server or as a trusted proxy says: a page that came by http may have been changed on its way.
  Else it is one of http or https, as any proxy in front may end the TLS. Apps
  (`capacitor://localhost`) are not the host's own pages.
- An Origin that is scheme://host or scheme://host:port is compared in lower case and without
  its scheme's own port. Devices and apps send other things (`file://`, `app://.`, an origin
  with a path or a slash behind it): those are compared exactly as they stand.
- An entry of `origins` that no Origin header can match is an error, not a silent refusal. One that
  no browser sends, as a page's origin is written otherwise, is logged: devices do send such.
- `allowed_hosts` is against DNS rebinding, where a foreign page reaches this
  server under the page's own host name, which makes Origin and Host agree. A request that
  names no host (HTTP/1.0) passes: a browser always names one.
- No browser reaches a Unix socket, but by a proxy, and that decides under which names: all pass.
- A server that listens on the loopback alone trusts that nobody else reaches it. So without
  `allowed_hosts` it answers to the loopback's names, and to the one that it was told to
  listen on. Names without a dot pass too: nobody can register one, and containers and machines
  of a local network have them. The name that a proxy in front passes on has to be allowed.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from .._fields import LONGEST, shown
from .._network.authority import DEFAULT_PORTS, SCHEME, parse_authority
from .._options import check_strings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["NO_SUCH_HOST", "Hosts", "Origins"]

NO_SUCH_HOST: Final = "this server does not go by the name in the Host header"
"""Why a request is refused whose Host is not allowed."""

_logger = logging.getLogger("scriptling_ws.server")

_ORIGIN = re.compile(rf"({SCHEME})://(.+)")
_PRINTABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # a header's value has no blanks around it
# What somebody may write who means a page: its host alone, its whole URL, or a WebSocket's.
_NEARLY = re.compile(r"(?:(https?|wss?):/*|//)?([^/?#]+)(?:[/?#].*)?", re.IGNORECASE)

_Known = tuple[str, str, "int | None"]  # an origin's scheme, host and port, None for the scheme's


class Origins:
    """The origins from which browsers may open a WebSocket, or use a page.

    Attributes:
        any: Whether all may.
    """

    __slots__ = ("_name", "_named", "_own", "any")

    def __init__(self, origins: object = None, name: str = "origins") -> None:
        """Check what a caller allows.

        Args:
            origins: None for the request's own host only; "*" for any; or a list of
                what may be in the Origin header, such as `https://example.com`, `null`
                or `file://`, which is allowed beside it (`*` may be in it too). An empty
                list allows none, not the own host's either: no browser may connect.
            name: The option's name, for errors and advice.

        Raises:
            TypeError: it is neither None, "*" nor a list of str.
            ValueError: an entry can never match: it is empty, has a wildcard, or is not
                what a header can say.
        """
        if origins is None:
            entries = []
        elif origins == "*":
            entries = ["*"]
        else:
            entries = check_strings(origins, name, "https://example.com")
        self._own = origins is None or bool(entries)
        self.any = "*" in entries
        self._name = name
        self._named = {_checked(entry, name) for entry in entries if entry != "*"}
        for entry in entries:
            _tell_of_browsers(entry, name)

    def allow(self, origin: str | None, host: str, *, secure: bool) -> bool:
        """Whether an upgrade with this Origin may go on.

        Args:
            origin: The Origin header, None if there was none.
            host: The Host header.
            secure: Whether the request came by TLS, to this server or to a trusted proxy.
        """
        if origin is None or self.any:
            return True
        known = _known(origin)
        if known in self._named:
            return True
        return self._own and isinstance(known, tuple) and _same_host(known, host, secure=secure)

    def has(self, origin: str) -> bool:
        """Whether an Origin is one of those that were named."""
        return _known(origin) in self._named

    def advice(self, origin: str) -> str:
        """For the log: what allows an Origin that was refused."""
        if not self._own:
            return f"{self._name}=[] is for no browser at all"
        try:
            _checked(origin, self._name)
        except ValueError:
            named = False
        else:
            named = len(origin) <= LONGEST  # else it is not shown whole
        if named:
            whose = "the route or the server" if self._name == "origins" else "the route"
            return f"to allow it, give {whose} {self._name}=[{shown(origin)}]"
        return f"no list of origins can have it: only {self._name}='*' allows it"


def _checked(entry: str, name: str) -> _Known | str:
    if not entry:
        raise ValueError(f"{name} has an empty entry, which allows nothing: leave it out")
    if "*" in entry:
        raise ValueError(
            f"{entry!r} matches no origin: there are no wildcards in one, so list each "
            f"origin, or pass {name}='*' to allow any"
        )
    if not entry.isascii():
        raise ValueError(
            f"{entry!r} matches no origin: browsers send a name outside ASCII in its xn-- "
            f"form, so write that{_xn_form(entry)}"
        )
    if not _PRINTABLE.fullmatch(entry):
        raise ValueError(
            f"{entry!r} matches no origin: it has a control character, or blanks around it"
        )
    return _known(entry)


@lru_cache(maxsize=64)  # once for each, however often the options of a route are looked at
def _tell_of_browsers(entry: str, name: str) -> None:
    """Log that an entry is for no browser, where it is nearly a page's origin."""
    form = _as_browsers_send(entry)
    if form:
        _logger.warning(
            "%s has %s, which no browser sends, but perhaps a device: for a browser write %s",
            name,
            shown(entry),
            form,
        )


def _as_browsers_send(entry: str) -> str:
    """What to write for the page that is meant; "" if the entry is right, or nothing is known."""
    if entry.lower() == "null" and entry != "null":
        return "'null'"
    found = _NEARLY.fullmatch(entry)
    if found is None:
        return ""
    scheme, authority = (found[1] or "").lower(), found[2]
    try:
        host, port = parse_authority(authority)
    except ValueError:
        return ""
    if not scheme:
        if "." not in host and port is None and host != "localhost":
            return ""  # a word of its own
        return f"'https://{authority}' or 'http://{authority}'"
    if scheme.startswith("ws"):
        scheme = scheme.replace("ws", "http")
    elif isinstance(_known(entry), tuple):
        return ""
    return f"'{scheme}://{authority}'"


def _xn_form(entry: str) -> str:
    """For the error: an origin's xn-- form, where the standard library knows it for sure."""
    scheme, mark, rest = entry.partition("://")
    try:
        encoded = rest.encode("idna")
        if not mark or not scheme.isascii() or encoded.decode("idna") != rest.lower():
            return ""  # IDNA 2008 has characters that this codec replaces by others
    except UnicodeError:
        return ""
    return f", '{scheme}://{encoded.decode('ascii')}'"


def _known(origin: str) -> _Known | str:
    """An origin's parts, in lower case; what is not scheme://host[:port], as it is."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return origin
    try:
        host, port = parse_authority(found[2])
    except ValueError:
        return origin
    scheme = found[1].lower()
    return scheme, host, _own_port(scheme, port)


def _own_port(scheme: str, port: int | None) -> int | None:
    return None if port == DEFAULT_PORTS.get(scheme) else port


def _same_host(origin: _Known, host: str, *, secure: bool) -> bool:
    """Whether an origin has the host and port that a Host header names.

    Without TLS that is known of the two schemes are equal: behind a proxy that ends TLS, the
    page came by https and the request comes by http.
    """
    scheme, *place = origin
    if scheme not in (("https",) if secure else ("http", "https")):
        return False
    try:
        name, port = parse_authority(host)
    except ValueError:
        return False
    return place == [name, _own_port(scheme, port)]


class Hosts:
    """The names under which the server may be addressed."""

    __slots__ = ("_allowed", "_loopback", "_names")

    def __init__(self, hosts: object = None) -> None:
        """Check what a caller allows.

        Args:
            hosts: None for any, unless `listen_on` says otherwise; "*" for any; or a list of
                host names, each with a port or without (then with any port; `*` may be in
                it too).

        Raises:
            TypeError: it is neither None, "*" nor a list of str.
            ValueError: an entry is not a host name, or the list is empty.
        """
        self._allowed: str | None = None  # the last that was: most requests name the same
        self._loopback = hosts is None  # whether `listen_on` has something to decide
        self._names: set[tuple[str, int | None]] | None = None
        if hosts is None or hosts == "*":
            return
        entries = check_strings(hosts, "allowed_hosts", "example.com")
        if not entries:
            raise ValueError("allowed_hosts is empty: every request would be refused")
        if "*" not in entries:
            self._names = {_checked_host(entry) for entry in entries}

    def listen_on(self, hosts: Iterable[str], addresses: Collection[str]) -> None:
        """Say where the server listens, which decides what None stands for.

        Args:
            hosts: The names and addresses that it was told to listen on.
            addresses: The IP addresses that it listens on; none if on Unix sockets alone.
        """
        self._allowed = None
        own = bool(addresses) and all(map(_is_loopback, addresses))
        self._loopback = self._loopback and own
        if self._loopback:
            self._names = {(host.lower().removesuffix("."), None) for host in hosts}

    def allow(self, host: str | None) -> bool:
        """Whether a request with this Host may go on.

        Args:
            host: The header, None if the request has none.
        """
        if self._names is None or host is None or host == self._allowed:
            return True
        if not self._allow(host):
            return False
        self._allowed = host
        return True

    def _allow(self, host: str) -> bool:
        assert self._names is not None
        try:
            name, port = parse_authority(host)
        except ValueError:
            return False
        name = name.removesuffix(".")
        if self._loopback and (_is_local(name) or _is_loopback(name)):
            return True
        return bool({(name, port), (name, None)} & self._names)

    @staticmethod
    def advice(host: str) -> str:
        """For the log: what allows a host that was refused."""
        if len(host) > LONGEST:  # it is not shown whole
            return "to allow it, name it in the server's allowed_hosts"
        name = host.rpartition(":")[0] if re.search(r":[0-9]*$", host) else host
        return f"to allow it, give the server allowed_hosts=[{shown(name)}]"


def _is_local(name: str) -> bool:
    """Whether it is localhost, a name below it, or one without a dot: nobody can register it."""
    return not {".", ":"} & {*name} or name.endswith(".localhost")


@lru_cache(maxsize=64)  # most requests name the same
def _is_loopback(address: str) -> bool:
    """Whether it is an address of this machine alone, in brackets or not."""
    try:
        parsed = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return parsed.is_loopback if mapped is None else bool(mapped.is_loopback)


def _checked_host(entry: str) -> tuple[str, int | None]:
    try:
        name, port = parse_authority(entry)
    except ValueError as error:
        raise ValueError(
            f"{entry!r} is not a host: write a name such as 'example.com' (no wildcards; outside "
            "ASCII its xn-- form), or an address, with [] around an IPv6 one"
        ) from error
    return name.removesuffix("."), port  # with its dot it is the same name
