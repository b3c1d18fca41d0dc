"""connect(): from a URL to an open connection, within one deadline.

Rules (RFC 6455 section 4.1):

- Every argument is checked before a name is looked up or a socket opened; a set of options that
  has passed is not checked again.
- One deadline for all of it: name lookup, TCP, TLS and the upgrade. A refusal does not wait
  for it: what comes of its body within a moment is enough.
- Whatever fails from then on, the socket is closed; and the error is one of ConnectError's
  tree, save for what a signal handler raises.
- TLS takes the system's trust store and checks the host name, unless the caller
  brings a context; redirects are not followed.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

from .._connection.connection import Connection
from .._errors import ConnectError, ConnectTimeout, HandshakeError
from .._handshakes.client import ClientHandshake
from .._handshakes.terms import Terms
from .._handshakes.url import URL, parse_url
from .._network.authority import host_port
from .._network.deadline import Deadline, check_timeout
from .._network.dial import dial
from .._network.tls import TLSTransport, check_context
from .._network.transport import NAP, Transport, write_rest
from .._options import HeadLimits, Options, check_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Unpack

    from .._options import ClientOptions

__all__ = ["connect"]

_READ = 16 * 1024
_NO_TLS = "WRONG_VERSION_NUMBER"  # what OpenSSL calls an answer that is no TLS, such as HTTP
_MOMENT = 1.0  # seconds that the body of a refusal has


@overload
def connect(
    url: str,
    timeout: float | None = 10,
    headers: Mapping[str, str] | None = None,
    *,
    binary_type: type[list[int]] = list,
    **options: Unpack[ClientOptions],
) -> Connection: ...


@overload
def connect(
    url: str,
    timeout: float | None = 10,
    headers: Mapping[str, str] | None = None,
    *,
    binary_type: type[bytes],
    **options: Unpack[ClientOptions],
) -> Connection[bytes]: ...


def connect(
    url: str,
    timeout: float | None = 10,
    headers: Mapping[str, str] | None = None,
    *,
    binary_type: type[list[int]] | type[bytes] = list,
    subprotocols: Iterable[str] = (),
    ssl_context: ssl.SSLContext | None = None,
    max_line_size: int = HeadLimits.max_line_size,
    max_headers: int = HeadLimits.max_headers,
    max_head_size: int = HeadLimits.max_head_size,
    **options: Any,
) -> Connection[Any]:
    """Open a WebSocket connection.

    Blocks until the connection is open, at most `timeout`; the lookup of a name may take longer
    where no thread can be started for it. Thread-safe.

    Args:
        url: `ws://host[:port][/path][?query]`, or `wss://` for TLS. A user and
            password in it are sent as Basic authorization.
        timeout: Seconds (default 10) for name lookup, TCP, TLS and upgrade together;
            None to wait for ever.
        headers: More headers for the request, such as `{"Authorization": "Bearer …"}`.
        binary_type: What a binary message is received as: `list` (of ints, the default) or
            `bytes`, which is the fast choice.
        subprotocols: Subprotocols to offer, the preferred one first.
        ssl_context: TLS settings for `wss://`; default: the system's trust
            store, the host name checked (by subjectAltName alone), TLS 1.2 or later.
        max_line_size: The most bytes in a line of the server's answer to the upgrade.
        max_headers: The most headers in that answer.
        max_head_size: The most bytes in its head, which is all of it before a body.
        **options: Those of every connection, such as `max_message_size`, `ping_interval`
            and `compression`: `ConnectionOptions` describes them.

    Returns:
        An open connection.

    Raises:
        InvalidURL: the URL is not a WebSocket URL.
        TypeError: an argument is of the wrong type, or an option unknown.
        ValueError: a header, subprotocol or option cannot be used; `ssl_context` is given
            for ws://, or is a server's.
        ConnectTimeout: the timeout came first.
        HandshakeError: the server refused the upgrade, or its answer is not valid:
            `.status`, `.headers`, `.body`.
        ConnectError: anything else that keeps the connection from being opened;
            the `__cause__` of a TLS failure is the `ssl` error.
    """
    target = parse_url(url)
    seconds = check_timeout(timeout)
    heads = max_line_size, max_headers, max_head_size
    try:
        checked = _checked(binary_type, *heads, **options)
    except TypeError:  # it may be the cache's: of what it cannot have as a key, no option can be
        checked = None
    chosen, limits = checked or _checked.__wrapped__(binary_type, *heads, **options)
    if ssl_context is not None:
        check_context(ssl_context, server_side=False)
        if not target.secure:
            raise ValueError("ssl_context is given, but the URL is ws://: use wss://")
    handshake = ClientHandshake(
        target,
        {} if headers is None else headers,
        subprotocols,
        limits,
        deflate=Terms.wanted(chosen),
    )
    deadline = Deadline(seconds)
    transport = _open_transport(target, ssl_context, deadline)
    try:
        _upgrade(transport, handshake, deadline)
        return Connection(
            transport,
            handshake.connection,
            client=True,
            options=chosen,
            received=handshake.rest,
            subprotocol=handshake.subprotocol,
            deflate=handshake.deflate,
        )
    except BaseException as error:
        transport.close()
        if isinstance(error, OSError) and not _is_told(error):  # keepalive cannot start
            text = f"cannot keep a connection to {target.host!r}: {error}"
            raise ConnectError(text, error) from error
        raise


# Most programs have one set of options, or a few. By types too: True is no 1 here.
@lru_cache(maxsize=64, typed=True)
def _checked(
    binary_type: type[list[int]] | type[bytes],
    max_line_size: int,
    max_headers: int,
    max_head_size: int,
    **options: Any,
) -> tuple[Options, HeadLimits]:
    check_names("connect", options)
    return Options(binary_type, **options), HeadLimits(max_line_size, max_headers, max_head_size)


def _open_transport(url: URL, context: ssl.SSLContext | None, deadline: Deadline) -> Transport:
    sock = dial(url.host, url.port, deadline)
    try:
        if not url.secure:
            return Transport(sock)
        if context is None:
            context = _default_context()
        transport = TLSTransport(sock, context, server_side=False, server_hostname=url.server_name)
        _tls_handshake(transport, deadline, host_port(url.host, url.port))
        return transport
    except OSError as error:
        sock.close()
        if _is_told(error):
            raise
        text = f"cannot open a connection to {url.host!r}: {error}"
        raise ConnectError(text, error) from error
    except BaseException:
        sock.close()
        raise


def _default_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A certificate is for the names in its subjectAltName (RFC 9110 section 4.3.4), and OpenSSL
    # would take its subject where it has none.
    context.hostname_checks_common_name = False
    return context


def _is_told(error: OSError) -> bool:
    """Whether it leaves as it is: a ConnectError, or a signal handler's, such as TimeoutError."""
    foreign = error.errno is None and not isinstance(error, ssl.SSLError)
    return foreign or isinstance(error, ConnectError)


def _tls_handshake(transport: TLSTransport, deadline: Deadline, where: str) -> None:
    try:
        while not transport.handshake_step():
            if deadline.passed():
                raise ConnectTimeout("the TLS handshake did not end within the timeout")
            transport.wait(True, transport.pending, deadline)
    except ssl.SSLError as error:
        if error.reason != _NO_TLS:
            raise
        text = f"{where} does not speak TLS: is this the right port, or is it for ws://? ({error})"
        raise ConnectError(text, error) from error


def _upgrade(transport: Transport, handshake: ClientHandshake, deadline: Deadline) -> None:
    """Send the request, and read the answer to its head's end.

    A server may refuse a request before it has read all of it, so this reads meanwhile.
    """
    buffer = bytearray(_READ)
    rest = memoryview(handshake.request)
    try:
        while True:
            rest, sent = write_rest(transport, rest)
            left = deadline.left()
            nap = sent and (left is None or left > NAP)
            count = transport.read_into(buffer, nap=nap)
            if count is None or deadline.passed():  # however much there is to read
                _wait(transport, handshake, deadline, write=not sent)
                continue
            if handshake.receive(bytes(memoryview(buffer)[:count])):
                if not sent:
                    raise HandshakeError("the server accepted before it had the request", 101)
                return
            if handshake.refused:
                deadline = deadline.sooner(_MOMENT)  # counted from the first time on
    except OSError as error:
        if _is_told(error):
            raise
        _read_refusal(transport, handshake, buffer)
        text = f"the connection broke during the upgrade: {error}"
        raise ConnectError(text, error) from error


def _read_refusal(transport: Transport, handshake: ClientHandshake, buffer: bytearray) -> None:
    """The connection broke: raise the refusal that may have come before that."""
    try:
        while count := transport.read_into(buffer):
            handshake.receive(bytes(memoryview(buffer)[:count]))
    except OSError as error:
        if _is_told(error):
            raise
    handshake.give_up()


def _wait(
    transport: Transport, handshake: ClientHandshake, deadline: Deadline, *, write: bool
) -> None:
    if deadline.passed():
        handshake.give_up()
        raise ConnectTimeout("the server did not answer the upgrade within the timeout")
    transport.wait(True, write, deadline)
