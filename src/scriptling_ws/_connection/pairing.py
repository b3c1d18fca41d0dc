"""pair(): the two ends of one connection in this process, over a pair of sockets.

Rules:

- Both ends are what `connect` returns and what a server's handler is given: the same class, limits,
  timeouts, keepalive, compression and closing handshake.
- The opening handshake is a real one, whose heads are handed over in memory: the terms of
  compression, the subprotocol and the request are what comes of it.
- There is no port, no routing and no admission: what a server does before it calls the handler.
- If one end cannot be made, nothing stays open.

RFC 6455: section 4.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

from .._errors import ConnectError, HandshakeError
from .._handshakes.client import ClientHandshake
from .._handshakes.exchange import Exchange
from .._handshakes.head import parse_request
from .._handshakes.refused import Refused
from .._handshakes.server import ServerUpgrade
from .._handshakes.terms import Terms
from .._handshakes.url import parse_url
from .._network.transport import Transport
from .._options import Options
from .._unknown import check_names
from .connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Unpack

    from .._handshakes.head import Request
    from .._options import PairOptions

__all__ = ["pair"]


@overload
def pair(
    url: str = "ws://localhost/",
    headers: Mapping[str, str] | None = None,
    *,
    binary_type: type[list[int]] = list,
    text_type: type[str] = str,
    **options: Unpack[PairOptions],
) -> tuple[Connection, Connection]: ...


@overload
def pair(
    url: str = "ws://localhost/",
    headers: Mapping[str, str] | None = None,
    *,
    binary_type: type[list[int]] = list,
    text_type: type[bytes],
    **options: Unpack[PairOptions],
) -> tuple[Connection[list[int], bytes], Connection[list[int], bytes]]: ...


@overload
def pair(
    url: str = "ws://localhost/",
    headers: Mapping[str, str] | None = None,
    *,
    binary_type: type[bytes],
    text_type: type[str] = str,
    **options: Unpack[PairOptions],
) -> tuple[Connection[bytes], Connection[bytes]]: ...


def pair(
    url: str = "ws://localhost/",
    headers: Mapping[str, str] | None = None,
    *,
    binary_type: type[list[int]] | type[bytes] = list,
    text_type: type[str] | type[bytes] = str,
    subprotocols: Iterable[str] = (),
    **options: Any,
) -> tuple[Connection[Any, Any], Connection[Any, Any]]:
    """Make two connected connections, to test a handler without a server and a port.

        client, server = ws.pair("ws://localhost/chat?name=ann")
        thread = threading.Thread(target=chat_handler, args=(server,))

    Does not block. Both ends have to be closed. The first `close` waits for the other end's part in
    the closing handshake: that end has to receive or be closed meanwhile, by another thread; else
    keepalive sees to it, in a second.

    Args:
        url: What the server's end is to see: `server.request` has its path and query, as a
            handler's `client.request` has. Nothing is looked up, and wss:// has no TLS.
        headers: More headers of that request.
        binary_type: As `connect` takes it, for both ends.
        text_type: Likewise.
        subprotocols: Those that the client offers; the server takes the first.
        **options: Those of every connection, for both ends: `ConnectionOptions` describes them.

    Returns:
        The client's end and the server's, both open.

    Raises:
        InvalidURL: the URL is not a WebSocket URL.
        TypeError: an argument is of the wrong type, or an option unknown.
        ValueError: a header, subprotocol or option cannot be used.
        HandshakeError: a server would refuse such a request, as one with `..` in its path.
        ConnectError: there are too few descriptors, or no thread for keepalive can be started.
    """
    check_names("pair", options)
    chosen = Options(binary_type, text_type, **options)
    target = parse_url(url)
    deflate = Terms.wanted(chosen)
    asking = ClientHandshake(
        target, {} if headers is None else headers, subprotocols, deflate=deflate
    )
    request, upgrade = _arrived(asking.request)
    subprotocol = next(iter(upgrade.subprotocols), None)
    opened = asking.receive(upgrade.accept(subprotocol, deflate=deflate))
    assert opened
    with contextlib.ExitStack() as undo:
        try:
            near, far = _transports(undo)
            client: Connection[Any, Any] = Connection(
                near,
                client=True,
                options=chosen,
                subprotocol=asking.subprotocol,
                exchange=Exchange(asking.request, asking.answer, secure=target.secure),
                deflate=asking.deflate,
            )
            server: Connection[Any, Any] = Connection(
                far,
                client=False,
                options=chosen,
                subprotocol=subprotocol,
                request=replace(request, secure=target.secure, remote_addr=far.remote_addr),
                deflate=upgrade.deflate,
                attended=True,
            )
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            raise ConnectError(f"cannot make a pair of connections: {error}", error) from error
        undo.pop_all()
    return client, server


def _arrived(head: bytes) -> tuple[Request, ServerUpgrade]:
    """A request as a server has it, and its upgrade."""
    try:
        request = parse_request(head)
        upgrade = ServerUpgrade(head, request)
    except Refused as refused:
        text = f"a server would refuse this with HTTP status {refused.status}: {refused.text}"
        raise HandshakeError(text, refused.status) from None
    return request, upgrade


def _transports(undo: contextlib.ExitStack) -> tuple[Transport, Transport]:
    """Both ends of a pair of sockets, which are closed with `undo`."""
    near, far = socket.socketpair()
    for sock in (near, far):
        undo.callback(sock.close)
    first, second = Transport(near), Transport(far)
    for transport in (first, second):
        undo.callback(transport.close)
    return first, second
