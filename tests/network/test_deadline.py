"""Timeouts and deadlines, on a clock that the tests turn by hand."""

import decimal
import math
import time

import pytest

from scriptling_ws._network import deadline as _deadline
from scriptling_ws._network.deadline import FOREVER, Deadline, check_timeout

pytestmark = pytest.mark.once


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_deadline, "monotonic", clock)
    return clock


@pytest.mark.abuse(83)
@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (None, None),
        (math.inf, None),
        (10**400, None),  # too large for a float
        (0, 0.0),
        (-0.0, 0.0),
        (10, 10.0),
        (0.25, 0.25),
        (1e308, 1e308),
    ],
)
def test_good_timeouts(timeout, seconds):
    result = check_timeout(timeout)
    assert result == seconds


@pytest.mark.parametrize("timeout", [-1, -0.001, -math.inf, math.nan, -(10**400)])
def test_a_negative_timeout_or_nan_is_a_value_error(timeout):
    with pytest.raises(ValueError, match="0 or more, or None to wait for ever") as caught:
        check_timeout(timeout)
    assert str(caught.value).startswith("timeout ")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("timeout", ["5", b"5", True, False, [1], 1j, decimal.Decimal(1), object()])
def test_what_is_no_number_is_a_type_error_that_names_it(timeout):
    with pytest.raises(TypeError, match=type(timeout).__name__) as caught:
        check_timeout(timeout, "close_timeout")
    assert str(caught.value).startswith("close_timeout ")


def test_left_counts_down_to_zero_and_stays_there(clock):
    deadline = Deadline(5)
    assert deadline.left() == 5
    clock.now += 4
    assert deadline.left() == 1
    assert not deadline.passed()
    clock.now += 1
    assert deadline.left() == 0
    assert deadline.passed()
    clock.now += 100
    assert deadline.left() == 0
    assert deadline.passed()


def test_zero_has_passed_at_once(clock):
    assert Deadline(0).passed()
    assert Deadline(0).left() == 0


def test_none_never_comes(clock):
    deadline = Deadline(None)
    clock.now += 1e12
    assert deadline.left() is None
    assert not deadline.passed()
    assert FOREVER.left() is None


@pytest.mark.parametrize("timeout", [1e7, 1e12, 1e308])
def test_a_long_wait_fits_every_system_call(clock, timeout):
    deadline = Deadline(timeout)
    assert 0 < deadline.left() * 1000 < 2**31
    assert not deadline.passed()


@pytest.mark.parametrize(
    ("mine", "timeout", "left"),
    [
        (5, 1, 1),
        (1, 5, 1),
        (5, None, 5),
        (None, 5, 5),
        (None, None, None),
        (5, 0, 0),
        (0, 5, 0),
        (3, 3, 3),
    ],
)
def test_the_sooner_of_two(clock, mine, timeout, left):
    assert Deadline(mine).sooner(timeout).left() == left


def test_waits_that_timed_out_are_counted_where_the_clock_stands_still(clock):
    deadline = Deadline(5)
    deadline.waited(2)
    assert deadline.left() == 3
    deadline.sooner(1).sooner(0.5).waited(0.5)
    assert deadline.left() == 2.5
    clock.now += 4
    assert deadline.left() == 1  # the clock does not count twice
    deadline.waited(2.5)
    assert deadline.left() == 0
    assert deadline.passed()


def test_waits_without_an_end_are_not_counted(clock):
    deadline = Deadline(5)
    deadline.waited(None)
    assert deadline.left() == 5
    deadline = Deadline(None)
    deadline.waited(10)
    assert deadline.left() is None
    assert not deadline.passed()


@pytest.mark.abuse(69)
def test_the_wall_clock_does_not_matter(clock, monkeypatch):
    deadline = Deadline(5)
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    assert deadline.left() == 5
    monkeypatch.setattr(time, "time", lambda: -86_400.0)
    assert deadline.left() == 5
    assert _deadline.monotonic is clock


def test_the_clock_is_monotonic():
    assert time.get_clock_info("monotonic").monotonic
    assert _deadline.monotonic is time.monotonic
