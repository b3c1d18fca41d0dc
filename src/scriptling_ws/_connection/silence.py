"""Receiving for callers that want exceptions: a silence and a close raise, each its own.

Rules:

- `receive` does the work. What is here tells its two Nones apart, by what this end knows without
  looking at the socket again: a silence is told of only if the end has not come.
- A ReceiveTimeout loses nothing, and ends nothing: the next call, or the next turn of `Messages`,
  goes on waiting.
- A message that has come before the close is received before the close is told of.

RFC 6455: section 7.1 (closing).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from .._errors import ReceiveTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import TypeVar

    from .link import Link

    Message_co = TypeVar("Message_co", covariant=True)
else:
    from typing import TypeVar

    Message_co = TypeVar("Message_co", covariant=True)

__all__ = ["Messages", "nothing_came", "silence"]


def nothing_came(link: Link, timeout: float | None) -> Exception:
    """Why a receive has brought nothing.

    Args:
        link: The connection's link.
        timeout: The seconds that it has waited, None for ever.

    Returns:
        ConnectionClosed, or ReceiveTimeout.
    """
    if timeout is None or link.lifecycle.closing or link.protocol.ended:
        return link.closed_error()
    return silence(timeout)


def silence(timeout: float) -> ReceiveTimeout:
    """What is raised where no message has come in time."""
    return ReceiveTimeout(f"no message within {timeout:g} s: receive again, or allow more time")


class Messages(Generic[Message_co]):
    """The messages of one connection as they come; each turn ends at the timeout.

    An iterator, not a generator: it goes on after a ReceiveTimeout.
    """

    __slots__ = ("_receive", "_timeout", "_why")

    def __init__(
        self,
        receive: Callable[[float | None], Any],
        why: Callable[[float | None], Exception],
        timeout: float | None,
    ) -> None:
        """Receive each by `receive`; `why` says what a None of it was, as `nothing_came` does."""
        self._receive = receive
        self._why = why
        self._timeout = timeout

    def __iter__(self) -> Iterator[Message_co]:
        """Itself: a second loop goes on where the first has ended."""
        return self

    def __next__(self) -> Message_co:
        """The next message; see `Connection.messages`."""
        message: Message_co | None = self._receive(self._timeout)
        if message is not None:
            return message
        why = self._why(self._timeout)
        if isinstance(why, ReceiveTimeout):
            raise why
        raise StopIteration
