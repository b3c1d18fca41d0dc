"""Churn connections for a given time: `python soak/run.py --minutes 20`.

With gevent, servers and peers alike: `python -m gevent.monkey soak/run.py`.

Servers of this package run in this process, bare and under TLS; threads play peers of every
kind against them, at most CROWD at a time, chosen by a seeded generator: clients of this
package that check what is echoed, with and without compression, in every size, clients that
time out, close or reset in the middle, and plain sockets that send fragments, halves of
frames, nonsense, or nothing at all.

After WARM_UP seconds of that, and again at the end, when every connection was closed, it
counts what could leak:

- Descriptors, threads, the package's objects, and references to payloads that were sent
  throughout and to the package's classes: none may have grown, by not even one.
- The interpreter's blocks, which may have grown by BLOCKS_GROWTH: caches of modules fill, and
  a connection that leaked only a tuple of its own would add more than that in a minute.
- The resident memory, which may have grown by RSS_GROWTH. glibc's allocator keeps up to
  64 MiB of freed memory for each of eight arenas per core once large blocks were freed,
  which is hundreds of MiB and no leak: `tame_malloc` makes it give that back, so that what
  is resident is in use, but for the holes between small blocks.

The exit status is 1 if one of them has grown, or if anything came back wrong, or if a
connection takes longer than STALL: then where every thread stands is printed at once.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import faulthandler
import gc
import itertools
import logging
import os
import random
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))

import trustme

from frames import raw_frame
from scriptling_ws import Connection, ConnectionClosed, Routes, SendTimeout, Server, connect
from scriptling_ws._connection import keepalive as _keepalive
from scriptling_ws._kernel import IMPLEMENTATION
from scriptling_ws._network.transport import Transport
from scriptling_ws._network.waiting import engine
from scriptling_ws._wire.incoming import Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

CROWD = 12
WARM_UP = 15.0
MIB = 1024 * 1024
BLOCKS_GROWTH = 4000
RSS_GROWTH = 16 * MIB
PATIENCE = 30.0  # seconds in which anything that is asked for has to come
STALL = 60.0  # seconds in which a connection has to be played to its end
SIZES = (0, 1, 125, 126, 1000, 65_535, 65_536, 200_000, MIB, 3 * MIB)
OFTEN = (20, 20, 20, 20, 20, 10, 10, 5, 2, 1)  # of each size
OURS = (Connection, Protocol, Transport)

# What is sent throughout: its references are counted at the end.
PAYLOAD = bytes(range(256)) * 64
TEXT = "Zeichen: äöü €, 🙂. " * 50
LIST = list(range(256)) * 8


class Wrong(Exception):
    """Something came back that was not sent."""


# -- the servers -----------------------------------------------------------


def echo(client: Connection) -> None:
    for message in client:
        _send(client, message)


def close_after_three(client: Connection) -> None:
    for _ in range(3):
        message = client.receive(PATIENCE)
        if message is None:
            return
        _send(client, message)
    client.close(4003, "three are enough")


def fail(client: Connection) -> None:
    client.receive(PATIENCE)
    raise ConnectionResetError("what a handler may raise")


def _send(conn: Connection, message: object, compress: bool = True) -> None:
    send: Callable[[Any, bool], None] = conn.send if isinstance(message, str) else conn.send_binary
    send(message, compress)


class Room:
    """A handler that tells every member what one of them says."""

    def __init__(self) -> None:
        self._members: set[Connection] = set()
        self._lock = threading.Lock()

    def __call__(self, client: Connection) -> None:
        with self._lock:
            self._members.add(client)
        try:
            for message in client:
                with self._lock:
                    members = list(self._members)
                for member in members:
                    try:
                        _send(member, message)
                    except (ConnectionClosed, SendTimeout):
                        continue  # its own thread takes it out
        finally:
            with self._lock:
                self._members.discard(client)


def routes() -> Routes:
    table = Routes()
    quick: dict[str, Any] = {
        "ping_interval": 0.05,
        "ping_timeout": 10,
        "close_timeout": 2,
        "send_timeout": 5,
    }
    for prefix, more in (("/plain", {}), ("/deflate", {"compression": "deflate"})):
        table.websocket(f"{prefix}/echo", echo, **quick, **more)
        table.websocket(f"{prefix}/bytes", echo, binary_type=bytes, **quick, **more)
        table.websocket(f"{prefix}/three", close_after_three, **quick, **more)
        table.websocket(f"{prefix}/fail", fail, **quick, **more)
        table.websocket(f"{prefix}/room", Room(), **quick, **more)
    table.get("/page", lambda _request: "a page")
    return table


class Servers:
    """The servers of a run, bare and under TLS, and settings to reach them with."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.client_context = ssl.create_default_context()
        authority.configure_trust(self.client_context)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        common: dict[str, Any] = {"port": 0, "routes": routes(), "handshake_timeout": PATIENCE}
        self.bare = Server(**common)
        self.secure = Server(ssl_context=context, **common)

    def close(self) -> None:
        self.bare.close()
        self.secure.close()


# -- the peers: each is one connection, from its beginning to its end ------------


class Peer:
    """A source of connections and of choices."""

    def __init__(self, servers: Servers, seed: str) -> None:
        self.servers = servers
        self.choose = random.Random(seed)

    def connect(self, *paths: str) -> Connection:
        """A client of this package, with options of all kinds."""
        secure = self.choose.random() < 0.3
        server = self.servers.secure if secure else self.servers.bare
        options: dict[str, Any] = {
            "binary_type": self.choose.choice([list, bytes]),
            "ping_interval": self.choose.choice([None, 0.02, 0.2]),
            "close_timeout": 2,
        }
        if self.choose.random() < 0.5:
            options["compression"] = "deflate"
            options["client_no_context_takeover"] = self.choose.random() < 0.3
            options["client_max_window_bits"] = self.choose.randint(9, 15)
        if secure:
            options["ssl_context"] = self.servers.client_context
        prefix = self.choose.choice(["/plain/", "/deflate/"])
        return connect(server.url + prefix + self.choose.choice(paths), PATIENCE, **options)

    def message(self) -> object:
        """What to send next: text, a list or something bytes-like."""
        kind = self.choose.randrange(6)
        if kind < 3:
            return (PAYLOAD, TEXT, LIST)[kind]
        size = self.choose.choices(SIZES, OFTEN)[0]
        if kind == 3:
            return self.choose.choice("aé€🙂") * (size // 2)
        data = self.choose.randbytes(size) if self.choose.random() < 0.5 else bytes(size)
        return list(data[:100_000]) if kind == 4 else data

    def raw(self, path: str = "/plain/bytes") -> socket.socket:
        """A plain socket after its upgrade."""
        sock = socket.create_connection(("127.0.0.1", self.servers.bare.port), PATIENCE)
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: c2l4dGVlbiBieXRlcy4uLg==\r\n\r\n".encode()
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = sock.recv(1)
            if not piece:
                raise Wrong(f"no upgrade, but {answer!r}")
            answer += piece
        return sock


def check(sent: object, got: object) -> None:
    """Compare an echo with what was sent, of whichever type it is."""
    if isinstance(sent, str) or isinstance(got, str) or got is None:
        same = sent == got
    else:
        same = bytes(sent) == bytes(got)  # type: ignore[call-overload]
    if not same:
        raise Wrong(f"sent {repr(sent)[:60]}, got {repr(got)[:60]}")


def echoes(peer: Peer) -> int:
    """Messages one by one, or several at once, pings between them, timeouts on the way."""
    count = 0
    with peer.connect("echo", "bytes") as conn:
        for _ in range(peer.choose.randint(1, 12)):
            batch = [peer.message() for _ in range(peer.choose.choice([1, 1, 4]))]
            if len(batch) == 1:
                _send(conn, batch[0], peer.choose.random() < 0.8)
            else:
                conn.send_many(batch)
            if peer.choose.random() < 0.2 and conn.ping(PATIENCE) is None:
                raise Wrong("no pong")
            for sent in batch:
                check(sent, _patient_receive(conn, peer.choose.choice([0, 0.0005, PATIENCE])))
                count += 1
    return count


def _patient_receive(conn: Connection, timeout: float) -> object:
    """Receive; by many timeouts, if they are short."""
    end = time.monotonic() + PATIENCE
    while conn.connected() and time.monotonic() < end:
        message = conn.receive(timeout)
        if message is not None:
            return message
    return None


def closed_by_the_server(peer: Peer) -> int:
    with peer.connect("three", "fail") as conn:
        path_fails = False
        for number in range(3):
            try:
                conn.send(f"x{number}")
            except ConnectionClosed:
                break
            got = conn.receive(PATIENCE)
            path_fails = number == 0 and got is None
            if path_fails:
                break
            check(f"x{number}", got)
        if conn.receive(PATIENCE) is not None or conn.connected():
            raise Wrong("the server has not closed")
        if conn.close_code != (1011 if path_fails else 4003):
            raise Wrong(f"closed with {conn.close_code}")
    return 3


def leaves_in_the_middle(peer: Peer) -> int:
    """Closes, resets or just forgets a connection on which something is under way."""
    conn = peer.connect("echo", "bytes", "room")
    for _ in range(peer.choose.randint(0, 4)):
        _send(conn, peer.message())
    way = peer.choose.randrange(3)
    if way == 0:
        conn.close(4000 + peer.choose.randrange(999))
    elif way == 1:
        conn._abort()
        conn.close()
    # else it is let go, and what it holds with it
    return 0


def closed_under_a_receiver(peer: Peer) -> int:
    with peer.connect("echo") as conn:
        threads = [threading.Thread(target=conn.receive, args=(None,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        conn.close()
        for thread in threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                raise Wrong("a receiver was not woken")
    return 0


def broadcasts(peer: Peer) -> int:
    """A member of a room: hears itself, and perhaps others, whose messages are all alike."""
    mark = f"{peer.choose.random()} "
    with peer.connect("room") as conn:
        for number in range(peer.choose.randint(1, 10)):
            sent = mark + str(number) + TEXT
            conn.send(sent)
            while (got := conn.receive(PATIENCE)) != sent:
                if got is None or (isinstance(got, str) and got.startswith(mark)):
                    raise Wrong(f"the room says {str(got)[:60]}")
    return number + 1


def fragments(peer: Peer) -> int:
    """A plain socket: a message in fragments, dripped, with pings between; its echo whole."""
    with peer.raw() as sock:
        data = peer.choose.randbytes(peer.choose.choice([1, 1000, 70_000]))
        cuts = sorted(peer.choose.randint(0, len(data)) for _ in range(peer.choose.randint(0, 9)))
        ends = itertools.pairwise([0, *cuts, len(data)])
        stream = b""
        for number, (begin, end) in enumerate(ends):
            last = number == len(cuts)
            first = (0x80 if last else 0) | (0 if number else 2)
            stream += masked(first, data[begin:end])
            if not last and peer.choose.random() < 0.3:
                stream += masked(0x89, b"between")
        step = peer.choose.choice([7, 1000, len(stream)]) if len(stream) < 5000 else len(stream)
        for begin in range(0, len(stream), step):
            sock.sendall(stream[begin : begin + step])
        check(data, _receive_message(sock))
        sock.sendall(masked(0x88, struct.pack("!H", 1000)))
    return 1


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame; the key is zero, which is a key like any other."""
    return raw_frame(first, payload, bytes(4))


def _receive_message(sock: socket.socket) -> bytes:
    """The next message, which comes in one frame; pings and pongs before it are passed over."""
    with sock.makefile("rb") as stream:
        while True:
            first, size = stream.read(2)
            if size >= 126:
                size = int.from_bytes(stream.read(2 if size == 126 else 8), "big")
            payload = stream.read(size)
            if first == 0x82:
                return payload


def breaks_off(peer: Peer) -> int:
    """A plain socket: part of a frame or of a handshake, or nonsense, then a FIN or a RST."""
    secure = peer.choose.random() < 0.3
    if secure or peer.choose.random() < 0.3:
        port = (peer.servers.secure if secure else peer.servers.bare).port
        sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        part = peer.choose.choice([b"", b"GET / HT", b"\x16\x03\x01\x02", bytes(300)])
    else:
        sock = peer.raw(peer.choose.choice(["/plain/echo", "/plain/three", "/plain/room"]))
        whole = masked(0x82, PAYLOAD)
        part = peer.choose.choice(
            [whole[: peer.choose.randrange(len(whole))], masked(0x02, b"first"), b"\xff" * 50]
        )
    with sock:
        sock.sendall(part)
        if peer.choose.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return 0


def asks_for_a_page(peer: Peer) -> int:
    with socket.create_connection(("127.0.0.1", peer.servers.bare.port), PATIENCE) as sock:
        request = b"GET /page HTTP/1.1\r\nHost: localhost\r\n"
        sock.sendall(request + b"\r\n" + request + b"Connection: close\r\n\r\n")
        with sock.makefile("rb") as stream:
            if stream.read().count(b"\r\n\r\na page") != 2:
                raise Wrong("other pages")
    return 1


KINDS: dict[Callable[[Peer], int], int] = {
    echoes: 10,
    closed_by_the_server: 3,
    leaves_in_the_middle: 4,
    closed_under_a_receiver: 2,
    broadcasts: 3,
    fragments: 4,
    breaks_off: 4,
    asks_for_a_page: 1,
}


# -- the run ---------------------------------------------------------------


class Churn:
    """The crowd of threads that play peers, and what they have seen."""

    def __init__(self, servers: Servers, seed: int) -> None:
        self._servers = servers
        self._seed = seed
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._begun: dict[int, float] = {}  # when each thread began its present connection
        self.played: collections.Counter[str] = collections.Counter()
        self.messages = 0
        self.failures: list[str] = []

    def go_on(self, seconds: float, each_minute: Callable[[], None] = lambda: None) -> None:
        """Play for some time; every thread has ended when it returns."""
        self._stop.clear()
        rounds = sum(self.played.values())
        self._begun = dict.fromkeys(range(CROWD), time.monotonic())
        threads = [
            threading.Thread(target=self._play, args=(number, f"{self._seed} {rounds} {number}"))
            for number in range(CROWD)
        ]
        for thread in threads:
            thread.start()
        begin = time.monotonic()
        minute = begin + 60
        while not self._stop.wait(1) and (now := time.monotonic()) < begin + seconds:
            self._watch_the_slowest()
            if now >= minute:
                minute += 60
                each_minute()
        self._stop.set()
        for thread in threads:
            self._watch_the_slowest()
            thread.join()

    def _watch_the_slowest(self) -> None:
        """End the run at the moment when one of the connections has taken too long."""
        slowest = min([*self._begun.values()], default=time.monotonic())
        limit_until_next(max(slowest + STALL - time.monotonic(), 0.001))

    def _play(self, number: int, seed: str) -> None:
        peer = Peer(self._servers, seed)
        while not self._stop.is_set():
            self._begun[number] = time.monotonic()
            kind = peer.choose.choices(list(KINDS), list(KINDS.values()))[0]
            try:
                messages = kind(peer)
            except Exception:
                with self._lock:
                    self.failures.append(f"{kind.__name__}: {traceback.format_exc()}")
                self._stop.set()
                break
            with self._lock:
                self.played[kind.__name__] += 1
                self.messages += messages
        del self._begun[number]


def limit_until_next(seconds: float) -> None:
    """End the process with a traceback of all threads unless this is called again in time."""
    faulthandler.dump_traceback_later(seconds, exit=True)


_libc = ctypes.CDLL(None)
_MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD


def tame_malloc() -> None:
    """Keep glibc from raising its thresholds with the sizes that are freed.

    Large blocks from here on then have a mapping of their own, which ends as they are freed.
    """
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_MMAP_THRESHOLD, 128 * 1024)


def rss() -> int:
    """Bytes of memory that are resident, after what can be given back is."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def count() -> dict[str, int]:
    """What could leak."""
    gc.collect()
    objects = [each for each in gc.get_objects() if isinstance(each, OURS)]
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        **{kind.__name__: sum(isinstance(each, kind) for each in objects) for kind in OURS},
        "references to payloads": sum(map(sys.getrefcount, (PAYLOAD, TEXT, LIST))),
        "references to classes": sum(map(sys.getrefcount, OURS)),
    }


def settled(limits: dict[str, int]) -> dict[str, int]:
    """The counts, as soon as none is above its limit, or else as they are after a while."""
    limit_until_next(PATIENCE + STALL)
    end = time.monotonic() + PATIENCE
    while above(limits, counts := count()) and time.monotonic() < end:
        time.sleep(0.2)
    return counts


def above(limits: dict[str, int], counts: dict[str, int]) -> list[str]:
    return [
        f"{name}: {counts[name]} instead of {limit}"
        for name, limit in limits.items()
        if counts[name] > limit
    ]


def soak(minutes: float, seed: int) -> list[str]:
    """Run it; what was wrong."""
    begin = time.monotonic()
    tame_malloc()
    _keepalive.start()  # it stays
    empty = count()
    servers = Servers()
    churn = Churn(servers, seed)

    def tell() -> None:
        print(
            f"{time.monotonic() - begin:5.0f} s: {sum(churn.played.values())} connections, "
            f"{churn.messages} messages, {threading.active_count()} threads, "
            f"{rss() / MIB:.0f} MiB",
            flush=True,
        )

    churn.go_on(WARM_UP)
    # No connection is left, and of threads those that the servers have added: one each. With
    # gevent all are greenlets of one thread.
    threads = empty["threads"] + (2 if engine().name == "threads" else 0)
    quiet = {**dict.fromkeys((kind.__name__ for kind in OURS), 0), "threads": threads}
    baseline = settled(quiet)
    wrong = above(quiet, baseline)
    memory, blocks = rss(), sys.getallocatedblocks()
    print(f"baseline: {baseline}, {blocks} blocks, {memory / MIB:.0f} MiB", flush=True)
    if not churn.failures:
        churn.go_on(max(minutes * 60 - WARM_UP, 1), tell)
    counts = settled(baseline)
    more, more_blocks = rss() - memory, sys.getallocatedblocks() - blocks
    tell()
    print(f"at the end: {counts}, {more_blocks:+d} blocks, {more / MIB:+.1f} MiB")
    print("played:", ", ".join(f"{name} {number}" for name, number in churn.played.most_common()))
    wrong += churn.failures + above(baseline, counts)
    if more_blocks > BLOCKS_GROWTH:
        wrong.append(f"there are {more_blocks} blocks more")
    if more > RSS_GROWTH:
        wrong.append(f"memory has grown by {more / MIB:.1f} MiB")
    servers.close()
    without = {name: empty[name] for name in ("descriptors", "threads")}
    return wrong + above(without, settled(without))


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--minutes", type=float, default=20)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    # Peers that leave, and a handler that raises, are what is played here.
    logging.getLogger("scriptling_ws").setLevel(logging.CRITICAL)
    how = f"{IMPLEMENTATION} codec, {engine().name}"
    print(f"{how}, {chosen.minutes:g} minutes, seed {chosen.seed}", flush=True)
    wrong = soak(chosen.minutes, chosen.seed)
    faulthandler.cancel_dump_traceback_later()
    for each in wrong:
        print(each)
    print("FAILED" if wrong else "nothing is left, and every echo was right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
