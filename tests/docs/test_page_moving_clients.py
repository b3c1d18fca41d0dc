"""The pages on moving in, the clients' side: their code and ours do the same with one server.

Each block of the other library has its counterpart of ours behind it, with the same functions. A
test runs both. Where the page says that a script comes back, the server drops connections.
"""

import contextlib
import io
import re
from collections import Counter
from functools import partial

import pytest

import scriptling_ws as ws
from moving import BOTH, code, function
from pairs import until
from places import REPOSITORY
from processes import Process
from proxy import Proxy
from servers import echo, serving

pytestmark = [
    pytest.mark.once("it is about the pages' code; what the codec does, other tests show"),
    pytest.mark.blocks("docs/moving-from-websocket-client.md", "docs/moving-from-websockets.md"),
    pytest.mark.blocks("docs/moving-from-simple-websocket.md"),
]

TIMEOUT = 20

LIBRARIES = pytest.mark.parametrize(
    "library", ["websocket-client", "websockets", "simple-websocket"]
)


@LIBRARIES
@BOTH
def test_a_request_and_its_answer(library, whose):
    def price(client):
        assert client.request.headers["x-key"] == "abc"
        assert client.receive(TIMEOUT) == '{"subscribe":"ABC"}'
        client.send("17.5")
        client.receive(TIMEOUT)

    with serving(price) as server:
        assert function(library, whose, "first_price")(f"{server.url}/") == "17.5"


@LIBRARIES
@BOTH
def test_silence_and_the_end(library, whose):
    """A peer that says nothing is asked, and how it ends is told."""

    def quiet(client):
        assert client.receive(TIMEOUT) == "are you there?"
        client.send("yes")
        client.close(4001, "enough")

    heard = []
    with serving(quiet) as server:
        code = function(library, whose, "follow")(f"{server.url}/", heard.append)
    assert heard == ["yes"]
    # websocket-client does not tell it.
    assert code == (None if (library, whose) == ("websocket-client", "theirs") else 4001)


@BOTH
def test_binary_messages(whose):
    def twice(client):
        client.send_binary(client.receive(TIMEOUT) * 2)
        client.receive(TIMEOUT)

    with serving(twice) as server:
        assert (
            function("websocket-client", whose, "double")(f"{server.url}/", b"\0ab") == b"\0ab\0ab"
        )


@BOTH
def test_websockets_stays_connected(whose, monkeypatch):
    """A server that drops every third connection."""
    count = iter(range(1, 100))

    def fickle(client):
        assert client.receive(TIMEOUT) == "subscribe"
        number = next(count)
        if number % 3:
            client.send(f"price {number}")
        else:
            client._abort()

    heard = []

    def handle(message):
        heard.append(message)
        if len(heard) == 4:
            raise EOFError

    feed = function("websockets", whose, "feed")
    module = feed.__globals__
    if whose == "theirs":
        module["reconnect"] = partial(module["reconnect"], reconnect_delays=lambda: iter([0] * 99))
    else:
        module["ws"] = FirstDelay
    with serving(fickle) as server, pytest.raises(EOFError):
        feed(f"{server.url}/", handle)
    assert heard == ["price 1", "price 2", "price 4", "price 5"]


class FirstDelay:
    """This package, with no waits between connections."""

    ConnectionClosed, SendTimeout = ws.ConnectionClosed, ws.SendTimeout
    reconnecting = staticmethod(partial(ws.reconnecting, first_delay=0))


@BOTH
def test_a_file_with_progress(whose, capsys):
    data = bytes(range(256)) * 1023

    def take(client):
        message = client.receive(TIMEOUT)
        client.send(f"{len(message)} {bytes(message) == data}")
        client.receive(TIMEOUT)

    upload = function("websockets", whose, "upload")
    size = [len(data)] if whose == "theirs" else []
    with serving(take) as server:
        assert upload(f"{server.url}/", io.BytesIO(data), *size) == f"{len(data)} True"
    assert capsys.readouterr().err.split() == ["25%", "50%", "75%", "100%"]


# -- the scripts that moved in ---------------------------------------------------


@contextlib.contextmanager
def example(*command):
    """A server of the examples behind a proxy that drops connections."""
    with Process.python(*command, cwd=REPOSITORY) as process:
        port = int(re.search(r"ws://[^:]+:(\d+)", process.line_with("ws://"))[1])
        with Proxy(port) as proxy:
            yield proxy


def script(library, whose, tmp_path, example, *lines):
    """The file of a script: out of the page, or ours out of the examples."""
    if whose == "ours":
        return REPOSITORY / "examples" / example
    file = tmp_path / "script.py"
    if whose == "theirs":
        file.write_text(code(library, "theirs", *lines), encoding="utf-8")
    return file


@pytest.mark.parametrize("whose", ["theirs", "page", "ours"])
def test_a_market_feed_subscribes_again_when_it_was_cut_off(whose, tmp_path):
    file = script("websocket-client", whose, tmp_path, "feed/client.py", "SYMBOLS")
    if whose == "page":
        feed = code("websocket-client", "ours", "def feed(")
        file.write_text(f"{feed}\nimport sys\nfeed(sys.argv[1], sys.argv[2:])\n", encoding="utf-8")
    with example("examples/feed/server.py", "127.0.0.1", "0", "0.01") as proxy:
        where = ["127.0.0.1", proxy.port] if whose == "ours" else [f"ws://127.0.0.1:{proxy.port}/"]
        with Process.python(file, *where, "ABC", "XYZ") as client:
            for _ in range(2):
                proxy.down.after(2000, "rst")  # of some fifty prices
                until(lambda: proxy.down.left == 0)
                proxy.down.release()
                prices = Counter()
                while len(prices) < 2 or min(prices.values()) < 60:
                    price = re.fullmatch(r"(ABC|XYZ): \d+\.\d\d", client.line())
                    prices.update(price.groups() if price else ())


@pytest.mark.parametrize("whose", ["theirs", "page", "ours"])
def test_an_echo_tool_asks_again_for_what_was_lost(whose, tmp_path):
    file = script("simple-websocket", whose, tmp_path, "echo/tool.py", "sys.stdin")
    if whose == "page":
        file.write_text(code("simple-websocket", "ours", "sys.stdin"), encoding="utf-8")
    count = iter(range(1, 100))

    def fickle(client):
        """Every third message ends its connection, before its answer."""
        for message in client:
            if next(count) % 3 == 0:
                client._abort()
                return
            client.send(f"echo {message}")

    with serving(fickle) as server, Process.python(file, f"{server.url}/") as tool:
        for number in range(8):
            tool.tell(f"line {number}")
            assert tool.line() == f"echo line {number}"
        tool.end_input()
        assert tool.finish()[1] == 0


def test_the_echo_tool_says_when_nobody_listens():
    with serving(echo) as server:
        url = server.url
    with Process.python("examples/echo/tool.py", url, cwd=REPOSITORY) as tool:
        tool.tell("hello")
        assert tool.finish() == ([], 1)


def test_an_upload_begins_again_when_it_was_cut_off(tmp_path):
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(range(256)) * 12_000)
    with example("examples/upload/server.py", "127.0.0.1", "0") as proxy:
        proxy.up.after(1_000_000, "rst")
        with Process.python(
            "examples/upload/client.py", file, "127.0.0.1", proxy.port, cwd=REPOSITORY
        ) as client:
            until(lambda: proxy.up.left == 0)  # a third has passed, and it was cut
            proxy.up.release()
            lines, status = client.finish()
    assert status == 0
    assert re.fullmatch(r"file.bin: 3072000 bytes, SHA-256 [0-9a-f]{64}", lines[0])
