"""A WebSocket server on websockets.sync, which tests/test_peers.py connects to.

It writes lines of JSON: {"port"} first, then {"id", "code", "reason"} for every
connection that has ended. It ends with its standard input. What it does with a
connection is in the URL's path, its id in the query; server.mjs beside it does
the same on Node's ws. With an argument, the parameters of permessage-deflate in JSON,
it compresses.
"""

import json
import socket
import sys
import threading
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.sync.server import serve

MAX_SIZE = 64 * 1024 * 1024


def report(**what):
    print(json.dumps(what), flush=True)


def echo(conn, query):
    """Sends every message back."""
    for message in conn:
        conn.send(message)


def pieces(conn, query):
    """Sends every message back in four frames and an empty last one, a ping after each."""
    for message in conn:
        text = isinstance(message, str)
        conn.send(in_pieces(conn, message.encode() if text else message), text=text)


def in_pieces(conn, data):
    size = -(-len(data) // 4)
    for piece in range(4):
        yield data[piece * size : (piece + 1) * size]
        conn.ping()  # with four random bytes


def ping(conn, query):
    """Pings with every message as the payload, and sends it back when the pong has come."""
    for message in conn:
        if conn.ping(message).wait(10):
            conn.send(message)


def close(conn, query):
    """Closes on the first message, with the query's code and reason."""
    conn.recv()
    conn.close(int(query["code"][0]), query.get("reason", [""])[0])


def drop(conn, query):
    """Breaks the connection off on the first message."""
    conn.recv()
    conn.socket.shutdown(socket.SHUT_RDWR)


BEHAVIOURS = {"/echo": echo, "/pieces": pieces, "/ping": ping, "/close": close, "/drop": drop}


def handle(conn):
    url = urlsplit(conn.request.path)
    query = parse_qs(url.query)
    try:
        BEHAVIOURS[url.path](conn, query)
    except ConnectionClosed:
        pass
    finally:
        conn.close()
        report(id=query["id"][0], code=conn.close_code, reason=conn.close_reason)


def choose(conn, offered):
    return "chat.v2" if "chat.v2" in offered else None


def main():
    extensions = None
    if len(sys.argv) > 1:
        extensions = [ServerPerMessageDeflateFactory(**json.loads(sys.argv[1]))]
    with serve(
        handle,
        "127.0.0.1",
        0,
        compression=None,
        extensions=extensions,
        max_size=MAX_SIZE,
        subprotocols=["chat.v2"],
        select_subprotocol=choose,
    ) as server:
        threading.Thread(target=server.serve_forever).start()
        report(port=server.socket.getsockname()[1])
        sys.stdin.read()


if __name__ == "__main__":
    main()
