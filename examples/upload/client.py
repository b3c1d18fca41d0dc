# Start it with: python examples/upload/client.py FILE [HOST] [PORT]
"""Uploads a file as one message, shows how far it is, and checks the checksum that comes back.

If the connection is lost on the way, the upload begins again on another one, five times at most.
"""

import hashlib
import json
import sys
from pathlib import Path

import scriptling.websocket as ws

PIECE = 64 * 1024


def main():
    """Upload one file; exit status 1 if it did not arrive as it is."""
    if len(sys.argv) < 2:
        sys.exit("usage: client.py FILE [HOST] [PORT]")
    path = Path(sys.argv[1])
    host = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    port = int(sys.argv[3]) if len(sys.argv) > 3 else 8767

    try:
        checksum = upload(f"ws://{host}:{port}/", path)
    except ws.WebSocketError as error:
        sys.exit(f"the upload failed: {error}")
    if checksum is None:
        sys.exit("the server did not confirm the checksum")
    print(f"{path.name}: {path.stat().st_size} bytes, SHA-256 {checksum}")


def upload(url, path):
    """Send a file until it has arrived; its SHA-256 if the server got the same, else None.

    Raises:
        ws.WebSocketError: the server refused, or five connections in a row failed.
    """
    # min_uptime: however long it had gone well, an upload that was cut off has failed.
    budget = {"max_tries": 5, "min_uptime": 3600, "final": is_refusal}
    for conn in ws.reconnecting(url, timeout=5, first_delay=0.2, **budget):
        try:
            return send(conn, path)
        except (ws.ConnectionClosed, ws.SendTimeout, ws.ReceiveTimeout):
            continue  # what has arrived without an answer is sent twice, which does no harm
    return None


def is_refusal(error):
    """Whether the server would say the same again: it has said what is wrong with the upload."""
    return getattr(error, "code", None) in (1008, 1009) or None


def send(conn, path):
    """Send a file on one connection; its SHA-256 if the server got the same, else None."""
    digest = hashlib.sha256()
    conn.send({"name": path.name, "size": path.stat().st_size})
    with path.open("rb") as file:  # it waits while the server is busy: memory stays small
        conn.send_stream(digested(file, digest), progress=progress_of(path.stat().st_size))
    answer = conn.recv(timeout=30)
    try:
        confirmed = json.loads(answer)["sha256"] == digest.hexdigest()
    except (TypeError, ValueError, KeyError, RecursionError):
        return None
    return digest.hexdigest() if confirmed else None


def digested(file, digest):
    """The pieces of a file, each of which the digest has seen."""
    while piece := file.read(PIECE):
        digest.update(piece)
        yield piece


def progress_of(size):
    """What shows the share that is sent, on a terminal."""

    def show(done, _total):  # of an iterable the total is not known
        if sys.stderr.isatty():
            end = "\n" if done == size else ""
            print(f"\r{done / max(size, 1):4.0%}", end=end, file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    main()
