"""A WebSocket client on websockets.sync, which connects to a server of ours for test_peers.py.

It reads lines of JSON, does what the field "do" names, and answers each with a
line of JSON. client.mjs beside it does the same on Node's ws.
"""

import json
import socket
import sys
import traceback

from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

MAX_SIZE = 64 * 1024 * 1024


def connection(url, protocols=None, deflate=None):
    return connect(
        url,
        subprotocols=protocols,
        compression=None,
        extensions=None if deflate is None else [ClientPerMessageDeflateFactory(**deflate)],
        max_size=MAX_SIZE,
        proxy=None,
    )


def payload(size, text):
    """A payload of so many bytes; as text with characters of one to four bytes."""
    unit = "aé€😀".encode() if text else bytes(range(251))
    whole, rest = divmod(size, len(unit))
    return unit * whole + b"x" * rest


def echo(url, text, sizes, pieces, deflate=None):
    """Sends a message of every size, in so many frames with a ping after each; which came back.

    It compresses if it is given the parameters of permessage-deflate.
    """
    same = []
    pings = []
    with connection(url, deflate=deflate) as conn:
        extensions = conn.response.headers.get("Sec-WebSocket-Extensions", "")
        for size in sizes:
            data = payload(size, text)
            conn.send(data if pieces == 1 else in_pieces(conn, data, pieces, pings), text=text)
            if conn.recv(30) == (data.decode() if text else data):
                same.append(size)
        pongs = sum(pong.wait(10) for pong in pings)
    return {"same": same, "pongs": pongs, "extensions": extensions}


def in_pieces(conn, data, pieces, pings):
    step = -(-len(data) // pieces)
    for piece in range(pieces):
        yield data[piece * step : (piece + 1) * step]
        pings.append(conn.ping(f"ping {len(pings)}"))


def close(url, code, reason):
    """Opens and closes with a code and a reason; with what it was closed."""
    with connection(url) as conn:
        conn.close(code, reason)
        return {"code": conn.close_code, "reason": conn.close_reason}


def drop(url):
    """Opens and breaks the connection off."""
    with connection(url) as conn:
        conn.socket.shutdown(socket.SHUT_RDWR)
    return {}


def wait(url, protocols):
    """Opens and waits for the server to close; with what it did, and the subprotocol."""
    with connection(url, protocols) as conn:
        try:
            while True:
                conn.recv(30)
        except ConnectionClosed:
            pass
        return {
            "code": conn.close_code,
            "reason": conn.close_reason,
            "protocol": conn.subprotocol or "",
        }


ACTIONS = {"echo": echo, "close": close, "drop": drop, "wait": wait}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = ACTIONS[request.pop("do")](**request)
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
