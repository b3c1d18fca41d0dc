"""nginx and HAProxy in front of a server: whom it sees behind them, by each way to say so.

The client comes from an address of its own (127.0.0.2), the proxy from 127.0.0.1.
"""

import contextlib
import json
import socket

import pytest

from behind import HAPROXY_TUNNEL, NGINX_TLS, NGINX_WEBSOCKET
from pairs import tls_contexts, until
from programs import haproxy, nginx, runs_once
from proxied import telling_routes
from servers import (
    Answer,
    Certificates,
    RawWebSocket,
    head,
    read_all,
    read_until,
    serving,
    upgrade,
)

pytestmark = [runs_once, pytest.mark.processes]

CLIENT = "127.0.0.2"
TRUSTED = {"trusted_proxies": ["127.0.0.1"]}
PROTOCOL = {**TRUSTED, "proxy_protocol": True}
FORWARDED = {**TRUSTED, "forwarded_header": "forwarded"}

SETTINGS = """proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_read_timeout"""
NGINX_X = NGINX_WEBSOCKET.replace("proxy_read_timeout", SETTINGS)
NGINX_X_TLS = NGINX_TLS.replace("proxy_read_timeout", SETTINGS)
NGINX_FORWARDED = NGINX_WEBSOCKET.replace(
    "proxy_read_timeout",
    'proxy_set_header Forwarded "for=$remote_addr;proto=$scheme";\n        proxy_read_timeout',
)

HAPROXY_X = HAPROXY_TUNNEL.replace(
    "default_backend servers",
    "option forwardfor\n    http-request set-header X-Forwarded-Proto http\n"
    "    default_backend servers",
)
HAPROXY_V1 = HAPROXY_TUNNEL.replace("server1 BACKEND", "server1 BACKEND send-proxy")
HAPROXY_V2 = HAPROXY_TUNNEL.replace("server1 BACKEND", "server1 BACKEND send-proxy-v2")
HAPROXY_TLVS = HAPROXY_TUNNEL.replace(
    "server1 BACKEND",
    "server1 BACKEND send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,crc32c,unique-id",
).replace("default_backend servers", "unique-id-format %[uuid()]\n    default_backend servers")
# TLS goes through it, behind the header.
HAPROXY_TCP = HAPROXY_V2.replace("mode http", "mode tcp").replace(
    "    option http-server-close\n", ""
)

WAYS = {
    "nginx-x-forwarded-for": (nginx, NGINX_X, TRUSTED),
    "nginx-forwarded": (nginx, NGINX_FORWARDED, FORWARDED),
    "haproxy-x-forwarded-for": (haproxy, HAPROXY_X, TRUSTED),
    "haproxy-send-proxy": (haproxy, HAPROXY_V1, PROTOCOL),
    "haproxy-send-proxy-v2": (haproxy, HAPROXY_V2, PROTOCOL),
    "haproxy-proxy-v2-options": (haproxy, HAPROXY_TLVS, PROTOCOL),
    "haproxy-tcp": (haproxy, HAPROXY_TCP, PROTOCOL),
}
by_each_way = pytest.mark.parametrize("way", WAYS)


def from_client(proxy, address=CLIENT):
    """A plain socket to a proxy from another address."""
    try:
        return socket.create_connection(("127.0.0.1", proxy.port), 10, source_address=(address, 0))
    except OSError:
        pytest.skip("one loopback address only")


@contextlib.contextmanager
def behind(way, **more):
    """A server, and the proxy in front of it."""
    start, configuration, options = WAYS[way]
    with (
        serving(routes=telling_routes(), **options, **more) as server,
        start(server, configuration) as proxy,
    ):
        yield server, proxy


SPOOFED = ("X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6;proto=https")


@by_each_way
def test_handlers_and_pages_see_the_client(way):
    with behind(way) as (_, proxy):
        for spoofed in ((), SPOOFED):
            with from_client(proxy) as sock:
                sock.sendall(upgrade("/who", *spoofed))
                data = read_until(sock, b"\r\n\r\n")
                client = RawWebSocket(sock, None, data.partition(b"\r\n\r\n")[2])
                seen, peer = client.receive()[1].decode().split()
                assert host(seen) == CLIENT
                assert host(peer) == "127.0.0.1"
            with from_client(proxy) as sock:
                sock.sendall(head("/who", "Connection: close", *spoofed))
                seen, secure = Answer(read_all(sock)).body.decode().split()
                assert host(seen) == CLIENT
                assert secure == "False"


def host(address):
    """An address without the port that it may have."""
    return address.partition(":")[0]


@by_each_way
def test_the_limit_and_the_log_see_the_client(way, log):
    options = {"max_connections_per_address": 1, "access_log": "json"}
    with behind(way, **options) as (_, proxy), contextlib.ExitStack() as stack:
        for address in (CLIENT, "127.0.0.3"):
            sock = stack.enter_context(from_client(proxy, address))
            sock.sendall(upgrade("/echo"))
            assert b" 101 " in read_until(sock, b"\r\n\r\n")
        with from_client(proxy) as sock:
            sock.sendall(upgrade("/echo"))
            assert b" 503 " in read_until(sock, b"\r\n\r\n")
    until(lambda: len(access_lines(log)) == 3)
    seen = sorted((host(line["remote_addr"]), line["status"]) for line in access_lines(log))
    assert seen == [(CLIENT, 101), (CLIENT, 503), ("127.0.0.3", 101)]


def access_lines(log):
    records = [record for record in log.records if record.name == "scriptling_ws.access"]
    return [json.loads(record.message) for record in records]


@by_each_way
def test_the_rate_is_the_clients(way):
    options = {"max_connection_rate": 0.001, "max_connection_burst": 2}
    with behind(way, **options) as (_, proxy):

        def status(address):
            with from_client(proxy, address) as sock:
                sock.sendall(head("/who", "Connection: close"))
                return int(read_all(sock)[9:12])

        assert [status(CLIENT) for _ in range(3)] == [200, 200, 429]
        assert status("127.0.0.3") == 200


def test_tls_that_ends_at_the_proxy_is_known():
    with (
        serving(routes=telling_routes(), **TRUSTED) as server,
        nginx(server, NGINX_X_TLS) as proxy,
        from_client(proxy) as plain,
        tls_contexts()[0].wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        sock.sendall(head("/who", "Connection: close", "X-Forwarded-Proto: http"))
        assert Answer(read_all(sock)).body == f"{CLIENT} True".encode()


def test_tls_behind_a_proxy_header():
    certificates = Certificates()
    with (
        serving(routes=telling_routes(), ssl_context=certificates.server, **PROTOCOL) as server,
        haproxy(server, HAPROXY_TCP) as proxy,
        from_client(proxy) as plain,
        certificates.client.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        own = "{}:{}".format(*sock.getsockname())
        sock.sendall(head("/who"))
        assert Answer(read_all(sock)).body == f"{own} True".encode()


@pytest.mark.parametrize("check", ["check-send-proxy", ""])
def test_health_checks_come_with_a_header(check, log):
    """With `check-send-proxy` they do (LOCAL); without, HAProxy sends one all the same here."""
    configuration = HAPROXY_V2.replace(
        "    server server1 BACKEND send-proxy-v2",
        f"    option httpchk HEAD /who\n    timeout check 10s\n"
        f"    server server1 BACKEND send-proxy-v2 {check} check inter 50ms",
    )
    with (
        serving(routes=telling_routes(), max_connection_rate=0.001, **PROTOCOL) as server,
        haproxy(server, configuration) as proxy,
    ):
        until(lambda: checked(proxy)[:1] == "L")
        assert checked(proxy) == "L7OK"
        assert log.wait_for("HEAD '/who' 200").message.startswith("127.0.0.1:")


def checked(proxy):
    """What the latest check has found; HAProxy has a star before it while another is under way."""
    return proxy.stat("server1")["check_status"].removeprefix("* ")


def test_a_proxy_that_sends_no_header_is_told_of_in_the_log(log):
    with (
        serving(routes=telling_routes(), **PROTOCOL) as server,
        haproxy(server, HAPROXY_TUNNEL) as proxy,
        from_client(proxy) as sock,
    ):
        sock.sendall(head("/who", "Connection: close"))
        assert b" 502 " in read_until(sock, b"\r\n\r\n")
        assert "send-proxy-v2" in log.wait_for("no PROXY header came").message
