"""Messages while they come and go: receive_stream, send_stream, receive_into."""

import contextlib
import io
import os
import random
import socket
import sys
import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scriptling_ws as ws
from cases import named
from frames import close_frame, frame
from memory import tracemalloc
from pairs import (
    KIB,
    MIB,
    SOON,
    Interrupt,
    both_ends,
    connection,
    raw_peer,
    receive_frame,
    receive_to_end,
    roles,
    running,
    stand_in,
    tcp_pair,
    transports,
    until,
)
from scriptling_ws._connection.unsent import Unsent
from scriptling_ws._handshakes.terms import Terms
from scriptling_ws._wire.piecemeal import Piecemeal

CONTINUATION, TEXT, BINARY, PING, PONG = 0, 1, 2, 9, 10
TERMS = Terms(
    client_no_context_takeover=False,
    server_no_context_takeover=False,
    client_max_window_bits=15,
    server_max_window_bits=15,
)
ways = pytest.mark.parametrize(
    "way", [{}, {"tls": True}, {"deflate": TERMS}], ids=["tcp", "tls", "deflate"]
)
SAMPLE = random.Random(7).randbytes(300 * KIB) + bytes(200 * KIB)


def pieces_of(stream, sizes):
    """Reads a stream to its end, by so many bytes or characters at a time."""
    pieces = []
    while piece := stream.read(sizes[len(pieces) % len(sizes)]):
        pieces.append(piece)
    return pieces


# -- both ways -------------------------------------------------------------------


@ways
@roles
@pytest.mark.parametrize("fragment_size", [1000, 64 * KIB, 1000_000])
def test_what_a_stream_sends_is_what_receive_gets(way, client, fragment_size):
    with both_ends(binary_type=bytes, **way) as ends:
        near, far = ends if client else reversed(ends)
        with running(lambda: near.send_stream(io.BytesIO(SAMPLE), fragment_size=fragment_size)):
            assert far.receive(SOON) == SAMPLE
        near.send("next")
        assert far.receive(SOON) == "next"


@ways
@roles
@pytest.mark.parametrize("sizes", [[1, 70_000, 3], [500 * KIB], [-1]], ids=["odd", "all", "rest"])
def test_a_message_that_is_one_frame_is_streamed(way, client, sizes):
    with both_ends(**way) as ends:
        near, far = ends if client else reversed(ends)
        with running(lambda: near.send_binary(SAMPLE)), far.receive_stream(SOON) as stream:
            assert (stream.text, stream.binary) == (False, True)
            assert stream.total == (None if "deflate" in way else len(SAMPLE))
            assert b"".join(pieces_of(stream, sizes)) == SAMPLE
            assert stream.read() == stream.read(5) == b""
        near.send("next")
        assert far.receive(SOON) == "next"


@ways
@roles
def test_a_text_goes_through_two_streams(way, client):
    text = "aé€😀" * 20_000
    with both_ends(**way) as ends:
        near, far = ends if client else reversed(ends)
        parts = [text[at : at + 777] for at in range(0, len(text), 777)]
        send = running(lambda: near.send_stream(parts, text=True, fragment_size=1001))
        with send, far.receive_stream(SOON) as stream:
            assert stream.text
            assert stream.total is None
            assert "".join(stream) == text


@pytest.mark.parametrize("source", [b"", [], io.BytesIO(), [b"", b""], iter(())], ids=named)
def test_an_empty_source_is_an_empty_message(source):
    with both_ends(binary_type=bytes) as (client, server):
        client.send_stream(source)
        with server.receive_stream(SOON) as stream:
            assert list(stream) == []
        client.send_stream("", text=True)
        assert server.receive(SOON) == ""


def test_parts_of_all_kinds_are_sent():
    with both_ends(binary_type=bytes) as (client, server):
        client.send_stream([b"ab", bytearray(b"cd"), [101, 102], memoryview(b"gh")])
        assert server.receive(SOON) == b"abcdefgh"
        client.send_stream(io.StringIO("line\nline\n"), text=True)
        assert server.receive(SOON) == "line\nline\n"


FRAGMENTED = st.lists(st.binary(max_size=40), min_size=1, max_size=8)


@roles
@settings(max_examples=60, deadline=None)
@given(parts=FRAGMENTED, sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4), cut=st.data())
def test_any_fragments_come_out_by_any_sizes(client, parts, sizes, cut):
    data = b"".join(
        frame(
            CONTINUATION if number else BINARY,
            part,
            fin=number == len(parts) - 1,
            mask=not client,
        )
        + (frame(PING, b"p", mask=not client) if cut.draw(st.booleans()) else b"")
        for number, part in enumerate(parts)
    )
    with raw_peer(client=client) as (conn, far):
        at = cut.draw(st.integers(0, len(data)))
        far.sendall(data[:at])
        conn.connected()
        far.sendall(data[at:] + frame(TEXT, b"next", mask=not client))
        with conn.receive_stream(SOON) as stream:
            pieces = pieces_of(stream, sizes)
        assert b"".join(pieces) == b"".join(parts)
        assert [len(piece) for piece in pieces[:-1]] == [
            sizes[number % len(sizes)] for number in range(len(pieces) - 1)
        ]
        assert conn.receive(SOON) == "next"


@roles
@settings(max_examples=40, deadline=None)
@given(
    text=st.text(max_size=60),
    cuts=st.lists(st.integers(0, 200), max_size=5),
    size=st.integers(1, 9),
)
def test_any_cut_text_comes_out_whole(client, text, cuts, size):
    whole = text.encode()
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    with raw_peer(client=client) as (conn, far):
        for number, (start, stop) in enumerate(pairwise(edges)):
            opcode = CONTINUATION if number else TEXT
            last = number == len(edges) - 2
            far.sendall(frame(opcode, whole[start:stop], fin=last, mask=not client))
        with conn.receive_stream(SOON) as stream:
            assert "".join(pieces_of(stream, [size])) == text


# -- receiving -------------------------------------------------------------------


def test_a_timeout_loses_nothing():
    with raw_peer() as (conn, far):
        with pytest.raises(ws.ReceiveTimeout, match="no message has begun within 0 seconds"):
            conn.receive_stream(0).__enter__()
        far.sendall(frame(BINARY, b"abc", fin=False))
        with conn.receive_stream(0.05) as stream:
            with pytest.raises(TimeoutError, match="no more of the message has come"):
                stream.read(4)
            assert stream.read(2) == b"ab"
            with pytest.raises(TimeoutError):
                stream.read()
            far.sendall(frame(CONTINUATION, b"def"))
            assert stream.read() == b"cdef"


def test_messages_that_came_before_and_come_behind_keep_their_order():
    with raw_peer() as (conn, far):
        far.sendall(b"".join(frame(TEXT, b"%d" % number) for number in range(6)))
        assert conn.receive(SOON) == "0"
        with conn.receive_stream(SOON) as stream:
            assert stream.read() == "1"
        far.sendall(frame(BINARY, b"\x07"))
        with conn.receive_stream(SOON):
            pass  # "2" is not wanted
        with conn.receive_stream(SOON) as stream:
            assert stream.read() == "3"
        assert [conn.receive(SOON) for _ in range(3)] == ["4", "5", [7]]


def test_lists_stay_lists_behind_a_stream_and_bytes_bytes():
    for kind, expected in ((list, [1, 2]), (bytes, b"\1\2")):
        with raw_peer(binary_type=kind) as (conn, far):
            far.sendall(frame(BINARY, b"\0") + frame(BINARY, b"\1\2") * 2)
            assert conn.receive(SOON) is not None
            with conn.receive_stream(SOON) as stream:
                assert stream.read() == b"\1\2"
            assert conn.receive(SOON) == expected


def test_while_a_stream_is_open_nothing_else_is_received():
    with raw_peer() as (conn, far):
        far.sendall(frame(TEXT, b"one") * 3)
        assert conn.receive(SOON) == "one"
        with conn.receive_stream(SOON) as stream:
            for call in (conn.receive, conn.receive_many, lambda: next(iter(conn))):
                with pytest.raises(RuntimeError, match="leave its with block"):
                    call()
            with pytest.raises(RuntimeError, match="leave it first"):
                conn.receive_stream(0).__enter__()
            with pytest.raises(RuntimeError, match="leave it first"):
                conn.receive_into(bytearray(9), 0)
            assert stream.read() == "one"
            assert conn.connected()
        assert conn.receive(SOON) == "one"
        for call in (stream.read, lambda: stream.readinto(bytearray(9)), lambda: next(stream)):
            with pytest.raises(ValueError, match="inside of its with block"):
                call()


@roles
@pytest.mark.parametrize("read", [-1, 2, 0], ids=["all", "some", "none"])
def test_what_is_known_of_a_message_stays_known_after_the_block(client, read):
    with raw_peer(client=client) as (conn, far):
        far.sendall(frame(TEXT, b"text", mask=not client))
        stream = conn.receive_stream(SOON)
        for name in ("text", "binary", "total"):
            with pytest.raises(ValueError, match="inside of its with block"):
                getattr(stream, name)
        assert stream.received == 0
        with stream:
            count = len(stream.read(read))
            facts = stream.text, stream.binary, stream.total, stream.received
        assert facts == (True, False, 4, count)
        assert (stream.text, stream.binary, stream.total, stream.received) == facts
        far.sendall(frame(BINARY, b"in ", fin=False, mask=not client))
        with stream:  # and then those of the next one
            far.sendall(frame(CONTINUATION, b"two", mask=not client))
            assert stream.read() == b"in two"
        assert (stream.text, stream.binary, stream.total) == (False, True, None)
        assert stream.received == 6


@ways
@roles
def test_what_is_left_is_dropped_as_it_comes(way, client):
    with both_ends(**way) as ends:
        near, far = ends if client else reversed(ends)
        with running(lambda: [near.send_stream(SAMPLE, fragment_size=999), near.send("next")]):
            with far.receive_stream(SOON) as stream:
                assert stream.read(10) == SAMPLE[:10]
            assert far.receive(SOON) == "next"


def test_a_stream_can_follow_one_that_was_left():
    with raw_peer() as (conn, far):
        far.sendall(frame(BINARY, b"abc", fin=False))
        with conn.receive_stream(SOON) as stream:
            assert stream.read(1) == b"a"
        far.sendall(frame(CONTINUATION, b"def") + frame(BINARY, b"next"))
        with conn.receive_stream(SOON) as stream:
            assert stream.read() == b"next"


def test_a_message_is_received_into_a_buffer_behind_one_that_was_left():
    with raw_peer() as (conn, far):
        far.sendall(frame(BINARY, b"abc", fin=False))
        with conn.receive_stream(SOON):
            pass
        assert conn.receive_into(bytearray(9), 0) is None
        far.sendall(frame(CONTINUATION, b"def") + frame(BINARY, b"next"))
        room = bytearray(4)
        assert conn.receive_into(room, SOON) == 4
        assert room == b"next"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(CONTINUATION, b"\xc3\xa9\xff", fin=False), 1007),
        (frame(CONTINUATION, b"\xe2\x82"), 1007),
        (frame(TEXT, b"new"), 1002),
        (frame(CONTINUATION, bytes(100), fin=False), 1009),
        (b"".join(frame(CONTINUATION, b"x", fin=False) for _ in range(20)), 1008),
        (frame(CONTINUATION, b"", fin=False) * 20, 1008),
    ],
    ids=["utf-8", "cut", "inside", "large", "fragments", "empty"],
)
def test_what_breaks_a_message_ends_its_stream(bad, code):
    with raw_peer(max_message_size=100, max_fragments=10) as (conn, far):
        far.sendall(frame(TEXT, b"good ", fin=False))
        with conn.receive_stream(SOON) as stream:
            assert stream.read(1) == "g"
            far.sendall(bad)
            with pytest.raises(ws.ConnectionClosed) as caught:
                stream.read(1000)
            assert caught.value.code == code
            assert isinstance(caught.value.__cause__, ws.ProtocolError)
            assert stream.read(4) == "ood "  # what has come before can still be read
        assert not conn.connected()


@pytest.mark.parametrize("goodbye", [close_frame(1001), b""], ids=["close", "leaves"])
def test_a_peer_that_leaves_half_way_ends_the_stream(goodbye):
    with raw_peer() as (conn, far):
        far.sendall(frame(BINARY, b"half", fin=False) + goodbye)
        far.close()
        with conn.receive_stream(SOON) as stream:
            assert next(iter(stream)) == b"half"
            with pytest.raises(ws.ConnectionClosed):
                stream.read(1)
        with pytest.raises(ws.ConnectionClosed):
            conn.receive_stream(SOON).__enter__()


def test_close_wakes_a_stream_that_waits():
    with raw_peer(close_timeout=0.1) as (conn, far):
        far.sendall(frame(BINARY, b"half", fin=False))
        with (
            conn.receive_stream(None) as stream,
            running(conn.close),
            pytest.raises(ws.ConnectionClosed),
        ):
            stream.read()


@pytest.mark.threads  # a socket that two of them use
def test_pings_inside_a_stream_are_answered_and_do_not_prolong_a_timeout():
    with raw_peer() as (conn, far):
        far.sendall(frame(BINARY, b"a", fin=False) + frame(PING, b"1"))
        stop = threading.Event()

        def ping():
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    far.sendall(frame(PING, b"more") * 100)

        with conn.receive_stream(0.1) as stream:
            with pytest.raises(TimeoutError):
                stream.read(2)
            assert receive_frame(far)[-1] == b"1"
            with running(ping, lambda: receive_to_end(far)):
                try:
                    with pytest.raises(TimeoutError):
                        stream.read(2)
                finally:
                    stop.set()
                    far.shutdown(socket.SHUT_RDWR)  # which ends a `sendall` that waits


def test_an_interrupted_read_goes_on():
    with raw_peer() as (conn, far):
        far.sendall(frame(BINARY, b"abc", fin=False))
        with conn.receive_stream(SOON) as stream:
            calls = []

            def wait(*_):
                calls.append(1)
                raise Interrupt

            restore = stand_in(conn._link.transport, wait=wait)
            with pytest.raises(Interrupt):
                stream.read(5)
            restore()
            far.sendall(frame(CONTINUATION, b"def"))
            assert stream.read(5) == b"abcde"


def test_progress_counts_bytes_of_both_directions():
    with both_ends() as (client, server):
        sent, received = [], []
        source = io.BytesIO(b"x" + SAMPLE)
        source.read(1)
        with running(lambda: client.send_stream(source, progress=lambda *args: sent.append(args))):
            stream = server.receive_stream(SOON, progress=lambda *args: received.append(args))
            with stream:
                assert len(stream.read()) == len(SAMPLE)
        assert sent[0] == (64 * KIB, len(SAMPLE))
        assert sent[-1] == (len(SAMPLE), len(SAMPLE))
        assert received == [(len(SAMPLE), None)]
        client.send("é€")
        with server.receive_stream(SOON, progress=lambda *args: received.append(args)) as stream:
            assert stream.read(1) == "é"
            assert stream.received == 2
        assert received[-1] == (2, 5)
        client.send_stream(iter([b"ab"]), progress=lambda *args: sent.append(args))
        client.send_stream(io.StringIO("é"), text=True, progress=lambda *args: sent.append(args))
        assert sent[-2:] == [(2, None), (2, None)]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 6, 7])
@pytest.mark.parametrize("known", [True, False])
def test_progress_tells_each_number_once(size, known):
    source = bytes(size) if known else iter([bytes(size)])
    with both_ends() as (client, server):
        told = []
        client.send_stream(source, fragment_size=3, progress=lambda *args: told.append(args))
        assert server.receive(SOON) == [0] * size
    numbers = sorted({min(number, size) for number in (3, 6, size)} - {0} or {0})
    assert told == [(number, size if known else None) for number in numbers]


def test_all_bytes_are_told_when_the_message_is_out():
    with both_ends() as (client, server):
        received = []
        client.send_stream(
            io.BytesIO(b"abcdef"),
            fragment_size=3,
            progress=lambda done, total: received.append(
                (done, server.receive(SOON * (done == 6)))
            ),
        )
        assert received == [(3, None), (6, list(b"abcdef"))]


def test_progress_of_a_file_that_grows_goes_on():
    class Growing(io.BytesIO):
        def read(self, size=-1):
            piece = super().read(size)
            if self.tell() == 3:
                self.write(b"def")
                self.seek(3)
            return piece

    with both_ends() as (client, server):
        told = []
        client.send_stream(
            Growing(b"abc"), fragment_size=3, progress=lambda *args: told.append(args)
        )
        assert told == [(6, 3)]
        assert server.receive(SOON) == list(b"abcdef")


def test_readinto_fills_a_buffer():
    with both_ends() as (client, server):
        with running(lambda: client.send_stream(SAMPLE)), server.receive_stream(SOON) as stream:
            room = bytearray(400 * KIB)
            assert stream.readinto(room) == len(room)
            assert room == SAMPLE[: len(room)]
            assert stream.readinto(room) == 100 * KIB
            assert stream.readinto(room) == 0
            with pytest.raises(TypeError, match="cannot be written"):
                stream.readinto(b"const")
        client.send("text")
        with server.receive_stream(SOON) as stream, pytest.raises(TypeError, match="use read"):
            stream.readinto(room)


@pytest.mark.parametrize("way", [{}, {"deflate": TERMS}], ids=["plain", "deflate"])
@pytest.mark.parametrize("fragmented", [True, False], ids=["fragments", "frame"])
def test_a_large_stream_takes_little_memory(way, fragmented):
    size = (8 if way else 64) * MIB
    with both_ends(max_message_size=size, **way) as (client, server):
        block = random.Random(3).randbytes(64 * KIB)
        source = [block] * (size // len(block))
        whole = b"" if fragmented else b"".join(source)
        send = (
            (lambda: client.send_stream(source))
            if fragmented
            else (lambda: client.send_binary(whole, compress=False))
        )
        tracemalloc.start()
        try:
            with running(send), server.receive_stream(SOON) as stream:
                total = sum(map(len, stream))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert total == size
        assert peak < 4 * MIB


def test_a_timeout_of_readinto_or_of_a_turn_loses_nothing():
    with raw_peer() as (conn, far):
        far.sendall(frame(BINARY, b"abc", fin=False))
        room = bytearray(5)
        with conn.receive_stream(0.05) as stream:
            with pytest.raises(TimeoutError):
                stream.readinto(room)
            assert stream.received == 0
            pieces = iter(stream)
            assert next(pieces) == b"abc"
            with pytest.raises(TimeoutError):
                next(pieces)
            far.sendall(frame(CONTINUATION, b"defg", fin=False))
            assert next(pieces) == b"defg"
            far.sendall(frame(CONTINUATION, b"hijklm"))
            assert stream.readinto(room) == 5
            assert room == b"hijkl"
            assert stream.readinto(bytearray()) == 0
            assert list(pieces) == [b"m"]
        assert stream.received == 13


def test_a_stream_that_is_open_is_not_begun_again():
    with raw_peer() as (conn, far):
        far.sendall(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(TEXT, b"three"))
        stream = conn.receive_stream(SOON)
        with stream:
            with pytest.raises(RuntimeError, match="leave it first"):
                stream.__enter__()
            assert stream.read(1) == "o"
        with stream:  # the next message
            assert (stream.read(), stream.received) == ("two", 3)
        assert conn.receive(SOON) == "three"


@pytest.mark.threads
def test_what_comes_while_something_is_taken_is_counted():
    message = Piecemeal()
    message.text = False
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with running(lambda: [message.add(b"x") for _ in range(50_000)]):
            taken = 0
            while taken < 50_000:
                taken += len(message.take(message.first()))
                assert message.size >= 0
    finally:
        sys.setswitchinterval(before)
    assert message.size == 0
    assert message.received == 50_000


@pytest.mark.parametrize("begun", [False, True], ids=["first", "second"])
def test_what_a_servers_shutdown_leaves_is_streamed(begun):
    with raw_peer(binary_type=bytes, close_timeout=0.1) as (conn, far):
        far.sendall(frame(BINARY, b"one") + frame(BINARY, b"two") + frame(TEXT, b"three"))
        assert conn.receive(SOON) == b"one"
        with contextlib.ExitStack() as stack:
            if begun:
                stream = stack.enter_context(conn.receive_stream(SOON))
            conn._begin_close(1001)
            if not begun:
                stream = stack.enter_context(conn.receive_stream(SOON))
            assert stream.read() == b"two"
        assert conn.receive_into(bytearray(9), SOON) == "three"
        assert conn.receive_into(bytearray(9), SOON) is None
        with pytest.raises(ws.ConnectionClosed):
            conn.receive_stream(SOON).__enter__()


def test_close_drops_what_a_stream_could_begin_with():
    with raw_peer(close_timeout=0.1) as (conn, far):
        far.sendall(frame(TEXT, b"one") + frame(TEXT, b"two"))
        assert conn.receive(SOON) == "one"
        far.close()
        conn.close()
        with pytest.raises(ws.ConnectionClosed):
            conn.receive_stream(SOON).__enter__()
        assert conn.receive_into(bytearray(9), SOON) is None


# -- sending ---------------------------------------------------------------------


def test_other_messages_wait_for_a_streams_end_and_pings_do_not():
    with both_ends() as (client, server):
        go = threading.Event()

        def source():
            yield b"a" * 100
            assert go.wait(SOON)
            yield b"b" * 50

        with running(
            lambda: client.send_stream(source(), fragment_size=100),
            lambda: [until(lambda: client.stats().frames_sent), client.send("behind")],
            lambda: [until(lambda: client.stats().frames_sent), client.send_binary(b"too")],
        ):
            with server.receive_stream(SOON) as stream:
                assert stream.read(100) == b"a" * 100
                with running(lambda: [client.receive(0.2) for _ in range(3)]):
                    assert server.ping(SOON) is not None  # answered between the fragments
                go.set()
                assert stream.read() == b"b" * 50
            rest = [server.receive(SOON), server.receive(SOON)]
        assert sorted(rest, key=str) == [[116, 111, 111], "behind"]
        client.send("quick again")
        assert client._channel.rest is None
        assert server.receive(SOON) == "quick again"


def test_who_waits_behind_a_stream_hears_of_its_timeout():
    with both_ends(send_timeout=0.2) as (client, server):
        go = threading.Event()

        def source():
            yield b"a" * 100
            go.wait(SOON)

        with running(lambda: client.send_stream(source(), fragment_size=100)):
            until(lambda: client.stats().frames_sent)
            for call in (client.send, lambda text: client.send_stream(text, text=True)):
                with pytest.raises(ws.SendTimeout, match="took all of send_timeout"):
                    call("never")
            with pytest.raises(ws.SendTimeout, match="took all of the timeout"):
                client.send("never", timeout=0)
            go.set()
        assert server.receive(SOON) == [97] * 100
        client.send("now")
        assert server.receive(SOON) == "now"


def test_a_sender_in_front_of_a_stream_is_part_of_its_timeout():
    with raw_peer(send_timeout=0.1) as (conn, far):
        late = pytest.raises(ws.SendTimeout, match="took all of send_timeout")
        with conn._outlet.lock, late:  # as a sender has it
            conn.send_stream(b"never")
        conn.send("next")
        assert receive_frame(far) == (0x81, b"next")


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_source_that_fails_half_way_closes_the_connection(kind):
    with both_ends() as (client, server):

        def source():
            yield b"a" * 100
            raise kind("of the source")

        with pytest.raises(kind, match="of the source"):
            client.send_stream(source(), fragment_size=100)
        with server.receive_stream(SOON) as stream:
            assert stream.read(100) == b"a" * 100
            with pytest.raises(ws.ConnectionClosed) as caught:
                stream.read()
        assert caught.value.code == 1011
        with pytest.raises(ws.ConnectionClosed):
            client.send("more")


def test_a_source_that_fails_at_once_changes_nothing():
    with both_ends() as (client, server):

        def source():
            yield b"a" * 99
            raise ValueError("of the source")

        with pytest.raises(ValueError, match="of the source"):
            client.send_stream(source(), fragment_size=100)
        client.send("still here")
        assert server.receive(SOON) == "still here"


def test_progress_that_fails_after_the_end_changes_nothing():
    with both_ends() as (client, server):

        def fail(done, total):
            raise ValueError(f"{done} of {total}")

        with pytest.raises(ValueError, match="2 of 2"):
            client.send_stream(b"ab", progress=fail)
        client.send("next")
        assert server.receive(SOON) == [97, 98]
        assert server.receive(SOON) == "next"


def test_a_source_may_not_send_itself():
    with both_ends() as (client, server):

        def source():
            yield b"a" * 100
            for call in (lambda: client.send("x"), lambda: client.send_stream(b"x")):
                with pytest.raises(RuntimeError, match="may not send another"):
                    call()
            yield b"b"

        client.send_stream(source(), fragment_size=100)
        assert server.receive(SOON) == [97] * 100 + [98]


def test_a_peer_that_does_not_read_ends_a_stream():
    near, far = tcp_pair(buffer=32 * KIB)
    with contextlib.closing(far):
        conn = connection(near, send_timeout=0.2, close_timeout=0.1)
        with contextlib.closing(conn):
            with pytest.raises(ws.SendTimeout):
                conn.send_stream(bytes(4 * MIB))
            with pytest.raises(ws.ConnectionClosed):
                conn.send("more")


def test_a_peer_that_closes_meanwhile_ends_a_stream():
    with both_ends() as (client, server):

        def source():
            yield b"a" * 100
            server._begin_close(1001, "going")
            until(lambda: not client.connected())
            yield b"b" * 100

        with pytest.raises(ws.ConnectionClosed) as caught:
            client.send_stream(source(), fragment_size=100)
        assert caught.value.code == 1001


def test_two_ends_that_both_stream_first_do_not_wait_for_each_other():
    data = os.urandom(2 * MIB)
    with both_ends(binary_type=bytes) as (client, server):
        with running(lambda: client.send_stream(data), lambda: server.send_stream(data)):
            pass
        assert client.receive(SOON) == server.receive(SOON) == data


def test_an_interrupt_inside_a_fragment_leaves_whole_frames():
    near, far = tcp_pair(buffer=32 * KIB)
    far.settimeout(SOON)
    conn = connection(near)
    with contextlib.closing(far), contextlib.closing(conn):

        def wait(*_, **__):
            raise Interrupt

        restore = stand_in(conn._link.transport, wait=wait)
        with pytest.raises(Interrupt):
            conn.send_stream(bytes(8 * MIB), fragment_size=4 * MIB)
        restore()
        with running(conn.close):
            first, payload = receive_frame(far)
            assert (first, len(payload)) == (BINARY, 4 * MIB)
            first, payload = receive_frame(far)
            assert (first, payload[:2]) == (0x88, (1011).to_bytes(2, "big"))
            far.close()


def test_a_rooms_message_waits_for_a_streams_end():
    room = ws.room("streams")
    with both_ends(binary_type=bytes) as (client, server):
        room.join(server)
        go = threading.Event()

        def source():
            yield b"a" * 100
            assert go.wait(SOON)

        with running(lambda: server.send_stream(source(), fragment_size=100)):
            until(lambda: server.stats().frames_sent)  # its first fragment
            room.send("to all")
            go.set()
        assert client.receive(SOON) == b"a" * 100
        assert client.receive(SOON) == "to all"
        room.leave(server)


def streamed(conn, seed):
    """Sends ten messages in parts, and returns them."""
    chance = random.Random(seed)
    sent = []
    for _ in range(10):
        parts = [chance.randbytes(chance.randrange(3000)) for _ in range(chance.randrange(9))]
        conn.send_stream(parts, fragment_size=chance.randrange(1, 4000))
        sent.append(b"".join(parts))
    return sent


def sent_whole(conn, seed):
    """Sends ten messages, and returns them."""
    chance = random.Random(seed)
    sent = [chance.randbytes(chance.randrange(200_000)) for _ in range(10)]
    for message in sent:
        conn.send_binary(message)
    return sent


def received(conn, count):
    """Receives messages by one call or the other, and returns them."""
    chance, came, room = random.Random(count), [], bytearray(200_000)
    while len(came) < count:
        way = chance.randrange(3)
        if way == 0:
            came.append(conn.receive(SOON))
        elif way == 1:
            with conn.receive_stream(SOON) as stream:
                came.append(b"".join(pieces_of(stream, [1, chance.randrange(1, 5000)])))
        elif (size := conn.receive_into(room, chance.choice([0, SOON]))) is not None:
            came.append(bytes(room[:size]))
    return came


@ways
def test_many_send_at_once_and_nothing_is_mixed(way):
    with both_ends(binary_type=bytes, **way) as ends:
        sent, came = {end: [] for end in ends}, {}

        def send(call, end, seed):
            sent[end] += call(end, seed)

        with running(
            *(
                lambda call=call, end=end, seed=seed: send(call, end, seed)
                for end in ends
                for seed, call in enumerate([streamed, streamed, sent_whole])
            ),
            *(lambda end=end: came.update({end: received(end, 30)}) for end in ends),
        ):
            pass
        for near, far in (ends, reversed(ends)):
            assert sorted(came[far]) == sorted(sent[near])


@pytest.mark.parametrize(
    ("source", "text", "error"),
    [
        (5, False, "a file, bytes or an iterable of bytes, not int"),
        (
            [5],
            False,
            "^send_stream.* as a part a list or tuple of ints, or a bytes-like object, not int",
        ),
        ({"a": 1}, True, "a file, str or bytes or an iterable of str or bytes, not dict"),
        ("text", False, "send text by text=True"),
        (["text"], False, "send text by text=True"),
        ([5], True, "takes str, or bytes of UTF-8, not int: leave text=True out"),
        (io.BytesIO(b"\xff"), True, "not UTF-8"),
        ([[256]], False, "256"),
        (["\ud800"], True, "surrogate"),
    ],
    ids=named,
)
def test_what_cannot_be_streamed_is_refused_before_anything_is_sent(source, text, error):
    with both_ends() as (client, server):
        with pytest.raises((TypeError, ValueError), match=error):
            client.send_stream(source, text)
        with pytest.raises(ValueError, match="fragment_size"):
            client.send_stream(b"", fragment_size=0)
        with pytest.raises(TypeError, match="progress has to be"):
            client.send_stream(b"", progress=5)
        with pytest.raises(TypeError, match="progress has to be"):
            client.receive_stream(progress=5)
        client.send("next")
        assert server.receive(SOON) == "next"


def unsent_watched(monkeypatch, conn):
    """Notes the changes of what is unsent that are made without the lock."""
    unsent, bare = conn._link.unsent, []
    for name in ("rest", "fragmented"):
        plain = getattr(Unsent, name)

        def change(self, value, plain=plain, name=name):
            if self is unsent and not conn._outlet.lock.locked():
                bare.append(name)
            plain.__set__(self, value)

        monkeypatch.setattr(Unsent, name, property(plain.__get__, change))
    return bare


@roles
def test_what_is_unsent_is_changed_under_its_lock_alone(monkeypatch, client):
    with both_ends(send_timeout=0.1) as ends:
        near, far = ends if client else reversed(ends)
        bare, quick = unsent_watched(monkeypatch, near), []

        def done(sent, total):
            if sent == total:
                quick.append(near._channel.rest is None)

        near.send_stream(b"abc", fragment_size=1, progress=done)
        assert far.receive(SOON) == [97, 98, 99]
        with stuck(near):
            with pytest.raises(ws.SendTimeout):
                near.send_stream(b"never")
            assert near._channel.rest is None
        near.send("next")
        assert far.receive(SOON) == "next"
        with pytest.raises(ValueError, match="abc"):
            near.send_stream(failing(), fragment_size=1)
        assert bare == []
        assert quick[-1]


def failing():
    yield b"xy"
    raise ValueError("abc")


@contextlib.contextmanager
def stuck(conn):
    """The system takes nothing."""
    restore = stand_in(
        conn._link.transport, write=lambda _: 0, wait=lambda *_, **__: None, flush=lambda: True
    )
    try:
        yield
    finally:
        restore()


@pytest.mark.parametrize("call", ["send", "send_stream"])
def test_an_interrupt_of_giving_up_lets_no_message_follow_half_of_one(call):
    with both_ends(send_timeout=0.1) as (client, server):

        def start(*_, **__):
            raise Interrupt

        restore = stand_in(client._closer, start=start)
        with pytest.raises(Interrupt):
            client.send_stream(failing(), fragment_size=1)
        restore()
        with pytest.raises((ws.SendTimeout, ws.ConnectionClosed)):
            getattr(client, call)(b"more" if call == "send_stream" else "more")
        client._begin_close(1011)
        with server.receive_stream(SOON) as stream:
            assert stream.read(2) == b"xy"
            with pytest.raises(ws.ConnectionClosed) as caught:
                stream.read()
        assert caught.value.code == 1011


# -- receive_into ------------------------------------------------------------------


@ways
@roles
@pytest.mark.parametrize("size", [0, 1, 126, 5000, 70_000, 500 * KIB])
def test_a_message_is_received_into_a_buffer(way, client, size):
    with both_ends(**way) as ends:
        near, far = ends if client else reversed(ends)
        room = bytearray(size)
        for send in (near.send_binary, lambda data: near.send_stream(data, fragment_size=5000)):
            with running(lambda send=send: [send(SAMPLE[:size]), near.send("text")]):
                assert far.receive_into(room, SOON) == size
                assert room == SAMPLE[:size]
                room[:] = bytes(size)
                assert far.receive_into(room, SOON) == "text"
                assert room == bytes(size)
        assert far.receive_into(room, 0) is None


@transports
def test_a_large_message_is_received_without_a_copy(tls):
    data = os.urandom(8 * MIB)
    with both_ends(tls=tls) as (client, server):
        room = bytearray(len(data))
        tracemalloc.start()
        try:
            with running(lambda: client.send_binary(data)):
                assert server.receive_into(room, SOON) == len(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert room == data
        assert peak < 2 * MIB


@pytest.mark.parametrize("size", [10, 70_000, 500 * KIB])
def test_what_does_not_fit_stays_the_next_message(size):
    with both_ends(binary_type=bytes) as (client, server):
        with running(lambda: [client.send_binary(SAMPLE[:size]), client.send("next")]):
            for _ in range(2):
                with pytest.raises(BufferError, match=f"{size} bytes, and the buffer {size - 1}"):
                    server.receive_into(bytearray(size - 1), SOON)
            with server.receive_stream(SOON) as stream:
                assert stream.read() == SAMPLE[:size]
        assert server.receive(SOON) == "next"


@roles
@pytest.mark.parametrize("came", [0, 1, 5_000, 150_000])
def test_a_message_that_is_late_leaves_the_buffer_and_is_not_lost(client, came):
    data = SAMPLE[: 200 * KIB]
    whole = frame(BINARY, data, mask=not client)
    with raw_peer(client=client, binary_type=bytes) as (conn, far):
        far.sendall(whole[:came])
        room = bytearray(len(data))
        assert conn.receive_into(room, 0.05) is None
        room[:] = bytes(len(data))
        far.sendall(whole[came:])
        assert conn.receive(SOON) == data
        assert not any(room)


def test_an_interrupt_leaves_the_buffer_too():
    whole = frame(BINARY, SAMPLE)
    with raw_peer(binary_type=bytes) as (conn, far):
        far.sendall(whole[:100_000])

        def wait(*_):
            raise Interrupt

        restore = stand_in(conn._link.transport, wait=wait)
        with pytest.raises(Interrupt):
            conn.receive_into(bytearray(len(SAMPLE)), SOON)
        restore()
        with running(lambda: far.sendall(whole[100_000:])):
            assert conn.receive(SOON) == SAMPLE


@pytest.mark.parametrize(
    ("buffer", "error"),
    [
        (b"const", "writable"),
        ("str", "not str"),
        (5, "not int"),
        (memoryview(bytearray(9))[::2], "contiguous"),
    ],
    ids=named,
)
def test_what_cannot_be_received_into_is_refused(buffer, error):
    with raw_peer() as (conn, far):
        far.sendall(frame(BINARY, b"abc"))
        with pytest.raises(TypeError, match=error):
            conn.receive_into(buffer)
        with pytest.raises(ValueError, match="timeout"):
            conn.receive_into(bytearray(1), -1)
        assert conn.receive(SOON) == [97, 98, 99]


def test_a_closed_connection_gives_nothing_into_a_buffer():
    with raw_peer() as (conn, far):
        far.sendall(frame(BINARY, b"ab") + close_frame())
        assert conn.receive_into(bytearray(2), SOON) == 2
        assert conn.receive_into(bytearray(2), SOON) is None
        assert not conn.connected()


@pytest.mark.threads
def test_a_receiver_beside_receive_into_waits_for_its_turn():
    with raw_peer(binary_type=bytes) as (conn, far):
        read, take = conn._intake.read, conn._reader._take
        inside, go, looked = threading.Event(), threading.Event(), threading.Event()

        def slowly(*args, **kwargs):
            count = read(*args, **kwargs)
            inside.set()
            assert go.wait(SOON)
            return count

        def look():
            try:
                return take()
            finally:
                looked.set()

        stand_in(conn._reader, _take=look)
        restore = stand_in(conn._intake, read=slowly)
        with running(lambda: conn.receive_into(bytearray(9), SOON)) as (first,):
            far.sendall(frame(TEXT, b"one") + frame(TEXT, b"two"))
            assert inside.wait(SOON)  # both are held for it
            with running(lambda: conn.receive(SOON)) as (second,):
                assert looked.wait(SOON)
                restore()
                go.set()
        assert (first.result(), second.result()) == ("one", "two")


def test_an_interrupt_at_the_end_of_a_message_lets_go_of_the_buffer():
    with raw_peer() as (conn, far):
        far.sendall(frame(BINARY, b"abc"))

        def hand_over():
            raise Interrupt

        restore = stand_in(conn._link.protocol._arriving, _hand_over=hand_over)
        room = bytearray(3)
        with pytest.raises(Interrupt):
            conn.receive_into(room, SOON)
        restore()
        room.clear()  # which a view of it would not allow
        far.sendall(frame(BINARY, b"more"))
        assert conn.receive(SOON) is None
        assert conn.close_code == 1011


@pytest.mark.parametrize("size", [True, 1.0, "1", None])
def test_a_size_to_read_has_to_be_an_int(size):
    with both_ends() as (client, server):
        client.send("abc")
        with server.receive_stream(SOON) as stream:
            with pytest.raises(TypeError, match="the size has to be an int, not"):
                stream.read(size)
            assert stream.read() == "abc"


def test_progress_of_what_is_read_into_a_buffer():
    told = []
    with both_ends() as (client, server):
        client.send_binary(b"abcde")
        with server.receive_stream(SOON, progress=lambda *args: told.append(args)) as stream:
            room = bytearray(3)
            assert [stream.readinto(room) for _ in range(3)] == [3, 2, 0]
    assert [done for done, _ in told][-1] == 5


def test_a_file_that_does_not_block_is_refused():
    class File:
        """One that has nothing at the moment."""

        def read(self, _size):
            return None

    with (
        both_ends(close_timeout=0) as (client, _),
        pytest.raises(TypeError, match="takes no file that does not block"),
    ):
        client.send_stream(File())
