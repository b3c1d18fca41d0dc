"""What a channel and its window count: messages, in each of the ways, whoever goes on with them."""

import pytest

from channels import SOON, End
from frames import raw_frame
from kernels import BINARY, TEXT


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
        assert end.channel.sent == 1


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
    with End(way) as end:
        end.arrive(raw_frame(TEXT, b"a") + raw_frame(TEXT, b"b" * 100)[:50])
        end.receive(SOON)
        assert end.window.received == 1


def test_nothing_that_is_received(way):
    with End(way) as end:
        assert end.receive(0) is not None or not end.window.received  # the reader, or nothing
        end.arrive(b"\x89\0")
        end.receive(SOON)
        assert end.window.received == 0
