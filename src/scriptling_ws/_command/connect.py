r"""`scriptling-ws connect URL`: a client by hand, or in a pipe.

    scriptling-ws ws://127.0.0.1:8080/chat
    printf '%s\n' one two | scriptling-ws connect wss://example.com/echo
    scriptling-ws connect --send-file photo.jpg --once wss://example.com/upload

Rules:

- Messages go to the standard output, all else to the standard error: `screen`.
- The main task receives: `receiving`. What is sent comes from a task of its own (`feeding`), or
  on a terminal with prompt_toolkit from the same one (`prompt`).
- All that the arguments say is checked before a connection is made.
- Ctrl-C, SIGTERM, SIGHUP, and an output that nobody reads, close the connection with 1001.
- How it ended is the exit status: `statuses`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._client.connect import connect
from .._client.reconnecting import reconnecting
from .._codes import CloseCode
from .._errors import ConnectError, ConnectionClosed, HandshakeError, WebSocketError
from .._network.waiting import choose
from .connect_arguments import connect_parser
from .ending import ends_by_signals, silence_stdout
from .escapes import shown
from .feeding import Feeder, file_of, lines_of
from .patience import Patience
from .plan import Plan
from .progress import Bar
from .receiving import SilenceError, named, save, show
from .screen import Screen
from .session import Session
from .statuses import Status, of_close, of_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._connection.connection import Connection
    from .prompt import Prompt

__all__ = ["main"]

_SILENCE = 1.0  # seconds


def main(arguments: list[str]) -> int:
    """Connect, and let messages go both ways; the exit status.

    Raises:
        SystemExit: after --help, with 2 for what the user can put right, and with a signal's number
            and 128 for what has ended it.
    """
    plan = Plan.of(connect_parser(), arguments)
    run = _Run(plan)
    with contextlib.suppress(RuntimeError):  # a program that calls this has another
        choose("threads")  # the input blocks its reader, which a greenlet may not be
    try:
        with ends_by_signals(), run.output():
            return run.go()
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except BrokenPipeError:
        silence_stdout()
        return Status.BROKEN_PIPE
    except SilenceError:
        run.screen.error("no message has come in time")
        return Status.TIMEOUT
    except (WebSocketError, OSError, TypeError, ValueError, ImportError) as error:
        run.tell(error)
        return of_error(error)


class _Run:
    """One run of the command.

    Attributes:
        screen: What it writes to.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._typed = sys.stdin.isatty()
        self.screen = Screen(plan.form, as_json=plan.as_json, notes=self._typed or plan.verbose)
        self._file: Any = None
        self._input: Prompt | Feeder  # what is sent comes from it: `go` makes it
        self._lines = 0  # of the input that were sent

    @contextlib.contextmanager
    def output(self) -> Iterator[None]:
        """Have the file open that messages are saved in, if there is one."""
        if self._plan.save is None:
            yield
            return
        self._file = Path(self._plan.save).open("wb")  # noqa: SIM115 - closed below
        try:
            yield
        finally:
            with named(self._file):
                self._file.close()

    def go(self) -> int:
        """Connect, once or again and again, until it is over; the exit status."""
        plan = self._plan
        self._input = self._make_prompt() or self._make_feeder()
        if not plan.reconnect:
            conn = connect(plan.url, plan.timeout, plan.headers, binary_type=bytes, **plan.options)
            return self._talk(conn)
        with (
            self._told_of_outages(),
            reconnecting(
                plan.url, plan.timeout, plan.headers, binary_type=bytes, **plan.options
            ) as conns,
        ):
            for conn in conns:
                session = self._session(conn)
                self._follow(session)
                if session.closed_here:
                    return Status.DONE
        raise AssertionError("reconnecting ends by an exception alone")  # pragma: no cover

    def _talk(self, conn: Connection[bytes]) -> int:
        """Use the one connection until it has ended; the exit status."""
        session = self._session(conn)
        self._follow(session)
        if session.closed_here:
            self.screen.note("closed")
            return Status.DONE
        closed = conn._closed_error()
        status = of_close(closed.code)
        if status is Status.DONE and self._plan.once:
            self.screen.error(f"{closed}, and no message has come")
            return Status.CLOSED
        if status is Status.DONE:
            self.screen.note(str(closed))
        else:
            self.tell(closed)
        return status

    def _session(self, conn: Connection[bytes]) -> Session:
        plan, screen = self._plan, self.screen
        hint = "; /help lists the commands, Ctrl-D closes" if self._typed else ""
        agreed = f", subprotocol {conn.subprotocol}" if conn.subprotocol else ""
        screen.note(f"connected to {conn.remote_addr}{agreed}{hint}")
        if plan.verbose and conn.response is not None:
            screen.note(f"HTTP status {conn.response.status}")
            for name, value in conn.response.headers.items():
                screen.note(f"{name}: {value}")
        return Session(conn, screen, as_json=plan.as_json, binary=plan.send_binary)

    def _follow(self, session: Session) -> None:
        """Let messages go both ways until the connection has ended; then it is closed."""
        try:
            if isinstance(self._input, Feeder):
                self._input.attach(session)
                self._receive(session, self._input)
            else:
                self._input.run(session)
        except BaseException:
            session.close(CloseCode.GOING_AWAY)
            raise
        finally:
            session.conn.close()  # of one that the peer has closed, the socket

    def _receive(self, session: Session, feeder: Feeder) -> None:
        plan = self._plan
        patience = Patience(feeder, _SILENCE if plan.wait is ... else plan.wait)
        if self._file is None:
            show(session, patience, once=plan.once)
            return
        # A file that is sent has a bar too, on the same line.
        bar = Bar("received", lambda: plan.send_file is None or feeder.ended is not None)
        try:
            save(session, patience, self._file, bar, once=plan.once)
        finally:
            bar.finish()

    # -- what is sent ------------------------------------------------------

    def _make_prompt(self) -> Prompt | None:
        plan = self._plan
        by_hand = self._typed and self.screen.terminal and plan.by_hand
        if not by_hand or os.environ.get("TERM", "dumb") == "dumb":
            return None
        try:
            from .prompt import Prompt  # of the extra `cli`
        except ImportError:
            self.screen.note("for line editing and history: pip install 'scriptling-ws[cli]'")
            return None
        from .history import History, history_path

        return Prompt(History(history_path()), colour=self.screen.coloured)

    def _make_feeder(self) -> Feeder:
        plan = self._plan
        if plan.send_file is None:
            deliver = Session.typed if self._typed else self._send_line
            return Feeder(lines_of(sys.stdin.fileno()), deliver)
        file_of(plan.send_file, text=plan.text).close()  # so that it fails here
        return Feeder([plan.send_file], self._send_file)

    def _send_line(self, session: Session, line: str) -> None:
        try:
            session.send(line)
        except ValueError as error:
            number = self._lines + 1
            raise ValueError(f"line {number} of the input was not sent: {error}") from error
        self._lines += 1

    def _send_file(self, session: Session, name: str) -> None:
        bar = Bar("sent")
        try:
            with file_of(name, text=self._plan.text) as file:
                session.conn.send_stream(file, text=self._plan.text, progress=bar)
        finally:
            bar.finish()

    # -- what is told ------------------------------------------------------

    @contextlib.contextmanager
    def _told_of_outages(self) -> Iterator[None]:
        """Show what `reconnecting` logs."""
        logger, screen = logging.getLogger("scriptling_ws.reconnecting"), self.screen

        class Shown(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                screen.error(record.getMessage())

        handler, propagate = Shown(), logger.propagate
        logger.addHandler(handler)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagate

    def tell(self, error: Exception) -> None:
        """Say what went wrong, in a line."""
        if isinstance(error, OSError) and not isinstance(error, WebSocketError) and error.filename:
            self.screen.error(f"cannot use the file {error.filename!r}: {error.strerror}")
            return
        told = self._plan.reconnect and isinstance(error, (ConnectError, ConnectionClosed))
        if not told:  # else `reconnecting` has logged it
            self.screen.error(str(error))
        if isinstance(error, ConnectionClosed) and error.__cause__ is not None:
            self.screen.note(str(error.__cause__))
        if isinstance(error, HandshakeError) and error.body:
            self.screen.error(f"its answer: {shown(error.body[:500].decode(errors='replace'))}")
