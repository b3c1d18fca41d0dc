"""The command's engines, with real processes."""

import signal

import pytest

from pairs import SOON
from processes import Process, python_environment
from scriptling_ws import connect
from services import Service

pytest.importorskip("gevent")

pytestmark = pytest.mark.processes

SETUP = """
import os, time
import scriptling_ws as ws
from scriptling_ws import runtime
from scriptling_ws._network import waiting

inside = 0

def handler(client):
    # It waits by a call of the standard library, as any library may.
    global inside
    inside += 1
    client.send(f"{waiting.engine().name} {os.getpid()}")
    while client.receive(0.01) is None and client.connected():
        time.sleep(0.01)
    client.send(str(inside))
    client.receive(10)

runtime.http.websocket("/ws", handler)
"""


SERVE = """
import scriptling_ws as ws
ws.serve(
    lambda client: [client.send(message) for message in client],
    port=0,
    ready=lambda server: print(server.url, flush=True),
)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "setup.py").write_text(SETUP)
    return tmp_path


@pytest.mark.parametrize(
    ("processes", "arguments", "environment", "name"),
    [
        (None, (), {}, "threads"),
        (None, ("--engine", "threads"), {"SCRIPTLING_WS_ENGINE": "gevent"}, "threads"),
        (None, ("--engine", "gevent"), {}, "gevent"),
        (None, (), {"SCRIPTLING_WS_ENGINE": "gevent"}, "gevent"),
        (None, ("--patch",), {}, "gevent"),
        (None, ("--patch", "--engine", "gevent"), {}, "gevent"),
        (2, (), {}, "threads"),
        (2, ("--engine", "gevent"), {}, "gevent"),
        (2, ("--patch",), {}, "gevent"),
    ],
    ids=str,
)
def test_which_engine_a_command_has(folder, processes, arguments, environment, name):
    with Service(folder, *arguments, processes=processes, **environment) as service:
        service.started()
        with connect(service.url + "/ws", SOON) as conn:
            assert conn.receive(SOON).split()[0] == name


@pytest.mark.parametrize("processes", [None, 2])
def test_handlers_that_wait_by_the_standard_library_let_each_other_run(folder, processes):
    with Service(folder, "--patch", processes=processes) as service:
        service.started()
        conns = [connect(service.url + "/ws", SOON) for _ in range(20)]
        workers = [conn.receive(SOON).split()[1] for conn in conns]
        for conn in conns:
            conn.send("go on")
        for conn, worker in zip(conns, workers, strict=True):
            assert int(conn.receive(SOON)) == workers.count(worker)
            conn.close()


@pytest.mark.parametrize("processes", [None, 2])
def test_the_end_of_a_command_with_gevent(folder, processes):
    with Service(folder, "--patch", processes=processes) as service:
        service.started()
        conns = [connect(service.url + "/ws", SOON) for _ in range(10)]
        for conn in conns:
            assert conn.receive(SOON)
        service.process.terminate()
        for conn in conns:
            while conn.receive(SOON) is not None:
                pass
            assert conn.close_code == 1001
        assert service.finish()[1] == 0


def test_gevent_with_threads_is_refused(folder):
    with Service(folder, "--patch", "--engine", "threads", processes=None) as service:
        lines, status = service.finish()
    assert status == 2
    assert "--patch is for greenlets" in lines[-1]


@pytest.mark.parametrize(
    "first",
    [
        "from gevent import monkey; monkey.patch_all()",
        "from scriptling_ws._network import waiting; waiting.choose('gevent')",
    ],
    ids=["patched", "in use"],
)
def test_a_program_with_gevent_cannot_be_a_master(first):
    program = f"""
{first}
import scriptling_ws as ws
try:
    ws.serve("library.function", port=0, processes=2)
except RuntimeError as error:
    print(error)
"""
    with Process.python("-c", program, env=python_environment()) as child:
        assert "gevent runs in this process, which cannot be forked" in child.line()
        assert child.finish() == ([], 0)


@pytest.mark.parametrize(
    ("first", "number"),
    [
        ("gevent", signal.SIGINT),
        ("gevent", signal.SIGTERM),
        ("gevent", signal.SIGHUP),
        ("package", signal.SIGINT),
    ],
)
def test_a_signal_ends_a_patched_program_that_serves(first, number):
    """Also where gevent has given the main thread the number of its greenlet."""
    patch = "from gevent import monkey; monkey.patch_all()"
    use = "from scriptling_ws._network import waiting; waiting.choose('gevent')"
    program = "\n".join([patch, use] if first == "gevent" else [use, patch]) + SERVE
    with Process.python("-c", program) as server:
        with connect(server.line(), SOON) as conn:
            conn.send("served")
            assert conn.receive(SOON) == "served"
            server.send_signal(number)
            assert conn.receive(SOON) is None
            assert conn.close_code == 1001
        assert server.finish() == ([], 0)
