"""The figures of a server for Prometheus: what is counted, and the page that tells it.

Rules:

- prometheus-client counts and writes the text. It is imported when a server asks for it, and no
  sooner: whoever has no metrics needs no such package.
- What a message costs is not more with metrics than without. Its connection counts it anyway, and
  the system's kernel the bytes; each connection is asked as the page is read, and once at its end.
- A label has few values, and none of them is a peer's: a route's own path, a status, a reason of
  `_REASONS`, a close code by RFC 6455 or the range that it is in.
- Several processes (PROMETHEUS_MULTIPROC_DIR): each writes its figures into files of that folder,
  and whichever is asked adds up what is in there. As one cannot ask another one's connections,
  each asks its own every REFRESH seconds.
- A forked child counts nothing (`Sessions` lets go of the figures): a lock that is taken in the
  parent would stay so.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from .._codes import CloseCode
from .._network.waiting import engine
from .figures import Figures
from .response import Response
from .room_figures import RoomFigures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from prometheus_client import CollectorRegistry

    from .._connection.connection import Connection
    from .._handshakes.head import Request
    from .._network.contract import Task

__all__ = ["REFRESH", "Metrics", "for_workers", "shared", "worker_left"]

REFRESH: Final = 5.0
"""Seconds between two looks at the connections, where several processes share the figures."""

_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own variable
_NOTHING: Final = (0, 0, 0, 0)  # the traffic of a connection that was not asked yet
_ANY_PATH: Final = "*"  # the label of a handler for any path
# Handlers run for their connection's life: from a moment to a day. A handshake has a deadline.
_LIVES: Final = (0.1, 1, 10, 60, 300, 1800, 3600, 4 * 3600, 12 * 3600, 24 * 3600)
_SHAKES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# Why a request is refused, in a word. By the reason's text where a status has several; a test
# holds these texts to those that are sent.
_REASONS: Final = {
    "this server does not go by the name in the Host header": "host",
    "this port speaks TLS alone: use wss:// or https://": "tls",
    "this port does not speak TLS: use ws:// or http://": "tls",
    "the TLS handshake took too long": "tls",
    "the server is full: try again later": "full",
    "the server is busy with clients that have left": "full",
    "too many connections from your address": "address",
    "the server has no thread left: try again later": "threads",
    "the server is shutting down": "closing",
    "no request came": "timeout",
    "authorize has refused it": "authorize",
    "authorize has failed": "failed",
    "deciding about this request took too long: try again later": "timeout",
}
_BY_STATUS: Final = {
    400: "malformed",
    403: "origin",
    404: "path",
    405: "method",
    408: "timeout",
    411: "length",
    413: "size",
    414: "size",
    417: "expect",
    426: "upgrade",
    429: "rate",
    431: "size",
    503: "full",
    505: "version",
}


def _client() -> ModuleType:
    """prometheus-client, if it counts as it has to.

    Raises:
        ImportError: it is not installed.
        RuntimeError: several processes are to share the figures, and it was imported before it
            could know.
    """
    try:
        import prometheus_client
        from prometheus_client import values
    except ImportError as error:
        raise ImportError(
            f'metrics needs prometheus-client: pip install "scriptling-ws[metrics]" ({error})',
            name=error.name,
        ) from error
    if _FOLDER in os.environ and not getattr(values.ValueClass, "_multiprocess", True):
        raise RuntimeError(
            f"{_FOLDER} was set after prometheus_client had been imported, so each process would "
            "count for itself: set it before the program starts"
        )
    return prometheus_client


@contextlib.contextmanager
def for_workers() -> Iterator[str]:
    """Have the processes that are started in the block share their figures.

    For the process that starts them: it has no server, and counts nothing itself. If
    PROMETHEUS_MULTIPROC_DIR is set already, it is left as it is.

    Returns:
        The folder in which they do; removed afterwards if it was made here.

    Raises:
        ImportError: prometheus-client is not installed.
        RuntimeError: it was imported before.
    """
    if _FOLDER in os.environ:
        _client()
        yield os.environ[_FOLDER]
        return
    with tempfile.TemporaryDirectory(prefix="scriptling-ws-") as folder:
        os.environ[_FOLDER] = folder
        try:
            _client()
            yield folder
        finally:
            del os.environ[_FOLDER]


@contextlib.contextmanager
def shared(metrics: str | bool | None) -> Iterator[Callable[[int], object]]:
    """`for_workers`, if the servers of these are to have metrics.

    Returns:
        What is to be called with the number of each process that has ended.

    Raises:
        As for_workers.
    """
    if not metrics:
        yield lambda _: None
        return
    with for_workers():
        yield worker_left


def worker_left(pid: int) -> None:
    """A process that has shared its figures is gone: what it had open counts no more.

    What it had counted in all stays. For the process that has started it, in `for_workers`.

    Args:
        pid: Its number.
    """
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]


class _Families:
    """What is counted, by the names under which it is told."""

    def __init__(self, client: ModuleType, registry: CollectorRegistry | None) -> None:
        def gauge(name: str, text: str, mode: str = "livesum") -> Any:
            # Of processes that are gone nothing counts.
            return client.Gauge(
                f"scriptling_ws_{name}", text, multiprocess_mode=mode, registry=registry
            )

        def counter(name: str, text: str, *labels: str) -> Any:
            return client.Counter(f"scriptling_ws_{name}", text, labels, registry=registry)

        def seconds(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Any:
            return client.Histogram(
                f"scriptling_ws_{name}_seconds", text, labels, buckets=buckets, registry=registry
            )

        self.connections = gauge("connections", "WebSocket connections that are open")
        self.handlers = gauge("handlers", "Handlers of WebSockets that are running")
        self.opened = counter("opened", "WebSocket connections that were opened")
        self.closed = counter("closed", "WebSocket connections that were closed", "code")
        self.traffic = (
            counter("received_messages", "Messages that have come"),
            counter("sent_messages", "Messages that were sent"),
            counter("received_bytes", "Bytes of frames that have come"),
            counter("sent_bytes", "Bytes of frames that were sent"),
        )
        self.refused = counter(
            "refused", "Requests that were refused, or not answered", "status", "reason"
        )
        self.pages = counter("page_requests", "Page requests that were answered", "route", "status")
        self.handshake = seconds(
            "handshake", "From accepting a connection to the answer of its upgrade", _SHAKES
        )
        self.handler = seconds("handler", "How long handlers of WebSockets ran", _LIVES, "route")
        self.page = seconds("page", "How long the handlers of pages took", _SHAKES, "route")
        self.rooms = RoomFigures(gauge, counter)


_shared: _Families | None = None


def _shared_families(client: ModuleType) -> _Families:
    """Those of this process, where several share a folder.

    Once for all servers of a process: each value has one place in the process's file.
    """
    global _shared  # noqa: PLW0603  # the one there is
    if _shared is None:
        _shared = _Families(client, None)
    return _shared


def _code_label(code: int) -> str:
    """A close code as a label's value: what is a peer's choice is a range."""
    if code in CloseCode.__members__.values():
        return str(int(code))
    return f"{code // 1000}xxx" if 3000 <= code <= 4999 else "other"


def _traffic(connection: Connection[Any, Any]) -> tuple[int, ...]:
    """What has moved on a connection so far, in the order of `_Families.traffic`."""
    stats = connection.stats()
    return (
        stats.messages_received,
        stats.messages_sent,
        stats.wire_received,
        stats.wire_sent,
    )


def _reason_label(status: int | str, reason: str) -> str:
    if reason.startswith("TLS failed"):
        return "tls"
    known = _REASONS.get(reason)
    return known or (_BY_STATUS.get(status, "other") if isinstance(status, int) else "other")


class Metrics(Figures):
    """Counts, and tells. Safe for any number of threads.

    Attributes:
        path: The path of the page.
    """

    def __init__(self, path: str) -> None:
        """Count from zero.

        Args:
            path: The path of the page.

        Raises:
            ImportError: prometheus-client is not installed.
            RuntimeError: several processes are to share the figures, and prometheus-client was
                imported before it could know.
        """
        client = _client()
        self.path = path
        self._folder = os.environ.get(_FOLDER)
        self._own: CollectorRegistry | None = None
        if self._folder is None:
            self._own = client.CollectorRegistry()
            client.ProcessCollector(registry=self._own)
            self._families = _Families(client, self._own)
        else:
            self._families = _shared_families(client)
        self._lock = engine().lock()  # guards _counted
        # What each connection came to when it was last asked.
        self._counted: dict[Connection[Any, Any], tuple[int, ...]] = {}
        self._over = engine().event()
        self._task: Task | None = None

    # -- what happens --------------------------------------------------------

    def now(self) -> float:
        """The time, on the monotonic clock."""
        return monotonic()

    def refused(self, status: int | str, reason: str) -> None:
        """As `Figures.refused`."""
        self._families.refused.labels(str(status), _reason_label(status, reason)).inc()

    def opened(self, connection: Connection[Any, Any], since: float) -> None:
        """As `Figures.opened`."""
        families = self._families
        with self._lock:
            self._counted[connection] = _NOTHING
        families.opened.inc()
        families.handlers.inc()
        families.handshake.observe(monotonic() - since)
        families.connections.inc()
        connection.on_close(families.connections.dec)

    def closed(self, connection: Connection[Any, Any], route: str, since: float) -> None:
        """As `Figures.closed`."""
        families = self._families
        with self._lock:
            self._settle(connection)
            del self._counted[connection]
        families.closed.labels(_code_label(connection.close_code or CloseCode.ABNORMAL)).inc()
        families.handler.labels(route or _ANY_PATH).observe(monotonic() - since)
        families.handlers.dec()  # last: whoever sees it finds all the others

    def page(self, route: str, status: int, since: float) -> None:
        """As `Figures.page`."""
        self._families.pages.labels(route, str(status)).inc()
        self._families.page.labels(route).observe(monotonic() - since)

    # -- what connections have counted ---------------------------------------

    def _settle(self, connection: Connection[Any, Any]) -> None:
        """Add what has moved on a connection since it was last asked. Holds _lock."""
        before = self._counted[connection]
        now = tuple(map(max, before, _traffic(connection)))
        for counter, old, new in zip(self._families.traffic, before, now, strict=True):
            if new > old:
                counter.inc(new - old)
        self._counted[connection] = now

    def refresh(self) -> None:
        """Ask all connections and all rooms: one after the other, so nobody waits for many."""
        with self._lock:
            connections = list(self._counted)
        for connection in connections:
            with self._lock:
                if connection in self._counted:  # pragma: no branch - else it has closed since
                    self._settle(connection)
        self._families.rooms.refresh()

    def start(self) -> None:
        """As `Figures.start`."""
        if self._folder is not None:
            self._task = engine().spawn(self._go_on, "scriptling-ws metrics")

    def _go_on(self) -> None:
        while not self._over.wait(REFRESH):
            self.refresh()

    def stop(self) -> None:
        """As `Figures.stop`."""
        self._over.set()
        task, self._task = self._task, None
        if task is not None:
            task.join(1)

    # -- the page --------------------------------------------------------------

    def answer(self, request: Request) -> Response:
        """The handler of the page. Its format is the one that the request prefers.

        Blocks: for the files of the other processes, where there are some.
        """
        from prometheus_client.exposition import choose_encoder

        self.refresh()
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        body = encode(self._registry())
        return Response(200, body, kind, {"Cache-Control": "no-store"})

    def _registry(self) -> CollectorRegistry:
        if self._own is not None:
            return self._own
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry, self._folder)  # type: ignore[no-untyped-call]
        return registry
