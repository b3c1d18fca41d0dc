"""The rate of new connections: its buckets, and what who comes too fast gets."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairs import until
from proxied import line, telling_routes
from scriptling_ws._server import rate as _rate
from scriptling_ws._server.callers import BURST, Callers, TurnedAway
from scriptling_ws._server.limits import Limits
from scriptling_ws._server.proxies import Proxies
from scriptling_ws._server.rate import Rate
from servers import Answer, ask, dial, echo, head, raw_websocket, read_all, serving, upgrade
from strategies import quick

pytestmark = pytest.mark.once("it is about the pace of a peer's connections")

# -- buckets ---------------------------------------------------------------


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_burst_and_then_the_rate(clock):
    rate = Rate(2, 3, clock)
    assert [rate.take("a") for _ in range(3)] == [0, 0, 0]
    assert rate.take("a") == pytest.approx(0.5)
    clock.now += 0.4
    assert rate.take("a") == pytest.approx(0.1)  # what was refused has taken nothing
    clock.now += 0.1
    assert rate.take("a") == 0
    assert rate.take("a") == pytest.approx(0.5)
    clock.now += 100
    assert [bool(rate.take("a")) for _ in range(4)] == [False, False, False, True]


def test_keys_are_apart(clock):
    rate = Rate(1, 1, clock)
    assert rate.take("a") == rate.take("b") == 0
    assert rate.take("a") == rate.take("b") == pytest.approx(1)


def test_full_buckets_are_forgotten(clock):
    rate = Rate(1, 1, clock)
    for number in range(100):
        rate.take(str(number))
    assert len(rate) == 100
    clock.now += 1  # exactly then
    for _ in range(60):
        rate.take("last")
    assert len(rate) == 1


def test_the_keys_that_are_kept_are_bounded(clock, monkeypatch):
    monkeypatch.setattr(_rate, "MOST", 100)
    rate = Rate(0.001, 1, clock)
    for number in range(1000):
        assert rate.take(str(number)) == 0
        assert rate.take("often") or number == 0
    assert len(rate) == 100
    assert rate.take("999")
    assert rate.take("0") == 0  # used longest ago: it gave way


@quick
@given(
    st.floats(0.1, 100),
    st.integers(1, 20),
    st.lists(st.floats(0, 5), min_size=1, max_size=100),
)
def test_no_more_come_than_burst_and_rate_allow(per_second, burst, pauses):
    clock = Clock()
    rate, passed = Rate(per_second, burst, clock), []
    for pause in pauses:
        clock.now += pause
        wait = rate.take("a")
        if not wait:
            passed.append(clock.now)
        else:
            # The next moment is told exactly, and nothing was taken.
            clock.now += wait + 1e-5
            assert rate.take("a") == 0
            passed.append(clock.now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            allowed = burst + (passed[last] - passed[first]) * per_second
            assert last - first + 1 <= allowed + 0.01


# -- who comes too fast ----------------------------------------------------


def test_as_many_are_told_as_may_come_and_others_are_closed():
    callers = Callers(Limits(None, None, 1), max_rate=0.001, burst=3)
    for _ in range(3):
        assert callers.welcome("192.0.2.1:1")._refusal is None
    for _ in range(3):
        refusal = callers.welcome("192.0.2.1:2")._refusal
        assert refusal.status == 429
        assert int(dict(refusal.headers)["Retry-After"]) >= 1
    for _ in range(3):
        with pytest.raises(TurnedAway, match="max_connection_rate"):
            callers.welcome("192.0.2.1:3")
    assert callers.welcome("192.0.2.2:1")._refusal is None
    for address in ("[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"):
        assert callers.welcome(address)._refusal is None
    assert callers.welcome("[2001:db8::4]:1")._refusal is not None  # of the same /64


def test_a_client_that_comes_too_fast_is_told_and_then_closed(log):
    options = {"max_connection_rate": 0.001, "max_connection_burst": 3}
    with serving(routes=telling_routes(), **options) as server:
        for _ in range(2):
            assert ask(server, head("/who")).status == 200
        with raw_websocket(server, "/echo"):
            for request in (head("/who"), upgrade("/echo"), head("/nothing")):
                answer = ask(server, request)
                assert answer.status == 429
                assert int(answer.headers["retry-after"]) > 900
                assert b"come more slowly" in answer.body
            for _ in range(20):
                with dial(server) as sock:
                    assert ended(sock) == b""
        log.wait_for("429: too many new connections from your address")
        log.wait_for("max_connection_rate says how many a second")
    assert sum("max_connection_rate" in text for text in log.texts(30)) == 1


def ended(sock):
    """What a connection still says; unread bytes of the peer's make its end a reset."""
    with contextlib.suppress(ConnectionResetError):
        return read_all(sock)
    return b""


def status_or_none(server, request):
    """The status of an answer, None for none."""
    with dial(server) as sock:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(request)
        data = ended(sock)
    return Answer(data).status if data else None


def test_who_waits_as_told_may_come():
    options = {"max_connection_rate": 5, "max_connection_burst": 1}
    with serving(routes=telling_routes(), **options) as server:
        assert ask(server, head("/who")).status == 200
        assert status_or_none(server, head("/who")) == 429
        until(lambda: status_or_none(server, head("/who")) == 200)


def test_without_a_rate_any_number_may_come():
    with serving(echo) as server:
        for _ in range(2 * BURST + 10):
            with raw_websocket(server):
                pass


def test_behind_a_proxy_the_rate_is_the_clients():
    options = {"max_connection_rate": 0.001, "max_connection_burst": 2}
    with serving(routes=telling_routes(), trusted_proxies=["127.0.0.1"], **options) as server:

        def status(client):
            return ask(server, head("/who", f"X-Forwarded-For: {client}")).status

        assert [status("192.0.2.1") for _ in range(6)] == [200, 200, 429, 429, 429, 429]
        assert [status("192.0.2.2") for _ in range(3)] == [200, 200, 429]
        assert [status("unknown") for _ in range(3)] == [200, 200, 429]
        # The proxy's own: its health checks.
        assert [ask(server, head("/who")).status for _ in range(6)] == [200] * 6


def test_behind_a_proxy_that_sends_headers_the_rate_is_the_clients(log):
    options = {"max_connection_rate": 0.001, "max_connection_burst": 2}
    proxies = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}
    with serving(routes=telling_routes(), **proxies, **options) as server:

        def answer(client):
            first = line(client) if client else b"PROXY UNKNOWN\r\n"
            return status_or_none(server, first + head("/who"))

        assert [answer("192.0.2.1") for _ in range(5)] == [200, 200, 429, 429, None]
        assert answer("192.0.2.2") == 200
        assert [answer(None) for _ in range(6)] == [200] * 6
        log.wait_for("closed 192.0.2.1:5000 unanswered: its address opens connections too fast")


def test_places_of_who_was_turned_away_are_given_back():
    limits = Limits(None, 1, 1)
    callers = Callers(limits, Proxies(["127.0.0.1"], protocol=True), max_rate=1, burst=1)
    caller = callers.welcome("127.0.0.1:1")
    assert limits._sockets == {None: 1}
    caller.place.leave()
    with pytest.raises(TurnedAway):
        callers.welcome("192.0.2.1:1")
    assert not limits._sockets


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"max_connection_rate": 0}, ValueError, "above 0, or None"),
        ({"max_connection_rate": -1}, ValueError, "above 0, or None"),
        ({"max_connection_rate": float("nan")}, ValueError, "above 0, or None"),
        ({"max_connection_rate": float("inf")}, ValueError, "above 0, or None"),
        ({"max_connection_rate": "5"}, TypeError, "a number of connections a second"),
        ({"max_connection_rate": True}, TypeError, "a number of connections a second"),
        ({"max_connection_burst": 0}, ValueError, "max_connection_burst has to be at least 1"),
        ({"max_connection_burst": 1.5}, TypeError, "max_connection_burst has to be an int"),
    ],
)
def test_options_that_cannot_be(options, error, says):
    with pytest.raises(error, match=says):
        serving(echo, **options)
