"""The upgrade over an open stream: the request out, the answer in, within the deadline.

Rules (RFC 6455 section 4.1, RFC 9112 section 9.3):

- A server may refuse a request before it has read all of it: what comes is read while it is sent.
- A refusal does not wait for the deadline: what comes of its body within a moment is enough; and of
  a redirect that will be followed, nothing.
- A stream that breaks may have brought the refusal before: that is of more use than the break.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._errors import ConnectError, ConnectTimeout, HandshakeError
from .._network.transport import NAP, write_rest
from .secure import is_told

if TYPE_CHECKING:
    from .._handshakes.client import ClientHandshake
    from .._network.deadline import Deadline
    from .._network.transport import Transport

__all__ = ["upgrade"]

_READ: Final = 16 * 1024
_MOMENT: Final = 1.0  # seconds that the body of a refusal has


def upgrade(
    transport: Transport, handshake: ClientHandshake, deadline: Deadline, *, follow: bool = False
) -> None:
    """Send the request, and read the answer to its head's end.

    Args:
        transport: The stream.
        handshake: What to send, and what reads the answer.
        deadline: When to give up.
        follow: Whether a redirect will be followed.

    Raises:
        ConnectTimeout: the deadline came first.
        HandshakeError: the server refuses, or its answer is not valid.
        ConnectError: the stream broke.
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
                if follow and handshake.redirects:
                    handshake.give_up()
                deadline = deadline.sooner(_MOMENT)  # counted from the first time on
    except OSError as error:
        if is_told(error):
            raise
        _read_refusal(transport, handshake, buffer)
        text = f"the connection broke during the upgrade: {error}"
        raise ConnectError(text, error) from error


def _read_refusal(transport: Transport, handshake: ClientHandshake, buffer: bytearray) -> None:
    """The connection broke: raise the refusal that may have come before that."""
    try:
        while count := transport.read_into(buffer):
            if handshake.receive(bytes(memoryview(buffer)[:count])):
                break  # no refusal: what follows is no part of the handshake
    except OSError as error:
        if is_told(error):
            raise
    handshake.give_up()


def _wait(
    transport: Transport, handshake: ClientHandshake, deadline: Deadline, *, write: bool
) -> None:
    if deadline.passed():
        handshake.give_up()
        raise ConnectTimeout("the server did not answer the upgrade within the timeout")
    transport.wait(True, write, deadline)
