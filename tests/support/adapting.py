"""The servers in which the adapters are tested, each a process of its own, plain and under TLS."""

import contextlib
import http.client
import importlib.util
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import scriptling_ws as ws
from pairs import authority
from places import TESTS
from processes import Process, python_environment
from programs import free_port

SUPPORT = TESTS / "support"
THREADS = 20
TIMEOUT = 20

# Each server: the packages that it needs, and its command with PORT, CERTIFICATE in it; what is in
# the second list is for TLS alone.
_GUNICORN = ["-m", "gunicorn", "-b", "127.0.0.1:PORT", "--log-level", "warning"]
_GUNICORN_TLS = ["--certfile", "CERTIFICATE", "--keyfile", "CERTIFICATE"]
_UVICORN = ["-m", "uvicorn", "--port", "PORT", "--log-level", "warning", "--ws"]
_UVICORN_TLS = ["--ssl-certfile", "CERTIFICATE", "--ssl-keyfile", "CERTIFICATE"]
_HYPERCORN = ["-m", "hypercorn", "-b", "127.0.0.1:PORT", "-w", "0", "--log-level", "warning"]
_SCRIPT = str(SUPPORT / "adapted.py")
WSGI = "adapted:application"
ASGI = "adapted:asgi_application"

COMMANDS = {
    "gthread": ("gunicorn", [*_GUNICORN, "-k", "gthread", "--threads", str(THREADS), WSGI]),
    "gevent": ("gunicorn gevent", [*_GUNICORN, "-k", "gevent", WSGI]),
    "werkzeug": ("werkzeug", [_SCRIPT, "werkzeug", "PORT"]),
    "pywsgi": ("gevent", [_SCRIPT, "pywsgi", "PORT"]),
    "uvicorn": ("uvicorn wsproto", [*_UVICORN, "wsproto", ASGI]),
    "uvicorn-websockets": ("uvicorn websockets", [*_UVICORN, "websockets-sansio", ASGI]),
    "hypercorn": ("hypercorn", [*_HYPERCORN, ASGI]),
    # As it runs by default: a process that hears of the end by an event alone.
    "hypercorn-worker": (
        "hypercorn",
        [*(w for w in _HYPERCORN if w not in ("-w", "0")), "--graceful-timeout", "1", ASGI],
    ),
    "waitress": ("waitress", [_SCRIPT, "waitress", "PORT"]),
    "wsgiref": ("wsgiref", [_SCRIPT, "wsgiref", "PORT"]),
}
TLS = {
    "gthread": _GUNICORN_TLS,
    "gevent": _GUNICORN_TLS,
    "uvicorn": _UVICORN_TLS,
    "uvicorn-websockets": _UVICORN_TLS,
    "hypercorn": _GUNICORN_TLS,
    "werkzeug": ["CERTIFICATE"],
    "pywsgi": ["CERTIFICATE"],
}
HAS_SOCKET = ["gthread", "gevent", "werkzeug", "pywsgi"]
HAS_EVENTS = ["uvicorn", "uvicorn-websockets", "hypercorn"]


def need(packages):
    """Skip where a package is not installed."""
    for name in packages.split():
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install --group servers")
    if os.name == "nt":
        pytest.skip("these servers are started and ended as on POSIX")


def certificate(folder):
    """A file with a certificate for localhost and its key, and one with its authority."""
    folder.mkdir(exist_ok=True)
    own, ca = folder / "own.pem", folder / "ca.pem"
    issued = authority().issue_cert("localhost", "127.0.0.1")
    pem = issued.private_key_pem.bytes() + b"".join(c.bytes() for c in issued.cert_chain_pems)
    own.write_bytes(pem)
    authority().cert_pem.write_to_path(ca)
    return own, ca


class Adapted:
    """A server that runs."""

    def __init__(self, name, process, port, ca=None):
        self.name = name
        self.process = process
        self.port = port
        self.ca = ca
        self.tls = ca is not None
        self.origin = f"http{'s' * self.tls}://127.0.0.1:{port}"
        self.url = self.origin.replace("http", "ws")

    @property
    def context(self):
        """A client's settings."""
        return ssl.create_default_context(cafile=self.ca) if self.tls else None

    def connect(self, path, **options):
        """A connection of ours."""
        return ws.connect(self.url + path, TIMEOUT, ssl_context=self.context, **options)

    @contextlib.contextmanager
    def dial(self):
        """A bare socket, or one under TLS."""
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as sock:
            if not self.tls:
                yield sock
                return
            with self.context.wrap_socket(sock, server_hostname="127.0.0.1") as wrapped:
                yield wrapped

    @contextlib.contextmanager
    def http(self):
        """A client for pages."""
        options = {"timeout": TIMEOUT}
        kind = http.client.HTTPConnection
        if self.tls:
            kind, options["context"] = http.client.HTTPSConnection, self.context
        with contextlib.closing(kind("127.0.0.1", self.port, **options)) as client:
            yield client

    def page(self):
        """The body of the page at /."""
        with self.http() as client:
            client.request("GET", "/", headers={"Connection": "close"})
            return client.getresponse().read()


def wait_for(condition):
    """As `until`, for what takes a busy machine longer."""
    pause, end = threading.Event(), time.monotonic() + 3 * TIMEOUT
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        pause.wait(0.01)


def is_open(process, port):
    """Whether it listens; it has to run."""
    assert process._process.poll() is None, f"{process.name} ended early"
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def end(process):
    """End a server, and workers that do not end with it.

    gunicorn's under TLS do not while a browser holds a spare connection, for which a thread waits.
    """
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = children.read_text().split() if children.exists() else []
    process.terminate()
    try:
        process._process.wait(3)
    except subprocess.TimeoutExpired:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)


@contextlib.contextmanager
def serving_command(name, command, port, ca=None, **options):
    """A server's process, once it listens."""
    path = os.pathsep.join([str(SUPPORT), python_environment()["PYTHONPATH"]])
    environment = python_environment(PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1")
    environment.pop("PYTHONWARNINGS", None)  # what these packages do is theirs
    environment.pop("SCRIPTLING_WS_ENGINE", None)
    with Process(sys.executable, *command, env=environment, **options) as process:
        try:
            wait_for(lambda: is_open(process, port))
            yield Adapted(name, process, port, ca)
        finally:
            end(process)


@contextlib.contextmanager
def adapted(name, folder=None, *more):
    """A server of COMMANDS; under TLS with a folder for its certificate."""
    packages, command = COMMANDS[name]
    need(packages)
    own, ca = certificate(folder) if folder else (None, None)
    port = free_port()
    full = [*command[:-1], *more, command[-1]] if more else command
    full = [*full, *TLS[name]] if folder else full
    full = [w.replace("PORT", str(port)).replace("CERTIFICATE", str(own)) for w in full]
    with serving_command(name, full, port, ca) as server:
        yield server
