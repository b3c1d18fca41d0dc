"""Mistakes that a type checker reports, one at each `ignore`: see good.py.

Both checkers also report an `ignore` that nothing is wrong at. The brackets name the kinds.
"""

# pyright: standard

from __future__ import annotations

import scriptling.runtime as runtime
import scriptling_ws as ws

URL = "ws://127.0.0.1:8080/"


def list_handler(client: ws.Connection) -> None: ...
def bytes_handler(client: ws.Connection[bytes]) -> None: ...
def two(client: ws.Connection, more: int) -> None: ...
def none() -> None: ...
def request_handler(request: runtime.Request) -> None: ...


ws.connect(URL, ping_intervall=20)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
ws.connect(URL, ping_interval="20")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
ws.connect(URL, max_message_size="1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
ws.connect(URL, extra_headers={})  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
ws.connect(URL, origins=["https://example.com"])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
ws.connect(URL, compression="gzip")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
ws.connect(URL, binary_type=str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
ws.connect(URL, binary_type="bytes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
ws.connect(URL, text_type=list)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
ws.connect(URL, text_type=bytes, binary_type=bytes)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
ws.connect(URL, loads="json.loads")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
ws.connect(URL, dumps=list)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ws.Server(list_handler, text_type=bytes)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
ws.connect(URL, timeout="10")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
ws.connect(URL, headers=["A"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
ws.connect(URL, headers=[("A", 1)])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
ws.connect(URL, proxy=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
ws.connect(URL, socket_options=[(1, 2)])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
ws.connect(URL, ssl_context=True)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

ws.Server(list_handler, max_conections=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
ws.Server(list_handler, max_connections="1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
ws.Server(list_handler, access_log="xml")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
ws.Server(list_handler, ready=print)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
ws.Server(list_handler, binary_type=bytes)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
ws.Server(bytes_handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ws.Server(two)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ws.Server(none)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ws.Server(request_handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ws.Server(8080)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
ws.serve(list_handler, ping_intervall=20)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
ws.serve(list_handler, port="8080")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
ws.serve(bytes_handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ws.serve(two, binary_type=bytes)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]

routes = ws.Routes()
routes.websocket("/", list_handler, max_requests=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
routes.websocket("/", list_handler, subprotocols=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
routes.websocket("/", list_handler, binary_type=bytes)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
runtime.http.websocket("/", bytes_handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
runtime.http.websocket("/", none)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
runtime.http.websocket("/", "handlers.chat", ping_intervall=20)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


@routes.websocket("/", binary_type=bytes)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
def lists(client: ws.Connection) -> None: ...


@routes.websocket("/")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
def fast(client: ws.Connection[bytes]) -> None: ...


@routes.websocket("/")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
def nothing() -> None: ...


def strings(conn: ws.Connection[str]) -> None: ...  # type: ignore[type-var]  # pyright: ignore[reportInvalidTypeArguments]
def messages(conn: ws.Connection, fast: ws.Connection[bytes]) -> None:
    conn.receive().upper()  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    text: str | None = conn.receive()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    data: str | bytes | None = conn.receive()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    numbers: str | list[int] | None = fast.receive()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    for message in fast:
        message.append(1)  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue]
    lists: ws.Connection = fast  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    conn.send([1, 2])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    conn.send(b"bytes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(text, data, numbers, lists)


ws.room("chat", policy="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ws.room("chat").send(b"bytes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ws.room("chat").join("me")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
options: ws.ConnectionOptions = {"ping_intervall": 1}  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportAssignmentType]
more: ws.ConnectionOptions = {"ping_interval": "1"}  # type: ignore[typeddict-item]  # pyright: ignore[reportAssignmentType]
