"""Real peers in both roles: Node's ws and Python's websockets, each in a process of its own."""

import contextlib
import json
import queue
from urllib.parse import urlencode

import pytest

import scriptling_ws as ws
from scriptling_ws.runtime import HTTP

SIZES = [0, 1, 125, 126, 65_535, 65_536, 16 * 1024 * 1024 - 1]
SMALL = SIZES[:-1]
TIMEOUT = 30
CLOSES = [(1000, ""), (1001, "going"), (1011, "oh no"), (3000, "é" * 61), (4999, "r" * 123)]

every_close = pytest.mark.parametrize(
    ("code", "reason"), CLOSES, ids=[str(code) for code, _ in CLOSES]
)


class PeerServer:
    """A peer's process that is a server. It reports every connection's end by an id."""

    def __init__(self, process):
        self._process = process
        self._port = process.report()["port"]
        self._id = "0"

    def connect(self, path, query=None, **options):
        """A connection of ours to it."""
        self._id = str(int(self._id) + 1)
        fields = urlencode({"id": self._id, **(query or {})})
        return ws.connect(f"ws://127.0.0.1:{self._port}{path}?{fields}", **options)

    def end(self):
        """How the last connection ended, as it saw it: code and reason."""
        while (report := self._process.report())["id"] != self._id:
            pass
        return report["code"], report["reason"]


@pytest.fixture(scope="module")
def peer_server(peer):
    with peer("server") as process:
        yield PeerServer(process)


def binary(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def text(size):
    """Text of so many bytes, with characters of one to four."""
    return "aé€😀" * (size // 10) + "x" * (size % 10)


# -- our client, the peer's server -------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_client_echo_of_text(peer_server, size):
    message = text(size)
    with peer_server.connect("/echo") as conn:
        conn.send(message)
        assert conn.receive(TIMEOUT) == message
    assert peer_server.end() == (1000, "")


@pytest.mark.parametrize("size", SIZES)
def test_client_echo_of_bytes(peer_server, size):
    message = binary(size)
    with peer_server.connect("/echo", binary_type=bytes) as conn:
        conn.send_binary(message)
        assert conn.receive(TIMEOUT) == message
    assert peer_server.end() == (1000, "")


@pytest.mark.parametrize("size", SIZES)
def test_client_echo_of_lists(peer_server, size):
    message = list(binary(size))
    with peer_server.connect("/echo") as conn:
        conn.send_binary(message)
        assert conn.receive(TIMEOUT) == message
    assert peer_server.end() == (1000, "")


def test_client_sends_all_sizes_before_it_receives(peer_server):
    messages = [text(size) for size in SMALL] + [list(binary(size)) for size in SMALL]
    with peer_server.connect("/echo") as conn:
        for message in messages:
            conn.send(message) if ws.is_text(message) else conn.send_binary(message)
        assert [conn.receive(TIMEOUT) for _ in messages] == messages


@pytest.mark.parametrize("size", SIZES)
def test_client_receives_fragments_with_pings_between(peer_server, size):
    with peer_server.connect("/pieces", binary_type=bytes) as conn:
        conn.send(text(size))
        conn.send_binary(binary(size))
        assert conn.receive(TIMEOUT) == text(size)
        assert conn.receive(TIMEOUT) == binary(size)
    assert peer_server.end()[0] == 1000


@pytest.mark.parametrize("payload", ["", "a ping", "p" * 125])
def test_client_answers_pings_while_it_receives(peer_server, payload):
    with peer_server.connect("/ping") as conn:
        conn.send(payload)
        assert conn.receive(TIMEOUT) == payload


@every_close
def test_client_closes_with_a_code(peer_server, code, reason):
    conn = peer_server.connect("/echo")
    conn.close(code, reason)
    assert (conn.close_code, conn.close_reason) == (code, reason)
    assert not conn.connected()
    assert peer_server.end() == (code, reason)


@every_close
def test_client_is_closed_with_a_code(peer_server, code, reason):
    with peer_server.connect("/close", {"code": code, "reason": reason}) as conn:
        conn.send("close me")
        assert conn.receive(TIMEOUT) is None
        assert not conn.connected()
        assert (conn.close_code, conn.close_reason) == (code, reason)
        with pytest.raises(ws.ConnectionClosed) as caught:
            conn.send("too late")
        assert (caught.value.code, caught.value.reason) == (code, reason)
    assert peer_server.end() == (code, reason)


@pytest.mark.parametrize("peer", ["node-ws"], indirect=True)  # websockets always sends a code
def test_client_is_closed_without_a_code(peer_server):
    with peer_server.connect("/close") as conn:
        conn.send("close me")
        assert conn.receive(TIMEOUT) is None
        assert (conn.close_code, conn.close_reason) == (1005, "")
    assert peer_server.end() == (1005, "")


def test_client_notices_that_the_server_broke_off(peer_server):
    with peer_server.connect("/drop") as conn:
        conn.send("drop me")
        assert conn.receive(TIMEOUT) is None
        assert not conn.connected()
        assert (conn.close_code, conn.close_reason) == (1006, "")
    assert peer_server.end()[0] == 1006


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [([], None), (["chat.v2"], "chat.v2"), (["chat.v3", "chat.v2"], "chat.v2"), (["x"], None)],
)
def test_client_subprotocol(peer_server, offered, chosen):
    with peer_server.connect("/echo", subprotocols=offered) as conn:
        assert conn.subprotocol == chosen


# -- our server, the peer's client -------------------------------------------


@pytest.fixture
def ends():
    """How the connections of `server` have ended: (code, reason), as their handlers saw it."""
    return queue.SimpleQueue()


@pytest.fixture
def server(ends):
    """A server of ours, with a handler for each thing that a peer's client tries."""

    def echo(client):
        for message in client:
            client.send(message) if ws.is_text(message) else client.send_binary(message)
        ends.put((client.close_code, client.close_reason))

    def close(client):
        query = client.request.query
        client.close(int(query["code"]), query["reason"])

    def leave(client):
        pass

    routes = HTTP()
    routes.websocket("/echo", echo, binary_type=bytes)
    routes.websocket("/echo-lists", echo)
    routes.websocket("/close", close)
    routes.websocket("/leave", leave, subprotocols=["chat.v2", "chat.v1"])
    with ws.Server(routes=routes, port=0) as running:
        yield running


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_server_echo(server, ends, peer_client, kind):
    answer = peer_client.ask(
        do="echo", url=f"{server.url}/echo", text=kind == "text", sizes=SIZES, pieces=1
    )
    assert answer["same"] == SIZES
    assert ends.get(timeout=TIMEOUT)[0] in (1000, 1005)


def test_server_echo_of_lists(server, peer_client):
    answer = peer_client.ask(
        do="echo", url=f"{server.url}/echo-lists", text=False, sizes=SIZES, pieces=1
    )
    assert answer["same"] == SIZES


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_server_receives_fragments_with_pings_between(server, peer_client, kind):
    # The cuts go through the characters of the text.
    answer = peer_client.ask(
        do="echo", url=f"{server.url}/echo", text=kind == "text", sizes=SIZES, pieces=5
    )
    assert answer == {"same": SIZES, "pongs": 5 * len(SIZES), "extensions": ""}


@every_close
def test_server_is_closed_with_a_code(server, ends, peer_client, code, reason):
    answer = peer_client.ask(do="close", url=f"{server.url}/echo", code=code, reason=reason)
    assert answer == {"code": code, "reason": reason}
    assert ends.get(timeout=TIMEOUT) == (code, reason)


def test_server_notices_that_the_client_broke_off(server, ends, peer_client):
    peer_client.ask(do="drop", url=f"{server.url}/echo")
    assert ends.get(timeout=TIMEOUT) == (1006, "")


@every_close
def test_server_closes_with_a_code(server, peer_client, code, reason):
    query = urlencode({"code": code, "reason": reason})
    answer = peer_client.ask(do="wait", url=f"{server.url}/close?{query}", protocols=[])
    assert answer == {"code": code, "reason": reason, "protocol": ""}


def test_server_closes_with_1000_when_the_handler_returns(server, peer_client):
    answer = peer_client.ask(do="wait", url=f"{server.url}/leave", protocols=[])
    assert answer == {"code": 1000, "reason": "", "protocol": ""}


def test_server_chooses_the_subprotocol(server, peer_client):
    answer = peer_client.ask(do="wait", url=f"{server.url}/leave", protocols=["chat.v1", "chat.v2"])
    assert answer["protocol"] == "chat.v2"


# -- messages in parts ----------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"compression": "deflate"}], ids=["plain", "deflate"])
def test_client_streams_both_ways(peer, options):
    with peer("server", *([json.dumps({})] if options else [])) as process:
        server = PeerServer(process)
        for path in ("/echo", "/pieces"):
            stream_both_ways(server.connect(path, binary_type=bytes, **options))


def stream_both_ways(conn):
    data = binary(3_000_000)
    with conn:
        conn.send_stream([data[:1000], data[1000:]], fragment_size=50_000)
        with conn.receive_stream(TIMEOUT) as stream:
            assert b"".join(stream) == data
        conn.send_stream(text(100_000), text=True, fragment_size=999)
        with conn.receive_stream(TIMEOUT) as stream:
            assert stream.text
            assert stream.read(7) == text(100_000)[:7]  # the rest is not wanted
        conn.send_binary(data)
        buffer = bytearray(len(data))
        assert conn.receive_into(buffer, TIMEOUT) == len(data)
        assert buffer == data


@pytest.mark.parametrize("pieces", [1, 5])
def test_server_streams_both_ways(peer_client, pieces):
    def echo(client):
        with contextlib.suppress(ws.ConnectionClosed):
            while True:
                with client.receive_stream(TIMEOUT) as stream:
                    client.send_stream(stream, text=stream.text, fragment_size=10_000)

    with ws.Server(echo, port=0) as server:
        for kind in (True, False):
            peer_client.ask(do="echo", url=server.url, text=kind, sizes=SMALL, pieces=pieces)


# -- compression ---------------------------------------------------------------

# The parameters that the peer wants, those that we want, and what both agree on.
DEFLATE = [
    ({}, {}, ""),
    (
        {"server_no_context_takeover": True},
        {"client_no_context_takeover": True},
        "server_no_context_takeover; client_no_context_takeover",
    ),
    (
        {"server_max_window_bits": 10, "client_max_window_bits": 9},
        {},
        "server_max_window_bits=10; client_max_window_bits=9",
    ),
    (
        {},
        {
            "server_no_context_takeover": True,
            "server_max_window_bits": 9,
            "client_max_window_bits": 11,
        },
        "server_no_context_takeover; server_max_window_bits=9; client_max_window_bits=11",
    ),
]
OURS = {"compression": "deflate", "compression_threshold": 0, "binary_type": bytes}

deflate = pytest.mark.parametrize(("theirs", "ours", "agreed"), DEFLATE, ids=range(len(DEFLATE)))


def parameters(header):
    """The parameters in a header, but for those that say what holds anyway."""
    given = {part.strip() for part in header.split(";")}
    return given - {
        "",
        "permessage-deflate",
        "client_max_window_bits=15",
        "server_max_window_bits=15",
    }


def terms(conn):
    """What a client of ours does, as the header would say it."""
    compressor, decompressor = (
        conn._encoder._compressor,
        conn._link.protocol._arriving._inflation._decompressor,
    )
    parts = [
        "client_no_context_takeover" * (not compressor._takeover),
        "server_no_context_takeover" * (not decompressor._takeover),
        f"client_max_window_bits={compressor._bits}",
        f"server_max_window_bits={decompressor._bits}",
    ]
    return "; ".join(parts)


@deflate
def test_client_with_compression(peer, theirs, ours, agreed):
    messages = [message for size in SMALL for message in (text(size), binary(size))]
    with peer("server", json.dumps(theirs)) as process:
        server = PeerServer(process)
        for path in ("/echo", "/pieces"):
            with server.connect(path, **OURS, **ours) as conn:
                for message in messages:
                    (conn.send if ws.is_text(message) else conn.send_binary)(message)
                    assert conn.receive(TIMEOUT) == message
                assert conn._link.protocol.inflated == 2 * sum(SMALL)
                assert parameters(terms(conn)) == parameters(agreed)
            assert server.end()[0] == 1000


@deflate
@pytest.mark.parametrize("pieces", [1, 5])
def test_server_with_compression(peer_client, theirs, ours, agreed, pieces):
    inflated = []

    def echo(client):
        for message in client:
            client.send(message) if ws.is_text(message) else client.send_binary(message)
        inflated.append(client._link.protocol.inflated)

    with ws.Server(echo, port=0, **OURS, **ours) as server:
        for kind in (True, False):
            answer = peer_client.ask(
                do="echo", url=server.url, text=kind, sizes=SMALL, pieces=pieces, deflate=theirs
            )
            assert answer["same"] == SMALL
            assert parameters(answer["extensions"]) == parameters(agreed)
    assert inflated == [sum(SMALL)] * 2
