"""What goes from process to process: read as it was made, refused if it is none, counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptling_ws._rooms import envelope
from scriptling_ws._rooms.envelope import History, new_origin, pack, unpack
from scriptling_ws._rooms.message import Message

pytestmark = pytest.mark.once

ORIGIN = bytes(range(16))
MESSAGES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])).map(Message.text),
    st.binary().map(Message.binary),
)
NUMBERS = st.frozensets(st.integers(0, 2**64 - 1), max_size=5)


@given(MESSAGES, st.integers(1, 2**64 - 1), NUMBERS)
def test_it_is_read_as_it_was_made(message, sequence, excluded):
    found = unpack(pack(ORIGIN, sequence, excluded, message))
    assert found[:3] == (ORIGIN, sequence, excluded)
    assert (found.message.first, found.message.payload) == (message.first, message.payload)


@given(MESSAGES, NUMBERS)
def test_one_that_is_cut_is_refused_or_ends_earlier(message, excluded):
    whole = pack(ORIGIN, 1, excluded, message)
    start = len(whole) - len(message.payload)
    for size in range(start):
        with pytest.raises(ValueError, match="too short"):
            unpack(whole[:size])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        bytes(100),
        pack(ORIGIN, 1, (), Message(0x89, b"a ping")),
        pack(ORIGIN, 1, (), Message(0xC1, b"compressed")),
        pack(ORIGIN, 1, (), Message(0x81, b"\xff no text")),
        b"r2" + pack(ORIGIN, 1, (), Message(0x82, b"of another version"))[2:],
    ],
)
def test_what_is_none_is_refused(data):
    with pytest.raises(ValueError, match=r"short|form|decode"):
        unpack(data)


@given(st.binary(max_size=200))
def test_anything_is_read_or_refused(data):
    try:
        found = unpack(data)
    except ValueError:
        return
    assert pack(found.origin, found.sequence, found.excluded, found.message)[:31] == data[:31]


def test_origins_differ():
    assert len({new_origin() for _ in range(100)}) == 100


def test_what_was_missed_is_counted():
    history, other = History(), new_origin()
    assert history.is_new(ORIGIN, 5)  # the first that is heard of it
    assert history.is_new(ORIGIN, 6)
    assert history.missed == 0
    assert history.is_new(other, 1)
    assert history.is_new(ORIGIN, 9)
    assert history.missed == 2


def test_what_comes_again_is_not_new():
    history = History()
    assert history.is_new(ORIGIN, 5)
    assert not history.is_new(ORIGIN, 5)
    assert not history.is_new(ORIGIN, 4)
    assert history.is_new(ORIGIN, 6)
    assert history.missed == 0


def test_a_time_in_which_nobody_listens_is_no_gap():
    history = History()
    assert history.is_new(ORIGIN, 1)
    history.forget()
    assert history.is_new(ORIGIN, 100)
    assert history.missed == 0


def test_processes_that_are_quiet_are_forgotten(monkeypatch):
    monkeypatch.setattr(envelope, "_MOST_ORIGINS", 2)
    history = History()
    first, second, third = (new_origin() for _ in range(3))
    history.is_new(first, 1)
    history.is_new(second, 1)
    history.is_new(first, 2)
    history.is_new(third, 1)  # in place of the second
    assert history.is_new(second, 1)
    assert history.missed == 0
