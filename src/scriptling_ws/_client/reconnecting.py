"""reconnecting(): a loop over connections to one server, each made when the last one has ended.

Rules:

- One connection at a time, made by `connect`, closed before the next one is made, and when the
  loop is left.
- Every failure has one line in the log (`scriptling_ws.reconnecting`), with what becomes of it,
  without the URL's query and credentials. A final one, or the last of the budget, is raised as it
  is: what `connect` has raised, or ConnectionClosed.
- A connection that ends within min_uptime counts as a failure too: a server that accepts and
  closes is not asked without end.
- Nothing is sent again: what was sent on a connection that has ended may have arrived, or not.
- A wait is the engine's, and `close` ends it from any thread.

How long it waits, and what is final, is in `backoff`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, overload

from .._connection.derived import Binary_co, Text_co
from .._errors import ConnectError, InvalidURL, forget_frames
from .._functions import check_runs, comes_later
from .._handshakes.url import parse_url
from .._network.authority import host_port
from .._network.deadline import Deadline, check_timeout
from .._network.waiting import READ, engine
from .._unknown import check_names
from .backoff import Budget, Pace, is_final
from .connect import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from .._connection.connection import Connection
    from .._errors import ConnectionClosed
    from .._network.contract import Waker
    from .._options import ReconnectingOptions

    Headers = Mapping[str, str] | Iterable[tuple[str, str]] | None

__all__ = ["Reconnecting", "reconnecting"]

_logger: Final = logging.getLogger("scriptling_ws.reconnecting")
_UNWOKEN: Final = 0.1  # seconds between two looks at `close`, where no descriptor is left to wake


@overload
def reconnecting(
    url: str | Callable[[], str],
    timeout: float | None = 10,
    headers: Headers | Callable[[], Headers] = None,
    *,
    binary_type: type[list[int]] = list,
    text_type: type[str] = str,
    **options: Unpack[ReconnectingOptions],
) -> Reconnecting: ...


@overload
def reconnecting(
    url: str | Callable[[], str],
    timeout: float | None = 10,
    headers: Headers | Callable[[], Headers] = None,
    *,
    binary_type: type[list[int]] = list,
    text_type: type[bytes],
    **options: Unpack[ReconnectingOptions],
) -> Reconnecting[list[int], bytes]: ...


@overload
def reconnecting(
    url: str | Callable[[], str],
    timeout: float | None = 10,
    headers: Headers | Callable[[], Headers] = None,
    *,
    binary_type: type[bytes],
    text_type: type[str] = str,
    **options: Unpack[ReconnectingOptions],
) -> Reconnecting[bytes]: ...


def reconnecting(
    url: str | Callable[[], str],
    timeout: float | None = 10,
    headers: Headers | Callable[[], Headers] = None,
    *,
    binary_type: type[list[int]] | type[bytes] = list,
    text_type: type[str] | type[bytes] = str,
    first_delay: float = Budget.first_delay,
    max_delay: float = Budget.max_delay,
    min_uptime: float = Budget.min_uptime,
    max_tries: int | None = None,
    max_time: float | None = None,
    final: Callable[[Exception], bool | None] | None = None,
    **options: Any,
) -> Reconnecting[Any, Any]:
    """Connect, and connect again each time the connection has ended: what a loop goes over.

        for conn in ws.reconnecting("wss://example.com/feed"):
            conn.send({"subscribe": "all"})
            for message in conn:
                print(message)

    Each turn of the loop has an open connection. When its body ends, or goes on with `continue`,
    the connection is closed if it is not, and the next one is made, after a wait. This call itself
    does not block; a turn blocks until a connection is open.

    What was sent on a connection that has ended may have arrived, or not: nothing is sent again. A
    caller that wants that asks its server what has arrived, or numbers its messages.

    An exception of the loop's body leaves the loop, as anywhere: catch ConnectionClosed around a
    `send`, and `continue`.

    Args:
        url: As `connect` takes it; or a function that returns it, called for each try.
        timeout: Seconds for each try (default 10), as `connect` takes it.
        headers: As `connect` takes them; or a function that returns them, called for each
            try: for credentials that expire.
        binary_type: As `connect` takes it.
        text_type: As `connect` takes it.
        first_delay: The most seconds (default 1) before the second try. Each wait is drawn from 0
            up to a bound, which doubles with each failure in a row.
        max_delay: The largest such bound in seconds (default 60). Retry-After may ask for
            more, up to an hour.
        min_uptime: The seconds (default 5) that a connection has to last, for failures to be
            counted anew; one that ends before counts as a failure.
        max_tries: The most failures in a row (default None, any number).
        max_time: The seconds without a connection that lasts, after which no try begins (default
            None, for ever).
        final: A function that is given each failure: what `connect` has raised, or the
            ConnectionClosed of a connection that has ended. True makes it final, False not, and
            None leaves it to the default: final is an HTTP status (401, 403, 404) but for 408,
            425, 429 and 5xx; a certificate that is not trusted; a URL that cannot be used.
        **options: Those of `connect`.

    Returns:
        What the loop goes over: see `Reconnecting`.

    Raises:
        TypeError: an argument is of the wrong type, or an option unknown. What `connect` checks
            alone is raised by the first turn.
        ValueError: an argument is out of its range.
    """
    check_names("reconnecting", options)
    if final is not None and not callable(final):
        raise TypeError(f"final has to be a function of an error, not {type(final).__name__}")
    check_runs(final, "final")
    if options.get("sock") is not None:
        raise ValueError("sock is for one connection: use connect(), or leave sock out")
    budget = Budget(first_delay, max_delay, min_uptime, max_tries, max_time)
    options |= {"binary_type": binary_type, "text_type": text_type}
    kept = {name: _repeatable(value) for name, value in options.items()}
    return Reconnecting(url, check_timeout(timeout), _repeatable(headers), budget, final, kept)


def _repeatable(value: Any) -> Any:
    """An argument for each try: what an iterator has would be gone after the first one."""
    return list(value) if isinstance(value, Iterator) else value


class Reconnecting(Generic[Binary_co, Text_co]):
    """Connections to one server, one after the other: what `reconnecting` returns.

    To be looped over, by one thread at a time; each loop begins anew. When a loop is left, by
    `break`, `return` or an exception, its connection is closed: in CPython at once, elsewhere when
    the garbage collector comes, or at the end of `with reconnecting(url) as conns:`.

    Attributes:
        failures: How many tries have failed since the last connection that has lasted.
        last_error: Why the last try has failed, or the last connection ended; None before that.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        timeout: float | None,
        headers: Headers | Callable[[], Headers],
        budget: Budget,
        final: Callable[[Exception], bool | None] | None,
        options: dict[str, Any],
    ) -> None:
        """Not for callers: `reconnecting` makes it."""
        self._url = url
        self._timeout = timeout
        self._headers = headers
        self._budget = budget
        self._final = final
        self._options = options
        self._pace = Pace(budget)
        self._where = "the server"
        # An RLock: a signal handler that closes may interrupt its holder.
        self._lock = engine().rlock()  # guards the next three
        self._closed = False
        self._waker: Waker | None = None
        self._conn: Connection[Binary_co, Text_co] | None = None
        self.last_error: ConnectError | ConnectionClosed | InvalidURL | None = None

    @property
    def failures(self) -> int:
        """How many tries have failed since the last connection that has lasted."""
        return self._pace.failures

    def __iter__(self) -> Iterator[Connection[Binary_co, Text_co]]:
        """Connect, and again each time; ends once `close` was called.

        Each turn blocks until a connection is open.

        Raises:
            HandshakeError, ConnectTimeout, ConnectError, InvalidURL: a failure that is final,
                or the last of the budget, as `connect` has raised it.
            ConnectionClosed: likewise, of a connection that has ended.
            TypeError, ValueError: what `connect` raises for its arguments.
        """
        self._pace = Pace(self._budget)
        while not self._closed:
            conn = self._connect()
            if conn is None:
                continue
            began = monotonic()
            try:
                if not self._closed:
                    yield conn
            finally:
                self._conn = None
                conn.close()
            if not self._closed:
                self._ended(conn, monotonic() - began)

    def _connect(self) -> Connection[Binary_co, Text_co] | None:
        """Try once; if that fails, wait, or raise."""
        try:
            url = self._url() if callable(self._url) else self._url
            self._where = _shown(url)
            headers = self._headers() if callable(self._headers) else self._headers
            self._conn = connect(url, self._timeout, headers, **self._options)
        except (ConnectError, InvalidURL) as error:
            if self._closed:  # the loop ends here, so the failure is nobody's any more
                return None
            self._pace.failed()
            if not self._again(error):
                raise
        return self._conn

    def _ended(self, conn: Connection[Binary_co, Text_co], seconds: float) -> None:
        """A connection has ended after so many seconds: wait, or raise."""
        error = conn._closed_error()
        self._pace.lasted(seconds)
        if not self._again(error):
            raise error

    def _again(self, error: ConnectError | ConnectionClosed | InvalidURL) -> bool:
        """Wait before the next try; False, at once, if there is to be none."""
        self.last_error = error
        if self._is_final(error):
            _logger.warning("%s: %s; this is final", self._where, error)
            return False
        seconds = self._pace.delay(error)
        if seconds is None:
            _logger.warning(
                "%s: %s; given up after %d failures", self._where, error, self._pace.failures
            )
            return False
        _logger.warning("%s: %s; next try in %.1f s", self._where, error, seconds)
        forget_frames(error)
        self._wait(seconds)
        return True

    def _is_final(self, error: Exception) -> bool:
        verdict = None if self._final is None else self._final(error)
        if comes_later(verdict):  # it would be true, whatever it will say
            kind = type(verdict).__name__
            raise TypeError(f"final returned a {kind}, which is no answer yet: wait for its result")
        return is_final(error) if verdict is None else bool(verdict)

    def _wait(self, seconds: float) -> None:
        """Let so many seconds pass, or fewer if `close` is called."""
        deadline = Deadline(seconds)
        waker: Waker | None
        try:
            waker = engine().waker()
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            waker = None  # no descriptor is left
        try:
            with self._lock:
                self._waker = waker
            while not (self._closed or deadline.passed()):
                if waker is not None:
                    engine().wait(waker, READ, deadline)
                    continue
                moment = deadline.sooner(_UNWOKEN).left()
                engine().sleep(moment or 0.0)
                deadline.waited(moment)
        finally:
            with self._lock:
                self._waker = None
                if waker is not None:
                    waker.close()

    def close(self) -> None:
        """End the loop, from any thread: the wait between two tries, and the connection if any.

        A try that goes on ends within its timeout. Blocks as `Connection.close` does. What is
        closed stays closed: a loop over it has no turn.
        """
        with self._lock:
            self._closed = True
            if self._waker is not None:
                self._waker.set()
        conn = self._conn
        if conn is not None:
            conn.close()

    def __enter__(self) -> Self:
        """Use it as a context manager."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def _shown(url: object) -> str:
    """A URL for the log, without its query and credentials."""
    try:
        checked = parse_url(url)  # type: ignore[arg-type]  # which it says
    except (InvalidURL, TypeError):
        return "the server"  # the error says what is wrong with the URL
    if checked.unix is not None:
        return f"the Unix socket {checked.unix!r}"
    path = checked.target.partition("?")[0]
    scheme = "wss" if checked.secure else "ws"
    return f"{scheme}://{host_port(checked.host, checked.port)}{path}"
