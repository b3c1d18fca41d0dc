"""The figures for Prometheus: they are those of what clients did, and no peer makes them many."""

import contextlib
import os
import re
import signal
import socket
import sys
import threading
from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

import scriptling_ws as ws
from children import in_child
from pairs import MIB, running, tls_contexts, until
from places import SOURCE
from processes import Process, python_environment
from scriptling_ws._server import metrics as _metrics
from scriptling_ws._server import room_figures as _room_figures
from scriptling_ws._server.figures import NO_FIGURES
from scriptling_ws._server.metrics import Metrics
from scriptling_ws._server.response import text
from scriptling_ws._server.routes import Routes
from servers import (
    Answer,
    ask,
    dial,
    echo,
    exiting,
    has_accepted,
    head,
    raw_websocket,
    read_all,
    routes_of,
    serving,
    status_of,
    upgrade,
)

pytestmark = pytest.mark.once("it is about figures; who counts messages has its tests in wire/")

TIMEOUT = 10
posix_only = pytest.mark.skipif(os.name == "nt", reason="processes are ended as on POSIX")


class Figures:
    """What a server's page tells: a value by its name and labels."""

    def __init__(self, body, parse=text_string_to_metric_families):
        self.samples = {
            (sample.name.removeprefix("scriptling_ws_"), frozenset(sample.labels.items())): value
            for family in parse(body.decode())
            for sample in family.samples
            for value in [sample.value]
        }

    def __call__(self, name, **labels):
        """The value of one; 0 where there is none, as of labels that did not come up."""
        return self.samples.get((name, frozenset(labels.items())), 0)

    def labels(self, name):
        """The labels under which a name has values: each a dict."""
        return [dict(labels) for found, labels in self.samples if found == name]


def figures_at(port, path="/metrics"):
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        sock.sendall(head(path))
        answer = Answer(read_all(sock))
    assert answer.status == 200
    return Figures(answer.body)


def figures_of(server, path="/metrics"):
    return figures_at(server.port, path)


def comes_to(server, name, value, **labels):
    """Wait until a figure has a value: an end is noticed a little after a client's."""
    until(lambda: figures_of(server)(name, **labels) == value)


# -- connections ---------------------------------------------------------------------


def test_connections_now_and_in_all():
    with serving(echo, metrics=True) as server, contextlib.ExitStack() as stack:
        assert figures_of(server)("connections") == 0
        for _ in range(3):
            stack.enter_context(ws.connect(server.url))
        comes_to(server, "connections", 3)
        assert figures_of(server)("handlers") == 3
        assert figures_of(server)("opened_total") == 3
        stack.close()
        comes_to(server, "handlers", 0)
        figures = figures_of(server)
        assert (figures("connections"), figures("opened_total")) == (0, 3)
        assert figures("closed_total", code="1000") == 3


def test_a_handler_that_goes_on_without_its_peer_is_no_connection():
    leave = threading.Event()
    with serving(lambda client: leave.wait(TIMEOUT), metrics=True) as server:
        with ws.connect(server.url):
            comes_to(server, "connections", 1)
        comes_to(server, "connections", 0)
        assert figures_of(server)("handlers") == 1
        leave.set()
        comes_to(server, "handlers", 0)


@pytest.mark.parametrize(
    ("payload", "label"),
    [
        ((1000).to_bytes(2, "big"), "1000"),
        ((1001).to_bytes(2, "big"), "1001"),
        ((1014).to_bytes(2, "big"), "1014"),
        ((3000).to_bytes(2, "big"), "3xxx"),
        ((4999).to_bytes(2, "big"), "4xxx"),
        (b"", "1005"),
        ((2000).to_bytes(2, "big"), "1002"),  # no code of a close frame
        (None, "1006"),  # no close frame
    ],
)
def test_close_codes(payload, label):
    with serving(echo, metrics=True) as server:
        with raw_websocket(server) as peer:
            if payload is not None:
                peer.send(8, payload)
                assert peer.receive()[0] == 8
        comes_to(server, "closed_total", 1, code=label)
        assert figures_of(server).labels("closed_total") == [{"code": label}]


def test_a_handler_that_fails():
    with serving(lambda client: exiting(), metrics=True) as server:
        with ws.connect(server.url) as conn:
            assert conn.receive(TIMEOUT) is None
        comes_to(server, "closed_total", 1, code="1011")
        comes_to(server, "handlers", 0)


def test_no_other_label_of_a_code():
    assert {_metrics._code_label(code) for code in range(2900, 5100)} == {"3xxx", "4xxx", "other"}


# -- messages and bytes -------------------------------------------------------------


def some(count):
    """Messages of each kind, and what they are as the peer receives them."""
    kinds = ["text", "é" * 200_000, b"bytes", bytes(300_000), "", b""]
    return [kinds[i % len(kinds)] for i in range(count)]


def send(conn, message):
    conn.send(message) if isinstance(message, str) else conn.send_binary(message)


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_are_those_of_the_client(tls, compression):
    for_client, for_server = tls_contexts() if tls else (None, None)
    options = {"compression": compression}
    messages = some(30)
    with serving(echo, metrics=True, ssl_context=for_server, **options) as server:

        def figures():
            if not tls:
                return figures_of(server)
            with (
                dial(server) as bare,
                for_client.wrap_socket(bare, server_hostname="localhost") as sock,
            ):
                sock.sendall(head("/metrics"))
                return Figures(Answer(read_all(sock)).body)

        url = server.url.replace("127.0.0.1", "localhost")
        with ws.connect(url, ssl_context=for_client, binary_type=bytes, **options) as conn:
            for message in messages:
                send(conn, message)
                assert conn.receive(TIMEOUT) == message
            # While it is open, and though no handler has told anything.
            assert figures()("received_messages_total") == len(messages)
            until(lambda: figures()("sent_messages_total") == len(messages))
        until(lambda: figures()("handlers") == 0)
        assert figures()("received_messages_total") == len(messages)
        assert figures()("sent_messages_total") == len(messages)


def test_bytes_are_those_of_the_frames():
    with serving(echo, metrics=True) as server:
        with raw_websocket(server) as peer:
            for _ in range(10):
                peer.send(2, bytes(100))
                assert peer.receive() == (2, bytes(100))
            comes_to(server, "received_bytes_total", 10 * 106)
            comes_to(server, "sent_bytes_total", 10 * 102)
            peer.send(8, b"\x03\xe8")
            assert peer.close_code() == 1000
        comes_to(server, "handlers", 0)
        figures = figures_of(server)
        assert figures("received_bytes_total") == 10 * 106 + 8
        assert figures("sent_bytes_total") == 10 * 102 + 4


def test_threads_lose_nothing():
    clients, each = 8, 200
    with serving(echo, metrics=True) as server:

        def talk():
            for _ in range(3):
                with ws.connect(server.url) as conn:
                    for _ in range(each):
                        conn.send("x")
                        assert conn.receive(TIMEOUT) == "x"

        def ask_all_the_time():
            for _ in range(30):
                figures_of(server)

        with running(*[talk] * clients, ask_all_the_time):
            pass
        comes_to(server, "handlers", 0)
        figures = figures_of(server)
        assert figures("opened_total") == figures("closed_total", code="1000") == 3 * clients
        assert figures("received_messages_total") == 3 * clients * each
        assert figures("sent_messages_total") == 3 * clients * each
        assert figures("connections") == 0
        assert figures("handshake_seconds_count") == 3 * clients
        assert figures("handler_seconds_count", route="*") == 3 * clients


# -- refusals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (head("/nothing"), "404", "path"),
        (head("/%2e%2e/x"), "404", "path"),
        (head("/page", method="POST"), "405", "method"),
        (head("/ws"), "426", "upgrade"),
        (upgrade("/ws", Sec_WebSocket_Version="12"), "426", "upgrade"),
        (upgrade("/ws", "Origin: https://evil.example"), "403", "origin"),
        (upgrade("/ws", Sec_WebSocket_Key="x"), "400", "malformed"),
        (b"\n\n\n", "400", "malformed"),
        (head("/page", host="evil.example"), "400", "host"),
        (head("/page", "Content-Length: 99999999"), "413", "size"),
        (head("/page", "Transfer-Encoding: chunked"), "411", "length"),
        (head("/page", "Expect: more"), "417", "expect"),
        (head("/" + "x" * 9000), "414", "size"),
        (head("/page", "X: " + "x" * 9000), "431", "size"),
        (head("/page", version="HTTP/3.0"), "505", "version"),
        (b"\x16\x03\x01\x02\x00", "400", "tls"),
    ],
)
def test_refusals(request_, status, reason):
    with serving(routes=routes_of(), metrics=True) as server:
        assert status_of(server, request_) == int(status)
        comes_to(server, "refused_total", 1, status=status, reason=reason)
        assert len(figures_of(server).labels("refused_total")) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"max_connections": 1}, "full"), ({"max_connections_per_address": 1}, "address")],
)
def test_refusals_of_a_full_server(options, reason):
    # The page counts as one of its address, so that limit is asked for what was counted.
    with serving(routes=routes_of(), metrics=True, **options) as server:
        with ws.connect(f"{server.url}/ws") as conn:
            conn.send("x")
            assert conn.receive(TIMEOUT) == "x"
            with pytest.raises(ws.HandshakeError) as caught:
                ws.connect(f"{server.url}/ws")
            assert caught.value.status == 503
        comes_to_after(server, "refused_total", 1, status="503", reason=reason)


def comes_to_after(server, name, value, **labels):
    """As `comes_to`, where the page itself may be refused for a moment."""

    def is_there():
        answer = ask(server, head("/metrics"))
        return answer.status == 200 and Figures(answer.body)(name, **labels) >= value

    until(is_there)


def test_peers_that_are_closed_without_an_answer():
    with serving(routes=routes_of(), metrics=True, handshake_timeout=1) as server:
        with dial(server) as silent:
            assert silent.recv(1) == b""
        comes_to(server, "refused_total", 1, status="-", reason="timeout")
        with dial(server) as slow:
            slow.sendall(b"GET /")
            assert read_all(slow).startswith(b"HTTP/1.1 408 ")
        comes_to(server, "refused_total", 1, status="408", reason="timeout")


def test_peers_that_do_not_speak_tls():
    for_client, for_server = tls_contexts()
    with serving(routes=routes_of(), metrics=True, ssl_context=for_server) as server:
        with dial(server) as bad:
            bad.sendall(b"\x16\x03\x01\x00\x05bytes")
            read_all(bad)
        assert status_of(server, head("/")) == 400

        def found():
            with (
                dial(server) as bare,
                for_client.wrap_socket(bare, server_hostname="localhost") as sock,
            ):
                sock.sendall(head("/metrics"))
                figures = Figures(Answer(read_all(sock)).body)
            return [figures("refused_total", status=s, reason="tls") for s in ("-", "400")]

        until(lambda: found() == [1, 1])


def test_the_texts_of_the_reasons_are_those_that_are_sent():
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (SOURCE / "_server").glob("*.py")
        if path.name != "metrics.py"
    )
    for reason in _metrics._REASONS:
        assert f'"{reason}"' in source, reason


# -- pages and times ---------------------------------------------------------------


def test_pages_by_route_and_status(tmp_path):
    (tmp_path / "file").write_text("x")
    routes = routes_of(page=lambda request: text(int(request.query.get("s", "200")), "x"))
    routes.get("/fails", lambda request: exiting())
    routes.static("/files", tmp_path)
    with serving(routes=routes, metrics=True) as server:
        for target in ("/page", "/page?s=418", "/page?s=418", "/fails"):
            ask(server, head(target))
        ask(server, head("/page", method="HEAD"))
        assert status_of(server, head("/files/file")) == 200
        assert status_of(server, head("/files/nothing")) == 404
        figures = figures_of(server)

    def count(route, status):
        return figures("page_requests_total", route=route, status=status)

    assert count("/page", "200") == 2  # HEAD is one
    assert count("/page", "418") == 2
    assert count("/fails", "500") == 1
    assert (count("/files", "200"), count("/files", "404")) == (1, 1)
    assert figures("page_seconds_count", route="/page") == 4
    assert figures.labels("refused_total") == []


def test_the_page_counts_itself():
    with serving(echo, metrics=True) as server:
        for count in range(3):
            figures = figures_of(server)
            assert figures("page_requests_total", route="/metrics", status="200") == count


def test_the_time_of_handlers_and_handshakes(monkeypatch):
    clock, asked, go_on = [100.0], threading.Event(), threading.Event()
    monkeypatch.setattr(_metrics, "monotonic", lambda: clock[0])

    def page(request):
        asked.set()
        return str(go_on.wait(TIMEOUT))

    routes = Routes()
    routes.websocket("/quick", lambda client: None)
    routes.websocket("/slow", lambda client: go_on.wait(TIMEOUT), close_timeout=0.1)
    routes.get("/page", page)
    with serving(routes=routes, metrics=True) as server, dial(server) as asking:
        asking.sendall(head("/page"))
        assert asked.wait(TIMEOUT)
        with dial(server) as late:
            until(lambda: has_accepted(server, late))
            clock[0] += 2
            late.sendall(upgrade("/slow"))
            comes_to(server, "connections", 1)
            with ws.connect(f"{server.url}/quick") as quick:
                assert quick.receive(TIMEOUT) is None
            comes_to(server, "handler_seconds_count", 1, route="/quick")
            assert figures_of(server)("handler_seconds_count", route="/slow") == 0
            clock[0] += 5
            go_on.set()
            comes_to(server, "handler_seconds_count", 1, route="/slow")
        read_all(asking)
        figures = figures_of(server)
    assert figures("handler_seconds_sum", route="/quick") == 0
    assert figures("handler_seconds_sum", route="/slow") == 5
    assert figures("handler_seconds_bucket", route="/slow", le="1.0") == 0
    assert figures("handler_seconds_bucket", route="/slow", le="10.0") == 1
    assert figures("page_seconds_sum", route="/page") == 7
    assert figures("handshake_seconds_sum") == 2
    assert figures("handshake_seconds_count") == 2


# -- peers and labels ------------------------------------------------------------------


def test_no_peer_makes_a_label():
    """Whatever paths, methods, codes and errors come: what there is stays in its bounds."""
    secret = "s3cret"
    with serving(routes=routes_of(), metrics=True) as server:
        for i in range(40):
            ask(server, head(f"/{secret}{i}?{secret}", method=f"M{i}"))
            ask(server, head("/page", f"X-{secret}{i}: {secret}"))
            ask(server, head(f"/page\x1f{secret}{i}"))
            ask(server, f"GET /page HTTP/1.1\r\nHost: {secret}{i}\r\n\r\n".encode())
            with raw_websocket(server, "/ws") as peer:
                peer.send(8, (3000 + 49 * i).to_bytes(2, "big") + secret.encode())
                assert peer.receive()[0] == 8
        comes_to(server, "handlers", 0)
        body = ask(server, head("/metrics")).body
    assert secret.encode() not in body
    figures = Figures(body)
    assert {each["code"] for each in figures.labels("closed_total")} == {"3xxx", "4xxx"}
    assert len(figures.labels("refused_total")) <= 4
    routes = {each["route"] for each in figures.labels("page_requests_total")}
    assert routes <= {"/page", "/metrics"}
    assert len(figures.samples) < 200


def test_unknown_reasons_are_one():
    assert _metrics._reason_label(499, "whatever") == "other"
    assert _metrics._reason_label("-", "whatever") == "other"
    assert _metrics._reason_label("-", "TLS failed: [SSL] whatever") == "tls"


# -- the page ---------------------------------------------------------------------------


def test_formats():
    with serving(echo, metrics="/figures") as server:
        answer = ask(server, head("/figures"))
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert answer.headers["cache-control"] == "no-store"
        accept = "application/openmetrics-text; version=1.0.0"
        answer = ask(server, head("/figures", f"Accept: {accept}"))
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        figures = Figures(answer.body, openmetrics.text_string_to_metric_families)
        assert figures("page_requests_total", route="/figures", status="200") == 1
        assert status_of(server, head("/metrics")) == 426


def test_it_is_a_page_like_others():
    with serving(routes=routes_of(), metrics=True, allowed_hosts=["example.com"]) as server:
        assert status_of(server, head("/metrics", host="evil.example")) == 400
        assert status_of(server, head("/metrics", host="example.com")) == 200
        assert status_of(server, head("/metrics", method="POST", host="example.com")) == 405


@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
def test_the_process_is_told_of():
    with serving(echo, metrics=True) as server:
        figures = figures_of(server)
    assert figures("process_open_fds") > 3
    assert figures("process_resident_memory_bytes") > MIB


def test_two_servers_count_for_themselves():
    with (
        serving(echo, metrics=True) as one,
        serving(echo, metrics=True) as other,
        ws.connect(one.url),
    ):
        comes_to(one, "connections", 1)
        assert figures_of(other)("connections") == 0


def test_a_server_without_them_counts_nothing():
    with serving(routes=routes_of()) as server:
        assert server._sessions.figures is NO_FIGURES
        assert status_of(server, head("/metrics")) == 404
        with ws.connect(f"{server.url}/ws") as conn:
            conn.send("x")
            assert conn.receive(TIMEOUT) == "x"


@pytest.mark.threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_counts_nothing():
    with serving(echo, metrics=True) as server, ws.connect(server.url):
        comes_to(server, "connections", 1)

        def counts():
            return server._sessions.figures is not NO_FIGURES

        assert in_child(counts) is False
        assert counts()
        assert figures_of(server)("connections") == 1


# -- the package ---------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["prometheus_client"] = None  # as if it were not installed
import scriptling_ws as ws
ws.Server(print, port=0, health=True).close()
try:
    ws.Server(print, port=0, metrics=True)
except ImportError as error:
    print(error)
"""
UNASKED = """
import sys
import scriptling_ws as ws
ws.Server(print, port=0, health=True).close()
print("prometheus_client" in sys.modules)
"""


def test_without_the_package():
    with Process.python("-c", WITHOUT) as process:
        assert 'pip install "scriptling-ws[metrics]"' in process.line()
        assert process.finish() == ([], 0)


def test_it_is_not_imported_unasked():
    with Process.python("-c", UNASKED) as process:
        assert process.finish() == (["False"], 0)


SETUP = """
import scriptling.runtime as runtime
runtime.http.get("/", lambda request: "page")
"""


@posix_only
def test_from_the_command(tmp_path):
    (tmp_path / "setup.py").write_text(SETUP)
    options = ["-o", "metrics=true", "-o", "health=/up"]
    command = ["-m", "scriptling_ws", "--server", ":0", *options, "setup.py"]
    with Process.python(*command, cwd=tmp_path) as process:
        port = int(re.search(r"ws://127\.0\.0\.1:(\d+)", process.line())[1])
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
            sock.sendall(head("/up"))
            assert Answer(read_all(sock)).status == 200
        assert figures_at(port)("opened_total") == 0


@posix_only
def test_from_the_command_without_the_package(tmp_path, capfd):
    (tmp_path / "setup.py").write_text(
        f"import sys\nsys.modules['prometheus_client'] = None{SETUP}"
    )
    command = ["-m", "scriptling_ws", "--server", ":0", "-o", "metrics=true", "setup.py"]
    with Process.python(*command, cwd=tmp_path) as process:
        assert process.finish() == ([], 2)
    said = capfd.readouterr().err
    assert 'pip install "scriptling-ws[metrics]"' in said
    assert "Traceback" not in said


# -- several processes ------------------------------------------------------------------------

WORKER = """
import sys
import scriptling_ws as ws
from scriptling_ws._server import metrics

metrics.REFRESH = 0.02

def echo(client):
    for message in client:
        client.send(message)

with ws.Server(echo, port=0, metrics=True) as server:
    print(server.port, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def shared(tmp_path):
    """Two processes that share their figures: the processes, and their ports."""
    environment = python_environment(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    with (
        Process.python("-c", WORKER, env=environment) as one,
        Process.python("-c", WORKER, env=environment) as other,
    ):
        yield (one, other), [int(one.line()), int(other.line())]


@posix_only
def test_processes_add_up(shared):
    processes, ports = shared
    with contextlib.ExitStack() as stack:
        for port, count in zip(ports, (1, 2), strict=True):
            for _ in range(count):
                conn = stack.enter_context(ws.connect(f"ws://127.0.0.1:{port}"))
                for _ in range(10):
                    conn.send("x")
                    assert conn.receive(TIMEOUT) == "x"
        for port in ports:  # whichever is asked
            until(lambda port=port: figures_at(port)("connections") == 3)
            # The other one's are looked at now and then.
            until(lambda port=port: figures_at(port)("received_messages_total") == 30)
            until(lambda port=port: figures_at(port)("sent_messages_total") == 30)
        stack.close()
        until(lambda: figures_at(ports[0])("closed_total", code="1000") == 3)
        assert figures_at(ports[0])("handler_seconds_count", route="*") == 3
    for process in processes:
        process.tell("")
        assert process.finish() == ([], 0)


LEFT = """
import sys
from scriptling_ws._server import metrics
with metrics.for_workers() as folder:
    metrics.worker_left(int(sys.argv[1]))
print(folder)
"""


@posix_only
def test_of_a_process_that_was_killed_stays_what_it_had_counted(shared, tmp_path):
    processes, ports = shared
    with (
        ws.connect(f"ws://127.0.0.1:{ports[0]}"),
        ws.connect(f"ws://127.0.0.1:{ports[1]}") as other,
    ):
        until(lambda: figures_at(ports[0])("connections") == 2)
        processes[1].send_signal(signal.SIGKILL)
        processes[1].finish()
        assert figures_at(ports[0])("connections") == 2  # nobody has told
        environment = python_environment(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
        with Process.python("-c", LEFT, processes[1].pid, env=environment) as master:
            assert master.finish() == ([str(tmp_path)], 0)
        figures = figures_at(ports[0])
        assert (figures("connections"), figures("handlers")) == (1, 1)
        assert figures("opened_total") == 2
        other.close()


TOO_LATE = """
import os, sys
import prometheus_client
import scriptling_ws as ws
from scriptling_ws._server import metrics

def start_workers():
    with metrics.for_workers():
        print("started")

def make_a_server():
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
    ws.Server(print, port=0, metrics=True)

for call in (start_workers, make_a_server, start_workers):
    try:
        call()
    except RuntimeError as error:
        print(error)
"""


def test_a_package_that_was_imported_too_early(tmp_path):
    with Process.python("-c", TOO_LATE, tmp_path) as process:
        for _ in range(3):
            assert "set it before the program starts" in process.line()
        assert process.finish() == ([], 0)


TWO_SERVERS = """
import scriptling_ws as ws

def handler(client):
    client.receive()

options = {"port": 0, "metrics": True}
with ws.Server(handler, **options) as one, ws.Server(handler, **options) as two:
    for server in (one, two, two):
        ws.connect(server.url).close()
    print(one.port, flush=True)
    input()
"""


@posix_only
def test_two_servers_of_a_process_share_its_files(tmp_path):
    environment = python_environment(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    with Process.python("-c", TWO_SERVERS, env=environment) as process:
        port = int(process.line())
        until(lambda: figures_at(port)("closed_total", code="1000") == 3)
        assert figures_at(port)("opened_total") == 3
        process.tell("")
        assert process.finish() == ([], 0)


FORKED = """
import os, sys
from scriptling_ws._server import metrics
import scriptling_ws as ws

metrics.REFRESH = 0.02
with metrics.for_workers() as folder:
    if os.fork() == 0:
        with ws.Server(lambda client: client.receive(), port=0, metrics=True) as server:
            print(server.port, flush=True)
            ws.connect(server.url).close()
            sys.stdin.readline()
        os._exit(0)
    pid, status = os.wait()
    metrics.worker_left(pid)
    print(sorted(name.replace(str(pid), "PID") for name in os.listdir(folder)), status)
print(os.path.exists(folder), os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_master_that_forks_its_workers():
    """The files have the worker's number, so that they can be told to be a dead one's."""
    with Process.python("-c", FORKED) as process:
        port = int(process.line())
        until(lambda: figures_at(port)("closed_total", code="1000") == 1)
        process.tell("")
        lines, status = process.finish()
    assert lines == ["['counter_PID.db', 'histogram_PID.db'] 0", "False None"]
    assert status == 0


def test_the_task_beside_the_server_ends_with_it(monkeypatch, tmp_path):
    """As for several processes, but in this one: values of its own, no files."""
    refreshed = threading.Event()
    monkeypatch.setattr(_metrics, "REFRESH", 0.001)
    metrics = Metrics("/metrics")
    metrics._folder = str(tmp_path)
    monkeypatch.setattr(metrics, "refresh", refreshed.set)
    metrics.start()
    assert refreshed.wait(TIMEOUT)
    metrics.stop()
    metrics.stop()
    assert "scriptling-ws metrics" not in [thread.name for thread in threading.enumerate()]


# -- rooms ------------------------------------------------------------------------------------


class Room:
    """What the metrics ask of a room."""

    def __init__(self, members, queued=0, dropped=0, missed=0):
        self.members, self.queued, self.dropped, self.missed = members, queued, dropped, missed

    def stats(self):
        return self


def test_the_rooms_of_the_process(monkeypatch):
    rooms = [Room(3, queued=2, dropped=5), Room(1, dropped=1, missed=4), Room(0)]
    registry = SimpleNamespace(rooms=lambda: list(rooms))
    with serving(echo, metrics=True) as server:
        assert figures_of(server)("rooms") == 0
        monkeypatch.setitem(sys.modules, _room_figures._REGISTRY, registry)
        for _ in range(2):  # read again, nothing is counted twice
            figures = figures_of(server)
            assert (figures("rooms"), figures("room_members")) == (2, 4)
            assert (figures("room_members_most"), figures("room_queued_messages")) == (3, 2)
            assert figures("room_dropped_messages_total") == 6
            assert figures("room_missed_messages_total") == 4
        rooms[0].dropped, rooms[0].queued = 7, 0
        del rooms[1:]
        figures = figures_of(server)
        assert (figures("rooms"), figures("room_queued_messages")) == (1, 0)
        assert figures("room_dropped_messages_total") == 8  # that of a room that has ended stays


def test_a_room_of_this_package():
    registry = pytest.importorskip(_room_figures._REGISTRY, reason="there are no rooms")
    room = registry.room("metrics")

    def handler(client):
        room.join(client)
        client.receive(None)

    with serving(handler, metrics=True) as server:
        before = figures_of(server)("room_members")
        with ws.connect(server.url):
            comes_to(server, "room_members", before + 1)
            assert figures_of(server)("room_members_most") >= 1
        comes_to(server, "room_members", before)
