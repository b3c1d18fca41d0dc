"""What the server's log says of its peers: whatever they send, no line is forged and none floods.

Rules:

- Text of a peer is shown in ASCII with escapes, and cut where it is long. The value of a header
  and the query of a target are not shown: they may be secret. (Origin is, by its own warning.)
- Every answer has one line: address, method, path, status, and of a refusal the reason. What
  ends without an answer has "-" for a status.
- Of a kind of warning the first is given at once, then one in ten seconds at most; that one
  says how many were left out meanwhile. Where the kind has many subjects, each of the first
  dozens is rare by itself, and the others are one.
- What is left out is there on the debug level.
- A handler's failure has a traceback; that its peer has left is no failure.
"""

from __future__ import annotations

import logging
from typing import Final

from .._errors import ConnectionClosed, SendTimeout
from .._fields import shown
from .._network.deadline import Deadline
from .._network.waiting import engine

__all__ = [
    "RareWarning",
    "RareWarnings",
    "log_answer",
    "log_closed",
    "log_failure",
]

_LONGEST_REASON: Final = 300  # the reasons are this package's own texts

_access = logging.getLogger("scriptling_ws.access")
_logger = logging.getLogger("scriptling_ws.server")

_QUIET: Final = 10.0  # seconds
_MOST: Final = 32  # subjects of one kind of warning


def log_answer(
    address: str,
    method: str,
    path: str,
    status: int | str,
    reason: str = "",
    *,
    logger: logging.Logger = _access,
) -> None:
    """Log what a request was answered with.

    Args:
        address: The peer's address.
        method: The request's method, "-" if it is not known.
        path: Its path, without the query; "-" if it is not known.
        status: The status; "-" where nothing was answered.
        reason: Why, if it is a refusal.
        logger: The log; by default that of access.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    if reason:
        why = reason[:_LONGEST_REASON].encode("unicode_escape").decode("ascii")
        logger.info("%s %s %s %s: %s", address, method[:32], shown(path), status, why)
    else:
        logger.info("%s %s %s %s", address, method[:32], shown(path), status)


def log_closed(address: str, path: str, code: int | None, seconds: float) -> None:
    """Log the end of a WebSocket.

    Args:
        address: The peer's address.
        path: The path of its request, without the query.
        code: The close code.
        seconds: How long it was open.
    """
    if not _access.isEnabledFor(logging.INFO):
        return
    _access.info("%s %s closed, code %s, after %.3f s", address, shown(path), code, seconds)


def log_failure(address: str, path: str, error: BaseException, code: int | None) -> None:
    """Log what a WebSocket's handler has raised.

    A handler that is told by an exception that its own peer has left has not failed.

    Args:
        address: The peer's address.
        path: The path of its request, without the query.
        error: What was raised.
        code: The connection's close code; None if it is another connection that has closed.
    """
    if isinstance(error, (ConnectionClosed, SendTimeout)) and code is not None:
        _logger.debug("the handler of %s ended by: %s", shown(path), shown(str(error)))
    else:
        _logger.error("the handler of %s failed for %s", shown(path), address, exc_info=error)


class RareWarning:
    """One kind of warning. Safe for any number of threads."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = engine().lock()  # guards the two below
        self._quiet = Deadline(0)
        self._left_out = 0

    @property
    def resting(self) -> bool:
        """Whether a warning would be left out now."""
        with self._lock:
            return not self._quiet.passed()

    def add(self, other: RareWarning) -> None:
        """Count as left out here what another one has left out."""
        with self._lock:
            self._left_out += other._left_out

    def give(self, text: str, *args: object, stacklevel: int = 2) -> None:
        """Log the warning, if one is due."""
        with self._lock:
            due, before = self._quiet.passed(), self._left_out
            if due:
                self._quiet = Deadline(_QUIET)
            self._left_out = 0 if due else before + 1
        if not due:
            self._logger.debug(text, *args, stacklevel=stacklevel)
        elif before:
            text = f"{text} (and %d more since the last such warning)"
            self._logger.warning(text, *args, before, stacklevel=stacklevel)
        else:
            self._logger.warning(text, *args, stacklevel=stacklevel)


class RareWarnings:
    """One kind of warning with many subjects. Safe for any number of threads."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = engine().lock()  # guards _known
        self._known: dict[str, RareWarning] = {}
        self._others = RareWarning(logger)

    def give(self, subject: str, text: str, *args: object) -> None:
        """Log the warning, if one is due for its subject."""
        self._of(subject).give(text, *args, stacklevel=3)

    def _of(self, subject: str) -> RareWarning:
        with self._lock:
            if subject not in self._known:
                if len(self._known) >= _MOST:
                    self._forget()
                if len(self._known) >= _MOST:
                    return self._others
                self._known[subject] = RareWarning(self._logger)
            return self._known[subject]

    def _forget(self) -> None:
        """Make room: of a subject that rests no more, what was left out is the others'."""
        for subject, warning in list(self._known.items()):
            if not warning.resting:
                self._others.add(warning)
                del self._known[subject]
