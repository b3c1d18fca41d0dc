"""picows, through its core API: a listener whose method is called for each frame.

Frames become `bytes` or `str` objects (a frame itself is only valid during the call),
and the listener sends the next message from within the call, as picows' own examples do.
"""

# ruff: noqa: D102 - base.Adapter says what the methods do

from __future__ import annotations

import asyncio
from typing import Any, cast

import picows

from .base import Endpoint, to_json
from .event_loop import EventLoop

TEXT = picows.WSMsgType.TEXT
BINARY = picows.WSMsgType.BINARY
CLOSE = picows.WSMsgType.CLOSE
MOST = 1 << 40


class Listener(picows.WSListener):
    """Waits for `left` messages, the last of which is the result."""

    transport: picows.WSTransport
    done: asyncio.Future[Any]
    left = 0

    def __init__(self) -> None:
        self.writable = asyncio.Event()
        self.writable.set()

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def expect(self, messages: int) -> None:
        self.left = messages
        self.done = asyncio.get_running_loop().create_future()

    def finish(self, message: Any) -> None:
        self.done.set_result(message)


class Texts(Listener):
    """Receives text messages."""

    def on_ws_frame(self, _: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == TEXT:
            self.finish(frame.get_payload_as_utf8_text())


class Receiver(Listener):
    """Receives binary messages, fragmented or not."""

    def __init__(self) -> None:
        super().__init__()
        self.fragments: list[bytes] = []

    def on_ws_frame(self, _: picows.WSTransport, frame: picows.WSFrame) -> None:
        message = frame.get_payload_as_bytes()
        if self.fragments or not frame.fin:
            self.fragments.append(message)
            if not frame.fin:
                return
            message = b"".join(self.fragments)
            self.fragments.clear()
        self.left -= 1
        if not self.left:
            self.finish(message)


class Echoing(Listener):
    """Sends `message` again whenever its echo has come."""

    message: bytes

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        reply = frame.get_payload_as_bytes()
        self.left -= 1
        if self.left:
            transport.send(BINARY, self.message)
        else:
            self.finish(reply)


class EchoingText(Listener):
    """The same with text."""

    message: str

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        reply = frame.get_payload_as_utf8_text()
        self.left -= 1
        if self.left:
            transport.send(TEXT, self.message)
        else:
            self.finish(reply)


class EchoingList(Listener):
    """The same with a list of ints."""

    values: list[int]

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        reply = list(frame.get_payload_as_bytes())
        self.left -= 1
        if self.left:
            transport.send(BINARY, bytes(self.values))
        else:
            self.finish(reply)


class EchoingDict(Listener):
    """The same with a dict, sent as JSON."""

    value: dict[str, Any]

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        reply = frame.get_payload_as_utf8_text()
        self.left -= 1
        if self.left:
            transport.send(TEXT, to_json(self.value))
        else:
            self.finish(reply)


class Closing(Listener):
    """Completes the closing handshake."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == CLOSE:
            transport.disconnect()


class Picows:
    """A connection, made when the first workload says which listener it needs."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._loop = EventLoop()
        self._listener: Listener | None = None

    def close(self) -> None:
        if self._listener is not None:
            self._loop.run(self._close(self._listener.transport))

    async def _close(self, transport: picows.WSTransport) -> None:
        transport.send_close(picows.WSCloseCode.OK)
        transport.disconnect()
        await transport.wait_disconnected()

    async def _connected(self, kind: type[Listener]) -> Listener:
        if not isinstance(self._listener, kind):
            self._listener = await _dial(kind, self._endpoint)
        return self._listener

    @classmethod
    def connect_and_close(cls, endpoint: Endpoint, count: int) -> None:
        EventLoop().run(_connect_and_close(endpoint, count))

    def echo(self, message: str | bytes, count: int) -> Any:
        return self._loop.run(self._echo(message, count))

    async def _echo(self, message: str | bytes, count: int) -> Any:
        text = isinstance(message, str)
        kind = EchoingText if text else Echoing
        listener = cast("Any", await self._connected(kind))
        listener.message = message
        listener.expect(count)
        listener.transport.send(TEXT if text else BINARY, message)
        return await listener.done

    def echo_list(self, values: list[int], count: int) -> list[int]:
        return self._loop.run(self._echo_list(values, count))

    async def _echo_list(self, values: list[int], count: int) -> list[int]:
        listener = cast("EchoingList", await self._connected(EchoingList))
        listener.values = values
        listener.expect(count)
        listener.transport.send(BINARY, bytes(values))
        return cast("list[int]", await listener.done)

    def echo_dict(self, value: dict[str, Any], count: int) -> str:
        return self._loop.run(self._echo_dict(value, count))

    async def _echo_dict(self, value: dict[str, Any], count: int) -> str:
        listener = cast("EchoingDict", await self._connected(EchoingDict))
        listener.value = value
        listener.expect(count)
        listener.transport.send(TEXT, to_json(value))
        return cast("str", await listener.done)

    def receive(self, count: int) -> Any:
        return self._loop.run(self._receive(count))

    async def _receive(self, count: int) -> Any:
        listener = await self._connected(Receiver)
        listener.expect(count)
        listener.transport.send(TEXT, str(count))
        return await listener.done

    def send(self, message: bytes, count: int) -> str:
        return self._loop.run(self._send(message, count))

    async def _send(self, message: bytes, count: int) -> str:
        listener = await self._connected(Texts)
        send, writable = listener.transport.send, listener.writable
        for _ in range(count):
            send(BINARY, message)
            if not writable.is_set():
                await writable.wait()
        listener.expect(1)
        send(TEXT, "done")
        return cast("str", await listener.done)


async def _dial(kind: type[Listener], endpoint: Endpoint) -> Listener:
    _, listener = await picows.ws_connect(
        kind, endpoint.url, ssl_context=endpoint.tls(), max_frame_size=MOST
    )
    return cast("Listener", listener)


async def _connect_and_close(endpoint: Endpoint, count: int) -> None:
    for _ in range(count):
        transport = (await _dial(Closing, endpoint)).transport
        transport.send_close(picows.WSCloseCode.OK)
        await transport.wait_disconnected()
