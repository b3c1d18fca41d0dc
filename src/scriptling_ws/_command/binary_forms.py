"""Binary messages as text: the forms of --binary, both ways."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

__all__ = ["FORMS", "as_bytes", "as_text"]

FORMS: Final = ("hex", "base64", "list", "raw")
"""How a binary message may be written; raw is as it is."""

_LIST: Final = re.compile(r"\s*\[?\s*((?:[0-9]+[\s,]*)*)\]?\s*")


def as_text(data: bytes, form: str) -> str:
    """A binary message as text; of raw, which has none, as hex."""
    if form == "base64":
        return base64.b64encode(data).decode("ascii")
    if form == "list":
        return str(list(data))
    return data.hex(" ")


def as_bytes(text: str, form: str) -> bytes:
    """The binary message that a text stands for; of raw the text's UTF-8.

    Raises:
        ValueError: the text is not of the form; it says how that is written.
    """
    if form == "raw":
        return text.encode()
    if form == "hex":
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise ValueError(f"{_cut(text)} is no hex: write bytes as in 01 02 ff") from None
    if form == "base64":
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"{_cut(text)} is no base64: {error}") from None
    found = _LIST.fullmatch(text)
    numbers = [int(number[:4]) for number in re.findall("[0-9]+", found[1])] if found else [-1]
    if not all(0 <= number <= 255 for number in numbers):
        raise ValueError(f"{_cut(text)} is no list of bytes: write [1, 2, 255]")
    return bytes(numbers)


def _cut(text: str) -> str:
    return ascii(text) if len(text) <= 60 else f"{text[:60]!a}..."
