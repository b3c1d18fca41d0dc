"""The examples of docs/json.md run, and do what is said there."""

import json

import pytest

import scriptling_ws as ws
from pairs import SOON
from servers import serving

pytestmark = pytest.mark.once("it is about examples")


@pytest.mark.blocks("docs/json.md#json-at-speed")
def test_following_reads_json_and_shows_what_is_none(blocks, capsys):
    pytest.importorskip("orjson")

    def serve(client):
        client.send(client.recv(SOON))
        client.send("no json")
        client.send_binary('{"text": "é"}'.encode())

    got = []
    with serving(serve) as server:
        blocks[0].run()["follow"](server.url, got.append)
    assert got == [{"subscribe": ["EURUSD"]}, {"text": "é"}]
    assert capsys.readouterr().out == "no JSON: b'no json'\n"


@pytest.mark.blocks("docs/json.md#models")
def test_models_are_read_and_sent(blocks):
    pytest.importorskip("msgspec")
    with blocks[0].run()["server"]() as server, ws.connect(server.url) as conn:
        conn.send({"side": "buy", "price": 1.5})
        assert json.loads(conn.recv(SOON)) == {"side": "buy", "price": 3.0}
        conn.send({"side": "buy"})
        refused = json.loads(conn.recv(SOON))["refused"]
        assert refused == "Object missing required field `price`"
        conn.send_binary(b'{"side": "sell", "price": 2}')
        assert json.loads(conn.recv(SOON)) == {"side": "sell", "price": 4.0}


def test_the_writers_make_null_of_nan():
    orjson, msgspec = pytest.importorskip("orjson"), pytest.importorskip("msgspec")
    value = {"a": float("nan"), "b": float("inf")}
    for dumps in (orjson.dumps, msgspec.json.encode):
        client, server = ws.pair(dumps=dumps)
        client.send(value)
        assert server.recv(SOON) == '{"a":null,"b":null}'
        client._begin_close(1000)
        server.close()
        client.close()
    client, server = ws.pair()
    with pytest.raises(ValueError, match="JSON"):
        client.send(value)
    client._begin_close(1000)
    server.close()
    client.close()
