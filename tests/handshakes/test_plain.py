"""Heads that are taken apart without h11: with the results of h11, and no others."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from looped import looped
from scriptling_ws import _kernel as kernel
from scriptling_ws._fields import JOINTS, count_header
from scriptling_ws._handshakes import head as _head
from scriptling_ws._handshakes.client import ClientHandshake
from scriptling_ws._handshakes.head import FOREIGN_ERRORS, HeadReader, Refused
from scriptling_ws._handshakes.plain import plain_answer, plain_request, split_by_expressions
from scriptling_ws._handshakes.url import parse_url

pytestmark = pytest.mark.once

BROWSER = (
    b"GET /chat?room=1 HTTP/1.1\r\n"
    b"Host: example.com:8080\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Pragma: no-cache\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Upgrade: websocket\r\n"
    b"Origin: http://example.com:8080\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Accept-Encoding: gzip, deflate\r\n"
    b"Cookie: a=1; b=2\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    b"\r\n"
)


def by_h11(head):
    """What h11 makes of a head; None where it refuses."""
    try:
        return _head._by_h11(head)
    except FOREIGN_ERRORS:
        return None


def head_of(*lines):
    return b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *lines, b"", b""])


@pytest.mark.parametrize(
    "head",
    [
        BROWSER,
        head_of(),
        head_of(b"A:", b"B: ", b"C:\t \tx\t ", b"D:x y\tz"),
        head_of(b"Cookie: a=1", b"cookie: b=2", b"Via: x", b"VIA: y"),
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ],
)
def test_a_plain_head_is_as_h11_reads_it(head):
    assert plain_request(head) == by_h11(head) != None  # noqa: E711 - neither is None


@looped(
    "line",
    [
        b"Content-Length: 0",
        b"content-length: 5",
        b"Transfer-Encoding: chunked",
        b"no colon",
        b"a b: c",
        b"a : b",
        b": b",
        b" folded: b",
        b"A: \x80",
        b"A: \x01",
        b"A: \x7f",
        b"A\xe4: b",
    ],
)
@looped("place", [0, 1, 2])
def test_what_is_not_plain_is_left_to_h11(line, place):
    lines = [b"Accept: x", b"Via: y"]
    lines.insert(place, line)
    assert plain_request(head_of(*lines)) is None


LINES = st.one_of(
    st.sampled_from([b"A: b", b"A:", b"Cookie: a=1", b"via:\tx ", b"Content-Length: 3", b"x"]),
    st.binary(max_size=12).filter(lambda line: b"\n" not in line and b"\r" not in line),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=5))
def test_any_lines_are_as_h11_reads_them_or_left_to_it(lines):
    head = head_of(*lines)
    assert plain_request(head) in (None, by_h11(head))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_change_to_a_head_is_as_h11_reads_it_or_left_to_it(data):
    position = data.draw(st.integers(0, len(BROWSER) - 5))
    noise = data.draw(st.binary(max_size=3))
    mutant = BROWSER[:position] + noise + BROWSER[position + data.draw(st.integers(0, 3)) :]
    try:
        head = HeadReader().feed(mutant)
    except Refused:
        return
    # What `parse_request` has checked before.
    whole = head is not None and count_header(head.lower(), b"host") == 1
    if whole and _head._REQUEST_LINE.match(head):
        assert plain_request(head) in (None, by_h11(head))


USUAL = {"Host": "host", "host": "host", "Cookie": "cookie"}
PIECES = st.sampled_from(
    [
        *(
            b"GET",
            b" ",
            b"/",
            b" HTTP/1.1",
            b" HTTP/1.0",
            b" HTTP/1.2",
            b"\r\n",
            b"Host",
            b":",
            b"a",
        ),
        *(b"\t", b"Cookie: b=1\r\n", b"cookie:c\r\n", b"Via: x\r\n", b"via: \xe9\r\n"),
        *(b"\r", b"\n", b"\0", b"(", b"~"),
    ]
)


def both(head):
    """What the kernel makes of a head, and what the expressions do."""
    split = kernel.split_request
    if split is None:
        pytest.skip("the pure kernel has none")
    return split(head, USUAL, JOINTS), split_by_expressions(head, USUAL, JOINTS)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=12).map(b"".join), st.booleans())
def test_the_kernel_takes_a_head_apart_as_the_expressions_do(middle, begun):
    start = b"GET / HTTP/1.1\r\nHost: a\r\n" if begun else b""
    head = (start + middle).replace(b"\r\n\r\n", b"\r\n") + b"\r\n\r\n"
    compiled, expressed = both(head)
    assert compiled == expressed


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(BROWSER) - 5), st.binary(max_size=3), st.integers(0, 3))
def test_it_does_with_any_change_to_one(position, noise, gone):
    head = BROWSER[:position] + noise + BROWSER[position + gone : -4] + b"\r\n\r\n"
    compiled, expressed = both(head)
    assert compiled == expressed


def test_the_kernel_stops_at_the_end_of_what_is_no_head():
    for whole in (BROWSER, head_of(b"a: b")):
        for length in range(len(whole)):
            assert both(whole[:length])[0] is None
    assert both(BROWSER)[0] == both(BROWSER)[1] != None  # noqa: E711 - neither is None


@pytest.mark.skipif(kernel.split_request is None, reason="the pure kernel has none")
@pytest.mark.parametrize(
    "arguments", [(bytearray(BROWSER), {}, {}), (BROWSER, None, {}), (None, {}, {})]
)
def test_the_kernel_takes_bytes_and_dicts(arguments):
    with pytest.raises(TypeError):
        kernel.split_request(*arguments)


def test_a_long_line_without_a_colon_is_not_looked_through_at_each_character():
    head = head_of(b"x" * 1_000_000)
    start = time.process_time()
    assert plain_request(head) is None
    assert time.process_time() - start < 5  # where each character is tried, it takes hours


# -- answers -----------------------------------------------------------------

URL = parse_url("ws://a/")
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    b"Set-Cookie: a=1\r\n"
    b"Set-Cookie:b=2 \r\n"
    b"\r\n"
)


def answer_by_h11(head):
    try:
        return ClientHandshake(URL, {})._by_h11(head)
    except FOREIGN_ERRORS:
        return None


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 101", b"HTTP/1.1 101 ", b"HTTP/1.1 101 a b", b"HTTP/1.1 101 \t"]
)
def test_a_plain_answer_is_as_h11_reads_it(line):
    head = line + ANSWER[ANSWER.index(b"\r\n") :]
    assert plain_answer(head) == answer_by_h11(head) != None  # noqa: E711 - neither is None


@pytest.mark.parametrize(
    "line", [b"no colon", b"a : b", b": b", b"A: \x80", b"A: \x01", b"A\xe4: b"]
)
def test_an_answer_that_is_not_plain_is_left_to_h11(line):
    assert plain_answer(ANSWER[:-2] + line + b"\r\n\r\n") is None
    assert plain_answer(ANSWER.replace(b"\r\n", b"\r\n" + line + b"\r\n", 1)) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_change_to_an_answer_is_as_h11_reads_it_or_left_to_it(data):
    position = data.draw(st.integers(0, len(ANSWER) - 5))
    noise = data.draw(st.binary(max_size=3))
    mutant = ANSWER[:position] + noise + ANSWER[position + data.draw(st.integers(0, 3)) :]
    try:
        head = HeadReader(False).feed(mutant)
    except Refused:
        return
    # What the handshake has checked before.
    if head is None or not head.startswith(b"HTTP/1.1 101"):
        return
    if any(count_header(head.lower(), name) for name in (b"content-length", b"transfer-encoding")):
        return
    assert plain_answer(head) in (None, answer_by_h11(head))
