"""Connections under TLS in both of the channel's ways: in the kernel, and by the methods.

On the pure codec both are the methods'.
"""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import sys
import threading
import warnings

import pytest

from frames import BINARY, PING, PONG, TEXT, frame, raw_frame
from pairs import (
    KIB,
    MIB,
    SOON,
    Interrupt,
    Running,
    arrived,
    at_least,
    authority,
    connection,
    ended,
    in_package,
    read_from,
    reset,
    running,
    stand_in,
    tcp_pair,
    tls_contexts,
    tls_pair,
    unread,
    until,
)
from processes import Process
from renegotiation import Renegotiating, needs_cryptography
from scriptling_ws import ConnectionClosed, SendTimeout
from scriptling_ws import _kernel as kernel
from scriptling_ws._network.deadline import Deadline
from scriptling_ws._network.tls import TLSTransport

compiled = pytest.mark.skipif(kernel.IMPLEMENTATION == "pure", reason="it is the compiled one's")

ALERT, DATA = 21, 23  # types of records
AS_IT_IS = "surrogateescape"  # of bytes that are no text
READ = 128 * KIB  # as `_network.tls` receives at a time, once much comes


@pytest.fixture(params=["kernel", "methods"])
def way(request):
    """How the channels move bytes."""
    return request.param


def in_way(transport, way):
    """A transport, by which a channel goes in that way."""
    if way == "methods":
        transport.descriptor = None
    return transport


@contextlib.contextmanager
def ends(way, contexts=None, buffer=None, **options):
    """A connection, the client's, and the TLS transport of its peer; keepalive adds nothing."""
    near, far = tls_pair(contexts, buffer)
    conn = connection(in_way(near, way), **{"ping_interval": None, **options})
    try:
        yield conn, far
    finally:
        far.close()
        conn.close()


def ciphertext(transport, *pieces):
    """Each piece in a record of its own, not sent."""
    for piece in pieces:
        transport._tls.write(piece)
    return transport._out.read()


def put(transport, data):
    """Send bytes as they are."""
    transport._sock.setblocking(True)
    transport._sock.sendall(data)


def tell(transport, *pieces):
    """Send pieces, each in a record of its own."""
    put(transport, ciphertext(transport, *pieces))


def read_frame(transport):
    """One frame from a client: (first byte, payload)."""
    first, second = read_from(transport, 2)
    size = second & 0x7F
    if size == 126:
        size = int.from_bytes(read_from(transport, 2), "big")
    elif size == 127:
        size = int.from_bytes(read_from(transport, 8), "big")
    key = read_from(transport, 4)
    payload = read_from(transport, size)
    mask = (key * (size // 4 + 1))[:size]
    return first, bytes(a ^ b for a, b in zip(payload, mask, strict=True))


def settle(conn, peer):
    """Have a message through: nothing is left of the handshake then."""
    tell(peer, frame(TEXT, b"first"))
    assert conn.receive(SOON) == "first"


@contextlib.contextmanager
def handling(handle):
    """Another thread can call what this yields, to have the main one handle a signal."""
    main = threading.main_thread().ident
    previous = signal.signal(signal.SIGUSR1, lambda _, stack: handle(stack))
    try:
        yield lambda: signal.pthread_kill(main, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)


def striking(conn):
    """What raises, as Ctrl-C does, if a signal comes in a call of the connection."""

    def strike(stack):
        if in_package(stack, conn):
            raise Interrupt

    return strike


class Struck:
    """OpenSSL, in whose calls something happens once, their work done or not begun."""

    def __init__(self, session, method, act, *, after=True):
        self._session = session
        self._method = method
        self._act = act
        self._after = after

    def __getattr__(self, name):
        return getattr(self._session, name)

    def _call(self, method, *arguments):
        act = None
        if method == self._method:
            act, self._act = self._act, None
        if act and not self._after:
            act()
        result = getattr(self._session, method)(*arguments)
        if act and self._after:
            act()
        return result

    def read(self, *arguments):
        return self._call("read", *arguments)

    def write(self, *arguments):
        return self._call("write", *arguments)


def struck(transport, method, act, **options):
    """Have something happen in the next call of one of OpenSSL's methods."""
    transport.session.ssl = Struck(transport.session.ssl, method, act, **options)


def interrupt():
    raise Interrupt


# -- which way it is -----------------------------------------------------------


@compiled
def test_a_small_message_goes_by_no_method_of_the_transport():
    with ends("kernel") as (conn, peer):
        settle(conn, peer)

        def never(*_):
            raise AssertionError("by the methods")

        restore = stand_in(conn._link.transport, write=never, read_into=never, flush=never)
        for size in (0, 1, 125, 126, 4097, 60_000):
            conn.send_binary(bytes(size))
            assert read_frame(peer) == (0x82, bytes(size))
        for _ in range(3):
            tell(peer, frame(TEXT, b"x"))
            assert conn.receive(SOON) == "x"
            tell(peer, frame(TEXT, b"x"))
            arrived(conn)
            assert conn.receive(0) == "x"
        assert conn.receive(0) is None
        restore()


@compiled
def test_without_a_descriptor_it_goes_by_the_methods():
    with ends("methods") as (conn, peer):
        settle(conn, peer)
        calls = []
        restore = stand_in(conn._link.transport, write=lambda data: calls.append(data) or len(data))
        conn.send("x")
        restore()
        assert calls


# -- messages ------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [0, 1, 125, 126, 4 * KIB + 1, 16_378, 16_384, 65_522, 65_536, 100_000, MIB]
)
def test_messages_of_all_sizes_both_ways(way, size):
    near, far = tls_pair()
    client = connection(in_way(near, way), binary_type=bytes)
    server = connection(in_way(far, way), client=False, binary_type=bytes)
    data = os.urandom(size)
    for one, other in ((client, server), (server, client)):
        with running(lambda one=one: [one.send_binary(data), one.send("x" * size)]):
            assert other.receive(SOON) == data
            assert other.receive(SOON) == "x" * size
    with running(server.close):
        client.close()


def test_a_larger_message_is_encrypted_piece_by_piece(way):
    """It would be there twice otherwise, and in OpenSSL's memory again."""
    sizes = []
    with ends(way) as (conn, peer):
        settle(conn, peer)
        session = conn._link.transport.session
        inner = session.ssl

        class Counted:
            read = inner.read

            def write(self, data):
                sizes.append(len(data))
                return inner.write(data)

        session.ssl = Counted()
        with running(lambda: conn.send_binary(bytes(250_000))):
            assert read_frame(peer) == (0x82, bytes(250_000))
    assert max(sizes) == 64 * KIB


def test_many_messages_at_once_come_in_their_order(way):
    """More than the window holds, in records of their own, of which the last comes in parts."""
    numbers = range(20_000)
    with ends(way, binary_type=bytes) as (conn, peer):
        data = ciphertext(peer, *(frame(BINARY, b"%d" % number) for number in numbers))
        with running(lambda: put(peer, data)):
            assert [conn.receive(SOON) for _ in numbers] == [b"%d" % n for n in numbers]
        assert conn.receive(0) is None
        conn.send("fine")
        assert read_frame(peer) == (0x81, b"fine")


def test_two_threads_at_each_end(way):
    count = 2_000
    near, far = tls_pair()
    client = connection(in_way(near, way))
    server = connection(in_way(far, way), client=False)

    def talk(conn):
        for number in range(count):
            conn.send(str(number))

    def hear(conn):
        assert [conn.receive(SOON) for _ in range(count)] == [str(n) for n in range(count)]

    with running(*(lambda f=f, c=c: f(c) for f in (talk, hear) for c in (client, server))):
        pass
    with running(server.close):
        client.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls(way, version):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority().configure_trust(client)
    client.minimum_version = client.maximum_version = version
    with ends(way, (client, server)) as (conn, peer):
        for number in range(5):
            conn.send(f"up {number}")
            assert read_frame(peer) == (0x81, b"up %d" % number)
            tell(peer, frame(TEXT, b"down %d" % number))
            assert conn.receive(SOON) == f"down {number}"


# -- records that are no whole message ---------------------------------------------


@pytest.mark.parametrize("waits", [0, 0.02, None])
def test_a_record_that_comes_in_parts(way, waits):
    """Each receive meets one part, and the last one the rest."""
    with ends(way) as (conn, peer):
        settle(conn, peer)
        for part in (1, 4, 5, 6, 20, -1):
            data = ciphertext(peer, frame(TEXT, b"in parts"))
            put(peer, data[:part])
            arrived(conn, part % len(data))
            if waits is not None:
                assert conn.receive(waits) is None
            put(peer, data[part:])
            assert conn.receive(SOON) == "in parts"
            assert conn.receive(0) is None


def test_a_message_in_several_records_and_several_messages_in_one(way):
    whole = frame(TEXT, b"one") + frame(TEXT, b"two") + frame(PING, b"p") + frame(TEXT, b"three")
    with ends(way) as (conn, peer):
        settle(conn, peer)
        for pieces in ([whole], [whole[:7], whole[7:]], [bytes([byte]) for byte in whole]):
            tell(peer, *pieces)
            assert [conn.receive(SOON) for _ in range(3)] == ["one", "two", "three"]
            assert read_frame(peer) == (0x80 | PONG, b"p")
            assert conn.receive(0) is None


def test_a_record_that_is_larger_than_the_window(way):
    with ends(way, binary_type=bytes) as (conn, peer):
        settle(conn, peer)
        data = os.urandom(16_000)
        for _ in range(3):
            tell(peer, frame(BINARY, data), frame(TEXT, b"after"))
            assert conn.receive(SOON) == data
            assert conn.receive(SOON) == "after"
            assert conn.receive(0) is None


def test_a_read_that_is_filled_to_the_brim_is_gone_on_with(way):
    """What lies behind it is not left for a poll of the socket, which would not show it."""
    with ends(way, binary_type=bytes) as (conn, peer):
        settle(conn, peer)
        size = len(conn._link.transport.session.cipher)
        one = ciphertext(peer, frame(TEXT, b"x"))
        put(peer, one)
        assert conn.receive(SOON) == "x"
        overhead = len(one) - 3
        last = frame(TEXT, b"last")
        first = frame(BINARY, bytes(size - 2 * overhead - len(last) - 4))
        data = ciphertext(peer, first, last)
        assert len(data) == size
        put(peer, data)
        arrived(conn, size)
        assert conn.receive(0) == bytes(len(first) - 4)
        assert conn.receive(0) == "last"


def test_what_was_looked_at_before_is_received_first(way):
    with ends(way) as (conn, peer):
        settle(conn, peer)
        tell(peer, frame(TEXT, b"seen"))
        arrived(conn)
        with conn._intake.lock:
            assert conn._intake.take_controls()
        assert conn._link.transport.session.ahead is not None
        tell(peer, frame(TEXT, b"not seen"))
        assert [conn.receive(SOON), conn.receive(SOON)] == ["seen", "not seen"]


@contextlib.contextmanager
def renegotiating(way):
    """A server's connection, and a peer that can ask for renegotiation."""
    near, far = tcp_pair()
    transport = TLSTransport(far, tls_contexts()[1], server_side=True)
    with near:
        shaking = Running(Renegotiating, near)
        deadline = Deadline(SOON)
        while not transport.handshake_step():
            transport.wait(True, transport.pending, deadline)
        peer = shaking.result()
        conn = connection(in_way(transport, way), client=False, ping_interval=None)
        peer.send(frame(TEXT, b"first", mask=True))
        assert conn.receive(SOON) == "first"
        try:
            yield conn, peer
        finally:
            conn._abort()
            conn.close()


@needs_cryptography
@pytest.mark.abuse(19)
def test_records_without_data_end_the_connection_however_short_the_receives(way):
    sent = 0
    with renegotiating(way) as (conn, peer), contextlib.suppress(OSError):
        while conn.connected():
            assert sent < MIB
            sent += peer.ask(100)
            arrived(conn)
            assert conn.receive(0) is None
    assert sent > 256 * KIB
    assert conn.close_code == 1006


# -- what TLS has to say itself -------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="another program may go by the name")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("asks", ["k", "K"], ids=["told", "asked"])
def test_keys_that_are_updated_between_two_messages(way, asks, tmp_path):
    certificate = authority().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    options = ["-tls1_3", "-naccept", "1", "-cert", "server.pem", "-key", "server.pem"]
    command = ["openssl", "s_server", "-4", "-accept", "localhost:0", *options]
    with Process(*command, cwd=tmp_path) as server:
        port = int(server.line_with("ACCEPT").rpartition(":")[2])
        transport = TLSTransport(
            socket.create_connection(("127.0.0.1", port)),
            tls_contexts()[0],
            server_side=False,
            server_hostname="localhost",
        )
        while not transport.handshake_step():
            transport.wait(True, transport.pending, Deadline(SOON))
        # In the server's role, whose messages are not masked: their peer prints them.
        options = {"client": False, "ping_interval": None, "close_timeout": 0.1}
        with contextlib.closing(connection(in_way(transport, way), **options)) as conn:
            for number in range(3):
                conn.send(f"before {number}\n")
                server.line_with(f"before {number}")
                while unread_bytes(conn):  # tickets of the session
                    assert conn.receive(0) is None
                server.tell(asks)
                arrived(conn)  # or it would take both lines for one
                server.tell(raw_frame(0x81, b"there\n", bytes(4))[:-1].decode(errors=AS_IT_IS))
                assert conn.receive(SOON) == "there\n"
                conn.send(f"after {number}\n")
                server.line_with(f"after {number}")


@needs_cryptography
def test_a_request_to_renegotiate_is_refused_and_messages_go_on(way):
    with renegotiating(way) as (conn, peer):
        for number in range(3):
            peer.ask(1)
            arrived(conn)
            assert conn.receive(0) is None
            assert not conn._link.transport.pending
            assert peer.record() == ALERT
            conn.send(f"still {number}")
            assert peer.record() == DATA
            peer.send(frame(TEXT, b"there", mask=True))
            assert conn.receive(SOON) == "there"


@needs_cryptography
def test_an_answer_that_comes_up_while_the_transport_sends_is_sent_after_it(way):
    with renegotiating(way) as (conn, peer):
        transport = conn._link.transport
        send = transport._send
        receiving = Running(conn.receive, None)
        until(conn._intake.lock.locked)

        def read_meanwhile(data, flags):
            peer.ask(1)
            until(lambda: transport.session.answering)
            return send(data, flags)

        transport._send = read_meanwhile
        with conn._outlet.lock:  # as a writer has it
            assert transport.write(b"x") == 1
        transport._send = send
        assert transport.pending
        assert peer.record() == DATA
        conn._outlet.flush()
        assert peer.record() == ALERT
        peer.send(frame(TEXT, b"there", mask=True))
        assert receiving.result() == "there"


def test_what_tls_answers_while_a_message_leaves_is_sent_after_it(way):
    with ends(way) as (conn, peer):
        settle(conn, peer)
        transport = conn._link.transport

        def answer():
            with transport._tls_lock:
                transport.session.answering = transport.pending = True

        struck(transport, "write", answer)
        conn.send("x")
        assert not transport.pending
        assert read_frame(peer) == (0x81, b"x")
        conn.send("y")
        assert read_frame(peer) == (0x81, b"y")


# -- reading for others ---------------------------------------------------------------

SMALL = 100  # messages of one record: more than fit into the window of an idle connection


def small_messages():
    return b"".join(frame(TEXT, f"message {number:011}".encode()) for number in range(SMALL))


def test_a_blocked_sender_reads_all_of_a_record(way):
    with ends(way, ping_interval=None, send_timeout=SOON) as (conn, peer):
        settle(conn, peer)
        sending = Running(conn.send_binary, bytes(16 * MIB))
        until(conn._intake.lock.locked)
        tell(peer, small_messages() + frame(PING, b"behind them"))
        until(lambda: unread(conn) == SMALL)
        assert [conn.receive(SOON)[-2:] for _ in range(SMALL)] == [
            f"{number:02}" for number in range(SMALL)
        ]
        until(lambda: conn._link.unsent.answers)  # which goes behind the message
        peer.close()
        with pytest.raises(ConnectionClosed):
            sending.result()


def test_a_ping_waits_for_nothing_that_tls_has_already(way):
    with ends(way, ping_interval=None) as (conn, peer):
        settle(conn, peer)
        transport = conn._link.transport
        waited, wait = [], transport.wait

        def counted(*arguments, **options):
            waited.append(transport.keeps())
            wait(*arguments, **options)

        stand_in(transport, wait=counted)
        pinging = Running(conn.ping, SOON)
        first, payload = read_frame(peer)
        assert first == 0x80 | PING
        tell(peer, small_messages() + frame(PONG, payload))
        assert pinging.result() is not None
        assert waited
        assert not any(waited)
        assert unread(conn) == SMALL


# -- ends -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close_notify", "end"])
@pytest.mark.parametrize("waits", [False, True])
def test_the_end_of_the_stream_after_a_message(way, how, waits):
    with ends(way) as (conn, peer):
        settle(conn, peer)

        def receive():
            return [conn.receive(SOON), conn.receive(SOON)]

        if waits:
            call = Running(receive)
            until(conn._intake.lock.locked)
        data = ciphertext(peer, frame(TEXT, b"last"))
        if how == "close_notify":
            with contextlib.suppress(ssl.SSLError):
                peer._tls.unwrap()
            data += peer._out.read()
        put(peer, data)
        if how == "end":
            peer._sock.shutdown(socket.SHUT_WR)
        assert (call.result() if waits else receive()) == ["last", None]
        assert conn.close_code == 1006


def test_a_reset_while_a_receiver_waits(way):
    with ends(way) as (conn, peer):
        settle(conn, peer)
        call = Running(conn.receive, None)
        until(conn._intake.lock.locked)
        reset(peer._sock)
        assert call.result() is None
        assert conn.close_code == 1006


def unread_bytes(conn):
    """Whether bytes lie in the socket."""
    try:
        return bool(conn._link.transport._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


@pytest.mark.parametrize("before", [[], ["good"], ["good", "better"]])
def test_a_forged_record_ends_the_connection_after_what_came_before_it(way, before):
    with ends(way) as (conn, peer):
        settle(conn, peer)
        good = ciphertext(peer, *(frame(TEXT, text.encode()) for text in before))
        forged = bytearray(ciphertext(peer, frame(TEXT, b"forged")))
        forged[-1] ^= 1
        put(peer, good + forged)
        arrived(conn, len(good) + len(forged))
        assert [conn.receive(SOON) for _ in before] == before
        assert conn.receive(SOON) is None
        assert conn.close_code == 1006
        assert "signal" not in str(conn._link.transport.session.read_error)
        with pytest.raises(ssl.SSLError, match="ALERT"):  # the answer says why
            read_from(peer, 1)


def test_a_peer_that_renegotiates_while_a_message_is_to_leave_is_left(way):
    with ends(way) as (conn, peer):
        settle(conn, peer)
        session = conn._link.transport.session

        class Renegotiating:
            read = session.ssl.read

            def write(self, data):
                raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "a handshake comes first")

        session.ssl = Renegotiating()
        conn.connected()  # so that an end is told
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                conn.send("x")
                assert not conn.connected()
        assert isinstance(caught.value.__cause__, ConnectionAbortedError)


def test_an_error_of_openssl_is_final_whatever_it_says_when_it_is_asked_again(way):
    with ends(way) as (conn, peer):
        settle(conn, peer)

        def fail():
            raise ssl.SSLError(1, "once")

        struck(conn._link.transport, "read", fail, after=False)
        tell(peer, frame(TEXT, b"unseen"))
        assert conn.receive(SOON) is None
        assert conn.close_code == 1006


@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
def test_a_close_while_a_receiver_waits(way, client):
    near, far = tls_pair()
    conn = connection(in_way(near if client else far, way), client=client, close_timeout=0.5)
    other = connection(far if client else near, client=not client)
    call = Running(conn.receive, None)
    until(conn._intake.lock.locked)
    with at_least(0, 5), running(lambda: other.receive(SOON)):
        conn.close(4000, "enough")
    assert call.result() is None
    assert conn.fileno() == -1
    assert other.close_code == 4000
    other.close()


def test_a_send_to_a_peer_that_has_left_is_told(way):
    with ends(way) as (conn, peer):
        settle(conn, peer)
        reset(peer._sock)
        ended(conn)
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                conn.connected()
                conn.send("x")
        assert not conn.connected()
        assert caught.value.code == 1006


# -- a socket that does not take all ---------------------------------------------------


@pytest.mark.parametrize("size", [100, 30_000])
def test_what_is_taken_in_part_is_finished_before_anything_else(way, size):
    near, far = tls_pair(buffer=16 * KIB)
    conn = connection(in_way(near, way), ping_interval=None)
    peer = connection(far, client=False, binary_type=bytes)
    numbers = range(3 * MIB // size)

    def send():
        for number in numbers:
            conn.send_binary(number.to_bytes(4, "big") + bytes(size))

    sending = Running(send)
    until(lambda: near.pending)
    for number in numbers:
        assert peer.receive(SOON) == number.to_bytes(4, "big") + bytes(size)
    sending.result()
    with running(peer.close):
        conn.close()


@pytest.mark.abuse(70)
@pytest.mark.parametrize("then", ["send", "receive"])
def test_what_a_handler_cuts_short_as_it_waits_to_leave_leaves_before_anything_else(way, then):
    near, far = tls_pair(buffer=16 * KIB)
    conn = connection(in_way(near, way), ping_interval=None)
    with handling(striking(conn)) as signalled:
        settle(conn, far)  # or the handler might strike as tickets of the session are decrypted
        peer = connection(far, client=False, binary_type=bytes)
        sent = 0

        def shoot():
            until(lambda: near.pending and conn._outlet.lock.locked())
            signalled()

        with running(shoot), pytest.raises(Interrupt):
            while True:
                conn.send_binary(bytes([sent]) * 30_000)
                sent += 1
        assert near.pending

        def go_on():
            if then == "receive":
                assert conn.receive(SOON) == "all"
            conn.send("after")

        calls = Running(go_on)
        got = [peer.receive(SOON) for _ in range(sent + 1)]
        peer.send("all")
        got.append(peer.receive(SOON))
        calls.result()
        assert got == [bytes([number]) * 30_000 for number in range(sent + 1)] + ["after"]
        with running(peer.close):
            conn.close()


def test_a_message_of_which_a_part_has_left_ends_the_connection_at_its_timeout(way):
    with ends(way, buffer=16 * KIB, send_timeout=0.1, ping_interval=None) as (conn, _):
        with pytest.raises(SendTimeout):
            while True:
                conn.send_binary(bytes(30_000))
        assert not conn._link.lifecycle.open
        with pytest.raises(ConnectionClosed):
            conn.send("x")


# -- signal handlers ---------------------------------------------------------------------


@pytest.mark.abuse(70)
@pytest.mark.parametrize("then", ["send", "receive"])
def test_a_handler_that_raises_as_a_message_is_encrypted_has_it_sent_once(way, then):
    with ends(way) as (conn, peer):
        settle(conn, peer)
        struck(conn._link.transport, "write", interrupt)
        with pytest.raises(Interrupt):
            conn.send("first")
        if then == "receive":
            assert conn.receive(0) is None
            assert read_frame(peer) == (0x81, b"first")
        conn.send("second")
        if then == "send":
            assert read_frame(peer) == (0x81, b"first")
        assert read_frame(peer) == (0x81, b"second")
        assert not conn._link.transport.pending


@pytest.mark.abuse(70)
def test_a_handler_that_raises_before_a_message_is_encrypted_sends_nothing_of_it(way):
    with ends(way) as (conn, peer):
        settle(conn, peer)
        struck(conn._link.transport, "write", interrupt, after=False)
        with pytest.raises(Interrupt):
            conn.send("lost")
        conn.send("kept")
        assert read_frame(peer) == (0x81, b"kept")


@pytest.mark.abuse(70)
def test_a_handler_that_raises_as_a_message_is_decrypted_ends_the_stream(way):
    """How much was decrypted is not known: nothing else is to be read from there."""
    with ends(way) as (conn, peer):
        settle(conn, peer)
        tell(peer, frame(TEXT, b"lost"))
        arrived(conn)
        struck(conn._link.transport, "read", interrupt)
        with pytest.raises(Interrupt):
            conn.receive(SOON)
        tell(peer, frame(TEXT, b"behind"))
        assert conn.receive(SOON) is None
        assert conn.close_code == 1006


@pytest.mark.abuse(70)
def test_a_handler_that_raises_before_a_message_is_decrypted_ends_the_stream_after_what_was(way):
    with ends(way) as (conn, peer):
        settle(conn, peer)
        data = ciphertext(peer, frame(TEXT, b"good"), frame(TEXT, b"in doubt"))
        put(peer, data)
        arrived(conn, len(data))
        transport = conn._link.transport
        struck(transport, "read", lambda: struck(transport, "read", interrupt))
        with pytest.raises(Interrupt):
            conn.receive(SOON)
            conn.receive(SOON)
        assert conn.receive(SOON) == "good"
        assert conn.receive(SOON) is None


@pytest.mark.abuse(70)
def test_what_was_decrypted_as_a_handler_raised_is_received_though_nothing_else_comes(way):
    with ends(way) as (conn, peer):
        settle(conn, peer)
        tell(peer, frame(TEXT, b"whole"))
        arrived(conn)
        transport = conn._link.transport
        decrypt = transport._decrypt

        def raise_behind(buffer):
            decrypt(buffer)
            if transport.session.decrypted:
                restore()
                raise Interrupt

        restore = stand_in(transport, _decrypt=raise_behind)
        with conn._intake.lock, pytest.raises(Interrupt):
            while True:
                conn._intake.read_some(nap=False)
        assert conn.receive(0) == "whole"


@pytest.mark.abuse(70)
def test_a_handler_that_raises_in_a_look_ahead_ends_the_stream(way):
    with ends(way) as (conn, peer):
        settle(conn, peer)
        tell(peer, frame(TEXT, b"lost"))
        arrived(conn)
        transport = conn._link.transport
        assert transport.read_into(bytearray(1)) == 1  # the rest is in OpenSSL
        decrypt = transport._decrypt

        def raise_behind(room):
            restore()
            decrypt(room)
            raise Interrupt

        restore = stand_in(transport, _decrypt=raise_behind)
        with conn._intake.lock, pytest.raises(Interrupt):
            conn._intake.take_controls()
        tell(peer, frame(TEXT, b"behind"))
        assert conn.receive(SOON) is None
        assert conn.close_code == 1006


@pytest.mark.abuse(70)
@pytest.mark.parametrize("call", ["send", "receive"])
def test_a_handler_that_raises_where_another_thread_has_openssl(way, call):
    """What was received by then is decrypted later; what was to be sent is not sent."""
    with ends(way) as (conn, peer), handling(striking(conn)) as signalled:
        settle(conn, peer)
        lock = conn._link.transport._tls_lock
        taken, free = threading.Event(), threading.Event()

        def hold():
            with lock:
                taken.set()
                assert free.wait(SOON)

        def shoot():
            assert taken.wait(SOON)
            until((conn._outlet if call == "send" else conn._intake).lock.locked)
            if call == "receive":
                until(lambda: not unread_bytes(conn))
            signalled()

        with running(hold):
            assert taken.wait(SOON)
            if call == "receive":
                tell(peer, frame(TEXT, b"kept"))
                arrived(conn)
            try:
                with running(shoot), pytest.raises(Interrupt):
                    conn.send("lost") if call == "send" else conn.receive(None)
            finally:
                free.set()
        if call == "receive":
            assert conn.receive(SOON) == "kept"
        conn.send("fine")
        assert read_frame(peer) == (0x81, b"fine")


@pytest.mark.abuse(70)
@pytest.mark.parametrize("method", ["read", "write"])
def test_a_handler_that_closes_within_openssl(way, method):
    with ends(way, close_timeout=0.2, ping_interval=None) as (conn, peer):
        settle(conn, peer)
        struck(conn._link.transport, method, lambda: conn.close(4000))
        if method == "read":
            tell(peer, frame(TEXT, b"late"))
            assert conn.receive(SOON) is None
        else:
            with pytest.raises(ConnectionClosed):
                conn.send("too late")
        assert conn.fileno() == -1
        assert not conn.connected()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_receive_that_goes_on_in_a_child_ends_there(way):
    children = []

    def fork(_):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            children.append(os.fork())
        if not children[0]:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)

    with ends(way) as (conn, peer), handling(fork) as signalled:
        settle(conn, peer)

        def shoot():
            until(conn._intake.lock.locked)
            signalled()
            until(lambda: children)
            tell(peer, frame(TEXT, b"the parent's"))

        message = "an exception"
        with running(shoot):
            try:
                message = conn.receive(None)
            finally:
                if children == [0]:
                    os._exit(0 if message is None else 1)
        assert message == "the parent's"
        assert os.waitpid(children[0], 0)[1] == 0
        conn.send("too")
        assert read_frame(peer) == (0x81, b"too")


# -- memory ------------------------------------------------------------------------------


def test_who_waits_long_keeps_no_large_buffer(way):
    with ends(way, binary_type=bytes) as (conn, peer):
        settle(conn, peer)
        session = conn._link.transport.session
        data = os.urandom(MIB)
        with running(lambda: tell(peer, frame(BINARY, data))):
            assert conn.receive(SOON) == data
        assert len(session.cipher) == READ
        call = Running(conn.receive, None)
        until(lambda: len(session.cipher) == 4 * KIB)
        tell(peer, frame(TEXT, b"at last"))
        assert call.result() == "at last"
