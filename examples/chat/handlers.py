# Started by setup.py: scriptling-ws --server :8080 examples/chat/setup.py
"""The chat's connections. This module is imported once, so all of them share what is in it."""

import contextlib
import json
import threading

import scriptling.websocket as ws

_members = {}  # each connection, and the name of who it is
_lock = threading.Lock()  # every connection's handler runs on a thread of its own


def chat_handler(client):
    """Serve one connection: its name comes first, then what it says.

    The browser sends {"name": ...} once and {"text": ...} after it.
    """
    name = _field(client.receive(timeout=60), "name")[:40]
    if not name:
        client.close(4000, "say your name first")
        return
    with _lock:
        _members[client] = name
    try:
        _tell_everybody({"event": "joined", "name": name, "members": _names()})
        for message in client:
            if text := _field(message, "text"):
                _tell_everybody({"event": "said", "name": name, "text": text})
    finally:
        with _lock:
            del _members[client]
        _tell_everybody({"event": "left", "name": name, "members": _names()})


def _field(message, key):
    """A field of a JSON message, or an empty text if there is none: peers send anything."""
    try:
        value = json.loads(message)[key].strip()
        value.encode()  # a lone surrogate could not be sent on
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):  # nested deeply
        return ""
    return value


def _names():
    with _lock:
        return sorted(_members.values())


def _tell_everybody(message):
    with _lock:
        clients = list(_members)  # a copy: sending takes time, and they come and go meanwhile
    for client in clients:
        # Who has left meanwhile is passed over: that one's own handler finds out.
        with contextlib.suppress(ws.ConnectionClosed, ws.SendTimeout):
            client.send(message)
