"""A room: connections that get the same messages.

Rules:

- A message is checked, and its frame made, once. Then it is offered to each member in turn
  (`member`), and no member holds up the others or the sender.
- One message of a room goes out at a time (`_turn`): all members get the room's messages in the
  same order, each once. What a member does not get, it is counted for.
- On the way to a member that reads, nothing is made and no lock is taken but its connection's.
- A connection leaves by itself as it closes: see `guest`. One that is closed already is not taken.
- With a backend a message goes to it alone, and comes back from it for this process's members as
  for all others': so the order is the same in all processes.
- In a forked child a room is empty: the connections are its parent's.

Locks: `_publishing` and `_turn` are taken first, never both; `_lock` guards the members, and
nothing is called with it held.
"""

from __future__ import annotations

import dataclasses
import logging
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from .._connection.connection import Connection
from .._errors import RoomError
from .._network.fork import tell_after_fork
from .._network.waiting import engine
from .carrier import refuse_alone
from .envelope import History, pack, unpack
from .guest import check_guest, guest_of
from .member import Member
from .message import MASKED, Message
from .stats import RoomStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .carrier import Carrier
    from .member import Limits
    from .message import Form

__all__ = ["Room"]

_numbers: Final = count(1)  # of the members of all rooms of this process
_SEND: Final = 4  # what a message to a member counts where tasks share a thread
_logger: Final = logging.getLogger("scriptling_ws.rooms")


class Room:
    """Connections that get the same messages; `room` gives the one of a name.

    Every method may be called from any thread.

    Attributes:
        name: Its name.
    """

    __slots__ = (
        "__weakref__",
        "_backend",
        "_departed",
        "_failed",
        "_gaps",
        "_groups",
        "_history",
        "_limits",
        "_lock",
        "_members",
        "_on_gap",
        "_publishing",
        "_sent",
        "_sequence",
        "_share",
        "_turn",
        "name",
    )

    def __init__(
        self,
        name: str,
        limits: Limits,
        backend: Carrier | None = None,
        on_gap: Callable[[Room, float], object] | None = None,
    ) -> None:
        """Not for callers: `room` makes rooms."""
        self.name: str = name
        self._limits = limits
        self._backend = backend
        self._on_gap = on_gap
        self._begin()
        tell_after_fork(self)

    def _begin(self) -> None:
        """Start empty."""
        self._share = engine().share
        # RLocks: a callback for a connection's end may come back here.
        self._lock = engine().rlock()  # guards the next three
        self._members: dict[Connection[Any, Any], Member] = {}
        self._groups: list[tuple[Form, list[Member]]] | None = None  # None: to be made anew
        self._departed = 0  # messages that members which have left did not get
        self._turn = engine().rlock()  # guards the next two
        self._sent = 0
        self._history = History()
        self._publishing = engine().rlock()  # guards the next two
        self._sequence = 0
        self._failed = 0
        self._gaps = 0

    _after_fork = _begin

    def check(self, given: Mapping[str, object], on_gap: object) -> None:
        """Compare options that are given again with those that the room has.

        Raises:
            ValueError: one differs.
        """
        has: dict[str, object] = dataclasses.asdict(self._limits)
        has["on_gap"] = self._on_gap
        for option, value in {**given, **({"on_gap": on_gap} if on_gap else {})}.items():
            if value != has[option]:
                raise ValueError(
                    f"the room {self.name!r} is there with {option}={has[option]!r}, not "
                    f"{value!r}: give its options once, or the same each time"
                )

    # -- its members ---------------------------------------------------------

    def join(self, client: Connection[Any, Any]) -> None:
        """Take a connection into the room. Again: no effect.

        It gets each message that is sent from now on, until it leaves or closes. A connection that
        is closed is not taken. Does not block; with a backend, the first member of a process waits
        until the backend brings the room's messages, for 5 seconds at most.

        Args:
            client: The connection, such as a handler's client.

        Raises:
            TypeError: it is none.
            RuntimeError: there are several processes, and the room has no backend.
            RoomError: no thread can be started to hear the backend.
        """
        check_guest("join", client)
        refuse_alone(self.name, self._backend)
        with self._lock:
            if client in self._members:
                return
            member = self._members[client] = Member(client, next(_numbers), self._limits)
            self._groups = None
        guest_of(client).joined(self, lambda: self._drop(member))
        if not client._link.lifecycle.open:  # then its guest may have been told before
            self._drop(member)
        elif self._backend is not None:
            try:
                self._backend.attend(self)
            except RoomError:
                self._drop(member)
                raise

    def leave(self, client: Connection[Any, Any]) -> None:
        """Let a connection leave. One that is not in the room: no effect. Does not block.

        What is queued for it is not sent any more.

        Raises:
            TypeError: it is none.
        """
        check_guest("leave", client)
        with self._lock:
            member = self._members.get(client)
        if member is not None:
            guest_of(client).left(self)
            self._drop(member)

    def _drop(self, member: Member) -> None:
        """A member leaves, or its connection has closed."""
        with self._lock:
            if self._members.get(member.connection) is not member:
                return
            del self._members[member.connection]
            self._groups = None
            self._departed += member.dropped
            empty = not self._members
        member.leave()
        if empty and self._backend is not None:
            self._backend.attend(self)

    def __len__(self) -> int:
        """How many connections of this process are in the room."""
        return len(self._members)

    def __bool__(self) -> bool:
        """A room is true, also an empty one."""
        return True

    def __contains__(self, client: object) -> bool:
        """Whether a connection is in the room."""
        return client in self._members

    # -- sending -------------------------------------------------------------

    def send(
        self,
        message: str | dict[str, Any],
        *,
        exclude: Connection[Any, Any] | Iterable[Connection[Any, Any]] | None = None,
    ) -> None:
        """Send a text message to all members.

        Does not wait for members: what one does not read is queued for it, up to the room's bounds.
        With a backend it blocks until that has the message, for 5 seconds at most.

        Args:
            message: A str, or a dict, which is sent as compact JSON.
            exclude: A connection that does not get it, or several; such as the client that it is
                from. With a backend too.

        Raises:
            TypeError, ValueError: as `Connection.send`. Nothing was sent.
            RoomError: the backend cannot be reached; nobody gets the message, or it is not known.
            RuntimeError: there are several processes, and the room has no backend.
        """
        self._send(Message.text(message), exclude)

    def send_text(
        self,
        text: Any,
        *,
        exclude: Connection[Any, Any] | Iterable[Connection[Any, Any]] | None = None,
    ) -> None:
        """Send a text message that is encoded already to all members.

        Args:
            text: What `Connection.send_text` takes: UTF-8 as a bytes-like object, which is checked
                once for all members; or a str.
            exclude: As `send` takes it.

        Raises:
            TypeError, ValueError: as `Connection.send_text`. Nothing was sent.
            RoomError, RuntimeError: as `send`.
        """
        self._send(Message.utf8(text), exclude)

    def send_binary(
        self,
        data: Any,
        *,
        exclude: Connection[Any, Any] | Iterable[Connection[Any, Any]] | None = None,
    ) -> None:
        """Send a binary message to all members.

        Args:
            data: What `Connection.send_binary` takes: a list or tuple of ints from 0 to 255, or a
                bytes-like object.
            exclude: As `send` takes it.

        Raises:
            TypeError, ValueError: as `Connection.send_binary`. Nothing was sent.
            RoomError, RuntimeError: as `send`.
        """
        self._send(Message.binary(data), exclude)

    def _send(
        self,
        message: Message,
        exclude: Connection[Any, Any] | Iterable[Connection[Any, Any]] | None,
    ) -> None:
        refuse_alone(self.name, self._backend)
        excluded = self._numbers_of(exclude)
        if self._backend is None:
            self._share(_SEND * (1 + len(self._members)))
            self._hand_out(message, excluded)
            return
        with self._publishing:
            # Counted before: whether it has arrived is not known after an error.
            self._sequence += 1
            data = pack(self._backend.origin, self._sequence, excluded, message)
            try:
                self._backend.publish(self, data)
            except RoomError:
                self._failed += 1
                raise

    def _numbers_of(
        self, exclude: Connection[Any, Any] | Iterable[Connection[Any, Any]] | None
    ) -> frozenset[int]:
        """The numbers of those members; other connections have none."""
        if exclude is None:
            return frozenset()
        one = isinstance(exclude, Connection) or not hasattr(exclude, "__iter__")
        clients: tuple[Any, ...] = (exclude,) if one else tuple(exclude)
        for client in clients:
            if not isinstance(client, Connection):
                kind = type(client).__name__
                raise TypeError(f"exclude takes a connection, or several, not {kind}")
        members = map(self._members.get, clients)
        return frozenset(member.number for member in members if member is not None)

    def _hand_out(self, message: Message, excluded: frozenset[int]) -> None:
        """Offer a message to the members of this process."""
        with self._turn:
            self._sent += 1
            for form, members in self._by_form():
                chosen = members
                if excluded:
                    chosen = [member for member in members if member.number not in excluded]
                if form == MASKED:
                    for member in chosen:
                        _offer((member,), message.masked(), len(message.payload))
                else:
                    _offer(chosen, message.frame(form), len(message.payload))

    def _by_form(self) -> list[tuple[Form, list[Member]]]:
        """The members, those together that take the same frame."""
        groups = self._groups
        if groups is None:
            with self._lock:
                found: dict[Form, list[Member]] = {}
                for member in self._members.values():
                    found.setdefault(member.form, []).append(member)
                groups = self._groups = list(found.items())
        return groups

    # -- the backend's ---------------------------------------------------------

    def deliver(self, data: bytes) -> None:
        """An envelope has come.

        Raises:
            ValueError: it is none.
        """
        assert self._backend is not None
        envelope = unpack(data)
        with self._turn:
            if self._history.is_new(envelope.origin, envelope.sequence):
                own = envelope.origin == self._backend.origin
                self._hand_out(envelope.message, envelope.excluded if own else frozenset())

    def listens_anew(self) -> None:
        """The backend begins to bring messages, after a time in which none were wanted."""
        with self._turn:
            self._history.forget()

    def tell_gap(self, seconds: float) -> None:
        """The backend was away for so long, and is back: messages may have been missed."""
        self._gaps += 1
        if self._on_gap is not None:
            try:
                self._on_gap(self, seconds)
            except (Exception, SystemExit) as error:
                if isinstance(error, SystemExit) and engine().hears_signals():
                    raise  # as of on_close
                _logger.exception("the on_gap of room %r has failed", self.name)

    # -- what has become of it -------------------------------------------------

    @property
    def dropped(self) -> int:
        """How many messages members did not get because their queues were full, all together."""
        with self._lock:
            return self._departed + sum(member.dropped for member in self._members.values())

    def dropped_of(self, client: Connection[Any, Any]) -> int:
        """How many messages a member did not get; 0 for a connection that is none.

        Raises:
            TypeError: it is no connection.
        """
        check_guest("dropped_of", client)
        member = self._members.get(client)
        return 0 if member is None else member.dropped

    def stats(self) -> RoomStats:
        """What has become of the room's messages, in this process. Does not block."""
        with self._lock:
            members = list(self._members.values())
            departed = self._departed
        return RoomStats(
            members=len(members),
            sent=self._sent,
            queued=sum(member.queued for member in members),
            dropped=departed + sum(member.dropped for member in members),
            failed=self._failed,
            gaps=self._gaps,
            missed=self._history.missed,
        )

    def __repr__(self) -> str:
        return f"<Room {self.name!r}, {len(self)} members>"


def _offer(members: Sequence[Member], frame: bytes, payload: int) -> None:
    """Send a frame to members, at once where that can be. Holds the turn."""
    # The loop is what a broadcast costs: see docs/rooms.md.
    for member in members:
        if member.stalled or not member.send(frame, member, 1, payload):
            member.keep(frame, payload)
