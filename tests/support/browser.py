"""Chromium without a window, told what to do over DevTools: by a WebSocket client of ours.

Rules:

- One browser runs for all tests of a file, with an empty profile; each test has tabs of its own.
- A script in a page returns what a test wants to know: nothing waits for a time to pass.
- It takes the tests' certificates, whose authority no browser knows.
"""

import contextlib
import http.client
import json
import os
from pathlib import Path

import scriptling_ws as ws
from pairs import until
from processes import DEADLINE
from programs import directory, find, started
from servers import TIMEOUT

NAMES = ["chromium", "chromium-browser", "google-chrome"]
# A name that leads to this machine, as a stranger's name server may answer for it.
REBOUND = "rebound.example"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--ignore-certificate-errors",
    "--remote-debugging-port=0",
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
]


class Tab:
    """A tab of the browser."""

    def __init__(self, conn):
        self._conn = conn
        self._number = 0
        self._events = []

    def call(self, method, **parameters):
        """Call a method of DevTools; its result."""
        self._number += 1
        self._conn.send({"id": self._number, "method": method, "params": parameters})
        while (message := self._next()).get("id") != self._number:
            self._events.append(message)
        assert "error" not in message, message
        return message["result"]

    def _next(self):
        message = self._conn.receive(DEADLINE)
        assert message is not None, f"DevTools says nothing: {self._conn.close_code}"
        return json.loads(message)

    def open(self, url):
        """Go to a page, and wait until it is loaded."""
        self.call("Page.enable")
        self._events.clear()
        result = self.call("Page.navigate", url=url)
        assert "errorText" not in result, result
        while all(event.get("method") != "Page.loadEventFired" for event in self._events):
            self._events.append(self._next())

    def run(self, script):
        """Run the body of an asynchronous function in the page; what it returns."""
        result = self.call(
            "Runtime.evaluate",
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")


class Browser:
    """A browser that runs."""

    def __init__(self, port):
        self._port = port

    def _ask(self, method, path):
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        with contextlib.closing(client):
            client.request(method, path)
            return client.getresponse().read()

    @contextlib.contextmanager
    def tab(self, url=None):
        """A new tab, at a page if one is named; it is closed in the end."""
        about = json.loads(self._ask("PUT", "/json/new?about:blank"))
        with ws.connect(about["webSocketDebuggerUrl"]) as conn:
            tab = Tab(conn)
            if url is not None:
                tab.open(url)
            yield tab
        self._ask("GET", f"/json/close/{about['id']}")


def processes_of(folder):
    """The processes that have a folder in their command line, on Linux."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if os.fsencode(folder) in entry.read_bytes():
                yield entry.parent.name


@contextlib.contextmanager
def chromium():
    """A browser that is ended in any case; without one installed the test is skipped."""
    path = find(*NAMES)
    with directory() as folder:
        profile, port_file = folder / "profile", folder / "profile" / "DevToolsActivePort"
        command = [path, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        log = (folder / "log").open("w")
        environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        with log, started(*command, stdout=log, stderr=log, env=environment) as program:
            program.await_(lambda: port_file.exists() and port_file.read_text().count("\n"))
            yield Browser(int(port_file.read_text().split()[0]))
        # Its crash handlers are in sessions of their own, and end when the browser has.
        until(lambda: not any(processes_of(folder)))
