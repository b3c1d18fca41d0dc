"""The units of deploy/: systemd takes them, and their command does what they say."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import pytest

from deployed import exec_start, has_option, text_of, unit
from pairs import until
from processes import python_environment
from programs import runs_once
from scriptling_ws._typed import parse_options
from servers import raw_websocket

pytestmark = runs_once

NAMES = ("scriptling-ws.socket", "scriptling-ws.service")


def test_systemd_takes_them(tmp_path):
    """With a command and a folder that are here; a word that it does not know is a warning."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "scriptling-ws"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in NAMES:
        text = text_of(f"systemd/{name}")
        text = text.replace("/srv/app/venv/bin/scriptling-ws", str(program))
        (tmp_path / name).write_text(
            text.replace("WorkingDirectory=/srv/app", "WorkingDirectory=/")
        )
    result = subprocess.run(
        [analyze, "verify", "--man=no", *(tmp_path / name for name in NAMES)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Of the machine's other units it may say what it likes.
    said = [line for line in result.stderr.splitlines() if "scriptling-ws" in line]
    assert said == []
    assert result.returncode == 0 or said == []


def test_the_service_has_what_its_socket_gives():
    service, listens = unit(NAMES[1]), unit(NAMES[0])
    assert service["Unit"]["Requires"] == [NAMES[0]]
    assert listens["Socket"]["ListenStream"] == ["127.0.0.1:8080"]  # where the proxies look
    for proxy in ("nginx/scriptling-ws.conf", "haproxy/haproxy.cfg", "caddy/Caddyfile"):
        assert "127.0.0.1:8080" in text_of(proxy)


def test_the_service_has_time_to_end():
    service = unit(NAMES[1])["Service"]
    (shutdown,) = (part for part in exec_start() if part.startswith("shutdown_timeout="))
    assert int(service["TimeoutStopSec"][0]) > int(shutdown.partition("=")[2]) + 2
    assert service["KillMode"] == ["mixed"]


def test_its_options_are_the_servers():
    arguments = exec_start()
    given = [arguments[i + 1] for i, part in enumerate(arguments) if part == "-o"]
    options = parse_options(given)
    assert options["health"] == "/healthz"
    assert options["metrics"] == "/metrics"
    assert options["allowed_hosts"] == ["example.com"]
    assert arguments[-1] == "setup.py"


# What systemd does between fork and exec: the number in LISTEN_PID is the command's own.
STARTED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.skipif(os.name == "nt", reason="systemd is Linux's")
def test_its_command_serves_the_socket_that_it_is_given(tmp_path):
    """As systemd starts it: the socket at 3, the variables, and somebody to be told."""
    for option in ("--fd", "--processes"):
        if not has_option(option):
            pytest.skip(f"the command has no {option}")
    (tmp_path / "setup.py").write_text(
        "import scriptling.runtime as runtime\n"
        "runtime.http.websocket('/echo', lambda client: client.send(client.receive(10)))\n"
    )
    with (
        tempfile.TemporaryDirectory(prefix="ws-") as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        told.bind(f"{folder}/notify")
        told.settimeout(30)
        port = listener.getsockname()[1]
        environment = python_environment(NOTIFY_SOCKET=f"{folder}/notify")
        command = [sys.executable, "-m", "scriptling_ws", *exec_start()]
        process = subprocess.Popen(
            [sys.executable, "-c", STARTED, str(listener.fileno()), *command],
            cwd=tmp_path,
            env=environment,
            pass_fds=[listener.fileno()],
        )

        def message():
            return told.recv(4096).decode().splitlines()

        def talk():
            with raw_websocket(SimpleNamespace(port=port), "/echo", host="example.com") as peer:
                peer.send(1, b"x")
                assert peer.receive() == (1, b"x")

        try:
            assert "READY=1" in message()
            talk()
            process.send_signal(signal.SIGHUP)  # ExecReload
            until(lambda: "READY=1" in message())
            talk()
            process.send_signal(signal.SIGTERM)
            until(lambda: "STOPPING=1" in message())
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait(30)
