"""The examples of docs/authorization.md and docs/routes.md let in, refuse, and lead on."""

import base64
import http.client
import sys
from types import SimpleNamespace

import pytest

import scriptling_ws as ws
from scriptling_ws import runtime
from scriptling_ws.runtime import HTTP
from servers import TIMEOUT, echo
from snippets import echoes

pytestmark = pytest.mark.once("it is about examples")


def basic(user, password):
    code = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {code}"}


@pytest.fixture
def app(monkeypatch):
    """Makes the module of a page's user, with these names; the process's table is a new one."""
    monkeypatch.setattr(runtime, "http", HTTP())

    def make(**names):
        monkeypatch.setitem(sys.modules, "app", SimpleNamespace(**names))

    return make


def refused(url, **options):
    """The status of a refusal."""
    with pytest.raises(ws.HandshakeError) as caught:
        ws.connect(url, **options)
    return caught.value.status


@pytest.mark.blocks(
    "docs/authorization.md#what-the-handler-finds", "docs/authorization.md#who-may-come-in"
)
def test_a_function_decides(blocks, world, app):
    greet, decide = blocks

    def find_user(cookie):
        return SimpleNamespace(name="ann") if cookie == "session=anns" else None

    feed = greet.run()["feed"]
    app(find_user=find_user, feed=feed)
    decide.run()
    (server,) = world.servers
    url = f"{server.url}/feed"
    with ws.connect(url, cookies={"session": "anns"}) as conn:
        assert conn.receive_json(TIMEOUT) == {"hello": "ann"}
    assert refused(url) == 401


@pytest.mark.blocks("docs/authorization.md#basic-and-bearer")
def test_passwords_and_tokens(blocks, world):
    database = SimpleNamespace(check=lambda user, password: (user, password) == ("bob", "b"))
    blocks[0].run(ws=ws, handler=echo, database=database)
    of_dict, of_function, of_token = (server.url for server in world.servers)
    for url, good in ((of_dict, basic("ann", "secret")), (of_function, basic("bob", "b"))):
        with ws.connect(url, headers=good) as conn:
            assert echoes(conn)
        assert refused(url, headers=basic("ann", "wrong")) == 401
    for options in ({"headers": {"Authorization": "Bearer t0ken"}}, {}):
        with ws.connect(of_token + ("" if options else "/?access_token=t0ken"), **options) as conn:
            assert echoes(conn)
    assert refused(of_token) == 401


@pytest.mark.blocks("docs/routes.md#routes")
def test_routes_lead_where_they_say(blocks, world, app, tmp_path):
    (tmp_path / "index.html").write_text("the folder's")

    def room(client):
        client.send(client.request.params["name"])

    def said(word):
        return lambda request: {"by": word, **request.params}

    names = {"page": said("page"), "create": said("create"), "document": said("document")}
    app(room=room, fallback=echo, **names)
    blocks[0].run({'"public"': repr(str(tmp_path))})
    (server,) = world.servers
    with ws.connect(f"{server.url}/room/lobby") as conn:
        assert conn.recv(TIMEOUT) == "lobby"
    with ws.connect(f"{server.url}/any/other") as conn:
        assert echoes(conn)
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)

    def fetch(method, path):
        client.request(method, path, body="" if method == "POST" else None)
        return client.getresponse().read()

    assert fetch("GET", "/room/lobby") == b'{"by":"page","name":"lobby"}'
    assert fetch("POST", "/room/lobby") == b'{"by":"create","name":"lobby"}'
    assert fetch("GET", "/docs/a/b") == b'{"by":"document","rest":"a/b"}'
    assert fetch("GET", "/") == b"the folder's"
    client.close()
