"""A TCP proxy on the loopback that does to a stream what networks do.

It passes bytes on in pieces of a given size, holds them back, cuts the stream short, or resets
it, each way by a rule of its own. It never sleeps and knows no clock: what it is to do next, a
test tells it, in bytes.
"""

import contextlib
import select
import socket
import threading

from pairs import reset


class Rule:
    """What happens to the bytes of one direction."""

    def __init__(self, piece, wake):
        self._piece = piece
        self._wake = wake
        self.lock = threading.Lock()  # not to be changed while bytes pass that count
        self.left = None  # bytes that still pass
        self.then = None
        self.held = threading.Event()

    def after(self, count, then):
        """Once `count` more bytes have passed: "hold" the rest, "fin" or "rst"."""
        with self.lock:
            self.left, self.then = count, then
        self._wake()

    def release(self):
        """Pass on what was held, and all that comes."""
        with self.lock:
            self.left = None
            self.held.clear()
        self._wake()

    def room(self, size):
        """How many of `size` bytes may go now."""
        return min(size, self._piece or size, size if self.left is None else self.left)


class _Flow:
    """One direction of one connection."""

    def __init__(self, source, sink, rule):
        self.source, self.sink, self.rule = source, sink, rule
        self.data = bytearray()
        self.ended = False

    def wanted(self):
        """The sockets to wait for: to read from, to write to."""
        if self.ended or self.rule.held.is_set():
            return [], []
        return ([], [self.sink]) if self.data else ([self.source], [])

    def step(self, readable, writable):
        """Move what can be moved; whether the connection goes on."""
        with self.rule.lock:
            return self._step(readable, writable)

    def _step(self, readable, writable):
        rule = self.rule
        if not (self.ended or self.data or rule.held.is_set()) and self.source in readable:
            self.data += self.source.recv(65_536)
            if not self.data:
                self.end()
        elif self.data and self.sink in writable and rule.room(1):
            sent = self.sink.send(self.data[: rule.room(len(self.data))])
            del self.data[:sent]
            if rule.left is not None:
                rule.left -= sent
        if rule.left == 0 and not (self.ended or rule.held.is_set()):
            if rule.then == "rst":
                return False
            self.end() if rule.then == "fin" else rule.held.set()
        return True

    def end(self):
        self.ended = True
        self.sink.shutdown(socket.SHUT_WR)


class Proxy:
    """`with Proxy(port) as proxy`: connect to `proxy.port`.

    `up` is the rule for what goes to the server, `down` for what goes to the client; `piece`
    is the most bytes that are passed on at a time.
    """

    def __init__(self, target, piece=None):
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._read, self._write = socket.socketpair()
        self._stopped = False
        self.up, self.down = Rule(piece, self._wake), Rule(piece, self._wake)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def _wake(self):
        self._write.send(b"x")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped = True
        self._wake()
        self._thread.join(10)
        assert not self._thread.is_alive()
        for sock in (self._listener, self._read, self._write):
            sock.close()

    def _run(self):
        links = []
        while not self._stopped:
            reads, writes = [self._listener, self._read], []
            for flow in (flow for link in links for flow in link):
                for sockets, more in zip((reads, writes), flow.wanted(), strict=True):
                    sockets += more
            reads, writes, _ = select.select(reads, writes, [])
            if self._read in reads:
                self._read.recv(4096)
            links = [link for link in links if self._go_on(link, reads, writes)]
            if self._listener in reads:
                links.append(self._link())
        for link in links:
            self._drop(link)

    def _link(self):
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
        return _Flow(client, server, self.up), _Flow(server, client, self.down)

    def _go_on(self, link, reads, writes):
        with contextlib.suppress(OSError):  # one end is gone: so is the other
            going = all(flow.step(reads, writes) for flow in link)
            if going and not all(flow.ended for flow in link):
                return True
        self._drop(link)
        return False

    def _drop(self, link):
        for flow in link:
            flow.source.close() if all(each.ended for each in link) else reset(flow.source)
