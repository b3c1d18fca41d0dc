"""Limits: how many may be here at a time, and what one address has of them."""

import threading

import pytest

from scriptling_ws._handshakes.head import Refused
from scriptling_ws._server import limits as _limits
from scriptling_ws._server.limits import (
    ANSWER,
    BODY,
    REQUEST,
    SPARE,
    WEBSOCKET,
    Limits,
    address_group,
)

pytestmark = pytest.mark.once

A, B = "127.0.0.1:1", "127.0.0.2:1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("127.0.0.1:1", "127.0.0.1:2", True),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("[2001:db8::1]:1", "[2001:db8::2:3]:1", True),  # one /64
        ("[2001:db8::1]:1", "[2001:db8:0:1::1]:1", False),
        ("[::ffff:10.0.0.1]:1", "10.0.0.1:9", True),
        ("[fe80::1%eth0]:1", "[fe80::2%eth1]:1", True),
        ("", "", True),
        ("192.0.2.1", "192.0.2.1:5", True),
        ("[2001:db8::1]", "[2001:db8::2]:5", True),
        ("/run/a:b:c", "/run/a:c:d", True),  # a Unix socket's, which its peer may choose
        ("unix:", "unix:/run/a:b:[::1]:5", True),
        ("unix:", "127.0.0.1:1", False),
    ],
)
def test_what_counts_as_one_address(one, other, same):
    assert (address_group(one) == address_group(other)) is same


def entered(limits, address, kind):
    place = limits.arrive(address)
    place.enter(kind)
    return place


def refused(limits, address, kind):
    place = limits.arrive(address)
    with pytest.raises(Refused) as caught:
        place.enter(kind)
    assert dict(caught.value.headers)["Retry-After"]
    place.leave()
    return caught.value.status


def nothing_counted(limits):
    counts = any(limits._counts.values())
    return not (counts or limits._sockets or limits._busy or limits._held)


def test_limits_are_separate_for_connections_and_pages():
    limits = Limits(2, None, 1)
    first = entered(limits, A, WEBSOCKET)
    entered(limits, B, WEBSOCKET)
    assert refused(limits, A, WEBSOCKET) == 503
    entered(limits, A, REQUEST)
    assert refused(limits, B, REQUEST) == 503
    first.leave()
    entered(limits, B, WEBSOCKET)


def test_bodies_and_requests_are_counted_apart():
    # Who sends a body slowly keeps out nobody who sends none.
    limits = Limits(None, None, 1)
    body = entered(limits, A, BODY)
    assert refused(limits, B, BODY) == 503
    request = entered(limits, B, REQUEST)
    with pytest.raises(Refused):
        body.enter(REQUEST)
    assert body.kind == BODY
    request.leave()
    body.enter(REQUEST)
    entered(limits, B, BODY)
    assert refused(limits, B, REQUEST) == 503


def test_the_limit_of_an_address_counts_all_that_is_under_way():
    limits = Limits(None, 2, 10)
    entered(limits, A, WEBSOCKET)
    page = entered(limits, A, BODY)
    page.enter(REQUEST)  # itself does not count
    assert refused(limits, A, WEBSOCKET) == 503
    page.answered()
    assert page.stay(ANSWER)
    assert refused(limits, A, REQUEST) == 503
    entered(limits, B, WEBSOCKET)
    page.answered()
    entered(limits, A, WEBSOCKET)


def test_an_address_has_a_few_connections_more_that_ask_for_nothing():
    limits = Limits(None, 2, 10)
    first, *_ = [limits.arrive(A) for _ in range(2 + SPARE)]
    assert None not in (first, *_)
    assert limits.arrive(A) is None
    assert limits.arrive(B) is not None
    first.leave()
    first.leave()
    assert limits.arrive(A) is not None
    assert limits.arrive(A) is None


def test_without_a_limit_an_address_has_any_number():
    limits = Limits(None, None, 1)
    assert None not in [limits.arrive(A) for _ in range(1000)]


def test_a_request_that_was_answered_is_none_any_more():
    limits = Limits(None, None, 1)
    for kind in (REQUEST, BODY):
        place = entered(limits, A, kind)
        place.answered()
        assert place.stay(ANSWER)
    entered(limits, A, REQUEST)
    assert place.stay(REQUEST)  # whatever the limit
    assert refused(limits, A, REQUEST) == 503


def test_what_answers_hold_in_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(_limits, "_MOST_HELD", 10)
    limits = Limits(None, None, 1)
    first, second = limits.arrive(A), limits.arrive(B)
    assert first.stay(ANSWER, 6)
    assert not second.stay(ANSWER, 5)
    assert second.kind is None
    assert second.stay(ANSWER, 4)
    first.answered()
    assert limits.arrive(A).stay(ANSWER, 6)
    assert not limits.arrive(A).stay(ANSWER, 1)
    assert limits.arrive(A).stay(ANSWER)  # a file's answer holds next to nothing


def test_what_was_refused_is_not_counted():
    limits = Limits(1, None, 10)
    place = entered(limits, A, WEBSOCKET)
    for _ in range(5):
        assert refused(limits, A, WEBSOCKET) == 503
    place.leave()
    entered(limits, A, WEBSOCKET)


def test_who_has_left_is_not_counted_again():
    limits = Limits(1, 1, 1)
    place = entered(limits, A, WEBSOCKET)
    place.leave()
    place.stay(ANSWER, 10)
    place.answered()
    place.leave()
    assert nothing_counted(limits)


def test_handlers_that_go_on_without_their_peers_are_counted_until_they_return():
    limits = Limits(2, None, 1)
    first, second = (entered(limits, A, WEBSOCKET) for _ in range(2))
    for place in (first, second):
        place.leave_to_handler()
        place.leave_to_handler()  # a second call changes nothing
    with pytest.raises(Refused, match="busy with clients that have left"):
        limits.arrive(B).enter(WEBSOCKET)
    limits.arrive(B).enter(REQUEST)  # a page is no handler of theirs
    first.leave()
    first.leave()
    third = entered(limits, B, WEBSOCKET)
    third.leave_to_handler()
    assert refused(limits, B, WEBSOCKET) == 503
    for place in (second, third):
        place.leave()
    entered(limits, B, WEBSOCKET)
    entered(limits, B, WEBSOCKET)


def test_a_place_may_belong_to_an_address_later():
    limits = Limits(None, 1, 10)
    unknown = [limits.arrive(None) for _ in range(50)]  # as many as there are
    assert None not in unknown
    first, *more = unknown
    assert first.belong(A)
    first.enter(WEBSOCKET)
    assert refused(limits, A, WEBSOCKET) == 503
    entered(limits, B, WEBSOCKET)
    assert [place.belong(A) for place in more[: SPARE + 1]] == [True] * SPARE + [False]
    assert limits.arrive(A) is None
    more[0].leave()
    assert more[SPARE].belong(A)
    for place in unknown:
        place.leave()
    assert limits._sockets == {"127.0.0.2": 1}


def test_addresses_are_forgotten():
    limits = Limits(None, 1, 10)
    for number in range(100):
        entered(limits, f"10.0.0.{number}:1", WEBSOCKET).leave()
    assert nothing_counted(limits)


@pytest.mark.parametrize("value", [0, -1])
def test_limits_are_at_least_one(value):
    for arguments in ((value, None, 1), (None, value, 1), (None, None, value)):
        with pytest.raises(ValueError, match="at least 1"):
            Limits(*arguments)


@pytest.mark.parametrize("value", ["5", 1.5, True])
def test_limit_types(value):
    with pytest.raises(TypeError):
        Limits(value, None, 1)


def test_pages_always_have_a_limit():
    with pytest.raises(TypeError, match="max_requests"):
        Limits(None, None, None)


def test_a_place_can_be_left_in_a_signal_handler_that_interrupts_another_ones():
    limits = Limits(None, None, 1)
    place = limits.arrive(A)
    with limits._lock:
        place.leave()
    assert nothing_counted(limits)


def test_limits_hold_among_threads():
    limits = Limits(5, None, 1)
    inside, most = [], []

    def come_and_go():
        for _ in range(300):
            place = limits.arrive(A)
            try:
                place.enter(WEBSOCKET)
            except Refused:
                place.leave()
                continue
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            place.leave()

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert max(most) <= 5
    assert nothing_counted(limits)
