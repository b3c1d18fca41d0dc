"""The codec of permessage-deflate (RFC 7692 section 7.2), against zlib itself."""

import json
import os
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looped import looped
from memory import tracemalloc
from pairs import KIB, MIB
from protocols import bomb, deflated
from scriptling_ws._errors import Violation
from scriptling_ws._wire.deflate import Compressor, Decompressor

pytestmark = pytest.mark.once

NO_LIMIT = 2**63 - 1
TAIL = b"\x00\x00\xff\xff"
HELLO = bytes.fromhex("f248cdc9c90700")  # the example of section 7.2.3.1


def decompressor(*, bits=15, takeover=True, limit=NO_LIMIT):
    return Decompressor(bits, takeover, limit)


def inflate(inflater, *pieces):
    """One message."""
    for piece in pieces:
        inflater.feed(memoryview(piece))
    message = bytes(memoryview(inflater.finish())[: inflater.size])
    inflater.forget()
    return message


def refused(inflater, *pieces):
    """The code with which a message is refused."""
    with pytest.raises(Violation) as caught:
        inflate(inflater, *pieces)
    return caught.value.code


def outcome(inflater, *pieces):
    """A message, or the code with which it is refused."""
    try:
        return inflate(inflater, *pieces)
    except Violation as error:
        return error.code


def compress(compressor, message):
    """One message that was sent."""
    (data,) = compressor.compress([message])
    compressor.sent()
    return bytes(data)


def chunks(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


def texts(count):
    """Messages that resemble each other, as those of a feed do."""
    return [json.dumps({"id": i, "price": i * 7, "side": "buy"}).encode() for i in range(count)]


# -- inflating ---------------------------------------------------------------


# Section 7.2.3, example for example.
@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("f2 48 cd c9 c9 07 00", b"Hello"),
        ("00 05 00 fa ff 48 65 6c 6c 6f 00", b"Hello"),  # not compressed
        ("f3 48 cd c9 c9 07 00 00", b"Hello"),  # with a final block
        ("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", b"Hello"),  # two blocks
        ("00", b""),
        ("02 00", b""),
        ("03 00 00", b""),
    ],
)
def test_the_examples_of_the_rfc(payload, message):
    payload = bytes.fromhex(payload)
    inflater = decompressor()
    assert inflate(inflater, payload) == message
    assert inflate(inflater, *chunks(payload, 1)) == message


def test_the_second_message_refers_to_the_first():
    inflater = decompressor()
    assert inflate(inflater, HELLO) == b"Hello"
    again = bytes.fromhex("f200110000")  # section 7.2.3.2
    assert inflate(inflater, again) == b"Hello"
    assert inflate(inflater, again) == b"Hello"


def test_without_takeover_nothing_is_referred_to():
    inflater = decompressor(takeover=False)
    assert inflate(inflater, HELLO) == b"Hello"
    assert refused(inflater, bytes.fromhex("f200110000")) == 1007


@pytest.mark.parametrize("size", [0, 1, 3, 100, 4095, 4096, 4097, 8192, 8193, 100_000, 3 * MIB])
@pytest.mark.parametrize("end", [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH])
def test_what_zlib_compressed(size, end):
    inflater = decompressor()
    for kind in (bytes(size), os.urandom(size), (b"some text, " * (size // 11 + 1))[:size]):
        payload = deflated(kind, end=end) + (b"\0" if end == zlib.Z_FINISH else b"")
        assert inflate(inflater, payload or b"\0") == kind
        if size <= 100_000:
            assert inflate(inflater, *chunks(payload or b"\0", 7)) == kind


def test_a_final_block_without_the_byte_after_it():
    inflater = decompressor()
    assert inflate(inflater, deflated(b"Hello", end=zlib.Z_FINISH)) == b"Hello"
    assert inflate(inflater, HELLO) == b"Hello"


@looped("size", range(4090, 4120))
def test_the_end_of_a_final_block_is_seen_behind_a_full_piece(size):
    # zlib has read it before it has given all that comes before it.
    inflater = decompressor()
    assert inflate(inflater, deflated(b"a" * size, end=zlib.Z_FINISH)) == b"a" * size
    assert inflate(inflater, HELLO) == b"Hello"


def test_final_blocks_in_the_middle():
    first, second = deflated(b"one, ", end=zlib.Z_FINISH), deflated(b"two", end=zlib.Z_FINISH)
    inflater = decompressor()
    for size in (1, 2, 100):
        assert inflate(inflater, *chunks(first + second + b"\0", size)) == b"one, two"


def test_pieces_without_data():
    assert inflate(decompressor(), b"", HELLO, b"") == b"Hello"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff" * 20,
        b"\x07",
        b"hello",
        b"\x78\x9c" + HELLO,  # zlib's own header
        b"\x00\x05\x00\xfa\xfe",  # the lengths of a stored block differ
        HELLO[:-1] + b"\x06",
    ],
)
def test_what_is_not_deflate(payload):
    assert refused(decompressor(), payload) == 1007
    assert refused(decompressor(), *chunks(payload, 1)) == 1007


def test_a_reference_before_the_window():
    stream = zlib.compressobj(wbits=-15)
    block = os.urandom(2000)
    payload = stream.compress(block + block) + stream.flush(zlib.Z_SYNC_FLUSH)
    pieces = chunks(payload.removesuffix(TAIL), 100)
    assert inflate(decompressor(bits=11), *pieces) == block + block
    assert refused(decompressor(bits=9), *pieces) == 1007


# -- the limit ---------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 5, 8191, 8192, 8193, 65_536, 65_537, 100_001, MIB])
def test_the_limit_is_exact(limit):
    for data in (bytes(limit), os.urandom(limit)):
        assert inflate(decompressor(limit=limit), deflated(data)) == data
    assert refused(decompressor(limit=limit), deflated(bytes(limit + 1))) == 1009
    assert refused(decompressor(limit=limit), deflated(os.urandom(limit + 1))) == 1009


@pytest.mark.abuse(58)
def test_over_the_limit_and_then_corrupt():
    assert refused(decompressor(limit=1000), deflated(bytes(2000)) + b"\xff" * 100) == 1009


@pytest.mark.abuse(57)
@pytest.mark.parametrize("size", [100, 200_000])
@pytest.mark.parametrize("limit", [1000, 100_000, MIB, 16 * MIB, 16 * MIB + 4321])
def test_a_bomb_takes_no_more_memory_than_the_limit_and_64_kib(size, limit):
    pieces = [memoryview(piece) for piece in chunks(bomb(), size)]
    tracemalloc.start()
    try:
        inflater = decompressor(limit=limit)
        with pytest.raises(Violation) as caught:
            for piece in pieces:
                inflater.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code == 1009
    assert peak <= limit + 64 * KIB


def test_a_message_leaves_nothing_but_the_window():
    tracemalloc.start()
    try:
        inflater = decompressor()
        for _ in range(3):
            inflate(inflater, deflated(bytes(MIB)))
        assert tracemalloc.get_traced_memory()[0] <= 48 * KIB
        inflater = decompressor(takeover=False)
        inflate(inflater, deflated(bytes(MIB)))
        assert tracemalloc.get_traced_memory()[0] <= 4 * KIB
    finally:
        tracemalloc.stop()


def test_no_memory_is_the_limit_too(monkeypatch):
    inflater = decompressor()
    payload = deflated(bytes(MIB))

    def none(self, size):
        raise MemoryError

    monkeypatch.setattr(Decompressor, "_room", none)
    assert refused(inflater, payload) == 1009


# -- compressing -------------------------------------------------------------


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("takeover", [True, False])
def test_zlib_inflates_what_was_compressed(bits, takeover):
    compressor = Compressor(bits, takeover)
    stream = zlib.decompressobj(wbits=-bits)
    for message in [b"", b"", b"x", *texts(50), b"", os.urandom(70_000), bytes(MIB), b""]:
        payload = compress(compressor, message)
        assert payload
        if not takeover:
            stream = zlib.decompressobj(wbits=-bits)
        got = bytearray()
        data = payload + TAIL
        while data:  # in small steps, so that zlib has its window alone to refer to
            got += stream.decompress(data, 64)
            data = stream.unconsumed_tail
        assert got == message


def test_takeover_makes_messages_that_resemble_each_other_small():
    sizes = {
        takeover: sum(len(compress(compressor, message)) for message in texts(100))
        for takeover in (True, False)
        for compressor in [Compressor(15, takeover)]
    }
    assert sizes[True] * 2 < sizes[False]


def test_an_unsent_message_is_never_referred_to():
    compressor, inflater = Compressor(15, True), decompressor()
    for number, message in enumerate(texts(100)):
        (payload,) = compressor.compress([message])
        if number % 3:  # else it has got lost
            compressor.sent()
            assert inflate(inflater, payload) == message


def test_an_exception_inside_is_as_an_unsent_message(monkeypatch):
    compressor, inflater = Compressor(15, True), decompressor()
    assert inflate(inflater, compress(compressor, b"Hello, Hello")) == b"Hello, Hello"
    with pytest.raises(TypeError):
        compressor.compress([b"Hello", 1])
    with pytest.raises(BufferError):
        compressor.compress([memoryview(b"Hello, Hello")[::2]])
    compressor.sent()
    assert inflate(inflater, compress(compressor, b"Hello, Hello")) == b"Hello, Hello"


def test_no_context_before_the_first_message_and_none_kept_without_takeover():
    tracemalloc.start()
    try:
        compressor, other = Compressor(15, True), Compressor(15, False)
        inflater = decompressor()
        assert tracemalloc.get_traced_memory()[0] <= 2 * KIB
        compress(other, b"Hello")
        assert tracemalloc.get_traced_memory()[0] <= 4 * KIB
        compress(compressor, b"Hello")
        assert 200 * KIB <= tracemalloc.get_traced_memory()[0] <= 300 * KIB
        assert inflate(inflater, HELLO) == b"Hello"
    finally:
        tracemalloc.stop()


# docs/guarantees.md and docs/design.md have these figures, in KiB.
@pytest.mark.skipif("ng" in zlib.ZLIB_RUNTIME_VERSION, reason="zlib-ng takes other amounts")
@pytest.mark.parametrize(("bits", "out", "in_"), [(15, 262, 39), (12, 38, 11), (9, 10, 8)])
def test_what_a_context_takes(bits, out, in_):
    message = b"".join(texts(100))
    payload = deflated(message, bits=bits)
    compressor, inflater = Compressor(bits, True), decompressor(bits=bits)
    tracemalloc.start()
    try:
        compress(compressor, message)
        assert tracemalloc.get_traced_memory()[0] == pytest.approx(out * KIB, abs=2 * KIB)
        tracemalloc.clear_traces()
        assert inflate(inflater, payload) == message
        assert tracemalloc.get_traced_memory()[0] == pytest.approx(in_ * KIB, abs=2 * KIB)
    finally:
        tracemalloc.stop()


def test_an_empty_message_after_an_unsent_one():
    compressor, inflater = Compressor(15, True), decompressor()
    compressor.compress([b"Hello, Hello"])
    assert inflate(inflater, compress(compressor, b"")) == b""
    assert inflate(inflater, compress(compressor, b"Hello, Hello")) == b"Hello, Hello"


@pytest.mark.parametrize("takeover", [True, False])
def test_several_messages_that_are_sent_together(takeover):
    compressor, inflater = Compressor(15, takeover), decompressor(takeover=takeover)
    messages = [b"", *texts(5), b"", *texts(5)]
    for _ in range(3):
        payloads = compressor.compress(messages)
        compressor.sent()
        assert [inflate(inflater, payload) for payload in payloads] == messages


# -- both ----------------------------------------------------------------------


@given(
    messages=st.lists(st.binary(max_size=300) | st.integers(0, 50_000).map(lambda n: b"ab" * n)),
    bits=st.integers(9, 15),
    takeovers=st.tuples(st.booleans(), st.booleans()),
    size=st.integers(1, 5000),
    lost=st.randoms(use_true_random=False),
)
def test_round_trips(messages, bits, takeovers, size, lost):
    # The sender may do without takeover, whatever the receiver expects; not the reverse.
    compressor = Compressor(bits, all(takeovers))
    inflater = decompressor(bits=bits, takeover=takeovers[0])
    for message in messages:
        payload = bytes(*compressor.compress([message]))
        if lost.random() < 0.8:
            compressor.sent()
            assert inflate(inflater, *chunks(payload, size)) == message


@given(st.binary(max_size=200), st.integers(1, 300), st.integers(1, 200))
def test_any_bytes_are_inflated_or_refused_as_zlib_does(data, limit, size):
    expected = reference(data)
    got = outcome(decompressor(limit=limit), *chunks(data, size))
    if expected is not None and len(expected) <= limit:
        assert got == expected
    else:
        assert got in (1007, 1009)


def reference(data):
    """What zlib makes of a message without a limit, None for an error."""
    stream = zlib.decompressobj(wbits=-15)
    result = b""
    for part in (data, TAIL):
        rest = part if stream else b""  # nothing is added to what ends with a final block
        while rest:
            stream = stream or zlib.decompressobj(wbits=-15)
            try:
                result += stream.decompress(rest)
            except zlib.error:
                return None
            rest = stream.unused_data
            if stream.eof:
                stream = None
    return result if data else None


@given(st.randoms(use_true_random=False), st.binary(min_size=1, max_size=2000))
def test_a_damaged_message_never_does_harm(chance, message):
    payload = bytearray(deflated(message * 3))
    for _ in range(chance.randint(1, 4)):
        payload[chance.randrange(len(payload))] = chance.randrange(256)
    got = outcome(decompressor(limit=10 * KIB), payload)
    assert got in (1007, 1009) or len(got) <= 10 * KIB


def test_a_message_of_as_many_final_blocks_as_can_be():
    inflater = decompressor()
    assert inflate(inflater, b"\x03\x00" * 50_000 + b"\0") == b""


def test_random_streams_of_messages():
    chance = random.Random(1)
    compressor, inflater = Compressor(15, True), decompressor()
    for _ in range(300):
        message = chance.randbytes(chance.randrange(200)) * chance.randrange(1, 200)
        payload = compress(compressor, message)
        assert inflate(inflater, *chunks(payload, chance.randrange(1, 10_000))) == message
