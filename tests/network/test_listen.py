"""Where a server listens: addresses, ports, and those that are not to be had."""

import errno
import socket

import pytest
from websockets.sync.client import connect

from scriptling_ws._network import listen as _listen
from scriptling_ws._network.listen import listen
from scriptling_ws._server.server import Server
from servers import Answer, echo, head, read_all, serving

pytestmark = pytest.mark.once("it is about addresses")

# -- a server's addresses --------------------------------------------------


def test_where_it_listens():
    with serving(echo) as server:
        assert server.port > 0
        assert server.address == f"127.0.0.1:{server.port}"
        assert server.url == f"ws://127.0.0.1:{server.port}"


def test_ipv6():
    try:
        server = serving(echo, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert server.url == f"ws://[::1]:{server.port}"
        with connect(server.url) as client:
            client.send("six")
            assert client.recv(10) == "six"


def test_a_name_is_listened_on_at_all_its_addresses(monkeypatch):
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.2", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    try:
        server = serving(echo, host="several.test")
    except OSError:
        pytest.skip("one loopback address only")
    monkeypatch.undo()
    with server:
        for host in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection((host, server.port), timeout=10) as sock:
                sock.sendall(head("/x"))
                assert Answer(read_all(sock)).status == 426


def test_a_port_in_use():
    with serving(echo) as server:
        with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1:{server.port}: ") as caught:
            Server(echo, port=server.port)
        assert caught.value.errno == errno.EADDRINUSE
        assert str(caught.value).endswith(
            "; end the program that listens there, or choose another port"
        )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b"])
def test_an_address_that_is_not_here(host):
    with pytest.raises((OSError, ValueError), match=r"cannot listen|cannot find|is not a host"):
        Server(echo, host=host, port=0)


# -- listen ----------------------------------------------------------------


def test_port_0_is_tried_again_where_the_port_is_taken_elsewhere(monkeypatch):
    found = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    monkeypatch.setattr(_listen, "_look_up", lambda host, port: found)
    # The same address twice: the second never gets the first's port.
    with pytest.raises(OSError, match=r"cannot listen on several\.test:0") as caught:
        listen("several.test", 0)
    assert caught.value.errno == errno.EADDRINUSE


def test_an_absent_family_is_left_out(monkeypatch):
    found = [(socket.AF_INET, ("192.0.2.1", 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    monkeypatch.setattr(_listen, "_look_up", lambda host, port: found)
    (sock,) = listen("several.test", 0)
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_no_address_at_all(monkeypatch):
    monkeypatch.setattr(_listen, "_look_up", lambda host, port: [])
    with pytest.raises(OSError, match=r"cannot listen on nowhere\.test:0"):
        listen("nowhere.test", 0)


@pytest.mark.parametrize(
    ("host", "port", "error"),
    [
        (None, 0, TypeError),
        ("", 0, ValueError),
        ("::1", "0", TypeError),
        ("::1", 70000, ValueError),
    ],
)
def test_wrong_addresses(host, port, error):
    with pytest.raises(error):
        listen(host, port)
