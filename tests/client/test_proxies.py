"""connect() through proxies that a test has written: what they see, say, and do wrong."""

import base64
import contextlib
import errno
import itertools
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import traceback

import pytest

from frames import TEXT, frame
from looped import looped
from pairs import (
    SOON,
    at_least,
    receive_head,
    reset,
    tls_contexts,
    upgrade_answer,
)
from processes import python_environment
from scriptling_ws import ConnectError, ConnectTimeout, HandshakeError, InvalidURL, ProxyError
from scriptling_ws import connect as open_connection
from scriptling_ws._client.proxy import parse_proxy, proxy_of_environment
from scriptling_ws._handshakes.url import parse_url
from scriptling_ws._network.layered import TLSInTLS
from scriptling_ws._network.transport import Transport
from servers import echo, serving
from tunnels import (
    GRANTED,
    OPEN,
    SUCCEEDED,
    http_proxy,
    listening,
    socks_proxy,
)

pytestmark = pytest.mark.once("it is about the way to a server")

SECRET = "hunter2"


@pytest.fixture
def server():
    with serving(echo) as server:
        yield server


@pytest.fixture
def tls_server():
    with serving(echo, ssl_context=tls_contexts()[1]) as server:
        yield server


def connect(url, **options):
    return open_connection(url, **{"timeout": SOON, **options})


def echoes(conn):
    """Whether messages come back, small and large."""
    conn.send("hello")
    conn.send("x" * 300_000)
    return conn.receive(SOON) == "hello" and conn.receive(SOON) == "x" * 300_000


def refused(url, **options):
    """The ProxyError that connect() ends with."""
    with pytest.raises(ProxyError) as caught:
        connect(url, **options)
    assert isinstance(caught.value, ConnectError)
    assert not isinstance(caught.value, HandshakeError)
    return caught.value


# -- CONNECT -------------------------------------------------------------------


def test_a_tunnel_of_http(server):
    seen = []
    with listening(http_proxy(seen)) as port:
        url = f"ws://localhost:{server.port}/chat?token={SECRET}"
        with connect(url, proxy=f"http://127.0.0.1:{port}") as conn:
            assert echoes(conn)
            assert conn.remote_addr == f"localhost:{server.port}"
            assert conn.peer_addr == f"127.0.0.1:{port}"
    (head,) = seen
    first, *lines = head.decode().split("\r\n")
    assert first == f"CONNECT localhost:{server.port} HTTP/1.1"
    assert f"Host: localhost:{server.port}" in lines
    assert not [line for line in lines if line.lower().startswith(("proxy-a", "authorization"))]
    assert SECRET.encode() not in head


def test_a_tunnel_under_tls(tls_server):
    seen = []
    with listening(http_proxy(seen)) as port:
        options = {"proxy": f"http://127.0.0.1:{port}", "ssl_context": tls_contexts()[0]}
        with connect(f"wss://localhost:{tls_server.port}/", **options) as conn:
            assert echoes(conn)
            assert conn.remote_addr == f"localhost:{tls_server.port}"
    assert seen[0].startswith(b"CONNECT localhost:%d " % tls_server.port)


def test_tls_to_the_proxy(server):
    client, context = tls_contexts()
    with listening(http_proxy([]), context=context) as port:
        options = {"proxy": f"https://localhost:{port}", "proxy_ssl_context": client}
        with connect(f"ws://localhost:{server.port}/", **options) as conn:
            assert echoes(conn)


def test_tls_to_the_proxy_and_to_the_server(tls_server):
    client, context = tls_contexts()
    with listening(http_proxy([]), context=context) as port:
        options = {
            "proxy": f"https://localhost:{port}",
            "proxy_ssl_context": client,
            "ssl_context": client,
        }
        with connect(f"wss://127.0.0.1:{tls_server.port}/", **options) as conn:
            assert type(conn._link.transport) is TLSInTLS
            assert echoes(conn)
            assert conn.ping(SOON) is not None
            assert conn.connected()
        assert conn.close_code == 1000


@pytest.mark.parametrize("which", ["proxy", "server"])
def test_whose_certificate_is_not_trusted(server, tls_server, which):
    client, context = tls_contexts()
    with listening(http_proxy([]), context=context) as port:
        options = {"proxy": f"https://localhost:{port}"}
        if which == "server":
            options["proxy_ssl_context"] = client
        with pytest.raises(ConnectError, match=r"(?i)certificate") as caught:
            connect(f"wss://localhost:{tls_server.port}/", **options)
    assert isinstance(caught.value, ProxyError) == (which == "proxy")
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_a_proxy_without_tls_where_it_is_wanted():
    def script(sock):
        sock.recv(65_536)
        sock.sendall(b"HTTP/1.0 400 Bad request\r\n\r\n")

    with listening(script) as port:
        error = refused("ws://localhost/", proxy=f"https://127.0.0.1:{port}")
    assert "does not speak TLS" in str(error)


def test_credentials_for_the_proxy_alone(server):
    seen = []
    with listening(http_proxy(seen)) as port:
        proxy = f"http://us%40er:{SECRET}%3A@127.0.0.1:{port}"
        url = f"ws://me:mine@127.0.0.1:{server.port}/"
        with connect(url, proxy=proxy) as conn:
            assert SECRET not in repr(conn)
            own = dict(conn.request.headers)
    token = base64.b64encode(f"us@er:{SECRET}:".encode()).decode()
    assert f"\r\nProxy-Authorization: Basic {token}\r\n".encode() in seen[0]
    assert b"Authorization: Basic " + base64.b64encode(b"me:mine") not in seen[0]
    assert own["authorization"] == "Basic " + base64.b64encode(b"me:mine").decode()
    assert "proxy-authorization" not in own


@pytest.mark.parametrize("given", ["", f"user:{SECRET}@"])
def test_a_proxy_that_wants_other_credentials(given):
    def script(sock):
        receive_head(sock)
        sock.sendall(
            b"HTTP/1.1 407 Proxy Authentication Required\r\n"
            b'Proxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
        )

    with listening(script) as port:
        error = refused("ws://localhost/", proxy=f"http://{given}127.0.0.1:{port}")
    assert error.status == 407
    assert error.headers["proxy-authenticate"] == 'Basic realm="x"'
    assert ("does not take these" if given else "user:password@") in str(error)
    assert f"127.0.0.1:{port}" in str(error)
    assert SECRET not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (403, "does not allow"),
        (404, "no proxy"),
        (429, "more requests"),
        (502, "could not reach"),
        (418, "no tunnels"),
    ],
)
def test_a_proxy_that_refuses(status, says):
    def script(sock):
        receive_head(sock)
        sock.sendall(b"HTTP/1.0 %d No\r\n\r\nbody" % status)

    with listening(script) as port:
        error = refused("wss://localhost/", proxy=f"http://127.0.0.1:{port}")
    assert error.status == status
    assert says in str(error)


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"HTTQ"])
def test_an_answer_that_is_not_http(answer):
    def script(sock):
        receive_head(sock)
        sock.sendall(answer)
        sock.recv(1)

    with listening(script) as port:
        error = refused("ws://localhost/", proxy=f"http://127.0.0.1:{port}")
    assert error.status is None
    assert "not HTTP" in str(error)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 2x0 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nA b\r\n\r\n", b"HTTP/1.1\n\n"]
)
def test_an_answer_that_is_no_valid_http(answer):
    def script(sock):
        receive_head(sock)
        sock.sendall(answer)
        sock.recv(1)

    with listening(script) as port:
        error = refused("ws://localhost/", proxy=f"http://127.0.0.1:{port}")
    assert "not valid" in str(error)


def test_interim_answers_are_skipped(server):
    with listening(http_proxy([], b"HTTP/1.1 103 Hints\r\n\r\n" * 3 + OPEN)) as port:
        connect(f"ws://localhost:{server.port}/", proxy=f"http://127.0.0.1:{port}").close()


def test_interim_answers_without_end():
    def script(sock):
        receive_head(sock)
        while True:
            sock.sendall(b"HTTP/1.1 103 Hints\r\n\r\n" * 100)

    with listening(script) as port:
        error = refused("ws://localhost/", proxy=f"http://127.0.0.1:{port}")
    assert error.status == 103
    assert "interim" in str(error)


@pytest.mark.parametrize("line", [b"A: b\r\n", b"x" * 100])
def test_a_head_without_end(line):
    def script(sock):
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            sock.sendall(line * 1000)

    with listening(script) as port:
        error = refused("ws://localhost/", timeout=None, proxy=f"http://127.0.0.1:{port}")
    assert "more than" in str(error)


def test_the_limits_of_heads_are_the_callers(server):
    with listening(http_proxy([], b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5 + b"\r\n")) as port:
        error = refused(
            f"ws://localhost:{server.port}/", proxy=f"http://127.0.0.1:{port}", max_headers=4
        )
    assert "max_headers" in str(error)


# -- bytes behind the answer ---------------------------------------------------


def speaking_first(answer, pieces):
    """A proxy's script: the server's answer comes as one with its own, cut at these places."""

    def script(sock):
        receive_head(sock)
        where = [0, *pieces, len(answer)]
        for start, end in itertools.pairwise(where):
            sock.sendall(answer[start:end])
        head = receive_head(sock)
        sock.sendall(upgrade_answer(head) + frame(TEXT, b"behind"))
        sock.recv(65_536)

    return script


@pytest.mark.parametrize("cut", [1, 4, len(OPEN) - 2, len(OPEN) - 1])
def test_an_answer_in_two_segments(server, cut):
    with listening(speaking_first(OPEN, [cut])) as port:
        options = {"proxy": f"http://127.0.0.1:{port}", "close_timeout": 0}
        with connect("ws://localhost/", **options) as conn:
            assert conn.receive(SOON) == "behind"


# The tail of the tunnel's answer and the server's first bytes in one segment: nothing of these is
# the proxy's. The server here says what it has to say before it was asked, so that it lies there.
@pytest.mark.parametrize("kind", ["http", "socks4", "socks5"])
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_bytes_behind_the_answer_are_the_servers(kind, tls):
    early = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
    answers = {"http": OPEN, "socks4": GRANTED, "socks5": SUCCEEDED}
    script = {
        "http": lambda sock: receive_head(sock),
        "socks4": lambda sock: sock.recv(100),
        "socks5": lambda sock: (sock.recv(3), sock.sendall(b"\x05\0"), sock.recv(100)),
    }[kind]

    def proxy(sock):
        script(sock)
        sock.sendall(answers[kind][:3])
        sock.sendall(answers[kind][3:] + early)
        with contextlib.suppress(OSError):
            while sock.recv(100):
                pass

    with listening(proxy) as port:
        if tls:  # OpenSSL gets them: they are no TLS
            with pytest.raises(ConnectError, match="does not speak TLS") as caught:
                connect("wss://127.0.0.1/", proxy=f"{kind}://127.0.0.1:{port}")
            assert not isinstance(caught.value, ProxyError)
        else:
            with pytest.raises(HandshakeError) as caught:
                connect("ws://127.0.0.1/", proxy=f"{kind}://127.0.0.1:{port}")
            assert (caught.value.status, caught.value.body) == (503, b"busy")


# -- one deadline ----------------------------------------------------------------


def dripping(pieces):
    """A proxy's script that answers a byte at a time, for as long as it can."""

    def script(sock):
        sock.recv(65_536)
        pause = threading.Event()
        for piece in pieces():
            sock.sendall(piece)
            pause.wait(0.01)

    return script


@pytest.mark.parametrize(
    ("kind", "first"),
    [("http", b"HTTP/1.1 200 "), ("socks5", b"\x05"), ("socks4", b""), ("https", b"")],
)
def test_a_proxy_that_drips(kind, first):
    def pieces():
        yield from (bytes([byte]) for byte in first)
        while kind == "http":
            yield b"x"

    def script(sock):
        dripping(pieces)(sock)
        sock.recv(1)

    with (
        listening(script) as port,
        at_least(0.3, 5),
        pytest.raises(ConnectTimeout, match=f"proxy.*127.0.0.1:{port}") as caught,
    ):
        connect("ws://127.0.0.1/", timeout=0.3, proxy=f"{kind}://127.0.0.1:{port}")
    assert caught.value.errno == errno.ETIMEDOUT


def test_the_deadline_is_one_for_the_proxy_and_the_server():
    """Each takes its time, and both together too long."""

    def slow(sock):
        receive_head(sock)
        threading.Event().wait(0.2)
        sock.sendall(OPEN)
        receive_head(sock)
        sock.recv(1)

    with (
        listening(slow) as port,
        at_least(0.4, 5),
        pytest.raises(ConnectTimeout, match="the server did not answer"),
    ):
        connect("ws://127.0.0.1/", timeout=0.4, proxy=f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("kind", ["http", "socks4", "socks5"])
@pytest.mark.parametrize("how", ["fin", "rst", "late rst"])
def test_a_proxy_that_leaves(kind, how):
    def script(sock):
        sock.recv(65_536)
        if how == "late rst":
            sock.sendall(b"HTTP/1." if kind == "http" else b"\0" if kind == "socks4" else b"\x05")
        if how != "fin":
            reset(sock)

    with listening(script) as port:
        error = refused("ws://127.0.0.1/", proxy=f"{kind}://127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in str(error)
    if how == "fin":
        assert "closed the connection" in str(error)
    else:
        assert error.errno == errno.ECONNRESET
        assert isinstance(error.__cause__, ConnectionResetError)


@pytest.mark.parametrize("kind", ["http", "https", "socks5h"])
def test_nobody_listens(kind):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = refused("ws://127.0.0.1/", proxy=f"{kind}://u:{SECRET}@127.0.0.1:{port}")
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert error.errno == errno.ECONNREFUSED
    assert f"the proxy 127.0.0.1:{port}" in str(error)
    assert SECRET not in "".join(traceback.format_exception(error))


# -- SOCKS ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "host", "asked"),
    [
        ("socks4", "127.0.0.1", "127.0.0.1"),
        ("socks4", "localhost", "127.0.0.1"),
        ("socks4a", "127.0.0.1", "127.0.0.1"),
        ("socks4a", "server.test", "server.test"),
        ("socks5", "127.0.0.1", "127.0.0.1"),
        ("socks5h", "127.0.0.1", "127.0.0.1"),
        ("socks5h", "server.test", "server.test"),
        ("socks5h", "[::1]", "::1"),
        ("socks5h", "[fe80::1%25eth0]", "fe80::1"),
    ],
)
def test_a_tunnel_of_socks(server, kind, host, asked):
    seen = []
    options = {"headers": {"Host": "localhost"}}
    with listening(socks_proxy(seen)) as port:
        url = f"ws://{host}:{server.port}/"
        with connect(url, proxy=f"{kind}://127.0.0.1:{port}", **options) as conn:
            assert echoes(conn)
    assert seen == [(asked, None if kind.startswith("socks5") else b"")]


def test_a_name_that_socks5_has_looked_up_here(server, monkeypatch):
    def look_up(host, port, *, flags=0, **_):
        if flags or host != "server.test":
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        v6, v4 = (socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")
        kind = socket.SOCK_STREAM
        return [(family, kind, 0, "", (address, port)) for family, address in (v6, v4)]

    seen = []
    options = {"headers": {"Host": "localhost"}}
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with listening(socks_proxy(seen)) as port:
        for kind in ("socks5", "socks4"):
            url = f"ws://server.test:{server.port}/"
            connect(url, proxy=f"{kind}://127.0.0.1:{port}", **options).close()
        with pytest.raises(ConnectError, match=r"cannot find 'other\.test'") as caught:
            connect("ws://other.test/", proxy=f"socks5://127.0.0.1:{port}")
    assert not isinstance(caught.value, ProxyError)
    assert [host for host, _ in seen] == ["::1", "127.0.0.1"]


def test_socks4_and_an_address_of_ipv6(monkeypatch):
    for kind in ("socks4", "socks4a"):
        assert "use socks5" in str(refused("ws://[::1]/", proxy=f"{kind}://127.0.0.1:1"))

    def look_up(host, port, *, flags=0, **_):
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        return [(socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert "use socks5" in str(refused("ws://name.test/", proxy="socks4://127.0.0.1:1"))


def test_credentials_of_socks(server, tls_server):
    seen = []
    with listening(socks_proxy(seen, (b"user", SECRET.encode()))) as port:
        proxy = f"socks5h://user:{SECRET}@127.0.0.1:{port}"
        with connect(f"ws://localhost:{server.port}/", proxy=proxy) as conn:
            assert echoes(conn)
        options = {"proxy": proxy, "ssl_context": tls_contexts()[0]}
        connect(f"wss://localhost:{tls_server.port}/", **options).close()
        for wrong in ("user:other@", ""):
            error = refused("ws://localhost/", proxy=f"socks5h://{wrong}127.0.0.1:{port}")
            assert "credentials" in str(error)
            assert "other@" not in str(error)
    assert seen == [("localhost", (b"user", SECRET.encode()))] * 2


def test_the_user_of_socks4(server):
    seen = []
    with listening(socks_proxy(seen)) as port:
        proxy = f"socks4a://some%20body@127.0.0.1:{port}"
        connect(f"ws://localhost:{server.port}/", proxy=proxy).close()
    assert seen == [("localhost", b"some body")]


@pytest.mark.parametrize("length", [0, 1, 255])
def test_a_proxy_that_names_its_own_address(server, length):
    answer = b"\x05\0\0\x03" + bytes([length]) + b"x" * length + b"\0\x50"
    with (
        listening(socks_proxy([], answer=answer)) as port,
        connect(f"ws://localhost:{server.port}/", proxy=f"socks5h://127.0.0.1:{port}") as conn,
    ):
        assert echoes(conn)


def test_a_proxy_with_an_address_of_ipv6(server):
    answer = b"\x05\0\0\x04" + bytes(18)
    with (
        listening(socks_proxy([], answer=answer)) as port,
        connect(f"ws://localhost:{server.port}/", proxy=f"socks5h://127.0.0.1:{port}") as conn,
    ):
        assert echoes(conn)


@pytest.mark.parametrize(
    ("kind", "answers", "says"),
    [
        ("socks4", [b"\0\x5b" + bytes(6)], "refuses, or could not reach"),
        ("socks4", [b"\0\x5c" + bytes(6)], "identd"),
        ("socks4", [b"\0\x63" + bytes(6)], "it says 99"),
        ("socks4", [b"\x05\x5a" + bytes(6)], "not SOCKS4"),
        ("socks5", [b"\x05\xff"], "other credentials"),
        ("socks5", [b"\x05\x02"], "not offered"),
        ("socks5", [b"HT"], "not SOCKS5"),
        ("socks5", [b"\x05\0", b"\x05\x02\0\x01"], "rules do not allow"),
        ("socks5", [b"\x05\0", b"\x05\x05\0\x01"], "refused it"),
        ("socks5", [b"\x05\0", b"\x05\x63\0\x01"], "it says 99"),
        ("socks5", [b"\x05\0", b"\x04\0\0\x01"], "not SOCKS5"),
        ("socks5", [b"\x05\0", b"\x05\0\0\x02"], "not SOCKS5"),
    ],
)
def test_a_proxy_of_socks_that_refuses(kind, answers, says):
    def script(sock):
        for answer in answers:
            sock.recv(1000)
            sock.sendall(answer)
        sock.recv(1)

    with listening(script) as port:
        error = refused("ws://127.0.0.1/", proxy=f"{kind}://127.0.0.1:{port}")
    assert says in str(error)
    assert f"127.0.0.1:{port}" in str(error)


def test_without_socksio(environment, monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio.socks4", None)
    environment("socks_proxy", "127.0.0.1:1")
    for options in (
        {"proxy": "socks5://127.0.0.1:1"},
        {"proxy": "socks4a://127.0.0.1:1"},
        {"proxy": True},
    ):
        with pytest.raises(ImportError, match=r"scriptling-ws\[socks\]"):
            connect("ws://localhost/", **options)


# -- the proxy's URL ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "user", "password"),
    [
        ("http://h", "http", "h", 80, None, b""),
        ("HTTPS://H.example/", "https", "h.example", 443, None, b""),
        ("http://h:3128", "http", "h", 3128, None, b""),
        ("http://u:p@h:3128", "http", "h", 3128, b"u", b"p"),
        ("http://u@h", "http", "h", 80, b"u", b""),
        ("http://u%3a:@[::1]:8", "http", "::1", 8, b"u:", b""),
        ("socks5://h", "socks5", "h", 1080, None, b""),
        ("socks5h://u:p%40@h:9", "socks5h", "h", 9, b"u", b"p@"),
        ("socks4://u@h", "socks4", "h", 1080, b"u", b""),
        ("socks4a://h", "socks4a", "h", 1080, None, b""),
    ],
)
def test_the_url_of_a_proxy(url, scheme, host, port, user, password):
    if user == b"u:":
        with pytest.raises(InvalidURL, match="colon"):
            parse_proxy(url)
        return
    proxy = parse_proxy(url)
    assert (proxy.scheme, proxy.host, proxy.port) == (scheme, host, port)
    assert (proxy.user, proxy.password) == (user, password)
    assert repr(proxy) == f"<Proxy {scheme}://{proxy.where}>"


@looped(
    ("url", "says"),
    [
        ("", "begin with one of"),
        ("h:3128", "begin with one of"),
        ("ftp://h", "begin with one of"),
        ("ws://h", "begin with one of"),
        (f"http://u:{SECRET}@", "no host"),
        (f"http://u:{SECRET}@h:0", "port"),
        (f"http://u:{SECRET}@h:x", "malformed"),
        (f"http://u:{SECRET}@h/path", "path or a query"),
        (f"http://u:{SECRET}@h?q", "path or a query"),
        (f"http://u:{SECRET}\n@h", "percent-encode"),
        (f"socks4://u:{SECRET}@h", "SOCKS4 does not know"),
        ("socks4://u%00@h", "NUL"),
        (f"socks5://:{SECRET}@h", "255 bytes, or none"),
        ("socks5://u:" + "x" * 256 + "@h", "255 bytes"),
        ("socks5://" + "x" * 256 + "@h", "255 bytes"),
    ],
)
def test_what_is_no_url_of_a_proxy(url, says):
    with pytest.raises(InvalidURL, match=says) as caught:
        connect("ws://localhost/", proxy=url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("proxy", [1, b"http://h", ["http://h"], {}])
def test_what_is_no_url_at_all(proxy):
    with pytest.raises(TypeError, match="proxy has to be a URL"):
        connect("ws://localhost/", proxy=proxy)


# -- the environment ----------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    return monkeypatch.setenv


def chosen(url="ws://server.example/"):
    proxy = proxy_of_environment(parse_url(url))
    return proxy and f"{proxy.scheme}://{proxy.where}"


@pytest.mark.parametrize(
    ("variables", "ws", "wss"),
    [
        ({}, None, None),
        ({"http_proxy": "http://a:1"}, "http://a:1", None),
        ({"HTTPS_PROXY": "http://a:1"}, "http://a:1", "http://a:1"),
        ({"http_proxy": "http://a:1", "https_proxy": "http://b:2"}, "http://b:2", "http://b:2"),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"}, "http://a:1", "http://a:1"),
        ({"https_proxy": "http://a:1", "ws_proxy": "http://b:2"}, "http://b:2", "http://a:1"),
        ({"https_proxy": "http://a:1", "wss_proxy": "http://b:2"}, "http://a:1", "http://b:2"),
        ({"https_proxy": "http://a:1", "socks_proxy": "b:2"}, "socks5h://b:2", "socks5h://b:2"),
        ({"SOCKS_PROXY": "http://b:2"}, "socks5h://b:2", "socks5h://b:2"),
        ({"SOCKS_PROXY": "socks4://b:2"}, "socks4://b:2", "socks4://b:2"),
        ({"all_proxy": "socks5://a:1"}, "socks5://a:1", "socks5://a:1"),
        ({"all_proxy": "socks5://a:1", "http_proxy": "b:2"}, "http://b:2", "socks5://a:1"),
        ({"https_proxy": "a:1"}, "http://a:1", "http://a:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://a:1"}, None, None),
        ({"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, None, None),
        ({"https_proxy": "http://a:1", "no_proxy": "*"}, None, None),
        ({"https_proxy": "http://a:1", "no_proxy": "x, .example"}, None, None),
        ({"https_proxy": "http://a:1", "no_proxy": "erver.example"}, "http://a:1", "http://a:1"),
        ({"https_proxy": "http://a:1", "NO_PROXY": "server.example:80"}, None, "http://a:1"),
    ],
)
def test_the_proxy_of_the_environment(environment, variables, ws, wss):
    for name, value in variables.items():
        environment(name, value)
    assert chosen() == ws
    assert chosen("wss://server.example/") == wss


@pytest.mark.parametrize("exceptions", ["::1", "[::1]", "[::1]:80"])
def test_addresses_of_ipv6_without_a_proxy(environment, exceptions):
    environment("https_proxy", "http://a:1")
    assert chosen("ws://[::1]/") == "http://a:1"
    environment("no_proxy", exceptions)
    assert chosen("ws://[::1]/") is None


def test_the_environment_is_looked_at_where_it_is_asked_for(environment, server):
    seen = []
    with listening(http_proxy(seen)) as port:
        environment("https_proxy", f"http://127.0.0.1:{port}")
        url = f"ws://localhost:{server.port}/"
        for proxy, asked in ((None, 0), (False, 0), (True, 1)):
            with connect(url, proxy=proxy) as conn:
                assert echoes(conn)
            assert len(seen) == asked
        environment("no_proxy", "localhost")
        connect(url, proxy=True).close()
        assert len(seen) == 1


def test_an_environment_that_cannot_be_used(environment):
    environment("https_proxy", f"ftp://u:{SECRET}@h")
    with pytest.raises(InvalidURL) as caught:
        connect("ws://localhost/", proxy=True)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_plain_connection_does_not_import_what_proxies_need(server):
    code = (
        "import sys, scriptling_ws as ws\n"
        f"ws.connect('ws://127.0.0.1:{server.port}/').close()\n"
        "names = ('socksio', 'urllib.request', 'scriptling_ws._client.tunnel',"
        " 'scriptling_ws._client.way_arguments', 'scriptling_ws._network.layered')\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=python_environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# -- what is left ---------------------------------------------------------------------


def test_nothing_is_logged_of_credentials(server, caplog):
    caplog.set_level(logging.DEBUG)
    with listening(http_proxy([])) as port:
        proxy = f"http://user:{SECRET}@127.0.0.1:{port}"
        with connect(f"ws://me:{SECRET}@localhost:{server.port}/", proxy=proxy) as conn:
            assert echoes(conn)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
def test_an_interrupted_call_leaves_no_socket(kind, monkeypatch):
    class Stop(BaseException):
        pass

    def stop(*_, **__):
        raise Stop

    from scriptling_ws._client.conversation import Conversation
    from scriptling_ws._network.tls import TLSTransport

    monkeypatch.setattr(Conversation, "_wait", stop)
    monkeypatch.setattr(TLSTransport, "handshake_step", stop)
    left = threading.Event()

    def script(sock):
        while sock.recv(100):
            pass
        left.set()

    with listening(script) as port:
        with pytest.raises(Stop):
            connect("ws://127.0.0.1/", proxy=f"{kind}://127.0.0.1:{port}")
        assert left.wait(SOON)


def test_an_interrupted_session_within_a_session_leaves_no_socket(monkeypatch):
    class Stop(BaseException):
        pass

    def stop(_):
        raise Stop

    monkeypatch.setattr(TLSInTLS, "handshake_step", stop)
    client, context = tls_contexts()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        listening(http_proxy([]), context=context) as port,
    ):
        options = {"proxy": f"https://localhost:{port}", "proxy_ssl_context": client}
        with pytest.raises(Stop):
            connect(f"wss://localhost:{server.getsockname()[1]}/", **options)
        peer, _ = server.accept()
        with peer:
            assert peer.recv(1) == b""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no pthread_kill")
@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
def test_a_signal_handlers_error_is_not_the_proxys(kind):
    def handle(*_):
        raise TimeoutError("the handler's")

    def script(sock):
        sock.recv(1)
        signal.pthread_kill(main, signal.SIGUSR1)
        while sock.recv(100):
            pass

    main = threading.get_ident()
    previous = signal.signal(signal.SIGUSR1, handle)
    try:
        with listening(script) as port:
            with pytest.raises(TimeoutError, match="the handler's") as caught:
                connect("ws://127.0.0.1/", proxy=f"{kind}://127.0.0.1:{port}")
            assert type(caught.value) is TimeoutError
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_a_proxy_that_speaks_and_does_not_read(monkeypatch):
    def script(sock):
        sock.sendall(b"HTTP/1.1 403 No\r\n")
        done.wait(SOON)

    def write(self, data):
        tries.append(len(data))
        return plain(self, data)

    done, tries, plain = threading.Event(), [], Transport.write
    monkeypatch.setattr(Transport, "write", write)
    small = [(socket.SOL_SOCKET, name, 8192) for name in (socket.SO_SNDBUF, socket.SO_RCVBUF)]
    with listening(script, buffer=8192) as port:
        url = f"http://{'x' * 65_000}@127.0.0.1:{port}"
        with pytest.raises(ConnectTimeout):
            connect("ws://127.0.0.1/", proxy=url, socket_options=small, timeout=0.2)
        done.set()
    assert len(tries) < 100  # it waits until it can write, and does not ask again and again


# A request larger than what lies in both ends' buffers.
@pytest.mark.parametrize("end", ["reads", "resets", "waits"])
def test_a_proxy_that_does_not_read(end):
    def script(sock):
        sock.recv(1)
        if end == "resets":
            reset(sock)
        elif end == "waits":
            done.wait(SOON)
        else:
            threading.Event().wait(0.05)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(65_536)
            sock.sendall(b"HTTP/1.1 403 No\r\n\r\n")

    done = threading.Event()
    small = [(socket.SOL_SOCKET, name, 8192) for name in (socket.SO_SNDBUF, socket.SO_RCVBUF)]
    user = "x" * 65_000
    with listening(script, buffer=8192) as port:
        url = f"http://{user}@127.0.0.1:{port}"
        timeout = 0.2 if end == "waits" else SOON
        with pytest.raises(ConnectError) as caught:
            connect("ws://127.0.0.1/", proxy=url, socket_options=small, timeout=timeout)
        done.set()
    if end == "waits":
        assert type(caught.value) is ConnectTimeout
    else:
        assert type(caught.value) is ProxyError
        assert caught.value.status == (403 if end == "reads" else None)
