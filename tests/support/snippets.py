"""Where the pages' Python runs: servers serve in the background, and all is closed in the end.

`ws.serve` waits for a signal, and `ws.connect` leaves the closing to its caller. So both are put in
the place of these while a block runs: a server listens on a free port, whatever its page says.
"""

import contextlib

import scriptling_ws as ws
from processes import Process
from servers import TIMEOUT

# Before a page's program, in a process of its own: it serves on any port, and tells which. In one
# step: where Python does not buffer, print() takes two, and the lines of several processes mix.
ANNOUNCED = """
import os
import scriptling_ws
from functools import partial
tell = lambda server: os.write(1, f"{server.port}\\n".encode())
scriptling_ws.serve = partial(scriptling_ws.serve, ready=tell, port=0)
"""


class World:
    """What the blocks of a test have made.

    Attributes:
        servers: The servers, in their order.
        connections: The connections, likewise.
    """

    def __init__(self, stack):
        self._stack = stack
        self.servers = []
        self.connections = []

    def serve(self, *args, **options):
        """As `ws.serve`, in the background."""
        server = ws.Server(*args, **{**options, "port": 0})
        self.servers.append(self._stack.enter_context(server))

    def connect(self, *args, **options):
        """As `ws.connect`."""
        conn = _connect(*args, **options)
        self.connections.append(self._stack.enter_context(conn))
        return conn


_connect = ws.connect


@contextlib.contextmanager
def world(monkeypatch):
    """One for a test."""
    with contextlib.ExitStack() as stack, monkeypatch.context() as patch:
        made = World(stack)
        patch.setattr(ws, "serve", made.serve)
        patch.setattr(ws, "connect", made.connect)
        yield made


def echoes(conn, text="hello"):
    """Whether the other end sends back what it gets."""
    conn.send(text)
    return conn.recv(TIMEOUT) == text


@contextlib.contextmanager
def program(code, cwd=None):
    """A page's program that serves, in a process of its own; the process and its URL."""
    with Process.python("-c", ANNOUNCED + code, cwd=cwd) as process:
        yield process, f"ws://127.0.0.1:{process.line()}"
