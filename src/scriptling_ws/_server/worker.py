"""A worker process: what it begins with, how it hears its master, how it ends.

Rules:

- Master and worker have a pair of sockets. The worker says READY, the master LEAVE or STOP, and the
  end of the stream says that the other one is gone, whatever it was killed by: then a worker closes
  its connections and ends. So none is left behind.
- STOP closes with 1001, and so does SIGTERM. A second SIGTERM changes nothing: a service manager
  sends one to all processes, beside the master's STOP. Who is to end at once is killed. SIGINT and
  SIGHUP, which a terminal sends to all its processes, are the master's business.
- LEAVE comes with a reload: the worker listens no more, and what has arrived goes on. When
  nothing is left, or after `reload_timeout`, it closes.
- A forked process has its parent's stack. A worker never goes back there: it ends by
  `os._exit`, after the functions that were registered with `atexit` in the worker itself.
- A worker is not the main process of a service, so it has nothing to say to systemd.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from .._network.deadline import Deadline
from .._network.waiting import forget
from .._rooms.carrier import only_with_backend
from . import systemd
from .signals import Signals

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from types import FrameType

__all__ = ["LEAVE", "READY", "STOP", "Link", "attend", "flush", "live"]

READY: Final = b"R"
"""What a worker says once it serves."""
LEAVE: Final = b"L"
"""What its master says when others serve in its place."""
STOP: Final = b"S"
"""What its master says when all are to end."""

_LOOK: Final = 0.1  # seconds after which a worker that leaves looks whether something is left


class Serving(Protocol):
    """What a worker asks of its server."""

    def close(self) -> None:
        """End it."""

    def _retire(self) -> None:
        """Listen no more; what has arrived goes on."""

    def _is_idle(self) -> bool:
        """Whether, of a server that has retired, nothing is left to be done."""

    def _call_when_closed(self, callback: Callable[[], None]) -> None:
        """Call it once the server has closed."""


class Link:
    """One end of the pair of sockets."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        """Take the socket over."""
        self._sock = sock
        sock.setblocking(False)

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self._sock.fileno()

    def say(self, word: bytes) -> None:
        """Send a word, if the other end is there. Never blocks."""
        with contextlib.suppress(OSError):
            self._sock.send(word)

    def hear(self) -> bytes | None:
        """The words that have come; b"" if the other end is gone, None if there are none."""
        try:
            return self._sock.recv(16)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Close this end. May be called again."""
        self._sock.close()


def attend(
    server: Serving,
    link: Link,
    reload_timeout: float | None,
    ready: Callable[[], object] | None = None,
) -> None:
    """Serve until the master, its end, or SIGTERM says otherwise; then close the server. Blocks.

    What it does with signals stays so: it is the last thing that a worker does.

    Args:
        server: It listens already.
        link: The worker's end.
        reload_timeout: Seconds that connections have after LEAVE, None for no limit.
        ready: Called before the master is told.
    """
    signal.signal(signal.SIGTERM, _take_no_notice)  # from here to the end of the process
    with Signals((), always=(signal.SIGTERM,)) as signals:
        try:
            server._call_when_closed(signals.set)
            if ready is not None:
                ready()
            link.say(READY)
            if _is_to_leave(signals, link):
                server._retire()
                _wait_for_the_last(server, signals, link, Deadline(reload_timeout))
        finally:
            server.close()


def _is_to_leave(signals: Signals, link: Link) -> bool:
    """Wait; whether LEAVE was said, in place of an end."""
    while True:
        numbers, ready = signals.hear(also=[link])
        word = link.hear() if ready else None
        if numbers or word is not None:
            return not numbers and word == LEAVE


def _wait_for_the_last(server: Serving, signals: Signals, link: Link, deadline: Deadline) -> None:
    """Wait until the server has nothing left, or is to close at once."""
    while not (server._is_idle() or deadline.passed()):
        numbers, ready = signals.hear(deadline.sooner(_LOOK), [link])
        if numbers or (ready and link.hear() is not None):
            return


def live(
    let_go: Callable[[], None],
    body: Callable[[Link], None],
    link: Link,
    mask: Iterable[int],
    *,
    alone: bool,
) -> NoReturn:
    """Be a worker, from the fork to the end.

    Args:
        let_go: Lets go of what is the master's.
        body: What it does; an exception of it is shown, SystemExit is its exit status.
        link: Its end.
        mask: The signals that are to be blocked from now on; until now all are.
        alone: Whether it is the only worker.
    """
    if sys.platform == "win32":  # pragma: no cover - `serve_with_workers` has refused
        raise AssertionError
    status = 1
    try:
        let_go()
        _begin(alone=alone)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        body(link)
        status = 0
    except SystemExit as error:
        status = _status(error)
    except BaseException:  # noqa: BLE001  # shown, as the interpreter does at a program's end
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            _finish()
        finally:
            os._exit(status)


def _begin(*, alone: bool) -> None:
    """Let go of what the process has inherited, and is the master's."""
    if sys.platform == "win32":  # pragma: no cover - `serve_with_workers` has refused
        raise AssertionError
    atexit._clear()
    forget()  # the master waits by threads, its workers perhaps not
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):
        # Not SIG_IGN, which programs that a handler starts would inherit.
        signal.signal(number, _take_no_notice)
    systemd.forget()
    if not alone:
        only_with_backend()  # a room of one process would reach a part of its members alone


def _take_no_notice(number: int, frame: FrameType | None) -> None:
    """The master has heard it too, or has said what it is to mean."""


def _finish() -> None:
    """What the interpreter does at its end, as far as it is the worker's."""
    atexit._run_exitfuncs()
    logging.shutdown()
    flush()


def flush() -> None:
    """Write what the standard streams keep: else a fork would write it twice, an exit never."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, broken, closed
            stream.flush()


def _status(error: SystemExit) -> int:
    """The exit status that SystemExit stands for, which may have a text to show."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    with contextlib.suppress(AttributeError, OSError, ValueError):
        print(error.code, file=sys.stderr)
    return 1
