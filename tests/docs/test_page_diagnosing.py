"""The examples of docs/diagnosing.md: a log of frames, and figures."""

import logging

import pytest

import scriptling_ws as ws
from servers import TIMEOUT, echo, serving

pytestmark = pytest.mark.once("it is about examples")


@pytest.mark.blocks("docs/diagnosing.md#each-frame-in-the-log")
def test_frames_are_in_the_log(blocks, log, monkeypatch):
    logger = logging.getLogger("scriptling_ws.frames")
    monkeypatch.setattr(logging, "basicConfig", lambda **options: None)  # pytest's own stays
    level = logger.level
    try:
        blocks[0].run()
        assert logger.level == logging.DEBUG
        with serving(echo) as server, ws.connect(server.url) as conn:
            conn.send("hello")
            assert conn.recv(TIMEOUT) == "hello"
    finally:
        logger.setLevel(level)
    assert any("sent TEXT, FIN, 5 bytes: 'hello'" in text for text in log.texts())


@pytest.mark.blocks("docs/diagnosing.md#figures-of-a-connection")
def test_figures(blocks, capsys):
    with serving(echo) as server, ws.connect(server.url) as conn:
        conn.send("hello")
        assert conn.recv(TIMEOUT) == "hello"
        stats = blocks[0].run(conn=conn)["stats"]
    assert isinstance(stats, ws.ConnectionStats)
    assert capsys.readouterr().out.startswith("1 5 0.")
