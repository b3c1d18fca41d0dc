"""Receiving a message into the caller's buffer: what `receive_into` does.

Rules:

- A binary message of one frame that fits is received into the buffer as it comes: its bytes are
  in no other place but for those that came with its header.
- What does not fit stays the next message, whole, for any call that receives.
- A call that ends before the message does moves what has come out of the buffer: nothing is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._errors import ConnectionClosed, ReceiveTimeout
from .._wire.piecemeal import Piecemeal
from .awaiting import Awaiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._network.deadline import Deadline
    from .closer import Closer
    from .intake import Intake
    from .link import Link

__all__ = ["receive_into"]


def receive_into(
    link: Link, intake: Intake, closer: Closer, buffer: Any, timeout: float | None
) -> int | str | bytes | None:
    """As `Connection.receive_into`."""
    filling = _Filling(link, intake, closer, timeout)
    try:
        whole = memoryview(buffer)
    except TypeError:
        kind = type(buffer).__name__
        text = f"receive_into() takes a writable bytes-like object, not {kind}"
        raise TypeError(text) from None
    with whole:
        if whole.readonly or not whole.c_contiguous:
            raise TypeError("receive_into() takes a buffer that is writable and contiguous")
        with whole.cast("B") if whole.nbytes else memoryview(bytearray()) as room:
            return filling.fill(room)


class _Filling(Awaiting):
    """One call."""

    __slots__ = ()

    def fill(self, room: memoryview) -> int | str | bytes | None:
        """Receive into the room."""
        message = self.message = Piecemeal(room)
        try:
            self.until(lambda: message.done)
        except (ReceiveTimeout, ConnectionClosed):
            return None
        return message.text_or_size()

    def _receive(self, enough: Callable[[], bool], deadline: Deadline) -> bool:
        # It leaves the buffer before another thread can receive into it.
        try:
            return super()._receive(enough, deadline)
        finally:
            self.leave()
