"""A channel does the same in each of its ways, whatever comes and whatever is called.

Equal results, exceptions and their texts, messages, notes in the window, and frames on the wire
(but for the masking keys); and equal calls of the writer.
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import kernels
from channels import FREE_THREADED, WAYS, Session, Way
from frames import raw_frame
from kernels import BINARY, KEY, TEXT
from strategies import cut_texts, four, good_frames, odd_frames, payloads, quick, windows

pytestmark = pytest.mark.once("it has all ways each time")

options = st.fixed_dictionaries(
    {
        "masks": st.booleans(),
        "masked": st.sampled_from([*[True] * 9, False]),
        "as_list": st.booleans(),
        "as_utf8": st.booleans(),
        "limit": st.sampled_from([*[2**20] * 7, 2**63 - 1, 125, 0]),
        "room": st.sampled_from([*[4096] * 5, 65_536, 65_537, 64, 7]),
        "fills": st.booleans(),
    }
)

# What is sent: of every kind and size, some of it refused.
kinds = st.sampled_from([bytes, list, tuple, *([] if FREE_THREADED else [bytearray])])
binaries = st.one_of(
    st.builds(lambda kind, data: kind(data), kinds, payloads),
    st.builds(lambda kind, size: kind(bytes(size)), kinds, st.sampled_from([4096, 4097, 65_536])),
    st.sampled_from([[256], (0, -1), [True], [0] * 5000 + [256], bytes(2**18 + 1), "text", None]),
)
texts = st.one_of(
    st.text(max_size=80),
    st.builds(lambda text, count: text * count, st.text(min_size=1), st.integers(0, 5000)),
    st.sampled_from(["\ud800", "a" * 2**18, "é" * 2**17 + "a", "a" * (2**18 + 1), b"bytes", 5]),
)

encoded = st.one_of(
    st.builds(lambda kind, text: kind(text.encode("utf-8", "surrogatepass")), kinds, st.text()),
    st.builds(lambda kind, data: kind(data), kinds, cut_texts),
    st.sampled_from([b"a" * 2**18, "é".encode() * 2**17, b"a" * 2**18 + b"b", b"\xff", "text", 5]),
)

# What comes: frames that are mostly right, whole or in pieces.
good = st.lists(good_frames, min_size=1, max_size=3).map(b"".join)
arriving = st.one_of(
    *(good, good, good, windows),
    odd_frames,
    st.builds(
        lambda data, cut: data[:cut],
        st.builds(raw_frame, st.just(BINARY), payloads, four),
        st.integers(1, 60),
    ),
)
timeouts = st.sampled_from([0, 2.0, None, 0.5, -1, True, "1", float("nan"), float("inf"), 10**400])

FLAGS = ("open", "closing", "orphaned", "alone", "compresses", "look_due", "heard")

calls = st.one_of(
    st.tuples(st.just("send_text"), texts),
    st.tuples(st.just("send_binary"), binaries),
    st.tuples(st.just("send_utf8"), encoded),
    st.tuples(st.just("send_frame"), st.sampled_from([TEXT, BINARY, 0x8A, 0xC1]), payloads),
    st.tuples(st.just("receive"), timeouts),
    st.tuples(st.just("turn"), st.sampled_from(FLAGS)),
    st.sampled_from([("answer",), ("rest",), ("finish",), ("send", bytearray(b"\x81\0"))]),
).map(lambda call: [call])
arrivals = st.builds(
    lambda data, timeout, times: [("arrive", data), *[("receive", timeout)] * times],
    arriving,
    st.sampled_from([0, 0.5, 2.0, None]),
    st.integers(0, 4),
)
sessions = st.lists(st.one_of(arrivals, arrivals, calls), min_size=4, max_size=16).map(
    lambda groups: [step for group in groups for step in group]
)


def outcomes(name, options, steps):
    """What each step comes to."""
    with Session(Way.named(name), **options) as each:
        return [each.step(*step) for step in steps]


@settings(quick, max_examples=100)
@given(options, sessions)
@example({"masks": False}, [("send_text", "é" * 2**17 + "a" * more) for more in (0, 1, 4, 5)])
@example({"masks": True}, [("rest",), ("send_binary", [256]), ("rest",), ("send_binary", [256])])
@example({"masked": True}, [("arrive", b"\x81\x85" + KEY), ("receive", 0), ("receive", 2.0)])
@example({"as_utf8": True}, [("arrive", b"\x81\x02\xc3\xa9"), ("receive", 0), ("receive", 2.0)])
@example({"as_utf8": True}, [("arrive", b"\x81\x02\xc3("), ("receive", 0), ("receive", 2.0)])
@example({"masks": True}, [("send_utf8", "é".encode() * 2**17 + b"a" * more) for more in (0, 1)])
@example({"masks": False}, [("send_utf8", data) for data in (b"", b"\xed\xa0\x80", b"ok\xf0\x9f")])
def test_sessions(options, steps):
    kernels.load("compiled")
    expected = outcomes("pure", options, steps)
    for name in WAYS:
        assert outcomes(name, options, steps) == expected, name


@quick
@given(st.lists(arriving, min_size=1, max_size=6), st.lists(st.integers(1, 5000), max_size=9))
def test_streams_in_chunks(arriving, sizes):
    """Most of it is messages here, in any chunks."""
    data, chunks = b"".join(arriving), []
    for size in [*sizes, 60_000]:
        chunks.append(data[:size])
        data = data[size:]
    steps = [
        step
        for chunk in chunks
        for step in (("arrive", chunk), *[("receive", 2.0)] * len(arriving))
    ]
    kernels.load("compiled")
    expected = outcomes("pure", {"masked": True, "limit": 5000}, steps)
    for name in WAYS:
        assert outcomes(name, {"masked": True, "limit": 5000}, steps) == expected, name
