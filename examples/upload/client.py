# Start it with: python examples/upload/client.py FILE [HOST] [PORT]
"""Uploads a file as one message, shows how far it is, and checks the checksum that comes back."""

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
        with ws.connect(f"ws://{host}:{port}/", timeout=5) as conn:
            checksum = upload(conn, path)
    except ws.WebSocketError as error:
        sys.exit(f"the upload failed: {error}")
    if checksum is None:
        sys.exit("the server did not confirm the checksum")
    print(f"{path.name}: {path.stat().st_size} bytes, SHA-256 {checksum}")


def upload(conn, path):
    """Send a file; its SHA-256 if the server got the same, else None."""
    digest = hashlib.sha256()
    conn.send({"name": path.name, "size": path.stat().st_size})
    with path.open("rb") as file:  # it waits while the server is busy: memory stays small
        conn.send_stream(digested(file, digest), progress=progress_of(path.stat().st_size))
    try:
        confirmed = json.loads(conn.receive(timeout=30))["sha256"] == digest.hexdigest()
    except (TypeError, ValueError, KeyError, RecursionError):  # None after 30 s of silence, too
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
