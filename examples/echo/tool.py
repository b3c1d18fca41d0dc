# Start it with: python examples/echo/tool.py [URL]
"""Sends each line of its input to an echo server, and prints what comes back.

A line whose answer was lost with its connection is sent again on the next one, so every line is
answered once. The exit status is 1 if no connection could be had any more.
"""

import contextlib
import sys

import scriptling_ws as ws

SILENCE = 10  # seconds without the answer after which the connection is taken for dead


def echo(url, lines, show):
    """Send all lines, and show the answer to each.

    Raises:
        ws.WebSocketError: five connections in a row failed.
    """
    line = next(lines, None)
    for conn in ws.reconnecting(url, timeout=5, first_delay=0.2, max_tries=5):
        try:
            while line is not None:
                conn.send(line)
                show(conn.recv(timeout=SILENCE))
                line = next(lines, None)  # only now: without an answer it is sent again
        except (ws.ConnectionClosed, ws.ReceiveTimeout, ws.SendTimeout):
            continue
        return


def main():
    """Send the standard input."""
    url = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765/"
    lines = (line.rstrip("\n") for line in sys.stdin)
    try:
        echo(url, lines, lambda answer: print(answer, flush=True))
    except ws.WebSocketError as error:
        sys.exit(f"the connection is lost: {error}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
