"""HAProxy in front of a server: its modes, its health checks, and TLS that ends there."""

import pytest

import scriptling_ws as ws
from behind import HAPROXY_SIMPLE, HAPROXY_TUNNEL, Backend, fetch
from heads import KEY
from pairs import tls_contexts, until
from programs import haproxy, runs_once
from servers import TIMEOUT, serving

pytestmark = [runs_once, pytest.mark.processes]

HTTP_1_1_CHECK = """
    option httpchk
    http-check send meth GET uri /page ver HTTP/1.1 hdr Host localhost
"""

# A socket, asked as a client would ask.
WEBSOCKET_CHECK = f"""
    option httpchk
    http-check send meth GET uri /echo ver HTTP/1.1 hdr Host localhost hdr Connection Upgrade \
        hdr Upgrade websocket hdr Sec-WebSocket-Version 13 hdr Sec-WebSocket-Key {KEY}
    http-check expect status 101
"""

TLS = HAPROXY_TUNNEL.replace("bind LISTEN", "bind LISTEN ssl crt DIRECTORY/server.pem")

# What is not HTTP to the proxy: TLS goes through it.
HAPROXY_TCP = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s

listen websocket
    bind LISTEN
    server server1 BACKEND
"""


@pytest.fixture
def backend(tmp_path):
    with Backend(tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    "option", ["http-keep-alive", "http-server-close", "httpclose", "http-buffer-request"]
)
def test_modes_of_connections(backend, option):
    with haproxy(backend.server, HAPROXY_SIMPLE + f"    option {option}\n") as proxy:
        assert fetch(proxy, "/page").body == b"the page"
        assert fetch(proxy, "/files/large").body == backend.file
        with ws.connect(f"{proxy.url}/echo") as conn:
            conn.send("é")
            assert conn.receive(TIMEOUT) == "é"
            conn.close(4001, "done")
        assert backend.ends.get(timeout=TIMEOUT) == (4001, "done")


def first_check(proxy):
    """What HAProxy knows of the server once it has checked it."""
    stats = []

    def done():
        stats.append(proxy.stat("server1"))
        return stats[-1]["check_status"][:1] == "L"  # no check yet, and none that goes on

    until(done)
    return stats[-1]


@pytest.mark.parametrize(
    "check",
    [
        "    option httpchk",  # OPTIONS / HTTP/1.0, without a Host
        "    option httpchk HEAD /page",
        "    option httpchk GET /page",
        HTTP_1_1_CHECK,
        WEBSOCKET_CHECK,
    ],
    ids=["default", "head", "get", "http-1.1", "websocket"],
)
def test_health_checks(tmp_path, check):
    with Backend(tmp_path) as backend, haproxy(backend.server, checked(check)) as proxy:
        stat = first_check(proxy)
        assert (stat["check_status"], stat["status"], stat["chkfail"]) == ("L7OK", "UP", "0")
        assert fetch(proxy, "/page").body == b"the page"


def checked(check):
    """The configuration with a health check."""
    return HAPROXY_SIMPLE.replace(
        "    server server1 BACKEND",
        f"{check}\n    timeout check 10s\n    server server1 BACKEND check inter 50ms",
    )


def test_a_health_check_finds_that_the_server_is_down(backend):
    with haproxy(backend.server, checked("    option httpchk GET /page")) as proxy:
        assert first_check(proxy)["status"] == "UP"
        backend.server.close()
        until(lambda: proxy.stat("server1")["status"] == "DOWN")
        assert fetch(proxy, "/page").status == 503
        with pytest.raises(ws.HandshakeError) as caught:
            ws.connect(f"{proxy.url}/echo")
        assert caught.value.status == 503


def test_tls_that_ends_at_the_proxy(backend):
    """HAProxy leaves Host as it is, so the own page's origin agrees with it."""
    context = tls_contexts()[0]
    with haproxy(backend.server, TLS) as proxy:
        own = f"https://localhost:{proxy.port}"
        options = {"headers": {"Origin": own}, "ssl_context": context}
        with ws.connect(f"{proxy.url}/echo", **options) as conn:
            message = "é" * 500_000
            conn.send(message)
            assert conn.receive(TIMEOUT) == message
            conn.close(4001, "done")
        assert backend.ends.get(timeout=TIMEOUT) == (4001, "done")
        assert fetch(proxy, "/files/large").body == backend.file
        with pytest.raises(ws.HandshakeError) as caught:
            ws.connect(
                f"{proxy.url}/echo",
                headers={"Origin": "https://localhost"},
                ssl_context=context,
            )
        assert caught.value.status == 403


def test_tls_that_goes_through_the_proxy():
    for_client, for_server = tls_contexts()
    with (
        serving(lambda client: client.send("hello"), ssl_context=for_server) as server,
        haproxy(server, HAPROXY_TCP) as proxy,
        ws.connect(f"wss://localhost:{proxy.port}/", ssl_context=for_client) as conn,
    ):
        assert conn.receive(TIMEOUT) == "hello"
        assert conn.receive(TIMEOUT) is None
        assert conn.close_code == 1000
