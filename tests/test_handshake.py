"""The opening handshake of both roles, without a socket."""

import base64
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abuse import row
from heads import ACCEPT, KEY, pieces, request
from memory import tracemalloc
from pairs import upgrade_answer
from scriptling_ws._errors import ConnectTimeout, HandshakeError
from scriptling_ws._handshake_client import ClientHandshake
from scriptling_ws._handshake_server import ServerUpgrade, wants_upgrade
from scriptling_ws._head import FOREIGN_ERRORS, HeadReader, Refused, parse_request
from scriptling_ws._options import check_subprotocols
from scriptling_ws._terms import Terms
from scriptling_ws._url import parse_url


def upgrade(head):
    """What a server does with a head, from reader to upgrade."""
    whole = HeadReader().feed(head)
    assert whole == head
    return ServerUpgrade(head, parse_request(head))


def refused(head):
    with pytest.raises(Refused) as caught:
        upgrade(head)
    return caught.value


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


@pytest.mark.parametrize(
    ("head", "wants"),
    [
        (request(), True),
        (request(Upgrade="h2c", Sec_WebSocket_Key=None), True),
        (request(Upgrade=None), True),
        (request(Upgrade=None, Sec_WebSocket_Key=None), False),
    ],
)
def test_which_requests_want_an_upgrade(head, wants):
    assert wants_upgrade(parse_request(head)) is wants


# -- ServerUpgrade ---------------------------------------------------------


def test_an_upgrade_is_accepted():
    accepted = upgrade(request())
    assert accepted.subprotocols == []
    head = accepted.accept()
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 101 Switching Protocols"
    assert {line.lower() for line in lines[1:-2]} == {
        "upgrade: websocket",
        "connection: upgrade",
        f"sec-websocket-accept: {ACCEPT}".lower(),
    }
    assert f": {ACCEPT}\r\n".encode() in head
    assert lines[-2:] == ["", ""]
    assert accepted.connection is accepted.connection


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": "WebSocket"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "keep-alive,upgrade"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
        {"Origin": "http://localhost"},
        {"X-A": "\xff"},
    ],
)
def test_variants_that_are_accepted(changes):
    answer = upgrade(request(**changes)).accept()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"extensions" not in answer.lower()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        *row(
            1,
            (request(start="POST /chat HTTP/1.1"), 405),
            (request(start="HEAD /chat HTTP/1.1"), 405),
            (request(start="get /chat HTTP/1.1"), 405),
        ),
        *row(
            5,
            (request(Sec_WebSocket_Key=None), 400),
            (request(Sec_WebSocket_Key=""), 400),
            (request(Sec_WebSocket_Key="abc"), 400),
            (request(Sec_WebSocket_Key="!!!=="), 400),
            (request(Sec_WebSocket_Key=base64.b64encode(b"x" * 15).decode()), 400),
            (request(Sec_WebSocket_Key=base64.b64encode(b"x" * 17).decode()), 400),
            (request(Sec_WebSocket_Key="\xff" * 24), 400),
            (request(f"Sec-WebSocket-Key: {KEY}"), 400),
            (request(f"sec-websocket-key: {KEY}"), 400),
        ),
        *row(
            6,
            (request(Sec_WebSocket_Version="8"), 426),
            (request(Sec_WebSocket_Version="14"), 426),
            (request(Sec_WebSocket_Version=None), 400),
            (request("Sec-WebSocket-Version: 13"), 426),
        ),
        *row(
            7,
            (request(Connection="notupgrade"), 400),
            (request(Connection="\xa0Upgrade"), 400),
            (request(Connection="\x1fUpgrade"), 400),
            (request(Connection=None), 400),
            (request("Connection: keep-alive"), 400),
            (request(Upgrade="h2c"), 400),
            (request(Upgrade=None), 400),
            (request("Upgrade: websocket"), 400),
        ),
        *row(
            8,
            (request("Content-Length: 0"), 400),
            (request("Content-Length: 5"), 400),
            (request("Transfer-Encoding: chunked"), 400),
            (request("Content-Length: 5", "Transfer-Encoding: chunked"), 400),
        ),
        *row(
            13,
            (request("Sec-WebSocket-Extensions: \xff"), 400),
            (request("Sec-WebSocket-Protocol: \xff"), 400),
        ),
    ],
)
def test_refused_upgrades(head, status):
    assert refused(head).status == status


# Bad parameters of an extension that is not accepted anyway do no harm.
@pytest.mark.abuse(13)
@pytest.mark.parametrize("value", ["15x", '"10"', "99", "-1", "", '"\\'])
def test_a_malformed_extension_offer_is_declined(value):
    head = request(f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={value}")
    assert b"xtensions" not in upgrade(head).accept()


@pytest.mark.parametrize("value", ["15x", '"10"', "99", "-1", "", '"\\', "8"])
def test_an_offer_of_compression_that_cannot_be_kept_is_declined(value):
    server = upgrade(
        request(f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={value}")
    )
    assert b"xtensions" not in server.accept(deflate=Terms())
    assert server.deflate is None


def test_an_offer_of_compression_is_taken():
    lines = [
        "Sec-WebSocket-Extensions: x-other, permessage-deflate; server_max_window_bits=8",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, permessage-deflate",
    ]
    server = upgrade(request(*lines))
    answer = server.accept(deflate=Terms(client_max_window_bits=10))
    assert answer.lower().count(b"sec-websocket-extensions") == 1
    assert b": permessage-deflate; client_max_window_bits=10\r\n" in answer
    assert server.deflate == Terms(False, False, 15, 10)
    assert server.connection._proto.extensions == []  # wsproto compresses nothing


def test_compression_that_is_not_wanted_or_not_offered():
    server = upgrade(request("Sec-WebSocket-Extensions: permessage-deflate"))
    assert b"xtensions" not in server.accept()
    assert server.deflate is None
    server = upgrade(request())
    assert b"xtensions" not in server.accept(deflate=Terms())
    assert server.deflate is None


@pytest.mark.abuse(14)
@pytest.mark.parametrize("value", ['a="' + "\\a" * 3000, "b" + " " * 8000 + "x", "," * 8000])
def test_extension_headers_take_linear_time(value):
    head = request(f"Sec-WebSocket-Extensions: {value}")
    start = time.process_time()
    upgrade(head).accept(deflate=Terms())
    assert time.process_time() - start < 1


def test_refusals_say_what_the_peer_may_do():
    assert ("Allow", "GET") in refused(request(start="POST / HTTP/1.1")).headers
    for version in ("8", None):
        headers = refused(request(Sec_WebSocket_Version=version)).headers
        assert ("Sec-WebSocket-Version", "13") in headers
    plain = refused(request(Upgrade=None, Sec_WebSocket_Key=None))
    assert plain.status == 426
    assert ("Upgrade", "websocket") in plain.headers
    assert "WebSocket client" in plain.text


def test_the_server_chooses_a_subprotocol():
    accepted = upgrade(request("Sec-WebSocket-Protocol: chat, superchat"))
    assert accepted.subprotocols == ["chat", "superchat"]
    assert b"\r\nSec-WebSocket-Protocol: superchat\r\n" in accepted.accept("superchat")


def test_the_server_adds_headers():
    answer = upgrade(request()).accept(None, [("X-A", "\xfc")])
    assert b"\r\nX-A: \xfc\r\n" in answer


# The reader keeps what came in the same segment as the request.
@pytest.mark.abuse(20)
def test_frames_behind_the_request_are_not_lost():
    reader = HeadReader()
    head = reader.feed(request() + b"\x81\x80abcd")
    assert ServerUpgrade(head, parse_request(head)).accept()
    assert reader.rest == b"\x81\x80abcd"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 200), st.binary(min_size=1, max_size=4), st.booleans())
def test_any_change_to_a_request_is_taken_or_refused(position, noise, insert):
    head = request()
    position %= len(head) - 4
    mutant = head[:position] + noise + head[position + (0 if insert else len(noise)) :]
    reader = HeadReader()
    try:
        got = reader.feed(mutant)
        if got is not None:
            answer = ServerUpgrade(got, parse_request(got)).accept()
            assert answer.count(b"\r\n\r\n") == 1
    except Refused as error:
        status = error.status
    else:
        return
    assert status in (400, 405, 414, 426, 431, 505)


# -- ClientHandshake: what is sent -----------------------------------------


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


def test_subprotocols_in_order():
    _, headers = sent_headers(client(subprotocols=iter(["b", "a"])))
    assert headers["sec-websocket-protocol"] == "b, a"


@pytest.mark.abuse(29)
@pytest.mark.parametrize("bad", ["\r", "\n", "\r\n", "\0", "\r\nX: y", "\x0b", "\x7f", "\u20ac"])
@pytest.mark.parametrize("place", ["name", "value", "subprotocol"])
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
        "HOST",
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


@pytest.mark.parametrize("headers", [[("X", "1")], "X: 1", 1])
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


# -- ClientHandshake: what is received -------------------------------------


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
    assert handshake.connection is not None


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
    assert handshake.connection._proto.extensions == []  # wsproto compresses nothing


def test_compression_that_is_declined():
    handshake = client(deflate=Terms())
    assert handshake.receive(upgrade_answer(handshake.request))
    assert handshake.deflate is None
    assert client().deflate is None
    assert "sec-websocket-extensions" not in sent_headers(client())[1]


@pytest.mark.abuse(26, 27)
@pytest.mark.parametrize(
    ("extensions", "says"),
    [
        ("x", "unrecognized"),
        ("", "unrecognized"),
        ("permessage-deflate, x", "unrecognized"),
        ("permessage-deflate, permessage-deflate", "twice"),
        ("permessage-deflate; x", "unknown"),
        ("permessage-deflate; server_max_window_bits=7", "invalid"),
        ("permessage-deflate; server_max_window_bits=16", "invalid"),
        ("permessage-deflate; server_max_window_bits=abc", "invalid"),
        ('permessage-deflate; server_max_window_bits="10"', "invalid"),
        ('permessage-deflate; server_max_window_bits="', "malformed"),
        ("permessage-deflate; client_max_window_bits=12", "offered"),
        ("permessage-deflate; \xff", "not valid"),
        ("permessage-deflate\r\nSec-WebSocket-Extensions: x", "more than one"),
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
        (lambda r: upgrade_answer(r, "Connection: close"), "more than one"),
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
@pytest.mark.parametrize(
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
        (426, "version"),
        (500, ""),
        (503, "try again later"),
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
@pytest.mark.parametrize("size", [1, 1000])
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
def test_a_body_is_cut_at_1_mib():
    handshake = client()
    handshake.receive(b"HTTP/1.1 200 OK\r\n\r\n")
    fed = 0
    with pytest.raises(HandshakeError) as caught:
        while True:
            handshake.receive(b"x" * 60_000)
            fed += 60_000
    assert fed <= 1024 * 1024
    assert caught.value.body == b"x" * (1024 * 1024)


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


@pytest.mark.parametrize(
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
@pytest.mark.parametrize("size", [1, 100_000])
def test_http_that_is_malformed(answer, size):
    handshake = client()
    with pytest.raises(HandshakeError, match="answer is not valid"):
        for piece in pieces(answer, size):
            assert not handshake.receive(piece)


@pytest.mark.parametrize("part", [b"", b"H", b"HTTP/1.1 10", b"HTTP/1.1 101 x\r\nUpgrade: w"])
def test_an_end_before_the_answer_is_complete(part):
    handshake = client()
    if part:
        assert not handshake.receive(part)
    with pytest.raises(HandshakeError, match="closed the connection") as caught:
        handshake.receive(b"")
    assert caught.value.status is None


@settings(max_examples=200, deadline=None)
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
