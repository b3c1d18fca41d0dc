"""What is said with a proxy until its way is open: to the byte, within the deadline.

Rules:

- Not a byte more is taken from the stream than belongs to an answer: what follows is the server's,
  in whatever pieces it comes. Where an answer's length is not known beforehand, it is looked at
  first (MSG_PEEK), and taken up to its end.
- Each piece is followed by a look at the deadline: a proxy that drips does not outlast it.
- A head has the limits of any head, and is known for HTTP by its first bytes.
- Whatever goes wrong is a ProxyError that names the proxy, and is not the server's doing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from .._errors import ConnectTimeout, ProxyError
from .._handshakes.head import HeadReader, Refused
from .._network.transport import write_rest
from .secure import is_told

if TYPE_CHECKING:
    from .._network.deadline import Deadline
    from .._network.transport import Transport
    from .._options import HeadLimits

__all__ = ["Conversation"]

_PIECE: Final = 4096
_HTTP: Final = b"HTTP/"
_END: Final = b"\r\n\r\n"


class Conversation:
    """A stream to a proxy.

    Attributes:
        where: The proxy's host and port.
        deadline: When the conversation has to be over.
    """

    def __init__(self, transport: Transport, where: str, deadline: Deadline) -> None:
        """Talk over a transport, which stays the caller's."""
        self._transport = transport
        self.where = where
        self.deadline = deadline

    def send(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            ConnectTimeout: the deadline came first.
            ProxyError: the stream broke.
        """
        rest = memoryview(data)
        try:
            while True:
                rest, sent = write_rest(self._transport, rest)
                if sent:
                    return
                # Not until it can be read: what the proxy says meanwhile is left there, and would
                # end each wait at once.
                self._wait(read=False)
        except OSError as error:
            if is_told(error):
                raise
            raise self._broken(error) from error

    def read(self, size: int) -> bytes:
        """Exactly so many bytes.

        Raises:
            ConnectTimeout: the deadline came first.
            ProxyError: the stream broke or ended.
        """
        data = bytearray(size)
        have = 0
        try:
            while have < size:
                count = self._transport.read_into(memoryview(data)[have:])
                if count == 0:
                    self._ended()
                have += count or 0
                if count is None or self.deadline.passed():
                    self._wait()
        except OSError as error:
            if is_told(error):
                raise
            raise self._broken(error) from error
        return bytes(data)

    def read_head(self, limits: HeadLimits) -> bytes:
        """The head of an HTTP response, with its blank line.

        Raises:
            ConnectTimeout: the deadline came first.
            ProxyError: the stream broke or ended; it is no head, or longer than the limits.
        """
        reader, start, tail = HeadReader(False, limits), b"", b""
        try:
            while True:
                piece = self._transport.peek(_PIECE)
                if piece is None:
                    self._wait()
                    continue
                if not piece:
                    self._ended()
                end = (tail + piece).find(_END)
                if end >= 0:
                    piece = piece[: end + len(_END) - len(tail)]
                tail = (tail + piece)[1 - len(_END) :]
                start = (start + piece)[: len(_HTTP)]
                if not _HTTP.startswith(start):
                    raise ProxyError(f"the answer of the proxy {self.where} is not HTTP")
                head = reader.feed(self.read(len(piece)))
                if head is not None:
                    return head
        except Refused as error:
            text = f"the answer of the proxy {self.where} is not valid: {error.text}"
            raise ProxyError(text) from None
        except OSError as error:
            if is_told(error):
                raise
            raise self._broken(error) from error

    def _wait(self, *, read: bool = True) -> None:
        """Wait until the stream can be read; or written, where something is still to be sent."""
        if self.deadline.passed():
            raise ConnectTimeout(f"the proxy {self.where} did not answer within the timeout")
        write = not (read and self._transport.flush())
        self._transport.wait(read, write, self.deadline)

    def _ended(self) -> NoReturn:
        raise ProxyError(f"the proxy {self.where} closed the connection without an answer")

    def _broken(self, error: OSError) -> ProxyError:
        return ProxyError(f"the connection to the proxy {self.where} broke: {error}", error)
