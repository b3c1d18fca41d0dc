"""Origins, host names and limits: who may come in."""

import threading

import pytest

from scriptling_ws._admission import Hosts, Limits, Origins, address_group
from scriptling_ws._head import Refused


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "example.com", True),  # a program, not a browser
        ("http://example.com", "example.com", True),
        ("https://example.com", "example.com", True),  # a proxy ends TLS
        ("https://example.com", "example.com:443", True),
        ("http://example.com:80", "example.com", True),
        ("HTTP://EXAMPLE.com", "Example.COM", True),
        ("http://localhost:8080", "localhost:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://example.com:8080", "example.com", False),
        ("http://example.com", "example.com:8080", False),
        ("https://example.com", "example.com:80", False),
        ("http://evil.example", "example.com", False),
        ("http://example.com.evil.example", "example.com", False),
        ("http://evil.example/example.com", "example.com", False),
        ("http://example.com@evil.example", "example.com", False),
        ("http://evil.example#example.com", "example.com", False),
        ("http://example.com, http://evil.example", "example.com", False),
        ("null", "example.com", False),
        ("null", "null", False),
        ("", "", False),
        ("http://", "", False),
        ("garbage", "garbage", False),
        ("http://example.com/", "example.com", False),
    ],
)
def test_same_host_is_the_default(origin, host, allowed):
    assert Origins().allow(origin, host) is allowed


def test_named_origins_are_allowed_beside_the_own_host():
    origins = Origins(["https://app.example", "http://localhost:3000"])
    assert origins.allow("https://app.example", "api.example")
    assert origins.allow("https://APP.example:443", "api.example")
    assert origins.allow("http://localhost:3000", "api.example")
    assert origins.allow("http://api.example", "api.example")
    assert not origins.allow("http://app.example", "api.example")
    assert not origins.allow("https://app.example:444", "api.example")
    assert not origins.allow("null", "api.example")


@pytest.mark.parametrize("origins", ["*", ["*"], ["https://a.example", "*"]])
def test_any_origin(origins):
    assert Origins(origins).allow("http://evil.example", "example.com")
    assert Origins(origins).allow("null", "example.com")


def test_null_can_be_named():
    assert Origins(["null"]).allow("null", "example.com")


@pytest.mark.parametrize(
    "entry", ["example.com", "https://example.com/", "https://", "https://a b", "", "*.example"]
)
def test_malformed_origins_are_refused_at_once(entry):
    with pytest.raises(ValueError, match="is not an origin"):
        Origins([entry])


@pytest.mark.parametrize("origins", ["https://example.com", 5, [5], [None]])
def test_origin_types(origins):
    with pytest.raises(TypeError, match="origins has to"):
        Origins(origins)


@pytest.mark.abuse(16)
@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("example.com", True),
        ("EXAMPLE.com:8080", True),
        ("pinned.example:443", True),
        ("[::1]:9", True),
        ("pinned.example", False),
        ("pinned.example:444", False),
        ("evil.example", False),
        ("example.com.evil.example", False),
        ("example.com@evil.example", False),
        ("", False),
    ],
)
def test_allowed_hosts(host, allowed):
    hosts = Hosts(["example.com", "pinned.example:443", "[::1]"])
    if allowed:
        hosts.check(host)
    else:
        with pytest.raises(Refused) as refused:
            hosts.check(host)
        assert refused.value.status == 400


def test_any_host_by_default():
    Hosts().check("whatever")


def test_malformed_hosts_are_refused_at_once():
    for bad in (["http://example.com"], ["a b"], [""], ["a/"]):
        with pytest.raises(ValueError, match="is not a host"):
            Hosts(bad)
    with pytest.raises(ValueError, match="empty"):
        Hosts([])
    for bad in ("example.com", 5, [5]):
        with pytest.raises(TypeError):
            Hosts(bad)


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
    ],
)
def test_what_counts_as_one_address(one, other, same):
    assert (address_group(one) == address_group(other)) is same


def refused(limits, *args):
    with pytest.raises(Refused) as caught:
        limits.enter(*args)
    assert dict(caught.value.headers)["Retry-After"]
    return caught.value.status


def test_limits_are_separate_for_connections_and_pages():
    limits = Limits(2, None, 1)
    limits.enter(True, "a")
    limits.enter(True, "b")
    assert refused(limits, True, "c") == 503
    limits.enter(False, "c")
    assert refused(limits, False, "d") == 503
    limits.leave(True, "a")
    limits.enter(True, "c")


def test_the_limit_of_an_address_counts_both():
    limits = Limits(None, 2, 10)
    limits.enter(True, "a")
    limits.enter(False, "a")
    assert refused(limits, True, "a") == 503
    assert refused(limits, False, "a") == 503
    limits.enter(True, "b")
    limits.leave(False, "a")
    limits.enter(True, "a")


def test_what_was_refused_is_not_counted():
    limits = Limits(1, None, 10)
    limits.enter(True, "a")
    for _ in range(5):
        assert refused(limits, True, "a") == 503
    limits.leave(True, "a")
    limits.enter(True, "a")


def test_addresses_are_forgotten():
    limits = Limits(None, 1, 10)
    for number in range(100):
        limits.enter(True, str(number))
        limits.leave(True, str(number))
    assert not limits._addresses


@pytest.mark.parametrize("value", [0, -1])
def test_limits_are_at_least_one(value):
    for arguments in ((value, None, 1), (None, value, 1), (None, None, value)):
        with pytest.raises(ValueError, match="1 or more"):
            Limits(*arguments)


@pytest.mark.parametrize("value", ["5", 1.5, True])
def test_limit_types(value):
    with pytest.raises(TypeError):
        Limits(value, None, 1)


def test_pages_always_have_a_limit():
    with pytest.raises(TypeError, match="max_requests"):
        Limits(None, None, None)


def test_limits_hold_among_threads():
    limits = Limits(5, None, 1)
    inside, most = [], []

    def come_and_go():
        for _ in range(300):
            try:
                limits.enter(True, "a")
            except Refused:
                continue
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            limits.leave(True, "a")

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert max(most) <= 5
    assert limits._counts[True] == 0
