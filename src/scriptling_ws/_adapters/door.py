"""Where the upgrades of a WSGI server come in: checked, accepted, and the socket taken over.

Rules:

- Nothing is taken from the server before the upgrade may come in: a refusal is the server's to
  write, as the answer to any other request.
- A connection has its seat before the answer leaves. Whatever fails after that gives it back.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from .._connection.connection import Connection
from .._handshakes.head import Refused
from .._handshakes.terms import Terms
from .._network.addresses import address_text
from .._network.deadline import Deadline
from .._network.foreign import adopt
from .._network.waiting import choose
from .._options import check_count
from .._server.dates import http_date
from .._server.http import write_all
from .._server.log import RareWarning
from .._server.response import refusal
from .ending import ending, gunicorn_worker, room_of
from .environ import find_socket, head_of, request_of, take_read
from .gate import Gate
from .running import decide, log_refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._handshakes.head import Request
    from .._handshakes.server import ServerUpgrade
    from .._network.transport import Transport
    from .._server.authorization import Verdict
    from .._server.response import Response
    from .._server.settings import Settings
    from .ending import Seat

__all__ = ["Answered", "Door"]

_logger = logging.getLogger("scriptling_ws.server")

_TIME: Final = 10.0  # seconds for the peer to take the answer
_NO_THREAD: Final = (
    "this worker has one thread, which a WebSocket would take from all others: start gunicorn with "
    "--threads 8, or with --worker-class gevent"
)


class Answered(Exception):  # not an error of this program
    """An upgrade that gets another answer: it may not come in."""

    def __init__(self, response: Response, reason: str) -> None:
        super().__init__(reason)
        self.response = response
        self.reason = reason


class Door:
    """Where the upgrades of one adapter come in."""

    def __init__(self, allowed_hosts: Iterable[str] | None, max_connections: int | None) -> None:
        if max_connections is not None:
            check_count("max_connections", max_connections)
        self._gate = Gate(allowed_hosts)
        self._most = max_connections

    def open(
        self,
        environ: Mapping[str, Any],
        settings: Settings,
        params: Mapping[str, str] | None = None,
    ) -> tuple[Connection[Any, Any], Seat]:
        """Check and accept an upgrade.

        Returns:
            The connection, and its seat, for the caller to leave.

        Raises:
            Answered: it may not come in.
            OSError: the client has left.
        """
        request: Request | None = None
        try:
            head = head_of(environ)
            request = request_of(environ, head)
            request.params.update(params or {})
            sock = find_socket(environ)
            _check_engine(sock)  # before anything asks for one
            local_addr = address_text(sock.getsockname())
            upgrade = self._gate.check_upgrade(head, request, settings, local_addr)
            worker = gunicorn_worker() if "gunicorn.socket" in environ else None
            most = room_of(worker) if self._most is None else self._most
            seat = ending().take_seat(most, _NO_THREAD)
        except Refused as refused:
            if refused.status >= 500:
                _warning().give("refused %s: %s", environ.get("REMOTE_ADDR"), refused.text)
            log_refusal(request, refused)
            raise Answered(refusal(refused), refused.text) from refused
        try:
            verdict = _decide(request, settings, upgrade)
            connection = _open(environ, sock, request, upgrade, settings, verdict)
        except BaseException:
            seat.leave()
            raise
        try:
            seat.fill(connection, worker)
        except BaseException:
            seat.leave()
            connection._abort()
            connection.close()
            raise
        return connection, seat


def _decide(request: Request, settings: Settings, upgrade: ServerUpgrade) -> Verdict:
    """Have the program decide about it.

    Raises:
        Answered: it may not come in.
    """
    verdict = decide(request, settings, upgrade.subprotocols)
    if verdict.response is not None:
        log_refusal(request, Refused(verdict.response.status, verdict.reason))
        raise Answered(verdict.response, verdict.reason)
    return verdict


def _open(
    environ: Mapping[str, Any],
    sock: Any,
    request: Request,
    upgrade: ServerUpgrade,
    settings: Settings,
    verdict: Verdict,
) -> Connection[Any, Any]:
    """Take the socket over, and answer the upgrade.

    Raises:
        OSError: the client has left.
    """
    rest = take_read(environ, sock)
    transport = adopt(sock)
    try:
        transport.remote_addr = request.remote_addr
        terms = Terms.wanted(settings.connection)
        headers = [("Date", http_date()), *verdict.headers]
        answer = upgrade.accept(verdict.subprotocol, headers, deflate=terms)
        write_all(transport, answer, Deadline(_TIME))
        return Connection(
            transport,
            client=False,
            options=settings.connection,
            received=rest,
            subprotocol=verdict.subprotocol,
            request=request,
            deflate=upgrade.deflate,
            attended=True,
        )
    except BaseException:
        _abandon(transport)
        raise


def _abandon(transport: Transport) -> None:
    transport.abort()
    transport.close()


def _check_engine(sock: object) -> None:
    """Have the process wait as the server does.

    Raises:
        Refused: 500, it waits by threads already, and the server by greenlets.
    """
    if not type(sock).__module__.startswith("gevent"):
        return
    try:
        choose("gevent")
    except (RuntimeError, ImportError) as error:
        raise Refused(500, f"this server waits by gevent: {error}") from error


_rare: RareWarning | None = None


def _warning() -> RareWarning:
    global _rare  # noqa: PLW0603  # made once an engine is chosen
    _rare = _rare or RareWarning(_logger)
    return _rare
