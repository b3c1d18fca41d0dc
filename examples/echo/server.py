# Start it with: python examples/echo/server.py [HOST] [PORT]
"""Sends every message back as it came: text as text, binary as binary."""

import sys

import scriptling.websocket as ws


def echo(client):
    """Serve one connection, until it is closed."""
    for message in client:
        if ws.is_text(message):
            client.send(message)
        else:
            client.send_binary(message)


def main():
    """Serve until Ctrl-C."""
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8765
    ws.serve(
        echo, host, port, ready=lambda server: print(f"echo server on {server.url}", flush=True)
    )


if __name__ == "__main__":
    main()
