"""connect() through real proxies (tinyproxy, microsocks, dante, HAProxy) to real servers.

The proxies and the servers are other programs, so each test says much at once.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys

import pytest

from pairs import SOON, authority, tls_contexts
from processes import Process, python_environment
from programs import accepts, directory, find, free_port, haproxy, nginx, runs_once, started
from scriptling_ws import HandshakeError, ProxyError, connect
from servers import echo, serving

pytestmark = runs_once

TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 60
MaxClients 20
LogLevel Critical
{more}
"""

# TLS to the proxy: HAProxy takes it off, and hands the rest on as it is.
HAPROXY_TLS = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen proxy
    bind LISTEN ssl crt DIRECTORY/server.pem
    server behind BACKEND
"""

NGINX_TLS = """
server {
    listen LISTEN ssl;
    ssl_certificate DIRECTORY/server.pem;
    ssl_certificate_key DIRECTORY/server.pem;
    location / {
        proxy_pass http://BACKEND;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
        proxy_set_header Host $http_host;
        add_header Set-Cookie "one=1" always;
        add_header Set-Cookie "two=2" always;
    }
    location = /old {
        absolute_redirect off;
        return 302 /echo;
    }
}
"""


# It knows versions 4 and 5, and not 4a.
DANTE = """
logoutput: stderr
errorlog: stderr
internal: 127.0.0.1 port = {port}
external: lo
socksmethod: none
clientmethod: none
{user}
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks pass {{ from: 127.0.0.0/8 to: 127.0.0.0/8 }}
"""


class Behind:
    """What stands behind a program: `address`, as those of `programs` ask for it."""

    def __init__(self, port):
        self.address = f"127.0.0.1:{port}"


@contextlib.contextmanager
def running(*command, port):
    with started(*command) as program:
        program.await_(lambda: accepts(socket.AF_INET, ("127.0.0.1", port)))
        yield port


@contextlib.contextmanager
def tinyproxy(more=""):
    """tinyproxy; yields its port."""
    path, port = find("tinyproxy"), free_port()
    with directory() as folder:
        (folder / "conf").write_text(TINYPROXY.format(port=port, more=more))
        with running(path, "-d", "-c", folder / "conf", port=port):
            yield port


@contextlib.contextmanager
def microsocks(*more):
    """microsocks; yields its port."""
    path, port = find("microsocks"), free_port()
    with running(path, "-i", "127.0.0.1", "-p", str(port), *more, port=port):
        yield port


@pytest.fixture(scope="module")
def dante():
    """dante, as whoever runs the tests; its port."""
    path, port = find("danted", "sockd"), free_port()
    user = "user.privileged: root\nuser.unprivileged: nobody" if os.geteuid() == 0 else ""
    with directory() as folder:
        (folder / "conf").write_text(DANTE.format(port=port, user=user))
        with running(path, "-f", folder / "conf", "-p", folder / "pid", port=port):
            yield port


@pytest.fixture(scope="module")
def http():
    with tinyproxy() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def socks():
    with microsocks("-u", "user", "-P", "secret") as port:
        yield f"socks5h://user:secret@127.0.0.1:{port}"


@pytest.fixture
def server():
    with serving(echo) as server:
        yield server


def echoes(conn, size=1024 * 1024):
    """Whether messages come back, small and large."""
    data = bytes(range(256)) * (size // 256)
    conn.send("hello")
    conn.send_binary(data)
    return conn.receive(SOON) == "hello" and bytes(conn.receive(SOON)) == data


@pytest.mark.parametrize("proxy", ["http", "socks"])
def test_to_a_server_without_tls(proxy, server, request):
    url = f"ws://localhost:{server.port}/"
    with connect(url, SOON, proxy=request.getfixturevalue(proxy)) as conn:
        assert echoes(conn)
        assert conn.ping(SOON) is not None
        assert conn.remote_addr == f"localhost:{server.port}"
    assert conn.close_code == 1000


@pytest.mark.parametrize("proxy", ["http", "socks"])
def test_to_nginx_with_tls(proxy, server, request):
    client, _ = tls_contexts()
    options = {"proxy": request.getfixturevalue(proxy), "ssl_context": client}
    with nginx(Behind(server.port), NGINX_TLS) as front:
        with connect(f"{front.url}/echo", SOON, **options) as conn:
            assert echoes(conn)
            assert conn.response.header_list("set-cookie") == ["one=1", "two=2"]
        with connect(f"{front.url}/old", SOON, max_redirects=1, **options) as conn:
            assert conn.request.path == "/echo"
            assert echoes(conn)
        with pytest.raises(HandshakeError) as caught:
            connect(f"{front.url}/old", SOON, **options)
        assert caught.value.status == 302


def test_by_tls_to_the_proxy(http, server):
    client, context = tls_contexts()
    behind = Behind(http.rpartition(":")[2])
    options = {"proxy_ssl_context": client, "ssl_context": client}
    with haproxy(behind, HAPROXY_TLS) as front, serving(echo, ssl_context=context) as secure:
        proxy = f"https://localhost:{front.port}"
        with connect(server.url, SOON, proxy=proxy, proxy_ssl_context=client) as conn:
            assert echoes(conn)
        with connect(f"wss://localhost:{secure.port}/", SOON, proxy=proxy, **options) as conn:
            assert echoes(conn)
            assert conn.ping(SOON) is not None
        with pytest.raises(ProxyError, match=r"(?i)certificate"):
            connect(server.url, SOON, proxy=proxy)


def test_credentials(server):
    with tinyproxy("BasicAuth user secret") as port:
        with connect(server.url, SOON, proxy=f"http://user:secret@127.0.0.1:{port}") as conn:
            assert echoes(conn, 1024)
        for wrong in ("user:wrong@", ""):
            with pytest.raises(ProxyError) as caught:
                connect(server.url, SOON, proxy=f"http://{wrong}127.0.0.1:{port}")
            assert caught.value.status in (401, 407)


@pytest.mark.parametrize("kind", ["socks4", "socks4a", "socks5", "socks5h"])
def test_by_dante(kind, dante, server):
    host = "127.0.0.1" if kind == "socks4a" else "localhost"
    with connect(f"ws://{host}:{server.port}/", SOON, proxy=f"{kind}://127.0.0.1:{dante}") as conn:
        assert echoes(conn)
    with pytest.raises(ProxyError, match=r"refused|could not reach"):
        connect(f"ws://127.0.0.1:{free_port()}/", SOON, proxy=f"{kind}://127.0.0.1:{dante}")


def test_wrong_credentials_of_socks(socks, server):
    with pytest.raises(ProxyError, match="credentials"):
        connect(server.url, SOON, proxy=socks.replace("secret", "wrong"))
    with pytest.raises(ProxyError, match="credentials"):
        connect(server.url, SOON, proxy=socks.replace("user:secret@", ""))


@pytest.mark.parametrize("proxy", ["http", "socks"])
def test_nobody_listens_behind_the_proxy(proxy, request):
    url = f"ws://127.0.0.1:{free_port()}/"
    with pytest.raises(ProxyError) as caught:
        connect(url, SOON, proxy=request.getfixturevalue(proxy))
    if proxy == "http":
        assert caught.value.status >= 500
    else:
        assert "refused" in str(caught.value)


def test_a_port_that_the_proxy_does_not_allow(server):
    with tinyproxy("ConnectPort 443") as port, pytest.raises(ProxyError) as caught:
        connect(server.url, SOON, proxy=f"http://127.0.0.1:{port}")
    assert caught.value.status == 403


@pytest.mark.parametrize("proxy", ["http", "socks"])
def test_to_foreign_servers(proxy, peer, request):
    """Node's ws and websockets."""
    with peer("server") as process:
        port = json.loads(process.line())["port"]
        url = f"ws://localhost:{port}/echo?id=1"
        with connect(url, SOON, proxy=request.getfixturevalue(proxy), cookies={"a": "b"}) as conn:
            assert echoes(conn)
            assert conn.response.status == 101
        assert json.loads(process.line())["code"] == 1000


GEVENT = """
import sys
import gevent
import scriptling_ws as ws
from scriptling_ws._network.waiting import engine
import ssl

url, secure, ca, http, https, socks = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
done = []
ticker = gevent.spawn(lambda: [done.append(gevent.sleep(0.001)) for _ in range(10_000)])
for options in (
    {"proxy": http}, {"proxy": socks}, {"proxy": https, "proxy_ssl_context": context},
):
    for target in (url, secure):
        tls = {"ssl_context": context} if target.startswith("wss") else {}
        with ws.connect(target, 10, binary_type=bytes, **options, **tls) as conn:
            conn.send_binary(bytes(300_000))
            assert conn.receive(10) == bytes(300_000)
            assert conn.receive(0.01) is None
try:
    ws.connect("ws://127.0.0.1:1/", 10, proxy=http)
except ws.ProxyError:
    assert done, "nothing else ran meanwhile"
    print(engine().name)
ticker.kill()
"""


def test_with_gevent(http, socks, server, tmp_path):
    pytest.importorskip("gevent")
    _, context = tls_contexts()
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    behind = Behind(http.rpartition(":")[2])
    with haproxy(behind, HAPROXY_TLS) as front, serving(echo, ssl_context=context) as secure:
        urls = [server.url, f"wss://localhost:{secure.port}/"]
        proxies = [http, f"https://localhost:{front.port}", socks]
        command = [sys.executable, "-c", GEVENT, *urls, tmp_path / "ca.pem", *proxies]
        environment = {**python_environment(), "SCRIPTLING_WS_ENGINE": "gevent"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.stdout, done.returncode) == ("gevent\n", 0), done.stderr


CTRL_C = """
import signal, sys, threading
import scriptling_ws as ws
threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
try:
    ws.connect("ws://localhost/", 30, proxy=sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("kind", ["http", "https", "socks5h"])
def test_ctrl_c_while_a_proxy_is_silent(kind):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = f"{kind}://127.0.0.1:{listener.getsockname()[1]}"
        with Process.python("-W", "error", "-c", CTRL_C, proxy) as process:
            assert process.finish() == (["interrupted"], 0)
