"""Reloads: new code and certificates, no connection refused, and old ones that go on."""

import contextlib
import os
import signal
import socket
import threading

import pytest

from pairs import SOON, Running, until
from processes import Process, is_alive
from scriptling_ws import connect
from servers import Certificates
from services import Service, write

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


@contextlib.contextmanager
def connecting(service):
    """Connect all the time; each has to be answered. The versions of the answers."""
    over = threading.Event()
    versions = []

    def loop():
        while not over.is_set():
            versions.append(service.ask()[0])

    loops = [Running(loop) for _ in range(2)]
    try:
        yield versions
    finally:
        over.set()
        for each in loops:
            each.result()


def reload(service, said="reloaded: new workers serve"):
    service.process.send_signal(signal.SIGHUP)
    return service.process.line_with(said)


# -- code ----------------------------------------------------------------------------


def test_a_reload_refuses_no_connection_and_ends_none_at_once(folder):
    with Service(folder, "--reload-timeout", "600").started() as service:
        old, version, process = service.greeted()
        with old:
            assert version == 1
            with connecting(service) as versions:
                until(lambda: len(versions) > 10)
                for version in (2, 3):
                    write(folder, version=version)
                    reload(service)
                    until(lambda version=version: versions[-5:] == [version] * 5)
            assert set(versions) == {1, 2, 3}
            old.send("still here")
            assert old.receive(SOON) == "still here"
        until(lambda: not is_alive(process))  # with its last connection, long before the time


def test_after_the_grace_period_old_connections_are_closed_with_1001(folder):
    with Service(folder, "--reload-timeout", "0.2").started() as service:
        old, _, process = service.greeted()
        with old:
            write(folder, version=2)
            reload(service)
            assert old.receive(SOON) is None
            assert old.close_code == 1001
        until(lambda: not is_alive(process))
        assert service.ask()[0] == 2


def test_a_request_that_has_begun_is_answered_by_the_old_worker(folder):
    """It was accepted before the reload, and is complete after it."""
    with Service(folder, "--reload-timeout", "600", processes=1).started() as service:
        _, old = service.ask()
        host, port = service.url.removeprefix("ws://").split(":")
        with socket.create_connection((host, int(port)), SOON) as sock:
            sock.sendall(b"GET /nothing HTTP/1.1\r\n")
            write(folder, version=2)
            reload(service)
            until(lambda: service.ask()[0] == 2)
            assert is_alive(old)
            sock.sendall(b"Host: localhost\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 404 ")
        until(lambda: not is_alive(old))


@pytest.mark.parametrize(
    ("broken", "how"),
    [("1 / 0\n", "with status 1"), ("import os\nos.abort()\n", "by SIGABRT")],
)
def test_code_that_cannot_start_leaves_the_old_workers_as_they_are(folder, broken, how):
    with Service(folder).started() as service:
        old, _, _ = service.greeted()
        with old:
            write(folder, setup=broken)
            line = reload(service, "the reload is given up")
            assert line.endswith(f"has ended {how}: the old ones go on")
            assert service.ask()[0] == 1
            old.send("still here")
            assert old.receive(SOON) == "still here"
            write(folder, version=2)
            reload(service)
            until(lambda: service.ask()[0] == 2)


def test_a_reload_during_a_reload_follows_it(folder):
    """What has changed meanwhile is served in the end."""
    gate = folder / "gate"
    os.mkfifo(gate)
    setup = (folder / "setup.py").read_text()
    waits = (
        "import os\n"
        "if os.path.exists('wait'):\n"
        "    print('at the gate', flush=True)\n"
        "    open('gate').close()\n"
    )
    write(folder, setup=waits + setup)
    with Service(folder, processes=1).started() as service:
        (folder / "wait").touch()
        reload(service, "at the gate")
        (folder / "wait").unlink()
        service.process.send_signal(signal.SIGHUP)
        text = (folder / "handlers.py").read_text()
        (folder / "handlers.py").write_text(text.replace("VERSION = 1", "VERSION = 2"))
        gate.open("w").close()
        service.process.line_with("reloaded: new workers serve")
        service.process.line_with("reloading: new workers start")
        service.process.line_with("reloaded: new workers serve")
        until(lambda: service.ask()[0] == 2)


def test_a_signal_during_a_reload_ends_both_generations(folder):
    os.mkfifo(folder / "gate")
    setup = (folder / "setup.py").read_text()
    with Service(folder).started() as service:
        old, _, _ = service.greeted()
        with old:
            write(folder, setup=f"print('at the gate', flush=True)\nopen('gate').close()\n{setup}")
            reload(service, "at the gate")
            service.process.send_signal(signal.SIGTERM)
            assert old.receive(SOON) is None
            assert old.close_code == 1001
        assert service.finish()[1] == 0


def test_a_handler_given_by_its_name_is_reloaded_and_a_function_is_not(folder):
    program = (
        "import sys\n"
        "sys.path.insert(0, '.')\n"
        "import logging\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout)\n"
        "import scriptling_ws as ws\n"
        "handler = 'handlers.greet'\n"
        "if sys.argv[1:]:\n"
        "    import handlers\n"
        "    handler = handlers.greet\n"
        "tell = lambda server: print(server.url, flush=True)\n"
        "ws.serve(handler, port=0, processes=1, ready=tell)\n"
    )
    for arguments, expected in (((), 2), (("function",), 1)):
        write(folder, version=1)
        with Process.python("-B", "-c", program, *arguments, cwd=folder) as service:
            url = service.line_with("ws://")
            write(folder, version=2)
            service.send_signal(signal.SIGHUP)
            service.line_with("reloaded: new workers serve")

            def version(url=url):
                with connect(url) as conn:
                    version, _ = conn.receive(SOON).split()
                    return int(version)

            until(lambda expected=expected: version() == expected)
            assert version() == expected


# -- certificates ------------------------------------------------------------------------


class Files:
    """A certificate's files, which are written anew, from one authority."""

    def __init__(self, folder):
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.certificates = Certificates()
        self.write()

    def write(self):
        """A certificate that was not there before; its number."""
        issued = self.certificates.authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(self.key)
        self.key.chmod(0o600)
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(self.chain, append=bool(number))

    @property
    def arguments(self):
        return ("--tls-cert", self.chain, "--tls-key", self.key)

    def served(self, service):
        """The number of the certificate that a new connection sees."""
        with connect(service.url + "/ws", SOON, ssl_context=self.certificates.client) as conn:
            return conn._link.transport._tls.getpeercert()["serialNumber"]


@pytest.mark.parametrize(
    ("processes", "said", "kept"),
    [
        (2, "reloaded: new workers serve", "the reload is given up: cannot use --tls-cert"),
        (None, "the certificate was read anew", "the certificate stays as it was: cannot use"),
    ],
)
def test_a_renewed_certificate_is_for_those_who_connect_from_then_on(folder, processes, said, kept):
    files = Files(folder)
    with Service(folder, *files.arguments, processes=processes).started() as service:
        first = files.served(service)
        old, _, _ = service.greeted(ssl_context=files.certificates.client)
        with old:
            files.write()
            reload(service, said)
            until(lambda: files.served(service) != first)
            second = files.served(service)
            files.chain.write_text("no certificate")
            reload(service, kept)
            assert files.served(service) == second
            old.send("still here")
            assert old.receive(SOON) == "still here"


@pytest.mark.parametrize("processes", [1, None])
def test_a_hangup_ends_what_was_started_at_a_terminal_that_is_gone(folder, processes):
    """Not a reload: nobody is there to end it."""
    files = Files(folder)
    near, far = os.openpty()
    try:
        options = {"processes": processes, "stdin": os.ttyname(far)}
        with Service(folder, *files.arguments, **options).started() as service:
            os.close(far)
            far = -1
            reload(service, "reloaded" if processes else "the certificate was read anew")
            os.close(near)
            near = -1
            service.process.send_signal(signal.SIGHUP)
            assert service.finish()[1] == 0
    finally:
        for end in (near, far):
            if end >= 0:
                os.close(end)
