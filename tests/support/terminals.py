"""A program on a real terminal (a pty), and what a screen shows of it.

Every wait is for something to be on the screen, and has a deadline.
"""

import os
import sys
import time

import pexpect
import pyte

from processes import python_environment

DEADLINE = 60


class Terminal:
    """A Python program that has a terminal of its own; `before` is in front of its module path."""

    def __init__(self, *arguments, env=None, before=None, columns=80, lines=40):
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""  # all that it has written
        environment = {
            **python_environment(),
            "TERM": "xterm-256color",
            "PROMPT_TOOLKIT_NO_CPR": "1",  # this terminal does not say where its cursor is
            **(env or {}),
        }
        if before is not None:
            environment["PYTHONPATH"] = f"{before}{os.pathsep}{environment['PYTHONPATH']}"
        self._program = pexpect.spawn(
            sys.executable, list(arguments), env=environment, dimensions=(lines, columns)
        )

    @property
    def lines(self):
        """The lines of the screen that have something in them."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    @property
    def typed(self):
        """The line in which the cursor is, up to that."""
        return self.screen.display[self.screen.cursor.y][: self.screen.cursor.x]

    def type(self, text):
        """Type a text; "\\r" is the key Enter."""
        self._program.send(text)

    def _read(self, seconds):
        data = self._program.read_nonblocking(65536, seconds)
        self.written += data
        self._stream.feed(data)

    def until(self, condition, timeout=DEADLINE):
        """Read until a condition, of this, is true; or a text is somewhere on the screen."""
        if isinstance(condition, str):
            text = condition
            condition = lambda terminal: any(text in line for line in terminal.lines)  # noqa: E731
        deadline = time.monotonic() + timeout
        while not condition(self):
            left = deadline - time.monotonic()
            try:
                self._read(max(left, 0.01))
            except pexpect.TIMEOUT:
                raise AssertionError("not there in time:\n" + "\n".join(self.lines)) from None
            except pexpect.EOF:
                assert condition(self), "it has ended:\n" + "\n".join(self.lines)
                return

    def end(self):
        """Read until it ends; its exit status, or the negative number of the signal."""
        try:
            while True:
                self._read(DEADLINE)
        except pexpect.EOF:
            pass
        self._program.wait()
        status = self._program.exitstatus
        return status if status is not None else -self._program.signalstatus

    def send_signal(self, number):
        """Send it a signal."""
        os.kill(self._program.pid, number)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self._program.close(force=True)
