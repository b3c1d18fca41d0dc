"""Connections with compression: what they send, and both ends together (RFC 7692)."""

import array
import contextlib
import copy
import gc
import os
import pydoc
import random
import signal
import threading
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scriptling_ws as ws
from frames import frame
from looped import looped
from memory import tracemalloc
from pairs import (
    KIB,
    MIB,
    SOON,
    Interrupt,
    Running,
    both_ends,
    connection,
    in_package,
    raw_peer,
    receive_frame,
    roles,
    running,
    tcp_pair,
)
from scriptling_ws._connection.connection import Connection
from scriptling_ws._handshakes.terms import Terms
from scriptling_ws._wire import outgoing as _outgoing
from scriptling_ws._wire.deflating import DeflatingEncoder
from scriptling_ws._wire.outgoing import PlainEncoder
from scriptling_ws.runtime import HTTP
from servers import echo, raw_websocket, serving

TEXT, BINARY, CLOSE = 0x81, 0x82, 0x88
RSV1 = 0x40
TERMS = Terms()
HELLO = bytes.fromhex("f248cdc9c90700")


def compressing(**options):
    """A connection that compresses everything, and the plain socket of its peer."""
    return raw_peer(**({"deflate": TERMS, "compression_threshold": 0} | options))


class Inflater:
    """Reads messages from a socket, with zlib alone."""

    def __init__(self, sock):
        self._sock = sock
        self._stream = zlib.decompressobj(wbits=-15)

    def receive(self):
        """One message: its opcode, whether it came compressed, and the payload."""
        first, payload = receive_frame(self._sock)
        if first & RSV1:
            payload = self._stream.decompress(payload + b"\0\0\xff\xff")
        return first & ~RSV1, bool(first & RSV1), payload


# -- what is sent --------------------------------------------------------------


@roles
def test_messages_are_compressed(client):
    with compressing(client=client) as (conn, peer):
        inflater = Inflater(peer)
        for _ in range(3):
            conn.send("h\xfc\u20ac")
            assert inflater.receive() == (TEXT, True, "h\xfc\u20ac".encode())
            conn.send({"a": [1]})
            assert inflater.receive() == (TEXT, True, b'{"a":[1]}')
            conn.send("")
            assert inflater.receive() == (TEXT, True, b"")
            for data in ([1, 2], (1, 2), b"\1\2", bytearray(b"\1\2"), memoryview(b"0\1\2")[1:]):
                conn.send_binary(data)
                assert inflater.receive() == (BINARY, True, b"\1\2")
            for empty in ([], b"", bytearray(), array.array("B")):
                conn.send_binary(empty)
                assert inflater.receive() == (BINARY, True, b"")


def test_not_those_below_the_threshold():
    with compressing(compression_threshold=100) as (conn, peer):
        inflater = Inflater(peer)
        for size in (0, 1, 99, 100, 101):
            conn.send("x" * size)
            assert inflater.receive() == (TEXT, size >= 100, b"x" * size)
            conn.send_binary(bytes(size))
            assert inflater.receive() == (BINARY, size >= 100, bytes(size))
            conn.send_binary([0] * size)
            assert inflater.receive() == (BINARY, size >= 100, bytes(size))
        for text in ("\u20ac" * 33, "\u20ac" * 33 + "x"):  # bytes count, not characters
            conn.send(text)
            data = text.encode()
            assert inflater.receive() == (TEXT, len(data) >= 100, data)


def test_the_default_threshold():
    with raw_peer(deflate=TERMS) as (conn, peer):
        inflater = Inflater(peer)
        for size in (1023, 1024):
            conn.send("x" * size)
            assert inflater.receive() == (TEXT, size == 1024, b"x" * size)


@pytest.mark.parametrize("size", [10, 300_000])
def test_not_those_that_opt_out(size):
    with compressing() as (conn, peer):
        inflater = Inflater(peer)
        for compress in (True, False, True):
            with running(lambda: conn.send("x" * size, compress=compress)):  # noqa: B023
                assert inflater.receive() == (TEXT, compress, b"x" * size)
            with running(lambda: conn.send_binary(bytes(size), compress=compress)):  # noqa: B023
                assert inflater.receive() == (BINARY, compress, bytes(size))
            with running(lambda: conn.send_many(["x" * size], compress=compress)):  # noqa: B023
                assert inflater.receive() == (TEXT, compress, b"x" * size)


def test_opting_out_where_nothing_is_compressed():
    with raw_peer() as (conn, peer):
        conn.send("x", compress=False)
        conn.send_binary(b"x", compress=True)
        conn.send_many(["x"], compress=False)
        assert [receive_frame(peer) for _ in range(3)] == [
            (TEXT, b"x"),
            (BINARY, b"x"),
            (TEXT, b"x"),
        ]


def test_context_takeover():
    message = random.Random(1).randbytes(5000)
    for takeover in (True, False):
        with compressing(deflate=Terms(client_no_context_takeover=not takeover)) as (conn, peer):
            sizes = []
            for _ in range(3):
                conn.send_binary(message)
                sizes.append(len(receive_frame(peer)[1]))
            assert sizes[0] > 5000
            assert (sizes[1] < 200, sizes[2] < 200) == (takeover, takeover)


def test_a_window_that_zlib_cannot_compress_in():
    """What a client does about that: it sends everything as it is."""
    with compressing(deflate=Terms(client_max_window_bits=8)) as (conn, peer):
        conn.send("x" * 5000)
        assert receive_frame(peer) == (TEXT, b"x" * 5000)
        peer.sendall(frame(1, HELLO, rsv=4))
        assert conn.receive(SOON) == "Hello"


@looped(
    "message",
    [-1, None, 1.5, object(), [256], [1, 2, -1], [True], ["x"], (1, None), "text", "", {"a": 1}],
)
@looped("threshold", [0, 1024])
def test_bad_binary_is_refused_as_without_compression(message, threshold):
    with raw_peer() as (plain, _), compressing(compression_threshold=threshold) as (conn, peer):
        refused_alike(plain.send_binary, conn.send_binary, message)
        for data in (array.array("H", [1]), memoryview(b"abcd")[::2], memoryview(b"abcd")[::-1]):
            refused_alike(plain.send_binary, conn.send_binary, data)
        nothing_was_sent(conn, peer)


@looped(
    "message", [1, None, b"x", [1], "\ud800", "x" * 2000 + "\udfff", {"a": float("nan")}, {1: {2}}]
)
@looped("threshold", [0, 1024])
def test_bad_text_is_refused_as_without_compression(message, threshold):
    with raw_peer() as (plain, _), compressing(compression_threshold=threshold) as (conn, peer):
        refused_alike(plain.send, conn.send, message)
        nothing_was_sent(conn, peer)


def test_a_list_that_is_too_long_is_refused_as_without_compression(monkeypatch):
    most = 300_000  # above what a channel takes
    monkeypatch.setattr(_outgoing, "_MAX_ITEMS", most)
    with raw_peer() as (plain, _), compressing() as (conn, peer):
        refused_alike(plain.send_binary, conn.send_binary, [0] * (most + 1))
        conn.send_binary([0] * most)
        assert Inflater(peer).receive()[2] == bytes(most)


def refused_alike(plain, compressed, message):
    with pytest.raises((TypeError, ValueError)) as expected:
        plain(message)
    with pytest.raises(type(expected.value)) as caught:
        compressed(message)
    assert str(caught.value) == str(expected.value)


def nothing_was_sent(conn, peer):
    conn.send("next")
    assert Inflater(peer).receive()[2] == b"next"


def test_sending_after_the_close():
    with compressing() as (conn, peer):
        peer.sendall(frame(8, b"\x03\xe8"))
        assert conn.receive(SOON) is None
        for send, message in ((conn.send, "x"), (conn.send_binary, b"x"), (conn.send_many, ["x"])):
            with pytest.raises(ws.ConnectionClosed):
                send(message)


# -- send_many -----------------------------------------------------------------


def test_many_messages():
    messages = []
    for size in (0, 1, 50, 99, 100, 5000, 70_000, 300_000, 3):
        messages += ["x" * size, bytes(size), os.urandom(size), {"x": "y" * size}]
    with compressing(compression_threshold=100) as (conn, peer):
        with running(lambda: conn.send_many(messages)):
            inflater = Inflater(peer)
            for message in messages:
                opcode, compressed, payload = inflater.receive()
                assert opcode == (BINARY if isinstance(message, bytes) else TEXT)
                assert compressed is (len(payload) >= 100)
                if isinstance(message, dict):
                    assert payload == b'{"x":"%s"}' % message["x"].encode()
                elif isinstance(message, str):
                    assert payload == message.encode()
                else:
                    assert payload == message
        conn.send_many([])
        conn.send("x" * 1000)
        assert inflater.receive() == (TEXT, True, b"x" * 1000)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("size", [8, 100_000, 300_000])
def test_many_messages_out_of_one_buffer(size, compress):
    buffer = bytearray()

    def fill():
        for number in range(3):
            buffer[:] = bytes([number]) * (size + number)
            yield buffer

    with compressing() as (conn, peer), running(lambda: conn.send_many(fill(), compress)):
        inflater = Inflater(peer)
        for number in range(3):
            assert inflater.receive() == (BINARY, compress, bytes([number]) * (size + number))


def test_many_small_messages_share_system_calls(monkeypatch):
    with compressing() as (conn, peer):
        sizes = []
        write = conn._link.transport.write
        monkeypatch.setattr(
            type(conn._link.transport),
            "write",
            lambda _, data: sizes.append(len(data)) or write(data),
        )
        conn.send_many(["a message"] * 500)
        assert len(sizes) == 1
        inflater = Inflater(peer)
        assert [inflater.receive()[2] for _ in range(500)] == [b"a message"] * 500


def test_what_comes_before_a_bad_one_of_many_is_sent():
    with compressing() as (conn, peer):
        inflater = Inflater(peer)
        with pytest.raises(ValueError, match="256"):
            conn.send_many(["one", b"two", [256], "four"])
        conn.send("five")
        assert [inflater.receive()[2] for _ in range(3)] == [b"one", b"two", b"five"]


# -- when a send fails -----------------------------------------------------------


def test_a_message_that_timed_out_before_it_began_is_forgotten(monkeypatch):
    with compressing(send_timeout=0.1) as (conn, peer):
        inflater = Inflater(peer)
        conn.send("Hello, Hello, Hello")
        assert inflater.receive()[2] == b"Hello, Hello, Hello"
        with monkeypatch.context() as patch, pytest.raises(ws.SendTimeout):
            patch.setattr(type(conn._link.transport), "write", lambda transport, data: 0)
            conn.send("a message that nobody will ever see")
        for text in ("a message that nobody will ever see", "Hello, Hello, Hello") * 2:
            conn.send(text)
            assert inflater.receive() == (TEXT, True, text.encode())


@pytest.mark.parametrize("method", ["compress", "sent"])
@pytest.mark.parametrize("late", [False, True])
def test_an_exception_around_the_compressor(monkeypatch, method, late):
    """Wherever it strikes, the messages after it can be read."""
    with compressing() as (conn, peer):
        inflater = Inflater(peer)
        conn.send("Hello, Hello")
        assert inflater.receive()[2] == b"Hello, Hello"
        whole = getattr(type(conn._encoder._compressor), method)

        def cut_short(*args):
            if late:
                whole(*args)
            raise Interrupt

        with monkeypatch.context() as patch, pytest.raises(Interrupt):
            patch.setattr(type(conn._encoder._compressor), method, cut_short)
            conn.send("Hello, world")
        for _ in range(3):
            conn.send("Hello, Hello, world")
        got = [inflater.receive()[2] for _ in range(3 + (method == "sent"))]
        assert got[-3:] == [b"Hello, Hello, world"] * 3
        assert got[:-3] in ([], [b"Hello, world"])


def test_signal_handlers_that_raise_spoil_nothing():
    """A storm of them: what arrives can be inflated, and nothing that was sent is missing."""
    rng = random.Random(1)
    near, far = tcp_pair()
    conn = connection(near, deflate=TERMS, compression_threshold=0)
    peer = connection(far, client=False, deflate=TERMS, binary_type=bytes)
    sent = []
    got = []

    def receive():
        while (message := peer.receive(SOON)) is not None:
            got.append(message)

    def handle(number, stack):
        if in_package(stack, conn):
            raise Interrupt

    receiving = Running(receive)
    stop = threading.Event()

    def shoot(target):
        chance = random.Random(2)
        while not stop.wait(chance.expovariate(2000)):
            signal.pthread_kill(target, signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, handle)
    interrupted = 0
    try:
        shooting = Running(shoot, threading.main_thread().ident)
        for number in range(600):
            data = b"%d " % number + rng.randbytes(rng.choice([3, 300])) * rng.choice([1, 30, 3000])
            try:
                if number % 3:
                    conn.send_binary(data)
                else:
                    conn.send_many([data, data])
            except Interrupt:
                interrupted += 1
            else:
                sent += [data] if number % 3 else [data, data]
    finally:
        stop.set()
        shooting.result()
        signal.signal(signal.SIGUSR1, previous)
    conn.send("the end")
    conn.close()
    receiving.result()
    peer.close()
    assert interrupted
    assert got.pop() == "the end"
    rest = iter(got)
    assert all(message in rest for message in sent)  # in this order, with others between


# -- both ends -------------------------------------------------------------------


EVERYTHING = [
    Terms(server, client, server_bits, client_bits)
    for server in (False, True)
    for client in (False, True)
    for server_bits in (9, 15)
    for client_bits in (9, 15)
]


@pytest.mark.parametrize("terms", EVERYTHING, ids=str)
def test_both_ends(terms):
    options = {"binary_type": bytes, "compression_threshold": 50}
    rng = random.Random(str(terms))
    messages = ["", b"", "short", "x" * 50, "\u20ac" * 5000, bytes(300_000), os.urandom(300_000)]
    messages += [rng.randbytes(rng.randrange(300)) * rng.randrange(300) for _ in range(50)]
    with both_ends(deflate=terms, **options) as (client, server):
        for near, far in ((client, server), (server, client)):
            with running(lambda: near.send_many(messages)):  # noqa: B023
                assert [far.receive(SOON) for _ in messages] == messages
            for message in messages[:5]:
                (near.send if isinstance(message, str) else near.send_binary)(message)
                assert far.receive(SOON) == message


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=200) | st.binary(max_size=200) | st.lists(st.integers(0, 255)),
            st.sampled_from([1, 1, 30, 3000]),
            st.booleans(),
        ),
        max_size=20,
    ),
    st.integers(0, 300),
)
def test_round_trips(parts, threshold):
    with both_ends(deflate=TERMS, compression_threshold=threshold) as (client, server):
        for message, times, compress in parts:
            send = client.send if isinstance(message, str) else client.send_binary
            with running(lambda: send(message * times, compress=compress)):  # noqa: B023
                got = server.receive(SOON)
            assert got == (list(message * times) if isinstance(message, bytes) else message * times)


@pytest.mark.abuse(82)
def test_several_senders_at_once():
    count, each = 6, 60
    with both_ends(deflate=TERMS, compression_threshold=20) as (client, server):

        def shout(name):
            for number in range(each):
                text = f"{name} {number} " + "x" * (number**3 % 5000)
                if number % 4:
                    client.send(text, compress=bool(number % 3))
                else:
                    client.send_many([text])

        with running(*(lambda name=name: shout(name) for name in range(count))):
            got = [server.receive(SOON).split(" ") for _ in range(count * each)]
        for name in range(count):
            numbers = [int(number) for who, number, _ in got if who == str(name)]
            assert numbers == list(range(each))


def test_two_peers_that_both_send_first():
    data = os.urandom(4 * MIB)
    options = {"binary_type": bytes, "compression_threshold": 0}
    with both_ends(deflate=TERMS, **options) as (client, server):
        with running(lambda: client.send_binary(data), lambda: server.send_binary(data)):
            pass
        assert client.receive(SOON) == data
        assert server.receive(SOON) == data


def test_what_a_blocked_sender_lets_pile_up_counts_inflated():
    near, far = tcp_pair()
    conn = connection(near, deflate=TERMS, binary_type=bytes)
    peer = connection(far, client=False, deflate=TERMS)
    peer.send_many([bytes(MIB)] * 3)
    with conn._intake.lock:
        while len(conn._ready) < 3:
            conn._intake.read_ahead()
    assert 3 * MIB <= conn._intake._backlog <= 3 * MIB + 64 * KIB
    assert conn._intake._max_backlog > 3 * MIB
    conn._abort()
    conn.close()
    peer.close()


def held_by_the_package():
    """Bytes that its code has asked for: the collector keeps some too, for as long as it likes."""
    gc.collect()
    ours = tracemalloc.Filter(True, str(Path(ws.__file__).parent / "*"))
    snapshot = tracemalloc.take_snapshot().filter_traces([ours])
    return sum(trace.size for trace in snapshot.traces)


def test_an_idle_connection_has_no_contexts():
    def used(near, far):
        conn = connection(near, deflate=TERMS)
        conn.send("short")
        far.sendall(frame(1, b"short"))
        assert conn.receive(SOON) == "short"
        return conn

    with contextlib.ExitStack() as stack:
        first, second = (tuple(map(stack.enter_context, tcp_pair())) for _ in range(2))
        used(*first)._abort()  # what the first connection of all makes is not the measured one's
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        gc.collect()  # without a GIL it keeps some memory itself
        before = tracemalloc.get_traced_memory()[0]
        conn = used(*second)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before <= 24 * KIB
        idle = held_by_the_package()
        conn.send("x" * 2000)
        assert 256 * KIB <= held_by_the_package() - idle <= 300 * KIB
        conn._abort()


# -- from the handshake on ---------------------------------------------------------


@pytest.mark.parametrize("client", [None, "deflate"])
@pytest.mark.parametrize("server", [None, "deflate"])
def test_both_have_to_want_it(client, server):
    kinds = []

    def handler(conn):
        kinds.append(type(conn._encoder))
        echo(conn)

    with (
        serving(handler, compression=server) as running_server,
        ws.connect(running_server.url, compression=client) as conn,
    ):
        kinds.append(type(conn._encoder))
        for message in ("short", "x" * 5000):
            conn.send(message)
            assert conn.receive(SOON) == message
        expected = DeflatingEncoder if client and server else PlainEncoder
        assert kinds == [expected] * 2
        assert repr(conn) == f"<Connection {conn.local_addr} to {conn.remote_addr}, open>"
        assert (conn._link.protocol.inflated > 0) is bool(client and server)


def test_to_a_caller_it_is_a_connection():
    """Nothing that Python prints of it names another class."""
    with both_ends(deflate=TERMS) as (conn, _):
        assert type(conn) is Connection
        assert str(type(conn)).endswith(".Connection'>")
        for mistake in (lambda: conn.send(), lambda: conn.read(), lambda: copy.copy(conn)):
            with pytest.raises((TypeError, AttributeError)) as caught:
                mistake()
            assert "Deflating" not in str(caught.value)
        assert "Deflating" not in pydoc.render_doc(conn)


PARAMETERS = [
    {},
    {"server_no_context_takeover": True},
    {"client_no_context_takeover": True},
    {"server_max_window_bits": 9},
    {"client_max_window_bits": 9},
    {
        "server_no_context_takeover": True,
        "client_no_context_takeover": True,
        "server_max_window_bits": 10,
        "client_max_window_bits": 11,
    },
]


@pytest.mark.parametrize("client", PARAMETERS, ids=str)
@pytest.mark.parametrize("server", PARAMETERS, ids=str)
def test_parameters(client, server):
    options = {"compression": "deflate", "compression_threshold": 0, "binary_type": bytes}
    messages = ["Hello", "Hello", bytes(50_000), os.urandom(50_000), "Hello"]
    with (
        serving(echo, **options, **server) as running_server,
        ws.connect(running_server.url, **options, **client) as conn,
    ):
        for message in messages:
            (conn.send if isinstance(message, str) else conn.send_binary)(message)
            assert conn.receive(SOON) == message
        assert conn._link.protocol.inflated == sum(map(len, messages))


def test_routes_choose_for_themselves():
    routes = HTTP()
    routes.websocket("/on", echo, compression="deflate", server_max_window_bits=10)
    routes.websocket("/off", echo, compression=None)
    routes.websocket("/as-the-server", echo)
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    answers = {}
    with serving(routes=routes, compression="deflate", client_max_window_bits=9) as server:
        for path in ("/on", "/off", "/as-the-server"):
            with raw_websocket(server, path, offer) as raw:
                answers[path] = raw.answer.headers.get("sec-websocket-extensions")
    assert answers == {
        "/on": "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9",
        "/off": None,
        "/as-the-server": "permessage-deflate; client_max_window_bits=9",
    }


# RFC 6455 section 9.1: a value may be quoted.
@pytest.mark.parametrize("bits", ["10", '"10"', '"1\\0"'])
def test_an_offer_in_quotes_is_kept(bits):
    offer = f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}"
    with (
        serving(echo, compression="deflate") as server,
        raw_websocket(server, "/", offer) as raw,
    ):
        answer = raw.answer.headers["sec-websocket-extensions"]
        assert answer == "permessage-deflate; server_max_window_bits=10"


# An implementation that is trusted answered such an offer with a 500.
@pytest.mark.abuse(13)
@pytest.mark.parametrize("bits", ["8", "7", "16", "15x", '"16"', '"10', "", "\xff"])
def test_an_offer_that_cannot_be_kept_opens_a_connection_without_compression(bits):
    offer = f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}"
    with serving(echo, compression="deflate") as server:
        if bits == "\xff":
            with pytest.raises(AssertionError, match="400"), raw_websocket(server, "/", offer):
                pass
            return
        with raw_websocket(server, "/", offer) as raw:
            assert "sec-websocket-extensions" not in raw.answer.headers
            raw.send(1, b"x" * 100)
            assert raw.receive() == (1, b"x" * 100)


@pytest.mark.abuse(56)
def test_a_compressed_message_that_was_not_agreed_on():
    with serving(echo) as server, raw_websocket(server) as raw:
        raw.send(1, HELLO, rsv=4)
        assert raw.close_code() == 1002
        raw.leave(1002)


@pytest.mark.abuse(57, 58)
@pytest.mark.parametrize(("payload", "code"), [("bomb", 1009), ("garbage", 1007)])
def test_bombs_and_garbage_close_the_connection(payload, code):
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    stream = zlib.compressobj(wbits=-15)
    bomb = stream.compress(bytes(20 * MIB)) + stream.flush(zlib.Z_SYNC_FLUSH)
    ends = []

    def handler(conn):
        ends.append(conn.receive(SOON))
        ends.append(conn.close_code)

    with (
        serving(handler, compression="deflate") as server,
        raw_websocket(server, "/", offer) as raw,
    ):
        raw.send(2, bomb if payload == "bomb" else b"\xff" * 100, rsv=4)
        assert raw.close_code() == code
        raw.leave(code)
    assert ends == [None, code]
