"""Connections over socket pairs, without an opening handshake, and raw peers for them.

And what such tests share: frames by hand, opcodes, sizes and times, calls in threads.
"""

import base64
import contextlib
import functools
import hashlib
import re
import select
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import Future

import pytest

from frames import xor
from scriptling_ws._connection.connection import Connection
from scriptling_ws._network.deadline import Deadline
from scriptling_ws._network.tls import TLSTransport
from scriptling_ws._network.transport import Transport
from scriptling_ws._options import Options

KIB = 1024
MIB = 1024 * KIB
SOON = 10.0  # seconds: far more than anything takes that waits so long

roles = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
transports = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def tcp_pair(buffer=None):
    """Two connected TCP sockets on the loopback.

    Args:
        buffer: About how many bytes there may be on the way from the first to the second.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as near:
        if buffer is not None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer // 2)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer // 2)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
        return socket.socket(fileno=near.detach()), far


def connection(stream, *, client=True, received=b"", deflate=None, **options):
    """An open Connection over a connected socket, or over a transport.

    Args:
        stream: The socket or transport.
        client: The role.
        received: What came with the opening handshake.
        deflate: The terms of compression, as if they had been agreed on.
        **options: The connection's.
    """
    return Connection(
        stream if isinstance(stream, Transport) else Transport(stream),
        client=client,
        options=Options(**options),
        received=received,
        deflate=deflate,
    )


class ByMethod(Transport):
    """A transport whose methods are called for every byte, as where there is no descriptor."""

    def __init__(self, sock):
        super().__init__(sock)
        self.descriptor = None


class Counted(ByMethod):
    """A transport that counts how often it is read (but for runs of messages), and waited on."""

    def __init__(self, sock):
        super().__init__(sock)
        self.reads = self.waits = 0
        self.naps = []

    def read_into(self, buffer, nap=False):
        self.reads += 1
        self.naps.append(nap)
        return super().read_into(buffer, nap)

    def wait(self, *arguments, **keywords):
        self.waits += 1
        super().wait(*arguments, **keywords)


@contextlib.contextmanager
def raw_peer(*, client=True, transport=Transport, **options):
    """A Connection, and the plain socket of its peer."""
    near, far = tcp_pair()
    far.settimeout(10)
    conn = connection(transport(near), client=client, **options)
    try:
        yield conn, far
    finally:
        far.close()
        conn.close()


@contextlib.contextmanager
def both_ends(*, tls=False, **options):
    """Two Connections that are each other's peer: client and server."""
    near, far = tls_pair() if tls else tcp_pair()
    client = connection(near, client=True, **options)
    server = connection(far, client=False, **options)
    try:
        yield client, server
    finally:
        client._abort()
        client.close()
        server.close()


def stand_in(part, **methods):
    """Put functions in the place of methods of one object, whose class has no room for them.

    Returns:
        What takes them out again.
    """
    kind = type(part)
    spaced = {name: staticmethod(function) for name, function in methods.items()}
    part.__class__ = type(kind.__name__, (kind,), {"__slots__": (), **spaced})

    def restore():
        part.__class__ = kind

    return restore


def receive_exactly(sock, size):
    """Exactly `size` bytes from a socket."""
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"the stream ended after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


def receive_frame(sock):
    """One frame from a socket, unmasked: (first byte, payload)."""
    first, second = receive_exactly(sock, 2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", receive_exactly(sock, 2))
    elif size == 127:
        (size,) = struct.unpack("!Q", receive_exactly(sock, 8))
    key = receive_exactly(sock, 4) if second & 0x80 else None
    payload = receive_exactly(sock, size)
    if key is not None:
        payload = xor(payload, key)
    return first, payload


def receive_close(sock):
    """The close frame from a socket: (code, reason)."""
    first, payload = receive_frame(sock)
    assert first == 0x88
    return struct.unpack("!H", payload[:2])[0], payload[2:].decode()


def receive_to_end(sock):
    """Everything until the peer closes; b"" also after a reset."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            data += piece
    return bytes(data)


def reset(sock):
    """Close with a RST instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def unread(conn):
    """How many messages a connection has read that nobody has received."""
    return len(conn._ready) + len(conn._link.protocol.unreceived.held)


def writable(conn):
    """Whether a connection's socket takes bytes now."""
    poller = select.poll()
    poller.register(conn.fileno(), select.POLLOUT)
    return bool(poller.poll(0))


def arrived(conn, size=1):
    """Wait until `size` bytes lie in the kernel for a connection."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    poller = select.poll()
    poller.register(conn.fileno(), select.POLLIN)
    end = time.monotonic() + SOON
    while time.monotonic() < end:
        poller.poll(1000)
        (count,) = struct.unpack("i", fcntl.ioctl(conn.fileno(), termios.FIONREAD, bytes(4)))
        if count >= size:
            return
    pytest.fail(f"{size} bytes do not arrive")


def ended(conn):
    """Wait until the end of the stream, or a reset, has come to a connection."""
    poller = select.poll()
    poller.register(conn.fileno(), getattr(select, "POLLRDHUP", 0x2000))  # PyPy does not name it
    assert poller.poll(SOON * 1000)


def fill(conn):
    """Fill a connection's socket to the brim, so that not even a byte goes in; how many went."""
    poller = select.poll()
    poller.register(conn.fileno(), select.POLLOUT)
    total, last = 0, -1
    while total != last:
        last = total
        for size in (65_536, 1):
            while count := conn._link.transport.write(bytes(size)):
                total += count
        poller.poll(200)  # the system may still move some to the other side
    return total


def accept_token(request):
    """What a server answers to a client's key (RFC 6455 section 4.2.2)."""
    key = re.search(rb"(?i)\r\nsec-websocket-key: *(\S+)\r\n", request)[1]
    return base64.b64encode(hashlib.sha1(key + _MAGIC).digest()).decode()


def upgrade_answer(request, *lines, version="HTTP/1.1", **changes):
    """The head that accepts a client's upgrade; `Upgrade=None` leaves a header out."""
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_token(request),
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    rows = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    head = [f"{version} 101 Switching Protocols", *rows, *lines, "", ""]
    return "\r\n".join(head).encode("latin-1")


def receive_head(sock):
    """An HTTP head with its blank line from a socket."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        assert piece, f"the stream ended after {data!r}"
        data += piece
    return data


@functools.cache
def authority():
    """An authority for certificates, made once for the whole run."""
    import trustme  # not on every platform, and every test comes by here: see abuse.py

    return trustme.CA()


@functools.cache
def tls_contexts():
    """TLS settings (client's, server's) that trust each other, for localhost and its addresses."""
    certificate = authority().issue_cert("localhost", "127.0.0.1", "::1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(server)
    client = ssl.create_default_context()
    authority().configure_trust(client)
    return client, server


def shake(*transports):
    """Do the TLS handshake of two transports that are each other's peer."""
    done = [False, False]
    for _ in range(1000):
        done = [
            ready or each.handshake_step() for ready, each in zip(done, transports, strict=True)
        ]
        if all(done):
            return
    pytest.fail("the TLS handshake does not end")


def tls_pair(contexts=None, buffer=None):
    """Two TLS transports that are each other's peer: client and server."""
    near, far = tcp_pair(buffer)
    for_client, for_server = contexts or tls_contexts()
    client = TLSTransport(near, for_client, server_side=False, server_hostname="localhost")
    server = TLSTransport(far, for_server, server_side=True)
    shake(client, server)
    return client, server


def read_from(transport, size, timeout=SOON):
    """Exactly `size` bytes, or fewer at the stream's end."""
    deadline = Deadline(timeout)
    data = bytearray(size)
    have = 0
    while have < size:
        count = transport.read_into(memoryview(data)[have:])
        if count == 0:
            break
        if count is None:
            assert not deadline.passed(), f"only {have} of {size} bytes have come"
            transport.wait(True, False, deadline)
            continue
        have += count
    return bytes(data[:have])


class Running:
    """A call in a thread of its own, and what becomes of it."""

    def __init__(self, function, *args):
        self._outcome = Future()
        self._call = functools.partial(function, *args)
        self._thread = threading.Thread(target=self._run, name="test", daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self._outcome.set_result(self._call())
        except BaseException as error:
            self._outcome.set_exception(error)

    def done(self):
        return self._outcome.done()

    def result(self, timeout=30):
        """What the call returned or raised; a TimeoutError if it does not end."""
        try:
            return self._outcome.result(timeout)
        finally:
            if self._outcome.done():
                self._thread.join(timeout)


@contextlib.contextmanager
def running(*functions, timeout=30):
    """Run functions in threads; all of them have to end, and without an exception."""
    calls = [Running(function) for function in functions]
    yield calls
    for call in calls:
        call.result(timeout)


@contextlib.contextmanager
def at_least(seconds, most=SOON):
    """The block takes that many seconds, and less than `most`."""
    start = time.monotonic()
    yield
    assert seconds <= time.monotonic() - start < most


class Interrupt(BaseException):
    """What the tests' signal handlers raise, as Ctrl-C would raise KeyboardInterrupt."""


def in_tool(stack):
    """Whether a signal handler runs inside of what `make coverage` or `make jitter` runs.

    It may not raise there: that leaves a lock of the tool's taken, or comes where Python alone runs
    no handler, as between a call's end and its result.
    """
    while stack is not None:
        name = stack.f_globals.get("__name__", "")
        if name.startswith("coverage.") or name == "jitter":
            return True
        stack = stack.f_back
    return False


def in_package(stack, conn=None):
    """Whether a signal handler runs inside of the package, where it may raise.

    A call of `conn` may be all in C, without a frame of Python's: then a lock of its shows it.
    """
    if in_tool(stack):
        return False
    while stack is not None:
        if stack.f_globals.get("__name__", "").startswith("scriptling_ws."):
            return True
        stack = stack.f_back
    return conn is not None and (conn._intake.lock.locked() or conn._outlet.lock.locked())


def until(condition):
    """Poll until a condition holds; only where it never does, it takes long."""
    pause = threading.Event()
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        pause.wait(0.0005)
