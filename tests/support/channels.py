"""The kernel's channel over real sockets, in each of the ways that it can go.

Rules:

- The sockets are the system's, and the transport is the package's own. Stand-ins are only the
  reader and the writer: they note what they are asked for, and whether the lock was held.
- What they do then is what the connection does, as far as bytes go: a frame that was begun is
  finished, what lies in the socket is read. So a session comes to the same in every way.
- No pytest here: a fuzz target has this, too.

What waits by a descriptor does so by itself, or at the gate; all else is the same then.
"""

from __future__ import annotations

import contextlib
import importlib
import select
import socket
import struct
import sys
import sysconfig
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from frames import raw_frame, xor
from scriptling_ws._network.deadline import check_timeout
from scriptling_ws._network.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

WAYS = ("descriptor", "methods", "pure")
BAD_TEXT = 2
KEY = b"\x12\x34\xab\xcd"
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)  # where there is none, the sockets do not block
ROOMY = 1 << 20  # bytes of a buffer, if the system gives so many
SOON = 10.0
LATE = 0.05 if sys.platform == "win32" else 0  # seconds that bytes may be on the way: it is TCP
_KERNELS = {
    "pure": ("scriptling_ws._wsframe_py", "scriptling_ws._wschannel_py"),
    "compiled": ("scriptling_ws._wsframe", "scriptling_ws._wsframe"),
}


class Way(NamedTuple):
    """One of the ways of a channel.

    Attributes:
        name: One of WAYS, or "gate": by a descriptor, and waiting at the gate.
        codec: The kernel's functions.
        channel: The kernel's classes.
    """

    name: str
    codec: ModuleType
    channel: ModuleType

    @classmethod
    def named(cls, name: str) -> Way:
        """The way of that name; an ImportError where the kernel was not built."""
        modules = _KERNELS["pure" if name == "pure" else "compiled"]
        return cls(name, *map(importlib.import_module, modules))

    @property
    def by_descriptor(self) -> bool:
        return self.name in ("descriptor", "gate")

    @property
    def takes_bytearrays(self) -> bool:
        """Whether it sends a bytearray at once: not where another thread could resize it."""
        return self.name == "pure" or not FREE_THREADED

    def lock(self) -> Any:
        """A lock: the kernel's own, or one that the channel has to call."""
        return self.channel.Lock() if self.by_descriptor else threading.Lock()


class Stream(Transport):
    """A transport whose channel goes the way that it is told, whichever kernel the package has."""

    def __init__(self, sock: socket.socket, way: Way) -> None:
        super().__init__(sock)
        descriptor = way.channel.descriptor_of(sock) if way.by_descriptor else None
        self._descriptor = self.descriptor = descriptor


class Hooked(Stream):
    """One that calls a function before each call of a method that a channel goes by.

    Attributes:
        before: The function.
    """

    def __init__(self, sock: socket.socket, way: Way) -> None:
        super().__init__(sock, way)
        self.before: Callable[[], object] = lambda: None

    @property
    def receive(self) -> Callable[[bytearray], int]:
        return lambda buffer: (self.before(), self._recv_into(buffer))[1]

    @property
    def send(self) -> Callable[[bytes, int], int]:
        return lambda data, flags: (self.before(), self._send(data, flags))[1]


class Writer:
    """Notes what a channel asks of its writer, and goes on as that does.

    Attributes:
        calls: What was called: the name, the frame, whether the lock was held.
        tails: What `tail` had in each call of `go_on`.
        errors: What `broke` was told.
        dealt: What `broke` returns.
        meanwhile: Called by `go_on` before it goes on; what it raises comes out.
    """

    def __init__(self, end: End) -> None:
        self._end = end
        self.calls: list[tuple[Any, ...]] = []
        self.tails: list[list[bytes]] = []
        self.errors: list[BaseException] = []
        self.dealt = True
        self.meanwhile: Any = lambda: None

    def _note(self, name: str, *frame: Any) -> None:
        self.calls.append((name, *frame, self._end.channel.writing.locked()))

    def go_on(self, frame: bytes | None) -> None:
        tail = self._end.channel.tail
        self._note("go_on", frame)
        self.tails.append(list(tail))
        self.meanwhile()
        left = b"".join(tail) if frame is None else frame
        del tail[:]
        self._end.write(left)

    def broke(self, frame: bytes, error: BaseException) -> bool:
        self._note("broke", frame)
        self.errors.append(error)
        return self.dealt

    def look_after(self) -> None:
        self._note("look_after")


class Reader:
    """Notes what a channel asks of its reader, and reads as that does, but never waits.

    Attributes:
        calls: What was called: the name, its arguments, whether the lock was held.
        reads: Whether `receive` reads; if not, it returns this object.
    """

    def __init__(self, end: End) -> None:
        self._end = end
        self.calls: list[tuple[Any, ...]] = []
        self.reads = False

    def _note(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments, self._end.channel.reading.locked()))

    def seconds(self, timeout: object) -> float | None:
        return check_timeout(timeout)

    def receive(self, timeout: float | None, quick: bool) -> Any:
        self._note("receive", timeout, quick)
        return self._end.read() if self.reads else self

    def receive_waiting(self, timeout: float | None) -> Any:
        self._note("receive_waiting", timeout)
        return self

    def leave(self) -> None:
        self._note("leave")


def pair(buffer: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, of which the first has a buffer of about so many bytes."""
    near, far = socket.socketpair()
    for sock, size in ((near, buffer or ROOMY), (far, ROOMY)):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    for sock in (near, far):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer or ROOMY)
    return near, far


def connected() -> tuple[socket.socket, socket.socket]:
    """Two TCP sockets: others are not reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


class End:
    """One end of a connection: a channel, with all that it is given, and the other end's socket.

    Attributes:
        way: The channel's way.
        stream: Its stream.
        channel: The channel.
        window: What it receives into.
        ready: Where the messages are.
        answers: The frames that go before a message.
        writer: What it is given when it sends.
        reader: What it is given when it receives.
        far: The other end's socket.
    """

    def __init__(
        self,
        way: Way,
        sockets: tuple[socket.socket, socket.socket] | None = None,
        *,
        masks: bool = False,
        masked: bool = False,
        as_list: bool = False,
        as_utf8: bool = False,
        limit: int = 2**20,
        room: int = 4096,
        ready: deque[Any] | None = None,
        stream: type[Stream] = Stream,
        lock: Any = None,
        identity: Callable[[], int] = threading.get_ident,
    ) -> None:
        near, self.far = sockets or pair()
        self.way = way
        self._sock = near
        self.stream = stream(near, way)
        self.far.setblocking(False)
        self._options = (masked, as_list, limit)
        self._as_utf8 = as_utf8
        self.ready: deque[Any] = deque() if ready is None else ready
        self.answers: list[bytes] = []
        self.window = way.channel.Window(room, *self._options, self.ready, as_utf8)
        lock = lock or way.lock
        self.channel = way.channel.Channel(
            self.stream,
            self.window,
            self.answers,
            masks=masks,
            reading=lock(),
            writing=lock(),
            identity=identity,
        )
        self.masks = masks
        self.writer = Writer(self)
        self.reader = Reader(self)
        self._arrived = bytearray()
        self._read = [0, 0, 0]  # by `read`: messages, their bytes, and all bytes

    def __enter__(self) -> End:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.far.close()

    # -- what a caller does --

    def send_text(self, text: Any) -> bool:
        return self.channel.send_text(text, self.writer)

    def send_utf8(self, data: Any) -> bool:
        return self.channel.send_utf8(data, self.writer)

    def send_binary(self, data: Any) -> bool:
        return self.channel.send_binary(data, self.writer)

    def send(self, frame: Any) -> bool:
        return self.channel.send(frame, self.writer)

    def receive(self, timeout: Any) -> Any:
        return self.channel.receive(timeout, self.reader)

    def wake(self) -> None:
        """Have a reader look at what the others do, wherever it waits."""
        self.channel.wake()
        self.stream.wake()

    def is_reading(self) -> bool:
        return self.channel.reader != 0

    def is_asleep(self) -> bool:
        """Whether a thread is beyond its nap, or comes to the gate."""
        return self.is_reading() and (self.way.name == "gate" or self.stream._waker is not None)

    # -- what the other end does --

    def arrive(self, data: bytes) -> None:
        """Have bytes come, as many as the system keeps at once."""
        assert self.far.send(data) == len(data)
        self.readable()  # where it is late, wait for it: but another thread may take it

    def drain(self) -> None:
        """Take what has arrived at the other end."""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while LATE == 0 or select.select([self.far], [], [], LATE)[0]:
                piece = self.far.recv(1 << 20)
                self._arrived += piece
                if not piece:
                    break

    def arrived(self) -> bytes:
        """What has arrived at the other end since the last call."""
        self.drain()
        data = bytes(self._arrived)
        self._arrived.clear()
        return data

    def frames(self) -> list[tuple[int, bytes]]:
        """The same as frames, unmasked: they are whole, and masked where this end masks."""
        return frames_of(self.arrived(), self.masks)

    # -- what the connection's Python code does --

    def write(self, data: bytes) -> None:
        """Write all of it; the other end takes what is in the way."""
        view = memoryview(data)
        while view:
            count = self.stream.write(view)
            if not count:
                self.drain()
            view = view[count:]

    def fill(self) -> bytes:
        """Fill the socket to the brim; with what."""
        filled = b""
        for size in (65536, 1):
            while count := self.stream.write(b"#" * size):
                filled += b"#" * count
        return filled

    def read(self) -> Any:
        """Receive once, without waiting: the message that is the next one then, or None."""
        window, note = self.window, list[int]()
        if window.unfed is None:
            window.plain = self._receive(note) and window.plain
        if window.unfed is not None:
            self.channel.heard = True
        return self.take()

    def take(self) -> Any:
        """The next message that is ready, or None."""
        with contextlib.suppress(IndexError):  # perhaps another thread has taken it
            return self.ready.popleft()
        return None

    def _receive(self, note: list[int]) -> bool:
        """Receive once; whether there is nothing to note."""
        receive, usual = self.way.codec.receive_messages, False
        before = len(self.ready)
        arguments = (self.window.data, *self._options, self.ready, note, self._as_utf8)
        try:
            usual = receive(self._receive_now, *arguments)
        except OSError:
            note.append(0)
        self.channel.heard |= usual
        self._read[2] += sum(note[:1])
        if len(note) > 1:
            self._read[0] += len(self.ready) - before
            self._read[1] += note[3]
        if note and not usual:
            self.window.unfed = note[0]
            self.window.stopped = (note[1], note[0], note[2]) if note[0] else None
        return usual or not note

    def _receive_now(self, buffer: bytearray) -> int:
        return self._sock.recv_into(buffer, 0, DONTWAIT)

    def free(self) -> None:
        """Take what is noted in the window for read."""
        self.window.unfed = self.window.stopped = None
        self.window.plain = True

    def readable(self, seconds: float = LATE) -> bool:
        """Whether bytes, or the end of the stream, have come, or do so in time."""
        return bool(select.select([self._sock], [], [], seconds)[0])

    def state(self) -> dict[str, Any]:
        """All that shows, but for what has been sent."""
        window, data = self.window, b""
        unfed = window.unfed
        if window.stopped and window.stopped[2] != BAD_TEXT:  # that may be unmasked
            data = bytes(window.data[window.stopped[0] : unfed])
        return {
            "ready": (list(self.ready), list(map(type, self.ready))),
            "unfed": unfed,
            "stopped": window.stopped if unfed else None,  # of no bytes nothing was read
            "data": data,
            "plain": window.plain,
            "heard": self.channel.heard,
            "reader": self.channel.reader,
            "locked": (self.channel.reading.locked(), self.channel.writing.locked()),
            "tail": self.channel.tail,
            "sent": self.sent(),
            "received": self.received(),
        }

    def sent(self) -> tuple[int, ...]:
        """What was sent: messages, their bytes, those of frames, before and after compression."""
        channel = self.channel
        return channel.sent, channel.payload, channel.wire, channel.original, channel.deflated

    def received(self) -> tuple[int, ...]:
        """What was received, by the channel or by its reader: messages, their bytes, all bytes."""
        window = self.window
        counts = window.received, window.payload, window.wire
        return tuple(map(sum, zip(counts, self._read, strict=True)))


class Session:
    """The same calls on a channel of each way, step by step: what each comes to, and what shows.

    What is noted in the window is taken for read at once. A frame that is not all there comes
    again, before what comes next; behind what is no message the rest of what has come is left out.
    """

    def __init__(self, way: Way, *, fills: bool = False, **options: Any) -> None:
        self.end = End(way, pair(4096 if fills else None), **options)
        self.end.reader.reads = True
        self._left = b""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.end.__exit__()

    def step(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        """Take a step: one of the methods below, or of the end's."""
        end = self.end
        call = getattr(self, name, None) or getattr(end, name)
        try:
            result = call(*arguments)
        except Exception as error:
            result = type(error), str(error)
        asked = [(each, held) for each, *_, held in end.writer.calls]
        end.writer.calls.clear()
        shows = *(result, type(result), asked, end.frames()), end.state()
        self._go_on()
        return shows

    def arrive(self, data: bytes) -> int:
        """Have bytes come; how many the system has taken."""
        data, self._left = self._left + data, b""
        try:
            return self.end.far.send(data) if data else 0
        except (BlockingIOError, BrokenPipeError):
            return -1

    def finish(self) -> None:
        """End what comes."""
        self.end.far.shutdown(socket.SHUT_WR)

    def receive(self, timeout: Any) -> Any:
        """Receive, without a wait for what does not come."""
        end = self.end
        if end.ready or end.readable() or end.window.unfed is not None or not waits(timeout):
            return end.receive(timeout)
        return end.receive(0)

    def send_frame(self, first: int, payload: bytes) -> bool:
        """Send a frame that is made already."""
        return self.end.send(raw_frame(first, payload, KEY if self.end.masks else None))

    def turn(self, name: str) -> None:
        """Turn a flag of the channel's."""
        setattr(self.end.channel, name, not getattr(self.end.channel, name))

    def rest(self) -> None:
        """Have something go before the next frame, or nothing any more."""
        self.end.channel.rest = None if self.end.channel.rest else (b"rest", 0, (), False)

    def answer(self) -> None:
        """Have an answer go before the next frame, or none any more."""
        if self.end.answers:
            self.end.answers.clear()
        else:
            self.end.answers.append(b"\x8a\0")

    def _go_on(self) -> None:
        """Take what is noted for read."""
        end, window = self.end, self.end.window
        if window.stopped is not None:
            at, stop, _ = window.stopped
            if self._is_begun(at, stop):
                self._left = bytes(window.data[at:stop])
            elif at < stop:
                self._skip()
        end.free()

    def _skip(self) -> None:
        """Leave out what has come behind something that is no message."""
        with contextlib.suppress(BlockingIOError):
            while self.end._receive_now(bytearray(65_536)):
                pass

    def _is_begun(self, at: int, stop: int) -> bool:
        """Whether a frame is not all there, but may be later."""
        data = self.end.window.data
        if at == stop or stop - at >= len(data):
            return False
        try:
            header = self.end.way.codec.parse_header(data, at, stop)
        except ValueError:
            return False
        return header is None or header[2] + header[1] > stop


def waits(timeout: Any) -> bool:
    """Whether a timeout lets a call wait: some let it fail."""
    if type(timeout) in (int, float):
        return timeout > 0
    return timeout is None or (isinstance(timeout, (int, float)) and type(timeout) is not bool)


def frames_of(data: bytes, masked: bool) -> list[tuple[int, bytes]]:
    """The frames in some bytes: whole ones, unmasked."""
    found, at = [], 0
    while at < len(data):
        first, second = data[at : at + 2]
        assert masked == bool(second & 0x80), "the masking is wrong"
        size, at = second & 0x7F, at + 2
        for code, form in ((126, "!H"), (127, "!Q")):
            if size == code:
                (size,) = struct.unpack_from(form, data, at)
                at += struct.calcsize(form)
                assert size > (125 if code == 126 else 65535), "not the shortest form"
                break
        key = data[at : at + 4] if masked else b""
        at += len(key)
        payload = data[at : at + size]
        assert len(payload) == size, f"{len(payload)} of {size} bytes of a frame"
        found.append((first, xor(payload, key) if masked else payload))
        at += size
    return found
