"""The examples of docs/processes.md, docs/engines.md, docs/operations.md and docs/wsgi.md."""

import contextlib
import http.client
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

import scriptling_ws as ws
from code_blocks import read
from pairs import until
from processes import Process, python_environment
from programs import runs_once
from scriptling_ws.runtime import HTTP
from servers import TIMEOUT, echo, serving
from snippets import ANNOUNCED, echoes, program

pytestmark = [
    runs_once,
    pytest.mark.processes,
    pytest.mark.skipif(os.name == "nt", reason="commands are ended as on POSIX"),
]

PAGE = "docs/operations.md"
HANDLERS = """
def chat(client):
    for message in client:
        client.send(message)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.blocks("docs/processes.md#several-processes 2")
def test_workers(blocks, tmp_path):
    (tmp_path / "handlers.py").write_text(HANDLERS)
    with program(blocks[0].text, cwd=tmp_path) as (process, url):
        for _ in range(3):
            assert process.line() == url.rpartition(":")[2]  # each worker tells
        with ws.connect(url) as conn:
            assert echoes(conn)


STARTED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="systemd is Linux's")
@pytest.mark.blocks("docs/processes.md#systemd")
def test_units(blocks, tmp_path):
    """systemd takes them, where there is one; and their command serves the socket it is given."""
    listens, service = (block.text for block in blocks)
    command = shlex.split(re.search(r"^ExecStart=(.+)$", service, re.M)[1])
    (tmp_path / "setup.py").write_text(
        f"import scriptling.runtime as runtime\n{HANDLERS}\nruntime.http.websocket('/', chat)\n"
    )
    if analyze := shutil.which("systemd-analyze"):
        program_ = tmp_path / "scriptling-ws"
        program_.write_text("#!/bin/sh\n")
        program_.chmod(0o755)
        (tmp_path / "app.socket").write_text(listens)
        (tmp_path / "app.service").write_text(service.replace(command[0], str(program_)))
        names = [tmp_path / name for name in ("app.socket", "app.service")]
        result = subprocess.run(
            [analyze, "verify", "--man=no", *names],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # One that is older does not know notify-reload, as the page says.
        said = [line for line in result.stderr.splitlines() if "app." in line]
        assert [line for line in said if "notify-reload" not in line] == []
    with (
        tempfile.TemporaryDirectory(prefix="ws-") as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        told.bind(f"{folder}/notify")
        told.settimeout(60)
        arguments = ["-m", "scriptling_ws", *command[1:-1], "setup.py"]
        process = subprocess.Popen(
            [sys.executable, "-c", STARTED, str(listener.fileno()), sys.executable, *arguments],
            cwd=tmp_path,
            env=python_environment(NOTIFY_SOCKET=f"{folder}/notify"),
            pass_fds=[listener.fileno()],
        )
        try:
            until(lambda: "READY=1" in told.recv(4096).decode().splitlines())
            with ws.connect(f"ws://127.0.0.1:{listener.getsockname()[1]}/") as conn:
                assert echoes(conn)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait(30)


# Before the first line of a program that asks for it; at the end it says what it has waited by.
SAYS = """
import atexit, scriptling_ws
from scriptling_ws._network.waiting import engine
atexit.register(lambda: print(engine().name, flush=True))
"""


@pytest.mark.parametrize("patched", [False, True], ids=["asked", "patched"])
@pytest.mark.blocks("docs/engines.md#engines-threads-and-gevent", "docs/engines.md#patching")
def test_gevent(blocks, patched):
    """Asked for by its name; or by a program that it has patched."""
    pytest.importorskip("gevent", reason="gevent is not installed: the group test has it")
    serves, patches = blocks
    code = serves.text
    if patched:
        code = patches.text + serves.changed({', engine="gevent"': ""})
    code = code.replace(
        "import scriptling_ws as ws", f"{SAYS}{ANNOUNCED}import scriptling_ws as ws"
    )
    with Process.python("-c", code) as process:
        with ws.connect(f"ws://127.0.0.1:{process.line()}") as conn:
            assert echoes(conn)
        process.terminate()
        assert process.finish() == (["gevent"], 0)


@pytest.mark.blocks("docs/operations.md#a-look-from-outside")
def test_alerts_are_on_figures_that_there_are(blocks):
    """Each name is a metric's, each label one of it, and each reason one that it may have."""
    pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
    routes = HTTP()
    routes.websocket("/echo", echo)
    routes.websocket("/fails", lambda client: 1 / 0)
    with serving(routes=routes, metrics="/metrics", max_connections=2) as server:
        with ws.connect(f"{server.url}/fails") as conn:
            assert conn.receive(TIMEOUT) is None
        with contextlib.ExitStack() as stack, pytest.raises(ws.HandshakeError, match="503"):
            for _ in range(3):  # the first one's place may be taken still
                stack.enter_context(ws.connect(f"{server.url}/echo"))
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        client.request("GET", "/metrics")
        text = client.getresponse().read().decode()
        client.close()
    (block,) = blocks
    said = re.findall(r"(scriptling_ws_\w+)(?:\{(\w+))?", block.text)
    assert len(said) == 4
    for name, label in said:
        assert re.search(rf"^# TYPE {name.removesuffix('_total')}\S* ", text, re.M), name
        assert not label or re.search(rf'^{name}{{[^}}]*{label}="', text, re.M), (name, label)
    reasons = re.search(r"The reasons: (.+?)\. ", re.sub(r"\s+", " ", read(PAGE)))[1]
    meant = re.search(r'reason=~"([\w|]+)"', block.text)[1].split("|")
    assert set(meant) <= set(re.findall(r"`(\w+)`", reasons))


FLASK = """
import flask, threading
import scriptling_ws as ws
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from flask import Flask, request
from werkzeug.serving import make_server

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
urlpatterns = []
app = Flask("page")
BLOCKS
import sys
served = app if sys.argv[1] == "flask" else application
server = make_server("127.0.0.1", 0, served, threaded=True)
print(server.port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.readline()
server.shutdown()
"""


@pytest.mark.parametrize("framework", ["flask", "django"])
@pytest.mark.blocks("docs/wsgi.md#which-way")
def test_inside_of_frameworks(blocks, framework):
    for name in ("flask", "django"):
        pytest.importorskip(name, reason=f"{name} is not installed: the group test has it")
    code = FLASK.replace("BLOCKS", "\n".join(block.text for block in blocks))
    with Process.python("-W", "ignore", "-c", code, framework) as process:
        url = f"ws://127.0.0.1:{process.line()}"
        with ws.connect(f"{url}/echo") as conn:
            assert echoes(conn)
        if framework == "flask":
            with ws.connect(f"{url}/chat", origin="https://example.com") as conn:
                assert echoes(conn)
            with pytest.raises(ws.HandshakeError) as caught:
                ws.connect(f"{url}/chat", origin="https://stranger.example")
            assert caught.value.status == 403
        process.tell("end")
        process.finish()
