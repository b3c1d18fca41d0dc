"""Every kind of call at once on one connection: nothing is lost, doubled or stuck.

In each test many threads are at one connection, the other end of which is as plain as can
be, so that what fails is at the end under test. Every message says who has sent it and
which of his it is: each comes exactly once, in the order of its sender.
"""

import contextlib
import faulthandler
import itertools
import threading
import time
from collections import Counter

import pytest

from pairs import Running, connection, tcp_pair, tls_pair, until
from scriptling_ws import ConnectionClosed
from scriptling_ws._handshakes.terms import Terms

# Generous: an interpreter without a GIL, or with a tracing JIT, shares two cores here.
STUCK = 45
LASTS = 0.1  # seconds for which the calls go on
SENDERS = 4
RECEIVERS = 3
SIZES = (0, 1, 90, 700, 3000, 20_000)
KEEPALIVE = {"ping_interval": 0.01, "ping_timeout": 20}
OPTIONS = {"binary_type": bytes, "close_timeout": 10, "send_timeout": 30}

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.parametrize("deflate", [None, Terms()], ids=["plain", "deflate"]),
    pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"]),
    pytest.mark.parametrize("client", [True, False], ids=["client", "server"]),
]


@pytest.fixture(autouse=True)
def stuck():
    """Where every thread is, if they do not come to an end; pytest's own timeout is later."""
    faulthandler.dump_traceback_later(2 * STUCK)
    yield
    faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def two_ends(*, client, tls, deflate):
    """The connection under test, with its role, and the peer's."""
    near, far = tls_pair() if tls else tcp_pair()
    if not client:
        near, far = far, near
    tested = connection(near, client=client, deflate=deflate, **OPTIONS, **KEEPALIVE)
    peer = connection(far, client=not client, deflate=deflate, ping_interval=None, **OPTIONS)
    try:
        yield tested, peer
    finally:
        for conn in (tested, peer):
            conn._abort()
            conn.close()


def message(sender, number):
    """Which message it is, and a filling that is its own; every third one is binary."""
    head = f"{sender} {number} "
    text = head + chr(97 + number % 26) * SIZES[(sender + number) % len(SIZES)]
    return text.encode() if number % 3 == 0 else text


def name_of(got):
    """The sender and number of a message, once all of it is as it was sent."""
    text = got.decode() if isinstance(got, bytes) else got
    sender, number, _ = text.split(" ", 2)
    name = int(sender), int(number)
    assert got == message(*name), name
    return name


class Sender:
    """Sends numbered messages by every call that sends, until it is told to stop."""

    def __init__(self, conn, sender, stop):
        self.conn, self.sender, self.stop = conn, sender, stop
        self.sent = 0  # those whose call has returned
        self.begun = 0

    def run(self):
        with contextlib.suppress(ConnectionClosed):
            while not self.stop.is_set():
                self.send()

    def send(self):
        number = self.begun
        if number % 10 == 9:
            self.begun += 5
            self.conn.send_many(message(self.sender, each) for each in range(number, number + 5))
        else:
            self.begun += 1
            one = message(self.sender, number)
            (self.conn.send if isinstance(one, str) else self.conn.send_binary)(one)
        self.sent = self.begun


def collect(conn, names):
    """Receive in every way in turn until the connection ends, then close; list what came."""
    for turn in itertools.count():
        if turn % 3 == 0:
            got = conn.receive_many(20, timeout=0.05)
        elif turn % 3 == 1:
            got = [conn.receive(0.01)]
        else:
            got = [conn.receive(None)]
        names.extend(name_of(each) for each in got if each is not None)
        if (not got or None in got) and not conn.connected():
            conn.close()
            return


def ping(conn, stop):
    """Ping until it is told to stop; how often it was answered."""
    answered = 0
    while not stop.is_set() and conn.connected():
        answered += conn.ping(STUCK) is not None
    return answered


def each_once(names, senders):
    """Whether every sender's messages came once each, none between them left out."""
    assert not [name for name, count in Counter(names).items() if count > 1]
    for sender in senders:
        numbers = sorted(number for name, number in names if name == sender.sender)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) <= sender.begun
        yield len(numbers)


def start(functions):
    return [Running(*call) for call in functions]


def finish(calls):
    return [call.result(STUCK) for call in calls]


def go_on(*conditions):
    """Let them all work for a while, and for so long that each has done something."""
    end = time.monotonic() + LASTS
    until(lambda: time.monotonic() > end and all(condition() for condition in conditions))


def test_messages_of_many_senders_reach_many_receivers_once(client, tls, deflate):
    """Both ways at once, and an end that all have agreed on: not one message is missing."""
    with two_ends(client=client, tls=tls, deflate=deflate) as (tested, peer):
        stop = threading.Event()
        out = [Sender(tested, number, stop) for number in range(SENDERS)]
        back = Sender(peer, SENDERS, stop)
        came, went = [], []
        sending = start((sender.run,) for sender in [*out, back])
        pinging = start((ping, tested, stop) for _ in range(2))
        receiving = start([(collect, tested, came)] * RECEIVERS + [(collect, peer, went)])
        go_on(*(lambda sender=sender: sender.sent > 20 for sender in [*out, back]))
        stop.set()
        finish(sending)
        answered = finish(pinging)
        assert tested.latency is not None
        assert all(answered)
        until(lambda: len(came) == back.begun and len(went) == sum(each.begun for each in out))
        closing = start([(tested.close,)] * 2 + [(peer.close,)])
        finish(closing + receiving)
        assert list(each_once(went, out)) == [sender.begun for sender in out]
        assert list(each_once(came, [back])) == [back.begun]
        assert went_in_order(went)
        assert tested.close_code == peer.close_code == 1000


def went_in_order(names):
    """One thread has received them: each sender's are in his order."""
    return all(
        [number for name, number in names if name == sender]
        == sorted(number for name, number in names if name == sender)
        for sender in {name for name, _ in names}
    )


@pytest.mark.parametrize("closer", ["tested", "peer"])
def test_a_close_in_the_middle_wakes_everybody(client, tls, deflate, closer):
    """Until the close frame nothing is missing and nothing comes twice; then all calls end."""
    with two_ends(client=client, tls=tls, deflate=deflate) as (tested, peer):
        stop = threading.Event()  # never set: the close is what ends them
        out = [Sender(tested, number, stop) for number in range(SENDERS)]
        back = Sender(peer, SENDERS, stop)
        came, went = [], []
        calls = start((sender.run,) for sender in [*out, back])
        calls += start((ping, tested, stop) for _ in range(2))
        calls += start([(collect, tested, came)] * RECEIVERS + [(collect, peer, went)])
        # What is sent has not come: a close drops what was not received yet.
        go_on(*(lambda sender=sender: sender.sent > 20 for sender in out), lambda: len(came) > 20)
        if closer == "tested":
            closing = [(tested.close, 4000 + number) for number in range(3)]
        else:
            closing = [(peer.close, 4000)]
        calls += start(closing)
        finish(calls)
        for sender, count in zip(out, each_once(went, out), strict=True):
            # What was sent before this end's close reaches the peer, which receives all the
            # while; a peer that closes drops what it has not received yet.
            assert count >= sender.sent or closer == "peer"
        # Hence only the beginning has to be there.
        assert 20 < sum(each_once(came, [back])) <= back.begun
        assert tested.close_code == peer.close_code
        assert tested.close_code in (4000, 4001, 4002)
        assert tested.fileno() == peer.fileno() == -1
