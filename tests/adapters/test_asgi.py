"""`scriptling_ws.asgi`: the client, event by event, and what a server may do with it."""

import asyncio
import inspect
import sys
import threading

import pytest

import scriptling_ws as ws
from heads import UPGRADE
from pairs import MIB, until
from scriptling_ws import asgi
from scriptling_ws._adapters.ending import ending
from scriptling_ws._adapters.events import Client
from scriptling_ws._network.waiting import engine
from scriptling_ws._options import Options
from scriptling_ws.runtime import HTTP, Request

pytestmark = pytest.mark.once("frames are the ASGI server's")

TIMEOUT = 10
HEADERS = [(name.lower().encode(), text.encode()) for name, text in UPGRADE.items()]


@pytest.fixture(autouse=True)
def nothing_taken_over():
    yield
    ending().stop()


class Server:
    """An ASGI server that a test plays: what it was sent, and what it has to say."""

    def __init__(self, middleware, **scope):
        self._middleware = middleware
        self.sent = []
        self.taken = 0  # messages that were asked for
        self.scope = {
            "type": "websocket",
            "path": "/ws",
            "raw_path": b"/ws",
            "query_string": b"a=1",
            "headers": [(b"host", b"localhost"), *HEADERS],
            "client": ("192.0.2.1", 4000),
            "server": ("127.0.0.1", 80),
            "scheme": "ws",
            "subprotocols": ["v1", "v2"],
            **scope,
        }

    def run(self, *events, first=None, refuse=None, stuck=None):
        """Say these events, then nothing more, until the application has ended.

        An event that is an exception is raised; `refuse` names events that fail, `stuck` those
        that are never taken.
        """

        async def serve():
            ended = asyncio.Event()

            async def receive():
                self.taken += 1
                if self.taken == 1:
                    return first or {"type": "websocket.connect"}
                if self.taken - 2 < len(events):
                    event = events[self.taken - 2]
                    if isinstance(event, Exception):
                        raise event
                    return event
                return await ended.wait()

            async def send(event):
                if refuse == event["type"]:
                    raise OSError("the peer has left")
                if stuck == event["type"]:
                    await ended.wait()
                self.sent.append(event)

            await self._middleware(self.scope, receive, send)

        asyncio.run(asyncio.wait_for(serve(), TIMEOUT))
        return self.sent


def text(message):
    return {"type": "websocket.receive", "text": message}


def binary(message):
    return {"type": "websocket.receive", "text": None, "bytes": message}


def gone(code=1000, reason=""):
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def close(code=1000, reason=""):
    return {"type": "websocket.close", "code": code, "reason": reason}


def application(scope, receive, send):
    raise AssertionError("not for the application")


def middleware(handler, path="/ws", more=(), **options):
    routes = ws.Routes()
    routes.websocket(path, handler, **dict(more))
    return asgi.Middleware(application, routes, **options)


def accepted(subprotocol=None):
    return {"type": "websocket.accept", "subprotocol": subprotocol, "headers": []}


# -- a whole connection -----------------------------------------------------------------


def test_messages_go_both_ways_and_the_peers_close_is_seen():
    seen = []

    def handler(client):
        seen.extend(client)
        seen.append((client.close_code, client.close_reason, client.connected()))
        with pytest.raises(ws.ConnectionClosed):
            client.send("too late")

    sent = Server(middleware(handler)).run(text("a"), binary(b"\1\2"), gone(4000, "bye"))
    assert seen == ["a", [1, 2], (4000, "bye", False)]
    assert sent == [accepted()]


def test_what_a_handler_sends_is_an_event_each():
    def handler(client):
        client.send("a")
        client.send({"b": 1}, timeout=None)
        client.send_binary([1, 255])
        with pytest.raises(TypeError, match="takes messages"):
            client.send_many("letters")
        client.send_many(["c", b"d", [3]])

    assert Server(middleware(handler)).run() == [
        accepted(),
        {"type": "websocket.send", "text": "a"},
        {"type": "websocket.send", "text": '{"b":1}'},
        {"type": "websocket.send", "bytes": b"\x01\xff"},
        {"type": "websocket.send", "text": "c"},
        {"type": "websocket.send", "bytes": b"d"},
        {"type": "websocket.send", "bytes": b"\x03"},
        close(),
    ]


def test_what_has_moved_is_counted_as_far_as_asgi_tells():
    seen = []

    def handler(client):
        seen.append(client.stats())
        client.send("\u20ac")
        client.send_many(["a", b"bc"])
        seen.extend(client.receive(TIMEOUT) for _ in range(2))
        client.close()
        seen.append(client.stats())
        until(lambda: client.stats().seconds_since_sent > seen[-1].seconds_since_sent)
        seen.append(client.stats())

    Server(middleware(handler)).run(text("\u20ac\u20ac"), binary(b"\1"))
    before, *messages, after, later = seen
    assert messages == ["\u20ac\u20ac", [1]]
    assert isinstance(after, asgi.MessageStats)
    assert not isinstance(after, ws.ConnectionStats)
    assert (before.messages_sent, before.bytes_sent) == (0, 0)
    assert (after.messages_sent, after.bytes_sent) == (3, 6)
    assert (after.messages_received, after.bytes_received) == (2, 7)
    assert 0 <= before.seconds_open < TIMEOUT
    assert later.seconds_open == after.seconds_open  # it is over
    assert 0 <= after.seconds_since_received < later.seconds_since_received


def test_the_log_of_frames_has_messages_and_says_what_it_cannot_see(caplog):
    def handler(client):
        client.send("h\u00e4\n")
        client.send_binary(b"\0" * 65)
        for _ in range(2):
            assert client.receive(TIMEOUT) is not None
        client.close(4000, "bye\n")

    def lines():
        found = [r.getMessage() for r in caplog.records if r.name == "scriptling_ws.frames"]
        return [line.partition(" ")[2] for line in found]

    Server(middleware(handler)).run(text("a"), text("b"))
    assert lines() == []
    caplog.set_level("DEBUG", logger="scriptling_ws.frames")
    Server(middleware(handler)).run(text("x" * 65), binary(b"\xff"))
    opened = lines()[0]
    assert opened == (
        "open: 127.0.0.1:80 to 192.0.2.1:4000, GET '/ws'; frames, pings and compression are the "
        "ASGI server's, and not seen here"
    )
    assert sorted(lines()[1:]) == [
        r"closed: 4000 'bye\n'",
        "received BINARY, 1 byte: ff",
        f"received TEXT, 65 characters: '{'x' * 64}'...",
        f"sent BINARY, 65 bytes: {'00 ' * 63}00...",
        r"sent TEXT, 3 characters: 'h\xe4\n'",
    ]


def test_a_subprotocol_is_chosen_and_bytes_stay_bytes():
    seen = []

    def handler(client):
        seen.extend((client.subprotocol, client.receive(TIMEOUT), repr(client)))
        client.close(3000, "enough")
        client.close()
        seen.append(repr(client))

    options = {"subprotocols": ["v2"], "binary_type": bytes}
    sent = Server(middleware(handler, more=options)).run(binary(b"\1"))
    assert sent == [accepted("v2"), close(3000, "enough")]
    about = "<Client 127.0.0.1:80 to 192.0.2.1:4000"
    assert seen == ["v2", b"\1", f"{about}, open>", f"{about}, closed 3000>"]


def test_a_handler_that_has_not_run_has_failed(caplog):
    async def later(client):
        """Never runs."""

    sent = Server(middleware(lambda client: later(client))).run()
    assert sent[-1]["code"] == 1011
    assert "the handler returned a coroutine" in caplog.text


def test_a_handler_that_fails_closes_with_1011(caplog):
    sent = Server(middleware(lambda client: 1 / 0)).run()
    assert "the handler of '/ws' failed" in caplog.text
    assert sent[-1]["code"] == 1011


def test_the_request_is_that_of_the_scope():
    seen = []
    scope = {"path": "/app/wé", "root_path": "/app", "raw_path": b"/app/w%C3%A9"}
    server = Server(middleware(lambda c: seen.append(c.request), "/wé"), **scope, scheme="wss")
    server.run()
    request = seen[0]
    assert (request.path, request.target, request.query) == ("/wé", "/app/w%C3%A9?a=1", {"a": "1"})
    assert (request.remote_addr, request.secure) == ("192.0.2.1:4000", True)


def test_what_is_no_websocket_of_a_route_is_the_applications():
    async def page(scope, receive, send):
        await send(scope["type"])

    routes = ws.Routes()
    routes.websocket("/ws", print)
    made = asgi.Middleware(page, routes)
    for scope in ({"type": "http"}, {"type": "lifespan"}, {"type": "websocket", "path": "/x"}):
        sent = []

        async def send(event, sent=sent):
            sent.append(event)

        asyncio.run(made(scope, None, send))
        assert sent == [scope["type"]]


@pytest.mark.parametrize(
    ("headers", "options", "status"),
    [
        ([(b"origin", b"https://foreign.example")], {}, 403),
        ([(b"host", b"foreign.example")], {}, 400),
        ([(b"host", b"")], {}, 400),
        ([], {"raw_path": b"/a%2f/ws"}, 404),
        ([(b"bad name", b"x")], {}, 400),
        ([(b"x", b"a\r\nb: c")], {}, 400),
    ],
)
def test_a_refusal_has_its_status_where_the_server_takes_one(headers, options, status):
    names = {name for name, _ in headers}
    usual = [pair for pair in [(b"host", b"localhost"), *HEADERS] if pair[0] not in names]
    scope = {"headers": [*usual, *headers], **options}
    for extensions in ({"websocket.http.response": {}}, None):
        sent = Server(middleware(print), **scope, extensions=extensions).run()
        if extensions:
            assert [event["type"].rpartition(".")[2] for event in sent] == ["start", "body"]
            assert sent[0]["status"] == status
            assert dict(sent[0]["headers"])[b"content-length"] == b"%d" % len(sent[1]["body"])
        else:
            assert sent == [{"type": "websocket.close", "code": 1008}]


def test_more_than_max_connections_are_refused():
    inner = []

    def handler(client):
        inner.extend(Server(made, extensions={"websocket.http.response": {}}).run())

    made = middleware(handler, max_connections=1)
    Server(made).run()
    assert inner[0]["status"] == 503


def test_a_server_that_takes_no_more_closes_the_connection():
    errors = []

    def handler(client):
        with pytest.raises(ws.ConnectionClosed) as caught:
            client.send("a")
        errors.append(caught.value.__cause__)
        assert client.close_code == 1006

    Server(middleware(handler)).run(refuse="websocket.send")
    assert isinstance(errors[0], OSError)


def test_messages_that_nobody_receives_stay_with_the_server():
    go_on, counts = threading.Event(), []

    def handler(client):
        until(lambda: server.taken >= 60)
        assert go_on.wait(TIMEOUT)
        messages = client.receive_many(1000, TIMEOUT)
        counts.append(len(messages))
        while len(messages) < 200:
            messages += client.receive_many(1000, TIMEOUT)
        assert messages == [str(number) for number in range(200)]

    server = Server(middleware(handler))
    threading.Timer(0.1, go_on.set).start()
    server.run(*(text(str(number)) for number in range(200)))
    assert counts[0] < 200


def test_a_message_that_is_too_large_closes_with_1009():
    seen = []
    server = Server(middleware(seen.extend, max_message_size=MIB))
    sent = server.run(binary(bytes(MIB + 1)))
    assert seen == []
    assert sent[-1] == close(1009, f"a message is over the {MIB} bytes of max_message_size")


def test_a_server_that_cancels_wakes_the_handler():
    ended = threading.Event()

    def handler(client):
        assert client.receive(None) is None
        assert client.close_code == 1001
        ended.set()

    async def serve():
        async def receive():
            await asyncio.sleep(0)
            if not server.sent:
                return {"type": "websocket.connect"}
            return await asyncio.Event().wait()

        async def send(event):
            server.sent.append(event)

        task = asyncio.ensure_future(made(server.scope, receive, send))
        while not server.sent:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    made = middleware(handler)
    server = Server(made)
    asyncio.run(serve())
    assert ended.wait(TIMEOUT)
    assert server.sent[1:] == [close(1001, "the server is shutting down")]


@pytest.mark.parametrize(
    "event", [RuntimeError("no more"), OSError("gone"), {"type": "websocket.receive"}]
)
def test_a_server_that_fails_to_receive_ends_the_connection(event, caplog):
    seen = []

    def handler(client):
        seen.append(client.receive(None))
        seen.append(client.close_code)

    Server(middleware(handler)).run(event)
    until(lambda: not ending()._seats)  # the handler has returned, which nobody else waits for
    assert seen == [None, 1006]
    assert "receiving from the ASGI server failed" in caplog.text


def test_a_client_that_leaves_before_it_is_accepted_has_no_handler():
    called = []
    made = middleware(called.append)
    assert Server(made).run(first=gone(1006)) == []
    assert Server(made).run(refuse="websocket.accept") == []
    foreign = {"headers": [*HEADERS, (b"host", b"foreign.example")]}
    assert Server(made, **foreign).run(refuse="websocket.close") == []
    taken = {"extensions": {"websocket.http.response": {}}}
    assert Server(made, **foreign, **taken).run(refuse="websocket.http.response.start") == []
    assert called == []
    assert not ending()._seats


def test_a_peer_that_does_not_read_keeps_no_connection():
    """Nothing else would end what waits for it: not the server, where it sends no pings."""
    seen = []

    def handler(client):
        with pytest.raises(ws.SendTimeout):
            client.send("a")
        seen.append(client.close_code)

    Server(middleware(handler, send_timeout=0.1)).run(stuck="websocket.send")
    until(lambda: not ending()._seats)
    assert seen == [1006]


def test_a_close_ends_a_send_that_waits():
    seen = []

    def send(client):
        with pytest.raises(ws.ConnectionClosed) as caught:
            client.send("a", timeout=None)
        seen.append(caught.value.code)

    def handler(client):
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        client.close(4000)
        sender.join()

    Server(middleware(handler, close_timeout=0.1)).run(stuck="websocket.send")
    until(lambda: not ending()._seats)
    assert seen == [4000]


def test_a_close_that_is_not_taken_ends_the_connection():
    Server(middleware(print, close_timeout=0.1)).run(stuck="websocket.close")
    until(lambda: not ending()._seats)


def test_a_full_inbox_does_not_hide_the_end():
    def handler(client):
        until(lambda: len(client._inbox) == 64)
        client._begin_close(1001)
        until(lambda: server.taken > 100)

    server = Server(middleware(handler))
    server.run(*(text("a") for _ in range(100)))


def test_a_handler_has_its_seat_until_it_returns():
    go_on = threading.Event()

    def handler(client):
        with pytest.raises(ws.SendTimeout):
            client.send("a")
        assert go_on.wait(TIMEOUT)

    made = middleware(handler, send_timeout=0.1, max_connections=1)
    Server(made).run(stuck="websocket.send")
    taken = {"extensions": {"websocket.http.response": {}}}
    assert Server(made, **taken).run()[0]["status"] == 503
    go_on.set()
    until(lambda: not ending()._seats)


def test_the_path_of_the_mount_itself():
    seen = []
    scope = {"path": "/app", "root_path": "/app/", "raw_path": b"/app"}
    Server(middleware(lambda c: seen.append(c.request.path), "/"), **scope).run()
    assert seen == ["/"]


# -- the client by itself ------------------------------------------------------------------


@pytest.fixture
def posted():
    return []


@pytest.fixture
def client(posted):
    options = Options(send_timeout=0, close_timeout=0)
    return Client(posted.append, lambda: None, options, Request("GET", "/"))


def test_it_has_the_calls_of_a_connection(client):
    def calls(kind):
        found = inspect.getmembers(kind, lambda value: inspect.isfunction(value))
        return {
            name: list(inspect.signature(function).parameters)
            for name, function in found
            if not name.startswith("_") or name in ("__iter__", "__enter__", "__exit__")
        }

    assert calls(Client) == calls(ws.Connection)
    for name in ("close_code", "close_reason", "local_addr", "peer_addr", "remote_addr", "request"):
        assert hasattr(client, name)


def test_what_asgi_does_not_carry_says_so(client):
    for call in (client.ping, client.fileno, lambda: client.latency):
        with pytest.raises(NotImplementedError, match=r"ASGI does not carry .*: the server sends"):
            call()


def test_messages_in_parts_are_not_carried(client):
    calls = (
        lambda: client.receive_into(bytearray(9)),
        client.receive_stream,
        lambda: client.send_stream([b"x"]),
    )
    for call in calls:
        with pytest.raises(NotImplementedError, match="ASGI carries whole messages: use send"):
            call()


def test_a_silence_and_a_close_raise_where_they_are_asked_to(client):
    with pytest.raises(ws.ReceiveTimeout, match="no message within 0 s"):
        client.recv(0)
    waiting = client.messages(0)
    with pytest.raises(ws.ReceiveTimeout):
        next(waiting)
    client._feed('{"a": [1]}')
    client._feed("x")
    client._feed("y")
    assert client.receive_json(0) == {"a": [1]}
    assert client.recv(0) == "x"
    assert next(waiting) == "y"
    client._left(1001, "gone")
    assert list(waiting) == []
    with pytest.raises(ws.ConnectionClosed) as closed:
        client.recv(0)
    assert closed.value.code == 1001


def test_text_as_bytes_and_json_by_functions():
    def handler(client):
        message = client.receive(TIMEOUT)
        client.send_text(message + b"!")
        client.send_text("str")
        client.send_text(bytearray("€".encode()))
        with pytest.raises(ValueError, match="byte 1 of 2"):
            client.send_text(b"x\xff")
        client.send({"a": client.receive_json(TIMEOUT)})
        with pytest.raises(ws.InvalidMessage) as caught:
            client.receive_json(TIMEOUT)
        assert caught.value.message == b"bad"
        assert client.receive(TIMEOUT) == [1]

    def loads(text):
        assert type(text) is bytes
        return int(text)

    options = {"text_type": bytes, "loads": loads, "dumps": lambda value: repr(value).encode()}
    server = Server(middleware(handler, **options))
    sent = server.run(
        *map(text, ("é", "5", "bad")), {"type": "websocket.receive", "bytes": b"\x01"}
    )
    texts = [event["text"] for event in sent if event["type"] == "websocket.send"]
    assert texts == ["é!", "str", "€", "{'a': 5}"]
    assert all(type(each) is str for each in texts)
    with pytest.raises(ValueError, match="would look the same"):
        middleware(handler, text_type=bytes, binary_type=bytes)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda c: c.send(b"x"), TypeError, "use send_binary"),
        (lambda c: c.send("\ud800"), ValueError, "lone surrogate"),
        (lambda c: c.send_binary("x"), TypeError, "send"),
        (lambda c: c.send_binary([256]), ValueError, "256"),
        (lambda c: c.send("x", timeout=-1), ValueError, "timeout"),
        (lambda c: c.receive(-1), ValueError, "timeout"),
        (lambda c: c.receive_many(0), ValueError, "limit"),
        (lambda c: c.close(1005), ValueError, "1005"),
        (lambda c: c.close(1000, "r" * 124), ValueError, "123"),
        (lambda c: c.on_close(None), TypeError, "takes a function"),
    ],
)
def test_a_wrong_argument_changes_nothing(client, posted, call, error, words):
    with pytest.raises(error, match=words):
        call(client)
    assert posted == []
    assert client.connected()


def test_receive_times_out_and_loses_nothing(client):
    assert client.receive(0) is None
    assert client.receive(0.01) is None
    assert client.receive_many(5, 0) == []
    client._feed("a")
    client._feed("b")
    assert client.receive_many(5, 0) == ["a", "b"]


def test_a_server_that_does_not_answer_is_a_timeout(client):
    with pytest.raises(ws.SendTimeout):
        client.send("x")
    assert client.close_code == 1006


def test_on_close_is_called_once(client, posted):
    called = []
    client.on_close(lambda: called.append("before"))
    client.on_close(lambda: 1 / 0)
    client._begin_close(1001, "end")
    client._left(1000)
    client.on_close(lambda: called.append("after"))
    assert called == ["before", "after"]
    assert (client.close_code, client.close_reason) == (1001, "end")
    assert [one.event for one in posted] == [close(1001, "end")]
    assert not client._settled()
    posted[0].settle()
    assert client._settled()


def test_an_exit_in_on_close_is_that_of_the_main_thread_alone(client, caplog):
    client.on_close(sys.exit)
    with pytest.raises(SystemExit):  # here it may be a signal handler's
        client.close()
    assert caplog.text == ""
    other = Client(lambda posted: None, lambda: None, client._options, client.request)
    other.on_close(sys.exit)
    closing = threading.Thread(target=other._left, args=(1000,))
    closing.start()
    closing.join()
    assert "an on_close callback failed" in caplog.text


@pytest.mark.parametrize(("message", "fits"), [("é" * 5, True), ("é" * 5 + "a", False)])
def test_of_a_text_the_bytes_count(posted, message, fits):
    options = Options(max_message_size=10)
    client = Client(posted.append, lambda: None, options, Request("GET", "/"))
    assert client._feed(message)
    assert client.connected() == fits


def test_a_receiver_that_is_interrupted_keeps_no_other_from_its_message(client, monkeypatch):
    seen = []
    plain = engine().event
    other = threading.Thread(target=lambda: seen.append(client.receive(TIMEOUT)))

    class Interrupted:
        def set(self):
            pass

        def wait(self, seconds):
            monkeypatch.setattr(type(engine()), "event", staticmethod(plain))
            other.start()
            until(lambda: len(client._inbox._waiters) == 2)
            client._feed("a")
            raise KeyboardInterrupt

    monkeypatch.setattr(type(engine()), "event", staticmethod(Interrupted))
    with pytest.raises(KeyboardInterrupt):
        client.receive(TIMEOUT)
    other.join()
    assert seen == ["a"]


def test_a_receiver_that_is_interrupted_too_late_wakes_no_other(client, monkeypatch):
    """Its message is taken already, so that the other has nothing to look for."""
    seen, woken = [], []
    plain = engine().event
    other = threading.Thread(target=lambda: seen.append(client.receive(TIMEOUT)))

    class Interrupted:
        def set(self):
            woken.append(self)

        def wait(self, seconds):
            monkeypatch.setattr(type(engine()), "event", staticmethod(plain))
            other.start()
            until(lambda: len(client._inbox._waiters) == 2)
            client._feed("a")
            assert client.receive(0) == "a"
            raise KeyboardInterrupt

    monkeypatch.setattr(type(engine()), "event", staticmethod(Interrupted))
    with pytest.raises(KeyboardInterrupt):
        client.receive(TIMEOUT)
    assert len(woken) == len(client._inbox._waiters) == 1
    client._feed("b")
    other.join()
    assert seen == ["b"]


def test_it_cannot_be_copied(client):
    with pytest.raises(TypeError, match="cannot be copied"):
        client.__reduce_ex__(2)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((None, ws.Routes()), {}, TypeError, "has to be an ASGI application"),
        ((application, {}), {}, TypeError, "routes has to be a Routes"),
        ((application, ws.Routes()), {}, ValueError, "the routes have no WebSocket"),
        ((application, ws.Routes()), {"max_connections": 0}, ValueError, "at least 1"),
        ((application, ws.Routes()), {"orgins": 1}, TypeError, "did you mean 'origins'"),
    ],
)
def test_a_wrong_middleware_fails_where_it_is_made(arguments, options, error, words):
    with pytest.raises(error, match=words):
        asgi.Middleware(*arguments, **options)


def test_without_a_thread_a_connection_is_told_to_come_later(monkeypatch):
    def spawn(body, name):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(type(engine()), "spawn", staticmethod(spawn))
    sent = Server(middleware(print)).run()
    assert sent == [accepted(), close(1013, "the server has no thread left")]
    asked = []
    made = middleware(print, authorize=asked.append)
    start, body = Server(made, extensions={"websocket.http.response": {}}).run()
    assert start["status"] == 503
    assert b"no thread left" in body["body"]
    assert asked == []
    assert not ending()._seats


def test_a_loop_that_is_not_asyncios_is_an_error():
    call = middleware(print)(Server(None).scope, None, None)
    with pytest.raises(RuntimeError, match="needs asyncio"):
        call.send(None)


@pytest.mark.parametrize(
    ("pair", "address"),
    [(None, "unix:"), (("/run/app", None), "unix:/run/app"), (("testclient", None), "testclient")],
)
def test_the_clients_address_is_the_servers_word(pair, address):
    seen = []
    Server(middleware(lambda c: seen.append(c.remote_addr)), client=pair, server=None).run()
    assert seen == [address]


def test_a_block_closes_the_connection(client, posted):
    with pytest.raises(ZeroDivisionError), client:
        raise ZeroDivisionError
    with client as same:
        assert same is client
    assert [one.event["code"] for one in posted] == [1011]


def test_what_comes_after_the_close_is_dropped(client):
    client._begin_close(1000)
    assert client._feed("late")
    assert client.receive(0) is None


def test_what_a_server_that_gives_up_has_not_taken_is_lost_and_said_so():
    errors, stuck = [], threading.Event()

    def send(client):
        with pytest.raises(ws.ConnectionClosed) as caught:
            client.send("a")
        errors.append(caught.value)

    def handler(client):
        first = threading.Thread(target=send, args=(client,))
        first.start()
        assert stuck.wait(TIMEOUT)  # the first message is with the server, for good
        second = threading.Thread(target=send, args=(client,))
        second.start()
        client.on_close(lambda: None)
        first.join()
        second.join()

    async def serve():
        async def receive():
            return {"type": "websocket.connect"} if not sent else await asyncio.Event().wait()

        async def send(event):
            sent.append(event)
            if event["type"] == "websocket.send":
                stuck.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(made(Server(None).scope, receive, send))
        while not stuck.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    sent, made = [], middleware(handler)
    asyncio.run(serve())
    until(lambda: len(errors) == 2)


def test_authorize_and_parameters_hold_here_too():
    def authorize(request):
        if "authorization" not in request.headers:
            return HTTP.text(401, "who are you?")
        request.state.user = "Ann"
        return {"Set-Cookie": "a=1"}

    seen = []
    made = middleware(
        lambda c: seen.append((c.user, c.request.params)), "/room/{name}", authorize=authorize
    )
    scope = {"path": "/room/one", "raw_path": b"/room/one"}
    taken = {"extensions": {"websocket.http.response": {}}}
    assert Server(made, **scope, **taken).run()[0]["status"] == 401
    headers = [(b"host", b"localhost"), *HEADERS, (b"authorization", b"x")]
    sent = Server(made, **scope, headers=headers).run()
    assert sent[0] == {**accepted(), "headers": [(b"set-cookie", b"a=1")]}
    assert seen == [("Ann", {"name": "one"})]
