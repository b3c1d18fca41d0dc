"""websocket-rs' client for asyncio, with its `on_message` callback.

It is compiled like websocket_rs.sync, and newer.  Messages come as views, which become
`bytes` or `str` objects here as in every other adapter.  There is no `send`: this client
says of no message whether it was written, so a flood of them only fills memory.
"""

# ruff: noqa: D102 - base.Adapter says what the methods do

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from websocket_rs import connect

from .base import Endpoint, to_json
from .event_loop import EventLoop

if TYPE_CHECKING:
    from collections.abc import Callable


class WebSocketRsAsyncio:
    """A connection, made when the first workload says which callback it needs."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._loop = EventLoop()
        self._connection: Any = None
        self._left = 0
        self._message: Any = None

    def close(self) -> None:
        if self._connection is not None:
            self._loop.run(self._close())

    async def _close(self) -> None:
        self._connection.close()

    def echo(self, message: str | bytes, count: int) -> Any:
        callback = self._on_echoed_text if isinstance(message, str) else self._on_echo
        return self._loop.run(self._exchange(count, callback, message, message))

    def echo_list(self, values: list[int], count: int) -> list[int]:
        work = self._exchange(count, self._on_echoed_list, values, bytes(values))
        return cast("list[int]", self._loop.run(work))

    def echo_dict(self, value: dict[str, Any], count: int) -> str:
        work = self._exchange(count, self._on_echoed_dict, value, to_json(value))
        return cast("str", self._loop.run(work))

    def receive(self, count: int) -> Any:
        return self._loop.run(self._exchange(count, self._on_message, None, str(count)))

    async def _exchange(
        self, count: int, callback: Callable[[Any], None], message: Any, first: str | bytes
    ) -> Any:
        if self._connection is None:
            self._connection = await connect(
                self._endpoint.url, ssl_context=self._endpoint.tls(), on_message=callback
            )
            self._send = self._connection.send
        self._left = count
        self._message = message
        self._done = asyncio.get_running_loop().create_future()
        self._send(first)
        return await self._done

    def _on_message(self, message: Any) -> None:
        reply = bytes(message)
        self._left -= 1
        if not self._left:
            self._done.set_result(reply)

    def _on_echo(self, message: Any) -> None:
        reply = bytes(message)
        self._left -= 1
        if self._left:
            self._send(self._message)
        else:
            self._done.set_result(reply)

    def _on_echoed_text(self, message: Any) -> None:
        reply = str(message, "utf-8")
        self._left -= 1
        if self._left:
            self._send(self._message)
        else:
            self._done.set_result(reply)

    def _on_echoed_list(self, message: Any) -> None:
        reply = list(bytes(message))
        self._left -= 1
        if self._left:
            self._send(bytes(self._message))
        else:
            self._done.set_result(reply)

    def _on_echoed_dict(self, message: Any) -> None:
        reply = str(message, "utf-8")
        self._left -= 1
        if self._left:
            self._send(to_json(self._message))
        else:
            self._done.set_result(reply)
