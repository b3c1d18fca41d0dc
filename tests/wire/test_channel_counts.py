"""What a channel and its window count, in each of the ways, whoever goes on with it."""

import time

import pytest

from channels import SOON, End
from frames import raw_frame
from kernels import BINARY, KEY, TEXT
from looped import looped


def test_messages_that_are_sent(way):
    with End(way) as end:
        assert end.channel.sent == 0
        for count, send in enumerate(
            (
                lambda: end.send_text("a"),
                lambda: end.send_text("é" * 10_000),
                lambda: end.send_utf8("é".encode()),
                lambda: end.send_binary(b""),
                lambda: end.send_binary([1] * 10_000),
                lambda: end.send_binary((1, 2)),
                lambda: end.send(raw_frame(TEXT, b"x")),
            ),
            1,
        ):
            assert send() is True
            assert end.channel.sent == count
            end.drain()
        assert end.channel.payload == 1 + 20_000 + 2 + 0 + 10_000 + 2 + 1
        assert end.channel.wire == 3 + 20_004 + 4 + 2 + 10_004 + 4 + 3
        assert (end.channel.original, end.channel.deflated) == (0, 0)


@looped("masks", [False, True])
@looped("size", [0, 1, 125, 126, 65_535, 65_536])
def test_bytes_that_are_sent(way, masks, size):
    data = b"x" * size
    frame = raw_frame(TEXT, data, KEY if masks else None)
    with End(way, masks=masks) as end:
        for count, send in enumerate(
            (
                lambda: end.send_text(data.decode()),
                lambda: end.send_binary(data),
                lambda: end.send_binary(list(data)),
                lambda: end.send(frame),
            ),
            1,
        ):
            assert send() is True
            end.drain()
            assert end.sent() == (count, count * size, count * len(frame), 0, 0)


def test_bytes_of_several_messages(way):
    with End(way) as end:
        frames = raw_frame(TEXT, b"a" * 200) + raw_frame(BINARY, b"b")
        assert end.channel.send(frames, end.writer, 2, 201) is True
        assert end.sent() == (2, 201, len(frames), 0, 0)


def test_a_compressed_frame(way):
    with End(way) as end:
        frame = raw_frame(TEXT | 0x40, b"small")
        assert end.channel.send(frame, end.writer, 1, 1000) is True
        assert end.sent() == (1, 1000, len(frame), 1000, 5)
        assert end.send_binary(b"plain") is True
        assert end.sent() == (2, 1005, len(frame) + 7, 1000, 5)


def test_a_frame_that_the_writer_does_not_send(way):
    with End(way) as end:
        end.fill()
        end.writer.go_on = lambda _frame: False
        assert end.send_binary(b"x" * 1000) is False
        assert end.send(raw_frame(TEXT, b"x")) is False
        assert end.sent() == (0, 0, 0, 0, 0)
        assert not end.channel.writing.locked()


def test_frames_of_several_messages(way):
    with End(way) as end:
        frames = raw_frame(TEXT, b"a") + raw_frame(BINARY, b"b") + raw_frame(TEXT, b"c")
        assert end.channel.send(frames, end.writer, 3) is True
        assert end.channel.sent == 3
        assert end.channel.send(frames, end.writer, 0) is True
        assert end.channel.sent == 3


def test_what_the_writer_goes_on_with_counts_once(way):
    with End(way) as end:
        end.fill()
        assert end.send_binary(b"x" * 1000) is True
        assert [name for name, *_ in end.writer.calls] == ["go_on"]
        assert end.sent() == (1, 1000, 1004, 0, 0)


def test_what_is_not_sent_does_not_count(way):
    with End(way) as end:
        end.answers.append(b"\x8a\0")
        assert end.send_text("a") is False
        end.answers.clear()
        end.channel.open = False
        assert end.send_binary(b"a") is False
        assert end.send(b"\x81\0") is False
        end.channel.open = True
        assert end.send_text(b"no text") is False
        assert end.send_text("\ud800") is False
        assert end.send_utf8(b"\xff") is False
        with pytest.raises(ValueError, match="256"):
            end.send_binary([256])
        with end.channel.writing:
            assert end.send_text("a") is False
        assert end.channel.sent == 0


def test_a_send_that_raises_does_not_count(way):
    with End(way) as end:
        end.far.close()
        end.writer.dealt = False

        def send_until_it_raises():
            while True:
                end.send_text("x")

        with pytest.raises(OSError):
            send_until_it_raises()
        before = end.channel.sent
        with pytest.raises(OSError):
            end.send_text("x")
        assert end.channel.sent == before


@pytest.mark.parametrize("count", [1, 2, 100])
def test_messages_that_are_received(way, count):
    with End(way) as end:
        frames = [raw_frame(TEXT, b"a"), raw_frame(BINARY, b"bc")]
        end.arrive(b"".join(frames[i % 2] for i in range(count)))
        assert end.receive(SOON) == "a"
        assert (end.window.received, len(end.ready)) == (count, count - 1)
        payload = sum(1 + i % 2 for i in range(count))
        assert end.received() == (count, payload, payload + 2 * count)
        end.ready.clear()
        end.arrive(frames[1])
        assert end.receive(SOON) == b"bc"
        assert end.window.received == count + 1


def test_messages_before_something_else(way):
    """A control frame behind them, or a frame that is not all there: the reader has those."""
    with End(way) as end:
        end.arrive(raw_frame(TEXT, b"a") * 3 + b"\x89\0" + raw_frame(TEXT, b"b"))
        end.receive(SOON)
        assert end.window.received == 3
        assert end.received() == (3, 3, 3 * 3 + 2 + 3)  # all bytes have come
    with End(way) as end:
        end.arrive(raw_frame(TEXT, b"a") + raw_frame(TEXT, b"b" * 100)[:50])
        end.receive(SOON)
        assert end.received() == (1, 1, 53)


def test_nothing_that_is_received(way):
    with End(way) as end:
        assert end.receive(0) is not None or not end.window.received  # the reader, or nothing
        end.arrive(b"\x89\0")
        end.receive(SOON)
        assert end.window.received == 0


def test_when_something_has_moved(way):
    with End(way) as end:
        end.arrive(raw_frame(TEXT, b"a"))
        assert end.receive(SOON) == "a"
        assert end.send_text("a") is True
        end.channel.note_came()
        end.channel.note_went()
        assert (end.channel.came, end.channel.went) == (0, 0)  # nobody has asked for it
        assert not end.channel.timed
        end.channel.timed = True
        assert end.channel.timed
        before = time.monotonic()
        assert end.send_text("a") is True
        assert before - 1e-5 <= end.channel.went <= time.monotonic()
        assert end.channel.came == 0
        end.arrive(raw_frame(TEXT, b"a"))
        assert end.receive(SOON) == "a"
        assert end.channel.went <= end.channel.came <= time.monotonic()
        before = time.monotonic()
        end.channel.note_came()
        assert before - 1e-5 <= end.channel.came <= time.monotonic()
        end.channel.note_went()
        assert before - 1e-5 <= end.channel.went <= time.monotonic()
