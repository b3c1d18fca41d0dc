"""TLS as a client opens it: what it trusts, and its handshake within the deadline.

Rules (RFC 8446, RFC 9110 section 4.3.4, RFC 6066 section 3):

- Unless the caller brings a context: the system's trust store, TLS 1.2 or later, and the name
  checked against the certificate's subjectAltName alone.
- A handshake that fails is a ConnectError, with the `ssl` error as its cause; what a signal
  handler raises meanwhile is nobody's error, and leaves as it is.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from .._errors import ConnectError, ConnectTimeout
from .._network.deadline import FOREVER
from .._network.tls import TLSTransport
from .._network.transport import Transport

if TYPE_CHECKING:
    import socket

    from .._network.deadline import Deadline

__all__ = ["default_context", "is_told", "open_over", "shake_hands"]

_NO_TLS: Final = "WRONG_VERSION_NUMBER"  # what OpenSSL calls an answer that is no TLS, as HTTP


def default_context() -> ssl.SSLContext:
    """The settings of TLS where the caller has none."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A certificate is for the names in its subjectAltName (RFC 9110 section 4.3.4), and OpenSSL
    # would take its subject where it has none.
    context.hostname_checks_common_name = False
    return context


def is_told(error: OSError) -> bool:
    """Whether it leaves as it is: a ConnectError, or a signal handler's, such as TimeoutError."""
    foreign = error.errno is None and not isinstance(error, ssl.SSLError)
    return foreign or isinstance(error, ConnectError)


def open_over(
    sock: socket.socket,
    context: ssl.SSLContext | None = None,
    name: str | None = None,
    deadline: Deadline = FOREVER,
    where: str = "",
) -> Transport:
    """Open the transport over a connected socket, which is closed if that fails.

    Args:
        sock: The socket.
        context: The settings of TLS; None for none.
        name: The name that the certificate has to be for.
        deadline: When to give up.
        where: The other end's host and port, for errors.

    Raises:
        ConnectTimeout: the deadline came first.
        OSError: anything else that fails.
    """
    transport: Transport | None = None
    try:
        if context is None:
            return Transport(sock)
        transport = tls = TLSTransport(sock, context, server_side=False, server_hostname=name)
        shake_hands(tls, deadline, where)
        return transport
    except BaseException:
        (sock if transport is None else transport).close()
        raise


def shake_hands(transport: TLSTransport, deadline: Deadline, where: str) -> None:
    """Open the TLS session of a transport.

    Args:
        transport: The transport.
        deadline: When to give up.
        where: The other end's host and port, for errors.

    Raises:
        ConnectTimeout: the deadline came first.
        ConnectError: the other end does not speak TLS.
        OSError: anything else that fails; an `ssl.SSLError` says why.
    """
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
