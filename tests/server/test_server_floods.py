"""A server under floods: nobody else waits, its memory stays flat, and it ends in time."""

import contextlib
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

import scriptling_ws as ws
from pairs import KIB, MIB, until
from processes import Process, python_environment
from renegotiation import Renegotiating, needs_cryptography
from scriptling_ws._network.waiting import engine
from servers import Certificates, head, upgrade

resource = pytest.importorskip("resource")

SOON = 5.0  # seconds that another client may take on a busy machine; by itself it takes some 50 ms
FOR = 1.0  # seconds that a flood lasts

pytestmark = pytest.mark.once("what floods is no message, and others' messages are short")

PROGRAM = """
import ssl, sys
import scriptling_ws as ws

context = None
if sys.argv[1:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])

def echo(client):
    for message in client:
        client.send(message)

routes = ws.Routes()
routes.websocket("/", echo)
routes.get("/page", lambda request: "page")
ws.serve(
    routes=routes, port=0, ssl_context=context, shutdown_timeout=2, handshake_timeout=3,
    ready=lambda server: print(server.port, flush=True),
)
"""


class Flooded:
    """A server in a process of its own, some floods, and what others see of it meanwhile."""

    def __init__(self, *arguments, scheme="ws", context=None):
        env = python_environment(SCRIPTLING_WS_ENGINE=engine().name)
        self.process = Process.python("-c", PROGRAM, *arguments, env=env)
        self.port = int(self.process.line())
        self.url = f"{scheme}://localhost:{self.port}/"
        self.context = context
        self.stop = threading.Event()
        self.threads = []
        self.rounds = 0

    def dial(self):
        sock = socket.create_connection(("127.0.0.1", self.port), 10)
        sock.settimeout(10)
        return sock

    def flood(self, attack, times=1):
        """Attack again and again, each time on a connection of its own."""

        def run():
            while self.goes_on():
                with contextlib.suppress(OSError, AssertionError), self.dial() as sock:
                    attack(self, sock)
                self.rounds += 1

        for _ in range(times):
            self.threads.append(threading.Thread(target=run, daemon=True))
            self.threads[-1].start()

    def goes_on(self):
        """Whether a flood goes on."""
        if engine().name == "gevent":
            time.sleep(1e-6)  # it is a greenlet: the others of this process run meanwhile
        return not self.stop.is_set()

    def memory(self):
        """What the server's process has in memory, in bytes."""
        pages = Path(f"/proc/{self.process._process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def echo(self):
        """Connect, and have a message echoed; the seconds that took."""
        start = time.monotonic()
        options = {} if self.context is None else {"ssl_context": self.context}
        with ws.connect(self.url, **options) as conn:
            conn.send("served")
            assert conn.receive(10) == "served"
            return time.monotonic() - start

    def end(self):
        """End the floods, once the server has ended."""
        self.stop.set()
        for thread in self.threads:
            thread.join(15)
            assert not thread.is_alive()

    def check(self):
        """The whole of it: others are served, memory is flat, SIGTERM ends it in time."""
        self.echo()  # so that what is made once is there
        before = self.memory()
        until(lambda: self.rounds > 0 or any(t.is_alive() for t in self.threads))
        times, most = [], 0
        end = time.monotonic() + FOR
        while time.monotonic() < end:
            times.append(self.echo())
            most = max(most, self.memory())
        assert max(times) < SOON, times
        assert most - before < 24 * MIB
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.finish() == ([], 0)
        assert time.monotonic() - start < 4


@pytest.fixture
def plain():
    server = Flooded()
    with server.process:
        yield server
        server.end()


@pytest.fixture
def secure(tmp_path):
    certificates = Certificates()
    path = tmp_path / "server.pem"
    path.write_bytes(certificates.certificate.private_key_and_cert_chain_pem.bytes())
    server = Flooded(path, scheme="wss", context=certificates.client)
    with server.process:
        yield server
        server.end()


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")


def renegotiate(server, sock):
    peer = Renegotiating(sock)
    while server.goes_on():
        peer.ask(50)


def renegotiate_slowly(server, sock):
    # Below what ends a connection at once, a few requests at a time, until the deadline.
    peer = Renegotiating(sock)
    while not server.stop.wait(0.001):
        peer.ask(1)


def renegotiate_as_a_connection(server, sock):
    peer = Renegotiating(sock)
    peer.send(upgrade())
    while server.goes_on():
        peer.ask(50)


def send_to_a_refusal(server, sock):
    sock.sendall(head("/nowhere", "Content-Length: 999999999"))
    while server.goes_on():
        sock.sendall(bytes(256 * KIB))


def drip(server, sock):
    for byte in head("/", "X: " + "x" * 8000):
        if not server.goes_on():
            break
        sock.sendall(bytes([byte]))


def say_nothing(server, sock):
    pass  # a connection, and its end


@needs_proc
@needs_cryptography
@pytest.mark.abuse(17, 19)
@pytest.mark.parametrize(
    "attack",
    [
        renegotiate,
        renegotiate_slowly,
        renegotiate_as_a_connection,
        send_to_a_refusal,
        say_nothing,
    ],
)
def test_a_flood_at_a_tls_port(secure, attack):
    secure.flood(attack, 2)
    secure.check()


@needs_proc
@pytest.mark.abuse(17, 18)
@pytest.mark.parametrize("attack", [send_to_a_refusal, drip, say_nothing])
def test_a_flood_at_a_plain_port(plain, attack):
    plain.flood(attack, 2)
    plain.check()
