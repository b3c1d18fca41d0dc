"""The proxies of deploy/ before two real servers: messages, ends, restarts, what stays inside."""

import contextlib
import subprocess
import threading

import pytest

import scriptling_ws as ws
from behind import fetch
from deployed import DEPLOY, Instance, caddy_text, haproxy_text, nginx_text
from pairs import MIB, authority, running, tls_contexts, until
from programs import caddy, directory, find, haproxy, nginx, runs_once
from servers import echo, serving

pytestmark = runs_once

TIMEOUT = 10
PROXIES = {
    "nginx": (nginx, nginx_text),
    "haproxy": (haproxy, haproxy_text),
    "caddy": (caddy, caddy_text),
}
REASON = "é" * 20
PAUSE = 0.02  # seconds between what visitors ask: many times in the time that a server is away


class Pair:
    """Two servers in this process, both with what is tried.

    Attributes:
        servers: The servers.
        ends: How the connections have ended, as their handlers saw it.
    """

    def __init__(self):
        self.ends = []
        routes = ws.Routes()
        routes.websocket("/echo", self._echo, binary_type=bytes)
        routes.websocket("/close", lambda client: client.close(4000, REASON))
        routes.get("/page", lambda request: {"host": request.headers["host"]})
        options = {"routes": routes, "health": True, "metrics": True}
        self.servers = [serving(**options) for _ in range(2)]

    def _echo(self, client):
        echo(client)
        self.ends.append((client.close_code, client.close_reason))

    def close(self):
        for server in self.servers:
            server.close()


@pytest.fixture(params=PROXIES)
def start(request):
    """Starts a proxy of deploy/ in front of two servers."""
    program, text = PROXIES[request.param]
    find(request.param)

    def started(one, other):
        return program(one, text(one.address, other.address))

    started.name = request.param
    return started


@pytest.fixture
def pair():
    with contextlib.closing(Pair()) as both:
        yield both


@pytest.fixture
def proxy(start, pair):
    with start(*pair.servers) as running_proxy:
        until(lambda: fetch(running_proxy, "/page").status == 200)  # once it has checked them
        yield running_proxy


def connect(proxy, path="/echo", **options):
    context = tls_contexts()[0]
    return ws.connect(f"{proxy.url}{path}", ssl_context=context, binary_type=bytes, **options)


def test_messages(proxy):
    with connect(proxy) as conn:
        for message in ("é", b"\x00\xff", "x" * MIB, bytes(MIB)):
            (conn.send if isinstance(message, str) else conn.send_binary)(message)
            assert conn.receive(TIMEOUT) == message


def test_close_codes_both_ways(proxy, pair):
    with connect(proxy) as conn:
        conn.close(4001, REASON)
        assert (conn.close_code, conn.close_reason) == (4001, REASON)
    until(lambda: pair.ends == [(4001, REASON)])
    with connect(proxy, "/close") as conn:
        assert conn.receive(TIMEOUT) is None
        assert (conn.close_code, conn.close_reason) == (4000, REASON)


def test_the_own_page_may_connect(proxy):
    """Host is passed on, so the origin of a page agrees with it; another site's does not."""
    own = f"https://localhost:{proxy.port}"
    with connect(proxy, headers={"Origin": own}) as conn:
        conn.send("x")
        assert conn.receive(TIMEOUT) == "x"
    with pytest.raises(ws.HandshakeError) as caught:
        connect(proxy, headers={"Origin": "https://evil.example"})
    assert caught.value.status == 403


def test_pages_and_what_stays_inside(proxy, pair):
    page = fetch(proxy, "/page")
    assert page.status == 200
    assert page.body == b'{"host":"localhost:%d"}' % proxy.port
    for path in ("/metrics", "/healthz"):
        assert fetch(proxy, path).status == 404


def test_a_server_that_shuts_down(proxy, pair):
    with contextlib.ExitStack() as stack:
        conns = [stack.enter_context(connect(proxy)) for _ in range(4)]
        for conn in conns:
            conn.send("x")
            assert conn.receive(TIMEOUT) == "x"
        pair.servers[0].close()
        closed = pair.ends.copy()
        assert {code for code, _ in closed} <= {1001}
        pair.servers[1].close()
        for conn in conns:
            assert conn.receive(TIMEOUT) is None
            assert conn.close_code == 1001
    until(lambda: len(pair.ends) == 4)


class Visitors:
    """Clients that go on asking for a page, and a socket that is opened anew whenever it ends.

    Attributes:
        pages: How many pages have come.
        lost: The statuses that were no page.
        codes: The codes with which the socket's connections were closed.
    """

    def __init__(self, proxy):
        self._proxy = proxy
        self._over = threading.Event()
        self.pages, self.lost, self.codes = 0, [], []

    def ask(self):
        while not self._over.wait(PAUSE):
            status = fetch(self._proxy, "/page").status
            if status == 200:
                self.pages += 1
            else:
                self.lost.append(status)

    def talk(self):
        while not self._over.is_set():
            with connect(self._proxy) as conn:
                while not self._over.wait(PAUSE):
                    conn.send("x")
                    if conn.receive(TIMEOUT) is None:
                        break
                else:
                    return
                self.codes.append(conn.close_code)

    def leave(self):
        self._over.set()

    def go_on(self):
        """Wait until more pages have come: whatever was amiss a moment ago would show."""
        before = self.pages
        until(lambda: self.pages >= before + 20)


def is_in_use(proxy, name):
    """Whether the proxy sends to a server again; of those that tell."""
    return proxy.name != "haproxy" or proxy.stat(name)["status"] == "UP"


def restart_both(start, tmp_path):
    # The two that check see the end before it comes; nginx asks the other one where one refuses.
    options = [] if start.name == "nginx" else ["drain_timeout=1.5"]
    with (
        Instance(tmp_path, *options) as one,
        Instance(tmp_path, *options) as other,
        start(one, other) as proxy,
    ):
        until(lambda: fetch(proxy, "/page").status == 200)
        visitors = Visitors(proxy)
        with running(visitors.ask, visitors.talk):
            try:
                for instance, name in ((one, "one"), (other, "two")):
                    visitors.go_on()
                    instance.restart()
                    until(lambda name=name: is_in_use(proxy, name))
                visitors.go_on()
            finally:
                visitors.leave()
        print(f"{visitors.pages} pages, lost {visitors.lost}, closed with {visitors.codes}")
        assert visitors.lost == []
        assert visitors.pages >= 60
        assert visitors.codes
        assert set(visitors.codes) == {1001}


def test_a_rolling_restart_loses_no_page(start, tmp_path):
    restart_both(start, tmp_path)


@pytest.mark.parametrize("start", ["nginx"], indirect=True)
def test_a_rolling_restart_of_servers_on_gevent(start, tmp_path, monkeypatch):
    pytest.importorskip("gevent")
    monkeypatch.setenv("SCRIPTLING_WS_ENGINE", "gevent")
    restart_both(start, tmp_path)


def test_one_server_is_enough(start, tmp_path):
    with Instance(tmp_path) as one, Instance(tmp_path) as other, start(one, other) as proxy:
        until(lambda: fetch(proxy, "/page").status == 200)
        one.stop()
        for _ in range(20):
            assert fetch(proxy, "/page").status == 200


# -- the programs' own checks ------------------------------------------------------------


@pytest.mark.parametrize("name", ["haproxy", "caddy"])
def test_the_programs_have_nothing_to_say_against_it(name):
    """nginx -t opens what it names: it has its real start above."""
    path = find(name)
    with directory() as folder:
        certificate = authority().issue_cert("localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        make = {"haproxy": haproxy_text, "caddy": caddy_text}[name]
        text = make("127.0.0.1:1", "127.0.0.1:2").replace("LISTEN", "127.0.0.1:3")
        text = text.replace("OWN_PORT", "3").replace("DIRECTORY", str(folder))
        conf = folder / "conf"
        conf.write_text(text)
        command = {
            "haproxy": [path, "-c", "-f", conf],
            "caddy": [path, "validate", "--adapter", "caddyfile", "--config", conf],
        }[name]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=folder
        )
        assert result.returncode == 0, result.stderr
        assert "[WARNING]" not in result.stderr


def test_nginx_has_nothing_to_say_against_it():
    path = find("nginx")
    with directory() as folder:
        certificate = authority().issue_cert("localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        text = nginx_text("127.0.0.1:1", "127.0.0.1:2").replace("LISTEN", "127.0.0.1:3")
        text = text.replace("DIRECTORY", str(folder))
        conf = folder / "conf"
        conf.write_text(f"pid {folder}/pid;\nevents {{}}\nhttp {{\n{text}}}\n")
        command = [path, "-t", "-e", "stderr", "-p", folder, "-c", conf]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "[warn]" not in result.stderr
    assert "test is successful" in result.stderr


def test_the_caddyfile_is_formatted_as_caddy_does():
    text = DEPLOY / "caddy" / "Caddyfile"
    command = [find("caddy"), "fmt", text]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == text.read_text(encoding="utf-8")
