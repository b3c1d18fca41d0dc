"""`scriptling-ws connect` on a real terminal, with prompt_toolkit and without it."""

import contextlib
import errno
import logging
import os
import re
import signal
import stat
import sys

import pytest

pytest.importorskip("pexpect", reason="pexpect is not installed")
pytest.importorskip("pyte", reason="pyte is not installed")
if os.name == "nt":
    pytest.skip("Windows has no ptys", allow_module_level=True)

from driven import Driven
from pairs import SOON, both_ends, connection, running, tcp_pair, until
from scriptling_ws._command.history import History
from scriptling_ws._command.screen import Screen
from scriptling_ws._command.session import Session
from terminals import Terminal

pytestmark = pytest.mark.processes

HOSTILE = "\x1b[31mred\x1b[2J\x1b]0;title\x07 \x9b1m\nscriptling-ws: forged\x7f"
SHOWN = r"\x1b[31mred\x1b[2J\x1b]0;title\x07 \x9b1m"


@pytest.fixture
def state(tmp_path):
    return {"XDG_STATE_HOME": str(tmp_path / "state"), "NO_COLOR": "1"}


@pytest.fixture
def without(tmp_path):
    """A directory with which in front there is no prompt_toolkit."""
    (tmp_path / "absent" / "prompt_toolkit").mkdir(parents=True)
    (tmp_path / "absent" / "prompt_toolkit" / "__init__.py").write_text(
        "raise ModuleNotFoundError('there is none', name='prompt_toolkit')\n"
    )
    return tmp_path / "absent"


def connected(peer, *arguments, env, before=None):
    """The command on a terminal, and the other end of its connection."""
    terminal = Terminal(
        "-m", "scriptling_ws", "connect", *arguments, peer.url, env=env, before=before
    )
    conn = peer.accept()
    terminal.until("connected to 127.0.0.1")
    return terminal, conn


def at_prompt(terminal):
    return terminal.typed == "> "


# -- with line editing ------------------------------------------------------------


def test_messages_do_not_disturb_the_line_that_is_typed(peer, state):
    terminal, conn = connected(peer, env=state)
    with terminal:
        terminal.until(at_prompt)
        terminal.type("half a li")
        terminal.until(lambda t: t.typed == "> half a li")
        conn.send("first")
        conn.send_binary(b"\x01\x02\xff")
        terminal.until(lambda t: "< binary, 3 bytes: 01 02 ff" in t.lines and t.typed != "")
        terminal.until(lambda t: t.typed == "> half a li")
        assert terminal.lines[-3:] == ["< first", "< binary, 3 bytes: 01 02 ff", "> half a li"]
        terminal.type("\x02\x02e \r")  # two to the left
        assert conn.receive(30) == "half a e li"
        terminal.type("\x04")
        assert conn.receive(30) is None
        assert conn.close_code == 1000
        assert terminal.end() == 0
        assert terminal.lines[-1] == "closed"


def test_a_flood_is_shown_in_order_and_keys_are_heard(peer, state):
    terminal, conn = connected(peer, env=state)
    with terminal:
        terminal.until(at_prompt)
        for number in range(1000):
            conn.send(f"number {number}")
        terminal.type("stop\r")
        assert conn.receive(60) == "stop"
        conn.send("the last")
        conn.close()
        assert terminal.end() == 0
        shown = re.findall(r"< (number \d+|the last)", terminal.written.decode())
        assert shown == [*(f"number {number}" for number in range(1000)), "the last"]


def test_a_peer_s_escape_sequences_do_not_reach_the_terminal(peer, state):
    terminal, conn = connected(peer, env=state)
    with terminal:
        terminal.until(at_prompt)
        before = terminal.written
        conn.send(HOSTILE)
        terminal.until("forged")
        assert f"< {SHOWN}" in terminal.lines
        assert r"  scriptling-ws: forged\x7f" in terminal.lines  # not where this program's begin
        assert b"\x1b[31m" not in terminal.written[len(before) :]
        assert b"\x07" not in terminal.written
        conn.close(4000, HOSTILE.replace("\n", ""))
        assert terminal.end() == 6
        assert b"\x1b[31m" not in terminal.written
        assert terminal.screen.title == ""


def test_commands(peer, state):
    terminal, conn = connected(peer, env=state)
    with terminal:
        terminal.until(at_prompt)
        terminal.type("/help\r")
        terminal.until("//text sends /text")
        terminal.type("\r")  # of which no message becomes
        terminal.type("//help\r")
        assert conn.receive(30) == "/help"
        terminal.type("/binary 01 02 ff\r")
        assert conn.receive(30) == b"\x01\x02\xff"
        terminal.type("/binary base64 AQL/\r")
        assert conn.receive(30) == b"\x01\x02\xff"
        terminal.type("/binary zz\r")
        terminal.until("'zz' is no hex: write bytes as in 01 02 ff")
        terminal.type("/nonsense\r")
        terminal.until("there is no command /nonsense")
        terminal.type("/stats\r")
        terminal.until(f"to 127.0.0.1:{peer.port}")
        terminal.until("  sent 3 messages of 11 bytes, 3 frames of 29 bytes")
        terminal.type("/close 1 no\r")
        terminal.until("code")
        terminal.type("/close x\r")
        terminal.until("'x' is no close code")
        terminal.type("/close 4001 enough of it\r")
        assert conn.receive(30) is None
        assert (conn.close_code, conn.close_reason) == (4001, "enough of it")
        assert terminal.end() == 0


def test_ping(peer, state):
    terminal, conn = connected(peer, env=state)
    with terminal:
        terminal.until(at_prompt)
        terminal.type("/ping\r")
        assert conn.receive(1) is None  # it is answered meanwhile
        terminal.until("pong after")
        assert re.search(r"pong after \d+\.\d ms", "\n".join(terminal.lines))
        conn.close()
        assert terminal.end() == 0


def test_the_history_is_kept_for_this_user_alone(peer, state, tmp_path):
    for _ in range(2):
        terminal, conn = connected(peer, env=state)
        with terminal:
            terminal.until(at_prompt)
            if _:
                terminal.type("\x1b[A")
                terminal.until(lambda t: t.typed == "> something to repeat")
                terminal.type("\r")
            else:
                terminal.type("something to repeat\r")
            assert conn.receive(30) == "something to repeat"
            terminal.type(" nothing to keep\r")
            assert conn.receive(30) == " nothing to keep"
            terminal.type("\x04")
            assert terminal.end() == 0
    file = tmp_path / "state" / "scriptling-ws" / "history"
    assert file.read_text() == "something to repeat\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_ctrl_c_clears_the_line_and_then_ends(peer, state):
    terminal, conn = connected(peer, env=state)
    with terminal:
        terminal.until(at_prompt)
        terminal.type("wrong")
        terminal.until(lambda t: t.typed == "> wrong")
        terminal.type("\x03")
        terminal.until(at_prompt)
        terminal.type("right\r")
        assert conn.receive(30) == "right"
        terminal.until(at_prompt)
        terminal.type("\x03")
        assert conn.receive(30) is None
        assert conn.close_code == 1001
        assert terminal.end() == 130


def test_sigterm_leaves_the_terminal_as_it_was(peer, state):
    terminal, conn = connected(peer, env=state)
    with terminal:
        terminal.until(at_prompt)
        terminal.send_signal(signal.SIGTERM)
        assert conn.receive(30) is None
        assert conn.close_code == 1001
        assert terminal.end() == 143
        assert "Traceback" not in "\n".join(terminal.lines)


@pytest.mark.parametrize("abrupt", [False, True])
def test_a_peer_that_leaves_while_one_types(peer, state, abrupt):
    terminal, conn = connected(peer, env=state)
    with terminal:
        terminal.until(at_prompt)
        terminal.type("unfin")
        terminal.until(lambda t: t.typed == "> unfin")
        if abrupt:
            conn._abort()
        else:
            conn.close(1011, "failed")
        assert terminal.end() == (7 if abrupt else 6)
        assert "> unfin" in terminal.lines
        assert "the connection is closed (code" in terminal.lines[-1]


def test_what_was_typed_is_kept_over_an_outage(peer, state):
    options = ("--reconnect", "-o", "first_delay=0.01")
    terminal, conn = connected(peer, *options, env=state)
    with terminal:
        terminal.until(at_prompt)
        terminal.type("unfin")
        terminal.until(lambda t: t.typed == "> unfin")
        conn.close(1012)
        again = peer.accept()
        terminal.until(lambda t: len([x for x in t.lines if "connected to" in x]) == 2)
        terminal.until(lambda t: t.typed == "> unfin")
        terminal.type("ished\r")
        assert again.receive(30) == "unfinished"
        terminal.type("\x04")
        assert terminal.end() == 0


def test_json_is_indented_and_coloured(peer, state):
    terminal, conn = connected(peer, "--json", env={**state, "NO_COLOR": ""})
    with terminal:
        terminal.until(at_prompt)
        conn.send('{"a":[1.50,{}],"b":"\\u001b[31m"}')
        terminal.until('"b": ')
        shown = [line for line in terminal.lines if not line.startswith(">")][-6:]
        assert (
            shown
            == [
                "< {",
                '    "a": [',
                "      1.50,",
                "      {}",
                "    ],",
                r'    "b": "\u001b[31m"',
            ]
            or shown[-1] == "  }"
        )
        assert b'\x1b[34m"a"\x1b[0m' in terminal.written
        assert b"\x1b[33m1.50\x1b[0m" in terminal.written
        terminal.type("no JSON\r")
        terminal.until("Expecting value")
        conn.send("no JSON either")
        terminal.until("(no JSON)")
        terminal.type("\x04")
        assert terminal.end() == 0


def test_no_colour_where_that_is_asked_for(peer, state):
    terminal, conn = connected(peer, "--json", env={**state, "NO_COLOR": "1"})
    with terminal:
        terminal.until(at_prompt)
        conn.send('{"a": 1}')
        terminal.until('"a": 1')
        conn.close()
        assert terminal.end() == 0
        assert not re.search(rb"\x1b\[3[0-9]m", terminal.written)


def test_a_long_message_is_cut(peer, state):
    terminal, conn = connected(peer, env=state)
    with terminal:
        terminal.until(at_prompt)
        conn.send("x" * 30_000)
        terminal.until("... of 30,000 in all: --save FILE takes the whole of it")
        conn.close()
        assert terminal.end() == 0


WITHOUT_READERS = """
import asyncio, sys
from scriptling_ws.__main__ import main

add_reader = asyncio.SelectorEventLoop.add_reader

def of_the_terminal_alone(self, descriptor, *args):
    if descriptor != sys.stdin.fileno():
        raise NotImplementedError
    return add_reader(self, descriptor, *args)

asyncio.SelectorEventLoop.add_reader = of_the_terminal_alone
sys.exit(main(sys.argv[1:]))
"""


def test_where_no_connection_can_be_watched(peer, state, tmp_path):
    """As in the event loop that Windows has."""
    (tmp_path / "program.py").write_text(WITHOUT_READERS)
    with Terminal(str(tmp_path / "program.py"), peer.url, env=state) as terminal:
        conn = peer.accept()
        terminal.until(at_prompt)
        conn.send("looked for")
        terminal.until("< looked for")
        conn.close()
        assert terminal.end() == 0


# -- the prompt by itself, whose keys were typed before it begins -----------------


@pytest.fixture
def prompt(tmp_path, capsys):
    """A function that runs the prompt for a connection."""
    pytest.importorskip("prompt_toolkit", reason="prompt_toolkit is not installed")
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    from scriptling_ws._command.prompt import Prompt

    def run(conn, keys=""):
        screen = Screen("hex", as_json=False, notes=False)
        with (
            create_pipe_input() as keyboard,
            create_app_session(input=keyboard, output=DummyOutput()),
        ):
            keyboard.send_text(keys)
            made = Prompt(History(tmp_path / "history"), colour=False)
            made.run(Session(conn, screen, as_json=False, binary=False))

    return run


def test_a_connection_that_has_ended_before_anybody_can_type(prompt, caplog):
    with both_ends() as (conn, peer):
        with running(peer.close):
            assert conn.receive(SOON) is None
        prompt(conn, "not sent\r")
        assert conn.stats().messages_sent == 0
    assert caplog.text == ""


class Overtaken:
    """A connection to which something happens just behind each look whether it is open."""

    def __init__(self, conn, *happens):
        self._conn = conn
        self._happens = list(happens)

    def __getattr__(self, name):
        return getattr(self._conn, name)

    def connected(self):
        was = self._conn.connected()
        if self._happens:
            self._happens.pop(0)()
        return was


def test_a_connection_that_ends_as_it_is_to_be_watched(prompt):
    """Keepalive may have the peer's close before the prompt does."""

    def end():
        with running(peer.close):
            until(lambda: conn.fileno() < 0)

    with both_ends() as (conn, peer):
        prompt(Overtaken(conn, lambda: None, end))  # the first look is before the prompt
        assert conn.close_code == 1000


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_an_output_that_is_full_ends_the_prompt(prompt, monkeypatch):
    full = open("/dev/full", "w")  # noqa: SIM115 - closed below
    with both_ends() as (conn, peer):
        peer.send("too much")
        try:
            monkeypatch.setattr(sys, "stdout", full)
            with pytest.raises(OSError) as caught:
                prompt(conn)
        finally:
            monkeypatch.undo()
            with contextlib.suppress(OSError):
                full.close()
    assert caught.value.errno == errno.ENOSPC
    assert type(caught.value.__context__) is OSError  # it fails again where the rest is flushed


@pytest.fixture
def heard(monkeypatch):
    """A connection whose frames are logged, its peer, and what is called as a line is logged.

    That is a list of pairs: a text of the line, and a function.
    """
    todo = []

    class Handler(logging.Handler):
        def emit(self, record):
            for text, function in todo:
                if text in record.getMessage():
                    function()

    logger = logging.getLogger("scriptling_ws.frames")
    monkeypatch.setattr(logger, "handlers", [Handler()])
    monkeypatch.setattr(logger, "propagate", False)
    near, far = tcp_pair()
    peer = connection(far, client=False)
    logger.setLevel(logging.DEBUG)
    conn = connection(near)
    yield conn, peer, todo
    logger.setLevel(logging.NOTSET)
    peer._abort()
    conn.close()
    peer.close()


def fail():
    raise RuntimeError("the log cannot be written")


def test_what_fails_as_a_message_comes_ends_the_prompt(prompt, heard):
    """As where a program writes its log. asyncio would show the error, and wait for a key."""
    conn, peer, todo = heard
    todo.append(("first", fail))
    with pytest.raises(RuntimeError, match="the log cannot be written"):
        prompt(Overtaken(conn, lambda: peer.send("first")))


def test_what_fails_as_a_second_message_comes_behind_the_key_that_ends_the_prompt(
    prompt, heard, capsys
):
    """The key counts, which was heard between the two."""
    conn, peer, todo = heard
    todo += [("first", lambda: peer.send("second")), ("second", fail)]
    with running(lambda: peer.receive(SOON)):
        prompt(Overtaken(conn, lambda: peer.send("first")), "\x04")
    assert peer.close_code == 1000
    assert capsys.readouterr() == ("first\n", "")


# -- without it -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["absent", "--plain", "dumb"])
def test_plain(peer, state, without, how):
    arguments = ["--plain"] if how == "--plain" else []
    before = without if how == "absent" else None
    more = {"TERM": "dumb"} if how == "dumb" else {}
    terminal, conn = connected(peer, *arguments, env={**state, **more}, before=before)
    with terminal:
        assert ("pip install 'scriptling-ws[cli]'" in "\n".join(terminal.lines)) == (
            how == "absent"
        )
        terminal.type("typed wrong\x15typed\r")  # the terminal's own editing: Ctrl-U
        assert conn.receive(30) == "typed"
        conn.send(HOSTILE)
        terminal.until("forged")
        assert f"< {SHOWN}" in terminal.lines
        terminal.type("/ping\r")
        assert conn.receive(1) is None
        terminal.until("pong after")
        terminal.type("/close 4001 bye\r")
        assert conn.receive(30) is None
        assert conn.close_code == 4001
        assert terminal.end() == 0
        assert b"\x1b" not in terminal.written


@pytest.mark.parametrize(("key", "code", "status"), [("\x04", 1000, 0), ("\x03", 1001, 130)])
def test_plain_ends_by_a_key(peer, state, key, code, status):
    terminal, conn = connected(peer, "--plain", "--wait", "0", env=state)
    with terminal:
        terminal.type(key)
        assert conn.receive(30) is None
        assert conn.close_code == code
        assert terminal.end() == status


def test_raw_bytes_are_not_for_a_terminal():
    with (
        Driven() as peer,
        Terminal("-m", "scriptling_ws", "connect", "--binary", "raw", peer.url) as terminal,
    ):
        assert terminal.end() == 2
        assert "not for a terminal" in " ".join(terminal.lines)
