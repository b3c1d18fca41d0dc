"""nginx, HAProxy and Caddy with TLS and a prefix: what the client sees is what the server says."""

import contextlib
import http.client
import json

import pytest

import scriptling_ws as ws
from behind import fetch, http_client
from pairs import tls_contexts
from programs import caddy, haproxy, nginx, runs_once
from scriptling_ws.runtime import HTTP
from servers import TIMEOUT, echo, serving

pytestmark = runs_once

UPGRADE = """
map $http_upgrade $connection_upgrade {
    default upgrade;
    ''      '';
}
upstream app {
    server BACKEND;
    keepalive 4;
}
server {
    listen LISTEN ssl;
    server_name localhost;
    ssl_certificate DIRECTORY/server.pem;
    ssl_certificate_key DIRECTORY/server.pem;
    location /app/ {
        PASS
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        MORE
    }
}
"""
# What docs/pages.md has: the prefix is taken off by the slash at the end of proxy_pass.
NGINX_STRIPS = UPGRADE.replace("PASS", "proxy_pass http://app/;").replace(
    "MORE",
    """proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-Prefix /app;""",
)
# Host is the upstream's name, as it is by default; the client's is said beside it.
NGINX_OWN_HOST = UPGRADE.replace("PASS", "proxy_pass http://app/;").replace(
    "MORE",
    """proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Prefix /app;""",
)
NGINX_PASSES = UPGRADE.replace("PASS", "proxy_pass http://app;").replace(
    "MORE", "proxy_set_header Host $http_host;"
)
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout tunnel 1h
frontend public
    bind LISTEN ssl crt DIRECTORY/server.pem
    option forwardfor
    http-request set-header X-Forwarded-Proto https
    MORE
    default_backend app
backend app
    http-reuse always
    server one BACKEND
"""
HAPROXY_STRIPS = HAPROXY.replace(
    "MORE",
    """http-request set-header X-Forwarded-Prefix /app
    http-request replace-path /app/(.*) /\\1""",
)
HAPROXY_PASSES = HAPROXY.replace("MORE", "")
CADDY = """\
{
	admin off
	auto_https off
}
https://localhost:OWN_PORT {
	bind 127.0.0.1
	tls DIRECTORY/server.pem DIRECTORY/server.pem
	HANDLE
}
"""
CADDY_STRIPS = CADDY.replace(
    "HANDLE",
    """handle_path /app/* {
		reverse_proxy BACKEND {
			header_up X-Forwarded-Prefix /app
		}
	}""",
)
CADDY_PASSES = CADDY.replace("HANDLE", "reverse_proxy /app/* BACKEND")
SITES = {
    "nginx": (nginx, NGINX_STRIPS, ""),
    "nginx-own-host": (nginx, NGINX_OWN_HOST, ""),
    "nginx-passes": (nginx, NGINX_PASSES, "/app"),
    "haproxy": (haproxy, HAPROXY_STRIPS, ""),
    "haproxy-passes": (haproxy, HAPROXY_PASSES, "/app"),
    "caddy": (caddy, CADDY_STRIPS, ""),
    "caddy-passes": (caddy, CADDY_PASSES, "/app"),
}


def routes(folder):
    table = HTTP()
    table.get("/seen", seen)
    table.get("/go", lambda request: HTTP.redirect("/done").with_cookie("a", "b"))
    table.websocket("/ws", echo)
    table.static("/files", folder)
    return table


def seen(request):
    return {
        "url": request.url,
        "path": request.path,
        "secure": request.secure,
        "from": request.remote_addr,
    }


@pytest.fixture(params=SITES)
def site(request, tmp_path):
    start, configuration, root_path = SITES[request.param]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text("<p>sub")
    options = {"trusted_proxies": ["127.0.0.1"], "root_path": root_path}
    with (
        serving(routes=routes(tmp_path), **options) as server,
        start(server, configuration) as proxy,
    ):
        yield proxy


def test_what_the_client_sees(site):
    """Twice by one connection, and what the proxy keeps to the server is used again."""
    base = f"https://localhost:{site.port}/app"
    with http_client(site) as client:
        for _ in range(2):
            page = client("/app/seen?x=1")
            assert json.loads(page.body) == {
                "url": f"{base}/seen?x=1",
                "path": "/seen",
                "secure": True,
                "from": "127.0.0.1",
            }
    answer = fetch(site, "/app/go")
    assert answer.headers["location"] == "/app/done"
    assert answer.headers["set-cookie"] == "a=b; Path=/app; Secure; HttpOnly; SameSite=Lax"
    assert fetch(site, "/app/files/sub").headers["location"] == "./sub/"
    page = fetch(site, "/app/files/sub/")
    assert page.body == b"<p>sub"
    again = fetch(site, "/app/files/sub/", **{"If-None-Match": page.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    part = fetch(site, "/app/files/sub/", Range="bytes=3-", **{"If-Range": strong(page)})
    assert part.body == (b"sub" if part.status == 206 else b"<p>sub")


def strong(page):
    return page.headers["etag"].removeprefix("W/")


def test_a_socket_below_it(site):
    context = tls_contexts()[0]
    own = {"Origin": f"https://localhost:{site.port}"}
    with ws.connect(f"{site.url}/app/ws", headers=own, ssl_context=context) as conn:
        conn.send("hello")
        assert conn.receive(TIMEOUT) == "hello"
    for foreign in ("https://evil.example", f"http://localhost:{site.port}"):
        with pytest.raises(ws.HandshakeError) as caught:
            ws.connect(f"{site.url}/app/ws", headers={"Origin": foreign}, ssl_context=context)
        assert caught.value.status == 403


def test_what_the_proxy_keeps_open_serves_many(tmp_path):
    """nginx keeps connections to the server: requests of several clients come by one of them."""
    ports = []
    table = HTTP()
    table.get("/", lambda request: ports.append(1) or "x")
    options = {"trusted_proxies": ["127.0.0.1"], "max_connections_per_address": 2}
    with serving(routes=table, **options) as server, nginx(server, NGINX_STRIPS) as proxy:
        for _ in range(12):
            with contextlib.closing(
                http.client.HTTPSConnection(
                    "localhost", proxy.port, timeout=TIMEOUT, context=tls_contexts()[0]
                )
            ) as client:
                client.request("GET", "/app/", headers={"X-Forwarded-For": "192.0.2.1"})
                assert client.getresponse().read() == b"x"
        assert len(ports) == 12
        assert len(server._acceptor._kept) <= 4
