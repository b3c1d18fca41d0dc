"""Connection: the blocking API, the same for a client and for a server's handler.

Rules:

- Whatever is to be sent is checked, and its frame encoded, before a lock is taken or a byte
  leaves: bad input changes nothing. A timeout that is no number, negative or NaN takes no
  message either; a bool is refused where there is something to wait for.
- `receive` and iteration with messages ready take no lock; `send` takes one, and others only
  where something has to be answered.
- A text that comes is checked and made as it is read, perhaps before it is asked for: so what it is
  received as is the connection's (`text_type`), not a call's.
- A connection is its parts, and does nothing itself that a part can do: `reader`, `writer`,
  `closer`, `pinger`, over one `link`, and an encoder. It owns them; none of them knows it.
- Every call is over at its timeout, and raises what its docstring names.

RFC 6455: section 6 (sending and receiving), 7 (closing).
"""

from __future__ import annotations

import contextlib
import json
from itertools import islice, repeat, starmap
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .. import _kernel as kernel
from .._codes import CloseCode
from .._functions import check_runs
from .._network.deadline import bounded
from .._network.fork import tell_after_fork
from .._options import check_count
from .._wire.deflating import make_encoder
from .._wire.documents import text_of
from .._wire.fragments import Fragments, cut, pieces_of, total_of
from .._wire.incoming import Protocol
from .._wire.outgoing import check_close
from .awaiting import Awaiting
from .closer import Closer
from .derived import Binary_co, Derived, Text_co
from .frames import watched
from .instream import MessageStream
from .intake import Intake
from .into import receive_into
from .link import Link
from .outlet import Outlet
from .outstream import OutStream
from .pinger import Pinger
from .reader import Reader
from .silence import nothing_came
from .stats import stats_of
from .writer import Writer

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable, Iterator
    from types import EllipsisType

    from typing_extensions import TypeIs

    from .._errors import ConnectionClosed
    from .._handshakes.exchange import Exchange
    from .._handshakes.head import Request
    from .._handshakes.response import Response
    from .._handshakes.terms import Terms
    from .._network.transport import Transport
    from .._options import Options
    from .stats import ConnectionStats

__all__ = ["Connection", "is_binary", "is_text"]


def is_text(message: object) -> TypeIs[str]:
    """Whether a received message is text: a str.

    Where a connection has `text_type=bytes`, `isinstance(message, bytes)` says so in its place.
    """
    return isinstance(message, str)


def is_binary(message: object) -> TypeIs[list[int] | bytes | bytearray | memoryview]:
    """Whether a received message is binary: a list of ints, or bytes-like.

    Where a connection has `text_type=bytes`, `isinstance(message, list)` says so in its place.
    """
    return isinstance(message, (list, bytes, bytearray, memoryview))


class Connection(Derived[Binary_co, Text_co]):
    """One WebSocket connection.

    `connect` returns one, and a server's handler is given one. Every method may
    be called from any thread: one thread waits in `receive` while others send,
    and `close` wakes them all.

    To a type checker `Connection` alone receives lists of ints, `Connection[bytes]` is the
    one with `binary_type=bytes`, and `Connection[list[int] | bytes]` is either of them.
    `Connection[list[int], bytes]` is the one with `text_type=bytes`.

    Attributes:
        local_addr: This end's address, such as `"127.0.0.1:54321"`.
        remote_addr: The peer's address, such as `"127.0.0.1:8080"` or `"[::1]:8080"`. On a
            server it is the client's, also where a trusted proxy says so; then without the port
            if that is not said.
        peer_addr: The address of the socket's other end: a proxy's, where there is one.
        subprotocol: The subprotocol agreed on, or None.
        latency: The seconds between the latest answered ping and its answer, `ping`'s or
            keepalive's; None before the first.
        request: The request for the upgrade (path, query, headers): on a server the client's, on
            a client the one that it has sent.
        response: On a client the server's response to it: `.status`, `.headers`, and
            `.header_list("Set-Cookie")`; None on a server.
        state: What the program keeps with the connection; on a server `request.state`, in which
            `authorize` may have put something.
    """

    # No __slots__: a handler may keep what it wants on its client (`client.name = ...`).

    _ready: deque[Text_co | Binary_co]  # the options leave no others

    def __init__(
        self,
        transport: Transport,
        *,
        client: bool,
        options: Options,
        received: bytes = b"",
        subprotocol: str | None = None,
        request: Request | None = None,
        exchange: Exchange | None = None,
        deflate: Terms | None = None,
        attended: bool = False,
    ) -> None:
        """Not for callers: `connect` and the server make connections.

        With `attended` a peer that leaves is noticed without keepalive too, and without a call.
        """
        transport = watched(
            transport,
            client=client,
            received=received,
            request=request,
            exchange=exchange,
            compresses=deflate is not None,
        )
        link = _link_over(transport, client=client, options=options, deflate=deflate)
        outlet = Outlet(link)
        intake = Intake(link, outlet, options.max_backlog)
        closer = Closer(link, outlet, intake)
        self._link = link
        self._channel = link.channel
        self._outlet = outlet
        self._intake = intake
        self._closer = closer
        self._reader = Reader(link, outlet, intake, closer)
        self._writer = Writer(link, outlet, intake)
        self._shortcuts = kernel.Shortcuts(link.channel, self._reader, self._writer)
        self._ready = link.protocol.ready  # type: ignore[assignment]  # see above
        self._encoder = make_encoder(options, client=client, deflate=deflate)
        self._dumps = options.dumps
        self._loads = json.loads if options.loads is None else options.loads
        self.local_addr: str = transport.local_addr
        self.remote_addr: str = transport.remote_addr
        self.peer_addr: str = transport.peer_addr
        self.subprotocol = subprotocol
        self._request = request
        self._exchange = exchange
        self.state: SimpleNamespace = SimpleNamespace() if request is None else request.state
        tell_after_fork(self)
        if received:  # before the keepalive thread, which could read meanwhile, knows of it
            intake.begin(received)
        self._pinger = Pinger(
            link,
            outlet,
            intake,
            closer,
            self._writer,
            bounded(options.ping_interval),
            bounded(options.ping_timeout),
            attended,
        )
        link.lifecycle.tell()  # if a close came with the handshake, it is seen to

    def _after_fork(self) -> None:
        """In a forked child: be closed."""
        self._link.after_fork()

    # -- sending -----------------------------------------------------------

    @kernel.shortcut
    def send(
        self,
        message: str | dict[str, Any],
        compress: bool = True,
        *,
        timeout: float | EllipsisType | None = ...,
    ) -> None:
        """Send a text message.

        Blocks until the system has taken the whole message, at most send_timeout.
        Thread-safe: messages of several threads are never mixed.

        Args:
            message: A str, or a dict, which is sent as compact JSON, or as `dumps` has it.
            compress: False to send it as it is even with `compression`: because it does not
                get smaller, or because it holds a secret beside what others have chosen,
                about which its compressed size would tell them.
            timeout: Seconds for this call alone, in place of send_timeout; 0 to send only what can
                be sent at once, None to wait for ever.

        Raises:
            TypeError: it is neither, or the dict holds what JSON cannot; bytes and
                lists go through `send_binary`, text as bytes through `send_text`. Nothing was sent.
            ValueError: the dict holds NaN, infinity or itself, or is nested too deeply, or
                the text holds a lone surrogate. Nothing was sent.
            ConnectionClosed: the connection is closed. If the peer has closed or left, this is
                raised once `receive` or `connected` has told the caller; else after a second,
                or after send_timeout while messages lie unread. What is sent before that
                is lost, as when the peer leaves a moment later.
            SendTimeout: the peer has not read in time; if part of the message had left, the
                connection is dead, otherwise it stays usable.
        """
        if type(message) is dict:
            text = text_of(message, self._dumps)
            if not isinstance(text, str):
                self.send_text(text, compress, timeout=timeout)
                return
            message = text
        if timeout is ... and self._channel.send_text(message, self._writer):
            return
        frame = self._encoder.text(message, compress)
        if timeout is ...:
            self._writer.send(frame)
        else:
            self._writer.send_within(frame, timeout)

    @kernel.shortcut
    def send_text(
        self, text: Any, compress: bool = True, *, timeout: float | EllipsisType | None = ...
    ) -> None:
        """Send a text message that is encoded already, as `orjson.dumps` has it.

        The bytes are checked, and sent as they are: they are not decoded. Blocks as `send` does.
        Thread-safe, as `send`.

        Args:
            text: UTF-8 as a bytes-like object (bytes, bytearray, memoryview), which may not change
                during the call; or a str, which is sent as by `send`.
            compress: As `send` takes it.
            timeout: As `send` takes it.

        Raises:
            TypeError: it is something else. Nothing was sent.
            ValueError: the bytes are no UTF-8; the text names the first that is not. Or the buffer
                is not contiguous. Nothing was sent.
            ConnectionClosed, SendTimeout: as `send`.
        """
        if type(text) is str:
            self.send(text, compress, timeout=timeout)
            return
        if timeout is ... and self._channel.send_utf8(text, self._writer):
            return
        encoder = self._encoder
        frame = (
            encoder.text(text, compress) if isinstance(text, str) else encoder.utf8(text, compress)
        )
        if timeout is ...:
            self._writer.send(frame)
        else:
            self._writer.send_within(frame, timeout)

    @kernel.shortcut
    def send_binary(
        self,
        data: Any,
        compress: bool = True,
        *,
        timeout: float | EllipsisType | None = ...,
    ) -> None:
        """Send a binary message.

        Blocks until the system has taken the whole message, at most send_timeout.
        Thread-safe: messages of several threads are never mixed.

        Args:
            data: A list or tuple of ints from 0 to 255, or a bytes-like object
                (bytes, bytearray, memoryview, array, NumPy array) of one-byte items.
            compress: As `send` takes it.
            timeout: As `send` takes it.

        Raises:
            TypeError: it is something else, or an element is no int (a bool is
                not one here); the text names the element. Nothing was sent.
            ValueError: an element is not in 0 to 255; the text names it. Or the list has more
                than 64 Mi items, or the buffer is not contiguous. Nothing was sent.
            ConnectionClosed: the connection is closed or closing.
            SendTimeout: the peer has not read in time; if part of the message had left, the
                connection is dead, otherwise it stays usable.
        """
        if timeout is ... and self._channel.send_binary(data, self._writer):
            return
        frame = self._encoder.binary(data, compress)
        if timeout is ...:
            self._writer.send(frame)
        else:
            self._writer.send_within(frame, timeout)

    def send_many(self, messages: Iterable[Any], compress: bool = True) -> None:
        """Send many messages with as few system calls as they fit in; the first ones wait.

        A message waits until about 256 KiB of them have come together, or the iterable ends:
        send what is made now and then with `send`. Blocks as `send` does, send_timeout counting
        anew for each of these batches. Thread-safe: messages of other threads may come between
        batches, never inside a message.

        Args:
            messages: What `send` takes (str and dict, sent as text) and what
                `send_binary` takes (anything else), in any mixture. Taken one by one.
            compress: As `send` takes it, for all of them.

        Raises:
            TypeError, ValueError: as `send` and `send_binary`. Every message before the
                bad one was sent; it, and what comes after it, was not.
            ConnectionClosed, SendTimeout: as `send`; how many of the messages have
                left is not known.
        """
        for frame, count, payload in self._encoder.batches(messages, compress):
            self._writer.send(frame, count, payload)
            del frame  # it may lock the caller's buffer, who may want to fill it anew

    def send_stream(
        self,
        source: Any,
        text: bool = False,
        compress: bool = True,
        *,
        fragment_size: int = 64 * 1024,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> None:
        """Send one message whose parts come one after the other, as fragments.

        Blocks until the system has taken all of it; send_timeout counts anew for each fragment.
        Thread-safe: other messages wait until this one has ended, for their send_timeout at most;
        pings and a close go between the fragments. RFC 6455 section 5.4.

        Args:
            source: A file to read, or an iterable of parts, of any size: what `send_binary` takes,
                or with `text` str, or UTF-8 as bytes, which may be cut inside of a character. Or
                all of it: bytes-like, or a str with `text`. It is asked for as much as one
                fragment takes, in this thread, and may not send itself.
            text: Whether the message is text.
            compress: As `send` takes it.
            fragment_size: How many bytes (default 64 KiB) come together before they are sent;
                less in the last fragment. That much of the message is in memory.
            progress: Called after each fragment with the bytes sent so far, and how many there are
                in all: None unless the source is bytes-like, or a file that can seek and is sent
                as binary. Each number is told once, that of all bytes when the message is out.

        Raises:
            TypeError: the source, or a part of it, is of the wrong type.
            ValueError: a part cannot be sent, as with `send` and `send_text`; or fragment_size is
                below 1.
            ConnectionClosed: the connection is closed or closing.
            SendTimeout: the peer does not read, or another stream took send_timeout.
            RuntimeError: the source, or `progress`, sends a message of its own meanwhile.

        If anything is raised, the source's own exceptions too, after a part of the message has
        left, the connection is closed with 1011: the peer has half a message. Before that, nothing
        was sent and it stays usable.
        """
        check_count("fragment_size", fragment_size)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress has to be a function, not {type(progress).__name__}")
        check_runs(progress, "progress")
        compressor, threshold = self._encoder.compressor(compress)
        fragments = Fragments(
            text=text, masked=self._link.client, compressor=compressor, threshold=threshold
        )
        total = None if progress is None else total_of(source, text)
        payloads = cut(pieces_of(source, text, fragment_size), fragment_size)
        stream = OutStream(self._link, self._outlet, self._writer, self._closer, fragments)
        stream.send(payloads, progress, total)

    # -- receiving ---------------------------------------------------------

    @kernel.shortcut
    def receive(self, timeout: float | None = 30) -> Text_co | Binary_co | None:
        """Receive the next message.

        Blocks until there is one. Thread-safe: of several receivers each message
        goes to one. A timeout loses nothing, wherever in a message it strikes.

        Args:
            timeout: Seconds (default 30); 0 to take what is there, None to wait
                for ever.

        Returns:
            A str for text, a list of ints for binary (or bytes for one of them, by `text_type` or
            `binary_type`); None on timeout and when the connection is closed: `connected` tells
            which.

        Raises:
            TypeError: the timeout is no number.
            ValueError: the timeout is negative or NaN.
        """
        try:
            if self._ready and (timeout is None or timeout >= 0):
                return self._ready.popleft()
        except (IndexError, TypeError):
            pass  # another thread took it; or it is no number, which the channel's reader says
        return self._channel.receive(timeout, self._reader)  # type: ignore[no-any-return]

    def receive_many(
        self, limit: int = 1000, timeout: float | None = 30
    ) -> list[Text_co | Binary_co]:
        """Receive messages that have come together, waiting for the first.

        Blocks until there is one. Returns it with those that came in the same read from the
        socket. More may be there: call again with `timeout=0`, until that returns an empty list.
        Thread-safe, as `receive`.

        Args:
            limit: The most messages to return (default 1000).
            timeout: Seconds to wait for the first (default 30); 0 not to wait,
                None to wait for ever.

        Returns:
            One to `limit` messages, in the order they came; none on timeout and when the
            connection is closed.

        Raises:
            TypeError: an argument is no number.
            ValueError: the limit is below 1, or the timeout negative or NaN.
        """
        check_count("limit", limit)
        first = self.receive(timeout)
        if first is None:
            return []
        messages = [first]
        # extend keeps what it has got when its source raises, so nothing is lost.
        with contextlib.suppress(IndexError):
            messages.extend(islice(starmap(self._ready.popleft, repeat(())), limit - 1))
        return messages

    def receive_into(self, buffer: Any, timeout: float | None = 30) -> int | Text_co | None:
        """Receive the next message into a buffer.

        A binary message that fits and comes in one frame, not compressed, is received where it is
        to be: no copy of it is made. That pays from some 100 KiB on. One that comes in another way
        is put together as for `receive`, and copied. Blocks until there is a message; thread-safe.

        Args:
            buffer: Where to: writable, contiguous, of any type (bytearray, memoryview, array,
                NumPy array). It has to stay as it is during the call. If that returns None, or
                raises, what is in the buffer is undefined.
            timeout: Seconds (default 30); 0 to take what is there, None to wait for ever.

        Returns:
            How many bytes at the buffer's front are the message; a str (or bytes, by `text_type`)
            if it is text, and the buffer is left alone; None on timeout and when the connection is
            closed: `connected` tells which. A timeout loses nothing, wherever in a message it
            strikes.

        Raises:
            BufferError: the message has more bytes than the buffer; it stays the next one for any
                call that receives.
            TypeError: the buffer cannot be written, or the timeout is no number.
            ValueError: the timeout is negative or NaN.
            RuntimeError: a stream is open: see `receive_stream`.
        """
        return receive_into(  # type: ignore[return-value]  # a text as text_type says
            self._link, self._intake, self._closer, buffer, timeout
        )

    def receive_stream(
        self,
        timeout: float | None = 30,
        *,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> MessageStream[Text_co]:
        """Receive the next message while it comes: `with conn.receive_stream() as stream`.

        Does not block itself: the `with` waits for the message's beginning, `stream.read` for the
        rest. max_message_size and max_fragments hold as for any message, but no more of it is in
        memory than what was received and not read. While the block lasts, `receive` and its like
        raise RuntimeError; messages that come behind stay ready. What is not read when it is left
        is dropped, without waiting for it.

        Args:
            timeout: Seconds (default 30) that each wait may take: the one for the beginning, and
                each `read`; 0 to take what is there, None to wait for ever.
            progress: Called after each `read` or turn with the bytes read so far, and how many
                there are in all, None where the message's header does not tell.

        Returns:
            The stream, of bytes or str, see `MessageStream`. Binary is bytes here whatever
            `binary_type` is, text what `text_type` says.

        Raises:
            TypeError: the timeout is no number, or progress cannot be called.
            ValueError: the timeout is negative or NaN.
        """
        awaiting = Awaiting(self._link, self._intake, self._closer, timeout)
        return MessageStream(awaiting, progress)

    def __iter__(self) -> Iterator[Text_co | Binary_co]:
        """Receive messages, waiting for each without end, until the connection is closed."""
        return kernel.Iteration(self._channel, self._reader, self)

    def connected(self) -> bool:
        """Whether messages can still be received.

        Looks at the socket, without blocking: a peer that has left is noticed
        without a call of `receive`. Thread-safe.

        Returns:
            False once the connection is closed and every message that came before
            the close was received. It never becomes True again.
        """
        return self._reader.connected()

    # -- whether the peer is there ------------------------------------------

    def ping(self, timeout: float | None = 30) -> float | None:
        """Send a ping, and wait for its answer.

        Blocks until the answer has come. Thread-safe; messages that come meanwhile stay
        ready for `receive`.

        Args:
            timeout: Seconds (default 30); 0 not to wait, None to wait for ever.

        Returns:
            How many seconds the answer took; None on timeout and when the connection is
            closed: `connected` tells which.

        Raises:
            TypeError: the timeout is no number.
            ValueError: the timeout is negative or NaN.
        """
        return self._pinger.ping(timeout)

    @property
    def request(self) -> Request | None:
        """The request for the upgrade: the client's, or on a client its own."""
        return self._request if self._exchange is None else self._exchange.request

    @property
    def response(self) -> Response | None:
        """The server's response to the upgrade; None on a server."""
        return None if self._exchange is None else self._exchange.response

    @property
    def latency(self) -> float | None:
        """The seconds between the latest answered ping and its answer; None before the first.

        The ping may be one of `ping`'s, or of keepalive's.
        """
        return self._link.pings.latency

    def stats(self) -> ConnectionStats:
        """What has moved so far: messages, bytes, frames and pings both ways, times, ratios.

        Does not block; thread-safe. It works after the close too: what has moved stays. The
        figures are counted in any case, so asking for them is all that they cost.

        Returns:
            The figures of this moment; see `ConnectionStats`.
        """
        return stats_of(self._link)

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed: to wait on, not for I/O.

        It is readable where a message, a part of one or the end has come: then call
        `receive(0)` until it returns None: what has come together is no longer in the socket then.
        Do so before the first wait too: until this is called, keepalive may receive messages that
        a ping stands behind. `send` may have to receive messages while the peer does not read. They
        stay ready for `receive`. `scriptling_ws.wait` sees to all that, and waits for many
        connections.
        """
        self._intake.polled = True
        return self._link.transport.fileno()

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call a function once the connection closes, for code that waits for something else.

        That is when the peer's close, or its end, was noticed; when this end closes it; and when a
        server closes. At once if that has happened. Does not block; thread-safe.

        A handler that waits on a queue is woken by `client.on_close(lambda: queue.put(None))`.
        A peer that leaves is noticed while nobody calls the connection too: by keepalive, and for
        a server's connections also without it.

        Args:
            callback: Called without arguments, once, by the thread that has noticed it. It has
                to return at once and must not call the connection: set an event, or put
                something into a queue. An exception of it is logged.

        Raises:
            TypeError: it cannot be called, or a call would run nothing of it.
        """
        if not callable(callback):
            raise TypeError(f"on_close() takes a function, not {type(callback).__name__}")
        check_runs(callback, "the callback of on_close()")
        self._link.lifecycle.on_close(callback)

    # -- closing -----------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection.

        Blocks for the closing handshake, at most close_timeout; that counts anew while the
        peer goes on taking what was sent before, for send_timeout at most. Messages that
        were not received are dropped. Thread-safe: every thread that waits in `receive`
        returns at once (one that waits for another receiver's turn, within a tenth of a second),
        one that waits in `send` when its message has left, at the latest after close_timeout.
        A second call does nothing.

        A signal handler may call it. If that has interrupted this connection's `send` in the
        same thread, the message can neither go on nor be left out: the connection is cut after
        close_timeout and a second, and the peer sees 1006.

        Args:
            code: Why, a status code that may be sent: 1000, 1001, 1003, 1007 to
                1014, or 3000 to 4999.
            reason: A text for the peer, at most 123 bytes as UTF-8.

        Raises:
            TypeError: an argument is of the wrong type; nothing was sent.
            ValueError: the code may not be sent, or the reason is too long.
        """
        check_close(code, reason)
        self._close(code, reason)

    def _close(self, code: int, reason: str = "") -> None:
        """As `close`, of arguments that are known to be right."""
        if not self._link.lifecycle.disposed:
            self._closer.start(code, reason, discard=True)
            self._closer.finish()

    def _begin_close(self, code: int, reason: str = "") -> None:
        """Start to close without waiting: for a server that shuts down."""
        if not self._link.lifecycle.disposed:
            self._closer.start(code, reason, discard=False)

    def _abort(self) -> None:
        """End the connection without a goodbye: for a server whose patience is at its end."""
        self._closer.abort()

    def _nothing_came(self, timeout: float | None) -> Exception:
        """Why `receive` has returned None, as an exception."""
        return nothing_came(self._link, timeout)

    def _closed_error(self) -> ConnectionClosed:
        """What `send` raises once it is closed."""
        return self._link.closed_error()

    @property
    def close_code(self) -> int | None:
        """Why the connection closed: the code of the first close frame, either way (`CloseCode`).

        1005 if that had none, 1006 if there was no close frame; None while open.
        """
        return self._link.protocol.control.code

    @property
    def close_reason(self) -> str | None:
        """The text that came with `close_code`; None while open."""
        control = self._link.protocol.control
        return None if control.code is None else control.reason

    def __repr__(self) -> str:
        code = self.close_code or CloseCode.ABNORMAL
        state = "open" if self._link.lifecycle.open else f"closed {code:d}"
        return f"<Connection {self.local_addr} to {self.remote_addr}, {state}>"


def _link_over(
    transport: Transport, *, client: bool, options: Options, deflate: Terms | None
) -> Link:
    """What a connection's parts share, as its options say."""
    protocol = Protocol(
        client=client,
        as_list=options.binary_type is list,
        max_message_size=options.max_message_size,
        max_fragments=options.max_fragments,
        max_pending_pongs=options.max_pending_pongs,
        deflate=deflate,
        as_utf8=options.text_type is bytes,
    )
    send_timeout, close_timeout = bounded(options.send_timeout), bounded(options.close_timeout)
    # By places: CPython calls a class so in half the time that it takes with names.
    link = Link(transport, protocol, client, send_timeout, close_timeout)
    link.channel.compresses = deflate is not None
    return link
