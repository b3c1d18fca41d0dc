"""The line that says where `serve` listens: in the log, or where there is none on stderr."""

import signal
import subprocess
import sys

import pytest

import scriptling_ws as ws
from processes import Process
from scriptling_ws._server.announcing import announce, listening

pytestmark = pytest.mark.processes

PROGRAM = """
import logging, sys
import scriptling_ws as ws

def main(how, processes):
    if how == "log":
        logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    elif how == "quiet":
        logging.basicConfig(level=logging.WARNING)
    routes = ws.Routes()
    if how != "bare":
        routes.get("/", lambda request: "hello")
    routes.websocket("/ws", lambda client: None)
    ready = (lambda server: print("mine", server.url, flush=True)) if how == "ready" else None
    more = {"processes": int(processes)} if processes != "0" else {}
    ws.serve(routes=routes, port=0, ready=ready, **more)

main(*sys.argv[1:])
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path / "program.py"


def test_the_words():
    assert listening("ws://a:1", "") == "listening on ws://a:1 (Ctrl-C ends it)"
    assert listening("ws://a:1", "http://a:1/") == (
        "listening on ws://a:1 (in a browser http://a:1/; Ctrl-C ends it)"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("how", ["plain", "bare", "log"])
def test_one_line_on_stderr_or_in_the_log(program, how, processes):
    """Standard output is the program's: here its stderr is that of the test's."""
    with Process.python(program, how, processes, stderr=subprocess.STDOUT) as server:
        line = server.line()
        expected = {"log": "scriptling_ws.server listening on"}.get(how, "scriptling_ws: listening")
        assert line.startswith(expected)
        assert ("in a browser http://127.0.0.1:" in line) == (how != "bare")
        server.send_signal(signal.SIGINT)
        lines, status = server.finish()
        assert status == 0
        assert not [line for line in lines if "listening" in line]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
@pytest.mark.parametrize("processes", [0, 1])
def test_who_announces_it_is_not_in_anybody_s_way(program, processes):
    with Process.python(program, "ready", processes, stderr=subprocess.STDOUT) as server:
        assert server.line().startswith("mine ws://127.0.0.1:")
        server.send_signal(signal.SIGINT)
        lines, status = server.finish()
        assert status == 0
        assert not [line for line in lines if "listening" in line]


def test_a_program_that_has_set_up_logging_is_not_written_past(capfd, caplog):
    caplog.set_level("INFO", "scriptling_ws.server")
    announce("ws://a:1", "", shown=True)  # pytest has set it up
    assert [record.getMessage() for record in caplog.records] == [listening("ws://a:1", "")]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("stderr", [None, "closed"])
def test_a_program_without_stderr_serves(monkeypatch, tmp_path, stderr):
    if stderr is not None:
        stderr = (tmp_path / "stderr").open("w")
        stderr.close()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr("scriptling_ws._server.announcing._logger", _Unheard())
    announce("ws://a:1", "", shown=True)


class _Unheard:
    """A log that nobody has set up."""

    def info(self, text):
        """Nobody hears it."""

    def hasHandlers(self):
        return False


@pytest.mark.parametrize("processes", [None, 2])
def test_what_is_told_of_it_has_to_be_a_function(processes):
    with pytest.raises(TypeError, match="ready has to be a function of the server, not str"):
        ws.serve(lambda client: None, port=0, ready="told", processes=processes)
