"""Servers under test and raw peers for them."""

import contextlib
import gc
import logging
import queue
import re
import socket
import ssl
import threading

import trustme

from frames import frame
from heads import UPGRADE
from scriptling_ws._connection import keepalive as _keepalive
from scriptling_ws._network.transport import address_text
from scriptling_ws._network.waiting import engine
from scriptling_ws._server.routes import Routes
from scriptling_ws._server.server import Server

TIMEOUT = 10


def echo(client):
    for message in client:
        if isinstance(message, str):
            client.send(message)
        else:
            client.send_binary(message)


def serving(handler=None, **options):
    """A server on a free port; use it in a `with`."""
    options.setdefault("port", 0)
    return Server(handler, **options)


def routes_of(handler=echo, page=lambda request: "page"):
    """A WebSocket at /ws, and a page at /page."""
    routes = Routes()
    routes.websocket("/ws", handler)
    routes.get("/page", page)
    return routes


def exiting():
    """Raise what ends a program, but in a handler or a page not the server."""
    raise SystemExit(3)


def dial(server, timeout=TIMEOUT):
    """A plain socket to a server."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=timeout)
    sock.settimeout(timeout)
    return sock


def has_accepted(server, sock):
    """Whether a server has accepted this socket, and has no complete request from it.

    The number of such connections does not tell: one whose request was handed over may still be
    among them, though its handler runs.
    """
    address = address_text(sock.getsockname())
    waiting = list(server._acceptor._opening)
    return any(peer.transport.peer_addr == address for peer in waiting)


def head(path="/", *lines, method="GET", version="HTTP/1.1", host="localhost"):
    """A request's head."""
    rows = [f"{method} {path} {version}"]
    if host is not None:
        rows.append(f"Host: {host}")
    return "\r\n".join([*rows, *lines, "", ""]).encode("latin-1")


def upgrade(path="/", *lines, method="GET", version="HTTP/1.1", host="localhost", **changes):
    """An upgrade's head; `Upgrade=None` leaves a header out, underscores are dashes."""
    headers = UPGRADE | {name.replace("_", "-"): value for name, value in changes.items()}
    rows = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return head(path, *rows, *lines, method=method, version=version, host=host)


def read_all(sock):
    """What comes until the end of the stream; a connection that is kept is ended from here."""
    data, ended = bytearray(), False  # megabytes, and in pieces of a few kilobytes
    while piece := sock.recv(65536):
        data += piece
        if not ended and b"\r\nConnection: keep-alive" in data[:4096]:
            socket.socket.shutdown(sock, socket.SHUT_WR)  # an SSLSocket's own would end its TLS
            ended = True
    return bytes(data)


def read_until(sock, mark):
    """What comes until a mark has come."""
    data = b""
    while mark not in data:
        piece = sock.recv(65536)
        assert piece, f"the stream ended after {data!r}"
        data += piece
    return data


class Answer:
    """A response, taken apart."""

    def __init__(self, data):
        self.raw = data
        top, _, self.body = data.partition(b"\r\n\r\n")
        first, *rows = top.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", first)
        assert match, f"not a response: {data!r}"
        self.status = int(match[1])
        self.headers = {}
        for row in rows:
            name, _, value = row.partition(": ")
            self.headers[name.lower()] = value


def read_answer(sock, method="GET", rest=b""):
    """One response of a connection that may go on; with what came before it, and after it.

    Returns:
        The response, and what came after it.
    """
    data = rest if b"\r\n\r\n" in rest else rest + read_until(sock, b"\r\n\r\n")
    top, mark, body = data.partition(b"\r\n\r\n")
    answer = Answer(top + mark)
    length = int(answer.headers.get("content-length", 0))
    if method == "HEAD" or answer.status == 304:
        length = 0
    while len(body) < length:
        piece = sock.recv(65536)
        assert piece, f"the stream ended after {data!r}"
        body += piece
    return Answer(top + mark + body[:length]), body[length:]


def ask(server, request):
    """Send bytes, and read the response to its end."""
    with dial(server) as sock:
        sock.sendall(request)
        return Answer(read_all(sock))


def status_of(server, request):
    return ask(server, request).status


@contextlib.contextmanager
def raw_websocket(server, path="/", *lines, **changes):
    """A plain socket after its upgrade."""
    with dial(server) as sock:
        sock.sendall(upgrade(path, *lines, **changes))
        answer = read_until(sock, b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        top, _, rest = answer.partition(b"\r\n\r\n")
        yield RawWebSocket(sock, Answer(top + b"\r\n\r\n"), rest)


class RawWebSocket:
    """The client's end of an upgraded socket, frame by frame."""

    def __init__(self, sock, answer, rest):
        self.sock = sock
        self.address = sock.getsockname()
        self.answer = answer
        self._rest = rest

    def send(self, opcode, payload=b"", **options):
        self.sock.sendall(frame(opcode, payload, mask=True, **options))

    def _take(self, size):
        while len(self._rest) < size:
            piece = self.sock.recv(65536)
            if not piece:
                raise EOFError(f"the stream ended after {self._rest!r}")
            self._rest += piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def receive(self):
        """The next frame, which has to be short and whole: its opcode and payload."""
        first, length = self._take(2)
        assert length < 126
        return first & 0x0F, self._take(length)

    def close_code(self):
        """The code of the close frame that has to come next."""
        opcode, payload = self.receive()
        assert opcode == 8, (opcode, payload)
        return int.from_bytes(payload[:2], "big")

    def answer_close(self, code=1000):
        self.send(8, code.to_bytes(2, "big"))

    def leave(self, code=1000):
        """Answer the server's close, see it end the stream, and end it too."""
        self.answer_close(code)
        assert self.ended()
        self.sock.close()

    def ended(self):
        """Whether the stream ends here."""
        return not self._rest and self.sock.recv(1) == b""


class LogWatch(logging.Handler):
    """Log records as they come, from whichever thread."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.records = []
        self._new = queue.Queue()

    def emit(self, record):
        record.message = record.getMessage()
        self.records.append(record)
        self._new.put(record)

    def wait_for(self, text, timeout=TIMEOUT):
        """The first record not yet waited for whose text contains `text`."""
        while True:
            record = self._new.get(timeout=timeout)
            if text in record.message:
                return record

    def texts(self, level=logging.DEBUG):
        return [record.message for record in self.records if record.levelno >= level]


@contextlib.contextmanager
def watching():
    """The log of the server."""
    watch = LogWatch()
    logger = logging.getLogger("scriptling_ws")
    level = logger.level
    logger.addHandler(watch)
    logger.setLevel(logging.DEBUG)
    try:
        yield watch
    finally:
        logger.removeHandler(watch)
        logger.setLevel(level)


def tasks():
    """All that runs beside this: threads, and the tasks of gevent's engine."""
    found = [*threading.enumerate()]
    if engine().name == "gevent":
        from scriptling_ws._network.greenlets import _Task

        found += [each for each in gc.get_objects() if type(each) is _Task and each.is_alive()]
    return found


def server_threads():
    """The tasks that servers run, the acceptors' included."""
    return [
        task
        for task in tasks()
        if task.name.startswith("scriptling-ws") and task.name != _keepalive.NAME
    ]


def busy_threads():
    """Those of them that do something: not those that wait for a handler to run."""
    return [task for task in server_threads() if "waiting for a handler" not in task.name]


class Certificates:
    """An authority made for the test, a server's context and a client's."""

    def __init__(self):
        self.authority = trustme.CA()
        self.certificate = self.authority.issue_cert("localhost", "127.0.0.1")
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate.configure_cert(self.server)
        self.client = ssl.create_default_context()
        self.authority.configure_trust(self.client)
