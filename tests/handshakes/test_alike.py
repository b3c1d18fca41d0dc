"""Heads that are like one before but for their key: found as they would be read, or not at all."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.utilities import generate_accept_token

from scriptling_ws._handshakes import alike as _alike
from scriptling_ws._handshakes import head as _head
from scriptling_ws._handshakes.alike import keep, like_one_before
from scriptling_ws._handshakes.head import HeadReader, Refused, parse_request
from scriptling_ws._handshakes.server import ServerUpgrade
from scriptling_ws._options import DEFAULT_HEADS, HeadLimits

pytestmark = pytest.mark.once

KEYS = [base64.b64encode(bytes([number] * 16)) for number in range(3)]
HEAD = (
    b"GET /chat HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: KEY\r\nSec-WebSocket-Version: 13\r\nUser-Agent: a\r\n\r\n"
)


@pytest.fixture(autouse=True)
def none_kept():
    _alike._kept.clear()


def head_with(key, head=HEAD):
    return head.replace(b"KEY", key)


def kept(head):
    keep(head, parse_request(head))


def found(head, limits=DEFAULT_HEADS):
    return like_one_before(head, limits)


def test_a_head_like_one_before_is_found_as_it_would_be_read():
    assert found(head_with(KEYS[0])) is None
    kept(head_with(KEYS[0]))
    for key in KEYS:
        request = found(head_with(key))
        assert request == parse_request(head_with(key))
        assert list(request.headers) == list(parse_request(head_with(key)).headers)


def test_what_is_found_is_the_callers_own():
    kept(head_with(KEYS[0]))
    one, other = found(head_with(KEYS[1])), found(head_with(KEYS[1]))
    one.headers["x"] = one.params["x"] = one.query["x"] = "1"
    one.state.x = 1
    assert other == found(head_with(KEYS[1])) == parse_request(head_with(KEYS[1]))
    assert not vars(other.state)


def test_what_the_program_does_with_the_first_changes_no_other():
    request = parse_request(head_with(KEYS[0]))
    keep(head_with(KEYS[0]), request)
    request.headers["x"] = "1"
    assert found(head_with(KEYS[1])) == parse_request(head_with(KEYS[1]))


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"User-Agent: a", b"Cookie: secret=1"),
        HEAD.replace(b"User-Agent: a", b"authorization: Bearer secret"),
        HEAD.replace(b"User-Agent: a", b"Proxy-Authorization: Basic secret"),
        HEAD.replace(b"User-Agent: a", b"X-Api-Key: secret"),
        HEAD.replace(b"User-Agent: a", b"Sec-WebSocket-Protocol: chat, secret"),
        HEAD.replace(b"/chat", b"/chat?token=secret"),
        HEAD.replace(b"/chat", b"/chat?"),
        HEAD.replace(b"User-Agent: a", b"User-Agent: " + b"a" * 1024),
        HEAD.replace(b"User-Agent: a", b"sec-websocket-key: " + KEYS[0]),
        HEAD.replace(b"Sec-WebSocket-Key: KEY\r\n", b""),
        HEAD.replace(b"Sec-WebSocket-Key", b"sec-websocket-key"),
    ],
)
def test_what_is_not_kept(head):
    kept(head_with(KEYS[0], head))
    assert not _alike._kept
    assert found(head_with(KEYS[0], head)) is None


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"A" * 24,
        KEYS[0][:-1],
        KEYS[0] + b"A",
        KEYS[0][:-3] + b" ==",
        b"\r\n" + KEYS[0][2:],
        b"\xff" + KEYS[0][1:],
    ],
)
def test_another_form_of_key_is_not_found(key):
    kept(head_with(KEYS[0]))
    assert found(head_with(key)) is None


@pytest.mark.parametrize("name", ["max_line_size", "max_head_size", "max_headers"])
def test_the_limits_hold(name):
    kept(head_with(KEYS[0]))
    head = head_with(KEYS[1])
    size = 6 if name == "max_headers" else len(head)
    assert found(head, HeadLimits(**{name: size})) is not None
    assert found(head, HeadLimits(**{name: size - 1})) is None


def test_no_more_than_some_are_kept():
    for number in range(1000):
        kept(head_with(KEYS[0], HEAD.replace(b"/chat", b"/%d" % number)))
        assert len(_alike._kept) <= _alike._MOST
    assert found(head_with(KEYS[1], HEAD.replace(b"/chat", b"/999"))) is not None


def read(head):
    """The request of a head that is whole, and right; else None."""
    try:
        return parse_request(head) if HeadReader().feed(head) == head else None
    except Refused:
        return None


def changed(data, head):
    """A head that is changed somewhere, or not."""
    position = data.draw(st.integers(0, len(head) - 1))
    noise = data.draw(st.sampled_from([b"", b"\r\n", b" ", b"A", b"\x1f", b"\n", b"K: 1\r\n"]))
    return head[:position] + noise + head[position + data.draw(st.integers(0, 2)) :]


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_whatever_comes_is_as_it_would_be_read(data):
    """Of a head that was changed, and of another that is like it but for a change."""
    _alike._kept.clear()
    first = changed(data, head_with(KEYS[0]))
    if (request := read(first)) is not None:
        keep(first, request)
    second = first.replace(KEYS[0], KEYS[1])
    if data.draw(st.booleans()):
        second = changed(data, second)
    request = found(second)
    assert request is None or request == read(second)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_head_is_well_formed_as_the_expression_says(data):
    pieces = st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b"a", b"\0", b"\x1e", b":"])
    head = b"".join(data.draw(st.lists(pieces, max_size=12)))
    assert _head._is_well_formed(head) is (_head._MALFORMED.search(head) is None)


@pytest.mark.parametrize("key", KEYS)
def test_the_token_is_wsprotos(key):
    answer = ServerUpgrade(head_with(key), parse_request(head_with(key))).accept()
    assert b"Sec-WebSocket-Accept: " + generate_accept_token(key) + b"\r\n" in answer
