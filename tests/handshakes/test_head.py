"""HTTP heads: how they are read, cut in all ways, and how a request is taken apart."""

import time

import pytest

from abuse import row
from heads import pieces, request
from looped import looped
from memory import tracemalloc
from scriptling_ws._handshakes.head import HeadReader, Refused, parse_request
from scriptling_ws._options import HeadLimits

pytestmark = pytest.mark.once

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


@pytest.mark.abuse(10, 11)
@pytest.mark.parametrize(
    ("head", "is_request", "status", "text"),
    [
        (
            b"GET /" + b"a" * 9986 + b" HTTP/1.1\r\n",
            True,
            414,
            "the request line has 10000 bytes, more than the 8192 bytes of max_line_size",
        ),
        (
            b"GET /" + b"a" * 9995,
            True,
            414,
            "the request line has at least 10000 bytes, more than the 8192 bytes of max_line_size",
        ),
        (
            b"HTTP/1.1 200 " + b"a" * 9987 + b"\r\n",
            False,
            431,
            "the status line has 10000 bytes, more than the 8192 bytes of max_line_size",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: h\r\nCookie: " + b"a" * 9992 + b"\r\n",
            True,
            431,
            "the header 'Cookie' has 10000 bytes, more than the 8192 bytes of max_line_size",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX-Y: " + b"a" * 9995,
            False,
            431,
            "the header 'X-Y' has at least 10000 bytes, more than the 8192 bytes of max_line_size",
        ),
        (  # names that are none are not shown
            b"GET / HTTP/1.1\r\nsecret value: " + b"a" * 9986 + b"\r\n",
            True,
            431,
            "a header has 10000 bytes, more than the 8192 bytes of max_line_size",
        ),
        (
            b"GET / HTTP/1.1\r\n" + b"a" * 10_000 + b": b\r\n",
            True,
            431,
            "a header has 10003 bytes, more than the 8192 bytes of max_line_size",
        ),
        (
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 129 + b"\r\n",
            True,
            431,
            "the head has 129 headers, more than the 128 headers of max_headers",
        ),
        (
            b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 130,
            False,
            431,
            "the head has at least 130 headers, more than the 128 headers of max_headers",
        ),
        (
            b"GET / HTTP/1.1\r\n" + (b"a: " + b"b" * 7995 + b"\r\n") * 9 + b"\r\n",
            True,
            431,
            "the head has 72018 bytes, more than the 65536 bytes of max_head_size",
        ),
        (
            b"HTTP/1.1 200 OK\r\n" + (b"a: " + b"b" * 7995 + b"\r\n") * 9,
            False,
            431,
            "the head has at least 72017 bytes, more than the 65536 bytes of max_head_size",
        ),
    ],
)
def test_what_is_too_long_is_told_by_name_size_and_option(head, is_request, status, text):
    with pytest.raises(Refused) as caught:
        HeadReader(is_request).feed(head)
    assert caught.value.status == status
    assert caught.value.text == text


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537])
def test_a_head_of_65536_bytes_is_taken_and_no_larger_one(size):
    start = b"GET / HTTP/1.1\r\n" + (b"a: " + b"b" * 7995 + b"\r\n") * 8
    head = start + b"c: ".ljust(size - len(start) - 4, b"d") + b"\r\n\r\n"
    assert len(head) == size
    if size <= 65_536:
        assert HeadReader().feed(head) == head
        return
    with pytest.raises(Refused, match="has 65537 bytes"):
        HeadReader().feed(head)


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


@pytest.mark.parametrize("step", [1, 1000])
def test_every_limit_of_a_head_is_the_most_that_it_may_have(step):
    head = b"GET / HTTP/1.1\r\nHost: h\r\nA: bc\r\n\r\n"
    exact = {"max_line_size": 14, "max_headers": 2, "max_head_size": len(head)}
    reader = HeadReader(True, HeadLimits(**exact))
    assert [each for piece in pieces(head, step) if (each := reader.feed(piece))] == [head]
    for name, most in exact.items():
        reader = HeadReader(True, HeadLimits(**exact | {name: most - 1}))
        with pytest.raises(Refused) as caught:
            for piece in pieces(head, step):
                reader.feed(piece)
        assert caught.value.status == (414 if name == "max_line_size" else 431)


def test_what_follows_the_head_does_not_count():
    head, rest = request(), b"x" * 200_000
    reader = HeadReader()
    assert reader.feed(head + rest) == head
    assert reader.rest == rest


@pytest.mark.abuse(9)
@looped(
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
@looped("step", [1, 1000])
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


# -- an empty line before the request ----------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_one_empty_line_before_a_request_is_ignored(size):
    reader = HeadReader()
    heads = [reader.feed(piece) for piece in pieces(b"\r\n" + request() + b"rest", size)]
    (head,) = filter(None, heads)
    assert head == request()
    assert parse_request(head).path == "/chat"


@pytest.mark.parametrize("before", [b"\r\n\r\n", b"\r\n\r\n\r\n", b"\r\n\n", b"\n"])
@pytest.mark.parametrize("step", [1, 1000])
def test_what_else_may_come_before_a_request_is_malformed(before, step):
    """At once: whoever sends nothing else is not waited for."""
    reader = HeadReader()
    with pytest.raises(Refused) as caught:
        for piece in pieces(before, step):
            reader.feed(piece)
    assert caught.value.status == 400
    assert len(reader) < 10


def test_no_empty_line_comes_before_a_response():
    answer = b"\r\nHTTP/1.1 200 OK\r\n\r\n"
    assert HeadReader(False).feed(answer) == answer  # whose status line is malformed


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
            (b"PRI * HTTP/2.0\r\n\r\n", 505),
            (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
            (b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505),
            (b"GET / HTTP/0.9\r\nHost: h\r\n\r\n", 505),
        ),
        *row(
            3,
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\nHost: h\r\nhost: h\r\n\r\n", 400),
            (b"GET http://h/ HTTP/1.1\r\n\r\n", 400),
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
            (b"GET gopher://x/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET ftp://h/chat HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http:/chat HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http:///chat HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http://:80/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http://user@h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http://h:99999/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http://a\\b/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http://h/#x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http://h/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"CONNECT evil:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET chat HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /#x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http://h/%ff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
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


def get(target="/", *lines, version="1.1"):
    """A request's head without any header but those given, parsed."""
    return parse_request("\r\n".join([f"GET {target} HTTP/{version}", *lines, "", ""]).encode())


# -- Host ------------------------------------------------------------------

HOSTS = [
    "example.com",
    "EXAMPLE.com.",
    "example.com:8080",
    "example.com:",
    "localhost",
    "under_score",
    "xn--fa-hia.example",
    "127.0.0.1:1",
    "[::1]",
    "[::ffff:127.0.0.1]:65535",
    "a" * 63 + ".example",
]

NO_HOSTS = [
    "a b/c",
    "a b",
    "a/b",
    "a?b",
    "a\\b",
    "[",
    "[]",
    "]",
    "[::1",
    "[::1]x",
    "[::1]:x",
    "[1.2.3.4]",
    "[fe80::1%eth0]",
    "[:::]",
    "::1",
    "a:b:c",
    "a:b",
    "a:-1",
    "a:0",
    "a:65536",
    "a:999999",
    "a: 80",
    ":80",
    "user@example.com",
    "user:password@example.com:80",
    "http://example.com",
    "a,b",
    "a, b",
    "*.example.com",
    "a..b",
    ".",
    "..",
    ".a",
    "a%20b",
    "\u00e9.example",
    "a" * 64 + ".example",
    ".".join(["abc"] * 64),
]


@pytest.mark.parametrize("host", HOSTS)
def test_what_may_be_a_host(host):
    assert get("/", f"Host: {host}").headers["host"] == host
    assert get("/", f"Host: {host}", version="1.0").headers["host"] == host
    assert get(f"http://{host}/x", "Host: other").headers["host"] == host


@pytest.mark.abuse(4)
@looped("host", NO_HOSTS)
@looped("version", ["1.0", "1.1"])
def test_what_no_host_can_be(host, version):
    with pytest.raises(Refused, match="Host") as caught:
        get("/", f"Host: {host}", version=version)
    assert caught.value.status == 400
    assert host not in str(caught.value)


@pytest.mark.abuse(3)
@pytest.mark.parametrize("value", ["Host:", "Host: \t "])
def test_an_empty_host_is_for_who_has_none(value):
    with pytest.raises(Refused, match="the Host header is empty") as caught:
        get("/", value)
    assert caught.value.status == 400
    assert "host" not in get("/", value, version="1.0").headers
    assert get("http://own/x", value).headers["host"] == "own"


def test_http_1_0_needs_no_host():
    parsed = get("/x?y", version="1.0")
    assert (parsed.path, parsed.headers) == ("/x", {})
    assert get("http://own:81/x", version="1.0").headers == {"host": "own:81"}


# -- targets ---------------------------------------------------------------


@pytest.mark.abuse(12)
@looped("scheme", ["http", "https", "ws", "wss", "HTTP", "Https"])
@looped(
    ("rest", "host", "path", "target"),
    [
        ("own/chat", "own", "/chat", "/chat"),
        ("OWN:8080/a%20b?x=1", "OWN:8080", "/a b", "/a%20b?x=1"),
        ("own", "own", "/", "/"),
        ("own/", "own", "/", "/"),
        ("own?x=1", "own", "/", "/?x=1"),
        ("[::1]:80?x=1", "[::1]:80", "/", "/?x=1"),
        ("own//evil/x", "own", "//evil/x", "//evil/x"),
        ("own/http://other/", "own", "/http://other/", "/http://other/"),
    ],
)
def test_an_absolute_target_stands_for_the_host(scheme, rest, host, path, target):
    parsed = get(f"{scheme}://{rest}", "Host: other.example")
    assert parsed.headers["host"] == host
    assert (parsed.path, parsed.target) == (path, target)
    assert parsed.query == ({"x": "1"} if "?" in rest else {})


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("n=J%FCrgen", {"n": "J\ufffdrgen"}),
        ("%FF=1&b=%C3%BC", {"\ufffd": "1", "b": "\xfc"}),
        ("a=%ED%A0%80", {"a": "\ufffd\ufffd\ufffd"}),
        ("a=%C3", {"a": "\ufffd"}),
    ],
)
def test_a_query_that_is_not_utf_8_is_replaced_and_kept_raw(query, fields):
    parsed = get(f"/x?{query}", "Host: h")
    assert parsed.query == fields
    assert parsed.target == f"/x?{query}"


@pytest.mark.parametrize(
    ("query", "role"),
    [
        ("role=user&role=admin", ["user", "admin"]),
        ("role=admin&x=1&role=&role=user", ["admin", "", "user"]),
        ("r%6fle=a+b&role=%C3%BC", ["a b", "\xfc"]),
        ("role", [""]),
        ("Role=a&roles=b", []),
        ("", []),
    ],
)
def test_all_values_of_a_field_of_the_query(query, role):
    parsed = get(f"/x?{query}", "Host: h")
    assert parsed.query_list("role") == role
    assert parsed.query.get("role") == (role[-1] if role else None)
    assert parsed.query_list("missing") == []


def test_cookies_of_several_lines_are_joined_as_cookies():
    lines = ["Cookie: a=1; b=2", "X: 1", "COOKIE: c=3", "x: 2", "cookie: d=4"]
    headers = get("/", "Host: h", *lines).headers
    assert headers["cookie"] == "a=1; b=2; c=3; d=4"
    assert headers["x"] == "1, 2"


def test_a_path_is_not_interpreted():
    assert parse_request(request(start="GET //x/;a=1/chat HTTP/1.1")).path == "//x/;a=1/chat"
