"""The calls of a connection that are made of its others: the same over a socket and over ASGI.

Rules:

- Nothing in here knows what a connection is made of: `receive` brings a message, `close` closes,
  `_nothing_came` says why there was no message.
- A base class costs such a call nothing: Python keeps where it has found a method.
- Callers do not know this class. So its calls have the names that they have in `Connection`: in an
  error about an argument, in a `repr` and in a pickle.
"""

from __future__ import annotations

from abc import abstractmethod
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic

from .._codes import CloseCode
from .._network.deadline import check_timeout
from .._wire.documents import loaded
from .silence import Messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import SimpleNamespace, TracebackType

    from typing_extensions import Self, TypeVar

    Binary_co = TypeVar("Binary_co", bound="list[int] | bytes", covariant=True, default=list[int])
    Text_co = TypeVar("Text_co", bound="str | bytes", covariant=True, default=str)
else:
    from typing import TypeVar  # whose `default` is of 3.13

    Binary_co = TypeVar("Binary_co", covariant=True)
    Text_co = TypeVar("Text_co", covariant=True)

__all__ = ["Binary_co", "Derived", "Text_co"]


class Derived(Generic[Binary_co, Text_co]):
    """What every connection offers beside its own calls."""

    # No __slots__: a handler may keep what it wants on its client (`client.name = ...`).

    if not TYPE_CHECKING:  # pragma: no branch - a type checker's alone
        __class_getitem__ = classmethod(GenericAlias)  # with one type or two, in any Python

    state: SimpleNamespace
    _loads: Callable[[Any], Any]

    @abstractmethod
    def receive(self, timeout: float | None = 30) -> Text_co | Binary_co | None:
        """Receive the next message; None on timeout and when the connection is closed."""

    @abstractmethod
    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection."""

    @abstractmethod
    def _nothing_came(self, timeout: float | None) -> Exception:
        """Why `receive` has returned None, as an exception.

        Args:
            timeout: The seconds that it has waited, None for ever.
        """

    @property
    def user(self) -> Any:
        """Whose connection it is: `state.user`, which `authorize` sets; None where nobody has."""
        return getattr(self.state, "user", None)

    @user.setter
    def user(self, user: Any) -> None:
        self.state.user = user

    def recv(self, timeout: float | None = None) -> Text_co | Binary_co:
        """Receive the next message; a timeout and a close are exceptions.

        As `receive` in all else: blocks until there is a message, thread-safe, and a timeout
        loses nothing.

        Args:
            timeout: Seconds; 0 to take what is there, None (the default) to wait for ever.

        Returns:
            As `receive`, but no None.

        Raises:
            ReceiveTimeout: no message has come in time; it is a TimeoutError.
            ConnectionClosed: the connection is closed, and every message that came before that
                was received. Its `code` and `reason` say why.
            TypeError: the timeout is no number.
            ValueError: the timeout is negative or NaN.
        """
        message = self.receive(timeout)
        if message is None:
            raise self._nothing_came(check_timeout(timeout))
        return message

    def receive_json(
        self, timeout: float | None = None, *, loads: Callable[[Any], Any] | None = None
    ) -> Any:
        """Receive the next message as JSON; as `recv` in all else.

        Args:
            timeout: As `recv` takes it.
            loads: What makes a value of the message in place of the connection's `loads`, which is
                `json.loads` by default. It is given what `recv` returns, but bytes in place of a
                list: any of a binary message, UTF-8 of a text with `text_type=bytes`, else a str.

        Returns:
            What `loads` returns.

        Raises:
            ReceiveTimeout, ConnectionClosed, TypeError, ValueError: as `recv`.
            InvalidMessage: `loads` cannot read the message; it is a ValueError, with what `loads`
                has raised as its cause. The message is taken: the error has it as `message`. The
                connection stays open.
        """
        return loaded(self.recv(timeout), self._loads if loads is None else loads)

    def messages(self, timeout: float | None = None) -> Iterator[Text_co | Binary_co]:
        """Iterate over the messages as they come, until the connection is closed.

        With a timeout it is as `for message in conn`, but a silence does not go unnoticed. Blocks
        in each turn, until there is a message; thread-safe.

        Args:
            timeout: The most seconds for each message; None (the default) to wait for ever.

        Returns:
            An iterator, which ends at the close. In place of a message it raises ReceiveTimeout,
            which is a TimeoutError, when none has come in time; after that it can go on.

        Raises:
            TypeError: the timeout is no number.
            ValueError: the timeout is negative or NaN.
        """
        return Messages(self.receive, self._nothing_came, check_timeout(timeout))

    def __reduce_ex__(self, protocol: object) -> str:
        """Refuse to be copied or pickled: there is one socket."""
        raise TypeError("a connection cannot be copied or pickled")

    def __enter__(self) -> Self:
        """Use the connection as a context manager."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close: with 1000, or with 1011 if the block raised an Exception."""
        failed = isinstance(error, Exception)
        self.close(CloseCode.INTERNAL_ERROR if failed else CloseCode.NORMAL)


for _call in (Derived.recv, Derived.receive_json, Derived.messages):
    _call.__module__, _call.__qualname__ = "scriptling_ws", f"Connection.{_call.__name__}"
