"""Several processes: who serves, what becomes of those that fall, and of code that cannot start."""

import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from pairs import SOON, Running, until
from processes import Process
from scriptling_ws import serve
from scriptling_ws._network.deadline import FOREVER
from scriptling_ws._server import restarts as _restarts
from scriptling_ws._server.crew import Worker, ending
from scriptling_ws._server.restarts import Pace
from scriptling_ws._server.worker import READY, STOP, Link
from servers import echo
from services import Service, serving_processes, write

pytestmark = pytest.mark.processes

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


def echoes(conn, text):
    """Whether a connection is answered."""
    conn.send(text)
    return conn.receive(SOON) == text


# -- serving -----------------------------------------------------------------------


@forks
def test_each_worker_serves_and_the_master_does_not(folder):
    with Service(folder, processes=3).started() as service, contextlib.ExitStack() as stack:
        found = serving_processes(service, 3)
        for process, conn in found.items():
            stack.enter_context(conn)
            assert echoes(conn, f"to {process}")
        assert service.process._process.pid not in found


@forks
def test_one_worker_has_a_master_too(folder):
    with Service(folder, processes=1).started() as service:
        _, first = service.ask()
        os.kill(first, signal.SIGKILL)
        service.process.line_with(f"worker {first} has ended by SIGKILL")
        until(lambda: service.ask()[1] != first)


PROGRAM = """
import os, sys
import scriptling_ws as ws

def greet(client):
    client.send(f"1 {os.getpid()}")

def ready(server):
    # In one step: the lines of two workers would mix.
    told = f"ready {os.getpid()} {server.url} {'NOTIFY_SOCKET' in os.environ}\\n"
    os.write(1, told.encode())

os.environ["NOTIFY_SOCKET"] = "@nobody-listens-there"
if __name__ == "__main__":
    print("master", os.getpid(), flush=True)
    ws.serve(greet, port=0, processes=2, ready=ready)
    print("the end of", os.getpid(), flush=True)
"""


@forks
def test_serve_from_a_program(tmp_path):
    """`ready` is called in each worker; the rest of the program runs in the master alone."""
    (tmp_path / "program.py").write_text(PROGRAM)
    with Process.python(tmp_path / "program.py") as program:
        master = int(program.line().split()[1])
        ready = [program.line().split() for _ in range(2)]
        workers = {int(process) for _, process, _, _ in ready}
        assert len(workers) == 2
        assert master not in workers
        assert {url for _, _, url, _ in ready} == {ready[0][2]}
        assert {told for *_, told in ready} == {"False"}
        program.send_signal(signal.SIGTERM)
        assert program.finish() == ([f"the end of {master}"], 0)


# -- those that fall -----------------------------------------------------------------


@forks
def test_a_worker_that_is_killed_takes_none_but_its_own_connections_along(folder):
    with Service(folder).started() as service, contextlib.ExitStack() as stack:
        found = serving_processes(service, 2)
        for conn in found.values():
            stack.enter_context(conn)
        (fallen, lost), (_, kept) = found.items()
        over = threading.Event()

        def load():
            count = 0
            while not over.is_set():
                assert echoes(kept, f"echo {count}")
                count += 1
            return count

        loading = Running(load)
        os.kill(fallen, signal.SIGKILL)
        assert lost.receive(SOON) is None
        assert (lost.connected(), lost.close_code) == (False, 1006)
        service.process.line_with(f"worker {fallen} has ended by SIGKILL: another one starts in")
        until(lambda: service.ask()[1] not in found)
        over.set()
        assert loading.result() > 0
        assert echoes(kept, "still here")


@forks
def test_a_worker_that_falls_at_once_again_and_again_is_started_ever_more_slowly(folder):
    broken = folder / "broken"
    setup = (folder / "setup.py").read_text()
    write(folder, setup=f"import os\nif os.path.exists('broken'):\n    os._exit(9)\n{setup}")
    with Service(folder).started() as service:
        _, fallen = service.ask()
        broken.touch()
        os.kill(fallen, signal.SIGKILL)
        pauses = []
        for how in ("by SIGKILL", *["with status 9"] * 3):
            line = service.process.line_with("another one starts in")
            assert f"has ended {how}" in line
            pauses.append(float(re.search(r"in ([\d.]+) s", line)[1]))
        assert pauses == [0.1, 0.2, 0.4, 0.8]
        version, other = service.ask()  # the other one serves all the while
        assert (version, other != fallen) == (1, True)
        broken.unlink()
        until(lambda: service.ask()[1] not in (fallen, other))


def test_the_pace_of_restarts(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(_restarts, "monotonic", lambda: now[0])

    def falls_after(seconds):
        pace.start()
        now[0] += seconds
        return pace.fall()

    pace = Pace()
    assert [falls_after(9.9) for _ in range(12)] == [
        pytest.approx(pause)
        for pause in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30)
    ]
    assert [falls_after(0) for _ in range(10_000)][-1] == 30
    assert falls_after(10) == 0  # it has run well
    assert falls_after(1) == 0.1


@pytest.mark.parametrize(
    ("status", "text"),
    [(0, "with status 0"), (3, "with status 3"), (-9, "by SIGKILL"), (-63, "by signal 63")],
)
@forks
def test_how_a_worker_has_ended(status, text):
    assert ending(status) == text


@forks
def test_where_no_process_can_be_started_it_is_tried_again(monkeypatch, log):
    tries = []

    def full():
        tries.append(1)
        if len(tries) == 3:
            signal.raise_signal(signal.SIGTERM)
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    serve(echo, port=0, processes=2)
    assert len(tries) == 3
    said = [text for text in log.texts() if text.startswith("no worker can be started")]
    assert [text[-5:] for text in said] == ["0.1 s", "0.2 s", "0.4 s"]


@forks
def test_a_process_that_somebody_else_has_waited_for():
    """As a program does that waits for any of its children: it has ended."""
    near, far = map(Link, socket.socketpair())
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(SOON)
    assert Worker(child.pid, near).reap() == 1
    near.close()
    far.close()


@forks
def test_a_worker_that_has_not_heard_the_signal_is_told_as_soon_as_it_serves():
    """It arrived as the worker was about to listen, and to take the signal over."""
    near, far = map(Link, socket.socketpair())
    deaf = "import signal\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf', flush=True)\ninput()"
    with Process.python("-c", deaf) as child:
        assert child.line() == "deaf"
        worker = Worker(child._process.pid, near)
        worker.stop(FOREVER)
        assert far.hear() is None
        far.say(READY)
        worker.listen()
        assert far.hear() == STOP
        child.tell("")
        assert child.finish() == ([], 0)
    near.close()
    far.close()


def test_what_is_heard_of_the_other_end():
    near, far = map(Link, socket.socketpair())
    assert near.hear() is None
    far.say(b"R")
    assert near.hear() == b"R"
    near.say(b"unread")  # with that, closing is a reset
    far.close()
    assert near.hear() == b""
    near.say(b"nobody hears it")
    near.close()


ROOMS = """
import scriptling_ws as ws
import scriptling.runtime as runtime
try:
    ws.room("chat")
    print("there is a room", flush=True)
except RuntimeError as error:
    print("there is none:", error, flush=True)
runtime.http.get("/", lambda request: "")
"""


@forks
@pytest.mark.parametrize(("processes", "rooms"), [(2, "there is none:"), (1, "there is a room")])
def test_rooms_of_one_process_are_refused_where_there_are_several(folder, processes, rooms):
    write(folder, setup=ROOMS)
    with Service(folder, processes=processes) as service:
        service.process.line_with(rooms)


# -- code that cannot start --------------------------------------------------------------


@pytest.mark.parametrize(
    ("setup", "status", "text"),
    [
        ("1 / 0\n", 1, "ZeroDivisionError: division by zero"),
        ("raise SystemExit(7)\n", 7, None),
        ("raise SystemExit('no database')\n", 1, "no database"),
        ("raise SystemExit\n", 0, None),
        ("", 2, "scriptling-ws: .*setup.py registers no route"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", 137, "giving up"),
        (
            "from scriptling.runtime import http\nhttp.websocket('/', 'no_such.handler')\n",
            1,
            "ImportError: there is no module 'no_such'",
        ),
    ],
)
@forks
def test_code_that_cannot_start_is_shown_once_and_ends_it(folder, setup, status, text):
    write(folder, setup=setup)
    with Service(folder, processes=4) as service:
        lines, code = service.finish()
        assert code == status
        assert [line for line in lines if "listening" in line] == []
        if text is not None:
            assert sum(bool(re.search(text, line)) for line in lines) == 1


@forks
def test_an_option_that_cannot_be_used_is_one_line(folder):
    with Service(folder, "-o", "max_connections=0") as service:
        lines, code = service.finish()
        assert (len(lines), code) == (1, 2)
        assert lines[0].startswith("scriptling-ws: max_connections has to be at least 1")


@forks
def test_serve_says_that_no_worker_could_start(tmp_path):
    code = (
        "import scriptling_ws as ws\n"
        "try:\n"
        "    ws.serve('no_such.handler', port=0, processes=2)\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    with Process("sh", "-c", 'exec "$@" 2>&1', "sh", sys.executable, "-c", code) as program:
        lines, status = program.finish()
    assert status == 0
    assert lines[-1].startswith("no worker could start: the first one ended with status 1")
    assert sum("there is no module 'no_such'" in line for line in lines) == 1


# -- where it cannot be ------------------------------------------------------------------


def test_a_system_without_fork(monkeypatch):
    monkeypatch.delattr(os, "fork", raising=False)
    with pytest.raises(OSError, match="several processes need fork") as caught:
        serve(echo, port=0, processes=2)
    assert caught.value.errno == errno.ENOSYS


@forks
def test_another_thread_than_the_main_one():
    with pytest.raises(RuntimeError, match="several processes need the main thread"):
        Running(lambda: serve(echo, port=0, processes=2)).result()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"processes": 0}, ValueError, "processes has to be at least 1"),
        ({"processes": True}, TypeError, "processes has to be an int"),
        ({"processes": 1, "reload_timeout": -1}, ValueError, "reload_timeout has to be 0 or more"),
        ({"processes": 1, "shutdown_timeout": "1"}, TypeError, "shutdown_timeout has to be"),
        ({"processes": 1, "port": 70000}, ValueError, "port has to be 0 to 65535"),
        ({"processes": 1, "procesess": 1}, TypeError, "did you mean 'processes'"),
    ],
)
def test_wrong_options(options, error, text):
    with pytest.raises(error, match=text):
        serve(echo, **{"port": 0, **options})
