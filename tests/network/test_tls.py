"""Byte streams under TLS, without WebSocket."""

import contextlib
import errno
import os
import select
import shutil
import socket
import ssl
import sys
import threading

import pytest
import trustme

from pairs import (
    KIB,
    SOON,
    Interrupt,
    Running,
    at_least,
    authority,
    read_from,
    reset,
    running,
    shake,
    tcp_pair,
    tls_contexts,
    tls_pair,
)
from processes import Process
from scriptling_ws._network.deadline import Deadline
from scriptling_ws._network.tls import TLSTransport
from scriptling_ws._network.transport import Transport


@contextlib.contextmanager
def secure(contexts=None):
    """Two TLS transports that are each other's peer: client and server."""
    client, server = tls_pair(contexts)
    try:
        yield client, server
    finally:
        client.close()
        server.close()


@contextlib.contextmanager
def secure_socket():
    """A TLS transport (the client's), and the peer as Python's own SSLSocket."""
    near, far = tcp_pair()
    for_client, for_server = tls_contexts()
    client = TLSTransport(near, for_client, server_side=False, server_hostname="localhost")
    far.settimeout(SOON)

    def accept():
        return for_server.wrap_socket(far, server_side=True, suppress_ragged_eofs=False)

    accepting = Running(accept)
    while not client.handshake_step():
        client.wait(True, client.pending, Deadline(SOON))
    peer = accepting.result()
    try:
        yield client, peer
    finally:
        client.close()
        peer.close()


def wait_for(transport, outcome, timeout=SOON):
    """Read until there is something else than None; it has to be `outcome`."""
    deadline = Deadline(timeout)
    while (count := transport.read_into(bytearray(16))) is None:
        assert not deadline.passed()
        transport.wait(True, False, deadline)
    assert count == outcome


def send(transport, data, timeout=SOON):
    """Write all of it, waiting as long as needed."""
    deadline = Deadline(timeout)
    view = memoryview(data)
    while view or not transport.flush():
        count = transport.write(view) if view else 0
        view = view[count:]
        if not count:
            assert not deadline.passed()
            transport.wait(False, True, deadline)


def pump(client, server, size, timeout=SOON):
    """Receive on `server` while `client` sends what it still has."""
    deadline = Deadline(timeout)
    data = b""
    while len(data) < size:
        client.flush()
        buffer = bytearray(65536)
        count = server.read_into(buffer)
        if count is None:
            assert not deadline.passed()
            server.wait(True, False, Deadline(0.1))
        else:
            assert count
            data += buffer[:count]
    return data


# -- data ------------------------------------------------------------------


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def contexts(request):
    """TLS settings for one version of TLS."""
    certificate = authority().issue_cert("localhost")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(server)
    client = ssl.create_default_context()
    authority().configure_trust(client)
    client.minimum_version = client.maximum_version = request.param
    return client, server


@pytest.mark.parametrize("size", [1, 100, 16_384, 16_385, 1_000_000])
def test_data_both_ways(contexts, size):
    data = os.urandom(size)
    with secure(contexts) as (client, server):
        for one, other in ((client, server), (server, client)):
            with running(lambda one=one: send(one, data)):
                assert read_from(other, size) == data
            assert one.pending is False


def test_nothing_there_is_none():
    with secure() as (client, server):
        assert client.read_into(bytearray(1)) is None
        assert server.read_into(bytearray(1)) is None
        assert server.read_into(bytearray(1), nap=True) is None


def test_wake_leaves_other_waits_alone_under_tls():
    with secure() as (_, server):
        server.wake()
        with at_least(0.045):
            server.wait(True, False, Deadline(0.05))


def with_a_large_buffer(client, server):
    """Have the server's end receive so much that it takes a large buffer."""
    with running(lambda: send(client, bytes(1_000_000))):
        read_from(server, 1_000_000)
    assert len(server.session.cipher) == 128 * KIB  # as docs/performance.md says


def test_who_waits_keeps_no_large_buffer():
    with secure() as (client, server):
        with_a_large_buffer(client, server)
        server.wait(False, True, Deadline(0))  # for room to write: nothing is over
        assert len(server.session.cipher) == 128 * KIB
        server.wait(True, False, Deadline(0))
        assert len(server.session.cipher) == 4 * KIB
        send(client, b"still there")
        assert read_from(server, 11) == b"still there"


def test_a_large_buffer_is_made_once():
    with secure() as (client, server):
        made = set()
        with running(lambda: send(client, bytes(4_000_000))):
            left, buffer = 4_000_000, bytearray(1 << 20)
            while left:
                if (count := server.read_into(buffer)) is None:
                    assert select.select([server], [], [], SOON)[0]
                left -= count or 0
                made.add(id(server.session.cipher))
        assert len(made) <= 2  # the small one, and then that


def test_who_waits_keeps_ciphertext_that_was_received_and_not_decrypted():
    def interrupt():
        raise Interrupt
        yield

    with secure() as (client, server):
        with_a_large_buffer(client, server)
        assert server.read_into(bytearray(100)) is None
        send(client, b"not to be lost")
        assert select.select([server], [], [], SOON)[0]
        turns, server._turns = server._turns, interrupt()
        with pytest.raises(Interrupt):  # received, but not handed to OpenSSL
            server.read_into(bytearray(100))
        server._turns = turns
        server.wait(False, True, Deadline(0))
        server.wait(True, False, Deadline(0))
        assert read_from(server, 14) == b"not to be lost"


# What OpenSSL has decrypted, no poll of the socket will show.
@pytest.mark.abuse(60)
def test_a_record_that_is_larger_than_the_buffer():
    with secure() as (client, server):
        send(client, b"0123456789")
        assert read_from(server, 3) == b"012"
        buffer = bytearray(100)
        assert server.read_into(buffer) == 7
        assert buffer[:7] == b"3456789"
        assert server.read_into(buffer) is None


def test_many_records_come_out_of_one_read():
    with secure() as (client, server):
        for number in range(50):
            send(client, b"%02d" % number)
        server.wait(True, False, Deadline(SOON))
        buffer = bytearray(1000)
        count = server.read_into(buffer)
        assert buffer[:count] == b"".join(b"%02d" % number for number in range(50))[:count]
        assert count > 2
        assert read_from(server, 100 - count) is not None


def encrypted(transport, *pieces):
    """Each piece in a record of its own, not sent."""
    for piece in pieces:
        transport._tls.write(piece)
    return transport._out.read()


def arrive(near, far, ciphertext):
    """Send ciphertext, and return once all of it can be received at once."""
    near._sock.sendall(ciphertext)
    deadline = Deadline(SOON)
    while len(far._sock.recv(len(ciphertext) + 1, socket.MSG_PEEK)) < len(ciphertext):
        assert not deadline.passed()


def fill_one_read(near, far):
    """Let two records come, a small one last, that fill far's buffer to the brim."""
    arrive(near, far, one := encrypted(near, b"x"))
    assert read_from(far, 1) == b"x"
    overhead = len(one) - 1
    small = os.urandom(20)
    large = os.urandom(len(far.session.cipher) - 2 * overhead - len(small))
    arrive(near, far, encrypted(near, large, small))
    return large + small


# A read that is filled to the brim mostly ends in half a record. Here it does not.
@pytest.mark.parametrize("nap", [False, True])
def test_a_whole_record_at_the_end_of_a_full_read_is_not_left_for_later(nap):
    with secure() as (client, server):
        data = fill_one_read(client, server)
        buffer = bytearray(2 * len(data))
        assert server.read_into(buffer, nap) == len(data)
        assert buffer[: len(data)] == data
        assert server.read_into(buffer, nap) is None


def test_a_record_that_fills_a_read_to_the_brim_is_not_kept_back():
    with secure() as (client, server):
        arrive(client, server, one := encrypted(client, b"x"))
        assert read_from(server, 1) == b"x"
        data = os.urandom(len(server.session.cipher) - len(one) + 1)
        arrive(client, server, encrypted(client, data))
        buffer = bytearray(2 * len(data))
        assert server.read_into(buffer) == len(data)
        assert buffer[: len(data)] == data


def test_what_came_before_a_reset_is_read():
    with secure() as (client, server):
        data = fill_one_read(client, server)
        reset(client._sock)
        server.wait(True, False, Deadline(SOON))
        assert read_from(server, len(data)) == data
        wait_for(server, 0)


def test_one_read_takes_what_several_receives_bring():
    data = os.urandom(30_000)
    with secure() as (client, server):
        assert len(server.session.cipher) < 10_000
        arrive(client, server, encrypted(client, data))
        buffer = bytearray(len(data) + 1)
        assert server.read_into(buffer) == len(data)
        assert buffer[:-1] == data


class Interrupted:
    """OpenSSL, in whose `read` and `write` a signal handler raises, their work done."""

    class Signal(BaseException):
        """What the handler raises."""

    def __init__(self, session, after=0):
        self._session = session
        self._after = after

    def __getattr__(self, name):
        return getattr(self._session, name)

    def _count(self):
        self._after -= 1
        if self._after < 0:
            raise self.Signal

    def read(self, *arguments):
        count = self._session.read(*arguments)
        self._count()
        return count

    def write(self, data):
        count = self._session.write(data)
        self._count()
        return count


def test_a_decryption_in_doubt_ends_the_stream_after_what_came_before_it():
    with secure() as (client, server):
        arrive(client, server, encrypted(client, b"good", b"lost"))
        server.session.ssl = Interrupted(server.session.ssl, after=1)
        buffer = bytearray(100)
        with pytest.raises(Interrupted.Signal):
            server.read_into(buffer)
        assert server.read_into(buffer) == 4
        assert buffer[:4] == b"good"
        for _ in range(2):
            with pytest.raises(ssl.SSLError, match="signal handler"):
                server.read_into(buffer)


def test_an_encryption_that_was_interrupted_is_counted_and_sent():
    with secure() as (client, server):
        session, client.session.ssl = client.session.ssl, Interrupted(client.session.ssl)
        with pytest.raises(Interrupted.Signal):
            client.write(b"first")
        assert client.uncounted == 5
        client.session.ssl = session
        send(client, b" second")
        assert read_from(server, 12) == b"first second"
        assert client.pending is False


def test_ciphertext_one_byte_at_a_time():
    with secure() as (client, server):
        client._tls.write(b"hello")
        ciphertext = client._out.read()
        far = client._sock
        for position, byte in enumerate(ciphertext):
            assert server.read_into(bytearray(10)) is None
            far.sendall(bytes([byte]))
            server.wait(True, False, Deadline(SOON))
            assert position < len(ciphertext)
        assert read_from(server, 5) == b"hello"


def test_what_a_full_socket_does_not_take_is_kept():
    data = os.urandom(65_536)
    with secure() as (client, server):
        taken = 0
        while count := client.write(data):
            taken += count
        assert client.pending is True
        assert client.flush() is False
        assert client.write(b"x") == 0
        got = pump(client, server, taken)
        assert got == data * (taken // len(data))
        assert client.flush() is True
        assert client.pending is False


def test_a_write_takes_a_bounded_slice():
    with secure() as (client, _):
        assert 0 < client.write(bytes(1_000_000)) <= 65_536


def test_a_reader_that_sleeps_holds_up_no_writer():
    with secure() as (client, server):
        reading = Running(read_from, client, 5)
        for _ in range(50):
            send(client, b"x" * 1000)
        assert read_from(server, 50_000) == b"x" * 50_000
        assert not reading.done()
        send(server, b"there")
        assert reading.result() == b"there"


def test_reading_and_writing_at_once():
    size = 8_000_000
    data = {name: os.urandom(size) for name in ("up", "down")}
    with secure() as (client, server):
        calls = [
            Running(send, client, data["up"]),
            Running(send, server, data["down"]),
            Running(read_from, client, size),
            Running(read_from, server, size),
        ]
        _, _, down, up = [call.result() for call in calls]
        assert down == data["down"]
        assert up == data["up"]


def test_pythons_own_tls_socket_as_the_peer():
    data = os.urandom(300_000)
    with secure_socket() as (client, peer):
        with running(lambda: peer.sendall(data)):
            assert read_from(client, len(data)) == data
        with running(lambda: send(client, data)):
            got = b""
            while len(got) < len(data):
                got += peer.recv(65_536)
        assert got == data


# -- ends ------------------------------------------------------------------


def test_close_notify_is_the_end():
    with secure_socket() as (client, peer):
        peer.sendall(b"bye")
        with running(peer.unwrap):
            assert read_from(client, 100) == b"bye"
            wait_for(client, 0)
            client.finish_writing()


@pytest.mark.abuse(61)
def test_what_cannot_be_decrypted_after_close_notify_is_dropped_unseen():
    with secure() as (client, server):
        client.finish_writing()
        server._sock.sendall(b"\x17\x03\x03\x00\x10" + bytes(16))  # a record that nobody encrypted
        client.wait(True, False, Deadline(SOON))
        assert client.read_into(bytearray(100)) is None
        server._sock.sendall(b"\x81\x05hello")
        client.wait(True, False, Deadline(SOON))
        assert client.peek(100) == bytes(7)
        buffer = bytearray(b"x" * 100)
        assert client.read_into(buffer) == 7
        assert buffer == bytes(7) + b"x" * 93
        assert client.read_into(buffer) is None
        assert client.peek(100) is None
        server._sock.shutdown(socket.SHUT_WR)
        wait_for(client, 0)


def test_what_comes_with_a_record_that_cannot_be_decrypted_after_close_notify_is_read():
    with secure() as (client, server):
        client.finish_writing()
        server._tls.write(b"good")
        server._sock.sendall(server._out.read() + b"\x17\x03\x03\x00\x10" + bytes(16))
        client.wait(True, False, Deadline(SOON))
        buffer = bytearray(100)
        assert client.read_into(buffer) == 4
        assert buffer[:4] == b"good"
        assert client.read_into(buffer) is None


# The peer waits for our close_notify, and leaves TCP open until it comes.
def test_close_notify_in_one_segment_with_the_last_data_is_the_end_too():
    with secure() as (client, server):
        server._tls.write(b"bye")
        with contextlib.suppress(ssl.SSLError):
            server._tls.unwrap()
        server._sock.sendall(server._out.read())
        client.wait(True, False, Deadline(SOON))
        buffer = bytearray(100)
        assert client.read_into(buffer) == 3
        assert client.read_into(buffer) == 0
        assert client.read_into(buffer) == 0


@pytest.mark.abuse(61)
@pytest.mark.parametrize("last", [b"", b"last"])
def test_an_end_without_close_notify_is_an_end(last):
    with secure() as (client, server):
        if last:
            send(server, last)
        server.close()
        assert read_from(client, 100) == last
        assert client.read_into(bytearray(1)) == 0
        assert client.read_into(bytearray(1)) == 0


def test_half_a_record_and_then_the_end():
    with secure() as (client, server):
        server._tls.write(b"hello")
        server._sock.sendall(server._out.read()[:-1])
        server.close()
        wait_for(client, 0)


def test_finish_writing_sends_close_notify():
    with secure_socket() as (client, peer):
        send(client, b"bye")
        client.finish_writing()
        assert peer.recv(10) == b"bye"
        assert peer.recv(10) == b""  # an SSLEOFError without close_notify


def test_finish_writing_leaves_reading_open_under_tls():
    with secure() as (client, server):
        client.finish_writing()
        wait_for(server, 0)
        send(server, b"still here")
        assert read_from(client, 10) == b"still here"


def test_nothing_can_be_written_behind_close_notify():
    with secure() as (client, server):
        client.finish_writing()
        for _ in range(2):
            with pytest.raises(ssl.SSLError, match="shutdown"):
                client.write(b"late")
            assert client.uncounted == 0
        assert client.flush()
        assert read_from(server, 4) == b""


def test_a_reset_under_tls_is_an_os_error():
    with secure() as (client, server):
        reset(server._sock)
        client.wait(True, False, Deadline(SOON))
        with pytest.raises(OSError, match=r"."):
            client.read_into(bytearray(1))


@pytest.mark.parametrize("before", [b"", b"good"])
def test_a_forged_record_is_an_error_after_what_came_before_it(before):
    with secure() as (client, server):
        if before:
            server._tls.write(before)
        good = server._out.read()
        server._tls.write(b"forged")
        forged = bytearray(server._out.read())
        forged[-1] ^= 1
        arrive(server, client, good + forged)
        assert read_from(client, len(before)) == before
        for _ in range(2):  # at once: nothing more may come that would wake a reader
            with pytest.raises(ssl.SSLError):
                client.read_into(bytearray(100))


def test_an_answer_of_tls_that_comes_up_during_a_write_is_sent_after_it():
    with secure() as (client, server):
        forged = bytearray(encrypted(server, b"forged"))
        forged[-1] ^= 1
        arrive(server, client, forged)

        def read_meanwhile(data, flags):
            with pytest.raises(ssl.SSLError):
                client.read_into(bytearray(10))
            return client._sock.send(data, flags)

        client._send, send = read_meanwhile, client._send
        assert client.write(b"x") == 1
        client._send = send
        assert client.pending
        assert client.flush()
        assert read_from(server, 1) == b"x"
        with pytest.raises(ssl.SSLError, match="ALERT"):
            wait_for(server, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="another program may go by the name")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_peer_that_renegotiates_is_left(tmp_path):
    certificate = authority().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    options = ["-tls1_2", "-naccept", "1", "-cert", "server.pem", "-key", "server.pem"]
    command = ["openssl", "s_server", "-4", "-accept", "localhost:0", *options]
    with Process(*command, cwd=tmp_path) as server:
        port = int(server.line_with("ACCEPT").rpartition(":")[2])
        sock = socket.create_connection(("127.0.0.1", port))
        client = TLSTransport(
            sock, tls_contexts()[0], server_side=False, server_hostname="localhost"
        )
        with contextlib.closing(client):
            while not client.handshake_step():
                client.wait(True, client.pending, Deadline(SOON))
            assert client.write(b"hello\n") == 6
            server.line_with("hello")
            server.tell("r")  # renegotiate
            client.wait(True, False, Deadline(SOON))
            assert client.read_into(bytearray(10)) is None
            with pytest.raises(ConnectionAbortedError, match="renegotiates"):
                client.write(b"x")


def test_flushing_to_a_peer_that_left_is_an_os_error_each_time():
    with secure() as (client, server):
        while client.write(bytes(65_536)):
            pass
        assert client.pending
        reset(server._sock)
        client.wait(True, False, Deadline(SOON))
        for _ in range(3):
            with pytest.raises(OSError, match=r"."):
                client.flush()


# -- handshakes ------------------------------------------------------------


def refused(for_client, for_server, hostname="localhost"):
    """Both ends' errors of a handshake that has to fail."""
    near, far = tcp_pair()
    client = TLSTransport(near, for_client, server_side=False, server_hostname=hostname)
    server = TLSTransport(far, for_server, server_side=True)
    errors = [None, None]
    try:
        for _ in range(1000):
            for index, each in enumerate((client, server)):
                if errors[index] is None:
                    try:
                        each.handshake_step()
                        each.read_into(bytearray(1))
                    except OSError as error:
                        errors[index] = error
            if all(errors):
                return errors
        pytest.fail(f"no error at both ends: {errors}")
    finally:
        client.close()
        server.close()


@pytest.mark.abuse(59)
@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("unknown authority", "unable to get local issuer|self.signed"),
        ("wrong name", "Hostname mismatch"),
        ("wrong address", "IP address mismatch"),
    ],
)
def test_a_certificate_that_is_not_good_enough(case, text):
    for_client, for_server = tls_contexts()
    hostname = {"wrong name": "example.com", "wrong address": "127.0.0.9"}.get(case, "localhost")
    if case == "unknown authority":
        for_client = ssl.create_default_context()
        trustme.CA().configure_trust(for_client)
    mine, theirs = refused(for_client, for_server, hostname)
    assert isinstance(mine, ssl.SSLCertVerificationError)
    with pytest.raises(ssl.SSLError, match=text):
        raise mine
    assert "ALERT" in str(theirs)  # the peer was told


def test_no_common_version():
    for_client, for_server = (ssl.create_default_context(), tls_contexts()[1])
    authority().configure_trust(for_client)
    only_old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost").configure_cert(only_old)
    only_old.maximum_version = ssl.TLSVersion.TLSv1_2
    for_client.minimum_version = ssl.TLSVersion.TLSv1_3
    mine, _ = refused(for_client, only_old)
    assert isinstance(mine, ssl.SSLError)
    assert for_server is not only_old


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0\r\n", b"\0" * 9])
def test_a_peer_that_does_not_speak_tls(answer):
    near, far = tcp_pair()
    client = TLSTransport(near, tls_contexts()[0], server_side=False, server_hostname="localhost")
    with far:
        assert client.handshake_step() is False
        far.sendall(answer)
        client.wait(True, False, Deadline(SOON))
        with pytest.raises(ssl.SSLError):
            client.handshake_step()
        client.close()


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_peer_that_leaves_during_the_handshake(how):
    near, far = tcp_pair()
    client = TLSTransport(near, tls_contexts()[0], server_side=False, server_hostname="localhost")
    assert client.handshake_step() is False
    far.close() if how == "fin" else reset(far)
    client.wait(True, False, Deadline(SOON))
    with pytest.raises(OSError, match=r"."):
        client.handshake_step()
    client.close()


def test_a_handshake_in_drips():
    near, middle_near = tcp_pair()
    middle_far, far = tcp_pair()
    for_client, for_server = tls_contexts()
    client = TLSTransport(near, for_client, server_side=False, server_hostname="localhost")
    server = TLSTransport(far, for_server, server_side=True)
    stop = threading.Event()

    def relay(source, target):
        source.settimeout(0.05)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                for byte in source.recv(65_536):
                    target.sendall(bytes([byte]))

    with running(lambda: relay(middle_near, middle_far), lambda: relay(middle_far, middle_near)):
        try:
            deadline = Deadline(SOON)
            done = [False, False]
            while not all(done):
                assert not deadline.passed()
                done = [
                    one or each.handshake_step()
                    for one, each in zip(done, (client, server), strict=True)
                ]
            send(client, b"hello")
            assert read_from(server, 5) == b"hello"
        finally:
            stop.set()
    for each in (client, server):
        each.close()
    middle_near.close()
    middle_far.close()


def test_shaking_twice_does_no_harm():
    with secure() as (client, server):
        shake(client, server)
        send(client, b"x")
        assert read_from(server, 1) == b"x"


def test_a_first_look_sees_what_has_come():
    with secure() as (client, server):
        server.session.unread = True  # as after the handshake
        send(client, b"\x89\x00")
        deadline = Deadline(SOON)
        server.wait(True, False, deadline)
        ahead = server.peek(100)
        while ahead is None and not deadline.passed():  # a ticket of the session came first
            server.wait(True, False, deadline)
            ahead = server.peek(100)
        assert ahead == b"\x89\x00"
        assert server.unread()
        assert read_from(server, 2) == b"\x89\x00"
        assert not server.unread()


def test_what_a_reader_was_interrupted_with_is_not_looked_at():
    """Nor taken for nothing: keepalive would poll for it again and again."""
    with secure() as (client, server):
        send(client, b"data")
        server.wait(True, False, Deadline(SOON))
        buffer = bytearray(16)
        while server.session.decrypted == 0:
            server.session.received = Transport.read_into(server, server.session.cipher)
            server._decrypt(buffer)
        assert server.peek(100) == b"\0"
        assert server.read_into(buffer) == 4
        assert buffer[:4] == b"data"
        assert server.peek(100) is None


def test_a_look_sees_an_end_that_was_received_with_the_last_data():
    with secure() as (client, server):
        ciphertext = encrypted(client, b"last")
        with contextlib.suppress(ssl.SSLError):
            client._tls.unwrap()
        arrive(client, server, ciphertext + client._out.read())
        buffer = bytearray(4)  # full with the data, so that OpenSSL is not asked for more
        assert server.read_into(buffer) == 4
        assert buffer == b"last"
        assert server.peek(100) == b""
        assert server.read_into(buffer) == 0


class Taken(socket.socket):
    """A socket in which a call of `act` precedes the next receive that is no look."""

    act = None

    def recv(self, size, flags=0):
        if self.act is not None and not flags & socket.MSG_PEEK:
            act, self.act = self.act, None
            act(self, size)
        return super().recv(size, flags)


def raise_timeout(*_):
    raise TimeoutError("a signal handler's")


def be_reset(sock, size):
    """Fail as a socket does of a system that drops what was received once the peer resets it."""
    socket.socket.recv(sock, size)
    raise ConnectionResetError(errno.ECONNRESET, "reset")


@contextlib.contextmanager
def looking():
    """A client, a server that has looked at b"seen" from it, and the server's socket."""
    near, far = tcp_pair()
    for_client, for_server = tls_contexts()
    taken = Taken(fileno=far.detach())
    client = TLSTransport(near, for_client, server_side=False, server_hostname="localhost")
    server = TLSTransport(taken, for_server, server_side=True)
    try:
        shake(client, server)
        arrive(client, server, encrypted(client, b"seen"))
        assert server.peek(100) == b"seen"
        yield client, server, taken
    finally:
        client.close()
        server.close()


def test_what_was_looked_at_is_read_though_a_reset_has_dropped_it_from_the_socket():
    with looking() as (client, server, sock):
        sock.act = be_reset
        assert read_from(server, 4) == b"seen"
        assert sock.act is None
        # Nothing else is taken out in place of what was dropped.
        ciphertext = encrypted(client, b"next", b"last")
        cut = len(ciphertext) * 3 // 4
        arrive(client, server, ciphertext[:cut])
        assert read_from(server, 4) == b"next"
        arrive(client, server, ciphertext[cut:])
        assert server.peek(100) == b"last"


def test_what_was_looked_at_stays_if_a_signal_handler_raises_as_it_is_taken():
    with looking() as (client, server, sock):
        sock.act = raise_timeout
        with pytest.raises(TimeoutError, match="a signal handler's"):
            server.read_into(bytearray(4))
        assert server.peek(100) == b"seen"
        assert read_from(server, 4) == b"seen"
        arrive(client, server, encrypted(client, b"next"))
        assert server.peek(100) == b"next"
        assert read_from(server, 4) == b"next"


@pytest.mark.parametrize("how", ["no close_notify", "a bad record"])
def test_an_error_of_one_connection_is_none_of_another_one(how):
    """OpenSSL keeps errors by thread, not by connection."""
    with secure() as (client, server), secure() as (other, far):
        if how == "a bad record":
            client._sock.send(b"\x17\x03\x03\x00\x10" + bytes(16))
            server.wait(True, False, Deadline(SOON))
            with pytest.raises(ssl.SSLError):
                read_from(server, 1)
        else:
            client.abort()
            assert read_from(server, 1) == b""
        send(far, b"first")
        assert read_from(other, 5) == b"first"
        assert other.read_into(bytearray(10)) is None
        send(far, b"second")
        assert read_from(other, 6) == b"second"
