"""The acceptor: one thread for all sockets that have no thread of their own yet, or no more.

Rules:

- Listening sockets, handshaking peers and those that are to take a page's answer are in one
  poller, non-blocking: a slow or silent peer costs a descriptor and some bytes, never a
  thread and never another peer's time. What is done for one peer at a time is bounded.
- Nothing on this thread waits for another thread, or runs a handler's code. (What may take time
  here: a piece of a file from a disk, see `delivery`; and the handlers of the program's log.)
- One deadline for the whole opening, TLS included. It is the same for all, so
  the peers are in a queue and only its front is looked at. An answer has a least rate.
- A peer that was answered may ask again (`persistence`): it waits here, and gives way to whoever
  needs its place.
- A peer is counted as it is accepted, or once it is known whose it is (`callers`); one that has
  no business here, or whose address has too many, is closed at once.
- No error of one peer ends the thread.
- The end comes in two steps: `leave` stops listening and lets go of all that have no answer yet, or
  wait to ask again;
  `stop` gives those that are taking an answer until a deadline, and ends the thread. `retire`,
  which may come before, stops listening alone.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from typing import TYPE_CHECKING, Final

from .._errors import forget_frames
from .._handshakes.head import Refused
from .._network.addresses import address_text
from .._network.deadline import Deadline
from .._network.fork import tell_after_fork
from .._network.tls import TLSTransport
from .._network.transport import Transport
from .._network.waiting import READ, engine
from .callers import TurnedAway
from .doors import Doors
from .figures import NO_FIGURES
from .inbox import Inbox, let_go
from .kept import Kept
from .peer import AGAIN, ASKING, CLOSE, KEPT, READY, WRITTEN, Peer
from .peer_queue import PeerQueue
from .persistence import most_kept
from .reports import Reports

if TYPE_CHECKING:
    import socket
    import ssl

    from .access import AccessLog
    from .arrival import Admit, PeerOptions
    from .callers import Callers
    from .decisions import Decisions
    from .delivery import Delivery
    from .figures import Figures
    from .limits import Place

__all__ = ["LINGER", "Acceptor"]

LINGER: Final = 2.0
"""Seconds in which a peer has to read an answer before its socket is closed."""

_logger = logging.getLogger("scriptling_ws.server")

_BUFFER: Final = 16 * 1024
_MOST_PEERS: Final = 65_536  # or what the poller takes


class Acceptor:
    """Accepts connections and brings each to a complete request or a refusal.

    `run` is the thread's body; `deliver`, `leave` and `stop` may be called from any thread.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        admit: Admit,
        *,
        context: ssl.SSLContext | None,
        timeout: float | None,
        callers: Callers,
        decisions: Decisions,
        options: PeerOptions,
        access: AccessLog,
        figures: Figures = NO_FIGURES,
    ) -> None:
        """Get ready; nothing is accepted before `run`.

        Args:
            listeners: Listening sockets, non-blocking; closed when `run` ends, or here
                if this raises.
            admit: Called on the acceptor's thread with every request's head; has to
                return at once.
            context: The TLS settings, None for plain TCP.
            timeout: Seconds for the whole of an opening handshake, None for no limit.
            callers: Decides who may come.
            decisions: Requests about which the program decides.
            options: What holds for every peer.
            access: The log of requests.
            figures: Told of what was refused.

        Raises:
            OSError: there are too few descriptors.
        """
        self._admit = admit
        self.context = context  # for those who are accepted from now on
        self._timeout = timeout
        self._callers = callers
        self._decisions = decisions
        self._options = options
        self._figures = figures
        self._reports = Reports(access, figures)
        with contextlib.ExitStack() as undo:
            for listener in listeners:
                undo.callback(listener.close)
            self._poller = engine().poller(many=True)
            undo.callback(self._poller.close)
            self._inbox = Inbox()
            undo.pop_all()
        self._most = engine().capacity(self._poller)
        self._doors = Doors(listeners, self._poller)
        self._opening: PeerQueue[Peer] = PeerQueue()  # no answer yet
        self._delivering: PeerQueue[Peer] = PeerQueue()  # with a page's answer to take
        self._closing: PeerQueue[Peer] = PeerQueue()  # with a refusal, or an answer to read
        # Answered, and may ask again.
        self._kept = Kept(options.keep_alive, most_kept(self._most), self._drop)
        callers.give_way = self._kept.give_way_of
        self._again: dict[Peer, None] = {}  # had their turn, with more to do at once
        self._buffer = bytearray(_BUFFER)
        self._retiring = self._leaving = False
        self._left = engine().event()  # nothing is accepted any more
        self._last: Deadline | None = None  # when to stop, at the latest
        tell_after_fork(self)

    def _after_fork(self) -> None:
        """In a forked child, which has no acceptor thread: let go of the port."""
        self._left = engine().event()
        self._inbox.after_fork()
        # Their transports close themselves; and the parent's poller is not to forget them.
        self._opening, self._delivering, self._closing = PeerQueue(), PeerQueue(), PeerQueue()
        self._kept = Kept(self._options.keep_alive, 1, self._drop)
        self._again = {}
        self.close()

    # -- from any thread ---------------------------------------------------

    def deliver(self, delivery: Delivery, place: Place) -> None:
        """Take over an answer, or what is left of it, with its transport and its place.

        Its peer gets it, has time to read it, and is closed.
        """
        self._inbox.put(delivery, place)

    def retire(self) -> None:
        """Stop listening; those who have arrived are answered as ever. Never waits."""
        self._retiring = True
        self._inbox.ring()

    @property
    def is_idle(self) -> bool:
        """Whether it has stopped listening, and has neither a request nor an answer under way."""
        return self._doors.are_closed and not (self._peers() or self._inbox)

    def _peers(self) -> int:
        return sum(map(len, self._queues()))

    def _queues(self) -> tuple[PeerQueue[Peer], ...]:
        return self._opening, self._delivering, self._closing, self._kept

    def leave(self, deadline: Deadline) -> bool:
        """Stop listening, and let go of the peers that have no answer yet. Blocks.

        Returns:
            Whether that was done by the deadline.
        """
        self._leaving = True
        self._inbox.ring()
        return self._left.wait(deadline.left())

    def stop(self, deadline: Deadline) -> None:
        """Make `run` return, once the answers are written, or at the deadline."""
        self._last = deadline
        self._leaving = True
        self._inbox.ring()

    # -- the thread --------------------------------------------------------

    def run(self) -> None:
        """Accept until `stop`. Blocks."""
        try:
            self._poller.register(self._inbox, READ, None)
            self._doors.open()
            while not self._over():
                self._turn()
                self._expire()
        except Exception:
            _logger.exception("the acceptor failed: the server takes no more connections")
        finally:
            self.close()

    def _over(self) -> bool:
        if self._last is None:
            return False
        return self._last.passed() or not (self._delivering or self._inbox)

    def _turn(self) -> None:
        # In a frame of its own, which holds no peer through the next wait: that may be long.
        again = list(self._again)
        for key, _ in self._poller.select(0 if again else self._time_left()):
            if isinstance(key.data, Peer):
                if key.data.events:  # else it has given way to one before it
                    self._advance(key.data)
            elif key.data is None:
                self._look_up()
            elif not (self._leaving or self._retiring):
                self._accept(key.data)
        for peer in again:
            if peer in self._again:  # it may have gone on, or left, meanwhile
                self._advance(peer)

    def _time_left(self) -> float | None:
        moments = [self._doors.resume, self._last, self._decisions.deadline]
        moments += [peer.deadline for queue in self._queues() if queue and (peer := queue.front())]
        left = [moment.left() for moment in moments if moment is not None]
        return min([seconds for seconds in left if seconds is not None], default=None)

    def _accept(self, listener: socket.socket) -> None:
        room = min(_MOST_PEERS, self._most) - self._peers()
        for sock, address in self._doors.accept(listener, room, self._kept.give_way):
            self._welcome(sock, address_text(address))

    def _welcome(self, sock: socket.socket, address: str) -> None:
        try:
            caller = self._callers.welcome(address)
        except TurnedAway as error:
            self._reports.turned_away(address, error)
            sock.close()
            return
        secure = None
        if self.context is not None:
            secure = functools.partial(TLSTransport, sock, self.context, server_side=True)
        try:
            transport, deadline = Transport(sock, address), Deadline(self._timeout)
            peer = Peer(
                transport, caller.place, deadline, self._admit, self._options, secure, caller
            )
        except BaseException as error:
            sock.close()
            caller.place.leave()
            if not isinstance(error, Exception):
                raise
            if isinstance(error, OSError):
                _logger.debug("a connection was lost as it was accepted: %s", error)
            else:
                _logger.exception("a connection could not be taken")
            return
        peer.since = self._figures.now()
        self._opening.add(peer)
        self._advance(peer)  # often the request is there already

    def _advance(self, peer: Peer) -> None:
        """Bring a peer as far as it gets without waiting."""
        self._again.pop(peer, None)
        try:
            wanted = self._step(peer)
            if wanted == READY:
                wanted = self._hand_over(peer)
            if wanted == CLOSE:
                self._drop(peer)
            elif wanted == AGAIN:
                self._again[peer] = None
            elif wanted != READY:
                self._watch(peer, wanted)
        except Exception as error:  # noqa: BLE001  # told of by `_lose`
            self._lose(peer, error)

    def _lose(self, peer: Peer, error: Exception) -> None:
        """Close a peer with which something went wrong, and tell of it."""
        try:
            self._reports.failed(peer, error)
        finally:
            self._drop(peer)

    def _step(self, peer: Peer) -> int:
        while True:
            try:
                wanted = peer.advance(self._buffer)
            except Refused as refused:
                forget_frames(refused)
                self._refuse(peer, refused)
                continue
            if wanted == WRITTEN:
                self._let_read(peer)
            elif wanted == KEPT:
                self._delivering.discard(peer)
                self._kept.add(peer)
            elif wanted == ASKING:
                self._kept.discard(peer)
                peer.deadline, peer.since = Deadline(self._timeout), self._figures.now()
                self._opening.add(peer)
            else:
                return wanted

    def _let_read(self, peer: Peer) -> None:
        self._delivering.discard(peer)
        self._closing.discard(peer)
        peer.deadline = Deadline(LINGER)
        self._closing.add(peer)

    def _refuse(self, peer: Peer, refused: Refused) -> None:
        peer.refuse(refused, Deadline(LINGER))
        self._answered(peer)

    def _answered(self, peer: Peer) -> None:
        self._opening.discard(peer)
        self._closing.add(peer)
        self._reports.refused(peer)

    def _hand_over(self, peer: Peer) -> int:
        """Let a session have the complete request; READY if it has, else what is wanted next."""
        self._unwatch(peer)
        try:
            peer.admitted.start(peer.arrival)
        except Refused as refused:  # such as: no thread could be started
            self._refuse(peer, refused)
            return self._step(peer)
        self._opening.discard(peer)
        return READY

    def _watch(self, peer: Peer, events: int) -> None:
        if not peer.events:
            self._poller.register(peer.transport, events, peer)
        elif peer.events != events:
            self._poller.modify(peer.transport, events, peer)
        peer.events = events

    def _unwatch(self, peer: Peer) -> None:
        if peer.events:
            self._poller.unregister(peer.transport)
            peer.events = 0

    def _drop(self, peer: Peer) -> None:
        self._unwatch(peer)
        self._again.pop(peer, None)
        for queue in self._queues():
            queue.discard(peer)
        peer.close()

    def _expire(self) -> None:
        if not any(self._queues()):  # as mostly
            self._expire_others()
            return
        while (peer := self._opening.front()) is not None and peer.deadline.passed():
            try:
                self._give_up(peer)
            except Exception as error:  # noqa: BLE001  # such as: no memory for an answer
                self._lose(peer, error)
        while (peer := self._delivering.front()) is not None and peer.deadline.passed():
            self._delivering.discard(peer)
            if peer.renew():
                self._delivering.add(peer)
            else:
                self._reports.too_slow(peer)
                self._drop(peer)
        while (peer := self._closing.front()) is not None and peer.deadline.passed():
            self._drop(peer)
        self._kept.expire()
        self._expire_others()

    def _expire_others(self) -> None:
        self._decisions.expire()
        self._doors.look()

    def _give_up(self, peer: Peer) -> None:
        """The opening of a peer has taken too long."""
        if peer.expire(Deadline(LINGER)):
            self._answered(peer)
            self._advance(peer)
        else:
            self._reports.unanswered(peer, peer.reason)
            self._drop(peer)

    def _look_up(self) -> None:
        """Do what another thread has woken this one for."""
        for delivery, place in self._inbox.take():
            try:
                peer = Peer.to_deliver(delivery, place)
            except Exception:  # such as: no memory
                _logger.exception("the answer to %s cannot be sent", delivery.transport.remote_addr)
                let_go(delivery, place)
            else:
                self._delivering.add(peer)
                self._advance(peer)
        if self._leaving or self._retiring:
            self._doors.close()
            self._kept.close()
        if self._leaving and not self._left.is_set():
            self._drop_all(self._opening)
            self._decisions.leave()
            self._left.set()

    def _drop_all(self, queue: PeerQueue[Peer]) -> None:
        while (peer := queue.front()) is not None:
            self._drop(peer)

    def close(self) -> None:
        """Close everything: the end of `run`, or in its place where it cannot be started."""
        left = self._inbox.end()
        self._doors.close(watched=False)
        for queue in self._queues():
            self._drop_all(queue)
        for delivery, place in left:
            let_go(delivery, place)
        self._poller.close()
        self._inbox.close()
        self._left.set()
