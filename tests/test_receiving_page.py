"""The examples of docs/receiving.md run, and do what is said there."""

import re
import threading
from functools import partial

import pytest

import scriptling_ws as ws
from places import REPOSITORY
from servers import serving

pytestmark = pytest.mark.once("it is about examples")

PAGE = (REPOSITORY / "docs" / "receiving.md").read_text(encoding="utf-8")
FOLLOW, FEED, COLLECT, SHOUT = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


class Enough(Exception):
    """Two messages have come."""


def names_of(example):
    names = {}
    exec(example, names)
    return names


def test_following_prints_until_the_close(capsys):
    client, server = ws.pair()
    server.send("one")
    server._begin_close(4000)
    assert names_of(FOLLOW)["follow"](client) == 4000
    assert capsys.readouterr().out == "one\n"
    client.close()
    server.close()


def test_a_feed_subscribes_on_each_connection(monkeypatch):
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
            names_of(FEED)["feed"](server.url, handle)
    assert asked == ['{"subscribe":["EURUSD"]}'] * 2


def test_collecting_from_several():
    got = []

    def serve(client):
        client.send("x")
        client.send("y")

    with serving(serve) as server:
        names_of(COLLECT)["collect"]([server.url] * 3, lambda _, message: got.append(message))
    assert sorted(got) == ["x"] * 3 + ["y"] * 3


def test_testing_a_handler():
    before = threading.active_count()
    names_of(SHOUT)["test_shout"]()
    assert threading.active_count() == before
