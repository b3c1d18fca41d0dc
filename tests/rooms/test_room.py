"""A room as its callers see it: who is in it, what is sent, what is refused."""

import array
import gc
import os
import subprocess
import sys
import weakref

import pytest

import scriptling.websocket
import scriptling_ws as ws
from children import Child
from frames import BINARY, TEXT, close_frame, frame
from guests import guest, guests, is_quiet, new_room
from pairs import SOON, both_ends, receive_frame, running, until
from processes import python_environment
from scriptling_ws._rooms import carrier as _carrier
from scriptling_ws._rooms import message as _message
from scriptling_ws._rooms import registry as _registry
from servers import serving

WHOLE_TEXT, WHOLE_BINARY = 0x80 | TEXT, 0x80 | BINARY


# -- the room of a name ----------------------------------------------------------


def test_a_name_has_one_room():
    room = ws.room("one name")
    assert ws.room("one name") is room
    assert ws.room("another name") is not room
    assert room.name == "one name"
    assert repr(room) == "<Room 'one name', 0 members>"


def test_the_aliases_have_it():
    assert scriptling.websocket.room is ws.room


def test_a_room_that_nobody_has_is_let_go_of():
    room = new_room()
    gone, name = weakref.ref(room), room.name
    assert room in _registry.rooms()
    del room
    gc.collect()
    assert gone() is None
    assert name not in [room.name for room in _registry.rooms()]


def test_a_room_with_a_member_stays():
    with guest() as (conn, _):
        name = new_room().name
        ws.room(name).join(conn)
        gc.collect()
        assert len(ws.room(name)) == 1


def test_options_are_given_once_or_again_the_same():
    room = new_room(queue=5, policy="drop_newest")
    assert ws.room(room.name) is room
    assert ws.room(room.name, queue=5) is room
    with pytest.raises(ValueError, match="is there with queue=5, not 6: give its options once"):
        ws.room(room.name, queue=6)
    with pytest.raises(ValueError, match="on_gap"):
        ws.room(room.name, on_gap=print)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"queue": 0}, ValueError, "queue has to be at least 1"),
        ({"queue": "many"}, TypeError, "queue has to be an int"),
        ({"queue_bytes": 0}, ValueError, "queue_bytes has to be at least 1"),
        ({"policy": "wait"}, ValueError, "'close', 'drop_oldest', 'drop_newest', not 'wait'"),
        ({"backend": "127.0.0.1"}, ValueError, "a URL such as 'redis://127.0.0.1:6379'"),
        ({"backend": 6379}, ValueError, "not 'int'"),
        ({"backend": "http://user:secret@example.com"}, ValueError, "not 'http'$"),
        ({"on_gap": 1}, TypeError, "on_gap has to be a function, not int"),
    ],
)
def test_bad_options_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        new_room(**options)


def test_a_name_is_a_str():
    with pytest.raises(TypeError, match="a room's name has to be a str, not int"):
        ws.room(1)


# -- who is in it ------------------------------------------------------------------


def test_join_and_leave():
    room = new_room()
    with guests(2) as ((first, _), (second, _)):
        room.join(first)
        room.join(second)
        room.join(first)  # again: no effect
        assert len(room) == 2
        assert first in room
        room.leave(first)
        room.leave(first)
        assert len(room) == 1
        assert first not in room
        assert bool(room)
        room.leave(second)
        assert len(room) == 0
        assert bool(room)


@pytest.mark.parametrize("call", ["join", "leave", "dropped_of"])
@pytest.mark.parametrize("client", ["a name", None, [1]])
def test_only_a_connection_joins_and_leaves(client, call):
    with pytest.raises(TypeError, match=rf"{call}\(\) takes a connection"):
        getattr(new_room(), call)(client)


@pytest.mark.parametrize("how", ["close", "peer", "abort"])
def test_it_is_left_as_the_connection_closes(how):
    room, other = new_room(), new_room()
    with both_ends() as (client, server):
        room.join(server)
        other.join(server)
        if how == "peer":
            with running(client.close):
                assert server.receive(SOON) is None
        elif how == "abort":
            server._abort()
        else:
            with running(client.receive):
                server.close()
        assert len(room) == len(other) == 0


def test_a_closed_connection_is_not_taken():
    room = new_room()
    with guest() as (conn, _):
        conn._abort()
        room.join(conn)
        assert len(room) == 0
    with guest() as (conn, _):
        room.join(conn)
        conn._abort()
        room.join(conn)  # its guest was told before
        assert len(room) == 0


def test_joining_again_and_again_leaves_nothing_behind():
    room = new_room()
    with guest() as (conn, _):
        for _ in range(10):
            room.join(conn)
            room.leave(conn)
        assert len(conn._link.lifecycle._callbacks) == 1


def test_a_connection_that_has_left_is_let_go_of():
    room = new_room()
    with guests(1) as found:
        conn, _ = found.pop()
        room.join(conn)
        room.leave(conn)
        conn._abort()
        conn.close()
    gone = weakref.ref(conn)
    del conn, found
    until(lambda: (gc.collect(), gone())[1] is None)  # keepalive may just be looking


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.threads  # in a program that gevent has patched, this child does not end
def test_a_forked_child_has_no_members():
    room = new_room()
    with guest() as (conn, far):
        room.join(conn)
        room.send("before")

        def in_child():
            room.send("nobody is here")
            return [len(room), conn in room, room.stats().sent]

        assert Child(in_child).result() == [0, False, 1]
        room.send("after")
        assert [receive_frame(far)[1] for _ in range(2)] == [b"before", b"after"]
        assert is_quiet(far)


# -- sending -----------------------------------------------------------------------


def test_send():
    room = new_room()
    with guests(3) as found:
        for conn, _ in found:
            room.join(conn)
        room.send("text")
        room.send({"a": 1})
        room.send_text("é€".encode())
        room.send_text(bytearray(b"x"))
        room.send_text("str")
        room.send_binary([1, 2, 255])
        room.send_binary(array.array("B", b"bytes"))
        for _, far in found:
            assert receive_frame(far) == (WHOLE_TEXT, b"text")
            assert receive_frame(far) == (WHOLE_TEXT, b'{"a":1}')
            assert receive_frame(far) == (WHOLE_TEXT, "é€".encode())
            assert receive_frame(far) == (WHOLE_TEXT, b"x")
            assert receive_frame(far) == (WHOLE_TEXT, b"str")
            assert receive_frame(far) == (WHOLE_BINARY, b"\x01\x02\xff")
            assert receive_frame(far) == (WHOLE_BINARY, b"bytes")
        assert room.stats() == (3, 7, 0, 0, 0, 0, 0)


def test_an_empty_room_takes_messages():
    room = new_room()
    room.send("nobody")
    assert room.stats().sent == 1


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda room: room.send(b"bytes"), TypeError, r"send_binary\(\)"),
        (lambda room: room.send({"a": float("nan")}), ValueError, "JSON"),
        (lambda room: room.send("\ud800"), ValueError, "lone surrogate"),
        (lambda room: room.send_binary("text"), TypeError, r"send\(\)"),
        (lambda room: room.send_text(b"ok\xff"), ValueError, "not UTF-8: see byte 2 of 3"),
        (lambda room: room.send_text([1]), TypeError, "takes a str or a bytes-like object"),
        (lambda room: room.send_binary([1, 256]), ValueError, "256"),
        (lambda room: room.send("x", exclude="me"), TypeError, "exclude takes a connection"),
        (lambda room: room.send("x", exclude=[1]), TypeError, "not int"),
        (lambda room: room.send("x", exclude=1), TypeError, "exclude takes a connection"),
    ],
)
def test_bad_messages_are_refused_and_nothing_is_sent(call, error, text):
    room = new_room()
    with guest() as (conn, far):
        room.join(conn)
        with pytest.raises(error, match=text):
            call(room)
        assert is_quiet(far)
        assert room.stats().sent == 0


def test_exclude():
    room = new_room()
    with guests(3) as found:
        (first, _), (second, _), (third, _) = found
        for conn in (first, second):
            room.join(conn)
        room.send("to the second", exclude=first)
        room.send("to nobody", exclude=[first, second])
        room.send("to both", exclude=third)  # who is no member
        room.send("to both", exclude=())
        assert receive_frame(found[0][1])[1] == b"to both"
        assert receive_frame(found[1][1])[1] == b"to the second"
        for _, far in found[:2]:
            assert receive_frame(far)[1] == b"to both"
        assert receive_frame(found[1][1])[1] == b"to both"
        assert all(is_quiet(far) for _, far in found)


def test_a_message_is_encoded_once(monkeypatch):
    calls = []
    encode = _message.kernel.encode_frame
    monkeypatch.setattr(
        _message.kernel, "encode_frame", lambda *args: calls.append(args) or encode(*args)
    )
    room = new_room()
    with guests(10) as found:
        for conn, _ in found:
            room.join(conn)
        room.send("once")
        assert len(calls) == 1
        assert {receive_frame(far) for _, far in found} == {(WHOLE_TEXT, b"once")}


def test_a_clients_connection_is_masked_anew():
    room = new_room()
    with guests(2, client=True) as found:
        for conn, _ in found:
            room.join(conn)
        room.send("masked")
        frames = [far.recv(100) for _, far in found]
        assert len(set(frames)) == 2
        assert all(data[1] & 0x80 for data in frames)


def test_leaving_from_the_loop_itself():
    """A close that is noticed as a message is sent tells its callback, which comes back here."""
    room = new_room()
    with guests(3) as found:
        for conn, _ in found:
            room.join(conn)
        told = []
        (first, far), (second, _), _ = found
        first.on_close(lambda: told.append(room.leave(second)))
        far.close()
        until(lambda: room.send("x") or told)
        assert len(room) == 1
        assert first not in room


def test_joining_leaving_and_sending_from_many_threads():
    room = new_room()
    with guests(8) as found:
        (stays, far), *others = found
        room.join(stays)

        def come_and_go(conn):
            for _ in range(50):
                room.join(conn)
                room.send("x", exclude=[guest for guest, _ in others])
                room.leave(conn)

        with running(*(lambda conn=conn: come_and_go(conn) for conn, _ in others)):
            for _ in range(50 * len(others)):
                assert receive_frame(far) == (WHOLE_TEXT, b"x")
        assert len(room) == 1
        assert is_quiet(far)


def test_connections_that_close_while_messages_are_sent():
    room = new_room()
    with guests(1) as [(stays, far)], guests(20) as found:
        for conn, _ in [*found, (stays, far)]:
            room.join(conn)
        closers = [conn._abort for conn, _ in found[:10]]
        closers += [lambda conn=conn: conn._begin_close(1001) for conn, _ in found[10:]]

        def send():
            for number in range(500):
                room.send(str(number))

        with running(send, *closers):
            for number in range(500):
                assert receive_frame(far) == (WHOLE_TEXT, str(number).encode())
        assert len(room) == 1
        assert is_quiet(far)


def test_a_peers_ping_is_answered_beside_a_broadcast():
    room = new_room()
    with guest() as (conn, far):
        room.join(conn)
        far.sendall(frame(9, b"there?", mask=True))
        conn.receive(0)  # which may have sent the answer at once
        room.send("x")
        assert {receive_frame(far) for _ in range(2)} == {(0x8A, b"there?"), (WHOLE_TEXT, b"x")}


def test_in_handlers():
    room = new_room()

    def handler(client):
        room.join(client)
        client.send("in")
        for message in client:
            room.send(message, exclude=client)

    with serving(handler) as server, ws.connect(server.url) as one, ws.connect(server.url) as two:
        assert one.receive(SOON) == two.receive(SOON) == "in"
        one.send("from one")
        assert two.receive(SOON) == "from one"
        two.send("from two")
        assert one.receive(SOON) == "from two"
        two.close()
        until(lambda: len(room) == 1)
        one.send("nobody else")
    until(lambda: len(room) == 0)


def test_a_member_that_has_closed_gets_nothing_more():
    room = new_room()
    with guest() as (conn, far):
        room.join(conn)
        far.sendall(close_frame(1000, mask=True))
        assert conn.receive(SOON) is None
        room.send("late")
        assert len(room) == 0
        assert receive_frame(far)[0] == 0x88


# -- several processes ----------------------------------------------------------------


ALONE = """
import scriptling_ws as ws
from scriptling_ws._rooms.registry import only_with_backend
made_before = ws.room("before")
only_with_backend()
for call in (lambda: ws.room("after"), lambda: made_before.send("x")):
    try:
        call()
    except RuntimeError as error:
        print(error)
"""


def test_rooms_of_one_process_are_refused_in_several():
    command = [sys.executable, "-c", ALONE]
    said = subprocess.run(
        command, env=python_environment(), check=True, timeout=60, capture_output=True, text=True
    ).stdout.splitlines()
    assert [line.split(" would ")[0] for line in said] == ["the room 'after'", "the room 'before'"]
    assert all('backend="redis://127.0.0.1"' in line for line in said)


def test_joining_is_refused_too(monkeypatch):
    room = new_room()
    monkeypatch.setattr(_carrier, "_several", True)
    with guest() as (conn, _), pytest.raises(RuntimeError, match="one process"):
        room.join(conn)
    assert len(room) == 0
