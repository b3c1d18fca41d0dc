"""The pages on moving in, the servers' side: their code and ours serve the same client alike."""

import contextlib

import pytest

import scriptling_ws as ws
from adapting import TIMEOUT, need, serving_command
from moving import BOTH, code
from programs import free_port, runs_once

pytestmark = [
    runs_once,
    pytest.mark.blocks("docs/moving-from-simple-websocket.md"),
    pytest.mark.blocks("docs/moving-from-gevent-websocket.md"),
]

MAIN = "\n\nmain({port})\n"
FLASK = "\n\napp.run(port={port})\n"
WSGI = """

from werkzeug.serving import run_simple

run_simple("127.0.0.1", {port}, application, threaded=True)
"""


@contextlib.contextmanager
def served(tmp_path, program, how, packages=""):
    """A block as a program of its own, once it listens."""
    need(packages)
    port = free_port()
    file = tmp_path / "program.py"
    file.write_text(program + how.format(port=port), encoding="utf-8")
    with serving_command(file.name, [file], port, cwd=tmp_path) as server:
        yield server


@BOTH
def test_a_server(tmp_path, whose):
    program = code("websockets", whose, "def main(port)")
    with served(tmp_path, program, MAIN) as server, server.connect("/") as conn:
        conn.send("hello")
        conn.send_binary([1, 2, 255])
        assert [conn.recv(TIMEOUT), conn.recv(TIMEOUT)] == ["hello", [1, 2, 255]]


@BOTH
def test_flask(tmp_path, whose):
    program = code("flask-sock", whose, "Flask(")
    with served(tmp_path, program, FLASK, "flask") as server, server.connect("/echo/ann") as conn:
        conn.send("hello")
        conn.send("you")
        assert [conn.recv(TIMEOUT), conn.recv(TIMEOUT)] == ["ann: hello", "ann: you"]


@BOTH
def test_another_wsgi_application(tmp_path, whose):
    program = code("simple-websocket", whose, "def application(")
    with served(tmp_path, program, WSGI, "werkzeug") as server, server.connect("/") as conn:
        conn.send("hello")
        assert conn.recv(TIMEOUT) == "hello"


@BOTH
@pytest.mark.parametrize(
    ("library", "how", "path", "lines"),
    [
        ("websockets", MAIN, "/", ["def main(port)"]),
        ("flask-sock", FLASK, "/echo/ann", ["Flask("]),
        ("gevent-websocket", MAIN, "/echo", ["echo: {message}"]),
    ],
)
def test_foreign_origins(tmp_path, library, how, path, lines, whose):
    """Theirs let every page in, ours the own host's."""
    with served(tmp_path, code(library, whose, *lines), how, "flask gevent") as server:
        if whose == "theirs":
            server.connect(path, origin="https://evil.example").close()
            return
        with pytest.raises(ws.HandshakeError) as caught:
            server.connect(path, origin="https://evil.example")
        assert caught.value.status == 403


@BOTH
def test_compression_that_is_offered(tmp_path, whose):
    """Theirs accepts it, ours where it is asked to."""
    with (
        served(tmp_path, code("flask-sock", whose, "Flask("), FLASK, "flask") as server,
        server.connect("/echo/ann", compression="deflate") as conn,
    ):
        agreed = conn.response.headers.get("sec-websocket-extensions", "")
        assert ("permessage-deflate" in agreed) == (whose == "theirs")


@BOTH
def test_a_server_on_gevent(tmp_path, whose):
    program = code("gevent-websocket", whose, "echo: {message}")
    with served(tmp_path, program, MAIN, "gevent") as server, server.connect("/echo") as conn:
        conn.send("hello")
        assert conn.recv(TIMEOUT) == "echo: hello"


@BOTH
def test_a_wsgi_application_on_gevent(tmp_path, whose):
    program = code("gevent-websocket", whose, "def application(")
    with served(tmp_path, program, MAIN, "gevent") as server, server.connect("/") as conn:
        conn.send("hello")
        assert conn.recv(TIMEOUT) == "hello"


@BOTH
def test_to_all_clients(tmp_path, whose):
    program = code("gevent-websocket", whose, "def main(port)", "/chat")
    with served(tmp_path, program, MAIN, "gevent") as server, server.connect("/chat") as one:
        one.send("one is here")
        assert one.recv(TIMEOUT) == "one is here"
        with server.connect("/chat") as two:
            two.send("two is here")
            assert [each.recv(TIMEOUT) for each in (one, two)] == ["two is here"] * 2
