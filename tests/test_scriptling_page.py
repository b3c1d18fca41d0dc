"""The scripts of the API page, each run as the page has it, over TLS where it says wss://.

The hosts that the page names lead to a server on the loopback, whose certificate an
authority made for the tests has signed; nothing in the scripts or the library is replaced.
"""

import re
import signal
import socket
import ssl
import sys
import threading
import time
from queue import SimpleQueue

import pytest
import trustme

import scriptling.websocket
import scriptling_page as page
import scriptling_ws as ws
from pairs import authority, until
from processes import Process
from servers import echo

TEXT = page.read()
BLOCKS, PROSE = page.split(TEXT) if TEXT is not None else ({}, "")
HOSTS = sorted(set(re.findall(r"wss://([\w.]+)", TEXT or "")))
DEADLINE = 30

pytestmark = pytest.mark.skipif(TEXT is None, reason=f"the page is not in {page.SEED}")


# -- where the scripts lead --------------------------------------------------


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """The authority is the system's: OpenSSL looks there for whom to trust by default."""
    file = tmp_path / "authority.pem"
    authority().cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))


@pytest.fixture
def serve(monkeypatch):
    """Starts the server to which every wss:// host of the page leads."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*HOSTS).configure_cert(context)
    servers = []
    lookup = socket.getaddrinfo

    def on_loopback(host, port, *args, flags=0, **kwargs):
        if host in HOSTS and port == 443 and not flags & socket.AI_NUMERICHOST:
            host, port = "127.0.0.1", servers[0].port
        return lookup(host, port, *args, flags=flags | socket.AI_NUMERICHOST, **kwargs)

    def start(handler):
        servers.append(ws.Server(handler, port=0, ssl_context=context, allowed_hosts=HOSTS))

    monkeypatch.setattr(socket, "getaddrinfo", on_loopback)
    yield start
    for server in servers:
        server.close()


def run(name, **names):
    """Run a block of the page; what it printed, and its variables."""
    lines = []
    names["print"] = lambda *parts: lines.append(" ".join(map(str, parts)))
    exec(compile(BLOCKS[name].code, name, "exec"), names)
    return lines, names


def run_on(handler, name):
    """Run a block that goes on with an open connection, `conn`, to a server."""
    with (
        ws.Server(handler, port=0) as server,
        scriptling.websocket.connect(server.url) as conn,
    ):
        return run(name, conn=conn, ws=scriptling.websocket)


def sends(*messages):
    """A handler that sends some messages and closes."""

    def handler(client):
        for message in messages:
            client.send_binary(message) if ws.is_binary(message) else client.send(message)

    return handler


def records(count):
    """A handler that takes so many messages, and the queue that it puts them into."""
    messages = SimpleQueue()

    def handler(client):
        for _ in range(count):
            messages.put(client.receive(timeout=DEADLINE))
        client.receive(timeout=DEADLINE)

    return handler, lambda: [messages.get(timeout=DEADLINE) for _ in range(count)]


def silent(client):
    client.receive(timeout=DEADLINE)


# -- what was got out of the page --------------------------------------------


def test_page_blocks_differ_by_white_space_alone():
    for block in BLOCKS.values():
        assert "".join(block.code.split()) == "".join(block.text.split())
        assert [line.strip() for line in block.code.splitlines()] == block.text.splitlines()
        assert block.text in TEXT


def test_page_blocks_are_all_the_code_there_is():
    assert len(BLOCKS) == len(page.BLOCKS) == 17
    for line in PROSE.splitlines():
        assert not re.match(r"(import scriptling|conn = |msg = |def |while |if |for )", line)
    assert PROSE.count("\nExample:\n") == sum(
        before == page.EXAMPLE for _, before, _ in page.BLOCKS
    )


@pytest.mark.parametrize("name", [name for name, _, _ in page.BLOCKS])
def test_page_block_is_python(name):
    compile(BLOCKS[name].code, name, "exec")


# -- the calls, one by one ---------------------------------------------------


def test_page_connect(serve, trusted):
    serve(silent)
    _, names = run("connect")
    with names["conn"] as conn:
        assert conn.connected()
        assert conn.remote_addr.startswith("127.0.0.1:")


def test_page_connect_refuses_a_certificate_of_nobody(serve, monkeypatch, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    serve(silent)
    with pytest.raises(ws.ConnectError, match="certificate") as caught:
        run("connect")
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_page_send():
    handler, received = records(2)
    run_on(handler, "send")
    assert received() == ["Hello, WebSocket!", '{"type":"ping","data":"test"}']


def test_page_send_binary():
    handler, received = records(1)
    run_on(handler, "send_binary")
    assert received() == [[1, 2, 3, 255]]


@pytest.mark.parametrize(("messages", "printed"), [(["hi"], "Received: hi"), ([], "Disconnected!")])
def test_page_receive(messages, printed):
    assert run_on(sends(*messages), "receive")[0] == [printed]


def test_page_connected():
    answers = SimpleQueue()

    def handler(client):
        for message in ("one", "two"):
            client.send(message)
            answers.put(client.receive(timeout=DEADLINE))

    _, names = run_on(handler, "connected")
    assert [answers.get(timeout=DEADLINE) for _ in range(2)] == ["Echo: one", "Echo: two"]
    assert names["conn"].close_code == 1000


def test_page_close():
    codes = SimpleQueue()

    def handler(client):
        assert client.receive(timeout=DEADLINE) is None
        codes.put(client.close_code)

    _, names = run_on(handler, "close")
    assert codes.get(timeout=DEADLINE) == 1000
    assert not names["conn"].connected()


@pytest.mark.parametrize(
    ("name", "message", "printed"),
    [
        ("is_text", "hi", ["Text: hi"]),
        ("is_text", [1, 2, 3], []),
        ("is_binary", [1, 2, 3], ["Binary: 3 bytes"]),
        ("is_binary", "hi", []),
    ],
)
def test_page_message_type(name, message, printed):
    assert run_on(sends(message), name)[0] == printed


# -- the examples ------------------------------------------------------------


def test_page_basic_echo_client(serve, trusted):
    serve(echo)
    assert run("Basic Echo Client")[0] == ["Received: Hello, WebSocket!"]


def test_page_json_messaging(serve, trusted):
    subscriptions = SimpleQueue()

    def handler(client):
        subscriptions.put(client.receive(timeout=DEADLINE))
        client.send({"price": 1})
        client.send("two")

    serve(handler)
    assert run("JSON Messaging")[0] == ['Update: {"price":1}', "Update: two"]
    assert subscriptions.get(timeout=DEADLINE) == '{"action":"subscribe","channel":"updates"}'


def test_page_binary_data(serve, trusted):
    serve(echo)
    printed, names = run("Binary Data")
    assert printed == ["Received 4 bytes"]
    assert names["msg"] == [1, 2, 3, 4]
    assert names["first_byte"] == 1


def test_page_mixed(serve, trusted):
    serve(sends("text", [1, 2, 3], "", [], "more"))
    assert run("Handling Mixed Text and Binary")[0] == [
        "Text message: text",
        "Binary message: 3 bytes",
        "Text message: more",
    ]


def test_page_custom_headers(serve, trusted):
    headers = SimpleQueue()

    def handler(client):
        headers.put(client.request.headers)
        echo(client)

    serve(handler)
    assert run("With Custom Headers")[0] == ["Hello with auth!"]
    seen = headers.get(timeout=DEADLINE)
    assert seen["authorization"] == "Bearer my-token"
    assert seen["x-custom-header"] == "value"
    assert seen["host"] == "api.example.com"


def test_page_error_handling_of_an_answer(serve, trusted):
    serve(echo)
    assert run("Error Handling")[0] == ["Received: Hello"]


def test_page_error_handling_of_a_close(serve, trusted):
    serve(lambda client: client.receive(timeout=DEADLINE))
    assert run("Error Handling")[0] == ["Connection lost"]


def test_page_timeouts(serve, trusted):
    """The two scripts that can wait five seconds for nothing do so at the same time."""

    def silent_until_closed(client):
        for _ in client:
            pass

    serve(silent_until_closed)
    printed = []
    other = threading.Thread(
        target=lambda: printed.append(run_on(silent_until_closed, "receive")[0])
    )
    other.start()
    started = time.monotonic()
    assert run("Error Handling")[0] == ["Timeout - no message received"]
    assert time.monotonic() - started > 4.9
    other.join(DEADLINE)
    assert printed == [[]]  # still connected: nothing to say


# -- the server --------------------------------------------------------------


def test_page_message_type_in_server_handlers():
    _, names = run("message type in server handlers")
    with ws.Server(names["handler"], port=0) as server, ws.connect(server.url) as conn:
        conn.send("hi")
        assert conn.receive(timeout=DEADLINE) == "Echo text: hi"
        conn.send_binary([0, 127, 255])
        assert conn.receive(timeout=DEADLINE) == [0, 127, 255]


@pytest.fixture
def chat(tmp_path):
    """The page's chat server, started as its users start it; its process and URL."""
    for name in ("setup.py", "handlers.py"):
        (tmp_path / name).write_text(BLOCKS[name].code, encoding="utf-8")
    command = ["-m", "scriptling_ws", "--server", ":0", "-L", ".", "setup.py"]
    with Process.python(*command, cwd=tmp_path) as process:
        found = re.search(r"ws://127\.0\.0\.1:\d+", process.line_with("listening"))
        yield process, f"{found[0]}/chat"


class Member:
    """A client of the chat that sits in receive(timeout=60), on a thread of its own."""

    def __init__(self, url):
        self.conn = ws.connect(url)
        assert self.conn.receive(timeout=DEADLINE) == "Welcome to the chat!"
        self.messages = SimpleQueue()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self):
        while (message := self.conn.receive(timeout=60)) is not None:
            self.messages.put(message)

    def sits_in_receive(self):
        frame = sys._current_frames().get(self._thread.ident)
        while frame is not None:
            if frame.f_code is ws.Connection.receive.__code__:
                return True
            frame = frame.f_back
        return False

    def next_messages(self, count):
        return sorted(self.messages.get(timeout=DEADLINE) for _ in range(count))

    def leave(self):
        self.conn.close()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


def test_page_chat(chat):
    process, url = chat
    members = [Member(url) for _ in range(3)]
    try:
        until(lambda: all(member.sits_in_receive() for member in members))
        started = time.monotonic()
        members[0].conn.send("from 0")
        assert [member.next_messages(1) for member in members] == [["from 0"]] * 3
        assert time.monotonic() - started < 10  # not when a receive has timed out
        for number, member in enumerate(members):
            member.conn.send(f"now from {number}")
        expected = ["now from 0", "now from 1", "now from 2"]
        assert [member.next_messages(3) for member in members] == [expected] * 3
        process.send_signal(signal.SIGINT)
        until(lambda: not any(member.conn.connected() for member in members))
        assert [member.conn.close_code for member in members] == [1001] * 3
        assert process.finish()[1] == 0
    finally:
        for member in members:
            member.leave()
