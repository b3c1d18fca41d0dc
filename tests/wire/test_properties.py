"""The twelve invariants that hold whatever comes, one test or more for each.

What the kernels alone have to hold (2 to 4) is in test_kernel_equal.py too, and that time
and memory are linear (5) in test_protocol.py; here the layers above are tested, up to two
connections that are each other's peer, driven by arbitrary calls and compared with a model.
The suite runs on both codecs: what each of them shares with wsproto they share.
"""

import contextlib
import os
import struct
import threading
import time
from collections import deque

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import protocol_chunks
import protocol_wsproto
import session
import streams
import urls
from frames import frame
from memory import tracemalloc
from pairs import (
    SOON,
    Running,
    connection,
    raw_peer,
    receive_to_end,
    reset,
    tcp_pair,
    upgrade_answer,
)
from scriptling_ws import ConnectionClosed, HandshakeError, InvalidURL
from scriptling_ws import _kernel as _frame
from scriptling_ws._handshakes.client import ClientHandshake
from scriptling_ws._handshakes.url import parse_url
from scriptling_ws._wire.outgoing import PlainEncoder

LATE = 2.0  # seconds by which a call may be late on a busy machine


def examples(count):
    """The same examples in every run: a failure is a change of the code."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


sizes = st.one_of(st.integers(0, 40), st.sampled_from([125, 126, 127, 4090, 65_535, 65_536]))
blocks = st.builds(lambda size, seed: (seed * size)[:size], sizes, st.binary(min_size=1))
binaries = st.one_of(st.binary(max_size=60), blocks)
texts = st.one_of(st.text(max_size=60), st.builds(lambda n: "\u20ac" * n, sizes))
messages = st.one_of(texts, binaries)
cuts = st.lists(st.integers(1, 200), max_size=30)


def chunked(data, sizes):
    """The data cut into pieces of these sizes, and the rest."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


# What a peer may send, and what it may not.
controls = st.tuples(st.sampled_from([0x89, 0x8A]), st.binary(max_size=125))
closes = st.builds(
    lambda code, text: (0x88, struct.pack("!H", code) + text),
    st.one_of(st.sampled_from(streams.CODES), st.integers(0, 65_535)),
    st.one_of(st.binary(max_size=20), st.text(max_size=20).map(str.encode)),
)
wholes = st.one_of(
    st.builds(lambda text: (0x81, text.encode()), texts),
    st.builds(lambda data: (0x82, data), binaries),
)
firsts = st.sampled_from([0x01, 0x02, 0x00, 0x00, 0x80, 0x80, 0xC1, 0x83, 0x09])
odd = st.one_of(st.tuples(firsts, binaries), st.tuples(st.just(0x81), st.binary(max_size=40)))
frames = st.lists(st.one_of(wholes, wholes, controls, odd, closes), max_size=8)
raw = st.binary(max_size=40)
arriving = st.tuples(frames, st.booleans(), raw)


def stream(client, made):
    """Frames for an end of this role, some of them masked the wrong way, and raw bytes."""
    parts, wrong, tail = made
    make = [frame_of, streams.masked_frame]
    right = not client
    data = [make[right](*each) for each in parts]
    if wrong:
        data.append(make[not right](0x82, b"x"))
    return b"".join(data) + tail


def frame_of(first, payload):
    return frame(first & 15, payload, fin=first > 127, rsv=first >> 4 & 7)


# -- 1: what is encoded is decoded, in any pieces ----------------------------


@examples(120)
@given(st.lists(messages, max_size=6), st.booleans(), cuts)
def test_what_is_sent_is_what_comes(sent, client, sizes):
    made = [PlainEncoder(masked=client).either(message) for message in sent]
    data = b"".join(each if isinstance(each, bytes) else b"".join(each) for each in made)
    receiver = streams.protocol(client=not client)
    for piece in chunked(data, sizes):
        streams.feed(receiver, piece)
    assert list(receiver.ready) == sent
    assert list(map(type, receiver.ready)) == list(map(type, sent))
    assert not receiver.ended


@examples(120)
@given(arriving, st.booleans(), st.booleans(), st.sampled_from([None, 100, 5000]), cuts)
def test_pieces_never_change_what_comes(made, client, as_list, limit, sizes):
    data = stream(client, made)
    options = (client, as_list, limit, 5)
    protocol_chunks.compare(options, data, chunked(data, sizes), relax=True, end=True)


# -- 2: every codec, and wsproto, read the same ------------------------------


@examples(120)
@given(arriving, st.booleans())
def test_wsproto_reads_the_same(made, client):
    protocol_wsproto.compare(client, stream(client, made))


# -- 3: masking --------------------------------------------------------------


@examples(100)
@given(binaries, st.binary(min_size=4, max_size=4), st.lists(st.integers(0, 300), max_size=6))
def test_masking_goes_on_across_pieces(data, key, sizes):
    whole = bytearray(data)
    _frame.mask_in_place(whole, key)
    at, pieces = 0, []
    for piece in chunked(data, sizes):
        pieces.append(_frame.apply_mask(piece, key, at))
        at += len(piece)
    assert b"".join(pieces) == whole == streams.xor(data, key)
    assert _frame.apply_mask(whole, key) == data


# -- 4: lists ----------------------------------------------------------------

numbers = st.one_of(st.integers(0, 255), st.integers(-2, 260), st.integers())
items = st.one_of(numbers, st.sampled_from([True, 1.0, "1", None, b"1", [1]]))


@examples(120)
@given(st.one_of(st.lists(st.integers(0, 255)), st.lists(items, max_size=10)), st.booleans())
def test_exactly_the_ints_from_0_to_255_are_bytes(values, client):
    bad = [at for at, item in enumerate(values) if type(item) is not int or not 0 <= item <= 255]
    if bad:
        error = ValueError if type(values[bad[0]]) is int else TypeError
        with pytest.raises(error, match=f"^item {bad[0]} is "):
            PlainEncoder(masked=client).binary(values)
        return
    receiver = streams.protocol(client=not client, as_list=True)
    streams.feed(receiver, PlainEncoder(masked=client).binary(values))
    assert list(receiver.ready) == [values]


# -- 5: memory ---------------------------------------------------------------


@examples(25)
@given(
    st.lists(st.tuples(st.sampled_from([0x01, 0x02, 0x00, 0x89, 0x82, 0x81]), blocks), max_size=6),
    st.integers(1, 400),
    st.sampled_from([1, 100, 30_000]),
)
def test_what_is_kept_is_bounded(parts, times, limit):
    data = b"".join(frame_of(*part) for part in parts) * times
    pieces = chunked(data[: 2 * 1024 * 1024], [4096] * 512)

    def consume():
        receiver = streams.protocol(client=True, limit=limit, fragments=50)
        for piece in pieces:
            streams.feed(receiver, piece)
            receiver.ready.clear()  # what the caller has taken is the caller's
            receiver.outbox.clear()
        return receiver

    consume()  # what is made once, in whatever library, is no part of it
    tracemalloc.start()
    receiver = consume()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del receiver
    assert kept <= limit + 16 * 1024
    # Beside that, a text exists as bytes and as a str (of four bytes a character at worst).
    assert peak <= 6 * limit + 128 * 1024


# -- 6: timeouts lose nothing ------------------------------------------------


@examples(25)
@given(
    st.lists(st.tuples(wholes, st.booleans()), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(1, 2000), st.sampled_from([0, 0, 0.0005, 0.002])), max_size=30),
    st.booleans(),
)
def test_timeouts_never_lose_double_or_reorder_a_message(parts, steps, client):
    data, expected = b"", []
    for (first, payload), split in parts:
        make = frame_of if client else streams.masked_frame
        half = len(payload) // 2
        data += (
            make(first & 15, payload[:half]) + make(0x89, b"p") + make(0x80, payload[half:])
            if split
            else make(first, payload)
        )
        expected.append(payload.decode() if first == 0x81 else payload)
    received = []
    with raw_peer(client=client, binary_type=bytes) as (conn, peer):
        for piece, (_, timeout) in zip(
            chunked(data, [size for size, _ in steps]), [*steps, (0, 0)], strict=True
        ):
            peer.sendall(piece)
            start = time.monotonic()
            message = conn.receive(timeout)
            assert time.monotonic() - start < timeout + LATE
            received += [] if message is None else [message]
        while len(received) < len(expected):
            message = conn.receive(SOON)
            assert message is not None
            received.append(message)
        assert received == expected
        assert conn.receive(0) is None
        assert conn.connected()


# -- 7, 8, 9: states, deadlines and output, over a socket that misbehaves -----


@examples(150)
@given(
    st.booleans(),
    st.lists(st.integers(0, 255), max_size=60).map(bytes),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 255)), max_size=12),
    frames,
)
def test_a_session_over_a_bad_socket(client, plan, calls, parts):
    """What has to hold is listed in fuzz/session.py, which also checks it."""
    made = bytes(byte for call in calls for byte in call)
    data = stream(client, (parts, False, b""))
    session.check(bytes((client, len(plan))) + plan + bytes((len(made),)) + made + b"\7" + data)


# -- 8: the timeout holds -----------------------------------------------------

peers = st.sampled_from([b"", frame(9, b"x"), frame(1, b"x", fin=False), b"\x82\x7e", frame(8)])


@examples(20)
@given(st.lists(peers, max_size=3), st.sampled_from([0, 0.001, 0.03]), st.integers(0, 3))
def test_a_call_is_over_at_its_timeout(behaviour, timeout, what):
    with raw_peer(close_timeout=timeout) as (conn, peer):
        peer.sendall(b"".join(behaviour))
        calls = [
            lambda: conn.receive(timeout),
            lambda: conn.receive_many(3, timeout),
            conn.connected,
            conn.close,
        ]
        start = time.monotonic()
        assert calls[what]() in (None, [], True, False)
        assert time.monotonic() - start < timeout + LATE


# -- 10: several senders ------------------------------------------------------


@examples(12)
@given(st.lists(st.lists(binaries, max_size=5), min_size=2, max_size=4), st.booleans())
def test_senders_do_not_mix(parts, client):
    def send(number, payloads):
        for payload in payloads:
            conn.send_binary(bytes([number]) + payload)
        conn.send_many([bytes([number]) + payload for payload in payloads])

    with raw_peer(client=client) as (conn, peer):
        calls = [Running(send, *each) for each in enumerate(parts)]
        reading = Running(receive_to_end, peer)
        for call in calls:
            call.result()
        conn._abort()
        found = streams.strict(reading.result(), masked=client)
    for number, payloads in enumerate(parts):
        mine = [payload[1:] for _, payload in found if payload[0] == number]
        assert mine == payloads * 2
    assert len(found) == 2 * sum(map(len, parts))


# -- 11: nothing is left open --------------------------------------------------

ways = ["close", "peer closes", "peer leaves", "reset", "bad bytes", "abort", "two closers"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no /proc here")
@examples(40)
@given(
    st.booleans(),
    st.lists(st.sampled_from(["receive", "send", "connected", "wait"]), max_size=4),
    st.sampled_from(ways),
)
def test_every_descriptor_and_thread_is_released(client, calls, way):
    before = sorted(os.listdir("/proc/self/fd")), threading.active_count()
    with raw_peer(client=client, close_timeout=0.02, ping_interval=None) as (conn, peer):
        for call in calls:
            {
                "receive": lambda: conn.receive(0),
                "send": lambda: conn.send("x" * 300),
                "connected": conn.connected,
                "wait": lambda: conn.receive(0.011),  # past the nap, so that it makes a waker
            }[call]()
        end(conn, peer, way, client)
        conn.close()
    assert (sorted(os.listdir("/proc/self/fd")), threading.active_count()) == before


def end(conn, peer, way, client):
    if way == "peer closes":
        peer.sendall(frame(8, b"\x03\xe8", mask=not client))
    elif way == "peer leaves":
        peer.close()
    elif way == "reset":
        reset(peer)
    elif way == "bad bytes":
        peer.sendall(b"\xff" * 10)
        conn.receive(0.01)
    elif way == "abort":
        conn._abort()
    elif way == "two closers":
        for call in [Running(conn.close), Running(conn.close, 1001)]:
            call.result()


# -- 12: handshakes -------------------------------------------------------------

wild = st.one_of(st.text(max_size=20), st.sampled_from(["a\r\nb: c", "\n", "\0", "x\r", "\x85"]))
addresses = st.one_of(
    st.builds("ws://{}/{}".format, wild, wild),
    st.builds("ws://{}:{}@host:80/{}?{}".format, wild, wild, wild, wild),
    wild,
)


@examples(200)
@given(addresses, st.one_of(st.sampled_from(urls.HEADERS), wild), wild)
def test_a_request_has_the_line_ends_it_is_meant_to_have(text, name, value):
    with contextlib.suppress(InvalidURL):
        url = parse_url(text)
        urls.check_parts(url)
        urls.check_request(url, name, value)


@examples(100)
@given(st.binary(max_size=60), st.integers(0, 200), st.booleans(), cuts)
def test_an_answer_means_the_same_in_any_pieces(noise, at, insert, sizes):
    """Open, more to come, or a HandshakeError; more of this in fuzz/handshake_client.py."""
    outcomes = []
    for pieces in ([], sizes):
        handshake = ClientHandshake(parse_url("ws://a/"), {})
        answer = upgrade_answer(handshake.request)
        made = answer[:at] + noise + answer[at if insert else at + len(noise) :]
        arriving = deque(filter(None, chunked(made, pieces)))
        try:
            while arriving and not handshake.receive(arriving.popleft()):
                pass
            outcomes.append(handshake.rest + b"".join(arriving))
        except HandshakeError as error:
            outcomes.append((str(error).partition(":")[0], error.status))
    assert outcomes[0] == outcomes[1]


# -- all of it: two connections and a model --------------------------------------


class TwoEnds(RuleBasedStateMachine):
    """A client and a server, each other's peer, against two queues.

    Everything fits into the sockets' buffers, so no call here waits for another thread,
    save `close`: the other end receives meanwhile, or does not, and has its messages later.
    """

    ends = st.integers(0, 1)
    some = st.lists(messages, min_size=1, max_size=4)

    @initialize()
    def connect(self):
        near, far = tcp_pair()
        options = {"binary_type": bytes, "close_timeout": 0.1}
        self.conns = [
            connection(near, client=True, **options),
            connection(far, client=False, **options),
        ]
        self.coming = [deque(), deque()]  # what each end has to receive
        self.size = 0
        self.told = [True, True]  # what connected() has last said
        self.closed = self.closer = None

    def teardown(self):
        for conn in self.conns:
            conn._abort()
            conn.close()

    def fits(self):
        return self.closed is None and self.size < 500_000

    def sent(self, end, *made):
        self.coming[1 - end].extend(made)
        self.size += sum(map(len, made))

    @precondition(fits)
    @rule(end=ends, message=texts)
    def send(self, end, message):
        self.conns[end].send(message)
        self.sent(end, message)

    @precondition(fits)
    @rule(end=ends, message=binaries, as_list=st.booleans())
    def send_binary(self, end, message, as_list):
        self.conns[end].send_binary(list(message) if as_list else message)
        self.sent(end, message)

    @precondition(fits)
    @rule(end=ends, many=some)
    def send_many(self, end, many):
        self.conns[end].send_many(iter(many))
        self.sent(end, *many)

    @precondition(fits)
    @rule(end=ends, pieces=st.lists(binaries, min_size=2, max_size=4), text=st.booleans())
    def send_fragments(self, end, pieces, text):
        pieces = [b"\xe2", b"\x82\xac", b"x"] if text else pieces
        made = [
            frame(0 if at else 1 if text else 2, piece, fin=at == len(pieces) - 1, mask=not end)
            for at, piece in enumerate(pieces)
        ]
        self.conns[end]._writer.send(frame(9, b"between", mask=not end).join(made))
        self.sent(end, "\u20acx" if text else b"".join(pieces))

    @precondition(fits)
    @rule(end=ends, payload=st.binary(max_size=125))
    def ping(self, end, payload):
        self.conns[end]._writer.send(frame(9, payload, mask=not end))

    @precondition(fits)
    @rule(end=ends, bad=st.sampled_from([256, -1, True, 1.5, "1"]))
    def send_nonsense(self, end, bad):
        with pytest.raises((TypeError, ValueError)):
            self.conns[end].send_binary([1, bad])
        with pytest.raises(TypeError):
            self.conns[end].send(b"bytes")

    @rule(end=ends, timeout=st.sampled_from([0, 0.001, 0.012]))
    def receive(self, end, timeout):
        if self.coming[end]:
            assert self.conns[end].receive(SOON) == self.coming[end].popleft()
        else:
            assert self.conns[end].receive(timeout) is None

    @rule(end=ends, limit=st.integers(1, 5))
    def receive_many(self, end, limit):
        if not self.coming[end]:
            assert self.conns[end].receive_many(limit, 0) == []
            return
        found = self.conns[end].receive_many(limit, SOON)
        assert 1 <= len(found) <= limit
        assert found == [self.coming[end].popleft() for _ in found]

    @rule(end=ends)
    def connected(self, end):
        expected = self.closed is None or bool(self.coming[end])
        assert self.conns[end].connected() == expected
        assert self.told[end] or not expected
        self.told[end] = expected

    @precondition(lambda self: self.closed is None)
    @rule(
        end=ends,
        code=st.sampled_from([1000, 1001, 1011, 1014, 3000, 4999]),
        reason=st.sampled_from(["", "bye", "\u20ac" * 41]),
        taken=st.booleans(),
    )
    def close(self, end, code, reason, taken):
        other, waiting = self.conns[1 - end], self.coming[1 - end]
        call = Running(self.conns[end].close, code, reason)
        while taken and waiting:
            assert other.receive(SOON) == waiting.popleft()
        if taken:
            assert other.receive(SOON) is None
        call.result()
        self.coming[end].clear()
        self.closed, self.closer = (code, reason), end

    @invariant()
    def both_ends_know_why(self):
        for end, conn in enumerate(self.conns):
            found = None if conn.close_code is None else (conn.close_code, conn.close_reason)
            unread = self.closed is not None and end != self.closer and found is None
            assert unread or found == self.closed

    @precondition(lambda self: self.closed is not None)
    @rule(end=ends)
    def use_after_close(self, end):
        if self.coming[end]:
            return  # it has not come to the close yet
        assert not self.conns[end].connected()
        with pytest.raises(ConnectionClosed) as caught:
            self.conns[end].send("late")
        assert (caught.value.code, caught.value.reason) == self.closed
        self.conns[end].close()
        assert self.conns[end].receive(0) is None


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(examples(80), stateful_step_count=30)
