"""HTTP heads: how they are read, cut in all ways, and how a request is taken apart."""

import time

import pytest

from abuse import row
from heads import pieces, request
from memory import tracemalloc
from scriptling_ws._head import HeadReader, Refused, parse_request

# -- HeadReader ------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1000])
def test_a_head_comes_out_whole_however_it_is_cut(size):
    head, rest = request(), b"\r\n\r\nframes"
    reader = HeadReader()
    fed = b""
    for piece in pieces(head + rest, size):
        fed += piece
        got = reader.feed(piece)
        if got is not None:
            break
        assert len(reader) == len(fed)
    assert got == head
    assert head + reader.rest == fed
    assert len(reader) == 0


def test_a_head_is_complete_with_its_last_byte_and_not_before():
    head = request()
    for cut in range(len(head)):
        reader = HeadReader()
        assert reader.feed(head[:cut]) is None
        assert reader.feed(head[cut:]) == head
        assert reader.rest == b""


@pytest.mark.abuse(10, 11)
@pytest.mark.parametrize("step", [1, 100_000])
@pytest.mark.parametrize(
    ("is_request", "before", "status"),
    [
        (True, b"", 414),
        (True, b"GET / HTTP/1.1\r\n", 431),
        (False, b"", 431),
        (False, b"HTTP/1.1 200 OK\r\n", 431),
    ],
)
def test_a_line_may_have_8192_bytes(is_request, before, status, step):
    line = b"a" * 8192
    good = HeadReader(is_request)
    for piece in pieces(before + line + b"\r\n", step):
        assert good.feed(piece) is None
    bad = HeadReader(is_request)
    with pytest.raises(Refused, match="8192 bytes") as caught:
        for piece in pieces(before + line + b"aa", step):
            bad.feed(piece)
    assert caught.value.status == status


@pytest.mark.abuse(11)
def test_what_is_held_of_an_endless_line_is_bounded():
    reader = HeadReader()
    fed = 0
    with pytest.raises(Refused):
        while True:
            reader.feed(b"a" * 1000)
            fed += 1000
    assert fed < 10_000


@pytest.mark.abuse(10)
@pytest.mark.parametrize("count", [128, 129])
def test_a_head_may_have_128_headers(count):
    head = b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * count + b"\r\n"
    if count == 128:
        assert HeadReader().feed(head) == head
        return
    for step in (1, len(head)):
        reader = HeadReader()
        with pytest.raises(Refused, match="128 headers") as caught:
            for piece in pieces(head, step):
                reader.feed(piece)
        assert caught.value.status == 431


@pytest.mark.abuse(10)
def test_a_thousand_headers_are_refused_before_they_end():
    with pytest.raises(Refused) as caught:
        HeadReader().feed(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000)
    assert caught.value.status == 431


def test_a_head_may_have_64_kib_in_all():
    lines = [b"a: " + b"b" * 8000] * 9
    head = b"GET / HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"
    with pytest.raises(Refused, match="65536 bytes") as caught:
        HeadReader().feed(head)
    assert caught.value.status == 431
    fits = b"GET / HTTP/1.1\r\n" + b"\r\n".join(lines[:8]) + b"\r\n\r\n"
    assert HeadReader().feed(fits) == fits


def test_what_follows_the_head_does_not_count():
    head, rest = request(), b"x" * 200_000
    reader = HeadReader()
    assert reader.feed(head + rest) == head
    assert reader.rest == rest


@pytest.mark.abuse(9)
@pytest.mark.parametrize(
    "bad",
    [
        b"A: b\n",
        b"A: b\nC: d\r\n",
        b"A: b\rC: d\r\n",
        b"A: \rb\r\n",
        b"A: b\0\r\n",
        b"A\0: b\r\n",
        b"A: b\x1f\r\n",
        b"A: \x1cb\r\n",
        b"A: b\r\n c\r\n",
        b"A: b\r\n\tc\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_malformed_lines_are_refused(bad, step):
    reader = HeadReader()
    with pytest.raises(Refused, match="malformed") as caught:
        for piece in pieces(b"GET / HTTP/1.1\r\nHost: h\r\n" + bad + b"\r\n", step):
            reader.feed(piece)
        pytest.fail("the head was taken")
    assert caught.value.status == 400


@pytest.mark.abuse(9)
def test_a_head_with_bare_line_feeds_is_refused_without_waiting_for_more():
    # It has no CRLFCRLF, and would else be waited for until the deadline.
    with pytest.raises(Refused, match="malformed") as caught:
        HeadReader().feed(b"GET / HTTP/1.1\nHost: h\n\n")
    assert caught.value.status == 400


def test_the_reader_takes_time_and_memory_in_proportion_to_the_bytes():
    head = b"GET / HTTP/1.1\r\n" + (b"a: " + b"b" * 8000 + b"\r\n") * 8 + b"\r\n"
    reader = HeadReader()
    tracemalloc.start()
    start = time.process_time()
    for piece in pieces(head, 1):
        got = reader.feed(piece)
    assert time.process_time() - start < 5
    assert tracemalloc.get_traced_memory()[1] < 500_000
    tracemalloc.stop()
    assert got == head


# -- parse_request ---------------------------------------------------------


def test_a_request_is_taken_apart():
    parsed = parse_request(
        b"GET /a%20b/%C3%BC?x=1&y=%20+z&x=2&e= HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\n\r\n"
    )
    assert parsed.method == "GET"
    assert parsed.path == "/a b/\xfc"
    assert parsed.query == {"x": "2", "y": "  z", "e": ""}
    assert parsed.headers == {"host": "h", "x-a": "1, 2"}
    assert parsed.target == "/a%20b/%C3%BC?x=1&y=%20+z&x=2&e="
    assert parsed.body == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        *row(
            2,
            (b"GET / HTTP/1.0\r\nHost: h\r\n\r\n", 505),
            (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
            (b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505),
            (b"GET / HTTP/0.9\r\nHost: h\r\n\r\n", 505),
        ),
        *row(
            3,
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
        ),
        *row(
            4,
            (b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", 400),
        ),
        *row(
            9,
            (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\x0bc\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\nA\x85: b\r\n\r\n", 400),
            (b"GET /\x0b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\nnocolon\r\n\r\n", 400),
        ),
        *row(
            12,
            (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http://evil/chat HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"CONNECT evil:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET chat HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /#x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /?a=%ff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ),
        # The request line.
        (b"\r\n\r\n", 400),
        (b"GET\r\nHost: h\r\n\r\n", 400),
        (b"GET /\r\nHost: h\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400),
        (b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    ],
)
def test_malformed_requests_get_a_status(head, status):
    with pytest.raises(Refused) as caught:
        parse_request(head)
    assert caught.value.status == status


def test_a_path_is_not_interpreted():
    assert parse_request(request(start="GET //x/../chat HTTP/1.1")).path == "//x/../chat"
