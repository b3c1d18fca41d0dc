"""nginx, HAProxy and Caddy, which a test starts with a configuration of its own before a server.

Rules:

- `make programs` installs them on a Debian. Where one is missing, its tests are skipped by name,
  unless SCRIPTLING_WS_PROGRAMS=yes, where they fail.
- A program runs in the foreground, in a process group of its own, on a free port of the
  loopback. All its files are in a directory that is removed with it.
- It is ready when it accepts connections. At the end its whole group is killed.
- A configuration is written as in the program's manual, with these words in it: LISTEN is the
  address to listen on, BACKEND the server's, DIRECTORY the program's directory (a certificate
  for localhost with its key is `server.pem` in it), OWN_PORT the port in LISTEN alone.
"""

import contextlib
import csv
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from pairs import authority, until

REQUIRED = os.environ.get("SCRIPTLING_WS_PROGRAMS") == "yes"
# Debian has servers in a directory that is not on the PATH of every user.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])

_CHANCE = random.SystemRandom()  # which no test seeds: workers are to differ

# For what has nothing to do with the codec: of the two runs one is enough.
runs_once = pytest.mark.once("other programs are what it is about; frames, other tests have")


def find(*names):
    """The path of the first of these programs that is installed; else the test is skipped."""
    if os.name == "nt":
        pytest.skip("programs are started and ended as on POSIX")
    for name in names:
        if path := shutil.which(name, path=PATH):
            return path
    reason = f"{names[0]} is not installed: make programs"
    assert not REQUIRED, reason
    pytest.skip(reason)


def free_port():
    """A port of the loopback that nobody listens on, nor will until it is used.

    It is below those that systems give out, to each connection one: 32768 and more on Linux, 49152
    and more elsewhere. One of these may be another test's the moment after.
    """
    while True:
        port = _CHANCE.randrange(11_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def accepts(family, address):
    """Whether somebody listens at an address."""
    with socket.socket(family) as sock:
        sock.settimeout(1)
        try:
            sock.connect(address)
        except OSError:
            return False
        return True


class Program:
    """A program, and all the processes that it starts. Its output is the test's own."""

    def __init__(self, *command, **options):
        self.name = Path(command[0]).name
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, **options
        )

    def await_(self, condition):
        """Wait until a condition holds; the program has to run on."""
        until(lambda: condition() or self._process.poll() is not None)
        status = self._process.poll()
        assert status is None, f"{self.name} ended early, with status {status}"

    def end(self):
        """End it and its whole group, by force if it has to be."""
        try:
            self._signal(signal.SIGTERM)
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait(5)

    def _signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextlib.contextmanager
def directory():
    """A directory for a program's files. Its path is short: there are sockets in it."""
    options = {"prefix": "ws-", "ignore_cleanup_errors": True}
    with tempfile.TemporaryDirectory(**options) as path:
        yield Path(path)


@contextlib.contextmanager
def started(*command, **options):
    """A program that is ended in any case."""
    program = Program(*command, **options)
    try:
        yield program
    finally:
        program.end()


class Proxy:
    """A proxy that runs in front of a server.

    Attributes:
        name: The program's.
        port: The port that it listens on.
        url: The same as a URL: `ws://127.0.0.1:8080`, with TLS `wss://localhost:8080`.
    """

    def __init__(self, name, port, folder, tls):
        self.name = name
        self.port = port
        self.url = f"wss://localhost:{port}" if tls else f"ws://127.0.0.1:{port}"
        self._folder = folder

    def stat(self, server):
        """What HAProxy's page of statistics says of a server: a dict of its columns."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self._folder / "stats"))
            sock.sendall(b"show stat\n")
            data = b"".join(iter(lambda: sock.recv(65_536), b""))
        for row in csv.DictReader(data.decode("ascii").removeprefix("# ").splitlines()):
            if row["svname"] == server:
                return row
        raise AssertionError(f"there is no server {server}")


# Every path below the directory, and as root nobody else, who could not write there.
NGINX = """
daemon off;
pid DIRECTORY/pid;
error_log stderr;
USER
events {}
http {
    access_log off;
    client_body_temp_path DIRECTORY/body;
    proxy_temp_path DIRECTORY/proxy;
    fastcgi_temp_path DIRECTORY/fastcgi;
    uwsgi_temp_path DIRECTORY/uwsgi;
    scgi_temp_path DIRECTORY/scgi;
    HTTP
}
"""

HAPROXY = """
global
    stats socket DIRECTORY/stats
"""


@contextlib.contextmanager
def nginx(server, http):
    """nginx in front of a server, with what stands in its `http { }`."""
    path = find("nginx")
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.replace("USER", user).replace("HTTP\n", http + "\n")
    with directory() as folder:
        command = [path, "-e", "stderr", "-p", folder, "-c", folder / "conf"]
        with _proxy(server, text, folder, command, tls="ssl_certificate " in http) as proxy:
            yield proxy


@contextlib.contextmanager
def haproxy(server, sections):
    """HAProxy in front of a server, with the sections of its configuration but `global`."""
    with directory() as folder:
        command = [find("haproxy"), "-db", "-f", folder / "conf"]
        with _proxy(server, HAPROXY + sections, folder, command, tls=" ssl " in sections) as proxy:
            yield proxy


@contextlib.contextmanager
def caddy(server, text):
    """Caddy in front of a server, with a Caddyfile."""
    path = find("caddy")
    with directory() as folder:
        # What it keeps is in its directory too.
        home = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        command = [path, "run", "--adapter", "caddyfile", "--config", folder / "conf"]
        options = {"env": {**os.environ, **home}}
        with _proxy(server, text, folder, command, tls="tls " in text, **options) as proxy:
            yield proxy


@contextlib.contextmanager
def _proxy(server, text, folder, command, tls, **options):
    port = free_port()
    words = {
        "LISTEN": f"127.0.0.1:{port}",
        "OWN_PORT": str(port),
        "BACKEND": server.address,
        "DIRECTORY": str(folder),
    }
    for word, value in words.items():
        text = text.replace(word, value)
    (folder / "conf").write_text(text)
    if tls:
        certificate = authority().issue_cert("localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    with started(*command, **options) as program:
        program.await_(lambda: accepts(socket.AF_INET, ("127.0.0.1", port)))
        if "stats socket" in text:
            program.await_(lambda: accepts(socket.AF_UNIX, str(folder / "stats")))
        yield Proxy(program.name, port, folder, tls)
