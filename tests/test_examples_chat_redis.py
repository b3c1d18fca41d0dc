"""The chat of several processes, which meet at a Redis server."""

import contextlib
import importlib
import signal
import sys

import pytest

from chatting import CHAT, chatting, person
from pages import chromium
from pairs import until
from places import REPOSITORY
from processes import Process
from programs import runs_once
from redis_server import redis_server

pytestmark = runs_once


@pytest.fixture(scope="module")
def running():
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(running):
    """A Redis server with nothing in it, whatever test was before."""
    with running.client() as client:
        client.flushall()
    return running


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


def test_two_servers_are_one_chat(browser, redis):
    with (
        chatting(redis.url) as one,
        chatting(redis.url) as other,
        person(browser, one, "Ann") as ann,
        one.joined("Bob") as bob,
    ):
        bob.next("joined", name="Bob")
        with other.joined("Eve", key="Eve's") as eve:
            assert eve.next("joined", name="Eve")["members"] == ["Ann", "Bob", "Eve"]
            ann.event("Eve joined")
            with one.joined("eve") as impostor:
                assert impostor.conn.receive(10) is None
                assert impostor.conn.close_code == 4001
            ann.say("to the other")
            assert eve.next("said")["text"] == "to the other"
            eve.say("and back", id="1")
            ann.message("and back")
            bob.next("said", text="and back")
            # Who comes back to the other server is told what was said on this one.
            with one.joined("Eve", key="Eve's", away=60) as again:
                again.next("welcome")
                assert again.next("said", text="to the other")["at"] > 0
                assert again.next("said", text="and back")["id"] == "1"
            eve.conn.close()
            assert bob.next("left", name="Eve")["members"] == ["Ann", "Bob"]


def test_redis_that_is_away(redis):
    """Who says something, and who comes, is asked to come back: it is not a chat meanwhile."""
    with chatting(redis.url) as chat, chat.joined("Ann") as ann:
        ann.next("joined")
        redis.kill()
        try:
            ann.say("is anybody there?")
            assert ann.conn.receive(10) is None
            assert ann.conn.close_code == 1013
            with chat.joined("Bob") as bob:
                assert bob.conn.receive(10) is None
                assert bob.conn.close_code == 1013
        finally:
            redis.start()
        chat.signal(signal.SIGINT)


def test_serve_with_several_processes(redis):
    command = ["examples/chat/serve.py", "--port", "0", "--redis", redis.url, "--processes", "2"]
    with Process.python(*command, cwd=REPOSITORY) as process:
        process.line_with("listening on")
        process.send_signal(signal.SIGINT)
        assert process.finish()[1] == 0


def test_several_processes_need_redis():
    with Process.python(
        "examples/chat/serve.py", "--port", "0", "--processes", "2", cwd=REPOSITORY
    ) as process:
        assert process.finish()[1] == 2


# -- who is there, as Redis has it -----------------------------------------------------------------


@pytest.fixture
def modules(monkeypatch):
    """The example's modules of these names."""
    monkeypatch.syspath_prepend(CHAT)
    names = ["handlers", "members", "messages", "recent", "shared"]
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


@pytest.fixture(params=["alone", "redis"])
def make(request, modules):
    """Makes what is shared: of two for one server, both have the same."""
    if request.param == "alone":
        yield lambda name, *options: getattr(modules[name.lower()], name)()
        return
    server = request.getfixturevalue("redis")
    with contextlib.ExitStack() as stack:

        def redis(name, *options):
            made = getattr(modules[name.lower()], f"Redis{name}")(server.url, *options)
            return stack.enter_context(contextlib.closing(made))

        yield redis


def test_a_name_has_one_holder(make):
    here = make("Members", 60)
    ann = here.enter("Ann", "key")
    assert here.enter("ann", "other") is None
    again = here.enter("Ann", "key")
    assert here.names() == ["Ann"]
    here.leave(ann)
    assert list(here.gone()) == []
    assert here.names() == ["Ann"]
    here.leave(again)
    assert here.names() == []
    for _ in range(2):  # the first time nobody can be told
        assert next(here.gone()) == "Ann"
    assert list(here.gone()) == ["Ann"]
    assert list(here.gone()) == []
    assert here.enter("ANN", "other") is not None
    with here.turn():
        assert here.names() == ["ANN"]


@pytest.mark.parametrize("make", ["redis"], indirect=True)
def test_members_of_several_processes(make):
    one, other = make("Members", 60), make("Members", 60)
    ann = one.enter("Ann B.", "key")
    assert other.names() == ["Ann B."]
    assert other.enter("ann b.", "another") is None
    assert other.enter("Ann B.", "key") is not None
    one.leave(ann)
    assert list(one.gone()) == []
    assert not one.renew(ann)


@pytest.mark.parametrize("make", ["redis"], indirect=True)
def test_who_is_not_renewed_runs_out(make):
    """As the members of a process that was killed. One of the others tells of it, once."""
    killed, one, other = (make("Members", seconds) for seconds in (0.05, 60, 60))
    killed.enter("Ann", "key")
    bob, eve = one.enter("Bob", "key"), other.enter("Eve", "key")
    until(lambda: one.renew(bob))
    assert other.renew(eve)
    assert [*one.gone(), *other.gone()] == ["Ann"]
    assert one.names() == ["Bob", "Eve"]
    assert not one.renew(bob)
    assert not other.renew(eve)
    assert one.enter("ann", "somebody else's") is not None


@pytest.mark.parametrize("what_fails", ["turn", "send"])
def test_a_left_that_could_not_be_told_is_told_of_later(make, modules, monkeypatch, what_fails):
    """As where so many leave at once that one has no turn in time, or Redis is away."""
    handlers, members, told = modules["handlers"], make("Members", 60), []

    class Room:
        send = told.append

    def fail(*_):
        raise ConnectionError

    ann, bob = members.enter("Ann", "key"), members.enter("Bob", "key")
    monkeypatch.setattr(handlers, "_members", members)
    monkeypatch.setattr(handlers, "_room", Room)
    members.leave(bob)
    with monkeypatch.context() as away:
        away.setattr(members if what_fails == "turn" else Room, what_fails, fail)
        with pytest.raises(ConnectionError):
            handlers._tell_who_left()
    assert members.renew(ann)
    handlers._tell_who_left()
    assert told == [{"event": "left", "name": "Bob", "members": ["Ann"]}]
    assert not members.renew(ann)


def test_what_was_said_lately(make, modules):
    recent = make("Recent")
    for number in range(105):
        recent.add(b'{"n": %d}' % number)
    recent.add(b'{"event": "image"}\n\x00\n\xff')
    kept = recent.of_the_last(60)
    assert len(kept) == 100
    at, message = kept[0]
    assert modules["recent"].with_time(message, at) == b'{"n": 6, "at": %r}' % round(at, 3)
    assert modules["recent"].with_time(kept[-1][1], 1.5) == (
        b'{"event": "image", "at": 1.5}\n\x00\n\xff'
    )
    assert recent.of_the_last(-60) == []


def test_what_was_said_lately_has_a_bound(modules):
    recent = modules["recent"].Recent()
    for number in range(20):
        recent.add(bytes([number]) * 1024 * 1024)
    assert [message[0] for _, message in recent.of_the_last(60)] == list(range(4, 20))
