"""The abuse cases of the opening handshake at the client: what connect() makes of bad servers.

What it makes of each malformed answer is in test_client.py, over sockets, and in
test_handshake_client.py, cut in all ways.
"""

import contextlib
import socket
import threading
import time

import pytest

from memory import tracemalloc
from pairs import MIB, SOON, receive_head, running, tls_contexts, upgrade_answer
from proxy import Proxy
from scriptling_ws import ConnectTimeout, HandshakeError, connect
from servers import echo, serving

pytestmark = pytest.mark.once("it is about answers to a request, before any frame")


@contextlib.contextmanager
def answering(make):
    """A server that sends what `make(request)` yields, as far as it is read; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SOON)

        def run():
            sock, _ = listener.accept()
            with sock, contextlib.suppress(ConnectionError):
                sock.settimeout(SOON)
                for piece in make(receive_head(sock)):
                    sock.sendall(piece)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65_536):
                    pass

        with running(run):
            yield listener.getsockname()[1]


def refused(make, **options):
    """The HandshakeError that connect() ends with, and the most memory that it took."""
    with answering(make) as port:
        tracemalloc.start()
        with pytest.raises(HandshakeError) as caught:
            connect(f"ws://127.0.0.1:{port}/", SOON, **options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return caught.value, peak


def for_ever(piece):
    while True:
        yield piece


# -- answers that are not an upgrade ---------------------------------------


@pytest.mark.abuse(21, 24, 26, 27)
@pytest.mark.parametrize(
    "lines",
    [
        ["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="],
        ["Upgrade: h2c"],
        ["Content-Length: 5"],
        ["Transfer-Encoding: chunked"],
        ["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"],
        ["Sec-WebSocket-Extensions: x-unknown"],
        ["Sec-WebSocket-Extensions: permessage-deflate; x=7"],
    ],
)
def test_an_upgrade_with_a_header_too_many(lines):
    error, _ = refused(lambda request: [upgrade_answer(request, *lines)])
    assert error.status == 101


@pytest.mark.abuse(22)
@pytest.mark.parametrize("status", [200, 401, 503])
def test_a_huge_body_takes_little_memory(status):
    def make(request):
        yield b"HTTP/1.1 %d x\r\n\r\n" % status
        yield from for_ever(bytes(65_536))

    error, peak = refused(make)
    assert error.status == status
    assert len(error.body) == 64 * 1024
    assert peak < MIB // 2  # the body, its copy, and what h11 holds of it


@pytest.mark.abuse(23)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_reaches_nobody(status):
    """It is not followed, so neither credentials nor cookies go anywhere else."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        location = "ws://{}:{}/".format(*other.getsockname())
        answer = f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        headers = {"Authorization": "Bearer secret", "Cookie": "secret=1"}
        error, _ = refused(lambda _: [answer.encode()], headers=headers)
        assert (error.status, error.headers["location"]) == (status, location)
        with pytest.raises(BlockingIOError):
            other.accept()


@pytest.mark.abuse(25)
def test_interim_responses_and_then_an_upgrade():
    def make(request):
        yield b"HTTP/1.1 100 Continue\r\n\r\n"
        yield b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 15
        yield upgrade_answer(request) + b"\x81\x02hi"

    with answering(make) as port, connect(f"ws://127.0.0.1:{port}", SOON, close_timeout=0) as conn:
        assert conn.receive(SOON) == "hi"


@pytest.mark.abuse(25)
def test_a_thousand_interim_responses_are_too_many():
    def make(request):
        yield b"HTTP/1.1 100 Continue\r\n\r\n"
        for _ in range(1000):
            yield b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        yield upgrade_answer(request)

    error, _ = refused(make)
    assert error.status == 103
    assert "interim" in str(error)


@pytest.mark.abuse(28)
@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 101 x\r\n", b"A: b\r\n" * 100),
        (b"HTTP/1.1 101 x\r\nA: ", b"x" * 1000),
        (b"HTTP/1.1 101 ", b"x" * 1000),
    ],
)
def test_endless_headers_take_no_more_than_64_kib(start, piece):
    def make(request):
        yield start
        yield from for_ever(piece)

    error, peak = refused(make)
    assert "not valid" in str(error)
    assert peak < 64 * 1024 + 48 * 1024  # the head, the request, and a read's buffer


@pytest.mark.abuse(28)
@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.9\r\n", b"220 mail ready\r\n"])
def test_an_answer_that_is_not_http_is_refused_at_once(answer):
    """Not at the timeout, as the row has it: no later byte could make HTTP of it.

    So a wrong port is told from a slow server at once, and with a better error. websockets
    too takes the first line for what it is: InvalidMessage, not its TimeoutError.
    The deadline holds for what may still become HTTP: see test_client.py.
    """
    with answering(lambda _: [answer]) as port:
        with pytest.raises(HandshakeError) as caught:
            connect(f"ws://127.0.0.1:{port}", timeout=None)  # so it is not the timeout
        assert not isinstance(caught.value, TimeoutError)
        assert "not HTTP" in str(caught.value)


# -- one deadline for all of it --------------------------------------------


@pytest.mark.abuse(32)
@pytest.mark.parametrize("stage", ["lookup", "tls", "http"])
def test_each_stage_that_stalls_ends_at_the_one_deadline(stage, monkeypatch):
    """The lookup answers late, TLS stops in the middle, the answer stops in the middle.

    What each may use is what those before it have left.
    """
    leave = threading.Event()
    real = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host == "slow.test" and not kwargs.get("flags"):
            leave.wait(0.1 if stage != "lookup" else SOON)
            host = "127.0.0.1"
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    trusting, context = tls_contexts()
    tls = stage == "tls"
    with (
        serving(echo, ssl_context=context if tls else None) as server,
        Proxy(server.port, 1) as proxy,
    ):
        proxy.down.after(100 if tls else 20, "hold")
        url = f"{'wss' if tls else 'ws'}://slow.test:{proxy.port}"
        start = time.monotonic()
        with pytest.raises(ConnectTimeout):
            connect(url, 0.5, ssl_context=trusting if tls else None).close()
        assert time.monotonic() - start >= 0.5
        leave.set()


@pytest.mark.abuse(32)
def test_a_handshake_through_a_network_that_drips():
    """One byte at a time, TLS and all: slow, and fine."""
    trusting, context = tls_contexts()
    with (
        serving(echo, ssl_context=context) as server,
        Proxy(server.port, 1) as proxy,
        connect(f"wss://127.0.0.1:{proxy.port}", SOON, ssl_context=trusting) as conn,
    ):
        conn.send("through")
        assert conn.receive(SOON) == "through"


# -- limits as options -----------------------------------------------------


@pytest.mark.abuse(28)
@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({"max_line_size": 100}, ["X: " + "x" * 98]),
        ({"max_headers": 5}, ["A: 1", "B: 2", "C: 3"]),
        ({"max_head_size": 300}, ["X: " + "x" * 200]),
    ],
)
def test_limits_of_a_head_are_options(options, lines):
    error, _ = refused(lambda request: [upgrade_answer(request, *lines)], **options)
    assert str(next(iter(options.values()))) in str(error)
    with (
        answering(lambda request: [upgrade_answer(request, *lines[:-1])]) as port,
        connect(f"ws://127.0.0.1:{port}", SOON, close_timeout=0, **options) as conn,
    ):
        assert conn.close_code is None


@pytest.mark.abuse(28)
@pytest.mark.parametrize(
    ("options", "lines", "says"),
    [
        ({}, ["Set-Cookie: " + "x" * 9000], "the header 'Set-Cookie' has 9012 bytes"),
        ({"max_headers": 2}, ["A: 1"], "the head has 4 headers, more than the 2 headers of"),
        ({"max_head_size": 99}, [], "bytes, more than the 99 bytes of max_head_size"),
    ],
)
def test_a_limit_says_what_is_too_long_and_names_its_option(options, lines, says):
    error, _ = refused(lambda request: [upgrade_answer(request, *lines)], **options)
    assert says in str(error)
    assert next(iter(options), "max_line_size") in str(error)
    assert "xxx" not in str(error)


@pytest.mark.abuse(10, 11)
@pytest.mark.parametrize(
    ("query", "headers", "status", "says"),
    [
        ("?token=" + "x" * 20_000, {}, 414, "the request line has"),
        ("", {"Cookie": "id=" + "x" * 20_000}, 431, "the header 'Cookie' has"),
    ],
    ids=["URL", "header"],
)
def test_a_server_says_what_is_too_long_and_which_option_raises_it(query, headers, status, says):
    with serving(echo) as server:
        with pytest.raises(HandshakeError) as caught:
            connect(f"{server.url}/{query}", SOON, headers)
        assert caught.value.status == status
        text = caught.value.body.decode()
        assert says in text
        assert text.endswith(" bytes, more than the 8192 bytes of max_line_size\n")
        assert "xxx" not in text
    with (
        serving(echo, max_line_size=32_768) as server,
        connect(f"{server.url}/{query}", SOON, headers) as conn,
    ):
        conn.send("through")
        assert conn.receive(SOON) == "through"


@pytest.mark.abuse(28)
def test_limits_of_a_head_can_be_raised():
    lines = [f"X-{number}: {'x' * 9000}" for number in range(150)]
    limits = {"max_line_size": 10_000, "max_headers": 200, "max_head_size": 2 * MIB}
    with (
        answering(lambda request: [upgrade_answer(request, *lines)]) as port,
        connect(f"ws://127.0.0.1:{port}", SOON, close_timeout=0, **limits) as conn,
    ):
        assert conn.close_code is None


@pytest.mark.parametrize("name", ["max_line_size", "max_headers", "max_head_size"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), ("1", TypeError), (None, TypeError)])
def test_wrong_limits(name, value, error):
    with pytest.raises(error, match=name):
        connect("ws://127.0.0.1:1", **{name: value})
