"""What the two ends agree on about permessage-deflate, without I/O.

Rules (RFC 7692 sections 5 and 7.1, RFC 6455 section 9.1):

- wsproto only carries the offer and the answer. Its own extension, and its parsing, are
  not used: it takes unknown parameters, doubled ones and any number, and it cuts a
  header at every comma, those inside quotes too.
- A header is read whole, strictly and in linear time. One that is malformed holds no offer.
- A value may be quoted, with escapes in it (RFC 9110 section 5.6.4): it means the same.
- A server takes the first offer that it can keep, and the parameters that the offer asks for.
- A client takes an answer that keeps what it asked for; any other ends the handshake.
- zlib cannot compress raw deflate in a window of 2**8 bytes. A server declines an offer
  that wants that of it; a client sends uncompressed, which is always allowed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wsproto.extensions import Extension

from .._fields import TOKEN
from .._options import LEAST_BITS, MOST_BITS

if TYPE_CHECKING:
    from .._options import Options

__all__ = ["DeflateOffer", "Terms", "agree", "parse_extensions"]

_NAME: Final = "permessage-deflate"
_SERVER_RESETS: Final = "server_no_context_takeover"
_CLIENT_RESETS: Final = "client_no_context_takeover"
_SERVER_BITS: Final = "server_max_window_bits"
_CLIENT_BITS: Final = "client_max_window_bits"
_BITS: Final = {str(bits): bits for bits in range(8, MOST_BITS + 1)}

_WORD: Final = TOKEN.pattern
# A name, or a parameter with its value, and what ends it. No two neighbours in it match the
# same character, so a mismatch is found in linear time.
_PART = re.compile(
    rf'[ \t]*({_WORD})[ \t]*(?:=[ \t]*(?:({_WORD})|"((?:[^"\\]|\\.)*)")[ \t]*)?(;|,|$)'
)
_ESCAPED = re.compile(r"\\(.)")
_EMPTY = re.compile(r"[ \t,]*")  # a list may have empty elements

_Parameters = list[tuple[str, "str | None"]]


@dataclass(frozen=True)
class Terms:
    """The parameters of permessage-deflate: those that one end wants, or both agreed on.

    Attributes:
        server_no_context_takeover: Whether the server compresses each message by itself.
        client_no_context_takeover: Whether the client does.
        server_max_window_bits: How far back, as a power of two, what the server
            compresses refers.
        client_max_window_bits: The same of the client.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = MOST_BITS
    client_max_window_bits: int = MOST_BITS

    @classmethod
    def wanted(cls, options: Options) -> Terms | None:
        """What an end with these options wants; None to do without compression."""
        if options.compression is None:
            return None
        return cls(
            options.server_no_context_takeover,
            options.client_no_context_takeover,
            options.server_max_window_bits,
            options.client_max_window_bits,
        )

    def of(self, *, client: bool) -> tuple[int, bool]:
        """How one end compresses: window bits, and whether from message to message."""
        if client:
            return self.client_max_window_bits, not self.client_no_context_takeover
        return self.server_max_window_bits, not self.server_no_context_takeover


def parse_extensions(header: str) -> list[tuple[str, _Parameters]]:
    """The extensions in a Sec-WebSocket-Extensions header, in its order.

    Returns:
        Of each its name and its parameters, a name and a value or None. A quoted value
        comes without its quotes and escapes.

    Raises:
        ValueError: the header is malformed.
    """
    extensions: list[tuple[str, _Parameters]] = []
    at = _skip(header, 0)
    first = True  # of its extension: the name
    while not first or at < len(header):
        found = _PART.match(header, at)
        if found is None:
            raise _malformed(at)
        name, value, quoted, end = found.groups()
        if quoted is not None:
            value = _ESCAPED.sub(r"\1", quoted)
        if not first:
            extensions[-1][1].append((name, value))
        elif value is None:
            extensions.append((name, []))
        else:
            raise _malformed(at)
        first = end != ";"
        at = _skip(header, found.end()) if first else found.end()
    return extensions


def _malformed(at: int) -> ValueError:
    return ValueError(f"the extensions are malformed at character {at}")


def _skip(header: str, at: int) -> int:
    found = _EMPTY.match(header, at)
    assert found is not None
    return found.end()


def _check(parameters: _Parameters, *, answer: bool) -> dict[str, int]:
    """The parameters by name, each with its window bits; a flag has 0.

    Raises:
        ValueError: one is unknown, doubled, or its value invalid.
    """
    given: dict[str, int] = {}
    for name, value in parameters:
        if name in given:
            raise ValueError(f"{name} is there twice")
        if name in (_SERVER_RESETS, _CLIENT_RESETS):
            valid = value is None
        elif name == _CLIENT_BITS and value is None:
            valid = not answer  # in an offer it only says that the client knows it
        elif name in (_SERVER_BITS, _CLIENT_BITS):
            valid = value in _BITS
        else:
            raise ValueError(f"the parameter {name} is unknown")
        if not valid:
            raise ValueError(f"the value of {name} is invalid")
        given[name] = 0 if name in (_SERVER_RESETS, _CLIENT_RESETS) else _BITS.get(value or "15", 0)
    return given


def agree(header: str, wanted: Terms) -> tuple[str, Terms] | None:
    """A server's choice among what a client offers.

    Args:
        header: The client's Sec-WebSocket-Extensions.
        wanted: What the server wants.

    Returns:
        The server's Sec-WebSocket-Extensions and the terms; None where there is no
        offer that it can keep.
    """
    try:
        extensions = parse_extensions(header)
    except ValueError:
        return None
    for name, parameters in extensions:
        if name == _NAME:
            try:
                given = _check(parameters, answer=False)
            except ValueError:
                continue
            terms = _keep(given, wanted)
            if terms.server_max_window_bits >= LEAST_BITS:
                return _answer(given, terms), terms
    return None


def _keep(given: dict[str, int], wanted: Terms) -> Terms:
    known = _CLIENT_BITS in given  # else the client's window cannot be chosen
    return Terms(
        wanted.server_no_context_takeover or _SERVER_RESETS in given,
        wanted.client_no_context_takeover or _CLIENT_RESETS in given,
        min(wanted.server_max_window_bits, given.get(_SERVER_BITS, MOST_BITS)),
        min(wanted.client_max_window_bits, given[_CLIENT_BITS]) if known else MOST_BITS,
    )


def _answer(given: dict[str, int], terms: Terms) -> str:
    parts = [_NAME]
    if terms.server_no_context_takeover:
        parts.append(_SERVER_RESETS)
    if terms.client_no_context_takeover:
        parts.append(_CLIENT_RESETS)
    if terms.server_max_window_bits < MOST_BITS or _SERVER_BITS in given:
        parts.append(f"{_SERVER_BITS}={terms.server_max_window_bits}")
    if terms.client_max_window_bits < MOST_BITS:
        parts.append(f"{_CLIENT_BITS}={terms.client_max_window_bits}")
    return "; ".join(parts)


class DeflateOffer(Extension):
    """A client's offer, and the server's answer to it.

    As wsproto's base class has it, it is never `enabled`: wsproto compresses nothing.

    Attributes:
        terms: What was agreed on; None where the server did not take the offer.
    """

    name = _NAME

    def __init__(self, wanted: Terms) -> None:
        """Offer what the client wants."""
        self._wanted = wanted
        self.terms: Terms | None = None

    def offer(self) -> str:
        """The offer's parameters."""
        wanted = self._wanted
        parts = []
        if wanted.server_no_context_takeover:
            parts.append(_SERVER_RESETS)
        if wanted.client_no_context_takeover:
            parts.append(_CLIENT_RESETS)
        if wanted.server_max_window_bits < MOST_BITS:
            parts.append(f"{_SERVER_BITS}={wanted.server_max_window_bits}")
        bits = wanted.client_max_window_bits
        parts.append(_CLIENT_BITS if bits == MOST_BITS else f"{_CLIENT_BITS}={bits}")
        return "; ".join(parts)

    def finalize(self, offer: str) -> None:
        """Take the server's answer.

        Raises:
            ValueError: it is malformed, the second one, or not what was asked for.
        """
        if self.terms is not None:
            raise ValueError(f"{_NAME} is answered twice")
        ((_, parameters),) = parse_extensions(offer)
        given = _check(parameters, answer=True)
        wanted = self._wanted
        if wanted.server_no_context_takeover and _SERVER_RESETS not in given:
            raise ValueError(f"{_SERVER_RESETS} was asked for, and is not granted")
        server_bits = given.get(_SERVER_BITS, MOST_BITS)
        if server_bits > wanted.server_max_window_bits:
            raise ValueError(f"{_SERVER_BITS} is larger than was asked for")
        client_bits = given.get(_CLIENT_BITS, wanted.client_max_window_bits)
        if client_bits > wanted.client_max_window_bits:
            raise ValueError(f"{_CLIENT_BITS} is larger than was offered")
        self.terms = Terms(
            _SERVER_RESETS in given,
            wanted.client_no_context_takeover or _CLIENT_RESETS in given,
            server_bits,
            client_bits,
        )
