"""What is still to be written: the rest of a frame, answers, and their order."""

import socket
import sys
import threading
from collections import deque
from types import SimpleNamespace

import pytest

from pairs import receive_exactly, tcp_pair
from scriptling_ws._connection.unsent import Unsent
from scriptling_ws._network.transport import Transport


class Halting(Transport):
    """One that takes so many bytes at a time, and may keep them as TLS does."""

    most = 1 << 20

    def write(self, data):
        return super().write(data[: self.most]) if self.most else 0


@pytest.fixture
def unsent():
    near, far = tcp_pair()
    transport = Halting(near)
    found = Unsent(SimpleNamespace(rest=None, tail=[], note_went=lambda: None), transport, deque())
    with far:
        yield found, transport, far
    transport.close()


LOCK = threading.RLock()


def test_there_is_nothing_at_first(unsent):
    found, _, _ = unsent
    assert not found
    assert not found.take(LOCK)
    assert found.due
    found.keep()
    found.forget()
    assert not found


@pytest.mark.parametrize("what", ["answers", "rest", "tail", "pending"])
def test_it_is_true_while_there_is_something(unsent, what):
    found, transport, _ = unsent
    if what == "answers":
        found.answers.append(b"pong")
    elif what == "rest":
        found.begin(b"frame")
    elif what == "tail":
        found.tail.append(b"left")
    else:
        transport.pending = True
    assert found


def test_a_frame_is_finished_before_answers_and_they_go_in_order(unsent):
    found, transport, far = unsent
    found.answers += [b"one", b"two"]
    found.begin(b"frame")
    transport.most = 2
    assert found.advance()
    assert found.due
    while found.take(LOCK):
        assert found.advance()
    assert not found
    assert receive_exactly(far, 11) == b"frameonetwo"
    assert found.taken == 11
    assert found.moved


def test_answers_that_are_dropped_meanwhile_leave_nothing_to_write(unsent):
    found, _, _ = unsent
    found.answers += [b"one", b"two"]

    class Late:
        """A lock whose holder before has dropped them."""

        def __enter__(self):
            found.answers.clear()

        def __exit__(self, *_):
            pass

    assert not found.take(Late())
    assert found.rest is None
    assert found.tally.frames == found.tally.wire == 0


def test_what_the_kernel_has_left_goes_first(unsent):
    found, _, far = unsent
    found.answers.append(b"answer")
    found.tail.append(b"tail")
    while found.take(LOCK):
        assert found.advance()
    assert receive_exactly(far, 10) == b"tailanswer"


def test_a_frame_of_which_nothing_has_left_is_dropped_for_the_next_one(unsent):
    found, transport, _ = unsent
    found.begin(b"frame")
    transport.most = 0
    assert not found.advance()
    assert not found.due
    assert not found.take(LOCK)
    assert found.rest is None
    assert not (found.moved)
    assert not (found.taken)


def test_what_is_kept_is_a_copy(unsent):
    found, transport, far = unsent
    data = bytearray(b"its owner's")
    found.begin(iter([memoryview(data)[:3], memoryview(data)[3:]]))
    transport.most = 2
    assert found.advance()  # the first piece is begun
    assert found.advance()
    found.keep()
    data[:] = bytes(len(data))
    while found.take(LOCK):
        assert found.advance()
    assert receive_exactly(far, 11) == b"its owner's"


def test_bytes_that_a_signal_handler_has_interrupted_are_counted(unsent):
    found, transport, far = unsent
    found.begin(b"frame")
    transport.uncounted = 3  # of which the writer was not told
    assert found.take(LOCK)
    assert found.advance()
    assert transport.uncounted == 0
    assert receive_exactly(far, 2) == b"me"
    far.settimeout(0.05)
    with pytest.raises(socket.timeout):
        far.recv(1)


def test_nothing_is_left_of_what_is_forgotten(unsent):
    found, _, _ = unsent
    found.begin(b"frame")
    found.tail.append(b"left")
    found.forget()
    assert not found


def calls_after(code, advance, look):
    """What `look` returns at each call in `advance`, once a function has returned."""
    returned, seen = [], []

    def note(frame, event, _argument):
        if event == "return" and frame.f_code is code:
            returned.append(True)
        elif event == "call" and returned:
            seen.append(look())

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        assert advance()
    finally:
        sys.setprofile(before)
    assert returned
    return seen


def test_no_code_runs_between_a_write_and_its_note(unsent):
    """A signal handler could raise at any call: the same bytes would go out once more."""
    found, _, _ = unsent
    found.begin(b"frame")
    seen = calls_after(Halting.write.__code__, found.advance, lambda: found.rest)
    assert seen == [None]  # as note_went is called: nothing is left of it


def test_no_code_runs_between_a_piece_and_its_note(unsent):
    """Else a piece of the frame would never go out."""

    class Pieces:
        def __iter__(self):
            return self

        def __next__(self):
            return memoryview(b"piece")

    found, pieces = unsent[0], Pieces()
    found.begin(pieces)
    assert calls_after(Pieces.__next__.__code__, found.advance, lambda: found.rest) == []
    assert found.rest == (b"piece", 0, pieces, False)
