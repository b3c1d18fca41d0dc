"""The blocking libraries: the same loops over each one's own methods."""

# ruff: noqa: D102 - base.Adapter says what the methods do

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from inspect import signature
from itertools import islice
from typing import TYPE_CHECKING, Any

from .base import BATCH, TIMEOUT, Endpoint, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Blocking(ABC):
    """The loops.

    A library's class dials, and says which of the connection's methods does what.  The
    methods are used as they are: nothing stands between the loop and the library.
    """

    connection: Any
    send_text: Callable[[str], Any]
    send_binary: Callable[[Any], Any]
    receive_one: Callable[[], Any]
    iterable: Iterable[Any]
    hang_up: Callable[[], Any]

    def __init__(self, endpoint: Endpoint) -> None:
        self.connection = self.dial(endpoint)
        self.bind(self.connection)

    @staticmethod
    @abstractmethod
    def dial(endpoint: Endpoint) -> Any:
        """Open a connection with the library."""

    @abstractmethod
    def bind(self, connection: Any) -> None:
        """Say which of the connection's methods does what."""

    def close(self) -> None:
        self.hang_up()

    @classmethod
    def connect_and_close(cls, endpoint: Endpoint, count: int) -> None:
        dial = cls.dial
        for _ in range(count):
            dial(endpoint).close()

    def echo(self, message: str | bytes, count: int) -> Any:
        send: Callable[[Any], Any] = self.send_binary
        if isinstance(message, str):
            send = self.send_text
        receive = self.receive_one
        for _ in range(count):
            send(message)
            reply = receive()
        return reply

    def echo_list(self, values: list[int], count: int) -> list[int]:
        send, receive = self.send_binary, self.receive_one
        for _ in range(count):
            send(bytes(values))
            reply = list(receive())
        return reply

    def echo_dict(self, value: dict[str, Any], count: int) -> str:
        send, receive = self.send_text, self.receive_one
        for _ in range(count):
            send(to_json(value))
            reply: str = receive()
        return reply

    def receive(self, count: int) -> Any:
        receive = self.receive_one
        self.send_text(str(count))
        for _ in range(count):
            message = receive()
        return message

    def send(self, message: bytes, count: int) -> str:
        send = self.send_binary
        for _ in range(count):
            send(message)
        return self.account()

    def account(self) -> str:
        self.send_text("done")
        answer: str = self.receive_one()
        return answer


class Iterating(Blocking):
    """For libraries whose connections are iterables of messages."""

    def receive_iterating(self, count: int) -> Any:
        self.send_text(str(count))
        # islice stops after the last message; without it the loop would wait for more.
        for message in islice(self.iterable, count):
            last = message
        return last


class Scriptling(Iterating):
    """This project."""

    @staticmethod
    def dial(endpoint: Endpoint) -> Any:
        import scriptling_ws

        options: dict[str, Any] = {} if endpoint.as_list else {"binary_type": bytes}
        if context := endpoint.tls():
            options["ssl_context"] = context
        return scriptling_ws.connect(endpoint.url, max_message_size=None, **options)

    def bind(self, connection: Any) -> None:
        self.iterable = connection
        self.send_text = connection.send
        self.send_binary = connection.send_binary
        self.receive_one = connection.receive
        self.hang_up = connection.close

    def echo_list(self, values: list[int], count: int) -> list[int]:
        # Nothing to convert: the connection was opened for lists.
        send, receive = self.send_binary, self.receive_one
        for _ in range(count):
            send(values)
            reply: list[int] = receive()
        return reply

    def echo_dict(self, value: dict[str, Any], count: int) -> str:
        send, receive = self.connection.send, self.receive_one
        for _ in range(count):
            send(value)
            reply: str = receive()
        return reply

    def receive_many(self, count: int) -> Any:
        receive_many = self.connection.receive_many
        self.send_text(str(count))
        while count > 0:
            messages = receive_many(min(BATCH, count), TIMEOUT)
            if not messages:
                raise RuntimeError("the flood stopped early")
            for message in messages:
                last = message
            count -= len(messages)
        return last

    def send_many(self, message: bytes, count: int) -> str:
        send_many = self.connection.send_many
        batch = [message] * BATCH
        for _ in range(count // BATCH):
            send_many(batch)
        send_many(batch[: count % BATCH])
        return self.account()


class WebSocketRs(Iterating):
    """websocket_rs.sync: compiled (Rust).

    It takes no ssl.SSLContext, but trusts the authority that SSL_CERT_FILE names.
    """

    @staticmethod
    def dial(endpoint: Endpoint) -> Any:
        from websocket_rs.sync.client import connect

        return connect(endpoint.url, receive_timeout=TIMEOUT)

    def bind(self, connection: Any) -> None:
        self.iterable = connection
        self.send_text = self.send_binary = connection.send
        self.receive_one = connection.recv
        self.hang_up = connection.close


class Websockets(Iterating):
    """websockets.sync, without compression, keepalive thread and size limit."""

    @staticmethod
    def dial(endpoint: Endpoint) -> Any:
        from websockets.sync.client import connect

        options: dict[str, Any] = {"ssl": context} if (context := endpoint.tls()) else {}
        return connect(
            endpoint.url,
            compression=None,
            max_size=None,
            ping_interval=None,
            proxy=None,
            **without_reconnection(),
            **options,
        )

    def bind(self, connection: Any) -> None:
        self.iterable = connection
        self.send_text = self.send_binary = connection.send
        self.receive_one = connection.recv
        self.hang_up = connection.close


@cache  # it is slow, and would count in the row about connecting
def without_reconnection() -> dict[str, Any]:
    """Since 17.1 connect() has to be told that a mere connection is wanted."""
    from websockets.sync.client import connect

    return {"legacy": True} if "legacy" in signature(connect).parameters else {}


class WebSocketClient(Iterating):
    """websocket-client, with the switches that its documentation names for speed.

    The UTF-8 check that is skipped is one of two: recv() decodes text strictly anyway.
    """

    @staticmethod
    def dial(endpoint: Endpoint) -> Any:
        import websocket

        options: dict[str, Any] = {}
        if context := endpoint.tls():
            options["sslopt"] = {"context": context}
        return websocket.create_connection(
            endpoint.url,
            timeout=TIMEOUT,
            enable_multithread=False,
            skip_utf8_validation=True,
            **options,
        )

    def bind(self, connection: Any) -> None:
        self.iterable = connection
        self.send_text = connection.send
        self.send_binary = connection.send_binary
        self.receive_one = connection.recv
        self.hang_up = connection.close


class SimpleWebSocket(Blocking):
    """simple-websocket, reading 64 KiB at a time instead of 4."""

    @staticmethod
    def dial(endpoint: Endpoint) -> Any:
        import simple_websocket

        return simple_websocket.Client.connect(
            endpoint.url, receive_bytes=65536, ssl_context=endpoint.tls()
        )

    def bind(self, connection: Any) -> None:
        self.send_text = self.send_binary = connection.send
        self.receive_one = connection.receive
        self.hang_up = connection.close
