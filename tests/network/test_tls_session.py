"""What both kernels make of a TLS session: the same, step by step."""

import importlib
import random
import ssl
import threading

import pytest

import kernels
from pairs import tls_contexts

LEAST, MOST = 64, 65_536
NAMES = {"compiled": "scriptling_ws._wsframe", "pure": "scriptling_ws._wstls_py"}


def new_session(name):
    """A session of one kernel, after its handshake, and the SSLObject of its peer."""
    if name == "compiled":
        kernels.load(name)  # skips where there is none
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    contexts = tls_contexts()
    near = contexts[0].wrap_bio(incoming, outgoing, server_hostname="localhost")
    far = contexts[1].wrap_bio(outgoing, incoming, server_side=True)
    while True:
        try:
            near.do_handshake()
            far.do_handshake()
            break
        except ssl.SSLWantReadError:
            try:
                far.do_handshake()
            except ssl.SSLWantReadError:
                continue
    with pytest.raises(ssl.SSLWantReadError):
        near.read()  # the tickets
    session = importlib.import_module(NAMES[name]).Session(
        near._sslobj,
        incoming,
        outgoing,
        threading.RLock(),
        least=LEAST,
        most=MOST,
        want_read=ssl.SSLWantReadError,
        error=ssl.SSLError,
    )
    return session, far


def sealed(session, far, *pieces):
    """The records of pieces of data, taken out of the way to the session."""
    for piece in pieces:
        far.write(piece)
    return session.incoming.read()


def receive(session, data):
    """Put ciphertext where it is received into, and hand it over."""
    session.cipher[: len(data)] = data
    session.received = len(data)
    session.unread = True
    session.take_in(len(data))


@pytest.fixture(params=list(NAMES))
def ends(request):
    """A session, and its peer."""
    return new_session(request.param)


def test_it_starts_with_nothing(ends):
    session, _ = ends
    assert (session.received, session.decrypted, session.barren) == (None, 0, 0)
    assert (session.fault, session.read_error, session.ahead) == (None, None, None)
    assert session.unread is True
    for name in ("in_doubt", "more", "draining", "answering"):
        assert getattr(session, name) is False
    assert session.unsent == b""
    assert len(session.cipher) == LEAST


def test_a_record_is_decrypted_behind_what_is_there(ends):
    session, far = ends
    buffer = bytearray(10)
    receive(session, sealed(session, far, b"one"))
    assert session.barren > 3
    assert session.received is None
    assert session.read_records(buffer) is False
    receive(session, sealed(session, far, b"two"))
    assert session.read_records(memoryview(buffer)) is False
    assert (session.decrypted, bytes(buffer[:6])) == (6, b"onetwo")
    assert (session.barren, session.in_doubt, session.unread) == (0, False, False)


def test_half_a_record_leaves_the_doubt_to_who_catches_the_error(ends):
    session, far = ends
    data = sealed(session, far, b"whole")
    receive(session, data[:-1])
    with pytest.raises(ssl.SSLWantReadError):
        session.read_records(bytearray(10))
    assert session.in_doubt
    receive(session, data[-1:])
    buffer = bytearray(10)
    assert session.read_records(buffer) is False
    assert buffer[: session.decrypted] == b"whole"
    assert not session.in_doubt


def test_a_buffer_that_is_full_leaves_the_rest_to_be_read(ends):
    session, far = ends
    receive(session, sealed(session, far, b"0123456789"))
    assert session.read_records(buffer := bytearray(4)) is False
    assert (bytes(buffer), session.unread) == (b"0123", True)
    session.decrypted = 0
    assert session.read_records(buffer := bytearray(6)) is False
    assert (bytes(buffer), session.unread) == (b"456789", False)


def test_what_came_before_an_error_is_counted(ends):
    session, far = ends
    session.cipher = bytearray(200)
    good, forged = sealed(session, far, b"good"), bytearray(sealed(session, far, b"forged"))
    forged[-1] ^= 1
    receive(session, good + forged)
    with pytest.raises(ssl.SSLError, match=r"(?i)bad record|decryption failed"):
        session.read_records(bytearray(10))
    assert (session.decrypted, session.in_doubt) == (4, True)


@pytest.mark.parametrize("data", [[], [b"last"]])
def test_close_notify_ends_the_stream_after_the_data(ends, data):
    session, far = ends
    session.cipher = bytearray(200)
    for piece in data:
        far.write(piece)
    with pytest.raises(ssl.SSLError):
        far.unwrap()
    receive(session, session.incoming.read())
    assert session.read_records(bytearray(10)) is not data
    assert session.decrypted == sum(map(len, data))
    session.decrypted = 0
    assert session.read_records(bytearray(10)) is True


def test_an_end_without_it_is_an_error_of_openssl(ends):
    session, _ = ends
    session.take_in(0)
    assert session.incoming.eof
    with pytest.raises(ssl.SSLEOFError):
        session.read_records(bytearray(10))


def test_what_fills_the_buffer_of_ciphertext_makes_it_larger_until_it_relaxes(ends):
    session, far = ends
    data = sealed(session, far, bytes(1000))
    receive(session, data[:LEAST])
    assert (session.more, len(session.cipher)) == (True, MOST)
    session.received = 5
    session.relax()
    assert len(session.cipher) == MOST  # something is in it
    receive(session, data[LEAST:])
    assert session.more is False
    session.relax()
    assert len(session.cipher) == LEAST
    session.relax()
    assert len(session.cipher) == LEAST
    assert session.read_records(buffer := bytearray(1001)) is False
    assert (buffer, session.decrypted) == (bytes(1001), 1000)


def test_a_reader_that_is_interrupted_is_in_doubt(ends):
    session, far = ends
    inner = session.ssl

    class Struck:
        write = inner.write

        def read(self, *arguments):
            inner.read(*arguments)
            raise KeyboardInterrupt

    session.ssl = Struck()
    assert session.ssl.write == inner.write
    receive(session, sealed(session, far, b"lost"))
    with pytest.raises(KeyboardInterrupt):
        session.read_records(bytearray(10))
    assert (session.decrypted, session.in_doubt) == (0, True)


def state(session, buffer):
    """All that the reader sees."""
    return (
        bytes(buffer[: session.decrypted]),
        session.decrypted,
        session.barren,
        session.received,
        session.in_doubt,
        session.more,
        session.unread,
        len(session.cipher),
    )


@pytest.mark.parametrize("seed", range(20))
def test_both_do_the_same(seed):
    """Whatever comes, in whatever pieces, and whatever room there is."""
    chance = random.Random(seed)
    pieces = [chance.randbytes(chance.choice([1, 20, 300, 16_000])) for _ in range(30)]
    cuts = [chance.choice([1, 5, LEAST, 100, MOST]) for _ in range(2000)]
    rooms = [chance.choice([1, 10, 1000, 10_000]) for _ in range(2000)]
    histories = []
    for name in NAMES:
        session, far = new_session(name)
        data, history, got = sealed(session, far, *pieces), [], b""
        for cut, room in zip(cuts, rooms, strict=True):
            if not session.unread:
                cut = min(cut, len(session.cipher))
                if not data:
                    break
                receive(session, data[:cut])
                data = data[cut:]
            buffer = bytearray(room)
            try:
                history.append(session.read_records(buffer))
            except ssl.SSLWantReadError:
                history.append("more")
                session.in_doubt = session.unread = False
            history.append(state(session, buffer))
            got += buffer[: session.decrypted]
            session.decrypted = 0
            if cut == 5:
                session.relax()
        histories.append(history)
        assert got == b"".join(pieces)
    assert histories[0] == histories[-1]
