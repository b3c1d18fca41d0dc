"""Requests as handlers see them: JSON, forms, cookies, and where the client sees the server."""

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scriptling_ws._handshakes.bodies import BadBody
from scriptling_ws._handshakes.head import Refused, Request
from scriptling_ws._server.routes import Routes
from servers import ask, head, serving

pytestmark = pytest.mark.once("it is about pages")

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


def request(body=b"", kind=None, **fields):
    headers = {} if kind is None else {"content-type": kind}
    return Request("POST", "/", {**headers, **fields.pop("headers", {})}, body=body, **fields)


@settings(max_examples=30, deadline=None)
@given(VALUES)
def test_json_comes_back(value):
    assert request(json.dumps(value).encode(), JSON).json() == value


@pytest.mark.parametrize(
    "kind", [JSON, "application/json; charset=utf-8", "Application/JSON", "application/ld+json"]
)
def test_the_types_of_json(kind):
    assert request(b'{"a": [1]}', kind).json() == {"a": [1]}


@pytest.mark.parametrize("kind", [None, "", "text/plain", FORM, "text/json", "x/y+json"])
def test_what_a_page_of_another_site_can_send_is_no_json(kind):
    with pytest.raises(ValueError, match="Content-Type: application/json") as caught:
        request(b"{}", kind).json()
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not JSON at character 0"),
        (b'{"a": }', "not JSON at character 6"),
        (b"\xff", "not UTF-8"),
        (b"\xff\xfe[\x001\x00]\x00", "not UTF-8"),
        (b"NaN", "not JSON"),
        (b"[-Infinity]", "not JSON"),
        (b"[" * 60_000, "nested too deeply"),
        (b"1" * 60_000, "not JSON"),
    ],
)
def test_malformed_json(body, text):
    with pytest.raises(ValueError, match=text) as caught:
        request(body, JSON).json()
    assert caught.value.status == 400
    assert isinstance(caught.value, Refused)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.text("aä &=+%\0"))))
def test_a_form_comes_back(fields):
    form = request(urlencode(fields).encode(), f"{FORM};charset=UTF-8").form()
    assert form == dict(fields)
    for name, _ in fields:
        assert form.get_list(name) == [value for field, value in fields if field == name]
    assert form.get_list("there is none\n") == []


def test_a_form_does_not_show_its_values():
    assert repr(request(b"user=a&password=secret", FORM).form()) == "Form(<2 fields>)"


def test_a_form_that_is_not_utf_8():
    assert request(b"a=%ff&b=\xff", FORM).form() == {"a": "\ufffd", "b": "\ufffd"}


@pytest.mark.parametrize("count", [1000, 1001])
def test_the_most_fields(count):
    body = b"&".join([b"a=1"] * count)
    if count == 1000:
        assert len(request(body, FORM).form().get_list("a")) == count
    else:
        with pytest.raises(BadBody, match="more than 1000 fields"):
            request(body, FORM).form()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("multipart/form-data; boundary=x", "without enctype"),
        (JSON, "send a form"),
        (None, "send a form"),
    ],
)
def test_what_is_no_form(kind, text):
    with pytest.raises(ValueError, match=text) as caught:
        request(b"a=1", kind).form()
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("text", "cookies"),
    [
        (None, {}),
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2;c=3 ;\td=4", {"a": "1", "b": "2", "c": "3", "d": "4"}),
        ("a=long path; a=short path", {"a": "long path"}),
        ('a="1 2"; b="; c=""; d=x"y"', {"a": "1 2", "b": '"', "c": "", "d": 'x"y"'}),
        ("a=b=c; d=", {"a": "b=c", "d": ""}),
        ("none; =x; ;;a=1", {"a": "1"}),
        ("a=%20", {"a": "%20"}),
    ],
)
def test_cookies(text, cookies):
    assert request(headers={} if text is None else {"cookie": text}).cookies == cookies


@pytest.mark.parametrize(
    ("fields", "base", "url"),
    [
        ({"headers": {"host": "a.example:81"}}, "http://a.example:81", "http://a.example:81/x?y"),
        ({"headers": {"host": "a"}, "secure": True}, "https://a", "https://a/x?y"),
        ({"headers": {"host": "[::1]"}, "root_path": "/p"}, "http://[::1]/p", "http://[::1]/p/x?y"),
        ({"root_path": "/p"}, "/p", "/p/x?y"),
    ],
)
def test_where_the_client_sees_the_server(fields, base, url):
    seen = Request("GET", "/x", target="/x?y", **fields)
    assert (seen.base_url, seen.url) == (base, url)


def test_a_handler_need_not_catch_what_is_the_clients_mistake():
    def number(request):
        return {"twice": 2 * request.json()["number"]}

    def lenient(request):
        try:
            return request.json()
        except ValueError:
            return {}

    routes = Routes()
    routes.get("/number", number)
    routes.get("/lenient", lenient)
    with serving(routes=routes) as server:

        def post(path, body, kind=JSON):
            lines = [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
            return ask(server, head(path, *lines) + body)

        assert post("/number", b'{"number": 4}').body == b'{"twice":8}'
        assert post("/number", b"{").status == 400
        assert post("/number", b"{}", "text/plain").status == 415
        assert post("/number", b"{}").status == 500
        assert post("/lenient", b"{").body == b"{}"
