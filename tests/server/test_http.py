"""Responses: what page handlers may return, what goes out for it, and what never does."""

import contextlib
import enum
import http
import io
import json as jsonlib
import locale
import os
import re
import socket
import time
import types
from dataclasses import FrozenInstanceError, replace
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

import pytest

from looped import looped
from pairs import Running, tcp_pair, tls_pair
from scriptling_ws._handshakes.head import Refused
from scriptling_ws._network.deadline import Deadline
from scriptling_ws._network.transport import Transport
from scriptling_ws._server import dates as _dates
from scriptling_ws._server import http as _http
from scriptling_ws._server.http import render
from scriptling_ws._server.response import (
    Response,
    html,
    json,
    redirect,
    refusal,
    text,
    to_response,
)
from servers import Answer, ask, head, routes_of, serving

pytestmark = pytest.mark.once


def shown(response, **options):
    return Answer(render(response, **options))


@pytest.mark.parametrize(
    ("make", "body", "kind"),
    [
        (html, "<h1>Grüße</h1>", "text/html; charset=utf-8"),
        (text, "Grüße", "text/plain; charset=utf-8"),
    ],
)
def test_text_results(make, body, kind):
    answer = shown(make(201, body))
    assert answer.status == 201
    assert answer.headers["content-type"] == kind
    assert answer.body == body.encode()
    assert answer.headers["content-length"] == str(len(answer.body))


def test_json_result_is_compact_utf8():
    answer = shown(json(200, {"a": [1, None, "ü"]}))
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == '{"a":[1,null,"ü"]}'.encode()


def test_every_response_closes_and_forbids_guessing():
    answer = shown(text(200, ""))
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == "0"


@pytest.mark.parametrize(
    ("result", "kind", "body"),
    [
        ("<script>", "text/plain; charset=utf-8", b"<script>"),
        ({"a": 1}, "application/json", b'{"a":1}'),
        ([1, 2], "application/json", b"[1,2]"),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        (bytearray(b"x"), "application/octet-stream", b"x"),
    ],
)
def test_plain_results(result, kind, body):
    answer = shown(to_response(result))
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, kind, body)


@pytest.mark.parametrize("result", [None, 1, object(), ("a",)])
def test_other_results_are_a_mistake(result):
    with pytest.raises(TypeError, match=r"a page handler returned .*it has to return"):
        to_response(result)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_json_has_no_nan(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        json(200, value)


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x"])
def test_json_refuses_what_it_cannot_say(value):
    with pytest.raises(TypeError):
        json(200, value)


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ValueError):
        text(200, "\ud800")


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600, -1])
def test_status_range(status):
    with pytest.raises(ValueError, match="200 to 599"):
        text(status, "")


@pytest.mark.parametrize("status", [200, 599])
def test_the_first_status_and_the_last(status):
    assert shown(text(status, "")).status == status


@pytest.mark.parametrize("status", ["200", None, True, 200.0])
def test_status_type_names_the_order_of_arguments(status):
    with pytest.raises(TypeError, match="the status comes first"):
        text(status, "")


def test_body_type():
    with pytest.raises(TypeError, match="the body has to be a str, not bytes"):
        html(200, b"<p>")


class Kind(str, enum.Enum):
    PLAIN = "text/plain"


class Code(int, enum.Enum):
    FINE = 200


@pytest.mark.parametrize(
    ("body", "given", "kind", "sent"),
    [
        ("Grüße", None, "text/plain; charset=utf-8", "Grüße".encode()),
        ("<p>", "text/html; charset=utf-8", "text/html; charset=utf-8", b"<p>"),
        ("x", "application/octet-stream", "application/octet-stream", b"x"),
        ("", None, "text/plain; charset=utf-8", b""),
        ("x", "", None, b"x"),
        (b"x", None, "application/octet-stream", b"x"),
        (bytearray(b"x"), None, "application/octet-stream", b"x"),
        (memoryview(b"xyz")[::2], None, "application/octet-stream", b"xz"),
    ],
)
def test_a_body_is_bytes_or_text(body, given, kind, sent):
    answer = shown(Response(200, body, given))
    assert answer.headers.get("content-type") == kind
    assert answer.headers["content-length"] == str(len(sent))
    assert answer.body == sent


def test_a_body_that_its_maker_changes_later():
    body = bytearray(b"first")
    response = Response(200, body)
    body += b" and more"
    assert shown(response).body == b"first"


@pytest.mark.parametrize("body", [None, 5, ["a"], {"a": 1}, io.BytesIO(b"x")])
def test_a_body_of_another_type(body):
    with pytest.raises(TypeError, match="the body has to be bytes or a str"):
        Response(200, body)


def test_members_of_enums_go_out_as_what_they_are():
    """Formatted they are their names, since Python 3.12."""
    answer = shown(Response(Code.FINE, b"", Kind.PLAIN, {"X": Kind.PLAIN, "Y": Kind.PLAIN}))
    assert answer.status == 200
    assert [answer.headers[name] for name in ("content-type", "x", "y")] == ["text/plain"] * 3
    assert shown(Response(http.HTTPStatus.NOT_FOUND)).status == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"A": "1", "B": "2"},
        [("A", "1"), ("B", "2")],
        (("A", "1"), ["B", "2"]),
        types.MappingProxyType({"A": "1", "B": "2"}),
        {"A": "1", "B": "2"}.items(),
    ],
)
def test_headers_are_a_dict_or_pairs(headers):
    for make in (
        lambda: Response(200, headers=headers),
        lambda: text(200, "", headers),
        lambda: html(200, "", headers),
        lambda: json(200, "", headers),
        lambda: redirect("/", headers=headers),
        lambda: replace(Response(200), headers=headers),
    ):
        answer = shown(make())
        assert (answer.headers["a"], answer.headers["b"]) == ("1", "2")


def test_headers_may_come_by_an_iterator():
    response = Response(200, headers=(pair for pair in [("A", "1"), ("B", "2")]))
    for _ in range(2):
        assert shown(response).headers["a"] == "1"
        assert shown(response).headers["b"] == "2"


def test_a_header_may_come_several_times():
    response = html(200, "", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Vary", "x")])
    raw = render(response)
    assert raw.count(b"Set-Cookie: ") == 2
    assert b"Set-Cookie: a=1\r\n" in raw
    assert b"Set-Cookie: b=2\r\n" in raw


@pytest.mark.parametrize("name", ["Content-Type", "Date", "Location", "ETag"])
def test_what_there_is_once_in_a_response(name):
    for headers in ([(name, "a"), (name.lower(), "b")], [(name, "a"), (name, "a")]):
        with pytest.raises(ValueError, match="is there twice"):
            Response(200, headers=headers)
    assert shown(Response(200, headers=[(name, "a")])).headers[name.lower()] == "a"


BAD_FIELDS = [
    ({"status": "200\r\nX: y"}, TypeError),
    ({"status": 200.0}, TypeError),
    ({"status": True}, TypeError),
    ({"status": 101}, ValueError),
    ({"status": 1000}, ValueError),
    ({"body": None}, TypeError),
    ({"body": 5}, TypeError),
    ({"body": "\ud800"}, ValueError),
    ({"content_type": 5}, TypeError),
    ({"content_type": "a\r\nSet-Cookie: b"}, ValueError),
    ({"content_type": "\u2603"}, ValueError),
    ({"headers": 5}, TypeError),
    ({"headers": "X: y"}, TypeError),
    ({"headers": b"X: y"}, TypeError),
    ({"headers": ["ab"]}, TypeError),
    ({"headers": [("X",)]}, TypeError),
    ({"headers": [("X", "y", "z")]}, TypeError),
    ({"headers": [("X", 1)]}, TypeError),
    ({"headers": [("X", b"y")]}, TypeError),
    ({"headers": [("X", "y\r\nZ: 1")]}, ValueError),
    ({"headers": {"Content-Length": "1"}}, ValueError),
    ({"headers": {"Transfer-Encoding": "chunked"}}, ValueError),
    ({"headers": {"Connection": "keep-alive"}}, ValueError),
    ({"length": "1\r\nSet-Cookie: b"}, TypeError),
    ({"length": -1}, ValueError),
    ({"length": 1.0}, TypeError),
    ({"length": True}, TypeError),
    ({"length": 2**63}, ValueError),
    ({"file": "name"}, TypeError),
    ({"file": b"bytes"}, TypeError),
    ({"file": 3}, TypeError),
    ({"file": io.StringIO("text")}, TypeError),
    ({"file": io.BytesIO(b"x"), "body": b"y"}, ValueError),
    ({"file": io.BytesIO(b"x"), "status": 204}, ValueError),
    ({"body": b"x", "status": 204}, ValueError),
    ({"body": b"x", "status": 205}, ValueError),
    ({"body": "x", "status": 304}, ValueError),
]


@looped(("fields", "error"), BAD_FIELDS)
def test_every_field_of_a_response_is_checked_whatever_makes_it(fields, error):
    with pytest.raises(error):
        Response(**{"status": 200, **fields})
    with pytest.raises(error):
        replace(Response(200), **fields)


@pytest.mark.parametrize(("fields", "error"), BAD_FIELDS)
def test_what_is_wrong_with_a_response_is_a_500_and_a_line_in_the_log(fields, error, log):
    routes = routes_of(page=lambda request: Response(**{"status": 200, **fields}))
    with serving(routes=routes) as server:
        answer = ask(server, head("/page"))
    assert (answer.status, answer.body[:4]) == (500, b"500 ")
    assert set(answer.headers) == {
        "date",
        "content-type",
        "content-length",
        "x-content-type-options",
        "referrer-policy",
        "connection",
        "keep-alive",
    }
    assert log.wait_for("the page '/page' failed").exc_info[0] in (error, UnicodeEncodeError)


def test_a_response_that_is_to_have_no_body():
    answer = shown(Response(205))
    assert (answer.headers["content-length"], answer.body) == ("0", b"")


def test_a_file_is_sent_from_where_it_stands_to_its_end(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    def page(request):
        file = path.open("rb", buffering=0 if "raw" in request.query else -1)
        file.seek(int(request.query["from"]))
        return Response(200, file=file)

    with serving(routes=routes_of(page=page)) as server:
        for start, sent in ((0, b"0123456789"), (4, b"456789"), (10, b""), (99, b"")):
            for kind in ("raw", "buffered"):
                answer = ask(server, head(f"/page?from={start}&{kind}"))
                assert (answer.status, answer.body) == (200, sent)
                assert answer.headers["content-length"] == str(len(sent))


def test_a_file_that_does_not_tell_its_length():
    near, far = os.pipe()
    with os.fdopen(near, "rb", buffering=0) as pipe, os.fdopen(far, "wb", buffering=0) as end:
        end.write(b"data")
        with pytest.raises(ValueError, match="length="):
            Response(200, file=pipe)
        assert Response(200, file=pipe, length=4).length == 4


def test_a_response_is_replaced_field_by_field():
    first = html(200, "<p>", {"A": "1"})
    again = replace(first, status=404)
    assert (again.status, again.body, again.headers) == (404, b"<p>", (("A", "1"),))
    assert again.content_type == "text/html; charset=utf-8"
    assert first == html(200, "<p>", {"A": "1"})
    with pytest.raises(FrozenInstanceError):
        first.status = 404


# -- redirects ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/", "/"),
        ("/done", "/done"),
        ("/a?next=https://other.example//x", "/a?next=https://other.example//x"),
        ("./done", "./done"),
        ("../done", "../done"),
        ("done", "done"),
        ("./a:b", "./a:b"),
        ("done/a:b", "done/a:b"),
        ("?page=2", "?page=2"),
        ("#part", "#part"),
        ("/grüße", "/gr%C3%BC%C3%9Fe"),
        ("/a%20b", "/a%20b"),
    ],
)
def test_a_redirect_leads_to_a_path_of_this_server(location, sent):
    answer = shown(redirect(location))
    assert (answer.status, answer.headers["location"], answer.body) == (303, sent, b"")
    assert "content-type" not in answer.headers
    assert urljoin("https://own.example/x/y", answer.headers["location"]).startswith(
        "https://own.example/"
    )


@looped(
    "location",
    [
        "//evil.example",
        "///evil.example",
        "https://evil.example",
        "HTTPS://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "a:b",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "\t//evil.example",
        " //evil.example",
        "/a\r\nSet-Cookie: b",
        "/\ud800",
        "/\0",
        "/\x7f",
        "",
    ],
)
def test_a_redirect_leads_nowhere_else(location):
    with pytest.raises(ValueError, match="location"):
        redirect(location)


@pytest.mark.parametrize("absolute", [False, True])
def test_what_is_wrong_with_a_location_that_leads_nowhere(absolute):
    for location in ("", " ", "/a b", "/\\", "https://a\r\nb"):
        with pytest.raises(ValueError, match="is empty, or has a backslash, blank or control"):
            redirect(location, absolute=absolute)


def test_a_redirect_to_another_host_is_meant():
    answer = shown(redirect("https://other.example/x", 308, absolute=True))
    assert (answer.status, answer.headers["location"]) == (308, "https://other.example/x")
    for location in ("/x", "//x", "javascript:x", "https:///x", "https://", "https://a\r\nb"):
        with pytest.raises(ValueError, match="location"):
            redirect(location, absolute=True)


@pytest.mark.parametrize("status", [200, 300, 304, 305, 400, "303", None])
def test_the_status_of_a_redirect(status):
    with pytest.raises(ValueError, match="the status of a redirect"):
        redirect("/", status)


@pytest.mark.parametrize("location", [None, 5, b"/x"])
def test_the_type_of_a_location(location):
    with pytest.raises(TypeError, match="the location has to be a str"):
        redirect(location)


def test_a_redirect_has_more_headers_but_no_second_location():
    answer = shown(redirect("/", headers={"Set-Cookie": "a=1"}))
    assert answer.headers["set-cookie"] == "a=1"
    with pytest.raises(ValueError, match="twice"):
        redirect("/", headers={"Location": "https://evil.example"})


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(status):
    answer = shown(text(status, ""))
    assert "content-length" not in answer.headers
    assert "content-type" not in answer.headers
    with pytest.raises(ValueError, match="has no body"):
        text(status, "x")


def test_more_headers_go_out_and_may_replace_the_type():
    answer = shown(text(200, "a", {"Cache-Control": "no-store", "content-type": "text/css"}))
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "text/css"
    assert answer.raw.lower().count(b"content-type:") == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nSet-Cookie: b"},
        {"X": "a\nb"},
        {"X": "a\0b"},
        {"X": "snow ☃"},
        {"X\r\nY": "a"},
        {"X Y": "a"},
        {"": "a"},
    ],
)
def test_nothing_is_smuggled_into_a_response(headers):
    with pytest.raises(ValueError):
        text(200, "", headers)


@pytest.mark.parametrize("name", ["Content-Length", "connection", "Transfer-Encoding"])
def test_headers_of_the_server_itself(name):
    with pytest.raises(ValueError, match="made by the server itself"):
        text(200, "", {name: "1"})


@pytest.mark.parametrize("headers", [["a"], "a", {"X": 1}, {1: "X"}])
def test_header_types(headers):
    with pytest.raises(TypeError):
        text(200, "", headers)


@pytest.mark.parametrize("headers", ["", "a: b", b"", b"a: b", 5, ["a"], [("a",)]])
def test_what_headers_have_to_be_is_said(headers):
    with pytest.raises(TypeError, match="headers has to be a dict"):
        text(200, "", headers)


def test_head_has_the_same_headers_and_no_body(monkeypatch):
    response = json(200, {"a": 1})
    monkeypatch.setattr(_dates, "time", lambda: 0)
    whole, top = render(response), render(response, head_only=True)
    assert whole == top + response.body


def test_a_refusal_says_what_to_do():
    answer = shown(refusal(Refused(405, "this page answers GET", [("Allow", "GET")])))
    assert answer.status == 405
    assert answer.headers["allow"] == "GET"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.body == b"405 Method Not Allowed: this page answers GET\n"


def test_an_upgrade_refusal_names_upgrade_in_connection_once():
    headers = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    answer = shown(refusal(Refused(426, "use a WebSocket client", headers)))
    assert answer.headers["upgrade"] == "websocket"
    assert answer.headers["connection"] == "close, upgrade"
    assert answer.raw.lower().count(b"\r\nconnection:") == 1


def test_a_status_without_a_phrase():
    assert shown(text(299, "")).status == 299


# -- Date ------------------------------------------------------------------


def test_every_response_has_a_date():
    before = int(time.time())
    for response in (
        text(200, ""),
        text(204, ""),
        text(304, ""),
        Response(308, content_type="", headers=(("Location", "./x/"),)),
        refusal(Refused(404, "not here")),
        refusal(Refused(503, "full")),
    ):
        for head_only in (False, True):
            date = shown(response, head_only=head_only).headers["date"]
            seconds = parsedate_to_datetime(date).timestamp()
            assert before <= seconds <= time.time()
            assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} GMT", date)


def test_a_date_is_that_of_its_second_and_in_english(monkeypatch):
    before = locale.setlocale(locale.LC_ALL)
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C"):
        with contextlib.suppress(locale.Error):  # it is not installed
            locale.setlocale(locale.LC_ALL, name)
            break
    try:
        for second, date in (
            (784111777.9, "Sun, 06 Nov 1994 08:49:37 GMT"),  # the example of RFC 9110
            (784111778.0, "Sun, 06 Nov 1994 08:49:38 GMT"),
            (1835395200.0, "Tue, 29 Feb 2028 00:00:00 GMT"),
        ):
            monkeypatch.setattr(_dates, "time", lambda second=second: second)
            assert _http.http_date() == date
            assert shown(text(200, "")).headers["date"] == date
    finally:
        locale.setlocale(locale.LC_ALL, before)


def test_a_date_that_a_handler_gives_is_kept():
    answer = shown(text(200, "", {"date": "Sun, 06 Nov 1994 08:49:37 GMT"}))
    assert answer.headers["date"] == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert answer.raw.lower().count(b"\r\ndate:") == 1


# -- writing -----------------------------------------------------------------


@pytest.fixture
def pair():
    near, far = tcp_pair()
    far.settimeout(10)
    transport = Transport(near)
    yield transport, far
    transport.close()
    far.close()


def test_a_peer_that_does_not_read_is_given_up(pair):
    transport, _ = pair
    with pytest.raises(TimeoutError):
        _http.write_all(transport, bytes(50_000_000), Deadline(0.05))


def test_what_tls_keeps_back_is_waited_for():
    near, far = tls_pair()
    data = bytes(range(256)) * 128  # which TLS takes at once, and the socket does not
    with contextlib.closing(near), contextlib.closing(far):
        near._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        writing = Running(_http.write_all, near, data, Deadline(10))
        received, buffer = b"", bytearray(4096)
        while len(received) < len(data):
            if (count := far.read_into(buffer)) is None:
                far.wait(True, False, Deadline(10))
            received += buffer[: count or 0]
        writing.result()
        assert received == data


def test_json_round_trip():
    value = {"nested": [{"a": 1.5}, True, None, ""]}
    assert jsonlib.loads(json(200, value).body) == value
