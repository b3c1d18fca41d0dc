"""The examples of docs/connecting.md reach a server in each of the ways."""

import socket

import pytest

import scriptling_ws as ws
from pairs import authority, tls_contexts
from programs import directory
from scriptling_ws.runtime import HTTP
from servers import TIMEOUT, echo, serving
from snippets import echoes
from tunnels import http_proxy, listening, socks_proxy

pytestmark = pytest.mark.once("it is about examples")


@pytest.mark.blocks("docs/connecting.md#proxies")
def test_by_three_proxies(blocks, world, monkeypatch):
    seen = []
    with (
        serving(echo, allowed_hosts=["example.com"]) as server,
        listening(http_proxy(seen)) as http,
        listening(socks_proxy(seen)) as socks,
    ):
        for name in ("no_proxy", "ws_proxy", "socks_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{http}")
        changes = {
            "wss://example.com": f"ws://example.com:{server.port}",  # TLS: see tests/client
            "proxy.example:3128": f"127.0.0.1:{http}",
            "127.0.0.1:1080": f"127.0.0.1:{socks}",
        }
        blocks[0].run(changes, ws=ws)
        assert [echoes(conn) for conn in world.connections] == [True] * 3
        for conn in world.connections:
            conn.close()
    basic, (host, _), plain = seen
    assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n" in basic
    assert b"Authorization" not in plain
    assert host == "example.com"  # which the proxy looks up


@pytest.mark.blocks("docs/connecting.md#redirects")
def test_along_a_redirect(blocks, world):
    routes = HTTP()
    routes.websocket("/old", echo, authorize=lambda request: routes.redirect("/new", 307))
    routes.websocket("/new", echo)
    with serving(routes=routes) as server:
        blocks[0].run({"example.com": f"127.0.0.1:{server.port}"}, ws=ws)
        assert echoes(world.connections[0])


@pytest.mark.blocks("docs/connecting.md#headers-cookies-and-who-asks")
def test_with_headers(blocks, world):
    def say(client):
        names = ("authorization", "x-tag", "cookie", "origin", "user-agent")
        client.send({name: client.request.headers[name] for name in names})

    with serving(say, origins=["https://example.com"]) as server:
        blocks[0].run({"wss://example.com": server.url}, ws=ws)
        assert world.connections[0].receive_json(TIMEOUT) == {
            "authorization": "Bearer t0ken",
            "x-tag": "a, b",
            "cookie": "session=s3cret",
            "origin": "https://example.com",
            "user-agent": "my-program/1.0",
        }


@pytest.mark.blocks("docs/connecting.md#names-that-differ")
def test_by_another_name(blocks, world):
    server_context = tls_contexts()[1].__class__(tls_contexts()[1].protocol)
    authority().issue_cert("example.com").configure_cert(server_context)
    options = {"ssl_context": server_context, "allowed_hosts": ["example.com"]}
    with serving(echo, **options) as server:
        changes = {
            "8443": server.port,
            'headers={"Host"': 'ssl_context=trusting, headers={"Host"',
        }
        blocks[0].run(changes, ws=ws, trusting=tls_contexts()[0])
        assert echoes(world.connections[0])


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
@pytest.mark.blocks("docs/connecting.md#unix-sockets-and-sockets-of-ones-own")
def test_over_unix_sockets(blocks, world):
    with directory() as folder, serving(echo, unix=folder / "app.sock"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(folder / "app.sock"))
        blocks[0].run({"/run/app.sock": folder / "app.sock"}, ws=ws, sock=sock)
        assert [echoes(conn) for conn in world.connections] == [True] * 3


@pytest.mark.blocks("docs/connecting.md#several-addresses-and-which-one-of-ones-own")
def test_from_an_address(blocks, world):
    with serving(echo) as server:
        changes = {"example.com": f"127.0.0.1:{server.port}", '"192.0.2.1",  #': '"127.0.0.1",  #'}
        blocks[0].run(changes, ws=ws, socket=socket)
        (conn,) = world.connections
        assert echoes(conn)
        assert conn.local_addr.startswith("127.0.0.1:")


@pytest.mark.blocks("docs/connecting.md#what-the-server-has-answered")
def test_the_answer(blocks):
    headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Server", "lab")]
    with (
        serving(echo, authorize=lambda request: headers) as server,
        ws.connect(server.url) as conn,
    ):
        values = [eval(line, {"conn": conn}) for line in blocks[0].text.splitlines()]
        assert values == [101, "lab", ["a=1", "b=2"], f"127.0.0.1:{server.port}"]
