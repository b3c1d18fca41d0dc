"""aiohttp's client, without compression and size limit."""

# ruff: noqa: D102 - base.Adapter says what the methods do

from __future__ import annotations

from typing import Any

import aiohttp

from .base import Endpoint, to_json
from .event_loop import EventLoop


class Aiohttp:
    """A session and a connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._loop = EventLoop()
        self._loop.run(self._open(endpoint))

    async def _open(self, endpoint: Endpoint) -> None:
        self._session = aiohttp.ClientSession()
        self._connection = await _dial(self._session, endpoint)

    def close(self) -> None:
        self._loop.run(self._close())

    async def _close(self) -> None:
        await self._connection.close()
        await self._session.close()

    @classmethod
    def connect_and_close(cls, endpoint: Endpoint, count: int) -> None:
        EventLoop().run(_connect_and_close(endpoint, count))

    def echo(self, message: str | bytes, count: int) -> Any:
        return self._loop.run(self._echo(message, count))

    async def _echo(self, message: Any, count: int) -> Any:
        connection = self._connection
        send = connection.send_str if isinstance(message, str) else connection.send_bytes
        receive = connection.receive
        for _ in range(count):
            await send(message)
            reply = (await receive()).data
        return reply

    def echo_list(self, values: list[int], count: int) -> list[int]:
        return self._loop.run(self._echo_list(values, count))

    async def _echo_list(self, values: list[int], count: int) -> list[int]:
        send, receive = self._connection.send_bytes, self._connection.receive
        for _ in range(count):
            await send(bytes(values))
            reply = list((await receive()).data)
        return reply

    def echo_dict(self, value: dict[str, Any], count: int) -> str:
        return self._loop.run(self._echo_dict(value, count))

    async def _echo_dict(self, value: dict[str, Any], count: int) -> str:
        send, receive = self._connection.send_str, self._connection.receive
        for _ in range(count):
            await send(to_json(value))
            reply: str = (await receive()).data
        return reply

    def receive(self, count: int) -> Any:
        return self._loop.run(self._receive(count))

    async def _receive(self, count: int) -> Any:
        receive = self._connection.receive
        await self._connection.send_str(str(count))
        for _ in range(count):
            message = (await receive()).data
        return message

    def send(self, message: bytes, count: int) -> str:
        return self._loop.run(self._send(message, count))

    async def _send(self, message: bytes, count: int) -> str:
        send = self._connection.send_bytes
        for _ in range(count):
            await send(message)
        await self._connection.send_str("done")
        return await self._connection.receive_str()


async def _dial(
    session: aiohttp.ClientSession, endpoint: Endpoint
) -> aiohttp.ClientWebSocketResponse:
    return await session.ws_connect(
        endpoint.url, compress=0, autoping=False, max_msg_size=0, ssl=endpoint.tls() or True
    )


async def _connect_and_close(endpoint: Endpoint, count: int) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(count):
            connection = await _dial(session, endpoint)
            await connection.close()
