# Start it with: python examples/echo/client.py [HOST] [PORT]
"""Sends a text, a dict and some bytes to the echo server, and prints what comes back."""

import sys

import scriptling.websocket as ws


def main():
    """Send one message of each kind."""
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8765

    with ws.connect(f"ws://{host}:{port}/", timeout=5) as conn:
        print(f"connected to {conn.remote_addr}")

        conn.send("Hello, WebSocket!")
        print("text:  ", conn.receive(timeout=5))

        conn.send({"type": "greeting", "words": ["hello", "world"]})
        print("dict:  ", conn.receive(timeout=5))

        conn.send_binary([0x01, 0x02, 0x03, 0xFF])
        print("binary:", conn.receive(timeout=5))

        # Nothing was sent, so nothing comes: a timeout, and the connection is still open.
        print("nothing:", conn.receive(timeout=0.2), "- connected:", conn.connected())

    print(f"closed with code {conn.close_code}")


if __name__ == "__main__":
    main()
