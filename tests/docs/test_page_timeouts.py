"""The examples of docs/timeouts.md, docs/tuning.md and docs/many-connections.md."""

import time

import pytest

import scriptling_ws as ws
from pairs import running, until
from servers import TIMEOUT, echo, serving

pytestmark = pytest.mark.once("it is about examples")


@pytest.mark.blocks("docs/timeouts.md#a-timeout-loses-nothing")
def test_a_loop_that_polls(blocks, capsys):
    polled = []
    near, far = ws.pair()
    with near, far:

        def poll():
            polled.append(1)
            if len(polled) == 1:
                far.send("one")
            if len(polled) == 3:
                far._begin_close(1000)

        blocks[0].run()["follow"](near, poll)
    assert capsys.readouterr().out == "one\n"
    assert len(polled) >= 3


def test_a_ping_that_times_out_and_one_on_a_closed_connection():
    near, far = ws.pair()
    with near, far:
        assert near.ping(0) is None
        assert (near.connected(), near.close_code) == (True, None)
        far.send("left")
        far._begin_close(4000)
        until(lambda: near.ping(TIMEOUT) is None)
        assert (near.connected(), near.close_code) == (True, 4000)
        assert near.receive(0) == "left"
        assert near.connected() is False


@pytest.mark.blocks("docs/timeouts.md#one-budget-for-a-question-and-its-answer")
def test_a_question_and_its_answer(blocks):
    ask = blocks[0].run()["ask"]

    def answer(client):
        for message in client:
            if message != "silence":
                client.send(f"{message}: yes")

    with serving(answer) as server, ws.connect(server.url) as conn:
        assert ask(conn, "ready?") == "ready?: yes"
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(conn, "silence", seconds=0.2)
        assert 0.2 <= time.monotonic() - start < TIMEOUT
        server.close()
        with pytest.raises(ConnectionError):
            ask(conn, "ready?")


@pytest.mark.blocks("docs/timeouts.md#a-peer-that-says-nothing")
def test_a_feed(blocks, world, capsys):
    def feed(client):
        client.send("one")
        client.send("two")

    with serving(feed) as server:
        blocks[0].run(ws=ws, url=server.url)
    assert capsys.readouterr().out == "one\ntwo\n"


class Source:
    """Calls those that have subscribed."""

    def __init__(self):
        self.callbacks = []
        self.subscribe = self.callbacks.append
        self.unsubscribe = self.callbacks.remove


@pytest.mark.blocks("docs/timeouts.md#ending-a-wait-from-elsewhere")
def test_a_handler_that_waits_on_a_queue(blocks):
    push, source = blocks[0].run()["push"], Source()
    with serving(lambda client: push(client, source)) as server:
        with ws.connect(server.url) as conn:
            until(lambda: source.callbacks)
            source.callbacks[0]("an item")
            assert conn.recv(TIMEOUT) == "an item"
        until(lambda: not source.callbacks)
    near, far = ws.pair()
    with near, far:
        far.close()
        source.subscribe = lambda put: (source.callbacks.append(put), put("too late"))
        with pytest.raises(ws.ConnectionClosed):
            push(far, source)
    assert not source.callbacks


@pytest.mark.blocks("docs/tuning.md#bytes-not-lists")
def test_bytes(blocks, world):
    with serving(echo) as server:
        conn = blocks[0].run(ws=ws, url=server.url)["conn"]
        conn.send_binary(b"\1\2")
        assert conn.recv(TIMEOUT) == b"\1\2"


@pytest.mark.blocks("docs/tuning.md#many-messages-at-a-time")
def test_batches(blocks, capsys):
    near, far = ws.pair()
    with near, far:
        with running(lambda: [far.send(far.recv(TIMEOUT)) for _ in range(3)]):
            blocks[0].run(conn=near)
            while len(capsys_lines := capsys.readouterr().out.split()) < 1:
                blocks[0].run(conn=near)
        assert capsys_lines[0] == "one"


@pytest.mark.blocks("docs/many-connections.md#what-the-system-allows")
def test_descriptors(blocks):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        names = blocks[0].run()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (names["hard"], names["hard"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.blocks("docs/many-connections.md#what-you-should-limit")
def test_limits(blocks, world):
    blocks[0].run({"=50,": "=1,", "=5,": "=100,"}, ws=ws, handler=echo)
    (server,) = world.servers
    with ws.connect(server.url), pytest.raises(ws.HandshakeError) as refused:
        ws.connect(server.url)
    assert refused.value.status == 503
