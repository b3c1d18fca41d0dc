"""A wait that has timed out ends its call, whatever the clock says: here it stands still.

Programs that test themselves patch `time.monotonic`, for a while or for good.
"""

import socket
import sys
import threading

import pytest

from pairs import KIB, MIB, SOON, Running, connection, tcp_pair, tls_pair, until
from scriptling_ws import ConnectTimeout, SendTimeout, connect
from scriptling_ws._network import deadline as _deadline
from servers import serving

SHORT = 0.05  # seconds


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch):
    """The clock as the package sees it stands still."""
    for name, module in list(sys.modules.items()):
        if name.startswith("scriptling_ws.") and hasattr(module, "monotonic"):
            monkeypatch.setattr(module, "monotonic", lambda: 1000.0)
    assert _deadline.monotonic() == 1000.0  # what the calls ask, wherever it stands


@pytest.fixture
def quiet(request):
    """A connection to a peer that says nothing and reads nothing."""
    options = {"close_timeout": SHORT, "send_timeout": SHORT, "ping_interval": None}
    near, far = tls_pair(buffer=64 * KIB) if request.param else tcp_pair(64 * KIB)
    conn = connection(near, **options)
    yield conn
    conn.close()
    far.close()


both = pytest.mark.parametrize("quiet", [False, True], indirect=True, ids=["tcp", "tls"])


@both
def test_receiving(quiet):
    calls = [
        lambda: quiet.receive(SHORT),
        lambda: quiet.receive_many(5, SHORT),
        lambda: quiet.receive(1.1),
        lambda: quiet.ping(SHORT),
    ]
    for call in calls:
        assert not Running(call).result(SOON)
    assert quiet.connected()


@both
def test_receiving_while_another_thread_does(quiet):
    waiting = Running(quiet.receive, None)
    until(quiet._intake.lock.locked)
    calls = [
        lambda: quiet.receive(SHORT),
        lambda: quiet.receive_into(bytearray(1), SHORT),
        lambda: quiet.ping(SHORT),
    ]
    for call in calls:
        assert Running(call).result(SOON) is None
    quiet.close()
    assert waiting.result() is None


@both
@pytest.mark.parametrize("size", [100 * KIB, 2 * MIB])
def test_sending(quiet, size):
    def send():
        with pytest.raises(SendTimeout):
            while True:
                quiet.send_binary(bytes(size))

    Running(send).result(SOON)


@both
def test_closing(quiet):
    Running(quiet.close).result(SOON)
    assert quiet.fileno() == -1


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connecting(scheme, host):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConnectTimeout):
            Running(lambda: connect(f"{scheme}://{host}:{port}", timeout=SHORT)).result(SOON)


def test_connecting_to_a_full_backlog():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        with pytest.raises(ConnectTimeout):
            Running(lambda: connect(f"ws://127.0.0.1:{address[1]}", timeout=SHORT)).result(SOON)
        for sock in waiting:
            sock.close()


def test_a_server_that_closes_and_its_wait(caplog):
    leave = threading.Event()

    def handler(_):
        leave.wait(SOON)

    with serving(handler, shutdown_timeout=SHORT) as server:
        assert not Running(server.wait, SHORT).result(SOON)
        conn = connect(server.url)
        Running(server.close).result(SOON)
        leave.set()
        conn.close()
    assert "thread is left behind" in caplog.text
