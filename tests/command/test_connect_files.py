"""`scriptling-ws connect --send-file` and `--save`: files of any size, as they are."""

import hashlib
import os
import subprocess
import sys
import threading

import pytest

from frames import BINARY, CONTINUATION, raw_frame
from pairs import both_ends, raw_peer
from processes import python_environment
from scriptling_ws import ReceiveTimeout
from scriptling_ws._command.feeding import Feeder
from scriptling_ws._command.patience import Patience
from scriptling_ws._command.progress import Bar
from scriptling_ws._command.receiving import save
from scriptling_ws._command.screen import Screen
from scriptling_ws._command.session import Session

pytestmark = pytest.mark.processes

CODECS = pytest.mark.parametrize("pure", ["0", "1"], ids=["compiled", "pure"])
PIECE = 256 * 1024


def pieces(count):
    """Bytes of which no piece is like another."""
    for number in range(count):
        yield number.to_bytes(4, "big") * (PIECE // 4)


@CODECS
def test_a_file_is_one_binary_message(peer, command, tmp_path, pure):
    file = tmp_path / "file"
    file.write_bytes(b"".join(pieces(20)))
    program = command(
        "connect", "--send-file", file, "--once", peer.url, env={"SCRIPTLING_WS_PURE": pure}
    )
    conn = peer.accept()
    digest = hashlib.sha256(conn.receive(60)).hexdigest()
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
    conn.send(digest)
    assert program.finish() == ([digest], 0)
    assert program.errors() == ""  # it is no terminal, and has no bar


def test_a_file_as_text(peer, command, tmp_path):
    file = tmp_path / "file"
    file.write_bytes("Grüße\r\nan alle\n".encode())
    program = command("connect", "--send-file", file, "--text", "--wait", "0", peer.url)
    conn = peer.accept()
    assert conn.receive(60) == "Grüße\r\nan alle\n"
    assert program.finish() == ([], 0)
    file.write_bytes(b"\xff")
    program = command("connect", "--send-file", file, "--text", "--wait", "0", peer.url)
    peer.accept()
    assert program.finish() == ([], 2)
    assert "codec can't decode" in program.errors()


@pytest.mark.parametrize("text", [False, True])
def test_the_standard_input_is_a_file_too(peer, command, text):
    program = command(
        "connect", "--send-file", "-", *(["--text"] if text else []), "--wait", "0", peer.url
    )
    conn = peer.accept()
    program.tell("one")
    program.tell("two")
    program.end_input()
    assert conn.receive(60) == ("one\ntwo\n" if text else b"one\ntwo\n")
    assert program.finish() == ([], 0)


@CODECS
def test_messages_are_saved_as_they_are(peer, command, tmp_path, pure):
    file = tmp_path / "saved"
    program = command("connect", "--save", file, peer.url, env={"SCRIPTLING_WS_PURE": pure})
    conn = peer.accept()
    program.tell("go")
    assert conn.receive(30) == "go"
    conn.send_binary(b"\x00\x1b[31m\n")
    conn.send("text \x1b[31m")
    conn.send_stream([b"in ", b"parts"])
    conn.send("")
    conn.close()
    assert program.finish() == ([], 0)
    assert file.read_bytes() == b"\x00\x1b[31m\ntext \x1b[31m\nin parts\n"


def test_one_message_is_saved_to_the_byte(peer, command, tmp_path):
    file = tmp_path / "saved"
    program = command("connect", "--save", file, "--once", peer.url)
    conn = peer.accept()
    conn.send("text")
    assert program.finish() == ([], 0)
    assert conn.receive(30) is None
    assert file.read_bytes() == b"text"


def test_a_silence_ends_what_is_saved(peer, run, command, tmp_path):
    for once, status in (([], 0), (["--once"], 5)):
        program = command("connect", "--save", tmp_path / "saved", *once, "--wait", "0.1", peer.url)
        conn = peer.accept()
        program.end_input()
        assert program.finish() == ([], status)
        assert conn.receive(30) is None


NOT_BEGUN = Feeder([], Session.send)  # an input that has not


def session_of(conn):
    return Session(conn, Screen("hex", as_json=False, notes=False), as_json=False, binary=False)


def test_a_silence_ends_nothing_before_the_input_has_ended(tmp_path, capsys):
    """However little patience there is after that."""
    looks = []

    class Looked(Patience):
        def left(self):
            looks.append(1)
            if len(looks) == 3:  # one wait has been in vain
                peer.send_binary(b"late")
            return super().left()

    with both_ends(binary_type=bytes) as (conn, peer), (tmp_path / "saved").open("wb") as file:
        save(session_of(conn), Looked(NOT_BEGUN, 0), file, Bar("received"), once=True)
        assert not conn.connected()
    assert (tmp_path / "saved").read_bytes() == b"late"


class Slow:
    """A connection, and the one message of it; its second part comes after a wait in vain."""

    def __init__(self, conn, peer):
        self._conn, self._peer = conn, peer
        self.waits = 0

    def __getattr__(self, name):
        return getattr(self._conn, name)

    def receive_stream(self, *arguments, **options):
        self._peer.sendall(raw_frame(BINARY, b"one, "))
        self._stream = self._conn.receive_stream(*arguments, **options)
        return self

    def __enter__(self):
        self._stream.__enter__()
        self.text = self._stream.text
        return self

    def __exit__(self, *error):
        self._stream.__exit__(*error)

    def __iter__(self):
        try:
            yield from self._stream
        except ReceiveTimeout:
            self.waits += 1
            self._peer.sendall(raw_frame(0x80 | CONTINUATION, b"two"))
            raise


def test_the_rest_of_a_message_comes_after_a_timeout(tmp_path, capsys):
    with (
        raw_peer(binary_type=bytes, close_timeout=0) as (conn, peer),
        (tmp_path / "saved").open("wb") as file,
    ):
        slow = Slow(conn, peer)
        save(session_of(slow), Patience(NOT_BEGUN, 0), file, Bar("received"), once=True)
    assert (tmp_path / "saved").read_bytes() == b"one, two"
    assert slow.waits == 1


def test_half_a_message_is_waited_for(peer, command, tmp_path):
    """However long the rest of it takes, and although the input has ended."""
    file, go_on = tmp_path / "saved", threading.Event()
    program = command("connect", "--save", file, "--wait", "0", "--once", peer.url)
    conn = peer.accept()

    def parts():
        yield b"x" * 100_000
        program.end_input()
        assert go_on.wait(60)
        yield b"y"

    sending = threading.Thread(target=conn.send_stream, args=(parts(),))
    sending.start()
    while not (file.exists() and file.stat().st_size):
        assert conn.ping(30) is not None  # it answers, so that it is there and waits
        with pytest.raises(subprocess.TimeoutExpired):
            program._process.wait(0.05)
    go_on.set()
    sending.join(60)
    assert program.finish() == ([], 0)
    assert file.read_bytes() == b"x" * 100_000 + b"y"


@pytest.mark.skipif(
    sys.platform != "linux" or sys.implementation.name != "cpython",
    reason="how much memory it has is asked of a system and an interpreter that say it",
)
def test_files_are_larger_than_the_memory(peer, tmp_path):
    """Both ways at once, 150 MB in a program that has 60 more than its beginning."""
    count = 600
    program = (
        "import resource, sys\n"
        "from scriptling_ws.__main__ import main\n"
        "import scriptling_ws._command.connect\n"
        "began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "status = main(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began)\n"
        "sys.exit(status)\n"
    )
    file, saved = tmp_path / "file", tmp_path / "saved"
    with file.open("wb") as output:
        output.writelines(pieces(count))
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", program, "connect", "--send-file", file),
            *("--save", saved, "--once", peer.url),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=python_environment(),
    )
    conn = peer.accept()
    with conn.receive_stream(60) as stream:
        conn.send_stream(stream)  # each part goes back before the next one is read
    grown = int(process.communicate(timeout=100)[0])
    assert process.returncode == 0
    assert grown < 60 * 1024
    assert saved.stat().st_size == count * PIECE
    with saved.open("rb") as back:
        assert all(back.read(PIECE) == piece for piece in pieces(count))


def test_files_that_cannot_be_used(run, peer, tmp_path):
    missing = tmp_path / "missing" / "file"
    status, _, errors = run("connect", "--save", missing, "ws://127.0.0.1:1/")
    assert status == 1
    assert f"cannot use the file '{missing}': No such file or directory" in errors
    status, _, errors = run("connect", "--send-file", missing, "ws://127.0.0.1:1/")
    assert status == 1
    assert "No such file or directory" in errors


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_disk_that_is_full(peer, command):
    program = command("connect", "--save", "/dev/full", peer.url)
    conn = peer.accept()
    conn.send("too much")
    assert conn.receive(30) is None
    assert program.finish() == ([], 1)
    assert "'/dev/full': No space left on device" in program.errors()


def test_an_upload_that_the_server_does_not_want(peer, command, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 30_000_000)  # more than fits between both ends
    program = command("connect", "--send-file", file, peer.url)
    conn = peer.accept()
    conn.close(1008, "not this")
    assert program.finish() == ([], 6)
    assert "code 1008, not this" in program.errors()


def test_a_file_is_sent_again_where_the_connection_ended(peer, command, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 30_000_000)
    options = ("--reconnect", "-o", "first_delay=0.01", "--wait", "0")
    program = command("connect", "--send-file", file, *options, peer.url)
    peer.accept().close(1012)
    conn = peer.accept()
    with conn.receive_stream(60) as stream:
        assert sum(map(len, stream)) == 30_000_000
    assert program.finish() == ([], 0)
