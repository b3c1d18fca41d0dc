"""A server under TLS."""

import contextlib
import socket
import ssl
import time

import pytest
import trustme
from websockets.sync.client import connect

import scriptling_ws
from heads import pieces
from pairs import Running, until
from servers import (
    Answer,
    Certificates,
    RawWebSocket,
    dial,
    echo,
    has_accepted,
    head,
    raw_websocket,
    read_all,
    read_until,
    routes_of,
    server_threads,
    serving,
    upgrade,
)


@pytest.fixture(scope="module")
def certificates():
    return Certificates()


def test_tls(certificates):
    with serving(echo, ssl_context=certificates.server) as server:
        assert server.url == f"wss://127.0.0.1:{server.port}"
        # Not with websockets: on CPython 3.13.0 its two threads can lock each other out
        # of one SSLSocket.
        with scriptling_ws.connect(server.url, ssl_context=certificates.client) as client:
            client.send("x" * 300_000)
            assert client.receive(10) == "x" * 300_000
            client.send_binary([1])
            assert client.receive(10) == [1]


def tls_dial(server, certificates):
    return certificates.client.wrap_socket(dial(server), server_hostname="localhost")


def test_tls_refusals_and_pages(certificates):
    with serving(routes=routes_of(), ssl_context=certificates.server) as server:
        for request, status in ((head("/page"), 200), (head("/x"), 404), (head("/ws"), 426)):
            with tls_dial(server, certificates) as sock:
                sock.sendall(request)
                assert Answer(read_all(sock)).status == status


@pytest.mark.abuse(20, 60)
def test_tls_request_and_frame_in_one_record(certificates):
    with (
        serving(echo, ssl_context=certificates.server) as server,
        tls_dial(server, certificates) as sock,
    ):
        sock.sendall(upgrade("/") + b"\x81\x85\0\0\0\0early")
        data = read_until(sock, b"\r\n\r\n")
        client = RawWebSocket(sock, None, data.partition(b"\r\n\r\n")[2])
        assert client.receive() == (1, b"early")


@pytest.mark.parametrize(("asked", "shows"), [(True, True), (True, False), (False, True)])
def test_what_a_clients_certificate_says(asked, shows):
    """Of a page and of a WebSocket; nothing where it is not asked for, or the client has none."""
    own, clients, seen = Certificates(), trustme.CA(), []
    if asked:
        clients.configure_trust(own.server)
        own.server.verify_mode = ssl.CERT_OPTIONAL
    if shows:
        shown = clients.issue_cert("robot.example", common_name="robot 7")
        shown.configure_cert(own.client)

    def note(request):
        seen.append(request.peer_certificate)

    with serving(routes=routes_of(), ssl_context=own.server, authorize=note) as server:
        with scriptling_ws.connect(f"{server.url}/ws", 10, ssl_context=own.client) as conn:
            conn.send("x")
            assert conn.receive(10) == "x"
            assert conn.request.peer_certificate is None  # it is the server that asks
        with tls_dial(server, own) as sock:
            sock.sendall(head("/page"))
            read_until(sock, b"\r\n\r\n")
    said, of_page = seen
    assert said == of_page
    if asked and shows:
        assert said["subject"][-1] == (("commonName", "robot 7"),)
        assert said["subjectAltName"] == (("DNS", "robot.example"),)
    else:
        assert said is None


def trusting(server, certificates):
    """Not a client of websockets: two threads at one SSLSocket hang at times."""
    return scriptling_ws.connect(
        server.url, 10, ssl_context=certificates.client, ping_interval=None
    )


@pytest.mark.parametrize("tls", [False, True])
def test_an_empty_line_before_the_request_is_ignored(certificates, tls):
    options = {"ssl_context": certificates.server} if tls else {}
    with serving(routes=routes_of(), **options) as server:

        def dialled():
            return tls_dial(server, certificates) if tls else dial(server)

        for request, status in (
            (b"\r\n" + head("/page"), 200),
            (b"\r\n\r\n" + head("/page"), 400),
            (b"\n" + head("/page"), 400),
            (b"\r\n" * 10_000, 400),
        ):
            for size in (1, len(request)) if len(request) < 1000 else (len(request),):
                with dialled() as sock:
                    for piece in pieces(request, size):
                        with contextlib.suppress(OSError):  # it was refused at once
                            sock.sendall(piece)
                    assert Answer(read_all(sock)).status == status
        with dialled() as sock:
            sock.sendall(b"\r\n" + upgrade("/ws"))
            assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")


@pytest.mark.abuse(19)
@pytest.mark.parametrize(
    ("request_bytes", "words"),
    [
        (upgrade("/"), "GET '/'"),
        (head("/page?s3cret", method="POST"), "POST '/page'"),
        (b"\r\n\r\n", "- '-'"),
        (b"G", "- '-'"),
    ],
)
def test_plain_http_to_a_tls_port(certificates, log, request_bytes, words):
    with serving(echo, ssl_context=certificates.server, handshake_timeout=30) as server:
        with dial(server) as sock:
            sock.sendall(request_bytes)
            answer = Answer(read_all(sock))
            assert answer.status == 400
            assert b"TLS" in answer.body
            assert b"wss://" in answer.body
        line = log.wait_for(f"{words} 400: this port speaks TLS alone")
        assert line.levelname == "INFO"
        assert "s3cret" not in line.message
        with trusting(server, certificates) as client:
            client.send("alive")
            assert client.receive(10) == "alive"


@pytest.mark.abuse(19)
@pytest.mark.parametrize("garbage", [b"\x00" * 50, b"\x16\x03\x01\x00\x05hello", b"\xff\xfe"])
def test_garbage_to_a_tls_port(certificates, log, garbage):
    with serving(echo, ssl_context=certificates.server, handshake_timeout=0.5) as server:
        with dial(server) as sock:
            sock.sendall(garbage)
            with contextlib.suppress(ConnectionResetError):
                assert not read_all(sock).startswith(b"HTTP")
        assert log.wait_for("- '-' -: ").levelname == "INFO"


def test_a_silent_peer_costs_no_tls_session(certificates, monkeypatch, log):
    def fail(*args, **options):
        raise AssertionError

    with serving(echo, ssl_context=certificates.server, handshake_timeout=0.2) as server:
        with monkeypatch.context() as patch:
            patch.setattr("scriptling_ws._server.acceptor.TLSTransport", fail)
            with dial(server) as sock:
                assert read_all(sock) == b""
            log.wait_for("- '-' -: the TLS handshake took too long")
            with dial(server):
                pass
            log.wait_for("left during the handshake: the peer left before it had sent anything")
        with trusting(server, certificates):
            pass


@pytest.mark.abuse(19)
def test_tls_to_a_plain_port(certificates):
    with serving(echo, handshake_timeout=30) as server:
        start = time.monotonic()
        with pytest.raises(ssl.SSLError), tls_dial(server, certificates):
            pass
        assert time.monotonic() - start < 5  # at once, not at the deadline
        with raw_websocket(server):
            pass


@pytest.mark.abuse(19)
@pytest.mark.parametrize("greeting", [None, b"SSH-2.0-x\r\n", b"220 mail\r\n"])
def test_a_client_says_that_a_port_speaks_no_tls(certificates, greeting):
    with contextlib.ExitStack() as stack:
        if greeting is None:
            port = stack.enter_context(serving(echo)).port
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = listener.getsockname()[1]

            def greet():
                sock, _ = listener.accept()
                with sock:
                    sock.sendall(greeting)
                    sock.recv(4096)

            stack.callback(Running(greet).result)
        with pytest.raises(scriptling_ws.ConnectError) as caught:
            scriptling_ws.connect(f"wss://localhost:{port}/", ssl_context=certificates.client)
    assert f"localhost:{port} does not speak TLS" in str(caught.value)
    assert "ws://" in str(caught.value)
    assert isinstance(caught.value.__cause__, ssl.SSLError)


def test_a_client_keeps_the_text_of_other_tls_errors(certificates):
    with serving(echo, ssl_context=certificates.server) as server:
        with pytest.raises(scriptling_ws.ConnectError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            scriptling_ws.connect(server.url)
        assert "does not speak TLS" not in str(caught.value)


@pytest.mark.abuse(19)
def test_stalled_tls_handshakes_cost_no_threads(certificates):
    with (
        serving(echo, ssl_context=certificates.server, handshake_timeout=1) as server,
        contextlib.ExitStack() as stack,
    ):
        stalled = [stack.enter_context(dial(server)) for _ in range(20)]
        outgoing = ssl.MemoryBIO()
        tls = certificates.client.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        for number, sock in enumerate(stalled):
            sock.sendall(hello[: number * 10])
        with trusting(server, certificates) as client:
            client.send("through")
            assert client.receive(10) == "through"
            assert len(server_threads()) == 2
        for sock in stalled:
            with contextlib.suppress(ConnectionResetError):
                read_all(sock)  # ends at the deadline


def test_a_client_that_does_not_trust_the_certificate(certificates, log):
    with serving(echo, ssl_context=certificates.server) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(server.url, ssl=ssl.create_default_context())
        assert log.wait_for("- '-' -: TLS failed: ").levelname == "INFO"
        with trusting(server, certificates):
            pass


# -- renewed certificates ----------------------------------------------------------------


def test_other_settings_are_for_handshakes_from_then_on(certificates):
    """Those that have begun, and connections that are open, keep theirs."""
    other = Certificates()
    with serving(echo, ssl_context=certificates.server) as server:
        old = scriptling_ws.connect(server.url, ssl_context=certificates.client)
        until(lambda: not server._acceptor._opening)
        with dial(server) as begun, old:
            until(lambda: has_accepted(server, begun))
            server.use_ssl_context(other.server)
            with pytest.raises(scriptling_ws.ConnectError, match="verify failed"):
                scriptling_ws.connect(server.url, ssl_context=certificates.client)
            with scriptling_ws.connect(server.url, ssl_context=other.client) as conn:
                conn.send("new")
                assert conn.receive(10) == "new"
            old.send("old")
            assert old.receive(10) == "old"
            with certificates.client.wrap_socket(begun, server_hostname="localhost") as tls:
                assert tls.version() >= "TLSv1.2"


def test_settings_that_cannot_be_used_change_nothing(certificates):
    with serving(echo, ssl_context=certificates.server) as server:
        for wrong, error in ((None, TypeError), (certificates.client, ValueError)):
            with pytest.raises(error, match="ssl_context"):
                server.use_ssl_context(wrong)
        with scriptling_ws.connect(server.url, ssl_context=certificates.client) as conn:
            conn.send("as before")
            assert conn.receive(10) == "as before"
    with (
        serving(echo) as server,
        pytest.raises(ValueError, match="was made without TLS: give it an ssl_context"),
    ):
        server.use_ssl_context(certificates.server)
