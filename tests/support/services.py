"""The command with several processes, as a program of its own.

All of its processes have one pipe for their output: the end of that says that none is left.
"""

import re
import sys

from pairs import SOON
from processes import Process, python_environment
from scriptling_ws import connect

HANDLERS = """
import os
import threading

VERSION = 1


def greet(client):
    client.send(f"{VERSION} {os.getpid()}")
    for message in client:
        client.send(message)


def hold(client):
    client.send(f"{VERSION} {os.getpid()}")
    threading.Event().wait()
"""
SETUP = """
import scriptling.runtime as runtime

runtime.http.websocket("/ws", "handlers.greet")
runtime.http.websocket("/hold", "handlers.hold")
"""


def write(folder, *, version=1, setup=SETUP):
    """Write the setup script, and the handlers of this version."""
    text = HANDLERS.replace("VERSION = 1", f"VERSION = {version}")
    (folder / "handlers.py").write_text(text, encoding="utf-8")
    (folder / "setup.py").write_text(setup, encoding="utf-8")


class Service:
    """A running command; use it in a `with`. Its log is among its lines."""

    def __init__(
        self, folder, *arguments, server="127.0.0.1:0", processes=2, stdin=None, **environment
    ):
        if server is not None:
            arguments = ("--server", server, *arguments)
        if processes is not None:
            arguments = ("--processes", processes, *arguments)
        # The code of a reload may be written in the same second as that before.
        env = python_environment(PYTHONDONTWRITEBYTECODE="1", **environment)
        command = (sys.executable, "-m", "scriptling_ws", *arguments, "setup.py")
        shell = 'exec "$@" 2>&1' if stdin is None else 'exec "$@" 2>&1 <"$0"'
        self.process = Process("sh", "-c", shell, stdin or "sh", *command, cwd=folder, env=env)
        self.url = None

    def __enter__(self):
        self.process.__enter__()
        return self

    def __exit__(self, *error):
        self.process.__exit__(*error)

    def started(self):
        """Wait until all workers serve; itself."""
        try:
            line = self.process.line_with("scriptling-ws: listening on ")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.url = re.search(r"listening on (\S+) ", line)[1]
        return self

    def greeted(self, path="/ws", **options):
        """A connection, the version of the code that answers it, and by which process."""
        conn = connect(self.url + path, SOON, **options)
        version, process = conn.receive(SOON).split()
        return conn, int(version), int(process)

    def ask(self):
        """The version and the process that answer now."""
        conn, version, process = self.greeted()
        conn.close()
        return version, process

    def finish(self):
        """Wait until none of its processes is left; its last lines, and the exit status."""
        return self.process.finish()


def serving_processes(service, count):
    """A connection to each of the workers, by their processes' numbers."""
    found = {}
    spare = []
    try:
        while len(found) < count:
            conn, _, process = service.greeted()
            if process in found:
                spare.append(conn)  # open: who has many connections is not quicker to take another
            else:
                found[process] = conn
            assert len(spare) < 500, f"only {set(found)} take connections"
    finally:
        for conn in spare:
            conn.close()
    return found
