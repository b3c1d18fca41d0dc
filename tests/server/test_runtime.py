"""`runtime.http`, and the names under which scripts import all this."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect

import scriptling.net.websocket as ws_old
import scriptling.runtime as runtime
import scriptling.websocket as ws
import scriptling_ws
from scriptling_ws import runtime as own_runtime
from scriptling_ws._server.routes import Routes
from servers import ask, head, serving


@pytest.fixture
def http():
    """The process's table, empty before and after."""
    runtime.http.clear()
    yield runtime.http
    runtime.http.clear()


def test_the_shims_are_the_package():
    assert runtime.http is own_runtime.http
    for shim in (ws, ws_old):
        assert set(shim.__all__) == set(scriptling_ws.__all__)
        for name in scriptling_ws.__all__:
            assert getattr(shim, name) is getattr(scriptling_ws, name)
    assert {"connect", "is_text", "is_binary"} <= set(ws.__all__)


def test_scriptling_is_a_namespace(tmp_path, monkeypatch):
    # Another distribution may add modules to it.
    (tmp_path / "scriptling").mkdir()
    (tmp_path / "scriptling" / "rt_other.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("scriptling.rt_other").value == 1
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "import scriptling.rt_other, scriptling.websocket, scriptling.runtime"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)
    monkeypatch.delitem(sys.modules, "scriptling.rt_other")


def test_it_is_a_table_of_routes(http):
    assert isinstance(http, Routes)
    assert not http.table()


def test_the_pages_example(http, tmp_path, monkeypatch):
    (tmp_path / "rt_handlers.py").write_text(
        "_clients = []\n"
        "def chat_handler(client):\n"
        "    _clients.append(client)\n"
        "    client.send('Welcome to the chat!')\n"
        "    try:\n"
        "        while client.connected():\n"
        "            msg = client.receive(timeout=60)\n"
        "            if msg:\n"
        "                for c in _clients:\n"
        "                    if c.connected():\n"
        "                        c.send(msg)\n"
        "    finally:\n"
        "        _clients.remove(client)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    http.websocket("/chat", "rt_handlers.chat_handler")
    with (
        serving(routes=http) as server,
        connect(server.url + "/chat") as one,
        connect(server.url + "/chat") as two,
    ):
        for client in (one, two):
            assert client.recv(10) == "Welcome to the chat!"
        one.send("hello")
        assert one.recv(10) == two.recv(10) == "hello"


def test_pages_beside_sockets(http, tmp_path):
    (tmp_path / "style.css").write_text("p {}")

    @http.websocket("/ws")
    def ws_handler(client):
        client.send(client.receive(10))

    @http.get("/html")
    def html(request):
        return http.html(200, f"<p>{request.method}")

    @http.get("/json")
    def json(request):
        return http.json(201, {"query": request.query})

    @http.get("/text")
    def text(request):
        return http.text(202, request.path)

    http.static("/static", tmp_path)
    with serving(routes=http) as server:
        assert ask(server, head("/html")).body == b"<p>GET"
        answer = ask(server, head("/json?a=1"))
        assert (answer.status, answer.body) == (201, b'{"query":{"a":"1"}}')
        answer = ask(server, head("/text"))
        assert (answer.status, answer.body) == (202, b"/text")
        answer = ask(server, head("/static/style.css"))
        assert answer.headers["content-type"] == "text/css; charset=utf-8"
        with connect(server.url + "/ws") as client:
            client.send("echo")
            assert client.recv(10) == "echo"
    assert ws_handler.__name__ == "ws_handler"  # a decorator leaves the function as it was


def test_a_wrong_registration_fails_at_its_line(http):
    for name in ("os.system", "nowhere_at_all.handler", "x"):
        with pytest.raises((ValueError, ImportError)):
            http.websocket("/x", name)
    assert not http.table()


def test_the_namespace_has_no_init():
    package = Path(ws.__file__).parent
    assert not (package / "__init__.py").exists()
    assert not (package / "net" / "__init__.py").exists()
