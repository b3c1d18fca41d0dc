"""The examples, each started as its first comment says, and used."""

import hashlib
import http.client
import json
import re
import signal
from contextlib import contextmanager

import pytest

import scriptling_ws as ws
from looped import looped
from places import REPOSITORY
from processes import Process

pytestmark = pytest.mark.once("the examples do what they say; how, other tests show")

EXAMPLES = REPOSITORY / "examples"
TIMEOUT = 20


@contextmanager
def started(*command):
    """A server from an example; its process and its port."""
    with Process.python(*command, cwd=REPOSITORY) as process:
        yield process, int(re.search(r"ws://[^:]+:(\d+)", process.line_with("ws://"))[1])


def stop(process):
    """End a server as Ctrl-C does."""
    process.send_signal(signal.SIGINT)
    assert process.finish()[1] == 0


def run(*command):
    """Run a client to its end; what it said and its exit status."""
    with Process.python(*command, cwd=REPOSITORY) as process:
        return process.finish()


FILES = [
    path.relative_to(EXAMPLES).as_posix()
    for path in sorted(EXAMPLES.rglob("*"))
    if path.is_file() and path.parent.name != "__pycache__"
]


@looped("path", FILES)
def test_example_says_how_it_is_started(path):
    first = (EXAMPLES / path).read_text(encoding="utf-8").splitlines()[0]
    command = re.search(r"(python|scriptling-ws --server :8080) (examples/\S+)", first)
    assert first.startswith(("# ", "<!-- ", "// ", "/* "))
    assert (REPOSITORY / command[2]).is_file()


def test_the_pictures_that_the_docs_show():
    docs = REPOSITORY / "docs"
    text = (docs / "examples.md").read_text(encoding="utf-8")
    pictures = [docs / name for name in re.findall(r"\((screenshots/\S+)\)", text)]
    assert sorted(pictures) == sorted((docs / "screenshots").iterdir())
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size < 150 * 1024


def test_echo():
    with started("examples/echo/server.py", "127.0.0.1", "0") as (server, port):
        lines, status = run("examples/echo/client.py", "127.0.0.1", port)
        stop(server)
    assert status == 0
    assert lines == [
        f"connected to 127.0.0.1:{port}",
        "text:   Hello, WebSocket!",
        'dict:   {"type":"greeting","words":["hello","world"]}',
        "binary: [1, 2, 3, 255]",
        "nothing: None - connected: True",
        "closed with code 1000",
    ]


# -- chat --------------------------------------------------------------------


@pytest.fixture
def chat():
    command = ["-m", "scriptling_ws", "--server", ":0", "examples/chat/setup.py"]
    with started(*command) as (server, port):
        yield server, port


def join(port, name):
    conn = ws.connect(f"ws://127.0.0.1:{port}/chat")
    conn.send({"name": name})
    return conn


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read()
    finally:
        connection.close()


def received(conn):
    return json.loads(conn.receive(timeout=TIMEOUT))


def test_chat_page(chat):
    server, port = chat
    status, kind, body = get(port, "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert body == (EXAMPLES / "chat/static/index.html").read_bytes()
    assert get(port, "/../handlers.py")[0] == 404
    assert get(port, "/handlers.py")[0] == 404
    stop(server)


def test_chat(chat):
    server, port = chat
    with join(port, "Ann") as ann:
        assert received(ann) == {"event": "joined", "name": "Ann", "members": ["Ann"]}
        with join(port, "Bob") as bob:
            joined = {"event": "joined", "name": "Bob", "members": ["Ann", "Bob"]}
            assert received(ann) == received(bob) == joined
            bob.send({"text": " hello <b> "})
            said = {"event": "said", "name": "Bob", "text": "hello <b>"}
            assert received(ann) == received(bob) == said
        assert received(ann) == {"event": "left", "name": "Bob", "members": ["Ann"]}
        server.send_signal(signal.SIGINT)
        assert ann.receive(timeout=TIMEOUT) is None
        assert ann.close_code == 1001
    assert server.finish()[1] == 0


def test_chat_goes_on_for_who_stays(chat):
    server, port = chat
    with join(port, "Ann") as ann:
        assert received(ann)["event"] == "joined"  # from here on she hears of all others
        for number in range(50):
            with join(port, f"guest {number}"):
                for _ in range(5):
                    ann.send({"text": "still here"})
        events = [received(ann)["event"] for _ in range(50 * (1 + 5 + 1))]
        assert events.count("said") == 250
        assert events.count("left") == 50
    stop(server)


# JSON that a parser takes, or that makes it fail in another way, and that no handler fails by.
NESTED = "[" * 2000
SURROGATE = r"\ud800"
DIGITS = "1" * 4000


NO_NAMES = [
    "",
    "no JSON",
    "[]",
    "5",
    "null",
    '{"name": 1}',
    '{"name": " "}',
    NESTED,
    '{"name": ' + NESTED,
    f'{{"name": "{SURROGATE}"}}',
    f'{{"name": {DIGITS}}}',
]


def test_chat_wants_a_name(chat):
    server, port = chat
    for first in NO_NAMES:
        with ws.connect(f"ws://127.0.0.1:{port}/chat") as conn:
            conn.send(first)
            assert conn.receive(timeout=TIMEOUT) is None, first
            assert conn.close_code == 4000, first
    stop(server)


def test_chat_survives_nonsense(chat):
    server, port = chat
    with join(port, "Ann") as ann:
        assert received(ann)["members"] == ["Ann"]
        with join(port, "Eve") as eve:
            assert received(eve)["members"] == received(ann)["members"] == ["Ann", "Eve"]
            for nonsense in ("no JSON", "[]", '{"text": 5}', '{"text": ""}', NESTED):
                eve.send(nonsense)
            eve.send(f'{{"text": "{SURROGATE}"}}')
            eve.send_binary([1, 2, 3])
            eve.send({"text": "sane again"})
            assert received(eve)["text"] == received(ann)["text"] == "sane again"
            eve.send({"text": "x" * 5000})
            assert eve.receive(timeout=TIMEOUT) is None
            assert eve.close_code == 1009
        assert received(ann) == {"event": "left", "name": "Eve", "members": ["Ann"]}
    stop(server)


# -- feed --------------------------------------------------------------------


def test_feed_and_its_client_connects_again():
    server_command = ("examples/feed/server.py", "127.0.0.1")
    with started(*server_command, "0", "0.01") as (server, port):
        client = Process.python(
            "examples/feed/client.py", "127.0.0.1", port, "ABC", "XYZ", cwd=REPOSITORY
        )
        with client:
            assert client.line() == f"connected to 127.0.0.1:{port}"
            prices = [client.line() for _ in range(6)]
            assert [line.split(":")[0] for line in prices] == ["ABC", "XYZ"] * 3
            assert all(re.fullmatch(r"\w{3}: \d+\.\d\d", line) for line in prices)
            stop(server)
            assert "next try in" in client.line_with("the connection is closed (code 1001")
            assert "next try in" in client.line_with("cannot connect")
            with started(*server_command, str(port), "0.01") as (again, _):
                assert client.line_with("connected") == f"connected to 127.0.0.1:{port}"
                client.line_with("XYZ: ")
                client.send_signal(signal.SIGINT)
                assert client.finish()[1] == 0
                stop(again)


NO_SUBSCRIPTIONS = [
    "",
    "no JSON",
    "[1]",
    '{"action": "subscribe"}',
    '{"action": 1, "symbols": []}',
    '{"action": "subscribe", "symbols": "ABC"}',
    '{"action": "subscribe", "symbols": {"ABC": 1}}',
    '{"action": "subscribe", "symbols": [["ABC"]]}',
    f'{{"action": "subscribe", "symbols": ["{SURROGATE}"]}}',
    NESTED,
]


def test_feed_refuses_what_is_no_subscription():
    with started("examples/feed/server.py", "127.0.0.1", "0") as (server, port):
        for message in NO_SUBSCRIPTIONS:
            with ws.connect(f"ws://127.0.0.1:{port}/") as conn:
                conn.send(message)
                assert conn.receive(timeout=TIMEOUT) is None, message
                assert conn.close_code == 1008, message
        stop(server)


# -- upload ------------------------------------------------------------------


@pytest.fixture(scope="module")
def upload():
    with started("examples/upload/server.py", "127.0.0.1", "0") as (server, port):
        yield server, port
        stop(server)


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 3_000_000])
def test_upload(upload, tmp_path, size):
    server, port = upload
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    lines, status = run("examples/upload/client.py", file, "127.0.0.1", port)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    assert status == 0
    assert lines == [f"file.bin: {size} bytes, SHA-256 {checksum}"]
    assert server.line().startswith(f"'file.bin', {size} bytes")


def test_upload_client_says_when_nobody_listens(tmp_path):
    file = tmp_path / "file.bin"
    file.write_bytes(b"x")
    with started("examples/echo/server.py", "127.0.0.1", "0") as (server, port):
        stop(server)
    lines, status = run("examples/upload/client.py", file, "127.0.0.1", port)
    assert (lines, status) == ([], 1)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["no JSON"], 1008),
        (['{"name": "a"}'], 1008),
        (['{"name": "a", "size": "1"}'], 1008),
        ([NESTED], 1008),
        ([f'{{"name": {NESTED}'], 1008),
        (['{"name": ["a"], "size": 0}'], 1008),
        ([f'{{"name": "{SURROGATE}", "size": 0}}'], 1008),
        (['{"name": "a", "size": -1}'], 1009),
        (['{"name": "a", "size": 1e999}'], 1009),
        (['{"name": "a", "size": 2}', [1, 2, 3]], 1008),
        (['{"name": "a", "size": 2}', "ab"], 1008),
    ],
)
def test_upload_refuses_what_it_was_not_told(upload, messages, code):
    _, port = upload
    with ws.connect(f"ws://127.0.0.1:{port}/") as conn:
        for message in messages:
            conn.send(message) if ws.is_text(message) else conn.send_binary(message)
        assert conn.receive(timeout=TIMEOUT) is None
        assert conn.close_code == code


def test_upload_takes_no_large_announcement_into_memory(upload):
    """It is refused by its first part: the rest of it need not come."""
    _, port = upload

    def parts():
        yield "x" * 5000
        yield ""
        assert conn.receive(timeout=TIMEOUT) is None
        assert conn.close_code == 1008
        yield "y"

    with ws.connect(f"ws://127.0.0.1:{port}/") as conn, pytest.raises(ws.ConnectionClosed):
        conn.send_stream(parts(), text=True, fragment_size=5000)
