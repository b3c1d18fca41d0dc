"""A stream that ends without a close frame: the text of ConnectionClosed, and its cause."""

import contextlib
import copy
import errno
import gc
import logging
import os
import pickle
import socket
import ssl
import struct
import weakref

import pytest

import scriptling_ws as ws
from frames import BINARY, PING, TEXT, close_frame, frame
from memory import counts_references
from pairs import (
    KIB,
    MIB,
    SOON,
    ByMethod,
    Running,
    arrived,
    both_ends,
    connection,
    ended,
    raw_peer,
    reset,
    roles,
    tls_pair,
    until,
)
from scriptling_ws._network.transport import Transport
from servers import raw_websocket, serving

RESET = "Connection reset by peer"

ways = pytest.mark.parametrize("way", [Transport, ByMethod], ids=["descriptor", "method"])


def stream_call(conn):
    with conn.receive_stream(SOON) as stream:
        stream.read()


CALLS = [
    lambda conn: conn.recv(SOON),
    lambda conn: conn.recv(),
    lambda conn: conn.receive_json(SOON),
    stream_call,
    lambda conn: conn.send("x"),
    lambda conn: conn.send_stream(b"x"),
]


def closed(call, *args):
    """What a call raises on a connection that has ended abnormally."""
    with pytest.raises(ws.ConnectionClosed) as caught:
        call(*args)
    assert (caught.value.code, caught.value.reason) == (1006, "")
    return caught.value


def said(detail=""):
    return f"the connection is closed (code 1006, no close frame{detail})"


HALVES = {
    "nothing": (b"", ""),
    "header": (frame(BINARY, bytes(300))[:3], ", in the middle of a frame"),
    "control": (frame(PING, b"abc")[:4], ", in the middle of a frame"),
    "payload": (frame(TEXT, b"half")[:-1], ", in the middle of a message"),
    "fragments": (frame(TEXT, b"half", fin=False), ", in the middle of a message"),
    "large": (frame(BINARY, bytes(300 * KIB))[: 200 * KIB], ", in the middle of a message"),
}


@ways
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_the_text_says_what_happened_and_the_cause_is_what_the_system_said(half, how, way):
    sent, cut = HALVES[half]
    with raw_peer(transport=way) as (conn, peer):
        # Read before the reset comes, which throws away what was not.
        receiving = Running(closed, conn.recv, SOON)
        peer.sendall(sent)
        until(lambda: conn.stats().wire_received == len(sent))
        reset(peer) if how == "rst" else peer.close()
        errors = [receiving.result(), *(closed(call, conn) for call in CALLS)]
        for error in errors:
            assert str(error) == said(cut + (f": {RESET}" if how == "rst" else ""))
            if how == "rst":
                assert type(error.__cause__) is ConnectionResetError
                assert error.__cause__.errno == errno.ECONNRESET
            else:
                assert error.__cause__ is None
        assert (conn.close_code, conn.close_reason) == (1006, "")
        assert list(conn) == list(conn.messages()) == conn.receive_many() == []


@roles
@ways
def test_of_both_roles_where_the_reset_has_come_before_the_call(client, way):
    with raw_peer(client=client, transport=way) as (conn, peer):
        reset(peer)
        ended(conn)
        error = closed(conn.recv, SOON)
        assert str(error) == said(f": {RESET}")
        assert type(error.__cause__) is ConnectionResetError


@ways
@pytest.mark.parametrize(
    "first",
    [
        lambda conn: conn.connected(),
        lambda conn: conn.receive(0),
        lambda conn: ws.wait([conn], SOON),
        lambda conn: conn._link.transport.unread(),  # as keepalive looks
        lambda conn: conn._intake.if_free(conn._intake.take_controls),
        lambda conn: conn._intake.if_free(conn._intake.read_all),
    ],
    ids=["connected", "receive", "wait", "unread", "controls", "ahead"],
)
def test_the_system_tells_it_once_whoever_asks_first(first, way):
    with raw_peer(transport=way) as (conn, peer):
        reset(peer)
        ended(conn)
        first(conn)
        error = closed(conn.recv, SOON)
        assert str(error) == said(f": {RESET}")
        assert type(error.__cause__) is ConnectionResetError


@ways
def test_messages_before_the_end_come_first(way):
    with raw_peer(transport=way) as (conn, peer):
        peer.sendall(frame(TEXT, b"a") + frame(TEXT, b"b") + frame(TEXT, b"c", fin=False))
        peer.close()
        assert [conn.recv(SOON), conn.recv(SOON)] == ["a", "b"]
        assert str(closed(conn.recv)) == said(", in the middle of a message")


def test_a_server_and_a_client_after_a_real_handshake():
    errors = []

    def handler(client):
        errors.append(closed(client.recv, SOON))

    with serving(handler) as server:
        with raw_websocket(server) as client:
            reset(client.sock)
        until(lambda: errors)
    assert str(errors[0]) == said(f": {RESET}")

    def leaves(client):
        client._abort()

    with serving(leaves) as server, ws.connect(f"ws://127.0.0.1:{server.port}") as conn:
        assert str(closed(conn.recv, SOON)) == said()


class Failing(ByMethod):
    """A transport whose reads fail."""

    error: OSError

    def read_into(self, buffer, nap=False):
        raise self.error

    @property
    def receive(self):
        return self.read_into


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETDOWN])
def test_other_errors_of_a_read(number):
    with raw_peer(transport=Failing) as (conn, _):
        conn._link.transport.error = OSError(number, os.strerror(number))
        error = closed(conn.recv, SOON)
        assert str(error) == said(f": {os.strerror(number)}")
        assert error.__cause__.errno == number


# -- TLS -------------------------------------------------------------------------


def leave(transport, how):
    """End the stream below TLS: no close_notify goes."""
    if how == "rst":
        reset(transport.detach())
    else:  # not by closing it, which is a reset where a session ticket lies unread
        transport._sock.shutdown(socket.SHUT_WR)


def by_method(transport):
    transport.descriptor = None
    return transport


@roles
@pytest.mark.parametrize("prepare", [lambda t: t, by_method], ids=["descriptor", "method"])
@pytest.mark.parametrize("waits", [False, True], ids=["before", "meanwhile"])
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_under_tls(how, waits, prepare, client):
    near, far = tls_pair() if client else reversed(tls_pair())
    with (
        contextlib.closing(far),
        contextlib.closing(connection(prepare(near), client=client)) as conn,
    ):
        receiving = Running(closed, conn.recv, SOON) if waits else None
        if receiving is not None:
            until(conn._intake.lock.locked)
        leave(far, how)
        error = closed(conn.recv, SOON) if receiving is None else receiving.result()
        kind = ssl.SSLEOFError if how == "fin" else ConnectionResetError
        assert type(error.__cause__) is kind
        assert str(error) == said(f": {error.__cause__.strerror}")


def test_under_tls_an_orderly_end_of_tls_is_no_error():
    near, far = tls_pair()
    with contextlib.closing(far), contextlib.closing(connection(near)) as conn:
        far.finish_writing()
        error = closed(conn.recv, SOON)
        assert (str(error), error.__cause__) == (said(), None)


def test_under_tls_a_broken_record_is_the_cause():
    near, far = tls_pair()
    with contextlib.closing(far), contextlib.closing(connection(near)) as conn:
        far._sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        error = closed(conn.recv, SOON)
        assert isinstance(error.__cause__, ssl.SSLError)
        assert str(error) == said(f": {error.__cause__.strerror}")


def test_under_tls_a_reset_behind_what_is_decrypted():
    near, far = tls_pair()
    with contextlib.closing(far), contextlib.closing(connection(by_method(near))) as conn:
        peer = connection(far, client=False)
        for _ in range(200):  # more than is received at once
            peer.send("a message")
        arrived(conn, 200 * len("a message"))

        def fail(*_):
            raise ConnectionResetError(errno.ECONNRESET, RESET)

        receive = [lambda *_: 0, fail, near._recv_into]  # as a system tells it: the last one first
        near._recv_into = lambda *arguments: receive.pop()(*arguments)
        assert conn._intake.if_free(conn._intake.read_all)
        messages = list(conn)
        assert set(messages) == {"a message"}
        assert len(messages) < 200
        error = closed(conn.recv, SOON)
        assert type(error.__cause__) is ConnectionResetError


def test_with_a_log_of_frames():
    logger = logging.getLogger("scriptling_ws.frames")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        client, server = ws.pair()
        with contextlib.closing(client):
            linger = struct.pack("ii", 1, 0)
            sock = server._link.transport._inner._sock
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.send("unread")  # closing is a reset then, by a Unix socket too
            server._link.transport.close()
            assert type(closed(client.recv, SOON).__cause__) is ConnectionResetError
    finally:
        logger.setLevel(before)


# -- what is no abnormal end of the peer's -----------------------------------------


@roles
def test_a_close_frame_says_why_whatever_becomes_of_the_stream(client):
    with raw_peer(client=client) as (conn, peer):
        peer.sendall(close_frame(4001, b"done", mask=not client))
        assert conn.receive(SOON) is None
        reset(peer)
        with pytest.raises(ws.ConnectionClosed, match=r"\(code 4001, done\)$") as caught:
            conn.recv()
        assert caught.value.__cause__ is None


def test_an_end_of_this_ends_own_has_no_cause():
    with both_ends(tls=True) as (near, far):
        near._abort()
        assert near.receive(SOON) is None
        error = closed(near.recv, SOON)
        assert (str(error), error.__cause__) == (said(), None)
        far._abort()


def test_an_error_of_a_send_that_came_first_stays_the_cause():
    with raw_peer(send_timeout=0.05, close_timeout=0.1) as (conn, peer):
        with pytest.raises(ws.SendTimeout):
            conn.send_binary(bytes(32 * MIB))  # part of it leaves, and so it is over
        reset(peer)
        error = closed(conn.recv, SOON)
        assert isinstance(error.__cause__, ws.SendTimeout)
        assert str(error) == said(f": {error.__cause__}")


# -- what is kept -------------------------------------------------------------------


def test_the_text_and_the_code_outlive_copies():
    with raw_peer() as (conn, peer):
        reset(peer)
        error = closed(conn.recv, SOON)
        for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert (str(again), again.code, again.reason) == (str(error), 1006, "")


@counts_references
@ways
def test_no_frame_is_kept(way):
    class Held:
        pass

    def receive(conn):
        held = Held()
        with contextlib.suppress(ws.ConnectionClosed):
            conn.recv(SOON)
        return weakref.ref(held)

    with raw_peer(transport=way) as (conn, peer):
        reset(peer)
        gc.collect()
        gc.disable()
        try:
            assert receive(conn)() is None
        finally:
            gc.enable()
        assert closed(conn.recv).__cause__.__traceback__ is None
