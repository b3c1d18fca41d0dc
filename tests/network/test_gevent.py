"""In programs that gevent has patched, before they use this package: nothing may hang.

Each scenario is a program of its own, as patching is for good. In all of them a greenlet ticks, to
show that no call of the package stops the others.
"""

import pytest

from ticking import run_program

pytest.importorskip("gevent")

# Of patched programs two tests run with both codecs; of the engine, all of test_greenlets.py.
once = pytest.mark.once("what a patched program waits by is the same with both codecs")

PATCHED = """
from gevent import monkey
monkey.patch_all()
import socket

def mute():
    # A peer that says and reads nothing: its port.
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    kept.append(listener)
    return listener.getsockname()[1]
kept = []
"""


def run(body, *arguments, before=""):
    run_program(before + PATCHED, body, *arguments)


def test_receiving(certificates):
    run(
        """
        with serve(echo) as server, open(server) as conn:
            assert took(0.2, SOON, conn.receive, 0.2) is None
            assert took(1.1, SOON, conn.receive, 1.1) is None
            assert took(0, SOON, conn.receive, 0) is None
            assert took(0, SOON, conn.connected)
            conn.send("to and fro")
            assert took(0, SOON, conn.receive, 5) == "to and fro"
            conn.send_binary(bytes(3_000_000))
            assert len(took(0, 9, conn.receive, 9)) == 3_000_000
            assert took(0, SOON, conn.ping, 5) is not None
        """,
        *certificates,
    )


@pytest.mark.abuse(51)
def test_close_wakes_a_receiver(certificates):
    run(
        """
        with serve(echo) as server:
            for timeout in (None, 30, 9):
                conn = open(server)
                waiting = gevent.spawn(conn.receive, timeout)
                gevent.sleep(0.1)
                took(0, SOON, conn.close)
                assert took(0, SOON, waiting.get) is None
                assert not conn.connected()
        """,
        *certificates,
    )


@once
def test_a_server_that_closes_and_its_clients(certificates):
    run(
        """
        with serve(echo) as server:
            waiting, idle = open(server), open(server)
            receiving = gevent.spawn(waiting.receive, None)
            gevent.sleep(1.2)  # the idle one is listened for since a second
            took(0, SOON, server.close)
            assert receiving.get(timeout=5) is None
            assert waiting.close_code == 1001
            with gevent.Timeout(5):
                while idle.connected():
                    gevent.sleep(0.01)
            assert idle.close_code == 1001
        """,
        *certificates,
    )


@pytest.mark.abuse(64)
def test_sending_to_a_peer_that_does_not_read(certificates):
    run(
        """
        def deaf(client):
            threading.Event().wait(30)
        with serve(deaf, shutdown_timeout=0) as server:
            conn = open(server, send_timeout=0.3, close_timeout=0.2)
            def fill():
                try:
                    while True:
                        conn.send_binary(bytes(1_000_000))
                except ws.SendTimeout:
                    return "timed out"
            assert took(0.3, 10, fill) == "timed out"
            took(0, SOON, conn.close)
        """,
        *certificates,
    )


@once
def test_connecting_to_a_peer_that_says_nothing():
    run(
        """
        for scheme in ("ws", "wss"):
            for host in ("127.0.0.1", "localhost"):
                try:
                    took(0.2, SOON, lambda: ws.connect(f"{scheme}://{host}:{mute()}/", timeout=0.2))
                except ws.ConnectTimeout:
                    continue
                raise AssertionError("it connects")
        """
    )


@once
def test_keepalive(certificates):
    run(
        """
        with serve(echo, ping_interval=0.05) as server:
            conn = open(server, ping_interval=0.05, ping_timeout=5)
            with gevent.Timeout(10):
                while conn.latency is None:
                    assert conn.receive(0.05) is None
            assert conn.connected()
            conn.close()
        """,
        *certificates,
    )


@once
def test_many_connections_at_once(certificates):
    run(
        """
        def talk(number):
            with open(server) as conn:
                for each in range(20):
                    conn.send(f"{number} {each}")
                    assert conn.receive(10) == f"{number} {each}"
        with serve(echo) as server:
            took(0, 20, gevent.joinall, [gevent.spawn(talk, n) for n in range(20)], 20, True)
        """,
        *certificates,
    )


@once
def test_a_program_that_is_patched_after_the_import(certificates):
    run(
        """
        with serve(echo) as server, open(server, ping_interval=0.05) as conn:
            assert took(0.2, SOON, conn.receive, 0.2) is None
            conn.send("to and fro")
            assert took(0, SOON, conn.receive, 5) == "to and fro"
            waiting = gevent.spawn(took, 0.2, SOON, conn.receive, None)
            gevent.sleep(0.3)
            took(0, SOON, conn.close)
            waiting.join(5)
            assert waiting.successful()
        """,
        *certificates,
        before="import scriptling_ws",
    )
