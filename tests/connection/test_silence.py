"""recv() and messages(): a silence and a close are exceptions, each its own."""

import copy
import math
import pickle
import signal
import socket
import time

import pytest

import scriptling_ws as ws
from frames import BINARY, CONTINUATION, TEXT, close_frame, frame
from pairs import SOON, at_least, both_ends, raw_peer, receive_close, roles, running, transports
from scriptling_ws._handshakes.terms import Terms

SHORT = 0.02


@roles
def test_recv_returns_what_receive_would(client):
    with raw_peer(client=client) as (conn, peer):
        peer.sendall(frame(TEXT, b"a", mask=not client) + frame(BINARY, b"\x01", mask=not client))
        assert conn.recv() == "a"
        assert conn.recv(SOON) == [1]


@transports
@pytest.mark.parametrize("deflate", [None, Terms()], ids=["plain", "deflate"])
def test_recv_over_tls_and_compressed(tls, deflate):
    with both_ends(tls=tls, deflate=deflate, compression_threshold=0) as (near, far):
        near.send("x" * 5000)
        near.send_binary(b"")
        assert far.recv(SOON) == "x" * 5000
        assert far.recv(SOON) == []
        near._begin_close(1000)
        with pytest.raises(ws.ConnectionClosed):
            far.recv(SOON)


def test_a_silence_is_a_timeout_and_loses_nothing():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"half", fin=False))
        with (
            at_least(SHORT),
            pytest.raises(TimeoutError, match=r"no message within 0\.02 s") as caught,
        ):
            conn.recv(SHORT)
        assert type(caught.value) is ws.ReceiveTimeout
        with pytest.raises(ws.ReceiveTimeout):
            conn.recv(0)
        assert conn.connected()
        peer.sendall(frame(CONTINUATION, b"way"))
        assert conn.recv(SOON) == "halfway"


def test_a_close_is_told_of_behind_the_messages_before_it():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"last") + close_frame(4001, b"done"))
        assert conn.recv(SOON) == "last"
        for timeout in (None, 0, SOON):  # and so it stays
            with pytest.raises(ws.ConnectionClosed, match=r"4001, done") as caught:
                conn.recv(timeout)
            assert (caught.value.code, caught.value.reason) == (4001, "done")
        assert not conn.connected()


def test_a_peer_that_leaves_or_breaks_the_rules():
    with raw_peer() as (conn, peer):
        peer.close()
        with pytest.raises(ws.ConnectionClosed) as caught:
            conn.recv(SOON)
        assert caught.value.code == 1006
    with raw_peer() as (conn, peer):
        peer.sendall(frame(0x3, b""))
        with pytest.raises(ws.ConnectionClosed) as caught:
            conn.recv(SOON)
        assert caught.value.code == 1002
        assert isinstance(caught.value.__cause__, ws.ProtocolError)


def test_close_wakes_recv_with_its_own_code():
    def end(receive, *timeout):
        with pytest.raises(ws.ConnectionClosed) as caught:
            receive(*timeout)
        return caught.value.code, caught.value.reason

    with (
        both_ends() as (near, far),
        running(lambda: end(far.recv), lambda: end(near.recv, SOON)) as (waiting, own),
    ):
        near.close(4002, "bye")
        assert waiting.result() == own.result() == (4002, "bye")


@pytest.mark.parametrize("timeout", [-1, math.nan, -math.inf])
def test_a_timeout_that_is_none_takes_no_message(timeout):
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"a"))
        with pytest.raises(ValueError, match="timeout"):
            conn.recv(timeout)
        with pytest.raises(ValueError, match="timeout"):
            conn.messages(timeout)  # at the call, not at the first turn
        with pytest.raises(TypeError, match="number"):
            conn.messages("1")
        assert conn.recv(SOON) == "a"


def test_for_ever_may_be_infinity():
    with raw_peer() as (conn, peer):
        peer.sendall(close_frame())
        with pytest.raises(ws.ConnectionClosed):
            conn.recv(math.inf)


def test_messages_ends_at_the_close():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"a") + frame(TEXT, b"b") + close_frame(1000))
        peer.shutdown(socket.SHUT_WR)
        assert list(conn.messages(SOON)) == ["a", "b"]
        assert list(conn.messages()) == []
        assert conn.close_code == 1000


def test_messages_goes_on_after_a_silence():
    with raw_peer() as (conn, peer):
        messages = conn.messages(SHORT)
        peer.sendall(frame(TEXT, b"a"))
        assert next(messages) == "a"
        with pytest.raises(ws.ReceiveTimeout):
            next(messages)
        peer.sendall(frame(TEXT, b"b") + close_frame())
        assert list(messages) == ["b"]


def test_each_turn_has_the_whole_timeout():
    with raw_peer() as (conn, peer):
        messages = conn.messages(0.3)
        began = time.monotonic()
        while time.monotonic() - began < 0.4:
            peer.sendall(frame(TEXT, b"a"))
            assert next(messages) == "a"


@pytest.mark.parametrize("kind", [list, bytes])
def test_json_is_read_of_text_and_of_binary(kind):
    with raw_peer(binary_type=kind) as (conn, peer):
        peer.sendall(frame(TEXT, '{"a": "ü"}'.encode()) + frame(BINARY, b"[1, 2.5, null]"))
        assert conn.receive_json() == {"a": "ü"}
        assert conn.receive_json(SOON) == [1, 2.5, None]
        peer.sendall(frame(TEXT, b"12") + frame(BINARY, b"34"))
        assert conn.receive_json(SOON, loads=repr) == "'12'"
        assert conn.receive_json(SOON, loads=repr) == "b'34'"


def test_what_is_no_json_is_taken_and_leaves_the_connection_open():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"{") + frame(BINARY, b"\xff") + frame(TEXT, b"1"))
        for _ in range(2):
            with pytest.raises(ws.InvalidMessage):
                conn.receive_json(SOON)
        assert conn.receive_json(SOON) == 1
        with pytest.raises(ws.ReceiveTimeout):
            conn.receive_json(0)
        peer.sendall(close_frame(4000))
        with pytest.raises(ws.ConnectionClosed, match="4000"):
            conn.receive_json(SOON)


@pytest.mark.threads
def test_ctrl_c_leaves_the_connection_usable():
    with raw_peer() as (conn, peer):
        for receive in (conn.recv, conn.messages().__next__):
            signal.setitimer(signal.ITIMER_REAL, SHORT)
            before = signal.signal(signal.SIGALRM, signal.default_int_handler)
            try:
                with pytest.raises(KeyboardInterrupt):
                    receive()
            finally:
                signal.signal(signal.SIGALRM, before)
        peer.sendall(frame(TEXT, b"a"))
        assert conn.recv(SOON) == "a"
        conn._begin_close(1000)
        assert receive_close(peer)[0] == 1000


def test_the_error_can_be_copied():
    error = pickle.loads(pickle.dumps(ws.ReceiveTimeout("no message within 1 s")))
    assert str(copy.copy(error)) == "no message within 1 s"
