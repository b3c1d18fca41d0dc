"""What fails leaves nothing to the garbage collector: sockets and buffers are let go at once."""

import errno
import gc
import socket

import pytest

from channels import FREE_THREADED
from memory import counts_references
from pairs import Running
from scriptling_ws import ConnectError, connect
from scriptling_ws._network import dial as _dial
from scriptling_ws._network import listen as _listen
from servers import Answer, dial, echo, head, read_all, routes_of, serving, upgrade

pytestmark = counts_references

# Without a GIL an object that another thread drops goes when its own thread runs again, or at a
# collection: what the acceptor has made and a page's thread drops is then no cycle.
dropped_by_another_thread = pytest.mark.skipif(
    FREE_THREADED, reason="without a GIL the thread that made an object lets go of it, and it waits"
)

UPGRADED = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


def leaves_nothing(call):
    """Call it twice: once for what is made at the first time, and once to be looked at."""
    call()
    gc.collect()
    gc.disable()
    try:
        call()
        assert gc.collect() == 0
    finally:
        gc.enable()


def fails(url, **options):
    """Fail to connect; `pytest.raises` would keep the error, with its frames."""
    try:
        connect(url, **{"timeout": 5, **options})
    except (ConnectError, TypeError):
        return
    pytest.fail("it is open")


ANSWERS = {
    "nothing": b"",
    "another protocol": b"SSH-2.0\r\n",
    "refused": b"HTTP/1.1 404 x\r\nContent-Length: 3\r\n\r\nabc",
    "refused without a body": b"HTTP/1.1 403 x\r\n\r\n",
    "refused with half a body": b"HTTP/1.1 404 x\r\nContent-Length: 9\r\n\r\nabc",
    "refused with a malformed body": b"HTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no upgrade": b"HTTP/1.1 101 x\r\n\r\n",
    "another key": UPGRADED + b"Sec-WebSocket-Accept: x\r\n\r\n",
    "a malformed line": b"HTTP/1.1 200 x\r\n\0:\r\n\r\n",
    "a malformed header": b"HTTP/1.1 200 x\r\na b:c\r\n\r\n",
    "no TLS": b"HTTP/1.1 400 x\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_upgrade_that_fails(name):
    scheme = "wss" if name == "no TLS" else "ws"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/"

        def answer():
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(ANSWERS[name])

        def attempt():
            answering = Running(answer)
            fails(url)
            answering.result()

        leaves_nothing(attempt)


PROXIES = {
    "nobody": ("http", None),
    "no answer": ("http", b""),
    "refused": ("http", b"HTTP/1.1 407 x\r\n\r\n"),
    "malformed": ("http", b"HTTP/1.1 2 x\r\n\r\n"),
    "another protocol": ("http", b"SSH-2.0\r\n"),
    "no TLS": ("https", b"HTTP/1.1 400 x\r\n\r\n"),
    "no SOCKS": ("socks5", b"HTTP/1.1 400 x\r\n\r\n"),
    "refused by SOCKS": ("socks4", b"\0\x5b" + bytes(6)),
}


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_that_fails(name):
    kind, said = PROXIES[name]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{kind}://127.0.0.1:{listener.getsockname()[1]}"
        if said is None:
            listener.close()

        def answer():
            if said is not None:
                sock, _ = listener.accept()
                with sock:
                    sock.recv(65536)
                    sock.sendall(said)

        def attempt():
            answering = Running(answer)
            fails("ws://127.0.0.1/", proxy=url)
            answering.result()

        leaves_nothing(attempt)


@pytest.mark.parametrize("location", ["ftp://h/", "ws://[x/", "ws://h:0/", "/"])
def test_a_redirect_that_is_not_followed(location):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"

        def answer():
            for _ in range(2 if location == "/" else 1):
                sock, _ = listener.accept()
                with sock:
                    sock.recv(65536)
                    sock.sendall(f"HTTP/1.1 302 x\r\nLocation: {location}\r\n\r\n".encode())

        def attempt():
            answering = Running(answer)
            fails(url, max_redirects=1)
            answering.result()

        leaves_nothing(attempt)


def test_arguments_that_are_none():
    for options in ({"headers": 1}, {"headers": [1]}, {"socket_options": [1]}, {"cookies": 1}):
        leaves_nothing(lambda options=options: fails("ws://127.0.0.1/", **options))


def test_a_name_that_is_not_found(monkeypatch):
    def nothing(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(_dial.socket, "getaddrinfo", nothing)
    leaves_nothing(lambda: fails("ws://nowhere.example/"))


def test_no_descriptor_for_a_connection(monkeypatch):
    def nothing(*args, **options):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(_dial.socket, "socket", nothing)
    leaves_nothing(lambda: fails("ws://127.0.0.1/"))


def test_an_address_that_is_not_this_machines(monkeypatch):
    def absent(*args):
        raise OSError(errno.EADDRNOTAVAIL, "not here")

    def attempt():
        try:
            serving(echo)
        except OSError:
            return
        pytest.fail("it listens")

    monkeypatch.setattr(_listen, "_open", absent)
    leaves_nothing(attempt)


@pytest.mark.parametrize(
    "request_bytes",
    [
        head("/nowhere"),
        head("/ws"),
        head("/page", "a b: c"),
        head("/page", "Content-Length: x"),
        upgrade("/ws", "Sec-WebSocket-Extensions: \xff"),
        upgrade("/ws", Sec_WebSocket_Key="short"),
        b"hello\r\n\r\n",
        pytest.param(head("/page"), marks=dropped_by_another_thread),
    ],
)
def test_a_request_that_is_refused(request_bytes):
    with serving(routes=routes_of()) as server:

        def attempt():
            with dial(server) as sock:
                sock.sendall(request_bytes)
                assert Answer(read_all(sock)).status
            while server._acceptor._closing or server._acceptor._opening:
                pass

        leaves_nothing(attempt)
