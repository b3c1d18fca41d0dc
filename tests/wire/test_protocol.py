"""A connection's protocol, without I/O: bytes in, messages and answers out."""

import functools
import itertools
import os
import random
import struct
import sys
import sysconfig
import time
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.utilities import RemoteProtocolError

from abuse import every_violation
from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from looped import looped
from memory import tracemalloc
from pairs import KIB, MIB, roles
from protocols import ALL, channel_receive, fed_until_ended, feed, protocol
from scriptling_ws import _kernel as kernel
from scriptling_ws._errors import ProtocolError
from scriptling_ws._wire.control import Control
from scriptling_ws._wire.piecemeal import Piecemeal

PURE = kernel.IMPLEMENTATION == "pure"
# Whether a growing message takes little more memory than it has bytes (the kernel's loops.h).
FINE_STEPS = (
    not PURE and sys.platform == "linux" and not sysconfig.get_config_var("Py_GIL_DISABLED")
)


def parse(data):
    """Frames of our own, as (first byte, payload)."""
    frames = []
    while data:
        size = data[1] & 0x7F
        assert size < 126
        at = 6 if data[1] & 0x80 else 2
        payload = data[at : at + size]
        if data[1] & 0x80:
            key = itertools.cycle(data[2:6])
            payload = bytes(a ^ b for a, b in zip(payload, key, strict=False))
        frames.append((data[0], payload))
        data = data[at + size :]
    return frames


def answers(proto):
    return parse(b"".join(proto.outbox))


def closed_with(proto):
    """The code of the one close frame that the protocol answers with."""
    (close,) = [payload for first, payload in answers(proto) if first == 0x88]
    return struct.unpack("!H", close[:2])[0] if close else None


def state(proto):
    """Everything about a protocol that shows."""
    control = proto.control
    error = control.error and (control.error.code, str(control.error))
    return list(proto.ready), answers(proto), control.code, control.reason, error, proto.ended


steps = pytest.mark.parametrize("step", [1, 2, 3, 5, 17, 125, 4096, 65_536, ALL])
FEW_STEPS = [1, 3, ALL]
few_steps = pytest.mark.parametrize("step", FEW_STEPS)


# -- messages --------------------------------------------------------------


SIZES = (0, 1, 125, 126, 127, 4090, 65_535, 65_536, 131_072, 131_073, 300_001)


@functools.cache
def stream(client, largest):
    """A stream of everything that is allowed, and the messages in it."""
    mask = not client
    make = functools.partial(frame, mask=mask)
    text = "h\xe4ll\xf6 \u20ac \U0001f600"
    half = min(200_000, largest)
    parts, messages = [], []
    for size in (size for size in SIZES if size <= largest):
        payload = random.Random(size).randbytes(size)
        parts.append(make(BINARY, payload))
        messages.append(payload)
        parts.append(make(TEXT, b"x" * size))
        messages.append("x" * size)
    for cut in range(len(text.encode()) + 1):
        data = text.encode()
        parts += [
            make(TEXT, data[:cut], fin=False),
            make(PING, b"%d" % cut),
            make(CONTINUATION, b"", fin=False),
            make(PONG, b"stray"),
            make(CONTINUATION, data[cut:]),
        ]
        messages.append(text)
    parts += [make(BINARY, b"", fin=False), make(CONTINUATION, b"")]
    messages.append(b"")
    parts += [make(TEXT, b"", fin=False), make(CONTINUATION, b"")]
    messages.append("")
    parts += [make(BINARY, b"a" * half, fin=False), make(CONTINUATION, b"b" * half)]
    messages.append(b"a" * half + b"b" * half)
    parts += [make(PING, bytes(125)), make(CLOSE, struct.pack("!H", 4000) + b"bye")]
    return b"".join(parts), messages, len(text.encode()) + 1


@roles
def test_an_error_behind_a_message_is_put_off_once(client):
    proto = protocol(client=client)
    data = frame(TEXT, b"good", mask=not client) + frame(3, mask=not client)
    proto.space()[: len(data)] = data
    proto.feed(len(data))
    assert state(proto) == (["good"], [], None, "", None, False)
    assert proto.window.unfed
    proto.feed(proto.window.unfed)
    assert list(proto.ready) == ["good"]
    assert closed_with(proto) == 1002
    assert proto.ended


# The first invariant: chunk boundaries never change what comes out.
@pytest.mark.abuse(41)
@steps
@roles
def test_chunk_boundaries_do_not_matter(client, step):
    data, messages, pings = stream(client, 5000 if step < 100 else ALL)
    proto = protocol(client=client)
    feed(proto, data, step)
    assert list(proto.ready) == messages
    expected = [(0x8A, b"%d" % number) for number in range(pings)]
    assert answers(proto) == [*expected, (0x8A, bytes(125)), (0x88, b"\x0f\xa0bye")]
    assert (proto.control.code, proto.control.reason) == (4000, "bye")
    assert proto.control.error is None
    assert proto.ended


@pytest.mark.parametrize("as_list", [False, True])
@roles
def test_every_single_cut_of_a_short_stream(client, as_list):
    make = functools.partial(frame, mask=not client)
    data = (
        make(TEXT, "\u20ac".encode())
        + make(BINARY, b"abc", fin=False)
        + make(PING, b"p")
        + make(CONTINUATION, b"de")
        + make(BINARY, bytes(130))
        + make(TEXT, b"")
    )
    binary = list if as_list else bytes
    for first, second in itertools.islice(
        itertools.combinations(range(len(data) + 1), 2), 0, None, 11
    ):
        proto = protocol(client=client, as_list=as_list)
        for piece in (data[:first], data[first:second], data[second:]):
            feed(proto, piece)
        assert list(proto.ready) == ["\u20ac", binary(b"abcde"), binary(bytes(130)), ""]
        assert answers(proto) == [(0x8A, b"p")]


@st.composite
def streams(draw):
    """Messages, and a stream with them in fragments, controls in between."""
    client = draw(st.booleans())
    make = functools.partial(frame, mask=not client)
    messages, data, pings = [], bytearray(), []

    def control():
        if draw(st.booleans()):
            payload = draw(st.binary(max_size=5))
            pings.append((0x8A, payload))
            data.extend(make(PING, payload))

    for message in draw(
        st.lists(st.one_of(st.text(max_size=30), st.binary(max_size=200)), max_size=6)
    ):
        messages.append(message)
        payload = message.encode() if isinstance(message, str) else message
        opcode = TEXT if isinstance(message, str) else BINARY
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        pieces = [payload[a:b] for a, b in itertools.pairwise([0, *cuts, len(payload)])]
        for index, piece in enumerate(pieces):
            control()
            data.extend(
                make(opcode if not index else CONTINUATION, piece, fin=index == len(pieces) - 1)
            )
    control()
    return client, messages, bytes(data), pings


@settings(max_examples=100, deadline=None)
@given(streams(), st.randoms(use_true_random=False))
def test_what_was_sent_comes_out_for_every_chunking(made, rng):
    client, messages, data, pings = made
    proto = protocol(client=client)
    at = 0
    while at < len(data):
        size = rng.choice([1, 2, 3, 10, 100, 1000])
        feed(proto, data[at : at + size])
        at += size
    assert list(proto.ready) == messages
    assert answers(proto) == pings
    assert not proto.ended


@pytest.mark.abuse(47)
@pytest.mark.parametrize(
    ("opcode", "as_list", "message"), [(TEXT, False, ""), (BINARY, True, []), (BINARY, False, b"")]
)
@pytest.mark.parametrize("whole", [True, False])
def test_empty_messages_are_messages(opcode, as_list, message, whole):
    proto = protocol(as_list=as_list)
    feed(proto, frame(opcode, fin=whole) + (b"" if whole else frame(CONTINUATION)))
    assert list(proto.ready) == [message]
    assert type(proto.ready[0]) is type(message)


@roles
@looped("as_list", [False, True])
@looped("size", [100, 131_072, 131_073, 131_076, 1_000_001])
def test_large_frames_behind_others(client, as_list, size):
    payload = os.urandom(size)
    make = functools.partial(frame, mask=not client)
    large_frame = make(BINARY, payload)
    for before in (0, 1, 2, 3, 4095, 4096):
        proto = protocol(client=client, as_list=as_list)
        feed(proto, make(BINARY, bytes(before)) + large_frame + make(TEXT, b"after"))
        first, large, after = proto.ready
        assert bytes(first) == bytes(before)
        assert bytes(large) == payload
        assert type(large) is (list if as_list else bytes)
        assert after == "after"


def test_a_received_message_does_not_change_later():
    proto = protocol()
    feed(proto, frame(BINARY, b"a" * 200_000) + frame(BINARY, b"b" * 10))
    kept = list(proto.ready)
    feed(proto, frame(BINARY, b"c" * 200_000) + frame(BINARY, b"d" * 10))
    assert kept == [b"a" * 200_000, b"b" * 10]


# -- what the peer may not do ----------------------------------------------

LONG = struct.Struct("!BBQ").pack


@pytest.mark.parametrize(("client", "data", "code"), every_violation())
def test_a_violation_closes_with_its_code(client, data, code):
    around = [frame(TEXT, text, mask=not client) for text in (b"before", b"after")]
    for step in FEW_STEPS:
        proto = protocol(client=client)
        feed(proto, around[0] + data + around[1], step)
        before, *between = proto.ready
        assert before == "before"
        assert between in ([], ["x"])  # never "after"
        assert closed_with(proto) == code
        assert proto.control.code == code
        assert proto.control.error.code == code
        assert isinstance(proto.control.error, ProtocolError)
        assert str(proto.control.error) == proto.control.reason
        assert proto.ended
        assert not proto.control.open


def test_a_client_that_does_not_mask_a_large_frame():
    proto = protocol(client=False)
    feed(proto, frame(TEXT, b"before", mask=True) + frame(BINARY, bytes(200_000)))
    assert list(proto.ready) == ["before"]
    assert closed_with(proto) == 1002
    assert proto.ended


@few_steps
@pytest.mark.parametrize("name", ["opcode 3", "reserved bit 2", "ping of 126 bytes"])
def test_a_server_answers_violations_unmasked(name, step):
    opcode, rsv, size = {"opcode 3": (3, 0, 0), "reserved bit 2": (1, 2, 0)}.get(name, (9, 0, 126))
    proto = protocol(client=False)
    feed(proto, frame(opcode, bytes(size), rsv=rsv, mask=True), step)
    (answer,) = proto.outbox
    assert answer[0] == 0x88
    assert not answer[1] & 0x80
    assert closed_with(proto) == 1002


def test_a_client_masks_its_answers():
    proto = protocol()
    feed(proto, frame(PING, b"x") + frame(3))
    assert all(answer[1] & 0x80 for answer in proto.outbox)


def test_only_the_first_violation_counts():
    proto = protocol()
    feed(proto, frame(3))
    feed(proto, LONG(0x82, 127, 2**62))
    feed(proto, frame(CLOSE, b"\x0f\xa0"))
    assert proto.control.code == 1002
    assert closed_with(proto) == 1002


# -- UTF-8 -----------------------------------------------------------------

BAD_TEXT = [
    b"\xc0\xaf",  # overlong
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xed\xa0\x80",  # a surrogate
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",  # beyond U+10FFFF
    b"\xf5",
    b"\xff",
    b"\x80",  # a continuation byte alone
    b"a\xe2\x28\xa1",
    b"\xe2\x82",  # cut at the end
    b"\xf0\x9f\x98",
]
TRUNCATED = (b"\xe2\x82", b"\xf0\x9f\x98")


@pytest.mark.abuse(40)
@few_steps
@pytest.mark.parametrize("bad", BAD_TEXT)
def test_text_that_is_not_utf8(bad, step):
    for before in (b"", b"good \xe2\x82\xac ", b"x" * 500, b"x" * 5000, b"x" * 70_000):
        proto = protocol()
        data = frame(TEXT, b"first") + frame(TEXT, before + bad) + frame(TEXT, b"after")
        feed(proto, data, step * (1 + len(before) // 1000))
        assert list(proto.ready) == ["first"]
        assert closed_with(proto) == 1007
        assert proto.control.error.code == 1007


@pytest.mark.abuse(40)
@few_steps
@looped("bad", BAD_TEXT)
def test_fragmented_text_that_is_not_utf8(bad, step):
    for cut in range(len(bad) + 1):
        proto = protocol()
        data = frame(TEXT, bad[:cut], fin=False) + frame(CONTINUATION, bad[cut:])
        feed(proto, data, step)
        assert list(proto.ready) == []
        assert closed_with(proto) == 1007


@looped("size", [20, 5000, 300_000])
@looped("bad", [bad for bad in BAD_TEXT if bad not in TRUNCATED])
def test_the_first_bad_byte_of_a_text_is_enough(bad, size):
    header = frame(TEXT, bytes(size))[:-size]
    proto = protocol()
    feed(proto, header + b"good " + bad)
    assert proto.ended
    assert closed_with(proto) == 1007


@pytest.mark.abuse(40)
@pytest.mark.parametrize("cut", range(1, 10))
def test_a_text_fragment_that_ends_inside_a_character_is_fine(cut):
    data = "\xe4\u20ac\U0001f600".encode()
    proto = protocol()
    feed(proto, frame(TEXT, data[:cut], fin=False))
    assert not proto.ended
    feed(proto, frame(PING) + frame(CONTINUATION, data[cut:]))
    assert list(proto.ready) == ["\xe4\u20ac\U0001f600"]


def test_binary_is_not_checked_as_text():
    proto = protocol()
    feed(proto, frame(BINARY, b"\xff", fin=False) + frame(CONTINUATION, b"\xfe"), 1)
    feed(proto, frame(BINARY, b"\xff" * 200_000))
    assert list(proto.ready) == [b"\xff\xfe", b"\xff" * 200_000]


# -- limits ----------------------------------------------------------------


@pytest.mark.abuse(39)
@few_steps
@looped("opcode", [TEXT, BINARY])
@looped("limit", [1, 10, 125, 126, 5000, 150_000])
def test_the_size_limit(limit, opcode, step):
    step = max(step, limit // 1000)
    payload = b"x" * (limit + 1)
    message = "x" * limit if opcode == TEXT else b"x" * limit
    cut = limit // 2
    ways = {
        "whole": lambda data: frame(opcode, data),
        "halves": lambda data: (
            frame(opcode, data[:cut], fin=False) + frame(CONTINUATION, data[cut:])
        ),
        "and nothing": lambda data: frame(opcode, data, fin=False) + frame(CONTINUATION),
    }
    for way in ways.values():
        proto = protocol(limit=limit)
        feed(proto, way(payload[:-1]), step)
        assert list(proto.ready) == [message]
        assert not proto.ended
        proto = protocol(limit=limit)
        feed(proto, way(payload), step)
        assert list(proto.ready) == []
        assert closed_with(proto) == 1009
        assert str(limit) in proto.control.reason


def test_the_limit_counts_bytes_not_characters():
    proto = protocol(limit=5)
    feed(proto, frame(TEXT, "\u20ac".encode()) + frame(TEXT, "\u20ac\u20ac".encode()))
    assert list(proto.ready) == ["\u20ac"]
    assert closed_with(proto) == 1009


def test_the_limit_is_for_one_message():
    proto = protocol(limit=10)
    for _ in range(5):
        feed(proto, frame(BINARY, bytes(6), fin=False) + frame(CONTINUATION, bytes(4)))
        feed(proto, frame(BINARY, bytes(10)))
    assert len(proto.ready) == 10
    assert not proto.ended


@pytest.mark.abuse(36)
def test_an_announced_size_takes_no_memory_before_it_was_checked():
    proto = protocol(limit=MIB)
    tracemalloc.start()
    feed(proto, LONG(0x82, 127, 2**40))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert closed_with(proto) == 1009
    assert peak < 100_000


@pytest.mark.parametrize("size", [2**62, 2**63 - 1])
def test_no_limit_but_no_memory_either(size):
    proto = protocol(limit=None)
    feed(proto, LONG(0x82, 127, size))
    assert closed_with(proto) == 1009
    assert "memory" in proto.control.reason


def test_no_limit():
    proto = protocol(limit=None)
    feed(proto, frame(BINARY, bytes(17 * MIB)))
    assert len(proto.ready[0]) == 17 * MIB


@pytest.mark.abuse(45)
@pytest.mark.parametrize("payload", [b"", b"x"])
def test_the_number_of_fragments_is_limited(payload):
    proto = protocol(fragments=5)
    more = frame(CONTINUATION, payload, fin=False)
    feed(proto, frame(BINARY, payload, fin=False) + more * 3 + frame(CONTINUATION, payload))
    assert list(proto.ready) == [payload * 5]
    feed(proto, frame(BINARY, payload, fin=False) + more * 4)
    assert not proto.ended
    feed(proto, more)
    assert closed_with(proto) == 1008
    assert "5 fragments" in proto.control.reason


# The largest limit: a frame's close reason has 123 bytes.
@pytest.mark.parametrize("most", [5, 2**63 - 1])
def test_a_close_reason_names_the_option_that_raises_the_limit(most):
    proto = protocol(limit=most)
    feed(proto, frame(BINARY, b"x", fin=False) + struct.pack("!BBQ", 0x80, 127, 2**63 - 1))
    assert closed_with(proto) == 1009
    assert proto.control.reason == f"a message is over the {most} bytes of max_message_size"
    assert len(proto.control.reason) <= 123
    proto = protocol(fragments=5)
    feed(proto, frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 5)
    assert closed_with(proto) == 1008
    assert proto.control.reason == "a message has more than the 5 fragments of max_fragments"


@pytest.mark.abuse(45)
@pytest.mark.parametrize(
    ("client", "opcode", "payload"), [(True, TEXT, b""), (False, BINARY, b"x")]
)
def test_a_million_empty_fragments_cost_little(client, opcode, payload):
    proto = protocol(client=client)
    feed(proto, frame(opcode, payload, fin=False, mask=not client))
    burst = frame(CONTINUATION, payload, fin=False, mask=not client) * 1000
    fed, _ = fed_until_ended(proto, burst, 1000, measured=False)
    assert fed == 132_000  # the first burst that does not go into 131,072
    assert closed_with(proto) == 1008


@pytest.mark.abuse(45)
@pytest.mark.parametrize(("opcode", "payload"), [(TEXT, b""), (BINARY, b"x")])
def test_empty_fragments_take_little_memory(opcode, payload):
    for _ in range(2):  # in the second round nothing is made for good, such as a tracer's notes
        proto = protocol(fragments=15_000)
        feed(proto, frame(opcode, payload, fin=False))
        fed, peak = fed_until_ended(proto, frame(CONTINUATION, payload, fin=False) * 1000, 1000)
    assert fed == 15_000
    assert peak < 80 * KIB  # a pointer for each would be 120,000 bytes


def test_what_is_found_first_counts():
    bad = frame(TEXT, b"ok", fin=False) + frame(CONTINUATION, b"bad\xff", fin=False)
    good = frame(TEXT, b"ok", fin=False) + frame(CONTINUATION, b"good", fin=False)
    for wrong, code in (
        (frame(CONTINUATION, b"x" * 20), 1009),
        (frame(CONTINUATION, b"", fin=False) * 4, 1008),
        (frame(CONTINUATION, b"", rsv=4), 1002),
        (frame(CLOSE, struct.pack("!H", 1000)), 1000),
    ):
        for before, expected in ((bad, 1007), (good, code)):
            proto = protocol(limit=20, fragments=5)
            feed(proto, before + wrong)
            assert closed_with(proto) == expected
            assert not proto.ready


def test_fragments_and_what_is_between_them_in_one_window():
    proto = protocol()
    feed(
        proto,
        b"".join(
            [
                frame(TEXT, b"one"),
                frame(TEXT, "tw\u20ac".encode()[:3], fin=False),
                frame(CONTINUATION, "tw\u20ac".encode()[3:4], fin=False),
                frame(PING, b"now"),
                frame(CONTINUATION, "tw\u20ac".encode()[4:], fin=False),
                frame(CONTINUATION, b""),
                frame(BINARY, b"thr", fin=False),
                frame(CONTINUATION, b"ee"),
                frame(BINARY, b"four"),
            ]
        ),
    )
    assert list(proto.ready) == ["one", "tw\u20ac", b"three", b"four"]
    assert answers(proto) == [(0x8A, b"now")]


def test_no_memory_for_a_fragment(monkeypatch):
    def fail(*_):
        raise MemoryError

    for name in ("read_fragments", "read_payload"):
        proto = protocol()
        feed(proto, frame(BINARY, b"begun", fin=False))
        with monkeypatch.context() as patch:
            patch.setattr(f"scriptling_ws._kernel.{name}", fail)
            feed(proto, frame(CONTINUATION, bytes(100))[:50])
        assert closed_with(proto) == 1009
        assert "no memory" in proto.control.reason


def test_no_memory_for_what_moves_out_of_a_callers_buffer(monkeypatch):
    def fail(*_):
        raise MemoryError

    proto, target = protocol(), bytearray(20_000)
    proto.unreceived.stream(Piecemeal(memoryview(target)))
    feed(proto, frame(BINARY, bytes(range(256)) * 40)[:9000])
    with monkeypatch.context() as patch:
        patch.setattr("scriptling_ws._kernel.allocate", fail)
        proto.stream_no_more()
    assert closed_with(proto) == 1009
    assert "no memory" in proto.control.reason
    assert proto.ended
    target.clear()  # which a view of it would not allow


def test_no_memory_for_a_message_that_was_received():
    class Full(deque):
        def append(self, item):
            raise MemoryError

        extend = __iadd__ = append

    def receive(window):
        window[: len(data)] = data
        return len(data)

    proto = protocol()
    data = frame(TEXT, b"first") + frame(BINARY, b"second")
    window = proto.window
    proto.window = kernel.Window(4096, False, False, 1000, Full())
    with pytest.raises(MemoryError):
        channel_receive(proto, receive)
    window.data, window.unfed = proto.window.data, proto.window.unfed
    window.plain, proto.window = False, window
    assert channel_receive(proto, None) is None  # it is fed first
    proto.feed(window.unfed)
    assert list(proto.ready) == ["first", b"second"]


@roles
@pytest.mark.parametrize(
    ("opcode", "payload", "cut"),
    [
        (PING, b"a", 0),
        (CLOSE, b"\x03\xe8", 0),
        (TEXT, b"half of it", 5),
        (TEXT, b"\xff", 0),
        (BINARY, bytes(200_000), 190_000),
    ],
    ids=["control", "close", "half", "bad", "large"],
)
def test_what_was_received_and_is_no_whole_message_is_fed_before_more_is(
    client, opcode, payload, cut
):
    """A signal handler that raises in between makes the next call begin here."""

    def receive(window):
        count = min(len(window), len(data))
        window[:count] = data[:count]
        return count

    whole = frame(opcode, payload, mask=not client)
    data = frame(TEXT, b"first", mask=not client) + whole[: len(whole) - cut]
    proto, other = protocol(client=client), protocol(client=client)
    assert channel_receive(proto, receive) is None
    unfed = proto.window.unfed
    assert unfed
    assert channel_receive(proto, None) is None
    assert proto.window.unfed == unfed
    while proto.window.unfed is not None:  # an error is put off once
        proto.feed(proto.window.unfed)
    feed(other, data[:unfed])
    assert state(proto) == state(other)


@pytest.mark.parametrize("name", ["read_fragments", "read_payload", "seal_room"])
@pytest.mark.parametrize("before", [True, False])
def test_an_exception_between_fragments_ends_the_connection(name, before, monkeypatch):
    """What a signal handler raises around a call of the kernel: nothing false is delivered."""
    original = getattr(kernel, name)

    def interrupted(*arguments):
        if not before:
            original(*arguments)
        raise KeyboardInterrupt

    proto = protocol()
    feed(proto, frame(BINARY, b"begun", fin=False))
    data = frame(CONTINUATION, b"all of it") + frame(BINARY, b"next")[:3]
    if name == "read_payload":
        data = frame(CONTINUATION, b"part")[:4]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"scriptling_ws._kernel.{name}", interrupted)
        feed(proto, data)
    assert not proto.ready
    feed(proto, frame(CONTINUATION, b"x") + frame(BINARY, b"y"))
    assert closed_with(proto) == 1011
    assert not proto.ready


def dripped(data, step):
    """The message whose bytes come a few at a time, and the most memory in the second half."""
    proto = protocol()
    tracemalloc.start()
    for index in range(0, len(data), step):
        piece = data[index : index + step]
        proto.space()[: len(piece)] = piece
        proto.feed(len(piece))
        if len(data) // 2 <= index < len(data) // 2 + step:
            tracemalloc.reset_peak()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (message,) = proto.ready
    return message, peak


# What comes byte by byte takes the memory of its bytes, and of the message that they become. An
# object kept for each piece would take more. A large message is larger than a window.
@pytest.mark.abuse(41, 46)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize(("size", "step"), [(20_000, 1), (140_000, 8)])
def test_a_drip_is_linear(opcode, size, step):
    message, peak = dripped(frame(opcode, b"x" * size), step)
    assert message == ("x" if opcode == TEXT else b"x") * size
    assert peak < 2 * size + 16 * KIB


@pytest.mark.abuse(41, 46)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_drip_of_fragments_is_linear(opcode):
    size = 5000
    more = frame(CONTINUATION, b"x", fin=False) * (size - 2) + frame(CONTINUATION, b"x")
    message, peak = dripped(frame(opcode, b"x", fin=False) + more, 1)
    assert message == ("x" if opcode == TEXT else b"x") * size
    assert peak < 2 * size + 16 * KIB


@roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_large_message_takes_its_size_and_little_more(client, opcode):
    size = 8 * MIB
    data = frame(opcode, bytes(size), mask=not client)
    proto = protocol(client=client)
    tracemalloc.start()
    feed(proto, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(proto.ready[0]) == size
    copies = 2 if opcode == TEXT else 1  # a str is another object than the bytes it came as
    if proto.ready[0].__class__ is bytes and not PURE:
        assert peak < size + 2 * 256 * 1024
    assert peak < (copies + 1) * size + MIB


@roles
@pytest.mark.parametrize("each", [100_000, 128 * 1024 + 1, 1_000_000])
def test_a_large_message_in_fragments_takes_its_size_and_little_more(client, each):
    make = functools.partial(frame, mask=not client)
    count = 8 * MIB // each
    size = count * each + 5
    data = make(BINARY, b"begun", fin=False)
    data += make(CONTINUATION, bytes(each), fin=False) * count + make(CONTINUATION, b"")
    proto = protocol(client=client)
    tracemalloc.start()
    feed(proto, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert proto.ready[0] == b"begun" + bytes(size - 5)
    if FINE_STEPS:
        assert peak < size + 512 * 1024
    assert peak < 2.2 * size + MIB


def test_an_idle_connection_keeps_a_small_window():
    proto = protocol()
    feed(proto, frame(BINARY, bytes(1000)) * 2000)
    assert len(memoryview(proto.space())) > 1024
    proto.relax()
    assert len(memoryview(proto.space())) == 1024
    feed(proto, frame(TEXT, b"still fine"))
    assert proto.ready[-1] == "still fine"


def test_relaxing_loses_nothing_of_half_a_header():
    proto = protocol()
    feed(proto, frame(BINARY, bytes(1000)) * 2000 + frame(PING, b"ping")[:3])
    proto.relax()
    feed(proto, frame(PING, b"ping")[3:] + frame(TEXT, b"ok"))
    assert answers(proto) == [(0x8A, b"ping")]
    assert proto.ready[-1] == "ok"


def test_there_is_always_space():
    proto = protocol()
    data = (frame(BINARY, bytes(100)) + frame(PING, bytes(125))) * 3000
    for size in (1, 4095, 4096, 4097, 10_000, 300_000):
        feed(proto, data[:size], 5000)
        assert len(memoryview(proto.space())) > 0
        proto = protocol()


# -- control frames --------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"x", bytes(125), b"\xff\x00"])
@roles
def test_a_ping_is_answered_with_its_payload(client, payload):
    proto = protocol(client=client)
    feed(proto, frame(PING, payload, mask=not client))
    assert answers(proto) == [(0x8A, payload)]
    assert list(proto.ready) == []
    assert proto.control.open


@pytest.mark.abuse(44)
def test_a_ping_between_fragments_is_answered_at_once():
    proto = protocol()
    feed(proto, frame(TEXT, b"a", fin=False) + frame(PING, b"now"))
    assert answers(proto) == [(0x8A, b"now")]
    feed(proto, frame(CONTINUATION, b"b"))
    assert list(proto.ready) == ["ab"]


def test_a_ping_after_a_close_is_not_answered():
    proto = protocol()
    assert proto.control.close(1000, "")
    feed(proto, frame(PING, b"late"))
    assert answers(proto) == []
    assert not proto.ended


@pytest.mark.abuse(55)
def test_a_stray_pong_is_ignored():
    proto = protocol()
    feed(proto, frame(PONG) + frame(PONG, b"x" * 125) + frame(TEXT, b"ok"))
    assert list(proto.ready) == ["ok"]
    assert answers(proto) == []
    assert proto.control.open


@pytest.mark.abuse(55)
def test_stray_pongs_do_not_pile_up():
    proto = protocol()
    burst = frame(PONG, bytes(125)) * 100
    feed(proto, burst)
    tracemalloc.start()
    for _ in range(30):
        feed(proto, burst)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 100_000


@pytest.mark.abuse(54)
@pytest.mark.parametrize("size", [0, 125])
def test_pings_of_a_peer_that_does_not_read_do_not_pile_up(size):
    proto = protocol()
    burst = frame(PING, bytes(size)) * 500
    tracemalloc.start()
    for _ in range(4):
        feed(proto, burst)
        proto.drop_stale_pongs()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(proto.outbox) == 1
    assert peak < (48 + size) * KIB  # all of them would be twice as much


@pytest.mark.abuse(54)
def test_one_segment_full_of_small_pings_does_not_pile_up_answers():
    proto = protocol()
    feed(proto, frame(BINARY, bytes(1000)) * 2000)  # for the largest window
    proto.ready.clear()
    feed(proto, frame(PING) * 20_000)
    assert 0 < len(proto.outbox) <= 1000
    assert answers(proto)[-1] == (0x8A, b"")


def test_of_unsent_pongs_the_newest_stays():
    proto = protocol()
    feed(proto, b"".join(frame(PING, b"%d" % number) for number in range(10)))
    assert len(proto.outbox) == 10
    proto.drop_stale_pongs()
    assert answers(proto) == [(0x8A, b"9")]
    feed(proto, frame(PING, b"10") + frame(CLOSE))
    proto.drop_stale_pongs()
    assert answers(proto) == [(0x8A, b"10"), (0x88, b"")]


# -- closing ---------------------------------------------------------------

GOOD_CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]


# What is valid is echoed, 1014 among it.
@pytest.mark.abuse(48, 49)
@few_steps
@looped("code", GOOD_CODES)
@roles
def test_a_close_frame_is_echoed(client, code, step):
    proto = protocol(client=client)
    payload = struct.pack("!H", code) + "gr\xfc\xdfe".encode()
    feed(proto, frame(CLOSE, payload, mask=not client), step)
    assert closed_with(proto) == code
    assert (proto.control.code, proto.control.reason) == (code, "gr\xfc\xdfe")
    assert proto.control.error is None
    assert proto.control.done
    assert proto.ended


@pytest.mark.abuse(49)
def test_a_close_frame_without_a_code():
    proto = protocol()
    feed(proto, frame(CLOSE))
    assert answers(proto) == [(0x88, b"")]
    assert (proto.control.code, proto.control.reason) == (1005, "")
    assert proto.control.done


def test_a_close_reason_of_123_bytes():
    proto = protocol()
    feed(proto, frame(CLOSE, b"\x03\xe8" + b"r" * 123))
    assert (proto.control.code, proto.control.reason) == (1000, "r" * 123)


def test_a_close_frame_that_has_not_come_is_not_taken_in():
    proto, data = protocol(client=False), frame(CLOSE, b"\x03\xe8", mask=True)
    assert not proto.feed_close()
    feed(proto, data[:7])
    assert not proto.feed_close()
    feed(proto, data[7:])
    assert (proto.ended, closed_with(proto)) == (True, 1000)


def test_messages_before_a_close_frame_stay():
    proto = protocol()
    feed(proto, frame(TEXT, b"a") + frame(BINARY, b"b") + frame(CLOSE))
    assert list(proto.ready) == ["a", b"b"]
    assert proto.ended


@pytest.mark.abuse(49)
def test_what_comes_after_a_close_frame_is_ignored():
    proto = protocol()
    rest = frame(TEXT, b"late") + frame(PING) + frame(3) + LONG(0x82, 127, 2**63)
    feed(proto, frame(CLOSE, b"\x03\xe8") + rest)
    feed(proto, rest, 1)
    assert list(proto.ready) == []
    assert answers(proto) == [(0x88, b"\x03\xe8")]
    assert proto.control.error is None


def test_a_close_inside_a_fragmented_message():
    proto = protocol()
    feed(proto, frame(TEXT, b"a", fin=False) + frame(CLOSE, b"\x03\xe8") + frame(CONTINUATION))
    assert list(proto.ready) == []
    assert closed_with(proto) == 1000


@pytest.mark.parametrize("answer", [b"\x03\xe8", b"\x0f\xa0other", b""])
def test_the_answer_to_our_close(answer):
    proto = protocol()
    assert parse(proto.control.close(1001, "bye")) == [(0x88, b"\x03\xe9bye")]
    assert proto.control.close(1000, "") == b""
    assert not proto.control.open
    assert not proto.control.done
    feed(proto, frame(TEXT, b"still under way") + frame(CLOSE, answer))
    assert list(proto.ready) == ["still under way"]
    assert answers(proto) == []
    assert (proto.control.code, proto.control.reason) == (1001, "bye")
    assert proto.control.done
    assert proto.ended


def test_a_bad_answer_to_our_close():
    proto = protocol()
    proto.control.close(1000, "")
    feed(proto, frame(CLOSE, b"\x03"))
    assert answers(proto) == []
    assert proto.control.code == 1000
    assert proto.ended


def test_a_violation_after_our_close_sends_nothing_more():
    proto = protocol()
    proto.control.close(1000, "")
    feed(proto, frame(3))
    assert answers(proto) == []
    assert proto.control.code == 1000
    assert proto.control.error.code == 1002
    assert proto.ended


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"\x81",
        frame(TEXT, b"a", fin=False),
        frame(BINARY, bytes(200_000))[:-1],
        b"\x88\x02\x03",
    ],
)
def test_the_end_of_the_stream_without_a_close_frame(before):
    proto = protocol()
    feed(proto, frame(TEXT, b"whole") + before)
    proto.end()
    assert list(proto.ready) == ["whole"]
    assert (proto.control.code, proto.control.reason) == (1006, "")
    assert proto.control.done
    assert proto.ended
    assert answers(proto) == []
    proto.end()
    assert proto.control.code == 1006


def test_the_end_after_a_close_frame_changes_nothing():
    proto = protocol()
    feed(proto, frame(CLOSE, b"\x0f\xa0bye"))
    proto.end()
    assert (proto.control.code, proto.control.reason) == (4000, "bye")


def test_a_failure_is_told_in_the_close_frame():
    proto = protocol()
    proto.fail(1011, "x" * 200)
    assert closed_with(proto) == 1011
    (close,) = answers(proto)
    assert close[1][2:] == b"x" * len(close[1][2:])
    assert len(close[1]) <= 125


@pytest.mark.parametrize("keep", [True, False])
def test_discarding(keep):
    proto = protocol()
    feed(proto, frame(TEXT, b"old") + frame(TEXT, b"ha", fin=False))
    proto.unreceived.discard(keep_ready=keep)
    feed(proto, frame(CONTINUATION, b"lf") + frame(TEXT, b"new") + frame(BINARY, bytes(200_000)))
    feed(proto, frame(PING))
    assert list(proto.ready) == (["old"] if keep else [])
    assert answers(proto) == [(0x8A, b"")]
    feed(proto, frame(CLOSE))
    assert proto.ended


# -- anything at all -------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.booleans(), st.integers(1, 50))
def test_any_bytes_give_the_same_in_any_pieces(data, client, step):
    whole, pieces = protocol(client=client, limit=1000), protocol(client=client, limit=1000)
    feed(whole, data)
    feed(pieces, data, step)
    assert state(whole)[:3] == state(pieces)[:3] or not whole.ended
    if whole.ended:
        assert pieces.ended
        assert whole.control.code in (1000, *range(1001, 1015), *range(3000, 5000), 1005)


@settings(max_examples=100, deadline=None)
@given(streams(), st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_byte_never_escapes_as_an_exception(made, position, value):
    client, _, data, _ = made
    if not data:
        return
    position %= len(data)
    mutant = data[:position] + bytes([value]) + data[position + 1 :]
    whole, drip = protocol(client=client), protocol(client=client)
    feed(whole, mutant)
    feed(drip, mutant, 1)
    assert state(whole) == state(drip)


def test_time_for_many_small_messages_is_linear():
    def cost(count):
        proto = protocol()
        data = frame(TEXT, b"x") * count
        start = time.process_time()
        feed(proto, data, 1000)
        return time.process_time() - start

    cost(1000)
    assert cost(200_000) < 100 * max(cost(20_000), 0.001)


def test_what_wsproto_refuses_is_a_violation(monkeypatch):
    def refuse(data):
        raise RemoteProtocolError("not like this")

    control = Control(client=True)
    monkeypatch.setattr(control._asked, "receive_data", refuse)
    assert control.receive(PING, b"", None)[0] == 0x80 | CLOSE
    assert control.code == 1002
    assert isinstance(control.error, ProtocolError)


# -- what comes next, before it is taken ---------------------------------------


@pytest.mark.parametrize(
    ("before", "ahead", "count"),
    [
        (b"", b"", 0),
        (b"", frame(PING, b"a") + frame(PONG, b"bc"), 3 + 4),
        (b"", frame(PING, b"a") + frame(TEXT, b"text"), 3),
        (b"", frame(PING, b"a") + frame(PING, b"abc")[:4], 3),
        (b"", frame(TEXT, b"text") + frame(PING), 0),
        (frame(PING, b"abc")[:1], frame(PING, b"abc")[1:], 4),
        (frame(PING, b"abc")[:1], frame(PING, b"abc")[1:4], 0),
        (frame(TEXT, b"text")[:3], frame(TEXT, b"text")[3:] + frame(PING), 0),
        (frame(TEXT, b"a", fin=False), frame(PING), 2),
        (b"", frame(PING, bytes(126)), 130),  # which breaks the protocol
        (b"", b"\x89\x7f" + b"\xff" * 8 + b"x", 11),
        (frame(CLOSE), frame(TEXT, b"late"), 6),
    ],
)
def test_how_much_of_what_comes_next_is_no_message(before, ahead, count):
    proto = protocol()
    feed(proto, before)
    assert proto.controls(ahead) == count


def test_once_a_message_is_of_no_use_all_that_comes_next_is_none():
    proto = protocol()
    proto.unreceived.discard(keep_ready=True)
    assert proto.controls(frame(TEXT, b"late")) == 6


MESSAGE = frame(TEXT, b"hello")


@looped(
    ("ahead", "alone"),
    [
        (MESSAGE, True),
        (MESSAGE * 49, True),
        (MESSAGE * 50, True),
        (MESSAGE * 51, False),  # too many to go through
        (MESSAGE + MESSAGE[:4], True),
        (MESSAGE + MESSAGE[:1], True),
        (frame(BINARY, bytes(300), fin=False) + frame(CONTINUATION, b"end"), True),
        (frame(BINARY, bytes(70_000))[:1000], True),
        (MESSAGE + frame(PING, b""), False),
        (MESSAGE + frame(PING, b"")[:2], False),
        (MESSAGE + frame(PONG, b"x") + MESSAGE, False),
        (MESSAGE + frame(CLOSE, b""), False),
        (frame(TEXT, bytes(70_000)) + frame(PING, b""), False),
        (MESSAGE + b"\x01\xff" + b"\xff" * 8, False),  # an error is not to be left there
    ],
)
def test_whether_messages_are_all_that_has_come(ahead, alone):
    proto = protocol(client=True)
    assert proto.messages_alone(ahead) is alone


def test_whether_messages_are_all_is_not_known_inside_of_one():
    proto = protocol(client=True)
    large = frame(TEXT, b"x" * 5000)
    feed(proto, large[:3000])
    assert not proto.messages_alone(large[3000:])
    feed(proto, large[3000:] + MESSAGE[:1])  # half a header stays in the window
    assert proto.messages_alone(MESSAGE[1:])
    assert not proto.messages_alone(MESSAGE[1:] + frame(PING, b""))
