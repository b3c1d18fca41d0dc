"""What many clients see of ends, falls and reloads, with each engine; `-s` shows the figures."""

import contextlib
import os
import resource
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pairs import SOON, until
from scriptling_ws import ConnectError, ConnectionClosed, connect
from services import Service, serving_processes, write

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]

GRACE = 10.0  # shutdown_timeout's default
PAUSE = 0.005  # seconds between a client's messages: a load at which the machine has time left


@pytest.fixture(params=["threads", "gevent"])
def engine(request):
    """The options of the command that choose an engine."""
    if request.param == "threads":
        return ()
    pytest.importorskip("gevent")
    return ("--engine", "gevent", "--patch")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


def test_hundreds_of_clients_are_told_in_time(folder, engine):
    """A thousand of one process are in test_cli.py."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1000:
        pytest.skip("there are too few descriptors")
    clients = 300
    with Service(folder, *engine, processes=None) as service, contextlib.ExitStack() as stack:
        service.started()

        def come(_):
            return service.greeted()[0]

        with ThreadPoolExecutor(8) as pool:
            conns = [*pool.map(come, range(clients))]
        for conn in conns:
            stack.enter_context(conn)
        start = time.monotonic()
        service.process.terminate()

        def see(conn):
            assert conn.receive(GRACE) is None
            return conn.close_code, time.monotonic() - start

        with ThreadPoolExecutor(8) as pool:
            seen = [*pool.map(see, conns)]
        lines, status = service.finish()
        print(f"{clients} closed within {max(s for _, s in seen):.2f} s of SIGTERM")
        assert [code for code, _ in seen] == [1001] * clients
        assert max(seconds for _, seconds in seen) < GRACE
        assert status == 0
        assert not [line for line in lines if "Traceback" in line or "goes on after" in line]


class Client:
    """One that has a message echoed all the time, and connects anew whenever its connection ends.

    Attributes:
        echoes: How many have come.
        codes: With what its connections were closed.
        refused: The errors of those that it could not open.
    """

    def __init__(self, service):
        self._service = service
        self._over = threading.Event()
        self.echoes, self.codes, self.refused = 0, [], []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._over.is_set():
            try:
                with connect(self._service.url + "/ws", SOON) as conn:
                    self._talk(conn)
                    if not self._over.is_set():
                        self.codes.append(conn.close_code)
            except ConnectError as error:
                self.refused.append(error)

    def _talk(self, conn):
        conn.receive(SOON)  # the greeting
        with contextlib.suppress(ConnectionClosed):
            while not self._over.wait(PAUSE):
                conn.send("x")
                if conn.receive(SOON) is None:
                    return
                self.echoes += 1

    def leave(self):
        self._over.set()
        self._thread.join(3 * SOON)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def loaded(service, count):
    """So many clients, all at work."""
    clients = [Client(service) for _ in range(count)]
    try:
        until(lambda: all(client.echoes for client in clients))
        yield clients
        before = [client.echoes for client in clients]
        until(lambda: all(c.echoes > b for c, b in zip(clients, before, strict=True)))
    finally:
        for client in clients:
            client.leave()


def told(clients):
    """What they saw: the close codes, and the errors of connections that could not be opened."""
    codes = [code for client in clients for code in client.codes]
    refused = [error for client in clients for error in client.refused]
    print(f"{sum(c.echoes for c in clients)} echoes, closed {codes}, refused {refused}")
    return codes, refused


def test_a_worker_is_killed_under_load(folder, engine):
    with Service(folder, *engine).started() as service:
        found = serving_processes(service, 2)
        for conn in found.values():
            conn.close()
        fallen = min(found)
        with loaded(service, 8) as clients:
            start = time.monotonic()
            os.kill(fallen, signal.SIGKILL)
            service.process.line_with(f"worker {fallen} has ended by SIGKILL")
            until(lambda: service.ask()[1] not in found)
            print(f"another worker serves after {time.monotonic() - start:.2f} s")
        codes, refused = told(clients)
        assert set(codes) <= {1006}  # those of the fallen; the others' connections went on
        # One that the fallen had accepted, and not answered yet, is lost too: reset, not refused.
        assert not [
            error for error in refused if isinstance(error.__cause__, ConnectionRefusedError)
        ]


def test_a_reload_under_load(folder, engine):
    with Service(folder, *engine, "--reload-timeout", "0.5").started() as service:
        with loaded(service, 8) as clients:
            write(folder, version=2)
            service.process.send_signal(signal.SIGHUP)
            service.process.line_with("reloaded: new workers serve")
            until(lambda: all(client.codes for client in clients))
        codes, refused = told(clients)
        assert set(codes) == {1001}  # old workers close what is left after their time
        assert refused == []
