"""Sec-WebSocket-Extensions: both ends agree on the same terms, or on none.

A header of a client's, of any bytes, is answered or not, and never raises; an answer to it is
one that a client takes, with the same terms; a server's header is taken or is a ValueError.
"""

from __future__ import annotations

import contextlib

from harness import Source, fuzz
from scriptling_ws._handshakes.terms import DeflateOffer, Terms, agree, parse_extensions


def check(data: bytes) -> None:
    """One header, as an offer and as an answer; and one offer of our own."""
    source = Source(data)
    client, server = terms(source), terms(source)
    header = source.rest().decode("latin-1")
    given = agree(header, server)
    if given is not None:
        answer, agreed = given
        assert parse_extensions(answer)[0][0] == "permessage-deflate"
        assert within(agreed, server)
    offer = DeflateOffer(client)
    with contextlib.suppress(ValueError):
        offer.finalize(f"permessage-deflate{header}")
        assert offer.terms is not None
        assert within(offer.terms, client)
    both(client, server)


def terms(source: Source) -> Terms:
    how = source.byte()
    return Terms(bool(how & 1), bool(how & 2), 9 + (how >> 2) % 7, 9 + source.byte() % 7)


def within(agreed: Terms, wanted: Terms) -> bool:
    """Whether the terms grant what an end wants of the other, and of itself."""
    return (
        agreed.server_no_context_takeover >= wanted.server_no_context_takeover
        and agreed.client_no_context_takeover >= wanted.client_no_context_takeover
        and agreed.server_max_window_bits <= wanted.server_max_window_bits
    )


def both(client: Terms, server: Terms) -> None:
    """What a server of ours answers to a client of ours, and the client's reading of it."""
    offer = DeflateOffer(client)
    given = agree(f"x, permessage-deflate; {offer.offer()}", server)
    assert given is not None
    answer, agreed = given
    offer.finalize(answer)
    assert offer.terms == agreed
    assert within(agreed, client)
    assert within(agreed, server)


if __name__ == "__main__":
    fuzz(check)
