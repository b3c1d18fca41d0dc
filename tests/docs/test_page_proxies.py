"""The configurations of docs/proxies.md and docs/pages.md, in the real programs."""

import contextlib
import http.client
import json

import pytest

import scriptling_ws as ws
from behind import fetch
from code_blocks import blocks_at
from pages import chromium, visitor
from pairs import tls_contexts
from programs import caddy, haproxy, nginx, runs_once
from scriptling_ws.runtime import HTTP
from servers import TIMEOUT, echo, serving
from snippets import echoes

pytestmark = [runs_once, pytest.mark.processes]

# What is a user's own on these pages, for `programs`.
NGINX = {
    "listen 443 ssl;": """listen LISTEN ssl;
    ssl_certificate DIRECTORY/server.pem;
    ssl_certificate_key DIRECTORY/server.pem;""",
    "server_name example.com;": "server_name localhost;",
    "127.0.0.1:8080": "BACKEND",
}
HAPROXY = {
    "bind :443 ssl crt /etc/haproxy/example.com.pem": "bind LISTEN ssl crt DIRECTORY/server.pem",
    "127.0.0.1:8080": "BACKEND",
}
CADDY = {
    "example.com {": """{
    admin off
    auto_https off
}
https://localhost:OWN_PORT {
    bind 127.0.0.1
    tls DIRECTORY/server.pem DIRECTORY/server.pem""",
    "127.0.0.1:8080": "BACKEND",
}
TRUSTED = {"trusted_proxies": ["127.0.0.1"]}


def who(request):
    """What the server takes the client for."""
    return {"address": request.remote_addr, "secure": request.secure, "url": request.url}


def site(**options):
    """A server with a WebSocket and a page, as these pages put one behind a proxy."""
    routes = HTTP()
    routes.websocket("/echo", echo)
    routes.get("/who", who)
    return serving(routes=routes, **options)


def talks(proxy, path="/echo"):
    """Whether a WebSocket comes through, as a browser's does."""
    options = {"ssl_context": tls_contexts()[0], "origin": f"https://localhost:{proxy.port}"}
    with ws.connect(f"{proxy.url}{path}", **options) as conn:
        return echoes(conn)


@pytest.mark.blocks("docs/proxies.md#nginx")
def test_nginx(blocks):
    with site() as server, nginx(server, blocks[0].changed(NGINX)) as proxy:
        assert talks(proxy)
        assert fetch(proxy, "/who").status == 200


@pytest.mark.blocks("docs/proxies.md#haproxy")
def test_haproxy(blocks):
    with site() as server, haproxy(server, blocks[0].changed(HAPROXY)) as proxy:
        assert talks(proxy)
        assert fetch(proxy, "/who").status == 200


@pytest.mark.blocks("docs/proxies.md#caddy")
def test_caddy(blocks):
    with site() as server, caddy(server, blocks[0].changed(CADDY)) as proxy:
        assert talks(proxy)
        assert fetch(proxy, "/who").status == 200


def asked(proxy):
    """What the server takes a client for that lies about all of it, from an address of its own."""
    lies = {
        "X-Forwarded-For": "192.0.2.9",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
    }
    options = {"context": tls_contexts()[0], "source_address": ("127.0.0.2", 0)}
    client = http.client.HTTPSConnection("localhost", proxy.port, timeout=TIMEOUT, **options)
    with contextlib.closing(client):
        client.request("GET", "/who", headers=lies)
        return json.loads(client.getresponse().read())


def truth(proxy, address="127.0.0.2", path="/who"):
    """What it is."""
    return {"address": address, "secure": True, "url": f"https://localhost:{proxy.port}{path}"}


@pytest.mark.blocks("docs/proxies.md#addresses 3")
def test_addresses_by_nginx(blocks):
    (plain,) = blocks_at("docs/proxies.md#nginx")
    text = plain.changed({**NGINX, "proxy_hide_header": f"{blocks[0].text}\nproxy_hide_header"})
    with site(**TRUSTED) as server, nginx(server, text) as proxy:
        assert asked(proxy) == truth(proxy)
        assert talks(proxy)


@pytest.mark.blocks("docs/proxies.md#addresses 4")
def test_addresses_by_haproxy(blocks):
    (plain,) = blocks_at("docs/proxies.md#haproxy")
    text = plain.changed({**HAPROXY, "default_backend": f"{blocks[0].text}\ndefault_backend"})
    with site(**TRUSTED) as server, haproxy(server, text) as proxy:
        assert asked(proxy) == truth(proxy)
        assert talks(proxy)


@pytest.mark.blocks("docs/proxies.md#the-names 1", "docs/proxies.md#addresses 1")
def test_names_and_proxies_that_are_let_in(blocks, world):
    for block in blocks:
        block.run(ws=ws, echo=echo)
    for server in world.servers:
        with ws.connect(server.url, headers={"Host": "example.com"}) as conn:
            assert echoes(conn)
        with pytest.raises(ws.HandshakeError, match="400"):
            ws.connect(server.url, headers={"Host": "stranger.example"})


@pytest.mark.blocks("docs/proxies.md#addresses 5", "docs/proxies.md#addresses 6")
def test_the_proxy_protocol(blocks, world):
    python, line = blocks
    python.run(ws=ws, echo=echo, context=tls_contexts()[1])
    (server,) = world.servers
    (plain,) = blocks_at("docs/proxies.md#haproxy")
    text = plain.changed(
        {
            "mode http": "mode tcp",
            "bind :443 ssl crt /etc/haproxy/example.com.pem": "bind LISTEN",
            "server one 127.0.0.1:8080": line.changed({"127.0.0.1:8080": "BACKEND"}),
        }
    )
    with (
        haproxy(server, text) as proxy,
        ws.connect(f"wss://localhost:{proxy.port}", ssl_context=tls_contexts()[0]) as conn,
    ):
        assert echoes(conn)
        (client,) = server.connections
        assert client.remote_addr == conn.local_addr  # whose peer is the proxy
        assert client.peer_addr != conn.local_addr


# -- below a prefix ------------------------------------------------------------

BELOW = {
    "docs/pages.md#below-a-prefix 2": (nginx, "docs/proxies.md#nginx", NGINX, "location / {"),
    "docs/pages.md#below-a-prefix 3": (
        haproxy,
        "docs/proxies.md#haproxy",
        HAPROXY,
        "default_backend",
    ),
    "docs/pages.md#below-a-prefix 4": (caddy, "docs/proxies.md#caddy", CADDY, "reverse_proxy"),
}


@pytest.mark.parametrize(
    "block", [pytest.param(place, marks=pytest.mark.blocks(place)) for place in BELOW]
)
def test_below_a_prefix(blocks, block):
    start, place, changes, before = BELOW[block]
    (plain,) = blocks_at(place)
    own = blocks[0].changed({} if start is haproxy else {"127.0.0.1:8080": "BACKEND"})
    text = plain.changed({**changes, before: f"{own}\n{before}"})
    with site(**TRUSTED) as server, start(server, text) as proxy:
        assert talks(proxy, "/app/echo")
        assert json.loads(fetch(proxy, "/app/who").body) == truth(proxy, "127.0.0.1", "/app/who")


ICON = '<link rel="icon" href="data:,">'


@pytest.mark.blocks("docs/pages.md#below-a-prefix 1")
def test_a_pages_own_socket(blocks):
    routes = HTTP()
    routes.get("/", lambda request: routes.html(200, f"<!doctype html><title>x</title>{ICON}"))
    routes.websocket("/live", lambda client: client.send("live"))
    heard = "socket.onmessage = ({data}) => done(data);"
    script = f"new Promise((done) => {{ {blocks[0].text} {heard} }})"
    with (
        serving(routes=routes, root_path="/app") as server,
        chromium() as browser,
        visitor(browser, server.page_url) as page,
    ):
        assert page.evaluate(script) == "live"


# -- the rest of docs/pages.md -------------------------------------------------


@pytest.mark.blocks("docs/pages.md#pages-beside-the-sockets")
def test_pages(blocks, tmp_path, world):
    (tmp_path / "index.html").write_text("the application")
    changes = {'"dist"': repr(str(tmp_path)), '"handlers.live"': "live"}
    routes = blocks[0].run(changes, live=echo)["http"]
    try:
        world.serve(routes=routes)
        server = routes.server = world.servers[0]
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        with ws.connect(f"{server.url}/live") as conn:
            assert echoes(conn)
            client.request("GET", "/status")
            assert client.getresponse().read() == b'{"clients":1}'
        client.request("GET", "/some/view", headers={"Accept": "text/html"})
        assert client.getresponse().read() == b"the application"
        client.close()
    finally:
        routes.server = None
        routes.clear()


@pytest.mark.blocks("docs/pages.md#cookies", "docs/pages.md#headers")
def test_a_login_and_headers(blocks, world):
    login, headers = blocks
    routes = HTTP()
    names = login.run(http=routes, sign_in=lambda form: f"{form['user']}s-token")
    routes.post("/login", names["login"])
    headers.run(ws=ws, routes=routes)
    client = http.client.HTTPConnection("127.0.0.1", world.servers[0].port, timeout=TIMEOUT)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    client.request("POST", "/login", body="user=ann", headers=form)
    answer = client.getresponse()
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    assert answer.headers["Set-Cookie"].startswith("session=anns-token; Path=/; Max-Age=86400")
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Content-Security-Policy"] == "default-src 'self'"
    assert answer.headers["Referrer-Policy"] is None
    client.close()
