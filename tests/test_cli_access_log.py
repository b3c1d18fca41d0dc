"""The command's access log: where it goes, in which form, and what the user can put right."""

import json
import re
import socket
import subprocess
import sys

import pytest
from websockets.sync.client import connect

from servers import Answer, head, read_all
from test_cli import ENVIRONMENT, HANDLERS, posix_only, running

pytestmark = pytest.mark.processes

SETUP = """\
import scriptling.runtime as runtime

runtime.http.websocket("/echo", "cli_handlers.echo")
runtime.http.get("/", lambda request: "hello")
"""


@pytest.fixture
def folder(tmp_path):
    """A setup script and its handlers."""
    (tmp_path / "setup.py").write_text(SETUP)
    (tmp_path / "cli_handlers.py").write_text(re.sub(r"^    ", "", HANDLERS, flags=re.M))
    return tmp_path


def visit(command):
    """A page, and a WebSocket that closes."""
    with socket.create_connection(("127.0.0.1", command.port), 10) as sock:
        sock.sendall(head("/?s3cret", "User-Agent: curl/8"))
        assert Answer(read_all(sock)).body == b"hello"
    with connect(command.url + "/echo") as client:
        client.send("hello")
        assert client.recv(10) == "hello"


@posix_only
@pytest.mark.parametrize("form", [None, "combined", "common", "json"])
def test_a_file(folder, form):
    more = () if form is None else ("--access-log-format", form)
    arguments = ("--server", ":0", "--access-log", "access.log", *more, "setup.py")
    with running(*arguments, cwd=folder) as command:
        visit(command)
        assert command.end() == 0
    page, websocket = (folder / "access.log").read_text().splitlines()
    if form == "json":
        assert json.loads(page)["user_agent"] == "curl/8"
        assert json.loads(websocket)["close_code"] == 1000
    else:
        tail = "" if form == "common" else ' "-" "curl/8"'
        assert page.endswith(f'"GET / HTTP/1.1" 200 5{tail}')
        assert '"GET /echo HTTP/1.1" 101 -' in websocket
    assert "GET" not in command.log  # it is not in the other log too
    assert "s3cret" not in page


@posix_only
def test_the_standard_output(folder):
    options = ("-o", "access_log=json", "--access-log", "-")
    with running("--server", ":0", *options, "setup.py", cwd=folder) as command:
        visit(command)
        assert json.loads(command.process.stdout.readline())["status"] == 200
        assert json.loads(command.process.stdout.readline())["status"] == 101
        assert command.end() == 0


@posix_only
def test_a_log_that_anybody_can_read_is_told_of(folder):
    with (folder / "setup.py").open("a") as script:
        script.write("runtime.http.static('/files', 'logs')\n")
    (folder / "logs").mkdir()
    arguments = ("--server", ":0", "--access-log", "logs/access.log", "setup.py")
    with running(*arguments, cwd=folder) as command:
        assert command.end() == 0
    assert "'logs/access.log' is in the folder" in command.log


@posix_only
def test_without_a_file_the_lines_are_in_the_log(folder):
    options = ("-o", "access_log=common", "-o", "trusted_proxies=127.0.0.1,unix")
    with running("--server", ":0", *options, "setup.py", cwd=folder) as command:
        visit(command)
        assert command.end() == 0
    assert '"GET / HTTP/1.1" 200 5' in command.log


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--access-log", "no/such/folder"], "cannot write --access-log 'no/such/folder': No such"),
        (["--access-log-format", "json"], "--access-log-format needs --access-log"),
        (["--access-log", "-", "--access-log-format", "xml"], "invalid choice: 'xml'"),
        (["-o", "access_log=xml"], "access_log has to be common or combined or json or none"),
        (["-o", "proxy_protocol=true"], "name the proxies that may send them"),
        (["-o", "trusted_proxies=localhost"], "write an address such as '127.0.0.1'"),
    ],
)
def test_what_the_user_can_put_right(folder, options, says):
    result = subprocess.run(
        [sys.executable, "-m", "scriptling_ws", "--server", ":0", *options, "setup.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=ENVIRONMENT,
    )
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
