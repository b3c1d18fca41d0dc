"""Rooms for tests, and connections to be in them with the plain sockets of their peers."""

import contextlib
import itertools
import socket
import sys

import pytest

from frames import CLOSE
from pairs import connection, receive_frame, tcp_pair
from scriptling_ws import room

SMALL = 8192  # bytes that are on the way to a peer that does not read, about
BLOCK = "x" * 4000  # a few of them are more than that

_names = itertools.count()


def new_room(**options):
    """A room that no other test has."""
    return room(f"test-{next(_names)}", **options)


def pair(buffer=None):
    """Two connected sockets, with about so many bytes on the way from the first to the second."""
    if buffer is None:
        return tcp_pair()
    # TCP may take more a moment later, once what was sent before is acknowledged: this does not.
    if not hasattr(socket, "AF_UNIX") or sys.platform == "win32":
        pytest.skip("there are no sockets here whose buffers stay full")
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return near, far


@contextlib.contextmanager
def guests(count, *, buffer=None, client=False, **options):
    """So many connections, each with its peer's plain socket."""
    # None of them waits: one that did would wait for ever, and the test with it.
    options = {"send_timeout": None, "ping_interval": None} | options
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            near, far = pair(buffer)
            far.settimeout(10)
            conn = connection(near, client=client, **options)
            stack.callback(conn.close)
            stack.callback(conn._abort)
            stack.callback(far.close)
            found.append((conn, far))
        yield found


@contextlib.contextmanager
def guest(**options):
    """One of them."""
    with guests(1, **options) as found:
        yield found[0]


def stall(place, conn):
    """Send until something is queued for a member that does not read; how many messages."""
    count = 0
    while not place._members[conn].queued:
        count += 1
        place.send(f"{count} {BLOCK}")
    return count


def numbers(sock, count):
    """The numbers that so many messages begin with."""
    return [int(receive_frame(sock)[1].split()[0]) for _ in range(count)]


def numbers_to_close(sock):
    """The numbers of the messages up to the close frame, and its code."""
    found = []
    while True:
        first, payload = receive_frame(sock)
        if first & 0x0F == CLOSE:
            return found, int.from_bytes(payload[:2], "big")
        found.append(int(payload.split()[0]))


def is_quiet(sock):
    """Whether nothing more has come."""
    sock.setblocking(False)
    try:
        return not sock.recv(1)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(10)
