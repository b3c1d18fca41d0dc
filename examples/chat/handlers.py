# Started by setup.py: scriptling-ws --server :8080 examples/chat/setup.py
"""The chat's connections. This module is imported once, so all of them share what is in it.

A client sends, and gets back through the room like everybody else:

    {"name": "Ann", "key": "...", "away": 12}
        once, first; back come {"event": "joined", "name", "members"}
    {"text": "hello", "id": "..."}
        {"event": "said", "name", "text", "id"}
    {"text", "id", "width", "height"}, a line end and an image's bytes, in one binary message
        the same with "event": "image", "name" and "type" in it

"id", "key" and "away" may be left out. By its id a client knows its own message again, and one that
comes twice, as it was sent again after an outage. Who has given a key may come back under the name
at once. It is told {"event": "welcome", "name"} before all else, and then what had an id in the
seconds for which it says that it was away, with "at", the time. With the last connection of a name
{"event": "left", "name", "members"} goes to all.
"""

import os
import secrets
import time

import messages
from members import Members, RedisMembers
from recent import Recent, RedisRecent, with_time

import scriptling.websocket as ws

LONGEST_TEXT = 4096  # characters of a text message; nobody types that much
NAMELESS, TAKEN = 4000, 4001  # close codes, as the page knows them
TRY_AGAIN = 1013
BEAT = 10  # seconds after which a member is renewed: see RedisMembers
MARGIN = 5  # seconds that an outage may have begun before a client has noticed

_redis = os.environ.get("CHAT_REDIS") or None  # where processes meet; one alone needs none
_members = RedisMembers(_redis, lasts=3 * BEAT) if _redis else Members()
_recent = RedisRecent(_redis) if _redis else Recent()
# Who does not read has up to so much waiting, holds nobody up, and is closed at more.
_room = ws.room("chat", backend=_redis, queue_bytes=8 * 1024 * 1024)


def chat_handler(client):
    """Serve one connection: its name comes first, then what it says."""
    first = client.receive(timeout=60)
    name, key = messages.name(first), messages.field(first, "key")
    if not name:
        client.close(NAMELESS, "say your name first")
        return
    try:
        entry = _members.enter(name, key or secrets.token_hex())
        if entry is None:
            client.close(TAKEN, "somebody else has this name: choose another one")
            return
        try:
            if key:
                client.send({"event": "welcome", "name": name})
            _room.join(client)
            _catch_up(client, messages.seconds(first, "away"))
            _tell_who_came(name)
            _listen(client, entry)
        finally:
            _members.leave(entry)
            _tell_who_left()
    except ws.ConnectionClosed:
        pass  # it has left before it was in
    except ConnectionError:  # Redis is away; the page comes back, and says again what it has said
        client.close(TRY_AGAIN, "the chat is out of order: try again")


def _catch_up(client, away):
    """Send what was said while a client was away; what it has already, it knows by the ids."""
    if away:
        for at, message in _recent.of_the_last(away + MARGIN):
            again = with_time(message, at)
            client.send_binary(again) if b"\n" in again else client.send(again.decode())


def _listen(client, entry):
    """Pass on what a client says, until it is closed."""
    due = time.monotonic() + BEAT
    while client.connected():
        message = client.receive(timeout=max(0, due - time.monotonic()))
        if message is not None:
            _pass_on(client, entry.name, message)
        if time.monotonic() >= due:
            due = time.monotonic() + BEAT
            if _members.renew(entry):
                _tell_who_left()


def _pass_on(client, name, message):
    """Send everybody a text or an image; what is neither is ignored, as peers send anything."""
    if ws.is_binary(message):
        event, image = messages.image(name, message)
    elif len(message) > LONGEST_TEXT:
        client.close(1009, f"a message has at most {LONGEST_TEXT} characters")
        return
    else:
        event, image = messages.said(name, message), b""
    if event is None:
        return
    whole = messages.packed(event, image)
    if "id" in event:
        _recent.add(whole)  # first: who comes in this moment has it twice, or once, but has it
    if image:
        _room.send_binary(whole)
    else:
        _room.send(event)


# Of what follows, one comes after the other, over all processes: the last list of names that a
# client gets is the latest.


def _tell_who_came(name):
    """Send everybody who has come, and who is here now."""
    with _members.turn():
        _room.send({"event": "joined", "name": name, "members": _members.names()})


def _tell_who_left():
    """Send everybody who has left. Where that fails, somebody does it within a BEAT."""
    with _members.turn():
        for name in _members.gone():
            _room.send({"event": "left", "name": name, "members": _members.names()})
