"""The abuse cases of the opening handshake at the server: what its answers cost.

What it answers to each malformed request is in test_server_refusals.py, over sockets, and in
test_head.py and test_handshake_server.py, cut in all ways.
"""

import contextlib
import logging
import socket
import time

import pytest

from abuse import row
from memory import tracemalloc
from pairs import receive_to_end, until
from scriptling_ws._handshakes.head import HeadReader, parse_request
from scriptling_ws._handshakes.server import ServerUpgrade
from scriptling_ws._network import deadline as _deadline
from scriptling_ws._server.server import Server
from servers import (
    Answer,
    ask,
    dial,
    echo,
    head,
    raw_websocket,
    read_all,
    read_until,
    serving,
    status_of,
    upgrade,
    watching,
)

once = pytest.mark.once("it is about requests, before any frame")


class Clock:
    """The package's clock, which goes on as the real one does and can be set forward."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_deadline, "monotonic", clock)
    return clock


# -- time and memory -------------------------------------------------------


@pytest.mark.abuse(10, 11)
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (upgrade("/" + "x" * 102_400), 414),
        (upgrade("/", "X: " + "x" * 102_400), 431),
        (upgrade("/", *["X: y"] * 20_000), 431),
    ],
)
@once
def test_what_is_held_of_an_endless_head_is_bounded(request_bytes, status):
    pieces = [request_bytes[start : start + 512] for start in range(0, len(request_bytes), 512)]
    with serving(echo) as server, dial(server) as sock:
        tracemalloc.start()
        with contextlib.suppress(ConnectionError):  # it does not wait for the end
            for piece in pieces:
                sock.sendall(piece)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert Answer(receive_to_end(sock)).status == status
    assert peak < 64 * 1024


def thread_seconds(call):
    """The least CPU time that a call takes, of several."""
    times = []
    for _ in range(5):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return min(times)


def upgrade_with(header):
    request = upgrade("/", header)
    reader = HeadReader()
    ServerUpgrade(reader.feed(request), parse_request(request)).accept()


HOSTILE = {
    "quoted pairs": lambda size: 'a="' + "\\a" * (size // 2),
    "bells": lambda size: 'a="' + "\x07" * size,
    "spaces": lambda size: "b" + " " * size + "x",
    "commas": lambda size: "," * size,
    "semicolons": lambda size: "a" + ";" * size,
    "equals": lambda size: "a; b" + "=" * size,
    "quotes": lambda size: "a; b=" + '"' * size,
    "tabs": lambda size: "a;\t" * (size // 3),
}


@pytest.mark.abuse(14)
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("header", ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Host"])
@once
def test_hostile_headers_take_linear_time_and_less_than_10_ms(header, name):
    def cost(size):
        def call():
            with contextlib.suppress(Exception):  # refused, in most cases
                upgrade_with(f"{header}: {HOSTILE[name](size)}")

        return thread_seconds(call)

    small, large = cost(1000), cost(8000)
    assert large < 0.01
    assert large < 24 * max(small, 0.0001)  # eight times the length; quadratic would be 64


@pytest.mark.abuse(14)
def test_15k_spaces_are_over_the_limit():
    with serving(echo) as server:
        offer = "b" + " " * 15_000 + "x"
        assert status_of(server, upgrade("/", f"Sec-WebSocket-Extensions: {offer}")) == 431


# -- a crowd of slow peers -------------------------------------------------


@pytest.mark.alone
@pytest.mark.abuse(17, 18)
@once
def test_a_thousand_peers_at_a_byte_a_second(clock):
    """All of them get 408 at the total deadline, however steadily they drip.

    The seconds are the package's clock, set forward. That the others are not held up is
    measured by what the acceptor has to do for one of them, not by the clock on the wall.
    """
    resource = pytest.importorskip("resource")
    if not hasattr(time, "pthread_getcpuclockid"):
        pytest.skip("the CPU time of another thread cannot be read")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(1000, (most - 200) // 2)
    request = upgrade("/")

    def through(server):
        with raw_websocket(server) as client:
            client.send(1, b"through")
            assert client.receive() == (1, b"through")
            client.send(8)
            client.receive()

    with serving(echo) as server, contextlib.ExitStack() as stack:
        cpu = time.pthread_getcpuclockid(server._thread.ident)

        def cost():
            start = time.clock_gettime(cpu)
            for _ in range(20):
                through(server)
            return time.clock_gettime(cpu) - start

        alone = cost()
        crowd = [stack.enter_context(dial(server)) for _ in range(count)]
        until(lambda: len(server._acceptor._opening) == count)
        for second in range(9):
            for sock in crowd[::2]:  # the others are silent
                sock.sendall(request[second : second + 1])
            clock.ahead += 1
        through(server)  # by now all of that was read
        assert cost() < 5 * alone + 0.02
        clock.ahead += 2
        through(server)  # what comes next lets the acceptor look at its clock
        for number, sock in enumerate(crowd):
            answer = receive_to_end(sock)
            if number % 2:
                assert answer == b""
            else:
                assert Answer(answer).status == 408
            sock.close()
        through(server)


# -- limits as options -----------------------------------------------------


@pytest.mark.abuse(10, 11)
@pytest.mark.parametrize(
    ("options", "fits", "over", "status"),
    [
        ({"max_line_size": 100}, head("/" + "x" * 80), head("/" + "x" * 100), 414),
        ({"max_line_size": 100}, head("/", "X: " + "x" * 97), head("/", "X: " + "x" * 98), 431),
        ({"max_headers": 3}, head("/", "A: 1", "B: 2"), head("/", "A: 1", "B: 2", "C: 3"), 431),
        ({"max_head_size": 200}, head("/" + "x" * 150), head("/" + "x" * 180), 431),
        ({"max_line_size": 20_000}, head("/", "X: " + "x" * 19_000), head("/" + "x" * 20_000), 414),
    ],
)
@once
def test_limits_of_a_head_are_options(options, fits, over, status):
    with serving(echo, **options) as server:
        assert status_of(server, fits) == 426
        answer = ask(server, over)
        assert answer.status == status
        assert str(next(iter(options.values()))).encode() in answer.body


@pytest.mark.parametrize("name", ["max_line_size", "max_headers", "max_head_size"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), ("1", TypeError), (None, TypeError)])
def test_wrong_limits(name, value, error):
    with pytest.raises(error, match=name):
        Server(echo, port=0, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *row(54, ("max_pending_pongs", 0, ValueError), ("max_pending_pongs", True, TypeError)),
        *row(45, ("max_fragments", 0, ValueError)),
        *row(39, ("max_message_size", 0, ValueError)),
        *row(64, ("send_timeout", -1, ValueError)),
        *row(50, ("close_timeout", "1", TypeError)),
    ],
)
def test_wrong_options_of_connections(name, value, error):
    with pytest.raises(error, match=name):
        Server(echo, port=0, **{name: value})


# -- origins ---------------------------------------------------------------


@pytest.mark.abuse(15)
@once
def test_foreign_origins_do_not_flood_the_log(clock):
    def refuse(server, count):
        for _ in range(count):
            assert status_of(server, upgrade("/", "Origin: http://evil.example")) == 403

    with serving(echo) as server, watching() as log:
        refuse(server, 20)
        assert len(log.texts(logging.WARNING)) == 1
        assert len([text for text in log.texts() if "to allow it" in text]) == 20
        clock.ahead += 11
        refuse(server, 5)
        first, second = log.texts(logging.WARNING)
        assert first.endswith("origins=['http://evil.example']")
        assert second.endswith("(and 19 more since the last such warning)")


@pytest.mark.abuse(15)
@pytest.mark.parametrize("origin", ["http://localhost.evil.example", "http://localhost@evil", "//"])
def test_origins_that_look_like_the_own_host(origin):
    with serving(echo) as server:
        assert status_of(server, upgrade("/", f"Origin: {origin}")) == 403
        assert status_of(server, upgrade("/", "Origin: http://localhost", f"Origin: {origin}")) in (
            400,
            403,
        )


@pytest.mark.abuse(7)
def test_a_socket_that_was_refused_is_closed():
    with serving(echo) as server, dial(server) as sock:
        sock.sendall(upgrade("/", Connection="notupgrade"))
        assert Answer(read_all(sock)).status == 400
        assert sock.recv(1) == b""


@pytest.mark.abuse(20)
@pytest.mark.parametrize("cut", [1, 2, 7, 8])
def test_a_frame_that_straddles_the_end_of_the_request(cut):
    frame = b"\x81\x85\0\0\0\0first"
    with serving(echo) as server, dial(server) as sock:
        data = upgrade("/") + frame
        split = len(data) - len(frame) + cut
        sock.sendall(data[:split])
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        sock.sendall(data[split:])
        assert sock.recv(7, socket.MSG_WAITALL) == b"\x81\x05first"
