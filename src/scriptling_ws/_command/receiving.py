"""What comes on a connection of `connect`, until that ends or there is nothing to wait for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from .._errors import ConnectionClosed, ReceiveTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._connection.instream import MessageStream
    from .patience import Patience
    from .progress import Bar
    from .session import Session

__all__ = ["SilenceError", "named", "save", "show"]

_AT_A_TIME: Final = 1000
_LEAST: Final = 0.05  # seconds for which a part of a message is waited for


class SilenceError(Exception):
    """No message has come in time, and --once waits for one."""


def show(session: Session, patience: Patience, *, once: bool) -> None:
    """Show messages; after this the connection is closed.

    Args:
        session: The connection, and the screen.
        patience: How long to wait.
        once: Whether one message is all.

    Raises:
        SilenceError: `once`, and none has come in time.
        OSError: they cannot be shown.
    """
    while True:
        messages = session.conn.receive_many(1 if once else _AT_A_TIME, patience.left())
        for message in messages:
            session.screen.show(message)
        if messages:
            session.screen.flush()
            patience.heard()
            if once:
                session.close()
                return
        elif not session.conn.connected():
            return
        elif patience.over():
            session.close()
            if once:
                raise SilenceError
            return


def save(session: Session, patience: Patience, file: Any, bar: Bar, *, once: bool) -> None:
    """Write messages to a file as they come, of any size; after this the connection is closed.

    Binary ones as they are, nothing between them. A text has a line end behind it, unless it is to
    be the only one.

    Args:
        session: The connection.
        patience: How long to wait.
        file: The file, open for bytes.
        bar: Shows how far it is.
        once: Whether one message is all.

    Raises:
        SilenceError: `once`, and none has come in time.
        OSError: the file cannot be written.
    """
    while True:
        left = patience.left()
        try:
            stream = session.conn.receive_stream(
                None if left is None else max(left, _LEAST), progress=bar
            )
            with stream:
                _write(stream, file, once=once)
        except ReceiveTimeout:
            if patience.over():
                session.close()
                if once:
                    raise SilenceError from None
                return
            continue
        except ConnectionClosed:
            return
        bar.finish()
        patience.heard()
        if once:
            session.close()
            return


def _write(stream: MessageStream, file: Any, *, once: bool) -> None:
    text = stream.text
    while True:
        try:
            for piece in stream:
                with named(file):
                    file.write(piece.encode() if isinstance(piece, str) else piece)
        except ReceiveTimeout:
            continue  # it has begun, so that it is waited for
        break
    with named(file):
        if text and not once:
            file.write(b"\n")
        file.flush()


@contextlib.contextmanager
def named(file: Any) -> Iterator[None]:
    """Have an error say which file it is: those of writing and closing do not."""
    try:
        yield
    except OSError as error:
        error.filename = file.name
        raise
