"""What proxies say of their clients, by hand, and handlers that tell what they see of it."""

import ipaddress
import struct

from scriptling_ws._server.routes import Routes

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
CLIENT = "192.0.2.7"
PORT = 5000

LOCAL, PROXY = 0, 1
STREAM = 1


def line(source=CLIENT, port=PORT, *, here="198.51.100.1", here_port=80):
    """A header of version 1."""
    family = 6 if ":" in source else 4
    if family == 6 and ":" not in here:
        here = "2001:db8::80"
    return f"PROXY TCP{family} {source} {here} {port} {here_port}\r\n".encode()


def binary(source=CLIENT, port=PORT, *, command=PROXY, protocol=STREAM, more=b"", version=2):
    """A header of version 2; without a source of an unknown family; `more` are its TLVs."""
    family, addresses = 0, b""
    if source is not None:
        packed = ipaddress.ip_address(source).packed
        family = 1 if len(packed) == 4 else 2
        addresses = packed * 2 + struct.pack("!HH", port, 80)
    return raw_binary(family << 4 | protocol, addresses + more, version << 4 | command)


def raw_binary(family, block, command=0x21):
    """A header of version 2 of any bytes."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def tlv(kind, value):
    """A field of a header of version 2."""
    return struct.pack("!BH", kind, len(value)) + value


def telling_routes():
    """A WebSocket and a page that tell whom they see; and an echo."""
    routes = Routes()
    routes.websocket("/who", lambda client: client.send(f"{client.remote_addr} {client.peer_addr}"))
    routes.websocket("/echo", lambda client: [client.send(message) for message in client])
    routes.get("/who", lambda request: f"{request.remote_addr} {request.secure}")
    return routes
