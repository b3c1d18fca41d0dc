"""Rooms of several processes, by a real Redis server: its messages, and its absence."""

import contextlib
import itertools
import os
import sys
import threading

import pytest

import scriptling_ws as ws
from children import Child
from guests import guest
from pairs import SOON, Running, running, until
from programs import runs_once
from redis_server import redis_server, rooms_server
from scriptling_ws import RoomError
from scriptling_ws._rooms import redis as _redis
from scriptling_ws._rooms.envelope import new_origin, pack
from scriptling_ws._rooms.message import Message

pytestmark = runs_once  # but for the frames, which other tests have on both codecs

CHANNEL = "scriptling-ws:room:chat"
FREE = "redis://127.0.0.1:1"  # where nobody listens


@contextlib.contextmanager
def client(url):
    """A client that is in the room by now."""
    with ws.connect(url) as conn:
        assert conn.receive(SOON) == "in"
        yield conn


@pytest.fixture(params=["redis", "valkey"])
def redis(request):
    """Each of the two servers, for what a server does itself: its order, its end, its silence."""
    with redis_server(request.param) as server:
        yield server


@pytest.fixture
def one_redis():
    """For what a room makes of messages, which are the same from both."""
    with redis_server() as server:
        yield server


def test_two_processes_have_one_room(redis):
    with (
        rooms_server(redis.url) as (_, first),
        rooms_server(redis.url) as (_, second),
        client(first) as one,
        client(first) as two,
        client(second) as three,
    ):
        one.send("from one")
        assert two.receive(SOON) == three.receive(SOON) == "from one"
        three.send_binary([1, 2, 255])
        assert one.receive(SOON) == two.receive(SOON) == [1, 2, 255]
        one.send("back")  # what one had sent itself has not come before
        three.send("again")
        assert one.receive(SOON) == "again"
        assert sorted([two.receive(SOON), two.receive(SOON)]) == ["again", "back"]
        assert three.receive(SOON) == "back"


def test_the_order_is_the_same_everywhere(redis):
    with (
        rooms_server(redis.url) as (_, first),
        rooms_server(redis.url) as (_, second),
        client(first) as one,
        client(second) as two,
        client(first) as here,
        client(second) as there,
    ):
        for number in range(100):
            one.send(f"one {number}")
            two.send(f"two {number}")
        heard = [[conn.receive(SOON) for _ in range(200)] for conn in (here, there)]
    assert heard[0] == heard[1]
    for name in ("one", "two"):
        found = [text for text in heard[0] if text.startswith(name)]
        assert found == [f"{name} {number}" for number in range(100)]


@pytest.mark.parametrize("patched", [False, True], ids=["threads", "gevent"])
def test_redis_is_killed_and_comes_back(redis, patched):
    if patched:
        pytest.importorskip("gevent")
    with (
        rooms_server(redis.url, patched=patched) as (process, first),
        rooms_server(redis.url, patched=patched) as (other, second),
        client(first) as one,
        client(second) as two,
    ):
        one.send("before")
        assert two.receive(SOON) == "before"
        redis.kill()
        one.send("lost")
        said = one.receive(SOON)
        assert said.startswith("failed: the room 'chat' has not got the message: Redis at 127.")
        assert "Send it again once it is back" in said
        with client(first) as late:  # who joins meanwhile is not held up
            redis.start()
            until(lambda: process.ask()["gaps"] == other.ask()["gaps"] == 1)
            until(lambda: [len(each.ask()["told"]) for each in (process, other)] == [1, 1])
            assert 0 < process.ask()["told"][0] < SOON
            for text in iter("ab"):
                until(lambda text=text: sent(one, text))
                assert two.receive(SOON) == late.receive(SOON) == text
        stats = other.ask()
        assert process.ask()["failed"] >= 1
        assert stats["missed"] >= 1  # "lost" has a number, which the second has not seen
        assert stats["sent"] == 3


def sent(conn, text):
    """Send, and tell whether that has not failed."""
    conn.send(text)
    conn.send("?")
    answer = conn.receive(SOON)
    if answer != "!":
        assert answer.startswith("failed: ")
        assert conn.receive(SOON) == "!"
    return answer == "!"


def test_redis_is_away_at_first(redis):
    redis.kill()
    with rooms_server(redis.url) as (process, url), client(url) as one, client(url) as two:
        one.send("lost")
        assert one.receive(SOON).startswith("failed: ")
        redis.start()
        until(lambda: process.ask()["gaps"] == 1)
        until(lambda: sent(one, "found"))
        assert two.receive(SOON) == "found"


def test_redis_that_does_not_answer_is_away(redis):
    with (
        rooms_server(redis.url, impatient=True) as (process, url),
        client(url) as one,
        client(url) as two,
    ):
        redis.stop()
        one.send("lost")
        assert one.receive(SOON).startswith("failed: ")
        # The task has not sent anything itself: it hears nothing, and asks.
        until(lambda: process.ask()["away"])
        redis.go_on()
        until(lambda: process.ask()["gaps"] >= 1)
        until(lambda: sent(one, "found"))
        until(lambda: two.receive(SOON) == "found")


def test_in_a_program_that_gevent_has_patched(one_redis):
    pytest.importorskip("gevent")
    with (
        rooms_server(one_redis.url, patched=True) as (_, patched),
        rooms_server(one_redis.url) as (_, plain),
        client(patched) as one,
        client(patched) as two,
        client(plain) as three,
    ):
        one.send("from one")
        assert two.receive(SOON) == three.receive(SOON) == "from one"
        three.send("from three")
        assert one.receive(SOON) == two.receive(SOON) == "from three"


def test_what_is_no_message_is_passed_over(one_redis):
    with (
        rooms_server(one_redis.url) as (process, url),
        client(url) as one,
        one_redis.client() as stranger,
    ):
        stranger.publish(CHANNEL, b"hello")
        stranger.publish(CHANNEL, pack(new_origin(), 1, (), Message(0x81, b"\xff")))
        stranger.publish(CHANNEL, pack(new_origin(), 1, (), Message.text("good")))
        assert one.receive(SOON) == "good"
        assert process.ask()["sent"] == 1


def test_what_comes_twice_or_not_at_all(one_redis):
    origin = new_origin()
    with (
        rooms_server(one_redis.url) as (process, url),
        client(url) as one,
        one_redis.client() as stranger,
    ):
        for sequence in (5, 5, 6, 9, 6):
            stranger.publish(CHANNEL, pack(origin, sequence, (), Message.text(str(sequence))))
        assert [one.receive(SOON) for _ in range(3)] == ["5", "6", "9"]
        until(lambda: process.ask()["missed"] == 2)
        assert one.receive(0) is None


def test_the_numbers_of_another_process_exclude_nobody(one_redis):
    with (
        rooms_server(one_redis.url) as (_, url),
        client(url) as one,
        one_redis.client() as stranger,
    ):
        everybody = range(1, 20)
        stranger.publish(CHANNEL, pack(new_origin(), 1, everybody, Message.text("for all")))
        assert one.receive(SOON) == "for all"


def test_nobody_listens_without_members(redis):
    def subscribers():
        return dict(stranger.pubsub_numsub(CHANNEL))[CHANNEL.encode()]

    with rooms_server(redis.url) as (process, url), redis.client() as stranger:
        assert subscribers() == 0
        origin = new_origin()
        with client(url) as one:
            assert subscribers() == 1
            stranger.publish(CHANNEL, pack(origin, 1, (), Message.text("first")))
            assert one.receive(SOON) == "first"
        until(lambda: not subscribers())
        with client(url) as one:
            stranger.publish(CHANNEL, pack(origin, 10, (), Message.text("later")))
            assert one.receive(SOON) == "later"
        stats = process.ask()
        assert (stats["gaps"], stats["missed"]) == (0, 0)


def test_other_rooms_come_and_go_beside(redis):
    """In this process: one subscription for two rooms."""
    with redis.client() as stranger, guest() as (conn, _):
        first = ws.room("first", backend=redis.url)
        second = ws.room("second", backend=redis.url)
        try:
            first.join(conn)
            clients = len(stranger.client_list(_type="pubsub"))
            second.join(conn)
            assert len(stranger.client_list(_type="pubsub")) == clients == 1
            second.leave(conn)
            until(lambda: stranger.pubsub_channels("*:second") == [])
            assert stranger.pubsub_channels("*:first") == [b"scriptling-ws:room:first"]
        finally:
            first.leave(conn)
            until(lambda: not stranger.client_list(_type="pubsub"))
            first._backend._client.close()


def test_who_joins_as_the_subscription_ends_waits_for_the_next(one_redis, monkeypatch):
    """The task has let go of the channel, and has not looked again whether a room has members."""
    room = ws.room("ended", backend=one_redis.url)
    looks, moved, heard = itertools.count(), threading.Event(), []
    is_needed, wake = _redis.Redis._is_needed, _redis.Redis._wake

    def look(backend):
        if next(looks) == 1:
            joining.append(Running(join))
            assert moved.wait(SOON)
        return is_needed(backend)

    def join():
        room.join(conn)
        heard.append(dict(stranger.pubsub_numsub("scriptling-ws:room:ended")))
        moved.set()

    def woken(backend):
        moved.set()
        wake(backend)

    joining = []
    monkeypatch.setattr(_redis, "_TURN", 0.05)
    monkeypatch.setattr(_redis.Redis, "_is_needed", look)
    with one_redis.client() as stranger, guest() as (conn, _):
        room.join(conn)
        monkeypatch.setattr(_redis.Redis, "_wake", woken)
        room.leave(conn)
        until(lambda: heard)
        joining[0].result()
        room.leave(conn)
        assert heard == [{b"scriptling-ws:room:ended": 1}]
        until(lambda: not stranger.client_list(_type="pubsub"))
        room._backend._client.close()


# -- without a server -----------------------------------------------------------------------


def test_without_redis_py(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r'pip install "scriptling-ws\[redis\]"'):
        ws.room("chat", backend="redis://127.0.0.1:2")


@pytest.fixture
def backend():
    pytest.importorskip("redis")
    return _redis.Redis(FREE)


def test_one_backend_for_an_address():
    pytest.importorskip("redis")
    first, second = (ws.room(name, backend=FREE) for name in ("a", "b"))
    assert first._backend is second._backend
    assert ws.room("a") is not first


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@example.com:6380/1", "example.com:6380"),
        ("rediss://:secret@example.com", "example.com"),
        ("valkey://example.com", "example.com"),
        ("valkeys://example.com", "example.com"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
    ],
)
def test_texts_show_no_secret(url, shown):
    pytest.importorskip("redis")
    assert _redis.Redis(url).shown == shown


def test_a_refusal_says_what_to_do(monkeypatch):
    pytest.importorskip("redis")
    monkeypatch.setattr(_redis, "_MOMENT", SOON)
    room = ws.room("refused", backend="redis://:secret@127.0.0.1:1")
    for text in ("cannot be reached", "away a moment ago"):
        with pytest.raises(RoomError, match=text) as caught:
            room.send("x")
        assert "127.0.0.1:1" in str(caught.value)
        assert "secret" not in str(caught.value)
    assert isinstance(caught.value, ConnectionError)
    assert room.stats().failed == 2
    room._backend._client.close()


def test_a_channel_is_not_ready_once_its_room_is_empty(backend):
    """The room's last member has left before Redis said that the channel is subscribed to."""
    backend._subscribed("scriptling-ws:room:left")
    assert backend._ready == {}


def test_a_signal_handlers_exception_is_none_of_redis(backend):
    def interrupted(*_):
        raise TimeoutError("a signal handler's")

    backend._client.publish = interrupted
    with pytest.raises(TimeoutError, match="a signal handler's"):
        backend.publish(ws.room("any"), b"")


def test_where_no_thread_can_be_started(backend, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(type(_redis.engine()), "spawn", refuse)
    room = ws.Room("threadless", ws.room("any")._limits, backend)
    with guest() as (conn, _), pytest.raises(RoomError, match="no thread can be started"):
        room.join(conn)


def test_what_nobody_has_expected_begins_anew(backend, monkeypatch, caplog):
    calls = []

    def serve(backend):
        calls.append(backend)
        if len(calls) == 1:
            raise ZeroDivisionError
        with backend._lock:
            backend._rooms.clear()

    monkeypatch.setattr(_redis.Redis, "_serve", serve)
    room = ws.Room("anew", ws.room("any")._limits, backend)
    with guest() as (conn, _):
        room.join(conn)
        until(lambda: not backend._running)
        room.leave(conn)
    assert calls == [backend, backend]
    assert "the rooms' task for Redis has failed, and begins anew" in caplog.text


def test_it_is_said_once_that_the_server_is_away(backend, caplog):
    for _ in range(3):
        backend._lost(OSError("gone"))
    assert caplog.text.count("is away (gone)") == 1


def test_a_long_silence_is_an_absence(backend):
    backend._heard -= 100
    with pytest.raises(backend._redis.TimeoutError, match="nothing has come for 20 s"):
        backend._feel_the_pulse()


def test_what_comes_for_a_room_that_was_left_is_for_nobody(backend):
    for kind in ("message", "subscribe", "unsubscribe"):
        backend._take({"type": kind, "channel": CHANNEL.encode(), "data": b"x"})


def test_a_patched_socket_waits_by_itself(monkeypatch):
    """Then the engine is not asked: what it would call elsewhere belongs to the program's loop."""
    monkeypatch.setattr(_redis.socket, "socket", type("Patched", (), {}))
    monkeypatch.setattr(type(_redis.engine()), "blocking", None)
    assert _redis._call(lambda: "called") == "called"


def test_pauses_grow_to_a_bound_and_differ():
    pause = _redis._Pause()
    lengths = [pause.seconds() for _ in range(20)]
    assert 0.05 <= lengths[0] <= 0.1
    assert all(2.5 <= length <= 5.0 for length in lengths[10:])
    assert len(set(lengths)) > 10
    pause.reset()
    assert pause.seconds() <= 0.1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.threads  # in a program that gevent has patched, this child does not end
def test_a_forked_child_is_another_process_to_the_others(backend):
    before = backend.origin.hex()
    assert Child(lambda: backend.origin.hex()).result() != before
    assert backend.origin.hex() == before


def test_a_callback_that_fails_is_logged(backend, caplog):
    def failing(room, seconds):
        raise ZeroDivisionError

    room = ws.Room("told", ws.room("any")._limits, backend, failing)
    room.tell_gap(1.0)
    assert room.stats().gaps == 1
    assert "the on_gap of room 'told' has failed" in caplog.text
    ws.room("nobody is told", backend=FREE).tell_gap(1.0)


@pytest.mark.threads  # with gevent all tasks are in the thread that hears signals
def test_a_callback_that_exits_does_not_end_the_task(backend, caplog):
    room = ws.Room("told", ws.room("any")._limits, backend, lambda *_: sys.exit())
    for gaps in (1, 2):
        with running(lambda: room.tell_gap(1.0)):
            pass
        assert room.stats().gaps == gaps
    assert caplog.text.count("the on_gap of room 'told' has failed") == 2
    with pytest.raises(SystemExit):  # here it may be a signal handler's
        room.tell_gap(1.0)
