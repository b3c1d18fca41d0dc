"""A response on its way: what can be written at once, files of every kind, a peer's least rate."""

import contextlib
import io
import os
import socket
import tempfile
from array import array

import pytest

from pairs import Running, tcp_pair, tls_pair
from scriptling_ws._network.deadline import Deadline
from scriptling_ws._network.transport import Transport
from scriptling_ws._server import delivery as _delivery
from scriptling_ws._server.delivery import LEAST, PIECE, BrokenOff, Delivery
from scriptling_ws._server.response import Response
from servers import Answer, read_all

pytestmark = pytest.mark.once

BODY = bytes(range(256)) * 20_000


@pytest.fixture
def pair():
    near, far = tcp_pair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    far.settimeout(10)
    transport = Transport(near)
    yield transport, far
    transport.close()
    far.close()


def delivery(transport, *args, head_only=False, **fields):
    return Delivery(transport, Response(*args, **fields), head_only=head_only)


def written(response, transport, far):
    """What comes of a delivery that waits for its peer, and then is closed."""
    reader = Running(read_all, far)
    response.write()
    response.close()
    transport.finish_writing()
    return Answer(reader.result())


def test_a_large_response_reaches_a_slow_reader(pair):
    assert written(delivery(pair[0], 200, BODY), *pair).body == BODY


def test_a_large_response_reaches_a_slow_reader_over_tls():
    near, far = tls_pair()
    with contextlib.closing(near), contextlib.closing(far):
        writing = Running(delivery(near, 200, BODY).write)
        received, buffer = b"", bytearray(65536)
        while len(received) < len(BODY) or not received.endswith(BODY[-1000:]):
            if (count := far.read_into(buffer)) is None:
                far.wait(True, False, Deadline(10))
            received += buffer[: count or 0]
        writing.result()
        assert Answer(received).body == BODY


def test_no_more_is_written_at_a_time_than_asked(pair):
    transport, far = pair
    answer = delivery(transport, 200, BODY)
    while not answer.advance(PIECE):
        assert answer._taken <= 2 * PIECE + 1000
        if answer._taken >= PIECE:
            break
        far.recv(4096)
    assert not answer.advance(0)


class Watched(io.BytesIO):
    """A file with a `read` of its own."""

    largest = 0

    def read(self, size=-1):
        data = super().read(size)
        self.largest = max(self.largest, len(data))
        return data


def test_a_file_is_sent_in_pieces_and_closed(pair):
    file = Watched(BODY + b"what was added since")
    answer = delivery(pair[0], 200, file=file, length=len(BODY))
    assert written(answer, *pair).body == BODY
    assert file.largest <= PIECE
    assert file.closed


def test_what_a_file_gives_beyond_what_was_asked_for_is_left_out(pair):
    class Generous(Watched):
        def read(self, size=-1):
            # Its length is not that of its bytes.
            return array("I", super().read()) if size else b""

    answer = delivery(pair[0], 200, file=Generous(BODY), length=1000)
    assert written(answer, *pair).body == BODY[:1000]


def test_a_file_that_became_shorter_breaks_off(pair):
    transport, _ = pair
    file = io.BytesIO(b"short")
    answer = delivery(transport, 200, file=file, length=10)
    with pytest.raises(BrokenOff, match="shorter"):
        answer.write()
    answer.close()
    assert file.closed


def test_a_file_that_is_empty_fails_before_the_head_leaves(pair):
    file = io.BytesIO()
    with pytest.raises(BrokenOff, match="shorter"):
        delivery(pair[0], 200, file=file, length=10)
    assert file.closed


@pytest.mark.parametrize("wrong", ["a str", None, 5])
def test_a_file_that_gives_no_bytes_fails_before_the_head_leaves(pair, wrong):
    class Wrong(io.BytesIO):
        def read(self, size=-1):
            return wrong if size else b""

    file = Wrong(BODY)
    with pytest.raises(TypeError):
        delivery(pair[0], 200, file=file, length=10)
    assert file.closed


def test_a_file_that_fails_later_breaks_off(pair):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise ZeroDivisionError
            return super().read(size)

    answer = delivery(pair[0], 200, file=Failing(BODY), length=len(BODY))
    reader = Running(pair[1].recv, 1)
    with pytest.raises(BrokenOff, match="cannot be read") as caught:
        while True:
            answer.advance(PIECE)
            pair[1].recv(65536)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    reader.result()


def test_a_file_that_cannot_be_closed_is_logged(pair, log):
    class Stubborn(io.BytesIO):
        def close(self):
            super().close()
            raise ZeroDivisionError

    answer = delivery(pair[0], 200, file=Stubborn(b"x"), length=1)
    answer.close()
    answer.close()
    assert log.wait_for("could not be closed").exc_info
    assert len(log.texts(30)) == 1


def test_head_closes_the_file_too(pair):
    transport, far = pair
    file = io.BytesIO(b"data")
    answer = delivery(transport, 200, file=file, length=4, head_only=True)
    answer = written(answer, transport, far)
    assert answer.headers["content-length"] == "4"
    assert answer.body == b""
    assert file.closed


@pytest.mark.parametrize("options", [{"length": 4, "head_only": True}, {"length": 0}])
def test_a_file_of_which_nothing_is_sent_is_closed_by_the_thread_of_its_request(pair, options):
    """What has its `close` is the program's, and not for the acceptor's thread."""
    file = io.BytesIO(b"data")
    delivery(pair[0], 200, file=file, **options)
    assert file.closed


# -- which files another thread may read -----------------------------------------


def opened(tmp_path, *args, **options):
    path = tmp_path / "file"
    path.write_bytes(b"skipped" + BODY)
    file = open(path, *args, **options)  # noqa: SIM115 - the delivery closes it
    file.seek(7)
    return file


@pytest.mark.parametrize(
    "make",
    [
        lambda path: opened(path, "rb", buffering=0),
        lambda path: opened(path, "rb"),
        lambda path: opened(path, "r+b"),
        lambda path: io.BytesIO(BODY),
    ],
    ids=["raw", "buffered", "both ways", "in memory"],
)
def test_a_regular_file_is_portable(pair, tmp_path, make):
    file = make(tmp_path)
    file.read(0)
    answer = delivery(pair[0], 200, file=file, length=len(BODY))
    assert answer.portable
    assert (answer.held > 0) is isinstance(file, io.BytesIO)
    assert written(answer, *pair).body == BODY
    assert file.closed


def test_a_file_that_the_program_closes_meanwhile_breaks_off(pair, tmp_path):
    file = opened(tmp_path, "rb")
    answer = delivery(pair[0], 200, file=file, length=len(BODY))
    number = file.fileno()
    file.close()
    with (tmp_path / "other").open("w+b") as other:
        assert other.fileno() == number  # of another file now
        other.write(bytes(len(BODY)))
        other.flush()
        with pytest.raises(BrokenOff, match="closed file"):
            while True:
                answer.advance(PIECE)
                pair[1].recv(65536)


def test_a_file_that_is_closed_already_fails_before_the_head_leaves(pair, tmp_path):
    file = opened(tmp_path, "rb")
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        delivery(pair[0], 200, file=file, length=len(BODY))


def test_what_was_written_into_a_file_is_sent(pair):
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the delivery closes it
    file.write(b"x" * 10)
    file.seek(0)
    file.write(b"y")
    file.seek(0)
    assert written(delivery(pair[0], 200, file=file, length=10), *pair).body == b"y" + b"x" * 9


def test_other_files_are_not_portable(pair, tmp_path):
    class Own(io.FileIO):
        pass

    path = tmp_path / "file"
    path.write_bytes(b"12345")
    own = Own(path)
    read, write = os.pipe()
    os.write(write, b"piped")
    os.close(write)
    for file, length in ((own, 5), (Watched(b"12345"), 5), (open(read, "rb"), 5)):  # noqa: SIM115
        answer = delivery(pair[0], 200, file=file, length=length)
        assert not answer.portable
        assert answer.held == 0
        answer.close()
        assert file.closed


def test_what_a_response_holds_in_memory_is_told(pair):
    assert delivery(pair[0], 200, BODY).held == len(BODY)
    assert delivery(pair[0], 200, bytes(PIECE)).held == 0
    assert delivery(pair[0], 200, BODY, head_only=True).held == 0


# -- the least rate ---------------------------------------------------------------


def test_a_peer_that_takes_enough_gets_another_period(pair, monkeypatch):
    transport, far = pair
    answer = delivery(transport, 200, BODY)
    monkeypatch.setattr(_delivery, "PERIOD", 0.0)
    answer.begin()
    taken = 0
    while taken < 2 * LEAST:
        answer.advance(PIECE)
        taken += len(far.recv(PIECE))
    assert answer.renew()
    assert not answer.renew()  # nothing since


def test_where_the_kernel_does_not_tell_what_was_taken_counts():
    near, far = socket.socketpair()
    with far, contextlib.closing(Transport(near)) as transport:
        assert transport.pulse() is None  # as of each Unix socket
        answer = delivery(transport, 200, BODY)
        answer.begin()
        assert not answer.renew()
        taken = 0
        while taken < LEAST:
            answer.advance(PIECE)
            taken += len(far.recv(PIECE))
        assert answer.renew()
        assert not answer.renew()  # nothing since


def test_what_the_peers_kernel_has_acknowledged_counts(pair, monkeypatch):
    transport, _ = pair
    if transport.pulse() is None:
        pytest.skip("this system does not tell")
    answer = delivery(transport, 200, BODY)
    answer.begin()
    before = transport.pulse()
    enough = before._replace(acknowledged=before.acknowledged + LEAST)
    monkeypatch.setattr(Transport, "pulse", lambda self: enough)
    assert answer.renew()  # though this end's kernel has taken nothing
    assert not answer.renew()


def test_a_peer_that_does_not_read_is_given_up(pair, monkeypatch):
    monkeypatch.setattr(_delivery, "PERIOD", 0.05)
    answer = delivery(pair[0], 200, BODY * 4)
    with pytest.raises(TimeoutError, match="less than 65536 bytes in 60 s"):
        answer.write()
