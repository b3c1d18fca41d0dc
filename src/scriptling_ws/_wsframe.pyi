"""The kernel's contract: the only description of its functions, and of its channel.

Two implementations have it: `_wsframe` (Cython, from src/_wsframe.pyx and src/_wsframe/), and
in pure Python `_wsframe_py` and `_wschannel_py`.  Names, results, exception types and exception
texts are the same in both; tests/wire/test_kernel.py and test_channel.py compare them.
`_kernel` chooses one.

Rules, for every function (what the channel adds is said there):

- Stateless: what a call needs is in its arguments, so calls on different
  buffers are safe from any number of threads, without the GIL too.
- "Buffer" means a C-contiguous object of the buffer protocol whose items are
  one byte wide.  Anything else is a TypeError (not a buffer, or wider items) or
  a ValueError (not contiguous).
- A buffer is borrowed for the call and never kept.
- Ints are checked before a byte is read or written, positions against the
  buffer they are in: out of bounds is a ValueError, another type a TypeError.
- A key is exactly 4 bytes: another length is a ValueError, another type (a
  bytearray too) a TypeError.
- Lengths on the wire are unsigned 64-bit until they were checked.

A room is where a message is put together: a list with one owner, or empty where it has
none yet.  An owner is bytes or a bytearray, as `allocate` makes them; its first `used`
bytes are the room's content, the rest is undefined.

- What adds to a room resizes its owner, or puts another in its place, by a part of its
  size each time: n bytes take time in proportion to n, in however many pieces they come.
- Nobody else uses a room during a call, nor its owner before it was sealed.  Bytes that
  somebody else refers to are copied first; a bytearray may be changed.
- A MemoryError may leave the room empty, its content lost.

RFC 6455: section 5.2 (framing), 5.3 (masking), 8.1 (UTF-8).
"""

from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar, final, type_check_only

from typing_extensions import Buffer, disjoint_base  # for checkers only: nothing imports this file

_Method = TypeVar("_Method", bound=Callable[..., Any])

IMPLEMENTATION: Final[Literal["compiled", "pure"]]
"""Which implementation this is."""

# Why read_messages stopped.
MORE: Final = 0
"""The window ends before the next frame's header does."""
SPECIAL: Final = 1
"""The next frame's header is complete, and the frame is one that the caller has
to look at: control, fragment, incomplete, over the limit, or an error."""
BAD_TEXT: Final = 2
"""The next frame is a text message that is not UTF-8."""
FULL: Final = 3
"""`most` messages were read; there may be more in the window."""

def apply_mask(data: Buffer, key: bytes, offset: int = 0) -> bytes:
    """XOR `data` with the repeated 4-byte `key`, into new bytes of the same length.

    Args:
        data: The bytes to mask or, the operation being its own inverse, unmask.
        key: The masking key.
        offset: How many bytes of the same payload came before `data`, 0 to
            2**63 - 1, so that a payload may be masked in pieces.
    """

def mask_in_place(buffer: Buffer, key: bytes, offset: int = 0) -> None:
    """XOR a writable `buffer` with `key`, as apply_mask does, where it lies.

    A read-only buffer is a TypeError.
    """

def mask_into(target: Buffer, data: Buffer, key: bytes, offset: int = 0) -> None:
    """XOR `data` with `key`, as apply_mask does, into the front of `target`: one pass over both.

    The two are the same memory, or do not overlap: else what is in `target` is undefined.

    A read-only target is a TypeError, one that is shorter than the data a ValueError.
    """

def encode_header(first: int, length: int, key: bytes | None) -> bytes:
    """The header of a frame whose payload is sent separately: 2 to 14 bytes.

    Args:
        first: The first byte: FIN, RSV and opcode.
        length: Of the payload, 0 to 2**63 - 1.
        key: The 4-byte masking key, or None for a frame that is not masked.
    """

def encode_frame(first: int, payload: Buffer | Sequence[int] | str, key: bytes | None) -> bytes:
    """A whole frame, header and payload, in one allocation.

    Args:
        first: The first byte: FIN, RSV and opcode.
        payload: A buffer, a list or tuple of ints (see list_to_bytes), or a
            str, which is encoded as UTF-8 (UnicodeEncodeError for a lone surrogate).
            Not changed; another type is a TypeError.
        key: The 4-byte masking key, or None for a frame that is not masked.
    """

def parse_header(data: Buffer, start: int, end: int) -> tuple[int, int, int, bytes | None] | None:
    """Read one frame header from `data[start:end]`.

    Returns:
        `(first, length, payload, key)`: the first byte, the payload's length,
        the position in `data` at which the payload starts, and the masking key
        or None. None where the header is not complete yet.

    Raises:
        ValueError: the length is not in its shortest form, or over 2**63 - 1.
            This is found as soon as the length is there, key or no key.
    """

def read_messages(
    window: bytearray,
    start: int,
    end: int,
    masked: bool,
    as_list: bool,
    limit: int,
    most: int,
    out: list[str | bytes | list[int]],
    as_utf8: bool = False,
) -> tuple[int, int, int]:
    """Read the run of messages at the front of `window[start:end]`.

    Reads complete messages that are one frame each (first byte 0x81 or 0x82),
    masked as `masked` says, with lengths in the shortest form and not over
    `limit`, and appends them to `out`: for text str, or its bytes if `as_utf8`; for
    binary bytes, or a list of ints if `as_list`. Masked payloads may be unmasked where they lie, so
    that bytes before the returned position are spent; the bytes from there on are
    untouched, save for the payload of a BAD_TEXT.

    Args:
        window: The received bytes. The caller sees to it that no other thread
            touches it during the call.
        start: Where to start; 0 <= start <= end.
        end: Where the received bytes end; end <= len(window).
        masked: Whether frames have to be masked (a server's view) or not.
        as_list: Whether binary messages are wanted as lists of ints.
        limit: The most bytes a payload may have, 0 to 2**63 - 1.
        most: The most messages to read, 1 to 2**63 - 1.
        out: Where the messages go, in the order they came.
        as_utf8: Whether text messages are wanted as bytes. They are checked as for str.

    Returns:
        `(position, why, payload)`: where the first frame that was not read starts;
        MORE, SPECIAL, BAD_TEXT or FULL; and how many bytes of payload were read.
    """

def receive_messages(
    receive: Callable[[bytearray], int | None],
    window: bytearray,
    masked: bool,
    as_list: bool,
    limit: int,
    ready: deque[str | bytes | list[int]],
    note: list[int],
    as_utf8: bool = False,
) -> bool:
    """Receive into `window` once, and read the run of messages that came.

    The way of most messages, in one step: a signal handler that raises runs before or
    after it, so that nothing is received and forgotten.

    Args:
        receive: Called once, as `receive(window)`, such as a socket's `recv_into`: it
            returns how many bytes it has put at the window's front, 0 at the end of the
            stream, or None (or raises BlockingIOError) if nothing is there. What else
            it raises is passed on.
        window: As for read_messages; all of it is free.
        masked: As for read_messages.
        as_list: As for read_messages.
        limit: As for read_messages.
        ready: Where the messages go, in the order they came.
        note: Where it is noted what has come: the number of bytes and, if they were read, the
            `position`, the reason and the payload's size that read_messages would have returned.
            It stays empty if nothing was there. If there is something in it, nothing is received.
        as_utf8: As for read_messages.

    Returns:
        True if whole messages came, nothing else, and less than the window holds: then there is
        nothing left to do. Else False.
    """

def send_frame(
    send: Callable[[bytes, int], int], frame: bytes, flags: int, rest: list[bytes]
) -> bool:
    """Send a frame with one call, and note in the same step what was not taken.

    Args:
        send: Called once, as `send(frame, flags)`, such as a socket's `send`: it returns how
            many bytes it took, or raises BlockingIOError if none. What else it
            raises is passed on.
        frame: The frame, or several.
        flags: For `send`, such as MSG_DONTWAIT.
        rest: Where what is left of a frame is put, of which a part has left.

    Returns:
        True if all was taken. Else False: with `rest` unchanged if nothing was.
    """

def read_fragments(
    window: bytearray,
    start: int,
    end: int,
    masked: bool,
    limit: int,
    most: int,
    room: list[bytes | bytearray],
    used: int,
) -> tuple[int, int, int, bool]:
    """Read the run of continuations at the front of `window[start:end]` into a room.

    Reads complete frames whose first byte is 0x00 or 0x80, masked as `masked` says, with
    lengths in the shortest form, as long as their payloads together are not over `limit`;
    0x80 is the last of a message, and of the run. The window is not changed.

    Args:
        window: The received bytes, as for read_messages.
        start: Where to start; 0 <= start <= end.
        end: Where the received bytes end; end <= len(window).
        masked: Whether frames have to be masked (a server's view) or not.
        limit: The most bytes to add, 0 to 2**63 - 1.
        most: The most frames to read, 0 to 2**63 - 1.
        room: What the payloads are appended to.
        used: How many bytes are in the room.

    Returns:
        `(position, used, count, ended)`: where the first frame that was not read starts,
        how many bytes are in the room now, how many frames were read, and whether the
        last one ended the message.
    """

def read_payload(
    window: bytearray,
    start: int,
    end: int,
    key: bytes | None,
    offset: int,
    room: list[bytes | bytearray],
    used: int,
) -> int:
    """Append `window[start:end]`, a piece of a frame's payload, to what is in a room.

    Args:
        window: The received bytes, as for read_messages. They are not changed.
        start: Where the piece starts; 0 <= start <= end.
        end: Where it ends; end <= len(window).
        key: The masking key, or None for a frame that is not masked.
        offset: How many bytes of the same payload came before, 0 to 2**63 - 1.
        room: What the piece is appended to.
        used: How many bytes are in the room.

    Returns:
        How many bytes are in the room now.
    """

def seal_room(room: list[bytes | bytearray], used: int) -> bytes:
    """The content of a room as bytes, which leaves the room empty.

    Compiled, that is the owner itself, without a copy, and up to an eighth more memory than
    the bytes need.
    """

def check_utf8(data: Buffer, start: int, end: int) -> tuple[int, bool]:
    """Look how far `data[start:end]` is UTF-8 (RFC 3629).

    Args:
        data: The bytes.
        start: Where to start; 0 <= start <= end.
        end: Where they end; end <= len(data).

    Returns:
        `(position, cut)`: `(end, False)` if all is. Else the position in `data` at which the first
        character starts that is not whole and valid, and whether all that it lacks is its end:
        bytes that follow `end` may complete it.
    """

def bytes_to_list(data: Buffer) -> list[int]:
    """The bytes of a buffer as a new list of ints."""

def list_to_bytes(values: Sequence[int]) -> bytes:
    """The ints of a list or tuple as bytes; no code of the caller's runs.

    Raises:
        TypeError: `values` is neither a list nor a tuple, or an element is
            not an int (a bool is not a byte, nor is an object with `__index__`);
            the text names the element's index.
        ValueError: an element is below 0 or above 255; the text names its index and value.
        RuntimeError: another thread changed the list's length meanwhile.
    """

def allocate(size: int) -> tuple[bytes | bytearray, memoryview]:
    """Room for a payload of `size` bytes, and a writable view to receive it into.

    The first is the owner, for a room; its content is undefined until written.
    The view stays valid only as long as the owner lives: the caller keeps both
    together and releases the view before it seals the room. MemoryError where there is no room;
    a negative size is a ValueError.
    """

# ---- the channel ----
#
# Frames to and from a descriptor, in as few steps as can be: one call of `send_text` encodes a
# message, takes the lock and sends it, one call of `receive` waits, receives and parses.  Each is
# one step of the interpreter, in which no signal handler runs.
#
# A channel does what is usual: whole small messages, on an open connection with nothing unsent.
# All else it hands to the Python code that it is given with each call, a reader or a writer,
# with the lock of that direction held.  It keeps no reference to them: they are parts of the
# connection that owns the channel.

_Message: TypeAlias = str | bytes | list[int]

@type_check_only
class EngineLock(Protocol):
    """A lock as the engine makes it: see `_network.waiting.Lock`."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@type_check_only
class Bell(Protocol):
    """A semaphore with the value 1, of an engine whose tasks are no threads."""

    def acquire(self, blocking: bool, timeout: float | None, /) -> bool: ...
    def release(self) -> object: ...

@type_check_only
class Parking(Protocol):
    """Where the one task that receives waits, while others run on its thread."""

    def park(self, until: float, wakeable: bool, /) -> bool:
        """Wait until something may have come.

        Args:
            until: Until when, on the clock of time.monotonic; infinity for ever.
            wakeable: Return too when it is woken.

        Returns:
            Whether that time has come.
        """

    def rest(self) -> None:
        """Let the other tasks run."""

@disjoint_base
class Place:
    """What is the same in every wait of a Parking: the base of gevent's.

    Attributes:
        until: Until when the task waits, infinity for ever.
        fires: When the timer fires, infinity for never.
        hub: The loop's hub, None before the first wait.
        watcher: Watches the descriptor, with the object itself as its callback.
        task: What waits, None for nobody.
        watching: Whether the watcher was started.
        wakeable: Whether the wait is over when it is woken.
        woken: Whether it was woken.
        late: Whether the wait is over because its time has come.
    """

    until: float
    fires: float
    hub: Any
    watcher: Any
    task: Any
    watching: bool
    wakeable: bool
    woken: bool
    late: bool

    def __init__(
        self,
        get_hub: Callable[[], object],
        get_current: Callable[[], object],
        switch: Callable[[Any], object],
    ) -> None:
        """Wait for nothing yet.

        Args:
            get_hub: The hub of the thread that calls.
            get_current: The task that calls.
            switch: Switches to the task that it is given.
        """

    def move(self, hub: Any, /) -> None:
        """Have the watcher of another hub: the subclass's."""

    def set_timer(self, until: float, /) -> None:
        """Have the timer fire then: the subclass's."""

    def park(self, until: float, wakeable: bool, /) -> bool:
        """As `Parking.park`."""

    def __call__(self) -> None:
        """What the watcher calls when something has come: switch to the task that waits."""

def share(weight: int, rest: Callable[[], object], /) -> None:
    """Count what a task is about to do without waiting, and have it rest before if it did enough.

    What ends the rest, such as a timeout, so comes before any of it is done. A Place's wait begins
    the count anew, and so does a rest.

    Args:
        weight: What it counts: a message that is received one, a read or a slow send some more.
        rest: Lets the other tasks run.

    Raises:
        What `rest` raises.
    """

def last_resumed() -> Any:
    """The task that a Place has let run last; None if none has."""

@final
class Shortcuts:
    """What the shortcuts of one connection go by: what it has as `_shortcuts`."""

    def __init__(self, channel: Channel, reader: ReaderPart, writer: WriterPart) -> None:
        """Keep them.

        Args:
            channel: What to send and receive by.
            reader: As for `Channel.receive`.
            writer: As for `Channel.send_text`.
        """

def shortcut(function: _Method) -> _Method:
    """Have the usual calls of a connection's method in C, where they can be done at once.

    A decorator. A call with one argument of a usual type, or with none if the function has a
    default for it, and nothing by name, is one step without a frame of Python's. What that cannot
    do at once, any other call, and one on an object without `_shortcuts`, is the function's. In
    all else the result is as the function: its name, signature, annotations, documentation. In the
    pure kernel it is the function.

    Args:
        function: The method: `send`, `send_text`, `send_binary` or `receive`.

    Raises:
        ValueError: it has another name.
    """

@final
class Iteration:
    """The messages of a connection as they come, until there are no more: an iterator.

    Each turn takes what is ready without the lock, else it is `Channel.receive` without an end;
    None of that ends it. In C all of it is one step, without a frame of Python's.
    """

    def __init__(self, channel: Channel, reader: ReaderPart, owner: object) -> None:
        """Begin with the next message.

        Args:
            channel: What to receive by.
            reader: As for `Channel.receive`.
            owner: What has to live as long.
        """

    def __iter__(self) -> Iteration: ...
    def __next__(self) -> Any:
        """The next message, waiting for it."""

@disjoint_base
class Lock(EngineLock):
    """A lock as threading.Lock, which the kernel takes and releases without a call.

    Not in the pure kernel: there `Lock` is None.
    """

    def __new__(cls, make_bell: Callable[[], Bell] | None = None) -> Lock:
        """Make a lock that is free.

        Args:
            make_bell: Makes what is waited for by those who find the lock taken, where tasks are
                no threads; called at most once. None for a lock of the system's.
        """

@disjoint_base
class RLock(Lock):
    """A lock as threading.RLock, of tasks that are no threads.

    Not in the pure kernel: there `RLock` is None.
    """

    def __new__(cls, make_bell: Callable[[], Bell], get_current: Callable[[], object]) -> RLock:
        """Make a lock that is free.

        Args:
            make_bell: As for `Lock`.
            get_current: The task that calls; one object for each that is alive.
        """

def split_request(
    head: bytes, usual: dict[str, str], joints: dict[str, str]
) -> tuple[str, str, dict[str, str]] | None:
    """Take a request's head apart, if it is in ASCII, and without a folded line.

    Not in the pure kernel: there it is None, and `_handshakes.plain` does so by expressions.

    Args:
        head: From the first byte to the blank line.
        usual: Names of fields as they are often written, to those in lower case.
        joints: What joins the values of a field that came in several lines; else ", ".

    Returns:
        The method, the target, and the fields by their names in lower case; None of any other
        head.
    """

def forget_locals() -> None:
    """Drop what the calling thread has in each `threading.local`, as its end would.

    What else the interpreter keeps in the thread's dictionary is dropped too: it is made anew when
    it is needed. What ends by that runs here. Not in the pure kernel: there it is None.
    """

def on_kept_stack(function: Callable[[Any], object], argument: Any, /) -> object:
    """Call a function, which is all that the calling greenlet does, and return what it does.

    The memory for its frames, which the interpreter gets for each greenlet from the system, is then
    that of one before, and kept for one after it. Not in the pure kernel: there it is None.
    """

@final
class Descriptor:
    """The number of a socket's descriptor.  Not in the pure kernel: there it is None."""

    @property
    def number(self) -> int:
        """The number; -1 once it is not to be used any more."""

    def forget(self) -> None:
        """Use the number no more: it is about to be closed."""

def descriptor_of(sock: Any) -> Descriptor | None:
    """What a channel moves bytes by, without the socket's methods; None where there is no such way.

    It is forgotten by itself before the garbage collector closes the socket.

    Args:
        sock: A socket of the system's, open: a `socket.socket`.
    """

def receive_on(
    descriptor: Descriptor, buffer: bytearray | memoryview, piece: int, nap: bool
) -> int | None:
    """Receive into a buffer until it is full, or nothing more is there.  Not in the pure kernel.

    Args:
        descriptor: What to receive from.
        buffer: Where to; filled from its start.
        piece: The most bytes to ask the system for at a time.
        nap: Sleep for a moment if nothing is there.

    Returns:
        The number of bytes, 0 at the end of the stream, None if nothing is there.

    Raises:
        OSError: the connection is broken, and nothing came before that.
    """

def next_key() -> bytes:
    """A masking key (RFC 6455 section 5.3): four bytes of the system's entropy, used once.

    They are drawn 1,024 at a time: one costs no system call. Thread-safe.
    """

def open_gate() -> bool:
    """Start the gate's dispatcher before many connections are active; whether there is one.

    For tests: it has a thread and a descriptor, which stay.
    """

def use_gate_from(active: int) -> None:
    """Say from how many active connections on the gate is used, 0 for never; a million at the most.

    It is also used while many threads ask for the GIL. At import it is what the environment's
    SCRIPTLING_WS_GATE says, or 128.
    """

def spin_for(microseconds: int) -> None:
    """Say how long a wait looks out for a message before it sleeps, 0 for never; 10**9 at the most.

    Meanwhile it hears nothing else. At import it is what the environment's SCRIPTLING_WS_SPIN says,
    1,000 at the most, or 50.
    """

def after_fork() -> None:
    """In a forked child: draw other keys than the parent, and hear signals where it goes on."""

@final
class Session:
    """A TLS session between two memory buffers: the state that its transport and a channel share.

    A channel sends a frame by it in one call: takes the lock, encrypts, draws the ciphertext,
    lets the lock go, sends.  And receives likewise, where nothing was left over.  What is not so
    simple it notes in here, and leaves it to the transport, whose rules (`_network.tls`) hold.
    The pure kernel's channel goes by the transport's methods alone.

    Attributes:
        ssl: The session object: its `read` and `write` are called. Whoever sets it holds the lock.
        incoming: The buffer of ciphertext that has come.
        outgoing: The buffer of ciphertext that is to be sent.
        lock: Guards these three, and `answering`; its holder may take it again.
        cipher: What ciphertext is received into. This and what follows is the reader's.
        received: Bytes in `cipher` that are not in `incoming` yet; None for none.
        decrypted: Bytes at the front of the reader's buffer that it was not told of yet.
        barren: Bytes of ciphertext since the last one with data.
        in_doubt: Whether a signal handler may have cost bytes that were decrypted.
        more: Whether there is more to receive: the last time has filled `cipher`.
        unread: Whether there may be more to decrypt.
        draining: Whether what comes is not decrypted any more.
        fault: What OpenSSL has raised in a channel, and the transport has not judged yet.
        read_error: Why nothing more can be decrypted.
        ahead: What was decrypted before a reader has asked for it.
        unsent: Ciphertext that was drawn, and the socket has not taken: the writer's.
        answering: Whether OpenSSL has written something of its own into `outgoing`.
    """

    ssl: Any
    cipher: bytearray
    received: int | None
    decrypted: int
    barren: int
    in_doubt: bool
    more: bool
    unread: bool
    draining: bool
    fault: Any
    read_error: Any
    ahead: memoryview | None
    unsent: bytes
    answering: bool

    def __init__(
        self,
        ssl: Any,
        incoming: Any,
        outgoing: Any,
        lock: Any,
        *,
        least: int,
        most: int,
        want_read: type[Exception],
        error: type[Exception],
    ) -> None:
        """Share what OpenSSL works on.

        Args:
            ssl: The session object, such as an SSLObject has.
            incoming: The MemoryBIO that it reads.
            outgoing: The one that it writes.
            lock: What guards the three.
            least: The bytes of `cipher` to begin with.
            most: Those that it has once so many came that it was full.
            want_read: What it raises where more has to come before it can go on.
            error: What it raises as an error, that among them.
        """

    @property
    def incoming(self) -> Any: ...
    @property
    def outgoing(self) -> Any: ...
    @property
    def lock(self) -> Any: ...
    def take_in(self, received: int, /) -> None:
        """Hand over to OpenSSL what was received, or the stream's end. Holds the lock.

        Args:
            received: How many bytes at the front of `cipher`, 0 for the end.
        """

    def read_records(self, buffer: bytearray | memoryview, /) -> bool:
        """Decrypt all records that fit behind what is in a buffer. Holds the lock.

        How much it has is in `decrypted`, also where this raises what `ssl.read` does.

        Args:
            buffer: Where to; `decrypted` bytes at its front are kept, and it has room for more.

        Returns:
            Whether the stream ends here.
        """

    def relax(self) -> None:
        """Let go of a large `cipher`, if nothing is in it."""

@type_check_only
class Stream(Protocol):
    """Where a channel's bytes come from and go to: a transport.

    Attributes:
        descriptor: What to move bytes by; None to do so by `receive` and `send`.
        session: What to encrypt and decrypt by, between there and the window; None for neither.
        naps: Whether the descriptor's socket sleeps in `recv` for a moment (SO_RCVTIMEO).
        parking: Where a task waits that shares its thread with others; None for a thread.
            It is a Place with a `rest`.
        pending: Whether bytes that `send` has taken are still to be written.
        send_flags: The flags for `send`.
        uncounted: Bytes of a frame that are under way though sending it has raised.
    """

    pending: bool
    uncounted: int

    @property
    def descriptor(self) -> Descriptor | None: ...
    @property
    def session(self) -> Session | None: ...
    @property
    def naps(self) -> bool: ...
    @property
    def parking(self) -> Parking | None: ...
    @property
    def send_flags(self) -> int: ...
    @property
    def receive(self) -> Callable[[bytearray], int | None]:
        """As `receive_messages` takes it; it may nap."""

    @property
    def send(self) -> Callable[[bytes, int], int]:
        """As `send_frame` takes it."""

    def waker_number(self) -> int:
        """The descriptor that becomes readable when a wait has to end; -1 if none is left."""

    def note_failure(self, error: OSError, /) -> None:
        """Keep why receiving has failed: what comes next may only say that the stream ends."""

@type_check_only
class WriterPart(Protocol):
    """What goes on with a send that cannot be made at once."""

    def go_on(self, frame: bytes | None, /) -> object:
        """Send a frame, waiting for that; None: what `tail` has of one. Holds the lock.

        Returns:
            False if a frame is not sent: then the channel has sent nothing. Else anything.
        """

    def broke(self, frame: bytes, error: BaseException, /) -> bool:
        """Sending a frame has raised; whether that is dealt with, else it is raised."""

    def look_after(self) -> None:
        """Send answers, or look at what has come: after a send, without the lock."""

@type_check_only
class ReaderPart(Protocol):
    """What goes on with a receive that is not usual."""

    def seconds(self, timeout: object, /) -> float | None:
        """Check a timeout; None for ever."""

    def receive(self, timeout: float | None, quick: bool, /) -> Any:
        """Receive a message. Holds the lock.

        Args:
            timeout: The seconds that are left, None for ever.
            quick: Whether they are so many that a nap more does not matter.
        """

    def receive_waiting(self, timeout: float | None, /) -> Any:
        """As `receive`, while another thread has the lock."""

    def leave(self) -> None:
        """The call is over, and the connection was `orphaned` meanwhile. Holds the lock."""

@final
class Window:
    """Received bytes, and how the messages in them are to be read.

    Guarded by the lock for reading.

    Attributes:
        data: The memory; the caller may put another one in its place between two calls.
        plain: Whether a frame starts with the next byte, and goes to the window's front.
        received: How many messages a channel has read out of it, each of one frame.
        payload: How many bytes these had.
        wire: How many bytes a channel has received into it, whatever they were.
        unfed: How many bytes were received, but not fed yet; None for none.
        stopped: Where in them reading stopped: the position, their number, and why, as
            read_messages says it. None where nothing of them was read.
    """

    data: bytearray
    plain: bool
    unfed: int | None
    stopped: tuple[int, int, int] | None

    @property
    def received(self) -> int: ...
    @property
    def payload(self) -> int: ...
    @property
    def wire(self) -> int: ...
    def __init__(
        self,
        size: int,
        masked: bool,
        as_list: bool,
        limit: int,
        ready: deque[Any],
        as_utf8: bool = False,
    ) -> None:
        """Start empty.

        Args:
            size: The bytes of memory.
            masked: As for read_messages.
            as_list: As for read_messages.
            limit: As for read_messages.
            ready: Where messages go that come behind the first.
            as_utf8: As for read_messages.
        """

@final
class Channel:
    """The quick ways of one connection.

    Attributes:
        reading: The lock under which is read.
        writing: The lock under which is written.
        open: Whether messages may be sent.
        closing: Whether messages that come are not to be received any more.
        orphaned: Whether `ReaderPart.leave` is to be called once a reader is through.
        look_due: Whether `WriterPart.look_after` is to be called after a send, once it is time.
        look_at: From when on it is, on the clock of time.monotonic(); 0.0 at first.
        alone: Whether nothing looks after the connection but its reader.
        compresses: Whether messages are not sent as they are.
        heard: Whether messages came since this was set to False.
        reader: The ident of the thread that reads, 0 for none.
        rest: What is left of a frame that is being written, None for none; the writer's.
        timed: Whether the time is noted at which bytes go and come.
        sent: How many messages it has sent, those that its writer went on with among them.
        payload: How many bytes these had, before compression.
        wire: How many bytes their frames had.
        original: How many bytes of `payload` were compressed.
        deflated: How many these came to.
        went: When bytes were last sent, on the clock of time.monotonic(); 0.0 for never, and where
            `timed` is not set.
        came: The same for bytes that were received.
        spins: How many waits have looked out for a message before they slept, and for how many of
            these it came.
        tail: The same as a send leaves it: one bytes object, or nothing.
    """

    open: bool
    closing: bool
    orphaned: bool
    look_due: bool
    look_at: float
    alone: bool
    compresses: bool
    heard: bool
    reader: int
    rest: Any
    timed: bool

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
        """Move frames between a stream and a window.

        Args:
            stream: Where bytes come from and go to.
            window: What is received into.
            answers: Frames that go before a message.
            masks: Whether this end masks its frames: a client.
            reading: The lock for reading.
            writing: The lock for writing.
            identity: The number of the task that calls.
        """

    @property
    def reading(self) -> EngineLock: ...
    @property
    def writing(self) -> EngineLock: ...
    @property
    def tail(self) -> list[bytes]: ...
    @property
    def sent(self) -> int: ...
    @property
    def payload(self) -> int: ...
    @property
    def wire(self) -> int: ...
    @property
    def original(self) -> int: ...
    @property
    def deflated(self) -> int: ...
    @property
    def went(self) -> float: ...
    @property
    def came(self) -> float: ...
    @property
    def spins(self) -> tuple[int, int]: ...
    def note_went(self) -> None:
        """Note the time, if `timed` says so: bytes were sent by another way."""

    def note_came(self) -> None:
        """Note the time, if `timed` says so: bytes were received by another way."""

    def renew(self, reading: EngineLock, writing: EngineLock) -> None:
        """Have other locks: in a forked child, where nobody would release the old ones."""

    def wake(self) -> None:
        """Have a reader that waits look at `closing`, now or when it begins to wait.

        One that waits by the stream's waker is woken by that: both are to be done.
        """

    def send_text(self, text: object, writer: WriterPart, /) -> bool:
        """Send a text message, waiting for it if need be.

        Returns:
            Whether it was sent. False, with nothing done: it is no str, over 256 KiB or no
            Unicode text, or the connection is not open, compresses, has something unsent, or is
            being written to by another thread.

        Raises:
            What the writer raises.
        """

    def send_utf8(self, data: object, writer: WriterPart, /) -> bool:
        """As `send_text`, of a text's bytes.

        Of what is neither bytes nor a bytearray, or no UTF-8, False.
        """

    def send_binary(self, data: object, writer: WriterPart, /) -> bool:
        """As `send_text`: bytes, a list or a tuple of ints; of what is nothing of these, False.

        Raises:
            TypeError, ValueError: as list_to_bytes. Nothing was sent.
        """

    def send(
        self, frame: bytes, writer: WriterPart, messages: int = 1, payload: int = -1, /
    ) -> bool:
        """As `send_text`, of a whole frame, or of several. It may compress.

        Args:
            frame: The frame, or several, none of which is compressed.
            writer: What goes on where they cannot be sent at once.
            messages: How many messages they are, for `sent`.
            payload: How many bytes these have, before compression; -1 for as many as the one frame
                has, which is not compressed.
        """

    def receive(self, timeout: Any, reader: ReaderPart, /) -> Any:
        """Receive the next message, waiting for it.

        Args:
            timeout: Seconds, None for ever, as the reader checks it.
            reader: What goes on where something else comes than whole messages.

        Returns:
            A message; None if none came in time. Otherwise what the reader returns.

        Raises:
            What the reader raises.
        """
