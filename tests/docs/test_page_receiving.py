"""The examples of docs/receiving.md run, and do what is said there."""

import threading
from functools import partial

import pytest

import scriptling_ws as ws
from servers import serving

pytestmark = pytest.mark.once("it is about examples")


class Enough(Exception):
    """Two messages have come."""


@pytest.mark.blocks("docs/receiving.md#nones-or-exceptions")
def test_following_prints_until_the_close(blocks, capsys):
    client, server = ws.pair()
    server.send("one")
    server._begin_close(4000)
    assert blocks[0].run()["follow"](client) == 4000
    assert capsys.readouterr().out == "one\n"
    client.close()
    server.close()


@pytest.mark.blocks("docs/receiving.md#staying-connected")
def test_a_feed_subscribes_on_each_connection(blocks, monkeypatch):
    asked = []

    def handle(message):
        asked.append(message)
        if len(asked) == 2:
            raise Enough

    def serve(client):
        client.send(client.receive(10))

    with serving(serve) as server:
        monkeypatch.setattr(ws, "reconnecting", partial(ws.reconnecting, first_delay=0))
        with pytest.raises(Enough):
            blocks[0].run()["feed"](server.url, handle)
    assert asked == ['{"subscribe":["EURUSD"]}'] * 2


@pytest.mark.blocks("docs/receiving.md#many-connections-one-thread")
def test_collecting_from_several(blocks):
    got = []

    def serve(client):
        client.send("x")
        client.send("y")

    with serving(serve) as server:
        blocks[0].run()["collect"]([server.url] * 3, lambda _, message: got.append(message))
    assert sorted(got) == ["x"] * 3 + ["y"] * 3


@pytest.mark.blocks("docs/receiving.md#testing-a-handler-without-a-port")
def test_testing_a_handler(blocks):
    before = threading.active_count()
    blocks[0].run()["test_shout"]()
    assert threading.active_count() == before
