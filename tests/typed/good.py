"""What a type checker accepts, and the types that it sees: for `make lint`, never run."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import scriptling.net.websocket
import scriptling.runtime as runtime
import scriptling.websocket
import scriptling_ws as ws
from scriptling_ws import asgi, wsgi

URL = "ws://127.0.0.1:8080/"


def receives_lists() -> None:
    conn = ws.connect(URL)
    assert_type(conn, ws.Connection)
    assert_type(conn, ws.Connection[list[int]])
    assert_type(conn.receive(), str | list[int] | None)
    assert_type(conn.receive(timeout=None), str | list[int] | None)
    assert_type(conn.receive_many(10, 0.5), list[str | list[int]])
    assert_type(conn.recv(), str | list[int])
    assert_type(conn.messages(timeout=5), Iterator[str | list[int]])
    assert_type(iter(conn), Iterator[str | list[int]])
    with ws.connect(URL, 5, {"Authorization": "Bearer x"}, binary_type=list) as inside:
        assert_type(inside, ws.Connection)
        for message in inside:
            assert_type(message, str | list[int])


def receives_bytes() -> None:
    conn = ws.connect(URL, timeout=None, binary_type=bytes, compression="deflate")
    assert_type(conn, ws.Connection[bytes])
    assert_type(conn.receive(), str | bytes | None)
    assert_type(conn.recv(timeout=5), str | bytes)
    assert_type(conn.receive_many(), list[str | bytes])
    with conn as inside:
        for message in inside:
            assert_type(message, str | bytes)


def receives_utf8() -> None:
    conn = ws.connect(URL, text_type=bytes, loads=json.loads, dumps=lambda value: b"{}")
    assert_type(conn, ws.Connection[list[int], bytes])
    assert_type(conn.receive(), list[int] | bytes | None)
    assert_type(conn.recv(), list[int] | bytes)
    assert_type(conn.receive_many(), list[list[int] | bytes])
    assert_type(conn.receive_into(bytearray(9)), int | bytes | None)
    for message in conn.messages(5):
        if isinstance(message, bytes):
            conn.send_text(message)
            conn.send_text(memoryview(message), compress=False, timeout=None)
        else:
            conn.send_binary(message)
    client, server = ws.pair(text_type=bytes)
    assert_type(client, ws.Connection[list[int], bytes])
    assert_type(server, ws.Connection[list[int], bytes])
    for again in ws.reconnecting(URL, text_type=bytes, dumps=json.dumps):
        assert_type(again, ws.Connection[list[int], bytes])
    with conn.receive_stream() as stream:
        assert_type(stream, ws.MessageStream[bytes])
        Path("file").write_bytes(stream.read(5))
        for piece in stream:
            assert_type(piece, bytes)
    ws.Server(utf8_handler, text_type=bytes)
    ws.serve(utf8_handler, text_type=bytes, loads=None)
    ws.Routes().websocket("/", utf8_handler, text_type=bytes, dumps=json.dumps)

    @runtime.http.websocket("/utf8", text_type=bytes)
    def decorated(client: ws.Connection[list[int], bytes]) -> None:
        assert_type(client.receive_json(), Any)

    decorated(conn)
    room = ws.room("chat")
    room.join(conn)
    room.send_text(b"{}", exclude=conn)
    error = ws.InvalidMessage("no JSON", b"{")
    assert_type(error.message, str | bytes | list[int])


def receives_in_parts(conn: ws.Connection) -> None:
    assert_type(conn.receive_into(bytearray(9), timeout=None), int | str | None)
    with conn.receive_stream(5, progress=print) as stream:
        assert_type(stream, ws.MessageStream)
        assert_type(stream.text, bool)
        assert_type(stream.total, int | None)
        assert_type(stream.readinto(bytearray(9)), int)
        assert_type(stream.read(5), str | bytes)
        for piece in stream:
            assert_type(piece, str | bytes)
    assert_type(stream.received, int)


def sends_in_parts(conn: ws.Connection) -> None:
    def progress(done: int, total: int | None) -> None: ...

    with Path("file").open("rb") as file:
        conn.send_stream(file, progress=progress)
    conn.send_stream(["a", "b"], text=True, compress=False, fragment_size=1000)


def waits(conn: ws.Connection, sock: socket.socket) -> None:
    assert_type(ws.wait([conn], 5), list[ws.Connection])
    items: list[ws.Connection | socket.socket] = [conn, sock]
    for item in ws.wait(items):
        assert_type(item, ws.Connection | socket.socket)


def pairs(options: ws.PairOptions) -> None:
    assert_type(ws.pair(), tuple[ws.Connection, ws.Connection])
    client, _ = ws.pair("ws://localhost/chat", {"X": "1"}, binary_type=bytes, **options)
    assert_type(client, ws.Connection[bytes])


def connects_again(options: ws.ReconnectingOptions) -> None:
    for conn in ws.reconnecting(URL, max_tries=5, final=lambda error: None):
        assert_type(conn, ws.Connection)
    with ws.reconnecting(lambda: URL, headers=dict, binary_type=bytes, **options) as conns:
        assert_type(conns, ws.Reconnecting[bytes])
        for fast in conns:
            assert_type(fast.recv(), str | bytes)
        assert_type(conns.failures, int)


def receives_one_of_both(kind: type[list[int]] | type[bytes]) -> None:
    assert_type(ws.connect(URL, binary_type=kind).receive(), str | list[int] | bytes | None)


def by_other_ways(sock: socket.socket, context: ssl.SSLContext) -> None:
    ws.connect(URL, proxy=True, max_redirects=3)
    ws.connect(URL, proxy="https://proxy.example", proxy_ssl_context=context)
    ws.connect(URL, 5, [("X-A", "1"), ("X-A", "2")], cookies={"a": "b"}, origin="http://a.example")
    ws.connect(URL, sock=sock, user_agent="", server_hostname="example.com", binary_type=bytes)
    ws.connect(URL, unix=Path("/run/app.sock"))
    ws.connect(URL, source_address=("192.0.2.1", 0), socket_options=[(1, 2, 3), (1, 2, b"3")])


def shows_its_upgrade(conn: ws.Connection) -> None:
    assert conn.response is not None
    assert conn.request is not None
    assert_type(conn.response.status, int)
    assert_type(conn.response.headers, dict[str, str])
    assert_type(conn.response.header_list("Set-Cookie"), list[str])
    assert_type(conn.request.headers, dict[str, str])


def told_apart(conn: ws.Connection, fast: ws.Connection[bytes]) -> None:
    message = conn.receive()
    if ws.is_text(message):
        assert_type(message, str)
    elif ws.is_binary(message):
        assert_type(message, list[int])
    else:
        assert_type(message, None)
    for item in fast:
        if ws.is_binary(item):
            assert_type(item, bytes)
        else:
            assert_type(item, str)
            fast.send(item)


def takes_options() -> None:
    options: ws.ConnectionOptions = {"ping_interval": None, "send_timeout": 2.5}
    client: ws.ClientOptions = {"max_message_size": None, "subprotocols": ["chat"]}
    route: ws.RouteOptions = {"origins": ["https://example.com"], "compression": None}
    server: ws.ServerOptions = {"max_connections": 10, "shutdown_timeout": 1, "origins": None}
    ws.connect(URL, **client)
    assert_type(ws.connect(URL, binary_type=bytes, **options), ws.Connection[bytes])
    ws.Routes().websocket("/", list_handler, **route)
    ws.Routes().websocket("/", list_handler, authorize=ws.basic_auth({"ann": "x"}))
    ws.Server(list_handler, authorize=ws.bearer_auth("t"), subprotocols=lambda offer: offer[0])
    page: ws.PageOptions = {"cors": ["https://example.com"], "authorize": None}
    ws.Routes().post("/room/{name}", "handlers.create", **page)
    ws.Routes().static("/", "public", authorize="handlers.check")
    ws.Server(list_handler, max_requests=1, **route)
    ws.serve(bytes_handler, binary_type=bytes, **server)
    ws.serve(list_handler, ["0.0.0.0", "::"], 80, processes=2, reload_timeout=None, unix=None)
    ws.Server(list_handler, unix=Path("app.sock"), unix_mode=0o660, unix_owner=":www")
    ws.Server(list_handler, sock="systemd").use_ssl_context(ssl.create_default_context())
    with socket.create_server(("", 0)) as sock:
        ws.Server(list_handler, sock=sock)
        ws.Server(list_handler, sock=[sock])
    ws.connect(
        "wss://127.0.0.1",
        headers={},
        subprotocols=("a", "b"),
        ssl_context=ssl.create_default_context(),
        max_line_size=1,
        max_headers=1,
        max_head_size=1,
        max_fragments=1,
        max_pending_pongs=1,
        close_timeout=1,
        ping_timeout=1,
        compression_threshold=0,
        compression_level=9,
        server_no_context_takeover=True,
        client_no_context_takeover=True,
        server_max_window_bits=9,
        client_max_window_bits=9,
    )


def list_handler(client: ws.Connection) -> None:
    for message in client:
        assert_type(message, str | list[int])


def utf8_handler(client: ws.Connection[list[int], bytes]) -> None:
    for message in client:
        assert_type(message, list[int] | bytes)


def bytes_handler(client: ws.Connection[bytes]) -> None:
    for message in client:
        assert_type(message, str | bytes)


def any_handler(client: ws.Connection[list[int] | bytes]) -> int:
    assert_type(client.receive(), str | list[int] | bytes | None)
    return 0


class Chat:
    """A handler may be a method, or an object that can be called."""

    def handle(self, client: ws.Connection) -> None: ...

    def __call__(self, client: ws.Connection[bytes], greeting: str = "") -> None: ...


def serves(kind: type[list[int]] | type[bytes]) -> None:
    ws.Server(list_handler)
    ws.Server(list_handler, "::1", 0, path="/", binary_type=list, origins=["null"])
    ws.Server(bytes_handler, binary_type=bytes, allowed_hosts=["example.com"])
    ws.Server(any_handler)
    ws.Server(any_handler, binary_type=bytes)
    ws.Server(any_handler, binary_type=kind)
    ws.Server("handlers.chat", max_requests=1)
    ws.Server(any_handler, trusted_proxies=["unix"], proxy_protocol=True, max_connection_rate=5)
    ws.Server(any_handler, access_log="json", forwarded_header="forwarded")
    ws.Server("handlers.chat", binary_type=bytes)
    ws.Server(Chat().handle)
    ws.Server(Chat(), binary_type=bytes)
    ws.Server(lambda client: client.send("hello"), port=0)
    ws.Server(lambda client: client.receive(), binary_type=bytes)
    ws.serve(list_handler, ready=lambda server: print(server.url))
    ws.serve(bytes_handler, host="::", binary_type=bytes, handshake_timeout=None)
    ws.serve(routes=runtime.http, port=8443, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    with ws.Server(routes=ws.Routes(), origins="*", max_connections_per_address=2) as server:
        for connection in server.connections:
            connection.send({"text": "to all"})
            list_handler(connection)
            bytes_handler(connection)


def registers() -> None:
    routes = ws.Routes()
    routes.websocket("/lists", list_handler)
    routes.websocket("/bytes", bytes_handler, binary_type=bytes, max_message_size=None)
    routes.websocket("/any", any_handler, binary_type=bytes)
    routes.websocket("/name", "handlers.chat", subprotocols=["chat"])
    runtime.http.websocket("/name", "handlers.chat", binary_type=bytes)

    @routes.websocket("/decorated", ping_interval=5)
    def decorated(client: ws.Connection) -> bool:
        return client.connected()

    @runtime.http.websocket("/decorated", binary_type=bytes)
    def fast(client: ws.Connection[bytes]) -> None: ...

    assert_type(decorated(ws.connect(URL)), bool)
    unchanged: Callable[[ws.Connection[bytes]], None] = fast
    unchanged(ws.connect(URL, binary_type=bytes))


def has_rooms() -> None:
    room = ws.room("chat", queue=10, queue_bytes=1000, policy="drop_oldest")
    assert_type(room, ws.Room)
    conn, fast = ws.connect(URL), ws.connect(URL, binary_type=bytes)
    room.join(conn)
    room.join(fast)
    room.send("hello", exclude=conn)
    room.send({"a": 1}, exclude=[conn, fast])
    room.send_binary([1, 2])
    room.leave(fast)
    assert_type(len(room), int)
    assert_type(conn in room, bool)
    assert_type(room.dropped, int)
    assert_type(room.stats(), ws.RoomStats)
    assert_type(room.stats().queued, int)
    ws.room(
        "far", backend="redis://127.0.0.1", on_gap=lambda room, seconds: print(room.name, seconds)
    )


def has_other_names() -> None:
    assert_type(scriptling.websocket.connect(URL).receive(), str | list[int] | None)
    conn = scriptling.net.websocket.connect(URL, binary_type=bytes)
    assert_type(conn.receive(), str | bytes | None)


def inside_other_servers(environ: dict[str, object], routes: ws.Routes) -> None:
    with wsgi.accept(environ) as lists:
        assert_type(lists, ws.Connection)
    with wsgi.accept(environ, binary_type=bytes, origins="*", max_connections=5) as received:
        assert_type(received, ws.Connection[bytes])

    def application(environ: dict[str, object], start: Callable[..., object]) -> list[bytes]:
        return []

    assert_type(wsgi.Middleware(application, routes, binary_type=bytes), wsgi.Middleware)

    async def events(scope: object, receive: object, send: object) -> None:
        pass

    assert_type(asgi.Middleware(events, routes, allowed_hosts=["a.example"]), asgi.Middleware)
