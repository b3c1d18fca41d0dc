"""Cookies that responses set: safe by default, and nothing that a browser would refuse."""

import enum
from dataclasses import replace

import pytest

from looped import looped
from scriptling_ws._server.http import Manner, render
from scriptling_ws._server.response import Response
from scriptling_ws.runtime import HTTP, Request
from servers import Answer, ask, head, routes_of, serving

pytestmark = pytest.mark.once("it is about pages")


def set_cookie(*args, manner=None, **options):
    response = Response(200).with_cookie(*args, **options)
    return Answer(render(response, manner=manner or Manner())).headers["set-cookie"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "a=b; Path=/; HttpOnly; SameSite=Lax"),
        ({"max_age": 0}, "a=b; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"),
        (
            {"path": "/x", "domain": "a.example"},
            "a=b; Path=/x; Domain=a.example; HttpOnly; SameSite=Lax",
        ),
        ({"http_only": False, "same_site": "Strict"}, "a=b; Path=/; SameSite=Strict"),
        ({"secure": True, "same_site": "None"}, "a=b; Path=/; Secure; HttpOnly; SameSite=None"),
    ],
)
def test_what_is_sent(options, text):
    assert set_cookie("a", "b", **options) == text


@pytest.mark.parametrize(
    ("secure", "by_tls", "sent"),
    [
        (None, False, False),
        (None, True, True),
        (True, False, True),
        (False, True, False),
    ],
)
def test_secure_where_the_client_came_by_tls(secure, by_tls, sent):
    text = set_cookie("a", "b", secure=secure, manner=Manner(secure=by_tls))
    assert ("; Secure" in text) is sent


@pytest.mark.parametrize(("path", "sent"), [(None, "/app"), ("/x", "/x"), ("/", "/")])
def test_the_path_below_a_prefix(path, sent):
    text = set_cookie("a", "b", path=path, manner=Manner(root_path="/app"))
    assert f"; Path={sent};" in text


def test_prefixes_of_names_keep_their_promise():
    assert set_cookie("__Host-a", "b", manner=Manner(root_path="/app")) == (
        "__Host-a=b; Path=/; Secure; HttpOnly; SameSite=Lax"
    )
    assert "; Secure" in set_cookie("__secure-a", "b")
    for options in ({"secure": False}, {"domain": "a.example"}, {"path": "/x"}):
        with pytest.raises(ValueError, match="browsers refuse the cookie '__Host-a'"):
            set_cookie("__Host-a", "b", **options)
    with pytest.raises(ValueError, match="without Secure"):
        set_cookie("__Secure-a", "b", secure=False)


@looped(
    ("args", "options", "error", "text"),
    [
        (("a", "b c"), {}, ValueError, "urllib.parse.quote"),
        (("a", "b;c"), {}, ValueError, "urllib.parse.quote"),
        (("a", 'b"'), {}, ValueError, "urllib.parse.quote"),
        (("a", "b\r\nX: y"), {}, ValueError, "urllib.parse.quote"),
        (("a", "ü"), {}, ValueError, "urllib.parse.quote"),
        (("a=", "b"), {}, ValueError, "not a cookie name"),
        (("", "b"), {}, ValueError, "not a cookie name"),
        (("a", 5), {}, TypeError, "have to be str"),
        (("a", "x" * 4096), {}, ValueError, "more than 4096 bytes"),
        (("a", "b"), {"path": "x"}, ValueError, "path such as"),
        (("a", "b"), {"path": "/x; Secure"}, ValueError, "path such as"),
        (("a", "b"), {"path": b"/"}, TypeError, "path has to be a str"),
        (("a", "b"), {"domain": "a;b"}, ValueError, "host name"),
        (("a", "b"), {"domain": ".a"}, ValueError, "host name"),
        (("a", "b"), {"max_age": -1}, ValueError, "max_age"),
        (("a", "b"), {"max_age": 1.5}, TypeError, "max_age"),
        (("a", "b"), {"same_site": "lax"}, ValueError, "'Lax', 'Strict' or 'None'"),
        (("a", "b"), {"same_site": "None"}, ValueError, "secure=True"),
        (("a", "b"), {"secure": 1}, TypeError, "secure has to be True or False"),
        (("a", "b"), {"http_only": None}, TypeError, "http_only has to be True or False"),
    ],
)
def test_what_a_browser_would_refuse(args, options, error, text):
    with pytest.raises(error, match=text):
        set_cookie(*args, **options)


class Theme(str, enum.Enum):
    DARK = "dark"


class Liar(str):
    def __format__(self, spec):
        return "x\r\nEvil: y"


class Many(int, enum.Enum):
    DAY = 86_400


def test_it_goes_out_as_it_was_checked():
    """Not as what a class of the program says as it is formatted."""
    assert set_cookie(Theme.DARK, Theme.DARK, max_age=Many.DAY) == (
        "dark=dark; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"
    )
    texts = {"path": Liar("/x"), "domain": Liar("a.example"), "same_site": Liar("Strict")}
    assert set_cookie(Liar("a"), Liar("b"), **texts) == (
        "a=b; Path=/x; Domain=a.example; HttpOnly; SameSite=Strict"
    )


def test_several_and_none_changes_the_response_it_was_made_of():
    first = Response(200, "x")
    both = first.with_cookie("a", "1").with_cookie("b", "2").without_cookie("c", path="/x")
    assert first.cookies == ()
    sent = render(both).decode().split("\r\n")
    assert [line for line in sent if line.startswith("Set-Cookie: ")] == [
        "Set-Cookie: a=1; Path=/; HttpOnly; SameSite=Lax",
        "Set-Cookie: b=2; Path=/; HttpOnly; SameSite=Lax",
        "Set-Cookie: c=; Path=/x; Max-Age=0; HttpOnly; SameSite=Lax",
    ]
    assert replace(both, status=201).cookies == both.cookies
    assert "1" not in repr(both.cookies[0])


@pytest.mark.parametrize("cookies", ["a=1", [("a", "1")], 5])
def test_only_with_cookie_makes_cookies(cookies):
    with pytest.raises(TypeError, match="with_cookie"):
        Response(200, cookies=cookies)


def test_a_cookie_as_a_header():
    asked = Request("GET", "/", secure=True, root_path="/app")
    assert HTTP.cookie(asked, "a", "b", max_age=5) == (
        "Set-Cookie",
        "a=b; Path=/app; Max-Age=5; Secure; HttpOnly; SameSite=Lax",
    )


def test_from_a_page():
    def page(request):
        return HTTP.text(200, request.cookies.get("seen", "")).with_cookie("seen", "yes")

    with serving(routes=routes_of(page=page)) as server:
        answer = ask(server, head("/page"))
        assert answer.headers["set-cookie"] == "seen=yes; Path=/; HttpOnly; SameSite=Lax"
        assert ask(server, head("/page", "Cookie: seen=yes")).body == b"yes"
