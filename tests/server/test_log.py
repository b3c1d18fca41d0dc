"""The server's log: no peer forges a line, floods it, or finds a secret of its own in it."""

import logging

import pytest

from pairs import until
from scriptling_ws._fields import LONGEST, shown
from scriptling_ws._handshakes.head import Refused
from scriptling_ws._network import deadline as _deadline
from scriptling_ws._server import log as _log
from scriptling_ws._server import response as _response
from scriptling_ws._server.log import RareWarnings, log_answer
from scriptling_ws._server.routes import Routes
from servers import (
    Answer,
    ask,
    dial,
    echo,
    exiting,
    head,
    raw_websocket,
    read_all,
    routes_of,
    serving,
    status_of,
    upgrade,
)

pytestmark = pytest.mark.once("it is about what is written of a peer")

# -- text of a peer --------------------------------------------------------


@pytest.mark.abuse(85)
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("/chat", "'/chat'"),
        ("a\r\nforged", r"'a\r\nforged'"),
        ("\x1b[31m\x9b\x07", r"'\x1b[31m\x9b\x07'"),
        ("☃\u202e", r"'\u2603\u202e'"),
        ("it's", '"it\'s"'),
        ("x" * LONGEST, f"'{'x' * LONGEST}'"),
        ("x" * (LONGEST + 1), f"'{'x' * LONGEST}'..."),
        ("\U0001f600" * 10_000, "'" + r"\U0001f600" * LONGEST + "'..."),
    ],
)
def test_text_of_a_peer_is_ascii_and_bounded(text, line):
    assert shown(text) == line


def test_a_line_of_an_answer(log):
    log_answer("127.0.0.1:1", "GET", "/a", 200)
    log_answer("127.0.0.1:1", "M" * 9000, "/\n", 400, "why\r\nforged ☃" + "y" * 9000)
    first, second = log.texts()
    assert first == "127.0.0.1:1 GET '/a' 200"
    assert second.startswith(rf"127.0.0.1:1 {'M' * 32} '/\n' 400: why\r\nforged \u2603yyy")
    assert len(second) < 500


# -- warnings, but rarely --------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """The package's clock, which stands still but for what a test adds."""
    now = [1000.0]
    monkeypatch.setattr(_deadline, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def warnings():
    return RareWarnings(logging.getLogger("scriptling_ws.server"))


def given(log):
    return log.texts(logging.WARNING)


def test_each_subject_has_its_line_once_in_ten_seconds(clock, log, warnings):
    for _ in range(3):
        for subject in "abc":
            warnings.give(subject, "of %s", subject)
    assert given(log) == ["of a", "of b", "of c"]
    clock[0] += 9.9
    warnings.give("a", "of %s", "a")
    assert len(given(log)) == 3
    clock[0] += 0.2
    warnings.give("b", "of %s", "b")
    assert given(log)[3:] == ["of b (and 2 more since the last such warning)"]
    assert len(log.texts()) == 11  # the others are there on the debug level


def test_subjects_beyond_the_first_dozens_share_a_line(clock, log, warnings):
    for number in range(10_000):
        warnings.give(str(number), "of %s", number)
    assert given(log) == [f"of {number}" for number in range(_log._MOST + 1)]
    assert len(warnings._known) == _log._MOST
    clock[0] += 10.1
    # Room is made for new ones; what was left out of the others is not forgotten.
    for number in range(20_000, 20_000 + _log._MOST):
        warnings.give(str(number), "of %s", number)
    warnings.give("last", "of %s", "last")
    told = given(log)[_log._MOST + 1 :]
    assert told[:-1] == [f"of {number}" for number in range(20_000, 20_000 + _log._MOST)]
    left_out = 10_000 - _log._MOST - 1
    assert told[-1] == f"of last (and {left_out} more since the last such warning)"


def test_what_a_forgotten_subject_left_out_is_told(clock, log, warnings):
    for _ in range(5):
        for number in range(_log._MOST):
            warnings.give(str(number), "of %s", number)
    clock[0] += 10.1
    for number in range(100, 101 + _log._MOST):
        warnings.give(str(number), "of %s", number)
    assert given(log)[-1] == f"of 132 (and {4 * _log._MOST} more since the last such warning)"


def test_a_warning_names_the_line_that_gives_it(log, warnings):
    warnings.give("a", "of %s", "a")
    assert log.records[0].filename == "test_log.py"


# -- every refusal says why ------------------------------------------------

TOO_LONG = "x" * 9000


@pytest.mark.parametrize(
    ("request_bytes", "line"),
    [
        (upgrade("/nowhere"), "GET '/nowhere' 404: there is nothing at this path"),
        (upgrade("/page"), "GET '/page' 404: there is a page at this path, but no WebSocket"),
        (upgrade("/ws", method="POST"), "POST '/ws' 405: a WebSocket starts with GET"),
        (head("/page", method="PUT"), "PUT '/page' 405: this page answers GET, HEAD, OPTIONS"),
        (head("/ws"), "GET '/ws' 426: this is a WebSocket endpoint"),
        (upgrade("/ws", Sec_WebSocket_Version="8"), "GET '/ws' 426: Sec-WebSocket-Version has"),
        (upgrade("/ws", Sec_WebSocket_Key="abc"), "GET '/ws' 400: Sec-WebSocket-Key has"),
        (upgrade("/ws", Upgrade="h2c"), "GET '/ws' 400: Upgrade has to name websocket"),
        (upgrade("/ws", Connection="close"), "GET '/ws' 400: Connection has to name Upgrade"),
        (upgrade("/ws", "Content-Length: 5"), "GET '/ws' 400: an upgrade request has no body"),
        (upgrade("/ws", "Origin: http://a"), "GET '/ws' 403: this origin may not connect"),
        (upgrade("/ws", host="a.b"), "GET '/ws' 400: this server does not go by the name"),
        (head("/page", host="a.b"), "GET '/page' 400: this server does not go by the name"),
        (head("/a/../page"), "GET '/a/../page' 404: there is nothing at a path with '.' or '..'"),
        (head("/a%2fpage"), "GET '/a%2fpage' 404: there is nothing at a path with an encoded"),
        (upgrade("/ws", version="HTTP/1.0"), "GET '/ws' 505: a WebSocket needs HTTP/1.1"),
        (
            head("/page", "Content-Length: 1048577"),
            "GET '/page' 413: the body has more than the 65536 bytes of max_body_size",
        ),
        (head("/page", "Transfer-Encoding: chunked"), "GET '/page' 411: send the body with"),
        # Refused before there is a request: what is known of its beginning.
        (
            upgrade("/ws?token=s3cret", f"X: {TOO_LONG}"),
            "GET '/ws' 431: the header 'X' has 9003 bytes, more than the 8192",
        ),
        (head(f"/{TOO_LONG}?s3cret"), "GET '/x"),
        (
            head(f"/a?s3cret={TOO_LONG}"),
            "GET '/a' 414: the request line has 9023 bytes, more than the 8192",
        ),
        (
            head("/ws", *["X: y"] * 200),
            "GET '/ws' 431: the head has 201 headers, more than the 128 headers",
        ),
        (head("/ws", version="HTTP/2.0"), "GET '/ws' 505: this server speaks HTTP/1.1"),
        (head("/ws", host=None), "GET '/ws' 400: the Host header is missing"),
        (head("/ws", host=""), "GET '/ws' 400: the Host header is empty"),
        (head("/ws", "Host: s3cret"), "GET '/ws' 400: more than one Host header"),
        (head("/ws", host="s3cret b"), "GET '/ws' 400: the Host header is no host name"),
        (head("/ws?s3cret=%ff", "X: s3cret\x0b"), "GET '/ws' 400: the request is malformed: ill"),
        (head("/ws", "s3cret"), "GET '/ws' 400: the request is malformed: illegal header line"),
        (head("/ws", "Content-Length: s3cret"), "GET '/ws' 400: the request is malformed: bad"),
        (head("/%ff"), "GET '/%ff' 400: the path is not UTF-8"),
        (head("/a#s3cret"), "GET '/a' 400: the request target has a fragment"),
        (head("*", method="OPTIONS"), "OPTIONS '*' 400: the request target has to be a path"),
        (head("http://u:s3cret@h/a?s3cret"), "GET '/a' 400: the request target's host"),
        (head("http://u:s3cret" + "t" * 300 + "@h/a"), "- '-' 400: the request target's host"),
        (head("gopher://s3cret/x"), "GET '/x' 400: the request target has to be a path"),
        (head("s3cret:80", method="CONNECT"), "- '-' 400: the request target has to be a path"),
        (b"GET /a\x1b[31m\x80 b HTTP/1.1\r\n\r\n", r"GET '/a\x1b[31m\x80' 400: the request line"),
        (b"hello\r\n\r\n", "- '-' 400: the request line is malformed"),
        (b"\x16\x03\x01\x02", "- '-' 400: this port does not speak TLS"),
        (b"\r\n\r\n", "- '-' 400: the request line is malformed"),
    ],
)
def test_refusals_are_logged_with_their_reason(site, log, request_bytes, line):
    with dial(site) as sock:
        sock.sendall(request_bytes)
        status = Answer(read_all(sock)).status
        address = "{}:{}".format(*sock.getsockname())
    record = log.wait_for(f" {status}: ")
    assert record.levelno == logging.INFO
    assert record.name == "scriptling_ws.access"
    assert record.message.startswith(f"{address} {line}")
    for message in log.texts():
        assert "s3cret" not in message
        assert message.isascii()
        assert message.isprintable()
        assert "bytearray" not in message
        assert len(message) < 600


@pytest.mark.parametrize("stage", ["silent", "half a head", "half a body"])
def test_timeouts_are_logged_with_their_reason(log, stage):
    data = {
        "silent": b"",
        "half a head": b"GET /page?s3cret",
        "half a body": head("/page", "Content-Length: 5") + b"half",
    }[stage]
    with serving(routes=routes_of(), handshake_timeout=0.2) as server, dial(server) as sock:
        sock.sendall(data)
        read_all(sock)
        if stage == "silent":
            log.wait_for("- '-' -: no request came")
        else:
            log.wait_for("GET '/page' 408: the request took too long")


@pytest.mark.abuse(63)
def test_every_503_says_which_limit(log, monkeypatch):
    options = {"max_connections": 1, "max_requests": 1}
    with serving(routes=routes_of(), **options) as server, raw_websocket(server, "/ws"):
        assert status_of(server, upgrade("/ws")) == 503
        log.wait_for("GET '/ws' 503: the server is full")
        with monkeypatch.context() as patch:
            patch.setattr("scriptling_ws._server.sessions.start_thread", no_thread)
            assert status_of(server, head("/page")) == 503
        log.wait_for("GET '/page' 503: the server has no thread left")
    with serving(echo, max_connections_per_address=1) as server, raw_websocket(server):
        assert status_of(server, upgrade()) == 503
        log.wait_for("GET '/' 503: too many connections from your address")


def no_thread(body, name):
    raise RuntimeError("can't start new thread")


def refusing(request):
    raise Refused(404, "there is no such thing")


@pytest.mark.parametrize(
    ("page", "line"),
    [
        (lambda request: 1 / 0, "GET '/page' 500: the page handler failed"),
        (lambda request: exiting(), "GET '/page' 500: the page handler failed"),
        (lambda request: None, "GET '/page' 500: the page handler failed"),
        (refusing, "GET '/page' 404: there is no such thing"),
    ],
)
def test_pages_that_fail_are_logged_with_their_reason(log, page, line):
    with serving(routes=routes_of(page=page)) as server:
        ask(server, head("/page?s3cret"))
        log.wait_for(line)
    assert not any("s3cret" in message for message in log.texts())


def test_files_that_are_not_there_are_logged_with_their_reason(log, tmp_path):
    routes = Routes()
    routes.static("/", tmp_path)
    with serving(routes=routes) as server:
        assert status_of(server, head("/x")) == 404
        log.wait_for("GET '/x' 404: there is nothing at this path")


def test_answers_of_a_handlers_own_are_logged_as_ever(log):
    page = _response.text(404, "mine")
    with serving(routes=routes_of(page=lambda request: page)) as server:
        assert status_of(server, head("/page")) == 404
        assert log.wait_for(" 404").message.endswith("GET '/page' 404")


def test_a_close_reason_cannot_forge_a_line(log):
    def handler(client):
        client.receive(10)
        client.send("too late")

    with serving(handler) as server, raw_websocket(server) as client:
        client.send(8, b"\x0f\xa0" + "☃\r\nforged".encode())
        assert r"\u2603" in log.wait_for("ended by: ").message
    assert all(message.isascii() and message.isprintable() for message in log.texts())


def test_a_long_path_is_cut_in_every_line(log):
    path = "/" + "\x7f" * 2000
    with serving(echo) as server:
        with raw_websocket(server, path.replace("\x7f", "%7f"), "Origin: http://localhost") as ws:
            ws.send(8, b"\x03\xe8")
            assert ws.close_code() == 1000
        log.wait_for("closed, code 1000")
        status_of(server, upgrade(path.replace("\x7f", "%7f"), "Origin: http://" + "a" * 3000))
        log.wait_for(" 403: ")
    assert max(len(message) for message in log.texts()) < 2000


def test_each_foreign_origin_has_its_line(log):
    with serving(echo) as server:
        for origin in ("http://a.example", "file://", "http://a.example", "null"):
            assert status_of(server, upgrade("/", f"Origin: {origin}")) == 403
        until(lambda: len(log.texts(logging.WARNING)) == 3)
    told = [text.partition("origins=")[2] for text in log.texts(logging.WARNING)]
    assert told == ["['http://a.example']", "['file://']", "['null']"]


@pytest.mark.parametrize("origin", ["*", "http://*.a.example", "http://a\x9b31m", "a" * 300, ""])
def test_an_origin_that_cannot_be_named_is_not_advised(log, origin):
    with serving(echo) as server:
        assert status_of(server, upgrade("/", f"Origin: {origin}")) == 403
    (text,) = log.texts(logging.WARNING)
    assert "origins=[" not in text
    assert text.isascii()
    assert len(text) < 500
