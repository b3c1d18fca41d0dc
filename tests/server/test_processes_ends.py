"""The end of several processes: what the clients are told, and that no process is left.

That a `finish` returns says that: all processes of a service have its output's pipe.
"""

import contextlib
import os
import signal
import socket
import sys

import pytest

from pairs import SOON, until
from processes import Process, is_alive
from scriptling_ws import ConnectError, connect
from services import Service, serving_processes, write

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


# -- signals to the master -----------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_all_connections_with_1001(folder, number):
    with Service(folder, processes=3).started() as service, contextlib.ExitStack() as stack:
        found = serving_processes(service, 3)
        clients = [*found.values(), *(service.greeted()[0] for _ in range(30))]
        for conn in clients:
            stack.enter_context(conn)
        service.process.send_signal(number)
        for conn in clients:
            assert conn.receive(SOON) is None
            assert conn.close_code == 1001
        lines, status = service.finish()
        assert status == 0
        assert not any("Traceback" in line or "killed" in line for line in lines)
        with pytest.raises(ConnectError):
            connect(service.url + "/ws", SOON)


def test_a_signal_that_the_terminal_sends_to_all_is_the_masters_business(folder):
    with Service(folder).started() as service, contextlib.ExitStack() as stack:
        found = serving_processes(service, 2)
        for process, conn in found.items():
            stack.enter_context(conn)
            os.kill(process, signal.SIGINT)
            os.kill(process, signal.SIGHUP)
        for conn in found.values():
            conn.send("still here")
            assert conn.receive(SOON) == "still here"
        service.process.send_signal(signal.SIGINT)
        for conn in found.values():
            assert conn.receive(SOON) is None
            assert conn.close_code == 1001
        assert service.finish()[1] == 0


def test_a_signal_that_a_service_manager_sends_to_all_cuts_nobody_off(folder):
    """The workers get it beside their master, which tells them to close as well."""
    with (
        Service(folder, "-o", "shutdown_timeout=1").started() as service,
        contextlib.ExitStack() as stack,
    ):
        found = serving_processes(service, 2)
        held = [service.greeted("/hold")[0] for _ in range(4)]  # so that closing takes its time
        for conn in (*found.values(), *held):
            stack.enter_context(conn)
        for number in (signal.SIGTERM, signal.SIGTERM):
            for process in found:
                os.kill(process, number)
        service.process.send_signal(signal.SIGTERM)
        for process in found:
            os.kill(process, signal.SIGTERM)
        for conn in (*found.values(), *held):
            assert conn.receive(SOON) is None
            assert conn.close_code == 1001
        lines, status = service.finish()
        assert status == 0
        assert not any("SIGTERM" in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(folder, number):
    options = ("-o", "shutdown_timeout=none")
    with Service(folder, *options).started() as service:
        conn, _, _ = service.greeted("/hold")  # its handler would go on for ever
        with conn:
            service.process.send_signal(signal.SIGTERM)
            assert conn.receive(SOON) is None
            assert conn.close_code == 1001
            service.process.send_signal(number)
            _, status = service.finish()
            # As of a program without workers: SIGINT is a KeyboardInterrupt.
            assert status == (-signal.SIGTERM if number == signal.SIGTERM else -signal.SIGINT)


STUBBORN = """
import signal, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("stubborn", flush=True)
threading.Event().wait()
"""


def test_a_worker_that_does_not_end_in_time_is_killed(folder):
    write(folder, setup=STUBBORN)
    program = (
        "import sys\n"
        "from scriptling_ws import __main__ as cli\n"
        "from scriptling_ws._server import master\n"
        "master._MARGIN = 0.2\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    arguments = ("--server", "127.0.0.1:0", "--processes", "2", "-o", "shutdown_timeout=0")
    command = (program, *arguments, "setup.py")
    with Process(
        "sh", "-c", 'exec "$0" -c "$@" 2>&1', sys.executable, *command, cwd=folder
    ) as service:
        service.line_with("stubborn")
        service.send_signal(signal.SIGTERM)
        lines, status = service.finish()
        assert status == 0
        assert sum("does not end in time, and is killed" in line for line in lines) == 1


def test_a_script_cannot_make_its_worker_deaf(folder):
    setup = (folder / "setup.py").read_text()
    ignored = "import signal\nfor n in (1, 2, 15):\n    signal.signal(n, signal.SIG_IGN)\n"
    write(folder, setup=ignored + setup)
    with Service(folder).started() as service:
        conn, _, _ = service.greeted()
        with conn:
            service.process.send_signal(signal.SIGTERM)
            assert conn.receive(SOON) is None
            assert conn.close_code == 1001
        lines, status = service.finish()
        assert status == 0
        assert not any("killed" in line for line in lines)


def test_an_exception_in_the_master_leaves_no_worker_behind(folder):
    """Such as of a signal handler of the program."""
    program = (
        "import signal, sys\n"
        "sys.path.insert(0, '.')\n"
        "import scriptling_ws as ws\n"
        "def handle(number, frame):\n    raise ZeroDivisionError\n"
        "signal.signal(signal.SIGALRM, handle)\n"
        "tell = lambda server: print(server.url, flush=True)\n"
        "try:\n    ws.serve('handlers.greet', port=0, processes=2, ready=tell)\n"
        "except ZeroDivisionError:\n    print('raised')\n"
    )
    with Process.python("-c", program, cwd=folder) as service:
        url = service.line_with("ws://")
        service.line_with("ws://")
        with connect(url) as conn:
            service.send_signal(signal.SIGALRM)
            assert service.finish() == (["raised"], 0)
            while conn.receive(SOON) is not None:
                """Its greeting."""
            assert conn.close_code == 1006


# -- a master that is gone -----------------------------------------------------------


def test_workers_leave_by_themselves_when_their_master_is_killed(folder):
    with Service(folder, processes=3).started() as service, contextlib.ExitStack() as stack:
        found = serving_processes(service, 3)
        for conn in found.values():
            stack.enter_context(conn)
        service.process.send_signal(signal.SIGKILL)
        for conn in found.values():
            assert conn.receive(SOON) is None
            assert conn.close_code == 1001
        assert service.finish()[1] == -signal.SIGKILL
        host, port = service.url.removeprefix("ws://").split(":")
        with socket.create_server((host, int(port))):
            """The address is free."""


def test_a_worker_that_starts_leaves_too_when_its_master_is_killed(folder):
    gate = folder / "gate"
    os.mkfifo(gate)
    setup = (folder / "setup.py").read_text()
    write(folder, setup=f"print('at the gate', flush=True)\nopen('gate').close()\n{setup}")
    with Service(folder) as service:
        service.process.line_with("at the gate")
        service.process.send_signal(signal.SIGKILL)
        service.process._process.wait(SOON)
        gate.open("w").close()  # it goes on, and finds itself alone
        assert service.finish()[1] == -signal.SIGKILL


def test_a_worker_that_leaves_after_a_reload_leaves_when_its_master_is_killed(folder):
    with Service(folder, "--reload-timeout", "600").started() as service:
        conn, _, old = service.greeted()
        with conn:
            service.process.send_signal(signal.SIGHUP)
            service.process.line_with("reloaded: new workers serve")
            until(lambda: service.ask()[1] != old)
            service.process.send_signal(signal.SIGKILL)
            assert conn.receive(SOON) is None
            assert conn.close_code == 1001
        assert service.finish()[1] == -signal.SIGKILL


# -- what a worker does at its end -----------------------------------------------------


def test_what_a_script_has_registered_for_the_end_runs_in_its_worker(folder):
    setup = (folder / "setup.py").read_text()
    more = (
        "import atexit, os\n"
        "end = lambda: os.write(1, b'end %r\\n' % runtime.http.server.wait(0))\n"
        "atexit.register(end)\n"
    )
    write(folder, setup=setup + more)
    with Service(folder, processes=2).started() as service:
        service.process.send_signal(signal.SIGTERM)
        lines, status = service.finish()
        assert status == 0
        assert [line for line in lines if line.startswith("end")] == ["end True"] * 2


def test_what_the_program_has_registered_does_not(tmp_path):
    program = (
        "import atexit, os, sys\n"
        "import scriptling_ws as ws\n"
        "print('written once')\n"
        "atexit.register(lambda: print('end of', os.getpid()))\n"
        "def handler(client):\n    pass\n"
        "ws.serve(handler, port=0, processes=2, ready=lambda server: os.write(1, b'ready\\n'))\n"
    )
    with Process.python("-c", program) as service:
        for _ in range(2):
            service.line_with("ready")
        service.send_signal(signal.SIGTERM)
        lines, status = service.finish()
        assert status == 0
        assert lines == [f"end of {service._process.pid}"]


def test_a_worker_that_ends_by_itself_is_replaced(folder):
    more = "runtime.http.get('/end', lambda request: runtime.http.server.close() or 'closed')\n"
    write(folder, setup=(folder / "setup.py").read_text() + more)
    with Service(folder, processes=1).started() as service:
        _, first = service.ask()
        host, port = service.url.removeprefix("ws://").split(":")
        with socket.create_connection((host, int(port)), SOON) as sock:
            sock.sendall(b"GET /end HTTP/1.1\r\nHost: localhost\r\n\r\n")
            service.process.line_with(f"worker {first} has ended with status 0")
        until(lambda: service.ask()[1] != first)
        assert not is_alive(first)


# -- one process -------------------------------------------------------------------------


def test_a_second_signal_ends_one_process_at_once(folder):
    with Service(folder, "-o", "shutdown_timeout=none", processes=None).started() as service:
        conn, _, _ = service.greeted("/hold")
        with conn:
            service.process.send_signal(signal.SIGTERM)
            assert conn.receive(SOON) is None
            assert conn.close_code == 1001
            service.process.send_signal(signal.SIGTERM)
            assert service.finish()[1] == -signal.SIGTERM
