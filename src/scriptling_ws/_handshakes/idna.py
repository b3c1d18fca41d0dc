"""Host names outside ASCII, as DNS, TLS and HTTP write them.

Rules (UTS 46 with the settings of browsers, which are the WHATWG URL Standard's):

- A name is mapped first: capitals, full-width letters and dots, composed characters. The
  processing is nontransitional (IDNA 2008): sharp s, final sigma and joiners stay.
- Joiners stand only where IDNA 2008 allows them; a label does not start with a combining
  mark, and does not mix directions. Symbols are allowed, as browsers do.
- Labels in ASCII stay as they are, with underscores and hyphens wherever they have them.

The tables are the `idna` package's. It is imported for a name outside ASCII, and not before,
since it takes time and memory. A server that knows names by `ascii_name` knows them as clients
send them.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ascii_name"]

_JOINERS: Final = "\u200c\u200d"
_PREFIX: Final = "xn--"
_LONGEST: Final = 63  # a label, in DNS; encoded it is not shorter


def ascii_name(name: str) -> str:
    """A host name in ASCII and lower case; whether that is a valid one is not checked.

    Args:
        name: The name, with or without a dot at its end.

    Raises:
        ValueError: IDNA does not allow it; the text says why.
    """
    if name.isascii():
        return name.lower()
    import idna  # for these names alone: see above

    labels = idna.uts46_remap(name, std3_rules=False).split(".")
    return ".".join(label if label.isascii() else _encoded(label) for label in labels)


def _encoded(label: str) -> str:
    import idna

    if len(label) > _LONGEST:
        raise ValueError(f"a label has more than {_LONGEST} characters")
    if label.startswith(_PREFIX):
        raise ValueError(f"the label {label!r} starts with {_PREFIX}")
    idna.check_initial_combiner(label)
    idna.check_bidi(label)
    for at, character in enumerate(label):
        if character in _JOINERS and not idna.valid_contextj(label, at):
            raise ValueError(f"the label {label!r} has a joiner where none may stand")
    return _PREFIX + label.encode("punycode").decode("ascii")
