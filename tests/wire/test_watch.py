"""The look at frames as they pass: whatever the pieces are in which they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import raw_frame
from kernels import KEY
from scriptling_ws._wire.watch import Lost, Seen, Watch
from strategies import quick

pytestmark = pytest.mark.once("whichever kernel reads the headers: its own tests show it")

SHOWN = 64

payloads = st.one_of(
    st.binary(max_size=130),
    st.builds(
        lambda byte, size: byte * size,
        st.binary(min_size=1, max_size=1),
        st.sampled_from([SHOWN - 1, SHOWN, SHOWN + 1, 125, 126, 127, 1000, 65535, 65536]),
    ),
)
frames = st.tuples(
    st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A, 0xC1, 0x41, 0xC2, 0xF1]),
    payloads,
    st.sampled_from([None, KEY]),
)


def fed(watch, data):
    return list(watch.feed(memoryview(data)))


def expected(frames):
    """What a watch has to see, said without it."""
    text = compressed = False
    for first, payload, _ in frames:
        opcode = first & 0x0F
        if opcode in (1, 2):
            text, compressed = opcode == 1, bool(first & 0x40)
        control = opcode >= 8
        start = payload[: 125 if control else SHOWN]
        yield Seen(first, len(payload), start, text and not control, compressed and not control)


@quick
@given(st.lists(frames, max_size=6), st.lists(st.integers(1, 400), max_size=12))
def test_any_frames_in_any_pieces(frames, cuts):
    stream = b"".join(raw_frame(*frame) for frame in frames)
    watch, seen, at = Watch(), [], 0
    for cut in [*cuts, len(stream)]:
        seen += fed(watch, stream[at : at + cut])
        at += cut
    assert seen == list(expected(frames))
    assert not watch.unfinished


def test_byte_by_byte():
    stream = raw_frame(0x81, "h\u00e4".encode(), KEY) + raw_frame(0x82, bytes(300)) + b"\x89\0"
    watch, when = Watch(), {}
    for i in range(len(stream)):
        for seen in fed(watch, stream[i : i + 1]):
            when[i] = (seen.first, seen.length)
    # Each as soon as its beginning is there.
    assert when == {8: (0x81, 3), 9 + 4 + SHOWN - 1: (0x82, 300), len(stream) - 1: (0x89, 0)}


def test_a_frame_that_does_not_end():
    watch = Watch()
    assert not watch.unfinished
    assert fed(watch, b"\x81") == []
    assert watch.unfinished
    assert [seen.start for seen in fed(watch, b"\x03abc")] == [b"abc"]
    assert not watch.unfinished
    assert len(fed(watch, raw_frame(0x82, bytes(1000))[:500])) == 1
    assert watch.unfinished


def test_what_is_no_frame_is_said_once():
    watch = Watch()
    seen = fed(watch, b"\x81\x01a" + b"\x82\x7e\x00\x05hello")
    assert [type(each) for each in seen] == [Seen, Lost]
    assert "not in its shortest form" in seen[1].why
    assert seen[1].start == b"\x82\x7e\x00\x05hello"
    assert fed(watch, b"\x81\x01a") == []
    assert not watch.unfinished


def test_a_look_that_was_interrupted():
    watch = Watch()
    looking = watch.feed(memoryview(b"\x81\x01a\x81\x01b"))
    assert next(looking).start == b"a"
    looking.close()  # as an exception does in the code that is given the frames
    (lost,) = fed(watch, b"\x81\x01c")
    assert "interrupted" in lost.why
    assert fed(watch, b"\x81\x01d") == []


def test_a_large_payload_is_not_copied():
    watch = Watch()
    data = bytearray(raw_frame(0x82, bytes(1 << 20)))
    with memoryview(data) as view:
        (seen,) = watch.feed(view)
    assert len(seen.start) == SHOWN
    data += b"\x81\x00"  # nothing holds the buffer
    with memoryview(data) as view, view[-2:] as rest:
        assert [each.first for each in watch.feed(rest)] == [0x81]
