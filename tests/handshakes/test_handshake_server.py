"""The server's side of the opening handshake, without a socket: upgrades, taken and refused."""

import base64
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto import events as wsevents

from abuse import row
from heads import ACCEPT, KEY, request
from looped import looped
from scriptling_ws._handshakes import server as _server
from scriptling_ws._handshakes.head import FOREIGN_ERRORS, HeadReader, Refused, parse_request
from scriptling_ws._handshakes.server import ServerUpgrade, wants_upgrade
from scriptling_ws._handshakes.terms import Terms

pytestmark = pytest.mark.once


def upgrade(head):
    """What a server does with a head, from reader to upgrade."""
    whole = HeadReader().feed(head)
    assert whole == head
    return ServerUpgrade(head, parse_request(head))


def refused(head):
    with pytest.raises(Refused) as caught:
        upgrade(head)
    return caught.value


@pytest.mark.parametrize(
    ("head", "wants"),
    [
        (request(), True),
        (request(Upgrade="h2c", Sec_WebSocket_Key=None), False),
        (request(Upgrade="h2c, WebSocket", Sec_WebSocket_Key=None), True),
        (request(Upgrade=None), True),
        (request(Upgrade=None, Sec_WebSocket_Key=None), False),
    ],
)
def test_which_requests_want_an_upgrade(head, wants):
    assert wants_upgrade(parse_request(head)) is wants


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


@looped(
    "changes",
    [
        {"Upgrade": "WebSocket"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "keep-alive,upgrade"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
        {"Origin": "http://localhost"},
        {"X-A": "\xff"},
        {"Upgrade": "h2c, WebSocket"},
        {"Upgrade": ",websocket ,\tx/1"},
        {"Content-Length": "0"},
        {"Content-Length": "00"},
        {"Content-Length": "0, 0"},
        {"Host": "xn--fa-hia.example"},  # IDNA 2003 does not know it
        {"Host": "under_score.local:8080"},
        {"Host": "[2001:db8::1]:443"},
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
            (request(Upgrade="h2c"), 400),
            (request(Upgrade=None), 400),
            (request(Upgrade="websocket/13"), 400),
            (request(Upgrade="notwebsocket, h2c"), 400),
            (request("Upgrade: h3", Upgrade="h2c"), 400),
            (request("Connection: notupgrade", Connection="close"), 400),
        ),
        *row(
            8,
            (request("Content-Length: 1"), 400),
            (request("Content-Length: " + "9" * 5000), 400),
            (request("Content-Length: +0"), 400),
            (request("Content-Length: -0"), 400),
            (request("Content-Length: 0x0"), 400),
            (request("Content-Length:"), 400),
            (request("Content-Length: 0, 5"), 400),
            (request("Content-Length: 0", "Content-Length: 5"), 400),
            (request("Content-Length: 0", "Transfer-Encoding: chunked"), 400),
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


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("Connection", "keep-alive", "Upgrade"),
        ("Connection", "Upgrade", "keep-alive"),
        ("Upgrade", "h2c", "websocket"),
        ("Upgrade", "WebSocket", "h2c"),
        ("Upgrade", "websocket", "websocket"),
    ],
)
def test_a_list_may_come_in_two_lines(name, first, second):
    head = request(f"{name.lower()}: {second}", **{name: first})
    assert upgrade(head).accept().startswith(b"HTTP/1.1 101 ")


def test_subprotocols_of_several_lines_are_one_list():
    head = request("Sec-WebSocket-Protocol: a, b", "X: y", "Sec-WebSocket-Protocol: c,, d")
    accepted = upgrade(head)
    assert accepted.subprotocols == ["a", "b", "c", "d"]
    assert b"\r\nSec-WebSocket-Protocol: d\r\n" in accepted.accept("d")


def test_an_empty_list_of_subprotocols_offers_none():
    assert upgrade(request("Sec-WebSocket-Protocol:")).subprotocols == []


def test_an_upgrade_in_http_1_0_is_told_which_setting_of_a_proxy_is_missing():
    answer = refused(request(start="GET /chat HTTP/1.0"))
    assert answer.status == 505
    for setting in ("proxy_http_version 1.1", "Upgrade $http_upgrade", "Connection"):
        assert setting in answer.text


# nginx with its defaults, but HTTP/1.1, passes neither of the two on.
@pytest.mark.parametrize("changes", [{"Upgrade": None}, {"Connection": "close"}])
def test_an_upgrade_that_a_proxy_has_robbed_is_told_the_same(changes):
    answer = refused(request(**changes))
    assert answer.status == 400
    assert "proxy_set_header Upgrade" in answer.text


def test_a_refusal_does_not_repeat_the_values_of_headers():
    for head in (request("Sec-WebSocket-Protocol: s3cret\xff"), request("X: s3cret\x0b")):
        assert "s3cret" not in refused(head).text


# Bad parameters of an extension that is not accepted anyway do no harm.
@pytest.mark.abuse(13)
@pytest.mark.parametrize("value", ["15x", '"10"', "99", "-1", "", '"\\'])
def test_a_malformed_extension_offer_is_declined(value):
    head = request(f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={value}")
    assert b"xtensions" not in upgrade(head).accept()


@pytest.mark.parametrize("value", ["15x", '"16"', "99", "-1", "", '"\\', "8"])
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
    assert ("Allow", "GET, OPTIONS") in refused(request(start="POST / HTTP/1.1")).headers
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


@settings(max_examples=100, deadline=None)
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
    assert status in (400, 404, 405, 414, 426, 431, 505)


# -- wsproto's word --------------------------------------------------------

FIELDS = (
    "connection",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
)
DATE = ("Date", "Mon, 30 Nov 2026 08:00:00 GMT")


class Asked:
    """An upgrade as wsproto alone sees it, asked anew for each one, and its own answer."""

    def __init__(self, head):
        headers = parse_request(head).headers
        rows = ["GET / HTTP/1.1", "host: a", "upgrade: websocket"]
        rows += [f"{name}: {headers[name]}" for name in FIELDS if name in headers]
        self._ws = WSConnection(ConnectionType.SERVER)
        self._ws.receive_data("\r\n".join([*rows, "", ""]).encode("latin-1"))
        (event,) = self._ws.events()
        self.subprotocols = [name for name in event.subprotocols if name]

    def accept(self, subprotocol):
        extra = [tuple(part.encode() for part in DATE)]
        event = wsevents.AcceptConnection(subprotocol=subprotocol, extra_headers=extra)
        return self._ws.send(event)


MALFORMED = "the upgrade is malformed"


def outcome(make, head):
    """What is offered, and the answers; or why it is refused."""
    try:
        names = make(head).subprotocols
        return names, [make(head).accept(name) for name in [None, *names][-2:]]
    except FOREIGN_ERRORS:
        return MALFORMED
    except Refused as refused:
        return refused.text


class Accepting(ServerUpgrade):
    """With a header of the server's."""

    def accept(self, subprotocol):
        return super().accept(subprotocol, [DATE])


def ours(head):
    return Accepting(head, parse_request(head))


# What may stand in a list: names, what is no name, what wsproto or h11 does not take.
ELEMENTS = st.one_of(
    st.sampled_from(["Upgrade", "upgrade", "keep-alive", "chat", "v2.chat", "a b", "", '"x, y"']),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF), max_size=6),
)
VALUES = st.lists(ELEMENTS, max_size=4).map(", ".join)
SPACES = st.sampled_from(["", " ", "\t", " \t "])


@settings(max_examples=150, deadline=None)
@given(
    connection=st.one_of(st.just("Upgrade"), VALUES.map("{}, Upgrade".format)),
    protocol=st.one_of(st.none(), VALUES),
    extensions=st.one_of(st.none(), VALUES, st.just("permessage-deflate; a=1")),
    keys=st.tuples(*[st.binary(min_size=16, max_size=16)] * 2),
    spaces=SPACES,
)
def test_what_wsproto_says_is_what_counts(connection, protocol, extensions, keys, spaces):
    changes = {
        "Connection": f"{spaces}{connection}{spaces}",
        "Sec-WebSocket-Protocol": protocol,
        "Sec-WebSocket-Extensions": extensions,
    }
    for key in keys:  # for the second one wsproto is not asked again
        token = base64.b64encode(key).decode()
        head = request(Sec_WebSocket_Key=token, **changes)
        try:
            parse_request(head)
        except Refused:  # h11 has: it is asked each time
            return
        assert outcome(ours, head) == outcome(Asked, head)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_change_to_a_request_leaves_the_verdict_to_wsproto(data):
    head = request(
        "Sec-WebSocket-Protocol: chat, superchat",
        "Origin: http://a",
        Connection="keep-alive, Upgrade",
    )
    position = data.draw(st.integers(0, len(head) - 5))
    noise = data.draw(st.binary(max_size=3))
    mutant = head[:position] + noise + head[position + data.draw(st.integers(0, 3)) :]
    try:
        got = HeadReader().feed(mutant)
        if got is None:
            return
        parse_request(got)
    except Refused:
        return
    made = outcome(ours, got)
    if isinstance(made, tuple) or made == MALFORMED:  # else wsproto was not asked
        assert made == outcome(Asked, got)
    assert outcome(ours, got) == made


def test_wsproto_is_asked_once_for_the_same_fields(monkeypatch):
    asked = []

    class Counting(WSConnection):
        def __init__(self, kind):
            asked.append(kind)
            super().__init__(kind)

    monkeypatch.setattr(_server, "WSConnection", Counting)
    _server._verdict.cache_clear()
    for key in (KEY, base64.b64encode(bytes(16)).decode()):
        upgrade(request("Sec-WebSocket-Protocol: once", f"X-A: {key}", Sec_WebSocket_Key=key))
    assert len(asked) == 1
    for _ in range(2):  # what it refuses is not kept, nor what is long
        refused(request("Sec-WebSocket-Protocol: \xff"))
    for _ in range(2):
        upgrade(request(f"Sec-WebSocket-Protocol: {'x' * 600}"))
    assert len(asked) == 5
    assert _server._verdict.cache_info().currsize == 1


def test_verdicts_do_not_pile_up():
    for number in range(300):
        upgrade(request(f"Sec-WebSocket-Protocol: p{number}"))
    assert _server._verdict.cache_info().currsize <= 64
