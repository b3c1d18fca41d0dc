"""What systemd passes and is told: by real descriptors and a real datagram socket."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from pairs import SOON, until
from processes import DEADLINE, python_environment
from scriptling_ws import connect
from scriptling_ws._server import systemd
from scriptling_ws._server.endpoints import from_descriptors
from services import Service, write

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        os.name == "nt" or not hasattr(socket, "AF_UNIX"), reason="systemd is a Linux program"
    ),
]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A service manager's socket: what it was told, and its name in the environment."""
    abstract = request.param == "abstract"
    if abstract and sys.platform != "linux":
        pytest.skip("abstract names are Linux'")
    name = f"@scriptling-ws-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if abstract else name)
        sock.settimeout(SOON)
        yield Manager(sock, name)


class Manager:
    def __init__(self, sock, name):
        self._sock = sock
        self.name = name

    def told(self):
        """The next message, as a dict."""
        text = self._sock.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.splitlines())

    def silent(self):
        self._sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            self._sock.recv(1)
        self._sock.settimeout(SOON)
        return True


# -- what is told -----------------------------------------------------------------------


def clock():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_workers_as_a_service(folder, manager):
    with Service(folder, NOTIFY_SOCKET=manager.name) as service:
        assert manager.told() == {"READY": "1", "STATUS": "serving with 2 workers"}
        service.started()
        for setup, status in (
            ("1 / 0\n", "the reload has failed"),
            (None, "serving with 2 workers"),
        ):
            if setup:
                write(folder, setup=setup)
            else:
                write(folder, version=2)
            before = clock()
            service.process.send_signal(signal.SIGHUP)
            reloading = manager.told()
            assert reloading.pop("RELOADING") == "1"
            assert before <= int(reloading.pop("MONOTONIC_USEC")) <= clock()
            assert reloading == {"STATUS": "reloading"}
            assert manager.told() == {"READY": "1", "STATUS": status}
        until(lambda: service.ask()[0] == 2)
        service.process.send_signal(signal.SIGTERM)
        assert manager.told()["STOPPING"] == "1"
        assert service.finish()[1] == 0
    assert manager.silent()


def test_one_process_as_a_service(folder, manager):
    with Service(folder, processes=None, NOTIFY_SOCKET=manager.name).started() as service:
        assert manager.told() == {"READY": "1", "STATUS": f"listening on {service.url}"}
        service.process.send_signal(signal.SIGTERM)
        assert manager.told()["STOPPING"] == "1"
        assert service.finish()[1] == 0
    assert manager.silent()


@pytest.mark.parametrize("address", ["/no/such/socket", "@nobody-listens", "vsock:2:1", "/" * 300])
def test_a_manager_that_is_not_there_ends_nothing(monkeypatch, log, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.notify("READY=1")
    (text,) = log.texts()
    assert text.startswith("the service manager cannot be told 'READY=1': ")


@pytest.mark.parametrize("address", [None, ""])
def test_without_a_manager_nothing_is_sent(monkeypatch, log, address):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.notify("READY=1")
    assert not log.texts()


def test_a_manager_that_does_not_read_is_not_waited_for(monkeypatch, log, manager):
    monkeypatch.setattr(systemd, "_PATIENCE", 0.01)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    for _ in range(10_000):
        systemd.notify("READY=1")
        if log.texts():
            break
    assert "cannot be told 'READY=1': timed out" in log.texts()[0]


# -- what is passed -----------------------------------------------------------------------

# As systemd does it: the descriptors from 3 on, and the variables for the process that is run.
ACTIVATED = """
import os, sys
numbers = [int(number) for number in sys.argv[1].split(",")]
held = [os.dup2(number, number + 50) for number in numbers]  # out of the way
for place, number in enumerate(held, 3):
    os.dup2(number, place, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(held)), LISTEN_FDNAMES="x:y")
os.environ.update(variable.split("=") for variable in sys.argv[2].split(",") if variable)
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


@contextlib.contextmanager
def activated(socks, *command, cwd, change=""):
    """A process that was started with sockets; its output."""
    numbers = ",".join(str(sock.fileno()) for sock in socks)
    process = subprocess.Popen(
        [sys.executable, "-c", ACTIVATED, numbers, change, *map(str, command)],
        cwd=cwd,
        env=python_environment(),
        pass_fds=[sock.fileno() for sock in socks],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_sockets_of_a_socket_unit(folder, processes):
    """They are served, and they are systemd's still: the next start has the same ones."""
    path = str(folder / "socket")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        url = f"ws://127.0.0.1:{tcp.getsockname()[1]}"
        for _ in range(2):
            command = ("-m", "scriptling_ws", *processes, "setup.py")
            with activated([tcp, unix], *command, cwd=folder) as process:
                assert f"listening on {url} " in process.stdout.readline()
                with connect(url + "/ws", SOON) as conn:
                    assert conn.receive(SOON).startswith("1 ")
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.settimeout(SOON)
                    sock.connect(path)
                    sock.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert sock.recv(100).startswith(b"HTTP/1.1 404 ")
                process.send_signal(signal.SIGTERM)
                assert process.wait(SOON) == 0
        assert os.path.exists(path)


PROGRAM = """
import os, sys
import scriptling_ws as ws
for _ in range(2):
    try:
        with ws.Server(lambda client: None, sock="systemd") as server:
            inherited = [os.get_inheritable(sock.fileno()) for sock in server._endpoints.sockets]
            print("served", server.url, inherited, [n for n in os.environ if "LISTEN" in n])
    except (OSError, ValueError) as error:
        print(error)
"""


def test_they_are_taken_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        with activated([sock], "-c", PROGRAM, cwd=tmp_path) as process:
            lines = process.communicate(timeout=DEADLINE)[0].splitlines()
        url = f"ws://127.0.0.1:{sock.getsockname()[1]}"
    assert lines[0] == f"served {url} [False] []"
    assert lines[1].startswith("[Errno 2] systemd has passed no socket (LISTEN_FDS)")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("LISTEN_PID=1", "systemd has passed no socket"),
        ("LISTEN_PID=x", "LISTEN_PID='x' and LISTEN_FDS='1' have to be numbers"),
        ("LISTEN_FDS=x", "LISTEN_FDS='x' have to be numbers"),
        ("LISTEN_FDS=0", "systemd has passed no socket"),
        ("LISTEN_FDS=99", r"descriptor \d+ is no socket"),
    ],
)
def test_what_was_not_passed_to_this_process(tmp_path, change, text):
    with (
        socket.create_server(("127.0.0.1", 0)) as sock,
        activated([sock], "-c", PROGRAM, cwd=tmp_path, change=change) as process,
    ):
        lines = process.communicate(timeout=DEADLINE)[0].splitlines()
    assert re.search(text, lines[0])


def test_descriptors_that_are_no_sockets(tmp_path):
    with (tmp_path / "file").open("w") as file, socket.create_server(("127.0.0.1", 0)) as sock:
        number = os.dup(sock.fileno())
        with pytest.raises(OSError, match=rf"descriptor {file.fileno()} is no socket"):
            from_descriptors([number, file.fileno()])
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)  # closed: it was taken over
