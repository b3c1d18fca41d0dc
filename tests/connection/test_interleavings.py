"""What tasks do to one connection, in every order: see `deterministic`.

What has to hold in each order: nobody waits for ever, no message is lost, doubled or mixed,
receivers return at once at a close, and each descriptor is closed once.
"""

import functools
import socket

import pytest

from deterministic import explore, wander
from frames import close_frame
from pairs import connection
from scriptling_ws import ConnectionClosed

ONE, TWO = "1" * 300, "2" * 400
LONG = "x" * 12_000  # more than may be on the way:
NARROW = 4096  # bytes, about
LATE = 1.0  # seconds of which each deadline, and keepalive, may come too early for the others
OPTIONS = {
    "quiet": {"ping_interval": None},
    "keepalive": {"ping_interval": 0.5, "ping_timeout": 5},
}


def ends(world, size=None, **options):
    """Two connections that are each other's peer: client and server."""
    near, far = world.pair(size)
    return connection(near, client=True, **options), connection(far, client=False, **options)


def finish(world, *connections):
    """Close both ends, of which either may be closed."""
    world.calm()
    closing = [world.start(each.close) for each in connections]
    for each in closing:
        each.result()
    for sock in world.sockets:
        assert sock.closes == 1


# -- the scenarios: each is given a world, and the connections' options ------------------


def two_senders(world, **options):
    client, server = ends(world, **options)
    senders = [world.start(client.send, message) for message in (ONE, TWO)]
    assert sorted([server.receive(10), server.receive(10)]) == [ONE, TWO]
    for sender in senders:
        sender.result()
    finish(world, client, server)


def two_senders_on_a_full_socket(world, **options):
    client, server = ends(world, NARROW, **options)
    senders = [world.start(client.send, message) for message in (LONG, TWO)]
    assert sorted([server.receive(10), server.receive(10)]) == sorted([LONG, TWO])
    for sender in senders:
        sender.result()
    finish(world, client, server)


def a_sender_and_a_receiver(world, **options):
    client, server = ends(world, **options)
    sender = world.start(client.send, ONE)
    receiver = world.start(client.receive, 10)
    server.send(TWO)
    assert server.receive(10) == ONE
    assert receiver.result() == TWO
    sender.result()
    finish(world, client, server)


def two_receivers(world, **options):
    client, server = ends(world, **options)
    receivers = [world.start(client.receive, 10) for _ in range(2)]
    server.send(ONE)
    server.send(TWO)
    assert sorted(receiver.result() for receiver in receivers) == [ONE, TWO]
    finish(world, client, server)


def a_receiver_and_a_closer(world, **options):
    client, server = ends(world, **options)

    def receive():
        assert client.receive(None) is None
        return world.seconds

    receiver = world.start(receive)
    closer = world.start(client.close, 4000)
    assert server.receive(10) is None
    assert receiver.result() <= 1
    server.close()
    closer.result()
    assert client.close_code == server.close_code == 4000
    finish(world, client, server)


def a_receiver_and_a_closer_with_a_silent_peer(world, **options):
    near, far = world.pair()
    client = connection(near, close_timeout=10, **options)

    def receive():
        assert client.receive(None) is None
        return world.seconds

    receiver = world.start(receive)
    world.until_it_waits(receiver)
    client.close()
    assert receiver.result() <= 1
    assert world.seconds <= 12
    far.close()
    finish(world, client)


def receivers_and_a_closer_with_a_silent_peer(world, **options):
    near, far = world.pair()
    client = connection(near, close_timeout=10, **options)

    def receive():
        before = world.seconds
        assert client.receive(None) is None
        return world.seconds - before

    receivers = [world.start(receive) for _ in range(2)]
    for receiver in receivers:
        world.until_it_waits(receiver)
    receivers.append(world.start(receive))  # perhaps during the close
    client.close()
    assert all(receiver.result() <= 1 for receiver in receivers)
    far.close()
    finish(world, client)


def two_closers(world, **options):
    client, server = ends(world, **options)
    closers = [world.start(client.close, code) for code in (4001, 4002)]
    assert server.receive(10) is None
    server.close()
    for closer in closers:
        closer.result()
    assert client.close_code == server.close_code
    assert client.close_code in (4001, 4002)
    finish(world, client, server)


def both_ends_close(world, **options):
    client, server = ends(world, **options)
    closer = world.start(client.close, 4001)
    server.close(4002)
    closer.result()
    assert {client.close_code, server.close_code} <= {4001, 4002}
    finish(world, client, server)


def both_send_first(world, **options):
    client, server = ends(world, NARROW, **options)

    def talk(conn):
        conn.send(LONG)
        return conn.receive(10)

    other = world.start(talk, client)
    assert talk(server) == LONG
    assert other.result() == LONG
    finish(world, client, server)


def both_send_first_and_others_receive(world, **options):
    client, server = ends(world, NARROW, **options)
    tasks = [world.start(conn.send, LONG) for conn in (client, server)]
    receiver = world.start(client.receive, 10)
    assert server.receive(10) == LONG
    assert receiver.result() == LONG
    for task in tasks:
        task.result()
    finish(world, client, server)


def a_peer_that_closes_during_a_send(world, **options):
    near, far = world.pair(NARROW)
    client = connection(near, client=True, **options)

    def send():
        try:
            client.send(LONG)
        except ConnectionClosed as error:
            return error.code
        return None

    sender = world.start(send)
    reader = world.start(world.read, far)
    far.send(close_frame(4000))
    code = sender.result()
    assert client.receive(10) is None
    assert client.close_code == 4000
    far.shutdown(socket.SHUT_WR)
    client.close()
    size = len(reader.result())
    far.close()
    finish(world, client)
    if code is None:  # it is there as a whole; or not at all, if the close was seen before
        assert size > len(LONG) or size < 100
    else:
        assert code == 4000


def a_closer_during_a_send(world, **options):
    near, far = world.pair(NARROW)
    client = connection(near, client=True, close_timeout=10, **options)

    def send():
        try:
            client.send(LONG)
        except ConnectionClosed as error:
            return error.code
        return None

    sender = world.start(send)
    client.close(4000)
    assert sender.result() in (None, 4000)
    assert world.seconds <= 14
    far.close()
    finish(world, client)


def a_receiver_that_times_out(world, **options):
    client, server = ends(world, **options)
    sender = world.start(server.send, ONE)
    message = client.receive(0.5)
    if message is None:
        assert world.seconds >= 0.5
        message = client.receive(10)
    assert message == ONE
    assert client.receive(0) is None
    sender.result()
    finish(world, client, server)


def a_ping_and_a_receiver(world, **options):
    client, server = ends(world, **options)
    pinger = world.start(client.ping, 10)
    receiver = world.start(client.receive, 10)
    attending = world.start(server.receive, 10)
    assert pinger.result() is not None
    server.send(ONE)
    assert receiver.result() == ONE
    client.send(TWO)
    assert attending.result() == TWO
    finish(world, client, server)


def a_callback_at_a_close(world, **options):
    client, server = ends(world, **options)
    told = []
    client.on_close(lambda: told.append("early"))
    closer = world.start(client.close)
    client.on_close(lambda: told.append("late"))
    server.close()
    closer.result()
    assert sorted(told) == ["early", "late"]
    finish(world, client, server)


def a_callback_at_the_peers_close(world, **options):
    client, server = ends(world, **options)
    told = []
    closer = world.start(server.close)
    client.on_close(lambda: told.append("told"))
    while client.connected():
        client.receive(10)
    closer.result()
    assert told == ["told"]
    finish(world, client, server)


def a_server_that_begins_to_close(world, **options):
    client, server = ends(world, **options)

    def receive():
        assert server.receive(None) is None
        return world.seconds

    receiver = world.start(receive)
    other = world.start(client.receive, None)
    server._begin_close(1001, "the end")
    assert receiver.result() <= 1
    assert other.result() is None
    assert (client.close_code, client.close_reason) == (1001, "the end")
    finish(world, client, server)


def a_server_that_aborts(world, **options):
    client, server = ends(world, **options)
    receiver = world.start(server.receive, None)
    other = world.start(client.receive, None)
    server._abort()
    assert receiver.result() is None
    assert other.result() is None
    assert world.seconds <= 1
    finish(world, client, server)


# -- all of them -----------------------------------------------------------------------

FEW = [  # those with few points
    two_senders,
    a_sender_and_a_receiver,
    two_receivers,
    a_receiver_and_a_closer_with_a_silent_peer,
    a_closer_during_a_send,
    a_receiver_that_times_out,
]
SCENARIOS = [
    *FEW,
    two_senders_on_a_full_socket,
    a_receiver_and_a_closer,
    receivers_and_a_closer_with_a_silent_peer,
    two_closers,
    both_ends_close,
    both_send_first,
    both_send_first_and_others_receive,
    a_peer_that_closes_during_a_send,
    a_ping_and_a_receiver,
    a_callback_at_a_close,
    a_callback_at_the_peers_close,
    a_server_that_begins_to_close,
    a_server_that_aborts,
]


def named(function):
    return function.__name__


# Keepalive has the lines and the locks of a connection, which are the same with both codecs.
ONCE = pytest.mark.once("without keepalive the same orders are run with both codecs")


@pytest.fixture(params=["quiet", pytest.param("keepalive", marks=ONCE)])
def options(request):
    """The connections' options."""
    return OPTIONS[request.param]


def having(scenario, options):
    """A scenario with options."""
    return functools.wraps(scenario)(functools.partial(scenario, **options))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=named)
def test_one_turn_out_of_order(scenario, options):
    assert explore(having(scenario, options), 1, late=LATE) >= 9


@pytest.mark.parametrize("scenario", FEW, ids=named)
def test_two_turns_out_of_order(scenario):
    assert explore(having(scenario, OPTIONS["quiet"]), 2, late=LATE) >= 30


@pytest.mark.parametrize("scenario", SCENARIOS, ids=named)
def test_any_turns_between_any_lines(scenario, options):
    wander(having(scenario, options), range(5), late=LATE, lines=True)


def test_a_silent_peer_is_given_up_under_all_that_wait_for_it():
    def scenario(world):
        near, far = world.pair()
        conn = connection(near, client=True, **OPTIONS["keepalive"])
        waiting = [world.start(call, None) for call in (conn.receive, conn.ping)]
        assert conn.receive(None) is None
        assert [task.result() for task in waiting] == [None, None]
        assert conn.close_code == 1011
        assert 5 <= world.seconds < 8
        far.close()
        finish(world, conn)

    assert explore(scenario, 1, late=LATE) >= 30
