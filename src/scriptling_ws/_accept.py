"""The acceptor: one thread for all sockets that have no thread of their own yet.

Rules:

- Listening sockets and handshaking peers are in one selector, non-blocking: a slow
  or silent peer costs a descriptor and some bytes, never a thread and never
  another peer's time.
- One deadline for the whole opening, TLS included. It is the same for all, so
  the peers are in a queue and only its front is looked at.
- Out of descriptors or memory, it stops accepting for a moment: the listening socket
  stays readable, and asking again at once would spin.
- No error of one peer ends the thread, and no handler's code runs on it.
- Who is refused, or closed without an answer, has a line in the log that says why; who
  leaves by itself, as health checks do, has one on the debug level.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import ssl
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from ._deadline import Deadline
from ._fork import tell_after_fork
from ._head import Refused
from ._log import RareWarning, log_answer
from ._peer import CLOSE, READ, READY, Peer
from ._tls import TLSTransport
from ._transport import Transport

if TYPE_CHECKING:
    from ._options import HeadLimits
    from ._peer import Admit

__all__ = ["LINGER", "Acceptor"]

LINGER: Final = 2.0
"""Seconds in which a peer has to read an answer before its socket is closed."""

_logger = logging.getLogger("scriptling_ws.server")

_BUFFER: Final = 16 * 1024
_BATCH: Final = 64  # connections accepted before the others get their turn
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_LEFT: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # who ends TLS without an error
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
# select() takes 512 descriptors on Windows; elsewhere the number of descriptors decides.
_MOST_PEERS: Final = (
    400 if issubclass(selectors.DefaultSelector, selectors.SelectSelector) else 65_536
)


class _Queue:
    """Peers that all have the same time, the one whose deadline is next in front."""

    def __init__(self) -> None:
        self._peers: OrderedDict[Peer, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def add(self, peer: Peer) -> None:
        self._peers[peer] = None

    def discard(self, peer: Peer) -> None:
        self._peers.pop(peer, None)

    def front(self) -> Peer | None:
        return next(iter(self._peers), None)


class Acceptor:
    """Accepts connections and brings each to a complete request or a refusal.

    `run` is the thread's body; `linger` and `stop` may be called from any thread.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        admit: Admit,
        *,
        context: ssl.SSLContext | None,
        timeout: float | None,
        limits: HeadLimits,
    ) -> None:
        """Get ready; nothing is accepted before `run`.

        Args:
            listeners: Listening sockets, non-blocking; closed when `run` ends, or here
                if this raises.
            admit: Called on the acceptor's thread with every request's head; has to
                return at once.
            context: The TLS settings, None for plain TCP.
            timeout: Seconds for the whole of an opening handshake, None for no limit.
            limits: How long a request's head may be.

        Raises:
            OSError: there are too few descriptors.
        """
        self._listeners = listeners
        self._admit = admit
        self._context = context
        self._timeout = timeout
        self._limits = limits
        with contextlib.ExitStack() as undo:
            for listener in listeners:
                undo.callback(listener.close)
            self._selector = selectors.DefaultSelector()
            undo.callback(self._selector.close)
            self._wake_read, self._wake_write = socket.socketpair()
            undo.pop_all()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._opening = _Queue()
        self._closing = _Queue()
        self._buffer = bytearray(_BUFFER)
        self._pause = 0.0  # how long the last pause was, 0 while accepting works
        self._resume: Deadline | None = None  # set while accepting is paused
        self._warning = RareWarning(_logger)
        self._lock = threading.Lock()  # guards _inbox and _stopped
        self._inbox: list[Transport] = []
        self._stopped = False
        tell_after_fork(self)

    def _after_fork(self) -> None:
        """In a forked child, which has no acceptor thread: let go of the port."""
        self._lock = threading.Lock()
        self._opening, self._closing = _Queue(), _Queue()  # their transports close themselves
        self._inbox = []
        self.close()

    # -- from any thread ---------------------------------------------------

    def linger(self, transport: Transport) -> None:
        """Take over a transport on which an answer was written, and close it in time."""
        with self._lock:
            if not self._stopped:
                self._inbox.append(transport)
                self._wake()
                return
        transport.close()

    def stop(self) -> None:
        """Make `run` close everything and return."""
        with self._lock:
            self._stopped = True
            self._wake()

    def _wake(self) -> None:
        # A full buffer wakes as well, and a closed socket has nobody to wake.
        with contextlib.suppress(OSError):
            self._wake_write.send(b"\0")

    # -- the thread --------------------------------------------------------

    def run(self) -> None:
        """Accept until `stop`. Blocks."""
        try:
            self._selector.register(self._wake_read, READ, None)
            self._watch_listeners()
            while not self._stopped:
                self._turn()
                self._expire()
        except Exception:
            _logger.exception("the acceptor failed: the server takes no more connections")
        finally:
            self.close()

    def _turn(self) -> None:
        # In a frame of its own, which holds no peer through the next wait: that may be long.
        for key, _ in self._selector.select(self._time_left()):
            if isinstance(key.data, Peer):
                self._advance(key.data)
            elif key.data is None:
                self._empty_inbox()
            else:
                self._accept(key.data)

    def _time_left(self) -> float | None:
        times = [
            peer.deadline.left()
            for queue in (self._opening, self._closing)
            if (peer := queue.front()) is not None
        ]
        if self._resume is not None:
            times.append(self._resume.left())
        return min((time for time in times if time is not None), default=None)

    def _watch_listeners(self) -> None:
        for listener in self._listeners:
            self._selector.register(listener, READ, listener)

    def _accept(self, listener: socket.socket) -> None:
        if self._resume is not None:
            return  # paused by the listener before this one
        for _ in range(_BATCH):
            if len(self._opening) + len(self._closing) >= _MOST_PEERS:
                self._rest("there are too many connections in their opening handshake")
                return
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return
            except MemoryError:
                self._rest("no memory")
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(str(error))
                else:  # what went wrong with a connection that waited: it is gone
                    _logger.debug("a connection was lost before it was accepted: %s", error)
                return
            self._pause = 0.0
            self._welcome(sock)

    def _rest(self, why: str) -> None:
        """Stop accepting for a moment, longer each time."""
        self._warning.give("accepting no connections for a moment: %s", why)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) or _FIRST_PAUSE
        self._resume = Deadline(self._pause)
        for listener in self._listeners:
            self._selector.unregister(listener)

    def _welcome(self, sock: socket.socket) -> None:
        try:
            transport = (
                Transport(sock)
                if self._context is None
                else TLSTransport(sock, self._context, server_side=True)
            )
            peer = Peer(transport, Deadline(self._timeout), self._admit, self._limits)
        except OSError as error:
            _logger.debug("a connection was lost as it was accepted: %s", error)
            sock.close()
            return
        except Exception:
            _logger.exception("a connection could not be taken")
            sock.close()
            return
        self._opening.add(peer)
        self._advance(peer)  # often the request is there already

    def _advance(self, peer: Peer) -> None:
        """Bring a peer as far as it gets without waiting."""
        try:
            wanted = self._step(peer)
            if wanted == READY:
                self._hand_over(peer)
            elif wanted == CLOSE:
                self._drop(peer)
            else:
                self._watch(peer, wanted)
        except OSError as error:
            if isinstance(error, ssl.SSLError) and not isinstance(error, _LEFT):
                self._unanswered(peer, f"TLS failed: {error}")
            else:
                _logger.debug("%s left during the handshake: %s", peer.transport.remote_addr, error)
            self._drop(peer)
        except Exception:
            _logger.exception("the handshake with %s failed", peer.transport.remote_addr)
            self._drop(peer)

    def _step(self, peer: Peer) -> int:
        try:
            return peer.advance(self._buffer)
        except Refused as refused:
            return self._refuse(peer, refused)

    def _refuse(self, peer: Peer, refused: Refused) -> int:
        peer.refuse(refused, Deadline(LINGER))
        self._answered(peer)
        return peer.advance(self._buffer)

    def _answered(self, peer: Peer) -> None:
        self._opening.discard(peer)
        self._closing.add(peer)
        method, path = peer.first_words()
        log_answer(peer.transport.remote_addr, method, path, peer.answered, peer.reason)

    def _unanswered(self, peer: Peer, reason: str) -> None:
        log_answer(peer.transport.remote_addr, *peer.first_words(), "-", reason)

    def _hand_over(self, peer: Peer) -> None:
        self._unwatch(peer)
        assert peer.start is not None
        try:
            peer.start(peer.arrival)
        except Refused as refused:  # such as: no thread could be started
            wanted = self._refuse(peer, refused)
            if wanted == CLOSE:
                self._drop(peer)
            else:
                self._watch(peer, wanted)
        else:
            self._opening.discard(peer)

    def _watch(self, peer: Peer, events: int) -> None:
        if not peer.events:
            self._selector.register(peer.transport, events, peer)
        elif peer.events != events:
            self._selector.modify(peer.transport, events, peer)
        peer.events = events

    def _unwatch(self, peer: Peer) -> None:
        if peer.events:
            self._selector.unregister(peer.transport)
            peer.events = 0

    def _drop(self, peer: Peer) -> None:
        self._unwatch(peer)
        self._opening.discard(peer)
        self._closing.discard(peer)
        peer.transport.close()

    def _expire(self) -> None:
        while (peer := self._opening.front()) is not None and peer.deadline.passed():
            if peer.expire(Deadline(LINGER)):
                self._answered(peer)
                self._advance(peer)
            else:
                self._unanswered(peer, peer.reason)
                self._drop(peer)
        while (peer := self._closing.front()) is not None and peer.deadline.passed():
            self._drop(peer)
        if self._resume is not None and self._resume.passed():
            self._resume = None
            self._watch_listeners()

    def _empty_inbox(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_read.recv(4096):
                pass
        with self._lock:
            transports, self._inbox = self._inbox, []
        for transport in transports:
            peer = Peer.to_drain(transport, Deadline(LINGER))
            self._closing.add(peer)
            self._advance(peer)

    def close(self) -> None:
        """Close everything: the end of `run`, or in its place where it cannot be started."""
        with self._lock:
            self._stopped = True
            transports, self._inbox = self._inbox, []
        for listener in self._listeners:
            listener.close()
        for queue in (self._opening, self._closing):
            while (peer := queue.front()) is not None:
                self._drop(peer)
        for transport in transports:
            transport.close()
        self._selector.close()
        self._wake_write.close()  # first: a write to it may not raise SIGPIPE
        self._wake_read.close()
