"""Byte streams without TLS: TCP and Unix sockets, without WebSocket."""

import contextlib
import errno
import os
import socket
import time

import pytest

from pairs import SOON, Running, read_from, receive_exactly, reset, running, tcp_pair, until
from processes import Process
from scriptling_ws._network import pulse as _pulse
from scriptling_ws._network import transport as _transport
from scriptling_ws._network.addresses import address_text
from scriptling_ws._network.deadline import FOREVER, Deadline
from scriptling_ws._network.transport import NAP, Transport


@contextlib.contextmanager
def plain():
    """A Transport and the plain socket of its peer."""
    near, far = tcp_pair()
    far.settimeout(SOON)
    transport = Transport(near)
    try:
        yield transport, far
    finally:
        transport.close()
        far.close()


def fill(transport, piece=b"x" * 65536):
    """Write until nothing more is taken; how many bytes were."""
    total = 0
    while True:
        count = transport.write(piece)
        total += count
        if not count:
            return total


# -- addresses -------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        ("/run/app.sock", "unix:/run/app.sock"),
        (b"\0abstract", "unix:@abstract"),
        ("", "unix:"),
        (b"", "unix:"),
        ("/tmp/a\nb:c:\u00fc\udcff", r"unix:/tmp/a\nb:c:\xfc\udcff"),  # a peer may choose it
    ],
)
def test_address_text(address, text):
    assert address_text(address) == text


def test_addresses_of_both_ends():
    with plain() as (transport, far):
        assert transport.local_addr == address_text(far.getpeername())
        assert transport.remote_addr == address_text(far.getsockname())


def test_a_unix_socket_is_fine_too():
    near, far = socket.socketpair()
    transport = Transport(near)
    with far:
        far.sendall(b"hello")
        assert read_from(transport, 5) == b"hello"
        assert transport.write(b"you") == 3
        assert far.recv(10) == b"you"
        assert transport.remote_addr == "unix:"
        transport.close()


# -- reading ---------------------------------------------------------------


def test_reading_what_is_there():
    with plain() as (transport, far):
        buffer = bytearray(10)
        assert transport.read_into(buffer) is None
        far.sendall(b"abc")
        transport.wait(True, False, Deadline(SOON))
        assert transport.read_into(buffer) == 3
        assert buffer == b"abc" + bytes(7)
        assert transport.read_into(buffer) is None


def test_reading_into_a_view():
    with plain() as (transport, far):
        buffer = bytearray(10)
        far.sendall(b"abc")
        transport.wait(True, False, Deadline(SOON))
        assert transport.read_into(memoryview(buffer)[8:]) == 2
        assert buffer == bytes(8) + b"ab"
        assert read_from(transport, 1) == b"c"


def test_the_end_is_0_again_and_again():
    with plain() as (transport, far):
        far.sendall(b"last")
        far.close()
        assert read_from(transport, 100) == b"last"
        assert transport.read_into(bytearray(1)) == 0
        assert transport.read_into(bytearray(1), nap=True) == 0


@pytest.mark.abuse(68)
@pytest.mark.parametrize("nap", [False, True])
def test_a_reset_is_an_os_error(nap):
    with plain() as (transport, far):
        reset(far)
        transport.wait(True, False, Deadline(SOON))
        with pytest.raises(ConnectionResetError):
            transport.read_into(bytearray(1), nap)


def test_a_nap_is_short():
    with plain() as (transport, _):
        start = time.monotonic()
        assert transport.read_into(bytearray(1), nap=True) is None
        assert NAP / 2 < time.monotonic() - start < SOON


def test_a_nap_ends_when_something_comes():
    with plain() as (transport, far):
        with running(lambda: far.sendall(b"x")):
            for _ in range(1000):
                if (count := transport.read_into(bytearray(1), nap=True)) is not None:
                    break
        assert count == 1


@pytest.mark.parametrize("known", [False, True])
def test_a_socket_that_cannot_nap_does_not_block(known, monkeypatch):
    if known:  # as on Windows, before it is tried
        monkeypatch.setattr(_transport, "_CAN_NAP", False)

    class Plain(socket.socket):
        def setsockopt(self, level, option, *value):
            if option == socket.SO_RCVTIMEO:
                raise OSError(errno.ENOPROTOOPT, "Protocol not available")
            super().setsockopt(level, option, *value)

    near, far = tcp_pair()
    sock = Plain(fileno=near.detach())
    with far, contextlib.closing(Transport(sock)) as transport:
        assert not sock.getblocking()
        assert transport.read_into(bytearray(10), nap=True) is None
        far.sendall(b"x")
        transport.wait(True, False, Deadline(SOON))
        assert transport.read_into(bytearray(10), nap=True) == 1


# -- writing ---------------------------------------------------------------


def test_writing_takes_what_fits_and_then_nothing():
    with plain() as (transport, far):
        total = fill(transport)
        assert total > 0
        assert transport.write(b"x") == 0
        assert transport.pending is False
        assert transport.flush() is True
        transport.finish_writing()
        received = 0
        while piece := far.recv(1 << 20):
            received += len(piece)
        assert received == total


def test_writing_to_a_peer_that_left_is_an_os_error():
    with plain() as (transport, far):
        reset(far)
        transport.wait(True, False, Deadline(SOON))
        with pytest.raises(ConnectionError) as caught:
            transport.write(b"x")
        assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE)


def test_small_messages_are_not_delayed():
    with plain() as (transport, _):
        sock = transport._sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- waiting ---------------------------------------------------------------


def test_waiting_to_read():
    with plain() as (transport, far):
        start = time.monotonic()
        transport.wait(True, False, Deadline(0.05))
        assert time.monotonic() - start >= 0.045
        far.sendall(b"x")
        transport.wait(True, False, Deadline(SOON))
        assert transport.read_into(bytearray(1)) == 1


def test_waiting_to_write():
    with plain() as (transport, far):
        transport.wait(False, True, Deadline(SOON))
        total = fill(transport)
        start = time.monotonic()
        transport.wait(False, True, Deadline(0.05))
        assert time.monotonic() - start >= 0.045
        with running(lambda: receive_exactly(far, total)):
            transport.wait(False, True, FOREVER)
        assert transport.write(b"x") == 1


def test_waiting_with_no_time_left_returns():
    with plain() as (transport, _):
        transport.wait(True, False, Deadline(0))


@pytest.mark.parametrize("read", [True, False])
def test_wake_ends_a_wait(read):
    with plain() as (transport, _):
        fill(transport)
        waiting = Running(lambda: transport.wait(read, not read, FOREVER, wakeable=True))
        assert not waiting.done()
        transport.wake()
        waiting.result()


def test_wake_ends_every_later_wait_too():
    with plain() as (transport, _):
        transport.wake()
        transport.wake()
        transport.wait(True, False, FOREVER, wakeable=True)
        transport.wait(True, False, FOREVER, wakeable=True)


def test_wake_ends_the_waits_of_several_threads():
    with plain() as (transport, _):
        calls = [
            Running(lambda: transport.wait(True, False, FOREVER, wakeable=True)) for _ in range(5)
        ]
        transport.wake()
        for call in calls:
            call.result()


def test_wake_leaves_other_waits_alone():
    with plain() as (transport, _):
        transport.wake()
        start = time.monotonic()
        transport.wait(True, False, Deadline(0.05))
        assert time.monotonic() - start >= 0.045


def test_waking_without_eventfd(monkeypatch):
    monkeypatch.delattr(os, "eventfd", raising=False)
    with plain() as (transport, _):
        waiting = Running(lambda: transport.wait(True, False, FOREVER, wakeable=True))
        transport.wake()
        transport.wake()
        waiting.result()
    with plain() as (transport, _):  # made, but never set
        transport.wait(True, False, Deadline(0), wakeable=True)


def test_what_wakes_is_no_other_processs_and_does_not_block():
    with plain() as (transport, _):
        transport.wait(True, False, Deadline(0), wakeable=True)
        descriptor = transport._waker.fileno()
        assert not os.get_inheritable(descriptor)
        if hasattr(os, "eventfd"):
            assert not os.get_blocking(descriptor)


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="no eventfd here")
def test_what_wakes_may_be_descriptor_0():
    program = """
import os
from scriptling_ws._network.waiting import engine
engine()
os.close(0)
waker = engine().waker()
assert waker.fileno() == 0
waker.close()
try:
    os.fstat(0)
except OSError:
    print("closed")
waker.close()
"""
    with Process.python("-c", program) as process:
        assert process.line() == "closed"


def test_a_wait_that_no_descriptor_is_left_to_wake_is_short(monkeypatch):
    def full(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with plain() as (transport, _):
        if hasattr(os, "eventfd"):
            monkeypatch.setattr(os, "eventfd", full)
        monkeypatch.setattr(socket, "socketpair", full)
        transport.wait(True, False, FOREVER, wakeable=True)
        transport.wake()
        monkeypatch.undo()
        transport.wait(True, False, FOREVER, wakeable=True)


def test_a_signal_handlers_error_in_making_a_waker_is_its_own(monkeypatch):
    def late(*_):
        raise TimeoutError("too late")

    with plain() as (transport, _):
        if hasattr(os, "eventfd"):
            monkeypatch.setattr(os, "eventfd", late)
        monkeypatch.setattr(socket, "socketpair", late)
        with pytest.raises(TimeoutError, match="too late"):
            transport.wait(True, False, FOREVER, wakeable=True)


def test_descriptors_over_1024_can_be_waited_for():
    fcntl, resource = pytest.importorskip("fcntl"), pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
        pytest.skip("few descriptors allowed")
    near, far = tcp_pair()
    high = socket.socket(fileno=fcntl.fcntl(near.fileno(), fcntl.F_DUPFD, 1100))
    near.close()
    transport = Transport(high)
    with far:
        assert transport.fileno() >= 1100
        far.sendall(b"x")
        transport.wait(True, False, Deadline(SOON), wakeable=True)
        assert transport.read_into(bytearray(1)) == 1
        transport.close()


# -- ending ----------------------------------------------------------------


def test_finish_writing_leaves_reading_open():
    with plain() as (transport, far):
        transport.finish_writing()
        assert far.recv(1) == b""
        far.sendall(b"still here")
        assert read_from(transport, 10) == b"still here"
        transport.finish_writing()


def test_abort_ends_a_wait_and_a_read():
    with plain() as (transport, far):
        waiting = Running(lambda: transport.wait(True, False, FOREVER))
        transport.abort()
        waiting.result()
        assert transport.read_into(bytearray(1)) == 0
        assert far.recv(1) == b""
        with pytest.raises(OSError, match=r"."):
            transport.write(b"x")
        transport.abort()


def test_close_gives_the_descriptors_back():
    with plain() as (transport, _):
        transport.wait(True, False, Deadline(0), wakeable=True)
        descriptor = transport.fileno()
        assert descriptor >= 0
        transport.close()
        assert transport.fileno() == -1
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        transport.close()
        transport.abort()
        transport.wake()
        transport.finish_writing()


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="no eventfd")
def test_a_signal_handler_that_raises_has_no_number_closed_twice(monkeypatch):
    closed = []

    def close(descriptor):
        os_close(descriptor)
        closed.append(descriptor)
        raise KeyboardInterrupt

    os_close = os.close
    near, far = tcp_pair()
    with far:
        transport = Transport(near)
        waker = transport._get_waker()
        with monkeypatch.context() as patch:
            patch.setattr(os, "close", close)
            with pytest.raises(KeyboardInterrupt):
                transport.close()
        transport.close()
        waker.close()  # as the collector does
        assert len(closed) == 1


@pytest.mark.parametrize(
    ("error", "unread"),
    [(ConnectionResetError(errno.ECONNRESET, "reset"), True), (TimeoutError("a handler's"), None)],
)
def test_what_is_asked_of_a_socket_tells_its_errors_from_a_signal_handlers(error, unread):
    class Failing(socket.socket):
        def recv(self, *_):
            raise error

        def getsockopt(self, *_):
            raise error

    near, far = tcp_pair()
    with far, contextlib.closing(Transport(Failing(fileno=near.detach()))) as transport:
        if unread:
            assert transport.unread()
            assert transport.pulse() is None
        else:
            with pytest.raises(TimeoutError, match="a handler's"):
                transport.unread()
            if _pulse._TCP_INFO:
                with pytest.raises(TimeoutError, match="a handler's"):
                    transport.pulse()


def test_a_system_without_tcp_info_tells_nothing(monkeypatch):
    monkeypatch.setattr(_pulse, "_TCP_INFO", 0)
    monkeypatch.setattr(_pulse, "_found", [])

    class Unasked(socket.socket):
        def getsockopt(self, *_):
            raise AssertionError

    near, far = tcp_pair()
    with far, contextlib.closing(Transport(Unasked(fileno=near.detach()))) as transport:
        assert transport.taken_pulse() == b""
        assert transport.pulse() is None
        assert not transport.has_pulse()


@pytest.mark.skipif(not _pulse._TCP_INFO, reason="Linux' struct tcp_info")
@pytest.mark.parametrize("end", [socket.socket.close, reset])
def test_the_pulse_tells_that_the_peer_has_ended(end):
    with plain() as (transport, far):
        assert not transport.pulse().ended
        end(far)
        transport.wait(True, False, Deadline(SOON))
        assert transport.pulse().ended


def test_a_look_at_all_that_has_come():
    with plain() as (transport, far):
        assert transport.peek_all(10) is None
        far.sendall(b"all of it")
        until(transport.unread)
        assert transport.peek_all(10) == transport.peek_all(100) == b"all of it"
        assert transport.peek_all(9) is None  # there may be more
        assert read_from(transport, 9) == b"all of it"
        far.shutdown(socket.SHUT_WR)
        until(transport.unread)
        assert transport.peek_all(10) == b""
        assert transport.failure is None


def test_a_look_that_fails_is_none_and_is_kept():
    with plain() as (transport, far):
        reset(far)
        until(lambda: transport.peek_all(10) is None and transport.failure is not None)
        assert transport.failure.errno == errno.ECONNRESET


def test_what_a_signal_handler_raises_in_a_look_comes_out():
    class Struck(Transport):
        def peek(self, size):
            raise TimeoutError("the program's own")

    near, far = tcp_pair()
    transport = Struck(near)
    try:
        with pytest.raises(TimeoutError, match="own"):
            transport.peek_all(10)
        assert transport.failure is None
    finally:
        transport.close()
        far.close()
