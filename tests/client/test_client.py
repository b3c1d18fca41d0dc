"""connect() against raw servers: what it sends, takes and refuses, and when it gives up."""

import base64
import contextlib
import errno
import itertools
import os
import signal
import socket
import ssl
import struct
import threading

import pytest
import trustme

from frames import BINARY, CLOSE, PING, TEXT, frame
from looped import looped
from pairs import (
    SOON,
    Running,
    at_least,
    authority,
    receive_frame,
    receive_head,
    reset,
    running,
    tls_contexts,
    upgrade_answer,
)
from scriptling_ws import (
    ConnectError,
    ConnectTimeout,
    HandshakeError,
    InvalidURL,
    WebSocketError,
    connect,
)
from scriptling_ws._client import connect as _client
from scriptling_ws._client import reach as _reach
from scriptling_ws._client import upgrade as _upgrade
from scriptling_ws._connection import keepalive as _keepalive
from scriptling_ws._network.tls import TLSTransport
from scriptling_ws._network.waiting import engine
from scriptling_ws._options import Options


@contextlib.contextmanager
def server(script, *, context=None, host="127.0.0.1"):
    """Runs `script(sock)` for one connection, in a thread; yields the port.

    A peer that leaves ends the script without an error.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(SOON)

        def run():
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(SOON)
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    if context is not None:
                        sock = context.wrap_socket(sock, server_side=True)
                    with sock:
                        script(sock)

        with running(run):
            yield listener.getsockname()[1]


def until_it_leaves(sock):
    """Read until the client is gone."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while sock.recv(65_536):
            pass


def answering(data):
    """A script that reads the request's head, answers, and ends the stream."""

    def script(sock):
        receive_head(sock)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        until_it_leaves(sock)

    return script


def accepting(*behind, **changes):
    """A script that accepts the upgrade, sends frames at once, and waits for the end."""

    def script(sock):
        sock.sendall(upgrade_answer(receive_head(sock), **changes) + b"".join(behind))
        receive_frame(sock)
        sock.sendall(frame(CLOSE, struct.pack("!H", 1000)))

    return script


def dripping(make, pause=0.02):
    """A script that sends what `make(request)` yields, piece by piece, for as long as it can."""

    def script(sock):
        request = receive_head(sock)
        stop = threading.Event()
        for piece in make(request):
            sock.sendall(piece)
            stop.wait(pause)
        until_it_leaves(sock)

    return script


# More than lies in both ends' buffers.
HUGE_HEADERS = {f"X-{number}": "x" * 8000 for number in range(1500)}


def refused(port, path="/", scheme="ws", **options):
    """The error that connect() ends with."""
    options.setdefault("timeout", SOON)
    with pytest.raises(ConnectError) as caught:
        connect(f"{scheme}://127.0.0.1:{port}{path}", **options).close()
    assert isinstance(caught.value, WebSocketError)
    assert isinstance(caught.value, OSError)
    return caught.value


# -- an open connection ----------------------------------------------------


def test_connecting():
    requests = []

    def script(sock):
        requests.append(receive_head(sock))
        sock.sendall(upgrade_answer(requests[0]))
        assert receive_frame(sock) == (0x81, b"hello")
        sock.sendall(frame(TEXT, b"hi"))
        assert receive_frame(sock)[0] == 0x88
        sock.sendall(frame(CLOSE, struct.pack("!H", 1000)))

    with server(script) as port:
        conn = connect(f"ws://127.0.0.1:{port}/chat?x=1", SOON, {"X-Test": "yes"})
        assert conn.connected()
        assert conn.remote_addr == f"127.0.0.1:{port}"
        assert conn.local_addr.startswith("127.0.0.1:")
        assert conn.subprotocol is None
        assert conn.request.target == "/chat?x=1"
        assert conn.response.status == 101
        conn.send("hello")
        assert conn.receive(SOON) == "hi"
        conn.close()
        assert conn.close_code == 1000
    lines = requests[0].split(b"\r\n")
    assert lines[0] == b"GET /chat?x=1 HTTP/1.1"
    assert b"X-Test: yes" in lines
    assert b"Host: 127.0.0.1:%d" % port in lines


# At the other end.
@pytest.mark.abuse(20)
def test_frames_in_the_same_segment_as_the_answer():
    with (
        server(accepting(frame(TEXT, b"one"), frame(TEXT, b"two"))) as port,
        connect(f"ws://127.0.0.1:{port}", SOON) as conn,
    ):
        assert conn.connected()
        assert conn.receive(SOON) == "one"
        assert conn.receive(0) == "two"


def test_a_close_in_the_same_segment_as_the_answer():
    def script(sock):
        head = upgrade_answer(receive_head(sock))
        sock.sendall(head + frame(TEXT, b"bye") + frame(CLOSE, struct.pack("!H", 1013)))
        assert receive_frame(sock)[0] == 0x88

    with server(script) as port:
        conn = connect(f"ws://127.0.0.1:{port}", SOON)
        assert conn.receive(SOON) == "bye"
        assert conn.receive(SOON) is None
        assert conn.connected() is False
        assert conn.close_code == 1013
        conn.close()


@pytest.mark.parametrize("piece", [1, 7])
def test_an_answer_in_small_pieces(piece):
    def make(request):
        data = upgrade_answer(request) + frame(TEXT, b"x")
        return [data[start : start + piece] for start in range(0, len(data), piece)]

    def script(sock):
        dripping(make, 0.0001)(sock)

    with server(script) as port, connect(f"ws://127.0.0.1:{port}", SOON, close_timeout=0) as conn:
        assert conn.receive(SOON) == "x"


def test_subprotocols():
    with (
        server(accepting(Sec_WebSocket_Protocol="b")) as port,
        connect(f"ws://127.0.0.1:{port}", SOON, subprotocols=["a", "b"]) as conn,
    ):
        assert conn.subprotocol == "b"


def test_credentials_in_the_url():
    seen = []

    def script(sock):
        seen.append(receive_head(sock))
        sock.sendall(upgrade_answer(seen[0]))
        until_it_leaves(sock)

    with server(script) as port:
        connect(f"ws://us%40er:p%3Aw@127.0.0.1:{port}/x", SOON, close_timeout=0).close()
    token = base64.b64encode(b"us@er:p:w").decode()
    assert f"\r\nAuthorization: Basic {token}\r\n".encode() in seen[0]
    assert seen[0].startswith(b"GET /x HTTP/1.1\r\n")
    assert b"us" not in seen[0].split(b"Host:")[1].split(b"\r\n")[0]


def test_options_reach_the_connection():
    with server(accepting(frame(BINARY, b"\x01\x02"), frame(BINARY, bytes(11)))) as port:
        options = {"binary_type": bytes, "max_message_size": 10}
        with connect(f"ws://127.0.0.1:{port}", SOON, **options) as conn:
            assert conn.receive(SOON) == b"\x01\x02"
            assert conn.receive(SOON) is None
            assert conn.close_code == 1009


def test_over_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback")
    with server(accepting(), host="::1") as port, connect(f"ws://[::1]:{port}", SOON) as conn:
        assert conn.remote_addr == f"[::1]:{port}"


def test_by_name():
    with server(accepting()) as port, connect(f"ws://localhost:{port}", SOON) as conn:
        assert conn.connected()


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_by_a_name_outside_ascii(monkeypatch, tls):
    """The lookup, the certificate and the Host header have the same form of it."""
    real = socket.getaddrinfo
    names, requests = [], []

    def look_up(host, *args, **options):
        names.append(host)
        return real("127.0.0.1" if host.endswith(".test") else host, *args, **options)

    def script(sock):
        requests.append(receive_head(sock))
        sock.sendall(upgrade_answer(requests[0]))
        until_it_leaves(sock)

    trusting = context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority().issue_cert("xn--fa-hia.test").configure_cert(context)
        trusting = tls_contexts()[0]
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with server(script, context=context) as port:
        url = f"{'wss' if tls else 'ws'}://Fa\xdf.test:{port}"
        connect(url, SOON, ssl_context=trusting, close_timeout=0).close()
    assert "xn--fa-hia.test" in names
    assert f"\r\nHost: xn--fa-hia.test:{port}\r\n".encode() in requests[0]


def test_a_token_of_20_kb_in_the_query_is_sent():
    requests = []

    def script(sock):
        requests.append(receive_head(sock))
        sock.sendall(upgrade_answer(requests[0]))
        until_it_leaves(sock)

    query = "token=" + "x" * 20_000
    with server(script) as port:
        connect(f"ws://127.0.0.1:{port}/?{query}", SOON, close_timeout=0).close()
    assert requests[0].startswith(f"GET /?{query} HTTP/1.1\r\n".encode())


def test_many_threads_connect_at_once():
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(server(accepting(frame(TEXT, b"x")))) for _ in range(20)]

        def run(port):
            with connect(f"ws://127.0.0.1:{port}", SOON) as conn:
                return conn.receive(SOON)

        calls = [Running(run, port) for port in ports]
        assert [call.result() for call in calls] == ["x"] * 20


# -- bad arguments, before anything is sent --------------------------------


@pytest.fixture
def no_network(monkeypatch):
    def dial(*_):
        pytest.fail("a socket was opened")

    monkeypatch.setattr(_reach, "dial", dial)


@pytest.mark.abuse(29, 30, 31)
@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("bad", ["\r", "\n", "\r\nX-Evil: 1", "\0"])
def test_nothing_can_be_smuggled_in(bad):
    for url in (
        f"ws://h{bad}/",
        f"ws://h/{bad}",
        f"ws://h/?{bad}",
        f"ws://u{bad}@h/",
        f"ws{bad}://h",
    ):
        with pytest.raises(InvalidURL, match="percent-encode"):
            connect(url)
    with pytest.raises(ValueError, match="header") as caught:
        connect("ws://h/", headers={"X-A": f"1{bad}"})
    assert type(caught.value) is ValueError
    with pytest.raises(ValueError, match="header"):
        connect("ws://h/", headers={f"X-A{bad}": "1"})
    with pytest.raises(ValueError, match="subprotocol"):
        connect("ws://h/", subprotocols=[f"a{bad}"])


@pytest.mark.usefixtures("no_network")
@looped(
    ("arguments", "error", "says"),
    [
        ({"url": "http://h/"}, InvalidURL, "ws or wss"),
        ({"url": "h"}, InvalidURL, "ws://host"),
        ({"url": "ws://h/#x"}, InvalidURL, "fragment"),
        ({"url": "ws://h:0/"}, InvalidURL, "port"),
        ({"url": b"ws://h/"}, TypeError, "str"),
        ({"url": None}, TypeError, "str"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
        ({"timeout": "10"}, TypeError, "timeout"),
        ({"timeout": True}, TypeError, "timeout"),
        ({"headers": ["A"]}, TypeError, "dict"),
        ({"headers": {"A": 1}}, TypeError, "str"),
        ({"headers": {"Host": "a b"}}, ValueError, "Host header"),
        ({"headers": {"sec-websocket-KEY": "x"}}, ValueError, "leave it out"),
        ({"subprotocols": "chat"}, TypeError, "list"),
        ({"subprotocols": ["a,b"]}, ValueError, "subprotocol"),
        ({"subprotocols": ["a", "a"]}, ValueError, "twice"),
        ({"ssl_context": ssl.create_default_context()}, ValueError, "wss"),
        ({"ssl_context": True}, TypeError, "SSLContext"),
        ({"url": "wss://h", "ssl_context": "x"}, TypeError, "SSLContext"),
        ({"binary_type": str}, ValueError, "binary_type"),
        ({"max_message_size": 0}, ValueError, "max_message_size"),
        ({"bogus": 1}, TypeError, "bogus"),
    ],
)
def test_bad_arguments(arguments, error, says):
    with pytest.raises(error, match=says) as caught:
        connect(**{"url": "ws://h/"} | arguments)
    assert type(caught.value) is error


class Dialled(Exception):
    pass


@pytest.fixture
def dialled(monkeypatch):
    """Whatever is wrong, connect gets no further than to dialling."""

    def dial(*_):
        raise Dialled

    monkeypatch.setattr(_reach, "dial", dial)


# An option that equals one that has passed is checked all the same.
@pytest.mark.usefixtures("dialled")
@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"max_fragments": 1}, {"max_fragments": True}),
        ({"max_fragments": 1}, {"max_fragments": 1.0}),
        ({"max_headers": 1}, {"max_headers": True}),
        ({"max_headers": 128}, {"max_headers": 128.0}),
        ({"server_no_context_takeover": True}, {"server_no_context_takeover": 1}),
        ({}, {"max_fragments": [1]}),
        ({}, {"max_line_size": {}}),
    ],
    ids=str,
)
def test_options_that_have_passed_let_no_others_pass(good, bad):
    for _ in range(2):
        with pytest.raises(Dialled):
            connect("ws://h/", **good)
    (name,) = bad
    for _ in range(2):
        with pytest.raises(TypeError, match=f"^{name} has to be") as caught:
            connect("ws://h/", **bad)
        assert caught.value.__context__ is None


@pytest.mark.usefixtures("dialled")
def test_options_are_checked_once(monkeypatch):
    made = []

    def options(*args, **named):
        made.append(named)
        return Options(*args, **named)

    monkeypatch.setattr(_client, "Options", options)
    _client._checked.cache_clear()
    for size in (77_001, 77_001, 77_002):
        with pytest.raises(Dialled):
            connect("ws://h/", max_message_size=size)
    assert made == [{"max_message_size": 77_001}, {"max_message_size": 77_002}]


@pytest.mark.usefixtures("no_network")
def test_the_headers_default_is_not_shared():
    assert connect.__defaults__ == (10, None)


# -- servers that refuse ---------------------------------------------------


@pytest.mark.abuse(22)
@looped(
    ("status", "says"),
    [
        (200, "may not be a WebSocket endpoint"),
        (302, "not followed"),
        (401, "Authorization"),
        (403, "Origin"),
        (404, "nothing at this path"),
        (500, "500"),
        (400, "does not take the request as it is"),
        (429, "more requests than it takes"),
        (500, "has failed itself"),
        (502, "cannot reach it"),
        (503, "try again later"),
        (504, "no answer in time"),
    ],
)
@looped("body", [b"", b"the body"])
def test_a_status_instead_of_an_upgrade(status, says, body):
    head = b"HTTP/1.1 %d Text\r\nLocation: ws://other/\r\nContent-Length: %d\r\n\r\n"
    with server(answering(head % (status, len(body)) + body)) as port:
        error = refused(port)
    assert type(error) is HandshakeError
    assert error.status == status
    assert error.body == body
    assert error.headers == {"location": "ws://other/", "content-length": str(len(body))}
    assert says in str(error)


@pytest.mark.abuse(22)
def test_a_huge_body_is_cut():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n"

    def script(sock):
        receive_head(sock)
        sock.sendall(head)
        while True:
            sock.sendall(bytes(65_536))

    with server(script) as port:
        error = refused(port, timeout=None)
    assert error.status == 200
    assert error.body == bytes(64 * 1024)


# What says how long a body is, and a piece of it.
BODIES = {
    "to the end": (b"", b"data: x\n\n"),
    "length": (b"Content-Length: 5000000000\r\n", b"data: x\n\n"),
    "chunked": (b"Transfer-Encoding: chunked\r\n", b"9\r\ndata: x\n\n\r\n"),
    "silent": (b"Content-Length: 1\r\n", b""),
}


# It takes the second that a body has, and no longer, whatever the timeout.
@pytest.mark.abuse(22)
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("name", BODIES)
def test_a_refusal_whose_body_has_no_end(name, tls):
    line, piece = BODIES[name]

    def make(_):
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + line + b"\r\n"
        yield from itertools.repeat(piece) if piece else ()

    trusting, context = tls_contexts() if tls else (None, None)
    options = {"scheme": "wss", "ssl_context": trusting} if tls else {}
    with server(dripping(make), context=context) as port, at_least(1, 20):
        error = refused(port, timeout=None, **options)
    assert type(error) is HandshakeError
    assert error.status == 200
    assert error.headers["content-type"] == "text/event-stream"
    assert error.body.startswith(b"data: x\n\n"[: len(piece)])


def test_a_refusal_of_a_request_that_is_not_read():
    """It is told at once: the client reads while it sends."""

    def script(sock):
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 431 Too large\r\nContent-Length: 4\r\n\r\nbody")
        done.wait(SOON)

    done = threading.Event()
    with server(script) as port:
        error = refused(port, timeout=None, headers=HUGE_HEADERS)
        done.set()
    assert (error.status, error.body) == (431, b"body")


@pytest.mark.parametrize("length", [4, 100])
def test_a_refusal_before_a_reset(length):
    """The rest of the request meets a reset, and the answer lies there already."""

    def script(sock):
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 431 Too large\r\nContent-Length: %d\r\n\r\npart" % length)
        reset(sock)

    with server(script) as port:
        error = refused(port, headers=HUGE_HEADERS)
    # The system may have dropped the answer with the connection.
    assert type(error) in (HandshakeError, ConnectError)
    if type(error) is HandshakeError:
        assert (error.status, error.body) == (431, b"part")
    else:
        assert error.errno in (errno.ECONNRESET, errno.EPIPE)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="it takes a write that fails at once")
def test_an_upgrade_before_the_connection_breaks(monkeypatch):
    """The rest of the request meets a closed socket, and more than one read is in this one."""

    def write_rest(transport, rest):
        monkeypatch.undo()
        sent = transport.write(rest[:1000])
        far.sendall(upgrade_answer(far.recv(1000)) + frame(BINARY, bytes(30_000)))
        far.close()
        return real(transport, rest[sent:])

    near, far = socket.socketpair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    real = _upgrade.write_rest
    monkeypatch.setattr(_upgrade, "write_rest", write_rest)
    with far, pytest.raises(ConnectError, match="broke during the upgrade") as caught:
        connect("ws://h/", SOON, sock=near, headers=HUGE_HEADERS)
    assert type(caught.value) is ConnectError
    assert near.fileno() == -1


def test_a_refusal_of_a_connection_before_its_request(monkeypatch):
    """The answer and the reset are there before the first byte is sent."""

    def script(sock):
        assert connected.wait(SOON)
        sock.sendall(b"HTTP/1.1 429 Slow down\r\nContent-Length: 4\r\n\r\nbody")
        reset(sock)
        answered.set()

    def upgrade(*arguments, **options):
        connected.set()
        assert answered.wait(SOON)
        real(*arguments, **options)

    connected, answered, real = threading.Event(), threading.Event(), _client.upgrade
    monkeypatch.setattr(_client, "upgrade", upgrade)
    with server(script) as port:
        error = refused(port)
    assert type(error) in (HandshakeError, ConnectError)  # as above
    if type(error) is HandshakeError:
        assert (error.status, error.body) == (429, b"body")


def test_tls_that_breaks_during_the_upgrade():
    def script(sock):
        receive_head(sock)
        with socket.socket(fileno=os.dup(sock.fileno())) as bare:
            bare.sendall(b"what is no record of TLS")
        until_it_leaves(sock)

    trusting, context = tls_contexts()
    with server(script, context=context) as port:
        error = refused(port, scheme="wss", ssl_context=trusting)
    assert type(error) is ConnectError
    assert isinstance(error.__cause__, ssl.SSLError)
    assert "during the upgrade" in str(error)
    assert error.errno == ssl.SSL_ERROR_SSL


def test_an_upgrade_that_is_accepted_before_the_request_has_come():
    def script(sock):
        head = sock.recv(1000).partition(b"X-0:")[0]
        sock.sendall(upgrade_answer(head))
        done.wait(SOON)  # without reading, or the request might be whole before the answer is seen

    done = threading.Event()
    with server(script) as port:
        error = refused(port, headers=HUGE_HEADERS)
        done.set()
    assert type(error) is HandshakeError
    assert "before it had the request" in str(error)


@pytest.mark.abuse(25)
def test_interim_responses_without_end_are_refused_whatever_the_timeout():
    def make(_):
        yield from itertools.repeat(b"HTTP/1.1 102 Processing\r\n\r\n")

    with server(dripping(make)) as port:
        error = refused(port, timeout=None)
    assert error.status == 102
    assert "interim" in str(error)


@pytest.mark.abuse(21, 24, 26, 27)
@pytest.mark.parametrize(
    "changes",
    [
        {"Sec_WebSocket_Accept": "wrong"},
        {"Sec_WebSocket_Accept": None},
        {"Upgrade": None},
        {"Connection": None},
        {"Sec_WebSocket_Protocol": "never-offered"},
        {"Sec_WebSocket_Extensions": "permessage-deflate"},
        {"Content_Length": "0"},
        {"version": "HTTP/1.0"},
    ],
)
def test_an_upgrade_that_is_not_valid(changes):
    def script(sock):
        sock.sendall(upgrade_answer(receive_head(sock), **changes))
        until_it_leaves(sock)

    with server(script) as port:
        error = refused(port)
    assert type(error) is HandshakeError
    assert error.status == 101
    assert "not valid" in str(error)


@pytest.mark.abuse(28)
@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"\0" * 100, b"nonsense"],
)
def test_garbage(answer):
    with server(answering(answer)) as port:
        error = refused(port)
    assert type(error) is HandshakeError
    assert error.status is None
    assert "not HTTP" in str(error)


@pytest.mark.parametrize(
    "part", [b"", b"HTTP/1.1 101", b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n"]
)
def test_an_end_without_an_answer(part):
    with server(answering(part)) as port:
        error = refused(port)
    assert type(error) is HandshakeError
    assert "closed the connection" in str(error)


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 101 Switching"])
def test_a_reset_without_an_answer(part):
    def script(sock):
        receive_head(sock)
        sock.sendall(part)
        reset(sock)

    with server(script) as port:
        error = refused(port)
    assert type(error) is ConnectError
    assert isinstance(error.__cause__, ConnectionResetError)
    assert error.errno == errno.ECONNRESET
    assert "during the upgrade" in str(error)


def test_a_reset_inside_the_body_of_a_refusal():
    def script(sock):
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\npart")
        reset(sock)

    with server(script) as port:
        error = refused(port)
    assert type(error) in (HandshakeError, ConnectError)  # the reset may have overtaken it
    if type(error) is HandshakeError:
        assert error.status == 503


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = refused(port)
    assert type(error) is ConnectError
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert f"127.0.0.1:{port}" in str(error)


# -- servers that are slow: one deadline for all of it ---------------------


@pytest.mark.parametrize("timeout", [0.1, 0.3])
def test_silence(timeout):
    with server(until_it_leaves) as port, at_least(timeout, 5):
        error = refused(port, timeout=timeout)
    assert type(error) is ConnectTimeout
    assert isinstance(error, TimeoutError)
    assert error.errno == errno.ETIMEDOUT
    assert "timeout" in str(error)


def test_a_timeout_of_zero():
    with server(until_it_leaves) as port, at_least(0, 5):
        assert type(refused(port, timeout=0)) is ConnectTimeout


# Each stage in drips.
DRIPS = {
    "status line": lambda _: itertools.chain(b"HTTP/1.1 200 ", itertools.repeat(ord("x"))),
    "one header": lambda _: itertools.chain(b"HTTP/1.1 200 OK\r\nA: ", itertools.repeat(ord("x"))),
    "headers": lambda _: itertools.chain(b"HTTP/1.1 200 OK\r\n", itertools.cycle(b"A: b\r\n")),
    "interim responses": lambda _: itertools.cycle(b"HTTP/1.1 103 Hints\r\n\r\n"),
}


@pytest.mark.abuse(28, 32)
@pytest.mark.parametrize("name", DRIPS)
def test_an_answer_that_drips(name):
    def make(request):
        return (bytes([byte]) for byte in DRIPS[name](request))

    with server(dripping(make)) as port, at_least(0.4, 5):
        assert type(refused(port, timeout=0.4)) is ConnectTimeout


def test_a_body_that_drips():
    def make(_):
        yield b"HTTP/1.1 401 Unauthorized\r\n\r\n"
        while True:
            yield b"x"

    with server(dripping(make)) as port, at_least(0.3, 5):
        error = refused(port, timeout=0.3)
    assert error.status == 401  # of more use than a timeout
    assert set(error.body) == {ord("x")}


def test_a_body_that_floods_in_the_smallest_chunks():
    def script(sock):
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            sock.sendall(b"1\r\nx\r\n" * 10_000)

    with server(script) as port, at_least(0, 5):
        error = refused(port, timeout=0.3)
    assert error.status == 401


@pytest.mark.abuse(28)
def test_endless_headers_are_refused_before_the_timeout():
    def script(sock):
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            sock.sendall(b"A: b\r\n" * 1000)

    with server(script) as port:
        error = refused(port)
    assert type(error) is HandshakeError
    assert "headers" in str(error)


def test_a_server_that_does_not_read_the_request():
    def script(sock):
        gone.wait(SOON)
        until_it_leaves(sock)

    gone = threading.Event()
    with server(script) as port, at_least(0.3, 5):
        assert type(refused(port, timeout=0.3, headers=HUGE_HEADERS)) is ConnectTimeout
        gone.set()


@pytest.mark.abuse(32)
def test_one_deadline_for_lookup_tls_and_upgrade(monkeypatch):
    def look_up(host, port, *, flags=0, **_):
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        threading.Event().wait(0.3)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    client, context = tls_contexts()

    def script(sock):
        receive_head(sock)
        until_it_leaves(sock)

    with server(script, context=context) as port, at_least(0.6, 5), pytest.raises(ConnectTimeout):
        connect(f"wss://localhost:{port}", timeout=0.6, ssl_context=client)


# -- TLS -------------------------------------------------------------------


def test_tls():
    client, context = tls_contexts()
    with (
        server(accepting(frame(TEXT, b"secret")), context=context) as port,
        connect(f"wss://localhost:{port}", SOON, ssl_context=client) as conn,
    ):
        assert conn.receive(SOON) == "secret"


def test_tls_to_an_address():
    client, context = tls_contexts()
    with (
        server(accepting(), context=context) as port,
        connect(f"wss://127.0.0.1:{port}", SOON, ssl_context=client) as conn,
    ):
        assert conn.connected()


def test_tls_to_a_full_name(monkeypatch):
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: look_up(host.removesuffix("."), *a, **k)
    )
    names = []
    client, context = tls_contexts()
    with monkeypatch.context() as patch:
        patch.setattr(context, "sni_callback", lambda _, name, __: names.append(name))
        with (
            server(accepting(), context=context) as port,
            connect(f"wss://localhost.:{port}", SOON, ssl_context=client) as conn,
        ):
            assert conn.connected()
    assert names == ["localhost"]


def test_tls_to_an_address_with_a_zone():
    client, context = tls_contexts()
    try:
        socket.getaddrinfo("::1%1", 1, flags=socket.AI_NUMERICHOST)
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback with a zone")
    with (
        server(accepting(), context=context, host="::1") as port,
        connect(f"wss://[::1%251]:{port}", SOON, ssl_context=client) as conn,
    ):
        assert conn.connected()


@pytest.mark.abuse(59)
def test_an_authority_that_the_system_does_not_know():
    with server(accepting(), context=tls_contexts()[1]) as port:
        error = refused(port, scheme="wss")
    assert type(error) is ConnectError
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert (error.errno, error.strerror) == (error.__cause__.errno, error.__cause__.strerror)
    assert "certificate" in str(error).lower()


@pytest.mark.abuse(59)
@pytest.mark.parametrize(
    ("names", "hostname"), [(["example.com"], "localhost"), (["localhost"], "127.0.0.1")]
)
def test_a_certificate_for_another_name(names, hostname):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*names).configure_cert(context)
    with (
        server(accepting(), context=context) as port,
        pytest.raises(ConnectError, match=r"(?i)mismatch") as caught,
    ):
        connect(f"wss://{hostname}:{port}", SOON, ssl_context=tls_contexts()[0])
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.abuse(59)
def test_a_certificate_that_has_expired():
    import datetime

    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost", not_after=past).configure_cert(context)
    with (
        server(accepting(), context=context) as port,
        pytest.raises(ConnectError, match=r"(?i)expired") as caught,
    ):
        connect(f"wss://localhost:{port}", SOON, ssl_context=tls_contexts()[0])
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.abuse(59)
def test_a_self_signed_certificate():
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with server(accepting(), context=context) as port, pytest.raises(ConnectError) as caught:
        connect(f"wss://localhost:{port}", SOON, ssl_context=tls_contexts()[0])
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.abuse(59)
@pytest.mark.abuse(59)
def test_the_default_context_checks_names_and_takes_no_old_tls(monkeypatch):
    made = []
    original = ssl.create_default_context

    def create(*arguments, **options):
        made.append(original(*arguments, **options))
        authority().configure_trust(made[-1])
        return made[-1]

    context = tls_contexts()[1]
    monkeypatch.setattr(ssl, "create_default_context", create)
    with server(accepting(), context=context) as port:
        connect(f"wss://localhost:{port}", SOON).close()
    assert made[0].minimum_version >= ssl.TLSVersion.TLSv1_2
    assert made[0].check_hostname is True
    assert made[0].verify_mode is ssl.CERT_REQUIRED


@pytest.mark.abuse(19)
def test_tls_to_a_port_without_it():
    def script(sock):
        sock.recv(65_536)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        until_it_leaves(sock)

    with server(script) as port:
        error = refused(port, scheme="wss")
    assert type(error) is ConnectError
    assert isinstance(error.__cause__, ssl.SSLError)


@pytest.mark.abuse(19)
def test_no_tls_to_a_port_with_it():
    with server(until_it_leaves, context=tls_contexts()[1]) as port:
        error = refused(port)
    assert type(error) in (HandshakeError, ConnectError)
    if type(error) is HandshakeError:
        assert "wss://" in str(error)


# At the other end.
@pytest.mark.abuse(19, 32)
def test_tls_that_stalls():
    with server(until_it_leaves) as port, at_least(0.3, 5):
        error = refused(port, scheme="wss", timeout=0.3)
    assert type(error) is ConnectTimeout
    assert "TLS" in str(error)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_tls_that_ends(how):
    def script(sock):
        sock.recv(100)
        if how == "rst":
            reset(sock)

    with server(script) as port:
        error = refused(port, scheme="wss")
    assert type(error) is ConnectError
    assert isinstance(error.__cause__, OSError)
    assert error.errno == error.__cause__.errno is not None
    if how == "rst":
        assert error.errno == errno.ECONNRESET


def test_tls_with_settings_that_cannot_work():
    wrong = ssl.create_default_context()
    wrong.minimum_version = ssl.TLSVersion.TLSv1_3
    wrong.maximum_version = ssl.TLSVersion.TLSv1_2  # so there is none left
    with server(until_it_leaves) as port:
        error = refused(port, scheme="wss", ssl_context=wrong)
    assert type(error) is ConnectError
    assert isinstance(error.__cause__, ssl.SSLError)


# -- what is left ----------------------------------------------------------


def test_an_interrupted_connect_leaves_no_descriptor(monkeypatch):
    class Stop(BaseException):
        pass

    def stop(*_, **__):
        raise Stop

    with server(until_it_leaves) as port:
        monkeypatch.setattr(_upgrade, "_wait", stop)
        with pytest.raises(Stop):
            connect(f"ws://127.0.0.1:{port}", SOON)


def test_errors_of_the_system_are_not_hidden():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = refused(port)
    assert error.__cause__.errno == errno.ECONNREFUSED
    assert error.errno == errno.ECONNREFUSED
    assert error.strerror == error.__cause__.strerror
    assert str(error).startswith(f"cannot connect to 127.0.0.1:{port}: ")


def test_ping_while_connecting_is_no_problem():
    def script(sock):
        sock.sendall(upgrade_answer(receive_head(sock)) + frame(PING, b"early"))
        assert receive_frame(sock) == (0x8A, b"early")
        until_it_leaves(sock)

    with server(script) as port, connect(f"ws://127.0.0.1:{port}", SOON, close_timeout=0) as conn:
        assert conn.receive(0.01) is None
        assert conn.connected()


def test_an_interrupted_tls_handshake_leaves_no_socket(monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(TLSTransport, "handshake_step", interrupt)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(KeyboardInterrupt):
            connect(f"wss://127.0.0.1:{port}/")
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(1) == b""


# What the system refuses once the upgrade is through.
@pytest.mark.abuse(63)
def test_no_keepalive_no_connection(monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EMFILE, "no file")

    def script(sock):
        sock.sendall(upgrade_answer(receive_head(sock)))
        assert sock.recv(1) == b""  # it was closed

    with server(script) as port:
        service = _keepalive._Service()
        monkeypatch.setitem(_keepalive._services, engine(), service)
        monkeypatch.setattr(socket, "socketpair", refuse)
        with pytest.raises(ConnectError, match="no file") as caught:
            connect(f"ws://127.0.0.1:{port}")
        assert caught.value.errno == caught.value.__cause__.errno is not None
        monkeypatch.undo()
        if service._alarm is not None:
            service._alarm.close()


@pytest.mark.abuse(70)
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no pthread_kill")
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_signal_handlers_error_is_not_the_connections(scheme):
    def handle(*_):
        raise TimeoutError("the handler's")

    def script(sock):
        sock.recv(1)  # the connection is made, and the handshake begun
        signal.pthread_kill(main, signal.SIGUSR1)
        until_it_leaves(sock)

    main = threading.get_ident()
    previous = signal.signal(signal.SIGUSR1, handle)
    try:
        with server(script) as port, pytest.raises(TimeoutError, match="the handler's") as caught:
            connect(f"{scheme}://127.0.0.1:{port}")
        assert type(caught.value) is TimeoutError
    finally:
        signal.signal(signal.SIGUSR1, previous)
