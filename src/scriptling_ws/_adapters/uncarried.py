"""The calls of `Connection` that ASGI does not carry (the ASGI specification, "WebSocket").

The server keeps the socket, the frames and the pings, and hands on only whole messages. Each of
these calls raises NotImplementedError. The error says what the server does instead, and where the
call works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Uncarried"]

_NOT_CARRIED: Final = (
    "ASGI does not carry {what}: the server sends pings of its own (uvicorn: --ws-ping-interval, "
    "hypercorn: websocket_ping_interval). Where a handler needs it, run it under WSGI or "
    "scriptling_ws.Server"
)

_WHOLE: Final = (
    "ASGI carries whole messages: use send and receive, or run the handler under WSGI or "
    "scriptling_ws.Server"
)


class Uncarried:
    """What a connection over ASGI refuses; see `Connection` for what the calls do elsewhere."""

    def receive_into(self, buffer: Any, timeout: float | None = 30) -> int | str | None:
        """Not over ASGI.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_WHOLE)

    def receive_stream(
        self,
        timeout: float | None = 30,
        *,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> NoReturn:
        """Not over ASGI.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_WHOLE)

    def send_stream(
        self,
        source: Any,
        text: bool = False,
        compress: bool = True,
        *,
        fragment_size: int = 64 * 1024,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> None:
        """Not over ASGI.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_WHOLE)

    def ping(self, timeout: float | None = 30) -> float | None:
        """Not over ASGI.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_NOT_CARRIED.format(what="pings"))

    @property
    def latency(self) -> float | None:
        """Not over ASGI.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_NOT_CARRIED.format(what="pings, nor how long they took"))

    def fileno(self) -> int:
        """Not over ASGI.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(_NOT_CARRIED.format(what="the socket"))
