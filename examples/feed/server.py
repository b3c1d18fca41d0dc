# Start it with: python examples/feed/server.py [HOST] [PORT] [SECONDS]
"""A feed of made-up prices: a client subscribes with JSON, and gets a price every so often.

It takes {"action": "subscribe", "symbols": ["ABC", "XYZ"]} at any time; the latest counts.
"""

import json
import random
import sys
import time

import scriptling.websocket as ws

SECONDS = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0


def feed(client):
    """Serve one connection, until it is closed."""
    prices = {}
    due = time.monotonic()
    while client.connected():
        # The wait for the next price is a receive: what the client asks for
        # meanwhile is taken at once, and it costs no thread.
        message = client.receive(timeout=max(0, due - time.monotonic()))
        if message is not None:
            prices = dict.fromkeys(subscription(client, message), 100.0)
        if time.monotonic() >= due:
            due = time.monotonic() + SECONDS
            for symbol in prices:
                prices[symbol] *= random.uniform(0.99, 1.01)
                client.send({"symbol": symbol, "price": round(prices[symbol], 2)})


def subscription(client, message):
    """The symbols that a message subscribes to; close the connection if it is no such thing."""
    try:
        request = json.loads(message)
        symbols = request["symbols"][:100]
        "".join(symbols).encode()  # they are text, which can be sent back
        if request["action"] == "subscribe" and isinstance(symbols, list):
            return symbols
    except (TypeError, ValueError, KeyError, RecursionError):  # the last where it is nested deeply
        pass
    client.close(1008, 'send {"action": "subscribe", "symbols": [...]}')
    return []


def main():
    """Serve until Ctrl-C."""
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8766
    ws.serve(
        feed,
        host,
        port,
        max_message_size=65_536,
        ready=lambda server: print(f"feed server on {server.url}", flush=True),
    )


if __name__ == "__main__":
    main()
