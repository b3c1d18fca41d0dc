"""The end of most connections, in one go: the client's Close, its answer, and the stream's end.

Rules (those about locks are in `link`):

- Only the plain case is taken here: on a server, a whole Close of a usual kind and nothing beside
  it, nothing unsent, no other thread that writes. All else goes the long way (`intake`, `outlet`,
  `closer`), which comes to the same.
- What is left where a step cannot be done at once is what the long way leaves, and goes on with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._network.locks import attempt
from .lifecycle import END

if TYPE_CHECKING:
    from .intake import Intake
    from .link import Link
    from .outlet import Outlet

__all__ = ["part"]


def part(link: Link, outlet: Outlet, intake: Intake) -> bool:
    """Take in the client's Close, and answer it, if that is all there is to do.

    It was received, and is not taken in yet. Holds the intake's lock.

    Returns:
        Whether the descriptor is closed. If not, nothing has changed, or reading goes on.
    """
    window = link.protocol.window
    if window.stopped is None or not _answer(link, outlet):
        return False
    link.lifecycle.tell()
    if not outlet.finished:
        return False
    # The peer's end is there, or comes at once. What else comes is of no use to anybody.
    try:
        count = link.transport.read_into(window.data, True)
    except OSError as error:
        if error.errno is None:
            raise  # a signal handler's, such as TimeoutError
        count = 0
    if count != 0:
        link.protocol.unreceived.tally.wire += count or 0
        return False
    link.eof = True
    intake.dispose()
    return link.lifecycle.disposed


def _answer(link: Link, outlet: Outlet) -> bool:
    """Take in the Close, send the answer, and end the stream; whether there was such a Close."""
    lifecycle, unsent = link.lifecycle, link.unsent
    lock, got = outlet.lock, False
    try:
        for got in attempt(lock):  # noqa: B007 - used below
            break
        if not got:
            return False
        with lifecycle.lock:
            if lifecycle.state or unsent or not link.protocol.feed_close():
                return False
            lifecycle.go(END)
        link.channel.heard = True
        try:
            if unsent.write_answer():
                outlet.finished = True
                link.transport.finish_writing()
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            link.send_failed(error)
        return True
    finally:
        if got:
            lock.release()
