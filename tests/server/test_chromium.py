"""A real browser: pages and sockets of a server, as a page's script sees them.

`make programs` installs it on a Debian; where it is missing, these tests are skipped by name.
"""

import contextlib
import json
import queue
import re

import pytest

import scriptling_ws as ws
from behind import NGINX_HTTP2, NGINX_HTTP2_HIDING, NGINX_HTTP_HOST, NGINX_TLS, REASON
from browser import REBOUND, chromium
from pairs import MIB, tls_contexts
from programs import nginx, runs_once
from scriptling_ws.runtime import HTTP
from servers import TIMEOUT, echo, serving

pytestmark = pytest.mark.once("Chromium is what it is about; frames, other tests have")

# What every page has: open(path) is an open socket, and next(socket) what comes next of it.
SCRIPT = """
function open(url, protocols = []) {
  const own = location.origin.replace("http", "ws");
  const socket = new WebSocket(url.startsWith("ws") ? url : own + url, protocols);
  socket.binaryType = "arraybuffer";
  socket.come = [];
  socket.wake = () => {};
  const come = (what) => { socket.come.push(what); socket.wake(); };
  socket.onopen = () => come({ open: socket.protocol, extensions: socket.extensions });
  socket.onmessage = ({ data }) => come({ data });
  socket.onclose = ({ code, reason, wasClean }) => come({ code, reason, wasClean });
  return socket;
}
async function next(socket) {
  while (!socket.come.length) await new Promise((wake) => { socket.wake = wake; });
  return socket.come.shift();
}
"""
PAGE = f"<!doctype html><title>a page</title><script>{SCRIPT}</script><p id=text>the page"


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


class Site:
    """A server with a page and sockets, and what its handlers have seen."""

    def __init__(self, **options):
        self.ends = queue.SimpleQueue()
        self.requests = queue.SimpleQueue()
        routes = HTTP()
        routes.get("/", lambda request: HTTP.html(200, PAGE))
        sandbox = {"Content-Security-Policy": "sandbox allow-scripts"}
        routes.get("/sandbox", lambda request: HTTP.html(200, PAGE, sandbox))
        routes.websocket("/echo", self._echo, binary_type=bytes, subprotocols=["v2", "v1"])
        routes.websocket("/close", lambda client: client.close(4000, REASON))
        routes.websocket("/latency", lambda client: client.send({"took": client.ping(TIMEOUT)}))
        self.server = serving(routes=routes, **options)
        scheme = "http" if self.server.url.startswith("ws:") else "https"
        self.origin = f"{scheme}://{self.server.address}"
        self.url = f"{self.origin}/"

    def _echo(self, client):
        self.requests.put(client.request)
        try:
            echo(client)
        finally:
            self.ends.put((client.close_code, client.close_reason))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.server.close()


@pytest.fixture
def own():
    with Site() as running:
        yield running


@pytest.fixture
def tab(browser, own):
    """A tab at the page of `own`."""
    with browser.tab(own.url) as opened:
        yield opened


@runs_once
def test_a_page(tab):
    assert tab.run("return document.title") == "a page"
    assert tab.run("return document.getElementById('text').textContent") == "the page"
    assert tab.run("return (await fetch('/nothing')).status") == 404
    assert tab.run("return await (await fetch('/')).text()") == PAGE


# The page makes its own messages, and compares what comes back.
ECHO = """
const socket = open("/echo");
const opened = await next(socket);
const bytes = Uint8Array.from({ length: MIB }, (_, i) => i % 251);
const same = [];
for (const size of [0, 1, 125, 126, 65535, 65536, MIB]) {
    const text = "é".repeat(size / 2);
    socket.send(text);
    if ((await next(socket)).data === text) same.push(`text ${size}`);
    const sent = bytes.subarray(0, size);
    socket.send(sent);
    const back = new Uint8Array((await next(socket)).data);
    if (back.length === size && back.every((byte, i) => byte === sent[i])) same.push(size);
}
socket.close();
return { same, extensions: opened.extensions, end: await next(socket) };
""".replace("MIB", str(MIB))


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_echo_of_text_and_bytes(browser, compression):
    options = {"compression": compression, "compression_threshold": 0}
    with Site(**options) as site, browser.tab(site.url) as tab:
        answer = tab.run(ECHO)
        sizes = [0, 1, 125, 126, 65_535, 65_536, MIB]
        assert answer["same"] == [what for size in sizes for what in (f"text {size}", size)]
        assert answer["extensions"].startswith("permessage-deflate" if compression else "")
        assert bool(answer["extensions"]) == bool(compression)
        assert answer["end"] == {"code": 1005, "reason": "", "wasClean": True}
        assert site.ends.get(timeout=TIMEOUT) == (1005, "")


@runs_once
def test_the_subprotocol_and_the_origin(own, tab):
    opened = tab.run("return await next(open('/echo?q=é', ['v1', 'v2']))")
    assert opened["open"] == "v2"
    request = own.requests.get(timeout=TIMEOUT)
    assert request.headers["origin"] == own.origin
    assert request.query == {"q": "é"}


@runs_once
def test_a_subprotocol_that_the_server_does_not_have(tab):
    """RFC 6455 section 4.1: the page asked for one, and the browser takes no connection without."""
    came = tab.run("return await next(open('/close', ['v1']))")
    assert came == {"code": 1006, "reason": "", "wasClean": False}


@runs_once
def test_cookies_of_the_page(browser, own):
    # By a host of its own: cookies are the same for all ports of one.
    with browser.tab(f"http://page.localhost:{own.server.port}/") as tab:
        tab.run("document.cookie = 'a=1'; document.cookie = 'b=2'; await next(open('/echo'))")
    assert own.requests.get(timeout=TIMEOUT).headers["cookie"] == "a=1; b=2"


@runs_once
def test_the_page_closes_with_a_code(own, tab):
    script = "const s = open('/echo'); await next(s); s.close(CODE, REASON); return await next(s)"
    came = tab.run(script.replace("CODE", "4001").replace("REASON", f"'{REASON}'"))
    assert came == {"code": 4001, "reason": REASON, "wasClean": True}
    assert own.ends.get(timeout=TIMEOUT) == (4001, REASON)


@runs_once
def test_the_server_closes_with_a_code(tab):
    came = tab.run("const s = open('/close'); await next(s); return await next(s)")
    assert came == {"code": 4000, "reason": REASON, "wasClean": True}


@runs_once
def test_the_server_shuts_down(own, tab):
    tab.run("window.socket = open('/echo'); await next(socket)")
    own.requests.get(timeout=TIMEOUT)
    own.server.close()
    assert own.ends.get(timeout=TIMEOUT)[0] == 1001
    assert tab.run("return (await next(socket)).code") == 1001


@runs_once
def test_a_page_that_is_left(own, tab):
    tab.run("window.socket = open('/echo'); await next(socket)")
    tab.open(own.url)
    assert own.ends.get(timeout=TIMEOUT) == (1001, "")


@runs_once
def test_a_tab_that_is_closed(browser, own):
    with browser.tab(own.url) as tab:
        tab.run("window.socket = open('/echo'); await next(socket)")
    assert own.ends.get(timeout=TIMEOUT)[0] in (1001, 1006)


@runs_once
def test_the_browser_answers_pings(tab):
    answer = tab.run("const s = open('/latency'); await next(s); return (await next(s)).data")
    assert 0 < json.loads(answer)["took"] < TIMEOUT


# -- who may come in -----------------------------------------------------------------


def by_cookie(request):
    """Who has no session gets one with the answer to the upgrade."""
    cookies = request.headers.get("cookie", "")
    request.state.user = cookies
    if "session=" in cookies or request.path != "/echo":
        return None
    return [("Set-Cookie", "session=41; HttpOnly; SameSite=Strict"), ("Set-Cookie", "seen=1")]


@runs_once
def test_cookies_out_of_the_answer_to_an_upgrade(browser):
    script = """
    await next(open("/echo"));
    const seen = document.cookie;
    await next(open("/echo"));
    return seen;
    """
    # A host of its own here too.
    with (
        Site(authorize=by_cookie) as site,
        browser.tab(f"http://cookies.localhost:{site.server.port}/") as tab,
    ):
        assert tab.run(script) == "seen=1"  # the other one is not for scripts
        requests = [site.requests.get(timeout=TIMEOUT) for _ in range(2)]  # as their threads come
        first, request = sorted(requests, key=lambda each: "cookie" in each.headers)
        assert "cookie" not in first.headers
        assert request.headers["cookie"] == "session=41; seen=1" == request.state.user


@runs_once
def test_an_upgrade_that_is_not_authorized(browser):
    def authorize(request):
        return HTTP.text(401, "who?") if request.path == "/echo" else None

    with Site(authorize=authorize) as site, browser.tab(site.url) as tab:
        assert tab.run(TRY.replace("URL", "/echo")) == REFUSED
        assert site.requests.empty()


@runs_once
def test_credentials_of_a_page_are_those_of_its_socket(browser):
    """The browser sends what its user has given to the page, here by the address."""
    with Site(authorize=ws.basic_auth({"ann": "secret"})) as site:
        with browser.tab(site.url.replace("//", "//ann:secret@")) as tab:
            assert tab.run("return document.title") == "a page"
            assert tab.run(TRY.replace("URL", "/echo"))["open"] == ""
        assert site.requests.get(timeout=TIMEOUT).state.user == "ann"


FETCH = """
try {
  const answer = await fetch("URL", OPTIONS);
  return await answer.text();
} catch (error) { return "blocked"; }
"""


def fetched(tab, url, **options):
    return tab.run(FETCH.replace("URL", url).replace("OPTIONS", json.dumps(options)))


@runs_once
def test_scripts_of_other_origins(own, tab):
    """What `cors=` allows, as the browser sees it: preflights, cookies, and what it may read."""
    routes = HTTP()
    routes.get(
        "/set", lambda request: HTTP.text(200, "", {"Set-Cookie": "cross=1"}), cors=[own.origin]
    )
    routes.get("/cookie", lambda request: request.headers.get("cookie", ""), cors=[own.origin])
    routes.put("/named", lambda request: f"put {request.body.decode()}", cors=[own.origin])
    routes.get("/any", lambda request: "any", cors="*")
    routes.get("/none", lambda request: "none")
    changed = []
    routes.post("/form", lambda request: changed.append(1) or "")
    with serving(routes=routes) as server:
        other = f"http://{server.address}"
        headers = {"Content-Type": "application/json", "X-Token": "t"}
        put = {"method": "PUT", "body": "{}", "headers": headers}
        assert fetched(tab, f"{other}/any") == "any"
        assert fetched(tab, f"{other}/none") == "blocked"
        assert fetched(tab, f"{other}/named", **put) == "put {}"
        assert fetched(tab, f"{other}/any", **put) == "blocked"  # no such method
        assert fetched(tab, f"{other}/set", credentials="include") == ""
        assert fetched(tab, f"{other}/cookie", credentials="include").endswith("cross=1")
        assert fetched(tab, f"{other}/any", credentials="include") == "blocked"
        # A form needs no preflight: the page may send it, and the server refuses.
        assert fetched(tab, f"{other}/form", method="POST", body="x", mode="no-cors") == ""
        assert changed == []


# -- origins -----------------------------------------------------------------------

TRY = "return await next(open('URL'))"
REFUSED = {"code": 1006, "reason": "", "wasClean": False}


@runs_once
def test_a_page_of_another_server_is_refused(own, tab, log):
    with Site() as other:
        assert tab.run(TRY.replace("URL", f"{other.server.url}/echo")) == REFUSED
    assert f"origins=['{own.origin}']" in log.wait_for("origin").message


@runs_once
@pytest.mark.parametrize("everything", [False, True], ids=["named", "any"])
def test_a_page_of_another_server_that_is_allowed(own, tab, everything):
    with Site(origins="*" if everything else [own.origin]) as other:
        assert tab.run(TRY.replace("URL", f"{other.server.url}/echo"))["open"] == ""
        assert other.requests.get(timeout=TIMEOUT).headers["origin"] == own.origin


@runs_once
def test_the_same_server_by_another_name_is_another_origin(own, tab):
    assert tab.run(TRY.replace("URL", f"ws://localhost:{own.server.port}/echo")) == REFUSED


@runs_once
def test_a_page_in_a_sandbox_has_the_origin_null(browser, own, log):
    with browser.tab(f"{own.origin}/sandbox") as tab:
        assert tab.run(TRY.replace("URL", f"{own.server.url}/echo")) == REFUSED
        assert "origins=['null']" in log.wait_for("origin").message
        with Site(origins=["null"]) as site:
            assert tab.run(TRY.replace("URL", f"{site.server.url}/echo"))["open"] == ""
            assert site.requests.get(timeout=TIMEOUT).headers["origin"] == "null"


@runs_once
def test_a_page_from_a_file(browser, tmp_path, log):
    """Its origin is null today, and was file:// once: what the log says is what to write."""
    path = tmp_path / "page.html"
    path.write_text(PAGE, encoding="utf-8")
    with browser.tab(path.as_uri()) as tab:
        with Site() as strict:
            assert tab.run(TRY.replace("URL", f"{strict.server.url}/echo")) == REFUSED
        origin = re.search(r"origins=\['(.*)'\]", log.wait_for("origin").message)[1]
        assert origin in ("null", "file://")
        with Site(origins=[origin]) as site:
            assert tab.run(TRY.replace("URL", f"{site.server.url}/echo"))["open"] == ""
            assert site.requests.get(timeout=TIMEOUT).headers["origin"] == origin


# -- what the page's address was, and is now -----------------------------------------


@contextlib.contextmanager
def left_page(browser, host, **options):
    """A tab at the page of a server that is gone, and the port that it has listened on."""
    with Site(**options) as gone, browser.tab(f"http://{host}:{gone.server.port}/") as tab:
        assert tab.run("return document.title") == "a page"
        gone.server.close()
        yield tab, gone.server.port


READ = """
let page = null;
try { page = (await fetch("/")).status; } catch (error) { page = "blocked"; }
return { page, socket: await next(open("/echo")) };
"""


@runs_once
def test_dns_rebinding_reads_nothing_from_a_server_on_the_loopback(browser, log):
    """The page's name leads to this machine now: Origin and Host agree, and are a stranger's."""
    with left_page(browser, REBOUND, allowed_hosts="*") as (tab, port):
        with Site(port=port) as own:
            assert tab.run(READ) == {"page": 400, "socket": REFUSED}
            assert own.requests.empty()
        assert f"allowed_hosts=['{REBOUND}']" in log.wait_for("Host header").message
        with Site(port=port, allowed_hosts=[REBOUND]) as told:  # so it is the name that counts
            came = tab.run(READ)
            assert (came["page"], came["socket"]["open"]) == (200, "")
            assert (
                told.requests.get(timeout=TIMEOUT).headers["origin"] == f"http://{REBOUND}:{port}"
            )


@runs_once
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "app.localhost"])
def test_a_server_on_the_loopback_has_its_own_names(browser, own, host):
    with browser.tab(f"http://{host}:{own.server.port}/") as tab:
        came = tab.run(READ)
        assert (came["page"], came["socket"]["open"]) == (200, "")


@runs_once
def test_a_page_that_came_by_http_may_not_open_a_server_with_tls(browser, log):
    """Anybody between the two may have changed it on its way."""
    with left_page(browser, "localhost") as (tab, port):
        script = TRY.replace("URL", f"wss://localhost:{port}/echo")
        with Site(port=port, ssl_context=tls_contexts()[1]) as own:
            assert tab.run(script) == REFUSED
            assert f"origins=['http://localhost:{port}']" in log.wait_for("origin").message
            with browser.tab(f"https://localhost:{port}/") as secure:
                assert secure.run(script)["open"] == ""
            assert own.requests.get(timeout=TIMEOUT).headers["origin"].startswith("https://")


# -- TLS ---------------------------------------------------------------------------


@runs_once
def test_tls(browser):
    with Site(ssl_context=tls_contexts()[1]) as site, browser.tab(site.url) as tab:
        answer = tab.run(ECHO)
        assert len(answer["same"]) == 14
        assert answer["end"]["code"] == 1005
        assert site.requests.get(timeout=TIMEOUT).headers["origin"] == site.origin


@runs_once
def test_tls_that_ends_at_nginx(browser, own):
    """The page comes through nginx too: where Host has its port, it is the server's own page."""
    with nginx(own.server, NGINX_HTTP_HOST) as proxy, browser.tab(page_of(proxy)) as tab:
        assert tab.run("return document.title") == "a page"
        assert len(tab.run(ECHO)["same"]) == 14
        request = own.requests.get(timeout=TIMEOUT)
        assert request.headers["origin"] == f"https://localhost:{proxy.port}"


@runs_once
def test_tls_that_ends_at_nginx_where_host_has_no_port(browser, own):
    with nginx(own.server, NGINX_TLS) as proxy, browser.tab(page_of(proxy)) as tab:
        assert tab.run(TRY.replace("URL", "/echo")) == REFUSED


@runs_once
def test_http2_at_nginx(browser, own):
    """A socket's path without an upgrade is 426, whose Upgrade header HTTP/2 does not allow."""
    script = """
    const { nextHopProtocol } = performance.getEntriesByType("navigation")[0];
    const { status, headers } = await fetch("/close");
    const socket = (await next(open("/echo"))).open;
    return { nextHopProtocol, status, upgrade: headers.get("upgrade"), socket };
    """
    for configuration, header in ((NGINX_HTTP2, "websocket"), (NGINX_HTTP2_HIDING, None)):
        with nginx(own.server, configuration) as proxy, browser.tab(page_of(proxy)) as tab:
            assert tab.run(script) == {
                "nextHopProtocol": "h2",
                "status": 426,
                "upgrade": header,
                "socket": "",
            }


def page_of(proxy):
    return f"https://localhost:{proxy.port}/"
