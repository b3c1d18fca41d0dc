"""reconnecting(): tries, waits, budgets and final failures, against servers that come and go."""

import contextlib
import errno
import gc
import logging
import queue
import signal
import socket
import threading
import time
from email.utils import formatdate

import pytest

import scriptling_ws as ws
from pairs import (
    SOON,
    at_least,
    connection,
    receive_head,
    running,
    tls_contexts,
    until,
    upgrade_answer,
)
from scriptling_ws._client import backoff
from scriptling_ws._client.backoff import Budget, Pace, is_final, retry_after
from scriptling_ws._client.reconnecting import _UNWOKEN
from scriptling_ws._network import deadline as _deadline
from scriptling_ws._network.waiting import engine
from servers import echo, serving
from tunnels import listening

pytestmark = pytest.mark.once("it is about when to connect")

AT_ONCE = {"first_delay": 0, "min_uptime": 0}  # every wait is none
LONG = {"first_delay": 3600, "max_delay": 3600}


class Fickle:
    """A server that treats each client as its script says, the last one for ever.

    An entry is the lines of a refusal's head; "drop" to hang up before any answer; or a function
    of the server's end of an open connection.
    """

    def __init__(self, *script):
        self.requests = []
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/feed?token=secret"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            sock, _ = self._listener.accept()
            if self._listener.fileno() < 0 or self._script is None:
                sock.close()
                return
            with sock, contextlib.suppress(OSError):
                self._treat(sock, self._script[min(len(self.requests), len(self._script) - 1)])

    def _treat(self, sock, how):
        request = receive_head(sock)
        self.requests.append(request)
        if how == "drop":
            return
        if not callable(how):
            sock.sendall("\r\n".join([*how, "Content-Length: 0", "", ""]).encode())
            return
        sock.sendall(upgrade_answer(request))
        conn = connection(sock.dup(), client=False, ping_interval=None)
        how(conn)
        conn.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._script = None
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join(SOON)
        self._listener.close()


def refusal(status, *lines):
    return [f"HTTP/1.1 {status} No", *lines]


BUSY = refusal(503)


def greet(conn):
    conn.send("hello")


def serve_one(conn):
    for message in conn:
        conn.send(message)


# -- connecting again ----------------------------------------------------------


def test_a_loop_goes_on_past_refusals_and_ends(log):
    with Fickle(BUSY, "drop", greet, BUSY, greet) as server:
        heard = []
        conns = ws.reconnecting(server.url, **AT_ONCE)
        for conn in conns:
            assert conn.connected()
            heard += list(conn)
            if len(heard) == 2:
                break
        assert heard == ["hello", "hello"]
        assert len(server.requests) == 5
    said = log.texts(logging.WARNING)
    assert len(said) == 4  # one for each failure, and one for the end of the first connection
    assert all("next try in 0.0 s" in line for line in said)
    assert "HTTP status 503" in said[0]
    assert "the connection is closed (code 1000)" in said[2]
    assert not any("secret" in line for line in said)
    assert server.url.partition("?")[0] in said[0]


def test_every_third_connection_is_dropped_and_nothing_is_sent_again():
    heard = []

    def take(conn):
        heard.append(conn.receive(SOON))

    with Fickle(take, take, "drop", take) as server:
        conns = ws.reconnecting(server.url, **AT_ONCE)
        for number, conn in enumerate(conns):
            conn.send(str(number))
            assert conn.receive(SOON) is None
            if number == 2:
                break
    assert heard == ["0", "1", "2"]


def test_leaving_the_loop_closes_the_connection():
    codes = queue.Queue()

    def stay(conn):
        while conn.connected():
            conn.receive(SOON)
        codes.put(conn.close_code)

    with Fickle(stay) as server:
        conns = ws.reconnecting(server.url, **AT_ONCE)
        for conn in conns:
            kept = conn
            break
        gc.collect()  # for PyPy, as the docstring says
        assert codes.get(timeout=SOON) == 1000
        assert not kept.connected()
        with pytest.raises(ZeroDivisionError):
            for _ in conns:
                raise ZeroDivisionError
        gc.collect()
        assert codes.get(timeout=SOON) == 1000
        with conns:
            for conn in conns:
                with conn:
                    conn.close(4000)
                break
        assert codes.get(timeout=SOON) == 4000
        assert list(conns) == []  # what is closed stays closed


def test_a_turn_that_goes_on_leaves_no_connection_open():
    with Fickle(serve_one) as server:
        first = None
        for conn in ws.reconnecting(server.url, **AT_ONCE):
            if first is None:
                first = conn
                continue
            assert first.close_code == 1000
            conn.send("second")
            assert conn.receive(SOON) == "second"
            break


def test_url_and_headers_may_be_made_for_each_try():
    numbers = iter(range(10))
    with Fickle(BUSY, greet) as server:
        conns = ws.reconnecting(
            lambda: f"{server.url}&n={next(numbers)}",
            headers=lambda: {"Authorization": f"Bearer {next(numbers)}"},
            binary_type=bytes,
            compression="deflate",
            **AT_ONCE,
        )
        for conn in conns:
            assert conn.recv(SOON) == "hello"
            break
    targets = [request.split()[1] for request in server.requests]
    assert [target[-3:] for target in targets] == [b"n=0", b"n=2"]
    assert [b"Bearer 1" in server.requests[0], b"Bearer 3" in server.requests[1]] == [True, True]


def test_what_comes_from_an_iterator_is_there_for_each_try():
    level, name = socket.SOL_SOCKET, socket.SO_KEEPALIVE
    with Fickle(BUSY, greet) as server:
        conns = ws.reconnecting(
            server.url,
            headers=iter([("Authorization", "Bearer secret")]),
            subprotocols=iter(["chat"]),
            socket_options=iter([(level, name, 1)]),
            **AT_ONCE,
        )
        for conn in conns:
            assert conn._link.transport._sock.getsockopt(level, name)
            break
    assert len(server.requests) == 2
    for request in server.requests:
        assert b"Authorization: Bearer secret\r\n" in request
        assert b"Sec-WebSocket-Protocol: chat\r\n" in request


def test_a_redirect_is_logged_without_the_query(log):
    moved = refusal(301, "Location: wss://u:secret@h/feed?token=secret")
    with Fickle(moved) as server, pytest.raises(ws.HandshakeError, match="301"):
        next(iter(ws.reconnecting(server.url)))
    (line,) = log.texts(logging.WARNING)
    assert "secret" not in line
    assert "wss://h/feed?..." in line


def test_a_server_of_ours_that_restarts():
    with serving(echo) as server:
        port = server.port
        conns = ws.reconnecting(server.url, first_delay=0.05, min_uptime=0)
        turns = iter(conns)
        conn = next(turns)
        conn.send("a")
        assert conn.recv(SOON) == "a"
    assert list(conn) == []
    assert conn.close_code == 1001
    with serving(echo, port=port):
        conn = next(turns)
        conn.send("b")
        assert conn.recv(SOON) == "b"
        turns.close()
    assert conns.last_error is not None


def test_foreign_servers(peer):
    with peer("server") as process:
        port = process.report()["port"]
        url = f"ws://127.0.0.1:{port}/close?code=4000&reason=bye&id=1"
        for turn, conn in enumerate(ws.reconnecting(url, **AT_ONCE)):
            conn.send("go")
            with pytest.raises(ws.ConnectionClosed, match="4000, bye"):
                conn.recv(SOON)
            if turn == 2:
                break


# -- the end -------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 200])
def test_what_would_be_refused_again_is_final(status, log):
    with (
        Fickle(refusal(status)) as server,
        pytest.raises(ws.HandshakeError, match=str(status)) as caught,
    ):
        conns = ws.reconnecting(server.url, **AT_ONCE)
        next(iter(conns))
    assert conns.last_error is caught.value
    assert conns.failures == len(server.requests) == 1
    (line,) = log.texts(logging.WARNING)
    assert line.endswith("this is final")


def test_a_certificate_that_is_not_trusted_is_final():
    _, server_context = tls_contexts()
    with serving(echo, ssl_context=server_context) as server:
        url = server.url.replace("ws://", "wss://")
        with pytest.raises(ws.ConnectError, match="certificate") as caught:
            next(iter(ws.reconnecting(url, **LONG)))
        assert is_final(caught.value)


def test_a_proxys_certificate_that_is_not_trusted_is_final(log):
    _, server_context = tls_contexts()
    with listening(lambda _: None, context=server_context) as port:
        conns = ws.reconnecting("ws://localhost/", proxy=f"https://localhost:{port}", **LONG)
        with pytest.raises(ws.ProxyError, match="certificate"):
            next(iter(conns))
    assert log.texts(logging.WARNING)[-1].endswith("this is final")


def test_a_bad_url_is_final():
    with pytest.raises(ws.InvalidURL):
        next(iter(ws.reconnecting("http://127.0.0.1/", **AT_ONCE)))


def test_what_is_final_can_be_said_otherwise():
    seen = []

    def final(error):
        seen.append(error)
        if isinstance(error, ws.InvalidURL) or getattr(error, "status", None) == 401:
            return False
        return True if getattr(error, "code", None) == 1000 else None

    urls = iter(["ftp://127.0.0.1/"])
    with Fickle(refusal(401), BUSY, greet) as server:
        conns = ws.reconnecting(lambda: next(urls, server.url), final=final, **AT_ONCE)
        with pytest.raises(ws.ConnectionClosed) as caught:
            for conn in conns:
                assert list(conn) == ["hello"]
    kinds = [ws.InvalidURL, ws.HandshakeError, ws.HandshakeError, ws.ConnectionClosed]
    assert [type(error) for error in seen] == kinds
    assert conns.last_error is caught.value is seen[-1]


def test_the_budget_of_tries(log):
    with Fickle(BUSY) as server:
        conns = ws.reconnecting(server.url, max_tries=3, **AT_ONCE)
        for _ in range(2):  # each loop begins anew
            with pytest.raises(ws.HandshakeError, match="503"):
                next(iter(conns))
            assert conns.failures == 3
    assert len(server.requests) == 6
    assert log.texts(logging.WARNING)[-1].endswith("given up after 3 failures")


def test_a_server_that_accepts_and_closes_counts_as_failing():
    with Fickle(greet) as server:
        conns = ws.reconnecting(server.url, max_tries=2, first_delay=0)
        turns = 0
        with pytest.raises(ws.ConnectionClosed):
            for conn in conns:
                turns += 1
                assert conn.receive(SOON) == "hello"
                assert conn.receive(SOON) is None
    assert turns == conns.failures == 2


def test_a_wait_is_as_long_as_it_is_said_to_be(monkeypatch):
    monkeypatch.setattr(backoff, "_up_to", lambda seconds: seconds)
    with Fickle(BUSY, BUSY, greet) as server, at_least(0.45):
        for conn in ws.reconnecting(server.url, first_delay=0.15):
            assert conn.receive(SOON) == "hello"
            break


def test_the_budget_of_time(monkeypatch):
    waits = []  # in each of which the clock is set forward
    monkeypatch.setattr(backoff, "_up_to", lambda seconds: seconds)
    monkeypatch.setattr(_deadline, "monotonic", lambda: time.monotonic() + sum(waits))
    with Fickle(BUSY) as server:
        conns = ws.reconnecting(server.url, max_time=100, first_delay=15, max_delay=3600)
        monkeypatch.setattr(type(conns), "_wait", lambda _, seconds: waits.append(seconds))
        with pytest.raises(ws.HandshakeError, match="503"):
            next(iter(conns))
    assert waits == [15, 30]  # the wait of 60 s would have been too long
    assert len(server.requests) == 3


def test_close_ends_a_wait_and_a_connection(log):
    def loop(conns):
        return [conn.receive(None) for conn in conns]

    with Fickle(refusal(503, "Retry-After: 1234"), serve_one) as server:
        conns = ws.reconnecting(server.url, first_delay=0)
        with running(lambda: loop(conns)) as (waiting,):
            assert "next try in 1234.0 s" in log.wait_for("next try").message
            until(lambda: conns._waker is not None)  # it waits, or is about to
            conns.close()
            assert waiting.result() == []
        conns.close()  # may be called again
    with Fickle(serve_one) as server:
        conns = ws.reconnecting(server.url, **AT_ONCE)
        opened = threading.Event()

        def turn():
            for conn in conns:
                opened.set()
                return conn.receive(None)
            return "no turn"

        with running(turn) as (waiting,):
            assert opened.wait(SOON)
            conns.close()
            assert waiting.result() is None


def test_close_ends_a_wait_without_a_descriptor(log, monkeypatch):
    def refuse():
        raise OSError(errno.EMFILE, "Too many open files")

    waits, sleep = threading.Event(), engine().sleep

    def asleep(seconds):
        if seconds <= _UNWOKEN:  # else it is somebody else's
            waits.set()
        sleep(seconds)

    monkeypatch.setattr(type(engine()), "waker", staticmethod(refuse))
    monkeypatch.setattr(type(engine()), "sleep", staticmethod(asleep))
    with Fickle(refusal(503, "Retry-After: 1234")) as server:
        conns = ws.reconnecting(server.url)
        with running(lambda: list(conns)) as (waiting,):
            assert waits.wait(SOON)
            conns.close()
            assert waiting.result() == []


@pytest.mark.threads
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no SIGUSR1 here")
def test_what_a_signal_handler_raises_before_a_wait_leaves_the_loop(monkeypatch):
    """An OSError too: it is not that of a waker which cannot be made."""

    def late(*_):
        raise TimeoutError("the program's own")

    def interrupted():
        signal.raise_signal(signal.SIGUSR1)
        return waker()

    waker = engine().waker
    before = signal.signal(signal.SIGUSR1, late)
    try:
        with Fickle(BUSY) as server:
            turns = iter(ws.reconnecting(server.url, **LONG))
            monkeypatch.setattr(type(engine()), "waker", staticmethod(interrupted))
            with pytest.raises(TimeoutError, match="the program's own"):
                next(turns)
            monkeypatch.undo()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("how", [refusal(404), BUSY, "drop"], ids=["404", "503", "drop"])
def test_a_try_that_fails_after_close_raises_nothing(how, log):
    with Fickle(how) as server:
        conns = ws.reconnecting(lambda: conns.close() or server.url, max_tries=1)
        assert list(conns) == []
    assert len(server.requests) == 1
    assert log.texts(logging.WARNING) == []


def test_a_try_that_opens_a_connection_after_close_has_no_turn():
    def serve(conn):
        assert conn.receive(SOON) is None
        seen.append(conn.close_code)

    seen = []
    with Fickle(serve) as server:
        conns = ws.reconnecting(lambda: conns.close() or server.url, **AT_ONCE)
        assert list(conns) == []
    assert seen == [1000]
    assert len(server.requests) == 1


def test_close_within_a_turn_makes_it_the_last(log):
    with Fickle(serve_one) as server:
        conns, turns = ws.reconnecting(server.url, **AT_ONCE), 0
        for conn in conns:
            turns += 1
            conns.close()
            assert not conn.connected()
    assert turns == len(server.requests) == 1
    assert log.texts(logging.WARNING) == []  # it is no failure
    assert conns.last_error is None


@pytest.mark.threads
def test_ctrl_c_ends_a_wait():
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with Fickle(BUSY) as server, pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            next(iter(ws.reconnecting(server.url, **LONG)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets here")
def test_a_unix_socket_is_logged_by_its_path(log):
    with pytest.raises(ws.ConnectError):
        next(iter(ws.reconnecting("ws+unix:///nowhere/socket:/feed?token=secret", max_tries=1)))
    (line,) = log.texts(logging.WARNING)
    assert line.startswith("the Unix socket '/nowhere/socket': ")
    assert "secret" not in line


# -- the pace --------------------------------------------------------------------


def waits(monkeypatch, budget, count):
    """The bounds that the first waits in a row are drawn below."""
    monkeypatch.setattr(backoff, "_up_to", lambda seconds: seconds)
    pace, result = Pace(budget), []
    for _ in range(count):
        pace.failed()
        result.append(pace.delay(ws.ConnectError("no")))
    return result


def test_waits_double_up_to_a_cap(monkeypatch):
    assert waits(monkeypatch, Budget(max_delay=10), 6) == [1, 2, 4, 8, 10, 10]
    assert waits(monkeypatch, Budget(first_delay=1e300, max_delay=1e301), 2000)[-1] == 1e301
    assert waits(monkeypatch, Budget(first_delay=3, max_delay=2), 2) == [2, 2]


def test_waits_are_drawn():
    pace = Pace(Budget(first_delay=1))
    pace.failed()
    drawn = [pace.delay(ws.ConnectError("no")) for _ in range(100)]
    assert 0 <= min(drawn) < 0.5 < max(drawn) <= 1


def test_a_connection_that_lasts_makes_all_count_anew(monkeypatch):
    monkeypatch.setattr(backoff, "_up_to", lambda seconds: seconds)
    pace = Pace(Budget(max_tries=3))
    pace.failed()
    pace.failed()
    assert not pace.lasted(4.9)
    assert pace.delay(ws.ConnectionClosed(1006)) is None
    assert pace.lasted(5.0)
    assert pace.delay(ws.ConnectionClosed(1006)) == 1


def busy(value):
    return ws.HandshakeError("no", 503, {"retry-after": value})


def test_retry_after_is_obeyed_within_bounds(monkeypatch):
    monkeypatch.setattr(backoff, "_up_to", lambda seconds: seconds)
    pace = Pace(Budget())
    pace.failed()
    assert pace.delay(busy("120")) == 121
    for absurd in ("999999", "9" * 11, "9" * 5000):
        assert pace.delay(busy(absurd)) == 3601
    assert Pace(Budget(max_delay=7200)).delay(busy("999999")) == 7201
    assert Pace(Budget(max_time=100)).delay(busy("120")) is None  # it would be in vain
    assert Pace(Budget(max_time=0)).delay(busy("0")) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-1",
        "1.5",
        "\u0661",
        "120, 120",
        "Thu, 99 Foo 2026 00:00:00 GMT",
        "Thu, 01 Jan 99999 00:00:00 GMT",
    ],
)
def test_a_retry_after_that_is_none(value):
    assert retry_after(busy(value)) is None
    assert retry_after(ws.ConnectError("no")) is None


def test_a_retry_after_that_is_a_date():
    assert 50 < retry_after(busy(formatdate(time.time() + 60, usegmt=True))) <= 61
    assert retry_after(busy(formatdate(0, usegmt=True))) == 0


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599, None])
def test_what_passes_is_not_final(status):
    assert not is_final(ws.HandshakeError("no", status))


def test_a_proxy_is_judged_as_a_server_is():
    assert is_final(ws.ProxyError("no", status=407))
    assert not is_final(ws.ProxyError("no", status=502))
    assert not is_final(ws.ProxyError("not reached"))
    assert retry_after(ws.ProxyError("no", status=503, headers={"retry-after": "7"})) == 7


# -- arguments -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"first_delay": -1}, ValueError, "first_delay"),
        ({"first_delay": None}, TypeError, "first_delay"),
        ({"max_delay": float("inf")}, ValueError, "max_delay has to be finite"),
        ({"min_uptime": "5"}, TypeError, "min_uptime"),
        ({"max_tries": 0}, ValueError, "max_tries"),
        ({"max_tries": 1.0}, TypeError, "max_tries"),
        ({"max_time": -1}, ValueError, "max_time"),
        ({"timeout": "1"}, TypeError, "timeout"),
        ({"sock": socket.socket}, ValueError, "sock is for one connection"),
        ({"final": 401}, TypeError, "final has to be a function"),
        ({"max_try": 1}, TypeError, r"reconnecting\(\) takes no option 'max_try'.*'max_tries'"),
    ],
)
def test_bad_arguments_are_told_at_the_call(options, error, says):
    with pytest.raises(error, match=says):
        ws.reconnecting("ws://127.0.0.1/", **options)


def test_what_connect_refuses_is_raised_by_the_first_turn():
    conns = ws.reconnecting("ws://127.0.0.1/", max_message_size=0)
    with pytest.raises(ValueError, match="max_message_size"):
        next(iter(conns))
    with pytest.raises(TypeError, match="URL"):
        next(iter(ws.reconnecting(lambda: None)))
