"""The client's side of the opening handshake, without a socket."""

import base64
import time
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto import events as wsevents
from wsproto import handshake as wshandshake

from abuse import row
from heads import ACCEPT, pieces
from looped import looped
from pairs import upgrade_answer
from scriptling_ws._errors import ConnectTimeout, HandshakeError
from scriptling_ws._handshakes import client as _client
from scriptling_ws._handshakes.client import ClientHandshake
from scriptling_ws._handshakes.head import FOREIGN_ERRORS
from scriptling_ws._handshakes.terms import DeflateOffer, Terms
from scriptling_ws._handshakes.url import parse_url
from scriptling_ws._options import check_subprotocols
from scriptling_ws._version import __version__

pytestmark = pytest.mark.once

# -- what is sent ----------------------------------------------------------


def client(url="ws://localhost:8080/chat?x=1", headers=None, subprotocols=(), deflate=None):
    headers = {} if headers is None else headers
    return ClientHandshake(parse_url(url), headers, subprotocols, deflate=deflate)


def sent_headers(handshake):
    first, *lines = handshake.request.decode("latin-1").split("\r\n")
    assert lines[-2:] == ["", ""]
    pairs = [line.split(": ", 1) for line in lines[:-2]]
    return first, {name.lower(): value for name, value in pairs}


def test_the_request():
    first, headers = sent_headers(client())
    assert first == "GET /chat?x=1 HTTP/1.1"
    assert len(base64.b64decode(headers.pop("sec-websocket-key"))) == 16
    assert headers.pop("user-agent").startswith("scriptling-ws/")
    assert {name: value.lower() for name, value in headers.items()} == {
        "host": "localhost:8080",
        "upgrade": "websocket",
        "connection": "upgrade",
        "sec-websocket-version": "13",
    }


def test_every_key_is_new():
    assert len({sent_headers(client())[1]["sec-websocket-key"] for _ in range(50)}) == 50


def test_headers_of_the_caller():
    _, headers = sent_headers(
        client(
            headers={"Authorization": "Bearer x", "X-L": " \t\xfc ", "User-Agent": "me", "E": ""}
        )
    )
    assert headers["authorization"] == "Bearer x"
    assert headers["x-l"] == "\xfc"
    assert headers["user-agent"] == "me"
    assert headers["e"] == ""


def test_credentials_of_the_url():
    _, headers = sent_headers(client("ws://u:p@h/"))
    assert headers["authorization"] == "Basic " + base64.b64encode(b"u:p").decode()
    assert headers["host"] == "h"
    _, headers = sent_headers(client("ws://u:p@h/", {"authorization": "Bearer x"}))
    assert headers["authorization"] == "Bearer x"


def test_the_longest_label_may_have_a_port():
    host = "x" * 63
    _, headers = sent_headers(client(f"ws://{host}:8080/"))
    assert headers["host"] == f"{host}:8080"


def test_subprotocols_in_order():
    _, headers = sent_headers(client(subprotocols=iter(["b", "a"])))
    assert headers["sec-websocket-protocol"] == "b, a"


@pytest.mark.abuse(29)
@looped("bad", ["\r", "\n", "\r\n", "\0", "\r\nX: y", "\x0b", "\x7f", "\u20ac"])
@looped("place", ["name", "value", "subprotocol"])
def test_nothing_is_smuggled_into_a_request(bad, place):
    headers = {"name": {f"X{bad}": "1"}, "value": {"X": f"a{bad}b"}}.get(place, {})
    with pytest.raises(ValueError, match=r"X|subprotocol") as caught:
        client(headers=headers, subprotocols=[f"a{bad}"] if place == "subprotocol" else [])
    assert type(caught.value) is ValueError
    assert "\r" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.abuse(30)
@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Content-Length",
        "Sec-WebSocket-Accept",
        "sec-websocket-extensions",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Version",
        "Transfer-Encoding",
        "upgrade",
    ],
)
def test_headers_of_the_handshake_are_refused(name):
    with pytest.raises(ValueError, match=f"'{name}'.*leave it out"):
        client(headers={name: "x"})


@pytest.mark.abuse(30)
@pytest.mark.parametrize("name", ["", "a b", "a:b", "a,b", "(", "\xfc", "a\t"])
def test_names_that_are_no_tokens(name):
    with pytest.raises(ValueError, match="not a header name"):
        client(headers={name: "x"})
    with pytest.raises(ValueError, match="not a subprotocol name"):
        check_subprotocols([name])


@pytest.mark.parametrize("headers", [{"X": 1}, {"X": None}, {"X": b"1"}, {1: "x"}, {b"X": "1"}])
def test_header_types(headers):
    with pytest.raises(TypeError, match="have to be str"):
        client(headers=headers)


@pytest.mark.parametrize("headers", [["X"], [("X",)], [("X", "1", "2")], "X: 1", 1])
def test_headers_have_to_be_a_dict(headers):
    with pytest.raises(TypeError, match="dict"):
        client(headers=headers)


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ("chat", TypeError, "list of str"),
        (1, TypeError, "list of str"),
        (None, TypeError, "list of str"),
        ([1], TypeError, "not int"),
        ([b"chat"], TypeError, "not bytes"),
        (b"chat", TypeError, "str"),
        (["a", "a"], ValueError, "twice"),
    ],
)
def test_bad_subprotocols(value, error, says):
    with pytest.raises(error, match=says):
        check_subprotocols(value)


# -- what is received ------------------------------------------------------


def rejected(answer, handshake=None, *, end=True):
    """The error that an answer leads to."""
    handshake = handshake or client()
    data = answer if isinstance(answer, bytes) else answer(handshake.request)
    with pytest.raises(HandshakeError) as caught:
        assert handshake.receive(data) is False
        if end:
            handshake.receive(b"")
        pytest.fail("the answer was taken")
    assert not isinstance(caught.value, ConnectTimeout)
    return caught.value


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_an_answer_opens_the_connection_however_it_is_cut(size):
    handshake = client()
    answer = upgrade_answer(handshake.request)
    fed = 0
    for piece in pieces(answer + b"\x81\x02hi", size):
        fed += len(piece)
        if handshake.receive(piece):
            break
        assert fed < len(answer)
    assert handshake.rest == (answer + b"\x81\x02hi")[len(answer) : fed]
    assert handshake.subprotocol is None


def test_the_rest_is_what_follows_the_head():
    handshake = client()
    assert handshake.receive(upgrade_answer(handshake.request) + b"\x81\x02hi")
    assert handshake.rest == b"\x81\x02hi"


@pytest.mark.parametrize(
    "changes",
    [{"Upgrade": "WebSocket"}, {"Connection": "keep-alive, upgrade"}, {"Server": "x", "Date": ""}],
)
def test_variants_of_an_answer(changes):
    handshake = client()
    assert handshake.receive(upgrade_answer(handshake.request, **changes))


def test_an_answer_without_a_reason_phrase():
    handshake = client()
    answer = upgrade_answer(handshake.request)
    assert handshake.receive(answer.replace(b"101 Switching Protocols", b"101 "))
    handshake = client()
    answer = upgrade_answer(handshake.request)
    assert handshake.receive(answer.replace(b"101 Switching Protocols", b"101"))


def test_the_subprotocol_that_the_server_chose():
    handshake = client(subprotocols=["a", "b"])
    assert handshake.receive(upgrade_answer(handshake.request, Sec_WebSocket_Protocol="b"))
    assert handshake.subprotocol == "b"


# RFC 9110 section 5.3: several lines are one list. 5.6.1: a list may have empty elements.
LISTS = [
    ["Connection: keep-alive"],
    ["connection: Upgrade"],
    ["Connection: close"],
    ["Connection:"],
    ["Upgrade: websocket"],
    ["UPGRADE: WebSocket", "Upgrade: "],
    ["Sec-WebSocket-Protocol:"],
    ["Sec-WebSocket-Protocol: ,", "Sec-WebSocket-Protocol: "],
    ["Sec-WebSocket-Extensions:"],
    ["Sec-WebSocket-Extensions: , ,", "Sec-WebSocket-Extensions: "],
]


@looped("lines", LISTS)
@looped("first", [False, True])
def test_a_list_may_have_several_lines_and_empty_elements(lines, first):
    handshake = client(subprotocols=["a"], deflate=Terms())
    answer = upgrade_answer(handshake.request, *lines)
    if first:  # before the lines with the same names, of which wsproto takes the last
        status, rest = upgrade_answer(handshake.request).split(b"\r\n", 1)
        answer = b"\r\n".join([status, *(line.encode() for line in lines), rest])
    assert handshake.receive(answer + b"rest")
    assert handshake.rest == b"rest"
    assert handshake.subprotocol is None
    assert handshake.deflate is None


def test_a_connection_list_in_two_lines_names_upgrade_in_the_first():
    handshake = client()
    answer = upgrade_answer(handshake.request, "Connection: keep-alive")
    assert answer.index(b"Connection: Upgrade") < answer.index(b"Connection: keep-alive")
    assert handshake.receive(answer)


@pytest.mark.parametrize(
    "lines", [["b"], ["b", "b"], ["", "b"], ["b", " "], [" b ,"], [",b,b"]], ids=str
)
def test_one_subprotocol_however_often_it_is_named(lines):
    handshake = client(subprotocols=["a", "b"])
    named = [f"Sec-WebSocket-Protocol: {line}" for line in lines]
    assert handshake.receive(upgrade_answer(handshake.request, *named))
    assert handshake.subprotocol == "b"


@pytest.mark.abuse(26)
@pytest.mark.parametrize("lines", [["a", "b"], ["a, b"], ["b", "c"], ["B"], ["b", "B"]], ids=str)
def test_two_subprotocols_or_one_that_was_not_offered(lines):
    named = [f"Sec-WebSocket-Protocol: {line}" for line in lines]
    error = rejected(lambda r: upgrade_answer(r, *named), client(subprotocols=["a", "b"]))
    assert error.status == 101
    assert "subprotocol" in str(error)


@pytest.mark.parametrize(
    ("lines", "terms"),
    [
        (['permessage-deflate; client_max_window_bits="15"'], (False, False, 15, 15)),
        (['permessage-deflate ; server_max_window_bits = "1\\0"'], (False, False, 10, 15)),
        (["", "permessage-deflate", " "], (False, False, 15, 15)),
        ([",permessage-deflate; server_no_context_takeover ,"], (True, False, 15, 15)),
    ],
    ids=str,
)
def test_an_answer_to_compression_in_other_spellings(lines, terms):
    handshake = client(deflate=Terms())
    named = [f"Sec-WebSocket-Extensions: {line}" for line in lines]
    assert handshake.receive(upgrade_answer(handshake.request, *named))
    assert handshake.deflate == Terms(*terms)


def test_compression_is_offered_and_answered():
    handshake = client(deflate=Terms(server_no_context_takeover=True))
    _, headers = sent_headers(handshake)
    assert headers["sec-websocket-extensions"] == (
        "permessage-deflate; server_no_context_takeover; client_max_window_bits"
    )
    granted = "permessage-deflate; server_no_context_takeover; client_max_window_bits=9"
    answer = upgrade_answer(handshake.request, Sec_WebSocket_Extensions=granted)
    assert handshake.receive(answer)
    assert handshake.deflate == Terms(True, False, 15, 9)


def test_compression_that_is_declined():
    handshake = client(deflate=Terms())
    assert handshake.receive(upgrade_answer(handshake.request))
    assert handshake.deflate is None
    assert client().deflate is None
    assert "sec-websocket-extensions" not in sent_headers(client())[1]


@pytest.mark.abuse(26, 27)
@looped(
    ("extensions", "says"),
    [
        ("x", "unrecognized"),
        ("permessage-deflate, x", "unrecognized"),
        ("permessage-deflate, permessage-deflate", "twice"),
        ("permessage-deflate; x", "unknown"),
        ("permessage-deflate; server_max_window_bits=7", "invalid"),
        ("permessage-deflate; server_max_window_bits=16", "invalid"),
        ("permessage-deflate; server_max_window_bits=abc", "invalid"),
        ('permessage-deflate; server_max_window_bits="16"', "invalid"),
        ('permessage-deflate; server_max_window_bits="10, 11"', "malformed"),
        ('permessage-deflate; server_max_window_bits="', "malformed"),
        ("permessage-deflate; client_max_window_bits=12", "offered"),
        ("permessage-deflate; \xff", "not valid"),
        ("permessage-deflate\r\nSec-WebSocket-Extensions: x", "unrecognized"),
        ("permessage-deflate\r\nSec-WebSocket-Extensions: permessage-deflate", "twice"),
    ],
)
def test_an_answer_to_compression_that_is_not_valid(extensions, says):
    handshake = client(deflate=Terms(client_max_window_bits=11))
    with pytest.raises(HandshakeError, match=says):
        handshake.receive(upgrade_answer(handshake.request, Sec_WebSocket_Extensions=extensions))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        *row(
            21,
            (lambda r: upgrade_answer(r, Sec_WebSocket_Accept=None), "(?i)accept"),
            (lambda r: upgrade_answer(r, Sec_WebSocket_Accept=ACCEPT), "(?i)accept"),
            (lambda r: upgrade_answer(r, Sec_WebSocket_Accept="\xff"), "not valid"),
            (lambda r: upgrade_answer(r, f"Sec-WebSocket-Accept: {ACCEPT}"), "more than one"),
            (lambda r: upgrade_answer(r, f"sec-websocket-accept: {ACCEPT}"), "more than one"),
        ),
        *row(
            24,
            (lambda r: upgrade_answer(r, version="HTTP/1.0"), "HTTP/1.0"),
            (lambda r: upgrade_answer(r, version="HTTP/2.0"), "HTTP/2.0"),
            (lambda r: upgrade_answer(r, "Content-Length: 0"), "body"),
            (lambda r: upgrade_answer(r, "Content-Length: 5"), "body"),
            (lambda r: upgrade_answer(r, "Transfer-Encoding: chunked"), "body"),
        ),
        *row(
            26,
            (lambda r: upgrade_answer(r, Sec_WebSocket_Protocol="x"), "(?i)protocol"),
            (
                lambda r: upgrade_answer(
                    r, "Sec-WebSocket-Protocol: x", "Sec-WebSocket-Protocol: y"
                ),
                "",
            ),
            (lambda r: upgrade_answer(r, Sec_WebSocket_Extensions="x"), "(?i)extension"),
        ),
        *row(
            27,
            (lambda r: upgrade_answer(r, Sec_WebSocket_Extensions="permessage-deflate"), ""),
            (lambda r: upgrade_answer(r, Sec_WebSocket_Extensions="permessage-deflate; x=7"), ""),
            (lambda r: upgrade_answer(r, Sec_WebSocket_Extensions="\xff"), ""),
        ),
        # What the upgrade lacks.
        (lambda r: upgrade_answer(r, Upgrade=None), "(?i)upgrade"),
        (lambda r: upgrade_answer(r, Upgrade="h2c"), "(?i)upgrade"),
        (lambda r: upgrade_answer(r, Upgrade="\xff"), "not valid"),
        (lambda r: upgrade_answer(r, Connection=None), "(?i)connection"),
        (lambda r: upgrade_answer(r, Connection="close"), "(?i)connection"),
        (lambda r: upgrade_answer(r, Connection="\xa0Upgrade"), "not valid"),
        (lambda r: upgrade_answer(r, "Connection: close", Connection="x"), "(?i)connection"),
        (lambda r: upgrade_answer(r, "Upgrade: h2c"), "(?i)upgrade"),
        (lambda r: upgrade_answer(r, "Upgrade: websocket", Upgrade="h2c"), "(?i)upgrade"),
        (lambda r: upgrade_answer(r, Upgrade="", Connection=", ,"), "(?i)connection"),
        (lambda r: upgrade_answer(r, "a b: c"), "not valid"),
    ],
)
def test_an_upgrade_that_is_not_valid(answer, says):
    error = rejected(answer)
    assert error.status == 101
    assert error.headers
    assert "upgrade is not valid" in str(error)
    with pytest.raises(AssertionError, match=says or "^$"):
        raise AssertionError(str(error) if says else "")


@pytest.mark.abuse(22)
@looped(
    ("status", "advice"),
    [
        (200, "may not be a WebSocket endpoint"),
        (301, "connect to that URL"),
        (302, "connect to that URL"),
        (307, "connect to that URL"),
        (400, ""),
        (401, "headers={'Authorization'"),
        (403, "Origin"),
        (404, "nothing at this path"),
        (414, "URL is too long"),
        (426, "version"),
        (431, "header is too long"),
        (500, ""),
        (400, "does not take the request as it is"),
        (429, "more requests than it takes"),
        (500, "has failed itself"),
        (502, "cannot reach it"),
        (503, "try again later"),
        (504, "no answer in time"),
        (599, ""),
    ],
)
def test_a_refusal_has_status_headers_body_and_advice(status, advice):
    error = rejected(
        b"HTTP/1.1 %d Text\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 4\r\n\r\nbody" % status
    )
    assert error.status == status
    assert error.headers == {"x-a": "1, 2", "content-length": "4"}
    assert error.body == b"body"
    assert f"HTTP status {status}" in str(error)
    assert advice in str(error)


@pytest.mark.abuse(23)
def test_a_redirect_is_shown_and_not_followed():
    error = rejected(
        b"HTTP/1.1 302 Found\r\nLocation: ws://other/\x1b[0m\r\nContent-Length: 0\r\n\r\n"
    )
    assert error.headers["location"] == "ws://other/\x1b[0m"
    assert "ws://other/" in str(error)
    assert "not followed" in str(error)
    assert "\x1b" not in str(error)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("wss://user:secret@other/", "'wss://other/'"),
        ("wss://user:sec@ret@other/", "'wss://other/'"),
        ("//user:secret@other/", "'//other/'"),
        ("wss://other/path?token=secret", "'wss://other/path?...'"),
        ("wss://other/path?a=//secret@secret", "'wss://other/path?...'"),
        ("/login#secret", "'/login'"),
        ("/a@b", "'/a@b'"),
    ],
)
def test_a_redirect_is_shown_without_its_secrets(location, shown):
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    error = rejected(head.encode())
    assert error.headers["location"] == location
    assert f"(Location: {shown})" in str(error)


@looped(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", 404, b""),
        (b"HTTP/1.1 204 x\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 x\r\n\r\n", 304, b""),
        (b"HTTP/1.0 200 x\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 200 x\r\nConnection: close\r\n\r\nend", 200, b"end"),
        (b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 200, b"hi"),
        (b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nhi, and more", 200, b"hi"),
        (b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\ncut", 200, b"cut"),
        (b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nzz", 200, b"hi"),
        (b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz", 200, b""),
    ],
)
@looped("size", [1, 1000])
def test_bodies_of_refusals(answer, status, body, size):
    handshake = client()
    with pytest.raises(HandshakeError) as caught:
        for piece in pieces(answer, size):
            assert not handshake.receive(piece)
        handshake.receive(b"")
    assert caught.value.status == status
    assert caught.value.body == body
    assert f"HTTP status {status}" in str(caught.value)


@pytest.mark.abuse(22)
@pytest.mark.parametrize(
    ("head", "chunk"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nxxx\r\n" * 300),
    ],
    ids=["to the end", "length", "chunked"],
)
def test_a_body_is_cut_at_64_kib(head, chunk):
    handshake = client()
    assert not handshake.refused
    handshake.receive(head)
    fed = 0
    with pytest.raises(HandshakeError) as caught:
        while True:
            assert handshake.refused
            handshake.receive(chunk)
            fed += chunk.count(b"x")
    assert fed <= 64 * 1024
    assert caught.value.body == b"x" * (64 * 1024)


def test_a_body_in_small_pieces_takes_linear_time():
    handshake = client()
    handshake.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    start = time.process_time()
    for _ in range(40):
        handshake.receive(b"1\r\nx\r\n" * 1000)
    assert time.process_time() - start < 10
    with pytest.raises(HandshakeError) as caught:
        handshake.give_up()
    assert len(caught.value.body) == 40_000


def test_giving_up_raises_the_refusal_that_has_come():
    handshake = client()
    handshake.give_up()  # nothing has: nothing to raise
    assert not handshake.receive(b"HTTP/1.1 503 Busy\r\n\r\npart")
    with pytest.raises(HandshakeError, match="503") as caught:
        handshake.give_up()
    assert caught.value.body == b"part"


@pytest.mark.abuse(25)
@pytest.mark.parametrize("size", [1, 100_000])
def test_interim_responses_are_skipped(size):
    handshake = client()
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 15
    opened = False
    for piece in pieces(interim + upgrade_answer(handshake.request), size):
        opened = handshake.receive(piece)
    assert opened


@pytest.mark.abuse(25)
def test_interim_responses_are_counted():
    error = rejected(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
    assert "16 interim" in str(error)
    assert error.status == 103


def test_a_refusal_after_an_interim_response():
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 x\r\nContent-Length: 2\r\n\r\nno"
    assert rejected(answer).status == 401


@pytest.mark.abuse(28)
@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"\0",
        b"h",
        b"HTTPS/1.1 200\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"+OK POP3 ready\r\n",
    ],
)
def test_what_is_no_http_is_refused_at_its_first_bytes(answer):
    error = rejected(answer, end=False)
    assert error.status is None
    assert "not HTTP" in str(error)
    assert "right port" in str(error)


@looped(
    "answer",
    [
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 1000 OK\r\n\r\n",
        b"HTTP/11 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad line\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 9000,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 9000,
    ],
)
@looped("size", [1, 100_000])
def test_http_that_is_malformed(answer, size):
    handshake = client()
    with pytest.raises(HandshakeError, match="answer is not valid"):
        for piece in pieces(answer, size):
            assert not handshake.receive(piece)


def test_a_status_is_told_though_the_headers_behind_it_are_malformed():
    error = rejected(b"HTTP/1.1 503 Busy\r\nContent-Length: -1\r\n\r\n")
    assert error.status == 503
    assert "not valid HTTP" in str(error)


@pytest.mark.parametrize("part", [b"", b"H", b"HTTP/1.1 10", b"HTTP/1.1 101 x\r\nUpgrade: w"])
def test_an_end_before_the_answer_is_complete(part):
    handshake = client()
    if part:
        assert not handshake.receive(part)
    with pytest.raises(HandshakeError, match="closed the connection") as caught:
        handshake.receive(b"")
    assert caught.value.status is None


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.binary(max_size=4), st.booleans())
def test_any_change_to_an_answer_is_taken_or_a_handshake_error(position, noise, insert):
    handshake = client()
    answer = upgrade_answer(handshake.request)
    position %= len(answer)
    mutant = answer[:position] + noise + answer[position + (0 if insert else len(noise)) :]
    try:
        if handshake.receive(mutant):
            return
        handshake.receive(b"")
    except HandshakeError as error:
        cause = error.__cause__
    else:
        pytest.fail("neither taken nor refused")
    assert cause is None or isinstance(cause, FOREIGN_ERRORS)


# -- wsproto's word --------------------------------------------------------


class Asked:
    """The same handshake by wsproto alone, asked anew for each one, with the key of another."""

    def __init__(self, key, url, headers, subprotocols, deflate):
        parsed = parse_url(url)
        extra = [
            (name.encode(), value.strip().encode("latin-1")) for name, value in headers.items()
        ]
        if parsed.credentials and "Authorization" not in headers:
            extra.append((b"Authorization", parsed.credentials.encode()))
        if "User-Agent" not in headers:
            extra.append((b"User-Agent", b"scriptling-ws/" + __version__.encode()))
        self._ws = WSConnection(ConnectionType.CLIENT)
        self.offer = DeflateOffer(deflate) if deflate else None
        with mock.patch.object(wshandshake, "generate_nonce", return_value=key):
            self.request = self._ws.send(
                wsevents.Request(
                    host=parsed.host_header,
                    target=parsed.target,
                    subprotocols=list(subprotocols),
                    extensions=[self.offer] if deflate else [],
                    extra_headers=extra,
                )
            )

    def receive(self, head):
        self._ws.receive_data(lists_joined(head))
        (event,) = self._ws.events()
        assert isinstance(event, wsevents.AcceptConnection)
        return event.subprotocol, self.offer.terms if self.offer else None


def lists_joined(head):
    """A head with each list in one line, as wsproto can take it: it looks at the last alone."""
    names = (b"connection", b"sec-websocket-extensions", b"sec-websocket-protocol", b"upgrade")
    lines, lists = [], {}
    for line in head[:-4].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() in names:
            lists.setdefault(name.lower(), []).append(value)
        else:
            lines.append(line)
    for name, values in lists.items():
        if name == b"sec-websocket-extensions":
            elements = [value.strip(b" \t,") for value in values]
        else:
            elements = [part.strip(b" \t") for value in values for part in value.split(b",")]
            if name != b"sec-websocket-protocol":
                elements = [element.lower() for element in elements]
            elements = list(dict.fromkeys(elements))
        if any(elements):
            lines.append(name + b": " + b", ".join(filter(None, elements)))
    return b"\r\n".join([*lines, b"", b""])


def key_of(request):
    return request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]


@looped("url", ["ws://localhost:8080/chat?x=1", "ws://u:p@[::1]/", "wss://h/%20"])
@looped("headers", [{}, {"X-A": " \xfc ", "x-b": ""}, {"User-Agent": "me"}])
@looped("subprotocols", [(), ("a",), ("b", "a")])
@looped("deflate", [None, Terms(), Terms(True, True, 9, 10)])
def test_a_request_is_what_wsproto_would_send(url, headers, subprotocols, deflate):
    for _ in range(2):  # the second may be one that was kept
        request = client(url, headers, subprotocols, deflate).request
        assert Asked(key_of(request), url, headers, subprotocols, deflate).request == request


NOT_ASCII = "'ascii' codec can't decode"


def outcome(make, answer):
    """What was agreed on, or why it was refused."""
    handshake = make()
    try:
        return handshake.receive(answer(handshake.request))
    except (*FOREIGN_ERRORS, HandshakeError) as error:
        text = str(error).removeprefix("the server's upgrade is not valid: ")
        # Which of two fields outside ASCII is named does not matter.
        return NOT_ASCII if text.startswith(NOT_ASCII) else text


class Ours(ClientHandshake):
    """What it has agreed on, as Asked tells it."""

    def receive(self, data):
        if super().receive(data):
            return self.subprotocol, self.deflate
        return pytest.fail("neither taken nor refused")


def both(answer, subprotocols=("a", "b"), deflate=None):
    """What this package makes of an answer, and what wsproto does."""
    url = "ws://localhost:8080/chat?x=1"
    args = {}, subprotocols

    def ours():
        return Ours(parse_url(url), *args, deflate=deflate)

    def asked():
        return Asked(key_of(client().request), url, *args, deflate)

    return outcome(ours, answer), outcome(asked, answer)


ELEMENTS = st.one_of(
    st.sampled_from(
        ["Upgrade", "WebSocket", "keep-alive", "a", "b", "B", "a b", "", '"x, y"', "h2c"]
    ),
    st.sampled_from(["permessage-deflate", "permessage-deflate; client_max_window_bits=9", "x; y"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF), max_size=6),
)
LINES = st.tuples(
    st.sampled_from(
        ["Connection", "upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "X", "Date"]
    ),
    st.lists(ELEMENTS, max_size=3).map(" , ".join),
    st.sampled_from(["", " ", "\t", " \t "]),
).map(lambda parts: f"{parts[0]}:{parts[2]}{parts[1]}{parts[2]}")


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(LINES, max_size=4),
    left_out=st.lists(
        st.sampled_from(["Upgrade", "Connection", "Sec-WebSocket-Accept"]), max_size=1
    ),
    subprotocols=st.sampled_from([(), ("a",), ("a", "b")]),
    deflate=st.sampled_from([None, Terms()]),
)
@example(["Sec-WebSocket-Protocol: a"], [], ("a",), None)
@example(["Sec-WebSocket-Protocol: a"], [], (), None)
@example(["Sec-WebSocket-Extensions: permessage-deflate"], [], (), Terms())
@example(["Sec-WebSocket-Extensions: permessage-deflate"], [], (), None)
def test_what_wsproto_says_is_what_counts(lines, left_out, subprotocols, deflate):
    def answer(request):
        return upgrade_answer(request, *lines, **dict.fromkeys(left_out))

    first, asked = both(answer, subprotocols, deflate)
    assert first == asked
    # The second may be a verdict that was kept.
    assert both(answer, subprotocols, deflate)[0] == asked


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 200), st.binary(max_size=3), st.integers(0, 3))
@example(51, b"\r\n", 2)
@example(136, b"", 3)
def test_any_change_to_an_answer_leaves_the_verdict_to_wsproto(position, noise, left_out):
    def answer(request):
        head = upgrade_answer(request, "Sec-WebSocket-Protocol: a", "Server: x")
        at = len(b"HTTP/1.1 101 ") + position % (len(head) - 17)
        mutant = head[:at] + noise + head[at + left_out :] + b"\r\n\r\n"
        mutants.append(mutant[: mutant.index(b"\r\n\r\n") + 4])
        return mutants[-1]

    mutants = []
    made, asked = both(answer)
    if isinstance(made, str) and not made.startswith(WORDS):
        return  # refused before: line ends, a body, a second token
    if made == "Bad HTTP message":
        # Of two faults h11 and wsproto may name another first. Of lines of one name wsproto is
        # shown one, so it may not see the one that has no colon.
        lines = mutants[0].split(b"\r\n")[1:-2]
        assert isinstance(asked, str) or not all(b":" in line for line in lines)
        return
    assert made == asked


# How wsproto's texts begin.
WORDS = ("Bad ", "Missing ", "unrecognized ", NOT_ASCII)


def test_wsproto_is_asked_once_for_the_same_answer(monkeypatch):
    asked = []

    class Counting(WSConnection):
        def __init__(self, kind):
            asked.append(kind)
            super().__init__(kind)

    monkeypatch.setattr(_client, "WSConnection", Counting)
    _client._verdict.cache_clear()

    def opens(*lines, deflate=None, **changes):
        handshake = client(subprotocols=["a", "x" * 2000], deflate=deflate)
        return handshake.receive(upgrade_answer(handshake.request, *lines, **changes))

    for number in range(3):
        assert opens(f"Date: {number}")
    assert len(asked) == 1
    for _ in range(2):  # what it refuses is not kept, nor what is long, nor what has an offer
        with pytest.raises(HandshakeError, match="token"):
            opens(Sec_WebSocket_Accept=ACCEPT)
        assert opens(f"Sec-WebSocket-Protocol: {'x' * 2000}")
        assert opens(deflate=Terms())
    assert len(asked) == 7
    assert _client._verdict.cache_info().currsize == 1


def test_a_token_is_of_one_key_alone():
    first, second = client(), client()
    assert first.receive(upgrade_answer(first.request))
    with pytest.raises(HandshakeError, match="token"):
        second.receive(upgrade_answer(first.request))


def test_no_secret_is_kept_and_nothing_piles_up():
    _client._request.cache_clear()
    client(headers={"Authorization": "Bearer x"})
    client("ws://u:p@h/")
    client(f"ws://h/?{'x' * 2000}")
    assert _client._request.cache_info().currsize == 0
    for number in range(100):
        handshake = client(f"ws://h/{number}", subprotocols=[f"p{number}"])
        named = f"p{number}"
        assert handshake.receive(upgrade_answer(handshake.request, Sec_WebSocket_Protocol=named))
    assert _client._request.cache_info().currsize <= 16
    assert _client._verdict.cache_info().currsize <= 64
