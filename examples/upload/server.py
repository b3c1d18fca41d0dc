# Start it with: python examples/upload/server.py [HOST] [PORT]
"""Takes uploads, and answers each with its SHA-256.

A client sends {"name": ..., "size": ...}, then that many bytes in one binary message, and gets
{"name", "size", "sha256"}. One connection may upload many files.
"""

import hashlib
import json
import sys

import scriptling.websocket as ws

LARGEST = 1024**3
LONGEST = 4096  # characters of what announces a file


def upload(client):
    """Serve one connection, until it is closed."""
    while (message := announcement(client)) is not None:
        try:
            announced = json.loads(message)
            name, size = announced["name"], announced["size"]
            name.encode()  # it is text, which can be sent back
            acceptable = 0 <= size <= LARGEST
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
            client.close(1008, 'send {"name": ..., "size": ...} first')
            return
        if not acceptable:
            client.close(1009, f"at most {LARGEST} bytes")
            return
        digest = take(client, size)
        if digest is None:
            return
        client.send({"name": name, "size": size, "sha256": digest})
        print(f"{name!r}, {size} bytes, from {client.remote_addr}", flush=True)


def announcement(client):
    """What is said of the next file, an empty text if that is too long; None at the end."""
    try:
        # Not by `receive`: that would take a message of the largest size into memory.
        with client.receive_stream(timeout=None) as stream:
            message = stream.read(LONGEST + 1)
    except ws.ConnectionClosed:
        return None
    return message if len(message) <= LONGEST else ""


def take(client, size):
    """Receive so many bytes; their SHA-256, or None if something else came."""
    digest = hashlib.sha256()
    try:
        with client.receive_stream(timeout=30) as stream:
            if stream.binary:
                for piece in stream:  # the file is nowhere whole
                    digest.update(piece)
                    if stream.received > size:
                        break
                if stream.received == size:
                    return digest.hexdigest()
    except (TimeoutError, ws.ConnectionClosed):  # 30 s of silence, or it has left
        pass
    client.close(1008, f"a binary message of {size} bytes was to come")
    return None


def main():
    """Serve until Ctrl-C."""
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8767
    ws.serve(
        upload,
        host,
        port,
        max_message_size=LARGEST,  # of a stream no more is in memory than what was not read
        ready=lambda server: print(f"upload server on {server.url}", flush=True),
    )


if __name__ == "__main__":
    main()
