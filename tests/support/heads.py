"""Requests that ask for an upgrade, written out by hand."""

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455 section 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def request(*lines, start="GET /chat HTTP/1.1", **changes):
    """An upgrade's head; `Upgrade=None` leaves a header out, underscores are dashes."""
    given = {name.replace("_", "-"): value for name, value in changes.items()}
    headers = {"Host": "localhost"} | UPGRADE | given
    rows = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([start, *rows, *lines, "", ""]).encode("latin-1")


def pieces(data, size):
    """Bytes in pieces of a size, the last one perhaps shorter."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
