"""What a program may give for a response or a route: anything. It is refused, or does what it says.

A response that was made is rendered to what h11 reads back, and a path that was registered is
found by a request for it.
"""

import io
from urllib.parse import quote, unquote, urljoin, urlsplit

import h11
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scriptling_ws._handshakes.head import parse_request
from scriptling_ws._server.http import render
from scriptling_ws._server.response import to_response
from scriptling_ws._server.routes import Routes
from scriptling_ws.runtime import Response, http

pytestmark = pytest.mark.once

REFUSED = (TypeError, ValueError)
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.binary(),
    st.builds(bytearray, st.binary(max_size=9)),
    st.builds(memoryview, st.binary(max_size=9)),
    st.lists(st.one_of(st.text(max_size=3), st.integers(), st.binary(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.one_of(st.text(max_size=3), st.integers()), max_size=2),
    st.tuples(st.text(max_size=3), st.text(max_size=3)),
    st.builds(iter, st.lists(st.text(max_size=3), max_size=2)),
    st.builds(object),
    st.just(len),
    st.just(int),
)
LATIN_1 = st.text(st.characters(max_codepoint=255), max_size=20)
NAMES = st.one_of(
    st.sampled_from(["X-A", "x-a", "Set-Cookie", "Content-Type", "Date", "Location", "Upgrade"]),
    st.sampled_from(["Content-Length", "Transfer-Encoding", "Connection", "X-A\r\nX-B", ""]),
    st.text(max_size=5),
)
PAIRS = st.lists(st.tuples(NAMES, st.one_of(LATIN_1, st.text(max_size=5))), max_size=3)
HEADERS = st.one_of(
    PAIRS.map(tuple), PAIRS, PAIRS.map(dict), PAIRS.map(iter), st.none(), ANYTHING
)  # fmt: skip
STATUSES = st.one_of(st.integers(150, 650), st.sampled_from([204, 205, 304]), ANYTHING)
BODIES = st.one_of(st.binary(), st.text(), ANYTHING)
TYPES = st.one_of(st.sampled_from(["text/html", "", "a/b; c=d"]), LATIN_1, ANYTHING)
LENGTHS = st.one_of(st.integers(-1, 40), ANYTHING)
FILES = st.one_of(st.none(), st.builds(io.BytesIO, st.binary(min_size=40, max_size=60)), ANYTHING)

many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read_back(response, method="GET"):
    """What h11 makes of a response: status, headers, body."""
    data = render(response, head_only=method == "HEAD")
    assert type(data) is bytes
    if response.file is not None and method != "HEAD":
        data += response.file.read(response.length)
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    head, body = reader.next_event(), b""
    assert isinstance(head, h11.Response)
    while isinstance(event := reader.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert reader.trailing_data[0] == b""
    headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
    return head.status_code, headers, body


def check(response, status, headers, body):
    """A response is read back as what it was made of, and nothing more."""
    pairs = list(headers.items() if isinstance(headers, dict) else headers or ())
    got, fields, content = read_back(response)
    assert got == status
    assert content == body
    for name, value in pairs:
        assert (name.lower(), value.strip(" \t")) in fields
    given_names = [name.lower() for name, _ in pairs]
    ours = [name for name, _ in fields if name not in given_names]
    assert set(ours) <= {
        *("date", "content-type", "content-length", "connection"),
        *("x-content-type-options", "referrer-policy"),
    }
    assert len(ours) == len(set(ours))
    for single in ("content-type", "content-length", "date", "connection"):
        assert [name for name, _ in fields].count(single) <= 1
    assert read_back(response, "HEAD") == (got, fields, b"")


def as_bytes(body):
    return body.encode() if isinstance(body, str) else bytes(body)


def kept(headers):
    """Headers by an iterator, for reading them twice: what it gives, and an iterator anew."""
    if not hasattr(headers, "__next__"):
        return headers, headers
    pairs = list(headers)
    return pairs, iter(pairs)


@many
@given(STATUSES, BODIES, TYPES, HEADERS)
@example(200, b"", "text/html\r\nX: y", ())
@example(200, b"", "", (("X-A", "a\r\nX-B: b"),))
@example(200, "text", "text/plain", {"X-A": "b"})
@example(200, b"", "a/b", (("Content-Type", "c/d"), ("content-type", "e/f")))
@example(205, b"body", "", ())
def test_a_response_of_anything(status, body, kind, headers):
    known, headers = kept(headers)
    try:
        response = Response(status, body, kind, headers)
    except REFUSED:
        return
    check(response, status, known, as_bytes(body))


@many
@given(STATUSES, FILES, LENGTHS)
@example(200, io.BytesIO(b"x" * 50), -1)
@example(200, io.BytesIO(b"x" * 50), "5\r\nX: y")
@example(204, io.BytesIO(b"x" * 50), 5)
def test_a_response_of_any_file(status, file, length):
    content = file.getvalue() if isinstance(file, io.BytesIO) else b""
    length = length if content else 0
    try:
        response = Response(status, file=file, length=length)
    except REFUSED:
        return
    got, _, body = read_back(response)
    assert got == status
    assert content.startswith(body)
    if type(length) is int:
        assert len(body) == length
    if isinstance(file, io.BytesIO):
        file.seek(0)


@many
@given(st.sampled_from([http.html, http.text, http.json]), STATUSES, BODIES, HEADERS)
@example(http.json, 200, {"a": float("nan")}, None)
@example(http.text, 200, "\ud800", None)
def test_what_a_page_makes_of_anything(make, status, body, headers):
    known, headers = kept(headers)
    try:
        response = make(status, body, headers)
    except REFUSED:
        return
    check(response, status, known, response.body if make is http.json else as_bytes(body))


@many
@given(ANYTHING)
def test_what_a_page_returns(result):
    try:
        response = to_response(result)
    except REFUSED:
        return
    assert read_back(response)[0] == 200
    assert response.body == (
        as_bytes(result) if not isinstance(result, (dict, list)) else http.json(200, result).body
    )


@many
@given(st.one_of(st.text(), LATIN_1.map("/{}".format), ANYTHING), st.one_of(STATUSES, st.just(303)))
@example("//evil.example/", 303)
@example("https://evil.example/", 303)
@example("/\\evil.example", 303)
@example("javascript:alert(1)", 303)
def test_a_redirect_to_anywhere_stays_on_this_server(location, status):
    try:
        response = http.redirect(location, status)
    except REFUSED:
        return
    got, fields, body = read_back(response)
    assert (got, body) == (status, b"")
    target = dict(fields)["location"]
    here = urlsplit(urljoin("http://here.example/a/b", target))
    assert (here.scheme, here.netloc) == ("http", "here.example")
    assert unquote(target) == unquote(location)


PATHS = st.one_of(
    st.text(max_size=10).map("/{}".format), st.sampled_from(["/", "//", "/a/", "/%41"]), ANYTHING
)
OPTIONS = st.dictionaries(
    st.sampled_from(
        [
            *("origins", "subprotocols", "max_message_size", "max_fragments", "send_timeout"),
            *("ping_interval", "compression", "binary_type", "server_max_window_bits", "orgins"),
        ]
    ),
    ANYTHING,
    max_size=2,
)


def handle(client):
    """Do nothing."""


@many
@given(PATHS, st.one_of(st.just(handle), st.none(), ANYTHING))
def test_a_page_at_any_path(path, handler):
    routes = Routes()
    try:
        decorator = routes.get(path, handler)
    except (*REFUSED, ImportError):
        assert not routes.table()
        return
    if handler is None:
        assert decorator(handle) is handle
    assert routes.table().page(requested(path), "GET")[0].path == path


@many
@given(PATHS, st.one_of(st.just(handle), st.none(), ANYTHING), OPTIONS)
def test_a_websocket_at_any_path(path, handler, options):
    routes = Routes()
    try:
        decorator = routes.websocket(path, handler, **options)
    except (*REFUSED, ImportError):
        assert not routes.table()
        return
    if handler is None:
        assert decorator(handle) is handle
    assert routes.table().websocket(requested(path))[0].path == path


def requested(path):
    """The path of a request for a path."""
    target = quote(path, safe="/")
    return parse_request(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).path


@pytest.mark.parametrize("path", ["/a?b", "/a#b", "a", "", "/a\0"])
def test_paths_that_no_request_has(path):
    with pytest.raises(ValueError):
        Routes().get(path, handle)
