"""From a name to a connected socket: lookup, several addresses, one deadline."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from pairs import until
from processes import python_environment
from scriptling_ws._errors import ConnectError, ConnectTimeout, HandshakeError
from scriptling_ws._network import race as _race
from scriptling_ws._network.deadline import FOREVER, Deadline
from scriptling_ws._network.dial import dial
from scriptling_ws._network.waiting import engine

pytestmark = pytest.mark.once

LOOPBACK = "127.0.0.1"


def refusing_port():
    """A port on which nobody listens."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def silent_port():
    """A port that answers no SYN: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def resolver(*addresses):
    """A getaddrinfo that knows one name, of these (family, host, port)."""

    def look_up(host, port, *, flags=0, **_):
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        kind = socket.SOCK_STREAM
        return [(family, kind, 0, "", (host, port)) for family, host, port in addresses]

    return look_up


@pytest.fixture
def listener():
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener


def accepted(listener, sock):
    peer, address = listener.accept()
    peer.close()
    return address == sock.getsockname()


def test_connects(listener):
    with dial(LOOPBACK, listener.getsockname()[1], Deadline(10)) as sock:
        assert accepted(listener, sock)


def test_what_has_connected_at_once_is_not_waited_for(listener, monkeypatch):
    def is_connected(sock):
        until(lambda: look(sock))
        return True

    look = _race._is_connected
    monkeypatch.setattr(_race, "_is_connected", is_connected)
    monkeypatch.setattr(type(engine()), "poller", lambda *_, **__: pytest.fail("a poller"))
    with dial(LOOPBACK, listener.getsockname()[1], Deadline(10)) as sock:
        assert accepted(listener, sock)


def test_what_has_not_is(listener, monkeypatch):
    monkeypatch.setattr(_race, "_is_connected", lambda _: False)
    with dial(LOOPBACK, listener.getsockname()[1], Deadline(10)) as sock:
        assert accepted(listener, sock)


def test_connects_over_ipv6():
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 loopback")
    with listener, dial("::1", listener.getsockname()[1], Deadline(10)) as sock:
        assert sock.family == socket.AF_INET6
        assert accepted(listener, sock)


def test_an_address_needs_no_lookup(listener, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a lookup"))
    dial(LOOPBACK, listener.getsockname()[1], Deadline(10)).close()


def test_an_address_in_another_spelling_needs_no_thread(listener, monkeypatch):
    port = listener.getsockname()[1]

    def look_up(host, port, *, flags=0, **_):
        assert flags == socket.AI_NUMERICHOST
        assert host == "127.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (LOOPBACK, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("a thread"))
    dial("127.1", port, Deadline(10)).close()


def test_a_name_is_looked_up(listener, monkeypatch):
    port = listener.getsockname()[1]
    monkeypatch.setattr(socket, "getaddrinfo", resolver((socket.AF_INET, LOOPBACK, port)))
    with dial("some.example", 1, FOREVER) as sock:
        assert accepted(listener, sock)


def test_refused():
    port = refusing_port()
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port}") as caught:
        dial(LOOPBACK, port, Deadline(10))
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.__cause__.errno == errno.ECONNREFUSED
    assert caught.value.errno == errno.ECONNREFUSED
    assert caught.value.strerror == os.strerror(errno.ECONNREFUSED)
    assert os.strerror(errno.ECONNREFUSED) in str(caught.value)
    assert not isinstance(caught.value, (ConnectTimeout, HandshakeError))


@pytest.mark.parametrize(
    "failure",
    [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), UnicodeError("label")],
)
def test_a_name_without_an_address(monkeypatch, failure):
    def look_up(host, port, *, flags=0, **_):
        raise socket.gaierror(socket.EAI_NONAME, "not numeric") if flags else failure

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(ConnectError, match=r"cannot find 'no\.example'") as caught:
        dial("no.example", 80, Deadline(10))
    assert caught.value.__cause__ is failure
    assert caught.value.errno == getattr(failure, "errno", None)


def test_a_lookup_that_finds_nothing(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", resolver())
    with pytest.raises(ConnectError, match=r"no\.example") as caught:
        dial("no.example", 80, Deadline(10))
    assert not isinstance(caught.value, ConnectTimeout)
    assert "None" not in str(caught.value)
    assert caught.value.errno == socket.EAI_NONAME


# The first stage.
@pytest.mark.abuse(32)
def test_a_lookup_that_hangs_ends_at_the_deadline(monkeypatch):
    answer = threading.Event()

    def look_up(host, port, *, flags=0, **_):
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        answer.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    start = time.monotonic()
    with pytest.raises(ConnectTimeout, match=r"lookup of 'slow\.example'"):
        dial("slow.example", 80, Deadline(0.1))
    assert 0.1 <= time.monotonic() - start < 5
    waiting = [thread for thread in threading.enumerate() if "lookup" in thread.name]
    assert waiting
    assert all(thread.daemon for thread in waiting)
    answer.set()


# The second stage.
@pytest.mark.abuse(32)
def test_a_port_that_does_not_answer_ends_at_the_deadline():
    with silent_port() as port:
        start = time.monotonic()
        with pytest.raises(ConnectTimeout, match=f"127.0.0.1:{port}") as caught:
            dial(LOOPBACK, port, Deadline(0.1))
        assert caught.value.errno == errno.ETIMEDOUT
        assert 0.1 <= time.monotonic() - start < 5


def test_a_deadline_that_has_passed(listener):
    with silent_port() as port, pytest.raises(ConnectTimeout):
        dial(LOOPBACK, port, Deadline(0))


def test_the_deadline_is_one_for_all_addresses(monkeypatch):
    with silent_port() as port:
        many = [(socket.AF_INET, LOOPBACK, port)] * 50
        monkeypatch.setattr(socket, "getaddrinfo", resolver(*many))
        start = time.monotonic()
        with pytest.raises(ConnectTimeout):
            dial("many.example", 80, Deadline(0.6))
        assert 0.6 <= time.monotonic() - start < 5


def test_a_refused_address_leads_to_the_next_at_once(listener, monkeypatch):
    monkeypatch.setattr(_race, "_STAGGER", 60)
    good = (socket.AF_INET, LOOPBACK, listener.getsockname()[1])
    bad = (socket.AF_INET, LOOPBACK, refusing_port())
    monkeypatch.setattr(socket, "getaddrinfo", resolver(bad, bad, good))
    with dial("three.example", 80, Deadline(20)) as sock:
        assert accepted(listener, sock)


def test_a_silent_address_does_not_hold_up_the_next(listener, monkeypatch):
    with silent_port() as port:
        good = (socket.AF_INET, LOOPBACK, listener.getsockname()[1])
        monkeypatch.setattr(socket, "getaddrinfo", resolver((socket.AF_INET, LOOPBACK, port), good))
        with dial("two.example", 80, Deadline(20)) as sock:
            assert accepted(listener, sock)
            assert sock.getpeername() == listener.getsockname()


def test_an_address_family_that_the_system_has_not(listener, monkeypatch):
    good = (socket.AF_INET, LOOPBACK, listener.getsockname()[1])
    monkeypatch.setattr(socket, "getaddrinfo", resolver((4711, "x", 1), good))
    dial("odd.example", 80, Deadline(10)).close()
    monkeypatch.setattr(socket, "getaddrinfo", resolver((4711, "x", 1)))
    with pytest.raises(ConnectError, match=r"odd\.example:80") as caught:
        dial("odd.example", 80, Deadline(10))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.errno == errno.EAFNOSUPPORT


def test_the_last_error_is_told_when_all_fail(monkeypatch):
    bad = (socket.AF_INET, LOOPBACK, refusing_port())
    monkeypatch.setattr(socket, "getaddrinfo", resolver(bad, bad))
    with pytest.raises(ConnectError) as caught:
        dial("two.example", 80, Deadline(10))
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.errno == errno.ECONNREFUSED


# The first and the only one are two ways through the code.
@pytest.mark.parametrize("addresses", [1, 2])
def test_an_unreachable_address_says_so_by_its_number(monkeypatch, addresses):
    nowhere = (socket.AF_INET, "255.255.255.255", 9)  # TCP cannot broadcast
    with socket.socket() as sock:
        number = sock.connect_ex(nowhere[1:])
    monkeypatch.setattr(socket, "getaddrinfo", resolver(*[nowhere] * addresses))
    with pytest.raises(ConnectError) as caught:
        dial("name.test", 80, Deadline(10))
    assert caught.value.errno == number
    assert caught.value.strerror == os.strerror(number)


@pytest.mark.parametrize(
    ("families", "order"),
    [
        ("", ""),
        ("6", "0"),
        ("64", "01"),
        ("6644", "0213"),
        ("4466", "0213"),
        ("6664", "0312"),
        ("466", "012"),
    ],
)
def test_families_take_turns_the_first_choice_first(families, order):
    addresses = [(family, index) for index, family in enumerate(families)]
    result = _race._interleave(addresses)
    assert "".join(str(index) for _, index in result) == order


class Stop(BaseException):
    pass


def stop(*_):
    raise Stop


@pytest.mark.parametrize("addresses", [1, 2])
def test_no_descriptor_is_left_by_an_interrupted_attempt(monkeypatch, addresses):
    monkeypatch.setattr(_race._Attempts, "wait", stop)
    monkeypatch.setattr(socket.socket, "connect", stop, raising=False)
    with silent_port() as port:
        many = [(socket.AF_INET, LOOPBACK, port)] * addresses
        monkeypatch.setattr(socket, "getaddrinfo", resolver(*many))
        with pytest.raises(Stop):  # a socket left open would be a warning, which is an error
            dial("some.example", 80, Deadline(10))


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no pthread_kill")
@pytest.mark.parametrize("addresses", [1, 2])
def test_a_signal_handlers_timeout_is_not_the_deadline(monkeypatch, addresses):
    def handle(*_):
        raise TimeoutError("the handler's")

    main = threading.get_ident()
    timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1))
    previous = signal.signal(signal.SIGUSR1, handle)
    try:
        with silent_port() as port:
            many = [(socket.AF_INET, LOOPBACK, port)] * addresses
            monkeypatch.setattr(socket, "getaddrinfo", resolver(*many))
            with pytest.raises(TimeoutError, match="the handler's") as caught:
                timer.start()
                dial("some.example", 80, Deadline(20))
        assert type(caught.value) is TimeoutError
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, previous)


def test_a_silent_address_is_waited_for_when_the_last_has_failed(monkeypatch):
    with silent_port() as port:
        addresses = [
            (socket.AF_INET, LOOPBACK, port),
            (socket.AF_INET, LOOPBACK, refusing_port()),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", resolver(*addresses))
        with pytest.raises(ConnectTimeout):
            dial("name.test", 80, Deadline(0.5))


def test_an_address_that_is_refused_without_a_wait_leads_to_the_next(listener, monkeypatch):
    port = listener.getsockname()[1]
    addresses = [  # TCP cannot broadcast
        (socket.AF_INET, "255.255.255.255", port),
        (socket.AF_INET, LOOPBACK, port),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", resolver(*addresses))
    with dial("name.test", 80, Deadline(5)) as sock:
        assert sock.getpeername() == (LOOPBACK, port)


@pytest.mark.abuse(63)
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("call", ["start", "__init__"])  # where an isolated subinterpreter refuses
def test_a_lookup_without_a_thread(listener, monkeypatch, error, call):
    """It is made in the calling thread."""

    def refuse(*_, **__):
        raise error

    port = listener.getsockname()[1]
    threads = []

    def look_up(host, port, *, flags=0, **_):
        threads.append(threading.current_thread())
        return known(host, port, flags=flags)

    known = resolver((socket.AF_INET, LOOPBACK, port))
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(threading.Thread, call, refuse)
    with dial("some.example", 1, Deadline(10)) as sock:
        assert accepted(listener, sock)
    assert set(threads) == {threading.current_thread()}


@pytest.mark.abuse(63)
def test_a_lookup_without_a_thread_that_fails(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    failure = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def look_up(host, port, *, flags=0, **_):
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ConnectError, match=r"cannot find 'name\.invalid'") as caught:
        dial("name.invalid", 80, FOREVER)
    assert caught.value.__cause__ is failure


def test_a_late_lookup_without_a_thread_leaves_no_time_to_connect(monkeypatch):
    """The deadline cannot end it, but holds afterwards."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    def look_up(host, port, *, flags=0, **options):
        if not flags:
            threading.Event().wait(0.1)
        return resolver((socket.AF_INET, LOOPBACK, silent))(host, port, flags=flags)

    with silent_port() as silent:
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ConnectTimeout):
            dial("name.invalid", 80, Deadline(0.05))


# What connects by a name, and is refused.
CONNECTING = """
import errno
import scriptling_ws as ws
try:
    ws.connect("ws://localhost:{port}/", timeout=10)
except ws.ConnectError as error:
    assert error.errno == errno.ECONNREFUSED, error
    print("refused", flush=True)
"""

ENDING = """
import atexit
import scriptling_ws as ws
ws.connect  # loaded while threads can be started
atexit.register(exec, {code!r}, {{}})
"""

# A main program has to be told what a subinterpreter has raised.
ISOLATED = """
import _interpreters
error = _interpreters.exec(_interpreters.create(), {code!r})
assert error is None, error
"""


def output_of(code):
    """What a program of its own prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=python_environment(), stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    return done.stdout.split()


def test_a_name_is_looked_up_as_the_program_ends():
    """CPython from 3.12 on starts no thread then."""
    code = CONNECTING.format(port=refusing_port())
    assert output_of(ENDING.format(code=code)) == ["refused"]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="no _interpreters before CPython 3.13")
def test_a_name_is_looked_up_in_an_isolated_subinterpreter():
    """It starts no daemon thread."""
    pytest.importorskip("_interpreters")
    code = CONNECTING.format(port=refusing_port())
    assert output_of(ISOLATED.format(code=code)) == ["refused"]
