"""The scripts of the API page, each run as the page has it, over TLS where it says wss://.

The hosts that the page names lead to a server on the loopback, whose certificate an
authority made for the tests has signed; nothing in the scripts or the library is replaced.
"""

import re
import ssl
import threading
import time
from queue import SimpleQueue

import pytest
import trustme

import scriptling_page as page
import scriptling_ws as ws
import scripts
from looped import looped
from scripts import DEADLINE, records, sends, silent, silent_until_closed
from servers import echo

TEXT = page.read()
BLOCKS, PROSE = page.split(TEXT) if TEXT is not None else ({}, "")
HOSTS = scripts.hosts_of(TEXT or "")

pytestmark = pytest.mark.skipif(TEXT is None, reason=f"the page is not in {page.SEED}")


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """The tests' authority is the system's."""
    scripts.trust(monkeypatch, tmp_path)


@pytest.fixture
def serve(monkeypatch):
    """Starts the server to which every wss:// host of the page leads."""
    with scripts.leading(monkeypatch, HOSTS) as start:
        yield start


def run(name, **names):
    """Run a block of the page; what it printed, and its variables."""
    return scripts.run(BLOCKS[name].code, name, **names)


def run_on(handler, name):
    """Run a block that goes on with an open connection, `conn`, to a server."""
    return scripts.run_on(handler, BLOCKS[name].code, name)


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


@looped("name", [name for name, _, _ in page.BLOCKS])
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
    scripts.trust(monkeypatch, tmp_path, trustme.CA())
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


def test_page_chat(tmp_path):
    files = {name: BLOCKS[name].code for name in ("setup.py", "handlers.py")}
    with scripts.serving_script(tmp_path, files, "/chat") as (process, url):
        scripts.check_chat(process, url, "Welcome to the chat!")
