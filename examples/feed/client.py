# Start it with: python examples/feed/client.py [HOST] [PORT] [SYMBOL]...
"""Prints the feed's prices, and connects and subscribes again whenever the connection is lost."""

import contextlib
import json
import random
import sys
import time

import scriptling.websocket as ws

SILENCE = 30  # seconds without a price after which the connection is taken for dead
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30


def follow(url, symbols):
    """Subscribe and print until the connection is lost; whether a price came at all."""
    any_price = False
    with ws.connect(url, timeout=5) as conn:
        print(f"connected to {conn.remote_addr}", flush=True)
        conn.send({"action": "subscribe", "symbols": symbols})
        while (message := conn.receive(timeout=SILENCE)) is not None:
            try:
                update = json.loads(message)
                print(f"{update['symbol']}: {update['price']:.2f}", flush=True)
            except (TypeError, ValueError, KeyError, RecursionError):
                print("something that is no price", flush=True)
                continue
            any_price = True
        why = "silence" if conn.connected() else f"closed with code {conn.close_code}"
        print(f"connection lost: {why}", flush=True)
    return any_price


def main():
    """Follow the feed until Ctrl-C."""
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8766
    symbols = sys.argv[3:] or ["ABC", "XYZ"]
    pause = FIRST_PAUSE
    while True:
        try:
            if follow(f"ws://{host}:{port}/", symbols):
                pause = FIRST_PAUSE
        except ws.WebSocketError as error:
            print(f"no connection: {error}", flush=True)
        # Twice as long each time, and never quite the same for all clients: a server
        # that comes back is not met by all of them at once.
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, LONGEST_PAUSE)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
