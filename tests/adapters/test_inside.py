"""The adapters inside of each server, plain and under TLS, with real peers of three kinds."""

import json
import signal
import sys
import threading
import time

import pytest

import foreign
from adapting import HAS_EVENTS, HAS_SOCKET, TIMEOUT, TLS, adapted
from browser import chromium
from heads import UPGRADE
from looped import looped
from pairs import MIB
from processes import Process, python_environment
from programs import runs_once
from servers import read_all, read_until

pytestmark = runs_once

ALL = [*HAS_SOCKET, *HAS_EVENTS]
SIZES = [0, 125, 126, 65_536, MIB]
TRIES = 3
OWN_WAIT = {"hypercorn-worker": 1}  # the server's graceful timeout, before it says anything
CLOSES = [(1000, ""), (3000, "é" * 61), (4999, "r" * 123)]


@pytest.fixture(scope="module", params=[f"{name}{how}" for name in ALL for how in ("", "+tls")])
def server(request, tmp_path_factory):
    name, _, tls = request.param.partition("+")
    folder = tmp_path_factory.mktemp("certificate") if tls else None
    with adapted(name, folder) as running:
        yield running


@pytest.fixture(scope="module")
def node(server):
    """Node's ws as a client, which trusts the server's certificate."""
    if foreign.missing("node-ws"):
        pytest.skip(foreign.missing("node-ws"))
    trust = {"NODE_EXTRA_CA_CERTS": str(server.ca)} if server.tls else {}
    client = foreign.PEERS / "client.mjs"
    with Process("node", client, env=python_environment(**trust)) as process:
        yield process


@pytest.fixture(scope="session")
def browser():
    with chromium() as running:
        yield running


def ended(server):
    """How the last handler of /end saw its connection end."""
    _, code, *reason = server.process.line_with("ended").split(" ", 2)
    return int(code), reason[0] if reason else ""


# -- this package as the client -------------------------------------------------------


def test_messages_of_every_size_come_back(server):
    with server.connect("/echo", binary_type=bytes) as conn:
        for size in SIZES:
            conn.send("x" * size)
            assert conn.receive(TIMEOUT) == "x" * size
            conn.send_binary(bytes(size))
            assert conn.receive(TIMEOUT) == bytes(size)


def test_both_ends_send_at_once(server):
    """1,000 messages in both directions, which nobody waits for."""
    with server.connect("/echo") as conn:
        sender = threading.Thread(target=conn.send_many, args=(map(str, range(1000)),))
        sender.start()
        assert [conn.receive(TIMEOUT) for _ in range(1000)] == [str(n) for n in range(1000)]
        sender.join()


def test_a_handler_gets_lists_of_bytes(server):
    with server.connect("/lists") as conn:
        conn.send_binary([1, 2, 255])
        assert conn.receive(TIMEOUT) == [1, 2, 255, 7]


@looped(("code", "reason"), CLOSES)
def test_the_handler_sees_how_the_client_closes(server, code, reason):
    with server.connect("/end") as conn:
        assert conn.receive(TIMEOUT) == "open"
        conn.close(code, reason)
    # hypercorn does not hand on how the peer has closed.
    known = [(code, reason), (1006, "")] if server.name == "hypercorn" else [(code, reason)]
    assert ended(server) in known


def test_the_client_sees_how_the_handler_closes(server):
    with server.connect("/close") as conn:
        assert conn.receive(TIMEOUT) is None
        assert (conn.close_code, conn.close_reason) == (4000, "bye é")
    with server.connect("/fails") as conn:
        assert conn.receive(TIMEOUT) is None
        assert conn.close_code == 1011


def test_a_client_that_vanishes_is_noticed(server):
    conn = server.connect("/end")
    assert conn.receive(TIMEOUT) == "open"
    conn._abort()
    conn.close()
    assert ended(server)[0] in (1005, 1006)


def test_the_request_is_what_was_sent(server):
    headers = {"Cookie": "a=1; b=2"}
    with server.connect("/about?x=1&y=%20z", headers=headers, subprotocols=["v1"]) as conn:
        about = json.loads(conn.receive(TIMEOUT))
    assert about == {
        "path": "/about",
        "query": {"x": "1", "y": " z"},
        "secure": server.tls,
        "cookie": "a=1; b=2",
        "subprotocol": None,
        "client": "127.0.0.1",
    }


def test_the_preferred_subprotocol_is_chosen(server):
    with server.connect("/echo", subprotocols=["v1", "v2"]) as conn:
        assert conn.subprotocol == "v2"


def test_a_ping_is_sent_or_said_not_to_be(server):
    with server.connect("/ping") as conn:
        answer = conn.receive(TIMEOUT)
    if server.name in HAS_SOCKET:
        assert json.loads(answer) == {"took": True}
    else:
        assert answer.startswith("ASGI does not carry pings: the server sends pings of its own")


@looped(
    ("path", "headers", "status", "text"),
    [
        ("/echo", {"Origin": "https://foreign.example"}, 403, b"this origin may not connect"),
        ("/echo", {"Host": "rebound.example"}, 400, b"does not go by the name"),
    ],
)
def test_who_may_not_come_in_is_refused(server, path, headers, status, text):
    with server.http() as client:
        client.request("GET", path, headers={**UPGRADE, **headers})
        answer = client.getresponse()
        assert (answer.status, text in answer.read()) == (status, True)


def test_what_comes_with_the_upgrade_is_not_lost(server):
    """A frame in the same segment as the head, which a client should not send, but some do."""
    if server.name in HAS_EVENTS:
        pytest.skip("what these servers do with it is theirs: uvicorn loses it")
    rows = {"Host": f"127.0.0.1:{server.port}", **UPGRADE}
    head = "".join(f"{name}: {value}\r\n" for name, value in rows.items())
    with server.dial() as sock:
        sock.sendall(f"GET /echo HTTP/1.1\r\n{head}\r\n".encode() + b"\x81\x85\0\0\0\0hello")
        answer = read_until(sock, b"\x81\x05hello")
        assert answer.startswith(b"HTTP/1.1 101 ")
        sock.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        assert read_all(sock) == b"\x88\x02\x03\xe8"  # and nothing of the server's behind it


def test_pages_are_the_applications(server):
    with server.http() as client:
        client.request("GET", "/echo")  # the path of a WebSocket too
        answer = client.getresponse()
        assert (answer.status, answer.read()[-8:]) == (200, b"the page")


# -- Node's ws, and a browser -------------------------------------------------------------


def test_nodes_ws(server, node):
    for text in (False, True):
        answer = node.ask(do="echo", url=f"{server.url}/echo", text=text, sizes=SIZES, pieces=1)
        assert answer["same"] == SIZES
    assert node.ask(do="close", url=f"{server.url}/echo", code=4001, reason="go")["code"] == 4001
    assert node.ask(do="wait", url=f"{server.url}/close", protocols=[]) == {
        "code": 4000,
        "reason": "bye é",
        "protocol": "",
    }


def test_chromium(server, browser):
    script = """
        const socket = new WebSocket(location.origin.replace("http", "ws") + "/echo", ["v1"]);
        socket.binaryType = "arraybuffer";
        const come = [];
        await new Promise((done) => {
          socket.onopen = () => { socket.send("a€😀"); socket.send(new Uint8Array(1 << 20)); };
          socket.onmessage = ({ data }) => {
            come.push(typeof data === "string" ? data : data.byteLength);
            if (come.length === 2) socket.close(4002, "enough");
          };
          socket.onclose = ({ code, wasClean }) => { come.push(code, wasClean); done(); };
        });
        return [socket.protocol, ...come];
    """
    with browser.tab(f"{server.origin}/") as tab:
        assert tab.run(script) == ["v1", "a€😀", 1 << 20, 4002, True]


# -- the end --------------------------------------------------------------------------------


# hypercorn's workers wait for `asyncio.Server.wait_closed` before their timeout: from 3.12 on
# that waits for the connections themselves. So it is without this package too.
waits_for_its_own_timeout = pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason="hypercorn's workers wait for connections to close by themselves",
)


@pytest.mark.parametrize(
    ("name", "tls"),
    [
        *((name, False) for name in ALL),
        pytest.param("hypercorn-worker", False, marks=waits_for_its_own_timeout),
        *((name, True) for name in ("gthread", "pywsgi")),
    ],
)
def test_sigterm_closes_all_with_1001(name, tls, tmp_path):
    """Within a second: on a busy machine the best of a few times counts."""
    folder = tmp_path if tls else None
    for _ in range(TRIES):
        if seconds_to_the_end(name, folder) < 1 + OWN_WAIT.get(name, 0):
            return
    pytest.fail(f"{name} has not told all of its end within a second, {TRIES} times")


def seconds_to_the_end(name, folder):
    """How long after SIGTERM the last of three connections is closed, with 1001."""
    with adapted(name, folder) as server:
        conns = [server.connect("/until-sigterm-is-heard") for _ in range(3)]
        assert [conn.receive(TIMEOUT) for conn in conns] == ["heard"] * 3
        since = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert [conn.receive(TIMEOUT) for conn in conns] == [None] * 3
        seconds = time.monotonic() - since
        assert [conn.close_code for conn in conns] == [1001] * 3
        for conn in conns:
            conn.close()
        server.process.finish()
    return seconds


assert set(TLS) == set(ALL)
