"""What a caller adds to a request: what is sent of it, and what is refused."""

import enum

import pytest

from looped import looped
from scriptling_ws._handshakes.additions import Additions
from scriptling_ws._handshakes.client import ClientHandshake
from scriptling_ws._handshakes.url import parse_url
from scriptling_ws._version import __version__

pytestmark = pytest.mark.once("it is about requests")

URL = parse_url("ws://u:p@localhost:8080/chat")


def lines(headers=None, url=URL, **options):
    """The request's lines, without those that every request has."""
    request = ClientHandshake(url, Additions.checked(headers, **options)).request
    rows = request.decode("latin-1").split("\r\n")[1:-2]
    made = ("upgrade:", "connection:", "sec-")
    return [row for row in rows if not row.lower().startswith(made)]


AGENT = f"User-Agent: scriptling-ws/{__version__}"
BASIC = "Authorization: Basic dTpw"


@looped(
    ("options", "sent"),
    [
        ({}, ["Host: localhost:8080", BASIC, AGENT]),
        ({"headers": {}}, ["Host: localhost:8080", BASIC, AGENT]),
        ({"headers": []}, ["Host: localhost:8080", BASIC, AGENT]),
        (
            {"headers": [("X-A", "1"), ["x-a", " 2\t"]]},
            ["Host: localhost:8080", "X-A: 1", "x-a: 2", BASIC, AGENT],
        ),
        (
            {"headers": iter([("X-A", "1")])},
            ["Host: localhost:8080", "X-A: 1", BASIC, AGENT],
        ),
        (
            {"headers": {"authorization": "Bearer x"}},
            ["Host: localhost:8080", "authorization: Bearer x", AGENT],
        ),
        ({"headers": {"HOST": "other.test:9"}}, ["Host: other.test:9", BASIC, AGENT]),
        ({"headers": {"Host": "[::1]"}}, ["Host: [::1]", BASIC, AGENT]),
        (
            {"cookies": {"a": "1", "b": 'x="y", z/\\'}},
            ["Host: localhost:8080", 'Cookie: a=1; b=x="y", z/\\', BASIC, AGENT],
        ),
        ({"cookies": {"a": ""}}, ["Host: localhost:8080", "Cookie: a=", BASIC, AGENT]),
        ({"cookies": {}}, ["Host: localhost:8080", BASIC, AGENT]),
        (
            {"origin": "http://a.test"},
            ["Host: localhost:8080", "Origin: http://a.test", BASIC, AGENT],
        ),
        ({"user_agent": "me/1"}, ["Host: localhost:8080", "User-Agent: me/1", BASIC]),
        ({"user_agent": ""}, ["Host: localhost:8080", BASIC]),
        (
            {"headers": {"User-Agent": "me/1"}},
            ["Host: localhost:8080", "User-Agent: me/1", BASIC],
        ),
    ],
)
def test_what_is_sent(options, sent):
    assert lines(options.pop("headers", None), **options) == sent


@looped(
    ("options", "error", "says"),
    [
        ({"headers": {"Host": "a b"}}, ValueError, "Host header"),
        ({"headers": {"Host": ""}}, ValueError, "Host header"),
        ({"headers": {"Host": "h:0"}}, ValueError, "Host header"),
        ({"headers": {"Host": "u@h"}}, ValueError, "Host header"),
        ({"headers": [("Host", "a"), ("host", "b")]}, ValueError, "'host' is there twice"),
        ({"headers": {"Origin": "x"}, "origin": "y"}, ValueError, "'origin' is there twice"),
        ({"headers": {"cookie": "x"}, "cookies": {"a": "b"}}, ValueError, "twice"),
        ({"headers": {"user-agent": "x"}, "user_agent": "y"}, ValueError, "twice"),
        ({"headers": [("Authorization", "a")] * 2}, ValueError, "twice"),
        ({"headers": [("Upgrade", "x")]}, ValueError, "leave it out"),
        ({"headers": [("X", "a\r\nb")]}, ValueError, "does not allow"),
        ({"headers": [("X", 1)]}, TypeError, "have to be str"),
        ({"headers": "X: 1"}, TypeError, "dict"),
        ({"headers": b"X: 1"}, TypeError, "dict"),
        ({"headers": 1}, TypeError, "dict"),
        ({"headers": ["ab"]}, TypeError, "list of pairs"),
        ({"headers": [("a",)]}, TypeError, "list of pairs"),
        ({"cookies": "a=b"}, TypeError, "cookies has to be a dict"),
        ({"cookies": {"a": 1}}, TypeError, "have to be str"),
        ({"cookies": {1: "a"}}, TypeError, "have to be str"),
        ({"cookies": {"a b": "1"}}, ValueError, "not the name of a cookie"),
        ({"cookies": {"a=": "1"}}, ValueError, "not the name of a cookie"),
        ({"cookies": {"a": "1; b=2"}}, ValueError, "semicolon"),
        ({"cookies": {"a": "1\r\nX: y"}}, ValueError, "control character"),
        ({"cookies": {"a": "\xe9"}}, ValueError, "percent-encode"),
        ({"origin": "a\nb"}, ValueError, "'Origin'"),
        ({"origin": 1}, TypeError, "'Origin'"),
        ({"user_agent": "\0"}, ValueError, "'User-Agent'"),
        ({"user_agent": b"x"}, TypeError, "'User-Agent'"),
    ],
)
def test_what_is_refused(options, error, says):
    with pytest.raises(error, match=says):
        Additions.checked(options.pop("headers", None), **options)


def test_a_text_that_says_another_thing_when_it_is_formatted():
    class Cookie(str, enum.Enum):
        A = "1"

    assert lines(cookies={"a": Cookie.A})[1] == "Cookie: a=1"


def test_what_goes_to_another_origin():
    headers = [("X", "1"), ("Authorization", "a"), ("Proxy-Authorization", "b"), ("Host", "h")]
    whole = Additions.checked(headers, cookies={"c": "d"}, origin="http://o", user_agent="")
    away = whole.elsewhere()
    assert away.fields == ((b"X", b"1"), (b"Origin", b"http://o"))
    assert (away.host, away.anonymous) == (None, True)
    assert "secret" not in repr(Additions.checked({"X": "secret"}))


def test_requests_with_a_host_of_the_callers_are_not_mixed_up():
    plain = parse_url("ws://localhost/")
    assert lines({"Host": "a.test"}, plain)[0] == "Host: a.test"
    assert lines(None, plain)[0] == "Host: localhost"
    assert lines({"Host": "b.test"}, plain)[0] == "Host: b.test"
