"""Connection, apart from its calls: what it shows of itself, and what it keeps and leaves."""

import copy
import gc
import inspect
import os
import pickle
import socket
import struct
import sys
import weakref

import pytest

from memory import counts_references
from pairs import MIB, both_ends, raw_peer, until
from scriptling_ws import ConnectionClosed, SendTimeout, is_binary, is_text
from scriptling_ws._connection.connection import Connection


def test_addresses():
    with raw_peer() as (conn, peer):
        host, port = peer.getsockname()
        assert conn.remote_addr == f"{host}:{port}"
        host, port = peer.getpeername()
        assert conn.local_addr == f"{host}:{port}"
        peer.close()
        conn.close()
        assert conn.remote_addr.startswith("127.0.0.1:")


def test_repr():
    with raw_peer(close_timeout=0) as (conn, _):
        assert repr(conn) == f"<Connection {conn.local_addr} to {conn.remote_addr}, open>"
        conn.close(4000)
        assert repr(conn).endswith(", closed 4000>")


def test_fileno_is_the_sockets():
    with raw_peer(close_timeout=0) as (conn, _):
        assert os.readlink(f"/proc/self/fd/{conn.fileno()}").startswith("socket:")
        conn.close()
        assert conn.fileno() == -1


@pytest.mark.parametrize(
    ("value", "text", "binary"),
    [
        ("", True, False),
        ([], False, True),
        (b"", False, True),
        (bytearray(), False, True),
        (memoryview(b""), False, True),
        (None, False, False),
        (1, False, False),
        ({}, False, False),
    ],
)
def test_is_text_and_is_binary(value, text, binary):
    assert is_text(value) is text
    assert is_binary(value) is binary


@counts_references
def test_no_reference_cycle_keeps_a_connection():
    with raw_peer(close_timeout=0) as (conn, peer):
        conn.send("x")
        conn.close()
        count = sys.getrefcount(conn)
        assert count <= 4
        assert isinstance(conn, Connection)
        assert peer


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_connection_is_not_copied(copier):
    with raw_peer() as (conn, _), pytest.raises(TypeError, match="cannot be copied"):
        copier(conn)


def test_calls_are_named_as_those_of_a_connection():
    """All of them, in errors about arguments as in pickles."""
    for name, call in {**vars(Connection.__base__), **vars(Connection)}.items():
        if not name.startswith("_") and inspect.isfunction(call):
            assert call.__qualname__ == f"Connection.{name}"
            assert pickle.loads(pickle.dumps(call)) is call
    with raw_peer() as (conn, _), pytest.raises(TypeError, match="'decode'") as caught:
        conn.recv(timeout=5, decode=False)
    assert "Derived" not in str(caught.value)


# What holds a caller's message is the frame of the caller, and what holds that is a traceback.
@counts_references
@pytest.mark.abuse(73)
@pytest.mark.parametrize("reset", [False, True])
def test_a_broken_connection_keeps_nothing_of_who_used_it(reset):
    class Message(bytearray):
        pass

    def send():
        message = Message(32 * MIB)
        messages.append(weakref.ref(message))
        with pytest.raises((ConnectionClosed, SendTimeout)):
            conn.send_binary(message)

    messages = []
    with raw_peer(send_timeout=0.2) as (conn, peer):
        if reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        gc.disable()
        try:
            send()
            until(lambda: messages[0]() is None)  # keepalive may just be looking
        finally:
            gc.enable()
        with pytest.raises(ConnectionClosed):
            conn.send("more")


@counts_references
@pytest.mark.abuse(73)
def test_a_broken_tls_stream_keeps_nothing_of_who_read_it():
    class Mine:
        pass

    def receive():
        mine = Mine()
        kept.append(weakref.ref(mine))
        assert client.receive(10) is None

    kept = []
    with both_ends(tls=True) as (client, server):
        server._link.transport._sock.send(b"\x17\x03\x03\x00\x10" + bytes(16))  # no such record
        gc.disable()
        try:
            receive()
            until(lambda: kept[0]() is None)
        finally:
            gc.enable()
        assert client.close_code == 1006
