"""Where the command listens: --server with all that it takes, and --fd."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from pairs import SOON
from processes import python_environment
from scriptling_ws import __main__ as cli
from scriptling_ws import connect, runtime
from scriptling_ws._command.where import parse_where
from services import Service, write

pytestmark = pytest.mark.processes

unix_only = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("server", "where"),
    [
        (":8080", {"host": "127.0.0.1", "port": 8080}),
        ("localhost:0", {"host": "localhost", "port": 0}),
        ("[::1]:80", {"host": "::1", "port": 80}),
        ("0.0.0.0,[::]:80", {"host": ["0.0.0.0", "::"], "port": 80}),
        ("a.example, b.example:80", {"host": ["a.example", "b.example"], "port": 80}),
        ("unix:/run/app.sock", {"unix": "/run/app.sock", "unix_owner": None}),
        ("unix:app:8080", {"unix": "app:8080", "unix_owner": None}),
        ("unix:8080", {"host": "unix", "port": 8080}),
        (None, {}),
    ],
)
def test_where_to_listen(server, where):
    assert parse_where(server, [], None, None) == where


@pytest.mark.parametrize(
    ("text", "mode"), [("660", 0o660), ("0660", 0o660), ("0o660", 0o660), ("000", 0)]
)
def test_the_mode_is_octal(text, mode):
    where = parse_where("unix:x", [], text, "www:www")
    assert where == {"unix": "x", "unix_mode": mode, "unix_owner": "www:www"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((",[::]:80", [], None, None), "a host is empty"),
        (("a,:80", [], None, None), "a host is empty"),
        (("a,::1:80", [], None, None), "write an IPv6 address in brackets"),
        (("unix:", [], None, None), "has no path: write unix:/run/app.sock"),
        (("unix", [], None, None), "has no port"),
        ((":80", [3], None, None), "--server and --fd exclude each other"),
        ((":80", [], "660", None), "need --server unix:PATH"),
        ((None, [3], None, "x"), "need --server unix:PATH"),
        (("unix:x", [], "66", None), "three octal digits such as 660, not '66'"),
        (("unix:x", [], "668", None), "three octal digits"),
        (("unix:x", [], "rw-", None), "three octal digits"),
    ],
)
def test_what_says_not_where_to_listen(arguments, text):
    with pytest.raises(ValueError, match=text):
        parse_where(*arguments)


@unix_only
@pytest.mark.parametrize("processes", [None, 2])
def test_a_unix_socket(folder, processes):
    arguments = ("--unix-mode", "660", "--unix-owner", f"{os.getuid()}:{os.getgid()}")
    path = folder / "app.sock"
    options = {"server": "unix:app.sock", "processes": processes}
    for _ in range(2):  # the second one replaces what the first has left
        with Service(folder, *arguments, **options).started() as service:
            assert service.url == f"ws+unix://{path}"
            assert path.stat().st_mode & 0o777 == 0o660
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(SOON)
                sock.connect(str(path))
                sock.sendall(b"GET /x HTTP/1.1\r\nHost: any.example\r\n\r\n")
                assert sock.recv(100).startswith(b"HTTP/1.1 404 ")
            service.process.send_signal(signal.SIGKILL)
            service.finish()
            assert path.exists()
    with Service(folder, *arguments, **options).started() as service:
        service.process.send_signal(signal.SIGTERM)
        assert service.finish()[1] == 0
    assert not path.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows passes no descriptors on")
@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_descriptors(folder, processes):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as two:
        numbers = [one.fileno(), two.fileno()]
        fds = [text for number in numbers for text in ("--fd", str(number))]
        process = subprocess.Popen(
            [sys.executable, "-m", "scriptling_ws", *fds, *processes, "setup.py"],
            cwd=folder,
            env=python_environment(),
            pass_fds=numbers,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            line = process.stdout.readline()
            assert re.search(rf"listening on ws://127.0.0.1:{one.getsockname()[1]} ", line)
            for sock in (one, two):
                url = f"ws://127.0.0.1:{sock.getsockname()[1]}/ws"
                with connect(url, SOON) as conn:
                    assert conn.receive(SOON).startswith("1 ")
            process.send_signal(signal.SIGTERM)
            assert process.wait(SOON) == 0
        finally:
            process.kill()
            process.communicate(timeout=SOON)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--fd", "999999"], "descriptor 999999 is no socket: Bad file descriptor"),
        (["--fd", "x"], "invalid int value"),
        (["--server", ":0", "--fd", "3"], "exclude each other"),
        (["--server", ":0", "--processes", "0"], "--processes has to be at least 1"),
        (["--server", ":0", "--processes", "many"], "invalid int value"),
        (["--server", ":0", "--processes", "1", "--reload-timeout", "-1"], "has to be 0 or more"),
        (["--server", ":0", "--reload-timeout", "1"], "--reload-timeout needs --processes"),
        (["--server", "unix:no/such/folder"], "cannot listen on unix:"),
        (["--server", "unix:x", "--unix-owner", "no-such-user"], "no such user"),
        (["--server", ":0", "-o", "processes=2"], "processes is set by --processes"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="no Unix sockets and no fork there")
def test_errors_are_one_line_and_status_2(folder, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "argv", sys.argv)
    runtime.http.clear()
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "setup.py"])
    assert caught.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("scriptling-ws: ")
    assert text in line
    runtime.http.clear()
    sys.modules.pop("handlers", None)
