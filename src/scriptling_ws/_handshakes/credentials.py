"""Credentials of a request: what its Authorization header says.

Rules (RFC 7617, RFC 6750 section 2.1):

- A header that is malformed has no credentials; whoever asks gets None, never an error.
- Who is right is not decided here.
"""

from __future__ import annotations

import base64
import binascii
import re

__all__ = ["basic_token", "bearer_token"]

_BEARER = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


def basic_token(header: str) -> bytes | None:
    """What Basic authorization has sent: user, colon and password; None if it is no such header."""
    scheme, _, token = header.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "basic" or len(token) % 4:  # CPython 3.10 takes a padding that is too long
        return None
    try:
        return base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError):
        return None


def bearer_token(header: str) -> str | None:
    """The token of Bearer authorization; None if it is no such header."""
    scheme, _, token = header.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not _BEARER.fullmatch(token):
        return None
    return token
