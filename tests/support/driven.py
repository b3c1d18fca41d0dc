"""A server whose connections are the test's: it says what each of them does, and when."""

import queue
import threading

import scriptling_ws as ws


class Driven:
    """A server that hands its connections to the test, open until that closes them."""

    def __init__(self, **options):
        self._conns = queue.SimpleQueue()
        options = {"binary_type": bytes, "max_message_size": None, **options}
        self._server = ws.Server(self._handle, port=0, **options)
        self.url = self._server.url
        self.port = self._server.port

    def _handle(self, client):
        closed = threading.Event()
        client.on_close(closed.set)
        self._conns.put(client)
        closed.wait()

    def accept(self, timeout=60):
        """The next connection that somebody has opened."""
        return self._conns.get(timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self._server.close()
