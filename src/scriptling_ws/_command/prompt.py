"""`connect` on a terminal: a line that is edited while messages come in above it.

Rules:

- There is one thread. prompt_toolkit's event loop watches the connection's descriptor beside the
  terminal; what comes is taken and shown with the line put aside for that moment.
- So many messages at a time: one that types is heard between them, whatever the peer sends.
- A connection that ends while somebody types ends the prompt; what was typed is kept for the next
  one (--reconnect).

prompt_toolkit is of the extra `cli`: nothing else imports it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import History as KeptByPrompt
from prompt_toolkit.output import ColorDepth

from .._errors import ConnectionClosed
from .slash import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .history import History
    from .session import Session

__all__ = ["Prompt"]

_AT_A_TIME: Final = 100  # messages that are shown before keys are looked at
_POLL: Final = 0.05  # seconds, where no descriptor can be watched, as on Windows


class _EndedError(Exception):
    """The connection has ended while somebody types."""


class _Kept(KeptByPrompt):
    """prompt_toolkit's history, in ours."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    def load_history_strings(self) -> Iterable[str]:
        return self._history.load()

    def store_string(self, string: str) -> None:
        self._history.add(string)


class Prompt:
    """A line to type in, for one connection after the other."""

    def __init__(self, history: History, *, colour: bool) -> None:
        self._prompt: PromptSession[str] = PromptSession(
            history=_Kept(history),
            completer=WordCompleter([name.partition(" ")[0] for name in COMMANDS], sentence=True),
            complete_while_typing=False,
            color_depth=None if colour else ColorDepth.DEPTH_1_BIT,
        )
        self._left = ""  # what was typed as the connection ended

    def run(self, session: Session) -> None:
        """Let messages be typed until the connection ends, which Ctrl-D does. Blocks.

        Raises:
            KeyboardInterrupt: Ctrl-C, where nothing is typed that it could clear.
            SendTimeout: as of a connection.
            OSError: the terminal cannot be written to.
        """
        watch = _Watch(session, self._prompt)
        session.conn.on_close(watch.look_soon)
        while session.conn.connected() and not session.closed_here:
            left, self._left = self._left, ""
            try:
                line = self._prompt.prompt("> ", default=left, pre_run=watch.begin)
            except _EndedError:
                self._left = self._prompt.default_buffer.text
                return
            except EOFError:
                session.close()
                return
            except KeyboardInterrupt:
                if not self._prompt.default_buffer.text:
                    raise
                continue
            finally:
                watch.flush()
            with contextlib.suppress(ConnectionClosed):  # see the loop
                session.typed(line)


class _Watch:
    """Shows what comes on a connection while the prompt is there."""

    def __init__(self, session: Session, prompt: PromptSession[str]) -> None:
        self._session = session
        self._app = prompt.app
        self._loop: Any = None
        self._watched: int | None = None  # a descriptor
        self._taken: deque[str | bytes] = deque()  # and not shown yet

    def begin(self) -> None:
        """The prompt begins: look, and then watch."""
        self._loop = self._app.loop
        self._watched = None
        self._loop.call_soon(self._look)

    def look_soon(self) -> None:
        """Have another look: the connection has closed. From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # there is no prompt at the moment
                self._loop.call_soon_threadsafe(self._look)

    def flush(self) -> None:
        """The prompt has ended: show what was taken, and could not be shown any more."""
        while self._taken:
            self._session.screen.show(self._taken.popleft())
        self._session.screen.flush()

    def _look(self) -> None:
        """Take what has come; if that is a message, show it and look again, else watch."""
        if self._app.is_done:
            return
        self._unwatch()
        try:
            message = self._session.conn.receive(0)
            if message is not None:
                self._taken.append(message)
                run_in_terminal(self._show)
            elif self._session.conn.connected():
                self._watch()
            else:
                self._app.exit(exception=_EndedError())
        except Exception as error:  # noqa: BLE001 - the loop would show it, and wait for a key
            self._end(error)

    def _show(self) -> None:
        """Show what was taken, and what has come behind it; the line is put aside meanwhile."""
        try:
            for _ in range(_AT_A_TIME):
                self.flush()
                message = self._session.conn.receive(0)
                if message is None:
                    break
                self._taken.append(message)
            self.flush()
        except Exception as error:  # noqa: BLE001 - as above
            self._end(error)
        else:
            self._loop.call_soon(self._look)

    def _end(self, error: Exception) -> None:
        if not self._app.is_done:
            self._app.exit(exception=error)

    def _watch(self) -> None:
        descriptor = self._session.conn.fileno()
        try:
            self._loop.add_reader(descriptor, self._look)
        except (NotImplementedError, OSError, ValueError):  # the latter two: it has just closed
            self._loop.call_later(_POLL, self._look)
        else:
            self._watched = descriptor

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            self._watched = None
