"""What proxies say of their clients: PROXY headers, X-Forwarded-For and Forwarded.

- In any pieces a PROXY header comes to the same: it is read, refused, or more is waited for; and
  of what follows it no byte is taken. One that is made of an address gives that address.
- A header's hops have plain addresses. What a client has sent before does not change what the
  proxy has added: of X-Forwarded-For ever, and Forwarded is not readable at all, or says the same.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from harness import Source, fuzz
from proxied import binary, line, tlv
from scriptling_ws._network.authority import host_of
from scriptling_ws._server.forwarded import Hop, read_forwarded, read_x_forwarded_for
from scriptling_ws._server.proxy_protocol import LONGEST, BadProxyHeader, ProxyHeader

ADDED = ("192.0.2.1", "192.0.2.1:5000", "[2001:db8::1]", "[2001:db8::1]:5000")


def read(pieces: list[bytes]) -> Any:
    """What a stream comes to: the source and how much was taken; a text; None for more."""
    header, taken = ProxyHeader(), 0
    try:
        for piece in pieces:
            rest = piece
            while rest:
                wanted = header.wanted
                assert 0 < wanted <= LONGEST
                count = header.feed(rest[:wanted])
                assert 0 < count <= len(rest[:wanted])
                taken += count
                rest = rest[count:]
                if header.done:
                    return header.source, taken
    except BadProxyHeader as error:
        return str(error)
    return None


def check_plain(address: str) -> None:
    """An address has to be one, in its shortest form, with a port or none."""
    found = ipaddress.ip_address(host_of(address))
    host = f"[{found}]" if found.version == 6 else str(found)
    port = address.removeprefix(host)
    assert address.startswith(host)
    assert not port or 1 <= int(port.removeprefix(":")) <= 65535


def check_stream(source: Source) -> None:
    """Any bytes, in any pieces."""
    plan = Source(source.take(source.byte() % 24))
    stream = source.rest()
    whole = read([stream])
    assert whole == read(plan.chunks(stream))
    if isinstance(whole, tuple):
        address, taken = whole
        assert read([stream[:taken]]) == whole
        assert read([stream[: taken - 1]]) is None
        if address is not None:
            check_plain(address)


def check_made(source: Source) -> None:
    """A header that is made of an address."""
    packed = source.take(4 if source.byte() & 1 else 16)
    address = str(ipaddress.ip_address(packed)) if len(packed) in (4, 16) else "::1"
    port, rest = source.number(), source.take(source.byte() % 8)
    more = tlv(source.byte(), source.take(source.byte() % 40))
    plain = getattr(ipaddress.ip_address(address), "ipv4_mapped", None) or address
    for made in (binary(address, port, more=more), line(address, port)):
        found, taken = read([made + rest])
        assert taken == len(made)
        assert host_of(found) == str(plain)
        assert found.endswith(f":{port}") if port else not found.endswith(":0")


def check_hops(source: Source) -> None:
    """Any text before what a proxy adds."""
    added = source.pick(ADDED)
    before = source.rest().decode("latin-1")
    hops = read_x_forwarded_for(f"{before}, {added}")
    assert hops[-1] == Hop(added)
    found = read_forwarded(f'{before}, for="{added}";proto=https')
    assert found is None or found[-1] == Hop(added, "https")
    for hop in [*hops, *(found or [])]:
        if hop.address is not None:
            check_plain(hop.address)


def check(data: bytes) -> None:
    """One of the three."""
    source = Source(data)
    source.pick((check_stream, check_made, check_hops))(source)


if __name__ == "__main__":
    fuzz(check)
