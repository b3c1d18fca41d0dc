"""A room's message to many members, against a bare loop of `socket.send` over the same frame.

    python -m bench.server.broadcast [--members N] [--size BYTES] [--rounds N] [--json FILE]

Four contestants take turns in each round, in an order that changes:

- `bare`: `for sock in sockets: sock.send(frame)`;
- `room`: `room.send(text)`, which makes the frame too;
- `stalled`: the same with one more member, which does not read;
- `sync`: `for connection in connections: connection.send(text)` of websockets.sync.

Each has TCP connections of its own on the loopback, as many as the others. Another process reads
them, and does so between the turns: what is timed is the sending alone. A figure is the median of
the rounds; the ratio is the median of those of each round.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import socket
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from websockets.protocol import Protocol, Side
from websockets.sync.connection import Connection as SyncConnection

import scriptling_ws as ws
from scriptling_ws._connection.connection import Connection
from scriptling_ws._kernel import IMPLEMENTATION, encode_frame
from scriptling_ws._network.transport import Transport
from scriptling_ws._options import Options

if TYPE_CHECKING:
    from collections.abc import Callable

TURN = 20  # messages in a turn: as many as fit into the sockets' buffers
WARM_UP = 3  # rounds that are not counted


class Drain:
    """The process that reads what the contestants have sent, when it is told to."""

    def __init__(self) -> None:
        self._orders, orders = socket.socketpair()
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as self._listener:
            self.address = self._listener.getsockname()
            self._process = os.fork()
            if not self._process:
                self._orders.close()
                try:
                    self._read_all(orders)
                finally:
                    os._exit(0)
        orders.close()

    def _read_all(self, orders: socket.socket) -> None:
        """What the child does: take connections, and read them dry at each byte of the orders."""
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        poller.register(orders, select.POLLIN)
        readers: list[socket.socket] = []
        while True:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if self._listener.fileno() in ready:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                readers.append(sock)
            elif orders.recv(1):
                for sock in readers:
                    try:
                        while sock.recv(65_536):
                            pass
                    except BlockingIOError:
                        pass
                orders.send(b"x")
            else:
                return

    def connect(self) -> socket.socket:
        """A socket to it."""
        sock = socket.create_connection(self.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def read(self) -> None:
        """Have it read all that was sent."""
        self._orders.send(b"x")
        self._orders.recv(1)

    def end(self) -> None:
        """End the process."""
        self._orders.close()
        os.waitpid(self._process, 0)


def member(sock: socket.socket) -> Connection:
    """A server's connection, as after its handshake."""
    options = Options(ping_interval=None)
    return Connection(Transport(sock), client=False, options=options, attended=True)


def sync_member(sock: socket.socket) -> SyncConnection:
    """The same of websockets.sync."""
    return SyncConnection(sock, Protocol(Side.SERVER), ping_interval=None)


def contestants(drain: Drain, members: int, text: str) -> dict[str, Callable[[], None]]:
    """The four, each a call that sends one message to all."""
    frame = encode_frame(0x81, text, None)
    sockets = [drain.connect() for _ in range(members)]

    def bare() -> None:
        for sock in sockets:
            sock.send(frame)

    plain, stalled = ws.room("plain"), ws.room("stalled", policy="drop_oldest")
    for room in (plain, stalled):
        for _ in range(members):
            room.join(member(drain.connect()))
    # No byte of it is read: after some messages its queue is full, and stays so.
    theirs = [sync_member(drain.connect()) for _ in range(members)]

    def sync() -> None:
        for connection in theirs:
            connection.send(text)

    lazy_socket, far = socket.socketpair()
    lazy = member(lazy_socket)
    lazy.far = far  # type: ignore[attr-defined]  # kept open as long
    alone = ws.room("lazy", policy="drop_oldest")
    alone.join(lazy)
    while not alone.dropped:
        alone.send(text * 100)
    stalled.join(lazy)
    return {
        "bare": bare,
        "room": lambda: plain.send(text),
        "stalled": lambda: stalled.send(text),
        "sync": sync,
    }


def timed(call: Callable[[], None]) -> float:
    """The seconds of a turn."""
    start = time.perf_counter()
    for _ in range(TURN):
        call()
    return time.perf_counter() - start


def measure(
    drain: Drain, calls: dict[str, Callable[[], None]], rounds: int
) -> dict[str, list[float]]:
    """The seconds of each turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(-WARM_UP, rounds):
        for name in names:
            seconds = timed(calls[name])
            drain.read()
            if number >= 0:
                times[name].append(seconds)
        names = names[1:] + names[:1]
    return times


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.server.broadcast")
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--size", type=int, default=64, help="bytes in a message")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="where to write every time")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    drain = Drain()
    calls = contestants(drain, options.members, "x" * options.size)
    times = measure(drain, calls, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(times))
    python = ".".join(map(str, sys.version_info[:3]))
    where = f"{IMPLEMENTATION} kernel, CPython {python}"
    print(f"{options.size} bytes to {options.members} members, {where}")
    for name, seconds in times.items():
        each = median(seconds) / TURN / options.members * 1e6
        ratio = median(b / s for b, s in zip(times["bare"], seconds, strict=True))
        print(f"{name:8} {each:6.2f} us a member  {ratio:5.2f} of bare")
    rooms = median(b / s for b, s in zip(times["sync"], times["room"], strict=True))
    print(f"room      {rooms:5.2f} of websockets.sync")
    drain.end()
    os._exit(0)  # without closing handshakes


if __name__ == "__main__":
    main()
