"""A connection over ASGI, with the calls of `Connection`: messages come and go as events.

Rules:

- The server has the socket, the frames, the pings and their answers. The calls for what it does not
  hand on are in `uncarried`.
- What is to be sent is checked as for `Connection`, by the same code, before anything is handed on.
- A message is sent when the server has taken it: `send` waits for that, send_timeout at most.
- Messages that are not received wait in `inbox`, a few of them; then no more are taken from the
  server, which stops to read from the peer.
- Where the server does not take a message or the close in time, it is given up: nothing else
  would end its wait for a peer that does not read.
- The lock is held for a moment alone: the event loop takes it too.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from .. import _kernel as kernel
from .._codes import CloseCode
from .._connection.derived import Derived
from .._connection.frames import label_of_next, log_line, log_message, logs
from .._connection.silence import silence
from .._errors import ConnectionClosed, SendTimeout
from .._functions import check_runs
from .._network.deadline import Deadline, check_timeout
from .._network.waiting import engine
from .._options import check_count
from .._wire.documents import text_of
from .._wire.outgoing import (
    binary_payload,
    check_close,
    check_messages,
    text_payload,
    utf8_payload,
)
from .counts import Counts
from .inbox import Inbox
from .uncarried import Uncarried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import EllipsisType, SimpleNamespace

    from .._connection.stats import MessageStats
    from .._handshakes.head import Request
    from .._options import Options

__all__ = ["Client", "Posted", "close_event"]

_logger = logging.getLogger("scriptling_ws.server")

_UNSEEN: Final = "frames, pings and compression are the ASGI server's, and not seen here"


class Posted:
    """An event for the server, and whether it has taken it.

    Attributes:
        event: The event; None to take more messages from the server.
        error: Why it was not taken.
    """

    __slots__ = ("_done", "error", "event")

    def __init__(self, event: dict[str, Any] | None) -> None:
        self.event = event
        self.error: BaseException | None = None
        self._done = engine().event()

    def settle(self, error: BaseException | None = None) -> None:
        """The server has taken it, or has not."""
        self.error = error
        self._done.set()

    def wait(self, seconds: float | None) -> bool:
        """Wait for that, for so many seconds; whether it has come."""
        return self._done.wait(seconds)


class Client(Uncarried, Derived["list[int] | bytes", "str | bytes"]):
    """One WebSocket of an ASGI server, for a blocking handler; see `Connection` for its calls.

    Every method may be called from any thread but that of the event loop.

    Attributes:
        local_addr: The server's address, as far as it says so.
        remote_addr: The client's address.
        peer_addr: The same.
        subprotocol: The subprotocol agreed on, or None.
        request: The client's request.
        state: What the program keeps with the connection: `request.state`.
        close_code: Why the connection was closed; None while it is open.
        close_reason: The text that came with it.
    """

    def __init__(
        self,
        post: Callable[[Posted], None],
        give_up: Callable[[], None],
        options: Options,
        request: Request,
        *,
        subprotocol: str | None = None,
        local_addr: str = "",
    ) -> None:
        """Not for callers.

        Args:
            post: Hands something over to the loop; does not wait.
            give_up: Has the loop end the connection, whatever it waits for; does not wait.
            options: How the connection behaves.
            request: The request.
            subprotocol: The subprotocol agreed on.
            local_addr: The server's address.
        """
        self._post = post
        self._give_up = give_up
        self._options = options
        self._as_list = options.binary_type is list
        self._as_utf8 = options.text_type is bytes
        self._loads = json.loads if options.loads is None else options.loads
        self._inbox = Inbox(lambda: post(Posted(None)))
        self._lock = engine().lock()  # guards the close code, its reason, and the callbacks
        self._callbacks: list[Callable[[], object]] = []
        self._goodbye: Posted | None = None
        self.request: Request = request
        self.state: SimpleNamespace = request.state
        self.subprotocol: str | None = subprotocol
        self.local_addr: str = local_addr
        self.remote_addr: str = request.remote_addr
        self.peer_addr: str = request.remote_addr
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self._counts = Counts()
        self._label = label_of_next("asgi") if logs() else None
        self._log(f"open: {local_addr} to {request.remote_addr}, GET {request.path!a}; {_UNSEEN}")

    def _log(self, text: str) -> None:
        """Log something of the connection, if it is to be logged."""
        if self._label is not None:
            log_line(self._label, text)

    def _log_message(self, way: str, message: str | bytes) -> None:
        """Log a message, if messages are to be logged."""
        if self._label is not None:
            log_message(self._label, way, message)

    def stats(self) -> MessageStats:
        """What has moved so far, as far as ASGI tells: messages, and their bytes.

        Of frames, pings, compression and bytes on the wire only the server knows. Does not block;
        thread-safe; works after the close too.

        Returns:
            The figures of this moment; see `MessageStats`.
        """
        return self._counts.stats()

    # -- for the loop: nothing in here waits ------------------------------------

    def _feed(self, message: str | bytes) -> bool:
        """A message has come; whether more may come now."""
        self._log_message("received", message)
        self._counts.received(message)
        most = self._options.max_message_size
        if most is not None and _is_over(message, most):
            text = f"a message is over the {most} bytes of max_message_size"
            self._begin_close(CloseCode.TOO_LARGE, text)
            return True
        return self._inbox.put(message)

    def _left(self, code: int, reason: str = "") -> None:
        """The server says that the connection is over."""
        self._end(code, reason)

    def _begin_close(self, code: int, reason: str = "") -> None:
        """Start to close without waiting; for the end of the server too."""
        if self._end(code, reason):
            goodbye = Posted(close_event(code, reason))
            self._goodbye = goodbye
            self._post(goodbye)

    def _end(self, code: int, reason: str) -> bool:
        """The connection closes; whether it was open."""
        with self._lock:
            if self.close_code is not None:
                return False
            self.close_code, self.close_reason = int(code), reason
            callbacks, self._callbacks = self._callbacks, []
            self._counts.end()
        self._log(f"closed: {int(code)} {reason!a}")
        self._inbox.end()
        for callback in callbacks:
            _call(callback)
        return True

    def _settled(self) -> bool:
        """Whether nothing more is to be handed over."""
        goodbye = self._goodbye
        return self.close_code is not None and (goodbye is None or goodbye.wait(0))

    # -- sending ------------------------------------------------------------------

    def send(
        self,
        message: str | dict[str, Any],
        compress: bool = True,  # noqa: ARG002  # the server's to decide
        *,
        timeout: float | EllipsisType | None = ...,
    ) -> None:
        """As `Connection.send`; whether it is compressed is the server's to decide."""
        text = text_of(message, self._options.dumps)
        payload = text_payload(text)  # which refuses a lone surrogate, and what is no UTF-8
        self._send_text(text if isinstance(text, str) else payload.decode(), timeout)

    def send_text(
        self,
        text: Any,
        compress: bool = True,
        *,
        timeout: float | EllipsisType | None = ...,
    ) -> None:
        """As `Connection.send_text`; ASGI carries text as str, so it is decoded."""
        if isinstance(text, str):
            self.send(text, compress, timeout=timeout)
        else:
            self._send_text(str(utf8_payload(text), "utf-8"), timeout)

    def send_binary(
        self,
        data: Any,
        compress: bool = True,  # noqa: ARG002
        *,
        timeout: float | EllipsisType | None = ...,
    ) -> None:
        """As `Connection.send_binary`; whether it is compressed is the server's to decide."""
        self._send({"type": "websocket.send", "bytes": bytes(binary_payload(data))}, timeout)

    def send_many(self, messages: Iterable[Any], compress: bool = True) -> None:
        """As `Connection.send_many`; each message is an event of its own."""
        check_messages(messages)
        for message in messages:
            call = self.send if isinstance(message, (str, dict)) else self.send_binary
            call(message, compress)

    def _send_text(self, text: str, timeout: float | EllipsisType | None) -> None:
        self._send({"type": "websocket.send", "text": text}, timeout)

    def _send(self, event: dict[str, Any], timeout: float | EllipsisType | None) -> None:
        limit = self._options.send_timeout if timeout is ... else timeout
        deadline = Deadline(check_timeout(limit))
        if self.close_code is not None:
            raise self._closed_error()
        posted = Posted(event)
        self._post(posted)
        if not posted.wait(deadline.left()):
            # Part of it may be on its way: what comes after it would be out of order.
            self._left(CloseCode.ABNORMAL)
            self._give_up()
            raise SendTimeout("the peer does not read, and the ASGI server took no more messages")
        if posted.error is not None:
            self._left(CloseCode.ABNORMAL)
            raise self._closed_error() from posted.error
        message: str | bytes = event["text"] if "text" in event else event["bytes"]
        self._counts.sent(message)
        self._log_message("sent", message)

    def _closed_error(self) -> ConnectionClosed:
        return ConnectionClosed(self.close_code or CloseCode.ABNORMAL, self.close_reason or "")

    # -- receiving ------------------------------------------------------------------

    def receive(self, timeout: float | None = 30) -> str | list[int] | bytes | None:
        """As `Connection.receive`."""
        message = self._inbox.take(Deadline(check_timeout(timeout)))
        if self._as_list and isinstance(message, bytes):
            return kernel.bytes_to_list(message)
        if self._as_utf8 and isinstance(message, str):
            return message.encode()
        return message

    def receive_many(
        self, limit: int = 1000, timeout: float | None = 30
    ) -> list[str | list[int] | bytes]:
        """As `Connection.receive_many`."""
        check_count("limit", limit)
        messages = []
        message = self.receive(timeout)
        while message is not None:
            messages.append(message)
            message = self.receive(0) if len(messages) < limit else None
        return messages

    def _nothing_came(self, timeout: float | None) -> Exception:
        """As `silence.nothing_came`."""
        if timeout is None or not self.connected():
            return self._closed_error()
        return silence(timeout)

    def __iter__(self) -> Iterator[str | list[int] | bytes]:
        """Receive messages, waiting for each without end, until the connection is closed."""
        while (message := self.receive(None)) is not None:
            yield message

    def connected(self) -> bool:
        """As `Connection.connected`, as far as the server has said so."""
        return self.close_code is None or bool(self._inbox and self._goodbye is None)

    # -- closing ------------------------------------------------------------------------

    def on_close(self, callback: Callable[[], object]) -> None:
        """As `Connection.on_close`; called by the event loop's thread, or by that which closes."""
        if not callable(callback):
            raise TypeError(f"on_close() takes a function, not {type(callback).__name__}")
        check_runs(callback, "the callback of on_close()")
        with self._lock:
            if self.close_code is None:
                self._callbacks.append(callback)
                return
        _call(callback)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """As `Connection.close`; blocks until the server has taken it, at most close_timeout.

        If the server has not taken it by then, the connection is ended without it.
        """
        check_close(code, reason)
        self._begin_close(code, reason)
        self._inbox.clear()
        if self._goodbye is not None and not self._goodbye.wait(self._options.close_timeout):
            self._give_up()

    def __repr__(self) -> str:
        state = "open" if self.close_code is None else f"closed {self.close_code:d}"
        return f"<Client {self.local_addr} to {self.remote_addr}, {state}>"


def close_event(code: int, reason: str) -> dict[str, Any]:
    """What has a server close a connection."""
    return {"type": "websocket.close", "code": int(code), "reason": reason}


def _is_over(message: str | bytes, most: int) -> bool:
    """Whether a message is larger than so many bytes; of a text those in UTF-8 count."""
    if len(message) > most or isinstance(message, bytes):
        return len(message) > most
    # A character has four bytes at most.
    return 4 * len(message) > most and len(message.encode("utf-8", "replace")) > most


def _call(callback: Callable[[], object]) -> None:
    try:
        callback()
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and engine().hears_signals():
            raise  # as of Connection.on_close
        _logger.exception("an on_close callback failed")
