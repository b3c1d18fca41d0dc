"""Redirects: followed where that is allowed, and what goes along."""

import contextlib

import pytest

from pairs import SOON, at_least, receive_frame, receive_head, tls_contexts, upgrade_answer
from scriptling_ws import ConnectError, ConnectTimeout, HandshakeError, connect
from tunnels import http_proxy, listening

pytestmark = pytest.mark.once("it is about the way to a server")


def site(seen, answers, *, name="localhost"):
    """A script: redirects by path, and a WebSocket where there is none. It notes all heads."""

    def script(sock):
        head = receive_head(sock)
        seen.append(head)
        path = head.split(b" ")[1].decode()
        location = answers.get(path)
        if location is None:
            sock.sendall(upgrade_answer(head))
            receive_frame(sock)
            return
        status, location = location if isinstance(location, tuple) else (302, location)
        sock.sendall(f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\n\r\n".encode())
        with contextlib.suppress(OSError):  # and the body never ends: nobody waits for that
            while sock.recv(100):
                pass

    return script


def follow(url, **options):
    return connect(url, **{"timeout": SOON, "max_redirects": 5, "close_timeout": 0, **options})


def fields(head):
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_followed(status):
    seen, answers = [], {"/old/x?a=1": (status, "../new?b=2#part")}
    with (
        listening(site(seen, answers)) as port,
        at_least(0, 0.9),
        follow(f"ws://127.0.0.1:{port}/old/x?a=1") as conn,
    ):
        assert conn.request.target == "/new?b=2"
        assert conn.remote_addr == f"127.0.0.1:{port}"
    assert [head.split(b" ")[1] for head in seen] == [b"/old/x?a=1", b"/new?b=2"]


def test_not_followed_by_default():
    with (
        listening(site([], {"/": "/new"})) as port,
        pytest.raises(HandshakeError, match="max_redirects") as caught,
    ):
        connect(f"ws://127.0.0.1:{port}/", SOON)
    assert caught.value.status == 302
    assert caught.value.headers["location"] == "/new"


@pytest.mark.parametrize("form", ["ws://127.0.0.1:{}/", "http://127.0.0.1:{}/", "//127.0.0.1:{}/"])
def test_every_form_of_a_location(form):
    seen = []
    with listening(site(seen, {})) as other, listening(site([], {"/": form.format(other)})) as port:
        follow(f"ws://127.0.0.1:{port}/").close()
    assert len(seen) == 1


def test_a_location_outside_ascii():
    seen = []
    with listening(site(seen, {"/": "/caf\xe9"})) as port:
        follow(f"ws://127.0.0.1:{port}/").close()
    assert seen[1].startswith(b"GET /caf%C3%A9 ")


CREDENTIALS = {
    "headers": {"Authorization": "Bearer secret", "X-Mine": "yes", "Host": "name.test"},
    "cookies": {"session": "secret"},
    "origin": "http://page.test",
}


def test_what_goes_along_to_the_same_origin():
    seen = []
    with listening(site(seen, {"/": "/new"})) as port:
        follow(f"ws://127.0.0.1:{port}/", **CREDENTIALS).close()
    first, second = map(fields, seen)
    for name in ("authorization", "x-mine", "host", "cookie", "origin", "user-agent"):
        assert second[name] == first[name]
    assert first["sec-websocket-key"] != second["sec-websocket-key"]


def test_credentials_of_the_url_go_along_to_the_same_origin():
    seen = []
    with listening(site(seen, {"/": "/new"})) as port:
        follow(f"ws://me:mine@127.0.0.1:{port}/").close()
    assert fields(seen[1])["authorization"] == fields(seen[0])["authorization"]


@pytest.mark.parametrize("credentials", ["", "me:mine@"])
def test_what_goes_along_to_another_origin(credentials):
    """And it does not come back, where a redirect leads back."""
    seen = []
    back = {}
    with (
        listening(site(seen, back)) as other,
        listening(site(seen, {"/": f"ws://127.0.0.1:{other}/back"})) as port,
    ):
        back["/back"] = f"ws://127.0.0.1:{port}/end"
        options = {} if credentials else CREDENTIALS
        follow(f"ws://{credentials}127.0.0.1:{port}/", **options).close()
    first, second, third = map(fields, seen)
    assert "authorization" in first
    for later in (second, third):
        assert not {"authorization", "cookie"} & set(later)
        assert later["host"].startswith("127.0.0.1:")
        if not credentials:
            assert (later["x-mine"], later["origin"]) == ("yes", "http://page.test")


def test_credentials_in_a_location_are_for_where_it_leads():
    seen = []
    with (
        listening(site(seen, {})) as other,
        listening(site([], {"/": f"ws://you:yours@127.0.0.1:{other}/"})) as port,
    ):
        follow(f"ws://me:mine@127.0.0.1:{port}/").close()
        with pytest.raises(HandshakeError, match=f"//127.0.0.1:{other}") as caught:
            connect(f"ws://127.0.0.1:{port}/", SOON)
    assert fields(seen[0])["authorization"] == "Basic eW91OnlvdXJz"
    assert "yours" not in str(caught.value)


def test_from_ws_to_wss():
    client, context = tls_contexts()
    seen = []
    with (
        listening(site(seen, {}), context=context) as other,
        listening(site([], {"/": f"https://localhost:{other}/"})) as port,
    ):
        url = f"ws://127.0.0.1:{port}/"
        with follow(url, ssl_context=client, server_hostname="localhost") as conn:
            assert conn.request.secure is True


def test_the_name_for_the_certificate_stays_with_its_origin():
    client, context = tls_contexts()
    with listening(site([], {}), context=context) as other:
        answers = {"/": f"wss://127.0.0.1:{other}/"}
        with listening(site([], answers), context=context) as port:
            url = f"wss://127.0.0.1:{port}/"
            follow(url, ssl_context=client, server_hostname="localhost").close()
            follow(url, ssl_context=client).close()
            with pytest.raises(ConnectError, match=r"(?i)mismatch"):
                follow(url, ssl_context=client, server_hostname="other.test")


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("ws://127.0.0.1:1/", "without TLS"),
        ("http://127.0.0.1:1/", "without TLS"),
        ("ws+unix:///run/app.sock", "Unix socket"),
        ("wss+unix:///run/app.sock", "Unix socket"),
        ("ftp://h/", "cannot be used for a WebSocket"),
        ("wss://h:0/", "cannot be used for a WebSocket"),
        ("wss://[x/", "cannot be used for a WebSocket"),
        ("wss://me:secret@h:x/", "cannot be used for a WebSocket"),
        ("", "more than 5 redirects"),  # the same again
    ],
)
def test_not_followed(location, says):
    client, context = tls_contexts()
    with (
        listening(site([], {"/": location}), context=context) as port,
        pytest.raises(HandshakeError, match=says) as caught,
    ):
        follow(f"wss://localhost:{port}/", ssl_context=client)
    assert caught.value.status == 302
    assert "secret" not in str(caught.value)


def test_a_loop_ends():
    seen = []
    with (
        listening(site(seen, {"/": "/a", "/a": "/b", "/b": "/a"})) as port,
        pytest.raises(HandshakeError, match="more than 5 redirects") as caught,
    ):
        follow(f"ws://127.0.0.1:{port}/")
    assert len(seen) == 6
    assert caught.value.status == 302


def test_one_deadline_for_all():
    def script(sock):
        receive_head(sock)
        sock.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            sock.recv(1)
        sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n")

    with listening(script) as port, at_least(0.35, 5), pytest.raises(ConnectTimeout):
        follow(f"ws://127.0.0.1:{port}/", timeout=0.35, max_redirects=100)


def test_what_is_no_redirect_is_a_refusal_as_ever():
    with listening(site([], {"/": (304, "/new"), "/a": (404, "/new")})) as port:
        for path, status in (("/", 304), ("/a", 404)):
            with pytest.raises(HandshakeError) as caught:
                follow(f"ws://127.0.0.1:{port}{path}")
            assert caught.value.status == status


def test_a_redirect_that_leads_nowhere():
    def script(sock):
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")

    with listening(script) as port, pytest.raises(HandshakeError, match="302"):
        follow(f"ws://127.0.0.1:{port}/")


def test_every_hop_goes_through_the_proxy():
    heads = []
    with (
        listening(site([], {})) as other,
        listening(http_proxy(heads)) as proxy,
        listening(site([], {"/": f"ws://localhost:{other}/"})) as port,
    ):
        url = f"ws://127.0.0.1:{port}/"
        follow(url, proxy=f"http://127.0.0.1:{proxy}").close()
    assert [head.split(b" ")[1] for head in heads] == [
        b"127.0.0.1:%d" % port,
        b"localhost:%d" % other,
    ]


@pytest.mark.parametrize(
    ("most", "error"), [(-1, ValueError), (True, TypeError), (1.0, TypeError), (None, TypeError)]
)
def test_numbers_that_are_none(most, error):
    with pytest.raises(error, match="max_redirects"):
        connect("ws://localhost/", max_redirects=most)
