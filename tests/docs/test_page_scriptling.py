"""The scripts of docs/scriptling.md, each run as the page has it, over TLS where it says wss://.

What the API's own page says is tested with that page's scripts, in test_scriptling_page. That page
is not part of this repository; each test there has its twin here.
"""

import ssl
import time
from queue import SimpleQueue

import pytest
import trustme

import code_blocks
import scriptling_ws as ws
import scripts
from scripts import DEADLINE, records, sends, silent, silent_until_closed
from servers import echo

PAGE = "docs/scriptling.md"
pytestmark = pytest.mark.blocks(PAGE)
HOSTS = scripts.hosts_of(code_blocks.read(PAGE))


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """The tests' authority is the system's."""
    scripts.trust(monkeypatch, tmp_path)


@pytest.fixture
def serve(monkeypatch):
    """Starts the server to which every wss:// host of the page leads."""
    with scripts.leading(monkeypatch, HOSTS) as start:
        yield start


def run(line, **names):
    """Run the block with this text in it; what it printed, and its variables."""
    return scripts.run(code_blocks.find(PAGE, line), line, **names)


def run_on(handler, line):
    """Run a block that goes on with an open connection, `conn`, to a server."""
    return scripts.run_on(handler, code_blocks.find(PAGE, line), line)


def test_every_block_is_tested():
    assert len(code_blocks.python(PAGE)) == 16


# -- the calls, one by one -------------------------------------------------------


def test_connect(serve, trusted):
    serve(silent)
    _, names = run("/live")
    with names["conn"] as conn:
        assert conn.connected()
        assert conn.remote_addr.startswith("127.0.0.1:")


def test_a_certificate_of_nobody_is_refused(serve, monkeypatch, tmp_path):
    scripts.trust(monkeypatch, tmp_path, trustme.CA())
    serve(silent)
    with pytest.raises(ws.ConnectError, match="certificate") as caught:
        run("/live")
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_send():
    handler, received = records(2)
    run_on(handler, 'conn.send("start")')
    assert received() == ["start", '{"sweep":[1,5],"unit":"V"}']


def test_send_binary():
    handler, received = records(1)
    run_on(handler, "0x10, 0, 255")
    assert received() == [[16, 0, 255]]


@pytest.mark.parametrize(
    ("messages", "printed"),
    [
        (["1.5 V"], "reading: 1.5 V"),
        ([""], "reading: "),
        ([[1, 2]], "reading: [1, 2]"),
        ([], "the scope has gone"),
    ],
)
def test_receive(messages, printed):
    assert run_on(sends(*messages), "no reading yet")[0] == [printed]


def test_connected():
    answers = SimpleQueue()

    def handler(client):
        for message in ("up", ""):
            client.send(message)
            answers.put(client.receive(timeout=DEADLINE))

    _, names = run_on(handler, "done: {order}")
    assert [answers.get(timeout=DEADLINE) for _ in range(2)] == ["done: up", "done: "]
    assert names["conn"].close_code == 1000


def test_close():
    codes = SimpleQueue()

    def handler(client):
        assert client.receive(timeout=DEADLINE) is None
        codes.put(client.close_code)

    code = next(each for each in code_blocks.python(PAGE) if each == "conn.close()\n")
    _, names = scripts.run_on(handler, code, "close")
    assert codes.get(timeout=DEADLINE) == 1000
    assert not names["conn"].connected()


@pytest.mark.parametrize(
    ("message", "printed"),
    [("hello", "a text of 5 characters"), ([7, 255, 9], "bytes from 7 to 255")],
)
def test_kinds_of_messages(message, printed):
    assert run_on(sends(message), "characters")[0] == [printed]


# -- the scripts -----------------------------------------------------------------


def test_a_question(serve, trusted):
    serve(echo)
    assert run("/ask")[0] == ["the scope says: what is the voltage?"]


def test_a_subscription(serve, trusted):
    subscriptions = SimpleQueue()

    def handler(client):
        subscriptions.put(client.receive(timeout=DEADLINE))
        client.send({"place": "hall", "degrees": 21})
        client.send({"place": "roof", "degrees": 3})

    serve(handler)
    assert run("/temperatures")[0] == ["hall", "roof"]
    assert subscriptions.get(timeout=DEADLINE) == '{"subscribe":["hall","roof"]}'


def test_bytes(serve, trusted):
    serve(echo)
    printed, names = run("/registers")
    assert printed == ["4 bytes, the last of which is 4"]
    assert names["answer"] == [2, 16, 0, 4]


def test_both_kinds(serve, trusted):
    serve(sends("first", [1, 2, 3], "", [], [255], "last"))
    printed, names = run("/mixed")
    assert printed == ["note: first", "note: ", "note: last", "4 samples"]
    assert names["pieces"] == [1, 2, 3, 255]


def test_credentials(serve, trusted):
    headers = SimpleQueue()

    def handler(client):
        headers.put(client.request.headers)
        echo(client)

    serve(handler)
    assert run("/private")[0] == ["who am I?"]
    seen = headers.get(timeout=DEADLINE)
    assert seen["authorization"] == "Bearer 1234"
    assert seen["x-station"] == "roof"
    assert seen["host"] == "feed.example"


@pytest.mark.parametrize(
    ("handler", "printed"),
    [
        (echo, "result: measure"),
        (lambda client: client.receive(timeout=DEADLINE), "it is gone"),
        (silent_until_closed, "it takes its time"),
    ],
)
def test_a_silence_and_an_end(serve, trusted, handler, printed):
    serve(handler)
    started = time.monotonic()
    assert run("/slow")[0] == [printed]
    if handler is silent_until_closed:
        assert time.monotonic() - started > 0.4


def test_a_silence_is_no_end():
    assert run_on(silent_until_closed, "no reading yet")[0] == ["no reading yet"]


# -- the server ------------------------------------------------------------------


def test_kinds_in_a_handler():
    _, names = run("def mirror(client)")
    with ws.Server(names["mirror"], port=0) as server, ws.connect(server.url) as conn:
        conn.send("hello")
        assert conn.receive(timeout=DEADLINE) == "text: hello"
        conn.send_binary([0, 127, 255])
        assert conn.receive(timeout=DEADLINE) == [255, 127, 0]


def test_the_board(tmp_path):
    files = {name: code_blocks.find(PAGE, f"# {name}") for name in ("setup.py", "board.py")}
    with scripts.serving_script(tmp_path, files, "/board") as (process, url):
        scripts.check_chat(process, url, "you are at the board")
