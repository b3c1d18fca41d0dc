"""`scriptling-ws connect` in a pipe: one message a line, both ways."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading

import pytest

import scriptling_ws as ws
from driven import Driven
from processes import python_environment
from scriptling_ws.__main__ import main
from servers import Certificates

pytestmark = pytest.mark.processes

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")


def test_one_message_a_line_both_ways(peer, command):
    program = command("connect", peer.url)
    conn = peer.accept()
    program.tell("one")
    program.tell("")
    program.tell("zwei ✓ Grüße")
    assert [conn.receive(30) for _ in range(3)] == ["one", "", "zwei ✓ Grüße"]
    conn.send("answer")
    family = "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
    conn.send(f"two\nlines\r, \x1b[31mred\x1b[0m, \x9b2J, \u202ereversed, tab\there, {family}")
    conn.send_binary(bytes([0, 27, 255]))
    assert program.line() == "answer"
    escaped = r"two\nlines\r, \x1b[31mred\x1b[0m, \x9b2J, \u202ereversed"
    assert program.line() == f"{escaped}, tab\there, {family}"
    assert program.line() == "00 1b ff"
    conn.close()
    assert program.finish() == ([], 0)
    assert program.errors() == ""


def test_a_url_alone_is_short_for_it(peer, command):
    program = command("-H", "X-Name: value", "-H", "x-name: other", peer.url + "/path?query")
    conn = peer.accept()
    assert (conn.request.path, conn.request.query) == ("/path", {"query": ""})
    assert conn.request.headers["x-name"] == "value, other"
    conn.close()
    assert program.finish()[1] == 0


def test_the_last_line_needs_no_end_and_the_answers_are_waited_for(peer, command):
    program = command("connect", "--wait", "none", peer.url)
    conn = peer.accept()
    program._process.stdin.write("first\nlast")
    program._process.stdin.flush()
    assert conn.receive(30) == "first"
    program.end_input()
    assert conn.receive(30) == "last"
    conn.send("late")
    assert program.line() == "late"
    conn.close()
    assert program.finish()[1] == 0


@pytest.mark.parametrize("seconds", ["0", "0.2"])
def test_a_silence_ends_it_once_the_input_has_ended(peer, run, seconds):
    closed = []

    def serve():
        conn = peer.accept()
        assert conn.receive(30) == "hello"
        assert conn.receive(30) is None
        closed.append(conn.close_code)

    serving = threading.Thread(target=serve)
    serving.start()
    assert run("connect", "--wait", seconds, peer.url, given="hello\n") == (0, "", "")
    serving.join(30)
    assert closed == [1000]


def test_once(peer, command):
    program = command("connect", "--once", peer.url)
    conn = peer.accept()
    conn.send("this")
    conn.send("and not this")
    assert program.finish() == (["this"], 0)
    assert conn.receive(30) is None
    assert conn.close_code == 1000


def test_lines_as_binary_messages(peer, command):
    for form, line, data in (
        ("hex", "01 02 fF", b"\x01\x02\xff"),
        ("base64", "AQL/", b"\x01\x02\xff"),
        ("list", "[1, 2, 255]", b"\x01\x02\xff"),
    ):
        program = command("connect", "--send-binary", "--binary", form, "--once", peer.url)
        conn = peer.accept()
        program.tell(line)
        assert conn.receive(30) == data
        conn.send_binary(data)
        assert program.finish() == ([line.lower() if form == "hex" else line], 0)


def test_raw_bytes_have_nothing_between_them(peer):
    process = subprocess.Popen(
        [sys.executable, "-m", "scriptling_ws", "connect", "--binary", "raw", peer.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=python_environment(),
    )
    conn = peer.accept()
    conn.send_binary(b"\x00\x1b[31m\n")
    conn.send("text")
    conn.send_binary(b"\xff")
    conn.close()
    assert process.communicate(timeout=60)[0] == b"\x00\x1b[31m\ntext\n\xff"
    assert process.returncode == 0


def test_json(peer, command):
    program = command("connect", "--json", peer.url)
    conn = peer.accept()
    program.tell('{"number": 1.50}')
    assert conn.receive(30) == '{"number": 1.50}'  # as it was written
    conn.send('{\n  "a": [1.50, 1e400],\n  "b": "\x7f\u202e"\n}')
    conn.send("no JSON\n")
    conn.send_binary(b"\x01")
    assert program.line() == r'{   "a": [1.50, 1e400],   "b": "\u007f\u202e" }'
    assert program.line() == r'"no JSON\n"'
    assert program.line() == '"01"'
    program.tell("[1, 2")
    lines, status = program.finish()
    assert (lines, status) == ([], 2)
    assert "line 2 of the input was not sent" in program.errors()


def test_a_line_that_is_no_utf_8(peer, run):
    status, _, errors = run("connect", peer.url, given=b"fine\n\xff\n")
    assert status == 2
    assert "line 2 of the input is no UTF-8 text" in errors


# -- how it ends ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"), [(1000, 0), (1001, 6), (1011, 6), (4000, 6), (None, 7)]
)
def test_how_the_server_has_closed_is_the_status(peer, command, code, status):
    program = command("connect", peer.url)
    conn = peer.accept()
    if code is None:
        conn._abort()
    else:
        conn.close(code, "because \x1b[31m")
    assert program.finish() == ([], status)
    assert ("\\x1b[31m" in program.errors()) == (status == 6)
    assert "\x1b" not in program.errors()


def test_a_peer_that_breaks_the_rules(peer, command):
    program = command("connect", "-o", "max_message_size=4", peer.url)
    conn = peer.accept()
    conn.send("too long")
    assert program.finish() == ([], 6)
    assert "max_message_size" in program.errors()


def test_once_and_no_message(peer, command):
    program = command("connect", "--once", peer.url)
    peer.accept().close()
    assert program.finish() == ([], 6)
    program = command("connect", "--once", "--wait", "0.1", peer.url)
    conn = peer.accept()
    program.end_input()
    assert program.finish() == ([], 5)
    assert conn.receive(30) is None
    assert "no message has come in time" in program.errors()


def test_no_connection(run, peer):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert run("connect", "--timeout", "0.2", f"ws://127.0.0.1:{port}/")[0] == 5
    status, _, errors = run("connect", f"ws://127.0.0.1:{port}/")
    assert status == 3
    assert errors.startswith("scriptling-ws: cannot connect to 127.0.0.1:")
    with Driven(path="/there") as other:
        status, _, errors = run("connect", other.url + "/elsewhere")
    assert status == 4
    assert "HTTP status 404" in errors
    assert "its answer: 404" in errors


def test_a_proxy(run, peer):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"

        def refuse():
            for _ in range(2):
                conn, _ = proxy.accept()
                with conn:
                    assert conn.recv(8).startswith(b"CONNECT ")
                    conn.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
                    while conn.recv(1000):
                        pass

        refusing = threading.Thread(target=refuse)
        refusing.start()
        for option, env in ((url, {}), ("env", {"http_proxy": url, "no_proxy": ""})):
            target = f"ws://far.example:{peer.port}/"
            status, _, errors = run("connect", "--proxy", option, target, env=env)
            assert status == 4
            assert "407" in errors
        refusing.join(30)
    assert run("connect", "--proxy", url, peer.url)[0] == 3


def test_tls(run, command, tmp_path):
    certificates = Certificates()
    authority, own = tmp_path / "authority.pem", tmp_path / "own.pem"
    certificates.authority.cert_pem.write_to_path(authority)
    certificates.authority.issue_cert(
        "client.example"
    ).private_key_and_cert_chain_pem.write_to_path(own)
    certificates.server.verify_mode = ssl.CERT_OPTIONAL
    certificates.authority.configure_trust(certificates.server)
    with Driven(ssl_context=certificates.server) as server:
        assert run("connect", server.url)[0] == 3
        for trust in (("--cacert", authority), ("--insecure",)):
            program = command("connect", *trust, "--cert", own, server.url)
            conn = server.accept()
            conn.send("hello")
            assert program.line() == "hello"
            conn.close()
            assert program.finish()[1] == 0


@posix_only
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_close_it(peer, command, number, status):
    program = command("connect", peer.url)
    conn = peer.accept()
    conn.send("ready")
    assert program.line() == "ready"
    program.send_signal(number)
    assert conn.receive(30) is None
    assert conn.close_code == 1001
    assert program.finish() == ([], status)
    assert program.errors() == ""


def test_an_output_that_nobody_reads(peer):
    process = subprocess.Popen(
        [sys.executable, "-m", "scriptling_ws", "connect", peer.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=python_environment(),
    )
    conn = peer.accept()
    process.stdout.close()
    conn.send("to nobody")
    assert conn.receive(30) is None
    assert conn.close_code == 1001
    assert process.wait(60) == 141
    assert process.stderr.read() == b""
    process.stdin.close()
    process.stderr.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_an_output_that_is_full(peer):
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "scriptling_ws", "connect", peer.url],
            stdin=subprocess.PIPE,
            stdout=full,
            stderr=subprocess.PIPE,
            env=python_environment(),
        )
        conn = peer.accept()
        conn.send("too much")
        assert conn.receive(30) is None
        errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1
    assert "No space left on device" in errors


def test_a_slow_peer_is_waited_for_and_read_meanwhile(peer, command):
    """It sends more than fits between both ends before it reads: neither waits for ever."""
    count, line = 500, "x" * 10_000
    program = command("connect", peer.url)
    conn = peer.accept()

    def fill():
        for _ in range(count):
            program.tell(line)
        program.end_input()

    filling = threading.Thread(target=fill)
    filling.start()
    for _ in range(count):
        conn.send(line)
    assert sum(len(conn.receive(60)) for _ in range(count)) == count * len(line)
    filling.join(60)
    lines, status = program.finish()
    assert (len(lines), set(lines), status) == (count, {line}, 0)


# -- again -----------------------------------------------------------------------


def test_reconnect_sends_what_was_not_sent(peer, command):
    """Of what is typed while there is no connection, nothing is lost."""
    options = ("-o", "first_delay=0.01", "-o", "max_tries=3")
    program = command("connect", "--reconnect", *options, peer.url)
    first = peer.accept()
    program.tell("one")
    assert first.receive(30) == "one"
    first.close(1012, "back soon")
    second = peer.accept()
    program.tell("two")
    assert second.receive(30) == "two"
    second.send("again")
    assert program.line() == "again"
    peer._server.close()
    assert program.finish()[1] in (3, 6)
    errors = program.errors()
    assert "code 1012, back soon" in errors
    assert "next try in" in errors
    assert errors.count("given up after 3 failures") == 1
    assert errors.splitlines()[-1].endswith("given up after 3 failures")


def test_reconnect_ends_as_it_is_told_to(peer, command):
    program = command("connect", "--reconnect", "--wait", "0.1", peer.url)
    conn = peer.accept()
    program.end_input()
    assert program.finish() == ([], 0)
    assert conn.receive(30) is None


# -- what the user can put right ------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["connect"], "URL"),
        (["connect", "http://a/"], "the URL's scheme is 'http'"),
        (["connect", "-H", "secret", "ws://a/"], "-H takes 'NAME: VALUE'"),
        (["connect", "-H", "@missing", "ws://a/"], "cannot read the file"),
        (["connect", "-o", "max_mesage_size=1", "ws://a/"], "did you mean 'max_message_size'"),
        (["connect", "-o", "max_tries=1", "ws://a/"], "it is an option of reconnecting()"),
        (["connect", "-o", "timeout=1", "ws://a/"], "timeout is set by --timeout"),
        (["connect", "-o", "sock=1", "ws://a/"], "sock is set by a program"),
        (["connect", "-o", "max_message_size", "ws://a/"], "such as max_message_size=none"),
        (["connect", "--key", "x", "ws://a/"], "--key needs --cert"),
        (["connect", "--cacert", "missing", "wss://a/"], "cannot use --cacert 'missing'"),
        (["connect", "--cert", "missing", "wss://a/"], "cannot use --cert 'missing'"),
        (["connect", "--insecure", "--cacert", "x", "wss://a/"], "--insecure trusts any"),
        (["connect", "--insecure", "ws://a/"], "--insecure is for TLS, and the URL is ws://"),
        (["--cacert", "x", "ws+unix:///a"], "--cacert is for TLS"),
        (["connect", "--cert", "x", "WS://a/"], "--cert is for TLS"),
        (["--insecure", "-o", "max_redirects=1", "-o", "max_fragments=0", "ws://a"], "at least 1"),
        (["http://a/"], "the URL's scheme is 'http'"),
        (["HTTPS://a/", "--json"], "the URL's scheme is 'https'"),
        (["wss+unix://a/b"], "the URL of a Unix socket"),
        (["connect", "--text", "ws://a/"], "--text says what --send-file sends"),
        (["connect", "--send-binary", "--json", "ws://a/"], "--send-binary is for lines"),
        (["connect", "--send-binary", "--binary", "raw", "ws://a/"], "raw bytes have no lines"),
        (["connect", "--json", "--binary", "raw", "ws://a/"], "--json writes a line"),
        (["connect", "--reconnect", "--send-file", "-", "ws://a/"], "cannot be sent again"),
        (["connect", "--wait", "-1", "ws://a/"], "invalid number of seconds value"),
        (["connect", "--wait", "soon", "ws://a/"], "invalid number of seconds value"),
        (["connect", "--binary", "octal", "ws://a/"], "invalid choice"),
    ],
)
def test_usage(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    with open(os.devnull) as nothing, pytest.raises(SystemExit) as ended:
        monkeypatch.setattr(sys, "stdin", nothing)
        sys.exit(main(arguments))
    output, errors = capsys.readouterr()
    assert (ended.value.code, output) == (2, "")
    assert text in errors.splitlines()[-1]
    assert "secret" not in errors
    assert "Traceback" not in errors


def test_headers_of_a_file_are_not_among_the_arguments(peer, command, tmp_path):
    (tmp_path / "headers").write_text("Authorization: Bearer s3cret\n\nX-Other: 1\n")
    program = command("connect", "-v", "-H", f"@{tmp_path / 'headers'}", peer.url)
    conn = peer.accept()
    assert conn.request.headers["authorization"] == "Bearer s3cret"
    assert conn.request.headers["x-other"] == "1"
    conn.close()
    assert program.finish()[1] == 0
    assert "HTTP status 101" in program.errors()
    assert "s3cret" not in program.errors()


def test_the_statuses_are_those_that_help_names(run):
    status, output, _ = run("connect", "--help")
    words = " ".join(output.split())
    assert status == 0
    for number in (0, 1, 2, 3, 4, 5, 6, 7, 130, 141, 143):
        assert f" {number} " in words
    assert ws.__version__ in run("--version")[1]
