"""The tests that docs/testing.md shows pass, and fail where the application is wrong."""

import re
import sys
import threading

import pytest

import scriptling_ws as ws
from processes import Process, python_environment
from programs import runs_once

pytestmark = [runs_once, pytest.mark.processes]

PLACE = "docs/testing.md#a-server-for-the-tests-of-a-file"
WITHOUT = "docs/testing.md#a-handler-without-a-server"


def run(folder, blocks, **changes):
    """Its tests, as pytest runs them; the last line and the status."""
    for block in blocks:
        name = re.match(r"# (\w+\.py)", block.text)[1]
        text = block.text
        for old, new in changes.get(name.removesuffix(".py"), {}).items():
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text)
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py")
    env = python_environment(PYTHONDONTWRITEBYTECODE="1")
    with Process(sys.executable, *command, cwd=folder, env=env) as process:
        lines, status = process.finish()
    return lines[-1], status


@pytest.mark.blocks(PLACE)
def test_they_pass(blocks, tmp_path):
    line, status = run(tmp_path, blocks)
    assert (status, "4 passed" in line) == (0, True), line


@pytest.mark.blocks(PLACE)
def test_they_notice(blocks, tmp_path):
    wrong = {"prices.join(client)": "client.send('unasked')", "4000": "4001", "t0ken": "other"}
    line, status = run(tmp_path, blocks, app=wrong)
    assert (status, "4 failed" in line or "3 failed" in line) == (1, True), line


@pytest.mark.blocks(WITHOUT)
def test_without_a_server(blocks):
    before = threading.active_count()
    blocks[0].run()["test_room"]()
    assert threading.active_count() == before


@pytest.mark.blocks(WITHOUT)
def test_a_handler_that_fails(blocks, monkeypatch):
    """It closes as a server closes; and what a test has found out is told, not hidden."""
    handled, raised = blocks[0].run()["handled"], []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_type))

    def handler(client):
        raise KeyError(client.recv())

    with handled(handler) as client:
        client.send("wrong")
        with pytest.raises(ws.ConnectionClosed) as closed:
            client.recv(timeout=20)
    assert (closed.value.code, raised) == (1011, [KeyError])
    with pytest.raises(ZeroDivisionError), handled(list) as client:
        client.send(str(1 / 0))
