"""Options: what each call takes by name, the defaults of a connection's, and their checks.

Rules:

- An option of a connection stands twice, and a test holds the two together: in
  `ConnectionOptions` with its type, for type checkers, and its description; and in
  `Options` with its default and its check.
- The options of one call are that call's keyword parameters: `ClientOptions` is held
  against `connect`, `ServerOptions` against `Server` and `serve`.
- `binary_type` and `text_type` are in none of these, as they decide what `receive` returns: each
  call has them as parameters of its own, so that a type checker sees them.
- An option that a call does not take is refused by `_unknown`.
"""

from __future__ import annotations

import os  # noqa: TC003 - so that typing.get_type_hints finds it
import socket  # noqa: TC003 - as above
import ssl  # noqa: TC003 - as above
from collections.abc import Callable, Iterable, Mapping  # noqa: TC003 - as above
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

from ._fields import TOKEN
from ._functions import check_runs
from ._network.deadline import check_timeout

__all__ = [
    "DEFAULT_HEADS",
    "DEFAULT_LEVEL",
    "LEAST_BITS",
    "MOST_BITS",
    "ClientOptions",
    "ConnectionOptions",
    "HeadLimits",
    "Options",
    "PageOptions",
    "PairOptions",
    "ReconnectingOptions",
    "RouteOptions",
    "ServerOptions",
    "check_count",
    "check_strings",
    "check_subprotocols",
]

LEAST_BITS: Final = 9
"""The smallest window that zlib compresses in, as a power of two."""
DEFAULT_LEVEL: Final = 6
"""How much time zlib takes, where nobody has said."""
_MOST_LEVEL: Final = 9
MOST_BITS: Final = 15
"""The largest window of deflate, which is the one where nothing else is agreed on."""


# -- what each call takes by name ------------------------------------------------


class ConnectionOptions(TypedDict, total=False):
    """The options of every connection: `connect`, `serve`, `Server` and a route take them.

    `binary_type` is one more: `list` (of ints, the default) or `bytes`, which is what a binary
    message is received as; and `text_type`: `str` (the default) or, with binary messages as lists,
    `bytes`. They are not in here, as they decide the type of `receive`.

    Attributes:
        max_message_size: The most bytes of payload in a received message (default
            16 MiB); None for no limit. A longer one closes the connection with 1009.
        max_fragments: The most frames in a received message (default 131,072); more close
            the connection with 1008.
        max_pending_pongs: The most unsent pongs that are kept for a peer that does not
            read (default 1); the oldest are dropped.
        max_backlog: The most bytes of memory (default 64 MiB) in messages that are received for
            a caller that does not receive: while its `send` waits for the peer to read, or if
            it only sends; up to a MiB if it does neither, so that pings behind them are
            answered. They become lists of ints, which take eight times as much, as they are
            received. Two ends that both send more than that, before either receives, wait for
            each other until send_timeout. 0 receives nothing that the caller does not ask for.
        send_timeout: The most seconds (default 60) in which the peer has to take 64 KiB of a
            message, or what is left of it, and the answers to its pings; None for ever.
        close_timeout: The most seconds (default 5) for the closing handshake, while the peer
            takes nothing more of what was sent before; None for ever.
        ping_interval: The seconds (default 20) between the pings that keepalive sends;
            None for no keepalive.
        ping_timeout: The most seconds (default 20) in which something has to come after
            such a ping; else the connection is closed with 1011. None for ever.
        compression: "deflate" to compress messages, where the peer agrees to
            (permessage-deflate, RFC 7692); None (the default) not to. It takes up to 300 KiB of
            memory per connection (400 with the extra `speed`): less with smaller windows, and
            between messages none without context takeover.
        compression_threshold: Messages of fewer bytes than this (default 1,024) are sent
            as they are.
        compression_level: How much time is taken to compress (default 6): 1, the fastest, to 9,
            which makes the fewest bytes.
        dumps: The function that makes text of a dict for `send` (default None, for compact JSON),
            such as `orjson.dumps`; it returns str, or UTF-8 as bytes.
        loads: The function that makes a value of a message for `receive_json` (default None, for
            `json.loads`), such as `orjson.loads`; it is given what `receive` returns, but bytes in
            place of a list.
        server_no_context_takeover: Whether the server is to compress each message by
            itself, without reference to earlier ones (default False).
        client_no_context_takeover: The same for the client.
        server_max_window_bits: How far back the server may refer as it compresses, as a
            power of two: 9 to 15 (the default).
        client_max_window_bits: The same for the client.

    The last four have the names that RFC 7692 gives them, and matter with compression alone.
    A client insists on the two about the server; a server insists on the one about the
    client's window only where the client knows it, as nearly all do.
    """

    max_message_size: int | None
    max_fragments: int
    max_pending_pongs: int
    max_backlog: int
    send_timeout: float | None
    close_timeout: float | None
    ping_interval: float | None
    ping_timeout: float | None
    compression: Literal["deflate"] | None
    compression_threshold: int
    compression_level: int
    dumps: Callable[[Any], str | bytes] | None
    loads: Callable[[Any], Any] | None
    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int


class ClientOptions(ConnectionOptions, total=False):
    """The options of `connect`, which describes those that are not of every connection."""

    subprotocols: Iterable[str]
    cookies: Mapping[str, str] | None
    origin: str | None
    user_agent: str | None
    ssl_context: ssl.SSLContext | None
    server_hostname: str | None
    proxy: str | bool | None
    proxy_ssl_context: ssl.SSLContext | None
    max_redirects: int
    sock: socket.socket | None
    unix: str | os.PathLike[str] | None
    source_address: str | tuple[str, int] | None
    socket_options: Iterable[tuple[int, int, int | bytes]]
    max_line_size: int
    max_headers: int
    max_head_size: int


class ReconnectingOptions(ClientOptions, total=False):
    """The options of `reconnecting`, which describes those that `connect` has not."""

    first_delay: float
    max_delay: float
    min_uptime: float
    max_tries: int | None
    max_time: float | None
    final: Callable[[Exception], bool | None] | None


class PairOptions(ConnectionOptions, total=False):
    """The options of `pair`, which describes those that are not of every connection."""

    subprotocols: Iterable[str]


class RouteOptions(ConnectionOptions, total=False):
    """The options of `Routes.websocket`; `Server` and `serve` take them for every route.

    Attributes:
        origins: The origins whose pages may connect, such as `["https://example.com"]`,
            beside the request's own host; "*" for any. By default the own host alone: with
            an `ssl_context` by https, else by http or https. An empty list is for no
            browser at all.
        subprotocols: The subprotocols that the route speaks, the preferred one first; or a function
            that is called with those a client offers, and returns one of them or None.
        authorize: A function of the request, or its name as "library.function", which says whether
            it comes in: it returns None, or headers for the answer, or a response in its place.
            It may block; `basic_auth` and `bearer_auth` make some. None is for everybody.
    """

    origins: Iterable[str] | None
    subprotocols: Iterable[str] | Callable[[list[str]], str | None]
    authorize: Callable[[Any], object] | str | None


class PageOptions(TypedDict, total=False):
    """The options of `Routes.get`, `post`, `put`, `patch`, `delete` and `static`.

    Attributes:
        authorize: As of `RouteOptions`; by default the server's.
        cors: The origins whose scripts may use it, such as `["https://app.example"]`, also with the
            user's cookies; "*" for any, without. By default only those of the request's own host.
    """

    authorize: Callable[[Any], object] | str | None
    cors: Iterable[str] | None


class ServerOptions(RouteOptions, total=False):
    """The options of `Server` and `serve`; `Server` describes those that no route has."""

    sock: socket.socket | Iterable[socket.socket] | Literal["systemd"] | None
    unix: str | os.PathLike[str] | None
    unix_mode: int
    unix_owner: str | None
    ssl_context: ssl.SSLContext | None
    allowed_hosts: Iterable[str] | None
    max_connections: int | None
    max_connections_per_address: int | None
    max_connection_rate: float | None
    max_connection_burst: int
    trusted_proxies: Iterable[str]
    proxy_protocol: bool
    forwarded_header: Literal["x-forwarded-for", "forwarded"]
    access_log: Literal["common", "combined", "json"] | None
    max_requests: int
    max_body_size: int
    keep_alive_timeout: float
    max_keep_alive_requests: int
    page_headers: Mapping[str, str | None] | None
    root_path: str
    handshake_timeout: float | None
    shutdown_timeout: float | None
    drain_timeout: float
    health: str | bool | None
    metrics: str | bool | None
    max_line_size: int
    max_headers: int
    max_head_size: int
    engine: Literal["threads", "gevent"] | None


# -- checks ---------------------------------------------------------------------


def check_count(name: str, value: object, more: str = "", *, least: int = 1) -> None:
    """Check a number of things that a caller gives: an int from `least` to 2**63 - 1.

    Raises:
        TypeError: it is no int.
        ValueError: it is out of that range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} has to be an int{more}, not {type(value).__name__}")
    if not least <= value < 2**63:
        raise ValueError(f"{name} has to be at least {least}{more}, not {value}")


def check_strings(value: object, name: str, example: str) -> list[str]:
    """Check a list of str that a caller gives; a str alone would pass for a list of letters.

    Raises:
        TypeError: it is none, or holds something else.
    """
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} has to be a list of str, such as [{example!r}]")
    entries = list(value)
    for entry in entries:
        if not isinstance(entry, str):
            raise TypeError(f"{name} has to hold str, not {type(entry).__name__}")
    return entries


def check_subprotocols(subprotocols: object) -> list[str]:
    """Check the subprotocols that a caller names.

    Raises:
        TypeError: it is a str, or holds something else than str.
        ValueError: a name is not an HTTP token, or there twice.
    """
    names = check_strings(subprotocols, "subprotocols", "chat")
    for name in names:
        if not TOKEN.fullmatch(name):
            raise ValueError(
                f"{name!r} is not a subprotocol name: letters, digits and !#$%&'*+-.^_`|~ only"
            )
    if len(set(names)) != len(names):
        raise ValueError("a subprotocol is named twice")
    return names


# -- their defaults -------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """The options of one connection, checked; `ConnectionOptions` describes them."""

    binary_type: type[list[int]] | type[bytes] = list
    text_type: type[str] | type[bytes] = str
    max_message_size: int | None = 16 * 1024 * 1024
    max_fragments: int = 131_072
    max_pending_pongs: int = 1
    max_backlog: int = 64 * 1024 * 1024
    send_timeout: float | None = 60.0
    close_timeout: float | None = 5.0
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    compression: Literal["deflate"] | None = None
    compression_threshold: int = 1024
    compression_level: int = DEFAULT_LEVEL
    dumps: Callable[[Any], str | bytes] | None = None
    loads: Callable[[Any], Any] | None = None
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = MOST_BITS
    client_max_window_bits: int = MOST_BITS

    def __post_init__(self) -> None:
        """Check every option.

        Raises:
            TypeError: an option is of the wrong type.
            ValueError: an option is out of its range.
        """
        self._check_types()
        if self.max_message_size is not None:
            check_count("max_message_size", self.max_message_size, ", or None for no limit")
        check_count("max_fragments", self.max_fragments)
        check_count("max_pending_pongs", self.max_pending_pongs)
        check_count("max_backlog", self.max_backlog, least=0)
        check_timeout(self.send_timeout, "send_timeout")
        check_timeout(self.close_timeout, "close_timeout")
        for name in ("ping_interval", "ping_timeout"):
            if check_timeout(getattr(self, name), name) == 0:
                raise ValueError(f"{name} has to be above 0, or None to switch it off")
        if self.compression not in (None, "deflate"):
            raise ValueError(f"compression has to be 'deflate' or None, not {self.compression!r}")
        check_count("compression_threshold", self.compression_threshold, least=0)
        check_count("compression_level", self.compression_level)
        if self.compression_level > _MOST_LEVEL:
            raise ValueError(
                f"compression_level has to be from 1 to {_MOST_LEVEL}, not {self.compression_level}"
            )
        for end in ("server", "client"):
            name = f"{end}_no_context_takeover"
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} has to be True or False, not {getattr(self, name)!r}")
            name = f"{end}_max_window_bits"
            bits = getattr(self, name)
            check_count(name, bits)
            if not LEAST_BITS <= bits <= MOST_BITS:
                raise ValueError(f"{name} has to be from {LEAST_BITS} to {MOST_BITS}, not {bits}")

    def _check_types(self) -> None:
        """Check what a message is received as, and the functions that read and write JSON."""
        if self.binary_type not in (list, bytes):
            raise ValueError(f"binary_type has to be list or bytes, not {self.binary_type!r}")
        if self.text_type not in (str, bytes):
            raise ValueError(f"text_type has to be str or bytes, not {self.text_type!r}")
        if self.text_type is self.binary_type:
            raise ValueError(
                "text_type=bytes and binary_type=bytes: a text and a binary message would look "
                "the same. Leave one of the two out: str or list tells them apart"
            )
        for name in ("dumps", "loads"):
            function = getattr(self, name)
            if function is None:
                continue
            if not callable(function):
                raise TypeError(f"{name} has to be a function, not {type(function).__name__}")
            check_runs(function, name)


@dataclass(frozen=True)
class HeadLimits:
    """How long the head of a request or a response may be.

    Attributes:
        max_line_size: The most bytes in one of its lines.
        max_headers: The most headers.
        max_head_size: The most bytes in all.
    """

    max_line_size: int = 8192
    max_headers: int = 128
    max_head_size: int = 65_536

    def __post_init__(self) -> None:
        """Check every limit.

        Raises:
            TypeError: a limit is not an int.
            ValueError: a limit is below 1.
        """
        check_count("max_line_size", self.max_line_size)
        check_count("max_headers", self.max_headers)
        check_count("max_head_size", self.max_head_size)


DEFAULT_HEADS: Final = HeadLimits()
"""How long a head may be where nobody has said."""
