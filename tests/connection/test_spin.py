"""A wait that looks out for a message before it sleeps: when it does, and that nothing is lost.

What a connection does depends on whether it is the only one that is active; so does whether a send
lets go of the GIL, which is here, too. None of it goes by how fast a machine is: a test says how
long a wait looks out, and the channel counts how often one has, and for how many it paid.
"""

import signal
import subprocess
import sys
import threading
import time

import pytest

from frames import TEXT, frame
from kernels import SPIN
from pairs import SOON, Running, both_ends, raw_peer, reset, until
from processes import DEADLINE, Process, python_environment
from scriptling_ws import _kernel as kernel

FIRST = 16  # waits of a new connection that sleep at once
LEAST, MOST = 4, 4096  # waits that sleep at once after one that has looked in vain
COMPANY = 16  # waits after which a connection that has had company counts as alone
FOREVER = 10**9

if kernel.IMPLEMENTATION == "pure" or sys.platform == "win32":
    pytest.skip("it is the compiled kernel's, on POSIX", allow_module_level=True)


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    kernel.spin_for(SPIN)


def spins(conn):
    return conn._link.channel.spins


def take(conn, peer, count=1, mask=False):
    """Receive messages that each came alone, and are there when they are asked for."""
    for _ in range(count):
        peer.sendall(frame(TEXT, b"x", mask=mask))
        assert conn.receive(SOON) == "x"


def have_company(conn):
    """Another connection waits, which is active then."""
    with raw_peer(ping_interval=None) as (other, _):
        assert other is not conn
        assert other.receive(0.001) is None


def settle(conn, peer, mask=False):
    """Have the connection count as alone, and its next wait look out."""
    have_company(conn)
    take(conn, peer, 1 + COMPANY + FIRST, mask)  # the first one needs no wait
    assert spins(conn) == (0, 0)


def look_in_vain(conn, peer):
    """A wait that looks out for a moment, and then sleeps until its message comes."""
    kernel.spin_for(1)
    before, paid = spins(conn)
    receiving = Running(conn.receive, SOON)
    until(lambda: spins(conn) == (before + 1, paid))
    peer.sendall(frame(TEXT, b"late"))
    assert receiving.result() == "late"


@pytest.fixture
def settled():
    kernel.spin_for(FOREVER)
    with raw_peer(ping_interval=None) as (conn, peer):
        settle(conn, peer)
        yield conn, peer


def test_a_connection_that_is_alone_looks_out_once_it_has_waited_a_few_times(settled):
    take(*settled, 50)
    assert spins(settled[0]) == (50, 50)


def test_one_that_looks_out_in_vain_does_so_less_and_less(settled):
    conn, peer = settled
    penalty = LEAST
    while penalty <= 2 * MOST:
        look_in_vain(conn, peer)
        before = spins(conn)
        take(conn, peer, min(penalty, MOST))
        assert spins(conn) == before
        penalty *= 2
    look_in_vain(conn, peer)


def test_one_that_it_pays_for_is_forgiven(settled):
    conn, peer = settled
    for penalty in (4, 8, 16):
        look_in_vain(conn, peer)
        take(conn, peer, penalty)
    kernel.spin_for(FOREVER)
    take(conn, peer, 2)  # which halve it, twice
    look_in_vain(conn, peer)
    before = spins(conn)
    take(conn, peer, 8)
    assert spins(conn) == before
    take(conn, peer)
    assert spins(conn) == (before[0] + 1, before[1] + 1)


def test_one_that_has_company_sleeps_at_once(settled):
    conn, peer = settled
    take(conn, peer, 3)
    have_company(conn)
    take(conn, peer, COMPANY)
    assert spins(conn) == (3, 3)
    take(conn, peer)
    assert spins(conn) == (4, 4)


def test_two_that_take_turns_never_look_out():
    kernel.spin_for(FOREVER)
    with raw_peer(ping_interval=None) as one, raw_peer(ping_interval=None) as other:
        for _ in range(2 * (COMPANY + FIRST)):
            take(*one)
            take(*other)
        assert (spins(one[0]), spins(other[0])) == ((0, 0), (0, 0))


def test_a_stream_of_messages_is_not_looked_out_for(settled):
    conn, peer = settled
    for _ in range(20):
        peer.sendall(frame(TEXT, b"x") * 2)
        assert [conn.receive(SOON) for _ in range(2)] == ["x", "x"]
        receiving = Running(conn.receive, SOON)
        until(lambda: conn._link.channel.reader)
        peer.sendall(frame(TEXT, b"x") * 2)
        assert receiving.result() == conn.receive(SOON) == "x"
    assert spins(conn)[0] <= 1  # that of the first wait


def test_it_is_not_done_where_it_is_switched_off(settled):
    conn, peer = settled
    kernel.spin_for(0)
    take(conn, peer, 20)
    assert spins(conn) == (0, 0)


def test_under_tls():
    kernel.spin_for(FOREVER)
    with both_ends(tls=True, ping_interval=None) as (client, server):
        have_company(server)
        for number in range(1 + COMPANY + FIRST + 10):
            client.send(str(number))
            assert server.receive(SOON) == str(number)
        spun, paid = spins(server)
        assert 0 < spun == paid


# -- what a wait has to hear while it looks out --


def test_it_ends_in_time(settled):
    start = time.monotonic()
    assert settled[0].receive(0.05) is None
    assert time.monotonic() - start >= 0.05
    assert spins(settled[0]) == (1, 0)


@pytest.mark.parametrize("end", ["fin", "reset"])
def test_it_ends_with_the_connection(settled, end):
    conn, peer = settled
    receiving = Running(conn.receive, None)
    until(lambda: conn._link.channel.reader)
    if end == "fin":
        peer.close()
    else:
        reset(peer)
    assert receiving.result() is None
    assert conn.close_code == 1006


def test_it_ends_with_a_close_by_another_thread(settled):
    conn, _ = settled
    kernel.spin_for(300_000)
    receiving = Running(conn.receive, None)
    until(lambda: conn._link.channel.reader)
    conn._begin_close(1001)  # which waits for nobody, and the peer says nothing
    assert receiving.result() is None
    assert spins(conn) == (1, 0)


def test_signals_are_heard_before_the_sleep(settled):
    """The sleep hears those alone that come in it, and looks up once a second."""
    conn, peer = settled
    kernel.spin_for(0)
    assert conn.receive(0.05) is None  # it has made its waker, by code in which signals are heard
    take(conn, peer)
    previous = signal.signal(signal.SIGUSR1, lambda *_: peer.sendall(frame(TEXT, b"heard")))
    try:
        kernel.spin_for(600_000)

        def strike():
            until(lambda: conn._link.channel.reader)
            # To another thread: the one that waits is not interrupted by it.
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

        striking = Running(strike)
        assert conn.receive(1.5) == "heard"
        striking.result()
    finally:
        signal.signal(signal.SIGUSR1, previous)


# -- a send, and the GIL --


def others_run_while_it_sends(conn, sends):
    """Whether a thread that asks for the GIL gets it from one that does nothing but send."""
    interval = sys.getswitchinterval()
    asks, is_there, ran = threading.Lock(), threading.Event(), []

    def ask():
        is_there.set()
        with asks:
            ran.append(True)

    asks.acquire()
    sys.setswitchinterval(100)  # else it is let go of when that is over
    asking = Running(ask)
    try:
        is_there.wait(SOON)
        asks.release()
        for _ in range(sends):
            conn.send("x")
            if ran:
                return True
        return False
    finally:
        sys.setswitchinterval(interval)
        asking.result()


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no GIL to let go of"
)
def test_a_send_lets_go_of_the_gil_where_others_are_active():
    # A server's: a client lets go of it to draw keys, every 1,024 sends.
    with raw_peer(client=False, ping_interval=None) as (conn, peer):
        settle(conn, peer, mask=True)
        check_who_runs(conn, peer)


def check_who_runs(conn, peer):
    few, many = 300, 100_000  # what a socket holds; what is enough for any thread to wake
    code = "import os\nos.write(1, b'.')\nwhile os.read(0, 65536): pass"
    reading = [sys.executable, "-c", code]  # a full socket would be waited for, without the GIL
    with subprocess.Popen(reading, stdin=peer, stdout=subprocess.PIPE) as reader:
        assert reader.stdout.read(1) == b"."
        assert not others_run_while_it_sends(conn, few)
        have_company(conn)
        assert not others_run_while_it_sends(conn, few)  # it learns of them in its next wait
        take(conn, peer, mask=True)
        assert others_run_while_it_sends(conn, many)
        take(conn, peer, COMPANY, mask=True)
        assert not others_run_while_it_sends(conn, few)
        conn._abort()


# -- the environment --

PROGRAM = """
import scriptling_ws as ws
from scriptling_ws import _kernel as kernel

one, other = ws.pair()
for _ in range(100):
    one.send("x")
    other.receive(10)
print(other._link.channel.spins)
one._abort()
other._abort()
"""


@pytest.mark.parametrize(
    ("value", "printed"), [("", "(83, 83)"), ("0", "(0, 0)"), ("20", "(83, 83)")]
)
def test_what_the_environment_says(value, printed):
    environment = python_environment(SCRIPTLING_WS_SPIN=value)
    with Process.python("-W", "ignore", "-c", PROGRAM, env=environment) as program:
        assert program.finish() == ([printed], 0)


@pytest.mark.parametrize("value", ["often", "-1", "1000001"])
@pytest.mark.parametrize("name", ["SCRIPTLING_WS_SPIN", "SCRIPTLING_WS_GATE"])
def test_what_the_environment_says_has_to_be_a_number(name, value):
    environment = python_environment(**{name: value})
    done = subprocess.run(
        [sys.executable, "-c", "import scriptling_ws._kernel"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    most = "1000" if name == "SCRIPTLING_WS_SPIN" else "1000000"
    said = f"{name} in the environment has to be a number, 0 to {most}, not '{value}'"
    assert said in done.stderr
