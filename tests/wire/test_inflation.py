"""Compressed messages in a connection's protocol, without I/O (RFC 7692 section 6.2)."""

import functools
import itertools
import os
import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import protocols
from frames import BINARY, CONTINUATION, PING, PONG, TEXT, frame
from looped import looped
from memory import tracemalloc
from pairs import KIB, MIB, roles
from protocols import ALL, bomb, fed_until_ended, feed
from scriptling_ws._handshakes.terms import Terms

RSV1 = 4
TERMS = Terms()
HELLO = bytes.fromhex("f248cdc9c90700")  # the example of RFC 7692 section 7.2.3.1

protocol = functools.partial(protocols.protocol, deflate=TERMS)
steps = pytest.mark.parametrize("step", [1, 7, 4096, ALL])


class Peer:
    """The other end: it compresses with zlib alone, and makes frames by hand."""

    def __init__(self, *, client, bits=15, takeover=True):
        self.mask = client
        self._bits = bits
        self._takeover = takeover
        self._stream = None

    def compressed(self, data):
        if self._stream is None or not self._takeover:
            self._stream = zlib.compressobj(wbits=-self._bits)
        data = self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        return data.removesuffix(b"\0\0\xff\xff") or b"\0"

    def frames(self, opcode, payload, cuts=0, between=b""):
        """The frames of a compressed payload, and something between them."""
        size = len(payload) // (cuts + 1) + 1
        parts = [payload[at : at + size] for at in range(0, max(len(payload), 1), size)]
        parts += [b""] * (cuts + 1 - len(parts))
        frames = [
            frame(
                CONTINUATION if at else opcode,
                part,
                fin=at == cuts,
                mask=self.mask,
                rsv=0 if at else RSV1,
            )
            for at, part in enumerate(parts)
        ]
        return between.join(frames)

    def message(self, message, **how):
        text = isinstance(message, str)
        payload = self.compressed(message.encode() if text else message)
        return self.frames(TEXT if text else BINARY, payload, **how)

    def plain(self, opcode, payload=b"", **how):
        return frame(opcode, payload, mask=self.mask, **how)


def ended_with(proto):
    """The one close frame's code, after an error."""
    assert proto.ended
    (close,) = proto.outbox
    assert close[0] == 0x88
    return proto.control.error.code


MESSAGES = ["", "Hello", b"", b"\0\xff", "é€😀" * 50, "Hello", bytes(20_000), "x" * 70_000]


# -- messages ------------------------------------------------------------------


@functools.cache
def everything(client, takeover, bits):
    """A stream of compressed messages, whole and in fragments, and others between."""
    peer = Peer(client=not client, takeover=takeover, bits=bits)
    ping = peer.plain(PING, b"?")
    parts, messages = [], []
    for message in [*MESSAGES, random.Random(1).randbytes(3000)]:
        parts += [
            peer.message(message),
            peer.message(message, cuts=1),
            peer.message(message, cuts=4, between=ping),
            peer.plain(TEXT, b"plain"),
            peer.plain(BINARY, b"a", fin=False) + ping + peer.plain(CONTINUATION, b"b"),
        ]
        messages += [message, message, message, "plain", b"ab"]
    return b"".join(parts), messages


@roles
@steps
@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("bits", [9, 15])
def test_messages(client, step, takeover, bits):
    data, messages = everything(client, takeover, bits)
    terms = Terms(not takeover, not takeover, bits, bits)
    proto = protocol(client=client, deflate=terms)
    feed(proto, data, step)
    assert not proto.ended
    assert list(proto.ready) == messages
    assert [type(message) for message in proto.ready] == [type(message) for message in messages]
    assert proto.outbox[0][0] == 0x80 | PONG


def test_lists():
    proto = protocol(as_list=True)
    peer = Peer(client=False)
    feed(proto, peer.message(b"abc") + peer.message(bytes(20_000), cuts=2) + peer.message(b""))
    assert list(proto.ready) == [[97, 98, 99], [0] * 20_000, []]


@roles
def test_the_terms_of_the_other_end_count(client):
    """What a client receives is the server's business, and the reverse."""
    terms = Terms(server_no_context_takeover=client, client_no_context_takeover=not client)
    proto = protocol(client=client, deflate=terms)
    peer = Peer(client=not client)
    feed(proto, peer.message("Hello, Hello"))
    assert list(proto.ready) == ["Hello, Hello"]
    feed(proto, peer.message("Hello, Hello"))  # refers to the first
    assert ended_with(proto) == 1007


@given(
    st.lists(st.tuples(st.text() | st.binary(), st.integers(0, 5), st.booleans())),
    st.booleans(),
    st.integers(1, 300),
)
def test_any_messages_in_any_pieces(messages, client, step):
    peer = Peer(client=not client)
    data = b""
    for message, cuts, compressed in messages:
        if compressed:
            data += peer.message(message, cuts=cuts)
        elif isinstance(message, str):
            data += peer.plain(TEXT, message.encode())
        else:
            data += peer.plain(BINARY, message)
    proto = protocol(client=client)
    feed(proto, data, step)
    assert list(proto.ready) == [message for message, _, _ in messages]
    assert not proto.ended


def test_messages_that_are_dropped_are_inflated_all_the_same():
    proto = protocol()
    proto.unreceived.discard(keep_ready=False)
    peer = Peer(client=False)
    feed(proto, peer.message("one") + peer.message(b"two", cuts=1))
    assert not proto.ready
    assert not proto.ended


def test_what_was_inflated_is_counted():
    proto = protocol()
    peer = Peer(client=False)
    feed(proto, peer.plain(BINARY, bytes(1000)))
    assert proto.inflated == 0
    feed(proto, peer.message(bytes(100_000)) + peer.message("x" * 50_000, cuts=3))
    assert proto.inflated == 150_000


# -- errors --------------------------------------------------------------------


@pytest.mark.abuse(56)
@roles
@looped(
    ("opcode", "rsv", "negotiated"),
    [
        (TEXT, 4, False),
        (BINARY, 4, False),
        (TEXT, 2, True),
        (TEXT, 1, True),
        (BINARY, 6, True),
        (BINARY, 5, True),
        (BINARY, 7, True),
        (PING, 4, True),
        (PONG, 4, True),
        (8, 4, True),
        (3, 4, True),
        (CONTINUATION, 4, True),
    ],
)
@steps
def test_reserved_bits(client, opcode, rsv, negotiated, step):
    proto = protocol(client=client, deflate=TERMS if negotiated else None)
    feed(proto, frame(opcode, HELLO, mask=not client, rsv=rsv), step)
    assert ended_with(proto) == 1002


@pytest.mark.parametrize("compressed", [True, False])
def test_rsv1_on_a_later_fragment(compressed):
    proto = protocol()
    first = frame(BINARY, HELLO, fin=False, rsv=RSV1 if compressed else 0)
    feed(proto, first + frame(CONTINUATION, b"", rsv=RSV1))
    assert ended_with(proto) == 1002


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_new_message_inside_a_compressed_one(opcode):
    for rsv in (0, RSV1):
        proto = protocol()
        feed(proto, frame(TEXT, HELLO, fin=False, rsv=RSV1) + frame(opcode, HELLO, rsv=rsv))
        assert ended_with(proto) == 1002


@pytest.mark.abuse(58)
@roles
@steps
@looped("payload", [b"", b"\xff" * 30, b"garbage", b"\x00\x05\x00\xfa\xfe"])
def test_what_is_not_deflate(client, step, payload):
    proto = protocol(client=client)
    feed(proto, frame(BINARY, payload, mask=not client, rsv=RSV1), step)
    assert ended_with(proto) == 1007


@pytest.mark.abuse(58)
@steps
def test_over_the_limit_and_then_corrupt(step):
    proto = protocol(limit=1000)
    payload = Peer(client=False).compressed(bytes(2000)) + b"\xff" * 50
    feed(proto, frame(BINARY, payload, rsv=RSV1), step)
    assert ended_with(proto) == 1009


@pytest.mark.abuse(40)
@steps
@looped("bad", [b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
@looped("cuts", [0, 3])
def test_text_that_is_not_utf_8(step, bad, cuts):
    proto = protocol()
    peer = Peer(client=False)
    feed(proto, peer.frames(TEXT, peer.compressed(b"abc" + bad), cuts=cuts), step)
    assert ended_with(proto) == 1007


def test_text_is_checked_before_its_end():
    proto = protocol()
    peer = Peer(client=False)
    feed(proto, peer.frames(TEXT, peer.compressed(b"\xff" * 100_000), cuts=1)[:50])
    assert ended_with(proto) == 1007


@pytest.mark.abuse(39)
@looped("cuts", [0, 3])
@looped(
    ("limit", "step"),
    [*itertools.product([1, 1000], [1, 7, 4096, ALL]), *itertools.product([70_001], [4096, ALL])],
)
def test_the_limit_is_exact(step, cuts, limit):
    for data in (bytes(limit), os.urandom(limit)):
        proto = protocol(limit=limit)
        feed(proto, Peer(client=False).message(data, cuts=cuts), step)
        assert list(proto.ready) == [data]
    for data in (bytes(limit + 1), os.urandom(limit + 1)):
        proto = protocol(limit=limit)
        feed(proto, Peer(client=False).message(data, cuts=cuts), step)
        assert ended_with(proto) == 1009
        assert proto.control.reason == f"a message is over the {limit} bytes of max_message_size"
        assert not proto.ready


@pytest.mark.abuse(36)
@pytest.mark.parametrize("length", [2 * MIB + 1025, 2**62, 2**63 - 1])
def test_a_length_that_no_message_has(length):
    proto = protocol(limit=MIB)
    feed(proto, struct.pack("!BBQ", 0xC2, 127, length))
    assert ended_with(proto) == 1009


def test_what_inflates_to_nothing_has_a_limit_too():
    proto = protocol(limit=1000)
    nothing = b"\0\0\0\xff\xff" * 100
    feed(proto, frame(BINARY, nothing, fin=False, rsv=RSV1))
    fed = 1
    while not proto.ended:
        feed(proto, frame(CONTINUATION, nothing, fin=False))
        fed += 1
    assert ended_with(proto) == 1009
    assert fed == 7


@pytest.mark.abuse(45)
def test_too_many_fragments():
    proto = protocol(fragments=10)
    feed(proto, frame(BINARY, HELLO, fin=False, rsv=RSV1))
    feed(proto, frame(CONTINUATION, b"", fin=False) * 9)
    assert not proto.ended
    feed(proto, frame(CONTINUATION, b"", fin=False))
    assert ended_with(proto) == 1008
    assert proto.control.reason == "a message has more than the 10 fragments of max_fragments"


@pytest.mark.abuse(45)
@pytest.mark.parametrize("payload", [b"", b"\0"])
def test_fragments_of_a_compressed_message_cost_little(payload):
    """As many as there may be by default; what each holds inflates to nothing."""
    proto = protocol()
    feed(proto, frame(BINARY, b"", fin=False, rsv=RSV1))
    burst = frame(CONTINUATION, payload, fin=False) * 1000
    fed, peak = fed_until_ended(proto, burst, 1000, measured=bool(payload))
    assert fed <= 132_000
    assert peak < MIB


# -- memory ----------------------------------------------------------------------


@pytest.mark.abuse(57)
@roles
@pytest.mark.parametrize("cuts", [0, 1, 100])
@pytest.mark.parametrize("limit", [MIB, 16 * MIB])
def test_a_bomb_takes_no_more_memory_than_the_limit_and_64_kib(client, cuts, limit):
    data = memoryview(Peer(client=not client).frames(BINARY, bomb(), cuts=cuts))
    tracemalloc.start()
    try:
        proto = protocol(client=client, limit=limit)
        idle, _ = tracemalloc.get_traced_memory()
        feed(proto, data)
        size, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ended_with(proto) == 1009
    window = 4 * KIB  # it had 1 KiB, and has 4 for what comes compressed
    others = 4 * KIB  # what the tests' other threads may take meanwhile: all are traced
    assert peak - idle <= limit + 64 * KIB + window + others
    assert size - idle <= 8 * KIB  # all of it was let go, zlib's too


def test_a_window_of_bombs_is_bounded():
    """Many messages that are within the limit come out of one window."""
    proto = protocol()
    peer = Peer(client=False)
    feed(proto, peer.plain(BINARY, bytes(60_000)) * 50)  # fills any window to the brim
    proto.ready.clear()
    data = memoryview(peer.message(bytes(64 * KIB)) * 1000)
    largest = 0
    while data:
        space = memoryview(proto.space())
        count = min(len(space), len(data))
        space[:count] = data[:count]
        data = data[count:]
        proto.feed(count)
        largest = max(largest, sum(map(len, proto.ready)))
        proto.ready.clear()
    assert 64 * KIB <= largest <= 9 * MIB


def test_no_context_before_the_first_compressed_message():
    tracemalloc.start()
    try:
        proto = protocol()
        plain = tracemalloc.get_traced_memory()[0]
        feed(proto, Peer(client=False).plain(TEXT, b"x") * 10)
        assert tracemalloc.get_traced_memory()[0] <= plain + 4 * KIB
    finally:
        tracemalloc.stop()
