"""The channel in pure Python: frames to and from a socket's methods.

The contract is `_wsframe.pyi`, as for `_wsframe_py`. It stands in where nothing compiles, and it
goes by the socket's own methods, so that it runs on any system and under any engine. How long it
waits itself is what one such method naps; what is longer is left to the Python code around it.

Rules:

- A signal handler runs after a call, never between two steps that are none: what a call has
  brought is noted in the same step, or in steps that make no call.
- A lock is taken by a `for`, which stores in one step that it was (see `_network.locks`).
"""

# ruff: noqa: B007 - a lock is taken by a `for`, and whether it was is used below

from __future__ import annotations

import math
import os
import struct
from itertools import repeat, starmap
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from . import _wsframe_py as codec

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from ._wsframe import EngineLock, ReaderPart, Stream, WriterPart

    _Method = TypeVar("_Method", bound=Callable[..., Any])

Lock: Final = None
RLock: Final = None
forget_locals: Final = None
on_kept_stack: Final = None
Descriptor: Final = None
receive_on: Final = None

_TEXT_MESSAGE: Final = 0x81
_BINARY_MESSAGE: Final = 0x82
_COMPRESSED: Final = 0x40  # RSV1, as permessage-deflate has it
_MOST: Final = 256 * 1024  # above it a message is sent in slices: see _wire.outgoing
_LONG: Final = 1.0  # a wait above this may be a nap too long
_WITHOUT_WAITING: Final = repeat((False,))

# ---- masking keys ----

_DRAW: Final = 1024
_split: Final = struct.Struct("4s" * _DRAW).unpack
_keys: list[bytes] = []  # list.pop is atomic, so no lock


def next_key() -> bytes:
    """Four bytes that were never given out before. Thread-safe."""
    while True:
        try:
            return _keys.pop()
        except IndexError:
            _keys.extend(_split(os.urandom(4 * _DRAW)))


def open_gate() -> bool:
    """There is no gate."""
    return False


def use_gate_from(active: int) -> None:
    """There is no gate."""


def spin_for(microseconds: int) -> None:
    """A wait sleeps at once."""


def after_fork() -> None:
    """In a forked child: draw keys anew."""
    _keys.clear()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=after_fork)


def descriptor_of(sock: object) -> None:  # noqa: ARG001
    """A channel moves bytes by the socket's methods."""
    return


_FAIR: Final = 1024  # what a task does before it lets those run that share its thread
_A_READ: Final = 32  # what counts more than a message that came
_A_SEND: Final = 4
_BYTES: Final = 256  # of what is sent, that count one
_done = [0]  # by the task that runs, since it was let run
_resumed: list[Any] = [None]  # the task that was let run last


def last_resumed() -> Any:
    """The task that a Place has let run last; None if none has."""
    return _resumed[0]


def share(weight: int, rest: Callable[[], object], /) -> None:
    """Count what is to be done, and let the other tasks run before it if enough was."""
    if _done[0] >= _FAIR:
        _done[0] = 0
        rest()
        _done[0] = 0  # the others have counted too
    _done[0] += weight


class Place:
    """What is the same in every wait of a Parking; see the contract."""

    __slots__ = (
        "_get_current",
        "_get_hub",
        "_switch",
        "fires",
        "hub",
        "late",
        "task",
        "until",
        "wakeable",
        "watcher",
        "watching",
        "woken",
    )

    def __init__(
        self,
        get_hub: Callable[[], object],
        get_current: Callable[[], object],
        switch: Callable[[Any], object],
    ) -> None:
        """Wait for nothing yet."""
        self._get_hub = get_hub
        self._get_current = get_current
        self._switch = switch
        self.until = self.fires = math.inf
        self.hub: Any = None
        self.watcher: Any = None
        self.task: Any = None
        self.watching = self.wakeable = self.woken = self.late = False

    def move(self, hub: Any, /) -> None:
        """Have the watcher of another hub."""
        raise NotImplementedError  # pragma: no cover - the subclass's

    def set_timer(self, until: float, /) -> None:
        """Have the timer fire then."""
        raise NotImplementedError  # pragma: no cover - the subclass's

    def park(self, until: float, wakeable: bool, /) -> bool:
        """Wait until something may have come."""
        if wakeable and self.woken:
            return False
        hub: Any = self._get_hub()
        if hub is not self.hub:
            self.move(hub)
        self.until, self.wakeable, self.late = until, wakeable, False
        if until < self.fires:
            self.set_timer(until)
        if not self.watching:
            self.watching = True
            self.watcher.start(self)
        self.task = self._get_current()
        try:
            # Once more: another thread that wakes it now looks for the task after this was set.
            if self.task is hub:
                hub.switch()  # which says that a callback of the loop may not wait
            elif not (wakeable and self.woken):
                self._switch(hub)
        finally:
            self.task = None
            _done[0] = 0
        return self.late

    def __call__(self) -> None:
        """Switch to the task that waits: something has come."""
        task = self.task
        if task is not None:
            _resumed[0] = task
            self._switch(task)
        elif self.watcher is not None:  # else it is let go of, by another thread
            self.watching = False
            self.watcher.stop()


class Window:
    """Received bytes, and how their messages are to be read."""

    __slots__ = (
        "as_list",
        "as_utf8",
        "data",
        "limit",
        "masked",
        "payload",
        "plain",
        "ready",
        "received",
        "stopped",
        "unfed",
        "wire",
    )

    def __init__(
        self,
        size: int,
        masked: bool,
        as_list: bool,
        limit: int,
        ready: deque[Any],
        as_utf8: bool = False,
    ) -> None:
        """Start empty, with so many bytes of memory."""
        self.data = bytearray(size)
        self.unfed: int | None = None
        self.stopped: tuple[int, int, int] | None = None
        self.plain = True
        self.received = self.payload = self.wire = 0
        self.masked = masked
        self.as_list = as_list
        self.as_utf8 = as_utf8
        self.limit = limit
        self.ready = ready


def _payload_size(frame: bytes) -> int:
    """How many bytes of a whole frame are its payload."""
    if len(frame) < 2:
        return len(frame)
    second = frame[1]
    size = second & 127
    extended = 2 if size == 126 else 8 if size == 127 else 0
    return len(frame) - 2 - extended - (4 if second > 127 else 0)


def _attempts(lock: EngineLock) -> Iterable[bool]:
    """Takes the lock without waiting: made once, and taken from any number of times."""
    return starmap(lock.acquire, _WITHOUT_WAITING)


class Channel:
    """The quick ways of one connection; see the contract."""

    __slots__ = (
        "_answers",
        "_identity",
        "_largest",
        "_masks",
        "_receive",
        "_rest_by",
        "_send",
        "_send_flags",
        "_stream",
        "_try_reading",
        "_try_writing",
        "_window",
        "alone",
        "came",
        "closing",
        "compresses",
        "deflated",
        "heard",
        "look_at",
        "look_due",
        "open",
        "original",
        "orphaned",
        "payload",
        "reader",
        "reading",
        "rest",
        "sent",
        "spins",
        "tail",
        "timed",
        "went",
        "wire",
        "writing",
    )

    def __init__(
        self,
        stream: Stream,
        window: Window,
        answers: list[bytes],
        *,
        masks: bool,
        reading: EngineLock,
        writing: EngineLock,
        identity: Callable[[], int],
    ) -> None:
        """Move frames between a stream and a window."""
        self._identity = identity
        self._stream = stream
        self._window = window
        self._answers = answers
        self._masks = masks
        self._largest = _MOST + (14 if masks else 10)  # with the header of such a frame
        self._receive = stream.receive
        self._rest_by = None if stream.parking is None else stream.parking.rest
        self._send = stream.send
        self._send_flags = stream.send_flags
        self.open = True
        self.closing = False
        self.orphaned = False
        self.look_due = False
        self.look_at = 0.0
        self.alone = False
        self.compresses = False
        self.heard = False
        self.reader = 0
        self.rest: Any = None
        self.timed = False
        self.sent = self.payload = self.wire = self.original = self.deflated = 0
        self.went = self.came = 0.0
        self.spins = (0, 0)
        self.tail: list[bytes] = []
        self.renew(reading, writing)

    def renew(self, reading: EngineLock, writing: EngineLock) -> None:
        """Have other locks: in a forked child, where nobody would release the old ones."""
        self.reading = reading
        self.writing = writing
        self._try_reading = _attempts(reading)
        self._try_writing = _attempts(writing)

    def wake(self) -> None:
        """Nobody waits in here but for a nap."""

    def note_went(self) -> None:
        """Note the time, if `timed` says so: bytes were sent by another way."""
        if self.timed:
            self.went = monotonic()

    def note_came(self) -> None:
        """Note the time, if `timed` says so: bytes were received by another way."""
        if self.timed:
            self.came = monotonic()

    def _unsent(self) -> bool:
        """Whether something has to go before a new frame."""
        return bool(self.rest is not None or self.tail or self._answers or self._stream.pending)

    # -- sending -----------------------------------------------------------

    def send_text(self, text: object, writer: WriterPart, /) -> bool:
        """Send a text message, if that can be done at once; whether it was."""
        if type(text) is not str or not self.open or self.compresses or len(text) > _MOST:
            return False
        if self._rest_by is not None:
            share(_A_SEND + len(text) // _BYTES, self._rest_by)
        try:
            frame = codec.encode_frame(_TEXT_MESSAGE, text, next_key() if self._masks else None)
        except UnicodeEncodeError:
            return False
        return len(frame) <= self._largest and self.send(frame, writer)

    def send_utf8(self, data: Any, writer: WriterPart, /) -> bool:
        """Send a text message that is encoded, if that can be done at once; whether it was."""
        if type(data) not in (bytes, bytearray) or not self.open:
            return False
        if self.compresses or len(data) > _MOST:
            return False
        if self._rest_by is not None:
            share(_A_SEND + len(data) // _BYTES, self._rest_by)
        payload = bytes(data)  # the same, of bytes; of others a copy that nobody can change
        size = len(payload)
        if size > _MOST or self._unsent() or codec.check_utf8(payload, 0, size)[0] < size:
            return False
        key = next_key() if self._masks else None
        return self.send(codec.encode_frame(_TEXT_MESSAGE, payload, key), writer)

    def send_binary(self, data: Any, writer: WriterPart, /) -> bool:
        """Send a binary message, if that can be done at once; whether it was."""
        if type(data) not in (bytes, list, tuple, bytearray) or not self.open:
            return False
        if self.compresses or len(data) > _MOST:
            return False
        if self._rest_by is not None:
            share(_A_SEND + len(data) // _BYTES, self._rest_by)
        if self._unsent():
            return False
        key = next_key() if self._masks else None
        return self.send(codec.encode_frame(_BINARY_MESSAGE, data, key), writer)

    def send(
        self, frame: bytes, writer: WriterPart, messages: int = 1, payload: int = -1, /
    ) -> bool:
        """Send a whole frame, or several, if that can be done at once; whether it was."""
        if not isinstance(frame, bytes):
            raise TypeError(f"the frame has to be bytes, not {type(frame).__name__}")
        lock, got = self.writing, False
        try:
            for got in self._try_writing:
                break
            if not got or not self.open or self._unsent():
                return False
            if not self._move(frame, writer):
                return False
            self._count(frame, messages, payload)
        finally:
            if got:  # pragma: no branch - else it has returned
                lock.release()
        if self._answers or (self.look_due and monotonic() >= self.look_at):
            writer.look_after()
        return True

    def _count(self, frame: bytes, messages: int, payload: int) -> None:
        """Count what was sent. Holds the lock."""
        carried = _payload_size(frame)
        if payload < 0:
            payload = carried
        self.sent += messages
        self.payload += payload
        self.wire += len(frame)
        if frame and frame[0] & _COMPRESSED:  # of several frames none is
            self.original += payload
            self.deflated += carried
        self.note_went()

    def _move(self, frame: bytes, writer: WriterPart) -> bool:
        """Send a frame; False if the writer says that it was not sent. Holds the lock."""
        try:
            whole = codec.send_frame(self._send, frame, self._send_flags, self.tail)
        except BaseException as error:
            if writer.broke(frame, error):
                return True
            raise
        if not whole or self._stream.pending:
            left = None if whole or self.tail else frame
            return writer.go_on(left) is not False or left is None
        return True

    # -- receiving ---------------------------------------------------------

    def receive(self, timeout: Any, reader: ReaderPart, /) -> Any:
        """Receive the next message, waiting for it."""
        quick = timeout is None or (type(timeout) in (int, float) and timeout > _LONG)
        if not quick:
            reader.seconds(timeout)  # raises before anything is taken
        if self._rest_by is not None:
            share(_A_READ, self._rest_by)
        lock, got = self.reading, False
        try:
            for got in self._try_reading:
                break
            if got:
                window = self._window
                usual = window.plain and window.unfed is None and not window.ready
                stop = self.closing or self.orphaned or self.alone or self._unsent()
                if quick and usual and not stop:
                    message = self._read(reader)
                    if message is not None:
                        return message
                return reader.receive(reader.seconds(timeout), quick)
        finally:
            if got:
                lock.release()
        return reader.receive_waiting(reader.seconds(timeout))

    def _read(self, reader: ReaderPart) -> Any:
        """One call of the stream's method, which may nap; None to go on. Holds the lock."""
        window, note, came = self._window, [], False  # type: tuple[Window, list[int], bool]
        counted = map(len, (window.ready,))  # which is done where it is unpacked, by no call
        self.reader = self._identity()
        try:
            came = codec.receive_messages(
                self._receive,
                window.data,
                window.masked,
                window.as_list,
                window.limit,
                window.ready,
                note,
                window.as_utf8,
            )
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            self._stream.note_failure(error)
        finally:
            # No call in these, so no signal handler runs before it is noted.
            if note and not came:
                if note[2:]:
                    window.stopped = (note[1], note[0], note[2])
                window.unfed = note[0]
                window.plain = False
            if note:
                window.wire += note[0]
                if note[2:]:
                    (count,) = counted  # none was there before
                    window.received += count
                    window.payload += note[3]
            self.reader = 0
            if self.orphaned:
                reader.leave()
        if note and note[0]:
            self.note_came()
        if not came:
            return None
        self.heard = True
        if self.closing or self._unsent():
            return None
        try:
            return window.ready.popleft()
        except IndexError:  # pragma: no cover - a race
            return None  # another thread took it


_SHORTCUTS = ("receive", "send", "send_binary", "send_text")


class Shortcuts:
    """What the shortcuts of one connection go by: nothing here has any."""

    __slots__ = ()

    def __init__(self, channel: Channel, reader: ReaderPart, writer: WriterPart) -> None:
        """Keep nothing."""


def shortcut(function: _Method) -> _Method:
    """Have the method as it is."""
    if function.__name__ not in _SHORTCUTS:
        raise ValueError(f"there is no shortcut for {function.__name__}()")
    return function


class Iteration:
    """The messages of a connection as they come, until there are no more."""

    __slots__ = ("_channel", "_owner", "_reader", "_ready")

    def __init__(self, channel: Channel, reader: ReaderPart, owner: object) -> None:
        """Begin with the next message."""
        self._channel = channel
        self._reader = reader
        self._owner = owner
        self._ready = channel._window.ready

    def __iter__(self) -> Iteration:
        return self

    def __next__(self) -> Any:
        try:
            if self._ready:
                return self._ready.popleft()
        except IndexError:  # pragma: no cover - a race
            pass  # another thread took it
        message = self._channel.receive(None, self._reader)
        if message is None:
            raise StopIteration
        return message
