# Start it with: python examples/feed/client.py [HOST] [PORT] [SYMBOL]...
"""Prints the feed's prices, and connects and subscribes again whenever the connection is lost."""

import contextlib
import json
import logging
import sys

import scriptling.websocket as ws

SILENCE = 30  # seconds without a price after which the connection is taken for dead


def follow(conn, symbols):
    """Subscribe, and print until the connection is lost."""
    print(f"connected to {conn.remote_addr}", flush=True)
    # On each connection anew: the server knows nothing of the last one.
    conn.send({"action": "subscribe", "symbols": symbols})
    for message in conn.messages(timeout=SILENCE):
        try:
            update = json.loads(message)
            print(f"{update['symbol']}: {update['price']:.2f}", flush=True)
        except (TypeError, ValueError, KeyError, RecursionError):
            print("something that is no price", flush=True)


def main():
    """Follow the feed until Ctrl-C, or until the server refuses for good."""
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8766
    symbols = sys.argv[3:] or ["ABC", "XYZ"]
    # The library says why a connection was lost, and when it tries again.
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    url = f"ws://{host}:{port}/"
    for conn in ws.reconnecting(url, timeout=5, first_delay=0.5, max_delay=30):
        try:
            follow(conn, symbols)
        except (ws.ReceiveTimeout, ws.SendTimeout, ws.ConnectionClosed) as error:
            print(f"connection lost: {error}", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
