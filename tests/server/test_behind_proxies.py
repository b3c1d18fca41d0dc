"""nginx and HAProxy in front of a server: what both have to let through, and how it ends.

What only one of the two can do is in test_behind_nginx.py and test_behind_haproxy.py.
"""

from urllib.parse import urljoin

import pytest

import scriptling_ws as ws
from behind import IDLE, OFTEN, PROXIES, REASON, SECOND, Backend, fetch, http_client
from frames import PING, PONG, TEXT
from pairs import MIB, Running, at_least, running
from programs import runs_once
from servers import TIMEOUT, raw_websocket

pytestmark = pytest.mark.processes

SIZES = [0, 1, 125, 126, 65_535, 65_536, MIB]


@pytest.fixture
def backend(tmp_path):
    with Backend(tmp_path) as running:
        yield running


@pytest.fixture(params=PROXIES)
def proxy(request, backend):
    """Each of the two in front of `backend`."""
    start, configuration = PROXIES[request.param]
    with start(backend.server, configuration) as running:
        yield running


# -- pages ---------------------------------------------------------------------


@runs_once
def test_a_page(backend, proxy):
    page = fetch(proxy, "/page?a=1&a=2&b=%C3%A9")
    assert (page.status, page.body) == (200, b"the page")
    assert page.headers["content-type"] == "text/plain; charset=utf-8"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["date"]
    request = backend.requests.get(timeout=TIMEOUT)
    assert (request.target, request.query["b"]) == ("/page?a=1&a=2&b=%C3%A9", "é")


@runs_once
def test_the_head_of_a_page(proxy):
    page = fetch(proxy, "/page", "HEAD")
    assert (page.status, page.body) == (200, b"")
    assert page.headers["content-length"] == "8"


@runs_once
def test_what_is_not_there(proxy):
    page = fetch(proxy, "/nothing")
    assert page.status == 404
    assert page.body == b"404 Not Found: there is nothing at this path\n"


@runs_once
def test_a_method_that_a_page_does_not_have(proxy):
    page = fetch(proxy, "/page", "POST")
    assert page.status == 405
    assert "GET" in page.headers["allow"]


@runs_once
def test_the_options_of_a_page(proxy):
    page = fetch(proxy, "/page", "OPTIONS")
    assert page.status in (200, 204)
    assert "GET" in page.headers["allow"]


@runs_once
def test_a_large_file(backend, proxy):
    page = fetch(proxy, "/files/large")
    assert page.status == 200
    assert page.body == backend.file


@runs_once
def test_a_folder_without_its_slash_leads_back_to_the_proxy(proxy):
    page = fetch(proxy, "/files")
    assert page.status == 307
    own = f"http://127.0.0.1:{proxy.port}"
    assert urljoin(f"{own}/files", page.headers["location"]) == f"{own}/files/"
    assert fetch(proxy, "/files/").body == b"<p>home"


@runs_once
def test_several_pages_over_one_connection_to_the_proxy(proxy):
    with http_client(proxy) as client:
        for path, status in (("/page", 200), ("/nothing", 404), ("/page", 200)):
            assert client(path).status == status


# -- upgrades ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_echo(proxy, kind):
    with ws.connect(f"{proxy.url}/echo", binary_type=bytes) as conn:
        for size in SIZES:
            message = "é" * (size // 2) if kind == "text" else bytes(range(256)) * (size // 256)
            (conn.send if kind == "text" else conn.send_binary)(message)
            assert conn.receive(TIMEOUT) == message


def test_echo_with_compression(proxy):
    message = "a line that comes again and again\n" * 30_000  # a MiB
    options = {"compression": "deflate", "compression_threshold": 0}
    with ws.connect(f"{proxy.url}/deflate", **options) as conn:
        for _ in range(2):
            conn.send(message)
            assert conn.receive(TIMEOUT) == message
        assert conn._link.protocol.inflated == 2 * len(message)


@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("deflate", [None, {}], ids=["plain", "deflate"])
def test_echo_to_other_clients(proxy, peer_client, kind, deflate):
    answer = peer_client.ask(
        do="echo",
        url=f"{proxy.url}/{'deflate' if deflate is not None else 'echo'}",
        text=kind == "text",
        sizes=SIZES,
        pieces=3,
        deflate=deflate,
    )
    assert answer["same"] == SIZES
    assert answer["pongs"] == 3 * len(SIZES)
    assert answer["extensions"].startswith("permessage-deflate" if deflate is not None else "")


@runs_once
def test_the_subprotocol_and_headers_of_an_upgrade(backend, proxy):
    options = {"subprotocols": ["v1", "v2"], "headers": {"Cookie": "a=1", "X-Token": "t"}}
    with ws.connect(f"{proxy.url}/echo?q=1", **options) as conn:
        assert conn.subprotocol == "v2"
        request = backend.requests.get(timeout=TIMEOUT)
    assert (request.target, request.query) == ("/echo?q=1", {"q": "1"})
    assert (request.headers["cookie"], request.headers["x-token"]) == ("a=1", "t")


@runs_once
def test_frames_in_the_segment_of_the_request(proxy):
    """A client may not, but one that does finds its frames neither lost nor mixed up."""
    with raw_websocket(proxy, "/echo") as raw:
        raw.send(TEXT, b"one")
        raw.send(PING, b"two")
        assert [raw.receive(), raw.receive()] == [(TEXT, b"one"), (PONG, b"two")]
        raw.send(8, b"\x03\xe8")
        assert raw.close_code() == 1000


@runs_once
def test_a_refused_upgrade_tells_why(proxy):
    with pytest.raises(ws.HandshakeError) as caught:
        ws.connect(f"{proxy.url}/nothing")
    assert caught.value.status == 404
    assert b"there is nothing at this path" in caught.value.body


@runs_once
def test_a_foreign_origin_is_refused(proxy, log):
    with pytest.raises(ws.HandshakeError) as caught:
        ws.connect(f"{proxy.url}/echo", headers={"Origin": "https://evil.example"})
    assert caught.value.status == 403
    assert "https://evil.example" in log.wait_for("origin").message


# -- the end -------------------------------------------------------------------


@runs_once
def test_the_server_closes_with_a_code(proxy):
    with ws.connect(f"{proxy.url}/close") as conn:
        assert conn.receive(TIMEOUT) is None
        assert (conn.close_code, conn.close_reason) == (4000, REASON)


@runs_once
def test_the_client_closes_with_a_code(backend, proxy):
    with ws.connect(f"{proxy.url}/echo") as conn:
        conn.close(4001, REASON)
        assert (conn.close_code, conn.close_reason) == (4001, REASON)
    assert backend.ends.get(timeout=TIMEOUT) == (4001, REASON)


@runs_once
def test_other_clients_close_and_are_closed(backend, proxy, peer_client):
    answer = peer_client.ask(do="close", url=f"{proxy.url}/echo", code=4001, reason=REASON)
    assert answer == {"code": 4001, "reason": REASON}
    assert backend.ends.get(timeout=TIMEOUT) == (4001, REASON)
    answer = peer_client.ask(do="wait", url=f"{proxy.url}/close", protocols=[])
    assert answer == {"code": 4000, "reason": REASON, "protocol": ""}


@runs_once
def test_a_client_that_breaks_off_is_noticed(backend, proxy, peer_client):
    peer_client.ask(do="drop", url=f"{proxy.url}/echo")
    assert backend.ends.get(timeout=TIMEOUT) == (1006, "")


@runs_once
def test_a_message_that_is_too_large(backend, proxy):
    with ws.connect(f"{proxy.url}/small") as conn:
        conn.send("x" * 1001)
        assert conn.receive(TIMEOUT) is None
        assert conn.close_code == 1009
    assert backend.ends.get(timeout=TIMEOUT)[0] == 1009


@runs_once
def test_the_server_shuts_down(backend, proxy):
    with ws.connect(f"{proxy.url}/echo") as conn:
        conn.send("here")
        assert conn.receive(TIMEOUT) == "here"
        closing = Running(backend.server.close)
        assert conn.receive(TIMEOUT) is None
        assert conn.close_code == 1001
        closing.result()
    assert backend.ends.get(timeout=TIMEOUT)[0] == 1001


@runs_once
def test_a_server_that_is_down(backend, proxy):
    backend.server.close()
    status = {"nginx": 502, "haproxy": 503}[proxy.name]
    with pytest.raises(ws.HandshakeError) as caught:
        ws.connect(f"{proxy.url}/echo")
    assert caught.value.status == status
    assert str(status) in str(caught.value)


# -- idle connections ------------------------------------------------------------


@runs_once
@pytest.mark.parametrize("name", IDLE)
def test_pings_keep_an_idle_connection_and_without_any_it_is_cut(tmp_path, name):
    """A proxy cuts what is idle for a second; the pings of one end, whichever, are enough."""

    def the_server_pings():
        with raw_websocket(proxy, "/pinging") as raw, at_least(2 * SECOND):
            for _ in range(11):
                opcode, payload = raw.receive()
                assert opcode == PING
                raw.send(PONG, payload)
            raw.send(TEXT, b"still here")
            while (received := raw.receive())[0] == PING:
                pass
            assert received == (TEXT, b"still here")

    def the_client_pings():
        with ws.connect(f"{proxy.url}/silent", ping_interval=OFTEN) as conn:
            assert conn.receive(2.5 * SECOND) is None
            conn.send("still here")
            assert conn.receive(TIMEOUT) == "still here"

    def nobody_pings():
        # From before it is there: the proxy may count from earlier than this end.
        with at_least(SECOND / 2), ws.connect(f"{proxy.url}/silent", ping_interval=None) as conn:
            assert conn.receive(TIMEOUT) is None
            assert not conn.connected()
            assert conn.close_code == 1006
            assert backend.ends.get(timeout=TIMEOUT) == (1006, "")

    start, configuration = IDLE[name]
    with (
        Backend(tmp_path) as backend,
        start(backend.server, configuration) as proxy,
        running(the_server_pings, the_client_pings, nobody_pings),
    ):
        pass
