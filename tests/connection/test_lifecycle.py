"""The states of a connection: the table, what depends on it, and who is told."""

import itertools
import logging
import sys
from types import SimpleNamespace

import pytest

from looped import looped
from scriptling_ws._connection.lifecycle import BREAK, CLOSE, DISPOSE, END, Lifecycle, State

EVENTS = {"break": BREAK, "end": END, "close": CLOSE, "dispose": DISPOSE}


def lifecycle(**times):
    channel = SimpleNamespace(open=True, closing=False)
    return Lifecycle(channel, **({"close_timeout": 5, "send_timeout": 60} | times))


def after(*events):
    """A lifecycle to which these have happened."""
    found = lifecycle()
    for event in events:
        with found.lock:
            found.go(EVENTS[event])
    return found


@looped("event", EVENTS)
@looped("state", State)
def test_no_event_leads_back(event, state):
    assert EVENTS[event][state] >= state
    assert len(EVENTS[event]) == len(State)


@looped("event", EVENTS)
@looped("state", State)
def test_an_event_that_comes_twice_is_no_other_event(event, state):
    once = EVENTS[event][state]
    assert EVENTS[event][once] == once


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ("", State.OPEN),
        ("break", State.BROKEN),
        ("end", State.PEER_CLOSED),
        ("break end", State.PEER_CLOSED),
        ("close", State.CLOSING),
        ("break close", State.CLOSING),
        ("close break", State.CLOSING),
        ("close end", State.ENDED),
        ("end close", State.ENDED),
        ("end close dispose", State.DISPOSED),
        ("dispose close", State.DISPOSED),
    ],
)
def test_where_events_lead(events, state):
    assert after(*events.split()).state is state


def test_the_order_of_two_events_does_not_matter():
    for one, other in itertools.permutations(EVENTS, 2):
        assert after(one, other).state == after(other, one).state


@pytest.mark.parametrize("events", [["break"], ["end"], ["close"], ["end", "close"], ["dispose"]])
def test_what_follows_from_a_state(events):
    found = after(*events)
    assert not found.open
    assert found.closing is bool({"close", "dispose"} & {*events})
    assert found.ended is bool({"end", "dispose"} & {*events})
    assert found.disposed is ("dispose" in events)
    assert found.told is ("close" in events)
    assert None not in (found.close_by, found.grace, found.unread_grace)


def test_the_times_count_from_the_first_event():
    found = after("end")
    times = found.close_by, found.grace, found.unread_grace
    with found.lock:
        found.go(CLOSE)
    assert (found.close_by, found.grace, found.unread_grace) == times
    found.renew()
    assert found.close_by is not times[0]


def test_an_open_one_has_no_times_and_tells_nobody():
    found, told = lifecycle(), []
    found.on_close(lambda: told.append(1))
    found.tell()
    assert found.open
    assert not (found.closing)
    assert not (found.ended)
    assert not (found.disposed)
    assert not (found.told)
    assert not told
    assert (found.close_by, found.grace, found.unread_grace) == (None, None, None)


def test_each_is_told_once_whatever_another_one_raises(caplog):
    found, told = lifecycle(), []

    def fail():
        raise ZeroDivisionError

    for callback in (lambda: told.append("first"), fail, lambda: told.append("last")):
        found.on_close(callback)
    with found.lock:
        found.go(BREAK)
    found.tell()
    found.tell()
    found.on_close(lambda: told.append("late"))
    assert told == ["first", "last", "late"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize(("events", "times"), [(["break"], 0), (["close"], 0), (["end"], 1)])
def test_the_end_of_what_comes_is_told_to_who_sees_to_the_rest(events, times):
    found, seen = lifecycle(), []
    found.at_end = lambda: seen.append(found.state)
    for event in events:
        with found.lock:
            found.go(EVENTS[event])
    found.tell()
    assert len(seen) == times


@pytest.mark.abuse(70)
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="where handlers run is CPython's")
@pytest.mark.parametrize("event", [BREAK, END])
def test_a_close_in_a_signal_handler_is_never_undone(event):
    """Whatever step of another event it strikes in: a handler runs where a call or a line ends."""
    step, struck, tool = 0, True, sys.gettrace()
    while struck:
        found, steps, struck = lifecycle(), itertools.count(), False

        def trace(frame, what, _, found=found, steps=steps, at=step):
            nonlocal struck
            if frame.f_code.co_name != "go":
                return None
            if what == "line" and next(steps) == at:
                struck = True
                sys.settrace(None)
                found.go(CLOSE)
            return trace

        with found.lock:
            sys.settrace(trace)
            try:
                found.go(event)
            finally:
                sys.settrace(tool)  # what measures the coverage goes on
        if struck:
            assert (found.open, found.closing, found.told) == (False, True, True)
            assert found.state >= State.CLOSING
        step += 1
    assert step > 4


def test_after_a_fork_it_is_over_and_the_parents_are_not_told():
    found, told = lifecycle(), []
    found.on_close(lambda: told.append(1))
    lock = found.lock
    found.after_fork()
    found.tell()
    assert found.disposed
    assert found.told
    assert not told
    assert found.lock is not lock
