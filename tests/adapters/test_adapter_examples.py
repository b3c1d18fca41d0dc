"""The examples in other frameworks, each started as its first comment says, and used."""

import json

import pytest

import scriptling_ws as ws
from adapting import TIMEOUT, need, serving_command
from places import REPOSITORY
from programs import free_port, runs_once

pytestmark = runs_once

FOREIGN = {"Origin": "https://foreign.example"}


def example(packages, *command):
    need(packages)
    port = free_port()
    words = [port if word == "PORT" else word for word in command]
    return serving_command(packages, words, port, cwd=REPOSITORY)


def test_the_flask_chat():
    with example("flask", "examples/flask/chat.py", "PORT") as server:
        assert b"<h1>Chat</h1>" in server.page()
        with server.connect("/chat") as ann:
            ann.send("hello")
            assert ann.receive(TIMEOUT) == "hello"  # ann is in the room
            with server.connect("/chat") as bob:  # and bob comes after that
                bob.send_binary(b"no text")
                bob.send("hello, Ann")
                assert ann.receive(TIMEOUT) == bob.receive(TIMEOUT) == "hello, Ann"


def test_the_bottle_route():
    with example("bottle gevent", "examples/bottle/echo.py", "PORT") as server:
        with server.connect("/echo/Ann") as conn:
            conn.send("hello")
            assert conn.receive(TIMEOUT) == "Ann: hello"
        with pytest.raises(ws.HandshakeError) as caught:
            server.connect("/echo/Ann", headers=FOREIGN)
        assert caught.value.status == 403


def test_the_django_view():
    command = ["examples/django/ticker.py", "runserver", "--noreload", "PORT"]
    with example("django", *command) as server:
        with server.connect("/ticker") as conn:
            for number in range(3):
                assert json.loads(conn.receive(TIMEOUT)) == {"number": number}
                conn.send("next")
        with pytest.raises(ws.HandshakeError) as caught:
            server.connect("/ticker", headers=FOREIGN)
        assert caught.value.status == 403
        assert b"this origin may not connect" in caught.value.body
