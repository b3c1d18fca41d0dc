"""The judge of pings, by moments and facts that the tests make up."""

import pytest

from scriptling_ws._connection.liveness import Facts, Liveness
from scriptling_ws._network.pulse import Pulse

INTERVAL = 1000.0
TIMEOUT = 4.0
NOTHING = Facts(heard=False, moved=False, left=True, pulse=None)


def pulse(received=0, acknowledged=0, window=65_536):
    return Pulse(received, acknowledged, window)


def facts(**changes):
    return NOTHING._replace(**changes)


class Looks:
    """Looks at a peer, each when the judge wants it."""

    def __init__(self, timeout=TIMEOUT, now=100.0, first=None):
        self.judge = Liveness(timeout, now)
        self.judge.ask(now, first)
        self.now = now
        self.due = self.judge.next_look(now, INTERVAL)

    def look(self, late=0.0, **changes):
        """Look when it is due, or later; whether the peer is given up."""
        self.now = self.due + late
        dead = self.judge.look(self.now, facts(**changes))
        self.due = self.judge.next_look(self.now, INTERVAL)
        return dead


def test_a_silent_peer_is_given_up_after_its_time_and_not_before():
    looks = Looks()
    assert looks.due == 104
    assert not looks.judge.look(103.9, NOTHING)
    assert looks.look()


def test_without_a_timeout_no_peer_is_given_up():
    looks = Looks(timeout=None)
    assert not any(looks.look() for _ in range(5))
    assert looks.due == 100 + 6 * INTERVAL


@pytest.mark.parametrize(
    "life", [{"heard": True}, {"pulse": pulse(received=1)}], ids=["heard", "kernel"]
)
def test_what_has_come_answers_the_ping(life):
    looks = Looks(first=pulse())
    assert not looks.look(**life)
    assert looks.judge.answered
    assert looks.due == 100 + INTERVAL  # when the next ping is due
    assert not looks.look(pulse=pulse(received=1))  # it stays answered


def test_what_came_before_the_ping_does_not_answer_it():
    looks = Looks(first=pulse(received=7))
    assert looks.look(pulse=pulse(received=7))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"pulse": pulse()}, {"pulse": pulse(acknowledged=65)}),
        ({"pulse": pulse(window=0)}, {"pulse": pulse(window=2000)}),
        ({}, {"moved": True}),
        ({}, {"left": False}),
    ],
    ids=["acknowledged", "window", "moved", "queued"],
)
def test_a_peer_to_which_bytes_move_has_its_time_anew(before, after):
    looks = Looks(first=before.get("pulse"))
    for _ in range(3):
        assert not looks.look(**after)
        assert not looks.judge.answered
        assert looks.due == looks.now + TIMEOUT
        looks.judge._pulse = before.get("pulse")
    assert looks.look(**before)


@pytest.mark.parametrize("after", [pulse(acknowledged=64), pulse(window=65_536 + 1024)])
def test_the_ping_itself_is_no_movement(after):
    looks = Looks(first=pulse())
    assert looks.look(pulse=after)


@pytest.mark.parametrize(("first", "then"), [(None, pulse(9, 999, 99)), (pulse(), None)])
def test_a_kernel_that_does_not_tell_is_no_movement(first, then):
    looks = Looks(first=first)
    assert looks.look(pulse=then)


def test_a_judge_that_slept_gives_the_time_once_more():
    looks = Looks()
    assert not looks.look(late=TIMEOUT / 2 + 0.1)
    assert looks.due == looks.now + TIMEOUT
    assert looks.look(late=TIMEOUT)  # but not without end


def test_a_little_late_is_not_asleep():
    assert Looks().look(late=TIMEOUT / 2)


def test_a_new_ping_is_judged_anew():
    looks = Looks()
    assert not looks.look(late=TIMEOUT)
    assert not looks.look(heard=True)
    looks.judge.ask(200.0, None)
    looks.due = looks.judge.next_look(200.0, INTERVAL)
    assert not looks.judge.answered
    assert not looks.look(late=TIMEOUT)
    assert looks.look()


def test_a_slow_answer_is_looked_for_each_interval():
    looks = Looks(timeout=10_000.0)
    assert looks.due == 1100
    looks.look()
    assert looks.due == 2100  # and not only when the time is over


def test_a_new_connection_is_not_asked_before_its_interval():
    judge = Liveness(TIMEOUT, 50.0)
    assert judge.answered
    assert judge.next_look(51.0, INTERVAL) == 1050.0
