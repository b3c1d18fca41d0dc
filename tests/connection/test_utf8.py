"""Text as bytes, both ways: what `send_text` sends, what `text_type=bytes` receives."""

import array
import contextlib
import io
import itertools
import socket
import threading

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import scriptling_ws as ws
from cases import named
from frames import BINARY, CONTINUATION, TEXT, close_frame, frame
from looped import looped
from pairs import (
    KIB,
    MIB,
    SOON,
    ByMethod,
    Transport,
    both_ends,
    fill,
    raw_peer,
    receive_frame,
    roles,
    running,
    transports,
    until,
)
from scriptling_ws._handshakes.terms import Terms
from strategies import cut_texts

TERMS = Terms()
ways = pytest.mark.parametrize(
    "way", [{}, {"tls": True}, {"deflate": TERMS}], ids=["tcp", "tls", "deflate"]
)
TEXTS = ["", "a", "hü€😀", "x" * 125, "é" * 63, "x" * 65_536, "€" * 90_000, "x" * (256 * KIB + 1)]
AS_BYTES = {"text_type": bytes}


# -- sending -----------------------------------------------------------------


@roles
@looped("kind", [bytes, bytearray, memoryview, str])
@looped("text", TEXTS)
def test_what_is_encoded_is_sent_as_text(client, kind, text):
    data = text if kind is str else kind(text.encode())
    with raw_peer(client=client) as (conn, peer), running(lambda: conn.send_text(data)):
        assert receive_frame(peer) == (0x80 | TEXT, text.encode())


@ways
@roles
@looped("text", TEXTS)
def test_it_arrives_as_any_text(way, client, text):
    with both_ends(compression_threshold=100, **way) as ends:
        near, far = ends if client else reversed(ends)
        with running(lambda: near.send_text(text.encode())):
            assert far.receive(SOON) == text
        with running(lambda: near.send_text(text.encode(), False, timeout=SOON)):
            assert far.receive(SOON) == text


class Text(bytes):
    """A class of the caller's own."""


@pytest.mark.parametrize(
    "data",
    [
        Text(b"abc"),
        array.array("B", b"abc"),
        memoryview(b"xabcx")[1:4],
        memoryview(bytearray(b"abc")).toreadonly(),
    ],
    ids=named,
)
def test_any_bytes_like_object_will_do(data):
    with both_ends() as (client, server):
        client.send_text(data)
        assert server.receive(SOON) == "abc"


NOT_UTF_8 = [
    (b"\xff", 0),
    (b"abc\xc3", 3),
    (b"\xed\xa0\x80", 0),
    (b"\xf4\x90\x80\x80", 0),
    (b"\xc0\x80", 0),
    ("é".encode() * 3 + b"\x80", 6),
    (b"x" * 300_000 + b"\xff", 300_000),
]


@roles
@looped("kind", [bytes, bytearray, memoryview])
@looped(("data", "where"), NOT_UTF_8)
@looped("deflate", [None, TERMS])
def test_what_is_no_utf8_is_refused_before_anything_is_sent(client, kind, data, where, deflate):
    with raw_peer(client=client, deflate=deflate, compression_threshold=0) as (conn, peer):
        for more in ({}, {"timeout": SOON}, {"compress": False}):
            with pytest.raises(ValueError, match=rf"byte {where} of {len(data)}\. .*send_binary"):
                conn.send_text(kind(data), **more)
        conn.send_text(b"next", compress=False)
        assert receive_frame(peer) == (0x80 | TEXT, b"next")


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (5, TypeError, "takes a str or a bytes-like object, not int"),
        ([97, 98], TypeError, r"not list: use send\(\) for a dict, or send_binary\(\) for a list"),
        ({"a": 1}, TypeError, r"not dict: use send\(\)"),
        (None, TypeError, "not NoneType"),
        (memoryview(b"abcd").cast("H"), TypeError, "2 bytes wide"),
        (memoryview(b"abcd")[::2], ValueError, "not contiguous"),
        ("\ud800", ValueError, "lone surrogate at position 0"),
    ],
    ids=named,
)
def test_what_is_no_text_is_refused_before_anything_is_sent(data, error, words):
    with both_ends() as (client, server):
        with pytest.raises(error, match=words):
            client.send_text(data)
        client.send_text(b"next")
        assert server.receive(SOON) == "next"


def test_send_says_where_bytes_go():
    with both_ends() as (client, _), pytest.raises(TypeError, match=r"send_binary.*send_text"):
        client.send(b"bytes")


def test_it_raises_as_send_does_once_it_is_closed():
    with both_ends() as (client, server):
        with running(client.close):
            assert server.receive(SOON) is None
        with pytest.raises(ws.ConnectionClosed):
            client.send_text(b"x")


@pytest.mark.parametrize("transport", [Transport, ByMethod])
def test_a_peer_that_does_not_read_in_time(transport):
    with raw_peer(transport=transport) as (conn, _):
        fill(conn)
        with pytest.raises(ws.SendTimeout):
            conn.send_text(b"x" * 1000, timeout=0.05)


def test_a_buffer_is_free_once_it_was_sent():
    data = bytearray(b"x" * 300_000)
    with both_ends() as (client, server):
        with running(lambda: client.send_text(data)):
            assert server.receive(SOON) == "x" * 300_000
        data.append(1)  # a BufferError if something had borrowed it


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(cut_texts, st.binary(max_size=9)), max_size=6))
def test_what_is_sent_is_what_python_would_decode(datas):
    with both_ends() as (client, server):
        for data in datas:
            try:
                text = data.decode()
            except UnicodeDecodeError as error:
                with pytest.raises(ValueError, match=f"byte {error.start} of"):
                    client.send_text(data)
            else:
                client.send_text(data)
                assert server.receive(SOON) == text


# -- as fragments --------------------------------------------------------------


@ways
@pytest.mark.parametrize("fragment_size", [1, 3, 1000])
@pytest.mark.parametrize("part", [1, 2, 7, 5000])
def test_a_stream_of_utf8_may_be_cut_anywhere(way, fragment_size, part):
    data = "a€é😀".encode() * 20
    parts = [data[at : at + part] for at in range(0, len(data), part)]
    with both_ends(**way) as (client, server):
        sources = [parts, map(memoryview, parts), io.BytesIO(data), bytearray(data)]
        for source in sources:
            with running(
                lambda: client.send_stream(source, text=True, fragment_size=fragment_size)  # noqa: B023
            ):
                assert server.receive(SOON) == data.decode()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([b"\xff"], "the text is not UTF-8: leave text=True out"),
        ([b"\xc3", b"("], "the text is not UTF-8: leave text=True out"),
        ([b"\xe2", b"\x82"], "a character is cut, and its end does not come"),
        ([b"\xe2\x82", b"", b"x"], "the text is not UTF-8: leave"),
        ([b"\xed\xa0", b"\x80"], "the text is not UTF-8: leave"),
        ([b"\xc3", "é"], "a character is cut"),
        ([b"ok", b"\xf0\x9f", b"\x98"], "a character is cut"),
        ([b"\xc3", b"\xa9\xff"], "the text is not UTF-8: leave"),
    ],
    ids=named,
)
def test_a_stream_that_is_no_utf8_is_refused(parts, words):
    with both_ends() as (client, server):
        with pytest.raises(ValueError, match=words):
            client.send_stream(parts, text=True)
        client.send("next")  # nothing was sent
        assert server.receive(SOON) == "next"


def test_a_stream_may_mix_both_kinds_of_text():
    with both_ends() as (client, server):
        client.send_stream(["é", b"\xe2", b"\x82\xac", bytearray(b"x"), "y"], text=True)
        assert server.receive(SOON) == "é€xy"


@settings(max_examples=100, deadline=None)
@given(cut_texts, st.lists(st.integers(0, 8), max_size=6))
@example(b"\xf0\x9f\x98\x80", [1, 2, 3])
def test_a_stream_is_checked_as_a_whole_would_be(data, cuts):
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[start:stop] for start, stop in itertools.pairwise(places)]
    with both_ends() as (client, server):
        try:
            text = data.decode()
        except UnicodeDecodeError:
            with pytest.raises(ValueError, match="not UTF-8"):
                client.send_stream(parts, text=True)
        else:
            client.send_stream(parts, text=True)
            assert server.receive(SOON) == text


# -- receiving -------------------------------------------------------------------


@ways
@roles
@looped("text", TEXTS)
def test_text_is_received_as_its_bytes(way, client, text):
    with both_ends(**AS_BYTES, compression_threshold=100, **way) as ends:
        near, far = ends if client else reversed(ends)
        with running(lambda: (near.send(text), near.send_binary([1, 2]))):
            message = far.receive(SOON)
            assert type(message) is bytes
            assert message == text.encode()
            assert far.receive(SOON) == [1, 2]  # a list: so the two are told apart


def test_every_call_that_receives_has_it():
    with both_ends(**AS_BYTES) as (near, far):
        for _ in range(6):
            near.send("é")
        for receive in (far.receive, far.recv):
            assert receive(SOON) == b"\xc3\xa9"
        assert next(far.messages(SOON)) == b"\xc3\xa9"
        assert next(iter(far)) == b"\xc3\xa9"
        assert far.receive_into(bytearray(9), SOON) == b"\xc3\xa9"
        assert far.receive_many(9, SOON) == [b"\xc3\xa9"]


@pytest.mark.parametrize("transport", [Transport, ByMethod])
@pytest.mark.parametrize("cut", [1, 2, 3, 5, 7])
def test_fragments_and_frames_in_pieces(transport, cut):
    data = "é€😀".encode()
    parts = [data[at : at + cut] for at in range(0, len(data), cut)]
    frames = [
        frame(CONTINUATION if at else TEXT, part, fin=at == len(parts) - 1)
        for at, part in enumerate(parts)
    ]
    with raw_peer(transport=transport, **AS_BYTES) as (conn, peer):
        peer.sendall(b"".join(frames))
        assert conn.receive(SOON) == data
        for piece in frames:
            for byte in piece:
                peer.sendall(bytes([byte]))
                with contextlib.suppress(ws.ReceiveTimeout):
                    conn.recv(0) if piece is not frames[-1] else None
        assert conn.receive(SOON) == data


BAD = [b"\xff", b"ok\xc3(", b"\xed\xa0\x80", b"\xc3", b"x" * 200_000 + b"\xff"]


@pytest.mark.parametrize("transport", [Transport, ByMethod])
@roles
@looped("data", BAD)
@looped("cut", [0, 1, 3])
def test_text_that_is_no_utf8_ends_the_connection(transport, client, data, cut):
    with raw_peer(client=client, transport=transport, **AS_BYTES) as (conn, peer):
        mask = not client
        parts = [data] if not cut else [data[:cut], data[cut:]]
        frames = [
            frame(CONTINUATION if at else TEXT, part, fin=at == len(parts) - 1, mask=mask)
            for at, part in enumerate(parts)
        ]
        peer.sendall(frame(TEXT, b"good", mask=mask) + b"".join(frames))
        peer.shutdown(socket.SHUT_WR)  # for which it would wait
        assert conn.recv(SOON) == b"good"
        with pytest.raises(ws.ConnectionClosed) as caught:
            conn.recv(SOON)
        assert caught.value.code == 1007


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([TEXT, TEXT, BINARY]),
            st.one_of(st.text(max_size=40).map(str.encode), cut_texts),
            st.lists(st.integers(0, 40), max_size=2),
        ),
        max_size=5,
    ),
    st.lists(st.integers(1, 30), max_size=8),
)
def test_what_comes_as_bytes_is_what_would_come_as_str(messages, sizes):
    data = b""
    for opcode, payload, cuts in messages:
        places = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
        pairs = list(itertools.pairwise(places))
        for at, (start, stop) in enumerate(pairs):
            opcode_here = CONTINUATION if at else opcode
            data += frame(opcode_here, payload[start:stop], fin=at == len(pairs) - 1)
    data += close_frame()
    came = [received(data, sizes, **options) for options in ({}, AS_BYTES)]
    (texts, code), (encoded, bytes_code) = came
    assert code == bytes_code
    assert [m.encode() if isinstance(m, str) else m for m in texts] == encoded
    assert all(type(message) in (bytes, list) for message in encoded)


def received(data, sizes, **options):
    with raw_peer(**options) as (conn, peer):
        for size in [*sizes, len(data)]:
            peer.sendall(data[:size])
            data = data[size:]
            conn._intake.if_free(lambda: conn._intake.read_some(nap=False))
        peer.shutdown(socket.SHUT_WR)  # for which it would wait
        return list(conn), conn.close_code


# -- what was received for others -------------------------------------------------


@transports
def test_what_a_blocked_sender_reads_is_received_as_any_other(tls):
    with both_ends(tls=tls, **AS_BYTES) as (near, far):
        done = threading.Event()

        def send():
            near.send_text(b"x" * (8 * MIB), timeout=SOON)
            done.set()

        with running(send):
            until(lambda: near._channel.rest is not None)
            for at in range(50):
                far.send("é" * at)
                far.send_binary(bytes([at] * at))
            until(lambda: len(near._link.protocol.unreceived.held) > 10)  # as bytes and as str
            assert far.receive(SOON) == b"x" * (8 * MIB)
            assert done.wait(SOON)
        for at in range(50):
            assert near.receive(SOON) == ("é" * at).encode()
            assert near.receive(SOON) == [at] * at


# Of what is ready before a stream, what comes meanwhile, and in which kind.
KINDS = st.lists(st.booleans(), max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(KINDS, min_size=1, max_size=3), st.lists(KINDS, min_size=3, max_size=3))
@example([[True, False]], [[False, True], [], []])
def test_streams_between_other_messages_mix_up_nothing(before, between):
    """Texts and binary messages of the same bytes, received in turns in two ways."""
    numbers = itertools.count()
    expected = []

    def send(texts):
        for text in texts:
            data = str(next(numbers)).encode()
            expected.append(data if text else list(data))
            server.send_text(data) if text else server.send_binary(data)

    with both_ends(**AS_BYTES) as (client, server):
        for kinds, more in zip(before, between, strict=False):
            send([True, *kinds])
            assert client.recv(SOON) == expected.pop(0)  # and the others are ready
            send([not kinds])
            with client.receive_stream(SOON) as stream:
                send(more)
                text, piece = stream.text, stream.read()
                assert type(piece) is bytes
                assert (piece if text else list(piece)) == expected.pop(0)
            while len(expected) > 1:
                assert client.recv(SOON) == expected.pop(0)
        while expected:
            assert client.recv(SOON) == expected.pop(0)


# -- in parts -------------------------------------------------------------------


@ways
@pytest.mark.parametrize("fragment_size", [7, 64 * KIB])
@pytest.mark.parametrize("size", [1, 5, 70_000, -1])
def test_a_text_is_streamed_as_bytes(way, fragment_size, size):
    text = "a€é😀" * 1000
    with both_ends(**AS_BYTES, **way) as (near, far):
        with (
            running(lambda: near.send_stream([text], text=True, fragment_size=fragment_size)),
            far.receive_stream(SOON) as stream,
        ):
            assert stream.text
            pieces = []
            while piece := stream.read(size):
                pieces.append(piece)
            assert b"".join(pieces) == text.encode()
            assert stream.received == len(text.encode())
        near.send("next")
        assert far.receive(SOON) == b"next"


def test_a_text_is_streamed_into_a_buffer():
    with both_ends(**AS_BYTES) as (near, far):
        near.send("h€llo")
        with far.receive_stream(SOON) as stream:
            buffer = bytearray(20)
            assert stream.readinto(buffer) == 7
            assert buffer[:7] == "h€llo".encode()


@pytest.mark.parametrize("end", [b"\xff", b"\xe2\x82"], ids=["bad", "cut"])
def test_a_streamed_text_is_checked_to_its_end(end):
    with raw_peer(**AS_BYTES) as (conn, peer):
        peer.sendall(frame(TEXT, b"good", fin=False) + frame(CONTINUATION, end))
        pieces = []
        with pytest.raises(ws.ConnectionClosed) as caught, conn.receive_stream(SOON) as stream:
            pieces.extend(stream)
        assert caught.value.code == 1007
        assert b"".join(pieces) in (b"", b"good")


def test_a_buffer_is_for_binary_messages():
    with both_ends(**AS_BYTES) as (near, far):
        near.send("é")
        near.send_binary(b"12")
        buffer = bytearray(b"....")
        assert far.receive_into(buffer, SOON) == b"\xc3\xa9"
        assert buffer == b"...."
        assert far.receive_into(buffer, SOON) == 2
        assert buffer == b"12.."


# -- everywhere -------------------------------------------------------------------


def test_a_large_text_is_not_copied_once_it_is_there():
    text = "é" * (4 * MIB)
    with both_ends(**AS_BYTES) as (near, far), running(lambda: near.send(text)):
        assert far.receive(SOON) == text.encode()


def test_wait_names_a_connection_whose_text_is_bytes():
    with both_ends(**AS_BYTES) as (near, far):
        assert ws.wait([far], 0) == []
        near.send("")
        assert ws.wait([far], SOON) == [far]
        assert far.receive(0) == b""


@pytest.mark.parametrize("kind", [int, "bytes", list, None])
def test_what_text_is_not_received_as(kind):
    with pytest.raises(ValueError, match="text_type has to be str or bytes"):
        ws.pair(text_type=kind)


def test_both_kinds_as_bytes_are_refused():
    with pytest.raises(ValueError, match=r"look the same\. Leave one of the two out"):
        ws.pair(text_type=bytes, binary_type=bytes)
