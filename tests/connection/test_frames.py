"""The log of frames: `scriptling_ws.frames`, for connections that are made while it takes DEBUG."""

import contextlib
import errno
import logging
import re
import select

import pytest

import scriptling_ws as ws
from frames import raw_frame
from kernels import BINARY, KEY, TEXT
from pairs import (
    MIB,
    both_ends,
    connection,
    raw_peer,
    receive_frame,
    running,
    tcp_pair,
    transports,
    until,
)
from scriptling_ws._connection.frames import Watched, log_message
from scriptling_ws._handshakes.terms import Terms
from scriptling_ws._network.transport import Transport
from servers import echo, serving

TIMEOUT = 10
AGES = 1000.0
PING = 0x89  # with FIN, as TEXT
NAME = "scriptling_ws.frames"


class Lines(logging.Handler):
    """The lines that are logged.

    Attributes:
        lines: They, oldest first.
        strike: What the next line raises, once; None for nothing.
    """

    def __init__(self):
        super().__init__()
        self.lines = []
        self.strike = None

    def emit(self, record):
        self.lines.append(record.getMessage())
        strike, self.strike = self.strike, None
        if strike is not None:
            raise strike

    def of(self, role, way):
        """What the connection of that role has done, without its name."""
        found = re.compile(rf"{role}-\d+ {way} (.*)", re.DOTALL)
        return [match[1] for match in map(found.fullmatch, self.lines) if match]


@pytest.fixture
def log():
    """The log, turned on."""
    logger, lines = logging.getLogger(NAME), Lines()
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(lines)
    yield lines
    logger.removeHandler(lines)
    logger.setLevel(before)


def take(conn, count):
    return [conn.receive(TIMEOUT) for _ in range(count)]


def test_off_there_is_nothing_of_it():
    near, far = tcp_pair()
    transport = Transport(near)
    with far, contextlib.closing(connection(transport)) as conn:
        assert conn._link.transport is transport
        conn._abort()


def test_on_the_channel_has_no_descriptor(log):
    with raw_peer() as (conn, far):
        assert isinstance(conn._link.transport, Watched)
        assert conn._link.transport.descriptor is None
        assert conn.fileno() >= 0
        far.sendall(raw_frame(TEXT, b"x"))
        assert conn.receive(TIMEOUT) == "x"


@transports
def test_messages_of_both_ends(log, tls):
    with both_ends(tls=tls, binary_type=bytes) as (client, server):
        for conn, other in ((client, server), (server, client)):
            conn.send("h\u00e4llo\n")
            conn.send_binary(b"\x00\xff")
            conn.send("")
            conn.send_binary([1])
            conn.send_many(["a", b"b" * 65])
            take(other, 6)
        with running(lambda: server.receive(TIMEOUT)):
            client.close(4001, "bye\u20ac")
        server.close()
    seen = [
        r"TEXT, FIN, 7 bytes: 'h\xe4llo\n'",
        "BINARY, FIN, 2 bytes: 00 ff",
        "TEXT, FIN, 0 bytes",
        "BINARY, FIN, 1 byte: 01",
        "TEXT, FIN, 1 byte: 'a'",
        f"BINARY, FIN, 65 bytes: {'62 ' * 63}62...",
    ]
    close = r"CLOSE, FIN, 8 bytes: 4001 'bye\u20ac'"
    for role in ("client", "server"):
        assert log.of(role, "sent") == [*seen, close]
        assert log.of(role, "received") == [*seen, close]
    assert [line.split()[1] for line in log.lines].count("closed") == 2


def test_the_lines_of_a_connection_can_be_told_from_others(log):
    with both_ends() as (client, server), both_ends() as (third, _):
        client.send("one")
        third.send("two")
        assert server.receive(TIMEOUT) == "one"
        opened = [re.fullmatch(r"(\S+) open: (\S+) to (\S+)", line) for line in log.lines]
        names = [match[1] for match in opened if match]
        assert len(names) == len(set(names)) == 4
        assert opened[0].groups()[1:] == (client.local_addr, client.remote_addr)
        assert f"{names[0]} sent TEXT, FIN, 3 bytes: 'one'" in log.lines
        assert f"{names[1]} received TEXT, FIN, 3 bytes: 'one'" in log.lines
        assert f"{names[2]} sent TEXT, FIN, 3 bytes: 'two'" in log.lines


def test_compressed_messages(log):
    options = {"deflate": Terms(), "compression_threshold": 10}
    with both_ends(**options) as (client, server):
        client.send("x" * 1000)
        client.send_stream("y" * 1000, text=True, fragment_size=600)
        client.send("short")
        take(server, 3)
    first, begun, ended, short = log.of("server", "received")[:4]
    assert re.fullmatch(r"TEXT, FIN, compressed, \d+ bytes: [0-9a-f ]+", first)
    assert re.fullmatch(r"TEXT, compressed, \d+ bytes: [0-9a-f ]+", begun)
    assert re.fullmatch(r"CONTINUATION, FIN, compressed, \d+ bytes: [0-9a-f ]+", ended)
    assert short == "TEXT, FIN, 5 bytes: 'short'"
    assert log.of("client", "sent")[:4] == [first, begun, ended, short]
    assert "permessage-deflate" in log.lines[0]


def test_control_frames_between_fragments(log):
    with raw_peer(client=False) as (conn, far):
        far.sendall(raw_frame(0x01, b"a\xe2", KEY) + raw_frame(0x89, b"p\n", KEY))
        far.sendall(raw_frame(0x80, b"\x82\xac", KEY) + raw_frame(0x8A, b"", KEY))
        assert conn.receive(TIMEOUT) == "a\u20ac"
        assert receive_frame(far) == (0x8A, b"p\n")
        far.sendall(raw_frame(0x88, b"", KEY))
        assert conn.receive(TIMEOUT) is None
    # A byte of a character that two frames share is shown as Python does: its surrogate.
    assert log.of("server", "received") == [
        r"TEXT, 2 bytes: 'a\udce2'",
        "PING, FIN, 2 bytes: 70 0a",
        r"CONTINUATION, FIN, 2 bytes: '\udc82\udcac'",
        "PONG, FIN, 0 bytes",
        "CLOSE, FIN, 0 bytes",
    ]
    assert log.of("server", "sent") == ["PONG, FIN, 2 bytes: 70 0a", "CLOSE, FIN, 0 bytes"]


@pytest.mark.parametrize("lead", ["", "x", "xx", "xxx"])
def test_a_text_is_cut_between_two_characters(log, lead):
    for character in ("\u00e9", "\u20ac", "\U0001f600"):
        with raw_peer() as (conn, far):
            conn.send(lead + character * 100)
            receive_frame(far)
        shown = log.of("client", "sent")[0].partition(": ")[2]
        log.lines.clear()
        assert re.fullmatch(rf"'{lead}({re.escape(ascii(character)[1:-1])})+'\.\.\.", shown)
        assert "\\udc" not in shown


def test_what_breaks_the_protocol(log):
    with raw_peer() as (conn, far):
        far.sendall(raw_frame(TEXT, b"ok") + raw_frame(0xB3, b"?"))
        assert take(conn, 2) == ["ok", None]
        assert receive_frame(far)[0] == 0x88
    assert log.of("client", "received") == [
        "TEXT, FIN, 2 bytes: 'ok'",
        "opcode 3, FIN, RSV2, RSV3, 1 byte: 3f",
    ]
    (close,) = log.of("client", "sent")
    assert re.fullmatch(r"CLOSE, FIN, \d+ bytes: 1002 PROTOCOL_ERROR '.*bit is set'", close)


def test_what_is_no_frame(log):
    with raw_peer() as (conn, far):
        far.sendall(b"\x82\x7e\x00\x05hello")
        assert conn.receive(TIMEOUT) is None
    (line,) = log.of("client", "received")
    assert line.startswith("no frames can be told apart from here on: a frame's length, 5, is not")
    assert line.endswith("82 7e 00 05 68 65 6c 6c 6f")


def test_a_frame_without_an_end(log):
    with raw_peer() as (conn, far):
        far.sendall(raw_frame(BINARY, bytes(1000))[:500])
        far.close()
        assert conn.receive(TIMEOUT) is None
    assert [line.partition(":")[0] for line in log.of("client", "received")] == [
        "BINARY, FIN, 1000 bytes",
        "no end of the last frame",
    ]


def test_large_messages_and_streams(log):
    with both_ends(binary_type=bytes) as (client, server):
        with running(lambda: take(server, 2)):
            client.send_binary(bytes(MIB))
            client.send("\u20ac" * MIB)
        room = bytearray(MIB)
        with running(lambda: server.receive_into(room, TIMEOUT)):
            client.send_binary(b"x" * MIB)
        assert room == b"x" * MIB
        with (
            running(lambda: client.send_stream(b"y" * 200_000, fragment_size=100_000)),
            server.receive_stream() as stream,
        ):
            assert b"".join(stream) == b"y" * 200_000
    seen = [line.partition(":")[0] for line in log.of("client", "sent")]
    assert seen[:6] == [
        f"BINARY, FIN, {MIB} bytes",
        f"TEXT, FIN, {3 * MIB} bytes",
        f"BINARY, FIN, {MIB} bytes",
        "BINARY, 100000 bytes",
        "CONTINUATION, 100000 bytes",
        "CONTINUATION, FIN, 0 bytes",
    ]
    assert [line.partition(":")[0] for line in log.of("server", "received")][:6] == seen[:6]


def test_what_came_with_the_handshake(log):
    near, far = tcp_pair()
    with far:
        conn = connection(near, received=raw_frame(TEXT, b"early"))
        assert conn.receive(0) == "early"
        conn._abort()
        conn.close()
    assert log.of("client", "received") == ["TEXT, FIN, 5 bytes: 'early'"]


def test_a_room_with_a_member_that_does_not_read(log):
    room = ws.room("test_frames", queue=1000, queue_bytes=64 * MIB)
    with both_ends() as (client, server):
        room.join(server)
        for i in range(300):
            room.send(f"{i:05}" + "x" * 20_000)
        assert [message[:5] for message in take(client, 300)] == [f"{i:05}" for i in range(300)]
        # Noted once they are sent, by the thread that has sent the last ones.
        until(lambda: server.stats().messages_sent == 300)
        until(lambda: len(log.of("server", "sent")) >= 300)
        room.leave(server)
        sent = log.of("server", "sent")
    assert [line.partition("'")[2][:5] for line in sent[:300]] == [f"{i:05}" for i in range(300)]
    assert server.stats().messages_sent == 300


class Strike(BaseException):
    """What a signal handler raises, or a log handler."""


@transports
def test_an_exception_in_the_log_loses_nothing_that_comes(log, tls):
    with both_ends(tls=tls) as (client, server):
        client.send_many(["one", "two"])
        log.strike = Strike()
        with pytest.raises(Strike):
            server.receive(TIMEOUT)
        client.send("three")
        assert take(server, 3) == ["one", "two", "three"]
        assert server.stats().messages_received == 3
    assert "interrupted" in log.of("server", "received")[1]


@transports
@pytest.mark.parametrize("message", ["two", "x" * MIB])
@pytest.mark.parametrize("timeout", [..., TIMEOUT])
def test_an_exception_in_the_log_cuts_nothing_that_goes(log, tls, message, timeout):
    with both_ends(tls=tls) as (client, server):
        client.send("one")
        log.strike = Strike()
        with pytest.raises(Strike):
            client.send(message, timeout=timeout)
        with running(lambda: client.send("three")):
            assert take(server, 3) == ["one", message, "three"]
    assert [line for line in log.of("client", "sent") if "interrupted" in line]


def test_the_level_counts_while_it_is_open_too(log):
    logger = logging.getLogger(NAME)
    with both_ends() as (client, server):
        client.send("seen")
        logger.setLevel(logging.INFO)
        client.send("x" * 1000)
        client.send_stream("y" * 1000, text=True, fragment_size=700)
        logger.setLevel(logging.DEBUG)
        client.send("again")
        take(server, 4)
        assert log.of("client", "sent") == [
            "TEXT, FIN, 4 bytes: 'seen'",
            "TEXT, FIN, 5 bytes: 'again'",
        ]


def test_the_level_counts_for_messages_of_others_too(log):
    logger = logging.getLogger(NAME)
    logger.setLevel(logging.INFO)
    log_message("asgi-1", "sent", "secret")
    logger.setLevel(logging.DEBUG)
    log_message("asgi-1", "sent", "seen")
    assert log.lines == ["asgi-1 sent TEXT, 4 characters: 'seen'"]


def test_keepalive_takes_what_an_exception_in_the_log_has_kept(log):
    with raw_peer(client=False, ping_interval=AGES) as (conn, far):
        far.sendall(raw_frame(PING, b"kept", KEY))
        log.strike = Strike()
        with pytest.raises(Strike):
            conn.receive(TIMEOUT)
        conn._pinger._liveness.asked -= 2 * AGES  # it is time
        conn._pinger.look_after()
        received = [receive_frame(far) for _ in range(2)]
        assert (0x8A, b"kept") in received
        assert [first for first, _ in received if first == PING]
    assert log.of("server", "received")[0] == "PING, FIN, 4 bytes: 6b 65 70 74"


@contextlib.contextmanager
def watched_pair():
    """A transport whose frames are logged, the one below it, and the peer's socket."""
    near, far = tcp_pair()
    inner = Transport(near)
    with far, contextlib.closing(Watched(inner, "a")) as seen:
        yield seen, inner, far


def test_what_an_exception_in_the_log_has_kept_comes_next(log):
    frame, buffer = raw_frame(TEXT, b"kept"), bytearray(100)
    with watched_pair() as (seen, inner, far):
        assert (seen.unread(), seen.peek(3)) == (False, None)
        far.sendall(frame)
        until(seen.unread)
        assert (seen.peek(3), seen.keeps()) == (frame[:3], False)
        assert seen.peek_all(100) == frame
        log.strike = Strike()
        with pytest.raises(Strike):
            seen.read_into(buffer)
        assert (inner.unread(), seen.unread(), seen.keeps()) == (False, True, True)
        assert (seen.peek(3), seen.peek_all(100)) == (frame[:3], None)
        assert seen.read_into(memoryview(buffer)[:2]) == 2
        assert seen.peek(100) == frame[2:]
        assert seen.read_into(memoryview(buffer)[2:]) == len(frame) - 2
        assert buffer[: len(frame)] == frame
        assert (seen.unread(), seen.keeps(), seen.peek(3)) == (False, False, None)
    assert log.lines == ["a received TEXT, FIN, 4 bytes: 'kept'", "a closed"]


def test_all_else_is_the_other_transports(log):
    with watched_pair() as (seen, inner, _):
        waker = seen.waker_number()
        assert waker == inner.waker_number() >= 0
        assert not select.select([waker], [], [], 0)[0]
        seen.wake()
        assert select.select([waker], [], [], 0)[0] == [waker]
        for value in (True, False):
            seen.pending = value
            assert (seen.pending, inner.pending) == (value, value)
        seen.note_failure(OSError(errno.ETIMEDOUT, "late"))
        assert seen.failure is inner.failure
        assert inner.failure.errno == errno.ETIMEDOUT
        assert seen.fileno() == inner.fileno() == seen.detach().fileno() >= 0


def test_threads_at_a_time(log):
    """The frames of several senders, pings and a receiver: each has one line, in its order."""
    with both_ends(ping_interval=None) as (client, server):

        def send(name):
            for i in range(50):
                client.send(f"{name} {i}")

        def receive():
            for _ in range(150):
                assert server.receive(TIMEOUT) is not None
            assert server.receive(TIMEOUT) == "end"

        with running(receive, *(lambda name=name: send(name) for name in "abc")):
            assert client.ping(TIMEOUT) is not None
            until(lambda: client.stats().messages_sent == 150)
            client.send("end")
        assert log.of("client", "sent") == log.of("server", "received")


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_nothing_secret_of_a_handshake(log, compression):
    with serving(echo, compression=compression) as server:
        url = server.url.replace("ws://", "ws://ann:hush@") + "/chat?token=hush"
        cookie = {"X-Key": "hush", "Cookie": "id=hush"}
        with ws.connect(url, headers=cookie, compression=compression) as conn:
            conn.send("hello")
            assert conn.receive(TIMEOUT) == "hello"
    assert not [line for line in log.lines if "hush" in line]
    opened = [line for line in log.lines if " open: " in line]
    assert len(opened) == 2
    assert all("GET '/chat'" in line for line in opened)
