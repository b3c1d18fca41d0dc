"""The abuse cases of the API: nothing reaches the wire, and the connection stays usable.

Most of what `send` and `send_binary` refuse is in test_sending.py and test_kernel.py.
"""

import base64
import contextlib
import enum
import hmac
import time

import pytest

from looped import looped
from memory import tracemalloc
from pairs import SOON, Running, both_ends, raw_peer, receive_frame, roles
from scriptling_ws import ConnectionClosed, connect
from scriptling_ws._handshakes import request as _request
from scriptling_ws._handshakes.head import Request
from scriptling_ws._wire import outgoing as _outgoing
from servers import Answer, ask, echo, head, raw_websocket, serving, upgrade, watching


class Hostile:
    """Not an int, although it can become one: its `__index__` changes the list that holds it."""

    def __init__(self, values):
        self.values = values

    def __index__(self):
        self.values.clear()
        return 1


def hostile():
    values = [1] * 1000
    values[500] = Hostile(values)
    return values


BAD = {
    **{
        f"item {value!r}": (lambda value=value: [0, value], ValueError)
        for value in (-1, 256, 2**64, -(2**64))
    },
    **{
        f"item {value!r}": (lambda value=value: [0, value], TypeError)
        for value in (True, 1.0, "1", None, [1], b"1")
    },
}


@pytest.mark.abuse(76, 77)
@roles
@looped("name", BAD)
def test_bad_items_change_nothing_at_either_end(client, name):
    make, error = BAD[name]
    with raw_peer(client=client) as (conn, peer):
        for kind in (list, tuple):
            with pytest.raises(error, match="item 1 is"):
                conn.send_binary(kind(make()))
        conn.send("usable")
        assert receive_frame(peer) == (0x81, b"usable")


@pytest.mark.abuse(78)
@roles
def test_a_list_that_its_item_would_change(client):
    """`__index__` is not called at all: what is no int is refused by its type."""
    values = hostile()
    with raw_peer(client=client) as (conn, peer):
        with pytest.raises(TypeError, match="item 500 is of type Hostile"):
            conn.send_binary(values)
        assert len(values) == 1000
        conn.send("usable")
        assert receive_frame(peer) == (0x81, b"usable")


@pytest.mark.abuse(79)
@roles
def test_a_list_of_a_hundred_million_items(client):
    """Refused by its length, before an item is looked at or memory taken.

    The list of this test only says that it is so long: a true one takes 800 MB.
    """

    class Long(list):
        def __len__(self):
            return 10**8

    with raw_peer(client=client) as (conn, peer):
        tracemalloc.start()
        cpu = time.thread_time()
        with pytest.raises(ValueError, match="100000000"):
            conn.send_binary(Long())
        assert time.thread_time() - cpu < 0.1
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
        tracemalloc.stop()
        conn.send("usable")
        assert receive_frame(peer) == (0x81, b"usable")


@pytest.mark.abuse(79)
def test_the_longest_list(monkeypatch):
    most = 300_000  # above what a channel takes
    monkeypatch.setattr(_outgoing, "_MAX_ITEMS", most)
    with raw_peer() as (conn, peer):
        for make in (list, tuple):
            sending = Running(conn.send_binary, make([7] * most))
            assert receive_frame(peer) == (0x82, b"\x07" * most)
            sending.result()
            with pytest.raises(ValueError, match="300000 items, not 300001"):
                conn.send_binary(make([7] * (most + 1)))
        sending = Running(conn.send_binary, bytes(most + 1))  # which costs nothing of that kind
        assert receive_frame(peer) == (0x82, bytes(most + 1))
        sending.result()


@pytest.mark.abuse(80)
@roles
@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"x": float("nan")}, ValueError),
        ({"x": {1, 2}}, TypeError),
        ("\ud800", ValueError),
        ({"\udfff": 1}, ValueError),
    ],
)
def test_what_is_no_text_changes_nothing_at_either_end(client, message, error):
    with raw_peer(client=client) as (conn, peer):
        with pytest.raises(error):
            conn.send(message)
        conn.send("usable")
        assert receive_frame(peer) == (0x81, b"usable")


@pytest.mark.abuse(81)
def test_ten_thousand_calls_after_a_close_cost_little():
    with both_ends(close_timeout=0) as (client, _):
        client.close()
        for call in (lambda: client.send("x"), lambda: client.send_binary([1])):
            for _ in range(5000):
                with pytest.raises(ConnectionClosed):
                    call()
        cpu = time.thread_time()
        assert [client.receive(None) for _ in range(10_000)] == [None] * 10_000
        assert time.thread_time() - cpu < 2


@pytest.mark.abuse(82)
@roles
def test_two_receivers_get_each_message_once(client):
    def receive(conn):
        got = []
        while (message := conn.receive(SOON)) is not None:
            got.append(message)
        return got

    with both_ends(close_timeout=1) as ends:
        conn, peer = ends if client else reversed(ends)
        receiving = [Running(receive, conn) for _ in range(2)]
        peer.send_many(map(str, range(2000)))
        peer.close()
        got = [message for call in receiving for message in call.result()]
        assert sorted(map(int, got)) == list(range(2000))


@pytest.mark.abuse(83)
@pytest.mark.parametrize("timeout", [-1, float("nan"), float("-inf"), "5", True, b"1"])
def test_bad_timeouts_of_connect_open_no_socket(timeout, monkeypatch):
    # Calling it would fail otherwise.
    monkeypatch.setattr("scriptling_ws._client.reach.dial", None)
    with pytest.raises((ValueError, TypeError), match="timeout has to be"):
        connect("ws://127.0.0.1:1", timeout)


@pytest.mark.abuse(84)
@pytest.mark.parametrize(
    "path", ["/os.system", "/handlers.evil", "/..x", "/%2e%2e/os", "/__init__"]
)
def test_nothing_in_a_request_chooses_an_import(path, monkeypatch):
    def imported(name, *_, **__):
        pytest.fail(f"{name} was imported")

    with serving(echo, path="/only") as server, monkeypatch.context() as patch:
        patch.setattr("importlib.import_module", imported)
        assert ask(server, upgrade(path, "X-Handler: os.system")).status == 404


# -- what comes from a peer, and is shown or believed ----------------------


@pytest.mark.abuse(85)
@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Client-IP"])
def test_a_forged_address_is_not_believed(name):
    seen = []

    def handler(client):
        seen.append(client.remote_addr)

    with (
        serving(handler, max_connections_per_address=1) as server,
        raw_websocket(server, "/", f"{name}: 6.6.6.6") as client,
    ):
        assert client.close_code() == 1000
        host, port = client.sock.getsockname()
        assert seen == [f"{host}:{port}"]


@pytest.mark.abuse(85)
@pytest.mark.parametrize("path", ["/%1b%5b2J", "/%0d%0aINFO%20forged", "/%9b31m", "/%e2%80%ae"])
def test_what_is_logged_of_a_path_is_escaped(path):
    with serving(echo) as server, watching() as log:
        with contextlib.suppress(AssertionError), raw_websocket(server, path) as client:
            client.send(8)
            client.receive()
        ask(server, head(path))
        log.wait_for(" 4")
        for text in log.texts():
            assert text.isascii()
            assert text.isprintable()


# -- credentials -----------------------------------------------------------


def request_with(authorization):
    headers = {} if authorization is None else {"authorization": authorization}
    return Request("GET", "/", headers)


def basic(text, scheme="Basic"):
    return f"{scheme} {base64.b64encode(text.encode()).decode()}"


@pytest.mark.abuse(86)
@looped(
    ("authorization", "good"),
    [
        (basic("us\xe9r:pa:ss"), True),
        (basic("us\xe9r:pa:ss", "bASIC"), True),
        (basic("us\xe9r:pa:ss").replace(" ", "  "), True),
        (None, False),
        ("", False),
        ("Basic", False),
        ("Basic !!!", False),
        ("Basic !!!!", False),
        ("Basic \xff", False),
        ("Basic \xff\xff\xff\xff", False),
        (basic("us\xe9r:pa:ss", "Bearer"), False),
        (basic("us\xe9r:pa:sS"), False),
        (basic("us\xe9r:pa:s"), False),
        (basic("us\xe9r:"), False),
        (basic("user:pa:ss"), False),
        (basic("us\xe9r:pa:ss") + "=", False),
    ],
)
def test_credentials(authorization, good):
    assert request_with(authorization).has_credentials("us\xe9r", "pa:ss") is good


@pytest.mark.abuse(86)
@pytest.mark.parametrize("given", ["user:pass", "user:wrong", "xser:pass", "", "user:pass" * 99])
def test_credentials_are_compared_in_constant_time(given, monkeypatch):
    """By `hmac.compare_digest`, as a whole and whatever was given."""
    compared = []

    class Watched:
        @staticmethod
        def compare_digest(one, other):
            compared.append((one, other))
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(_request, "hmac", Watched)
    request_with(basic(given)).has_credentials("user", "pass")
    assert compared == [(given.encode(), b"user:pass")]


class Role(str, enum.Enum):
    ADMIN = "admin"


@pytest.mark.abuse(86)
@pytest.mark.parametrize("wrong", [None, b"admin", 5, 0, True, ["admin"]])
def test_credentials_are_text(wrong):
    """Formatted, an unset variable would be the password "None"."""
    for given in (f"admin:{wrong}", f"{wrong}:admin", "admin:admin", ":"):
        with pytest.raises(TypeError, match="the password has to be a str"):
            request_with(basic(given)).has_credentials("admin", wrong)
        with pytest.raises(TypeError, match="the user has to be a str"):
            request_with(basic(given)).has_credentials(wrong, "admin")


@pytest.mark.abuse(86)
def test_an_empty_password_lets_nobody_in():
    for authorization in (basic("admin:"), basic(":"), None):
        with pytest.raises(ValueError, match="the password is empty"):
            request_with(authorization).has_credentials("admin", "")
    assert request_with(basic(":token")).has_credentials("", "token")
    assert not request_with(basic("x:token")).has_credentials("", "token")


@pytest.mark.abuse(86)
def test_credentials_are_what_they_say_not_how_they_are_formatted():
    assert request_with(basic("admin:admin")).has_credentials(Role.ADMIN, Role.ADMIN)
    assert not request_with(basic("Role.ADMIN:Role.ADMIN")).has_credentials("admin", Role.ADMIN)


@pytest.mark.abuse(86)
def test_credentials_that_are_no_text():
    with pytest.raises(ValueError, match="lone surrogate") as caught:
        request_with(None).has_credentials("admin", "s3cr3t\udc80")
    assert caught.value.__suppress_context__


@pytest.mark.abuse(86)
def test_a_user_with_a_colon_is_a_mistake():
    with pytest.raises(ValueError, match="colon"):
        request_with(None).has_credentials("a:b", "c")


@pytest.mark.abuse(86)
def test_a_handler_that_asks_for_credentials():
    def handler(client):
        if not client.request.has_credentials("user", "pass"):
            client.close(3000, "wrong credentials")
            return
        client.send("welcome")

    with serving(handler) as server:
        good = server.url.replace("ws://", "ws://user:pass@")
        with connect(good, SOON) as conn:
            assert conn.receive(SOON) == "welcome"
        for url in (server.url, server.url.replace("ws://", "ws://user:wrong@")):
            with connect(url, SOON) as conn:
                assert conn.receive(SOON) is None
                assert conn.close_code == 3000
        assert Answer(ask(server, head("/")).raw).status == 426
