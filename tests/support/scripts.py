"""Scripts of scriptling.websocket, run as they are: where their hosts lead, and whom they trust.

The hosts of a page lead to a server on the loopback, whose certificate an authority made for the
tests has signed. Nothing in the scripts or the library is replaced but the system's list of names
and of authorities.
"""

import contextlib
import re
import signal
import socket
import ssl
import sys
import threading
import time
from queue import SimpleQueue

import scriptling.websocket
import scriptling_ws as ws
from pairs import authority, until
from processes import Process

DEADLINE = 30


def hosts_of(text):
    """The hosts of a page's wss:// URLs."""
    return sorted(set(re.findall(r"wss://([\w.]+)", text)))


def trust(monkeypatch, tmp_path, ca=None):
    """Make an authority the system's: OpenSSL looks there for whom to trust by default."""
    file = tmp_path / "authority.pem"
    (ca or authority()).cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))


@contextlib.contextmanager
def leading(monkeypatch, hosts):
    """What starts the server to which the hosts lead, at port 443."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*hosts).configure_cert(context)
    servers = []
    lookup = socket.getaddrinfo

    def on_loopback(host, port, *args, flags=0, **kwargs):
        if host in hosts and port == 443 and not flags & socket.AI_NUMERICHOST:
            host, port = "127.0.0.1", servers[0].port
        return lookup(host, port, *args, flags=flags | socket.AI_NUMERICHOST, **kwargs)

    def start(handler):
        servers.append(ws.Server(handler, port=0, ssl_context=context, allowed_hosts=hosts))

    monkeypatch.setattr(socket, "getaddrinfo", on_loopback)
    yield start
    for server in servers:
        server.close()


def run(code, name, **names):
    """Run a script; what it printed, and its variables."""
    lines = []
    names["print"] = lambda *parts: lines.append(" ".join(map(str, parts)))
    exec(compile(code, name, "exec"), names)
    return lines, names


def run_on(handler, code, name):
    """Run a script that goes on with an open connection, `conn`, to a server."""
    with (
        ws.Server(handler, port=0) as server,
        scriptling.websocket.connect(server.url) as conn,
    ):
        return run(code, name, conn=conn, ws=scriptling.websocket)


def sends(*messages):
    """A handler that sends some messages and closes."""

    def handler(client):
        for message in messages:
            client.send_binary(message) if ws.is_binary(message) else client.send(message)

    return handler


def records(count):
    """A handler that takes so many messages, and what returns them once they have come."""
    messages = SimpleQueue()

    def handler(client):
        for _ in range(count):
            messages.put(client.receive(timeout=DEADLINE))
        client.receive(timeout=DEADLINE)

    return handler, lambda: [messages.get(timeout=DEADLINE) for _ in range(count)]


def silent(client):
    client.receive(timeout=DEADLINE)


def silent_until_closed(client):
    for _ in client:
        pass


# -- a server of a setup script ----------------------------------------------------


@contextlib.contextmanager
def serving_script(folder, files, path):
    """A setup script and its library, started as users start them; the process, and the URL."""
    for name, code in files.items():
        (folder / name).write_text(code, encoding="utf-8")
    command = ["-m", "scriptling_ws", "--server", ":0", "-L", ".", "setup.py"]
    with Process.python(*command, cwd=folder) as process:
        found = re.search(r"ws://127\.0\.0\.1:\d+", process.line_with("ws://127.0.0.1"))
        yield process, f"{found[0]}{path}"


class Member:
    """A client of a chat that sits in receive(timeout=60), on a thread of its own."""

    def __init__(self, url, welcome):
        self.conn = ws.connect(url)
        assert self.conn.receive(timeout=DEADLINE) == welcome
        self.messages = SimpleQueue()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self):
        while (message := self.conn.receive(timeout=60)) is not None:
            self.messages.put(message)

    def sits_in_receive(self):
        frame = sys._current_frames().get(self._thread.ident)
        while frame is not None:
            if frame.f_code is ws.Connection.receive.__code__:
                return True
            frame = frame.f_back
        return False

    def next_messages(self, count):
        return sorted(self.messages.get(timeout=DEADLINE) for _ in range(count))

    def leave(self):
        self.conn.close()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


def check_chat(process, url, welcome):
    """Three members hear each other at once, not when a receive has timed out; then it ends."""
    members = [Member(url, welcome) for _ in range(3)]
    try:
        until(lambda: all(member.sits_in_receive() for member in members))
        started = time.monotonic()
        members[0].conn.send("from 0")
        assert [member.next_messages(1) for member in members] == [["from 0"]] * 3
        assert time.monotonic() - started < 10
        for number, member in enumerate(members):
            member.conn.send(f"now from {number}")
        expected = ["now from 0", "now from 1", "now from 2"]
        assert [member.next_messages(3) for member in members] == [expected] * 3
        process.send_signal(signal.SIGINT)
        until(lambda: not any(member.conn.connected() for member in members))
        assert [member.conn.close_code for member in members] == [1001] * 3
        assert process.finish()[1] == 0
    finally:
        for member in members:
            member.leave()
