"""Proxies by hand, for tests of the client: they do what a test tells them, and note what they see.

They connect to the loopback alone, whatever name they are asked for.
"""

import contextlib
import select
import socket
import ssl
import struct
import threading

from pairs import SOON, receive_exactly, receive_head

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
GRANTED = b"\0\x5a" + bytes(6)
SUCCEEDED = b"\x05\0\0\x01" + bytes(6)


@contextlib.contextmanager
def listening(script, *, context=None, buffer=None):
    """Runs `script(sock)` for each connection, in threads of their own; yields the port.

    `buffer` is about how much a socket takes that nobody reads.

    A peer that leaves ends a script without an error; any other error ends the test.
    """
    errors, threads = [], []

    def run(sock):
        with sock:
            try:
                sock.settimeout(SOON)
                if context is not None:
                    sock = context.wrap_socket(sock, server_side=True)
                with sock:
                    script(sock)
            except (ConnectionError, ssl.SSLError):
                pass
            except BaseException as error:
                errors.append(error)

    def accept():
        while True:
            sock, _ = listener.accept()
            if ended.is_set():
                sock.close()
                return
            threads.append(threading.Thread(target=run, args=(sock,), daemon=True))
            threads[-1].start()

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            _call(listener.getsockname()[1]).close()
            for each in [thread, *threads]:
                each.join(SOON)
                assert not each.is_alive()
    if errors:
        raise errors[0]


def _call(port):
    """A socket to a port, without a lookup: the test may have put its own in the place of that."""
    sock = socket.socket()
    try:
        sock.settimeout(SOON)
        sock.connect(("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


def pump(near, far):
    """Pass bytes on both ways, until one end is done."""
    ends = {near: far, far: near}
    while True:
        held = [end for end in ends if isinstance(end, ssl.SSLSocket) and end.pending()]
        for end in held or select.select(list(ends), [], [], SOON)[0]:
            data = end.recv(65_536)
            if not data:
                return
            ends[end].sendall(data)


def relay(sock, port, first=b""):
    """Be a tunnel to a port, which begins with some bytes of its own."""
    with _call(port) as far:
        sock.sendall(first)
        pump(sock, far)


def http_proxy(seen, answer=OPEN):
    """A script: a proxy of HTTP. It notes the head that it is asked with."""

    def script(sock):
        head = receive_head(sock)
        seen.append(head)
        port = int(head.split(b" ")[1].rpartition(b":")[2])
        relay(sock, port, answer)

    return script


def socks_proxy(seen, credentials=None, answer=None):
    """A script: a proxy of SOCKS 4, 4a and 5. It notes what it is asked for, and with what."""

    def script(sock):
        ask = _asked_4 if receive_exactly(sock, 1) == b"\x04" else _asked_5
        host, port, given, granted = ask(sock, credentials)
        seen.append((host, given))
        relay(sock, port, answer or granted)

    return script


def _to_nul(sock):
    data = b""
    while (byte := receive_exactly(sock, 1)) != b"\0":
        data += byte
    return data


def _asked_4(sock, credentials):
    command, port, address = struct.unpack("!BH4s", receive_exactly(sock, 7))
    assert command == 1
    user = _to_nul(sock)
    host = socket.inet_ntoa(address)
    if address[:3] == bytes(3) and address[3]:
        host = _to_nul(sock).decode()
    return host, port, user, GRANTED


def _asked_5(sock, credentials):
    methods = receive_exactly(sock, receive_exactly(sock, 1)[0])
    given = None
    if credentials is None:
        assert 0 in methods
        sock.sendall(b"\x05\0")
    else:
        if 2 not in methods:
            sock.sendall(b"\x05\xff")
            raise ConnectionError
        sock.sendall(b"\x05\x02")
        assert receive_exactly(sock, 1) == b"\x01"
        given = tuple(receive_exactly(sock, receive_exactly(sock, 1)[0]) for _ in range(2))
        sock.sendall(b"\x01\0" if given == credentials else b"\x01\x01")
        if given != credentials:
            raise ConnectionError
    assert receive_exactly(sock, 3) == b"\x05\x01\0"
    (kind,) = receive_exactly(sock, 1)
    if kind == 3:
        host = receive_exactly(sock, receive_exactly(sock, 1)[0]).decode()
    else:
        family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
        host = socket.inet_ntop(family, receive_exactly(sock, size))
    (port,) = struct.unpack("!H", receive_exactly(sock, 2))
    return host, port, given, SUCCEEDED
