"""The command line: in this process for its errors, in one of its own for the rest."""

import contextlib
import errno
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed as PeerClosed
from websockets.sync.client import connect

import scriptling_ws
from pairs import until
from scriptling_ws import __main__ as cli
from scriptling_ws import _kernel as _frame
from scriptling_ws import runtime
from scriptling_ws._command import server as serving
from servers import Answer, Certificates, RawWebSocket, head, read_all, read_until, upgrade

pytestmark = pytest.mark.processes

SETUP = """
    import scriptling.runtime as runtime
    import cli_handlers

    runtime.http.websocket("/echo", "cli_handlers.echo")

    greeting = "hello from the script"

    @runtime.http.get("/")
    def page(request):
        return greeting
"""
HANDLERS = """
    def echo(client):
        while client.connected():
            message = client.receive(timeout=60)
            if message:
                client.send(message)
"""

# The package that is tested here, wherever the command's directory is.
SOURCE = Path(scriptling_ws.__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")


@pytest.fixture
def project(tmp_path):
    """A setup script whose handlers are in a directory beside it."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "setup.py").write_text(textwrap.dedent(SETUP))
    (tmp_path / "lib" / "cli_handlers.py").write_text(textwrap.dedent(HANDLERS))
    return tmp_path


class Command:
    """A running command and where it listens."""

    def __init__(self, process):
        self.process = process
        line = process.stdout.readline()
        match = re.fullmatch(r"scriptling-ws: listening on (wss?)://(.*):(\d+) \(.*\)\n", line)
        if match is None:
            process.kill()
            pytest.fail(f"{line!r}, then: {process.communicate(timeout=30)}")
        self.scheme, self.host, self.port = match[1], match[2], int(match[3])
        self.url = f"{self.scheme}://{self.host}:{self.port}"
        self.log = ""

    def end(self, number=signal.SIGTERM):
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        """The exit status."""
        _, self.log = self.process.communicate(timeout=30)
        return self.process.returncode


@contextlib.contextmanager
def running(*arguments, cwd):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "scriptling_ws", *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        yield Command(process)
    finally:
        process.kill()
        process.communicate(timeout=30)


@posix_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_setup_script_is_served_until_a_signal(project, number):
    with running("--server", "127.0.0.1:0", "-L", "lib", "setup.py", cwd=project) as command:
        assert command.host == "127.0.0.1"
        with connect(command.url + "/echo") as client:
            client.send("hello")
            assert client.recv(10) == "hello"
            with socket.create_connection(("127.0.0.1", command.port), 10) as sock:
                sock.sendall(head("/"))
                assert Answer(read_all(sock)).body == b"hello from the script"
            ended = []
            waiting = threading.Thread(target=lambda: ended.append(command.end(number)))
            waiting.start()
            with pytest.raises(PeerClosed) as closed:
                client.recv(20)
            assert closed.value.rcvd.code == 1001
            waiting.join(30)
        assert ended == [0]
        assert "Traceback" not in command.log
        assert "GET '/echo' 101" in command.log


@posix_only
def test_a_port_alone_listens_on_loopback_only(project):
    with running("--server", ":0", "-L", "lib", "setup.py", cwd=project) as command:
        assert command.host == "127.0.0.1"
        assert command.end() == 0


@posix_only
@pytest.mark.parametrize("address", ["0.0.0.0:0", "localhost:0"])
def test_elsewhere_is_spelled_out(project, address):
    with running("--server", address, "-L", "lib", "setup.py", cwd=project) as command:
        with connect(f"ws://127.0.0.1:{command.port}/echo") as client:
            client.send("x")
            assert client.recv(10) == "x"
        assert command.end() == 0


@posix_only
def test_the_script_may_be_in_a_library_directory(project):
    (project / "setup.py").rename(project / "lib" / "rt_setup.py")
    with running("--server", ":0", "-L", "lib", "rt_setup.py", cwd=project) as command:
        assert command.end() == 0


@posix_only
@pytest.mark.parametrize(
    ("name", "runs"), [("setup.py", "lib"), ("./setup.py", "own"), ("lib/setup.py", "lib")]
)
def test_a_script_named_with_a_directory_is_taken_as_written(project, name, runs):
    for folder, kind in ((project, "own"), (project / "lib", "lib")):
        (folder / "setup.py").write_text(
            "import scriptling.runtime as runtime\n"
            f"runtime.http.get('/', lambda request: {kind!r})\n"
        )
    for given in (name, project / name) if "/" in name else (name,):
        with running("--server", ":0", "-L", "lib", given, cwd=project) as command:
            with socket.create_connection(("127.0.0.1", command.port), 10) as sock:
                sock.sendall(head("/"))
                assert Answer(read_all(sock)).body == runs.encode()
            assert command.end() == 0


@posix_only
def test_options_of_the_server(project):
    options = ("-o", "allowed_hosts=own.example", "-o", "subprotocols=v2,v1", "-o", "origins=")
    with running("--server", ":0", *options, "-L", "lib", "setup.py", cwd=project) as command:

        def status(request):
            with socket.create_connection(("127.0.0.1", command.port), 10) as sock:
                sock.sendall(request)
                return read_until(sock, b"\r\n\r\n")[9:12]

        assert status(head("/", host="own.example")) == b"200"
        assert status(head("/", host="localhost")) == b"400"
        assert status(upgrade("/echo", host="own.example")) == b"101"
        own = "Origin: http://own.example"
        assert status(upgrade("/echo", own, host="own.example")) == b"403"
        assert command.end() == 0
    assert "allowed_hosts=['localhost']" in command.log


@posix_only
def test_the_script_has_the_server_and_an_end(project):
    with (project / "setup.py").open("a") as script:
        script.write(
            "\nimport atexit\n"
            "atexit.register(lambda: print('the end', runtime.http.server.wait(0), flush=True))\n"
            "assert runtime.http.server is None\n"
            "runtime.http.get('/n', lambda request: str(len(runtime.http.server.connections)))\n"
        )
    with running("--server", ":0", "-L", "lib", "setup.py", cwd=project) as command:

        def open_connections():
            with socket.create_connection(("127.0.0.1", command.port), 10) as sock:
                sock.sendall(head("/n"))
                return Answer(read_all(sock)).body

        with connect(command.url + "/echo"):
            until(lambda: open_connections() == b"1")
        command.process.send_signal(signal.SIGTERM)
        rest, _ = command.process.communicate(timeout=30)
        assert (rest, command.process.returncode) == ("the end True\n", 0)


@posix_only
def test_what_anybody_can_read_is_told_of(project, tmp_path):
    """The folder that is served has the script and the key in it, which others can read too."""
    certificates = Certificates()
    chain, key = project / "chain.pem", project / "key.pem"
    certificates.certificate.private_key_pem.write_to_path(key)
    for blob in certificates.certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    key.chmod(0o644)
    with (project / "setup.py").open("a") as script:
        script.write("\nruntime.http.static('/files', '.')\n")
    tls = ("--tls-cert", chain, "--tls-key", key)
    with running("--server", ":0", "-L", "lib", *tls, "setup.py", cwd=project) as command:
        assert command.end() == 0
    told = [line for line in command.log.splitlines() if "WARNING" in line]
    assert len(told) == 3
    assert f"other users can read or change the key '{key}'" in told[0]
    assert f"'{project / 'setup.py'}' is in the folder '{project}', which is served" in told[1]
    assert f"'{key}' is in the folder" in told[2]
    key.chmod(0o600)
    (project / "public").mkdir()
    source = (project / "setup.py").read_text().replace("files', '.'", "', 'public'")
    (project / "setup.py").write_text(source.replace('get("/")', 'get("/x")'))
    with running("--server", ":0", "-L", "lib", *tls, "setup.py", cwd=project) as command:
        assert command.end() == 0
    assert "WARNING" not in command.log


@posix_only
def test_tls(project, tmp_path):
    certificates = Certificates()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificates.certificate.private_key_pem.write_to_path(key)
    for blob in certificates.certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    arguments = ("--server", ":0", "-L", "lib", "--tls-cert", chain, "--tls-key", key, "setup.py")
    with running(*arguments, cwd=project) as command:
        assert command.scheme == "wss"
        # Not websockets' client, which has two threads at one SSLSocket, and hangs at times.
        url, context = command.url + "/echo", certificates.client
        with scriptling_ws.connect(url, 10, ssl_context=context) as client:
            assert client._link.transport._tls.version() >= "TLSv1.2"
            client.send("secret")
            assert client.receive(10) == "secret"
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        certificates.authority.configure_trust(old)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)):
            connect(command.url + "/echo", ssl=old)
        assert command.end() == 0


@posix_only
def test_the_scripts_own_failure_is_a_traceback(project):
    (project / "setup.py").write_text("def broken():\n    1 / 0\n\nbroken()\n")
    result = subprocess.run(
        [sys.executable, "-m", "scriptling_ws", "--server", ":0", "setup.py"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=ENVIRONMENT,
    )
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr


# Each is a thread in the server.
@pytest.mark.abuse(71)
@posix_only
def test_sigterm_with_many_live_connections(project):
    script = (project / "setup.py").read_text()
    quiet = script.replace('"cli_handlers.echo"', '"cli_handlers.echo", ping_interval=None')
    (project / "setup.py").write_text(quiet)  # opening that many may take longer than an interval
    with (
        running("--server", ":0", "-L", "lib", "setup.py", cwd=project) as command,
        contextlib.ExitStack() as stack,
    ):
        clients = []
        for _ in range(1000):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", command.port), 20))
            sock.sendall(upgrade("/echo"))
            clients.append(RawWebSocket(sock, None, b""))
        for client in clients:
            assert read_until(client.sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101")
        command.process.send_signal(signal.SIGTERM)
        for client in clients:
            assert client.close_code() == 1001
            client.answer_close(1001)  # and none waits while another one's end is seen
        for client in clients:
            assert client.ended()
            client.sock.close()
        assert command.wait() == 0


@pytest.mark.abuse(62)
@posix_only
def test_out_of_descriptors_for_real(project):
    (project / "setup.py").write_text(
        "import resource, time\n"
        "import scriptling.runtime as runtime\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "runtime.http.get('/cpu', lambda request: str(time.process_time()))\n"
    )
    with running("--server", ":0", "setup.py", cwd=project) as command:
        address = ("127.0.0.1", command.port)

        def cpu():
            with socket.create_connection(address, 30) as sock:
                sock.sendall(head("/cpu"))
                return float(Answer(read_all(sock)).body)

        before = cpu()
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(100)]
            with pytest.raises(TimeoutError):
                crowd[-1].settimeout(2)  # it is in the backlog, and stays there
                crowd[-1].recv(1)
        after = cpu()  # it has recovered
        assert after - before < 0.25  # of 2 s; spinning would cost all of them
        assert command.end() == 0
        assert command.log.count("accepting no connections for a moment") == 1


# -- what the user can put right ---------------------------------------------------------


@pytest.fixture
def in_process(monkeypatch, capsys):
    """Call the command in this process; returns its exit status and its stderr."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "argv", sys.argv)
    runtime.http.clear()

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            sys.exit(cli.main([str(argument) for argument in arguments]))
        return caught.value.code, capsys.readouterr().err

    yield call
    runtime.http.clear()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["setup.py"], "say where to listen"),
        (["127.0.0.1:8080/chat"], "or, to talk to a server, where that is: ws://HOST"),
        (["--server", ":0"], "name the setup script"),
        (["--server", ":0", "missing.py"], "there is no file 'missing.py'"),
        (["--server", ":0", "."], "there is no file '.'"),
        (["--server", ":0", "x" * 300], "there is no file 'xxx"),
        (["--server", ":0", "-L", "x" * 300, "setup.py"], "xxx' is not a directory"),
        (["--server", "8080", "setup.py"], "has no port: write :8080"),
        (["--server", ":http", "setup.py"], "the port has to be 0 to 65535"),
        (["--server", ":65536", "setup.py"], "the port has to be 0 to 65535"),
        (["--server", ":", "setup.py"], "the port has to be 0 to 65535"),
        (["--server", "::1:8080", "setup.py"], "in brackets"),
        (["--server", ":0", "-L", "missing", "setup.py"], "-L 'missing' is not a directory"),
        (["--server", ":0", "--tls-key", "x", "setup.py"], "--tls-key needs --tls-cert"),
        (["--server", ":0", "--tls-cert", "x", "setup.py"], "cannot use --tls-cert 'x'"),
        (["--server", ":0", "--tls-cert", "setup.py", "setup.py"], "cannot use --tls-cert"),
        (["--server", ":0", "-o", "max_conections=5", "setup.py"], "did you mean 'max_connect"),
        (["--server", ":0", "-o", "max_connections=x", "setup.py"], "has to be a whole number"),
        (["--server", ":0", "-o", "max_connections=0", "setup.py"], "has to be at least 1"),
        (["--server", ":0", "-o", "max_connections", "setup.py"], "write NAME=VALUE"),
        (["--server", ":0", "-o", "allowed_hosts=", "setup.py"], "allowed_hosts is empty"),
        (["--server", ":0", "-o", "allowed_hosts=*.a.b", "setup.py"], "no wildcards"),
        (["--server", "192.0.2.1:0", "setup.py"], "cannot listen on 192.0.2.1:0"),
        (["--server", "no-such-host.invalid:0", "setup.py"], "cannot find the host"),
        (["--server", "a..b:0", "setup.py"], "is not a host name"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_errors_are_one_line_and_status_2(tmp_path, monkeypatch, in_process, arguments, text):
    (tmp_path / "setup.py").write_text(
        "import scriptling.runtime as runtime\nruntime.http.get('/', lambda request: '')\n"
    )
    monkeypatch.chdir(tmp_path)
    status, error = in_process(*arguments)
    *usage, line = error.splitlines()
    assert status == 2
    assert line.startswith("scriptling-ws: ")
    assert text in line
    assert not usage or usage[0].startswith("usage: scriptling-ws")


def test_a_script_that_may_not_be_read(tmp_path, monkeypatch, in_process):
    def refuse(*_, **__):  # as for everybody but root, who may run the tests
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "setup.py").touch()
    monkeypatch.setattr("io.open_code", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.chdir(tmp_path)
    status, error = in_process("--server", ":0", "setup.py")
    assert status == 2
    assert error == "scriptling-ws: cannot read 'setup.py': Permission denied\n"


def test_a_port_in_use(tmp_path, monkeypatch, in_process):
    (tmp_path / "setup.py").write_text(
        "import scriptling.runtime as runtime\nruntime.http.get('/', lambda request: '')\n"
    )
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, error = in_process("--server", f":{port}", "setup.py")
    assert status == 2
    assert f"cannot listen on 127.0.0.1:{port}" in error


def test_a_script_that_registers_nothing(tmp_path, monkeypatch, in_process):
    (tmp_path / "empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    status, error = in_process("--server", ":0", "empty.py")
    assert status == 2
    assert "registers no route" in error


def test_a_handler_that_is_not_there(tmp_path, monkeypatch, in_process):
    (tmp_path / "setup.py").write_text(
        "import scriptling.runtime as runtime\n"
        "runtime.http.websocket('/', 'cli_no_such_module.handler')\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImportError, match=r"cli_no_such_module.*-L DIR"):
        cli.main(["--server", ":0", "setup.py"])


def test_the_scripts_exit_is_its_own(tmp_path, monkeypatch, in_process):
    (tmp_path / "setup.py").write_text("raise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    assert in_process("--server", ":0", "setup.py")[0] == 7


def test_version_names_the_codec(in_process, capsys, monkeypatch):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert scriptling_ws.__version__ in shown
    assert _frame.IMPLEMENTATION in shown


def test_help_names_everything(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for word in (
        "--server",
        "unix:PATH",
        "--fd",
        "--unix-mode",
        "--unix-owner",
        "--processes",
        "--reload-timeout",
        "-L",
        "-o",
        "allowed_hosts",
        "--tls-cert",
        "--tls-key",
        "--version",
        "connect",
        "examples",
        "demo",
        "completion",
        "setup.py",
    ):
        assert word in shown


def test_demo_is_called(monkeypatch):
    from scriptling_ws._command import demo

    for result, status in ((None, 0), (0, 0), (3, 3)):
        monkeypatch.setattr(demo, "main", lambda result=result: result)
        assert cli.main(["demo"]) == status
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", "--nonsense"])
    assert caught.value.code == 2


def test_arguments_come_from_the_process_by_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scriptling-ws", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "scriptling-ws" in capsys.readouterr().out


def test_in_process_run(project, monkeypatch, in_process, capsys):
    """The whole command, stopped by a signal to this process."""
    monkeypatch.chdir(project)

    def stop(server):
        cli_announce(server)
        signal.raise_signal(signal.SIGINT)

    cli_announce = serving.announce
    monkeypatch.setattr(serving, "announce", stop)
    assert cli.main(["--server", "[::1]:0" if has_ipv6() else ":0", "-L", "lib", "setup.py"]) == 0
    assert "listening on ws://" in capsys.readouterr().out
    assert str(project) in sys.path
    assert str(project / "lib") in sys.path


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_the_demo_runs_to_its_end(capsys):
    assert cli.main(["demo"]) == 0
    shown = capsys.readouterr().out
    for call in ("connect", "send", "send_binary", "receive", "connected", "close"):
        assert re.search(rf"(ws|conn)\.{call}\(", shown), call
    for name in ("remote_addr", "is_text", "is_binary"):
        assert name in shown


def test_the_demo_counts_no_wrong_echo(monkeypatch):
    from scriptling_ws._command import demo

    def wrong(client):
        client.send("hello")
        client.receive(10)
        client.send_binary(b"something else")
        client.receive(10)

    monkeypatch.setattr(demo, "_handler", wrong)
    with pytest.raises(AssertionError, match="the echo differs"):
        demo._speed(bytes)
