"""Header fields: what a caller may add, and what of them is shown."""

import base64
import enum
import io
from dataclasses import replace

import pytest

from scriptling_ws._fields import check_header, shown_headers, shown_target
from scriptling_ws._handshakes.head import Request, parse_request
from scriptling_ws._handshakes.url import parse_url
from scriptling_ws._server.response import Response, text

pytestmark = pytest.mark.once

SECRET = "s3cr3t"


class Kind(str, enum.Enum):
    """Formatted as `Kind.PLAIN` since Python 3.12."""

    PLAIN = "text/plain"


class Liar(str):
    """Something else when it is formatted than when it is checked."""

    def __str__(self):
        return "a\r\nSet-Cookie: evil"

    def __format__(self, _):
        return "a\r\nSet-Cookie: evil"


def test_a_header_goes_on_as_it_was_checked():
    for given in (Kind.PLAIN, Liar("text/plain")):
        name, value = check_header(Liar("X"), given, (), "the server")
        assert (type(name), type(value)) == (str, str)
        assert f"{name}: {value}" == "X: text/plain"


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        (1, "a", TypeError, "have to be str, not int and str"),
        ("X", None, TypeError, "have to be str, not str and NoneType"),
        ("X", b"a", TypeError, "have to be str, not str and bytes"),
        ("", "a", ValueError, "is not a header name"),
        ("X:", "a", ValueError, "is not a header name"),
        ("X\r\n", "a", ValueError, "is not a header name"),
        ("X", "a\r\nb", ValueError, "HTTP does not allow"),
        ("X", "\0", ValueError, "HTTP does not allow"),
        ("X", "\u2603", ValueError, "HTTP does not allow"),
        ("OURS", "a", ValueError, "made by the server itself"),
    ],
)
def test_what_is_no_header(name, value, error, text):
    with pytest.raises(error, match=text):
        check_header(name, value, {"ours"}, "the server")


def test_of_headers_that_may_be_secret_the_names_alone_are_shown():
    names = ["Authorization", "cookie", "Proxy-Authorization", "Sec-WebSocket-Key", "X-API-Key"]
    names += ["Set-Cookie", "Sec-WebSocket-Protocol", "Referer", "Location", "X-Forwarded-For"]
    shown = shown_headers([(name, SECRET) for name in names] + [("Host", "own")])
    assert SECRET not in shown
    for name in names:
        assert f"{name!r}: ..." in shown
    assert "'Host': 'own'" in shown


def test_of_a_target_the_query_is_not_shown():
    assert shown_target("/a?token=x?y") == "'/a?...'"
    assert shown_target("/a?") == "'/a?...'"
    assert shown_target("/a") == "'/a'"


LINES = [
    f"Authorization: Bearer {SECRET}",
    f"Cookie: sid={SECRET}",
    f"Proxy-Authorization: Basic {SECRET}",
    f"Sec-WebSocket-Key: {SECRET}",
    f"Sec-WebSocket-Protocol: {SECRET}",
    f"X-Token: {SECRET}",
    f"Referer: http://own/?{SECRET}",
]


def shown_objects():
    """Each object of the package that holds what a peer or a caller may want kept."""
    rows = [f"GET /x?t={SECRET}&{SECRET} HTTP/1.1", "Host: own", *LINES, "", ""]
    request = parse_request("\r\n".join(rows).encode())
    yield request
    yield replace(request, body=SECRET.encode())
    yield Request("GET", "/", {"cookie": SECRET}, {SECRET: SECRET}, SECRET.encode(), f"/?{SECRET}")
    yield text(200, SECRET, {"Set-Cookie": SECRET, "Location": SECRET, "X-Token": SECRET})
    yield Response(200, file=io.BytesIO(SECRET.encode()))
    yield parse_url(f"ws://user:{SECRET}@own/x?t={SECRET}")
    yield parse_url(f"ws://{SECRET}@own/x?{SECRET}")


@pytest.mark.parametrize("shown", list(shown_objects()), ids=lambda each: type(each).__name__)
def test_no_secret_is_in_a_repr(shown):
    hidden = [SECRET, base64.b64encode(f"user:{SECRET}".encode()).decode()]
    for text_of in (repr(shown), str(shown), f"{shown}", f"{shown!a}", f"{[shown]}"):
        assert not any(secret in text_of for secret in hidden)
        assert type(shown).__name__ in text_of


def test_a_repr_shows_what_is_no_secret():
    request = parse_request(b"GET /a?b=1 HTTP/1.1\r\nHost: own\r\nCookie: a\r\n\r\n")
    assert repr(request) == (
        "Request(method='GET', path='/a', headers={'host': 'own', 'cookie': ...}, "
        "query=<1 fields>, body=<0 bytes>, target='/a?...')"
    )
    response = text(404, "four", {"Set-Cookie": "a", "Vary": "b"})
    assert repr(response) == (
        "Response(status=404, body=<4 bytes>, content_type='text/plain; charset=utf-8', "
        "headers={'Set-Cookie': ..., 'Vary': 'b'})"
    )
    assert "file=<2 bytes>" in repr(Response(200, file=io.BytesIO(b"ab")))
    url = parse_url("wss://own/a?b")
    assert repr(url) == "URL(secure=True, host='own', port=443, target='/a?...')"
